"""Names and arbitrary numbers as node ids.

Inside a graph nodes are counted from 0. A naming is a vector `names` [N]: `names[i]` is what node i is called, an
integer or a string.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jaxtyping import Int32, Shaped
from numpy.typing import ArrayLike

from gatjax.graph.ids import first_true
from gatjax.graph.messages import shown


class Named(NamedTuple):
    """An edge list whose ends are counted from 0, and what the nodes are called.

    Attributes:
      senders: the node that each edge leaves, [E].
      receivers: the node that each edge enters, [E].
      names: the name of each node, [N]; sorted, without duplicates.
    """

    senders: Int32[np.ndarray, "E"]
    receivers: Int32[np.ndarray, "E"]
    names: Shaped[np.ndarray, "N"]


def number_names(senders: Any, receivers: Any) -> Named:
    """Nodes that are called by names, or by any numbers, counted from 0 in the order of their names.

    Args:
        senders: [E] strings or integers, the node that each edge leaves.
        receivers: [E] of the same kind.

    Returns:
        `senders` and `receivers` for `build_graph`, and `names`; `names[senders]` is what was passed.

    Raises:
        TypeError: names that are neither strings nor integers, or of both kinds.
        ValueError: lengths that disagree.

    >>> senders, receivers, names = number_names(["bob", "ann"], ["ann", "cat"])
    >>> senders.tolist(), receivers.tolist(), names.tolist()
    ([1, 0], [0, 2], ['ann', 'bob', 'cat'])
    """
    ends = as_names("senders", senders), as_names("receivers", receivers)
    if len(ends[0]) != len(ends[1]):
        raise ValueError(
            f"senders has {len(ends[0])} names and receivers has {len(ends[1])}: "
            "an edge needs both ends"
        )
    ends = _of_one_kind(*ends)
    together = np.concatenate(ends)
    if together.dtype.kind in "iu":
        names, ids = np.unique(together, return_inverse=True)
    else:
        # A dictionary numbers strings ten times as fast as sorting all of them does.
        names = np.array(sorted(dict.fromkeys(together.tolist())), object)
        ids = match_names(together, names)
    senders, receivers = np.split(ids.astype(np.int32), [len(ends[0])])
    return Named(senders, receivers, _text(names))


def as_names(field: str, values: ArrayLike | Sequence[Any]) -> np.ndarray:
    """Integers as int64 or uint64, strings as objects, [n]; nothing else is a name."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{field} has shape {array.shape}: it must have one axis")
    if array.dtype.kind in "iu":
        return array if array.dtype == np.uint64 else array.astype(np.int64)
    if not array.size:
        return np.zeros(0, np.int64)
    # NumPy makes a string of a number that stands beside one.
    given = (
        array
        if isinstance(values, np.ndarray)
        else np.array(list(cast(Sequence[Any], values)), object)
    )
    bad = [not isinstance(name, str) for name in given.tolist()]
    if any(bad):
        index = bad.index(True)
        raise TypeError(
            f"{field}[{index}] = {shown(given[index])} is no name: all names must be strings, or all "
            "of them integers"
        )
    return given.astype(object)


def match_names(values: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The node that each value names, -1 where there is none, [n] int64.

    >>> match_names(np.array([30, 7, 8]), np.array([7, 30])).tolist()
    [1, 0, -1]
    """
    if values.dtype.kind in "iu" and names.dtype.kind in "iu":
        order = np.argsort(names, kind="stable")
        place = np.minimum(np.searchsorted(names[order], values), max(len(names) - 1, 0))
        if not len(names):
            return np.full(len(values), -1)
        return np.where(names[order][place] == values, order[place], -1)
    number = {name: index for index, name in enumerate(names.tolist())}
    return np.array([number.get(value, -1) for value in values.tolist()], np.int64)


def check_distinct(names: np.ndarray) -> int | None:
    """The index of the first name that occurred before, None where none did."""
    seen = np.ones(len(names), bool)
    seen[
        np.unique(names.astype(str) if names.dtype.kind == "O" else names, return_index=True)[1]
    ] = False
    return first_true(seen)


def _of_one_kind(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors of names, which may only be strings or only be integers."""
    kinds = {part.dtype.kind == "O" for part in (first, second) if len(part)}
    if len(kinds) > 1:
        text, number = (first, second) if first.dtype.kind == "O" else (second, first)
        raise TypeError(
            f"senders and receivers hold strings ({shown(text[0])}) and integers ({number[0]}): "
            "give all names as strings, e.g. np.asarray(..., str)"
        )
    return first, second


def _text(names: np.ndarray) -> np.ndarray:
    return np.array(names.tolist(), str) if names.dtype.kind == "O" else names
