"""Tables that somebody made by hand: one reader, the same rules everywhere.

A table is a file or stands in memory. A CSV file is UTF-8 text, with or without a byte order mark, with either line
ending; cells are separated by commas, in a file .tsv by tabs, and may be quoted. Its first line names the columns, in
any order. Blank lines are skipped, but for those inside a file of one column, where a row would be missing. Errors name
the file, the line and the column. Any other table is one of `frames.columns_of`; its cells mean what they would mean in
a file, and a missing one is blank.
"""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatjax.graph.cells import (
    BITS,
    NUMBERS,
    Kind,
    is_large,
    parse_at_once,
)
from gatjax.graph.frames import PARQUET, cells_of, columns_of, first_of_other_kind
from gatjax.graph.ids import INT32_MAX, first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import match_names
from gatjax.graph.table_files import (
    cells_in,
    lines_of,
    parse,
    parse_fast,
    place_in,
    reads_back,
    title_of,
)


class Table(NamedTuple):
    """The columns of a table, in the order of its header, and where each row stands.

    Attributes:
      file: where it was read; None for one in memory.
      columns: by name; whole and long numbers as int64, numbers as float64, text as Python strings.
      rows: how many there are.
    """

    file: Path | None
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


class Frame(NamedTuple):
    """The columns of a table that is no text file, read once; `file` is that of a Parquet file."""

    file: Path | None
    columns: dict[str, np.ndarray]


def opened(source: Any) -> Path | Frame:
    """A table as all functions here take it: the path of a text file, or columns."""
    if isinstance(source, str | PathLike):
        source = Path(source)
        if source.suffix not in PARQUET:
            return source
    if isinstance(source, Frame):
        return source
    return Frame(source if isinstance(source, Path) else None, columns_of(source))


def header_of(source: Any) -> list[str]:
    """The names of the columns of a table.

    Raises:
      ValueError: the first line of the file does not name columns.
    """
    source = opened(source)
    if isinstance(source, Frame):
        return list(source.columns)
    with lines_of(source) as lines:
        return _header(source, next(lines, []), {}, {}, "text", ())


def read_table(
    source: Any,
    columns: Mapping[str, Kind] | None = None,
    *,
    optional: Mapping[str, Kind] | None = None,
    others: Kind | None = None,
    ignore: Iterable[str] = (),
    remedy: str = "",
) -> Table:
    """Read a table whole.

    Args:
      source: the path of a CSV, TSV or Parquet file, or whatever `columns_of` takes.
      columns: those that it must have, and the kind of their cells: a "whole" number of 32 bits, a "long" one of 64,
        a "number", a "partial" one, which is NaN where the cell is blank, or "text".
      optional: those that it may have.
      others: the kind of further columns; None where there must be none.
      ignore: columns that are left out if they are there.
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
    source, ignored = opened(source), set(ignore)
    required: dict[str, Kind] = dict(columns or {})
    allowed: dict[str, Kind] = dict(optional or {})
    kind = lambda name: "text" if name in ignored else (required | allowed).get(name, others)
    remedies = lambda header: [remedy if name in required else "" for name in header]
    if isinstance(source, Frame):
        header = _header(source.file, list(source.columns), required, allowed, others, ignored)
        values = [
            _of_kind(source.file, name, column, kind(name), more)
            for (name, column), more in zip(source.columns.items(), remedies(header), strict=True)
        ]
        return _table(source.file, header, values, ignored)
    with lines_of(source) as lines:
        header = _header(source, next(lines, []), required, allowed, others, ignored)
        kinds: list[Any] = [kind(name) for name in header]
        values = parse_fast(source, kinds)
        if values is None:
            cells = cells_in(source, len(header), lines)
            values = parse(source, cells, header, kinds, remedies(header))
    return _table(source, header, values, ignored)


def _table(
    file: Path | None, header: list[str], values: list[np.ndarray], ignored: set[str]
) -> Table:
    pairs = zip(header, values, strict=True)
    kept = {name: column for name, column in pairs if name not in ignored}
    return Table(file, kept, len(values[0]))


def _of_kind(
    file: Path | None, name: str, column: np.ndarray, kind: Any, remedy: str
) -> np.ndarray:
    """A column in memory, whose cells mean what they would mean in a file."""
    if kind in BITS and column.dtype.kind in "iu":
        limit = 2 ** (BITS[kind] - 1)
        if not column.size or -limit < int(column.min()) <= int(column.max()) < limit:
            return column.astype(np.int64)
    elif kind in NUMBERS and column.dtype.kind in "iufb":
        values = column.astype(np.float64)
        known = kind == "partial" or column.dtype.kind != "f" or not np.isnan(values).any()
        if known and not is_large(values):
            return values
    return parse(file, [cells_of(column)], [name], [kind], [remedy])[0]


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
    source: Any,
    names: Iterable[str],
    *,
    columns: Mapping[str, Kind] | None = None,
    optional: Mapping[str, Kind] | None = None,
    others: Kind | None = None,
    ignore: Iterable[str] = (),
    text: bool | None = None,
) -> Table:
    """As `read_table`, where the columns `names` hold names: int64 if all are whole numbers that read back as written.

    Else they are strings: 01 and 1 are two names.

    Args:
      source: as in `read_table`.
      names: the columns of names.
      columns: as in `read_table`, and so are `optional`, `others` and `ignore`.
      optional: likewise.
      others: likewise.
      ignore: likewise.
      text: whether names that are whole numbers are strings; False where what they must be is known to be numbers, so
        that 01 is 1; by default as they are written.
    """
    names, ignored = list(names), set(ignore)
    source = opened(source)
    options: dict[str, Any] = {"optional": optional, "others": others, "ignore": ignored}
    of_kind = lambda kind: {**dict.fromkeys(names, kind), **(columns or {})}
    allowed: dict[str, Kind] = dict(optional or {})
    if isinstance(source, Path) and (text is False or text is None and reads_back(source)):
        with lines_of(source) as lines:
            header = _header(source, next(lines, []), of_kind("long"), allowed, others, ignored)
        kinds = [{**allowed, **of_kind("long")}.get(name, others) for name in header]
        kinds = ["text" if name in ignored else k for name, k in zip(header, kinds, strict=True)]
        values = parse_fast(source, kinds)
        if values is not None:
            return _table(source, header, values, ignored)
    if isinstance(source, Frame):
        _check_names(source, names)
        arrays = [source.columns[name] for name in names if name in source.columns]
        if not text and all(array.dtype.kind in "iu" for array in arrays):
            return read_table(source, of_kind("long"), **options)
    table = read_table(source, of_kind("text"), **options)
    for name in names:
        check_filled(table, name)
    if text:
        return table
    whole = {name: whole_numbers(table.columns[name], text is None) for name in names}
    if all(column is not None for column in whole.values()):
        table.columns.update({name: column for name, column in whole.items() if column is not None})
    return table


def _check_names(frame: Frame, columns: Iterable[str]) -> None:
    """Refuse cells that are no names: what `str` makes of a fraction or a list is none."""
    for name in columns:
        column = frame.columns.get(name, np.zeros(0, int))
        if column.dtype.kind in "iuU" or not (row := first_of_other_kind(column)):
            continue
        where, cell = f"{place_in(frame.file, row[0])}, column {name}", shown(row[1])
        raise ValueError(f"{where}: {cell} is no name: names are strings or whole numbers")


def check_filled(table: Table, name: str) -> None:
    """Refuse a column of names with a blank one.

    Raises:
      ValueError: there is one.
    """
    if (row := first_true(table.columns[name] == "")) is not None:
        raise ValueError(f"{table.place(row)}, column {name}: the name is blank; give one")


def whole_numbers(column: np.ndarray, as_written: bool = True) -> np.ndarray | None:
    """A column of text as int64, None where not all of it is whole numbers, or one is written in another way."""
    cells = column.tolist()
    numbers = parse_at_once(cells, "long")
    differ = as_written and numbers is not None and list(map(str, numbers.tolist())) != cells
    return None if differ else numbers


def _header(
    path: Path | None,
    cells: list[str],
    required: Mapping[str, Kind],
    allowed: Mapping[str, Kind],
    others: Kind | None,
    ignored: Iterable[str],
) -> list[str]:
    header = [cell.strip() for cell in cells]
    where = heading_of(path)
    got = f"got {shown(','.join(cells))}"
    if not set(required) <= set(header):
        more = f"; it may name {listed(allowed)} too" if allowed else ""
        more = "; it may name more" if others is not None else more
        raise ValueError(f"{where}: the header must be {','.join(required)!r}, {got}{more}")
    if not header or any(_is_number(name) or not name for name in header):
        raise ValueError(f"{where}: the header must name the columns, {got}")
    if len(set(header)) < len(header):
        raise ValueError(f"{where}: the header names a column twice, {got}")
    unknown = [name for name in header if name not in {*required, *allowed, *ignored}]
    if unknown and others is None:
        asked = ", ".join([*required, *allowed])
        raise ValueError(
            f"{where}: nobody asked for column {listed(unknown)}: {asked} are read; ignore={unknown[:8]} "
            "leaves out what you do not need"
        )
    return header


def heading_of(source: Any) -> str:
    """Where the columns of a table are named."""
    text = isinstance(source, Path) and source.suffix not in PARQUET
    return title_of(source.file if isinstance(source, Frame) else source) + " line 1" * text


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
