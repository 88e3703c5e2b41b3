"""Models of whole graphs as pure functions: batches with padding, missing targets, dropout by key."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false

import jax
import numpy as np
from helpers import assert_close, rejects

from gatjax import Budget, GraphReadout, batch, build_graph, pad
from gatjax.layers import DropoutRates, NodeLinear
from gatjax.models import Stack
from gatjax.training import graph_prediction, softmax_cross_entropy, squared_error


def build(rngs):
    hidden = NodeLinear(2, 3, rngs=rngs, dropout_rate=DropoutRates(inputs=0.5))
    return Stack([hidden, GraphReadout(3, 2, rngs=rngs)])


def drawn():
    nodes = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    return batch([build_graph([], [], nodes[:1]), build_graph([], [], nodes[1:])])


def by_hand(outputs, targets):
    """Over what is known of real graphs."""
    known = ~np.isnan(targets)
    return ((outputs - targets)[known] ** 2).mean()


def test_padding_and_missing_targets_are_in_no_loss():
    pure, graph = graph_prediction(build, squared_error), drawn()
    parameters = pure.initialise(jax.random.key(0))
    targets = np.array([[1.0, np.nan], [2.0, -1.0]], np.float32)
    outputs = np.asarray(pure.outputs(parameters, graph))
    expected = by_hand(outputs, targets)
    padded, masks = pad(graph, Budget(nodes=9, edges=2, graphs=4))
    padded.nodes[6:] = np.nan
    filled = np.concatenate([targets, np.full((2, 2), 7.0, np.float32)])
    assert_close(pure.validate(parameters, graph, targets).loss, expected, 1e-5)
    assert_close(pure.validate(parameters, padded, filled, masks).loss, expected, 1e-5)
    assert_close(pure.outputs(parameters, padded, masks)[:2], outputs, 1e-5)
    key, gradient = jax.random.key(1), jax.jit(jax.grad(pure.loss))
    slopes = jax.tree.leaves(gradient(parameters, key, padded, filled, masks))
    assert all(np.isfinite(leaf).all() for leaf in slopes) and any(leaf.any() for leaf in slopes)
    others = jax.tree.leaves(gradient(parameters, jax.random.key(2), padded, filled, masks))
    assert any((one != other).any() for one, other in zip(slopes, others, strict=True))
    assert graph_prediction(build, squared_error) == pure


def test_classes_of_graphs():
    pure, graph = graph_prediction(build, softmax_cross_entropy), drawn()
    parameters = pure.initialise(jax.random.key(0))
    logits = np.asarray(pure.outputs(parameters, graph), np.float64)
    expected = np.log(np.exp(logits[0]).sum()) - logits[0, 1]
    padded, masks = pad(graph, Budget(nodes=9, edges=2, graphs=4))
    found = pure.validate(parameters, padded, np.array([1, -1, 0, 0]), masks)
    assert_close(found.loss, expected, 1e-5)
    assert float(found.accuracy) == float(logits[0].argmax() == 1)
    classes = np.array([1, 0, 0, 0], np.uint8)
    narrow, wide = (
        pure.validate(parameters, padded, y, masks) for y in (classes, np.int32(classes))
    )
    assert narrow == wide


def test_a_module_without_globals():
    pure = graph_prediction(lambda rngs: NodeLinear(2, 3, rngs=rngs), squared_error)
    with rejects(ValueError, "end it with a GraphReadout"):
        pure.outputs(pure.initialise(jax.random.key(0)), drawn())
