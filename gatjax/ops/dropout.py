"""Dropout masks as a hash of key and position: any part of a mask can be drawn alone, and drawn again."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, UInt32

from gatjax.ops.bits import bits


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["total"])
@dataclasses.dataclass(frozen=True)
class RowNumbers:
    """Which rows of a larger table the rows of a part are, so that masks are the same whatever the parts.

    Attributes:
      rows: their numbers in the larger table, [n]; those of padding may be any.
      total: how many rows the larger table has.

    >>> part = RowNumbers(jnp.array([4, 0]), 5)
    >>> key, rate = jax.random.key(0), 0.5
    >>> whole, of_part = keep_mask(key, rate, (5, 8)), keep_mask(key, rate, (2, 8), numbers=part)
    >>> bool((of_part == whole[part.rows]).all())
    True
    """

    rows: Int[Array | np.ndarray, "n"]
    total: int

    def entries(self, width: int) -> UInt32[Array, "n width"]:
        """The numbers of the entries of each row, where rows have this width.

        Raises:
          ValueError: the larger table has more of them than 32 bits number.
        """
        check_entries(self.total, width)
        first = jnp.asarray(self.rows).astype(jnp.uint32)[:, None] * np.uint32(width)
        return first + jnp.arange(width, dtype=jnp.uint32)[None]

    def at(self, rows: Int[Array, "k"]) -> "RowNumbers":
        """The same of some of the rows, by their places here."""
        return RowNumbers(jnp.asarray(self.rows).at[rows].get(mode="clip"), self.total)


def check_entries(rows: int, width: int) -> None:
    """Refuse a mask whose entries 32 bits do not number, since it would repeat itself."""
    if rows * width > 2**32:
        raise ValueError(
            f"{rows} rows of {width} entries are more than the 2³² that dropout can tell apart: drop nothing "
            "there (a rate of 0), or take fewer heads or features"
        )


def keep_mask(
    key: Key[Array, ""],
    rate: float,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    *,
    first: int | Int[Array, ""] = 0,
    numbers: RowNumbers | None = None,
) -> Float[Array, "..."]:
    """Dropout as a factor: 0 with probability `rate`, else 1 / (1 - rate).

    Entry n is kept where a hash of n and the key's two words, 32 random bits, falls below the keep rate:
    mix(mix(n + mix(first word)) ^ second word), with mix a permutation of 32-bit words in which every bit of the
    input flips every bit of the output with a chance of nearly one half. It costs an eighth of the threefry hash
    that `jax.random` draws with, and XLA computes it where it is used, in place of storing it.

    Args:
      key: a JAX random key.
      rate: probability of 0, in [0, 1).
      shape: shape of the mask.
      dtype: dtype of the mask.
      first: number of the first entry, where the mask is a part of a larger one.
      numbers: of the rows, where they are any rows of a larger mask.

    Returns:
      An array of the given shape.

    Raises:
      ValueError: a rate outside [0, 1), or a larger mask of more than 2³² entries.

    >>> mask = keep_mask(jax.random.key(0), 0.5, (2, 3))
    >>> sorted(set(mask.ravel().tolist()))
    [0.0, 2.0]
    """
    if numbers is not None:
        if len(numbers.rows) != shape[0]:
            raise ValueError(
                f"{shape[0]} rows cannot be dropped from by the numbers of {len(numbers.rows)}: drop before the rows "
                "are sent, in nodes.sent(...)"
            )
        entries = numbers.entries(math.prod(shape[1:])).reshape(shape)
        return _kept(key, rate, entries, dtype)
    entries = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return _kept(key, rate, entries + jnp.asarray(first).astype(jnp.uint32), dtype)


def _kept(
    key: Key[Array, ""], rate: float, entries: UInt32[Array, "..."], dtype: DTypeLike
) -> Float[Array, "..."]:
    """The factors of entries by their numbers."""
    _check_rate(rate)
    words = jax.random.key_data(key)[-2:]
    drawn = bits(words, entries)
    kept = max(round((1 - rate) * 2**32), 1)
    # <=, since kept itself may be 2³², which no 32 bits hold.
    return jnp.where(drawn <= np.uint32(kept - 1), 2**32 / kept, 0).astype(dtype)


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), got {rate}; a rate of 0 drops nothing")


@partial(jax.tree_util.register_dataclass, data_fields=["key", "numbers"], meta_fields=["rate"])
@dataclasses.dataclass(frozen=True)
class DropoutMask:
    """A mask that is drawn where it is used, some rows at a time, and never held.

    Attributes:
      key: a JAX random key.
      rate: probability of 0, in [0, 1).
      numbers: of the rows, where they are a part of a larger mask.

    >>> mask = DropoutMask(jax.random.key(0), 0.5)
    >>> bool((mask.rows(3, 2, width=8) == keep_mask(mask.key, mask.rate, (5, 8))[3:]).all())
    True
    """

    key: Key[Array, ""]
    rate: float
    numbers: RowNumbers | None = None

    def __post_init__(self):
        _check_rate(self.rate)

    def rows(
        self, start: int | Int[Array, ""], size: int, width: int
    ) -> Float[Array, "size width"]:
        """Rows `start, ..., start + size - 1` of a mask of this width."""
        if self.numbers is not None:
            return self.at(start + jnp.arange(size, dtype=jnp.int32), width)
        return keep_mask(self.key, self.rate, (size, width), first=start * width)

    def at(self, rows: Int[Array, "*rows"], width: int) -> Float[Array, "*rows width"]:
        """The same of any rows of such a mask, by their places in it."""
        if self.numbers is not None:
            numbers = self.numbers.at(rows.reshape(-1))
            drawn = keep_mask(self.key, self.rate, (rows.size, width), numbers=numbers)
            return drawn.reshape(*rows.shape, width)
        entries = rows.astype(jnp.uint32)[..., None] * np.uint32(width)
        columns = jnp.arange(width, dtype=jnp.uint32).reshape((1,) * rows.ndim + (width,))
        return _kept(self.key, self.rate, entries + columns, jnp.float32)
