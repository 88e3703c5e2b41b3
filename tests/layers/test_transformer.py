"""Blocks of a transformer: the formulas, both orders and norms, padding, types of edges; and the models of them."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalCall=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, changed_rows, draw, rejects, run

from gatjax import (
    EDGE_TYPES,
    GPS,
    DotProductConv,
    DropoutRates,
    GATConv,
    GraphSelfAttention,
    GraphTransformer,
    MeanConv,
    OfTypes,
    Polynormer,
    TransformerBlock,
    add_expander,
    add_virtual_nodes,
    batch,
    build_graph,
    connect_all,
    edge_types,
    load_model,
    pad,
    save_model,
)
from gatjax.training import graph_prediction, node_classification, squared_error

WIDTH = 4


def some_graph(size=7, edges=9, seed=0):
    places = np.random.default_rng(seed).choice(size**2, edges, replace=False)
    nodes = draw(size, WIDTH, seed=seed).astype(np.float32)
    return build_graph(places // size, places % size, nodes)


GRAPHS = [some_graph(), some_graph(5, 6, seed=1), some_graph(6, 7, seed=2)]
GRAPH = batch(GRAPHS)


def block(local=True, whole=True, **options):
    rngs = nnx.Rngs(0)
    parts = (
        GATConv(WIDTH, WIDTH, num_heads=2, rngs=rngs) if local else None,
        GraphSelfAttention(WIDTH, WIDTH, num_heads=2, rngs=rngs) if whole else None,
    )
    return TransformerBlock(*parts, WIDTH, **options, rngs=rngs)


def standardised(norm, x):
    """With the scale and bias of the norm; over nodes, or over features."""
    axis = 0 if isinstance(norm, nnx.BatchNorm) else 1
    mean, variance = (f(x, axis=axis, keepdims=True) for f in (np.mean, np.var))
    scale, bias = (np.asarray(part[...])[None] for part in (norm.scale, norm.bias))
    return (x - mean) / np.sqrt(variance + norm.epsilon) * scale + bias


def dense(part, x):
    return x @ np.asarray(part.kernel[...]) + np.asarray(part.bias[...])


@pytest.mark.parametrize(
    ("norm", "order"),
    [
        ("batch", "post"),
        pytest.param("layer", "post", marks=pytest.mark.slow),
        pytest.param("batch", "pre", marks=pytest.mark.slow),
        pytest.param("layer", "pre", marks=pytest.mark.slow),
    ],
)
def test_a_block_is_its_formula(norm, order):
    layer = block(norm=norm, order=order)
    x = np.asarray(GRAPH.nodes, np.float64)
    of = lambda part, rows: np.asarray(part(GRAPH._replace(nodes=np.float32(rows))).nodes)
    feed = lambda z: dense(layer.narrow, np.maximum(dense(layer.wide, z), 0))
    if order == "post":
        z = standardised(layer.local_norm, x + of(layer.local, x))
        z = z + standardised(layer.whole_norm, x + of(layer.whole, x))
        expected = standardised(layer.last_norm, z + feed(z))
    else:
        rows = standardised(layer.first_norm, x)
        z = x + of(layer.local, rows) + of(layer.whole, rows)
        expected = z + feed(standardised(layer.last_norm, z))
    assert_close(layer(GRAPH, deterministic=False).nodes, expected, 1e-4)


@pytest.mark.slow
def test_a_part_left_out_is_left_out():
    for local, whole in ((True, False), (False, True)):
        layer = block(local, whole)
        part, norm = (layer.local, layer.local_norm) if local else (layer.whole, layer.whole_norm)
        z = standardised(norm, GRAPH.nodes + np.asarray(part(GRAPH).nodes))
        z = z + dense(layer.narrow, np.maximum(dense(layer.wide, z), 0))
        assert_close(layer(GRAPH).nodes, standardised(layer.last_norm, z), 1e-4)


def padded():
    graph, masks = pad(GRAPH, (30, 40, 5))
    graph.nodes[~masks.node] = np.nan
    return graph, masks.node


def loss_and_gradient(layer, graph, mask=None):
    split, parameters, rest = nnx.split(layer, nnx.Param, ...)

    def loss(parameters, graph):
        merged = nnx.merge(split, parameters, rest, copy=True)
        out = merged(graph, node_mask=mask, deterministic=False).nodes
        return ((out if mask is None else out[mask]) ** 3).sum()

    return jax.jit(jax.value_and_grad(loss))(parameters, graph)


@pytest.mark.slow
def test_statistics_are_those_of_real_nodes():
    rngs = nnx.Rngs(0)
    parts = (
        GATConv(WIDTH, WIDTH, rngs=rngs),
        GraphSelfAttention(WIDTH, WIDTH, max_nodes=7, rngs=rngs),
    )
    layer = TransformerBlock(*parts, WIDTH, rngs=rngs)
    graph, mask = padded()
    (loss, found), (expected_loss, expected) = (
        loss_and_gradient(layer, *given) for given in ((graph, mask), (GRAPH,))
    )
    assert_close(loss, expected_loss, 1e-4)
    # As one vector: a bias before a batch norm has no gradient but rounding.
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    assert_close(flat(found), flat(expected), 1e-5)


@pytest.mark.slow
def test_averages_are_used_in_evaluation_and_left_alone():
    layer = block()
    before = jax.tree.map(jnp.array, nnx.state(layer, nnx.BatchStat))
    layer(GRAPH, deterministic=True)
    assert_close(nnx.state(layer, nnx.BatchStat), before, 0)
    layer(GRAPH, deterministic=False)
    assert not np.allclose(layer.last_norm.mean[...], 0)
    alone = layer(GRAPHS[0], deterministic=True).nodes
    assert_close(alone, layer(GRAPH, deterministic=True).nodes[:7], 1e-5)


@pytest.mark.slow
def test_a_layer_on_the_edges_of_some_types():
    own = GRAPHS[0]
    graph = edge_types(add_expander(own))
    inner = DotProductConv(WIDTH, WIDTH, num_heads=2, rngs=nnx.Rngs(0))
    layer = OfTypes(inner, ["own"])
    assert_close(layer(graph).nodes, inner(own).nodes, 1e-6)
    alpha = np.asarray(layer.attention(graph))
    assert_close(alpha[:9], inner.attention(own), 1e-6)
    assert not alpha[9:].any()
    mask = np.arange(len(graph.senders)) % 2 == 0
    assert_close(layer(graph, edge_mask=mask).nodes, inner(own, edge_mask=mask[:9]).nodes, 1e-6)
    reads = DotProductConv(WIDTH, WIDTH, edge_features=5, edges_in="logit", rngs=nnx.Rngs(0))
    every = OfTypes(reads, EDGE_TYPES)
    assert_close(every(graph).nodes, reads(graph).nodes, 1e-6)


def model_on(graph, **options):
    width = graph.nodes.shape[1]
    edges = {} if graph.edges is None else {"edge_features": graph.edges.shape[1]}
    small = {"hidden_features": 8, "num_layers": 1, "num_heads": 2, **edges, **options}
    return GraphTransformer(width, 3, **small, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_models_on_each_set_of_edges():
    sets = {
        "own": GRAPH,
        "all": edge_types(connect_all(GRAPH)),
        "expander": edge_types(add_virtual_nodes(add_expander(GRAPH, 4), 1)[0]),
    }
    for name, graph in sets.items():
        options = {} if name == "own" else {"edges_in": "both" if name == "all" else "logit"}
        model = model_on(graph, **options)
        nodes, alphas = run(model, graph)
        assert nodes.shape == (len(graph.nodes), 3) and np.isfinite(nodes).all()
        assert [alpha.shape for alpha in alphas] == [(len(graph.senders), 2)]
        assert np.isfinite(jax.tree.leaves(loss_and_gradient(model, graph))[0])


@pytest.mark.slow
@pytest.mark.parametrize("whole", ["full", "linear", None])
def test_gps_of_nodes_and_of_graphs(whole, tmp_path):
    options = {"hidden_features": 8, "num_layers": 1, "num_heads": 2, "whole": whole}
    options |= {"dropout_rate": DropoutRates(inputs=0.2), "local": MeanConv}
    model = GPS(WIDTH, 3, **options, rngs=nnx.Rngs(0))
    graph, mask = padded()
    model(GRAPH, deterministic=False)
    expected = model(GRAPH, deterministic=True).nodes
    assert_close(model(graph, node_mask=mask, deterministic=True).nodes[mask], expected, 1e-5)
    of_graphs = GPS(WIDTH, 3, **options, pool="sum", max_nodes=7, rngs=nnx.Rngs(0))
    assert of_graphs(GRAPH).globals.shape == (3, 3)
    arguments = {"in_features": WIDTH, "out_features": 3, **options}
    save_model(tmp_path / "gps", "GPS", arguments, model)
    assert_close(load_model(tmp_path / "gps")(GRAPH).nodes, expected, 1e-6)


def test_gps_without_attention_to_all_nodes_sees_neighbours_alone():
    path = build_graph([0, 1, 2], [1, 2, 3], np.eye(4, WIDTH, dtype=np.float32))
    far = path._replace(nodes=path.nodes + np.eye(4)[0][:, None].astype(np.float32))
    options = {"hidden_features": 8, "num_layers": 2, "num_heads": 2, "norm": "layer"}
    seen = {}
    for whole in ("full", None):
        model = GPS(WIDTH, 3, whole=whole, **options, rngs=nnx.Rngs(0))
        seen[whole] = changed_rows(model(path).nodes, model(far).nodes)
    assert seen == {"full": {0, 1, 2, 3}, None: {0, 1, 2}}


@pytest.mark.slow
def test_training_functions_take_them():
    build = lambda rngs: GPS(
        WIDTH, 1, hidden_features=8, num_layers=1, num_heads=2, pool="mean", max_nodes=7, rngs=rngs
    )
    pure = graph_prediction(build, squared_error)
    variables, targets = pure.initialise(jax.random.key(0)), np.ones((5, 1), np.float32)
    graph, masks = pad(GRAPH, (30, 40, 5))
    gradient = jax.jit(jax.grad(pure.loss, has_aux=True))
    found, statistics = gradient(variables, jax.random.key(1), graph, targets, masks)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, statistics)))
    nodes = node_classification(lambda rngs: GPS(WIDTH, 3, num_layers=1, rngs=rngs))
    logits = nodes.logits(nodes.initialise(jax.random.key(0)), GRAPHS[0])
    assert logits.shape == (7, 3)


@pytest.mark.slow
def test_bad_input(unchecked):
    with rejects(ValueError, "local and attention are both None"):
        block(False, False)
    with rejects(ValueError, "norm must be one of ['batch', 'layer'], got 'graph'"):
        block(norm="graph")
    with rejects(ValueError, "order must be one of ['post', 'pre'], got 'both'"):
        block(order="both")
    with rejects(ValueError, "feed_forward must be at least 1, got 0"):
        block(feed_forward=0)
    with rejects(ValueError, "dropout rate of inputs must lie in [0, 1), got 1"):
        block(dropout_rate=1)
    one = build_graph([0], [0], np.ones((1, WIDTH), np.float32))
    with rejects(ValueError, 'one node has no deviation to divide by: take norm="layer"'):
        block()(one)
    assert block(norm="layer")(one).nodes.shape == (1, WIDTH)
    assert block()(one, deterministic=True).nodes.shape == (1, WIDTH)
    with rejects(ValueError, "neither part of the block has weights of edges"):
        block(local=False).attention(GRAPH)
    inner = GATConv(WIDTH, WIDTH, rngs=nnx.Rngs(0))
    with rejects(ValueError, "types must be of ['own', 'pair',"):
        OfTypes(inner, ["mine"])
    with rejects(ValueError, "types is empty"):
        OfTypes(inner, [])
    with rejects(ValueError, "graph = edge_types(graph) first"):
        OfTypes(inner, ["own"])(GRAPH)
    with rejects(ValueError, 'whole must be "full", "linear" or None, got \'sparse\''):
        GPS(WIDTH, 3, whole="sparse", rngs=nnx.Rngs(0))
    with rejects(ValueError, "num_layers must be at least 1, got 0"):
        GraphTransformer(WIDTH, 3, num_layers=0, rngs=nnx.Rngs(0))


def small_polynormer(**options):
    sizes = {"hidden_features": 8, "local_layers": 2, "whole_layers": 1, "num_heads": 2}
    return Polynormer(WIDTH, 3, **sizes, **options, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_polynormer_is_its_formula():
    model = small_polynormer()
    for layer in (*model.local, *model.whole):
        layer.share[...] = draw(8, seed=3).astype(np.float32)
    rows = lambda part, x: np.asarray(part(GRAPH._replace(nodes=np.float32(x))).nodes, np.float64)
    relu, beta = lambda x: np.maximum(x, 0), 1 / (1 + np.exp(-draw(8, seed=3)))[None]
    h, total = rows(model.embed, GRAPH.nodes), 0
    for layer in model.local:
        x = relu(rows(layer.attend, h))
        h = (1 - beta) * standardised(layer.norm, relu(dense(layer.gate, h)) * x) + beta * x
        total = total + h
    assert_close(model(GRAPH, local_only=True).nodes, rows(model.local_output, total), 1e-4)
    h = standardised(model.norm, total)
    for layer in model.whole:
        x = standardised(layer.norm, rows(layer.attend, h))
        h = relu(dense(layer.mix, (dense(layer.gate, h) + beta) * x))
    assert_close(model(GRAPH).nodes, rows(model.output, h), 1e-4)


@pytest.mark.slow
def test_polynormer_pads_pools_and_is_saved(tmp_path):
    rates = DropoutRates(inputs=0.2, attention=0.1)
    model = small_polynormer(dropout_rate=rates)
    graph, mask = padded()
    assert not np.allclose(model(GRAPH, deterministic=False).nodes, model(GRAPH).nodes)
    expected = model(GRAPH, deterministic=True).nodes
    for local_only in (True, False):
        how = {"local_only": local_only, "deterministic": True}
        found = model(graph, node_mask=mask, **how).nodes[mask]
        assert_close(found, model(GRAPH, **how).nodes, 1e-5)
    assert np.isfinite(jax.tree.leaves(loss_and_gradient(model, graph, mask))[0])
    assert [alpha.shape for alpha in model.attention(GRAPH)] == [(22, 2)] * 2
    assert small_polynormer(pool="max", local=MeanConv)(GRAPH).globals.shape == (3, 3)
    arguments = {"in_features": WIDTH, "out_features": 3, "hidden_features": 8, "local_layers": 2}
    arguments |= {"whole_layers": 1, "num_heads": 2, "dropout_rate": rates}
    save_model(tmp_path / "model", "Polynormer", arguments, model)
    assert_close(load_model(tmp_path / "model")(GRAPH).nodes, expected, 1e-6)
    with rejects(ValueError, "whole_layers must be at least 1, got 0"):
        Polynormer(WIDTH, 3, whole_layers=0, rngs=nnx.Rngs(0))
