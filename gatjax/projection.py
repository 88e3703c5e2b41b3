"""Per-head projections of node features, dense or sparse, and dropout masks.

Sparse features are a `BCOO` [N, F]: a bag of words stays sparse until the first projection has made it
dense and narrow. Dropout then acts on the stored entries: the zeros it would drop are zeros anyway.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

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
    mask = jnp.where(draws < kept, 2**16 / kept, 0).astype(dtype)
    # Else XLA fuses the random bits into every use of the mask, and draws them anew for each.
    return jax.lax.optimization_barrier(mask)


def drop_entries(features: Features, key: Key[Array, ""] | None, rate: float) -> Features:
    """Dropout of feature entries; of the stored ones, where the features are sparse.

    >>> drop_entries(jnp.ones((1, 2)), None, 0.5).tolist()
    [[1.0, 1.0]]
    """
    if key is None or rate == 0:
        return features
    if isinstance(features, BCOO):
        data = features.data * keep_mask(key, rate, features.data.shape, features.data.dtype)
        return _with_data(features, data)
    return jnp.asarray(features) * keep_mask(key, rate, features.shape, features.dtype)


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
    return jnp.asarray(features @ flat).reshape(-1, *kernel.shape[1:])


def promote(dtype: DTypeLike | None, features: Features, *parameters: Array) -> tuple:
    """Features and parameters in one dtype: the given one, or that which JAX promotes them all to."""
    dtype = jnp.result_type(features.dtype, *parameters) if dtype is None else dtype
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
