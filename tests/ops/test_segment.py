"""segment.py: every reduction against plain loops, hand-worked numbers, and rows that must not count."""

from functools import partial

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
import reference
from helpers import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from reference import EXTREME_LOGITS

from gatjax.ops import (
    segment_entmax,
    segment_hardmax,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sparsemax,
    segment_straight_through,
    segment_sum,
    segment_top_k,
)

E, S, H, C = 31, 7, 3, 2
LOGITS = [2.0, 0.5, 1.0]
WEIGHTS = [0.62853172, 0.14024438, 0.23122390]
ONE_GROUP = jnp.zeros(3, jnp.int32)

FUNCTIONS = {
    "sum": segment_sum,
    "mean": segment_mean,
    "max": segment_max,
    "softmax": segment_softmax,
    "hardmax": segment_hardmax,
    "straight_through": segment_straight_through,
    "top_k": partial(segment_top_k, k=2),
    "sparsemax": segment_sparsemax,
    "entmax": segment_entmax,
}
SPARSE = {
    "top_k": partial(reference.top_k, k=2),
    "sparsemax": reference.sparsemax,
    "entmax": reference.entmax,
}
REFERENCES = {
    name: partial(reference.segment_weights, SPARSE[name])
    if name in SPARSE
    else getattr(reference, f"segment_{'hardmax' if name == 'straight_through' else name}")
    for name in FUNCTIONS
}
ORDERS = [("top_k", 2), ("sparsemax", 2), ("entmax", 2)]
PER_ROW = ("softmax", "hardmax", "straight_through", *SPARSE)
# What is special of the sparse ones is in test_sparse_weights.py.
every_reduction = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SPARSE else ()) for name in FUNCTIONS],
)

# Jitted, so that ids and masks are unknown to the functions, and compiled once per shape.
jitted = {
    name: jax.jit(function, static_argnames="num_segments") for name, function in FUNCTIONS.items()
}
soften = jitted["softmax"]


def random_rows(shape=(E, H), dtype=np.float32, seed=0):
    """Rows, ids of which some are out of range and some groups empty, and a mask."""
    rng = np.random.default_rng(seed)
    ids = rng.choice([-S, -1, 0, 1, 2, 4, S - 1, S, 10**6], shape[0]).astype(np.int32)
    mask = rng.random(shape[0]) < 0.8
    return jnp.asarray(rng.normal(size=shape).astype(dtype)), jnp.asarray(ids), jnp.asarray(mask)


@every_reduction
@pytest.mark.parametrize("shape", [(E,), (E, H, C)], ids=["E", "E H C"])
def test_equals_plain_loops(name, shape, x64):
    rows, ids, mask = random_rows(shape, np.float64)
    out = jitted[name](rows, ids, S, mask=mask)
    np.testing.assert_allclose(out, REFERENCES[name](rows, ids, S, mask), atol=1e-12)
    assert out.dtype == rows.dtype


@settings(max_examples=25, deadline=None, database=None)
@given(
    st.lists(st.tuples(st.integers(-2, S + 1), st.booleans(), st.integers(-3, 3)), max_size=13),
    st.booleans(),
)
def test_equals_plain_loops_for_any_ids(drawn, hub):
    """Empty groups, one large group, ties; rows beyond those drawn are padding, ruled out by their id."""
    ids, mask, rows = np.full(13, -1, np.int32), np.ones(13, bool), np.zeros(13, np.float32)
    for k, (group, counts, row) in enumerate(drawn):
        ids[k], mask[k], rows[k] = 3 if hub else group, counts, row
    for name in FUNCTIONS:
        out = jitted[name](*map(jnp.asarray, (rows, ids)), S, mask=jnp.asarray(mask))
        np.testing.assert_allclose(
            out, REFERENCES[name](rows, ids, S, mask), atol=1e-6, err_msg=name
        )


@every_reduction
def test_without_rows_that_count_all_is_zero(name):
    """And a maximum is 0 there, not -inf."""
    rows, ids = -1 - jnp.arange(4.0), jnp.array([1, 1, 1, 1])
    out = jitted[name](rows, ids, 3, mask=jnp.zeros(4, bool))
    np.testing.assert_array_equal(out, np.zeros(4 if name in PER_ROW else 3))


@every_reduction
@pytest.mark.parametrize("num_rows, num_segments", [(0, 0), (0, 5), (3, 0)])
def test_no_rows_or_no_groups(name, num_rows, num_segments):
    """With rows but no groups every id is out of range."""
    out = jitted[name](jnp.ones((num_rows, H)), jnp.zeros(num_rows, jnp.int32), num_segments)
    assert out.shape == (num_rows if name in PER_ROW else num_segments, H)
    assert not out.any()


@every_reduction
def test_a_row_that_does_not_count_reaches_nothing(name):
    """Neither the other rows' results, nor any gradient, whether a mask or its id rules the row out."""
    rows, ids, mask = random_rows()
    ruled_out = ~mask | (ids < 0) | (ids >= S)
    probe = random_rows((E + S, H), seed=1)[0]

    @jax.jit
    def outcome(rows):
        out, pull_back = jax.vjp(lambda rows: FUNCTIONS[name](rows, ids, S, mask=mask), rows)
        return out, pull_back(probe[: len(out)])[0]

    expected = outcome(rows)
    assert not expected[1][ruled_out].any()
    for hostile in (np.nan, np.inf, -np.inf, 3e38):
        poisoned = jnp.where(ruled_out[:, None], hostile, rows)
        assert_same(outcome(poisoned), expected, of=str(hostile))


@every_reduction
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_narrow_ids(name, dtype, unchecked):
    """More groups than the ids' type can count."""
    ids, rows = jnp.array([0, 1, 1, 113]), jnp.array([1.0, 2.0, 5.0, 7.0])
    np.testing.assert_allclose(
        FUNCTIONS[name](rows, ids.astype(dtype), 257), REFERENCES[name](rows, ids, 257), rtol=1e-6
    )


@every_reduction
def test_vmap_over_rows_ids_and_masks(name):
    batch = [random_rows(seed=seed) for seed in range(5)]
    rows, ids, masks = (jnp.stack(leaf) for leaf in zip(*batch, strict=True))
    call = lambda rows, ids, mask: FUNCTIONS[name](rows, ids, S, mask=mask)
    for out, one in zip(jax.jit(jax.vmap(call))(rows, ids, masks), batch, strict=True):
        np.testing.assert_allclose(out, REFERENCES[name](*one[:2], S, one[2]), atol=1e-6)


@pytest.mark.parametrize(
    "name, order",
    [("sum", 1), ("mean", 1), ("softmax", 2)]
    + [pytest.param(*each, marks=pytest.mark.slow) for each in ORDERS],
)
def test_gradient_is_that_of_finite_differences(name, order, x64):
    rows, ids, mask = random_rows((13, H), np.float64)
    function = jax.jit(lambda rows: FUNCTIONS[name](rows, ids, S, mask=mask))
    check_grads(function, (rows,), order, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)


def test_gradient_with_respect_to_the_temperature(x64):
    function = jax.jit(lambda t: segment_softmax(jnp.array(LOGITS), ONE_GROUP, 1, temperature=t))
    check_grads(function, (jnp.array(0.7),), 1, modes=["fwd", "rev"], atol=1e-7, rtol=1e-7)


def test_gradient_of_max_goes_to_the_largest_row():
    rows = jnp.array([[1.0, 9.0], [4.0, 2.0], [8.0, 8.0]])
    gradient = jax.jit(jax.grad(lambda x: segment_max(x, jnp.array([0, 0, 5]), 2).sum()))(rows)
    np.testing.assert_array_equal(gradient, [[0, 1], [1, 0], [0, 0]])


def test_gradient_of_hardmax_is_zero():
    rows, ids, mask = random_rows()
    out, gradient = jax.jit(
        jax.value_and_grad(lambda x: segment_hardmax(x, ids, S, mask=mask).sum())
    )(rows)
    assert out > 0
    np.testing.assert_array_equal(gradient, np.zeros((E, H)))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_straight_through_has_the_gradient_of_the_softmax(temperature, x64):
    """`b_e (g_e - Σ_f b_f g_f) / T` with the softmax b of each group, and for any order of rows."""
    logits, ids, mask = random_rows((13, H), np.float64)
    cotangent = np.random.default_rng(7).normal(size=(13, H))
    choose = lambda x: segment_straight_through(x, ids, S, mask=mask, temperature=temperature)
    out, pull_back = jax.vjp(jax.jit(choose), logits)
    np.testing.assert_array_equal(out, reference.segment_hardmax(logits, ids, S, mask))
    b = reference.segment_softmax(logits, ids, S, mask, temperature)
    mean = reference.segment_sum(b * cotangent, ids, S, mask)[np.clip(ids, 0, S - 1)]
    expected = b * (cotangent - mean) / temperature
    np.testing.assert_allclose(pull_back(jnp.asarray(cotangent))[0], expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1


def test_straight_through_of_a_tie_shares_the_gradient(x64):
    out, pull_back = jax.vjp(lambda x: segment_straight_through(x, ONE_GROUP, 1), jnp.zeros(3))
    np.testing.assert_array_equal(out, [1, 0, 0])
    gradient = pull_back(jnp.array([9.0, 0.0, 0.0]))[0]
    np.testing.assert_allclose(gradient, [2, -1, -1], rtol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 100.0, -100.0, 1e4])
def test_softmax_of_the_party_whatever_is_added_to_its_scores(shift, x64):
    alpha = soften(jnp.array(LOGITS) + shift, ONE_GROUP, 1)
    np.testing.assert_allclose(alpha, WEIGHTS, atol=1e-8)


def test_softmax_of_the_party_in_float32():
    np.testing.assert_allclose(soften(jnp.array(LOGITS), ONE_GROUP, 1), WEIGHTS, atol=1e-6)


@jax.jit
def _softmax_and_gradient(logits, g):
    """The first three rows are one group, the party is another."""
    ids = jnp.array([0, 0, 0, 1, 1, 1])
    logits = jnp.concatenate([logits, jnp.array(LOGITS)])
    alpha, pull_back = jax.vjp(lambda x: segment_softmax(x, ids, 2), logits)
    return alpha, pull_back(g)[0]


@pytest.mark.parametrize("logits, weights", EXTREME_LOGITS.values(), ids=EXTREME_LOGITS)
def test_softmax_of_extreme_logits(logits, weights):
    """Values, and the gradient `α_e (g_e - Σ_f α_f g_f)`; the group beside it notices nothing."""
    g = np.array([1.0, 2.0, 4.0])
    alpha, gradient = _softmax_and_gradient(jnp.array(logits), jnp.array([*g, 0, 0, 0]))
    np.testing.assert_array_equal(alpha[:3], weights)
    np.testing.assert_allclose(alpha[3:], WEIGHTS, atol=1e-6)
    np.testing.assert_array_equal(gradient[:3], weights * (g - np.dot(weights, g)))


def test_temperature_between_hard_and_uniform(x64):
    logits, ids, mask = random_rows(dtype=np.float64)
    soft = lambda temperature: soften(logits, ids, S, mask=mask, temperature=temperature)
    hard = reference.segment_hardmax(logits, ids, S, mask)
    np.testing.assert_allclose(soft(1e-9), hard, atol=1e-12)
    uniform = reference.segment_softmax(0 * logits, ids, S, mask)
    np.testing.assert_allclose(soft(1e12), uniform, atol=1e-11)
    np.testing.assert_array_equal(soft(np.inf), uniform)
    warm = reference.segment_softmax(logits, ids, S, mask, 0.7)
    np.testing.assert_allclose(soft(0.7), warm, atol=1e-12)


def test_a_cold_softmax_of_large_logits_is_hard():
    """`logit / T` overflows float32 here, `(logit - max) / T` does not."""
    alpha = soften(jnp.array([1e30, 1e30, 1e29]), ONE_GROUP, 1, temperature=1e-10)
    np.testing.assert_array_equal(alpha, [0.5, 0.5, 0])


@pytest.mark.parametrize("temperature", [0, -1.5, float("nan")])
@pytest.mark.parametrize("kind", [float, np.float32, jnp.float32])
def test_a_temperature_must_be_positive(temperature, kind, unchecked):
    with pytest.raises(ValueError, match=r"temperature must be positive, got .*segment_hardmax"):
        segment_softmax(jnp.array(LOGITS), ONE_GROUP, 1, temperature=kind(temperature))


def test_whole_number_logits_keep_their_fractions(unchecked):
    """Hop counts make fine logits; weights in their dtype would all be 0 or 1."""
    alpha = soften(jnp.array([4, 1, 2]), ONE_GROUP, 1, temperature=2.0)
    np.testing.assert_allclose(alpha, WEIGHTS, atol=1e-6)


FIRST_OF_THE_LARGEST = {
    "tie": ([1.0, 3.0, 3.0], [0, 1, 0]),
    "all are -inf": ([-np.inf, -np.inf, -np.inf], [0, 0, 0]),
    "huge": ([-2e30, -1e30, -1e30], [0, 1, 0]),
    "signed zeros": ([-1.0, -0.0, 0.0], [0, 1, 0]),
    "party": (LOGITS, [1, 0, 0]),
}


@pytest.mark.parametrize("logits, one_hot", FIRST_OF_THE_LARGEST.values(), ids=FIRST_OF_THE_LARGEST)
def test_hardmax_takes_the_first_of_the_largest(logits, one_hot):
    for name in ("hardmax", "straight_through"):
        np.testing.assert_array_equal(jitted[name](jnp.array(logits), ONE_GROUP, 1), one_hot)


@pytest.mark.parametrize("dtype, half_ulp", [("bfloat16", 2**-9), ("float16", 2**-12)])
def test_half_precision_sums_thousands_of_rows(dtype, half_ulp):
    """Added up in the dtype itself, ones stop at 256 or 2048."""
    count = 4099
    ids, ones = jnp.zeros(count, jnp.int32), jnp.ones(count, dtype)
    total = jitted["sum"](ones, ids, 1)
    assert total.dtype == dtype
    np.testing.assert_allclose(np.float32(total), [count], rtol=half_ulp)
    assert jitted["mean"](ones, ids, 1).tolist() == [1.0]
    logits = jnp.asarray(np.random.default_rng(0).normal(size=count).astype(np.float32), dtype)
    alpha = soften(logits, ids, 1)
    assert alpha.dtype == dtype
    exact = reference.segment_softmax(np.float32(logits), np.zeros(count), 1)
    np.testing.assert_allclose(np.float32(alpha), exact, rtol=2 * half_ulp, atol=1e-7)
    assert abs(np.float32(alpha).sum() - 1) < half_ulp


def test_jraph_agrees_where_every_group_has_rows_and_every_id_exists():
    rows, ids = random_rows()[0], jnp.arange(E, dtype=jnp.int32) ** 2 % S
    ids = ids.at[:S].set(jnp.arange(S, dtype=jnp.int32))
    for name in ("sum", "mean", "max", "softmax"):
        theirs = getattr(jraph, f"segment_{name}")(rows, ids, S)
        np.testing.assert_allclose(jitted[name](rows, ids, S), theirs, atol=1e-6, err_msg=name)


@every_reduction
@pytest.mark.parametrize("field", ["segment_ids", "mask"])
def test_lengths_that_disagree(name, field, unchecked):
    """A mask or ids of length 1 would otherwise be broadcast over all rows."""
    ids, mask = jnp.zeros(1 if field == "segment_ids" else 3, jnp.int32), jnp.ones(3, bool)
    mask = mask[:1] if field == "mask" else mask
    with pytest.raises(ValueError, match=rf"{field}.* 3 .*1"):
        FUNCTIONS[name](jnp.ones(3), ids, 2, mask=mask)


@every_reduction
def test_ids_must_be_integers(name, unchecked):
    with pytest.raises(TypeError, match=r"segment_ids must be integers, got float32"):
        FUNCTIONS[name](jnp.ones(3), jnp.zeros(3), 2)
