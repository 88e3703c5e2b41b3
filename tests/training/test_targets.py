"""Targets other than one class per node: against plain NumPy, with targets that nodes lack, in and out of jit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatjax import training as T

LOSSES = {
    "squared_error": lambda outputs, nodes, targets: T.squared_error(outputs, nodes, targets),
    "one_number": lambda outputs, nodes, targets: T.squared_error(
        outputs[:, 0], nodes, targets[:, 0]
    ),
    "sigmoid": lambda outputs, nodes, targets: T.sigmoid_cross_entropy(
        outputs, nodes, jnp.where(jnp.isnan(targets), jnp.nan, targets > 0)
    ),
    "weighted": lambda outputs, nodes, targets: T.weighted_softmax_cross_entropy(
        outputs,
        nodes,
        jnp.where(jnp.isnan(targets[:, 0]), -1, jnp.abs(targets[:, 0]).astype(jnp.int32) % 3),
        jnp.array([0.5, 2.0, 3.0]),
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def example(seed=0, n=7, share_missing=0.3):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(11, 3)).astype(np.float32)
    nodes = rng.permutation(11)[:n].astype(np.int32)
    targets = rng.normal(size=(n, 3)).astype(np.float32) * 3
    targets[rng.random((n, 3)) < share_missing] = np.nan
    return jnp.asarray(outputs), jnp.asarray(nodes), jnp.asarray(targets)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_squared_error_by_numpy(seed):
    outputs, nodes, targets = map(np.asarray, example(seed))
    there = ~np.isnan(targets)
    errors = (outputs[nodes] - targets)[there]
    spread = (targets - np.nanmean(np.where(there.any(0), targets, 0), axis=0))[there]
    found = T.squared_error(jnp.asarray(outputs), nodes, targets)
    np.testing.assert_allclose(found.loss, np.mean(errors**2), rtol=1e-5)
    np.testing.assert_allclose(found.accuracy, 1 - np.sum(errors**2) / np.sum(spread**2), rtol=1e-3)


@pytest.mark.parametrize("value", [0.1, 123.456])
def test_equal_targets_explain_nothing(value):
    targets = jnp.full((7, 2), value).at[:, 1].set(jnp.nan)
    found = T.squared_error(jnp.zeros((7, 2)), jnp.arange(7), targets)
    assert found.accuracy == 0 and found.loss > 0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_sigmoid_cross_entropy_by_numpy(seed):
    outputs, nodes, targets = map(np.asarray, example(seed))
    labels = np.where(np.isnan(targets), np.nan, targets > 0)
    z, y = outputs[nodes][~np.isnan(labels)].astype(float), labels[~np.isnan(labels)]
    loss = -np.mean(y * np.log(1 / (1 + np.exp(-z))) + (1 - y) * np.log(1 / (1 + np.exp(z))))
    found = T.sigmoid_cross_entropy(jnp.asarray(outputs), nodes, labels)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)
    hits, misses = np.sum((z > 0) & (y == 1)), np.sum((z > 0) != (y == 1))
    np.testing.assert_allclose(found.accuracy, 2 * hits / max(2 * hits + misses, 1), rtol=1e-6)
    whole = np.nan_to_num(labels, nan=-1).astype(np.int8)
    np.testing.assert_array_equal(
        T.sigmoid_cross_entropy(jnp.asarray(outputs), nodes, whole).loss, found.loss
    )


def test_weighted_softmax_by_hand_and_without_weights():
    outputs, nodes, _ = example()
    labels, weights = np.array([0, 1, -1, 2, 2, 1, 0]), np.array([0.5, 2.0, 3.0], np.float32)
    kept = np.flatnonzero(labels >= 0)
    each = optax.softmax_cross_entropy_with_integer_labels(
        outputs[nodes[kept]], jnp.asarray(labels[kept])
    )
    expected = np.average(each, weights=weights[labels[kept]])
    found = T.weighted_softmax_cross_entropy(outputs, nodes, labels, weights)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-6)
    plain = T.softmax_cross_entropy(outputs, nodes[kept], jnp.asarray(labels[kept]))
    same = T.weighted_softmax_cross_entropy(outputs, nodes, labels, np.full(3, 7.0, np.float32))
    np.testing.assert_allclose(same, plain, rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, plain.accuracy, rtol=1e-6)


def test_class_weights_balance():
    labels = np.array([0] * 90 + [2] * 10 + [-1] * 5)
    weights = T.class_weights(labels, num_classes=4)
    np.testing.assert_allclose(weights, [100 / 180, 0, 5, 0], rtol=1e-6)
    totals = np.bincount(labels[labels >= 0], weights[labels[labels >= 0]])
    np.testing.assert_allclose(totals[[0, 2]], [50, 50], rtol=1e-6)
    assert T.class_weights(np.arange(128, dtype=np.int8)).shape == (128,)
    assert T.class_weights(np.zeros(0, int)).shape == (0,) and T.class_weights(
        np.array([-1]), 2
    ).tolist() == [0, 0]


@every_loss
def test_a_target_that_a_node_lacks_is_left_out(loss):
    outputs, nodes, targets = example()
    lacking = targets.at[2].set(jnp.nan)
    kept = jnp.array([0, 1, 3, 4, 5, 6])
    np.testing.assert_allclose(
        loss(outputs, nodes, lacking), loss(outputs, nodes[kept], targets[kept]), rtol=1e-6
    )
    hidden = outputs.at[nodes[2]].set(jnp.nan)
    gradient = jax.grad(lambda x: loss(x, nodes, lacking).loss)
    np.testing.assert_array_equal(gradient(hidden), gradient(outputs))
    assert np.all(np.asarray(gradient(hidden))[nodes[2]] == 0)


@every_loss
def test_nothing_to_look_at_is_zero(loss):
    outputs, nodes, targets = example()
    for n, values in ((0, targets[:0]), (7, jnp.full_like(targets, jnp.nan))):
        assert np.asarray(loss(outputs, nodes[:n], values)).tolist() == [0, 0]
        gradient = jax.grad(lambda x, n=n, values=values: loss(x, nodes[:n], values).loss)(outputs)
        assert not np.any(gradient)


@every_loss
@pytest.mark.parametrize("node", [11, -1, 2**31 - 1])
def test_a_node_that_does_not_exist_is_refused_and_dropped_inside_jit(loss, node, unchecked):
    outputs, nodes, targets = example()
    bad = nodes.at[3].set(node)
    with pytest.raises(
        ValueError, match=rf"nodes\[3\] = {node} is out of range: outputs has 11 rows"
    ):
        loss(outputs, bad, targets)
    kept = jnp.array([0, 1, 2, 4, 5, 6])
    np.testing.assert_allclose(
        jax.jit(loss)(outputs, bad, targets), loss(outputs, nodes[kept], targets[kept]), rtol=1e-6
    )


@every_loss
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_ids_reach_their_rows(loss, dtype):
    _, _, targets = example()
    outputs = jnp.asarray(np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32))
    nodes = np.arange(100, 107, dtype=dtype)
    wide = loss(outputs, nodes.astype(np.int32), targets)
    for run in (loss, jax.jit(loss)):
        np.testing.assert_allclose(run(outputs, jnp.asarray(nodes), targets), wide, rtol=1e-6)


@every_loss
def test_a_diverged_output_is_seen(loss):
    outputs, nodes, targets = example(share_missing=0)
    assert np.isnan(loss(outputs.at[nodes[1]].set(jnp.nan), nodes, targets).loss)


def test_half_precision_is_summed_in_float32():
    outputs = jnp.full((4096, 1), 3.0, jnp.bfloat16)
    loss = T.squared_error(outputs, np.arange(4096), np.zeros((4096, 1), np.float32)).loss
    assert loss.dtype == jnp.float32 and loss == 9


OUTPUTS = jnp.zeros((5, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: T.squared_error(OUTPUTS[:, :1], [0, 1], np.zeros(2)), r"\[5, 1\], .* \[2\]: .* targets\[:, None\]"),
        (lambda: T.squared_error(OUTPUTS, [0, 1], np.zeros((1, 3))), r"\[1, 3\]: give one target of shape \[3\] per"),
        (lambda: T.squared_error(OUTPUTS, [0.5], np.zeros((1, 3))), "nodes must be integers, got float"),
        (lambda: T.squared_error(OUTPUTS, np.arange(5) < 2, np.zeros((5, 3))), "got bool: of a mask, train_nodes are"),
        (lambda: T.squared_error(OUTPUTS, [0], np.full((1, 3), np.inf)), r"targets\[0, 0\] = inf must be finite, or"),
        (lambda: T.squared_error(OUTPUTS, [0], np.full((1, 3), 1577836801)), r"targets\[0, 0\] = 1577836801 has mo"),
        (lambda: T.sigmoid_cross_entropy(OUTPUTS, [0], np.full((1, 3), 2)), r"labels\[0, 0\] = 2 must be 0 or 1, or"),
        (lambda: T.weighted_softmax_cross_entropy(OUTPUTS, [0], [3], np.ones(3)), r"labels\[0\] = 3 must be a class"),
        (lambda: T.weighted_softmax_cross_entropy(OUTPUTS, [0], [0], np.ones(2)), r"weights has shape \(2,\): .* 3 cl"),
        (lambda: T.weighted_softmax_cross_entropy(OUTPUTS, [0], [0], -np.ones(3)), r"weights\[0\] = -1.0 must be a"),
        (lambda: T.class_weights([0.5]), r"labels must be class ids .n., got float64 of shape \(1,\)"),
        (lambda: T.class_weights([0, 5], 3), r"labels\[1\] = 5 is no class: ids run from 0 to 2, and -1 is none"),
    ],
)  # fmt: skip
def test_bad_targets_are_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_remedy_for_one_column_works():
    outputs, nodes, targets = example(share_missing=0)
    assert T.squared_error(outputs[:, :1], nodes, targets[:, 0][:, None]).loss.shape == ()
