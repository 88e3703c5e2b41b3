"""What the files of data sets with several kinds of nodes say: IMDB, DBLP and ACM."""

import io
from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import scipy.io
from scipy import sparse

from gatjax.data.download import cache_folder, check_sha256, read_verified
from gatjax.data.splits import Splits
from gatjax.data.stop_words import STOP_WORDS
from gatjax.graph.typed import Triple

IMDB_SHA256 = "a17431517b541d428c8053f455e367ae3b71e0b08f9e81227e78902bed6552d7"
DBLP_SHA256 = {
    "author_label.txt": "0930fc9116caccc64e6a07a54164dfc9d2e21c9ed6e620f464a2b687b6e88281",
    "conf.txt": "7919a4189af47982dcae4d7cd1c9b04ba52e82eca389e2578fd28468b0237ef6",
    "paper_author.txt": "8d5e93dd298b4ab5ac9e800405599a0ccad250f16028efe78b3e7e1ac16fde74",
    "paper_conf.txt": "43dfb296928f09d71b1e938fa34b952e1c7e280dd06d2b1e3ef8c5d5762beb86",
    "paper_term.txt": "e8f22b835c51b9cd85f4ee7c8158db06f644dcae95660e9e822f69cd1df0ee18",
    "term.txt": "63f9eb972db4c2cae6a9cd0b746f58e5012db87c72f0a25fd5de1b7d8d8eb2e7",
}
ACM_SHA256 = {"ACM3025.mat": "b10e486a49892307a56a3d9ad48128a948d2bf2da19db9e6e7f79c6622529fdc"}
ORIGIN = {
    "dblp": "https://github.com/Jhy1993/HAN, folder data/DBLP_four_area; not to be passed on",
    "acm": "https://github.com/googlebaba/WWW2020-O2MAC, folder data; without a stated licence",
}
MORE_THAN = 50


class Typed(NamedTuple):
    """Nodes of each type, links of each relation, and labels of the nodes of one type."""

    sizes: dict[str, int]
    features: dict[str, Any]
    links: Mapping[Triple, tuple[np.ndarray, ...]]
    target: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: Splits | None
    per_class: int
    validation: int
    names: dict[str, np.ndarray]
    provenance: str


def read_imdb() -> Typed:
    """The movies, actors and directors that the package itself holds."""
    where = "gatjax/data/bundled/imdb.npz"
    data = (resources.files("gatjax.data") / "bundled" / "imdb.npz").read_bytes()
    check_sha256(data, IMDB_SHA256, where, "install gatjax anew")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        features = {}
        for name in ("movie", "director", "actor"):
            indptr = stored[f"{name}_indptr"].astype(np.int32)
            indices = stored[f"{name}_indices"].astype(np.int32)
            shape = len(indptr) - 1, int(stored["num_keywords"])
            ones = np.ones(len(indices), np.float32)
            features[name] = sparse.csr_array((ones, indices, indptr), shape=shape)
        links = {
            ("actor", "acted_in", "movie"): _columns(stored["acted_in"]),
            ("director", "directed", "movie"): _columns(stored["directed"]),
        }
        labels = stored["labels"].astype(np.int32)
    return Typed(
        sizes={name: matrix.shape[0] for name, matrix in features.items()},
        features=features,
        links=links,
        target="movie",
        labels=labels,
        class_names=("genre 0", "genre 1", "genre 2"),
        splits=None,
        per_class=100,
        validation=300,
        names={},
        provenance="bundled with gatjax; from graphdatascience 2.2",
    )


def read_dblp() -> Typed:
    """The authors with labels, their papers, the conferences of these and the words of their titles."""
    files, provenance = _cached("dblp", DBLP_SHA256)
    authors = _table(files["author_label.txt"], "author_label.txt")
    author_ids, labels = _numbers(authors, 0), _numbers(authors, 1)
    wrote, published, used = (
        np.stack([_numbers(_table(files[name], name), column) for column in (0, 1)], axis=1)
        for name in ("paper_author.txt", "paper_conf.txt", "paper_term.txt")
    )
    wrote = wrote[np.isin(wrote[:, 1], author_ids)]
    papers = np.unique(wrote[:, 0])
    published, used = (links[np.isin(links[:, 0], papers)] for links in (published, used))
    conferences, words = (_table(files[name], name) for name in ("conf.txt", "term.txt"))
    word_of = dict(zip(_numbers(words, 0).tolist(), (row[1] for row in words), strict=True))
    used = used[[word_of[term] not in STOP_WORDS for term in used[:, 1].tolist()]]
    terms, papers_of_term = np.unique(used[:, 1], return_counts=True)
    conference_ids = _numbers(conferences, 0)
    links: dict[Triple, tuple[np.ndarray, np.ndarray]] = {
        ("author", "writes", "paper"): (
            _places(wrote[:, 1], author_ids),
            _places(wrote[:, 0], papers),
        ),
        ("paper", "in", "conference"): (
            _places(published[:, 0], papers),
            _places(published[:, 1], conference_ids),
        ),
        ("paper", "contains", "term"): (_places(used[:, 0], papers), _places(used[:, 1], terms)),
    }
    sizes = {
        "author": len(author_ids),
        "paper": len(papers),
        "conference": len(conference_ids),
        "term": len(terms),
    }
    names = {
        "author": np.array([row[2] for row in authors]),
        "conference": np.array([row[1] for row in conferences]),
        "term": np.array([word_of[term] for term in terms.tolist()]),
    }
    names["author"] = np.array(
        [f"{id} {name}" for id, name in zip(author_ids, names["author"], strict=True)]
    )
    return Typed(
        sizes=sizes,
        features={"author": _words_of_authors(links, sizes, papers_of_term > MORE_THAN)},
        links=links,
        target="author",
        labels=labels.astype(np.int32),
        class_names=("database", "data mining", "artificial intelligence", "information retrieval"),
        splits=_first_of_each(labels, 200, 100),
        per_class=200,
        validation=400,
        names=names,
        provenance=provenance,
    )


def read_acm() -> Typed:
    """The papers of HAN's own file, with its two relations."""
    files, provenance = _cached("acm", ACM_SHA256)
    content = scipy.io.loadmat(io.BytesIO(files["ACM3025.mat"]))
    for name, array in content.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "O":
            raise ValueError(f"ACM3025.mat: {name} holds objects: it must hold numbers")
    total = len(content["label"])
    links = {
        ("paper", relation, "paper"): tuple(
            ids.astype(np.int32) for ids in np.nonzero(content[field])
        )
        for relation, field in (("author", "PAP"), ("subject", "PLP"))
    }
    ids = (content[f"{part}_idx"].reshape(-1) for part in ("train", "val", "test"))
    return Typed(
        sizes={"paper": total},
        features={"paper": content["feature"].astype(np.float32)},
        links=links,
        target="paper",
        labels=content["label"].argmax(axis=1).astype(np.int32),
        class_names=("database", "wireless communication", "data mining"),
        splits=Splits(*(np.sort(part).astype(np.int32) for part in ids)),
        per_class=200,
        validation=300,
        names={},
        provenance=provenance,
    )


READERS = {"imdb": read_imdb, "dblp": read_dblp, "acm": read_acm}


def _cached(name: str, sha256: Mapping[str, str]) -> tuple[dict[str, bytes], str]:
    folder = cache_folder() / name
    missing = [file for file in sha256 if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"the data set {name!r} is not in the package, and the folder {folder} lacks {', '.join(missing)}. The "
            f"files are those of {ORIGIN[name]}: they are not fetched, so put them there, or set GATJAX_DATA "
            f"to a folder whose subfolder {name!r} holds them."
        )
    read = {file: read_verified(folder / file, pin) for file, pin in sha256.items()}
    return read, f"{folder}; originally {ORIGIN[name].partition(';')[0]}"


def _table(data: bytes, name: str) -> list[list[str]]:
    """The rows of a file without a header, cells between tabs; names hold letters of Latin-1."""
    lines = data.decode("latin-1").replace("\r", "").split("\n")
    rows = [line.split("\t") for line in lines if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise ValueError(f"{name}: a line has no tab: it must be a table of two columns or three")
    return rows


def _numbers(rows: list[list[str]], column: int) -> np.ndarray:
    return np.array([row[column] for row in rows]).astype(np.int64)


def _columns(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    senders, receivers = pairs.astype(np.int32).T
    return senders, receivers


def _places(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Of each value its place among distinct ids."""
    order = np.argsort(ids)
    return order[np.searchsorted(ids, values, sorter=order)].astype(np.int32)


def _words_of_authors(
    links: dict[Triple, tuple[np.ndarray, np.ndarray]], sizes: dict[str, int], frequent: np.ndarray
) -> sparse.csr_array:
    """[authors, words] 1 where the author used the word, for the words that are frequent."""
    matrix = lambda triple: sparse.coo_array(
        (np.ones(len(links[triple][0])), links[triple]), shape=(sizes[triple[0]], sizes[triple[2]])
    ).tocsr()
    used = matrix(("author", "writes", "paper")) @ matrix(("paper", "contains", "term"))
    return sparse.csr_array((used[:, np.flatnonzero(frequent)] > 0).astype(np.float32))


def _first_of_each(labels: np.ndarray, train: int, validation: int) -> Splits:
    """So many of each class in their order, then so many more, then the rest."""
    parts: list[list[np.ndarray]] = [[], [], []]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for part, ids in zip(parts, np.split(members, [train, train + validation]), strict=True):
            part.append(ids)
    return Splits(*(np.sort(np.concatenate(part)).astype(np.int32) for part in parts))
