"""dense.py: the textbook's sentence, its examples with their defects mended, masks, temperatures, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CosineConv
from flax import nnx
from helpers import array, both_precisions, normal
from jax.test_util import check_grads
from reference import EXTREME_LOGITS, softmax

from gatjax.attention import (
    attention_layer,
    attention_logits,
    attention_weights,
    bahdanau_score,
    dense_score,
    dense_weights,
    dot_product_score,
    general_dot,
    general_score,
    graph_attention,
    self_attention,
    tensor_dot,
    weighted_sum,
)
from gatjax.graph import build_graph, fully_connected
from gatjax.ops import segment_softmax

B, M, L, D, V = 2, 5, 7, 3, 4
tolerance = both_precisions(float32=1e-5, float64=1e-6)


# "The sleepy child reads a book": the query is "book", the last of the keys.

KEYS = [(0, 0, 0), (2, 0, 1), (1, -1, -2), (2, 3, 1), (-2, 0, 0), (0, 2, 1)]
VALUES = [0, -0.2, 0.3, 0.4, 0, 0.1]
BOOK = 5
UNSCALED = [0.00080014, 0.002175, 0.00001466, 0.87745891, 0.00080014, 0.11875115]
SCALED = [0.01270253, 0.02262717, 0.00126162, 0.72288696, 0.01270253, 0.2278192]
dot = partial(tensor_dot, scale=1.0)
SENTENCE = {
    "unscaled": ({"mechanism": dot}, UNSCALED, 0.3624280762),
    "scaled": ({}, SCALED, 0.3077897567),
    "divided by the width": ({"mechanism": partial(tensor_dot, scale=1 / 3)}, None, 0.2312010145),
    "hard": ({"normalize": "hardmax"}, np.eye(6)[3], 0.4),
    "straight through": ({"normalize": "straight_through"}, np.eye(6)[3], 0.4),
    "cold": ({"temperature": 1e-3}, np.eye(6)[3], 0.4),
    "uniform": ({"temperature": np.inf}, np.full(6, 1 / 6), 0.1),
}
SELF_ATTENTION = [
    (0.5, 0.66666667, 0.16666667),
    (1.82491035, 1.41803066, 0.89687382),
    (0.97487328, -0.90385403, -1.8129939),
    (1.96488657, 2.96539117, 0.99950823),
    (-1.54379776, 0.15758869, 0.04517002),
    (1.46688482, 2.62303764, 0.97081007),
]


def key_score(scale, r, s, e):
    return dot_product_score(r, s["key"], scale=scale)


def value(scale, r, s, e):
    return s["value"]


@jax.jit
def in_arrays(keys, values):
    """Weights and outputs of every case: numbers as values, values of width 1, the query as one of a batch."""

    def read(options):
        attend = partial(attention_layer, **options)
        outputs = [
            attend(q, keys, v) for q in (keys[BOOK], keys[BOOK:]) for v in (values, values[:, None])
        ]
        return dense_weights(keys[BOOK], keys, **options), outputs

    return {case: read(options) for case, (options, _, _) in SENTENCE.items()}


@jax.jit
def on_a_graph(keys, values):
    """The same with six senders into one receiver: the everyday functions, and the one that does it at once."""
    graph = build_graph(range(6), [BOOK] * 6, num_nodes=6)
    rows = {"key": keys[:, None, :], "value": values[:, None, None]}

    def read(options):
        mechanism = options.get("mechanism", tensor_dot)
        scale = mechanism.keywords["scale"] if isinstance(mechanism, partial) else None
        normalize = options.get("normalize", "softmax")
        if "temperature" in options:
            normalize = partial(segment_softmax, temperature=options["temperature"])
        logits = attention_logits(graph, key_score, scale, rows["key"], rows)
        alpha = attention_weights(graph, logits, normalize=normalize)
        functions = key_score, value, scale
        outputs = [
            weighted_sum(graph, alpha, rows["value"])[BOOK],
            graph_attention(graph, *functions, rows["key"], rows, normalize=normalize)[BOOK],
        ]
        if normalize == "softmax":
            outputs.append(
                graph_attention(graph, *functions, rows["key"], rows, block_size=4)[BOOK]
            )
        return alpha[:, 0], outputs

    return {case: read(options) for case, (options, _, _) in SENTENCE.items()}


@pytest.mark.parametrize("ways", [in_arrays, on_a_graph], ids=lambda ways: ways.__name__)
def test_sentence(ways, tolerance):
    results = ways(array(KEYS), array(VALUES))
    assert results.keys() == SENTENCE.keys()
    for case, (weights, outputs) in results.items():
        _, expected_weights, expected = SENTENCE[case]
        if expected_weights is not None:
            np.testing.assert_allclose(weights, expected_weights, atol=tolerance, err_msg=case)
        assert len(outputs) >= 2
        for out in outputs:
            assert out.dtype == jnp.result_type(float) and out.size == 1
            np.testing.assert_allclose(out, np.full(out.shape, expected), atol=tolerance)


def test_the_printed_weights_of_the_sentence():
    weights = dense_weights(jnp.array(KEYS[BOOK]), jnp.array(KEYS), mechanism=dot)
    assert np.round(weights, 2).tolist() == pytest.approx([0, 0, 0, 0.88, 0, 0.12])


def test_self_attention_of_the_sentence(tolerance):
    """Dense, and on the graph in which all words send to all."""
    words, graph = array(KEYS), fully_connected(6)

    @jax.jit
    def both(words):
        rows = {"key": words[:, None, :], "value": words[:, None, :]}
        on_graph = graph_attention(graph, key_score, value, None, rows["key"], rows)
        return self_attention(words), on_graph[:, 0]

    for out in both(words):
        np.testing.assert_allclose(out, SELF_ATTENTION, atol=tolerance)


@pytest.mark.slow
def test_the_scores_on_a_graph_are_the_dense_ones(x64):
    """Every query an edge to every key; two heads are two dense mechanisms."""
    queries, keys, wide = normal(M, D, seed=1), normal(L, D, seed=2), normal(L, V, seed=3)
    kernel, vector = normal(D, 2, V, seed=4), normal(2, D, seed=5)
    graph = build_graph(np.tile(M + np.arange(L), M), np.repeat(np.arange(M), L), num_nodes=M + L)
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    two_heads = lambda rows: jnp.stack([rows, 2 * rows[:, ::-1]], axis=1)
    of_head = lambda h, rows: two_heads(rows)[:, h]
    no_slope = jnp.ones((2, 2)).at[1].set(0.0)
    cosine = CosineConv.mechanism.__globals__["cosine"]

    def cosine_score(r, s):
        return cosine(no_slope, unit(r), {"unit": unit(s)}, jnp.zeros((len(r), 1)))

    def bahdanau(h, q, k):
        dense = lambda pairs: jnp.tanh(pairs[:, :D] + pairs[:, D:]) @ vector[h][:, None]
        return dense_weights(
            of_head(h, q), of_head(h, k), mechanism=partial(dense_score, dense=dense)
        )

    ways = {
        "dot": (
            dot_product_score,
            (two_heads(queries), two_heads(keys)),
            lambda h: dense_weights(of_head(h, queries), of_head(h, keys)),
        ),
        "general": (
            partial(general_score, kernel=kernel),
            (queries, wide),
            lambda h: dense_weights(
                queries, wide, mechanism=partial(general_dot, kernel=kernel[:, h])
            ),
        ),
        "additive": (
            partial(bahdanau_score, attention_vector=vector),
            (two_heads(queries), two_heads(keys)),
            lambda h: bahdanau(h, queries, keys),
        ),
        "cosine": (
            cosine_score,
            (two_heads(queries), two_heads(keys)),
            lambda h: dense_weights(
                unit(of_head(h, queries)), unit(of_head(h, keys)), mechanism=dot
            ),
        ),
    }
    for name, (score, tables, dense) in ways.items():
        receivers, senders = (
            jnp.zeros((M + L, *table.shape[1:])).at[start : start + len(table)].set(table)
            for start, table in zip((0, M), tables, strict=True)
        )
        logits = attention_logits(graph, lambda w, r, s, e: score(r, s), None, receivers, senders)  # noqa: B023
        alpha = attention_weights(graph, logits)
        for h in range(2):
            found = alpha[:, h].reshape(M, L)
            np.testing.assert_allclose(found, dense(h), rtol=0, atol=1e-14, err_msg=name)


# The code examples of the textbook: 11 keys of width 4, values of width 2.


def example(tolerance):
    del tolerance
    return normal(4, seed=1), normal(11, 4, seed=2), normal(11, 2, seed=3)


def test_example_tensor_dot(tolerance):
    q, k, _ = example(tolerance)
    b = dense_weights(q, k)
    assert b.shape == (11,)
    expected = softmax(np.array([sum(q[i] * k[j, i] for i in range(4)) / 2 for j in range(11)]))
    np.testing.assert_allclose(b, expected, atol=tolerance)
    assert float(b.sum()) == pytest.approx(1, abs=tolerance)


def test_example_attention_layer(tolerance):
    q, k, v = example(tolerance)
    out = attention_layer(q, k, v)
    assert out.shape == (2,)
    np.testing.assert_allclose(out, np.asarray(dense_weights(q, k)) @ v, atol=tolerance)


def test_example_self_attention_has_rows_that_sum_to_one(tolerance):
    """A softmax that loses the axis it sums over divides row i by the sum of another row, and sums columns to one."""
    _, x, _ = example(tolerance)
    b = np.asarray(dense_weights(x, x))
    np.testing.assert_allclose(b.sum(axis=1), np.ones(11), atol=tolerance)
    assert np.abs(b.sum(axis=0) - 1).max() > 0.1
    unnormalised = np.exp(np.asarray(x, np.float64) @ np.asarray(x, np.float64).T / 2)
    transposed = unnormalised / unnormalised.sum(axis=1)
    np.testing.assert_allclose(b.T, transposed, atol=tolerance)
    out = self_attention(x)
    assert out.shape == (11, 4)
    np.testing.assert_allclose(out, b @ x, atol=tolerance)


def test_example_batched_scale_is_the_width_not_the_number_of_queries(tolerance):
    _, x, _ = example(tolerance)
    np.testing.assert_allclose(tensor_dot(x, x), np.asarray(x @ x.T) / 2, atol=tolerance)
    for row in range(11):
        np.testing.assert_allclose(tensor_dot(x, x)[row], tensor_dot(x[row], x), atol=tolerance)


def test_example_trainable_self_attention(tolerance):
    """Dense layers on queries, keys and values; the attention between has no parameters."""
    _, x, _ = example(tolerance)
    w_q, w_k, w_v = normal(4, 4, seed=4), normal(4, 4, seed=5), normal(4, 1, seed=6)
    out = attention_layer(x @ w_q, x @ w_k, x @ w_v)
    assert out.shape == (11, 1)
    logits = np.asarray(x @ w_q) @ np.asarray(x @ w_k).T / 2
    expected = softmax(logits.T).T @ np.asarray(x @ w_v)
    np.testing.assert_allclose(out, expected, atol=tolerance)
    folded = partial(general_dot, kernel=w_q @ w_k.T / 2)
    np.testing.assert_allclose(
        attention_layer(x, x, x @ w_v, mechanism=folded), out, atol=tolerance
    )


# Axes


def in_loops(q, k, v, logit):
    """Batched attention, one query at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for index in np.ndindex(q.shape[:-1]):
        batch = index[: k.ndim - 2]
        logits = np.array([logit(q[index], key) for key in k[batch]])
        out[index] = sum(b * row for b, row in zip(softmax(logits), v[batch], strict=True))
    return out


scaled = lambda q, k: q @ k / np.sqrt(len(q))


@pytest.mark.parametrize("leading", [(), (B,), (B, 3)], ids=str)
@pytest.mark.parametrize("queries", [(), (M,), (1,), (0,)], ids=["one", "M", "1", "0"])
def test_any_leading_axes(leading, queries, x64):
    q, k = normal(*leading, *queries, D, seed=1), normal(*leading, L, D, seed=2)
    v = normal(*leading, L, V, seed=3)
    attend = jax.jit(attention_layer)
    out = attend(q, k, v)
    assert out.shape == (*leading, *queries, V)
    np.testing.assert_allclose(out, in_loops(q, k, v, scaled), atol=1e-12)
    numbers = attend(q, k, np.asarray(v)[..., 1])
    assert numbers.shape == (*leading, *queries)
    np.testing.assert_allclose(numbers, out[..., 1], atol=1e-12)


def test_mechanisms_in_loops(x64):
    """Widths differ where a mechanism allows it; with and without further axes."""
    q, k, v = normal(B, M, 4, seed=1), normal(B, L, D, seed=2), normal(B, L, V, seed=3)
    kernel = normal(4, D, seed=4)
    dense = nnx.Linear(4 + D, 1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    column, bias = np.asarray(dense.kernel[...])[:, 0], float(dense.bias[0])
    mechanisms = {
        "general": (partial(general_dot, kernel=kernel), lambda q, k: q @ np.asarray(kernel) @ k),
        "dense": (
            partial(dense_score, dense=dense),
            lambda q, k: np.concatenate([q, k]) @ column + bias,
        ),
        "own": (lambda q, k: -jnp.abs(k).sum(-1) * q[0], lambda q, k: -np.abs(k).sum() * q[0]),
    }
    for mechanism, logit in mechanisms.values():
        attend = jax.jit(partial(attention_layer, mechanism=mechanism))
        expected = in_loops(q, k, v, logit)
        np.testing.assert_allclose(attend(q, k, v), expected, atol=1e-12)
        np.testing.assert_allclose(attend(q[1, 2], k[1], v[1]), expected[1, 2], atol=1e-12)


def test_a_dense_mechanism_is_trained_by_gradients(x64):
    q, k, v = normal(M, D, seed=1), normal(L, D, seed=2), normal(L, V, seed=3)
    graphdef, state = nnx.split(nnx.Linear(2 * D, 1, param_dtype=jnp.float64, rngs=nnx.Rngs(0)))

    def loss(state, kernel, v):
        dense = attention_layer(q, k, v, mechanism=partial(dense_score, dense=graphdef_call(state)))
        general = attention_layer(q, k, v, mechanism=partial(general_dot, kernel=kernel))
        return ((dense + 2 * general) ** 2).sum()

    def graphdef_call(state):
        return lambda pairs: nnx.merge(graphdef, state)(pairs)

    check_grads(jax.jit(loss), (state, normal(D, D, seed=4), v), 1, modes=["rev"], rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_jax_computes_the_same(masked):
    """`jax.nn.dot_product_attention` has the heads before the features."""
    q, k, v = normal(B, 2, M, D, seed=1), normal(B, 2, L, D, seed=2), normal(B, 2, L, D, seed=3)
    mask = np.random.default_rng(0).random((B, 2, M, L)) < 0.6
    mask[..., 0] = True
    mask = jnp.asarray(mask) if masked else None
    theirs = jax.nn.dot_product_attention(*(jnp.moveaxis(x, 1, 2) for x in (q, k, v)), mask=mask)
    ours = attention_layer(q, k, v, mask=mask)
    np.testing.assert_allclose(jnp.moveaxis(ours, 1, 2), theirs, atol=1e-5)


def test_rows_in_another_order_come_out_in_that_order(x64):
    """Equivariant, where the textbook says invariant; a query's output does not depend on the order of the keys."""
    x, order = normal(L, D), np.random.default_rng(1).permutation(L)
    out = np.asarray(self_attention(x))
    np.testing.assert_allclose(self_attention(x[order]), out[order], atol=1e-12)
    np.testing.assert_allclose(attention_layer(x, x[order], x[order]), out, atol=1e-12)


# Softmax, temperature, hard attention

read_out = lambda q, k: k[:, 0]
choose = partial(dense_weights, mechanism=read_out)


def weigh(logits, **options):
    return choose(jnp.zeros(1), jnp.asarray(logits)[:, None], **options)


jitted_weigh = jax.jit(weigh)


def test_raw_scores_are_amplified_by_differences_not_ratios():
    """The scores 2.0, 1.0 and 0.5 give 0.63, 0.23 and 0.14, whatever is added to all of them."""
    expected = [0.62853172, 0.23122390, 0.14024438]
    for shift in (0.0, 100.0, -100.0):
        np.testing.assert_allclose(
            jitted_weigh(jnp.array([2.0, 1.0, 0.5]) + shift), expected, atol=1e-5
        )


@pytest.mark.parametrize("logits, weights", EXTREME_LOGITS.values(), ids=EXTREME_LOGITS)
def test_extreme_logits(logits, weights):
    """No overflow, and the gradient `b_l (g_l - Σ_m b_m g_m)`."""
    g = jnp.array([1.0, 2.0, 4.0])
    weights = np.array(weights)
    b, pull_back = jax.vjp(jitted_weigh, jnp.array(logits))
    np.testing.assert_array_equal(b, weights)
    np.testing.assert_array_equal(pull_back(g)[0], weights * (g - np.dot(weights, g)))


def test_temperature_between_hard_and_uniform(x64):
    q, k = normal(M, D, seed=1), normal(L, D, seed=2)
    soft = lambda temperature: dense_weights(q, k, temperature=temperature)
    np.testing.assert_allclose(soft(1e-9), dense_weights(q, k, normalize="hardmax"), atol=1e-12)
    np.testing.assert_allclose(soft(1e12), np.full((M, L), 1 / L), atol=1e-11)
    np.testing.assert_array_equal(soft(np.inf), np.full((M, L), 1 / L))
    scale = D**-0.5 / 0.7
    expected = dense_weights(q, k, mechanism=partial(tensor_dot, scale=scale))
    np.testing.assert_allclose(soft(0.7), expected, atol=1e-12)
    np.testing.assert_allclose(jax.jit(soft)(0.7), expected, atol=1e-12)


@pytest.mark.parametrize("normalize", ["hardmax", "straight_through"])
def test_hard_attention_takes_the_first_of_the_largest(normalize):
    for logits in ([1.0, 3.0, 3.0], [-2e30, -1e30, -1e30], [-1.0, -0.0, 0.0]):
        np.testing.assert_array_equal(weigh(logits, normalize=normalize), [0, 1, 0])
    mask = jnp.array([True, False, True])
    hard = weigh([1.0, 3.0, 2.0], normalize=normalize, mask=mask)
    np.testing.assert_array_equal(hard, [0, 0, 1])


def test_gradients_of_hard_attention(x64):
    """Nothing for hardmax, that of the softmax for straight-through: `b_l (g_l - Σ_m b_m g_m) / T`."""
    logits, g, temperature = normal(L, seed=1), normal(L, seed=2), 0.7
    pull = lambda normalize: jax.vjp(
        lambda x: weigh(x, normalize=normalize, temperature=temperature), logits
    )[1](g)[0]
    np.testing.assert_array_equal(pull("hardmax"), np.zeros(L))
    b = softmax(np.asarray(logits) / temperature)
    expected = b * (g - b @ np.asarray(g)) / temperature
    np.testing.assert_allclose(pull("straight_through"), expected, atol=1e-12)
    np.testing.assert_allclose(pull("softmax"), expected, atol=1e-12)


# Masks


@pytest.mark.parametrize("normalize", ["softmax", "hardmax", "straight_through"])
def test_a_masked_key_is_as_good_as_absent(normalize, x64):
    """Each query has a mask of its own; the last may attend to nothing and gets 0, with a finite gradient."""
    q, k, v = normal(M, D, seed=1), normal(L, D, seed=2), normal(L, V, seed=3)
    mask = np.random.default_rng(4).random((M, L)) < 0.6
    mask[:, 0], mask[-1] = True, False

    def loss(q, k, v):
        out = attention_layer(q, k, v, normalize=normalize, mask=jnp.asarray(mask))
        return (out**2).sum(), out

    gradients, out = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    for row, here in enumerate(mask[:-1]):
        logits = np.asarray(k)[here] @ np.asarray(q)[row] / np.sqrt(D)
        b = softmax(logits) if normalize == "softmax" else np.eye(len(logits))[logits.argmax()]
        np.testing.assert_allclose(out[row], b @ np.asarray(v)[here], atol=1e-12)
    np.testing.assert_array_equal(out[-1], np.zeros(V))
    assert all(np.isfinite(x).all() for x in gradients)
    assert not gradients[0][-1].any() and gradients[2].any()


def test_a_mask_may_be_one_long_along_an_axis():
    q, k = normal(B, M, D, seed=1), normal(B, L, D, seed=2)
    keys = jnp.arange(L) % 3 != 1
    np.testing.assert_array_equal(
        dense_weights(q, k, mask=keys[None, None, :]),
        dense_weights(q, k, mask=jnp.tile(keys, (B, M, 1))),
    )


@pytest.mark.parametrize("normalize", ["softmax", "hardmax", "straight_through"])
def test_without_keys_there_is_nothing_to_say(normalize):
    out = attention_layer(jnp.ones((M, D)), jnp.ones((0, D)), jnp.ones((0, V)), normalize=normalize)
    np.testing.assert_array_equal(out, np.zeros((M, V)))


# Precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    """Thousands of keys: logits, weights and sums in float32, the output as exact as its dtype allows."""
    q, k = normal(D, seed=1).astype(dtype), normal(4099, D, seed=2).astype(dtype)
    v = jnp.ones((4099, V), dtype) + k[:, :1]
    assert dense_weights(q, k).dtype == jnp.float32
    out = attention_layer(q, k, v)
    assert out.dtype == dtype
    wide = (np.asarray(x, np.float64) for x in (q, k, v))
    np.testing.assert_allclose(np.float32(out), in_loops(*wide, scaled), rtol=2**-8)


def test_whole_numbers_are_taken_as_fractions():
    keys = np.array(KEYS)
    out = attention_layer(keys[BOOK], keys, np.array([0, 0, 0, 4, 0, 1]), mechanism=dot)
    assert out == pytest.approx(4 * UNSCALED[3] + UNSCALED[5], abs=1e-5)


# Bad input

q1, q2, q3 = jnp.ones(D), jnp.ones((M, D)), jnp.ones((B, M, D))
k1, k2, k3 = jnp.ones(D), jnp.ones((L, D)), jnp.ones((B, L, D))
v2 = jnp.ones((L, V))
BAD = {
    "q of too low a rank": ((q1, k3, v2), {}, r"q must be one query .* of rank 2, .* got \[3\]"),
    "q of too high a rank": (
        (q3, k2, v2),
        {},
        r"q must be one query .* rank 2, .* got \[2, 5, 3\]",
    ),
    "one key": ((q1, k1, v2), {}, r"k must be keys \[\.\.\., L, d\], got \[3\]; .*k\[None, :\]"),
    "other leading axes": (
        (q3, jnp.ones((4, L, D)), v2),
        {},
        r"same leading axes, \[4\] .*broadcast",
    ),
    "another width": (
        (q2, jnp.ones((L, 4)), v2),
        {},
        r"q \[3\] and k \[7, 4\] .*width d.*general_dot",
    ),
    "too few values": (
        (q2, k2, v2[1:]),
        {},
        r"v must hold one value per key.* \[7\].*got \[6, 4\]",
    ),
    "values of too low a rank": ((q3, k3, jnp.ones(B)), {}, r"v must hold one .*got \[2\]"),
    "values of too high a rank": ((q2, k2, v2[:, None]), {}, r"v must hold one .*got \[7, 1, 4\]"),
    "unknown normaliser": (
        (q2, k2, v2),
        {"normalize": "argmax"},
        r"normalize must be one of \['softmax', 'hardmax', .*\], TopK\(k\) or a function, got 'argmax'",
    ),
    "cold": ((q2, k2, v2), {"temperature": 0.0}, r"temperature must be positive.*got 0.0.*hardmax"),
    "no temperature": ((q2, k2, v2), {"temperature": np.nan}, r"temperature must be positive"),
    "mask of another rank": (
        (q2, k2, v2),
        {"mask": jnp.ones(L, bool)},
        r"mask must be \[5, 7\], .* got \[7\]",
    ),
    "mask of another length": (
        (q2, k2, v2),
        {"mask": jnp.ones((M, 2), bool)},
        r"mask must be \[5, 7\], .* got \[5, 2\]",
    ),
    "kernel": (
        (q2, k2, v2),
        {"mechanism": partial(general_dot, kernel=jnp.ones((4, D)))},
        r"kernel must be \[d_q, d_k\] = \[3, 3\] .*got \[4, 3\]",
    ),
    "dense layer of another width": (
        (q2, k2, v2),
        {"mechanism": partial(dense_score, dense=lambda pairs: pairs)},
        r"dense must return \[L, 1\] = \[7, 1\], got \[7, 6\]",
    ),
    "a mechanism for pairs": (
        (q2, k2, v2),
        {"mechanism": lambda q, k: (q * k[0]).sum()},
        r"mechanism must map one query \[3\] and the keys \[7, 3\] .*\[7\], got \[\]",
    ),
}


@pytest.mark.parametrize("arguments, options, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(arguments, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        attention_layer(*arguments, **options)


def test_a_dense_score_is_of_one_query(unchecked):
    for q, k in ((q2, k2), (q2[:B], k3)):
        with pytest.raises(ValueError, match=r"one query \[d_q\] .*got q .*; dense_weights"):
            dense_score(q, k, lambda pairs: pairs[..., :1])


def test_a_mask_must_be_boolean(unchecked):
    with pytest.raises(TypeError, match=r"mask must be boolean, got float32; use mask > 0"):
        dense_weights(q2, k2, mask=jnp.ones((M, L)))
