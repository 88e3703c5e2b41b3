"""Several heads of dense attention, with projections of their own.

Shapes as in `gatjax.dense`. The axis of the heads comes after the leading axes: `[H, L, V]`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from gatjax.dense import attention_layer, dense_weights, floating, query_and_keys
from gatjax.scores import combine_heads

_COMBINE = ("concat", "mean", "sum", "max")
_glorot_per_head = nnx.initializers.glorot_uniform(in_axis=0, out_axis=2, batch_axis=1)


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
        _split_heads(name, x, kernel, axis)
        for name, x, kernel in (("q", q, w_q), ("k", k, w_k), ("v", v, w_v))
    ]
    if len({x.shape[axis] for x in rows}) != 1:
        raise ValueError(
            f"w_q, w_k and w_v must have the same H, their second axis, got {[x.shape[axis] for x in rows]}"
        )
    return attention_layer(*rows, mask=_mask_of_heads(mask, axis), **options)


def reduce_heads(
    x: Float[ArrayLike, "..."], how: str | Float[ArrayLike, "..."] = "concat", *, axis: int = 0
) -> Float[Array, "..."]:
    """One output from those of all heads.

    ```
    concat: y = x_1 ‖ ... ‖ x_H               mean, sum, max: over the heads, for each feature
    w [H]: y = Σ_h w_h x_h                    w [H, V, U]: y_u = Σ_hv x_hv w_hvu
    ```

    Args:
      x: `[H, L, V]`, or `[H, V]` for a single query, or with other axes where `axis` says which is H.
      how: "concat", "mean", "sum", "max", weights `[H]`, or a tensor `[H, V, U]`, square (U = V) in the textbook.
      axis: the axis of the heads.

    Returns:
      `x` without the axis of the heads, the last axis H·V, V or U.

    Raises:
      ValueError: an unknown name, or an array that does not fit.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> reduce_heads(x, "mean").tolist(), reduce_heads(x, jnp.array([1.0, 10.0])).tolist()
    ([2.0, 3.0], [31.0, 42.0])
    """
    x = jnp.moveaxis(jnp.asarray(x), axis, -2)
    if isinstance(how, str):
        return combine_heads(x, how)
    weights = jnp.asarray(how)
    if weights.ndim != 1:
        return combine_heads(x, weights)
    if len(weights) != x.shape[-2]:
        raise ValueError(
            f"how must hold one weight per head, [{x.shape[-2]}], got [{len(weights)}]"
        )
    return jnp.einsum("...hc,h->...c", x, weights)


class AttentionLayer(nnx.Module):
    """`multi_head_attention` with trainable projections, and heads reduced to one output.

    ```
    out = reduce_h(attention_layer(q W_q,h , k W_k,h , v W_v,h))
    ```

    The attention has no parameters of its own: all that is learned are the projections.

    Args:
      in_features: width F of queries, keys and values.
      out_features: width of the output, of all heads together.
      num_heads: H.
      key_features: width d of queries and keys per head; that of the values by default.
      combine: "concat", "mean", "sum" or "max".
      kernel_init: called with shape (F, H, width); Glorot uniform for each head by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, an unknown `combine`.

    >>> layer = AttentionLayer(4, 6, num_heads=3, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((11, 4))).shape, layer.attention(jnp.ones((11, 4))).shape
    ((11, 6), (3, 11, 11))

    Vaswani et al., Attention Is All You Need, NeurIPS 2017. For a Transformer's layer with biases, dropout and an
    output projection take `nnx.MultiHeadAttention`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        key_features: int | None = None,
        combine: str = "concat",
        kernel_init: Initializer = _glorot_per_head,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}")
        if combine not in _COMBINE:
            raise ValueError(f"combine must be one of {list(_COMBINE)}, got {combine!r}")
        if combine == "concat" and out_features % num_heads:
            raise ValueError(
                f"out_features={out_features} cannot be split over num_heads={num_heads}: with combine="
                '"concat" it is the width of all heads together (use a multiple, or combine="mean")'
            )
        value_features = out_features // num_heads if combine == "concat" else out_features
        width = value_features if key_features is None else key_features
        self.combine = combine
        kernel = lambda width: nnx.Param(
            kernel_init(rngs.params(), (in_features, num_heads, width), param_dtype)
        )
        self.query, self.key, self.value = kernel(width), kernel(width), kernel(value_features)

    def __call__(
        self,
        q: Num[ArrayLike, "..."],
        k: Num[ArrayLike, "..."] | None = None,
        v: Num[ArrayLike, "..."] | None = None,
        **options: Any,
    ) -> Float[Array, "..."]:
        """Queries `[..., M, F]` or `[..., F]`, keys and values `[..., L, F]` -> `[..., M, out]` or `[..., out]`.

        The keys are the queries by default, and the values the keys; the options are those of `attention_layer`.
        """
        k = q if k is None else k
        kernels = self.query[...], self.key[...], self.value[...]
        x = multi_head_attention(q, k, k if v is None else v, *kernels, **options)
        return reduce_heads(x, self.combine, axis=np.ndim(k) - 2)

    def attention(
        self,
        q: Num[ArrayLike, "..."],
        k: Num[ArrayLike, "..."] | None = None,
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        **options: Any,
    ) -> Float[Array, "..."]:
        """The weights `[..., H, M, L]`, or `[..., H, L]` for one query; the options are those of `dense_weights`."""
        q, k = query_and_keys(q, q if k is None else k)
        axis = k.ndim - 2
        rows = (
            _split_heads("q", q, self.query[...], axis),
            _split_heads("k", k, self.key[...], axis),
        )
        return dense_weights(*rows, mask=_mask_of_heads(mask, axis), **options)


def _split_heads(name: str, x: Array, kernel: ArrayLike, axis: int) -> Array:
    """`x W_h` for every head, `[..., F]` to `[..., H, width]`, with the heads moved to `axis`."""
    kernel = jnp.asarray(kernel)
    if kernel.ndim != 3 or kernel.shape[0] != x.shape[-1]:
        raise ValueError(
            f"w_{name} must be [F, H, width] with F = {x.shape[-1]}, the width of {name} {list(x.shape)}, "
            f"got {list(kernel.shape)}"
        )
    return jnp.moveaxis(jnp.einsum("...f,fhc->...hc", x, kernel), -2, axis)


def _mask_of_heads(mask: ArrayLike | None, axis: int) -> Array | None:
    return None if mask is None else jnp.expand_dims(jnp.asarray(mask), axis)
