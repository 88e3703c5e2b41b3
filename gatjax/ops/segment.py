"""Reductions over edges grouped by node.

Every function takes rows with leading axis E, the group of each row (`segment_ids`) and the number of
groups (`num_segments`, static). A row counts only if its id lies in `[0, num_segments)` and its `mask`
entry is true; a row that does not count contributes nothing, whatever it holds, not even to a gradient.
A group without rows reduces to 0. Sums are accumulated in float32 at least and returned in the dtype of
the data.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from gatjax.ops.softmax import Groups, check_temperature, hardmax, softmax, straight_through


def over_rows(per_row: Shaped[Array, "E"], like: Shaped[Array, "E ..."]) -> Shaped[Array, "..."]:
    """Append unit axes, so that one entry per row broadcasts against `like`."""
    return per_row.reshape(per_row.shape + (1,) * (like.ndim - 1))


def _ids(segment_ids: Array, data: Shaped[Array, "E ..."], mask: Array | None) -> Int[Array, "E"]:
    """The ids after all checks, wide enough to be compared with any number of groups."""
    if not jnp.issubdtype(segment_ids.dtype, jnp.integer):
        raise TypeError(
            f"segment_ids must be integers, got {segment_ids.dtype}; use segment_ids.astype(jnp.int32)"
        )
    for name, rows in {"segment_ids": segment_ids, "mask": mask}.items():
        if rows is not None and rows.shape != data.shape[:1]:
            raise ValueError(f"{name} must have {data.shape[0]} rows, got {list(rows.shape)}")
    return segment_ids.astype(jnp.promote_types(segment_ids.dtype, jnp.int32))


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
    rows = jnp.where(over_rows(counted, data), data, 0)
    largest = jax.ops.segment_max(rows, ids, num_segments)
    return jnp.where(over_rows(occupied, largest), largest, 0)


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
    check_temperature(temperature, "segment_hardmax")
    counted, groups = _groups(logits, segment_ids, num_segments, mask)
    wide = logits.astype(_sum_dtype(logits.dtype))
    return softmax(wide, counted, groups, temperature).astype(_weight_dtype(logits))


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
    counted, groups = _groups(logits, segment_ids, num_segments, mask)
    row = over_rows(jnp.arange(len(logits), dtype=jnp.int32), logits)
    values = logits.astype(_weight_dtype(logits))
    return hardmax(values, counted, groups, row, len(logits))


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
    soft = segment_softmax(logits, segment_ids, num_segments, mask=mask, temperature=temperature)
    hard = segment_hardmax(logits, segment_ids, num_segments, mask=mask)
    return straight_through(hard, soft)


def _groups(
    logits: Float[Array, "E *rest"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    mask: Bool[Array, "E"] | None,
) -> tuple[Bool[Array, "E ..."], Groups]:
    """The logits that count, and the reductions over the rows of one id."""
    segment_ids = _ids(segment_ids, logits, mask)
    counted = _counted(segment_ids, num_segments, mask)
    ids = jnp.where(counted, segment_ids, num_segments)
    groups = Groups(
        largest=lambda x: segment_max(x, segment_ids, num_segments, mask=mask),
        first=lambda x: jax.ops.segment_min(x, ids, num_segments),
        total=lambda x: segment_sum(x, segment_ids, num_segments),
        spread=lambda x: _take(x, segment_ids),
    )
    return over_rows(counted, logits), groups


def _weight_dtype(logits: Array) -> jnp.dtype:
    inexact = jnp.issubdtype(logits.dtype, jnp.inexact)
    return logits.dtype if inexact else _sum_dtype(logits.dtype)
