"""Attention over meta-paths: the weights of the paths, and what is in their mean."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGES,
    IN,
    ISOLATED,
    NODES,
    OUT,
    RELATIONS,
    array,
    build,
    graph_for,
    han,
    make,
)
from flax import nnx
from helpers import assert_close, close, draw, rejects, run

from gatjax.attention import semantic_attention, semantic_weights
from gatjax.graph import Budget, batch, build_graph, pad
from gatjax.layers import GATConv, HANConv
from gatjax.models import HAN

GRAPH, NODE = (case for case in CASES if case.layer is HANConv)


@nnx.jit
def betas(layer, graph, **parts):
    return layer.betas(graph, **parts)


def compared(rows, kernel, bias, query):
    """[N, P], one number of a node and a path at a time."""
    return np.array([[np.tanh(z @ kernel + bias) @ query for z in row] for row in rows])


def shares(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_weights_of_paths_are_the_equations(x64):
    rows, *known = draw(7, 3, 5), draw(5, 4, seed=1), draw(4, seed=2), draw(4, seed=3)
    graph = build_graph([], [], num_nodes=7)._replace(
        n_node=np.array([4, 3], np.int32), n_edge=np.zeros(2, np.int32)
    )
    mask = np.array([1, 1, 0, 1, 1, 0, 1], bool)
    logits = compared(rows, *known)
    of_first, of_second = logits[[0, 1, 3]].mean(0), logits[[4, 6]].mean(0)
    means = np.array([of_first] * 4 + [of_second] * 3)
    actual = semantic_weights(graph, rows, *known, node_mask=mask)
    close(actual, shares(means), 1e-12)
    each = semantic_weights(graph, rows, *known, semantic="node")
    close(each, shares(logits), 1e-12)
    total = semantic_attention(graph, rows, *known, node_mask=mask)
    expected = mask[:, None] * (shares(means)[:, :, None] * rows).sum(1)
    close(total, expected, 1e-12)
    # What does not count may hold anything.
    rows[~mask] = np.nan
    close(semantic_weights(graph, rows, *known, node_mask=mask), shares(means), 1e-12)
    close(semantic_attention(graph, rows, *known, node_mask=mask), expected, 1e-12)
    loss = lambda known: semantic_attention(graph, rows, *known, node_mask=mask).sum()
    assert all(np.isfinite(leaf).all() for leaf in jax.grad(loss)(known))


def test_wrong_shapes_and_names_are_refused(unchecked):
    graph, rows = build_graph([], [], num_nodes=2), jnp.ones((2, 3, 5))
    known = jnp.ones((5, 4)), jnp.ones(4), jnp.ones(4)
    for change, message in (
        ({0: jnp.ones((2, 3))}, "rows must be [N, P, F], got [2, 3]"),
        ({1: jnp.ones((6, 4))}, "kernel must be [5, 4], got [6, 4]"),
        ({2: jnp.ones(3)}, "bias must be [4], got [3]"),
        ({3: jnp.ones(3)}, "query must be [4], got [3]"),
    ):
        arguments = [change.get(place, each) for place, each in enumerate((rows, *known))]
        with rejects(ValueError, message):
            semantic_weights(graph, *arguments)
    with rejects(ValueError, 'semantic must be "graph" or "node", got \'both\''):
        semantic_weights(graph, rows, *known, semantic="both")
    with rejects(ValueError, 'semantic must be "graph" or "node", got \'both\''):
        make(GRAPH, semantic="both")
    for name in ("num_relations", "semantic_features"):
        with rejects(ValueError, f"{name} must be at least 1, got 0"):
            make(GRAPH, **{name: 0})
    with rejects(
        ValueError, "edges[1] = 4 is no relation: with num_relations=4 the ids are 0 to 3"
    ):
        make(GRAPH)(build_graph([0, 1], [1, 0], np.ones((2, IN)), edges=np.array([0, 4])))


@pytest.mark.slow
@pytest.mark.parametrize("case", [GRAPH, NODE], ids=["graph", "node"])
def test_the_nodes_of_the_padding_are_in_no_mean(case):
    """They are a graph of their own, whether they are masked or not; and so is each graph of a batch."""
    layer, one, other = build(case), graph_for(case), graph_for(case, seed=1, nodes=5, edges=8)
    expected = np.concatenate([betas(layer, one), betas(layer, other)])
    assert_close(betas(layer, batch([one, other])), expected)
    padded, masks = pad(batch([one, other]), Budget(nodes=29, edges=61, graphs=4))
    padded.nodes[len(expected) :] = 1e3
    assert_close(betas(layer, padded)[: len(expected)], expected)
    padded.nodes[len(expected) :] = np.nan
    parts = {"edge_mask": masks.edge, "node_mask": masks.node}
    assert_close(betas(layer, padded, **parts)[: len(expected)], expected)
    close(betas(layer, padded, **parts).sum(1), np.ones(29))


@pytest.mark.slow
def test_one_path_is_gat_with_an_elu(x64):
    layer = build(GRAPH, num_relations=1, residual=False, param_dtype=jnp.float64)
    plain = GATConv(IN, OUT, num_heads=layer.num_heads, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    plain.projection.kernel[...] = layer.projection.kernel[...][:, 0]
    plain.receiver_vector[...] = layer.receiver_vector[...][0]
    plain.sender_vector[...] = layer.sender_vector[...][0]
    plain.output.bias[...] = layer.bias[...][0].ravel()
    graph = graph_for(GRAPH, dtype=np.float64)._replace(edges=np.zeros(EDGES, np.int32))
    nodes, alpha = run(plain, graph._replace(edges=None))
    actual = run(layer, graph)
    close(actual[0], nnx.elu(nodes), 1e-12)
    close(actual[1], alpha, 1e-12)


def renamed(layer, old_ids):
    """The layer whose path p has the parameters of path old_ids[p]."""
    for parameter in (layer.receiver_vector, layer.sender_vector, layer.bias):
        parameter[...] = parameter[...][old_ids]
    layer.projection.kernel[...] = layer.projection.kernel[...][:, old_ids]
    return layer


@pytest.mark.slow
def test_the_order_of_the_paths_does_not_matter():
    new_ids = np.array([2, 0, 3, 1])
    old_ids, graph = np.argsort(new_ids), graph_for(GRAPH)
    other = renamed(build(GRAPH), old_ids)
    turned = graph._replace(edges=new_ids[graph.edges].astype(np.int32))
    assert_close(run(other, turned), run(build(GRAPH), graph))
    assert_close(betas(other, turned), betas(build(GRAPH), graph)[:, old_ids])


@pytest.mark.slow
def test_a_path_without_edges_and_a_node_that_no_edge_enters(x64):
    """They have the activated bias of each path, and the reference says so."""
    layer, graph = build(NODE, param_dtype=jnp.float64), graph_for(NODE, dtype=np.float64)
    graph = graph._replace(edges=np.where(graph.edges == 1, 2, graph.edges).astype(np.int32))
    assert_close(run(layer, graph), han(layer, graph), 1e-12)
    bias = array(layer.bias)
    z = np.where(bias > 0, bias, np.expm1(bias)).reshape(RELATIONS, OUT)
    hidden = layer.comparison.hidden
    weights = shares(
        compared([z], array(hidden.kernel), array(hidden.bias), array(layer.comparison.query)[0])
    )
    close(betas(layer, graph)[ISOLATED], weights[0], 1e-12)
    close(run(layer, graph)[0][ISOLATED], weights[0] @ z, 1e-12)


@pytest.mark.slow
def test_several_layers_and_attention_of_each():
    graph = graph_for(GRAPH)
    model = HAN(
        IN,
        3,
        num_relations=RELATIONS,
        hidden_features=8,
        num_layers=2,
        num_heads=2,
        rngs=nnx.Rngs(0),
    )
    assert model(graph).nodes.shape == (NODES, 3)
    assert [alpha.shape for alpha in model.attention(graph)] == [(EDGES, 2)] * 2
