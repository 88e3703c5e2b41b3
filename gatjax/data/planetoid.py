"""Cora, Citeseer and Pubmed as the Planetoid repository publishes them."""

import dataclasses
import io
from collections.abc import Mapping
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from gatjax.data.dataset import Dataset, largest_component, make_graph, take_nodes
from gatjax.data.download import check_choice, check_sha256, obtain, read_verified
from gatjax.data.features import LAYOUTS, normalize_rows
from gatjax.data.pickles import load_plain_pickle
from gatjax.data.planetoid_files import (
    BUNDLED_SHA256,
    CLASS_NAMES,
    PLANETOID_URL,
    SHA256,
    file_name,
)
from gatjax.data.splits import Splits, random_split, shchur_split

SPLITS = ("public", "random", "shchur")
NUM_VALIDATION = 500


@dataclasses.dataclass(frozen=True, eq=False)
class PlanetoidArrays:
    """What the eight files of a data set say, before any choice of ours.

    features: [N, F] CSR float32; a node without a record has a zero row.
    labels: [N] int32; a node without a record has -1.
    edges: [M, 2] int32 undirected edges, smaller id first, sorted, no duplicates, no self-loops.
    splits: the public split.
    """

    features: sparse.csr_array
    labels: np.ndarray
    edges: np.ndarray
    splits: Splits


def load(
    name: str,
    *,
    split: str = "public",
    seed: int = 0,
    normalize_features: bool = True,
    features: str = "auto",
) -> Dataset:
    """Load a data set by name: from the package, else the cache, else the network.

    The cache is the folder `GATJAX_DATA` where that is set, else the user's cache folder; the files
    lie in its subfolder `planetoid`. What is downloaded goes there, once, and is verified.

    Citeseer's files have no record for 15 test nodes: they have edges but neither features nor a
    class. They are kept, with a zero row and the label -1, and are in no split.

    Args:
        name: "citeseer" (in the package), "cora" or "pubmed"; upper or lower case.
        split: "public" is Planetoid's own, 20 nodes per class / 500 / 1000; "random" draws one of
            the same sizes; "shchur" keeps the largest connected component of the labelled nodes and
            draws 20 per class / 30 per class / the rest.
        seed: of the random splits; the public split has none.
        normalize_features: scale each row of the features to sum to one.
        features: "dense", "sparse" (a `BCOO`), or "auto": sparse below a density of 0.15.

    Returns:
        The data set, in host memory as far as it is dense.

    Raises:
        ValueError: an unknown name or split, or a damaged file.
        FileNotFoundError: the files are nowhere to be had; the message says where they were sought.

    >>> citeseer = load("citeseer")
    >>> citeseer
    Dataset('citeseer': 3327 nodes, 9104 edges, 3703 features (sparse, 0.9% non-zero), 6 classes,
    split 120/500/1000)
    >>> load("citeseer", split="shchur").splits.train.shape
    (120,)

    Sen et al., Collective classification in network data, 2008.
    Yang, Cohen and Salakhutdinov, Revisiting semi-supervised learning with graph embeddings, 2016.
    """
    name = name.lower()
    check_choice("name", name, SHA256)
    check_choice("split", split, SPLITS)
    check_choice("features", features, LAYOUTS)
    arrays, provenance = _find(name)
    matrix = normalize_rows(arrays.features) if normalize_features else arrays.features
    dataset = Dataset(
        name=name,
        graph=make_graph(matrix, *arrays.edges.T, layout=features),
        labels=arrays.labels,
        splits=arrays.splits,
        num_classes=len(CLASS_NAMES[name]),
        class_names=CLASS_NAMES[name],
        provenance=provenance,
    )
    if split == "random":
        return dataclasses.replace(dataset, splits=random_split(dataset.labels, seed=seed))
    if split == "shchur":
        component = largest_component(take_nodes(dataset, dataset.labels >= 0))
        return dataclasses.replace(component, splits=shchur_split(component.labels, seed=seed))
    return dataset


def parse_planetoid(files: Mapping[str, bytes], name: str) -> PlanetoidArrays:
    """Put the parts of a Planetoid data set together.

    Args:
        files: the bytes of the parts x, y, tx, ty, allx, ally, graph and test.index.
        name: what the errors call the data set.

    Returns:
        Nodes in the order of the graph: first the rows of allx, then the test nodes, whose rows in
        tx are in the order of test.index.

    Raises:
        ValueError: a file that is damaged, or files that do not belong together.
    """
    content: dict[str, Any] = {
        part: load_plain_pickle(data, file_name(name, part))
        for part, data in files.items()
        if part != "test.index"
    }
    for part, kind in _KINDS.items():
        if not isinstance(content[part], kind):
            raise ValueError(
                f"{file_name(name, part)}: holds a {type(content[part]).__name__}, "
                f"expected a {kind.__name__}"
            )
    test = _test_index(files["test.index"], file_name(name, "test.index"))
    rows = np.r_[np.arange(content["allx"].shape[0]), test]
    _check_parts(content, test, name)
    num_nodes = int(rows.max()) + 1
    stacked = sparse.vstack([content["allx"], content["tx"]]).tocoo()
    places = rows[stacked.row].astype(np.int32), stacked.col.astype(np.int32)
    features = sparse.csr_array(
        (stacked.data.astype(np.float32), places),
        shape=(num_nodes, content["allx"].shape[1]),
    )
    features.sort_indices()
    labels = np.full(num_nodes, -1, np.int32)
    labels[rows] = _class_ids(np.concatenate([content["ally"], content["ty"]]), name)
    num_train = content["x"].shape[0]
    splits = Splits(
        np.arange(num_train, dtype=np.int32),
        np.arange(num_train, num_train + NUM_VALIDATION, dtype=np.int32),
        np.sort(test).astype(np.int32),
    )
    return PlanetoidArrays(features, labels, _edges(content["graph"], num_nodes, name), splits)


def read_cached(name: str, folder: Path) -> PlanetoidArrays:
    """Read, verify and parse the eight files of a data set from a folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not the one that was pinned.
    """
    files = {
        part: read_verified(folder / file_name(name, part), sha256)
        for part, sha256 in SHA256[name].items()
    }
    return parse_planetoid(files, name)


def read_bundled(name: str) -> PlanetoidArrays:
    """Read a data set that the package itself holds."""
    where = f"gatjax/data/bundled/{name}.npz"
    data = (resources.files("gatjax.data") / "bundled" / f"{name}.npz").read_bytes()
    check_sha256(data, BUNDLED_SHA256[name], where, "install gatjax anew")
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        indices, indptr = stored["indices"].astype(np.int32), stored["indptr"].astype(np.int32)
        shape = len(indptr) - 1, int(stored["num_features"])
        ones = np.ones(len(indices), np.float32)
        splits = Splits(*(stored[part].astype(np.int32) for part in Splits._fields))
        return PlanetoidArrays(
            features=sparse.csr_array((ones, indices, indptr), shape=shape),
            labels=stored["labels"].astype(np.int32),
            edges=stored["edges"].astype(np.int32),
            splits=splits,
        )


def _find(name: str) -> tuple[PlanetoidArrays, str]:
    """Resolve a name: the package, the cache, the network."""
    if name in BUNDLED_SHA256:
        return read_bundled(name), f"bundled with gatjax; originally {PLANETOID_URL}"
    sha256 = {file_name(name, part): pin for part, pin in SHA256[name].items()}
    folder = obtain(name, "planetoid", sha256, PLANETOID_URL, bundled=BUNDLED_SHA256)
    return read_cached(name, folder), f"{folder}; originally {PLANETOID_URL}"


_KINDS = {
    "x": sparse.csr_array,
    "y": np.ndarray,
    "tx": sparse.csr_array,
    "ty": np.ndarray,
    "allx": sparse.csr_array,
    "ally": np.ndarray,
    "graph": dict,
}


def _check_parts(content: dict[str, Any], test: np.ndarray, name: str) -> None:
    """Refuse parts whose sizes do not fit together."""
    lengths = {part: content[part].shape[0] for part in _KINDS if part != "graph"}
    pairs = [("x", "y"), ("tx", "ty"), ("allx", "ally")]
    for features, labels in pairs:
        if lengths[features] != lengths[labels]:
            raise ValueError(
                f"{name}: {features} has {lengths[features]} rows, {labels} has {lengths[labels]}"
            )
    if lengths["tx"] != len(test):
        raise ValueError(f"{name}: tx has {lengths['tx']} rows, test.index has {len(test)}")
    if lengths["x"] + NUM_VALIDATION > lengths["allx"]:
        raise ValueError(
            f"{name}: allx has {lengths['allx']} rows, too few for the {lengths['x']} rows of x and "
            f"{NUM_VALIDATION} validation nodes"
        )
    if test.min() < lengths["allx"] or len(np.unique(test)) < len(test):
        raise ValueError(
            f"{name}: test.index must hold distinct ids from {lengths['allx']}, the rows of allx"
        )
    for group in (("x", "tx", "allx"), ("y", "ty", "ally")):
        widths = {part: content[part].shape[1:] for part in group}
        if len(set(widths.values())) > 1:
            raise ValueError(f"{name}: the widths of {', '.join(group)} differ: {widths}")


def _test_index(data: bytes, where: str) -> np.ndarray:
    try:
        ids = np.array([int(line) for line in data.decode("ascii").split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a list of node ids: {error}") from None
    if not ids.size:
        raise ValueError(f"{where}: holds no node ids")
    return ids


def _class_ids(one_hot: np.ndarray, name: str) -> np.ndarray:
    if one_hot.ndim != 2 or not np.isin(one_hot, (0, 1)).all() or (one_hot.sum(1) > 1).any():
        raise ValueError(f"{name}: ally and ty must be one-hot rows, one column per class")
    return np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), -1).astype(np.int32)


def _edges(neighbors: dict, num_nodes: int, name: str) -> np.ndarray:
    """Undirected edges of a dictionary from node to list of neighbours, as sorted unique pairs."""
    lists = all(isinstance(others, list) for others in neighbors.values())
    ids = chain(neighbors, *neighbors.values()) if lists else ()
    if not lists or not all(type(node) is int and 0 <= node < num_nodes for node in ids):
        raise ValueError(f"{name}: graph must map node ids to lists of node ids below {num_nodes}")
    pairs = {
        (min(node, other), max(node, other))
        for node, others in neighbors.items()
        for other in others
        if node != other
    }
    return np.array(sorted(pairs), np.int32).reshape(-1, 2)
