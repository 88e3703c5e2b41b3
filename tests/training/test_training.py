"""Training: losses, stopping rules and the run over many seeds, on problems solved by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from logistic import ROWS, logistic, split_of

import gatjax.training.seeds
from gatjax.training import (
    RULES,
    Metrics,
    Progress,
    Training,
    advance,
    softmax_cross_entropy,
    start,
    train,
)


def test_cross_entropy_by_hand():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1.0, 1.0, 2.0]]))
    metrics = softmax_cross_entropy(logits, jnp.array([0, 1]), jnp.array([0, 2]))
    np.testing.assert_allclose(metrics.loss, -(np.log(0.5) + np.log(0.1)) / 2, rtol=1e-6)
    assert metrics.accuracy == 0.5


@pytest.mark.parametrize(
    ("rule", "loss", "accuracy", "save", "reset"),
    [
        ("both", 0.9, 0.6, True, True),
        ("both", 1.0, 0.5, True, True),
        ("both", 0.9, 0.4, False, True),
        ("both", 1.1, 0.6, False, True),
        ("both", 1.1, 0.4, False, False),
        ("loss", 0.9, 0.4, True, True),
        ("loss", 1.0, 0.9, False, False),
        ("either", 1.1, 0.5, True, True),
        ("either", 1.1, 0.4, False, False),
    ],
)
def test_stopping_rules(rule, loss, accuracy, save, reset):
    best = Progress(jnp.float32(1.0), jnp.float32(0.5), jnp.int32(3))
    found = RULES[rule](best, Metrics(jnp.float32(loss), jnp.float32(accuracy)))
    assert tuple(map(bool, found)) == (save, reset)


# A training whose validation metrics are written down in advance: parameters count the steps.


def scripted(losses, accuracies, **settings):
    """Step t moves the parameter from t to t + 1; validation then reads entry t of the script."""

    def validate(step, data, labels):
        index = jnp.minimum(step.astype(jnp.int32) - 1, len(losses) - 1)
        return Metrics(
            jnp.array(losses, jnp.float32)[index], jnp.array(accuracies, jnp.float32)[index]
        )

    return Training(
        initialise=lambda key: jnp.float32(0),
        loss=lambda step, key, data, labels: -step,
        validate=validate,
        optimizer=optax.sgd(1.0),
        **settings,
    )


def run_one(training, **options):
    (trained,) = train(training, [0], None, lambda seed: None, progress=False, **options)
    return trained


def test_the_rule_of_the_original_saves_and_stops_as_its_code_does():
    # epoch:      1    2    3    4    5    6    7
    losses = [1.0, 0.9, 0.8, 0.9, 0.9, 0.9, 0.9]
    accuracies = [0.1, 0.5, 0.4, 0.6, 0.5, 0.5, 0.5]
    trained = run_one(scripted(losses, accuracies, patience=3, epochs_per_dispatch=2))
    assert trained.best_epoch == 2, "epochs 3 and 4 improve one metric only"
    assert trained.parameters == 2.0
    assert trained.epochs == 7, "epoch 4 was the last to reset the counter"
    np.testing.assert_allclose(trained.history.validation_loss, losses)
    np.testing.assert_allclose(trained.history.train_loss, -np.arange(7.0))


@pytest.mark.parametrize("per_dispatch", [1, 2, 3, 5, 50])
def test_dispatch_boundaries_change_nothing(per_dispatch):
    losses, accuracies = [1.0, 0.7, 0.8, 0.75, 0.9], [0.5, 0.6, 0.5, 0.5, 0.5]
    trained = run_one(scripted(losses, accuracies, patience=2, epochs_per_dispatch=per_dispatch))
    assert (trained.best_epoch, trained.epochs, len(trained.history.train_loss)) == (2, 4, 4)


def test_max_epochs_ends_a_training_that_still_improves():
    trained = run_one(scripted([1.0, 0.9, 0.8, 0.7], [0.1, 0.2, 0.3, 0.4], max_epochs=3))
    assert (trained.best_epoch, trained.epochs) == (3, 3)


# Logistic regression.


def outcomes(seeds, **options):
    found = train(logistic(), seeds, ROWS, split_of, progress=False, **options)
    return {trained.seed: trained for trained in found}


def test_seeds_do_not_depend_on_their_company():
    together = outcomes([0, 1, 2, 3, 4])
    assert sorted(together) == [0, 1, 2, 3, 4]
    for seed in (0, 3):
        alone = outcomes([seed])[seed]
        for one, other in zip(
            jax.tree.leaves(alone[1:]), jax.tree.leaves(together[seed][1:]), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    assert len({trained.epochs for trained in together.values()}) > 1, "seeds stop by themselves"


def test_all_devices_take_part_and_give_the_same_numbers():
    assert len(jax.devices()) == 2
    one, two = outcomes([0, 1, 2], devices=jax.devices()[:1]), outcomes([0, 1, 2])
    for seed in one:
        np.testing.assert_array_equal(one[seed].parameters, two[seed].parameters)


@pytest.mark.parametrize(
    "seeds_per_device", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 100))]
)
def test_seeds_side_by_side_end_as_they_do_alone(seeds_per_device):
    """Each stops by itself and makes room for the next: seven seeds, in places for four or six, or all at once."""
    alone = outcomes(range(7))
    together = outcomes(range(7), seeds_per_device=seeds_per_device)
    assert sorted(together) == list(range(7))
    for seed, one in alone.items():
        other = together[seed]
        assert (other.epochs, other.best_epoch) == (one.epochs, one.best_epoch)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            (one.parameters, one.history),
            (other.parameters, other.history),
        )


def test_a_program_of_many_seeds_shrinks_when_half_have_stopped():
    """Seed s trains for 7 (s + 1) epochs, one dispatch after the other: eight places, then four, two, one."""
    sizes = []

    def validate(step, data, last_epoch):
        stop = (step >= last_epoch).astype(jnp.float32)
        return Metrics(stop, -stop)

    def rule(best, now):
        going = now.loss < 0.5
        return going, going

    training = Training(
        initialise=lambda key: jnp.float32(0),
        loss=lambda step, key, data, labels: -step,
        validate=validate,
        optimizer=optax.sgd(1.0),
        rule=rule,
        patience=1,
        epochs_per_dispatch=7,
    )
    original = gatjax.training.seeds.advance_together

    def record(training, states, data, labels):
        sizes.append(len(states.epoch))
        return original(training, states, data, labels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gatjax.training.seeds, "advance_together", record)
        found = train(
            training,
            range(8),
            None,
            lambda seed: jnp.float32(7 * (seed + 1)),
            devices=jax.devices()[:1],
            seeds_per_device=8,
            progress=False,
        )
        assert {trained.seed: trained.epochs for trained in found} == {
            seed: 7 * (seed + 1) for seed in range(8)
        }
    assert sizes == [8, 8, 8, 8, 4, 4, 2, 1]


def test_no_seed_per_device():
    with pytest.raises(ValueError, match="seeds_per_device must be at least 1, got 0"):
        outcomes([0], seeds_per_device=0)


def test_a_history_is_that_of_the_steps_written_out():
    training, labels = logistic(), split_of(2)
    trained = outcomes([2])[2]
    for_kernel, for_steps = jax.random.split(jax.random.key(2))
    kernel = jax.random.normal(for_kernel, (5, 2))
    state = training.optimizer.init(kernel)
    for epoch in range(trained.epochs):
        key = jax.random.fold_in(for_steps, epoch)
        loss, gradient = jax.value_and_grad(training.loss)(kernel, key, ROWS, labels)
        updates, state = training.optimizer.update(gradient, state, kernel)
        kernel = optax.apply_updates(kernel, updates)
        metrics = training.validate(kernel, ROWS, labels)
        np.testing.assert_allclose(trained.history.train_loss[epoch], loss, rtol=1e-4)
        np.testing.assert_allclose(trained.history.validation_loss[epoch], metrics.loss, rtol=1e-4)
        if epoch + 1 == trained.best_epoch:
            np.testing.assert_allclose(trained.parameters, kernel, rtol=1e-4, atol=1e-6)


def test_a_second_dispatch_compiles_nothing():
    traces = []

    def counted(kernel, key, rows, labels):
        traces.append(None)
        return logistic().loss(kernel, key, rows, labels)

    training = logistic()._replace(loss=counted)
    labels = split_of(0)
    state, _ = advance(training, start(training, 0), ROWS, labels)
    after_first = len(traces)
    state, _ = advance(training, state, ROWS, labels)
    advance(training, start(training, 1), ROWS, labels)
    assert len(traces) == after_first > 0


def test_losses_look_once_at_labels_alike_and_at_all_that_are_not():
    """For a GAT on Cora one look takes as long as ten epochs, on a GPU hundreds."""
    looked = []

    def loss(kernel, key, rows, labels):
        known = not isinstance(labels, jax.core.Tracer)
        looked.append(known)
        if known and labels.max() > 5:
            raise ValueError(f"label {labels.max()}")
        return -kernel + labels.sum()

    training = scripted([1.0], [0.0], max_epochs=1)._replace(loss=loss)
    go = lambda labels: list(
        train(training, range(len(labels)), None, lambda seed: labels[seed], progress=False)
    )
    for labels, looks in [
        ([[1, 5], [5, 1], [3, 3], [1, 5]], 1),  # ids in between
        ([[2, 3], [1, 3], [3, 5], [1, 5]], 3),
        ([[1, 5], [1, 5, 2]], 2),
        ([[1.0, np.nan], [1.0, np.nan], [1.0, 2.0]], 2),
        ([[1, 2], [1.0, 2.0]], 2),
    ]:
        looked.clear()
        go([np.array(one) for one in labels])
        assert looked.count(True) == looks, labels
    with pytest.raises(ValueError, match="label 7"):
        go([np.array([1, 5]), np.array([1, 7])])
    keys = [jax.random.key(seed) for seed in range(2)]
    key_loss = lambda kernel, key, rows, labels: -kernel + jax.random.uniform(labels)
    training = training._replace(loss=key_loss)
    assert len(go(keys)) == 2


def test_progress_shows_loss_and_accuracy(capsys):
    list(train(logistic(max_epochs=7), [0, 1, 2], ROWS, split_of))
    shown = capsys.readouterr().err
    assert "3/3" in shown
    for word in ("epochs=21", "loss=", "val_loss=", "val_score="):
        assert word in shown


def test_several_steps_between_two_validations():
    """Each with a key of its own; the history has their mean, and every validation comes after the last of them."""
    keys = lambda key: jax.random.uniform(key)
    training = scripted([9.0, 9.0, 5.0, 9.0, 9.0, 7.0], [0.0] * 6, patience=9, max_epochs=2)
    training = training._replace(
        loss=lambda step, key, data, labels: -step + keys(key), steps_per_epoch=3
    )
    (trained,) = train(training, [0], 0.0, lambda seed: 0.0, progress=False)
    assert trained.history.validation_loss.tolist() == [5, 7]
    assert (trained.parameters, trained.best_epoch) == (3, 1)
    state = start(training, 0)
    drawn = jnp.stack(
        [
            jnp.stack([keys(key) for key in jax.random.split(jax.random.fold_in(state.key, e), 3)])
            for e in range(2)
        ]
    )
    assert len(np.unique(drawn)) == 6
    expected = drawn.mean(axis=1) - jnp.array([1.0, 4.0])
    np.testing.assert_allclose(trained.history.train_loss, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="steps_per_epoch must be a whole number from 1 on, got 0"):
        start(training._replace(steps_per_epoch=0), 0)
