"""Layers on all nodes of a graph: those on the edges of all pairs, symmetries, masks, dropout, bad input."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, draw, forward, rejects

from gatjax import (
    DotProductConv,
    DropoutRates,
    GraphLinearAttention,
    GraphSelfAttention,
    NodeLinear,
    TransformerBlock,
    batch,
    build_graph,
    connect_all,
    linear_attention,
    pad,
    unbatch,
)

SIZES = 5, 1, 7
TOTAL, IN, OUT = sum(SIZES), 4, 6
NODES = draw(TOTAL, IN).astype(np.float32)
GRAPH = batch([build_graph([0], [0], nodes) for nodes in np.split(NODES, np.cumsum(SIZES)[:-1])])


def make(kind, **options):
    return kind(IN, OUT, **{"num_heads": 2, **options}, rngs=nnx.Rngs(0))


@pytest.mark.slow
def test_self_attention_is_that_of_all_pairs():
    """With dropout, too: the masks are the same, pair by pair."""
    options = {"residual": True, "dropout_rate": 0.4}
    layer = make(GraphSelfAttention, max_nodes=7, **options)
    other = make(DotProductConv, **options)
    for name in ("query", "key", "value", "output"):
        setattr(other, name, getattr(layer, name))
    pairs = connect_all(GRAPH)._replace(edges=None)
    for key in (None, jax.random.key(1)):
        found, expected = (
            forward(
                part,
                graph,
                deterministic=key is None,
                rngs=nnx.Rngs(dropout=jax.random.key(0) if key is None else key),
            )
            for part, graph in ((layer, GRAPH), (other, pairs))
        )
        assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("kind", [GraphSelfAttention, GraphLinearAttention])
def test_a_graph_that_a_program_holds_may_be_on_the_device(kind):
    layer, graph = make(kind), jax.device_put(GRAPH)
    mask = jnp.ones(TOTAL, bool)
    found = jax.eval_shape(lambda: layer(graph, node_mask=mask).nodes)
    assert found.shape == (TOTAL, OUT)


@pytest.mark.slow
def test_features_of_pairs_in_the_logit():
    pairs = connect_all(GRAPH)
    pairs = pairs._replace(edges=draw(len(pairs.senders), 3, seed=5).astype(np.float32))
    layer = make(GraphSelfAttention, edge_features=3)
    other = make(DotProductConv, edge_features=3, edges_in="logit")
    for name in ("query", "key", "value", "output"):
        setattr(other, name, getattr(layer, name))
    other.edge_bias.kernel[...] = layer.edge_bias.kernel[...][:, :, 0]
    expected = forward(other, pairs)
    assert_close(layer(pairs).nodes, expected, 1e-5)
    assert_close(
        forward(make(GraphSelfAttention, edge_features=3, max_nodes=7), pairs), expected, 1e-5
    )
    with rejects(ValueError, "edges are no array [P, D]: give it those of connect_all(graph)"):
        layer(GRAPH)
    with rejects(ValueError, "the edges are others: graph = connect_all(graph) first"):
        layer(GRAPH._replace(edges=np.zeros((3, 3), np.float32)))
    with rejects(ValueError, "edges must be [E, 3], got [75, 2]"):
        layer(pairs._replace(edges=pairs.edges[:, :2]))


def test_linear_attention_is_its_function():
    layer = make(GraphLinearAttention, feature_map="sigmoid", use_bias=False)
    rows = (part(NODES) for part in (layer.query, layer.key, layer.value))
    expected = linear_attention(GRAPH, *rows, feature_map="sigmoid").reshape(TOTAL, OUT)
    assert_close(layer(GRAPH).nodes, expected, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GraphSelfAttention, GraphLinearAttention])
def test_nodes_of_a_graph_in_any_order_and_alone(kind):
    layer = (
        make(kind, residual=True, max_nodes=7)
        if kind is GraphSelfAttention
        else make(kind, residual=True)
    )
    out = np.asarray(forward(layer, GRAPH))
    starts = np.cumsum([0, *SIZES])
    for start, graph in zip(starts, unbatch(GRAPH), strict=False):
        size = len(graph.nodes)
        order = np.random.default_rng(size).permutation(size)
        moved = forward(layer, graph._replace(nodes=graph.nodes[order]))
        assert_close(moved, out[start + order], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GraphSelfAttention, GraphLinearAttention])
def test_padding_and_masked_nodes_are_not_read(kind):
    layer = make(kind, residual=True, **({"max_nodes": 7} if kind is GraphSelfAttention else {}))
    split, parameters, rest = nnx.split(layer, nnx.Param, ...)

    @jax.jit
    def gradient(parameters, graph, mask):
        def loss(parameters):
            out = nnx.merge(split, parameters, rest)(graph, node_mask=mask).nodes
            return (jnp.where(mask[:, None], out, 0) ** 2).sum()

        return jax.value_and_grad(loss)(parameters)

    padded, masks = pad(GRAPH, (TOTAL + 20, 5, 6))
    padded.nodes[~masks.node] = np.nan
    expected = gradient(parameters, GRAPH, np.ones(TOTAL, bool))
    assert_close(gradient(parameters, padded, masks.node), expected, 1e-5)
    assert forward(layer, GRAPH).shape == (TOTAL, OUT)


def test_bad_input(unchecked):
    with rejects(ValueError, "in_features must be one width, got (4, 3)"):
        GraphSelfAttention((4, 3), 6, rngs=nnx.Rngs(0))
    with rejects(ValueError, "max_nodes must be at least 1, got 0"):
        make(GraphSelfAttention, max_nodes=0)
    with rejects(ValueError, "feature_map must be one of"):
        make(GraphLinearAttention, feature_map="relu")
    with rejects(ValueError, "dropout_rate 0.5 is of weights, which linear attention never holds"):
        make(GraphLinearAttention, dropout_rate=0.5)
    make(GraphLinearAttention, dropout_rate=DropoutRates(inputs=0.5, projected=0.1))
    with rejects(ValueError, "GraphSelfAttention has no senders but the nodes"):
        make(GraphSelfAttention)(GRAPH, senders=NODES)
    with rejects(ValueError, "nodes must be [N, 4], got [13, 2]"):
        make(GraphSelfAttention)(GRAPH._replace(nodes=NODES[:, :2]))
    with rejects(TypeError, "did you mean max_nodes?"):
        make(GraphSelfAttention, max_node=3)


def test_arguments_of_a_call_that_it_does_not_take(unchecked):
    layer = make(GraphSelfAttention)
    with rejects(ValueError, "where a layer is built, GraphSelfAttention(..., max_nodes=n)"):
        jax.eval_shape(layer, GRAPH)
    # What that remedy is tried with where it does not belong, and where it does.
    with rejects(TypeError, "not of its call: GraphSelfAttention(..., max_nodes=...)"):
        layer(GRAPH, max_nodes=7)
    built = make(GraphSelfAttention, max_nodes=7)
    assert jax.eval_shape(built, GRAPH).nodes.shape == (TOTAL, OUT)
    linear = make(GraphLinearAttention)
    block = TransformerBlock(None, linear, OUT, rngs=nnx.Rngs(0))
    for each in (linear, block, NodeLinear(IN, OUT, rngs=nnx.Rngs(0))):
        name = type(each).__name__
        with rejects(
            TypeError, f"a call of {name} has no option node_maks: did you mean node_mask?"
        ):
            each(GRAPH, node_maks=np.ones(TOTAL, bool))
