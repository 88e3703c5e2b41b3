"""Reductions over edges grouped by node.

Every function takes rows with leading axis E, the group of each row (`segment_ids`) and the number of
groups (`num_segments`, static). A row counts only if its id lies in `[0, num_segments)` and its `mask`
entry is true; a row that does not count contributes nothing, whatever it holds, not even to a gradient.
A group without rows reduces to 0. Sums are accumulated in float32 at least and returned in the dtype of
the data.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Shaped

from gatjax.ops.softmax import RULES, Groups, Rule, check_temperature, top_k


def over_rows(per_row: Shaped[Array, "E"], like: Shaped[Array, "E ..."]) -> Shaped[Array, "..."]:
    """Append unit axes, so that one entry per row broadcasts against `like`."""
    return per_row.reshape(per_row.shape + (1,) * (like.ndim - 1))


def wide_ids(ids: Array) -> Array:
    """Ids of a narrow dtype in one that can be compared with any number of rows."""
    return ids.astype(jnp.promote_types(ids.dtype, jnp.int32))


def _ids(segment_ids: Array, data: Shaped[Array, "E ..."], mask: Array | None) -> Int[Array, "E"]:
    """The ids after all checks, wide enough to be compared with any number of groups."""
    if not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        raise TypeError(
            f"segment_ids must be integers, got {segment_ids.dtype}; use segment_ids.astype(jnp.int32)"
        )
    for name, rows in {"segment_ids": segment_ids, "mask": mask}.items():
        if rows is not None and rows.shape != data.shape[:1]:
            raise ValueError(f"{name} must have {data.shape[0]} rows, got {list(rows.shape)}")
    return wide_ids(segment_ids)


def _counted(
    segment_ids: Int[Array, "E"], num_segments: int, mask: Bool[Array, "E"] | None
) -> Bool[Array, "E"]:
    in_range = (segment_ids >= 0) & (segment_ids < num_segments)
    return in_range if mask is None else in_range & mask


def _sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    return jnp.promote_types(dtype, jnp.float32)


def _take(
    per_group: Shaped[Array, "S ..."], segment_ids: Int[Array, "E"]
) -> Shaped[Array, "E ..."]:
    """The group's entry for every row; rows without a group read some group and must be masked."""
    if per_group.shape[0] == 0:
        return jnp.zeros(segment_ids.shape + per_group.shape[1:], per_group.dtype)
    return per_group.at[segment_ids].get(mode="clip", wrap_negative_indices=False)


def segment_sum(
    data: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
) -> Float[Array, "S *rest"]:
    """Sum of each group's rows.

    ```
    out_i = Σ_{e : id_e = i} data_e
    ```

    Args:
      data: rows to add, `[E, ...]`.
      segment_ids: group of each row, `[E]`.
      num_segments: number S of groups.
      mask: rows that count, `[E]`; all by default.

    Returns:
      `[S, ...]` in the dtype of `data`; 0 for an empty group.

    >>> import jax.numpy as jnp
    >>> segment_sum(jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 2, 2]), 3).tolist()
    [1.0, 0.0, 6.0]
    """
    segment_ids = _ids(segment_ids, data, mask)
    counted = _counted(segment_ids, num_segments, mask)
    rows = jnp.where(over_rows(counted, data), data, 0).astype(_sum_dtype(data.dtype))
    ids = jnp.where(counted, segment_ids, num_segments)
    return jax.ops.segment_sum(rows, ids, num_segments).astype(data.dtype)


def segment_mean(
    data: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
) -> Float[Array, "S *rest"]:
    """Mean of each group's rows; arguments as in `segment_sum`.

    >>> import jax.numpy as jnp
    >>> segment_mean(jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 2, 2]), 3).tolist()
    [1.0, 0.0, 3.0]
    """
    segment_ids, dtype = _ids(segment_ids, data, mask), _sum_dtype(data.dtype)
    counted = _counted(segment_ids, num_segments, mask)
    total = segment_sum(data.astype(dtype), segment_ids, num_segments, mask=mask)
    count = segment_sum(counted.astype(dtype), segment_ids, num_segments)
    return (total / over_rows(jnp.maximum(count, 1), total)).astype(data.dtype)


def segment_max(
    data: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
) -> Float[Array, "S *rest"]:
    """Largest entry of each group's rows, and 0 (not -inf) where there is none; arguments as in `segment_sum`.

    >>> import jax.numpy as jnp
    >>> segment_max(jnp.array([-1.0, 2.0, 4.0]), jnp.array([0, 2, 2]), 3).tolist()
    [-1.0, 0.0, 4.0]
    """
    segment_ids = _ids(segment_ids, data, mask)
    counted = _counted(segment_ids, num_segments, mask)
    ids = jnp.where(counted, segment_ids, num_segments)
    occupied = jax.ops.segment_max(counted.astype(jnp.int32), ids, num_segments) > 0
    # Its gradient counts ties, of which half precision holds few.
    rows = jnp.where(over_rows(counted, data), data, 0).astype(_sum_dtype(data.dtype))
    largest = jax.ops.segment_max(rows, ids, num_segments)
    return jnp.where(over_rows(occupied, largest), largest, 0).astype(data.dtype)


def segment_softmax(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "E *rest"]:
    """Softmax within each group.

    ```
    out_e = exp(logit_e / T) / Σ_{f : id_f = id_e} exp(logit_f / T)
    ```

    T is the temperature: towards 0 the softmax becomes `segment_hardmax`, towards infinity uniform. The
    largest logit of the group is subtracted first, so logits of ±1e30 are fine.

    Args:
      logits: `[E, ...]`; axes after the first are independent (heads).
      segment_ids: group of each row, `[E]`.
      num_segments: number S of groups.
      mask: rows that count, `[E]`; all by default.
      temperature: positive.

    Returns:
      Weights `[E, ...]` in the dtype of `logits`; they sum to 1 over each group, and are 0 on rows that do not count.

    Raises:
      ValueError: `temperature` is not positive.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(100 * segment_softmax(jnp.array([2.0, 0.5, 1.0]), jnp.array([0, 0, 0]), 1)))
    [63. 14. 23.]
    """
    return _weights(RULES["softmax"], logits, segment_ids, num_segments, mask, temperature)


def segment_hardmax(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
) -> Float[Array, "E *rest"]:
    """One-hot of the largest logit in each group; ties go to the lowest row index.

    The limit of `segment_softmax` at temperature 0. Its gradient is 0 everywhere. Arguments as in `segment_softmax`.

    >>> import jax.numpy as jnp
    >>> segment_hardmax(jnp.array([1.0, 3.0, 3.0, 0.0]), jnp.array([0, 0, 0, 1]), 2).tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    return _weights(RULES["hardmax"], logits, segment_ids, num_segments, mask)


def segment_straight_through(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "E *rest"]:
    """`segment_hardmax` forward, with the gradient of `segment_softmax`: hard choices that can be learned.

    ```
    out = hardmax(logit)        d out / d logit = d softmax(logit / T) / d logit
    ```

    The estimate is biased: the gradient is that of another function. Arguments as in `segment_softmax`; ties go to the
    lowest row index in the value, and are shared in the gradient.

    >>> import jax.numpy as jnp
    >>> ids, probe = jnp.array([0, 0, 0]), jnp.array([1.0, 0.0, 0.0])
    >>> choose = lambda logits: segment_straight_through(logits, ids, 1)
    >>> choose(jnp.zeros(3)).tolist()
    [1.0, 0.0, 0.0]
    >>> print(jnp.round(9 * jax.grad(lambda logits: choose(logits) @ probe)(jnp.zeros(3))))
    [ 2. -1. -1.]

    Bengio, Léonard, Courville, Estimating or Propagating Gradients Through Stochastic Neurons, 2013; there the choice
    is drawn, here it is the largest.
    """
    return _weights(RULES["straight_through"], logits, segment_ids, num_segments, mask, temperature)


def segment_top_k(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    k: int,
    mask: Bool[Array, "E"] | None = None,
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "E *rest"]:
    """Softmax of the k largest logits of each group; the others weigh 0.

    With k no less than the largest group it is `segment_softmax`, with k = 1 all weight is on one row. Of equal logits
    those of the lowest row indices are kept. Logits that are left out get no gradient. The other arguments are as in
    `segment_softmax`; k is static.

    Raises:
      TypeError, ValueError: k is no whole number from 1 on; a temperature that is not positive.

    >>> import jax.numpy as jnp
    >>> segment_top_k(jnp.array([1.0, 3.0, 1.0, 3.0]), jnp.array([0, 0, 0, 0]), 1, k=2).tolist()
    [0.0, 0.5, 0.0, 0.5]

    Shazeer et al., Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer, ICLR 2017, there
    with noise.
    """
    check_k(k)
    rule = partial(top_k, k=k)
    return _weights(rule, logits, segment_ids, num_segments, mask, temperature)


def segment_sparsemax(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "E *rest"]:
    """Sparsemax within each group: the weights that sum to 1 nearest to the logits, many of them exactly 0.

    ```
    out_e = max(logit_e / T - τ, 0),        τ such that the weights of the group sum to 1
    ```

    Its gradient is `g_e - mean of g` over the rows that weigh more than 0, and 0 for the others. Arguments as in
    `segment_softmax`.

    >>> import jax.numpy as jnp
    >>> segment_sparsemax(jnp.array([2.0, 1.5, 0.0]), jnp.array([0, 0, 0]), 1).tolist()
    [0.75, 0.25, 0.0]

    Martins, Astudillo, From Softmax to Sparsemax, ICML 2016. Newton's method finds the support where they sort; both
    are exact.
    """
    return _weights(RULES["sparsemax"], logits, segment_ids, num_segments, mask, temperature)


def segment_entmax(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    *,
    mask: Bool[Array, "E"] | None = None,
    temperature: float | Float[Array, ""] = 1.0,
) -> Float[Array, "E *rest"]:
    """Entmax with α = 1.5 within each group: between softmax (α = 1) and sparsemax (α = 2), with weights of exactly 0.

    ```
    out_e = max(logit_e / (2 T) - τ, 0)²,        τ such that the weights of the group sum to 1
    ```

    Arguments as in `segment_softmax`.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(100 * segment_entmax(jnp.array([0.4, 0.0, -3.0]), jnp.array([0, 0, 0]), 1)))
    [64. 36.  0.]

    Peters, Niculae, Martins, Sparse Sequence-to-Sequence Models, ACL 2019.
    """
    return _weights(RULES["entmax"], logits, segment_ids, num_segments, mask, temperature)


def check_k(k: int) -> None:
    """Refuse a number of rows that is no whole number from 1 on."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"k must be a whole number, got {k!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _weights(
    rule: Rule,
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    mask: Bool[Array, "E"] | None,
    temperature: ArrayLike = 1.0,
) -> Float[Array, "E *rest"]:
    """The rule on the rows of each id, in float32 at least, and in the dtype of the logits."""
    check_temperature(temperature, "segment_hardmax")
    counted, groups = groups_of(logits, segment_ids, num_segments, mask)
    wide = logits.astype(_sum_dtype(logits.dtype))
    inexact = jnp.issubdtype(logits.dtype, jnp.inexact)
    return rule(wide, counted, groups, temperature).astype(logits.dtype if inexact else wide.dtype)


def groups_of(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    mask: Bool[Array, "E"] | None,
) -> tuple[Bool[Array, "E ..."], Groups]:
    """The entries that count, and the reductions over the rows of one id."""
    segment_ids = _ids(segment_ids, logits, mask)
    counted = _counted(segment_ids, num_segments, mask)
    ids = jnp.where(counted, segment_ids, num_segments)
    groups = Groups(
        largest=lambda x: segment_max(x, segment_ids, num_segments, mask=mask),
        first=lambda x: jax.ops.segment_min(x, ids, num_segments),
        total=lambda x: segment_sum(x, segment_ids, num_segments),
        spread=lambda x: _take(x, segment_ids),
        rank=lambda x: _rank(x, ids, num_segments),
        position=over_rows(jnp.arange(len(logits), dtype=jnp.int32), logits),
    )
    return over_rows(counted, logits), groups


def _rank(
    rows: Float[Array, "E *rest"], ids: Int[Array, "E"], num_segments: int
) -> Int[Array, "E *rest"]:
    """How many rows of the same id, in [0, num_segments], are larger, or as large and come first."""
    columns = rows.reshape(len(rows), math.prod(rows.shape[1:])).T
    keys = jnp.broadcast_to(ids, columns.shape), -columns
    row = jax.lax.broadcasted_iota(jnp.int32, columns.shape, 1)
    order = jax.lax.sort((*keys, row), num_keys=2, is_stable=True)[2]
    size = jax.ops.segment_sum(jnp.ones_like(ids), ids, num_segments + 1)
    start = jnp.sort(ids)
    rank = jnp.arange(len(ids), dtype=ids.dtype) - _take(jnp.cumsum(size) - size, start)
    place = lambda order: jnp.zeros_like(rank).at[order].set(rank, unique_indices=True)
    return jax.vmap(place)(order).T.reshape(rows.shape)
