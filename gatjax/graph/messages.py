"""Values and names as an error shows them: on one line, and cut where they are long."""

import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


def shown(value: Any, width: int = 60) -> str:
    """The value as Python writes it, on one line of at most `width` characters.

    >>> shown("ann"), shown(list(range(1000))), len(shown("x" * 1000)) <= 60
    ("'ann'", '[0, 1, 2, 3, 4, 5, ...]', True)
    """
    scalar = isinstance(value, str | np.generic)
    text = repr(value.item()) if isinstance(value, np.generic) else _REPR.repr(value)
    text = " ".join(text.split()) if not scalar else text
    return text if len(text) <= width else f"{text[: width - 3]}..."


def is_integer(value: Any) -> bool:
    """Whether this is a whole number of Python's or NumPy's, and no truth value.

    >>> is_integer(np.int64(3)), is_integer(True), is_integer(3.0)
    (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_integer(**values: Any) -> None:
    """Refuse counts and seeds that are no integers, by name.

    Raises:
        TypeError: one is not.

    >>> check_integer(seed=0.5)
    Traceback (most recent call last):
    ...
    TypeError: seed must be an integer, got 0.5
    """
    for name, value in values.items():
        if not is_integer(value):
            raise TypeError(f"{name} must be an integer, got {shown(value)}")


def check_at_least(least: int, **values: Any) -> None:
    """Refuse counts and seeds that are no integers, or too small, by name.

    Raises:
        TypeError, ValueError: one is.

    >>> check_at_least(1, batch_size=0)
    Traceback (most recent call last):
    ...
    ValueError: batch_size = 0 must be at least 1
    """
    check_integer(**values)
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")


def listed(names: Iterable[Any], most: int = 8) -> str:
    """Names with commas between them, at most so many.

    >>> listed(["a", "b"]), listed(range(100), 3), listed([])
    ('a, b', '0, 1, 2, ...', 'none')
    """
    first = [str(name) for name in islice(names, most + 1)]
    words = [name if len(name) <= 40 else f"{name[:37]}..." for name in first[:most]]
    return ", ".join(words + ["..."] * (len(first) > most)) or "none"
