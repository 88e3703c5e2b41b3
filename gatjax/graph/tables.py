"""Tables in CSV files that somebody wrote by hand: one reader, the same rules everywhere.

A file is UTF-8 text, with or without a byte order mark, with either line ending; cells are separated by commas and may
be quoted. Its first line names the columns, in any order. Blank lines are skipped, but for those inside a file of one
column, where a row would be missing. Errors name the file, the line and the column.
"""

import contextlib
import csv
import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gatjax.graph.check import INT32_MAX, first_true

Kind = Literal["whole", "number", "text"]

_DTYPES = {"whole": np.int64, "number": np.float64, "text": object}
_MEANING = {"whole": "a whole number of 32 bits", "number": "a number"}


class Table(NamedTuple):
    """The columns of a file, in the order of its header, and where each row stands.

    Attributes:
      file: where it was read.
      columns: by name; whole numbers as int64, numbers as float64, text as Python strings.
      rows: how many there are.
    """

    file: Path
    columns: dict[str, np.ndarray]
    rows: int

    def place(self, row: int) -> str:
        """The file and the line of a row, for an error."""
        return place_in(self.file, row)


def place_in(file: Path, row: int) -> str:
    """The file and the line on which a row of its table stands."""
    with _opened(file) as lines:
        next(lines)
        numbered = (lines.line_num for cells in lines if not _is_blank(cells))
        line = next(line for index, line in enumerate(numbered) if index == row)
    return f"{file.name} line {line}"


def read_table(
    path: str | PathLike[str],
    columns: Mapping[str, Kind] | None = None,
    *,
    others: Kind | None = None,
) -> Table:
    """Read a CSV file whole.

    Args:
      path: the file.
      columns: those that it must have, and the kind of their cells.
      others: the kind of further columns; None where there must be none.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not such a table.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "edges.csv"
    >>> _ = file.write_text("sender,receiver,length\\n0,1,2.5\\n2,1,0.5\\n")
    >>> table = read_table(file, {"sender": "whole", "receiver": "whole"}, others="number")
    >>> table.columns["receiver"], table.columns["length"], table.place(1)
    (array([1, 1]), array([2.5, 0.5]), 'edges.csv line 3')
    """
    file = Path(path)
    required: dict[str, Kind] = dict(columns or {})
    with _opened(file) as lines:
        header = _header(file, next(lines, []), required, others)
        kinds = [required.get(name, others) for name in header]
        values = _parse_fast(file, kinds)
        if values is None:
            values = _parse(file, header, kinds, lines)
    return Table(file, dict(zip(header, values, strict=True)), len(values[0]))


def check_ids(table: Table, ids: Mapping[str, np.ndarray], num_nodes: int | None) -> None:
    """Refuse ids, by the names of their columns, that are below 0, or no node where their number is known.

    Raises:
      ValueError: an id is out of range.
    """
    limit = INT32_MAX if num_nodes is None else num_nodes
    for name, column in ids.items():
        if (row := first_true((column < 0) | (column >= limit))) is not None:
            raise ValueError(
                f"{table.place(row)}: {name} {column[row]} is no node; ids run from 0 to {limit - 1}"
            )


def _parse_fast(path: Path, kinds: list[Any]) -> list[np.ndarray] | None:
    """NumPy's own reader, ten times as fast; None where it cannot read the file: it knows no quotes and no places."""
    if "text" in kinds or len(kinds) == 1:
        return None
    dtype = [(str(index), _DTYPES[kind]) for index, kind in enumerate(kinds)]
    options: dict[str, Any] = {"delimiter": ",", "comments": None, "skiprows": 1}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = np.loadtxt(path, dtype, encoding="utf-8-sig", ndmin=1, **options)
    except (ValueError, Warning):
        return None
    values = [np.ascontiguousarray(rows[name]) for name, _ in dtype]
    small = all(np.all(np.abs(x) < 2**31) for x in values if x.dtype == np.int64)
    return values if small else None


def _parse(path: Path, header: list[str], kinds: list[Any], lines: Any) -> list[np.ndarray]:
    """Cell by cell, with the place of whatever is wrong."""
    rows, blank = [], None
    for cells in lines:
        where = f"{path.name} line {lines.line_num}"
        if _is_blank(cells):
            blank = where if len(header) == 1 else None
            continue
        if blank is not None:
            raise ValueError(f"{blank}: the line is blank; fill in what is missing")
        if len(cells) != len(header):
            raise ValueError(f"{where}: {len(cells)} cells, expected {len(header)}")
        try:
            rows.append([_convert(*pair) for pair in zip(cells, kinds, header, strict=True)])
        except ValueError as error:
            raise ValueError(f"{where}, {error}") from None
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return [np.array(x, _DTYPES[kind]) for x, kind in zip(columns, kinds, strict=True)]


def _convert(cell: str, kind: Kind, name: str) -> int | float | str:
    cell = cell.strip()
    if kind == "text":
        return cell
    with contextlib.suppress(ValueError):
        # Python would take an underscore for a separator of digits.
        if "_" not in cell:
            value = int(cell) if kind == "whole" else float(cell)
            if kind == "number" or abs(value) < 2**31:
                return value
    raise ValueError(f"column {name}: {cell!r} is not {_MEANING[kind]}")


def _header(
    path: Path, cells: list[str], columns: Mapping[str, Kind], others: Kind | None
) -> list[str]:
    header, where = [cell.strip() for cell in cells], f"{path.name} line 1"
    got = f"got {','.join(cells)[:60]!r}"
    unknown = [name for name in header if name not in columns] if others is None else []
    if unknown or not set(columns) <= set(header):
        more = "" if others is None else ", and may name more"
        raise ValueError(f"{where}: the header must be {','.join(columns)!r}{more}, {got}")
    if not header or any(_is_number(name) or not name for name in header):
        raise ValueError(f"{where}: the header must name the columns, {got}")
    if len(set(header)) < len(header):
        raise ValueError(f"{where}: the header names a column twice, {got}")
    return header


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with path.open(newline="", encoding="utf-8-sig") as text:
        lines = csv.reader(text, strict=True)
        try:
            yield lines
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name}: not a CSV file in UTF-8: {error}") from None
        except csv.Error as error:
            where = f"{path.name} line {lines.line_num}"
            raise ValueError(f"{where}: not a CSV file: {error}") from None


def _is_blank(cells: list[str]) -> bool:
    return not any(cell.strip() for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
