"""What a layer returns: of which shape, for nodes without neighbours, with a residual, from sparse features."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import (
    ADDING,
    CASES,
    EDGES,
    IN,
    ISOLATED,
    NODES,
    ONE_EACH,
    OUT,
    REPRESENTATIVES,
    all_layers,
    build,
    evaluate,
    finish,
    graph_for,
    head_features,
    narrow,
    rows,
    takes,
    weights_of,
)
from flax import nnx
from helpers import assert_close, forward, run
from jax.experimental.sparse import BCOO


@all_layers
def test_only_the_nodes_are_replaced(case):
    layer, graph = build(case), graph_for(case)
    graph = graph._replace(globals=np.ones((1, 2), np.float32))

    def forward():
        out = layer(graph)
        for field in ("edges", "globals", "senders", "receivers", "n_node", "n_edge"):
            assert getattr(out, field) is getattr(graph, field), field
        return out.nodes, layer.attention(graph)

    out, alpha = jax.eval_shape(forward)
    assert out.shape == (NODES, OUT) and out.dtype == jnp.float32
    assert alpha.shape == (EDGES, layer.num_heads) and alpha.dtype == jnp.float32


@rows(ADDING)
def test_a_node_that_no_edge_enters_gets_bias_and_residual(case):
    layer, graph = build(case), graph_for(case)
    shape = NODES, layer.num_heads, head_features(layer)
    nothing = finish(layer, np.zeros(shape), graph.nodes)
    assert_close(evaluate(layer, graph).nodes[ISOLATED], nothing[ISOLATED])
    result = evaluate(layer, graph, np.zeros(EDGES, bool))
    assert_close(result.nodes, nothing)
    assert not np.asarray(result.attention).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))


@rows(CASES, REPRESENTATIVES)
def test_tiny_graphs_eagerly(case):
    for nodes, edges in ((1, 0), (0, 0)):
        layer, graph = build(case), graph_for(case, nodes=nodes, edges=edges)
        out = layer(graph).nodes
        assert out.shape == (nodes, OUT) and np.isfinite(out).all()
        assert layer.attention(graph).shape == (edges, layer.num_heads)


@rows(ONE_EACH, REPRESENTATIVES)
def test_tiny_graphs_and_their_gradients(case):
    for nodes, edges in ((3, 0), (1, 2)):
        layer, graph = build(case), graph_for(case, nodes=nodes, edges=edges)
        result = evaluate(layer, graph)
        assert result.nodes.shape == (nodes, OUT)
        assert result.attention.shape == (edges, layer.num_heads)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result)), (nodes, edges)
        if case.reference is not None:
            expected = case.reference(layer, graph)[0]
            assert_close(result.nodes, expected, of=f"{nodes} nodes and {edges} edges")


@rows([case for case in ONE_EACH if takes(case, "residual")], REPRESENTATIVES)
def test_residual_adds_the_input(case):
    """Through a projection, and as it is where the widths agree."""
    for in_features in (IN, OUT):
        options = {**case.options, "residual": True}
        layer = build(case._replace(options=options), in_features=in_features)
        graph = narrow(case) if in_features == OUT else graph_for(case)
        plain = build(
            case._replace(options={**options, "residual": False}), in_features=in_features
        )
        shared = nnx.state(layer, nnx.Param)
        if in_features == OUT:
            assert layer.output.projection is None
            skipped = graph.nodes
        else:
            skipped = graph.nodes @ np.asarray(layer.output.projection.kernel[...])[:, 0]
            del shared["output"]["projection"]
        nnx.update(plain, shared)
        expected = forward(plain, graph) + skipped
        assert_close(forward(layer, graph), expected, of=f"{in_features} features")


@rows([case for case in ONE_EACH if takes(case, "residual")], REPRESENTATIVES)
def test_a_linear_residual_adds_the_input_through_a_matrix_at_all_widths(case):
    for in_features in (IN, OUT):
        layer, plain = (
            build(
                case._replace(options={**case.options, "residual": residual}),
                in_features=in_features,
            )
            for residual in ("linear", False)
        )
        graph = narrow(case) if in_features == OUT else graph_for(case)
        shared = nnx.state(layer, nnx.Param)
        kernel = np.asarray(shared["output"]["projection"]["kernel"][...])
        assert kernel.shape == (in_features, 1, OUT)
        del shared["output"]["projection"]
        nnx.update(plain, shared)
        assert_close(forward(layer, graph), forward(plain, graph) + graph.nodes @ kernel[:, 0])


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


@rows(ONE_EACH, REPRESENTATIVES)
def test_dense_and_sparse_nodes_agree(case):
    layer, graph = build(case, residual=True), graph_for(case)
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    assert_close(run(layer, sparse), run(layer, graph))
