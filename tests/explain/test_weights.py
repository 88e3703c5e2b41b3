"""What a layer does: entropy, divergence and agreement against hand-worked values and loops in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import close, draw, rejects

from gatjax import GATConv, GATv2Conv, build_graph, pad, relabel
from gatjax.explain import (
    SharedPairs,
    divergence,
    effective_neighbors,
    entropy,
    entropy_ratio,
    head_divergence,
    layer_divergence,
    ranking_agreement,
    shared_pairs,
)

NODES, EDGES, HEADS = 7, 19, 3


@pytest.fixture(scope="module")
def case():
    """Edges in no order, with self-loops and duplicates, one node without edges, one with a single edge."""
    random = np.random.default_rng(0)
    receivers = np.append(random.integers(0, NODES - 2, EDGES - 1), NODES - 2)
    senders = random.integers(0, NODES, EDGES)
    senders[0] = receivers[0]
    graph = build_graph(senders, receivers, num_nodes=NODES)
    logits = np.exp(draw(EDGES, HEADS, seed=1))
    total = np.zeros((NODES, HEADS))
    np.add.at(total, receivers, logits)
    return graph, (logits / total[receivers]).astype(np.float32)


def by_receiver(graph, weights):
    for node in range(NODES):
        yield node, np.asarray(weights, np.float64)[graph.receivers == node]


def loop_entropy(rows):
    return [-sum(p * math.log(p) for p in column if p > 0) for column in rows.T]


def loop_divergence(first, second):
    kl = lambda p, q: sum(a * math.log2(a / b) for a, b in zip(p, q, strict=True) if a > 0)
    middle = (first + second) / 2
    return (kl(first, middle) + kl(second, middle)) / 2


def test_by_hand():
    graph = build_graph([0, 1, 2, 3], [4, 4, 4, 0], num_nodes=5)
    weights = jnp.array([0.5, 0.25, 0.25, 1.0])
    close(entropy(graph, weights), [0, 0, 0, 0, 1.5 * math.log(2)])
    close(effective_neighbors(graph, weights), [1, 0, 0, 0, 2**1.5])
    ratio = np.asarray(entropy_ratio(graph, weights))
    assert np.isnan(ratio[:4]).all() and abs(ratio[4] - 1.5 / math.log2(3)) < 1e-6
    one_hot = jnp.array([1.0, 0.0, 0.0, 1.0])
    half = 0.5 * (math.log2(0.5 / 0.75) * 0.5 + 2 * 0.25 * math.log2(2) + math.log2(1 / 0.75))
    close(divergence(graph, weights, one_hot), [0, 0, 0, 0, half])
    heads = jnp.stack([weights, one_hot], 1)
    close(head_divergence(graph, heads), [[0, half], [half, 0]])
    assert np.isnan(np.asarray(head_divergence(graph, heads, edge_mask=jnp.arange(4) > 2))).all()


def test_against_loops(case):
    graph, weights = case
    other = np.roll(weights, 1, axis=1)
    found = entropy(graph, weights), divergence(graph, weights, other)
    count = np.bincount(graph.receivers, minlength=NODES)
    matrix = np.zeros((HEADS, HEADS))
    for (node, rows), (_, others) in zip(
        by_receiver(graph, weights), by_receiver(graph, other), strict=True
    ):
        close(found[0][node], loop_entropy(rows))
        close(
            found[1][node], [loop_divergence(*pair) for pair in zip(rows.T, others.T, strict=True)]
        )
        if count[node] > 1:
            pairs = itertools.product(range(HEADS), repeat=2)
            each = [loop_divergence(rows[:, a], rows[:, b]) for a, b in pairs]
            matrix += np.reshape(each, (HEADS, HEADS)) / (count > 1).sum()
    close(head_divergence(graph, weights), matrix)
    layers = [weights, weights[:, :1], weights[:, 1:]]
    means = np.stack([layer.mean(1) for layer in layers], 1)
    close(layer_divergence(graph, layers), head_divergence(graph, means))


def test_uniform_weights_and_one_head_alone(case):
    graph, _ = case
    count = np.bincount(graph.receivers, minlength=NODES)
    uniform = (1 / count[graph.receivers]).astype(np.float32)
    close(effective_neighbors(graph, uniform), count)
    ratio = np.asarray(entropy_ratio(graph, uniform))
    close(ratio[count > 1], np.ones((count > 1).sum()))
    assert np.isnan(ratio[count < 2]).all()
    # Weights that do not sum to 1 are those that they are in proportion to.
    close(entropy(graph, 5 * uniform), entropy(graph, uniform))


def loop_agreement(graph, weights):
    """Over every two receivers and every two senders that they share, edge by edge."""
    into = {}
    for edge, (sender, receiver) in enumerate(zip(graph.senders, graph.receivers, strict=True)):
        into.setdefault(int(receiver), {})[int(sender)] = weights[edge]
    against = total = 0
    for a, b in itertools.combinations(into, 2):
        for j, k in itertools.combinations(sorted(into[a].keys() & into[b].keys()), 2):
            total += 1
            against += (into[a][j] - into[a][k]) * (into[b][j] - into[b][k]) < 0
    return 1 - against / total


@pytest.mark.slow
def test_agreement_against_a_loop():
    random = np.random.default_rng(3)
    ends = np.argwhere(random.random((11, 9)) < 0.6)
    graph = build_graph(ends[:, 0], ends[:, 1], num_nodes=11)
    weights = random.random((len(ends), 2))
    found = ranking_agreement(jnp.asarray(weights), shared_pairs(graph))
    close(found, [loop_agreement(graph, weights[:, head]) for head in range(2)])
    assert 0.3 < float(found[0]) < 0.7
    nothing = shared_pairs(build_graph([0, 1], [1, 2], num_nodes=3))
    assert np.isnan(float(ranking_agreement(jnp.ones(2), nothing)))
    assert float(ranking_agreement(jnp.ones(len(ends)), shared_pairs(graph))) == 1


@pytest.mark.slow
def test_static_attention_agrees_and_dynamic_attention_need_not():
    """On a complete bipartite graph, as the dictionary has it: by theorem for GAT, whatever its parameters."""
    keys, queries = 13, 11
    senders, receivers = np.divmod(np.arange(keys * queries), queries)
    graph = build_graph(senders, keys + receivers, 2 * draw(keys + queries, 5))
    pairs = shared_pairs(graph)
    assert len(pairs.first) == queries * keys * (keys - 1) // 2
    for seed in range(2):
        layer = GATConv(5, 8, num_heads=2, rngs=nnx.Rngs(seed))
        agreement = np.asarray(ranking_agreement(layer.attention(graph), pairs))
        assert np.array_equal(agreement, [1, 1])
        dynamic = GATv2Conv(5, 8, num_heads=2, rngs=nnx.Rngs(seed))
        assert (np.asarray(ranking_agreement(dynamic.attention(graph), pairs)) < 0.99).all()


def measures(graph, weights, mask=None):
    """What is per node, and what is of the whole graph."""
    each = [
        entropy(graph, weights, edge_mask=mask),
        entropy_ratio(graph, weights, edge_mask=mask),
        effective_neighbors(graph, weights, edge_mask=mask),
        divergence(graph, weights, weights[:, ::-1], edge_mask=mask),
    ]
    pairs = shared_pairs(graph, edge_mask=mask)
    all_of_them = [
        head_divergence(graph, weights, edge_mask=mask),
        layer_divergence(graph, [weights, weights[:, :1]], edge_mask=mask),
        ranking_agreement(jnp.asarray(weights), pairs),
    ]
    return jnp.stack(each), all_of_them


@pytest.mark.slow
def test_order_of_edges_and_nodes_and_padding_do_not_matter(case):
    graph, weights = case
    each, whole = measures(graph, weights)
    order = np.random.default_rng(2).permutation(EDGES)
    shuffled = graph._replace(senders=graph.senders[order], receivers=graph.receivers[order])
    for found in zip(measures(shuffled, weights[order])[1], whole, strict=True):
        close(*found)
    close(measures(shuffled, weights[order])[0], each)
    new = np.random.default_rng(4).permutation(NODES)
    renamed = measures(relabel(graph, new), weights)
    close(renamed[0][:, new], each)
    padded, masks = pad(graph._replace(nodes=draw(NODES, 1)), (NODES + 4, EDGES + 6, 3))
    filled = np.concatenate([weights, np.full((6, HEADS), 7.0, np.float32)])
    found = measures(padded, filled, masks.edge)
    close(found[0][:, :NODES], each)
    for pair in [*zip(renamed[1], whole, strict=True), *zip(found[1], whole, strict=True)]:
        close(*pair)


def test_inside_jit(case):
    graph, weights = case
    pairs = shared_pairs(graph)
    arrays = graph._replace(nodes=draw(NODES, 1))
    compiled = jax.jit(lambda graph, weights: entropy(graph, weights))(arrays, weights)
    close(compiled, entropy(graph, weights))
    agreement = jax.jit(ranking_agreement)(weights, SharedPairs(*map(jnp.asarray, pairs)))
    close(agreement, ranking_agreement(jnp.asarray(weights), pairs))


def test_bad_input(case, unchecked):
    graph, weights = case
    with rejects(ValueError, "weights must have 19 rows, got 18"):
        entropy(graph, weights[:-1])
    with rejects(ValueError, "second must have 19 rows, got 3"):
        divergence(graph, weights, weights[:3])
    with rejects(ValueError, "layers is empty: give what model.attention(graph) returns"):
        layer_divergence(graph, [])
