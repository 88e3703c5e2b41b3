"""Several heads of dense attention, with trainable projections.

Shapes as in `gatjax.attention.dense`. The axis of the heads comes after the leading axes: `[H, L, V]`.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from gatjax.attention.dense import dense_weights, query_and_keys
from gatjax.attention.multi_head import mask_of_heads, multi_head_attention, split_heads
from gatjax.attention.scores import reduce_heads
from gatjax.layers.checks import check_dtypes, check_sizes, check_widths
from gatjax.layers.parts import features_per_head

_LEARNED = ("weighted", "learned")
_COMBINE = ("concat", "mean", "sum", "max", *_LEARNED)


_glorot_per_head = nnx.initializers.glorot_uniform(in_axis=0, out_axis=2, batch_axis=1)


class AttentionLayer(nnx.Module):
    """`multi_head_attention` with trainable projections, and heads reduced to one output.

    ```
    out = reduce_h(attention_layer(q W_q,h , k W_k,h , v W_v,h))
    ```

    ```
    weighted: reduce_h(x_h) = Σ_h w_h x_h           learned: reduce_h(x_h)_u = Σ_hv x_hv w_hvu
    ```

    The attention has no parameters of its own: all that is learned are the projections, and w where heads are combined
    by one.

    Args:
      in_features: width F of queries, keys and values.
      out_features: width of the output, of all heads together.
      num_heads: H.
      key_features: width d of queries and keys per head; that of the values by default.
      combine: "concat", "mean", "sum" or "max"; "weighted", by a weight w `[H]` per head, which begins as the mean;
        "learned", by a map w `[H, V, V]` with V = `out_features`; or an array `[H]` or `[H, V, out_features]`, with
        which w begins.
      kernel_init: called with shape (F, H, width), and for w with (V, H, V); Glorot uniform for each head by default.
      dtype: of the computation; promoted from rows and parameters by default. The softmax runs in float32 at least.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, an unknown `combine`, or an array that does not fit.

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
        combine: str | Float[ArrayLike, "..."] = "concat",
        kernel_init: Initializer = _glorot_per_head,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_widths(in_features=in_features, out_features=out_features, num_heads=num_heads)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        check_sizes(key_features=key_features)
        begins = None if isinstance(combine, str) else _reduction(combine, num_heads, out_features)
        how = combine if begins is None else _LEARNED[begins.ndim == 3]
        if how not in _COMBINE:
            raise ValueError(
                f"combine must be one of {list(_COMBINE)}, or an array [H] or [H, V, out_features], got {how!r}"
            )
        value_features = features_per_head(
            out_features, num_heads, "concat" if how == "concat" else "mean"
        )
        value_features = (
            begins.shape[1] if begins is not None and begins.ndim == 3 else value_features
        )
        width = value_features if key_features is None else key_features
        self.combine, self.dtype = how, dtype
        draw = lambda *shape: kernel_init(rngs.params(), shape, param_dtype)
        kernel = lambda width: nnx.Param(draw(in_features, num_heads, width))
        self.query, self.key, self.value = kernel(width), kernel(width), kernel(value_features)
        if how == "weighted":
            begins = jnp.full(num_heads, 1 / num_heads) if begins is None else begins
        elif how == "learned" and begins is None:
            begins = jnp.moveaxis(draw(value_features, num_heads, out_features), 1, 0)
        self.heads = None if begins is None else nnx.Param(begins.astype(param_dtype))

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
        rows, kernels = (q, k, k if v is None else v), (self.query, self.key, self.value)
        self._check(q=q, k=k, v=rows[2])
        arrays = [self._cast(x) for x in (*rows, *(kernel[...] for kernel in kernels))]
        x = multi_head_attention(*arrays, **options)
        how = self.combine if self.heads is None else self.heads[...].astype(x.dtype)
        return reduce_heads(x, how, axis=np.ndim(k) - 2)

    def attention(
        self,
        q: Num[ArrayLike, "..."],
        k: Num[ArrayLike, "..."] | None = None,
        *,
        mask: Bool[ArrayLike, "..."] | None = None,
        **options: Any,
    ) -> Float[Array, "..."]:
        """The weights `[..., H, M, L]`, or `[..., H, L]` for one query; the options are those of `dense_weights`."""
        self._check(q=q, k=q if k is None else k)
        q, k = query_and_keys(self._cast(q), self._cast(q if k is None else k))
        axis = k.ndim - 2
        rows = (
            split_heads("q", q, self._cast(self.query[...]), axis),
            split_heads("k", k, self._cast(self.key[...]), axis),
        )
        return dense_weights(*rows, mask=mask_of_heads(mask, axis), **options)

    def _check(self, **rows: Num[ArrayLike, "..."]) -> None:
        width = self.query.shape[0]
        for name, x in rows.items():
            if np.shape(x)[-1:] != (width,):
                raise ValueError(
                    f"{name} must be {width} wide, as the layer was built for, got {list(np.shape(x))}"
                )

    def _cast(self, x: Num[ArrayLike, "..."]) -> Num[ArrayLike, "..."]:
        return x if self.dtype is None else jnp.asarray(x, self.dtype)


def _reduction(combine: Any, num_heads: int, out_features: int) -> Array:
    """The array by which heads are combined, [H] or [H, V, out_features]."""
    w = jnp.asarray(combine)
    fits = w.shape == (num_heads,) or (
        w.ndim == 3 and (w.shape[0], w.shape[2]) == (num_heads, out_features) and w.shape[1] > 0
    )
    if not fits:
        raise ValueError(
            f"combine must be [H] = [{num_heads}] or [H, V, out_features] = [{num_heads}, V, {out_features}], "
            f"got {list(w.shape)}"
        )
    return w
