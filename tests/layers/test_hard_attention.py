"""Layers that read one sender alone: which one, and what their logits learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    HEADS,
    IN,
    NODES,
    OUT,
    evaluate,
    gat,
    graph_for,
    sum_by_receiver,
    weights_of,
)
from flax import nnx
from helpers import assert_close, run

from gatjax.graph import build_graph
from gatjax.layers import DotProductConv, GATConv, GATv2Conv
from gatjax.layers.parts import Weighing

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

    weighing = Weighing()

    def __init__(self, layer):
        self.layer = layer

    def __getattr__(self, name):
        return getattr(self.layer, name)
