"""Tables in CSV files that somebody wrote by hand: one reader, the same rules everywhere.

A file is UTF-8 text, with or without a byte order mark, with either line ending; cells are separated by commas and may
be quoted. Its first line names the columns, in any order. Blank lines are skipped, but for those inside a file of one
column, where a row would be missing. Errors name the file, the line and the column.
"""

import contextlib
import csv
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from gatjax.graph.check import INT32_MAX, first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import match_names

Kind = Literal["whole", "long", "number", "partial", "text"]

_DTYPES = {
    "whole": np.int64,
    "long": np.int64,
    "number": np.float64,
    "partial": np.float64,
    "text": object,
}
_BITS = {"whole": 32, "long": 64}
_NUMBERS = ("number", "partial")


class Table(NamedTuple):
    """The columns of a file, in the order of its header, and where each row stands.

    Attributes:
      file: where it was read.
      columns: by name; whole and long numbers as int64, numbers as float64, text as Python strings.
      rows: how many there are.
    """

    file: Path
    columns: dict[str, np.ndarray]
    rows: int

    def place(self, row: int) -> str:
        """The file and the line of a row, for an error."""
        return place_in(self.file, row)

    def nodes(self, column: str, names: np.ndarray, known: str) -> np.ndarray:
        """The node that each cell of a column names, [rows]; `known` says what a name must be.

        Raises:
          ValueError: a cell is not one of the names.
        """
        ids = match_names(self.columns[column], names)
        if (row := first_true(ids < 0)) is not None:
            name = shown(self.columns[column][row])
            raise ValueError(f"{self.place(row)}: {column} {name} is no node; it must be {known}")
        return ids


def place_in(file: Path, row: int) -> str:
    """The file and the line on which a row of its table stands."""
    with _opened(file) as lines:
        next(lines)
        numbered = (lines.line_num for cells in lines if not _is_blank(cells))
        line = next(line for index, line in enumerate(numbered) if index == row)
    return f"{file.name} line {line}"


def header_of(path: str | PathLike[str]) -> list[str]:
    """The names of the columns of a file.

    Raises:
      ValueError: its first line does not name columns.
    """
    with _opened(Path(path)) as lines:
        return _header(Path(path), next(lines, []), {}, {}, "text")


def read_table(
    path: str | PathLike[str],
    columns: Mapping[str, Kind] | None = None,
    *,
    optional: Mapping[str, Kind] | None = None,
    others: Kind | None = None,
    remedy: str = "",
) -> Table:
    """Read a CSV file whole.

    Args:
      path: the file.
      columns: those that it must have, and the kind of their cells: a "whole" number of 32 bits, a "long" one of 64,
        a "number", a "partial" one, which is NaN where the cell is blank, or "text".
      optional: those that it may have.
      others: the kind of further columns; None where there must be none.
      remedy: what to do where a cell of `columns` is not of its kind.

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
    allowed: dict[str, Kind] = dict(optional or {})
    with _opened(file) as lines:
        header = _header(file, next(lines, []), required, allowed, others)
        kinds: list[Any] = [(required | allowed).get(name, others) for name in header]
        values = _parse_fast(file, kinds)
        if values is None:
            cells = _cells(file, len(header), lines)
            remedies = [remedy if name in required else "" for name in header]
            values = _parse(file, cells, header, kinds, remedies)
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


def read_names(
    path: str | PathLike[str],
    names: list[str],
    *,
    columns: Mapping[str, Kind] | None = None,
    optional: Mapping[str, Kind] | None = None,
    others: Kind | None = None,
    text: bool = False,
) -> Table:
    """As `read_table`, where the columns `names` hold names: int64 if all of them are whole numbers, else strings.

    Args:
      path: the file.
      names: the columns of names.
      columns: as in `read_table`, and so are `optional` and `others`.
      optional: likewise.
      others: likewise.
      text: take them for strings even if all are whole numbers.
    """
    options: dict[str, Any] = {"optional": optional, "others": others}
    of_kind = lambda kind: {**dict.fromkeys(names, kind), **(columns or {})}
    allowed: dict[str, Kind] = dict(optional or {})
    if not text:
        with _opened(Path(path)) as lines:
            header = _header(Path(path), next(lines, []), of_kind("long"), allowed, others)
        kinds = [{**allowed, **of_kind("long")}.get(name, others) for name in header]
        values = _parse_fast(Path(path), kinds)
        if values is not None:
            return Table(Path(path), dict(zip(header, values, strict=True)), len(values[0]))
    table = read_table(path, of_kind("text"), **options)
    for name in names:
        if (row := first_true(table.columns[name] == "")) is not None:
            raise ValueError(f"{table.place(row)}, column {name}: the name is blank; give one")
    if text:
        return table
    whole = {name: _parse_at_once(table.columns[name].tolist(), "long") for name in names}
    if all(column is not None for column in whole.values()):
        table.columns.update({name: column for name, column in whole.items() if column is not None})
    return table


def _parse_fast(path: Path, kinds: list[Any]) -> list[np.ndarray] | None:
    """NumPy's own reader, ten times as fast; None where it cannot read the file: it knows no quotes and no places."""
    if len(kinds) == 1 or ("text" in kinds and '"' in path.read_text(encoding="utf-8-sig")):
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
    for column, kind in zip(values, kinds, strict=True):
        if kind == "text":
            column[:] = list(map(str.strip, column))
    # A line of commas alone is blank, too.
    if set(kinds) == {"text"} and np.any(np.all([column == "" for column in values], axis=0)):
        return None
    whole = [x for x, kind in zip(values, kinds, strict=True) if kind == "whole"]
    return values if all(np.all(np.abs(x) < 2**31) for x in whole) else None


def _cells(path: Path, width: int, lines: Any) -> list[list[str]]:
    """The cells of each column, over all lines that are not blank."""
    columns: list[list[str]] = [[] for _ in range(width)]
    # A few lines at a time: Python's garbage collector looks at every list that is kept.
    while chunk := list(islice(lines, 256)):
        if any(len(cells) != width or not cells[0] for cells in chunk):
            chunk = _without_blanks(path, width, chunk, len(columns[0]))
        for column, cells in zip(columns, zip(*chunk, strict=True), strict=False):
            column.extend(cells)
    if width == 1:
        _refuse_gaps(path)
    return columns


def _without_blanks(path: Path, width: int, chunk: list[list[str]], before: int) -> list[list[str]]:
    kept = [cells for cells in chunk if not _is_blank(cells)]
    for row, cells in enumerate(kept):
        if len(cells) != width:
            where = place_in(path, before + row)
            raise ValueError(f"{where}: {len(cells)} cells, expected {width}")
    return kept


def _refuse_gaps(path: Path) -> None:
    """In a file of one column a blank line among the others is a row that is missing."""
    blank = None
    with _opened(path) as lines:
        for cells in lines:
            if not _is_blank(cells) and blank is not None:
                where = f"{path.name} line {blank}"
                raise ValueError(f"{where}: the line is blank; fill in what is missing")
            blank = lines.line_num if _is_blank(cells) else blank


def _parse(
    path: Path, columns: list[list[str]], header: list[str], kinds: list[Any], remedies: list[str]
) -> list[np.ndarray]:
    """Column by column, with the place of whatever is wrong."""
    parsed = []
    for name, kind, cells, remedy in zip(header, kinds, columns, remedies, strict=True):
        column = _parse_at_once(cells, kind)
        if column is None:
            column = np.empty(len(cells), _DTYPES[kind])
            for row, cell in enumerate(cells):
                try:
                    column[row] = _convert(cell, kind)
                except ValueError as error:
                    where = f"{place_in(path, row)}, column {name}"
                    raise ValueError(f"{where}: {error}{remedy}") from None
        parsed.append(column)
    return parsed


def _parse_at_once(cells: list[str], kind: Kind) -> np.ndarray | None:
    """As `_convert` for every cell, where each is of the kind at first sight."""
    column = np.empty(len(cells), _DTYPES[kind])
    convert: Any = str.strip if kind == "text" else float if kind in _NUMBERS else int
    if kind != "text" and any("_" in cell for cell in cells):
        return None
    try:
        column[:] = list(map(convert, cells))
    except (ValueError, OverflowError):
        return None
    return None if kind == "whole" and np.any(np.abs(column) >= 2**31) else column


def _convert(cell: str, kind: Kind) -> int | float | str:
    cell = cell.strip()
    if kind == "text":
        return cell
    if kind == "partial" and not cell:
        return np.nan
    with contextlib.suppress(ValueError):
        # Python would take an underscore for a separator of digits.
        if "_" not in cell:
            value = float(cell) if kind in _NUMBERS else int(cell)
            if kind in _NUMBERS or abs(value) < 2 ** (_BITS[kind] - 1):
                return value
    meaning = "a number" if kind in _NUMBERS else f"a whole number of {_BITS[kind]} bits"
    raise ValueError(f"{shown(cell)} is not {meaning}")


def _header(
    path: Path,
    cells: list[str],
    required: Mapping[str, Kind],
    allowed: Mapping[str, Kind],
    others: Kind | None,
) -> list[str]:
    header, where = [cell.strip() for cell in cells], f"{path.name} line 1"
    got = f"got {shown(','.join(cells))}"
    unknown = [name for name in header if name not in {**required, **allowed}]
    if (unknown and others is None) or not set(required) <= set(header):
        more = f"; it may name {listed(allowed)} too" if allowed else ""
        more = "; it may name more" if others is not None else more
        raise ValueError(f"{where}: the header must be {','.join(required)!r}, {got}{more}")
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
