"""Weights of exactly 0: top-k, sparsemax and entmax over groups."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import rejects

from gatjax.attention import TopK, dense_weights
from gatjax.ops import segment_entmax, segment_softmax, segment_sparsemax, segment_top_k

E, S = 61, 7
WHOLE = {"sparsemax": segment_sparsemax, "entmax": segment_entmax}
REFERENCES = {"sparsemax": reference.sparsemax, "entmax": reference.entmax}


def logits_and_ids(seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, S - 1, E)
    return jnp.asarray(rng.normal(size=E) * rng.choice([0.01, 1, 30], E)), jnp.asarray(ids)


def test_by_hand(x64):
    """Sparsemax of (1, 0.5, -1): both first ones over τ = 0.25. Entmax: x²+y²=1 with x-y=0.25, x+y=√(2-1/16)."""
    logits, one = jnp.array([1.0, 0.5, -1.0]), jnp.zeros(3, int)
    np.testing.assert_allclose(segment_sparsemax(logits, one, 1), [0.75, 0.25, 0], atol=1e-15)
    x, y = (np.sqrt(2 - 1 / 16) + 0.25) / 2, (np.sqrt(2 - 1 / 16) - 0.25) / 2
    np.testing.assert_allclose(segment_entmax(logits, one, 1), [x * x, y * y, 0], atol=1e-15)
    two = np.exp([1, 0.5]) / np.exp([1, 0.5]).sum()
    np.testing.assert_allclose(segment_top_k(logits, one, 1, k=2), [*two, 0], atol=1e-15)


@pytest.mark.slow
def test_top_k_of_many_is_the_softmax_and_of_one_is_hard(x64):
    logits, ids = logits_and_ids()
    soft = segment_softmax(logits, ids, S)
    np.testing.assert_array_equal(segment_top_k(logits, ids, S, k=E), soft)
    np.testing.assert_array_equal(
        segment_top_k(logits, ids, S, k=1), reference.segment_hardmax(logits, ids, S)
    )
    ties = segment_top_k(jnp.zeros((4, 2)).at[0, 1].set(-1), jnp.zeros(4, int), 1, k=2)
    np.testing.assert_array_equal(ties.T, [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0]])


def test_sparsemax_is_the_nearest_point_of_the_simplex(x64):
    """`<p - x, q - p> >= 0` for every other point q: at the corners, which is enough. Weights sum to 1 in each group,
    and in another order they are the same in that order."""
    logits, ids = logits_and_ids()
    order = jnp.asarray(np.random.default_rng(5).permutation(E))
    for name, function in WHOLE.items():
        p = function(logits, ids, S)
        total = np.bincount(ids, p, S)
        np.testing.assert_allclose(total[:-1], 1, rtol=1e-12)
        assert total[-1] == 0 and (np.asarray(p) >= 0).all() and (np.asarray(p) == 0).any()
        np.testing.assert_allclose(function(logits[order], ids[order], S), p[order], atol=1e-12)
        if name == "sparsemax":
            for i in range(S - 1):
                rows = np.asarray(ids) == i
                gap = np.asarray(p - logits)[rows]
                assert (gap >= gap @ np.asarray(p)[rows] - 1e-12).all()


def test_entmax_lies_between_softmax_and_sparsemax(x64):
    """Where sparsemax has weight, entmax has; and the largest weight grows from one to the next."""
    logits, ids = logits_and_ids()
    sparse, between = (np.asarray(WHOLE[n](logits, ids, S)) for n in ("sparsemax", "entmax"))
    soft = np.asarray(segment_softmax(logits, ids, S))
    assert set(np.flatnonzero(sparse)) < set(np.flatnonzero(between)) < set(np.flatnonzero(soft))
    for i in range(S - 1):
        rows = np.asarray(ids) == i
        assert soft[rows].max() <= between[rows].max() <= sparse[rows].max()


def test_gradients_are_those_of_the_papers(x64):
    """`s (g - <s, g> / Σ s)` with s the support for sparsemax, and the roots of the weights for entmax."""
    logits, ids = logits_and_ids()
    g = np.random.default_rng(1).normal(size=E)
    for function, power in ((segment_sparsemax, 0), (segment_entmax, 0.5)):
        p, pull_back = jax.vjp(lambda x, f=function: f(x, ids, S), logits)
        s = np.where(np.asarray(p) > 0, np.asarray(p) ** power, 0)
        mean = np.bincount(ids, s * g, S) / np.maximum(np.bincount(ids, s, S), 1e-300)
        np.testing.assert_allclose(pull_back(jnp.asarray(g))[0], s * (g - mean[ids]), atol=1e-12)


def test_the_temperature(x64):
    logits, ids = logits_and_ids()
    for function in (*WHOLE.values(), partial(segment_top_k, k=3)):
        warm = function(logits, ids, S, temperature=1.7)
        np.testing.assert_allclose(warm, function(logits / 1.7, ids, S), atol=1e-12)
        slope = jax.grad(lambda t, f=function: f(logits, ids, S, temperature=t)[::3].sum())(1.7)
        at = lambda t, f=function: float(f(logits, ids, S, temperature=t)[::3].sum())
        np.testing.assert_allclose(slope, (at(1.7 + 1e-6) - at(1.7 - 1e-6)) / 2e-6, atol=1e-6)


def test_float16_and_bfloat16_are_summed_in_float32():
    """A thousand equal logits weigh a thousandth each."""
    for dtype in (jnp.float16, jnp.bfloat16):
        for function in WHOLE.values():
            p = function(jnp.zeros(1000, dtype), jnp.zeros(1000, int), 1)
            assert p.dtype == dtype
            np.testing.assert_allclose(np.asarray(p, float), 1e-3, rtol=0.01)


HARD_TO_ADD = {
    "equal": np.zeros(10**5),
    "one far above many": np.r_[0, np.full(10**5, -0.3)],
    "ever closer": np.repeat(-1 + 2.0 ** -np.arange(24), 5000),
    "normal": np.random.default_rng(0).normal(size=10**5),
}


def test_float32_keeps_its_digits_over_a_hundred_thousand_edges_of_one_node():
    """As many as the softmax keeps of such a sum, and it ends; beside it a small group whose digits all stay."""
    small = np.array([0.3, 0.1, -5])
    for name, logits in HARD_TO_ADD.items():
        rows = np.r_[small, logits].astype(np.float32)
        ids = jnp.asarray(np.r_[np.zeros(3, int), np.ones(len(logits), int)])
        for rule, function in WHOLE.items():
            p = np.asarray(jax.jit(function, static_argnums=2)(rows, ids, 2), np.float64)
            message = f"{rule} of {name}"
            expected = REFERENCES[rule](rows[3:].astype(np.float64))
            np.testing.assert_allclose(p[:3], REFERENCES[rule](small), atol=2e-7, err_msg=message)
            np.testing.assert_allclose(p[3:].sum(), 1, atol=1e-3, err_msg=message)
            np.testing.assert_allclose(
                p[3:], expected, rtol=5e-3, atol=1e-3 * expected.max(), err_msg=message
            )


@pytest.mark.slow
def test_dense_attention_is_that_of_a_segment_per_query(x64):
    logits = (
        jnp.asarray(np.random.default_rng(3).normal(size=(5, 2, 7)) * 2).at[0, 0, 1].set(-jnp.inf)
    )
    mask = np.random.default_rng(4).random((5, 2, 7)) < 0.8
    ids = jnp.repeat(jnp.arange(10), 7)
    halved = lambda x, ids, n, mask: segment_softmax(x, ids, n, mask=mask) / 2
    rules = {
        **WHOLE,
        TopK(3): partial(segment_top_k, k=3),
        halved: lambda *a, mask, temperature: halved(a[0] / temperature, *a[1:], mask=mask),
    }
    queries, keys = jnp.arange(10.0).reshape(5, 2, 1), jnp.zeros((5, 7, 1))
    for name, function in rules.items():
        actual = dense_weights(
            queries,
            keys,
            mechanism=lambda q, k: logits.reshape(10, 7)[q[0].astype(int)],
            normalize=name,
            temperature=1.5,
            mask=mask,
        )
        options = {"mask": jnp.asarray(mask.ravel()), "temperature": 1.5}
        expected = function(logits.ravel(), ids, 10, **options)
        np.testing.assert_allclose(actual.ravel(), expected, atol=1e-12, err_msg=str(name))


def test_a_number_of_edges_that_is_none_is_refused(unchecked):
    for k, error, message in (
        (0, ValueError, "k must be at least 1, got 0"),
        (1.5, TypeError, "k must be a whole number, got 1.5"),
        (True, TypeError, "k must be a whole number, got True"),
    ):
        for call in (
            lambda k: TopK(k),
            lambda k: segment_top_k(jnp.ones(1), jnp.zeros(1, int), 1, k=k),
        ):
            with rejects(error, message):
                call(k)


def test_two_of_the_same_k_are_one_program():
    assert TopK(3) == TopK(3) and hash(TopK(3)) == hash(TopK(3)) and TopK(3) != TopK(2)
