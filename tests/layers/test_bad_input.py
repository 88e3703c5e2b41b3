"""What a layer refuses, and in which words."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    EDGE_WIDTH,
    EDGES,
    FEATURES_ALONE,
    HEADS,
    IN,
    NODES,
    ONE_EACH,
    OUT,
    build,
    graph_for,
    one_of_each,
    rows,
    takes,
)
from flax import nnx
from helpers import changed_rows, rejects
from jax.experimental.sparse import BCOO

from gatjax.attention import attention_weights, neighbor_mean
from gatjax.graph import build_graph, split_weights
from gatjax.layers import (
    DotProductConv,
    DropoutRates,
    GaANConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GraphReadout,
    HeadProjection,
    MATConv,
    Setup,
)
from gatjax.models import MAT, DotProductGAT, Stack


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


def test_widths_and_dtypes_of_gated_attention_are_refused(unchecked):
    make = partial(GaANConv, IN, rngs=nnx.Rngs(0))
    widths = "num_heads", "key_features", "value_features", "gate_features"
    for name in widths:
        for bad in (None, 2.0):
            with rejects(TypeError, f"{name} must be a whole number, got {bad}"):
                make(OUT, **{name: bad})
    with rejects(TypeError, "out_features must be a whole number, got None"):
        make(None)
    for name in ("dtype", "param_dtype"):
        with rejects(TypeError, f"{name} must be a dtype of fractions, such as"):
            make(OUT, **{name: np.int32})


def test_places_of_edge_features_are_known_and_not_empty(unchecked):
    for make in (DotProductConv, MATConv, DotProductGAT, MAT):
        with rejects(
            ValueError, "edges_in must be one of ['key_value', 'logit', 'both'], got 'bias'"
        ):
            make(4, 8, edge_features=2, edges_in="bias", rngs=nnx.Rngs(0))
        with rejects(ValueError, "edges_in='logit' needs edge_features"):
            make(4, 8, edges_in="logit", rngs=nnx.Rngs(0))


def test_residuals_that_are_none_are_refused(unchecked):
    for residual in ("False", "identity", 1, None):
        with rejects(ValueError, f'residual must be False, True or "linear", got {residual!r}'):
            GATConv(IN, OUT, residual=residual, rngs=nnx.Rngs(0))


@one_of_each
def test_bad_rates_are_refused(case, unchecked):
    for rate in (-0.1, 1.0, 1.5, float("nan")):
        for place in DropoutRates._fields:
            with rejects(ValueError, f"dropout rate of {place} must lie in [0, 1), got {rate}"):
                build(case, dropout_rate=DropoutRates(**{place: rate}))
        with rejects(ValueError, f"dropout rate of attention must lie in [0, 1), got {rate}"):
            build(case, dropout_rate=rate)


def test_rates_and_temperatures_are_numbers(unchecked):
    make = partial(GATConv, IN, OUT, rngs=nnx.Rngs(0))
    for wrong in ("0.5", None, np.ones(2)):
        with rejects(TypeError, "dropout rate of attention must be a number, got "):
            make(dropout_rate=wrong)
        with rejects(TypeError, "temperature must be a number, got "):
            make(temperature=wrong)
    layer = make(dropout_rate=jnp.float32(0.5), temperature=np.array(2.0))
    assert layer.dropout.rates.attention == 0.5 and layer.weighing.temperature == 2
    assert nnx.split(layer)[0] == nnx.split(make(dropout_rate=0.5, temperature=2.0))[0]


def test_each_bias_is_an_option():
    for output, score, expected in [(True, None, (1, 1)), (False, None, (0, 0))] + [
        (output, score, (output, score)) for output in (True, False) for score in (True, False)
    ]:
        layer = GATv2Conv(2, 3, use_bias=output, use_score_bias=score, rngs=nnx.Rngs(0))
        assert (layer.output.bias is not None, layer.score_bias is not None) == expected


def test_a_part_for_one_table_refuses_two_widths(unchecked):
    setup = Setup((2, 3), 4, nnx.Rngs(0))
    with rejects(TypeError, "in_features must be a whole number, got (2, 3)"):
        HeadProjection(setup.in_features, setup.heads)
    HeadProjection(setup.widths.senders, setup.heads)


TRIANGLE = build_graph([0, 1, 2], [1, 2, 0], np.ones((3, 4), np.float32))
LAYER = GATConv(4, 8, num_heads=2, rngs=nnx.Rngs(0))


def both_methods(layer):
    return layer, layer.attention


@rows(
    [
        case
        for case in ONE_EACH
        if case.layer is not MATConv
        and not takes(case, "num_relations")
        and "edge_features" not in case.options
    ]
)
def test_edge_features_that_the_layer_was_not_built_for(case, unchecked):
    layer = build(case)
    graph = graph_for(case)._replace(edges=np.ones((EDGES, EDGE_WIDTH), np.float32))
    for method in both_methods(layer):
        with rejects(ValueError, "the graph has edge features, but the layer was built without"):
            method(graph)


@pytest.mark.parametrize("layer", [GCNConv, GATConv])
def test_every_use_of_edge_features_that_a_message_names_works(layer, unchecked):
    graph = build_graph([0, 1], [1, 0], np.eye(2, dtype=np.float32), edges=[[0.5], [2.0]])
    built = layer(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"split_weights.*edge_weight=weight.*edges=None") as error:
        built(graph)
    assert ("build it with edge_features=1" in str(error.value)) == (layer is GATConv)
    if layer is GATConv:
        layer(2, 3, edge_features=1, rngs=nnx.Rngs(0))(graph)
    bare, weight = split_weights(graph)
    assert changed_rows(built(bare).nodes, built(bare, edge_weight=weight).nodes)
    built(graph._replace(edges=None))


def test_long_whole_numbers_are_not_rounded_in_silence(unchecked):
    times = np.array([[1577836801], [1577836863]])
    graph = build_graph([0, 1], [1, 0], times, edges=times)
    with rejects(ValueError, "nodes[0, 0] = 1577836801 has more digits than float32 holds"):
        GATConv(1, 3, rngs=nnx.Rngs(0))(graph._replace(edges=None))
    layer = GATConv(1, 3, edge_features=1, rngs=nnx.Rngs(0))
    with rejects(ValueError, "edges[0, 0] = 1577836801 has more digits than float32 holds"):
        layer(graph._replace(nodes=times % 10**6))
    layer(graph._replace(nodes=times % 10**6, edges=times - times.min()))


@rows(FEATURES_ALONE)
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


BAD_IDS = [
    ("senders", 11, ValueError, "senders[3] = 11 is out of range"),
    ("receivers", 11, ValueError, "receivers[3] = 11 is out of range"),
    ("senders", -1, ValueError, "senders[3] = -1 is negative"),
    ("receivers", -1, ValueError, "receivers[3] = -1 is negative"),
    ("senders", 2**31, ValueError, "senders[3] = 2147483648 is over int32"),
    ("receivers", 0.5, TypeError, "receivers must hold integers"),
]


@one_of_each
def test_bad_ids_are_refused_outside_jit(case, unchecked):
    layer, graph = build(case), graph_for(case)
    for end, bad, error, message in BAD_IDS:
        ids = getattr(graph, end).astype(np.float32 if isinstance(bad, float) else np.int64)
        ids[3] = bad
        for method in both_methods(layer):
            with rejects(error, message):
                method(graph._replace(**{end: ids}))


@one_of_each
def test_lengths_that_disagree_are_refused(case, unchecked):
    layer, graph = build(case), graph_for(case)
    for method in both_methods(layer):
        with rejects(ValueError, "senders has 28 ids and receivers has 29"):
            method(graph._replace(senders=graph.senders[1:]))
        for length in (1, EDGES - 1):
            with rejects(ValueError, f"edge_mask must have 29 rows, got {length}"):
                method(graph, edge_mask=np.ones(length, bool))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: LAYER(TRIANGLE, node_mask=np.ones((3, 1), bool)),
            ValueError,
            "node_mask must have one axis, got [3, 1]; use node_mask[:, 0]",
        ),
        (
            lambda: neighbor_mean(TRIANGLE, TRIANGLE.nodes, np.ones((3, 2), bool)),
            ValueError,
            "edge_mask must have one axis, got [3, 2]",
        ),
        (
            lambda: LAYER(TRIANGLE, edge_weight=[1.0, 2.0, 3.0]),
            TypeError,
            "edge_weight must be an array, got a list; use np.array(edge_weight)",
        ),
        (
            lambda: attention_weights(TRIANGLE, [1.0, 2.0, 3.0]),
            TypeError,
            "logits must be an array, got a list; use np.array(logits)",
        ),
        *(
            (
                lambda call=call: call(TRIANGLE.nodes),
                TypeError,
                "graph must be a jraph.GraphsTuple, got ndarray; "
                "make one of arrays by build_graph(senders, receivers, nodes)",
            )
            for call in (
                lambda nodes: LAYER(nodes),
                lambda nodes: Stack([LAYER])(nodes),
                lambda nodes: GraphReadout(4, 2, rngs=nnx.Rngs(0))(nodes),
            )
        ),
    ],
)
def test_arrays_of_another_form(call, error, message, unchecked):
    with rejects(error, message):
        call()
