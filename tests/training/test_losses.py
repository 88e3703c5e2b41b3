"""The loss on labelled nodes: what has no label is left out, what does not exist is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gatjax.training import softmax_cross_entropy

LOGITS = jnp.array([[2.0, 0, 0], [0, 2.0, 0]])
# log(e² + 2) - 2 where the class is the one with the 2
RIGHT = np.log(np.exp(2) + 2) - 2


def test_a_node_without_a_label_is_left_out():
    metrics = softmax_cross_entropy(LOGITS, jnp.array([0, 1]), jnp.array([0, -1]))
    np.testing.assert_allclose(metrics.loss, RIGHT, rtol=1e-6)
    assert metrics.accuracy == 1
    gradient = jax.grad(
        lambda z: softmax_cross_entropy(z, jnp.array([0, 1]), jnp.array([0, -1])).loss
    )(LOGITS)
    assert gradient[0].any() and not gradient[1].any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_ids_reach_their_rows_and_classes(dtype):
    logits = jnp.eye(300)
    ids = np.arange(100, 107)
    expected = softmax_cross_entropy(logits, ids, ids)
    for run in (softmax_cross_entropy, jax.jit(softmax_cross_entropy)):
        assert run(logits, ids.astype(dtype), ids.astype(dtype)) == expected
    assert expected.accuracy == 1


@pytest.mark.usefixtures("unchecked")
def test_lists_will_do():
    np.testing.assert_allclose(softmax_cross_entropy(LOGITS, [0], [0]).loss, RIGHT, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("nodes", "labels", "message"),
    [
        ([0, 1], [0, 3], r"labels\[1\] = 3 is out of range: .* between -1 and 2"),
        ([0, 1], [-2, 1], r"labels\[0\] = -2 is out of range"),
        ([0, 7], [0, 1], r"nodes\[1\] = 7 is out of range: .* between 0 and 1"),
        ([-1, 1], [0, 1], r"nodes\[0\] = -1 is out of range"),
        ([0, 1], [0], "nodes has 2 ids and labels has 1: give one label per node"),
        ([0, 1], [0.0, 1.0], r"labels must be a vector of integers, got float32\[2\]"),
        (
            [True, False],
            [0, 1],
            r"got bool\[2\]: of a mask, train_nodes are np.flatnonzero\(mask\)",
        ),
        (0, 1, r"nodes must be a vector of integers, got int32\[\]"),
    ],
)
def test_what_does_not_exist_is_refused(nodes, labels, message):
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy(LOGITS, np.array(nodes), np.array(labels))


@pytest.mark.parametrize(
    ("nodes", "labels"), [([0, 7], [0, 1]), ([0, -1], [0, 1]), ([0, 1], [0, 3]), ([0, 1], [0, -2])]
)
def test_inside_jit_it_is_left_out(nodes, labels):
    metrics = jax.jit(softmax_cross_entropy)(LOGITS, jnp.array(nodes), jnp.array(labels))
    np.testing.assert_allclose(metrics.loss, RIGHT, rtol=1e-6)
    assert metrics.accuracy == 1


@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_no_label_at_all_is_nothing_lost(labels):
    nodes, labels = np.arange(len(labels)), np.array(labels, np.int32)
    loss = lambda z, labels: softmax_cross_entropy(z, nodes, labels).loss
    value, gradient = jax.jit(jax.value_and_grad(loss))(LOGITS, labels)
    assert value == 0 and not gradient.any()
    assert softmax_cross_entropy(LOGITS, nodes, labels) == (0, 0)


def test_what_does_not_count_is_never_multiplied():
    """A NaN in the logits of a node without a label reaches neither loss nor gradient."""
    logits = LOGITS.at[1].set(jnp.nan)
    loss = lambda z: softmax_cross_entropy(z, np.array([0, 1]), np.array([0, -1])).loss
    value, gradient = jax.value_and_grad(loss)(logits)
    np.testing.assert_allclose(value, RIGHT, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_where_all_have_labels_it_is_the_mean_to_the_last_bit():
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(31, 7)), jnp.float32)
    nodes, labels = random.permutation(31)[:13], random.integers(7, size=13)

    def mean(logits, nodes, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits[nodes], labels).mean()

    def ours(logits, nodes, labels):
        return softmax_cross_entropy(logits, nodes, labels).loss

    for one, other in zip(
        *(jax.jit(jax.value_and_grad(f))(logits, nodes, labels) for f in (mean, ours)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
