"""GaAN: its gates, its scales, what its layers do without neighbours, and the pools along the edges."""

# Bad arguments are wanted here, and a stack does not know the type of its layers.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportIndexIssue=false

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from cases import (
    CASES,
    EDGES,
    HEADS,
    IN,
    ISOLATED,
    NODES,
    OUT,
    build,
    evaluate,
    gaan_gate,
    graph_for,
)
from flax import nnx
from helpers import close, forward, rejects, run

import gatjax.attention.neighbors
import gatjax.ops.blocks
from gatjax.attention import pool_neighbors
from gatjax.graph import build_graph
from gatjax.layers import DropoutRates, GaANConv
from gatjax.models import GaAN

CASE = {case.name: case for case in CASES}
PAPER, CODE, NONE = (CASE[f"GaANConv{name}"] for name in ("", "-code", "-none"))


# The pools


def pooled(graph, largest, mean, mask=None):
    """Both, one node at a time."""
    mask = np.ones(len(graph.senders), bool) if mask is None else mask
    top = np.zeros(largest.shape)
    for i in range(len(top)):
        edges = reference.edges_into(i, graph.receivers, mask)
        if edges:
            top[i] = np.max([largest[graph.senders[k]] for k in edges], axis=0)
    return top, reference.neighbor_mean(mean, graph.senders, graph.receivers, mask)


@partial(jax.jit, static_argnames="block_size")
def pool(graph, largest, mean, mask=None, block_size=None):
    return pool_neighbors(graph, largest, mean, mask, block_size=block_size)


@nnx.jit
def gates_of(layer, graph, edge_mask=None):
    return layer.gates(graph, edge_mask=edge_mask)


def tables(dtype=np.float32, nodes=NODES, widths=(37, 3)):
    """All entries of the first table below zero, so that a pool which begins with 0 shows."""
    rng = np.random.default_rng(1)
    return -rng.exponential(size=(nodes, widths[0])).astype(dtype), rng.normal(
        size=(nodes, widths[1])
    ).astype(dtype)


each_size = pytest.mark.parametrize("block_size", [None, 7, 29, 1000, "auto"])


@each_size
def test_pools_are_those_of_the_loop(block_size, x64):
    graph = graph_for(PAPER)
    largest, mean = tables(np.float64)
    for mask in (None, np.arange(EDGES) % 3 != 1):
        actual = pool(graph, largest, mean, mask, block_size=block_size)
        for one, other in zip(actual, pooled(graph, largest, mean, mask), strict=True):
            close(one, other, 1e-12)
            assert not np.any(np.asarray(one)[ISOLATED])


@each_size
def test_neighbours_that_tie_share_the_gradient(block_size):
    """Into node 3: a tie of 0 and 1, the second over two edges; 2 is smaller, and a masked edge larger."""
    graph = build_graph([0, 1, 1, 2, 4], [3] * 5, num_nodes=5)
    largest = jnp.array([[5.0], [5.0], [4.0], [0.0], [9.0]])
    mask = np.array([True, True, True, True, False])

    def total(largest, mean):
        top, average = pool_neighbors(graph, largest, mean, mask, block_size=block_size)
        return 6 * top[3, 0] + 8 * average[3, 0]

    d_largest, d_mean = jax.jit(jax.grad(total, argnums=(0, 1)))(largest, jnp.ones((5, 1)))
    close(d_largest[:, 0], [2, 4, 0, 0, 0])
    close(d_mean[:, 0], [2, 4, 2, 0, 0])


@pytest.mark.parametrize("widths", [(37, 3), (5, 0), (0, 5), (83, 2)])
def test_blocks_have_the_gradient_of_the_direct_formula(widths):
    graph = graph_for(PAPER)
    points = tables(widths=widths)
    weights = tables(widths=widths)
    mask = np.arange(EDGES) % 5 != 1

    @partial(jax.jit, static_argnums=0)
    def run(block_size, largest, mean):
        pool = partial(pool_neighbors, graph, edge_mask=mask, block_size=block_size)
        out, pull_back = jax.vjp(lambda *tables: pool(*tables), largest, mean)
        return out, pull_back(jax.tree.map(jnp.asarray, weights))

    for size in (7, EDGES):
        jax.tree.map(close, run(size, *points), run(None, *points))


def test_blocks_have_the_other_derivatives_of_the_direct_formula(x64):
    """Forward mode, with ties, and the product with a Hessian."""
    graph, points = graph_for(PAPER), jax.tree.map(jnp.round, tables(np.float64, widths=(5, 3)))
    mask = np.arange(EDGES) % 5 != 1

    @partial(jax.jit, static_argnums=0)
    def run(block_size, *points):
        pool = partial(pool_neighbors, graph, edge_mask=mask, block_size=block_size)
        cubes = lambda *x: sum((out**3).sum() for out in pool(*x))
        along = jax.tree.map(jnp.cos, points)
        function = lambda *x: (pool(*x), jax.grad(cubes, argnums=(0, 1))(*x))
        return jax.jvp(function, points, along)

    jax.tree.map(partial(close, tolerance=1e-12), run(7, *points), run(None, *points))


@pytest.mark.parametrize("bad", [-1, NODES, 2**31 - 1])
@pytest.mark.parametrize("block_size", [None, 7])
def test_edges_with_a_bad_end_are_dropped_from_the_pools_inside_jit(block_size, bad):
    graph, (largest, mean) = graph_for(PAPER), tables()
    largest[0] = np.nan
    without = np.arange(EDGES) != 8
    without &= graph.senders != 0
    for end in ("senders", "receivers"):
        ids = getattr(graph, end).copy()
        ids[8] = bad
        broken = graph._replace(**{end: ids})
        mask = graph.senders != 0
        run = jax.jit(partial(pool_neighbors, block_size=block_size))
        jax.tree.map(
            close,
            run(broken, largest, mean, mask),
            run(graph, largest, mean, without),
        )


@pytest.mark.parametrize("block_size", [None, 5])
@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, 0), (3, 0), (1, 2)])
def test_pools_of_tiny_graphs(nodes, edges, block_size):
    graph = graph_for(PAPER, nodes=nodes, edges=edges)
    largest, mean = tables(nodes=nodes)
    for table, out in zip(
        (largest, mean), pool_neighbors(graph, largest, mean, block_size=block_size), strict=True
    ):
        close(out, table if edges else np.zeros_like(table))


def test_a_mean_of_thousands_in_bfloat16():
    graph = build_graph(np.zeros(4099, int), np.ones(4099, int), num_nodes=2)
    rows = jnp.ones((2, 1), jnp.bfloat16)
    for block_size in (None, 64):
        largest, mean = pool_neighbors(graph, rows, rows, block_size=block_size)
        assert largest.dtype == mean.dtype == jnp.bfloat16
        assert float(mean[1, 0]) == float(largest[1, 0]) == 1


@pytest.mark.parametrize("bad", [0, -3, 2.5, "large"])
def test_bad_block_sizes_are_refused(bad, unchecked):
    with rejects(ValueError, "block_size must be"):
        pool_neighbors(graph_for(PAPER), *tables(), block_size=bad)


@pytest.mark.parametrize("case", [PAPER, CODE], ids=["paper", "code"])
def test_a_layer_is_the_same_with_pools_in_blocks(case, as_on_a_cpu, monkeypatch):
    layer, graph = build(case), graph_for(case)
    graphdef, params = nnx.split(layer)

    def run():
        loss = lambda params: (nnx.merge(graphdef, params)(graph).nodes ** 2).sum()
        return jax.jit(jax.value_and_grad(loss))(params)

    direct = run()
    taken = []
    pool = gatjax.attention.neighbors._pool
    record = lambda size, *arguments: taken.append(size) or pool(size, *arguments)
    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 0)
    monkeypatch.setattr(gatjax.attention.neighbors, "_pool", record)
    jax.tree.map(partial(close, tolerance=1e-4), run(), direct)
    assert taken == [EDGES]


# Gates


@pytest.mark.parametrize("case", [PAPER, CODE], ids=["paper", "code"])
def test_gates_are_those_of_the_equations(case, x64):
    layer = build(case, param_dtype=jnp.float64)
    graph = graph_for(case, dtype=np.float64)
    gates = gates_of(layer, graph)
    close(gates, gaan_gate(layer.gate, graph, graph.nodes), 1e-10)
    assert gates.shape == (NODES, HEADS) and ((gates > 0) & (gates < 1)).all()
    assert len(np.unique(gates)) == gates.size


def test_a_layer_without_gate_has_gates_of_one():
    layer, graph = build(NONE), graph_for(NONE)
    assert layer.gate is None
    np.testing.assert_array_equal(layer.gates(graph), np.ones((NODES, HEADS)))


def without_neighbour(graph, node):
    return graph._replace(nodes=np.where(np.arange(NODES)[:, None] == node, 7.0, graph.nodes))


@pytest.mark.parametrize(("case", "seen"), [(PAPER, True), (CODE, False)], ids=["paper", "code"])
def test_the_gate_sees_its_receiver_only_in_the_paper(case, seen):
    """Node 10 has no neighbour and no loop: only the paper's gate can know its features."""
    layer, graph = build(case), graph_for(case)
    assert 10 == ISOLATED and ISOLATED not in graph.receivers
    before = gates_of(layer, graph)
    after = gates_of(layer, without_neighbour(graph, ISOLATED))
    assert bool(np.any(before[ISOLATED] != after[ISOLATED])) is seen
    sent_to = graph.receivers[graph.senders == ISOLATED]
    assert np.all(np.abs(before - after)[sent_to].max(axis=1) > 1e-6)


def test_gates_of_nodes_without_neighbours_come_from_pools_of_zero():
    layer, graph = build(CODE), graph_for(CODE)
    alone = gates_of(layer, graph, np.zeros(EDGES, bool))
    hidden = np.asarray(layer.gate.context.bias[...])
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    z = hidden @ np.asarray(layer.gate.out.kernel[...]) + np.asarray(layer.gate.out.bias[...])
    close(alone, np.broadcast_to(1 / (1 + np.exp(-z)), (NODES, HEADS)))
    close(gates_of(layer, graph)[ISOLATED], alone[ISOLATED])


def test_a_closed_gate_leaves_the_node_alone():
    """With a gate of 0 nothing arrives; with a gate of 1/2 half of what arrives without gate."""
    layer, graph = build(PAPER), graph_for(PAPER)
    plain = build(CASE["GaANConv"], gate="none")
    shared = nnx.state(layer, nnx.Param)
    del shared["gate"]
    nnx.update(plain, shared)
    layer.gate.context.kernel[...] = jnp.zeros_like(layer.gate.context.kernel[...])
    layer.gate.context.bias[...] = jnp.full(HEADS, -1e4)
    alone = forward(layer, graph)
    close(alone, evaluate(plain, graph, np.zeros(EDGES, bool)).nodes)
    layer.gate.context.bias[...] = jnp.zeros(HEADS)
    close(forward(layer, graph) - alone, (evaluate(plain, graph).nodes - alone) / 2)


# Numbers by hand


def by_hand():
    """One head without biases; query, key, value and pool are the one feature."""
    widths = {"key_features": 1, "value_features": 1, "gate_features": 1}
    layer = GaANConv(1, 1, **widths, use_bias=False, rngs=nnx.Rngs(0))
    for part in (layer.query, layer.key, layer.value, layer.gate.pool):
        part.kernel[...] = jnp.ones_like(part.kernel[...])
    return layer


def test_two_neighbours_by_hand():
    """Values 2 and LeakyReLU(-1) = -0.1, logits 3·2 and 3·(-1), a gate that reads max 2, mean 1/2 and itself 3."""
    layer = by_hand()
    layer.gate.context.kernel[...] = jnp.array([[0.5], [1.0], [-0.25]])
    layer.output.dense.kernel[...] = jnp.array([[10.0], [100.0]])
    graph = build_graph([0, 1], [2, 2], jnp.array([[2.0], [-1.0], [3.0]]))
    alpha = np.exp([6.0, -3.0]) / np.exp([6.0, -3.0]).sum()
    gate = 1 / (1 + np.exp(-(0.5 * 2 + 0.5 - 0.75)))
    close(layer.attention(graph)[:, 0], alpha)
    close(layer.gates(graph)[2, 0], gate)
    expected = 10 * gate * (2 * alpha[0] - 0.1 * alpha[1]) + 300
    close(layer(graph).nodes[:, 0], [200, -100, expected])


@pytest.mark.parametrize(
    ("scale", "factor"), [("none", 1.0), ("sqrt", 1 / np.sqrt(7)), ("linear", 1 / 7)]
)
def test_scales_divide_the_logits(scale, factor):
    """Seven equal features of 1 and 2 in query and key: products 7 and 14, times the scale."""
    layer = GaANConv(1, 3, key_features=7, scale=scale, use_bias=False, rngs=nnx.Rngs(0))
    for part in (layer.query, layer.key):
        part.kernel[...] = jnp.ones((1, 1, 7))
    graph = build_graph([0, 1], [0, 0], jnp.array([[1.0], [2.0]]))
    expected = np.exp(factor * np.array([7.0, 14.0]))
    close(run(layer, graph)[1][:, 0], expected / expected.sum())


# Structure and bad input


def test_widths_of_the_paper():
    layer = nnx.eval_shape(lambda: GaANConv(50, 128, num_heads=8, rngs=nnx.Rngs(0)))
    shapes = {
        "query": (50, 8, 24),
        "key": (50, 8, 24),
        "value": (50, 8, 32),
    }
    for name, shape in shapes.items():
        assert getattr(layer, name).kernel.shape == shape
    assert layer.gate.pool.kernel.shape == (50, 64)
    assert layer.gate.context.kernel.shape == (64 + 50 + 50, 8)
    assert layer.output.dense.kernel.shape == (8 * 32 + 50, 128)
    make = lambda: GaANConv(50, 128, num_heads=8, gate="code", rngs=nnx.Rngs(0))
    code = nnx.eval_shape(make).gate
    assert code.context.kernel.shape == (64 + 50, 64) and code.out.kernel.shape == (64, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "open"}, "gate must be one of ['paper', 'code', 'none'], got 'open'"),
        ({"scale": 0.5}, "scale must be one of ['none', 'sqrt', 'linear'], got 0.5"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"key_features": 0}, "key_features must be at least 1, got 0"),
        ({"value_features": -1}, "value_features must be at least 1, got -1"),
        ({"gate_features": 0}, "gate_features must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(options, message, unchecked):
    with rejects(ValueError, message):
        GaANConv(IN, OUT, **options, rngs=nnx.Rngs(0))


# The model

CLASSES = 7
SMALL = {"embed_features": 6, "hidden_features": 8, "num_heads": 2, "gate_features": 4}


def test_the_model_is_the_network_of_the_paper():
    stack = nnx.eval_shape(lambda: GaAN(50, 121, rngs=nnx.Rngs(0)))
    widths = [(layer.query.kernel.shape[0], layer.num_heads) for layer in stack.layers[:2]]
    assert widths == [(64, 8), (128, 8)] and len(stack.layers) == 3
    assert stack.embed.projection.kernel.shape == (50, 1, 64)
    assert stack.layers[2].projection.kernel.shape == (128, 1, 121)
    assert stack.dropout.rates == DropoutRates(inputs=0.1)
    assert {layer.dropout.rates for layer in stack.layers[:2]} == {DropoutRates()}


@pytest.mark.slow
def test_the_model_is_its_layers_in_order():
    """Embedding, then a LeakyReLU of 0.1 after each GaANConv and nothing after the last layer."""
    stack = GaAN(IN, CLASSES, **SMALL, rngs=nnx.Rngs(0))
    graph = graph_for(PAPER)
    h, weights = graph._replace(nodes=forward(stack.embed, graph)), []
    for layer in stack.layers[:2]:
        nodes, alpha = run(layer, h)
        weights.append(alpha)
        h = h._replace(nodes=np.where(nodes > 0, nodes, 0.1 * np.asarray(nodes)))
    close(forward(stack, graph, deterministic=True), forward(stack.layers[2], h))
    for actual, expected in zip(run(stack, graph)[1], weights, strict=True):
        close(actual, expected)


@pytest.mark.slow
def test_dropout_of_the_model_acts_after_its_layers():
    stack = GaAN(
        IN,
        CLASSES,
        **SMALL,
        dropout_rate=DropoutRates(inputs=0.5),
        use_bias=False,
        rngs=nnx.Rngs(0),
    )
    graph = graph_for(PAPER)
    draw = nnx.jit(lambda stack, key: stack(graph, rngs=nnx.Rngs(dropout=key)).nodes)
    first, again, other = (np.asarray(draw(stack, jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
    stack.eval()
    close(forward(stack, graph), forward(stack, graph, deterministic=True))
    graph_alone = graph._replace(nodes=np.zeros_like(graph.nodes))
    assert not np.any(forward(stack, graph_alone, deterministic=False))


def test_attention_dropout_and_options_reach_the_layers():
    rates = DropoutRates(inputs=0.1, attention=0.5)
    options = {"dropout_rate": rates, "gate": "code", "param_dtype": jnp.bfloat16}
    stack = nnx.eval_shape(lambda: GaAN(IN, CLASSES, **options, rngs=nnx.Rngs(0)))
    assert {layer.dropout.rates for layer in stack.layers[:2]} == {DropoutRates(attention=0.5)}
    assert all(layer.gate.out is not None for layer in stack.layers[:2])
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(stack, nnx.Param))}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}
    with rejects(ValueError, "num_layers must be at least 1, got 0"):
        GaAN(IN, CLASSES, num_layers=0, rngs=nnx.Rngs(0))
