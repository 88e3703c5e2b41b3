"""Projections of dense and sparse features, and their dropout."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO

import gatjax.ops.blocks
import gatjax.ops.sparse
from gatjax.ops import keep_mask
from gatjax.ops.sparse import HeadDropout, drop_entries, project, promote

rng = np.random.default_rng(0)
DENSE = np.where(rng.random((7, 11)) < 0.7, 0, rng.normal(size=(7, 11))).astype(np.float32)
KERNEL = rng.normal(size=(11, 3, 5)).astype(np.float32)
# The entries of DENSE in reverse order, the first in two halves, and one of padding.
ROWS, COLUMNS = (ids[::-1] for ids in np.nonzero(DENSE))
HALVES = DENSE[ROWS, COLUMNS] * np.where(np.arange(len(ROWS)) == 0, 0.5, 1)
DATA = np.concatenate([HALVES[:1], HALVES, [9.0]]).astype(np.float32)
INDICES = np.stack(
    [np.concatenate([ROWS[:1], ROWS, [7]]), np.concatenate([COLUMNS[:1], COLUMNS, [11]])], axis=1
)


@pytest.fixture(params=[True, False], ids=["cpu", "accelerator"])
def device(request, monkeypatch):
    """An accelerator fills a matrix of the entries where it is small."""
    monkeypatch.setattr(gatjax.ops.sparse, "on_cpu", lambda: request.param)


def untidy():
    """DENSE as a BCOO with unsorted, duplicate and padding entries."""
    return BCOO((jnp.asarray(DATA), jnp.asarray(INDICES, jnp.int32)), shape=DENSE.shape)


# drop_entries


@pytest.mark.parametrize("features", [DENSE, untidy()], ids=["dense", "sparse"])
def test_nothing_is_dropped_without_a_key_or_a_rate(features):
    assert drop_entries(features, None, 0.5) is features
    assert drop_entries(features, jax.random.key(0), 0.0) is features


def test_dense_entries_are_dropped_or_scaled():
    out = drop_entries(DENSE, jax.random.key(0), 0.25)
    mask = keep_mask(jax.random.key(0), 0.25, DENSE.shape)
    np.testing.assert_allclose(out, DENSE * np.asarray(mask), rtol=1e-6)
    assert out.dtype == DENSE.dtype


def test_sparse_dropout_keeps_the_indices_and_thins_the_data():
    sparse = BCOO.fromdense(jnp.asarray(DENSE))
    out = drop_entries(sparse, jax.random.key(0), 0.25)
    assert isinstance(out, BCOO) and out.shape == sparse.shape
    np.testing.assert_array_equal(out.indices, sparse.indices)
    assert (out.indices_sorted, out.unique_indices) == (
        sparse.indices_sorted,
        sparse.unique_indices,
    )
    mask = np.asarray(keep_mask(jax.random.key(0), 0.25, sparse.data.shape))
    np.testing.assert_allclose(out.data, np.asarray(sparse.data) * mask, rtol=1e-6)
    assert (mask == 0).any() and (mask != 0).any()


@pytest.mark.parametrize("dtype", ["int8", "int32", "bool", "float16"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_dropout_keeps_the_mean_of_counts_and_flags(dtype, kind):
    """A bag of words may hold integers or booleans; 1 / (1 - rate) is neither."""
    ones = jnp.ones((1, 10_007), dtype)
    features = ones if kind == "dense" else BCOO.fromdense(ones, index_dtype=jnp.int32)
    out = jax.jit(drop_entries, static_argnums=2)(features, jax.random.key(0), 0.6)
    values = np.asarray(out if kind == "dense" else out.data, np.float64)
    assert abs(values.mean() - 1) < 5 * np.sqrt(0.6 / 0.4 / values.size)


def test_numpy_features_in_float64_are_dropped_without_a_warning():
    """JAX computes in float32 by default, whatever NumPy hands over."""
    out = drop_entries(DENSE.astype(np.float64), jax.random.key(0), 0.5)
    np.testing.assert_allclose(out, drop_entries(DENSE, jax.random.key(0), 0.5), rtol=1e-6)


# project


def expected(kernel):
    return np.tensordot(DENSE.astype(np.float64), kernel.astype(np.float64), axes=1)


@pytest.mark.parametrize("kernel", [KERNEL, KERNEL[:, 0], KERNEL[:, 0, 0]], ids=lambda k: k.ndim)
@pytest.mark.parametrize("features", [jnp.asarray(DENSE), untidy()], ids=["dense", "sparse"])
def test_project_is_a_sum_over_features(features, kernel, device):
    out = project(features, jnp.asarray(kernel))
    assert out.shape == (7, *kernel.shape[1:])
    np.testing.assert_allclose(out, expected(kernel), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(project)(features, kernel), out, rtol=1e-6, atol=1e-6)


def test_dense_and_sparse_gradients_agree(device):
    weights = np.random.default_rng(1).normal(size=(7, 3, 5)).astype(np.float32)

    def loss(data, kernel, features):
        return (project(features(data), kernel) * weights).sum()

    sparse = lambda data: BCOO((data, untidy().indices), shape=DENSE.shape)
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
    d_data, d_kernel = gradient(jnp.asarray(DATA), KERNEL, sparse)
    d_dense, expected_kernel = gradient(DENSE, KERNEL, jnp.asarray)
    np.testing.assert_allclose(d_kernel, expected_kernel, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_data[:-1], d_dense[tuple(INDICES[:-1].T)], rtol=1e-5, atol=1e-5)
    assert d_data[-1] == 0


def test_an_accelerator_multiplies_a_matrix_where_it_has_room_for_one(monkeypatch, as_on_a_cpu):
    entries = jax.ShapeDtypeStruct((9,), jnp.float32), jax.ShapeDtypeStruct((9, 2), jnp.int32)

    def loops(rows):
        product = lambda *entries: project(BCOO(entries, shape=(rows, 11)), jnp.asarray(KERNEL))
        return " scan[" in str(jax.make_jaxpr(product)(*entries))

    assert [loops(7), loops(10**7)] == [True, True]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [loops(7), loops(10**7)] == [False, True]


@pytest.fixture
def small_blocks(monkeypatch):
    """256 entries of a sparse matrix at a time."""
    monkeypatch.setattr(gatjax.ops.blocks, "BLOCK_NUMBERS", 1)


def crowded(dtype=np.float32):
    """A dense matrix and the same as a BCOO of 937 entries, of which 10 are padding."""
    rng = np.random.default_rng(2)
    dense = np.zeros((37, 53), dtype)
    chosen = rng.permutation(dense.size)[:927]
    dense.flat[chosen] = rng.normal(size=927)
    return dense, BCOO.fromdense(jnp.asarray(dense), nse=937)


def test_blocks_of_entries_add_up(small_blocks):
    dense, sparse = crowded()
    kernel = np.random.default_rng(3).normal(size=(53, 2, 3)).astype(np.float32)
    weights = np.random.default_rng(4).normal(size=(37, 2, 3)).astype(np.float32)

    def loss(data, kernel):
        features = data if data.ndim == 2 else BCOO((data, sparse.indices), shape=dense.shape)
        out = project(features, kernel)
        return (out * weights).sum(), out

    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (d_data, d_kernel), out = jax.jit(gradient)(sparse.data, kernel)
    (d_dense, expected_kernel), expected_out = jax.jit(gradient)(jnp.asarray(dense), kernel)
    np.testing.assert_allclose(out, expected_out, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_kernel, expected_kernel, rtol=1e-5, atol=1e-5)
    rows, columns = np.asarray(sparse.indices[:927]).T
    np.testing.assert_allclose(d_data[:927], d_dense[rows, columns], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_sparse_products_have_forward_mode_and_second_derivatives(rate, small_blocks, x64):
    """As pairs of differences say, whether or not each head drops its own entries."""
    dense, sparse = crowded(np.float64)
    kernel = np.random.default_rng(3).normal(size=(53, 2, 3))

    def product(data, kernel):
        features = BCOO((data, sparse.indices), shape=dense.shape)
        if rate:
            features = HeadDropout(features, jax.random.key(3), rate)
        return project(features, kernel)

    def both(data, kernel):
        cubes = lambda *x: (product(*x) ** 3).sum()
        return product(data, kernel), jax.grad(cubes, argnums=(0, 1))(data, kernel)

    points = sparse.data, jnp.asarray(kernel)
    along = jax.tree.map(jnp.cos, points)
    moved = lambda step: jax.tree.map(lambda x, d: x + step * d, points, along)
    pushed = jax.jit(lambda points: jax.jvp(both, points, along)[1])(points)
    run = jax.jit(both)
    slope = jax.tree.map(lambda a, b: (a - b) / 2e-5, run(*moved(1e-5)), run(*moved(-1e-5)))
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    jax.tree.map(close, pushed, slope)
    many = jax.vmap(lambda d: jax.jvp(product, points, (along[0], d))[1])(jnp.stack([along[1]] * 2))
    close(many[1], pushed[0])


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_each_head_drops_its_own_entries(layout, small_blocks):
    """An identity for a kernel shows the masks; products and gradients are then those of plain algebra."""
    dense, sparse = crowded()
    key, rate, heads = jax.random.key(3), 0.4, 2
    identity = jnp.broadcast_to(jnp.eye(53)[:, None, :], (53, heads, 53))
    rng = np.random.default_rng(5)
    kernel = jnp.asarray(rng.normal(size=identity.shape).astype(np.float32))
    weights = rng.normal(size=(37, heads, 53)).astype(np.float32)

    def product(entries, kernel):
        features = (
            entries if layout == "dense" else BCOO((entries, sparse.indices), shape=dense.shape)
        )
        return project(HeadDropout(features, key, rate), kernel)

    entries = jnp.asarray(dense) if layout == "dense" else sparse.data
    dropped = np.asarray(jax.jit(product)(entries, identity)).transpose(0, 2, 1)
    factors = dropped / np.where(dense == 0, 1, dense)[:, :, None]
    drawn = factors[dense != 0]
    assert set(np.unique(drawn.round(3))) == {0.0, np.float32(1 / 0.6).round(3)}
    assert abs((drawn == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / drawn.size)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.2, "heads draw independently"

    gradient = jax.jit(jax.grad(lambda *x: (product(*x) * weights).sum(), argnums=(0, 1)))
    d_entries, d_kernel = gradient(entries, kernel)
    expected = np.einsum("nfh,fhc->nhc", dropped.astype(np.float64), kernel)
    np.testing.assert_allclose(product(entries, kernel), expected, rtol=1e-4, atol=1e-4)
    expected = np.einsum("nfh,nhc->fhc", dropped.astype(np.float64), weights)
    np.testing.assert_allclose(d_kernel, expected, rtol=1e-4, atol=1e-4)
    expected = np.einsum("fhc,nhc,nfh->nf", kernel, weights, factors)
    at = tuple(np.asarray(sparse.indices[:927]).T)
    actual = np.asarray(d_entries)[at] if layout == "dense" else d_entries[:927]
    np.testing.assert_allclose(actual, expected[at], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [-1, 7, 2**31 - 1])
def test_entries_out_of_range_count_as_zero(bad, device):
    """Whichever of its two ids is bad."""
    for column in (0, 1):
        indices = INDICES.astype(np.int32)
        indices[-1] = 0
        indices[-1, column] = max(bad, 11) if bad > 0 else bad
        features = BCOO((jnp.asarray(DATA), jnp.asarray(indices)), shape=DENSE.shape)
        np.testing.assert_allclose(
            project(features, jnp.asarray(KERNEL)), expected(KERNEL), rtol=1e-5, atol=1e-5
        )


def test_bfloat16_sums_of_thousands_of_entries(device):
    """One feature that every node has: its kernel row gets a gradient from each of them."""
    ones = jnp.ones((4099, 1), jnp.bfloat16)
    kernel = jnp.ones((1, 3), jnp.bfloat16)
    loss = lambda kernel, features: project(features, kernel).sum()
    gradient = jax.jit(jax.grad(loss))(kernel, BCOO.fromdense(ones))
    np.testing.assert_allclose(np.asarray(gradient, np.float32), 4099, rtol=0.01)
    wide = jnp.ones((1, 4099), jnp.bfloat16)
    out = jax.jit(project)(BCOO.fromdense(wide), jnp.ones((4099, 3), jnp.bfloat16))
    np.testing.assert_allclose(np.asarray(out, np.float32), 4099, rtol=0.01)


def test_sparse_features_under_vmap_over_kernels(device):
    kernels = np.stack([KERNEL, 2 * KERNEL])
    out = jax.vmap(project, in_axes=(None, 0))(untidy(), kernels)
    np.testing.assert_allclose(out, [expected(KERNEL), 2 * expected(KERNEL)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 11), (7, 0), (0, 0)])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_projection_of_nothing_is_zero(shape, kind, device):
    zeros = jnp.zeros(shape)
    out = project(zeros if kind == "dense" else BCOO.fromdense(zeros), jnp.ones((shape[1], 3, 5)))
    np.testing.assert_array_equal(out, np.zeros((shape[0], 3, 5)))


def test_sparse_features_without_an_entry(device):
    empty = BCOO.fromdense(jnp.zeros((7, 11)), nse=0)
    np.testing.assert_array_equal(project(empty, jnp.asarray(KERNEL)), np.zeros((7, 3, 5)))


# promote


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize(
    ("features", "parameter", "dtype", "expected"),
    [
        ("float32", "float32", None, "float32"),
        ("bfloat16", "float32", None, "float32"),
        ("bfloat16", "bfloat16", None, "bfloat16"),
        ("float16", "bfloat16", None, "float32"),
        ("int32", "bfloat16", None, "bfloat16"),
        ("bool", "float32", None, "float32"),
        ("float32", "float32", "bfloat16", "bfloat16"),
        ("int8", "float32", "float16", "float16"),
    ],
)
def test_promote(kind, features, parameter, dtype, expected):
    dense = jnp.ones((2, 3), features)
    given = dense if kind == "dense" else BCOO.fromdense(dense)
    dtype = None if dtype is None else jnp.dtype(dtype)
    out = promote(dtype, given, jnp.ones(5, parameter), jnp.ones((), parameter))
    assert [array.dtype for array in out] == [jnp.dtype(expected)] * 3
    assert out[0].shape == (2, 3) and isinstance(out[0], BCOO) == (kind == "sparse")


def test_promote_takes_numpy_in_float64():
    features, kernel = promote(None, DENSE.astype(np.float64), jnp.asarray(KERNEL))
    assert features.dtype == kernel.dtype == jnp.float32


def test_promote_keeps_float64_where_it_is_on(x64):
    features, kernel = promote(None, DENSE.astype(np.float64), jnp.asarray(KERNEL))
    assert features.dtype == kernel.dtype == jnp.float64
