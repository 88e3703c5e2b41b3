"""Attention over several relations: what the relation changes, and which edges share a softmax."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportIndexIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGE_WIDTH,
    EDGES,
    HEADS,
    IN,
    NODES,
    OUT,
    RELATIONS,
    build,
    evaluate,
    gat,
    graph_for,
    relational,
)
from flax import nnx
from helpers import assert_close, close, rejects, run

import gatjax.layers.relational
from gatjax.graph import build_graph
from gatjax.layers import GATConv, RelationalGATConv

ACROSS, FEATURES, WITHIN = (case for case in CASES if case.layer is RelationalGATConv)
both = pytest.mark.parametrize("case", [ACROSS, WITHIN], ids=["across", "within"])

# The tutorial's example: a chain of two relations, and a second way into Germany.
EINSTEIN, GERMANY, EUROPE, ULM = range(4)
BORN_IN, LOCATED_IN = range(2)
FACTS = build_graph(
    [EINSTEIN, ULM, GERMANY],
    [GERMANY, GERMANY, EUROPE],
    np.eye(4, dtype=np.float32),
    edges=np.array([BORN_IN, LOCATED_IN, LOCATED_IN], np.int32),
)


def knowing(softmax):
    """Logits: 2 from any sender of born_in, ln 3 + 2 of located_in; values 1 and 10."""
    layer = RelationalGATConv(
        4, 1, num_relations=2, softmax=softmax, use_bias=False, rngs=nnx.Rngs(0)
    )
    layer.projection.kernel[...] = jnp.stack(
        [jnp.full((4, 1, 1), 1.0), jnp.full((4, 1, 1), 10.0)], axis=1
    )
    layer.receiver_vector[...] = jnp.zeros((2, 1, 1))
    layer.sender_vector[...] = jnp.array([[[2.0]], [[(np.log(3) + 2) / 10]]])
    return layer


@pytest.mark.slow
def test_einstein_was_born_in_germany_which_is_in_europe():
    layer = knowing("across")
    close(layer.attention(FACTS)[:, 0], [1 / 4, 3 / 4, 1])
    close(layer(FACTS).nodes[:, 0], [0, 1 / 4 + 30 / 4, 10, 0])
    all_born = FACTS._replace(edges=np.array([BORN_IN, BORN_IN, LOCATED_IN], np.int32))
    close(layer.attention(all_born)[:, 0], [1 / 2, 1 / 2, 1])
    close(layer(all_born).nodes[:, 0], [0, 1, 10, 0])


def test_within_its_relation_every_fact_stands_alone():
    layer = knowing("within")
    close(layer.attention(FACTS)[:, 0], [1, 1, 1])
    close(layer(FACTS).nodes[:, 0], [0, 11, 10, 0])


@both
def test_one_relation_is_gat(case, x64):
    options = {"num_relations": 1, "num_bases": None, "residual": False, "combine": "concat"}
    layer = build(case, param_dtype=jnp.float64, **options)
    plain = GATConv(IN, OUT, num_heads=HEADS, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    plain.projection.kernel[...] = layer.projection.kernel[...][:, 0]
    plain.receiver_vector[...] = layer.receiver_vector[...][0]
    plain.sender_vector[...] = layer.sender_vector[...][0]
    plain.output.bias[...] = layer.output.bias[...]
    graph = graph_for(case, dtype=np.float64)._replace(edges=None)
    nodes, alpha = gat(plain, graph)
    graph = graph._replace(edges=np.zeros(EDGES, np.int32))
    actual = run(layer, graph)
    close(actual[0], nodes, 1e-10)
    close(actual[1], alpha, 1e-10)


@pytest.mark.parametrize("softmax", ["within", "across"])
def test_weights_sum_to_one_over_their_group(softmax):
    layer, graph = build(ACROSS, softmax=softmax), graph_for(ACROSS)
    alpha = evaluate(layer, graph).attention
    groups = np.asarray(graph.receivers)
    if softmax == "within":
        groups = groups * RELATIONS + graph.edges
    for group in np.unique(groups):
        close(alpha[groups == group].sum(0), np.ones(HEADS))


@both
def test_renamed_relations_with_renamed_parameters_are_the_same(case):
    layer, graph = build(case), graph_for(case)
    new_ids = np.array([2, 0, 3, 1])
    old_ids = np.argsort(new_ids)
    other = build(case)
    for name in ("receiver_vector", "sender_vector"):
        getattr(other, name)[...] = getattr(layer, name)[...][old_ids]
    if layer.projection.coefficients is None:
        other.projection.kernel[...] = layer.projection.kernel[...][:, old_ids]
    else:
        other.projection.coefficients[...] = layer.projection.coefficients[...][:, old_ids]
    renamed = graph._replace(edges=new_ids[graph.edges].astype(np.int32))
    close(evaluate(other, renamed).nodes, evaluate(layer, graph).nodes)


@pytest.mark.slow
def test_both_scores_with_and_without_features_are_the_equations(x64):
    """The row of the table is one combination of them."""
    for score, width, softmax in (
        ("additive", EDGE_WIDTH, "across"),
        ("additive", EDGE_WIDTH, "within"),
        ("multiplicative", None, "across"),
        ("multiplicative", EDGE_WIDTH, "across"),
    ):
        own = {"score": score, "softmax": softmax, "edge_features": width}
        case = ACROSS._replace(options={**ACROSS.options, **own})
        layer, graph = build(case, param_dtype=jnp.float64), graph_for(case, dtype=np.float64)
        assert_close(
            run(layer, graph), relational(layer, graph), 1e-12, of=f"{score} {softmax} {width}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("score", ["additive", "multiplicative"])
def test_features_that_are_zero_change_nothing(score):
    plain, graph = build(ACROSS, score=score), graph_for(FEATURES)
    layer = build(ACROSS, score=score, edge_features=EDGE_WIDTH)
    nnx.update(layer, nnx.state(plain, nnx.Param))
    relations = graph.edges["relation"]
    both = {"relation": relations, "features": 0 * graph.edges["features"]}
    expected = run(plain, graph._replace(edges=relations))
    assert_close(run(layer, graph._replace(edges=both)), expected)


@pytest.mark.slow
def test_edges_that_lack_relations_or_features_are_refused(unchecked):
    layer, plain, graph = build(FEATURES), build(ACROSS), graph_for(FEATURES)
    relations, features = graph.edges["relation"], graph.edges["features"]
    needed = 'so edges must be {"relation": [E], "features": [E, 2]}, got '
    wide = np.ones((EDGES, 3), np.float32)
    for edges, message in (
        (relations, f"edge_features=2, {needed}ndarray"),
        ({"relation": relations}, f"{needed}['relation']"),
        (None, f"{needed}NoneType"),
        ({"relation": relations, "features": wide}, "must be [E, 2], got [29, 3]"),
        ({"relation": features, "features": features}, "got float32[29, 2]"),
    ):
        for method in (layer, layer.attention):
            with rejects(ValueError, message):
                method(graph._replace(edges=edges))
    with rejects(ValueError, "got dict: pass edge_features=... to the layer, which then reads"):
        plain.attention(graph)
    assert layer.attention(graph).shape == plain.attention(graph._replace(edges=relations)).shape


@both
def test_a_relation_without_edges_gets_no_gradient(case):
    layer, graph = build(case), graph_for(case)
    graph = graph._replace(edges=np.minimum(graph.edges, RELATIONS - 2))
    gradient = evaluate(layer, graph).d_params
    vectors = gradient["receiver_vector"][...], gradient["sender_vector"][...]
    for vector in vectors:
        assert np.any(vector[: RELATIONS - 1]) and not np.any(vector[RELATIONS - 1])


@pytest.mark.parametrize("bad", [-1, RELATIONS, 2**31 - 1, -(2**31)])
@both
def test_inside_jit_an_edge_of_no_relation_is_dropped(case, bad):
    layer, graph = build(case), graph_for(case)
    edges, without = graph.edges.copy(), np.ones(EDGES, bool)
    edges[[3, 8]], without[[3, 8]] = bad, False
    actual, expected = evaluate(layer, graph._replace(edges=edges)), evaluate(layer, graph, without)
    jax.tree.map(lambda a, b: close(a, b, 1e-4), actual, expected)


@pytest.mark.parametrize("bad", [-1, RELATIONS])
@both
def test_outside_jit_a_relation_out_of_range_is_refused_unless_masked(case, bad, unchecked):
    layer, graph = build(case), graph_for(case)
    edges, mask = graph.edges.copy(), np.arange(EDGES) != 3
    edges[3] = bad
    broken = graph._replace(edges=edges)
    for method in (layer, layer.attention):
        with rejects(ValueError, f"edges[3] = {bad} is no relation: with num_relations=4"):
            method(broken)
    close(layer(broken, edge_mask=mask).nodes, layer(graph, edge_mask=mask).nodes)


@pytest.mark.parametrize(
    ("edges", "got"),
    [
        (None, "NoneType"),
        (np.ones(EDGES, np.float32), "float32[29]"),
        (np.ones((EDGES, 1), np.int32), "int32[29, 1]"),
        (np.ones(EDGES, bool), "bool[29]"),
        ({"relation": np.ones(EDGES, np.int32)}, "dict"),
    ],
)
def test_edges_that_are_no_relations_are_refused(edges, got, unchecked):
    layer, graph = build(ACROSS), graph_for(ACROSS)._replace(edges=edges)
    message = f"edges must hold the relation of each edge, integers [E] from 0 to 3, got {got}"
    for method in (layer, layer.attention):
        with rejects(ValueError, message):
            method(graph)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_relations_may_be_of_any_integer_dtype(dtype):
    layer, graph = build(ACROSS), graph_for(ACROSS)
    close(layer(graph._replace(edges=graph.edges.astype(dtype))).nodes, layer(graph).nodes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_relations": 0}, "num_relations must be at least 1, got 0"),
        ({"num_bases": 0}, "num_bases must be at least 1, got 0"),
        ({"score": "dot"}, 'score must be "additive" or "multiplicative", got \'dot\''),
        ({"key_features": 3}, 'key_features=3 are of score="multiplicative": additive logits'),
        ({"softmax": "both"}, 'softmax must be "within" or "across", got \'both\''),
        ({"num_heads": 2}, "out_features=21 cannot be split over num_heads=2"),
    ],
)
def test_bad_options_are_refused(options, message, unchecked):
    with rejects(ValueError, message):
        RelationalGATConv(IN, OUT, **{"num_relations": RELATIONS, **options}, rngs=nnx.Rngs(0))


def test_too_many_pairs_of_node_and_relation_are_refused(unchecked, monkeypatch):
    monkeypatch.setattr(gatjax.layers.relational, "INT32_MAX", 43)
    with rejects(ValueError, "11 nodes and num_relations=4 make 44 pairs, over int32"):
        build(ACROSS).attention(graph_for(ACROSS))


def test_bases_are_shared():
    """Seven relations over two bases: two matrices, and seven coefficients for each."""
    layer = RelationalGATConv(IN, OUT, num_relations=7, num_bases=2, rngs=nnx.Rngs(0))
    assert layer.projection.kernel.shape == (
        IN,
        2,
        1,
        OUT,
    ) and layer.projection.coefficients.shape == (2, 7)


def test_kernels_are_drawn_apart():
    layer = RelationalGATConv(IN, OUT, num_relations=RELATIONS, num_heads=HEADS, rngs=nnx.Rngs(0))
    kernels = (
        np.asarray(layer.projection.kernel[...])
        .swapaxes(0, 1)
        .swapaxes(1, 2)
        .reshape(-1, IN, OUT // HEADS)
    )
    assert len({kernel.tobytes() for kernel in kernels}) == RELATIONS * HEADS
    assert not np.array_equal(layer.receiver_vector[...], layer.sender_vector[...])


@pytest.mark.slow
@pytest.mark.parametrize("score", ["additive", "multiplicative"])
def test_memory_does_not_grow_with_edges_times_features(score):
    """A thousand edges per node: no array [E, H, C], nor one per relation and edge."""
    layer = RelationalGATConv(IN, 64, num_relations=3, num_heads=4, score=score, rngs=nnx.Rngs(0))
    rng, nodes, edges = np.random.default_rng(0), 101, 100_003
    graph = build_graph(
        *rng.integers(0, nodes, (2, edges)),
        rng.normal(size=(nodes, IN)).astype(np.float32),
        edges=rng.integers(0, 3, edges),
    )
    graphdef, params = nnx.split(layer)

    def loss(params, graph):
        return nnx.merge(graphdef, params)(graph).nodes.sum()

    compiled = jax.jit(jax.grad(loss)).lower(params, jax.device_put(graph)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < edges * 64 * 4 / 2
    assert NODES < nodes
