"""Columns of tables that are no CSV files: frames of any library, dictionaries, structured arrays, Parquet files."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gatjax.graph.messages import listed, shown

PARQUET = (".parquet", ".pq")


def columns_of(table: Any) -> dict[str, np.ndarray]:
    """The columns of a table by name, as NumPy has them.

    Args:
      table: the path of a Parquet file; a frame of pandas, Polars, Arrow or whatever gives columns by name that NumPy
        reads, or an Arrow stream; a dictionary of columns; a structured array.

    Raises:
      FileNotFoundError: there is no such file.
      ImportError: Parquet or an Arrow stream, without pyarrow.
      TypeError: it is no table.
      ValueError: columns of unequal length, or with more than one axis; a file that is not Parquet.

    >>> columns_of({"a": [1, 2], "b": ["x", None]})
    {'a': array([1, 2]), 'b': array(['x', None], dtype=object)}
    """
    if isinstance(table, Path):
        table = _read_parquet(table)
    columns = {name: _array(column) for name, column in _columns(table)}
    if not columns:
        raise ValueError("table has no columns: an edge list needs two")
    for name, column in columns.items():
        if column.ndim != 1:
            raise ValueError(
                f"table: column {name} has shape {column.shape}: it must have one axis"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"table: the columns have {listed(lengths.values())} rows: give all as many"
        )
    return columns


def cells_of(column: np.ndarray) -> list[str]:
    """Each cell as a file would write it, nothing where it is missing.

    >>> cells_of(np.array([1.5, np.nan])), cells_of(np.array(["a", None], object))
    (['1.5', ''], ['a', ''])
    """
    cells, kinds = _cells_and_kinds(column)
    if kinds <= {str}:
        return cells
    if kinds <= {int, bool, str}:
        return list(map(str, cells))
    return ["" if _is_missing(cell) else str(cell) for cell in cells]


def first_of_other_kind(column: np.ndarray) -> tuple[int, Any] | None:
    """The first cell that is neither a string nor a whole number nor missing, and its row."""
    cells, kinds = _cells_and_kinds(column)
    if kinds <= {str, int}:
        return None
    for row, cell in enumerate(cells):
        if type(cell) not in (str, int) and not _is_missing(cell):
            return row, cell
    return None


def _cells_and_kinds(column: np.ndarray) -> tuple[list[Any], set[type]]:
    """The cells as Python has them; the set of their types spares a look at each of millions."""
    cells = column.tolist()
    return cells, set(map(type, cells))


def _columns(table) -> list[tuple[str, Any]]:
    fields: Any = getattr(getattr(table, "dtype", None), "names", None)
    if isinstance(table, Mapping) or fields:
        names, get = list(fields or table), table.__getitem__
    elif hasattr(table, "column_names") and hasattr(table, "column"):
        names, get = list(table.column_names), lambda name: table.column(names.index(name))
    elif hasattr(table, "columns") and hasattr(table, "__getitem__"):
        names, get = list(table.columns), table.__getitem__
    elif hasattr(table, "__arrow_c_stream__"):
        return _columns(_pyarrow("an Arrow stream").table(table))
    else:
        raise TypeError(
            f"table is a {type(table).__name__}: pass a path, a frame (pandas, Polars, Arrow), a dictionary "
            "of columns or a structured array"
        )
    if bad := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f"table: column {shown(bad[0])} is called by no text: name the columns")
    if len(set(names)) < len(names):
        raise ValueError(f"table: the header names a column twice, got {listed(names)}")
    return [(name, get(name)) for name in names]


def _array(column: Any) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return column
    if hasattr(column, "to_numpy"):
        return np.asarray(column.to_numpy())
    if hasattr(column, "__array__"):
        return np.asarray(column)
    cells = list(column)
    kinds = {type(cell) for cell in cells}
    # NumPy would make strings of numbers that stand beside one, and floats of integers beside None.
    return np.asarray(cells) if kinds <= {int} or kinds <= {int, float} else _objects(cells)


def _objects(cells: list[Any]) -> np.ndarray:
    column = np.empty(len(cells), object)
    column[:] = cells
    return column


def _is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN or what pandas has in their place."""
    # NA and NaT of pandas have no module that may be imported here.
    if cell is None or type(cell).__name__ == "NAType":
        return True
    return isinstance(cell, float) and math.isnan(cell) or type(cell).__name__ == "NaTType"


def _read_parquet(path: Path) -> Any:
    _pyarrow(f"{path.name} is a Parquet file: reading it")
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return read_table(path)
    except ArrowException as error:
        raise ValueError(f"{path.name}: cannot be read as Parquet: {shown(str(error))}") from None


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(f"{what} needs pyarrow: pip install 'gatjax[tables]'") from None
    return pyarrow
