"""Per-head projections of node features, dense or sparse, and their dropout.

Sparse features are a `BCOO` [N, F]: a bag of words stays sparse until the first projection has made it
dense and narrow. Dropout then acts on the stored entries: the zeros it would drop are zeros anyway.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from gatjax.ops.blocks import (
    ACCELERATOR_BLOCK_NUMBERS,
    ceil_div,
    gather,
    mask_rows,
    on_cpu,
    read,
    rows_per_block,
    scatter_add,
    walk,
    write,
)
from gatjax.ops.dropout import RowNumbers, keep_mask
from gatjax.ops.linear import linear_map

Features = BCOO | Array | np.ndarray


def drop_entries(
    features: Features, key: Key[Array, ""] | None, rate: float, numbers: RowNumbers | None = None
) -> Features:
    """Dropout of feature entries; of the stored ones, where the features are sparse.

    Args:
      features: `[N, ...]`.
      key: a JAX random key; None drops nothing.
      rate: probability of 0.
      numbers: of the rows, where they are a part of a larger table.

    Raises:
      ValueError: sparse features with numbers.

    >>> drop_entries(jnp.ones((1, 2)), None, 0.5).tolist()
    [[1.0, 1.0]]
    """
    if key is None or rate == 0:
        return features
    _check_dense(features, numbers)
    values = features.data if isinstance(features, BCOO) else jnp.asarray(features)
    values = values.astype(jnp.result_type(values, jnp.bfloat16))
    values = values * keep_mask(key, rate, values.shape, values.dtype, numbers=numbers)
    return _with_data(features, values) if isinstance(features, BCOO) else values


def _check_dense(features: Features, numbers: RowNumbers | None) -> None:
    if isinstance(features, BCOO) and numbers is not None:
        raise ValueError(
            "dropout of sparse features goes by the places of their entries, which a part of a table does not know: "
            "pass features.todense(), or drop nothing of the inputs"
        )


def keep_rows(features: Features, counted: Bool[ArrayLike, "N"] | None) -> Features:
    """Zeros in the rows that do not count, whatever they hold; all count where there is no mask.

    >>> keep_rows(jnp.array([[1.0], [jnp.nan]]), jnp.array([True, False])).tolist()
    [[1.0], [0.0]]
    """
    if counted is None:
        return features
    counted = jnp.asarray(counted)
    if not isinstance(features, BCOO):
        return mask_rows(jnp.asarray(features), counted)
    rows = features.indices[:, 0]
    of_row = counted.at[rows].get(mode="fill", fill_value=False)
    return _with_data(features, jnp.where(of_row, features.data, 0))


class HeadDropout(NamedTuple):
    """Features [N, F] of which every head drops its own entries, when it projects them."""

    features: Features
    key: Key[Array, ""]
    rate: float
    numbers: RowNumbers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.features.shape


def project(
    features: Features | HeadDropout, kernel: Float[Array, "F *out"]
) -> Float[Array, "N *out"]:
    """Product of features [N, F], dense or sparse, with a kernel [F, ...].

    ```
    z_i  = Σ_f x_if W_f
    z_ih = Σ_f m_ifh x_if W_fh        with a dropout mask m per head
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
    if isinstance(features, HeadDropout):
        return _project_dropped(*features, kernel)
    num_rows, num_outputs = features.shape[0], math.prod(kernel.shape[1:])
    if isinstance(features, BCOO) and _as_dense(features):
        features = _fill(features).astype(kernel.dtype)
    if isinstance(features, BCOO):
        one_head = kernel.reshape(kernel.shape[0], 1, num_outputs)
        product: Array = sparse_product(num_rows, 0.0, *_entries(features), one_head, None)
    else:
        product = jnp.matmul(features, kernel.reshape(kernel.shape[0], num_outputs))
    return product.reshape(num_rows, *kernel.shape[1:])


def _project_dropped(
    features: Features,
    key: Key[Array, ""],
    rate: float,
    numbers: RowNumbers | None,
    kernel: Float[Array, "F H C"],
) -> Float[Array, "N H C"]:
    """The product with a mask per head, drawn and redrawn where it is used: [N, F, H] is never held."""
    _check_dense(features, numbers)
    if isinstance(features, BCOO):
        return sparse_product(features.shape[0], rate, *_entries(features), kernel, key)

    @jax.checkpoint
    def project_row(row_and_index):
        row, index = row_and_index
        mask = keep_mask(jax.random.fold_in(key, index), rate, kernel.shape[1::-1], row.dtype)
        return jnp.einsum("hf,fhc->hc", mask * row[None, :], kernel)

    rows = rows_per_block(math.prod(kernel.shape[:2]), fewest=1)
    indices = jnp.arange(features.shape[0]) if numbers is None else jnp.asarray(numbers.rows)
    return jax.lax.map(project_row, (jnp.asarray(features), indices), batch_size=rows)


def _as_dense(features: BCOO) -> bool:
    """Whether an accelerator multiplies them sooner as a matrix, which it fills for each product, and has the room."""
    return not on_cpu() and math.prod(features.shape) <= ACCELERATOR_BLOCK_NUMBERS


def _fill(features: BCOO) -> Float[Array, "N F"]:
    """The dense matrix; entries out of range, with which a BCOO may be padded, are left out."""
    data, rows, columns = _entries(features)
    empty = jnp.zeros(features.shape, jnp.promote_types(data.dtype, jnp.float32))
    places = empty.at[rows, columns]
    return places.add(data.astype(empty.dtype), mode="drop", wrap_negative_indices=False)


def _entries(features: BCOO) -> tuple[Array, Array, Array]:
    return features.data, features.indices[:, 0], features.indices[:, 1]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def sparse_product(
    num_rows: int,
    rate: float,
    data: Float[Array, "nonzeros"],
    rows: Int[Array, "nonzeros"],
    columns: Int[Array, "nonzeros"],
    kernel: Float[Array, "F H C"],
    key: Key[Array, ""] | None,
) -> Float[Array, "N H C"]:
    """Product of a sparse matrix, given by its entries, with a dense one, and dropout per head where there is a key.

    ```
    z_ih = Σ_{entries (i, f)} m_ifh x_if W_fh
    ```

    The entries are walked in blocks, like the edges in `gatjax.ops.blocks`: each block's rows stay in cache,
    and XLA cannot fuse what made the data (dropout, say) into every read of it. A block draws its part of
    the mask m, and draws it again for the gradient. Entries out of range, with which a BCOO may be padded,
    count as 0.
    """
    return _add_rows(num_rows, rate, data, rows, columns, kernel, key)


@sparse_product.defjvp
def _derivative(num_rows, rate, primals, tangents):
    data, rows, columns, kernel, key = primals

    def push_forward(along):
        d_data, d_kernel = along
        by_data = _add_rows(num_rows, rate, d_data, rows, columns, kernel, key)
        return by_data + _add_rows(num_rows, rate, data, rows, columns, d_kernel, key)

    def pull_back(gradient):
        d_kernel = _add_rows(len(kernel), rate, data, columns, rows, gradient, key)
        d_data = _multiply_rows(rate, data, rows, columns, gradient, kernel, key)
        return d_data, d_kernel.astype(kernel.dtype)

    def at_once(data, kernel):
        return _product_at_once(num_rows, rate, data, rows, columns, kernel, key)

    out = sparse_product(num_rows, rate, *primals)
    plain = lambda along: jax.jvp(at_once, (data, kernel), along)[1]
    return out, linear_map(push_forward, pull_back, plain, (tangents[0], tangents[3]), out)


def _product_at_once(num_rows, rate, data, rows, columns, kernel, key):
    """`sparse_product` without blocks, under the same masks."""
    counted = _inside(rows, num_rows) & _inside(columns, len(kernel))
    width, dtype = math.prod(kernel.shape[1:]), jnp.promote_types(kernel.dtype, jnp.float32)
    out = jnp.zeros((num_rows, *kernel.shape[1:]), dtype)
    if 0 in kernel.shape or not num_rows or not len(data):
        return out.astype(kernel.dtype)
    size = min(rows_per_block(width), len(data))
    block = jnp.arange(len(data)) // size
    start = jnp.minimum(jnp.arange(ceil_div(len(data), size)) * size, len(data) - size)
    masks = jax.vmap(lambda start: _mask(key, rate, start, size, kernel))(start)
    mask = masks[block, jnp.arange(len(data)) - start[block] if key is not None else 0]
    x = (jnp.where(counted, data, 0).astype(dtype)[:, None] * mask)[:, :, None]
    terms = x * gather(kernel, jnp.where(counted, columns, 0)).astype(dtype)
    ids = jnp.where(counted, rows, num_rows)
    return out.at[ids].add(terms, mode="drop").astype(kernel.dtype)


def _add_rows(
    num_out: int, rate: float, data: Array, to: Array, source: Array, table: Array, key: Any
) -> Array:
    """`out[to_e] += m_e data_e table[source_e]` over all entries e."""
    width = math.prod(table.shape[1:])
    flat = table.reshape(len(table), width)
    dtype = jnp.promote_types(table.dtype, jnp.float32)
    out = jnp.zeros((num_out, width), dtype)

    def step(start, fresh, block_size, out):
        x, i, j = read((data, to, source), start, block_size)
        counted = fresh & _inside(i, num_out) & _inside(j, len(table))
        x = mask_rows(x, counted).astype(dtype)[:, None] * _mask(
            key, rate, start, block_size, table
        )
        rows = gather(flat, jnp.where(counted, j, 0)).astype(dtype)
        return scatter_add(out, jnp.where(counted, i, 0), _repeat(x, width) * rows)

    if 0 not in table.shape and num_out > 0:
        out = _walk_entries(len(data), width, step, out)
    return out.reshape(num_out, *table.shape[1:]).astype(table.dtype)


def _multiply_rows(
    rate: float, data: Array, rows: Array, columns: Array, left: Array, right: Array, key: Any
) -> Array:
    """`Σ_hc m_eh left[row_e] right[column_e]` for every entry e: the gradient of its datum."""

    def step(start, fresh, block_size, out):
        i, j = read((rows, columns), start, block_size)
        counted = _inside(i, len(left)) & _inside(j, len(right))
        pairs = gather(left, jnp.where(counted, i, 0)) * gather(right, jnp.where(counted, j, 0))
        products = (pairs.sum(-1) * _mask(key, rate, start, block_size, right)).sum(-1)
        return write(out, start, fresh, mask_rows(products, counted)[:, None])

    out = jnp.zeros((len(data), 1), data.dtype)
    if left.size > 0 and right.size > 0:
        out = _walk_entries(len(data), math.prod(right.shape[1:]), step, out)
    return out[:, 0]


def _walk_entries(num_entries: int, width: int, step: Callable, carry: Array) -> Array:
    """Blocks depend on nothing but these sizes, so that every walk over the entries draws the same masks."""
    if num_entries == 0:
        return carry
    block_size = min(rows_per_block(width), num_entries)
    return walk(
        num_entries,
        block_size,
        lambda start, fresh, carry: step(start, fresh, block_size, carry),
        carry,
    )


def _mask(key: Any, rate: float, start: Array, block_size: int, table: Array) -> Array:
    """The dropout factors [k, H] of a block, or [1, 1] of ones."""
    if key is None:
        return jnp.ones((1, 1), jnp.float32)
    return keep_mask(jax.random.fold_in(key, start), rate, (block_size, table.shape[1]))


def _repeat(x: Float[Array, "k H"], width: int) -> Float[Array, "k width"]:
    """Each head's entry once for each of its features; a product with a 0/1 matrix, as in `sum_features`."""
    num_heads = x.shape[1]
    if num_heads == 1:
        return x
    heads = jnp.repeat(jnp.eye(num_heads, dtype=x.dtype), width // num_heads, axis=1)
    return jnp.matmul(x, heads, precision=jax.lax.Precision.HIGHEST)


def _inside(ids: Int[Array, "k"], size: int) -> Bool[Array, "k"]:
    return (ids >= 0) & (ids < size)


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
