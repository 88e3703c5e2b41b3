"""Your own data: a folder with an edge list, features and labels."""

from pathlib import Path
from typing import cast

import numpy as np

from gatjax.data.dataset import Dataset, make_graph
from gatjax.data.features import LAYOUTS, Matrix, as_matrix, normalize_rows
from gatjax.data.files import (
    about,
    check_finite,
    find_table,
    pick,
    place,
    read_matrix,
    read_npy,
    read_npz,
    require_table,
)
from gatjax.data.splits import Splits, check_splits, random_split
from gatjax.graph.check import first_true
from gatjax.graph.tables import read_table


def load_folder(
    path: str | Path,
    *,
    directed: bool = False,
    seed: int = 0,
    per_class: int = 20,
    validation: int = 500,
    test: int = 1000,
    normalize_features: bool = False,
    features: str = "auto",
) -> Dataset:
    r"""Load a graph of your own from a folder of CSV, NPY or NPZ files.

    Nodes are numbered from 0 in the order of the features. The folder holds one file of each kind:

    - `edges.csv` with columns sender and receiver, `edges.npy` with such rows [E, 2], or
      `edges.npz` with arrays senders and receivers;
    - `features.csv` with a header and one row per node, `features.npy` [N, F], or `features.npz`
      with an array features or as `scipy.sparse.save_npz` writes it;
    - `labels.csv` with a header and one row per node, or `labels.npy`. One column of a CSV file and
      an array [N] of integers are class ids from 0, with -1 for no label; several columns and
      arrays of floats are numbers;
    - if you have a split, `splits.csv` with columns node and split (train, validation or test), or
      `splits.npz` with arrays train, validation and test. Otherwise one is drawn.

    Self-loops are dropped and duplicate edges collapse, as in every data set.

    Args:
        path: the folder.
        directed: keep the edges as they are; else the reverse of each edge is added.
        seed: of the split that is drawn where the folder has none.
        per_class: training nodes drawn per class.
        validation: validation nodes drawn.
        test: test nodes drawn.
        normalize_features: scale each row of the features to sum to one.
        features: "dense", "sparse" (a `BCOO`), or "auto": sparse below a density of 0.15.

    Returns:
        The data set, called like its folder.

    Raises:
        FileNotFoundError: the folder or a file that it must have is missing; the message names it.
        ValueError: a file cannot be read, or files contradict each other; the message names the
            file and, in a CSV file, the line.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name, "triangle")
    ...     folder.mkdir()
    ...     _ = (folder / "edges.csv").write_text("sender,receiver\n0,1\n1,2\n2,0\n")
    ...     _ = (folder / "features.csv").write_text("height,weight\n1,2\n3,4\n5,6\n")
    ...     _ = (folder / "labels.csv").write_text("label\n0\n1\n0\n")
    ...     load_folder(folder, per_class=1, validation=0, test=1)
    Dataset('triangle': 3 nodes, 6 edges, 2 features (dense, 100.0% non-zero), 2 classes,
    split 2/0/1)
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if features not in LAYOUTS:
        raise ValueError(f"features must be one of {', '.join(LAYOUTS)}, got {features!r}")
    matrix = _read_features(require_table(folder, "features", ("csv", "npz", "npy")))
    num_nodes, _ = cast("tuple[int, int]", matrix.shape)
    edges = _read_edges(require_table(folder, "edges", ("csv", "npz", "npy")), num_nodes)
    labels, class_names = _read_labels(require_table(folder, "labels", ("csv", "npy")), num_nodes)
    splits_file = find_table(folder, "splits", ("csv", "npz"))
    if splits_file is None:
        splits = random_split(
            labels, seed=seed, per_class=per_class, validation=validation, test=test
        )
    else:
        splits = _read_splits(splits_file, labels)
    matrix = normalize_rows(matrix) if normalize_features else matrix
    return Dataset(
        name=folder.resolve().name,
        graph=make_graph(matrix, *edges.T, layout=features, directed=directed),
        labels=labels,
        splits=splits,
        num_classes=len(class_names),
        class_names=class_names,
        provenance=f"the folder {folder.resolve()}",
    )


def _read_features(file: Path) -> Matrix:
    matrix = read_matrix(file, "features")
    with about(file):
        matrix = as_matrix(matrix)
    check_finite(file, matrix)
    return matrix


def _read_edges(file: Path, num_nodes: int) -> np.ndarray:
    """Return rows (sender, receiver) of int64 node ids, [E, 2]."""
    if file.suffix == ".csv":
        table = read_table(file, {"sender": "whole", "receiver": "whole"})
        edges = np.stack([table.columns["sender"], table.columns["receiver"]], axis=1)
    elif file.suffix == ".npy":
        edges = read_npy(file)
    else:
        senders, receivers = pick(file, read_npz(file), ("senders", "receivers"))
        if senders.shape != receivers.shape:
            raise ValueError(
                f"{file.name}: senders have shape {senders.shape}, receivers {receivers.shape}; "
                "give one of each per edge"
            )
        edges = np.stack([senders, receivers], axis=-1)
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(
            f"{file.name}: edges must be integer node ids of shape [E, 2], "
            f"got {edges.dtype} of shape {edges.shape}"
        )
    outside = np.argwhere((edges < 0) | (edges >= num_nodes))
    if outside.size:
        row, column = outside[0].tolist()
        raise ValueError(
            f"{place(file, row)}: {('sender', 'receiver')[column]} {edges[row, column]} is no node; "
            f"the features have {num_nodes} rows, so ids run from 0 to {num_nodes - 1}"
        )
    return edges.astype(np.int64)


def _read_labels(file: Path, num_nodes: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class ids [N] or numbers [N] or [N, T], with a name for each class or column."""
    names = None
    if file.suffix == ".csv":
        columns = read_table(file, others="number").columns
        names, labels = tuple(columns), np.stack(list(columns.values()), axis=1)
    else:
        labels = read_npy(file)
    if labels.dtype.kind not in "biuf" or labels.ndim not in (1, 2):
        raise ValueError(
            f"{file.name}: labels must be numbers of shape [N] or [N, T], "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if len(labels) != num_nodes:
        raise ValueError(
            f"{file.name}: {len(labels)} labels for {num_nodes} nodes, the rows of the features; "
            "give one per node"
        )
    if names and len(names) == 1:
        return _class_ids(file, labels[:, 0])
    if labels.ndim == 1 and labels.dtype.kind != "f":
        return _class_ids(file, labels)
    with np.errstate(over="ignore"):
        labels = labels.astype(np.float32)
    check_finite(file, labels)
    count = 1 if labels.ndim == 1 else labels.shape[1]
    return labels, names or tuple(str(column) for column in range(count))


def _class_ids(file: Path, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    known = (labels >= -1) & (labels < len(labels)) & (labels == np.floor(labels))
    if not known.all():
        row = int(np.argmin(known))
        raise ValueError(
            f"{place(file, row)}: label {labels[row]} is neither a class id nor -1 for no label; "
            "number the classes 0, 1, 2 and so on"
        )
    labels = labels.astype(np.int32)
    return labels, tuple(str(label) for label in range(labels.max(initial=-1) + 1))


def _read_splits(file: Path, labels: np.ndarray) -> Splits:
    if file.suffix == ".csv":
        table = read_table(file, {"node": "whole", "split": "text"})
        nodes, names = table.columns["node"], table.columns["split"]
        unknown = first_true(~np.isin(names.astype(str), Splits._fields))
        if unknown is not None:
            raise ValueError(
                f"{table.place(unknown)}, column split: {names[unknown]!r} is not one of "
                f"{', '.join(Splits._fields)}"
            )
        parts = [nodes[names == name] for name in Splits._fields]
    else:
        parts = pick(file, read_npz(file), Splits._fields)
    with about(file):
        splits = check_splits(Splits(*parts), len(labels))
        if not splits.train.size:
            raise ValueError("no node is in train; put at least one there")
        for name, ids in zip(Splits._fields, splits, strict=True):
            unlabelled = ids[labels[ids] == -1] if labels.dtype.kind == "i" else ids[:0]
            if unlabelled.size:
                raise ValueError(f"node {unlabelled[0]} is in {name} but has no label")
    return splits
