"""Large graphs as others publish them: ogbn-arxiv, ogbn-products and Reddit; and PPI, many graphs with several labels.

No hash of these archives is published. What is read is compared with the numbers that are: of nodes, edges, features,
classes, and the sizes of the splits.
"""

import dataclasses
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from jraph import GraphsTuple
from scipy import sparse

from gatjax.data.dataset import Dataset, make_graph
from gatjax.data.download import check_choice, obtain_archive
from gatjax.data.splits import Splits
from gatjax.graph.ids import first_true
from gatjax.graph.sizes import num_nodes


class Facts(NamedTuple):
    """What is published of a data set.

    Attributes:
      url: of its archive.
      files: those of the archive that are read.
      nodes: how many there are.
      edges: how many the file lists, None where that is not compared.
      features: of a node.
      classes: or labels of a node.
      split: how many train, validate and test: nodes, or graphs.
    """

    url: str
    files: tuple[str, ...]
    nodes: int
    edges: int | None
    features: int
    classes: int
    split: tuple[int, int, int]


def _ogb_files(split: str) -> tuple[str, ...]:
    raw = (f"raw/{part}.csv.gz" for part in ("edge", "node-feat", "node-label"))
    return *raw, *(f"split/{split}/{part}.csv.gz" for part in ("train", "valid", "test"))


_PPI_FILES = tuple(
    f"{part}_{what}"
    for part in ("train", "valid", "test")
    for what in ("graph.json", "graph_id.npy", "feats.npy", "labels.npy")
)
_OGB, _DGL = "https://snap.stanford.edu/ogb/data/nodeproppred", "https://data.dgl.ai/dataset"
FACTS = {
    "ogbn-arxiv": Facts(
        *(f"{_OGB}/arxiv.zip", _ogb_files("time")),
        *(169_343, 1_166_243, 128, 40),
        split=(90_941, 29_799, 48_603),
    ),
    "ogbn-products": Facts(
        *(f"{_OGB}/products.zip", _ogb_files("sales_ranking")),
        *(2_449_029, 61_859_140, 100, 47),
        split=(196_615, 39_323, 2_213_091),
    ),
    "reddit": Facts(
        *(f"{_DGL}/reddit.zip", ("reddit_data.npz", "reddit_graph.npz")),
        *(232_965, 114_615_892, 602, 41),
        split=(153_431, 23_831, 55_703),
    ),
    "ppi": Facts(f"{_DGL}/ppi.zip", _PPI_FILES, 56_944, None, 50, 121, split=(20, 2, 2)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledGraphs:
    """Many graphs whose nodes have several labels each, for training on some and testing on others.

    Attributes:
      name: what it is called.
      graphs: undirected, without self-loops; nodes [N, F] float32.
      labels: of the nodes of each graph, 0 or 1, [N, K] float32.
      splits: numbers of the graphs that train, validate and test.
      provenance: where the data came from.
    """

    name: str
    graphs: tuple[GraphsTuple, ...]
    labels: tuple[Float[np.ndarray, "_ K"], ...]
    splits: Splits
    provenance: str

    def __repr__(self) -> str:
        nodes, train = sum(map(num_nodes, self.graphs)), "/".join(str(len(s)) for s in self.splits)
        return (
            f"LabelledGraphs({self.name!r}: {len(self.graphs)} graphs, {nodes} nodes, "
            f"{self.labels[0].shape[1]} labels, split {train})"
        )


def load_published(name: str) -> Dataset:
    """A large graph by name: its files are read from the cache, where they are fetched to.

    The cache is the folder `GATJAX_DATA` where that is set, else the user's cache folder; the files lie in its
    subfolder of that name, as in the archive that is published, or as DGL or OGB unpack it. Edges are taken in both
    directions, once, without self-loops.

    Args:
      name: "ogbn-arxiv", "ogbn-products" or "reddit".

    Returns:
      The data set with its published split.

    Raises:
      ValueError: an unknown name; files that are damaged, or not those of which the published numbers are.
      FileNotFoundError: the files are nowhere to be had; the message says where they were sought.

    >>> load_published("karate")
    Traceback (most recent call last):
    ...
    ValueError: name must be one of ogbn-arxiv, ogbn-products, reddit, got 'karate'

    Hu et al., Open Graph Benchmark, NeurIPS 2020. Hamilton, Ying, Leskovec, Inductive representation learning on large
    graphs, NeurIPS 2017 (Reddit).
    """
    check_choice("name", name, _READERS)
    folder, provenance = _obtain(name)
    read = _READERS[name](folder, FACTS[name].files)
    _check(name, folder, read)
    return Dataset(
        name=name,
        graph=make_graph(read.features, *read.ends, layout="dense"),
        labels=read.labels,
        splits=read.splits,
        num_classes=FACTS[name].classes,
        class_names=tuple(f"class {number}" for number in range(FACTS[name].classes)),
        provenance=provenance,
    )


def load_ppi() -> LabelledGraphs:
    """Proteins that interact, a graph for each of 24 tissues, 20 to train, 2 to validate and 2 to test, 121 labels.

    Where the files are sought, and what they are compared with, is as in `load_published`.

    Raises:
      ValueError: files that are damaged, or not those of which the published numbers are.
      FileNotFoundError: the files are nowhere to be had; the message says where they were sought.

    Zitnik, Leskovec, Predicting multicellular function through multi-layer tissue networks, 2017; in the form of
    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, NeurIPS 2017.
    """
    folder, provenance = _obtain("ppi")
    graphs, labels, sizes = [], [], []
    for part in ("train", "valid", "test"):
        found = _read_ppi(folder, part)
        graphs += [graph for graph, _ in found]
        labels += [rows for _, rows in found]
        sizes.append(len(found))
    numbers = np.split(np.arange(len(graphs), dtype=np.int32), np.cumsum(sizes)[:-1])
    data = LabelledGraphs("ppi", tuple(graphs), tuple(labels), Splits(*numbers), provenance)
    found = {
        "nodes": sum(map(num_nodes, graphs)),
        "features": graphs[0].nodes.shape[1],
        "classes": labels[0].shape[1],
        "split": tuple(sizes),
    }
    _compare("ppi", folder, found)
    return data


class _Read(NamedTuple):
    """What the files of one graph say: features [N, F], both ends of the edges, class ids [N], and the split."""

    features: np.ndarray
    ends: tuple[np.ndarray, np.ndarray]
    labels: np.ndarray
    splits: Splits


def _obtain(name: str) -> tuple[Path, str]:
    facts = FACTS[name]
    folder = obtain_archive(name, facts.url, facts.files)
    return folder, f"{folder}, from {facts.url}; compared with the published numbers, no hash is"


def _read_ogb(folder: Path, files: tuple[str, ...]) -> _Read:
    edges, features, labels, *parts = (folder / name for name in files)
    ids = [_table(path, np.int32).reshape(-1) for path in parts]
    senders, receivers = _table(edges, np.int32).reshape(-1, 2).T
    known = _table(labels, np.float32).reshape(-1)
    classes = np.where(np.isnan(known), -1, known).astype(np.int32)
    return _Read(
        _table(features, np.float32), (senders, receivers), classes, Splits(*map(np.sort, ids))
    )


def _read_reddit(folder: Path, files: tuple[str, ...]) -> _Read:
    data, graph = (folder / name for name in files)

    def read() -> _Read:
        with np.load(data, allow_pickle=False) as table:
            features = table["feature"].astype(np.float32)
            labels, kinds = table["label"].astype(np.int32), table["node_types"]
        adjacency = sparse.coo_array(sparse.load_npz(graph))
        ids = (np.flatnonzero(kinds == kind).astype(np.int32) for kind in (1, 2, 3))
        senders, receivers = adjacency.coords
        return _Read(features, (senders, receivers), labels, Splits(*ids))

    return _undamaged(read, data, graph)


def _read_ppi(folder: Path, part: str) -> list[tuple[GraphsTuple, np.ndarray]]:
    """The graphs of a part with their labels; the file has all of them as one, whose nodes are numbered on."""
    paths = [
        folder / f"{part}_{what}"
        for what in ("graph.json", "graph_id.npy", "feats.npy", "labels.npy")
    ]

    def read() -> tuple[Any, ...]:
        with open(paths[0], encoding="utf-8") as file:
            links = json.load(file)["links"]
        ends = np.array([(link["source"], link["target"]) for link in links], np.int64)
        return ends.reshape(-1, 2), *(np.load(path, allow_pickle=False) for path in paths[1:])

    ends, of_graph, features, labels = _undamaged(read, *paths)
    if not len(of_graph) == len(features) == len(labels):
        raise ValueError(
            f"{folder}: {part} has {len(of_graph)} numbers of graphs, {len(features)} features and {len(labels)} "
            "labels: they do not belong together, put the published files there"
        )
    if (bad := first_true(((ends < 0) | (ends >= len(of_graph))).any(axis=1))) is not None:
        raise ValueError(
            f"{paths[0]}: link {bad} joins {ends[bad].tolist()}, of {len(of_graph)} nodes"
        )
    if (bad := first_true(of_graph[ends[:, 0]] != of_graph[ends[:, 1]])) is not None:
        raise ValueError(f"{paths[0]}: link {bad} joins nodes of two graphs")
    found = []
    for number in np.unique(of_graph):
        own = np.flatnonzero(of_graph == number)
        inside = ends[of_graph[ends[:, 0]] == number]
        senders, receivers = (np.searchsorted(own, column) for column in inside.T)
        rows = features[own].astype(np.float32)
        graph = make_graph(rows, senders, receivers, layout="dense")
        found.append((graph, labels[own].astype(np.float32)))
    return found


def _table(path: Path, dtype: Any) -> np.ndarray:
    def read() -> np.ndarray:
        with gzip.open(path, "rt") as file:
            return np.loadtxt(file, dtype, delimiter=",", ndmin=2)

    return _undamaged(read, path)


def _undamaged(read: Callable[[], Any], *paths: Path) -> Any:
    """What is read, or one error that says which files are damaged."""
    try:
        return read()
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        names = " or ".join(str(path) for path in paths)
        raise ValueError(
            f"{names} is damaged: {error}; delete it to have it fetched anew"
        ) from error


def _check(name: str, folder: Path, read: _Read) -> None:
    labels, facts = read.labels, FACTS[name]
    outside = labels.max(initial=-1) >= facts.classes
    found = {
        "nodes": len(read.features),
        "edges": len(read.ends[0]),
        "features": read.features.shape[1],
        "classes": int(labels.max()) + 1 if outside else facts.classes,
        "split": tuple(map(len, read.splits)),
    }
    _compare(name, folder, found)
    if len(labels) != len(read.features):
        raise ValueError(f"{folder} has {len(labels)} labels for {len(read.features)} nodes")


def _compare(name: str, folder: Path, found: Mapping[str, Any]) -> None:
    """Refuse what is not the data set that is known by the name."""
    known = FACTS[name]._asdict()
    different = [
        f"{field} {value} where {known[field]} are published"
        for field, value in found.items()
        if known[field] is not None and value != known[field]
    ]
    if different:
        raise ValueError(
            f"{folder} is not {name} as it is published: {'; '.join(different)}; put the files of {FACTS[name].url} "
            "there"
        )


_READERS = {"ogbn-arxiv": _read_ogb, "ogbn-products": _read_ogb, "reddit": _read_reddit}
