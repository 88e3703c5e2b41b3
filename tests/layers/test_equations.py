"""The equations of the papers in plain loops, and examples worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, EVERY_LAYER, blank, build, evaluate, graph_for, rows
from flax import nnx
from helpers import assert_close, assign, run

from gatjax.graph import add_self_loops, build_graph, fully_connected
from gatjax.layers import DotProductConv, GATConv, GCNConv, MeanConv


@rows([case for case in CASES if case.reference is not None], EVERY_LAYER)
def test_output_and_attention_are_those_of_the_equations(case, x64):
    layer = build(case, param_dtype=jnp.float64)
    graph = graph_for(case, dtype=np.float64)
    nodes, alpha = case.reference(layer, graph)
    result = evaluate(layer, graph)
    assert result.nodes.dtype == np.float64
    assert_close(result.nodes, nodes, 1e-12)
    assert_close(result.attention, alpha, 1e-12)


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
