"""What a file of labels means: classes by number or by name, numbers, or labels of 0 and 1."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from gatjax.data.dataset import Task
from gatjax.data.files import place, read_npy
from gatjax.data.node_ids import NodeIds
from gatjax.graph.ids import first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.numbers import to_float
from gatjax.graph.tables import header_of, read_table

SAY = 'say task="classes" to number the classes and keep their names, task="numbers" if they are no classes'


class Targets(NamedTuple):
    """The labels of a data set.

    Attributes:
      labels: class ids [N] int32, -1 where there is none; or float32 [N] or [N, T], NaN where there is none.
      names: one per class or column.
      task: what they are.
      guessed: whether nobody said so.
    """

    labels: np.ndarray
    names: tuple[str, ...]
    task: Task
    guessed: bool


class _Column(NamedTuple):
    """One column of a file: the words of each cell, "" for none, and where each row stands."""

    cells: list[str]
    where: Callable[[int], str]


def read_labels(file: Path, nodes: NodeIds, task: Task | None) -> Targets:
    """Read the labels of the nodes.

    Args:
        file: a table or labels.npy.
        nodes: whose labels they are.
        task: what the labels are, if known. A guess is made where it cannot be wrong: words are classes, so are the
            whole numbers 0 to K - 1 if each of them occurs, and a column with a fraction holds numbers.

    Raises:
        ValueError: the file cannot be read, is not what `task` says, or could be either.
    """
    if task not in (None, *get_args(Task)):
        raise ValueError(f"task must be one of {listed(get_args(Task))}, got {shown(task)}")
    if file.suffix == ".npy":
        return _from_array(file, _one_per_node(file, read_npy(file), nodes), task)
    header = [name for name in header_of(file) if name not in nodes.ignore]
    columns = [name for name in header if name != "node"]
    if len(columns) == 1:
        table, rows = _read_rows(file, nodes, "text", "node" in header)
        cells = np.full(nodes.count, "", object)
        cells[rows] = table[columns[0]]
        row_of = np.zeros(nodes.count, np.int64)
        row_of[rows] = np.arange(len(rows))
        where = lambda node: place(file, int(row_of[node]))
        return _from_words(_Column(cells.tolist(), where), columns[0], task)
    kind = "partial" if "node" in header else "number"
    table, rows = _read_rows(file, nodes, kind, "node" in header)
    values = np.full((nodes.count, len(columns)), np.nan)
    row_of = np.zeros(nodes.count, np.int64)
    row_of[rows] = np.arange(len(rows))
    for index, name in enumerate(columns):
        values[rows, index] = table[name]
    where = lambda node: place(file, int(row_of[node]))
    return _from_columns(where, values, tuple(columns), task)


def _read_rows(file: Path, nodes: NodeIds, kind: Any, named: bool) -> tuple[dict, np.ndarray]:
    """The columns of a CSV file, and the node of each row."""
    if named:
        table, (rows,) = nodes.read(file, ["node"], others=kind)
        nodes.check_once(file, rows)
        return table.columns, rows
    table = read_table(file, others=kind, ignore=nodes.ignore)
    _check_count(file, table.rows, nodes.count)
    return table.columns, np.arange(nodes.count)


def _check_count(file: Path, rows: int, nodes: int) -> None:
    if rows != nodes:
        raise ValueError(
            f"{file.name}: {rows} labels for {nodes} nodes, the rows of the features; "
            "give one per node, or say whose they are in a column node"
        )


def _one_per_node(file: Path, array: np.ndarray, nodes: NodeIds) -> np.ndarray:
    words = array.dtype.kind == "U" and array.ndim == 1
    if not words and (array.dtype.kind not in "biuf" or array.ndim not in (1, 2)):
        raise ValueError(
            f"{file.name}: labels must be numbers or words of shape [N], or numbers [N, T], "
            f"got {array.dtype} of shape {array.shape}"
        )
    _check_count(file, len(array), nodes.count)
    return array


def _from_array(file: Path, labels: np.ndarray, task: Task | None) -> Targets:
    where = lambda node: place(file, node)
    if labels.ndim == 2:
        names = tuple(str(column) for column in range(labels.shape[1]))
        return _from_columns(where, labels, names, task)
    if labels.dtype.kind == "f" and task != "classes":
        values = labels[:, None] if task == "labels" else labels
        return _numbers(where, values, ("0",), task or "numbers", task is None)
    if labels.dtype.kind in "bf":
        bad = np.isinf(labels) | (labels != np.floor(labels)) & ~np.isnan(labels)
        if (node := first_true(bad)) is not None:
            raise ValueError(_no_class(where(node), labels[node], task))
        labels = np.where(np.isnan(labels), -1, labels).astype(np.int64)
    return _from_words(_Column([str(x) for x in labels.tolist()], where), "0", task)


def _from_words(column: _Column, name: str, task: Task | None) -> Targets:
    """One column of words or numbers; a blank cell is no label, and so is -1 of a class."""
    cells = column.cells
    numbers = [_number(cell) for cell in cells]
    wordy = [
        cell not in ("", "-1") and value is None for cell, value in zip(cells, numbers, strict=True)
    ]
    if task in ("numbers", "labels") or (task is None and not any(wordy) and _fraction(numbers)):
        if any(wordy):
            raise ValueError(_no_number(column, name, wordy.index(True)))
        values = np.array([np.nan if value is None else value for value in numbers], np.float64)
        values = values[:, None] if task == "labels" else values
        return _numbers(column.where, values, (name,), task or "numbers", task is None)
    if (
        any(wordy)
        and task is None
        and not all(word or cell in ("", "-1") for word, cell in zip(wordy, cells, strict=True))
    ):
        raise ValueError(_no_number(column, name, wordy.index(True)))
    if any(wordy):
        return _number_classes([None if cell in ("", "-1") else cell for cell in cells], task)
    whole = [value is None or float(value).is_integer() for value in numbers]
    if not all(whole):
        node = whole.index(False)
        raise ValueError(_no_class(column.where(node), cells[node], task))
    ids = [None if cell in ("", "-1") else _whole(cell) for cell in cells]
    _check_spelling(column, ids)
    if task is None:
        _check_without_gap(column, ids)
    return _number_classes(ids, task)


def _check_spelling(column: _Column, ids: list[int | None]) -> None:
    """Whether no two classes, such as 01 and 1, would become one; 1.0 beside 1 is the same number once more."""
    spelled: dict[int, str] = {}
    for node, (label, cell) in enumerate(zip(ids, column.cells, strict=True)):
        if label is not None and cell.isdecimal() and spelled.setdefault(label, cell) != cell:
            raise ValueError(
                f"{column.where(node)}: labels {spelled[label]} and {cell} are one number; spell them alike where they "
                "are one class, and in words, such as class_01, where they are two"
            )


def _check_without_gap(column: _Column, ids: list[int | None]) -> None:
    """Whole numbers are surely class ids only where they are 0 to K - 1."""
    present = {label for label in ids if label is not None}
    for node, label in enumerate(ids):
        if label is not None and (label < 0 or (label and label - 1 not in present)):
            raise ValueError(_no_class(column.where(node), column.cells[node], None))


def _number_classes(keys: list[Any], task: Task | None) -> Targets:
    """Classes in the order of their names."""
    names = sorted({key for key in keys if key is not None})
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([-1 if key is None else number[key] for key in keys], np.int32)
    return Targets(labels, tuple(str(name) for name in names), "classes", task is None)


def _from_columns(
    where: Callable[[int], str], values: np.ndarray, names: tuple[str, ...], task: Task | None
) -> Targets:
    if task == "classes":
        raise ValueError(
            f"{len(names)} columns of labels, but classes stand in one; a column of 0 and 1 per class "
            'is task="labels"'
        )
    if task is None and values.dtype != bool and np.all(np.isnan(values) | np.isin(values, (0, 1))):
        raise ValueError(
            "the columns of labels hold only 0 and 1, which may be labels or numbers: say "
            'task="labels" or task="numbers"'
        )
    guess: Task = "labels" if values.dtype == bool else "numbers"
    return _numbers(where, values, names, task or guess, task is None)


def _numbers(
    where: Callable[[int], str],
    values: np.ndarray,
    names: tuple[str, ...],
    task: Task,
    guessed: bool,
) -> Targets:
    """Numbers in float32; NaN is none."""
    of_column = lambda index: f" of column {index[1]} (counted from 0)" if len(index) > 1 else ""
    with np.errstate(over="ignore"):
        infinite = np.argwhere(np.isinf(values.astype(np.float32)))
    if len(infinite):
        index = tuple(infinite[0].tolist())
        raise ValueError(
            f"{where(index[0])}: the number{of_column(index)} is not finite in float32; "
            "leave out what is missing"
        )
    labels = to_float(
        values,
        lambda index: f"{where(index[0])}: the label{of_column(index)} ",
        np.dtype(np.float32),
    )
    if task == "labels":
        bad = np.argwhere(~np.isnan(labels) & ~np.isin(labels, (0, 1)))
        if len(bad):
            node, column = bad[0].tolist()
            raise ValueError(
                f"{where(node)}: {labels[node, column]} in column {column} (counted from 0) is "
                'neither 0 nor 1; task="numbers" reads numbers'
            )
    return Targets(labels, names, task, guessed)


def _no_class(where: str, label: Any, task: Task | None) -> str:
    say = SAY if task is None else 'task="numbers" reads numbers'
    say = f"write -1 for no label, or {say}" if str(label) == "nan" else say
    text = str(label) if len(str(label)) <= 20 else shown(label)
    return (
        f"{where}: label {text} is neither a class id (0, 1, 2 and so on without a gap) nor -1 for no "
        f"label; {say}"
    )


def _no_number(column: _Column, name: str, node: int) -> str:
    return (
        f"{column.where(node)}, column {name}: {shown(column.cells[node])} is not a number; "
        'task="classes" takes all labels for names of classes'
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell and "_" not in cell else None
    except ValueError:
        return None


def _whole(cell: str) -> int:
    try:
        return int(cell)
    except ValueError:
        return int(float(cell))


def _fraction(numbers: list[float | None]) -> bool:
    return any(
        value is not None and np.isfinite(value) and value != np.floor(value) for value in numbers
    )
