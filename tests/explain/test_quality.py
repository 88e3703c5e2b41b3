"""How good an attribution is: hand-worked values, loops in float64, and the functions of other libraries."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import close, rejects
from scipy import stats
from sklearn import metrics

from gatjax import MeanConv, build_graph
from gatjax.explain import (
    Ablation,
    Fidelity,
    ablate,
    area_under_curve,
    characterization,
    comprehensiveness,
    deletion_curve,
    edge_auroc,
    edge_deletion,
    fidelity,
    insertion_curve,
    precision_at_k,
    rank_correlation,
    sufficiency,
    top_edges,
    unfaithfulness,
)
from gatjax.training import area_under_roc

EDGES = 29


@pytest.fixture(scope="module")
def values():
    """Whole numbers, with ties."""
    return np.random.default_rng(0).integers(0, 9, EDGES).astype(np.float32)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(1).random(EDGES) < 0.3


MASK = np.arange(EDGES) % 4 != 1


def star():
    """Three neighbours, whose mean is the output."""
    graph = build_graph([0, 1, 2], [3, 3, 3], np.array([[1.0], [4.0], [7.0], [0.0]], np.float32))
    ones = nnx.initializers.ones
    layer = MeanConv(1, 1, use_bias=False, kernel_init=ones, rngs=nnx.Rngs(0))
    return layer, graph, {"label": 0, "score": lambda outputs, label: outputs[0]}


@pytest.mark.slow
def test_curves_by_hand():
    layer, graph, options = star()
    values = edge_deletion(layer, graph, 3, **options)
    close(values, [-1.5, 0, 1.5])
    close(deletion_curve(layer, graph, 3, values, steps=3, **options), [4, 2.5, 1, 0])
    insertion = insertion_curve(layer, graph, 3, values, steps=3, **options)
    close(insertion, [0, 7, 5.5, 4])
    close(area_under_curve(insertion), (3.5 + 6.25 + 4.75) / 3)
    # Of two edges half is one; the edge that takes no part is neither there nor counted.
    mask = np.array([True, False, True])
    found = deletion_curve(layer, graph, 3, values, steps=2, edge_mask=mask, **options)
    close(found, [4, 1, 0])
    outputs = ablate(layer, graph, 3, top_edges(values, 1), **options)
    close(jnp.concatenate(outputs), [4, 2.5, 7])


def test_of_the_outputs_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    q = np.array([[0.2, 0.5, 0.3], [0.1, 0.5, 0.4]])
    r = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    ablation = Ablation(*(jnp.log(each) for each in (p, q, r)))
    close(comprehensiveness(ablation), [0.5, 0.1])
    close(sufficiency(ablation), [0.1, 0.2])
    close(comprehensiveness(ablation, jnp.array([2, 2])), [-0.2, -0.1])
    kl = [
        sum(a * math.log(a / b) for a, b in zip(*rows, strict=True))
        for rows in zip(p, r, strict=True)
    ]
    close(unfaithfulness(ablation), 1 - np.exp(-np.array(kl)))
    # Without the edges the first changes its mind, with them alone the second.
    close(fidelity(ablation), [0.5, 0.5])
    # For label 0 the first is right, then wrong without; the second becomes right with the edges alone.
    close(fidelity(ablation, jnp.array([0, 0])), [0.5, 0.5])
    # For label 2 nobody is ever right.
    close(fidelity(ablation, jnp.array([2, 2])), [0, 0])


def test_unfaithfulness_has_the_direction_of_its_definition():
    """What the explanation rules out, and the whole graph does not, has no bound; the other way round it has."""
    sure, unsure = jnp.array([40.0, 0.0]), jnp.array([0.0, 0.0])
    assert float(unfaithfulness(Ablation(unsure, unsure, sure))) > 0.999
    close(unfaithfulness(Ablation(sure, unsure, unsure)), 0.5)


def test_characterization():
    number = lambda plus, minus, **weight: float(
        characterization(Fidelity(jnp.float32(plus), jnp.float32(minus)), **weight)
    )
    close(number(0.5, 0.2), 1 / (0.5 / 0.5 + 0.5 / 0.8))
    close(number(0.5, 0.2, weight=0.9), 1 / (0.9 / 0.5 + 0.1 / 0.8))
    assert number(1, 0) == 1 and number(0, 0) == 0 and number(1, 1) == 0
    with rejects(ValueError, "weight = 2.0 must lie between 0 and 1"):
        number(0.5, 0.5, weight=2.0)


def test_auroc_and_precision(values, truth):
    pairs = [
        (values[i] > values[j]) + (values[i] == values[j]) / 2
        for i in np.flatnonzero(truth & MASK)
        for j in np.flatnonzero(~truth & MASK)
    ]
    close(edge_auroc(values, truth, edge_mask=MASK), np.mean(pairs))
    close(edge_auroc(values, truth), area_under_roc(values[truth], values[~truth]))
    close(edge_auroc(values, truth), metrics.roc_auc_score(truth, values))
    many = np.arange(200_000) >= 150_000
    close(edge_auroc(np.linspace(0, 1, len(many), dtype=np.float32), many), 1)
    distinct = values + np.linspace(0, 0.9, EDGES)
    order = [edge for edge in np.argsort(-distinct) if MASK[edge]]
    close(precision_at_k(distinct, truth, 5, edge_mask=MASK), truth[order[:5]].mean())
    close(precision_at_k(distinct, truth, 2 * EDGES), truth.mean())


def test_rank_correlation(values, truth):
    other = np.random.default_rng(2).integers(0, 5, EDGES).astype(np.float32)
    close(rank_correlation(values, other), stats.spearmanr(values, other).statistic)
    close(
        rank_correlation(values, other, edge_mask=MASK),
        stats.spearmanr(values[MASK], other[MASK]).statistic,
    )
    close(rank_correlation(values, values**3), 1)
    assert math.isnan(rank_correlation(values, np.ones(EDGES, np.float32)))


def test_order_and_padding_do_not_matter(values, truth):
    order = np.random.default_rng(3).permutation(EDGES)
    mask = np.append(np.ones(EDGES, bool), [False, False])
    for measure, second in ((edge_auroc, truth), (rank_correlation, values[::-1])):
        expected = measure(values, second)
        close(measure(values[order], second[order]), expected)
        fill = np.zeros(2, second.dtype)
        filled = np.append(values, [np.float32(1e9), np.float32(-1e9)])
        found = measure(filled, np.append(second, fill), edge_mask=mask)
        close(found, expected)
        compiled = jax.jit(lambda *given, measure=measure: measure(*given[:2], edge_mask=given[2]))
        close(compiled(filled, np.append(second, fill), mask), expected)


def test_what_is_no_number_is_no_result(values, truth):
    broken = np.where(np.arange(EDGES) == 4, np.nan, values)
    assert np.isnan(edge_auroc(broken, truth)) and np.isnan(rank_correlation(values, broken))
    without = np.arange(EDGES) != 4
    assert np.isfinite(edge_auroc(broken, truth, edge_mask=without))


def test_bad_input(values, truth, unchecked):
    layer, graph, options = star()
    with rejects(ValueError, "values must have 3 rows, got 2"):
        deletion_curve(layer, graph, 3, np.ones(2), **options)
    with rejects(ValueError, "values must be [E], one number per edge, got [3, 1]"):
        deletion_curve(layer, graph, 3, np.ones((3, 1)), **options)
    with rejects(ValueError, "steps must be at least 1, got 0"):
        insertion_curve(layer, graph, 3, np.ones(3), steps=0, **options)
    with rejects(ValueError, "chosen must have 3 rows, got 2"):
        ablate(layer, graph, 3, np.ones(2, bool))
    with rejects(ValueError, "truth marks 0 of the 29 edges that take part"):
        edge_auroc(values, np.zeros(EDGES, bool))
    with rejects(ValueError, "truth marks 29 of the 29 edges that take part"):
        precision_at_k(values, np.ones(EDGES, bool), 3)
    with rejects(ValueError, "truth must have 29 rows, got 28"):
        edge_auroc(values, truth[1:])
    with rejects(TypeError, "truth must be boolean, got float32; use truth > 0"):
        edge_auroc(values, values)
    with rejects(ValueError, "second must have 29 rows, got 28"):
        rank_correlation(values, values[1:])
    heads = np.stack([values, values], 1)
    for ask in (
        lambda: edge_auroc(heads, truth),
        lambda: top_edges(heads, 3),
    ):
        with rejects(ValueError, "values must be [E], one number per edge, got [29, 2]"):
            ask()
    with rejects(ValueError, "second must be [E], one number per edge, got [29, 2]"):
        rank_correlation(values, heads)
    with rejects(ValueError, "k must be at least 1, got 0"):
        precision_at_k(values, truth, 0)
    with rejects(ValueError, "k must be at least 0, got -1"):
        top_edges(values, -1)
    with rejects(TypeError, "k must be an integer, got 2.5"):
        top_edges(values, 2.5)
    with rejects(ValueError, "curve must have at least two points, got shape [1]"):
        area_under_curve([1.0])
