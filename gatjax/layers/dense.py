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
from gatjax.layers.parts import check_sizes, features_per_head

_COMBINE = ("concat", "mean", "sum", "max")


_glorot_per_head = nnx.initializers.glorot_uniform(in_axis=0, out_axis=2, batch_axis=1)


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
        check_sizes(in_features=in_features, out_features=out_features, num_heads=num_heads)
        check_sizes(key_features=key_features)
        if combine not in _COMBINE:
            raise ValueError(f"combine must be one of {list(_COMBINE)}, got {combine!r}")
        split = "concat" if combine == "concat" else "mean"
        value_features = features_per_head(out_features, num_heads, split)
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
            split_heads("q", q, self.query[...], axis),
            split_heads("k", k, self.key[...], axis),
        )
        return dense_weights(*rows, mask=mask_of_heads(mask, axis), **options)
