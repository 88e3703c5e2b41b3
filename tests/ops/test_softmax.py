"""One softmax and one hardmax behind graph and dense attention: the same rules for what is missing or not a number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gatjax.attention import TopK, dense_weights
from gatjax.attention.steps import normalizer
from gatjax.ops import segment_softmax

INF, NAN = np.inf, np.nan
# Logits of one group, which of them count, and the weights of hard and of soft attention.
GROUPS = {
    "all -inf": ([-INF, -INF], [True, True], [0, 0], [0, 0]),
    "one -inf": ([-INF, -3.0], [True, True], [0, 1], [0, 1]),
    "far below zero beside -inf": ([-INF, -200.0], [True, True], [0, 1], [0, 1]),
    "masked": ([5.0, 1.0], [False, True], [0, 1], [0, 1]),
    "masked nan": ([NAN, 1.0], [False, True], [0, 1], [0, 1]),
    "nan": ([NAN, 1.0], [True, True], [NAN, NAN], [NAN, NAN]),
    "none counts": ([1.0, 2.0], [False, False], [0, 0], [0, 0]),
    "a tie": ([2.0, 2.0], [True, True], [1, 0], [0.5, 0.5]),
    "+inf": ([1e30, -1e30], [True, True], [1, 0], [1, 0]),
}


def on_edges(normalize, logits, counted):
    """Two groups of the same logits, so that one cannot read the other."""
    ids = jnp.repeat(jnp.arange(2), len(logits))
    both = jnp.concatenate([logits, jnp.zeros_like(logits)])
    mask = jnp.concatenate([counted, jnp.ones_like(counted)])
    return normalizer(normalize)(both, ids, 2, mask=mask)[: len(logits)]


def dense(normalize, logits, counted):
    return dense_weights(
        jnp.zeros(1),
        jnp.zeros((len(logits), 1)),
        mechanism=lambda q, k: logits,
        normalize=normalize,
        mask=counted,
    )


@pytest.mark.parametrize("form", [on_edges, dense])
@pytest.mark.parametrize("name", GROUPS)
def test_both_forms_agree_on_what_is_missing_or_not_a_number(form, name):
    logits, counted, hard, soft = GROUPS[name]
    harder = {"hardmax": hard, "straight_through": hard, TopK(1): hard}
    softer = {name: soft for name in ("softmax", "sparsemax", "entmax", TopK(2))}
    for normalize, expected in {**harder, **softer}.items():
        weights = form(normalize, jnp.array(logits), jnp.array(counted))
        np.testing.assert_allclose(weights, expected, atol=1e-6, err_msg=str(normalize))


def test_straight_through_is_hardmax_forward():
    for logits in ([1.0, INF], [INF, INF], [2.0, 2.0]):
        ids = jnp.zeros(2, int)
        given = [
            normalizer(name)(jnp.array(logits), ids, 1) for name in ("straight_through", "hardmax")
        ]
        np.testing.assert_array_equal(*given)


def test_the_temperature_has_a_gradient_beside_a_logit_of_minus_infinity():
    logits, ids = jnp.array([1.0, 3.0, -INF]), jnp.zeros(3, int)
    slope = jax.grad(lambda t: segment_softmax(logits, ids, 1, temperature=t)[0])(2.0)
    weight = np.exp([0.5, 1.5]) / np.exp([0.5, 1.5]).sum()
    # d/dT of softmax_0 = -1/T² w_0 (x_0 - Σ w x)
    np.testing.assert_allclose(slope, -weight[0] * (1 - weight @ [1, 3]) / 4, rtol=1e-5)
