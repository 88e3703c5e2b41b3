"""Sums over the features of each head, written so that the device at hand runs them fast.

Shapes: H heads, C features per head, any leading axes.
"""

import operator
from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gatjax.ops.blocks import on_cpu


def leaky_relu(x: Float[Array, "..."], negative_slope: float) -> Float[Array, "..."]:
    """`jax.nn.leaky_relu`, of rows that are computed on the way.

    XLA stores x on a GPU if the two branches of a choice each read it; a choice between two factors it fuses.

    >>> import jax.numpy as jnp
    >>> leaky_relu(jnp.array([3.0, -2.0]), 0.5).tolist()
    [3.0, -1.0]
    """
    if on_cpu():
        return jax.nn.leaky_relu(x, negative_slope)
    return x * jnp.where(x >= 0, 1.0, negative_slope).astype(x.dtype)


def dot_activated(
    vectors: Float[Array, "H C"],
    activation: Callable[[Array], Array],
    *terms: Float[Array, "*rows H C"] | None,
) -> Float[Array, "*rows H"]:
    """`Σ_c a_hc f(x_hc + y_hc + ...)` of the terms that are there, with f an activation.

    On an accelerator the rows lie flat, since XLA adds up the gradient of a [H, C] over rows [k, H, C] in an order of
    memory in which neighbouring numbers of a row lie far apart, and copies all rows into it and back.

    >>> import jax.numpy as jnp
    >>> dot_activated(jnp.array([[1.0, 10.0]]), jax.nn.relu, jnp.array([[-1.0, 2.0]]), jnp.array([[4.0, 1.0]])).tolist()
    [33.0]
    """
    term = reduce(operator.add, [term for term in terms if term is not None])
    if on_cpu():
        return sum_features(jnp.broadcast_to(vectors, term.shape) * activation(term))
    dtype = jnp.result_type(term, vectors)
    activated = activation(term.reshape(*term.shape[:-2], vectors.size))
    wide = activated.astype(jnp.promote_types(dtype, jnp.float32))
    products = wide * jnp.broadcast_to(vectors.reshape(-1), wide.shape)
    return products.reshape(term.shape).sum(-1).astype(dtype)


def sum_features(x: Float[Array, "*rows H C"]) -> Float[Array, "*rows H"]:
    """Sum over the features of each head, `Σ_c x_hc`.

    A score of your own gains from it on a CPU, as `dot_features` tells.

    >>> import jax.numpy as jnp
    >>> sum_features(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [3.0, 7.0]
    """
    return dot_features(x, jnp.ones(x.shape[-2:], x.dtype))


def dot_features(
    x: Float[Array, "*rows H C"], vectors: Float[Array, "*vectors H C"]
) -> Float[Array, "..."]:
    """Dot product of each head's features with a vector of its own, `Σ_c a_hc x_hc`.

    Several vectors at once, `[..., H, C]`, put their axes between those of the rows and the heads.

    On a CPU this is a product with a block-diagonal matrix [H·C, K·H], which XLA runs several times faster there than
    a reduction over a short last axis, forward and backward. On an accelerator it is that reduction, since XLA fuses it
    with what makes x, which a product needs in memory.

    >>> import jax.numpy as jnp
    >>> dot_features(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[1.0, 10.0], [0.0, 1.0]])).tolist()
    [21.0, 4.0]
    """
    *rows, num_heads, features = x.shape
    several = vectors.shape[:-2]
    if not on_cpu():
        dtype = jnp.result_type(x, vectors)
        width = num_heads * features
        spread = x.reshape(*rows, *(1 for _ in several), width)
        aligned = vectors.reshape(*(1 for _ in rows), *several, width)
        products = spread.astype(jnp.promote_types(dtype, jnp.float32)) * aligned
        return products.reshape(*products.shape[:-1], num_heads, features).sum(-1).astype(dtype)
    heads = jnp.eye(num_heads, dtype=x.dtype)
    matrix = jnp.einsum("...hc,hg->hc...g", vectors, heads).reshape(num_heads * features, -1)
    flat = x.reshape(*rows, num_heads * features)
    out = jnp.matmul(flat, matrix, precision=jax.lax.Precision.HIGHEST)
    return out.reshape(*rows, *several, num_heads)


# Up to this width of a head, one product with a block-diagonal matrix is faster than one for each head.
NARROW = 16


def per_head(
    x: Float[Array, "N H C"], matrices: Float[Array, "P H C D"]
) -> Float[Array, "N P H D"]:
    """Each head's features times P matrices of its own, `x_nh M_ph`.

    >>> import jax.numpy as jnp
    >>> per_head(jnp.array([[[1.0], [2.0]]]), jnp.array([[[[3.0]], [[4.0]]], [[[5.0]], [[6.0]]]])).ravel().tolist()
    [3.0, 8.0, 5.0, 12.0]
    """
    number, num_heads, features, out = matrices.shape
    if features > NARROW:
        return jnp.einsum("nhc,phcd->nphd", x, matrices)
    heads = jnp.eye(num_heads, dtype=matrices.dtype)
    blocks = jnp.einsum("phcd,hg->hcpgd", matrices, heads)
    flat = x.reshape(len(x), num_heads * features) @ blocks.reshape(num_heads * features, -1)
    return flat.reshape(len(x), number, num_heads, out)
