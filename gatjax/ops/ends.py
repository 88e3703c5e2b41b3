"""Both ends of every edge, safe to gather with."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from gatjax.ops.pairs import PairIds
from gatjax.ops.segment import over_rows


class Ends(NamedTuple):
    """Which rows every edge joins, and which edges count.

    Attributes:
      senders: row of the sender of each edge, in range.
      receivers: row of the receiver, likewise.
      counted: whether the edge counts. One that does not reads the rows of one that does, so that nothing its own
        rows hold reaches a sum or a gradient.
      safe: an edge that counts; E where none does.
      weight: how much each edge counts; all alike where it is None.
      pairs: the rule, where the edges are those between all rows of graphs of one size.
      sums: row of the softmax and the sum that the edge is part of, in range; that of its receiver where it is None.
    """

    senders: Int[Array, "E"]
    receivers: Int[Array, "E"]
    counted: Bool[Array, "E"]
    safe: Int[Array, ""]
    weight: Float[Array, "E"] | None = None
    pairs: PairIds | None = None
    sums: Int[Array, "E"] | None = None

    @property
    def into(self) -> Int[Array, "E"]:
        """Where each edge is summed up."""
        return self.receivers if self.sums is None else self.sums

    def weigh(self, factors: Float[Array, "E *H"]) -> Float[Array, "E *H"]:
        """Factors on the edges, each times the weight of its edge."""
        if self.weight is None:
            return factors
        weight = jnp.where(self.counted, self.weight, 0).astype(factors.dtype)
        return factors * over_rows(weight, factors)


def safe_ends(
    senders: Int[ArrayLike, "E"],
    receivers: Int[ArrayLike, "E"],
    num_senders: int | None,
    num_receivers: int,
    edge_mask: Bool[ArrayLike, "E"] | None = None,
    row_masks: tuple[Bool[ArrayLike, "M"] | None, Bool[ArrayLike, "N"] | None] = (None, None),
) -> Ends:
    """Ids to gather with, from ids that may be out of range, and masks of the edges and of both ends.

    >>> ends = safe_ends(jnp.array([7, 1]), jnp.array([0, 0]), 2, 1)
    >>> ends.senders.tolist(), ends.counted.tolist()
    ([1, 1], [False, True])
    """
    senders, receivers = jnp.asarray(senders), jnp.asarray(receivers)
    counted = (senders >= 0) & (receivers >= 0) & (receivers < num_receivers)
    counted = counted if num_senders is None else counted & (senders < num_senders)
    counted = counted if edge_mask is None else counted & edge_mask
    for mask, ids in zip(row_masks, (senders, receivers), strict=True):
        if mask is not None and jnp.size(mask):
            counted &= _read(mask, ids)
    if not len(senders):
        return Ends(senders, receivers, counted, jnp.zeros((), jnp.int32))
    first = jnp.argmax(counted)
    read = lambda ids: jnp.where(counted, ids, jnp.where(counted[first], ids[first], 0))
    safe = jnp.where(counted[first], first, len(senders))
    return Ends(read(senders), read(receivers), counted, safe)


def _read(mask: Bool[ArrayLike, "N"], ids: Int[Array, "E"]) -> Bool[Array, "E"]:
    return jnp.asarray(mask).at[ids].get(mode="clip", wrap_negative_indices=False)
