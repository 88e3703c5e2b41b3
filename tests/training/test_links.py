"""Links: metrics against loops over pairs, negatives inside `jit`, and their training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import rejects
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from gatjax import (
    GCNConv,
    Pairs,
    add_self_loops,
    build_graph,
    neighbor_table,
    sample_negative_edges,
    split_edges,
    to_undirected,
)
from gatjax.training import (
    Links,
    Training,
    all_pairs_cross_entropy,
    area_under_roc,
    average_precision,
    balanced_cross_entropy,
    draw_pairs,
    has_edge,
    link_prediction,
    train,
)

# Few values, so that many are equal.
scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(positives=scores, negatives=scores)
@settings(max_examples=60, deadline=None)
def test_metrics_by_loops(positives, negatives):
    """AUC over all (positive, negative); AP over thresholds, as Σ (R_n - R_{n-1}) P_n."""
    wins = [(p > q) + 0.5 * (p == q) for p in positives for q in negatives]
    assert area_under_roc(positives, negatives) == pytest.approx(np.mean(wins), abs=1e-15)
    precision, recall = 0.0, 0.0
    for threshold in sorted({*positives, *negatives}, reverse=True):
        right = sum(p >= threshold for p in positives)
        wrong = sum(q >= threshold for q in negatives)
        precision += (right / len(positives) - recall) * right / (right + wrong)
        recall = right / len(positives)
    assert average_precision(positives, negatives) == pytest.approx(precision, abs=1e-15)


def test_metrics_by_hand_and_on_jax():
    """Scores .8 .4 against .6 .4 .1: 3 + 1.5 of 6 pairs; precision 1 at .8, and 2 of 4 at .4."""
    positives, negatives = [0.8, 0.4], [0.6, 0.4, 0.1]
    for library in (list, np.array, jnp.array):
        ends = library(positives), library(negatives)
        assert float(area_under_roc(*ends)) == pytest.approx(4.5 / 6)
        assert float(average_precision(*ends)) == pytest.approx((1 + 0.5) / 2)
    assert float(jax.jit(area_under_roc)(*map(jnp.array, (positives, negatives)))) == 0.75
    constant = np.zeros(3), np.zeros(5)
    assert (area_under_roc(*constant), average_precision(*constant)) == (0.5, 3 / 8)


@pytest.mark.parametrize("metric", [area_under_roc, average_precision])
def test_scores_without_a_rank_are_refused(metric):
    with rejects(ValueError, "negatives must be one or more scores, got shape (0,)"):
        metric([1.0], [])
    with rejects(ValueError, "positives[1] is NaN, which has no rank"):
        metric([1.0, np.nan], [0.0])


def test_loss_by_hand():
    """-1/2 log σ(y) over positives, -1/2 log(1 - σ(y)) over the negatives that count."""
    positives, negatives = np.array([2.0, -1.0]), np.array([0.5, 9.0, -3.0])
    counted = np.array([True, False, True])
    sigma = lambda y: 1 / (1 + np.exp(-y))
    expected = -np.log(sigma(positives)).mean() / 2
    expected -= np.log(1 - sigma(negatives[counted])).mean() / 2
    given = jnp.array(positives, jnp.float32), jnp.array(negatives, jnp.float32)
    found, slope = jax.value_and_grad(balanced_cross_entropy, 1)(*given, counted)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert slope[1] == 0
    assert balanced_cross_entropy(jnp.zeros(0), jnp.zeros(0)) == 0
    assert np.isfinite(balanced_cross_entropy(jnp.array([-1e30]), jnp.array([-1e30])))


@pytest.mark.parametrize("block_size", [4, 1024])
def test_loss_of_all_pairs_by_a_loop(block_size, x64):
    """An edge to itself for each node, and both directions of the two edges; the other pairs have none."""
    z = np.random.default_rng(0).standard_normal((7, 3))
    pairs = Pairs(np.array([0, 5]), np.array([3, 2]))
    edges = {(0, 3), (3, 0), (5, 2), (2, 5), *((i, i) for i in range(7))}
    loss = {True: [], False: []}
    for i in range(7):
        for j in range(7):
            chance = 1 / (1 + np.exp(-z[i] @ z[j]))
            joined = (i, j) in edges
            loss[joined].append(-np.log(chance if joined else 1 - chance))
    expected = (np.mean(loss[True]) + np.mean(loss[False])) / 2
    of = lambda z: all_pairs_cross_entropy(z, pairs, block_size=block_size)
    np.testing.assert_allclose(of(jnp.array(z)), expected, rtol=1e-12)
    check_grads(of, (jnp.array(z),), order=1, modes=["rev"])


def test_loss_of_all_pairs_where_all_have_an_edge_or_there_are_no_nodes():
    one = all_pairs_cross_entropy(jnp.ones((2, 1)), Pairs(jnp.array([0]), jnp.array([1])))
    np.testing.assert_allclose(one, np.log(1 + np.exp(-1)) / 2, rtol=1e-6)
    assert all_pairs_cross_entropy(jnp.zeros((0, 2)), Pairs(*jnp.zeros((2, 0), int))) == 0
    with rejects(ValueError, "block_size must be a whole number from 1 on, got 0"):
        all_pairs_cross_entropy(
            jnp.ones((2, 1)), Pairs(jnp.array([0]), jnp.array([1])), block_size=0
        )


def random_graph(nodes=13, edges=31, seed=0):
    ends = np.random.default_rng(seed).integers(nodes, size=(2, edges))
    return build_graph(*ends, num_nodes=nodes)


def test_an_edge_is_found_inside_jit():
    graph = random_graph()
    table = neighbor_table(graph)
    grid = Pairs(*map(jnp.ravel, jnp.meshgrid(jnp.arange(13), jnp.arange(13))))
    joined = np.zeros((13, 13), bool)
    joined[graph.senders, graph.receivers] = joined[graph.receivers, graph.senders] = True
    expected = joined[np.asarray(grid.senders), np.asarray(grid.receivers)]
    np.testing.assert_array_equal(jax.jit(has_edge)(table, grid), expected)
    nothing = neighbor_table(build_graph([], [], num_nodes=2))
    assert has_edge(nothing, Pairs(jnp.array([0]), jnp.array([1]))).tolist() == [False]


def test_drawn_pairs_that_count_have_no_edge_and_the_same_chance():
    """Of 13 · 12 ordered pairs each comes as often as another, within five standard deviations."""
    graph = random_graph()
    draw = jax.jit(draw_pairs, static_argnums=2)
    (senders, receivers), counted = draw(jax.random.key(0), neighbor_table(graph), 100_000)
    assert not np.any(senders == receivers)
    table = np.zeros((13, 13), int)
    np.add.at(table, (np.asarray(senders), np.asarray(receivers)), np.asarray(counted))
    joined = np.zeros((13, 13), bool)
    joined[graph.senders, graph.receivers] = joined[graph.receivers, graph.senders] = True
    free = ~joined & ~np.eye(13, dtype=bool)
    assert not table[~free].any()
    expected = 100_000 / (13 * 12)
    assert np.abs(table[free] - expected).max() < 5 * expected**0.5
    (other, _), _ = draw(jax.random.key(1), neighbor_table(graph), 100_000)
    assert np.any(other != senders), "another key, other pairs"
    with rejects(ValueError, "1 nodes make no pair: give a graph of two or more"):
        draw_pairs(jax.random.key(0), neighbor_table(build_graph([], [], num_nodes=1)), 5)


# Two groups of ten, joined within and hardly between them.


def communities():
    rng = np.random.default_rng(0)
    group = np.arange(20) % 2
    joined = rng.random((20, 20)) < np.where(group[:, None] == group, 0.7, 0.05)
    senders, receivers = np.nonzero(np.triu(joined, 1))
    features = np.eye(20, dtype=np.float32)
    return to_undirected(build_graph(senders, receivers, features))


GRAPH = communities()


def links_of(seed, per_seed=False):
    split = split_edges(GRAPH, validation=0.1, test=0.1, seed=seed)
    negatives = sample_negative_edges(GRAPH, len(split.validation.senders), seed=seed)
    messages = add_self_loops(split.graph)
    links = Links(split.train, split.validation, negatives, neighbor_table(split.graph))
    return (
        messages,
        split.test,
        links._replace(edges=messages._replace(nodes=None) if per_seed else None),
    )


def build(rngs):
    return GCNConv(20, 6, rngs=rngs)


@pytest.mark.slow
def test_link_prediction_by_its_parts():
    messages, test, links = links_of(0)
    pure = link_prediction(build, negatives=2)
    key = jax.random.key(5)
    parameters = pure.initialise(jax.random.key(0))
    nodes = np.asarray(build(nnx.Rngs(jax.random.key(0)))(messages).nodes)
    np.testing.assert_allclose(
        pure.scores(parameters, messages, test),
        np.sum(nodes[test.senders] * nodes[test.receivers], axis=1),
        rtol=1e-5, atol=1e-6,
    )  # fmt: skip
    pairs, counted = draw_pairs(jax.random.split(key)[1], links.table, 2 * len(links.train.senders))
    of = lambda pairs: pure.scores(parameters, messages, pairs)
    expected = balanced_cross_entropy(of(links.train), of(pairs), counted)
    np.testing.assert_allclose(pure.loss(parameters, key, messages, links), expected, rtol=1e-6)
    metrics = pure.validate(parameters, messages, links)
    expected = area_under_roc(of(links.validation), of(links.validation_negatives))
    np.testing.assert_allclose(metrics.accuracy, expected, rtol=1e-6)
    assert pure == link_prediction(build, negatives=2) and hash(pure) == hash(
        link_prediction(build, negatives=2)
    )
    assert pure.loss != link_prediction(build).loss
    whole = link_prediction(build, negatives="all")
    expected = all_pairs_cross_entropy(nodes, links.train)
    np.testing.assert_allclose(whole.loss(parameters, key, messages, links), expected, rtol=1e-5)


@pytest.mark.slow
def test_each_seed_may_have_a_split_of_its_own():
    pure = link_prediction(build)
    training = Training(*pure[:3], optax.adam(0.05), max_epochs=60, epochs_per_dispatch=60)
    options = {"devices": jax.devices()[:1], "progress": False}
    found = train(training, [0, 1], GRAPH, lambda seed: links_of(seed, True)[2], **options)
    for trained in found:
        own, test, _ = links_of(trained.seed)
        scores = lambda pairs, own=own, trained=trained: np.asarray(
            pure.scores(trained.parameters, own, pairs)
        )
        negatives = sample_negative_edges(GRAPH, 60, seed=9)
        assert area_under_roc(scores(test), scores(negatives)) > 0.75, "it learns the groups"


@pytest.mark.parametrize("negatives", [0, -1])
def test_a_number_of_negatives_that_is_none(negatives):
    with rejects(ValueError, "negatives must be a whole number from 1 on"):
        link_prediction(build, negatives=negatives)
