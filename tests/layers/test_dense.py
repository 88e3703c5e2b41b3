"""multihead.py: every head is one attention layer, heads are reduced as by hand, and the module that learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import draw, normal, rejects
from reference import softmax

from gatjax.attention import (
    attention_layer,
    dense_weights,
    multi_head_attention,
    reduce_heads,
    tensor_dot,
)
from gatjax.graph import fully_connected
from gatjax.layers import AttentionLayer, DotProductConv

B, M, L, H, D, V, F = 2, 5, 11, 3, 7, 2, 4


def kernels():
    return normal(F, H, D, seed=1), normal(F, H, D, seed=2), normal(F, H, V, seed=3)


def head_by_head(q, k, v):
    """`[H, M, V]` in NumPy, one head and one query at a time."""
    q, k, v, *weights = (np.asarray(x) for x in (q, k, v, *kernels()))
    w_q, w_k, w_v = weights
    out = np.zeros((H, len(q), V))
    for h in range(H):
        keys, values = k @ w_k[:, h], v @ w_v[:, h]
        for m, query in enumerate(q @ w_q[:, h]):
            out[h, m] = softmax(keys @ query / np.sqrt(D)) @ values
    return out


def test_every_head_is_an_attention_layer(x64):
    """Batched, for a single query, and with a leading axis."""
    q, k, v = normal(B, M, F, seed=4), normal(B, L, F, seed=5), normal(B, L, F, seed=6)
    attend = jax.jit(lambda q, k, v: multi_head_attention(q, k, v, *kernels()))
    expected = np.stack([head_by_head(*rows) for rows in zip(q, k, v, strict=True)])
    assert attend(q[0], k[0], v[0]).shape == (H, M, V)
    np.testing.assert_allclose(attend(q[0], k[0], v[0]), expected[0], atol=1e-12)
    np.testing.assert_allclose(attend(q[0, 1], k[0], v[0]), expected[0, :, 1], atol=1e-12)
    np.testing.assert_allclose(attend(q, k, v), expected, atol=1e-12)
    np.testing.assert_allclose(attend(q[:, 1], k, v), expected[:, :, 1], atol=1e-12)


@pytest.mark.slow
def test_options_and_mask_reach_every_head(x64):
    q, k, w = normal(M, F, seed=4), normal(L, F, seed=5), kernels()
    mask = jnp.asarray(np.random.default_rng(0).random((M, L)) < 0.7).at[:, 0].set(True)
    options = {
        "mechanism": partial(tensor_dot, scale=0.3),
        "temperature": 0.7,
        "normalize": "softmax",
    }
    out = multi_head_attention(q, k, k, *w, mask=mask, **options)
    single = multi_head_attention(q[2], k, k, *w, mask=mask[2], **options)
    for h in range(H):
        rows = q @ w[0][:, h], k @ w[1][:, h], k @ w[2][:, h]
        expected = attention_layer(*rows, mask=mask, **options)
        np.testing.assert_allclose(out[h], expected, atol=1e-12)
        np.testing.assert_allclose(single[h], expected[2], atol=1e-12)


def test_example_multi_head_has_as_many_rows_as_queries():
    """The textbook's 11 words, whose two heads of width 1 are added up with weights."""
    x = normal(11, 4)
    w = [normal(4, 2, width, seed=width) for width in (4, 5, 1)]
    w[1] = normal(4, 2, 4, seed=9)
    out = multi_head_attention(x, x, x, *w)
    assert out.shape == (2, 11, 1)
    reduced = reduce_heads(out, jnp.array([0.25, -2.0]))
    assert reduced.shape == (11, 1)
    np.testing.assert_allclose(reduced, 0.25 * out[0] - 2.0 * out[1], rtol=1e-5)


X = np.array([[[1.0, 2.0]], [[3.0, 5.0]], [[-4.0, 7.0]]])  # [H, L, V] = [3, 1, 2]
TENSOR = np.zeros((3, 2, 2))
TENSOR[0, 0, 0], TENSOR[2, 1, 0], TENSOR[1, 1, 1] = 10, 1, 100
REDUCED = {
    "concat": ("concat", [1, 2, 3, 5, -4, 7]),
    "mean": ("mean", [0, 14 / 3]),
    "sum": ("sum", [0, 14]),
    "max": ("max", [3, 7]),
    "weights": (jnp.array([1.0, -1.0, 0.5]), [-4, 0.5]),
    "tensor": (jnp.asarray(TENSOR, jnp.float32), [17, 500]),
}


@pytest.mark.parametrize("how, expected", REDUCED.values(), ids=REDUCED)
def test_reduce_heads_by_hand(how, expected):
    """Of all queries `[H, L, V]`, of a single one `[H, V]`, and with the heads after a leading axis."""
    x = jnp.asarray(X, jnp.float32)
    np.testing.assert_allclose(reduce_heads(x, how), [expected], rtol=1e-6)
    np.testing.assert_allclose(reduce_heads(x[:, 0], how), expected, rtol=1e-6)
    two = reduce_heads(jnp.stack([x, 0 * x]), how, axis=1)
    np.testing.assert_allclose(two, [[expected], [np.zeros(len(expected))]], rtol=1e-6)


# The module


@pytest.mark.parametrize("combine", ["concat", "mean", "sum", "max"])
def test_the_module_is_the_functions_with_its_kernels(combine):
    layer = AttentionLayer(F, 6, num_heads=H, key_features=D, combine=combine, rngs=nnx.Rngs(0))
    assert layer.query[...].shape == layer.key[...].shape == (F, H, D)
    x, k, v = normal(M, F, seed=4), normal(L, F, seed=5), normal(L, F, seed=6)
    kernels = layer.query[...], layer.key[...], layer.value[...]
    out = layer(x, k, v)
    assert out.shape == (M, 6)
    expected = reduce_heads(multi_head_attention(x, k, v, *kernels), combine)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_allclose(layer(x[1], k, v), out[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer(x), layer(x, x, x))
    np.testing.assert_array_equal(layer(x, k), layer(x, k, k))
    np.testing.assert_array_equal(layer(np.asarray(x)), layer(x))


@pytest.mark.slow
def test_heads_meet_in_weights_or_maps_that_are_learned(x64):
    """Equation by equation, in loops; both are parameters and have a gradient."""
    x = draw(L, F, seed=4)
    start = {"weighted": draw(H, seed=7), "learned": draw(H, 2, 5, seed=8)}
    for how, w in start.items():
        make = partial(AttentionLayer, F, 5, num_heads=H, param_dtype=jnp.float64)
        drawn, given = (make(combine=c, rngs=nnx.Rngs(0)) for c in (how, w))
        assert drawn.combine == given.combine == how
        assert drawn.heads[...].shape == ((H,) if how == "weighted" else (H, 5, 5))
        np.testing.assert_array_equal(given.heads[...], w)
        kernels = [np.asarray(k[...]) for k in (given.query, given.key, given.value)]
        expected = np.zeros((L, 5))
        for h in range(H):
            q, k, v = (x @ kernel[:, h] for kernel in kernels)
            e = np.exp(q @ k.T / np.sqrt(q.shape[1]))
            head = e / e.sum(axis=1, keepdims=True) @ v
            expected += w[h] * head if how == "weighted" else head @ w[h]
        np.testing.assert_allclose(given(x), expected, rtol=1e-12)
        np.testing.assert_allclose(given(x[0], x), expected[0], rtol=1e-12)
        gradient = nnx.grad(lambda layer: (layer(x) ** 2).sum())(given)
        assert np.all(np.asarray(gradient["heads"][...]) != 0)
    mean = AttentionLayer(F, 5, num_heads=H, combine="weighted", rngs=nnx.Rngs(0))
    expected = AttentionLayer(F, 5, num_heads=H, combine="mean", rngs=nnx.Rngs(0))
    np.testing.assert_allclose(mean(x), expected(x), rtol=1e-6)


def test_the_module_computes_in_its_dtype():
    x = np.asarray(draw(L, F, seed=4), np.float32)
    make = lambda dtype: AttentionLayer(
        F, 6, num_heads=H, combine="learned", dtype=dtype, rngs=nnx.Rngs(0)
    )
    half, full = make(jnp.bfloat16), make(None)
    assert half(x).dtype == jnp.bfloat16 and half.query[...].dtype == jnp.float32
    assert half.attention(x).dtype == full(x).dtype == jnp.float32
    assert half(np.ones((L, F), int)).dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half(x), np.float32), full(x), atol=0.1)


def test_attention_of_the_module_weighs_its_values():
    layer = AttentionLayer(F, H * V, num_heads=H, rngs=nnx.Rngs(0))
    q, k = normal(B, M, F, seed=4), normal(B, L, F, seed=5)
    mask = jnp.arange(L)[None, None, :] < 7
    alpha = layer.attention(q, k, mask=mask, temperature=0.5)
    assert alpha.shape == (B, H, M, L)
    np.testing.assert_allclose(alpha.sum(-1), np.ones((B, H, M)), atol=1e-6)
    assert not alpha[..., 7:].any()
    heads = jnp.einsum("bhml,blf,fhv->bmhv", alpha, k, layer.value[...])
    out = layer(q, k, mask=mask, temperature=0.5)
    np.testing.assert_allclose(out, heads.reshape(B, M, H * V), atol=1e-5)
    assert layer.attention(q[:, 0], k).shape == (B, H, L)
    rows = q[0] @ layer.query[...][:, 1], k[0] @ layer.key[...][:, 1]
    expected = dense_weights(*rows, mask=mask[0], temperature=0.5)
    np.testing.assert_allclose(alpha[0, 1], expected, atol=1e-6)


def test_on_a_fully_connected_graph_the_convolution_is_the_same():
    """`DotProductConv` without biases, with the kernels of the dense layer, each node an item."""
    dense = AttentionLayer(F, H * V, num_heads=H, rngs=nnx.Rngs(0))
    conv = DotProductConv(F, H * V, num_heads=H, use_bias=False, rngs=nnx.Rngs(1))
    for name in ("query", "key", "value"):
        getattr(conv, name).kernel[...] = getattr(dense, name)[...]
    x = normal(L, F)
    graph = fully_connected(L, nodes=x)
    np.testing.assert_allclose(conv(graph).nodes, dense(x), atol=1e-5)
    alpha = np.zeros((H, L, L))
    alpha[:, graph.receivers, graph.senders] = conv.attention(graph).T
    np.testing.assert_allclose(alpha, dense.attention(x), atol=1e-5)


def test_kernels_are_drawn_apart_with_the_fans_of_one_head():
    layer = AttentionLayer(64, 7 * 64, num_heads=7, rngs=nnx.Rngs(0))
    heads = [
        head
        for part in (layer.query, layer.key, layer.value)
        for head in np.moveaxis(part[...], 1, 0)
    ]
    assert len({head.tobytes() for head in heads}) == 21
    for head in heads:
        assert 0.9 * np.sqrt(6 / 128) < np.abs(head).max() <= np.sqrt(6 / 128)


def test_the_module_learns_to_look_up():
    """Items are a key and a value side by side, and the query is a key: which value goes with it?"""
    size, count, rng = 5, 256, np.random.default_rng(0)
    owned = np.stack([rng.permutation(size) for _ in range(count)])
    keys = np.tile(np.eye(size), (count, 1, 1))
    items = jnp.asarray(np.concatenate([keys, np.eye(size)[owned]], axis=-1), jnp.float32)
    asked = rng.integers(0, size, count)
    queries = items[np.arange(count), asked].at[:, size:].set(0)
    answers = jnp.asarray(owned[np.arange(count), asked])
    layer = AttentionLayer(2 * size, size, key_features=8, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(layer, optax.adam(0.1), wrt=nnx.Param)
    accuracy = lambda: (layer(queries, items).argmax(-1) == answers).mean()

    @nnx.jit
    def step(layer, optimizer):
        def loss(layer):
            logits = layer(queries, items)
            return optax.softmax_cross_entropy_with_integer_labels(logits, answers).mean()

        optimizer.update(layer, nnx.grad(loss)(layer))

    assert accuracy() < 0.5
    for _ in range(80):
        step(layer, optimizer)
    assert accuracy() == 1
    chosen = layer.attention(queries, items)[:, 0].argmax(-1)
    np.testing.assert_array_equal(chosen, asked)


def test_bfloat16_stays_bfloat16():
    layer = AttentionLayer(F, H * V, num_heads=H, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    x = normal(L, F)
    out = layer(x.astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    wide = nnx.merge(*nnx.split(layer))
    nnx.update(wide, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), nnx.state(wide)))
    np.testing.assert_allclose(np.float32(out), wide(x), atol=0.05)


# Bad input


def refused(message, make):
    with pytest.raises(ValueError, match=message):
        make()


def test_kernels_that_do_not_fit_are_refused(unchecked):
    x, w = jnp.ones((L, F)), jnp.ones((F, H, D))
    attend = lambda *w, v=x: multi_head_attention(x, x, v, *w)
    refused(
        r"w_q must be \[F, H, width\] with F = 4, .*q \[11, 4\], got \[5, 3, 7\]",
        lambda: attend(jnp.ones((5, H, D)), w, w),
    )
    refused(r"w_v must be \[F, H, width\] .*got \[4, 7\]", lambda: attend(w, w, w[:, 0]))
    refused(r"same H, their second axis, got \[3, 2, 3\]", lambda: attend(w, w[:, :2], w))
    refused(r"q \[7\] and k \[11, 6\] .*width", lambda: attend(w, w[..., :6], w))
    refused(
        r"v must be \[\.\.\., L, F_v\] .*got \[11\]; .*v\[\.\.\., None\]",
        lambda: attend(w, w, w, v=x[:, 0]),
    )
    refused(
        r"how must hold one weight per head, \[3\], got \[2\]",
        lambda: reduce_heads(jnp.ones((H, V)), jnp.ones(2)),
    )
    refused(
        r"how must be \[H, C, L\] = \[3, 2, L\], got \[2, 2, 3\]",
        lambda: reduce_heads(jnp.ones((H, V)), jnp.ones((2, 2, 3))),
    )
    refused(r"how must be one of .*'median'", lambda: reduce_heads(jnp.ones((H, V)), "median"))


def test_bad_settings_are_refused(unchecked):
    make = partial(AttentionLayer, F, rngs=nnx.Rngs(0))
    refused("num_heads must be at least 1, got 0", lambda: make(6, num_heads=0))
    refused("out_features=7 cannot be split over num_heads=3", lambda: make(7, num_heads=3))
    refused(
        r"combine must be one of \['concat', .*\], got 'median'", lambda: make(6, combine="median")
    )
    for dtype in ("float33", np.int32):
        with rejects(TypeError, "dtype must be a dtype of fractions, such as jnp.float32"):
            make(6, dtype=dtype)
    layer = make(6)
    for method in (layer, layer.attention):
        with rejects(
            ValueError, f"k must be {F} wide, as the layer was built for, got [3, {F + 1}]"
        ):
            method(jnp.ones((3, F)), jnp.ones((3, F + 1)))
    for shape in [(2,), (2, 7, 7), (3, 7, 6), (3, 3), (3, 0, 7)]:
        refused(
            r"combine must be \[H\] = \[3\] or \[H, V, out_features\] = \[3, V, 7\], got ",
            lambda: make(7, num_heads=3, combine=np.ones(shape)),  # noqa: B023
        )
    assert make(7, num_heads=3, combine="mean")(jnp.ones((L, F))).shape == (L, 7)
