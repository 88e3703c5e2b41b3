"""Softmax and hardmax over groups, whatever a group is: the rows with one id, or the last axis of an array.

```
softmax   out_e = exp(x_e / T) / Σ_{f in the group of e} exp(x_f / T)
hardmax   out_e = 1 for the first of the largest x_f in the group of e, 0 for the others
```

An entry that does not count, or is -inf, weighs 0; a group without any other entry weighs 0 altogether. A NaN that
counts makes its whole group NaN.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int


class Groups(NamedTuple):
    """Reductions from entries to groups, and the way back.

    Attributes:
      largest: the largest entry that counts; anything where there is none.
      first: the least of whole numbers, over all entries.
      total: the sum of all entries.
      spread: for every entry, the number of its group.
    """

    largest: Callable[[Array], Array]
    first: Callable[[Array], Array]
    total: Callable[[Array], Array]
    spread: Callable[[Array], Array]


def softmax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: float | Float[Array, ""],
) -> Float[Array, "..."]:
    """The largest logit of a group is subtracted first, so logits of ±1e30 are fine."""
    counted &= logits != -jnp.inf
    largest = groups.largest(jax.lax.stop_gradient(logits))
    shift = groups.spread(jnp.where(jnp.isfinite(largest), largest, 0))
    unnormalised = jnp.exp(jnp.where(counted, logits - shift, 0) / temperature)
    unnormalised = jnp.where(counted, unnormalised, 0)
    total = groups.total(unnormalised)
    return unnormalised / jnp.where(counted, groups.spread(jnp.where(total == 0, 1, total)), 1)


def hardmax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    position: Int[Array, "..."],
    after_last: int,
) -> Float[Array, "..."]:
    """Of equal logits the one at the least position wins, each position below `after_last`; no gradient."""
    counted &= logits != -jnp.inf
    largest = groups.spread(groups.largest(jax.lax.stop_gradient(logits)))
    is_largest = counted & (logits == largest)
    first = groups.first(jnp.where(is_largest, position, after_last))
    chosen = is_largest & (position == groups.spread(first))
    return jnp.where(counted & jnp.isnan(largest), jnp.nan, chosen.astype(logits.dtype))


def straight_through(hard: Float[Array, "..."], soft: Float[Array, "..."]) -> Float[Array, "..."]:
    """The value of the one with the gradient of the other."""
    return hard + (soft - jax.lax.stop_gradient(soft))


def check_temperature(temperature: ArrayLike, limit: str) -> None:
    """Refuse a known temperature that is not positive, and name its limit 0.

    Raises:
      ValueError: it is not.
      TypeError: it is no number.
    """
    if isinstance(temperature, Tracer):
        return
    if not np.issubdtype(np.asarray(temperature).dtype, np.number):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    if not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"temperature must be positive, got {temperature}; its limit 0 is {limit}")
