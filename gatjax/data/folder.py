"""Your own data: a folder with an edge list, features and labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from gatjax.data.dataset import Dataset, Task, make_weighted_graph
from gatjax.data.features import LAYOUTS, Matrix, as_matrix, normalize_rows
from gatjax.data.files import (
    TABLES,
    about,
    check_finite,
    find_table,
    place,
    read_matrix,
    read_npy,
    read_npz,
    require_table,
)
from gatjax.data.labels import read_labels
from gatjax.data.node_ids import NAMES_REMEDY, NodeIds
from gatjax.data.splits import Splits, called, check_splits, has_label, random_split
from gatjax.graph.edge_lists import find_ends
from gatjax.graph.ids import first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import as_names, check_distinct
from gatjax.graph.numbers import check_digits, to_float
from gatjax.graph.tables import header_of, read_names, read_table

FLOAT32 = np.dtype(np.float32)


def load_folder(
    path: str | Path,
    *,
    task: Task | None = None,
    directed: bool = False,
    seed: int = 0,
    per_class: int = 20,
    validation: int | float | None = None,
    test: int | float | None = None,
    train: int | float | None = None,
    normalize_features: bool = False,
    features: str = "auto",
    ignore: Sequence[str] = (),
) -> Dataset:
    r"""Load a graph of your own from a folder of tables or arrays.

    Nodes are numbered from 0 in the order of the features. Where these have a column node, or an array
    names, that is what nodes are called, by names or by any whole numbers, and all other files call
    them so; `Dataset.names` keeps it. The folder holds one file of each kind, a table in CSV, TSV or
    Parquet (which needs `gatjax[tables]`), or arrays:

    - `edges.csv` with columns sender and receiver, or what else `from_table` understands, `edges.npy`
      with such rows [E, 2], or `edges.npz` with arrays senders and receivers; a column weight, or an
      array weight in `edges.npz`, holds the weights of the edges;
    - `features.csv` with a header and one row per node, `features.npy` [N, F], or `features.npz`
      with an array features or as `scipy.sparse.save_npz` writes it, and, if nodes have names, an
      array names;
    - `labels.csv` with a header and one row per node, in the order of the features; or in any
      order, and for some nodes only, with a column node; or `labels.npy`;
    - if you have a split, `splits.csv` with columns node and split (train, validation or test), or
      `splits.npz` with arrays train, validation and test. Otherwise one is drawn, as
      `random_split` draws it, so that `train=0.6, validation=0.2` are shares of each class.

    Labels are classes (one column of names or whole numbers; -1 or nothing for no label), numbers
    (any number of columns; nan for none), or several labels per node (a column of 0 and 1 for
    each). `task` says which. Without it names are classes, so are whole numbers from 0 without a
    gap; a column with a fraction, or an array of floats, holds numbers; the data set says when it is
    printed what was guessed, and what could be either is an error. Classes are numbered in the order
    of their names, which `Dataset.class_names` keeps.

    Self-loops are dropped and duplicate edges collapse, as in every data set; the weights of
    duplicates add up. Without `directed`, both directions of an edge have its weight, where the file
    has both the mean of the two.

    Args:
        path: the folder.
        task: "classes", "numbers" or "labels"; a guess by default.
        directed: keep the edges as they are; else the reverse of each edge is added.
        seed: of the split that is drawn where the folder has none.
        per_class: training nodes drawn per class.
        validation: validation nodes drawn, or their share; as in `random_split`, and so are `test` and
            `train`.
        test: test nodes drawn.
        train: training nodes drawn from all nodes together, or their share, instead of `per_class`;
            numbers and several labels need it where there is no split.
        normalize_features: scale each row of the features to sum to one.
        features: "dense", "sparse" (a `BCOO`), or "auto": sparse below a density of 0.15.
        ignore: columns of any table that are left out.

    Returns:
        The data set, called like its folder.

    Raises:
        FileNotFoundError: the folder or a file that it must have is missing; the message names it.
        ValueError: a file cannot be read, or files contradict each other; the message names the
            file and the line or row.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = pathlib.Path(name, "square")
    ...     folder.mkdir()
    ...     _ = (folder / "edges.csv").write_text("sender,receiver\nann,bob\nbob,cat\ndan,cat\n")
    ...     _ = (folder / "features.csv").write_text("node,height\nann,1\nbob,3\ncat,5\ndan,2\n")
    ...     _ = (folder / "labels.csv").write_text("node,team\ncat,red\nbob,blue\nann,red\ndan,red\n")
    ...     square = load_folder(folder, task="classes", per_class=1, validation=1, test=1)
    >>> square
    Dataset('square': 4 nodes, 6 edges, 1 features (dense, 100.0% non-zero), 2 classes,
    split 2/1/1)
    >>> square.names.tolist(), square.class_names, square.labels.tolist()
    (['ann', 'bob', 'cat', 'dan'], ('blue', 'red'), [1, 0, 1, 1])
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if features not in LAYOUTS:
        raise ValueError(f"features must be one of {', '.join(LAYOUTS)}, got {shown(features)}")
    files = {
        kind: require_table(folder, kind, (*TABLES, ".npz", ".npy"))
        for kind in ("features", "edges")
    }
    files["labels"] = require_table(folder, "labels", (*TABLES, ".npy"))
    splits_file = find_table(folder, "splits", (*TABLES, ".npz"))
    _check_ignored(ignore, [*files.values(), *([splits_file] if splits_file else [])])
    matrix, names = _read_features(files["features"], ignore)
    num_nodes, _ = cast("tuple[int, int]", matrix.shape)
    nodes = NodeIds(num_nodes, names, tuple(ignore))
    ends, weight = _read_edges(files["edges"], nodes)
    targets = read_labels(files["labels"], nodes, task)
    if splits_file is None:
        splits = random_split(
            targets.labels,
            seed=seed,
            per_class=per_class,
            validation=validation,
            test=test,
            train=train,
        )
    else:
        splits = _read_splits(splits_file, nodes, targets.labels)
    matrix = normalize_rows(matrix) if normalize_features else matrix
    graph, edge_weight = make_weighted_graph(
        matrix, ends[0], ends[1], weight, layout=features, directed=directed
    )
    return Dataset(
        name=folder.resolve().name,
        graph=graph,
        labels=targets.labels,
        splits=splits,
        num_classes=len(targets.names),
        class_names=targets.names,
        provenance=f"the folder {folder.resolve()}",
        task=targets.task,
        guessed=targets.guessed,
        names=np.array(names.tolist()) if names is not None else None,
        edge_weight=edge_weight,
    )


def _check_ignored(ignore: Sequence[str], files: list[Path]) -> None:
    """Refuse to ignore a column that no table of the folder has."""
    if isinstance(ignore, str):
        raise TypeError(f"ignore must be a list of columns, got {ignore!r}: pass [{ignore!r}]")
    headers = [header_of(file) for file in files if ignore and file.suffix in TABLES]
    if absent := [name for name in ignore if not any(name in header for header in headers)]:
        raise ValueError(f"ignore: no table of the folder has a column {listed(absent)}")


def _read_features(file: Path, ignore: Sequence[str]) -> tuple[Matrix, np.ndarray | None]:
    """The features [N, F], and what nodes are called."""
    if file.suffix not in TABLES:
        matrix, names = read_matrix(file, "features")
        names = None if names is None else _names_of(file, names, cast(Any, matrix).shape[0])
    else:
        named = "node" in header_of(file)
        table = (
            read_names(file, ["node"], others="number", ignore=ignore)
            if named
            else read_table(file, others="number", ignore=ignore)
        )
        columns = dict(table.columns)
        names = columns.pop("node", None)
        matrix = np.stack(list(columns.values()), axis=1) if columns else np.zeros((table.rows, 0))
        column = lambda index: f"column {list(columns)[index[1]]}"
        check_digits(matrix, lambda index: f"{table.place(index[0])}, {column(index)}: ", FLOAT32)
    if names is not None and (row := check_distinct(names)) is not None:
        raise ValueError(
            f"{place(file, row)}: node {shown(names[row])} stands there twice; keep one line"
        )
    with about(file):
        matrix = as_matrix(matrix)
    check_finite(file, matrix)
    return matrix, names


def _names_of(file: Path, names: np.ndarray, num_nodes: int) -> np.ndarray:
    """The array names beside the features."""
    if names.shape != (num_nodes,) or names.dtype.kind not in "iuU":
        raise ValueError(
            f"{file.name}: names must be {num_nodes} strings or whole numbers, one for each row of "
            f"features, got {names.dtype} of shape {names.shape}"
        )
    return as_names("names", names)


def _read_edges(file: Path, nodes: NodeIds) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Senders and receivers as int64 node ids, and the weight of each edge if there is one."""
    if file.suffix in TABLES:
        columns = find_ends(file, header_of(file))
        table, ends = nodes.read(file, columns, optional={"weight": "number"})
        return ends, _weights(file, table.columns.get("weight"), len(ends[0]))
    weight = None
    if file.suffix == ".npy":
        edges = read_npy(file)
    else:
        arrays = read_npz(file, ("senders", "receivers"), ["weight"])
        senders, receivers = arrays["senders"], arrays["receivers"]
        weight = arrays.get("weight")
        if senders.shape != receivers.shape:
            raise ValueError(
                f"{file.name}: senders have shape {senders.shape}, receivers {receivers.shape}; "
                "give one of each per edge"
            )
        edges = np.stack([senders, receivers], axis=-1)
    text = nodes.names is not None and nodes.names.dtype.kind == "O"
    if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in ("U" if text else "iu"):
        remedy = f"; for names, {NAMES_REMEDY}" if edges.dtype.kind == "U" else ""
        raise ValueError(
            f"{file.name}: edges must be {'names' if text else 'integer node ids'} of shape [E, 2], "
            f"got {edges.dtype} of shape {edges.shape}{remedy}"
        )
    ends = [nodes.find(file, *pair) for pair in zip(("sender", "receiver"), edges.T, strict=True)]
    return ends, _weights(file, weight, len(edges))


def _weights(file: Path, weight: np.ndarray | None, num_edges: int) -> np.ndarray | None:
    """The weights in float32."""
    if weight is None:
        return None
    if weight.shape != (num_edges,) or weight.dtype.kind not in "biuf":
        raise ValueError(
            f"{file.name}: weight must hold one number for each of {num_edges} edges, "
            f"got {weight.dtype} of shape {weight.shape}"
        )
    if (row := first_true(~np.isfinite(weight))) is not None:
        raise ValueError(f"{place(file, row)}: the weight is not finite; fill in what is missing")
    return to_float(weight, lambda index: f"{place(file, index[0])}, column weight: ", FLOAT32)


def _read_splits(file: Path, nodes: NodeIds, labels: np.ndarray) -> Splits:
    if file.suffix in TABLES:
        table, (ids,) = nodes.read(file, ["node"], {"split": "text"})
        names = table.columns["split"]
        unknown = first_true(~np.isin(names.astype(str), Splits._fields))
        if unknown is not None:
            raise ValueError(
                f"{table.place(unknown)}, column split: {shown(names[unknown])} is not one of "
                f"{', '.join(Splits._fields)}"
            )
        parts = [ids[names == name] for name in Splits._fields]
    else:
        parts = list(read_npz(file, Splits._fields).values())
        if nodes.names is not None:
            parts = [
                nodes.find(file, name, part)
                for name, part in zip(Splits._fields, parts, strict=True)
            ]
    with about(file):
        splits = check_splits(Splits(*parts), len(labels), nodes.names)
        if not splits.train.size:
            raise ValueError("no node is in train; put at least one there")
        for name, ids in zip(Splits._fields, splits, strict=True):
            unlabelled = ids[~has_label(labels[ids])]
            if unlabelled.size:
                node = called(int(unlabelled[0]), nodes.names)
                raise ValueError(f"{node} is in {name} but has no label")
    return splits
