"""Predictions in a file, by the names of nodes and classes."""

import csv
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gatjax.data.dataset import Dataset
from gatjax.graph.ids import first_true


def write_predictions(path: str | PathLike[str], dataset: Dataset, predictions: ArrayLike) -> None:
    """Write what was predicted for each node to a CSV file that `load_folder` reads as labels.

    A node is called as `dataset.names` calls it, else by its number; a class by its name.

    Args:
        path: the file; an existing one is not overwritten.
        dataset: what the predictions are for.
        predictions: class ids [N], -1 for none, or for other tasks numbers of the shape of the labels.

    Raises:
        FileExistsError: there is such a file.
        ValueError: predictions of another shape, or an id that is no class.

    >>> import tempfile
    >>> from gatjax.data import load
    >>> citeseer, file = load("citeseer"), Path(tempfile.mkdtemp(), "predictions.csv")
    >>> write_predictions(file, citeseer, citeseer.labels)
    >>> file.read_text().split("\\n")[:3]
    ['node,label', '0,DB', '1,ML']
    """
    file, table = Path(path), np.asarray(predictions)
    if file.exists():
        raise FileExistsError(f"{file} exists: delete it, or choose another path")
    if table.shape != dataset.labels.shape:
        hint = ""
        if dataset.task == "classes" and table.ndim == 2:
            hint = "; the class of the largest logit is logits.argmax(-1)"
        raise ValueError(
            f"predictions has shape {table.shape}: the labels have shape {dataset.labels.shape}{hint}"
        )
    names = np.arange(dataset.num_nodes) if dataset.names is None else dataset.names
    columns = [_header(name) for name in dataset.class_names]
    rows: list[list[Any]] = table.reshape(len(table), -1).tolist()
    if dataset.task == "classes":
        columns, rows = ["label"], [[name] for name in _class_names(dataset, table)]
    with file.open("x", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["node", *columns])
        writer.writerows([name, *row] for name, row in zip(names.tolist(), rows, strict=True))


def _class_names(dataset: Dataset, predictions: np.ndarray) -> list[str]:
    if predictions.dtype.kind not in "iu":
        raise ValueError(
            f"predictions must be class ids, got {predictions.dtype}: pass logits.argmax(-1)"
        )
    if (node := first_true((predictions < -1) | (predictions >= dataset.num_classes))) is not None:
        raise ValueError(
            f"predictions[{node}] = {predictions[node]} is no class: ids run from 0 to "
            f"{dataset.num_classes - 1}, and -1 is none"
        )
    return ["-1" if label < 0 else dataset.class_names[label] for label in predictions.tolist()]


def _header(name: str) -> str:
    """A column must not be called by a number."""
    try:
        float(name)
    except ValueError:
        return name if name != "node" else "label_node"
    return f"label_{name}"
