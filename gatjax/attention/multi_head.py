"""Several heads of dense attention side by side.

Shapes as in `gatjax.attention.dense`. The axis of the heads comes after the leading axes: `[H, L, V]`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from gatjax.attention.dense import attention_layer, floating, query_and_keys


def multi_head_attention(
    q: Num[ArrayLike, "..."],
    k: Num[ArrayLike, "..."],
    v: Num[ArrayLike, "..."],
    w_q: Float[ArrayLike, "F_q H d_q"],
    w_k: Float[ArrayLike, "F_k H d_k"],
    w_v: Float[ArrayLike, "F_v H V"],
    *,
    mask: Bool[ArrayLike, "..."] | None = None,
    **options: Any,
) -> Float[Array, "..."]:
    """H attention layers side by side, each with projections of its own.

    ```
    out_h = attention_layer(q W_q,h , k W_k,h , v W_v,h)
    ```

    Args:
      q: `[..., F_q]` for one query, or `[..., M, F_q]`.
      k: keys, `[..., L, F_k]`.
      v: values, `[..., L, F_v]`.
      w_q, w_k, w_v: `[F_q, H, d]`, `[F_k, H, d]` and `[F_v, H, V]`.
      mask: as in `dense_weights`, the same for all heads.
      **options: `mechanism`, `normalize` and `temperature` of `attention_layer`.

    Returns:
      `[..., H, V]` for one query, or `[..., H, M, V]`; see `reduce_heads`.

    Raises:
      ValueError: as `attention_layer`, and kernels that do not fit.

    >>> x, kernel = jnp.ones((11, 4)), jnp.ones((4, 3, 2))
    >>> multi_head_attention(x, x, x, kernel, kernel, kernel).shape
    (3, 11, 2)
    >>> multi_head_attention(x[0], x, x, kernel, kernel, kernel).shape
    (3, 2)

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; its output projection is `reduce_heads`.
    """
    q, k = query_and_keys(q, k)
    v = floating(v)
    if v.ndim != k.ndim:
        raise ValueError(
            f"v must be [..., L, F_v] beside k {list(k.shape)}, got {list(v.shape)}; numbers as values "
            "need v[..., None]"
        )
    axis = k.ndim - 2
    rows = [
        split_heads(name, x, kernel, axis)
        for name, x, kernel in (("q", q, w_q), ("k", k, w_k), ("v", v, w_v))
    ]
    if len({x.shape[axis] for x in rows}) != 1:
        raise ValueError(
            f"w_q, w_k and w_v must have the same H, their second axis, got {[x.shape[axis] for x in rows]}"
        )
    return attention_layer(*rows, mask=mask_of_heads(mask, axis), **options)


def split_heads(name: str, x: Array, kernel: ArrayLike, axis: int) -> Array:
    """`x W_h` for every head, `[..., F]` to `[..., H, width]`, with the heads moved to `axis`."""
    kernel = jnp.asarray(kernel)
    if kernel.ndim != 3 or kernel.shape[0] != x.shape[-1]:
        raise ValueError(
            f"w_{name} must be [F, H, width] with F = {x.shape[-1]}, the width of {name} {list(x.shape)}, "
            f"got {list(kernel.shape)}"
        )
    return jnp.moveaxis(jnp.einsum("...f,fhc->...hc", x, kernel), -2, axis)


def mask_of_heads(mask: ArrayLike | None, axis: int) -> Array | None:
    return None if mask is None else jnp.expand_dims(jnp.asarray(mask), axis)
