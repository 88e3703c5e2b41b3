"""What every layer must do: each row of `cases.CASES` runs through every test of this file."""

# A layer is whatever the table holds, and bad arguments are wanted here.

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGE_WIDTH,
    EDGES,
    FULLEST,
    HEADS,
    IN,
    ISOLATED,
    NODES,
    ONE_EACH,
    OUT,
    SOFT,
    WITH_EDGES,
    Keep,
    Result,
    all_layers,
    build,
    differentiate,
    evaluate,
    finish,
    fullest_of_each,
    gat,
    graph_for,
    head_features,
    one_of_each,
    quick_compilation,
    rows,
    smooth_edges,
    takes,
    values_shape,
    weights_of,
)
from flax import nnx
from graph_strategies import relabel, reorder
from jax.experimental.sparse import BCOO

import gatjax.attention.attend
import gatjax.ops.blocks
from gatjax.graph import Budget, add_self_loops, batch, build_graph, fully_connected, pad
from gatjax.layers import DotProductConv, DropoutRates, GATConv, GATv2Conv, GCNConv, MeanConv
from gatjax.ops import keep_mask

pytestmark = pytest.mark.usefixtures(quick_compilation.__name__)
ALL_THREE = DropoutRates(inputs=0.3, projected=0.4, attention=0.5)
PLACES = [DropoutRates(**{place: 0.5}) for place in DropoutRates._fields]  # one place at a time
each_place = pytest.mark.parametrize(
    "rates", PLACES, ids=lambda rates: max(rates._asdict(), key=rates._asdict().get)
)


def assert_close(actual, expected, tolerance=2e-5):
    """Equal trees, up to rounding relative to the largest entry of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = max(np.abs(b[np.isfinite(b)]).max(initial=0), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def changed_rows(before, after):
    """The rows in which two arrays differ by more than rounding."""
    far = np.abs(np.asarray(before) - np.asarray(after)) > 1e-5
    return set(np.flatnonzero(far.any(axis=1)).tolist())


def sum_by_receiver(graph, rows):
    total = np.zeros((len(graph.nodes), *rows.shape[1:]))
    np.add.at(total, np.asarray(graph.receivers), rows)
    return total


def sum_by_ends(graph, rows):
    """Of parallel edges all together: which of them hard attention takes depends on their order."""
    total = np.zeros((NODES, NODES, rows.shape[1]))
    np.add.at(total, (graph.receivers, graph.senders), rows)
    return total


# Shapes, dtypes, and what is left alone


@all_layers
def test_only_the_nodes_are_replaced(case):
    layer, graph = build(case), graph_for(case)
    graph = graph._replace(globals=np.ones((1, 2), np.float32))
    out = layer(graph)
    assert out.nodes.shape == (NODES, OUT) and out.nodes.dtype == jnp.float32
    for field in ("edges", "globals", "senders", "receivers", "n_node", "n_edge"):
        assert getattr(out, field) is getattr(graph, field)
    alpha = layer.attention(graph)
    assert alpha.shape == (EDGES, layer.num_heads) and alpha.dtype == jnp.float32


@pytest.mark.parametrize(
    ("nodes", "dtype", "param_dtype", "expected"),
    [
        ("float32", None, "float32", "float32"),
        ("bfloat16", None, "float32", "float32"),
        ("bfloat16", None, "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "float32", "bfloat16"),
        ("bfloat16", "float32", "bfloat16", "float32"),
        ("int32", "float16", "float32", "float16"),
        ("bool", None, "float32", "float32"),
    ],
)
@one_of_each
def test_dtype_and_param_dtype_are_honoured(case, nodes, dtype, param_dtype, expected):
    layer = build(case, dtype=dtype, param_dtype=jnp.dtype(param_dtype), residual=True)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer))} == {jnp.dtype(param_dtype)}
    graph = graph_for(case)
    graph = graph._replace(nodes=jnp.asarray(graph.nodes, nodes))
    assert jax.eval_shape(lambda: layer(graph).nodes).dtype == jnp.dtype(expected)


@fullest_of_each
def test_numpy_features_in_float64_are_computed_in_float32(case):
    """NumPy makes them by default; JAX has none, and says so in a warning where it is asked for them."""
    layer, graph = build(case), graph_for(case)
    wide = graph_for(case, dtype=np.float64)
    out = layer(wide).nodes
    assert out.dtype == jnp.float32
    assert_close(out, evaluate(layer, graph).nodes)
    assert_close(layer.attention(wide), evaluate(layer, graph).attention)


# Symmetries


@all_layers
def test_relabelled_nodes_give_relabelled_output(case):
    layer, graph, weights = build(case), graph_for(case), weights_of(graph_for(case))
    new_ids = np.random.default_rng(5).permutation(NODES).astype(np.int32)
    old_ids = np.argsort(new_ids)
    actual = evaluate(layer, relabel(graph, new_ids), cotangent=weights[old_ids])
    expected = evaluate(layer, graph, cotangent=weights)
    moved = expected._replace(
        nodes=expected.nodes[old_ids], d_nodes=np.asarray(expected.d_nodes)[old_ids]
    )
    assert_close(actual, moved)


@all_layers
def test_edge_order_does_not_matter(case):
    layer, graph = build(case), graph_for(case)
    order = np.random.default_rng(6).permutation(EDGES)
    actual, expected = evaluate(layer, reorder(graph, order)), evaluate(layer, graph)
    d_edges = None if expected.d_edges is None else expected.d_edges[order]
    attention = expected.attention[order]
    if case.hard:
        between = sum_by_ends(reorder(graph, order), actual.attention)
        assert_close(between, sum_by_ends(graph, expected.attention))
        attention = actual.attention
    assert_close(actual, expected._replace(attention=attention, d_edges=d_edges))


def real_part(result: Result) -> Result:
    """Results on the first graph of a pair."""
    return result._replace(
        nodes=result.nodes[:NODES],
        attention=result.attention[:EDGES],
        d_nodes=result.d_nodes[:NODES],
        d_edges=None if result.d_edges is None else result.d_edges[:EDGES],
    )


def padded(case, node_padding=0.0, edge_padding=0.0):
    """The graph padded to twice its size, its edge mask, and weights that ignore the padding."""
    graph, masks = pad(graph_for(case), Budget(nodes=2 * NODES, edges=2 * EDGES, graphs=2))
    graph.nodes[NODES:] = node_padding
    if graph.edges is not None:
        graph.edges[EDGES:] = edge_padding if smooth_edges(graph) is not None else -1
    weights = np.zeros((2 * NODES, OUT), np.float32)
    weights[:NODES] = weights_of(graph_for(case))
    return graph, masks.edge, weights


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@all_layers
def test_padding_changes_nothing(case, masked):
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=7.0, edge_padding=-3.0)
    result = evaluate(layer, graph, mask if masked else None, weights)
    assert_close(real_part(result), evaluate(layer, graph_for(case)))
    if masked:
        assert not np.asarray(result.attention[EDGES:]).any()


@one_of_each
def test_masked_edges_are_as_good_as_absent(case):
    layer, graph = build(case), graph_for(case)
    mask = np.arange(EDGES) % 3 != 1
    result = evaluate(layer, graph, mask)
    short = reorder(graph, np.flatnonzero(mask))
    short = short._replace(n_edge=np.array([mask.sum()], np.int32))
    assert_close(result.nodes, layer(short).nodes)
    assert_close(result.attention[mask], layer.attention(short))
    assert not np.asarray(result.attention)[~mask].any()


@rows([ONE_EACH[0], ONE_EACH[-1]])
def test_eager_calls_take_the_masks_that_pad_returns(case):
    layer, graph = build(case), graph_for(case)
    padded_graph, mask, _ = padded(case)
    assert_close(layer(padded_graph, edge_mask=mask).nodes[:NODES], layer(graph).nodes)
    alpha = layer.attention(padded_graph, edge_mask=mask)
    assert_close(alpha[:EDGES], layer.attention(graph))


@all_layers
def test_nan_in_padding_does_not_reach_what_is_real(case):
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=np.nan, edge_padding=np.nan)
    result = real_part(evaluate(layer, graph, mask, weights))
    expected = evaluate(layer, graph_for(case))
    for part in ("nodes", "attention", "d_nodes", "d_edges"):
        assert_close(getattr(result, part), getattr(expected, part))


@pytest.mark.xfail(strict=True, reason="a layer has no node mask, so a kernel meets 0 * NaN")
@one_of_each
def test_nan_in_padding_nodes_reaches_no_parameter(case):
    """Why `pad` fills with zeros."""
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=np.nan)
    result = evaluate(layer, graph, mask, weights)
    assert_close(result.d_params, evaluate(layer, graph_for(case)).d_params)


@rows(WITH_EDGES)
def test_nan_in_masked_edges_reaches_no_parameter(case):
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=7.0, edge_padding=np.nan)
    result = evaluate(layer, graph, mask, weights)
    assert_close(result.d_params, evaluate(layer, graph_for(case)).d_params)


@all_layers
def test_a_batch_is_its_graphs_alone(case):
    layer, one, two = build(case), graph_for(case), graph_for(case, seed=1)
    weights = np.concatenate([weights_of(one), 2 * weights_of(two)])
    both = evaluate(layer, batch([one, two]), cotangent=weights)
    first = evaluate(layer, one, cotangent=weights[:NODES])
    second = evaluate(layer, two, cotangent=weights[NODES:])
    assert_close(real_part(both)._replace(d_params=first.d_params), first)
    assert_close(both.nodes[NODES:], second.nodes)
    assert_close(both.attention[EDGES:], second.attention)
    assert_close(both.d_nodes[NODES:], second.d_nodes)
    assert_close(both.d_params, jax.tree.map(jnp.add, first.d_params, second.d_params))


# Attention and direction


@all_layers
def test_attention_is_a_distribution_over_the_edges_that_enter(case):
    graph = graph_for(case)
    alpha = np.asarray(evaluate(build(case), graph).attention)
    assert set(np.unique(alpha)) == {0, 1} if case.hard else (alpha > 0).all()
    if case.sums_to_one:
        entered = sum_by_receiver(graph, np.ones((EDGES, 1))) > 0
        expected = np.broadcast_to(entered, (NODES, alpha.shape[1]))
        np.testing.assert_allclose(sum_by_receiver(graph, alpha), expected, atol=1e-6)


@rows(SOFT)
def test_a_sender_is_felt_by_its_receivers_alone(case):
    layer, graph = build(case), graph_for(case)
    before = evaluate(layer, graph).nodes
    for j in (0, 2, ISOLATED):
        nodes = graph.nodes.copy()
        nodes[j] += 1
        after = evaluate(layer, graph._replace(nodes=nodes)).nodes
        receivers = set(graph.receivers[graph.senders == j].tolist())
        assert receivers and changed_rows(before, after) - {j} == receivers - {j}


@rows(SOFT)
def test_an_edge_turned_round_changes_its_two_ends(case):
    layer, graph = build(case), graph_for(case)
    before = evaluate(layer, graph).nodes
    edge = np.flatnonzero(graph.senders != graph.receivers)[5]
    ends = {int(graph.senders[edge]), int(graph.receivers[edge])}
    senders, receivers = graph.senders.copy(), graph.receivers.copy()
    senders[edge], receivers[edge] = receivers[edge], senders[edge]
    after = evaluate(layer, graph._replace(senders=senders, receivers=receivers)).nodes
    changed = changed_rows(before, after)
    assert ends <= changed
    if case.sums_to_one:
        assert changed == ends


# Transformations


@fullest_of_each
def test_jit_in_each_form_equals_eager(case):
    layer, graph = build(case), graph_for(case)
    expected = layer(graph).nodes
    assert_close(nnx.jit(lambda layer, graph: layer(graph).nodes)(layer, graph), expected)
    result = evaluate(layer, graph)
    assert_close(result.nodes, expected)
    assert_close(result.attention, layer.attention(graph))


@one_of_each
def test_a_second_call_is_not_traced_again_and_draws_anew(case):
    traced = []

    @nnx.jit
    def forward(layer, graph):
        traced.append("nnx.jit")
        return layer(graph).nodes

    @partial(jax.jit, static_argnums=0)
    def pure(graphdef, state, graph):
        traced.append("jax.jit")
        return nnx.merge(graphdef, state)(graph).nodes

    for seed in range(3):
        layer, graph = build(case, seed, dropout_rate=ALL_THREE), graph_for(case, seed)
        pure.lower(*nnx.split(layer), graph)
        assert changed_rows(forward(layer, graph), forward(layer, graph))
    assert traced == ["jax.jit", "nnx.jit"]


def stack(layers):
    """One tree of parameters with a leading axis, and what rebuilds a layer from a row of it."""
    graphdef, _ = nnx.split(layers[0])
    states = [nnx.state(layer) for layer in layers]
    return graphdef, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@one_of_each
def test_vmap_over_parameters_and_features(case):
    layers, graphs = zip(
        *((build(case, seed), graph_for(case, seed)) for seed in range(2)), strict=True
    )
    graphdef, states = stack(layers)
    nodes = jnp.stack([graph.nodes for graph in graphs])

    def apply(state, nodes):
        return nnx.merge(graphdef, state)(graphs[0]._replace(nodes=nodes)).nodes

    out = jax.jit(jax.vmap(apply))(states, nodes)
    for index, layer in enumerate(layers):
        assert_close(out[index], evaluate(layer, graphs[0]._replace(nodes=nodes[index])).nodes)


def narrow(case):
    """A graph whose nodes are as wide as the layer's output, so that layers can follow one another."""
    graph = graph_for(case)
    nodes = np.random.default_rng(8).normal(size=(NODES, OUT)).astype(np.float32)
    return graph._replace(nodes=nodes)


@one_of_each
def test_scan_over_layers_is_a_loop_dropout_included(case):
    """With `nnx.scan` over a stacked layer, and with `jax.lax.scan` over its state."""
    make = partial(build, case, in_features=OUT, dropout_rate=0.5)
    graphdef, states = stack([make(seed) for seed in range(3)])

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer, graph):
        return layer(graph)

    def step(graph, state):
        return nnx.merge(graphdef, state, copy=True)(graph), None

    @jax.jit
    def all_ways(states, graph):
        one = run(nnx.merge(graphdef, states, copy=True), graph)
        two, _ = jax.lax.scan(step, graph, states)
        for index in range(3):
            graph, _ = step(graph, jax.tree.map(lambda leaf, i=index: leaf[i], states))
        return one.nodes, two.nodes, graph.nodes

    one, two, expected = all_ways(states, narrow(case))
    assert_close(one, expected)
    assert_close(two, expected)


def test_layers_made_under_vmap_differ():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return GATConv(IN, OUT, num_heads=HEADS, rngs=rngs)

    layers = make(nnx.Rngs(3))
    graphdef, states = nnx.split(layers)
    graph = graph_for(CASES[0])
    run = jax.jit(jax.vmap(lambda state: nnx.merge(graphdef, state)(graph).nodes))
    first, second, third = run(states)
    assert changed_rows(first, second) and changed_rows(second, third)


@one_of_each
def test_remat_keeps_value_and_gradient(case):
    layer, graph, weights = build(case), graph_for(case), weights_of(graph_for(case))
    graphdef, params = nnx.split(layer)
    forward = nnx.remat(lambda layer, graph: layer(graph).nodes)
    loss = lambda params: (forward(nnx.merge(graphdef, params), graph) * weights).sum()
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected = evaluate(layer, graph)
    assert_close(value, (expected.nodes * weights).sum())
    assert_close(gradient, expected.d_params)


@all_layers
def test_value_and_gradient_lower_for_every_platform(case):
    lower_for_every_platform(case)


@one_of_each
def test_blocks_lower_for_every_platform(case, blocks):
    lower_for_every_platform(case)


def lower_for_every_platform(case):
    layer, graph = build(case, dropout_rate=ALL_THREE), graph_for(case)
    graphdef, *state = nnx.split(layer, nnx.Param, ...)
    arguments = *state, graph, np.ones(EDGES, bool), weights_of(graph), jax.random.key(0)
    platforms = ("cpu", "cuda", "tpu")
    function = jax.jit(partial(differentiate, graphdef))
    exported = jax.export.export(function, platforms=platforms)(*arguments)
    assert exported.platforms == platforms
    assert exported.out_avals[0].shape == (NODES, OUT)


@one_of_each
def test_linen_has_the_same_output_and_attention(case):
    graph = graph_for(case)
    module = nnx.bridge.to_linen(
        case.layer, IN, OUT, **case.options, dropout_rate=ALL_THREE, name="layer"
    )
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, graph, deterministic=True)
    layer = build(case)
    params = nnx.state(layer, nnx.Param)
    nnx.replace_by_pure_dict(params, jax.tree.map(jnp.asarray, nnx.to_pure_dict(params)))
    pure = jax.tree.map(lambda leaf: leaf, nnx.to_pure_dict(params))
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(pure)
    variables = {**variables, "params": pure}
    out = module.apply(variables, graph, deterministic=True)
    assert_close(out.nodes, layer(graph).nodes)
    alpha = module.apply(variables, graph, nnx_method="attention")
    assert_close(alpha, layer.attention(graph))
    draws = [
        module.apply(variables, graph, rngs={"dropout": jax.random.key(seed)}).nodes
        for seed in (2, 2, 3)
    ]
    assert_close(draws[0], draws[1])
    assert changed_rows(draws[0], draws[2])


# Gradients


@all_layers
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
        edges = graph.edges if edges is None else edges
        return evaluate(layer, graph._replace(nodes=nodes, edges=edges))

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


# Degenerate graphs


@all_layers
def test_a_node_that_no_edge_enters_gets_bias_and_residual(case):
    layer, graph = build(case), graph_for(case)
    shape = NODES, layer.num_heads, head_features(layer)
    nothing = finish(layer, np.zeros(shape), graph.nodes)
    assert_close(evaluate(layer, graph).nodes[ISOLATED], nothing[ISOLATED])
    result = evaluate(layer, graph, np.zeros(EDGES, bool))
    assert_close(result.nodes, nothing)
    assert not np.asarray(result.attention).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


@pytest.mark.parametrize(("nodes", "edges"), [(1, 0), (0, 0)])
@all_layers
def test_tiny_graphs_eagerly(case, nodes, edges):
    layer, graph = build(case), graph_for(case, nodes=nodes, edges=edges)
    out = layer(graph).nodes
    assert out.shape == (nodes, OUT) and np.isfinite(out).all()
    assert layer.attention(graph).shape == (edges, layer.num_heads)


@pytest.mark.parametrize(("nodes", "edges"), [(3, 0), (1, 2)])
@one_of_each
def test_tiny_graphs_and_their_gradients(case, nodes, edges):
    layer, graph = build(case), graph_for(case, nodes=nodes, edges=edges)
    result = evaluate(layer, graph)
    assert result.nodes.shape == (nodes, OUT)
    assert result.attention.shape == (edges, layer.num_heads)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    if case.reference is not None:
        assert_close(result.nodes, case.reference(layer, graph)[0])


# Numbers


def crowd(case):
    """Thousands of edges into one node and out of another, with features that bfloat16 can hold."""
    graph = graph_for(case, nodes=13, edges=4099)
    odd = np.arange(4099) % 2 == 1
    return graph._replace(
        senders=np.where(odd, graph.senders, 12).astype(np.int32),
        receivers=np.where(odd, 0, graph.receivers).astype(np.int32),
        nodes=np.asarray(jnp.asarray(graph.nodes, jnp.bfloat16), np.float32),
    )


@rows(ONE_EACH[1:3] + ONE_EACH[-1:])
def test_bfloat16_with_thousands_of_edges_at_one_node(case, monkeypatch):
    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 2**20)
    bfloat16_is_close_to_float32(case)


@rows(ONE_EACH[:1])
def test_bfloat16_with_thousands_of_edges_at_one_node_in_blocks(case, blocks):
    bfloat16_is_close_to_float32(case)
    assert blocks == [256, 256]


def bfloat16_is_close_to_float32(case):
    """In values, and in gradients relative to the largest: no sum over edges may be taken in bfloat16."""
    graph, mask = crowd(case), np.ones(4099, bool)
    expected, actual = (
        jax.jit(partial(differentiate, graphdef))(*state, graph, mask, weights_of(graph))
        for graphdef, *state in (
            nnx.split(build(case, param_dtype=jnp.bfloat16, dtype=dtype), nnx.Param, ...)
            for dtype in (jnp.float32, jnp.bfloat16)
        )
    )
    assert actual.nodes.dtype == jnp.bfloat16
    for part in ("nodes", "attention", "d_nodes"):
        assert_close(getattr(actual, part), getattr(expected, part), 0.02)
    gradients = (jax.tree.leaves(result.d_params) for result in (actual, expected))
    flat = [np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in gradients]
    assert_close(*flat, 0.02)


@rows(ONE_EACH[:1])
def test_dense_and_sparse_nodes_agree_in_gradients(case):
    layer, graph = build(case, residual=True), graph_for(case)
    dense = np.where(np.random.default_rng(7).random(graph.nodes.shape) < 0.6, 0, graph.nodes)
    dense = dense.astype(np.float32)
    sparse = BCOO.fromdense(dense, nse=int((dense != 0).sum()) + 3)
    graphdef, params = nnx.split(layer)
    weights = weights_of(graph)

    @jax.jit
    def run(params, data, graph):
        def loss(params, data):
            layer = nnx.merge(graphdef, params)
            nodes = BCOO((data, sparse.indices), shape=sparse.shape)
            whole = graph._replace(nodes=nodes)
            out = layer(whole).nodes
            return (out * weights).sum(), (out, layer.attention(whole))

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, data)

    (d_params, d_data), (out, alpha) = run(params, sparse.data, graph)
    expected = evaluate(layer, graph._replace(nodes=dense))
    assert_close((out, alpha, d_params), (expected.nodes, expected.attention, expected.d_params))
    stored = np.asarray(sparse.data) != 0
    assert_close(d_data[stored], np.asarray(expected.d_nodes)[dense != 0])


@one_of_each
def test_dense_and_sparse_nodes_agree(case):
    layer, graph = build(case, residual=True), graph_for(case)
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    assert_close(layer(sparse).nodes, layer(graph).nodes)
    assert_close(layer.attention(sparse), layer.attention(graph))


# Blocks


@pytest.fixture
def blocks(monkeypatch):
    """Force the blocked path, 256 edges at a time, and record that it was taken."""
    taken = []
    original = gatjax.attention.attend.blocked_attention

    def record(*arguments):
        taken.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 0)
    monkeypatch.setattr(gatjax.ops.blocks, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(gatjax.attention.attend, "blocked_attention", record)
    return taken


@fullest_of_each
def test_blocks_give_the_same_values_and_gradients_dropout_included(case, request):
    layer = build(case, dropout_rate=0.5)
    graph = graph_for(case, nodes=101, edges=523)
    mask = np.arange(523) % 7 != 3
    graphdef, *state = nnx.split(layer, nnx.Param, ...)
    arguments = *state, graph, mask, weights_of(graph), jax.random.key(11)
    direct = jax.jit(partial(differentiate, graphdef))(*arguments)
    taken = request.getfixturevalue("blocks")
    blocked = jax.jit(partial(differentiate, graphdef))(*arguments)
    assert taken == [256]
    assert_close(blocked, direct, 1e-5)


# Dropout


def with_rates(case, rates):
    """The layer with dropout, and the same parameters without."""
    layer, plain = build(case, dropout_rate=rates), build(case)
    nnx.update(layer, nnx.state(plain, nnx.Param))
    return layer, plain


@each_place
@one_of_each
def test_dropout_draws_anew_at_every_call_and_repeats_with_the_same_rngs(case, rates):
    layer, plain = with_rates(case, rates)
    graph = graph_for(case)
    first, second = layer(graph).nodes, layer(graph).nodes
    assert changed_rows(first, second)
    again = [layer(graph, rngs=nnx.Rngs(dropout=seed)).nodes for seed in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert changed_rows(again[0], again[2])
    expected = plain(graph).nodes
    assert changed_rows(first, expected) and changed_rows(again[0], expected)
    np.testing.assert_array_equal(layer(graph, deterministic=True).nodes, expected)
    np.testing.assert_array_equal(layer.attention(graph), plain.attention(graph))


@one_of_each
def test_eval_switches_dropout_off_and_train_on(case):
    layer, plain = with_rates(case, ALL_THREE)
    graph = graph_for(case)
    layer.eval()
    np.testing.assert_array_equal(layer(graph).nodes, plain(graph).nodes)
    assert changed_rows(layer(graph, deterministic=False).nodes, plain(graph).nodes)
    layer.train()
    assert changed_rows(layer(graph).nodes, layer(graph).nodes)


@one_of_each
def test_dropout_off_draws_nothing(case):
    layer, graph = build(case, dropout_rate=ALL_THREE), graph_for(case)
    before = nnx.state(layer, nnx.RngCount)
    layer(graph, deterministic=True)
    layer.attention(graph)
    layer(graph, rngs=nnx.Rngs(dropout=0))
    assert_close(nnx.state(layer, nnx.RngCount), before)
    assert not jax.tree.leaves(nnx.state(build(case), nnx.RngState))


@one_of_each
def test_dropout_keeps_the_mean(case):
    """Of an output that is linear in what is dropped: always in values and weights, not always in the inputs."""
    rates = ALL_THREE if case.linear else ALL_THREE._replace(inputs=0.0)
    layer, plain = with_rates(case, rates)
    graph = graph_for(case)
    draw = lambda key: layer(graph, rngs=nnx.Rngs(dropout=key)).nodes
    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 1009))
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - plain(graph).nodes) <= 5 * error + 1e-5).all()


@rows([case for case in ONE_EACH if takes(case, "residual")])
def test_sparse_dropout_acts_on_the_entries_stored(case):
    layer = build(case, dropout_rate=DropoutRates(inputs=0.5), residual=False)
    graph = graph_for(case)
    dense = np.where(np.random.default_rng(7).random(graph.nodes.shape) < 0.6, 0, graph.nodes)
    sparse = BCOO.fromdense(jnp.asarray(dense))
    keys = layer.dropout.keys(False, nnx.Rngs(dropout=3))
    kept = sparse.data * keep_mask(keys.inputs, 0.5, sparse.data.shape)
    thinned = BCOO((kept, sparse.indices), shape=sparse.shape).todense()
    assert np.any(kept == 0)
    out = layer(graph._replace(nodes=sparse), rngs=nnx.Rngs(dropout=3)).nodes
    expected = layer(graph._replace(nodes=thinned), deterministic=True).nodes
    assert_close(out, expected)


# The equations of the papers


@rows([case for case in CASES if case.reference is not None])
def test_output_and_attention_are_those_of_the_equations(case, x64):
    layer = build(case, param_dtype=jnp.float64)
    graph = graph_for(case, dtype=np.float64)
    nodes, alpha = case.reference(layer, graph)
    result = evaluate(layer, graph)
    assert result.nodes.dtype == np.float64
    assert_close(result.nodes, nodes, 1e-12)
    assert_close(result.attention, alpha, 1e-12)


@rows([case for case in FULLEST if case.reference is not None])
def test_dropout_acts_where_the_original_has_it(case, x64):
    """On the inputs; on the values, after the logits have been computed; on the weights."""
    layer = build(case, param_dtype=jnp.float64, dropout_rate=ALL_THREE)
    graph = graph_for(case, dtype=np.float64)
    keys = layer.dropout.keys(False, nnx.Rngs(dropout=5))
    keys = [key for key in keys if key is not None]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3
    shapes = (NODES, IN), values_shape(layer, graph), (EDGES, layer.num_heads)
    masks = Keep(
        *(
            np.asarray(keep_mask(key, rate, shape, jnp.float64))
            for key, rate, shape in zip(keys, ALL_THREE[:3], shapes, strict=True)
        )
    )
    nodes, _ = case.reference(layer, graph, masks)
    run = jax.jit(lambda graph: layer(graph, rngs=nnx.Rngs(dropout=5)).nodes)
    assert_close(run(graph), nodes, 1e-12)


@rows([case for case in CASES if case.options.get("num_heads", 1) > 1 and takes(case, "combine")])
def test_heads_drop_inputs_together_or_each_its_own(case):
    """Seen on heads with the same parameters, which differ by nothing but their dropout."""
    options = case.options | {"combine": "concat", "residual": False}
    heads, graph = options["num_heads"], graph_for(case)

    def split_output(**rates):
        layer = case.layer(
            IN,
            5 * heads,
            **options,
            dropout_rate=DropoutRates(**rates),
            kernel_init=nnx.initializers.constant(0.1),
            rngs=nnx.Rngs(0),
        )
        return np.split(np.asarray(layer(graph).nodes), heads, axis=1)

    first, second, *_ = split_output(inputs=0.5)
    assert_close(first, second)
    first, second, *_ = split_output(head_inputs=0.5)
    assert changed_rows(first, second)


@pytest.mark.parametrize("layer", [GATConv, GATv2Conv, DotProductConv])
def test_edge_features_need_no_row_of_values_per_edge(layer):
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


@pytest.mark.parametrize("in_features", [IN, OUT], ids=["projected", "identity"])
@rows([case for case in ONE_EACH if takes(case, "residual")])
def test_residual_adds_the_input(case, in_features):
    options = {**case.options, "residual": True}
    layer = build(case._replace(options=options), in_features=in_features)
    graph = narrow(case) if in_features == OUT else graph_for(case)
    plain = build(case._replace(options={**options, "residual": False}), in_features=in_features)
    shared = nnx.state(layer, nnx.Param)
    if in_features == OUT:
        assert layer.output.projection is None
        skipped = graph.nodes
    else:
        skipped = graph.nodes @ np.asarray(layer.output.projection.kernel[...])[:, 0]
        del shared["output"]["projection"]
    nnx.update(plain, shared)
    assert_close(layer(graph).nodes, plain(graph).nodes + skipped)


def assign(parameter, values):
    values = jnp.asarray(values, parameter.dtype)
    assert parameter.shape == values.shape
    parameter[...] = values


def blank(layer, *widths, **options):
    """A layer whose parameters are all zero, to be written by hand."""
    options = {"kernel_init": nnx.initializers.zeros_init(), "use_bias": False, **options}
    return layer(*widths, **options, rngs=nnx.Rngs(0))


@nnx.jit
def run(layer, graph):
    return layer(graph).nodes, layer.attention(graph)


def test_gat_turns_the_scores_of_the_tutorial_into_its_weights():
    layer = blank(GATConv, 1, 1)
    assign(layer.projection.kernel, [[[1.0]]])
    assign(layer.receiver_vector, [[0.0]])
    assign(layer.sender_vector, [[1.0]])
    graph = build_graph([0, 1, 2], [3, 3, 3], jnp.array([[2.0], [0.5], [1.0], [9.0]]))
    weights = [0.62853172, 0.14024438, 0.23122390]
    np.testing.assert_allclose(run(layer, graph)[1][:, 0], weights, rtol=1e-6)
    expected = 2.0 * weights[0] + 0.5 * weights[1] + 1.0 * weights[2]
    np.testing.assert_allclose(run(layer, graph)[0][:, 0], [0, 0, 0, expected], rtol=1e-6)


SENTENCE = np.array(
    [[0, 0, 0], [2, 0, 1], [1, -1, -2], [2, 3, 1], [-2, 0, 0], [0, 2, 1]], np.float32
)


def test_dot_product_reads_the_sentence_of_the_textbook():
    values = np.array([[0, -0.2, 0.3, 0.4, 0, 0.1]], np.float32).T
    layer = blank(DotProductConv, 4, 3)
    select = np.eye(4, 3, dtype=np.float32)[:, None]
    assign(layer.query.kernel, select)
    assign(layer.key.kernel, select)
    assign(layer.value.kernel, np.eye(4)[:, [3, 0, 1]][:, None])
    graph = build_graph(range(6), [5] * 6, np.concatenate([SENTENCE, values], axis=1))
    weights = [0.01270253, 0.02262717, 0.00126162, 0.72288696, 0.01270253, 0.22781920]
    np.testing.assert_allclose(run(layer, graph)[1][:, 0], weights, rtol=1e-5)
    np.testing.assert_allclose(run(layer, graph)[0][5, 0], 0.3077897567, rtol=1e-6)


def test_dot_product_self_attention_of_the_textbook():
    layer = blank(DotProductConv, 3, 3)
    for part in (layer.query, layer.key, layer.value):
        assign(part.kernel, np.eye(3)[:, None])
    expected = [
        (0.5, 0.66666667, 0.16666667),
        (1.82491035, 1.41803066, 0.89687382),
        (0.97487328, -0.90385403, -1.8129939),
        (1.96488657, 2.96539117, 0.99950823),
        (-1.54379776, 0.15758869, 0.04517002),
        (1.46688482, 2.62303764, 0.97081007),
    ]
    out, _ = run(layer, fully_connected(6, nodes=SENTENCE))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_gcn_weighs_an_edge_by_both_degrees():
    layer = blank(GCNConv, 1, 1)
    assign(layer.projection.kernel, [[[2.0]]])
    graph = add_self_loops(build_graph([0, 1, 2], [1, 2, 1], jnp.array([[1.0], [3.0], [5.0]])))
    # With the loops the degrees are 1, 3, 2.
    third, sixth = 1 / 3, 1 / np.sqrt(6)
    first = 1 / np.sqrt(3)
    expected = [2.0, 2 * (first * 1 + third * 3 + sixth * 5), 2 * (sixth * 3 + 5 / 2)]
    np.testing.assert_allclose(run(layer, graph)[0][:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        run(layer, graph)[1][:, 0], [first, sixth, sixth, 1, third, 0.5], rtol=1e-6
    )


def test_mean_conv_projects_and_averages():
    layer = blank(MeanConv, 1, 2, num_heads=2)
    assign(layer.projection.kernel, [[[1.0], [10.0]]])
    graph = build_graph([0, 1, 1], [2, 2, 2], jnp.array([[2.0], [5.0], [7.0]]))
    np.testing.assert_allclose(run(layer, graph)[0], [[0, 0], [0, 0], [4, 40]], rtol=1e-6)


# Hard attention

WITH_HARD = [GATConv, GATv2Conv, DotProductConv]
HARD = ["hardmax", "straight_through"]


def twins(layer, normalize, **options):
    """One layer with the softmax, and one with the same parameters and another normaliser."""
    make = partial(layer, IN, OUT, num_heads=HEADS, rngs=nnx.Rngs(0), **options)
    soft, hard = make(), make(normalize=normalize)
    nnx.update(hard, nnx.state(soft, nnx.Param))
    return soft, hard


def winners(graph, alpha):
    """The first of the largest weights over each receiver's edges, as a one-hot [E, H]."""
    chosen, alpha = np.zeros(alpha.shape), np.asarray(alpha)
    for i in set(np.asarray(graph.receivers).tolist()):
        incoming = np.flatnonzero(np.asarray(graph.receivers) == i)
        chosen[incoming[alpha[incoming].argmax(axis=0)], np.arange(alpha.shape[1])] = 1
    return chosen


@pytest.mark.parametrize("normalize", HARD)
@pytest.mark.parametrize("layer", WITH_HARD)
def test_hard_attention_reads_the_sender_of_the_largest_weight(layer, normalize):
    """With values of all heads in plain sight: the output is the winner's row of the value projection."""
    soft, hard = twins(layer, normalize)
    graph = graph_for(CASES[0])
    out, alpha = run(hard, graph)
    np.testing.assert_array_equal(alpha, winners(graph, run(soft, graph)[1]))
    projection = {GATConv: "projection", GATv2Conv: "sender_projection", DotProductConv: "value"}
    kernel = np.asarray(getattr(hard, projection[layer]).kernel[...])
    values = np.einsum("nf,fhc->nhc", graph.nodes, kernel)
    expected = sum_by_receiver(graph, np.asarray(alpha)[:, :, None] * values[graph.senders])
    assert_close(out, expected.reshape(NODES, OUT))


@pytest.mark.parametrize("normalize", HARD)
@pytest.mark.parametrize("layer", WITH_HARD)
def test_of_equal_logits_the_first_edge_wins(layer, normalize):
    """Three parallel edges, and a fourth from a node with the same features, in that order."""
    _, hard = twins(layer, normalize)
    nodes = np.ones((3, IN), np.float32)
    alpha = run(hard, build_graph([0, 0, 0, 1], [2, 2, 2, 2], nodes))[1]
    np.testing.assert_array_equal(alpha, np.array([[1], [0], [0], [0]]).repeat(HEADS, axis=1))


def logit_parameters(layer):
    """Those that reach the output by way of the logits alone."""
    names = {
        GATConv: ["receiver_vector", "sender_vector"],
        GATv2Conv: ["receiver_projection", "vector", "score_bias"],
        DotProductConv: ["query", "key"],
    }[type(layer)]
    return [name for name in names if getattr(layer, name) is not None]


@pytest.mark.parametrize("layer", WITH_HARD)
def test_hardmax_teaches_the_logits_nothing_and_straight_through_does(layer):
    graph = graph_for(CASES[0])
    for normalize, learns in (("hardmax", False), ("straight_through", True)):
        hard = twins(layer, normalize)[1]
        gradient = evaluate(hard, graph).d_params
        for name in logit_parameters(hard):
            for leaf in jax.tree.leaves(gradient[name]):
                assert np.any(leaf != 0) == learns, name
        assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_straight_through_has_the_gradient_of_the_softmax(x64):
    """With s(θ) the softmax weights and c the hard ones, it is that of `Σ (c + s(θ) - s(θ₀)) v(θ)` at θ₀."""
    _, layer = twins(GATConv, "straight_through", param_dtype=jnp.float64)
    graph, weights = graph_for(CASES[0], dtype=np.float64), weights_of(graph_for(CASES[0]))
    graphdef, start = nnx.split(layer)
    softened = lambda state: gat(GATConvParameters(nnx.merge(graphdef, state)), graph)[1]
    offset = winners(graph, softened(start)) - softened(start)

    def value(state):
        moved = nnx.merge(graphdef, state)
        z = np.einsum("nf,fhc->nhc", graph.nodes, np.asarray(moved.projection.kernel[...]))
        alpha = softened(state) + offset
        rows = sum_by_receiver(graph, alpha[:, :, None] * z[graph.senders])
        return ((rows.reshape(NODES, OUT) + np.asarray(moved.output.bias[...])) * weights).sum()

    gradient = evaluate(layer, graph).d_params
    rng = np.random.default_rng(4)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), start)
        move = lambda step: jax.tree.map(lambda x, d: x + step * d, start, direction)  # noqa: B023
        slope = (value(move(1e-6)) - value(move(-1e-6))) / 2e-6
        products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6, atol=1e-6)


class GATConvParameters:
    """A layer's parameters under the name of the softmax, as the reference reads them."""

    normalize = "softmax"

    def __init__(self, layer):
        self.layer = layer

    def __getattr__(self, name):
        return getattr(self.layer, name)


@pytest.mark.parametrize("layer", WITH_HARD)
def test_unknown_normalisers_are_refused(layer, unchecked):
    names = "['softmax', 'hardmax', 'straight_through']"
    for bad in ("argmax", None, jax.nn.softmax):
        with rejects(ValueError, f"normalize must be one of {names}, got {bad!r}"):
            layer(IN, OUT, normalize=bad, rngs=nnx.Rngs(0))


# Receivers and senders are told apart


def bipartite(num_receivers, nodes):
    """Every later node sends to every one of the first `num_receivers`."""
    senders = np.arange(num_receivers, len(nodes))
    return build_graph(
        np.tile(senders, num_receivers),
        np.repeat(np.arange(num_receivers), len(senders)),
        jnp.asarray(nodes, jnp.float32),
    )


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (GATConv, ["receiver_vector", "sender_vector"]),
        (GATv2Conv, ["receiver_projection", "sender_projection"]),
        (DotProductConv, ["query", "key", "value"]),
    ],
)
def test_receiver_and_sender_parameters_are_drawn_apart(layer, parameters):
    module = layer(IN, OUT, num_heads=HEADS, rngs=nnx.Rngs(0))
    arrays = [
        np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)) if leaf.any()
    ]
    heads = [
        head
        for leaf in arrays
        for head in (leaf if leaf.shape[0] == HEADS else leaf.swapaxes(0, 1))
    ]
    assert len(arrays) >= len(parameters)
    assert len({head.tobytes() for head in heads}) == len(heads) == HEADS * len(arrays)


def test_gat_receiver_vector_acts_on_the_receiver():
    """With the sender's vector zero every sender gets the same; with the receiver's zero, all receivers agree."""
    layer = build(CASES[0])
    graph = bipartite(3, np.random.default_rng(0).normal(size=(7, IN)))
    sender_vector = layer.sender_vector[...]
    assign(layer.sender_vector, np.zeros_like(sender_vector))
    np.testing.assert_allclose(run(layer, graph)[1], 0.25, rtol=1e-6)
    assign(layer.sender_vector, sender_vector)
    assign(layer.receiver_vector, np.zeros_like(sender_vector))
    alpha = np.asarray(run(layer, graph)[1]).reshape(3, 4, HEADS)
    np.testing.assert_allclose(alpha[1:], alpha[:1].repeat(2, axis=0), rtol=1e-6)
    assert (alpha.std(axis=1) > 1e-3).all()


def test_dot_product_query_is_the_receivers():
    """A receiver with a zero row has a zero query and no preference; a sender's zero row changes nothing of that."""
    layer = DotProductConv(IN, OUT, num_heads=HEADS, rngs=nnx.Rngs(0))
    nodes = np.random.default_rng(0).normal(size=(6, IN))
    nodes[0] = 0
    alpha = np.asarray(run(layer, bipartite(2, nodes))[1]).reshape(2, 4, HEADS)
    np.testing.assert_allclose(alpha[0], 0.25, rtol=1e-6)
    assert (alpha[1].std(axis=0) > 1e-3).all()


def test_gatv2_values_are_the_senders_projection():
    layer = build(next(case for case in CASES if case.name == "GATv2Conv"))
    nodes = np.random.default_rng(0).normal(size=(2, IN)).astype(np.float32)
    out = run(layer, build_graph([0], [1], nodes))[0][1] - layer.output.bias[...]
    expected = np.einsum("f,fhc->hc", nodes[0], layer.sender_projection.kernel[...])
    assert_close(out, expected.ravel())


@pytest.mark.parametrize("seed", range(3))
def test_gat_ranks_common_neighbours_alike_for_every_receiver(seed):
    """Brody et al., theorem 1: the attention of GAT is static."""
    layer = GATConv(IN, OUT, num_heads=HEADS, use_score_bias=True, rngs=nnx.Rngs(seed))
    graph = bipartite(7, np.random.default_rng(seed).normal(size=(7 + 5, IN)))
    alpha = np.asarray(run(layer, graph)[1]).reshape(7, 5, HEADS)
    ranking = np.argsort(alpha, axis=1)
    np.testing.assert_array_equal(ranking, ranking[:1].repeat(7, axis=0))
    assert (alpha.std(axis=0) > 0).all()


def test_gatv2_lets_every_receiver_prefer_its_own_sender():
    """Rows are one-hot keys. With b = -1 the score is LeakyReLU(1) + LeakyReLU(-1) = 0.8 where they match, else 0."""
    layer = blank(GATv2Conv, 2, 2, share_weights=True, negative_slope=0.2, use_bias=True)
    assign(layer.sender_projection.kernel, np.eye(2)[:, None])
    assign(layer.vector, [[1.0, 1.0]])
    assign(layer.score_bias, [[-1.0, -1.0]])
    _, alpha = run(layer, bipartite(2, np.concatenate([np.eye(2), np.eye(2)])))
    match = np.exp(0.8) / (np.exp(0.8) + 1)
    expected = [[match, 1 - match], [1 - match, match]]
    np.testing.assert_allclose(np.asarray(alpha).reshape(2, 2), expected, rtol=1e-6)


# Initialisation


@pytest.mark.parametrize("heads", [1, 7])
def test_initialisers_see_one_head(heads):
    """Glorot uniform with the fans of one head: (F, C) for a kernel, (C, 1) for a vector."""
    layer = GATConv(64, 64 * heads, num_heads=heads, use_score_bias=True, rngs=nnx.Rngs(0))
    kernel, vector = layer.projection.kernel[...], layer.sender_vector[...]
    assert kernel.shape == (64, heads, 64) and vector.shape == (heads, 64)
    for values, bound in ((kernel, np.sqrt(6 / 128)), (vector, np.sqrt(6 / 65))):
        largest = np.abs(values).max()
        assert 0.9 * bound < largest <= bound
    assert not np.any(layer.output.bias[...]) and not np.any(layer.score_bias[...])


# Bad input


def rejects(error, message):
    return pytest.raises(error, match=re.escape(message))


@rows([case for case in ONE_EACH if takes(case, "combine")])
def test_bad_heads_are_refused(case, unchecked):
    make = partial(case.layer, IN, **case.options, rngs=nnx.Rngs(0))
    with rejects(ValueError, "num_heads must be at least 1, got 0"):
        make(OUT, num_heads=0)
    with rejects(ValueError, "out_features=21 cannot be split over num_heads=2"):
        make(OUT, num_heads=2)
    with rejects(ValueError, 'combine must be "concat" or "mean", got \'sum\''):
        make(OUT, num_heads=HEADS, combine="sum")
    assert make(OUT, num_heads=2, combine="mean").num_heads == 2


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
@one_of_each
def test_bad_rates_are_refused(case, rate, unchecked):
    for place in DropoutRates._fields:
        with rejects(ValueError, f"dropout rate of {place} must lie in [0, 1), got {rate}"):
            build(case, dropout_rate=DropoutRates(**{place: rate}))
    with rejects(ValueError, f"dropout rate of attention must lie in [0, 1), got {rate}"):
        build(case, dropout_rate=rate)


def both_methods(layer):
    return layer, layer.attention


@rows([case for case in ONE_EACH if not takes(case, "num_relations")])
def test_edge_features_that_the_layer_was_not_built_for(case, unchecked):
    layer = build(case)
    graph = graph_for(case)._replace(edges=np.ones((EDGES, EDGE_WIDTH), np.float32))
    for method in both_methods(layer):
        with rejects(ValueError, "the graph has edge features, but the layer was built without"):
            method(graph)


@rows(WITH_EDGES)
def test_edge_features_that_the_graph_lacks_or_of_another_width(case, unchecked):
    graph = graph_for(case)
    for method in both_methods(build(case)):
        with rejects(ValueError, "built with edge_features=2, but the graph has none"):
            method(graph._replace(edges=None))
        with rejects(ValueError, "expected edges of shape [E, 2], got [29, 3]"):
            method(graph._replace(edges=np.ones((EDGES, 3), np.float32)))
        with rejects(ValueError, "expected edges of shape [E, 2], got [29]"):
            method(graph._replace(edges=np.ones(EDGES, np.float32)))


@one_of_each
def test_nodes_of_another_width(case, unchecked):
    layer, graph = build(case), graph_for(case)
    wide = np.ones((NODES, IN + 1), np.float32)
    for nodes in (wide, BCOO.fromdense(wide)):
        with rejects(ValueError, "[N, 5], got [11, 6]"):
            layer(graph._replace(nodes=nodes))
    with rejects(ValueError, "[N, 5], got [11]"):
        layer(graph._replace(nodes=np.ones(NODES, np.float32)))


@one_of_each
def test_a_graph_without_node_features(case, unchecked):
    with pytest.raises((TypeError, ValueError), match="nodes"):
        build(case)(graph_for(case)._replace(nodes=None))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"senders": 11}, ValueError, "senders[3] = 11 is out of range"),
        ({"receivers": 11}, ValueError, "receivers[3] = 11 is out of range"),
        ({"senders": -1}, ValueError, "senders[3] = -1 is negative"),
        ({"receivers": -1}, ValueError, "receivers[3] = -1 is negative"),
        ({"senders": 2**31}, ValueError, "senders[3] = 2147483648 is over int32"),
        ({"receivers": 0.5}, TypeError, "receivers must hold integers"),
    ],
)
@one_of_each
def test_bad_ids_are_refused_outside_jit(case, change, error, message, unchecked):
    graph = graph_for(case)
    for name, bad in change.items():
        dtype = np.float32 if isinstance(bad, float) else np.int64
        ids = getattr(graph, name).astype(dtype)
        ids[3] = bad
        graph = graph._replace(**{name: ids})
    for method in both_methods(build(case)):
        with rejects(error, message):
            method(graph)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@rows([ONE_EACH[0], ONE_EACH[-1]])
def test_ids_may_be_of_any_integer_dtype(case, dtype):
    """Even of one that is too narrow for the number of nodes."""
    layer, graph = build(case), cast_ids(graph_for(case, nodes=257), np.int32)
    narrow = cast_ids(graph, dtype)
    forward = jax.jit(lambda graph: layer(graph).nodes)
    assert_close(forward(narrow), forward(graph))


def cast_ids(graph, dtype):
    fields = ("senders", "receivers")
    return graph._replace(**{name: (getattr(graph, name) % 120).astype(dtype) for name in fields})


@one_of_each
def test_lengths_that_disagree_are_refused(case, unchecked):
    layer, graph = build(case), graph_for(case)
    for method in both_methods(layer):
        with rejects(ValueError, "senders has 28 ids and receivers has 29"):
            method(graph._replace(senders=graph.senders[1:]))
        for length in (1, EDGES - 1):
            with rejects(ValueError, f"edge_mask must have 29 rows, got {length}"):
                method(graph, edge_mask=np.ones(length, bool))


@pytest.mark.parametrize("bad", [-1, NODES, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("end", ["senders", "receivers"])
@all_layers
def test_inside_jit_an_edge_with_a_bad_end_is_dropped(case, end, bad):
    layer, graph = build(case), graph_for(case)
    ids = getattr(graph, end).copy()
    ids[[3, 8]] = bad
    without = np.ones(EDGES, bool)
    without[[3, 8]] = False
    actual = evaluate(layer, graph._replace(**{end: ids}))
    assert_close(actual, evaluate(layer, graph, without))
