"""One seed's training as one pytree, and its steps in one compiled program.

A dispatch advances one seed by several epochs inside one compiled program.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from gatjax.graph.messages import is_integer
from gatjax.training.losses import Metrics
from gatjax.training.stopping import Progress, Rule, both_metrics, improve


class Variables(NamedTuple):
    """What `initialise` draws where there is more than parameters: that which a step changes without a gradient.

    Attributes:
      parameters: what gradients are taken of, and the optimiser moves.
      statistics: what the loss hands back changed, such as the running averages of a `BatchNorm`.
    """

    parameters: PyTree
    statistics: PyTree


class TrainState(NamedTuple):
    """All that one seed's training is: the next epoch depends on this and the data alone.

    `parameters` and `best_parameters` are what `Training.initialise` draws, statistics included.
    """

    parameters: PyTree
    optimizer: PyTree
    key: Key[Array, ""]
    epoch: Int[Array, ""]
    progress: Progress
    best_parameters: PyTree
    best_epoch: Int[Array, ""]
    stopped: Bool[Array, ""]


class History(NamedTuple):
    """One entry per epoch.

    Attributes:
      train_loss: of the training step.
      validation_loss: of `Training.validate`, after the step.
      validation_accuracy: its score, whatever that is: accuracy, F1, R², area under the curve.
    """

    train_loss: Float[Array | np.ndarray, "epochs"]
    validation_loss: Float[Array | np.ndarray, "epochs"]
    validation_accuracy: Float[Array | np.ndarray, "epochs"]


class Training(NamedTuple):
    """What to train and for how long; hashable, so that equal trainings compile once.

    Attributes:
      initialise: `initialise(key) -> parameters`, any pytree; or `Variables(parameters, statistics)`.
      loss: `loss(parameters, key, data, labels) -> scalar`; of `Variables` it is `(scalar, statistics)`, where the
        statistics are those after the step, and the gradient that of the parameters alone.
      validate: `validate(parameters, data, labels) -> Metrics`, of the parameters, or `Variables`, after a step.
      optimizer: sees the parameters and their gradient, never the statistics.
      rule: when to save parameters, with their statistics, and when patience starts anew.
      patience: epochs without progress before a seed stops.
      max_epochs: epochs at most.
      epochs_per_dispatch: epochs per call of the compiled program; no influence on results.
      steps_per_epoch: steps of the optimizer before each validation, each with a key of its own, from which a loss on
        part of the data draws its part. The history's training loss is their mean.
    """

    initialise: Callable[[Key[Array, ""]], PyTree]
    loss: Callable[[PyTree, Key[Array, ""], PyTree, PyTree], Any]
    validate: Callable[[PyTree, PyTree, PyTree], Metrics]
    optimizer: optax.GradientTransformation
    rule: Rule = both_metrics
    patience: int = 100
    max_epochs: int = 100_000
    epochs_per_dispatch: int = 25
    steps_per_epoch: int = 1


class Trained(NamedTuple):
    """The outcome of one seed.

    Attributes:
      seed: which one.
      parameters: those that the stopping rule saved; where it saved none, those of the start. `Variables` where
        `initialise` draws such: the statistics are of the same epoch.
      best_epoch: the epoch that they are of, counted from 1; 0 where none was saved.
      epochs: how many there were.
      history: one entry per epoch, also of the last one of a seed that diverged.
      diverged: whether this is no result: the training loss or the parameters were not finite in the last epoch, or
        none was saved.
      diverged_epoch: the last epoch of a seed that diverged, counted from 1; else None.
    """

    seed: int
    parameters: PyTree
    best_epoch: int
    epochs: int
    history: History
    diverged: bool = False
    diverged_epoch: int | None = None


def check_training(training: Training) -> None:
    """Refuse settings that no training can have.

    Raises:
      ValueError: by field, value and remedy.
    """
    for name in ("patience", "max_epochs", "epochs_per_dispatch", "steps_per_epoch"):
        value = getattr(training, name)
        if not is_integer(value) or value < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")
    for name in ("initialise", "loss", "validate", "rule"):
        if not callable(value := getattr(training, name)):
            hint = "; a rule by its name is gatjax.training.RULES[name]" * (name == "rule")
            raise ValueError(f"{name} must be a function, got {value!r}{hint}")
    if not hasattr(training.optimizer, "init") or not hasattr(training.optimizer, "update"):
        raise ValueError(
            f"optimizer must be an optax.GradientTransformation such as optax.adam(0.005), "
            f"got {training.optimizer!r}"
        )


def start(training: Training, seed: int) -> TrainState:
    """The state before the first epoch of a seed.

    Raises:
      ValueError: a setting of `training` is impossible.
    """
    check_training(training)
    for_parameters, for_training = jax.random.split(jax.random.key(seed))
    parameters = training.initialise(for_parameters)
    worst = Progress(jnp.float32(jnp.inf), jnp.float32(-jnp.inf), jnp.int32(0))
    return TrainState(
        parameters=parameters,
        optimizer=training.optimizer.init(_trainable(parameters)),
        key=for_training,
        epoch=jnp.int32(0),
        progress=worst,
        best_parameters=jax.tree.map(jnp.array, parameters),
        best_epoch=jnp.int32(0),
        stopped=jnp.bool_(False),
    )


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance(
    training: Training, state: TrainState, data: PyTree, labels: PyTree
) -> tuple[TrainState, History]:
    """Run `epochs_per_dispatch` epochs in one compiled program; a seed that stops stands still.

    Args:
      training: what to train.
      state: where the seed stands.
      data: handed to `loss` and `validate`; an argument, so that XLA does not fold it in as a constant.
      labels: likewise.

    Returns:
      The state after, and the history of these epochs: as many entries as `epoch` has grown by, and NaN after them.
    """
    return _run_epochs(training, state, data, labels)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def advance_together(
    training: Training, states: TrainState, data: PyTree, labels: PyTree
) -> tuple[TrainState, History]:
    """`advance` for several seeds in one program; all but `data` have a leading axis, one entry per seed."""
    run = lambda state, labels: _run_epochs(training, state, data, labels)
    return jax.vmap(run)(states, labels)


def _run_epochs(
    training: Training, state: TrainState, data: PyTree, labels: PyTree
) -> tuple[TrainState, History]:
    length = training.epochs_per_dispatch

    def unfinished(carry):
        index, state, _ = carry
        return (index < length) & ~state.stopped

    def epoch(carry):
        index, state, history = carry
        state, now = _run_epoch(training, data, labels, state)
        return (
            index + 1,
            state,
            jax.tree.map(lambda column, new: column.at[index].set(new), history, now),
        )

    nothing = jnp.full(length, jnp.nan, jnp.float32)
    _, state, history = jax.lax.while_loop(
        unfinished, epoch, (jnp.int32(0), state, History(nothing, nothing, nothing))
    )
    return state, history


def _run_epoch(
    training: Training, data: PyTree, labels: PyTree, state: TrainState
) -> tuple[TrainState, History]:
    key = jax.random.fold_in(state.key, state.epoch)
    parameters, optimizer, loss = _run_steps(training, state, key, data, labels)
    now = training.validate(parameters, data, labels)

    best, valid = state.progress, jnp.isfinite(now.loss)
    seen = Metrics(*(jnp.where(valid, metric, jnp.nan) for metric in now))
    save, reset = training.rule(best, seen)
    diverged = ~(jnp.isfinite(loss) & all_finite(parameters))
    save &= ~diverged
    waited = jnp.where(reset, 0, best.waited + 1)
    epoch = state.epoch + 1
    state = TrainState(
        parameters=parameters,
        optimizer=optimizer,
        key=state.key,
        epoch=epoch,
        progress=improve(best, seen, waited),
        best_parameters=jax.tree.map(
            lambda new, old: jnp.where(save, new, old), parameters, state.best_parameters
        ),
        best_epoch=jnp.where(save, epoch, state.best_epoch),
        stopped=diverged | (waited >= training.patience) | (epoch >= training.max_epochs),
    )
    return state, History(loss, now.loss, now.accuracy)


def _run_steps(
    training: Training, state: TrainState, key: Key[Array, ""], data: PyTree, labels: PyTree
) -> tuple[PyTree, PyTree, Float[Array, ""]]:
    """Parameters and optimizer after the steps of an epoch, and the mean of their losses."""

    def step(before: tuple[PyTree, PyTree], key: Key[Array, ""]) -> Any:
        parameters, optimizer = before
        trainable = _trainable(parameters)
        loss, gradient, replace = _gradient(training, parameters, key, data, labels)
        updates, optimizer = training.optimizer.update(gradient, optimizer, trainable)
        return (replace(optax.apply_updates(trainable, updates)), optimizer), loss

    before = state.parameters, state.optimizer
    if training.steps_per_epoch == 1:
        (parameters, optimizer), loss = step(before, key)
        return parameters, optimizer, loss
    keys = jax.random.split(key, training.steps_per_epoch)
    (parameters, optimizer), losses = jax.lax.scan(step, before, keys)
    return parameters, optimizer, losses.mean()


def _trainable(variables: PyTree) -> PyTree:
    return variables.parameters if isinstance(variables, Variables) else variables


def _gradient(
    training: Training, variables: PyTree, key: Key[Array, ""], data: PyTree, labels: PyTree
) -> tuple[Float[Array, ""], PyTree, Callable[[PyTree], PyTree]]:
    """Loss, gradient, and what makes the variables after the step of its parameters."""
    if not isinstance(variables, Variables):
        loss, gradient = jax.value_and_grad(training.loss)(variables, key, data, labels)
        return loss, gradient, lambda parameters: parameters

    def of(parameters):
        return training.loss(variables._replace(parameters=parameters), key, data, labels)

    (loss, statistics), gradient = jax.value_and_grad(of, has_aux=True)(variables.parameters)
    return loss, gradient, lambda parameters: Variables(parameters, statistics)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every number of a tree is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves] or [jnp.bool_(True)]).all()
