"""Gradients against finite differences, in and the memory that they take."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGE_WIDTH,
    FULLEST,
    IN,
    NODES,
    REPRESENTATIVES,
    SOFT,
    build,
    differentiate,
    evaluate,
    graph_for,
    rows,
    smooth_edges,
    weights_of,
    with_smooth,
)
from flax import nnx
from helpers import assert_close

from gatjax.graph import build_graph
from gatjax.layers import DotProductConv, GATConv, GATv2Conv


@rows(CASES, REPRESENTATIVES)
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(case):
    # Enough edges that among those of each receiver, and relation, LeakyReLU takes both slopes: with one slope the
    # receiver's term drops out of the softmax, and its gradient is round-off.
    result = evaluate(build(case), graph_for(case, edges=20 * NODES))
    for path, leaf in jax.tree.leaves_with_path(result.d_params):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(leaf).all() and np.all(leaf != 0), name
        assert np.all(np.abs(leaf).max(-1) > 1e-5), name
    for leaf in jax.tree.leaves((result.d_nodes, result.d_edges)):
        assert np.isfinite(leaf).all() and np.any(leaf != 0)


@rows(SOFT)
def test_gradients_are_finite_differences(case, x64):
    layer = build(case, param_dtype=jnp.float64)
    graph = graph_for(case, dtype=np.float64)
    graphdef, params = nnx.split(layer)
    point = params, graph.nodes, smooth_edges(graph)

    def at(point):
        params, nodes, edges = point
        layer = nnx.merge(graphdef, params)
        return evaluate(layer, with_smooth(graph._replace(nodes=nodes), edges))

    def value(point):
        return float((at(point).nodes * weights_of(graph)).sum())

    result = at(point)
    gradient = result.d_params, result.d_nodes, result.d_edges
    rng = np.random.default_rng(4)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        move = lambda step: jax.tree.map(lambda x, d: x + step * d, point, direction)  # noqa: B023
        slope = (value(move(1e-6)) - value(move(-1e-6))) / 2e-6
        products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6, atol=1e-6)


@rows(FULLEST, REPRESENTATIVES)
def test_blocks_give_the_same_values_and_gradients_dropout_included(case, request):
    layer = build(case, dropout_rate=0.5)
    graph = graph_for(case, nodes=101, edges=523)
    mask = np.arange(523) % 7 != 3
    graphdef, *state = nnx.split(layer, nnx.Param, ...)
    arguments = *state, graph, mask, weights_of(graph), jax.random.key(11)
    direct = jax.jit(partial(differentiate, graphdef))(*arguments)
    taken = request.getfixturevalue("blocks")
    blocked = jax.jit(partial(differentiate, graphdef))(*arguments)
    # Up to 256 edges: 523 are three blocks of about 175.
    assert set(taken) == {176}
    assert_close(blocked, direct, 1e-5)


@pytest.mark.parametrize("layer", [GATConv, GATv2Conv, DotProductConv])
def test_edge_features_need_no_row_of_values_per_edge(layer, as_on_a_cpu):
    """Forward and backward hold less than one array [E, H, C]."""
    nodes, edges, heads, features = 53, 40_009, 4, 32
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(0, nodes, (2, edges))
    graph = build_graph(
        senders,
        receivers,
        rng.normal(size=(nodes, IN)).astype(np.float32),
        edges=rng.normal(size=(edges, EDGE_WIDTH)).astype(np.float32),
    )
    model = layer(IN, heads * features, num_heads=heads, edge_features=EDGE_WIDTH, rngs=nnx.Rngs(0))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters, graph):
        return (nnx.merge(graphdef, parameters, rest, copy=True)(graph).nodes ** 2).sum()

    program = jax.jit(jax.grad(loss)).lower(parameters, graph).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * edges * heads * features
