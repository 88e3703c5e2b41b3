"""Places among the neighbours of nodes, drawn without replacement in a fixed number of steps, by NumPy or JAX alike.

Shapes: n nodes that are drawn for; f places of each. Everything is whole numbers, so that the bits are the same.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from gatjax.ops.bits import bits, multiply_high


def different(xp: Any, key: Key[Array, ""], degree: Any, fanout: int, first: int) -> Any:
    """[n, f] different places below each degree, every set with the same chance; where it is at most f, 0, 1, ...

    Args:
        xp: NumPy or `jax.numpy`.
        key: a JAX random key.
        degree: how many places there are, uint32 [n].
        fanout: f.
        first: number of the first draw.

    Floyd's algorithm: of d places, for t = d - f, ..., d - 1 draw one of the first t + 1, or t itself if that one is
    drawn already.
    """
    random = _random(xp, key, len(degree), fanout, first)
    picks: list[Any] = []
    for number in range(fanout):
        last = degree - np.uint32(fanout - number)
        pick = multiply_high(random(number), last + np.uint32(1))
        taken = xp.zeros(len(degree), bool)
        for earlier in picks:
            taken = taken | (earlier == pick)
        picks.append(xp.where(taken, last, pick))
    return _or_all(xp, picks, degree)


def by_weight(
    xp: Any,
    key: Key[Array, ""],
    start: Any,
    degree: Any,
    heights: Any,
    steps: int,
    fanout: int,
    first: int,
) -> Any:
    """[n, f] different places, one after the other, each by its weight among those that are left.

    The weights of a node's places stand on each other: place k reaches from `heights[start + k - 1]` to
    `heights[start + k]`. A draw is a height below what is left; each piece that was taken below it lifts it.

    Args:
        xp, key, fanout, first: as in `different`.
        start, degree: where the places of each node start, and how many there are.
        heights, steps: as in `Neighbors`.
    """
    random = _random(xp, key, len(degree), fanout, first)
    at = lambda place: xp.asarray(heights)[xp.clip(start + place, 0, len(heights) - 1)]
    place_of = lambda height: _search(xp, at, height, degree, steps)
    zero = xp.zeros(len(degree), np.uint32)
    left = xp.where(degree > 0, at(degree.astype(start.dtype) - 1), zero)
    picks: list[Any] = []
    pieces: list[tuple[Any, Any]] = []
    for number in range(fanout):
        height = multiply_high(random(number), left)
        for bottom, size in pieces:
            height = height + xp.where(height >= bottom, size, zero)
        pick = place_of(height)
        bottom = xp.where(pick > 0, at(pick - 1), zero)
        size = xp.where(left > 0, at(pick) - bottom, zero)
        left = left - size
        pieces = _inserted(xp, pieces, (bottom, size))
        picks.append(pick.astype(np.uint32))
    return _or_all(xp, picks, degree)


def _random(xp: Any, key: Key[Array, ""], count: int, fanout: int, first: int) -> Any:
    """Of each number below f, 32 random bits for every node."""
    words = xp.asarray(jax.random.key_data(key))[-2:]
    draw = xp.asarray(first + np.arange(count) * fanout, np.uint32)
    return lambda number: bits(words, draw + np.uint32(number))


def _or_all(xp: Any, picks: list[Any], degree: Any) -> Any:
    """What was picked, or all places where there are no more than picks."""
    in_order = np.arange(len(picks), dtype=np.uint32)[None]
    return xp.where((degree > len(picks))[:, None], xp.stack(picks, axis=1), in_order)


def _search(xp: Any, at: Any, height: Any, degree: Any, steps: int) -> Any:
    """The first place that reaches over a height."""

    def halve(_: Any, bounds: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = bounds
        middle = (low + high) // 2
        over = at(middle) > height
        return xp.where(over | (low >= high), low, middle + 1), xp.where(over, middle, high)

    bounds = xp.zeros(len(degree), np.int32), xp.maximum(degree.astype(np.int32) - 1, 0)
    if xp is np:
        for step in range(steps):
            bounds = halve(step, bounds)
        return bounds[0]
    return jax.lax.fori_loop(0, steps, halve, bounds)[0]


def _inserted(
    xp: Any, pieces: list[tuple[Any, Any]], piece: tuple[Any, Any]
) -> list[tuple[Any, Any]]:
    """Pieces from the lowest to the highest, with another."""
    ordered = []
    for known in pieces:
        lower = piece[0] < known[0]
        swap = lambda a, b, lower=lower: (xp.where(lower, a, b), xp.where(lower, b, a))
        pairs = [swap(new, old) for new, old in zip(piece, known, strict=True)]
        ordered.append(tuple(pair[0] for pair in pairs))
        piece = tuple(pair[1] for pair in pairs)
    return [*ordered, piece]
