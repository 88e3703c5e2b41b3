"""Weights of edges, and nodes that take no part: through every layer, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGES,
    NODES,
    OUT,
    REPRESENTATIVES,
    Keep,
    all_layers,
    build,
    evaluate,
    fill_edges,
    graph_for,
    one_of_each,
    rows,
    weights_of,
)
from flax import nnx
from helpers import assert_close, rejects

from gatjax import GAT, Budget, GCNConv, build_graph, edge_attention, pad
from gatjax.layers import GATConv, MeanConv

WEIGHT = np.random.default_rng(7).uniform(0.1, 2.0, EDGES).astype(np.float32)
UNIFORM_OR_ATTENTION = [case for case in CASES if case.layer is not GCNConv]


@nnx.jit
def weighted(layer, graph, edge_weight, edge_mask, node_mask, cotangent):
    """Output, attention, and the gradients of <cotangent, output> for parameters and weights."""
    parts = {"edge_mask": edge_mask, "node_mask": node_mask}

    def loss(layer, edge_weight):
        out = layer(graph, edge_weight=edge_weight, **parts, deterministic=True).nodes
        return (out * cotangent).sum(), out

    both = nnx.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, out), (d_parameters, d_weight) = both(layer, edge_weight)
    alpha = layer.attention(graph, edge_weight=edge_weight, **parts)
    return out, alpha, d_parameters, d_weight


def with_weights(layer, graph, edge_weight=WEIGHT, edge_mask=None, node_mask=None, cotangent=None):
    edge_mask = np.ones(len(graph.senders), bool) if edge_mask is None else edge_mask
    node_mask = np.ones(len(graph.nodes), bool) if node_mask is None else node_mask
    cotangent = weights_of(graph) if cotangent is None else cotangent
    return weighted(layer, graph, edge_weight, edge_mask, node_mask, cotangent)


@rows(UNIFORM_OR_ATTENTION)
def test_a_weight_multiplies_after_the_softmax(case):
    layer, graph = build(case), graph_for(case)
    out, alpha, _, _ = with_weights(layer, graph)
    expected, weights = case.reference(layer, graph, Keep(attention=WEIGHT[:, None]))
    assert_close(out, expected)
    assert_close(alpha, weights * WEIGHT[:, None])


@all_layers
def test_weights_of_one_change_nothing(case):
    layer, graph = build(case), graph_for(case)
    out, alpha, d_parameters, _ = with_weights(layer, graph, np.ones(EDGES, np.float32))
    expected = evaluate(layer, graph)
    assert_close((out, alpha), (expected.nodes, expected.attention))
    assert_close(d_parameters, expected.d_params)


@pytest.mark.slow
@one_of_each
def test_the_gradient_of_the_weights_is_that_of_finite_differences(case, x64):
    layer = build(case, param_dtype=jnp.float64)
    graph = graph_for(case, dtype=np.float64)
    weight, step = WEIGHT.astype(np.float64), 1e-6
    direction = np.random.default_rng(1).normal(size=EDGES)
    total = lambda w: np.sum(np.asarray(with_weights(layer, graph, w)[0]) * weights_of(graph))
    slope = (total(weight + step * direction) - total(weight - step * direction)) / (2 * step)
    np.testing.assert_allclose(with_weights(layer, graph, weight)[3] @ direction, slope, rtol=1e-6)


@rows(CASES, REPRESENTATIVES)
def test_nodes_without_part_and_what_they_hold_reach_nothing(case):
    """NaN in padding nodes and in padding edges, with the node mask alone: no value, no gradient."""
    layer, real = build(case), graph_for(case)
    graph, masks = pad(real, Budget(nodes=2 * NODES, edges=2 * EDGES, graphs=2))
    graph.nodes[NODES:] = np.nan
    fill_edges(graph, EDGES, np.nan)
    if graph.globals is not None:
        graph.globals[1:] = np.nan
    weight = np.full(2 * EDGES, np.nan, np.float32)
    weight[:EDGES] = WEIGHT
    cotangent = np.zeros((2 * NODES, OUT), np.float32)
    cotangent[:NODES] = weights_of(real)
    found = with_weights(layer, graph, weight, node_mask=masks.node, cotangent=cotangent)
    expected = with_weights(layer, real)
    assert_close(found[0][:NODES], expected[0])
    assert_close(found[1][:EDGES], expected[1])
    assert not np.asarray(found[1][EDGES:]).any()
    assert_close(found[2], expected[2])
    assert_close(found[3][:EDGES], expected[3])


@pytest.mark.slow
def test_a_graph_convolution_takes_two_parallel_edges_for_one_of_twice_the_weight():
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(5, 3)).astype(np.float32)
    senders, receivers = np.array([0, 1, 2, 3, 1]), np.array([1, 2, 2, 1, 1])
    layer = GCNConv(3, 4, rngs=nnx.Rngs(0))
    twice = build_graph(np.r_[senders, senders[:2]], np.r_[receivers, receivers[:2]], nodes)
    weight = jnp.array([2.0, 2.0, 1.0, 1.0, 1.0])
    once = build_graph(senders, receivers, nodes)
    assert_close(layer(once, edge_weight=weight).nodes, layer(twice).nodes)
    alpha = layer.attention(twice)
    merged = np.asarray(alpha[:5]).copy()
    merged[:2] += alpha[5:]
    assert_close(layer.attention(once, edge_weight=weight), merged)


@pytest.mark.parametrize("block_size", [None, 7])
def test_weights_and_a_mask_per_head_multiply(block_size):
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(0, 5, 23), rng.integers(0, 4, 23)
    values, factor = rng.normal(size=(5, 2, 3)), rng.uniform(size=(23, 2)).astype(np.float32)
    weight = rng.uniform(size=23).astype(np.float32)
    attend = lambda **factors: edge_attention(
        lambda w, r, s, e: s.sum(-1),
        lambda w, r, s, e: s,
        *(None, None, jnp.asarray(values, jnp.float32), None),
        *(senders, receivers, 4),
        block_size=block_size,
        **factors,
    )
    both = attend(edge_weight=weight, multiplier=factor)
    assert_close(both, attend(multiplier=factor * weight[:, None]))
    assert_close(attend(edge_weight=weight), attend(multiplier=np.repeat(weight[:, None], 2, 1)))


def test_a_model_hands_weights_and_masks_to_every_layer():
    graph = build_graph([0, 1, 2, 3], [1, 2, 0, 1], np.eye(4, dtype=np.float32))
    weight, mask = jnp.array([0.5, 2.0, 1.0, 3.0]), np.array([True, True, True, False])
    model = GAT(4, 3, hidden_features=8, num_heads=2, rngs=nnx.Rngs(0))
    first, last = model.layers
    parts = {"edge_weight": weight, "node_mask": mask}
    hidden = first(graph, **parts)
    by_hand = last(hidden._replace(nodes=nnx.elu(hidden.nodes)), **parts)
    assert_close(model(graph, **parts).nodes, by_hand.nodes)
    assert_close(model.attention(graph, **parts)[0], first.attention(graph, **parts))


@pytest.mark.slow
def test_batch_norm_means_the_same_by_deterministic_as_by_eval():
    rng = np.random.default_rng(0)
    graph = build_graph([0, 1, 2], [1, 2, 0], rng.normal(size=(5, 4)).astype(np.float32))
    model = GAT(4, 3, hidden_features=8, norm=nnx.BatchNorm, rngs=nnx.Rngs(0))
    model(graph, deterministic=False)
    statistics = jax.tree.map(np.array, nnx.state(model, nnx.BatchStat))
    by_argument = model(graph, deterministic=True).nodes
    assert_close(nnx.state(model, nnx.BatchStat), statistics)
    model.eval()
    assert_close(by_argument, model(graph).nodes)


@pytest.mark.slow
def test_batch_norm_knows_which_nodes_count():
    rng = np.random.default_rng(0)
    real = build_graph([0, 1, 2], [1, 2, 0], rng.normal(size=(5, 4)).astype(np.float32))
    graph, masks = pad(real, Budget(nodes=9, edges=5, graphs=2))
    build_model = lambda: GAT(4, 3, hidden_features=8, norm=nnx.BatchNorm, rngs=nnx.Rngs(0))
    padded, alone = build_model(), build_model()
    found = padded(graph, node_mask=masks.node, deterministic=False).nodes[:5]
    assert_close(found, alone(real, deterministic=False).nodes)
    assert_close(nnx.state(padded, nnx.BatchStat), nnx.state(alone, nnx.BatchStat))


@pytest.mark.parametrize("layer", [GATConv, MeanConv, GCNConv])
def test_bad_weights_and_masks_are_refused_by_call_and_attention_alike(layer, unchecked):
    graph = build_graph([0, 1], [1, 0], np.eye(2, dtype=np.float32))
    layer = layer(2, 3, rngs=nnx.Rngs(0))
    for method in (layer, layer.attention):
        with rejects(TypeError, "edge_weight must be real numbers, got int"):
            method(graph, edge_weight=np.array([1, 2]))
        with rejects(ValueError, "edge_weight must be [E], one number per edge, got [2, 1]"):
            method(graph, edge_weight=np.ones((2, 1), np.float32))
        with rejects(ValueError, "edge_weight must have 2 rows, got 3"):
            method(graph, edge_weight=np.ones(3, np.float32))
        with rejects(TypeError, "node_mask must be boolean, got float32; use node_mask > 0"):
            method(graph, node_mask=np.ones(2, np.float32))
        with rejects(ValueError, "node_mask must have 2 rows, got 3"):
            method(graph, node_mask=np.ones(3, bool))
    if isinstance(layer, GCNConv):
        with rejects(ValueError, "edge_weight[1] = -1.0 is negative: it must be at least 0"):
            layer(graph, edge_weight=np.array([1.0, -1.0], np.float32))
