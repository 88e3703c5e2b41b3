"""Both ends of every edge, safe to gather with."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Int


class Ends(NamedTuple):
    """Both ends of every edge, safe to gather with, which edges count, and one that does (if any)."""

    senders: Int[Array, "E"]
    receivers: Int[Array, "E"]
    counted: Bool[Array, "E"]
    safe: Int[Array, ""]


def _ends(
    senders: Int[ArrayLike, "E"],
    receivers: Int[ArrayLike, "E"],
    num_senders: int | None,
    num_receivers: int,
    edge_mask: Bool[ArrayLike, "E"] | None = None,
) -> Ends:
    """Ids to gather_wide with: an edge that does not count reads the rows of the first one that does."""
    senders, receivers = jnp.asarray(senders), jnp.asarray(receivers)
    counted = (senders >= 0) & (receivers >= 0) & (receivers < num_receivers)
    counted = counted if num_senders is None else counted & (senders < num_senders)
    counted = counted if edge_mask is None else counted & edge_mask
    if not len(senders):
        return Ends(senders, receivers, counted, jnp.zeros((), jnp.int32))
    safe = jnp.argmax(counted)
    read = lambda ids: jnp.where(counted, ids, jnp.where(counted[safe], ids[safe], 0))
    return Ends(read(senders), read(receivers), counted, safe)
