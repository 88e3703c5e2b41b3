"""Both ends of every edge, safe to gather with."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int


class Ends(NamedTuple):
    """Which rows every edge joins, and which edges count.

    Attributes:
      senders: row of the sender of each edge, in range.
      receivers: row of the receiver, likewise.
      counted: whether the edge counts. One that does not reads the rows of one that does, so that nothing its own
        rows hold reaches a sum or a gradient.
      safe: an edge that counts, if any does.
    """

    senders: Int[Array, "E"]
    receivers: Int[Array, "E"]
    counted: Bool[Array, "E"]
    safe: Int[Array, ""]


def safe_ends(
    senders: Int[ArrayLike, "E"],
    receivers: Int[ArrayLike, "E"],
    num_senders: int | None,
    num_receivers: int,
    edge_mask: Bool[ArrayLike, "E"] | None = None,
) -> Ends:
    """Ids to gather with, from ids that may be out of range and a mask of the edges that take part.

    >>> ends = safe_ends(jnp.array([7, 1]), jnp.array([0, 0]), 2, 1)
    >>> ends.senders.tolist(), ends.counted.tolist()
    ([1, 1], [False, True])
    """
    senders, receivers = jnp.asarray(senders), jnp.asarray(receivers)
    counted = (senders >= 0) & (receivers >= 0) & (receivers < num_receivers)
    counted = counted if num_senders is None else counted & (senders < num_senders)
    counted = counted if edge_mask is None else counted & edge_mask
    if not len(senders):
        return Ends(senders, receivers, counted, jnp.zeros((), jnp.int32))
    safe = jnp.argmax(counted)
    read = lambda ids: jnp.where(counted, ids, jnp.where(counted[safe], ids[safe], 0))
    return Ends(read(senders), read(receivers), counted, safe)
