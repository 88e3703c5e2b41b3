"""Weights of the members of groups, whatever a group is: the rows with one id, or the last axis of an array.

```
softmax     out_e = exp(x_e / T) / Σ_{f in the group of e} exp(x_f / T)
top_k       out_e = that softmax over the k largest x_f alone, 0 for the others
hardmax     out_e = 1 for the first of the largest x_f in the group of e, 0 for the others
sparsemax   out_e = max(x_e / T - τ, 0),           τ such that the weights of the group sum to 1
entmax      out_e = max(x_e / (2 T) - τ, 0)²,      likewise
```

An entry that does not count, or is -inf, weighs 0; a group without any other entry weighs 0 altogether. A NaN that
counts makes its whole group NaN.
"""

from collections.abc import Callable
from functools import partial
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
      rank: for every entry that counts, how many of its group are larger, or as large and at a lesser position.
      position: of every entry, a whole number.
    """

    largest: Callable[[Array], Array]
    first: Callable[[Array], Array]
    total: Callable[[Array], Array]
    spread: Callable[[Array], Array]
    rank: Callable[[Array], Array]
    position: Int[Array, "..."]


Rule = Callable[[Array, Array, Groups, ArrayLike], Array]


def softmax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
) -> Float[Array, "..."]:
    """The largest logit of a group is subtracted first, so logits of ±1e30 are fine."""
    counted &= logits != -jnp.inf
    unnormalised = jnp.exp(_below_largest(logits, counted, groups) / temperature)
    unnormalised = jnp.where(counted, unnormalised, 0)
    total = groups.total(unnormalised)
    return unnormalised / jnp.where(counted, groups.spread(jnp.where(total == 0, 1, total)), 1)


def hardmax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
) -> Float[Array, "..."]:
    """Of equal logits the one at the least position wins, at any temperature; no gradient."""
    counted &= logits != -jnp.inf
    largest = groups.spread(groups.largest(jax.lax.stop_gradient(logits)))
    is_largest = counted & (logits == largest)
    beyond = jnp.iinfo(groups.position.dtype).max
    first = groups.first(jnp.where(is_largest, groups.position, beyond))
    chosen = is_largest & (groups.position == groups.spread(first))
    return jnp.where(counted & jnp.isnan(largest), jnp.nan, chosen.astype(logits.dtype))


def straight_through(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
) -> Float[Array, "..."]:
    """The value of hardmax with the gradient of the softmax, which infinite logits have none of."""
    soft = softmax(logits, counted, groups, temperature)
    nothing = jnp.where(jnp.isnan(soft), 0, soft - jax.lax.stop_gradient(soft))
    return hardmax(logits, counted, groups, temperature) + nothing


def top_k(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
    k: int,
) -> Float[Array, "..."]:
    """The softmax of the k largest logits of a group, of equal ones those at the least positions."""
    counted &= logits != -jnp.inf
    kept = groups.rank(jnp.where(counted, jax.lax.stop_gradient(logits), -jnp.inf)) < k
    return _spread_nan(
        softmax(logits, counted & kept, groups, temperature), logits, counted, groups
    )


def sparsemax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
) -> Float[Array, "..."]:
    """With w = z - τ at the threshold τ found, out = w - δ where Σ (w - δ) = 1 over the support.

    δ is no more than rounding, but it has the derivatives of the threshold, of every order, and keeps the digits of
    weights much smaller than τ.
    """
    counted &= logits != -jnp.inf
    z = _below_largest(logits, counted, groups) / temperature
    w, support = _above_threshold(z, counted, groups, 1)
    size, excess = _excess(w, support, groups)
    out = w - groups.spread(excess / size)
    return _spread_nan(jnp.where(support & (out > 0), out, 0), logits, counted, groups)


def entmax(
    logits: Float[Array, "..."],
    counted: Bool[Array, "..."],
    groups: Groups,
    temperature: ArrayLike,
) -> Float[Array, "..."]:
    """As `sparsemax`, where out = (w - δ)² and Σ (w - δ)² = 1 over the support."""
    counted &= logits != -jnp.inf
    z = _below_largest(logits, counted, groups) / (2 * temperature)
    w, support = _above_threshold(z, counted, groups, 2)
    size, excess = _excess(w * w, support, groups)
    total = groups.total(w)
    root = jnp.sqrt(jnp.where(total > 0, total * total - size * excess, 1))
    out = w - groups.spread(excess / jnp.where(total > 0, total + root, 1))
    return _spread_nan(jnp.where(support & (out > 0), out * out, 0), logits, counted, groups)


def _below_largest(logits, counted, groups):
    """Logits minus the largest of their group, 0 where they do not count."""
    largest = groups.largest(jax.lax.stop_gradient(logits))
    shift = groups.spread(jnp.where(jnp.isfinite(largest), largest, 0))
    return jnp.where(counted, logits - shift, 0)


def _above_threshold(z, counted, groups, power):
    """By how much each z exceeds the threshold τ of its group, Σ max(z - τ, 0)^power = 1, and whether it does.

    The largest z of a group is 0, so τ lies in [-1, 0). The norm ‖max(z - τ, 0)‖ is convex and falls in τ, so Newton's
    steps from -1 up approach 1 from one side. Each falls short by what a sum of so many entries may be wrong by, and
    the last is the one after which no group's τ rises. There are about ten, and nothing is sorted.
    """
    fixed = jax.lax.stop_gradient(z)
    error = jnp.finfo(z.dtype).eps

    def above(tau):
        w = fixed - groups.spread(tau)
        support = counted & (w > 0)
        return jnp.where(support, w, 0), support

    def step(state):
        tau, _ = state
        w, support = above(tau)
        size, excess = _excess(w**power, support, groups)
        slope = size
        if power == 2:
            norm = jnp.sqrt(1 + jnp.maximum(excess, 0))
            slope = groups.total(w) * (1 + norm) / norm
        share = 1 - jnp.minimum(size * error, 0.5)
        risen = tau + share * jnp.maximum(excess, 0) / jnp.where(slope > 0, slope, 1)
        return risen, (risen > tau).any()

    start = jnp.full_like(groups.total(fixed), -1)
    tau, _ = jax.lax.while_loop(lambda state: state[1], step, (start, jnp.array(True)))
    support = above(tau)[1]
    return jnp.where(support, z - groups.spread(tau), 0), support


def _excess(weights, support, groups):
    """Size of the support, 1 at least, and Σ weights - 1 over it, summed as what each exceeds an equal share by.

    Such a sum stays near 0, and so keeps its digits over a million entries in float32.
    """
    size = jnp.maximum(groups.total(support.astype(weights.dtype)), 1)
    return size, groups.total(jnp.where(support, weights - groups.spread(1 / size), 0))


def _spread_nan(weights, logits, counted, groups):
    """NaN for all of a group in which a logit is not a number, or infinite."""
    largest = groups.spread(groups.largest(jax.lax.stop_gradient(logits)))
    return jnp.where(counted & ~(largest < jnp.inf), jnp.nan, weights)


def along_last(counted: Bool[Array, "..."]) -> Groups:
    """The entries along the last axis are one group."""
    reduce = partial(partial, axis=-1, keepdims=True)
    return Groups(
        largest=reduce(jnp.max, where=counted, initial=-jnp.inf),
        first=reduce(jnp.min, initial=jnp.iinfo(jnp.int32).max),
        total=reduce(jnp.sum),
        spread=lambda x: x,
        rank=lambda x: jnp.argsort(jnp.argsort(-x, axis=-1, stable=True), axis=-1),
        position=jax.lax.broadcasted_iota(jnp.int32, counted.shape, counted.ndim - 1),
    )


RULES: dict[str, Rule] = {
    "softmax": softmax,
    "hardmax": hardmax,
    "straight_through": straight_through,
    "sparsemax": sparsemax,
    "entmax": entmax,
}


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
