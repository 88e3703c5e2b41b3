"""A training that failed says so: losses that are not finite, sets without nodes, settings without sense, Ctrl-C."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from logistic import ROWS, logistic, split_of

import gatjax.training.seeds
from gatjax.training import (
    RULES,
    Checkpoints,
    Labels,
    Metrics,
    Training,
    last_epoch,
    lowest_loss,
    start,
    train,
)

EMPTY = np.zeros(0, np.int32)


def scripted(train_losses, losses, **settings):
    """Step t moves the parameter from t to t + 1; both losses then read entry t of their scripts."""

    def entry(script, step):
        return jnp.asarray(script, jnp.float32)[jnp.minimum(step.astype(int), len(script) - 1)]

    def loss(step, key, data, labels):
        now = jax.lax.stop_gradient(step)
        return entry(train_losses, now) - step + now

    return Training(
        initialise=lambda key: jnp.float32(0),
        loss=loss,
        validate=lambda step, data, labels: Metrics(entry(losses, step - 1), jnp.float32(0.5)),
        optimizer=optax.sgd(1.0),
        **settings,
    )


def run_one(training, seed=0, data=None, labels=lambda seed: None, **options):
    (trained,) = train(training, [seed], data, labels, progress=False, **options)
    return trained


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("per_dispatch", [1, 2, 25])
def test_a_training_loss_that_is_not_finite_ends_the_seed(bad, per_dispatch):
    training = scripted([3, 2, bad, 1], [9, 8, 7, 6], epochs_per_dispatch=per_dispatch)
    trained = run_one(training)
    assert trained.diverged and trained.diverged_epoch == trained.epochs == 3
    np.testing.assert_array_equal(trained.history.train_loss, [3, 2, bad])
    np.testing.assert_array_equal(trained.history.validation_loss, [9, 8, 7])
    assert trained.best_epoch == 2 and trained.parameters == 2, "the last that was sound"


@pytest.mark.parametrize("rule", RULES.values())
def test_parameters_that_are_not_finite_end_the_seed(rule):
    """The loss is finite, its gradient is not: sqrt at 0."""
    training = scripted([3], [9], max_epochs=5, rule=rule)._replace(
        loss=lambda step, key, data, labels: jnp.sqrt(jnp.maximum(2 - step, 0)) + 0 * step,
        optimizer=optax.sgd(2.0),
    )
    trained = run_one(training)
    assert trained.diverged and np.isfinite(trained.parameters)
    assert np.isfinite(trained.history.train_loss).all()


def test_a_sound_training_is_not_marked():
    trained = run_one(scripted([3], [9, 8], max_epochs=4))
    assert not trained.diverged and trained.diverged_epoch is None


@pytest.mark.parametrize(("rule", "best"), [("loss", 6), ("both", 6), ("either", 6), ("last", 6)])
@pytest.mark.parametrize("bad", [NAN, -INF])
def test_a_validation_loss_that_is_not_finite_spoils_no_later_epoch(rule, best, bad):
    training = scripted([3], [9, bad, 7, 6, 5, 4], max_epochs=6, rule=RULES[rule])
    trained = run_one(training)
    assert trained.best_epoch == best and not trained.diverged
    np.testing.assert_array_equal(trained.history.validation_loss, [9, bad, 7, 6, 5, 4])


@pytest.mark.parametrize("rule", ["loss", "both", "either"])
def test_an_epoch_whose_validation_loss_is_not_finite_is_not_saved(rule):
    trained = run_one(scripted([3], [9, NAN], max_epochs=7, patience=3, rule=RULES[rule]))
    assert trained.best_epoch == 1 and trained.epochs == 4, "and does not reset patience"


def test_a_seed_that_nothing_was_saved_of_has_no_result():
    trained = run_one(scripted([3], [NAN], patience=4, max_epochs=9))
    assert trained.diverged and trained.best_epoch == 0 and trained.diverged_epoch == 4


def with_nan(seed):
    """A NaN in the rows of the even seeds."""
    rows = ROWS.copy()
    if seed % 2 == 0:
        rows[:, 2] = NAN
    return rows, split_of(seed)


@pytest.mark.parametrize("seeds_per_device", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_seed_that_diverges_leaves_the_others_alone(seeds_per_device):
    training = logistic()
    own_rows = training._replace(
        loss=lambda kernel, key, data, labels: training.loss(kernel, key, *labels),
        validate=lambda kernel, data, labels: training.validate(kernel, *labels),
    )
    options = {"progress": False, "seeds_per_device": seeds_per_device}
    found = {one.seed: one for one in train(own_rows, range(6), None, with_nan, **options)}
    sound = {one.seed: one for one in train(training, range(6), ROWS, split_of, **options)}
    for seed in range(6):
        assert found[seed].diverged == (seed % 2 == 0)
        if seed % 2:
            np.testing.assert_allclose(found[seed].parameters, sound[seed].parameters, rtol=1e-4)
        else:
            assert found[seed].diverged_epoch == len(found[seed].history.train_loss) == 1


def test_a_diverged_seed_comes_back_from_its_checkpoint(tmp_path):
    training = scripted([3, 2, NAN], [9, 8, 7])
    first = run_one(training, checkpoints=Checkpoints(tmp_path, {}))
    again = run_one(training, checkpoints=Checkpoints(tmp_path, {}))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert again.diverged_epoch == 3


# Sets without nodes


def without(part):
    def labels(seed):
        split = split_of(seed)
        return split._replace(**{f"{part}_nodes": EMPTY, f"{part}_labels": EMPTY})

    return labels


def unlabelled(seed):
    split = split_of(seed)
    return split._replace(validation_labels=np.full_like(split.validation_labels, -1))


@pytest.mark.parametrize("labels", [without("validation"), unlabelled])
def test_no_validation_nodes_is_an_error_and_both_its_remedies_work(labels):
    with pytest.raises(ValueError, match="validation_nodes of seed 0 .*rule=last_epoch"):
        run_one(logistic(), data=ROWS, labels=labels)
    assert run_one(logistic(), data=ROWS, labels=split_of).best_epoch > 0
    trained = run_one(logistic(rule=last_epoch, max_epochs=23), data=ROWS, labels=labels)
    assert trained.best_epoch == trained.epochs == 23 and not trained.diverged
    other = run_one(logistic(rule=lowest_loss, max_epochs=23), data=ROWS, labels=split_of)
    np.testing.assert_array_equal(trained.history.train_loss[:6], other.history.train_loss[:6])


def test_no_training_nodes_is_an_error_and_its_remedy_works():
    with pytest.raises(ValueError, match="train_nodes of seed 0 .*random_split"):
        run_one(logistic(), data=ROWS, labels=without("train"))
    from logistic import CLASSES

    from gatjax.data import random_split

    splits = random_split(CLASSES, per_class=5, validation=7, test=3)
    labels = Labels(
        splits.train, CLASSES[splits.train], splits.validation, CLASSES[splits.validation]
    )
    assert not run_one(logistic(), data=ROWS, labels=lambda seed: labels).diverged


# Settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"patience": 0}, "patience must be a whole number from 1 on, got 0"),
        ({"max_epochs": 0}, "max_epochs must be a whole number from 1 on, got 0"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number from 1 on, got 2.5"),
        ({"max_epochs": True}, "max_epochs must be a whole number from 1 on, got True"),
        ({"epochs_per_dispatch": 0}, "epochs_per_dispatch must be a whole number from 1 on"),
        ({"rule": "loss"}, r"rule must be a function, got 'loss'; .*RULES\[name\]"),
        ({"loss": None}, "loss must be a function, got None"),
        ({"optimizer": 0.1}, "optimizer must be an optax.GradientTransformation .* got 0.1"),
    ],
)
def test_impossible_settings_are_refused_where_they_enter(setting, message):
    training = logistic()._replace(**setting)
    with pytest.raises(ValueError, match=message):
        train(training, [0], ROWS, split_of)
    with pytest.raises(ValueError, match=message):
        start(training, 0)


def test_the_remedies_of_these_messages():
    training = logistic()._replace(rule=RULES["loss"], optimizer=optax.adam(0.005), max_epochs=1)
    assert run_one(training, data=ROWS, labels=split_of).epochs == 1


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        ([], {}, r"seeds is empty: give at least one, such as range\(10\)"),
        ([0, 1, 0], {}, r"seeds holds a seed twice: .*\[0, 1, 0\]"),
        ([0], {"devices": []}, "devices is empty: give at least one, or None"),
        ([0], {"seeds_per_device": 0}, "seeds_per_device must be at least 1, got 0"),
    ],
)
def test_impossible_runs_are_refused_before_anything_runs(seeds, options, message):
    with pytest.raises(ValueError, match=message):
        train(logistic(), seeds, ROWS, split_of, **options)


@pytest.mark.usefixtures("unchecked")
def test_one_seed_is_a_list_of_one():
    with pytest.raises(TypeError, match=r"seeds must be a list, such as range\(10\), got 3"):
        train(logistic(), 3, ROWS, split_of)


# Ctrl-C


def interrupt_after(monkeypatch, name, calls):
    """Ctrl-C at the end of so many calls of a function of `seeds`."""
    original = getattr(gatjax.training.seeds, name)
    left = [calls]

    def interrupted(*arguments):
        found = original(*arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(gatjax.training.seeds, name, interrupted)


def outcomes(checkpoints, seeds=range(3), **options):
    options |= {"checkpoints": checkpoints, "progress": False}
    return {one.seed: one for one in train(logistic(), seeds, ROWS, split_of, **options)}


@pytest.mark.parametrize(
    ("name", "calls"),
    [("_last", 2), ("advance", 4)]
    + [
        pytest.param(name, calls, marks=pytest.mark.slow)
        for name, calls in itertools.product(["_last", "advance"], [1, 2, 4, 7])
        if (name, calls) not in [("_last", 2), ("advance", 4)]
    ],
)
def test_an_interruption_saves_what_is_running(tmp_path, monkeypatch, name, calls):
    """Between two dispatches or in the middle of one; the time between two saves is far away."""
    uninterrupted = outcomes(None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, name, calls)
        outcomes(Checkpoints(tmp_path, {}, every_seconds=1e9))
    if name == "_last":
        assert list(tmp_path.glob("seed_*/*")), "something is saved"
    resumed = outcomes(Checkpoints(tmp_path, {}))
    for seed, trained in uninterrupted.items():
        jax.tree.map(np.testing.assert_array_equal, trained, resumed[seed])


def test_an_interruption_loses_no_epoch_that_was_reported(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, {}, every_seconds=1e9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, "_last", 2)
        run_one(logistic(patience=60), data=ROWS, labels=split_of, checkpoints=checkpoints)
    (step,) = (path for path in (tmp_path / "seed_0").iterdir() if path.name.isdigit())
    assert int(step.name) >= 14, "two dispatches of seven epochs"
