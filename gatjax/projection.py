"""Per-head projections of node features, dense or sparse, and dropout masks.

Sparse features are a `BCOO` [N, F]: a bag of words stays sparse until the first projection has made it
dense and narrow. Dropout then acts on the stored entries: the zeros it would drop are zeros anyway.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from gatjax.blocked import BLOCK_NUMBERS, gather, read, scatter_add, walk

Features = BCOO | Array | np.ndarray


def keep_mask(
    key: Key[Array, ""], rate: float, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Dropout as a factor: 0 with probability `rate`, else 1 / (1 - rate).

    One random word serves two entries, 16 bits each, so the rate is rounded to a multiple of 2⁻¹⁶; the
    factor is the inverse of the rounded keep rate, hence 1 in the mean.

    Args:
      key: a JAX random key.
      rate: probability of 0, in [0, 1).
      shape: shape of the mask.
      dtype: dtype of the mask.

    Returns:
      An array of the given shape.

    >>> mask = keep_mask(jax.random.key(0), 0.5, (2, 3))
    >>> sorted(set(mask.ravel().tolist()))
    [0.0, 2.0]
    """
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    draws = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size].reshape(shape)
    kept = max(round((1 - rate) * 2**16), 1)
    # <=, since kept itself may be 2¹⁶, which no 16 bits hold.
    return jnp.where(draws <= kept - 1, 2**16 / kept, 0).astype(dtype)


def drop_entries(features: Features, key: Key[Array, ""] | None, rate: float) -> Features:
    """Dropout of feature entries; of the stored ones, where the features are sparse.

    >>> drop_entries(jnp.ones((1, 2)), None, 0.5).tolist()
    [[1.0, 1.0]]
    """
    if key is None or rate == 0:
        return features
    values = features.data if isinstance(features, BCOO) else jnp.asarray(features)
    values = values.astype(jnp.result_type(values, jnp.bfloat16))
    values = values * keep_mask(key, rate, values.shape, values.dtype)
    return _with_data(features, values) if isinstance(features, BCOO) else values


def project(features: Features, kernel: Float[Array, "F *out"]) -> Float[Array, "N *out"]:
    """Product of features [N, F], dense or sparse, with a kernel [F, ...].

    ```
    z_i = Σ_f x_if W_f
    ```

    Args:
      features: `[N, F]`.
      kernel: `[F, ...]`, for heads `[F, H, C]`.

    Returns:
      `[N, ...]`.

    >>> dense = jnp.array([[0.0, 2.0], [3.0, 0.0]])
    >>> kernel = jnp.array([[1.0], [10.0]])
    >>> project(dense, kernel).tolist(), project(BCOO.fromdense(dense), kernel).tolist()
    ([[20.0], [3.0]], [[20.0], [3.0]])
    """
    flat = kernel.reshape(kernel.shape[0], math.prod(kernel.shape[1:]))
    if isinstance(features, BCOO):
        rows, columns = features.indices[:, 0], features.indices[:, 1]
        product: Array = sparse_product(features.shape[0], features.data, rows, columns, flat)
    else:
        product = jnp.matmul(features, flat)
    return product.reshape(features.shape[0], *kernel.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def sparse_product(
    num_rows: int,
    data: Float[Array, "nonzeros"],
    rows: Int[Array, "nonzeros"],
    columns: Int[Array, "nonzeros"],
    kernel: Float[Array, "F out"],
) -> Float[Array, "N out"]:
    """Product of a sparse matrix, given by its entries, with a dense one.

    ```
    z_i = Σ_{entries (i, f)} x_if W_f
    ```

    The entries are walked in blocks, like the edges in `gatjax.blocked`: each block's rows stay in cache,
    and XLA cannot fuse what made the data (dropout, say) into every read of it. Entries out of range, with
    which a BCOO may be padded, count as 0.
    """
    return _add_rows(num_rows, data, rows, columns, kernel)


def _product_fwd(num_rows, data, rows, columns, kernel):
    return _add_rows(num_rows, data, rows, columns, kernel), (data, rows, columns, kernel)


def _product_bwd(num_rows, residuals, gradient):
    data, rows, columns, kernel = residuals
    inside = (rows >= 0) & (rows < num_rows) & (columns >= 0) & (columns < len(kernel))
    pairs = gather(gradient, _clip(rows, num_rows)) * gather(kernel, _clip(columns, len(kernel)))
    d_data = jnp.where(inside, pairs.sum(-1), 0)
    d_kernel = _add_rows(len(kernel), data, columns, rows, gradient)
    return d_data.astype(data.dtype), None, None, d_kernel.astype(kernel.dtype)


sparse_product.defvjp(_product_fwd, _product_bwd)


def _add_rows(num_out: int, data: Array, to: Array, source: Array, table: Array) -> Array:
    """`out[to_e] += data_e table[source_e]` over all entries e."""
    num_entries, width = len(data), table.shape[1]
    dtype = jnp.promote_types(table.dtype, jnp.float32)
    out = jnp.zeros((num_out, width), dtype)
    if num_entries == 0 or 0 in out.shape or 0 in table.shape:
        return out.astype(table.dtype)
    block_size = min(max(BLOCK_NUMBERS // width, 256), num_entries)

    def step(start, fresh, out):
        x, i, j = read((data, to, source), start, block_size)
        counted = fresh & (i >= 0) & (i < num_out) & (j >= 0) & (j < len(table))
        x = jnp.where(counted, x, 0).astype(dtype)
        rows = gather(table, jnp.where(counted, j, 0)).astype(dtype)
        return scatter_add(out, jnp.where(counted, i, 0), x[:, None] * rows)

    return walk(num_entries, block_size, step, out).astype(table.dtype)


def _clip(ids, size):
    return jnp.clip(ids, 0, max(size - 1, 0))


def promote(dtype: DTypeLike | None, features: Features, *parameters: Array) -> tuple:
    """Features and parameters in one dtype: the given one, or that which JAX promotes them all to."""
    if dtype is None:
        dtype = jnp.result_type(jax.dtypes.canonicalize_dtype(features.dtype), *parameters)
    return tuple(_cast(array, dtype) for array in (features, *parameters))


def _cast(features: Features, dtype: DTypeLike) -> Features:
    if isinstance(features, BCOO):
        return _with_data(features, features.data.astype(dtype))
    return jnp.asarray(features, dtype)


def _with_data(features: BCOO, data: Array) -> BCOO:
    return BCOO(
        (data, features.indices),
        shape=features.shape,
        indices_sorted=features.indices_sorted,
        unique_indices=features.unique_indices,
    )
