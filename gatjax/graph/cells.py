"""What a cell of a table means: whole numbers, numbers, words."""

import contextlib
import re
from typing import Any, Literal

import numpy as np

from gatjax.graph.messages import shown

Kind = Literal["whole", "long", "number", "partial", "text"]

DTYPES = {
    "whole": np.int64,
    "long": np.int64,
    "number": np.float64,
    "partial": np.float64,
    "text": object,
}
BITS = {"whole": 32, "long": 64}
NUMBERS = ("number", "partial")


def parse_at_once(cells: list[str], kind: Kind) -> np.ndarray | None:
    """As `convert` for every cell, where each is of the kind at first sight."""
    column = np.empty(len(cells), DTYPES[kind])
    of_cell: Any = str.strip if kind == "text" else float if kind in NUMBERS else int
    if kind != "text" and any("_" in cell for cell in cells):
        return None
    try:
        column[:] = list(map(of_cell, cells))
    except (ValueError, OverflowError):
        return None
    return None if kind == "whole" and np.any(np.abs(column) >= 2**31) else column


def convert(cell: str, kind: Kind) -> int | float | str:
    """The meaning of one cell.

    Raises:
      ValueError: it is not of this kind.
    """
    cell = cell.strip()
    if kind == "text":
        return cell
    if kind == "partial" and not cell:
        return np.nan
    with contextlib.suppress(ValueError):
        # Python would take an underscore for a separator of digits.
        if "_" not in cell:
            value = float(cell) if kind in NUMBERS else int(cell)
            if kind in NUMBERS or abs(value) < 2 ** (BITS[kind] - 1):
                return value
    meaning = "a number" if kind in NUMBERS else f"a whole number of {BITS[kind]} bits"
    raise ValueError(f"{shown(cell)} is not {meaning}")


def first_rounded(cells: list[str], values: np.ndarray) -> int | None:
    """The first row of a column of whole numbers that float64 does not hold."""
    finite = np.isfinite(values)
    if not is_large(values) or np.any(values[finite] != np.floor(values[finite])):
        return None
    for row in np.flatnonzero(finite & (np.abs(values) >= 2**53)).tolist():
        with contextlib.suppress(ValueError):
            if int(cells[row]) != int(values[row]):
                return row
    return None


def first_over(cells: list[str], values: np.ndarray) -> int | None:
    """The first row of a column of numbers that is written in digits, and infinite in float64."""
    infinite = np.flatnonzero(np.isinf(values)).tolist()
    return next((row for row in infinite if re.search(r"\d", cells[row])), None)


def is_large(values: np.ndarray) -> bool:
    """Whether a whole number may have lost digits in float64."""
    return bool(np.any(np.isfinite(values) & (np.abs(values) >= 2**53)))
