"""A data set from a graph of another library."""

from typing import Any

import numpy as np

from gatjax.data.dataset import Dataset, Task, make_weighted_graph
from gatjax.data.features import as_matrix
from gatjax.data.splits import Splits
from gatjax.graph.ids import first_true, host_ids
from gatjax.graph.messages import listed
from gatjax.graph.peers import Imported

MASKS = "train_mask", "val_mask", "test_mask"


def as_dataset(
    imported: Imported,
    *,
    name: str = "graph",
    splits: Splits | None = None,
    split: int | None = None,
    task: Task | None = None,
    class_names: tuple[str, ...] | None = None,
    layout: str = "auto",
) -> Dataset:
    """What `from_pyg` or `from_dgl` has read, as a data set: labels `y` or `label`, and the three masks.

    Edges are put in the order of receivers and self-loops left out, as in every data set (`add_self_loops`).

    Args:
        imported: one graph with node features, and without edge features.
        name: what to call it.
        splits: in place of the masks `train_mask`, `val_mask` and `test_mask`.
        split: which of several splits, where the masks are [N, S].
        task: what the labels are; by default whole numbers [N] are classes, fractions are numbers.
        class_names: of the classes, or of the columns of the labels; their numbers by default.
        layout: of the features, "dense", "sparse" or "auto".

    Raises:
        ValueError: what a data set has no place for, by name; labels or masks that are missing.

    >>> from gatjax.graph import from_pyg
    >>> data = {"edge_index": np.array([[0, 1], [1, 0]]), "x": np.eye(3), "y": np.array([0, 1, 1])}
    >>> data |= {mask: np.eye(3, dtype=bool)[part] for part, mask in enumerate(MASKS)}
    >>> as_dataset(from_pyg(data), name="three")
    Dataset('three': 3 nodes, 2 edges, 3 features (dense, 33.3% non-zero), 2 classes, split 1/1/1)
    """
    senders, receivers = _ends(imported)
    others = imported.others.get("ndata", imported.others)
    labels, task = _labels(others, task)
    count = labels.shape[1] if labels.ndim == 2 else 1
    if task == "classes":
        count = int(labels.max(initial=-1)) + 1
    graph, weight = make_weighted_graph(
        as_matrix(imported.graph.nodes),
        senders,
        receivers,
        imported.edge_weight,
        layout=layout,
        directed=True,
    )
    return Dataset(
        name=name,
        graph=graph,
        labels=labels,
        splits=_splits(others, split) if splits is None else splits,
        num_classes=count,
        class_names=tuple(map(str, range(count))) if class_names is None else class_names,
        provenance="a graph of another library",
        task=task,
        edge_weight=None if weight is None else weight.astype(np.float32),
    )


def _ends(imported: Imported) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers, if a data set has a place for all that there is."""
    graph = imported.graph
    senders, receivers, n_node, _ = host_ids(graph)
    if len(n_node) != 1:
        raise ValueError(f"a batch of {len(n_node)} graphs: a data set is one graph; see unbatch")
    if graph.nodes is None:
        raise ValueError("the graph has no node features, which a data set needs")
    if graph.edges is not None:
        raise ValueError(
            "edges: a data set has no place for edge features; leave them out, "
            "imported._replace(graph=imported.graph._replace(edges=None))"
        )
    pairs = receivers.astype(np.int64) * int(n_node[0]) + senders
    again = np.ones(len(pairs), bool)
    again[np.unique(pairs, return_index=True)[1]] = False
    if (edge := first_true(again)) is not None:
        raise ValueError(
            f"edge {edge}, {senders[edge]} -> {receivers[edge]}, is there twice, and a data set would merge both: "
            "imported._replace(graph=coalesce(imported.graph), edge_weight=None)"
        )
    return senders, receivers


def _labels(others: dict[str, Any], task: Task | None) -> tuple[np.ndarray, Task]:
    found = [name for name in ("y", "label") if name in others]
    if not found:
        raise ValueError(f"no labels: neither y nor label is among {listed(others)}")
    labels = np.asarray(others[found[0]])
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if task is None and labels.ndim == 2 and np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"{found[0]} holds only 0 and 1, which may be labels or numbers: pass task"
            '="labels" or task="numbers"'
        )
    whole = labels.dtype.kind in "iu" and labels.ndim == 1
    task = task or ("classes" if whole else "numbers")
    return labels.astype(np.int32 if task == "classes" and whole else np.float32), task


def _splits(others: dict[str, Any], split: int | None) -> Splits:
    missing = [name for name in MASKS if name not in others]
    if missing:
        raise ValueError(
            f"no {listed(missing)}: pass splits=, such as those of random_split(labels)"
        )
    parts = []
    for name in MASKS:
        mask = np.asarray(others[name])
        if mask.ndim == 2:
            if split is None or not 0 <= split < mask.shape[1]:
                raise ValueError(
                    f"{name} has {mask.shape[1]} splits: pass split=0 or another of them"
                )
            mask = mask[:, split]
        parts.append(np.flatnonzero(mask).astype(np.int32))
    return Splits(*parts)
