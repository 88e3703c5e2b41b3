"""Files of a table: their lines and cells, and where in them something is wrong."""

import contextlib
import csv
import re
import warnings
from collections.abc import Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gatjax.graph.cells import (
    DTYPES,
    NUMBERS,
    convert,
    first_over,
    first_rounded,
    is_large,
    parse_at_once,
)
from gatjax.graph.frames import PARQUET
from gatjax.graph.numbers import default_float, digits_lost

# How a cell like 007, +7 or -0 begins.
_PADDED = re.compile(rb"[,\s](?:\+|-?0\d|-0(?!\.))")


def title_of(file: str | PathLike | None) -> str:
    """What an error calls a table."""
    return "table" if file is None else Path(file).name


def place_in(file: Path | None, row: int) -> str:
    """The table and the line or row at which a row of it stands."""
    if file is None or file.suffix in PARQUET:
        return f"{title_of(file)} row {row}"
    with lines_of(file) as lines:
        next(lines)
        numbered = (lines.line_num for cells in lines if not is_blank(cells))
        line = next(line for index, line in enumerate(numbered) if index == row)
    return f"{file.name} line {line}"


def parse_fast(path: Path, kinds: list[Any]) -> list[np.ndarray] | None:
    """NumPy's own reader, ten times as fast; None where it cannot read the file: it knows no quotes and no places."""
    if len(kinds) == 1 or ("text" in kinds and '"' in path.read_text(encoding="utf-8-sig")):
        return None
    dtype = [(str(index), DTYPES[kind]) for index, kind in enumerate(kinds)]
    options: dict[str, Any] = {"delimiter": delimiter_of(path), "comments": None, "skiprows": 1}
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
    for column, kind in zip(values, kinds, strict=True):
        if kind == "whole" and np.any(np.abs(column) >= 2**31):
            return None
        if kind in NUMBERS and (is_large(column) or np.isinf(column).any()):
            return None
    return values


def reads_back(path: Path) -> bool:
    """Whether each whole number of a file is surely written as Python writes it: at the cost of a glance."""
    return not _PADDED.search(path.read_bytes())


def cells_in(path: Path, width: int, lines: Any) -> list[list[str]]:
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
    kept = [cells for cells in chunk if not is_blank(cells)]
    for row, cells in enumerate(kept):
        if len(cells) != width:
            where = place_in(path, before + row)
            raise ValueError(f"{where}: {len(cells)} cells, expected {width}")
    return kept


def _refuse_gaps(path: Path) -> None:
    """In a file of one column a blank line among the others is a row that is missing."""
    blank = None
    with lines_of(path) as lines:
        for cells in lines:
            if not is_blank(cells) and blank is not None:
                where = f"{path.name} line {blank}"
                raise ValueError(f"{where}: the line is blank; fill in what is missing")
            blank = lines.line_num if is_blank(cells) else blank


def parse(
    path: Path | None,
    columns: list[list[str]],
    header: list[str],
    kinds: list[Any],
    remedies: list[str],
) -> list[np.ndarray]:
    """Column by column, with the place of whatever is wrong."""
    parsed = []
    for name, kind, cells, remedy in zip(header, kinds, columns, remedies, strict=True):
        column = parse_at_once(cells, kind)
        if column is None:
            column = np.empty(len(cells), DTYPES[kind])
            for row, cell in enumerate(cells):
                try:
                    column[row] = convert(cell, kind)
                except ValueError as error:
                    where = f"{place_in(path, row)}, column {name}"
                    raise ValueError(f"{where}: {error}{remedy}") from None
        if kind in NUMBERS and (row := first_rounded(cells, column)) is not None:
            lost = digits_lost(int(cells[row]), default_float())
            raise ValueError(f"{place_in(path, row)}, column {name}: {lost}")
        if kind in NUMBERS and (row := first_over(cells, column)) is not None:
            where = f"{place_in(path, row)}, column {name}"
            raise ValueError(
                f"{where}: {cells[row].strip()} is over {default_float()}: change the unit"
            )
        parsed.append(column)
    return parsed


def delimiter_of(path: Path) -> str:
    """What stands between the cells of a file."""
    return "\t" if path.suffix in (".tsv", ".tab") else ","


@contextlib.contextmanager
def lines_of(path: Path) -> Iterator[Any]:
    with path.open(newline="", encoding="utf-8-sig") as text:
        lines = csv.reader(text, delimiter=delimiter_of(path), strict=True)
        try:
            yield lines
        except UnicodeDecodeError as error:
            raise ValueError(f"{path.name}: not a CSV file in UTF-8: {error}") from None
        except csv.Error as error:
            where = f"{path.name} line {lines.line_num}"
            raise ValueError(f"{where}: not a CSV file: {error}") from None


def is_blank(cells: list[str]) -> bool:
    return not any(cell.strip() for cell in cells)
