"""Training on samples: with every neighbour it is training on the whole graph, and a seed gives the same bits."""

import jax
import numpy as np
import optax
from helpers import assert_close, rejects

from gatjax import GAT, add_self_loops, build_graph
from gatjax.training import (
    Labels,
    Training,
    large_graph,
    node_prediction,
    sampled_prediction,
    softmax_cross_entropy,
    train,
)


def build(rngs):
    return GAT(3, 2, hidden_features=8, num_heads=2, num_layers=2, rngs=rngs)


def drawn(nodes=12, edges=50):
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(nodes, size=(2, edges))
    other = senders != receivers
    features = rng.normal(size=(nodes, 3)).astype(np.float32)
    graph = build_graph(senders[other], receivers[other], features)
    ids = rng.permutation(nodes).astype(np.int32)
    classes = (features.sum(axis=1) > 0).astype(np.int32)
    return graph, Labels(ids[:7], classes[ids[:7]], ids[7:], classes[ids[7:]])


def test_every_training_node_and_every_neighbour_is_the_whole_graph():
    graph, labels = drawn()
    whole = node_prediction(build, softmax_cross_entropy)
    part = sampled_prediction(build, softmax_cross_entropy, batch_size=100, fanouts=[50, 50])
    parameters, data = part.initialise(jax.random.key(0)), large_graph(graph)
    arguments = add_self_loops(graph), labels
    loss, gradient = jax.value_and_grad(whole.loss)(parameters, jax.random.key(1), *arguments)
    for key in (2, 3):
        found = jax.value_and_grad(part.loss)(parameters, jax.random.key(key), data, labels)
        assert_close(found[0], loss)
        jax.tree.map(assert_close, found[1], gradient)
    assert_close(
        part.validate(parameters, data, labels).loss, whole.validate(parameters, *arguments).loss
    )


def test_a_seed_gives_the_same_bits_again_and_learns():
    graph, labels = drawn()
    pure = sampled_prediction(build, softmax_cross_entropy, batch_size=4, fanouts=[2, 2])
    training = Training(
        pure.initialise,
        pure.loss,
        pure.validate,
        optax.adam(0.02),
        max_epochs=60,
        steps_per_epoch=2,
    )
    seeds = lambda: train(training, [0, 1], large_graph(graph), lambda seed: labels, progress=False)
    run = lambda: sorted(seeds(), key=lambda trained: trained.seed)
    first, again = run(), run()
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.history.train_loss, other.history.train_loss)
        assert one.history.train_loss[-20:].mean() < 0.8 * one.history.train_loss[:5].mean()
    assert not np.array_equal(first[0].history.train_loss, first[1].history.train_loss)


def test_graphs_that_cannot_be_sampled_are_refused():
    graph, _ = drawn()
    with rejects(ValueError, "remove_self_loops(graph)"):
        large_graph(add_self_loops(graph))
    with rejects(ValueError, "graph._replace(edges=None)"):
        large_graph(graph._replace(edges=np.ones((len(graph.senders), 1), np.float32)))
    with rejects(ValueError, "fanouts[1] = 0"):
        sampled_prediction(build, softmax_cross_entropy, batch_size=4, fanouts=[2, 0])


def test_edges_of_no_weight_are_not_drawn():
    graph, _ = drawn()
    weight = (np.arange(len(graph.senders)) % 3 > 0).astype(float)
    data = large_graph(graph, weight)
    assert len(data.neighbors.senders) == weight.sum()
    assert len(data.graph.senders) == len(graph.senders) + 12
