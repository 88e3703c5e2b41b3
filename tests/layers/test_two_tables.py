"""Receivers and senders from two tables, through every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    EDGES,
    IN,
    LOCAL,
    NODES,
    ONE_EACH,
    OUT,
    Keep,
    build,
    evaluate,
    graph_for,
    make,
    one_of_each,
    rows,
    weights_of,
)
from flax import nnx
from helpers import assert_close, changed_rows, rejects
from jax.experimental.sparse import BCOO

from gatjax import (
    GAT,
    GaAN,
    GaANConv,
    GATConv,
    GCNConv,
    NodeLinear,
    RelationalGATConv,
    build_graph,
    load_model,
    save_model,
)
from gatjax.layers import DropoutRates, GATv2Conv, GeneralConv
from gatjax.layers.inputs import Sides

SENDERS, WIDTH = 7, 3
PAIR = IN, WIDTH
RECEIVING = {"query", "receiver_projection", "output"}
WEIGHT = np.random.default_rng(7).uniform(0.1, 2.0, EDGES)


def two_tables(case, dtype=np.float32):
    """Eleven nodes that receive, and seven rows of another width that send."""
    rng = np.random.default_rng(3)
    graph = graph_for(case, dtype=dtype)
    ids = np.asarray(graph.senders) % SENDERS
    graph = graph._replace(senders=ids.astype(np.int32))
    return graph, rng.normal(size=(SENDERS, WIDTH)).astype(dtype)


def as_one(graph, senders):
    """The same edges between the rows of one table, [receivers 0; 0 senders]."""
    table = np.zeros((NODES + SENDERS, IN + WIDTH), senders.dtype)
    table[:NODES, :IN], table[NODES:, IN:] = graph.nodes, senders
    return graph._replace(
        nodes=table, senders=graph.senders + NODES, n_node=np.array([len(table)], np.int32)
    )


def own_half(layer, whole):
    """The parameters of a layer for two widths, out of those of a layer for both together."""
    given = nnx.to_pure_dict(nnx.state(whole, nnx.Param))

    def half(path, leaf):
        names = [key.key for key in path]
        found = given
        for name in names:
            found = found[name if name in found else "projection"]
        if found.shape[-1] != leaf.shape[-1]:
            found = found[..., IN:]
        if found.shape == leaf.shape:
            return found
        before = len(found) - (IN + WIDTH)
        if "context" in names:
            # [of the maximum ‖ of the mean ‖ own]
            of_max = len(leaf) - WIDTH - (IN if len(found) > 13 + IN + WIDTH else 0)
            parts = [found[:of_max], found[of_max:][IN : IN + WIDTH]]
            own = found[of_max + IN + WIDTH :][:IN]
            return jnp.concatenate([*parts, own])
        if RECEIVING & set(names):
            return found[: before + IN]
        return found[IN:]

    params = nnx.state(layer, nnx.Param)
    drawn = jax.tree_util.tree_map_with_path(half, nnx.to_pure_dict(params))
    nnx.replace_by_pure_dict(params, drawn)
    nnx.update(layer, params)
    return layer


@nnx.jit
def run(layer, graph, senders, **parts):
    out = layer(graph, senders=senders, deterministic=True, **parts)
    return out.nodes, layer.attention(graph, senders=senders, **parts)


@rows(
    [case for case in LOCAL if "share_weights" not in case.options],
    {GATConv, GCNConv, GaANConv, RelationalGATConv},
)
def test_two_tables_are_the_equations_on_one(case, x64):
    """With weights of edges, and with rows of NaN that take no part."""
    if case.layer is GCNConv:
        pytest.skip("senders without incoming edges have another degree: tested below")
    graph, senders = two_tables(case, np.float64)
    whole = build(case, in_features=IN + WIDTH, param_dtype=jnp.float64)
    if case.layer is GeneralConv:
        whole.edge_projection.kernel[:, :, :IN] = 0.0
    layer = own_half(make(case, in_features=PAIR, param_dtype=jnp.float64), whole)
    expected, alpha = case.reference(whole, as_one(graph, senders), Keep(attention=WEIGHT[:, None]))
    nan = lambda rows: np.concatenate([rows, np.full((2, rows.shape[1]), np.nan)])
    padded = graph._replace(nodes=nan(graph.nodes), n_node=np.array([NODES + 2], np.int32))
    nodes, found = run(
        layer,
        padded,
        nan(senders),
        edge_weight=WEIGHT,
        node_mask=np.arange(NODES + 2) < NODES,
        sender_mask=np.arange(SENDERS + 2) < SENDERS,
    )
    assert_close(nodes[:NODES], expected[:NODES], 1e-12)
    assert_close(found, alpha * WEIGHT[:, None], 1e-12)


@pytest.mark.slow
@one_of_each
def test_a_table_given_twice_is_the_graph_itself(case, blocks):
    """Values and gradients; those of both tables add up. By blocks, where nothing else of the table is."""
    if case.layer is GCNConv:
        pytest.skip("its degrees of senders are of leaving edges")
    layer, graph = build(case), graph_for(case)
    cotangent = weights_of(graph)

    @nnx.jit
    def differentiate(layer, nodes, senders):
        def loss(layer, nodes, senders):
            whole = graph._replace(nodes=nodes)
            out = layer(whole, senders=senders, deterministic=True).nodes
            return (out * cotangent).sum(), out

        both = nnx.grad(loss, argnums=(0, 1, 2), has_aux=True)
        return both(layer, nodes, senders)

    (d_params, d_nodes, d_senders), out = differentiate(layer, graph.nodes, graph.nodes + 0)
    expected = evaluate(layer, graph)
    assert_close((out, d_params), (expected.nodes, expected.d_params), 5e-5)
    assert_close(d_nodes + d_senders, expected.d_nodes, 5e-5)
    assert blocks or case.hard


@pytest.mark.slow
@one_of_each
def test_an_edge_masked_out_or_a_sender_that_takes_no_part_is_no_edge(case):
    graph, senders = two_tables(case)
    layer = build(case, in_features=PAIR)
    kept = np.arange(SENDERS) != 2
    by_sender = run(layer, graph, senders, sender_mask=kept)
    assert_close(by_sender, run(layer, graph, senders, edge_mask=kept[graph.senders]))
    assert changed_rows(by_sender[0], run(layer, graph, senders)[0])
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    found = run(layer, sparse, BCOO.fromdense(jnp.asarray(senders)), sender_mask=kept)
    assert_close(found, by_sender)


@pytest.mark.slow
@one_of_each
def test_dropout_acts_on_both_tables_each_with_a_mask_of_its_own(case):
    graph, senders = two_tables(case)
    layer = build(case, in_features=PAIR, dropout_rate=DropoutRates(0.2, 0.2, 0.2, 0.2))
    plain = run(layer, graph, senders)[0]
    draw = nnx.jit(lambda layer, rngs: layer(graph, senders=senders, rngs=rngs).nodes)
    first = draw(layer, nnx.Rngs(dropout=1))
    assert changed_rows(first, plain)
    assert_close(draw(layer, nnx.Rngs(dropout=1)), first)
    keys = layer.dropout.keys(False, nnx.Rngs(dropout=1))
    ones = Sides(jnp.ones((NODES, IN)), jnp.ones((NODES, IN)))
    one, other = layer.dropout.sides(ones, keys)
    assert changed_rows(one.features, other.features)


@pytest.mark.slow
@rows(ONE_EACH[:2])
def test_linen_takes_two_tables(case):
    graph, senders = two_tables(case)
    module = nnx.bridge.to_linen(case.layer, PAIR, OUT, **case.options, name="layer")
    variables = module.init(jax.random.key(0), graph, senders=senders)
    assert module.apply(variables, graph, senders=senders).nodes.shape == (NODES, OUT)


def test_a_graph_convolution_weighs_by_the_edges_that_leave_a_sender():
    layer = GCNConv((1, 2), 1, use_bias=False, rngs=nnx.Rngs(0))
    layer.projection.kernel[...] = jnp.array([[[1.0]], [[10.0]]])
    graph = build_graph([0, 0, 2], [0, 1, 1], jnp.zeros((2, 1)), num_senders=3)
    senders = jnp.array([[1.0, 0.0], [9.0, 9.0], [0.0, 1.0]])
    half = 2**-0.5
    assert_close(layer.attention(graph, senders=senders)[:, 0], np.array([half, 0.5, half]))
    out = layer(graph, senders=senders).nodes[:, 0]
    assert_close(out, np.array([half, 0.5 + 10 * half]))
    weight = jnp.array([4.0, 12.0, 4.0])
    alpha = layer.attention(graph, senders=senders, edge_weight=weight)
    assert_close(alpha[:, 0], np.array([4 / 8, 12 / 16, 4 / 8]))


@pytest.mark.slow
def test_a_symmetric_graph_of_two_tables_is_the_graph_itself_for_a_graph_convolution():
    rng = np.random.default_rng(0)
    ends = rng.integers(0, 5, (2, 9))
    graph = build_graph([*ends[0], *ends[1]], [*ends[1], *ends[0]], normal_rows(5))
    layer = GCNConv(2, 3, rngs=nnx.Rngs(0))
    assert_close(layer(graph, senders=graph.nodes + 0).nodes, layer(graph).nodes)


def normal_rows(rows, width=2):
    return np.random.default_rng(1).normal(size=(rows, width)).astype(np.float32)


def test_equal_widths_share_a_kernel_and_a_pair_has_two():
    """In every layer whose receivers and senders are projected alike."""
    count = lambda layer: sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)))
    for case in ONE_EACH:
        one, two = (count(make(case, in_features=width)) for width in (IN, (IN, IN)))
        has_two = case.name in ("GATConv", "HANConv", "RelationalGATConv")
        assert (two > one) == has_two, case.name


@one_of_each
def test_tables_that_do_not_fit_are_refused(case, unchecked):
    graph, senders = two_tables(case)
    layer = build(case, in_features=PAIR)
    for method in (layer, layer.attention):
        with rejects(ValueError, "in_features=(5, 3), for senders with a table of their own: pass"):
            method(graph)
        with rejects(ValueError, "senders must be [M, 3], got [7, 4]: as wide as the layer was"):
            method(graph, senders=np.ones((SENDERS, 4), np.float32))
        with rejects(ValueError, "nodes must be [N, 5], got [11, 6]"):
            wide = np.ones((NODES, 6), np.float32)
            method(graph._replace(nodes=wide), senders=senders)
        with rejects(ValueError, "out of range: the table of senders has 6 rows"):
            method(graph, senders=senders[:6])
        with rejects(ValueError, "senders must be [M, F], an array or a BCOO, got list"):
            method(graph, senders=senders.tolist())
        with rejects(ValueError, "sender_mask must have 7 rows, got 11"):
            method(graph, senders=senders, sender_mask=np.ones(NODES, bool))
        with rejects(TypeError, "sender_mask must be boolean, got float32; use sender_mask > 0"):
            method(graph, senders=senders, sender_mask=np.ones(SENDERS, np.float32))
        with rejects(ValueError, "pass senders=[M, F], or node_mask"):
            method(graph, sender_mask=np.ones(SENDERS, bool))


def test_widths_that_are_none_are_refused(unchecked):
    make = lambda in_features, **options: GATv2Conv(in_features, 4, **options, rngs=nnx.Rngs(0))
    with rejects(ValueError, "in_features of senders must be at least 1, got 0"):
        make((3, 0))
    with rejects(ValueError, "in_features must be one width, or a pair (receivers, senders)"):
        make((3, 4, 5))
    with rejects(ValueError, "share_weights=True needs receivers and senders of one width"):
        make((3, 4), share_weights=True)
    with rejects(TypeError, "in_features of senders must be a whole number, got None"):
        NodeLinear((3, None), 5, rngs=nnx.Rngs(0))


def test_a_graph_of_two_tables_is_built_and_batched_edges_stay_in_their_graph(unchecked):
    build_graph([6], [1], np.ones((2, 1)), num_senders=7)
    with rejects(ValueError, "senders[0] = 7 is out of range: the table of senders has 7 rows"):
        build_graph([7], [1], np.ones((2, 1)), num_senders=7)
    with rejects(ValueError, "senders[0] = 6 is out of range: the graph has 2 nodes"):
        build_graph([6], [1], np.ones((2, 1)))
    layer = GATv2Conv((1, 2), 4, rngs=nnx.Rngs(0))
    senders = np.ones((7, 2), np.float32)
    pair = build_graph([5, 0], [1, 2], np.ones((3, 1), np.float32), num_senders=7)
    pair = pair._replace(n_node=np.array([1, 2], np.int32), n_edge=np.array([1, 1], np.int32))
    with rejects(ValueError, "receivers[0] = 1 crosses graphs"):
        layer(pair, senders=senders)


@pytest.mark.slow
@pytest.mark.parametrize("model", [GAT, GaAN])
def test_every_layer_of_a_model_reads_the_same_senders(model, tmp_path):
    arguments = {"in_features": (IN, WIDTH), "out_features": 2, "num_heads": 2}
    built = model(**arguments, rngs=nnx.Rngs(0))
    graph, senders = two_tables(ONE_EACH[0])
    out, attention = run(built, graph, senders)
    assert out.shape == (NODES, 2) and [alpha.shape[0] for alpha in attention] == [EDGES] * 2
    kept = np.arange(SENDERS) != 2
    masked = run(built, graph, senders, sender_mask=kept)
    assert_close(masked, run(built, graph, senders, edge_mask=kept[graph.senders]))
    save_model(tmp_path / "model", model.__name__, arguments, built)
    assert_close(run(load_model(tmp_path / "model"), graph, senders), (out, attention))
