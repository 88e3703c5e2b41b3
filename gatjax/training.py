"""Training: losses, early stopping, and many seeds at full speed. It knows no model and sees no test label.

`train` takes three pure functions and arrays:

```
initialise(key)                       -> parameters
loss(parameters, key, data, labels)   -> scalar                    of one training step, dropout on
validate(parameters, data, labels)    -> Metrics(loss, accuracy)   dropout off
```

and runs one training per seed. `data` is what all seeds share, such as the graph; `labels` are those of
one seed, for training and validation. A seed's whole state is one pytree, `TrainState`; a dispatch advances one
seed by several epochs inside one compiled program. Seeds are spread over the devices, and a device that
finishes a seed takes the next one, so nothing waits for the slowest. A device that one seed does not fill, such as a
GPU, trains several side by side.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PyTree
from tqdm import tqdm

from gatjax.checkpoint import Checkpoints


class Metrics(NamedTuple):
    """Loss and accuracy on one set of nodes."""

    loss: Float[Array, "*seeds"]
    accuracy: Float[Array, "*seeds"]


def softmax_cross_entropy(
    logits: Float[Array, "N classes"], nodes: Int[ArrayLike, "n"], labels: Int[ArrayLike, "n"]
) -> Metrics:
    """Mean cross-entropy and accuracy over the given nodes.

    ```
    L = -1/n Σ_i log softmax(logits_i)[label_i]
    ```

    >>> metrics = softmax_cross_entropy(jnp.array([[0.0, 9.0], [9.0, 0.0]]), jnp.array([0]), jnp.array([1]))
    >>> float(metrics.accuracy)
    1.0
    """
    chosen = logits.at[jnp.asarray(nodes)].get(mode="promise_in_bounds").astype(jnp.float32)
    labels = jnp.asarray(labels)
    loss = optax.softmax_cross_entropy_with_integer_labels(chosen, labels).mean()
    return Metrics(loss, (chosen.argmax(-1) == labels).mean(dtype=jnp.float32))


class Labels(NamedTuple):
    """The labelled nodes that training may see: those it fits, and those that tell when to stop."""

    train_nodes: Int[ArrayLike, "n"]
    train_labels: Int[ArrayLike, "n"]
    validation_nodes: Int[ArrayLike, "m"]
    validation_labels: Int[ArrayLike, "m"]


class Progress(NamedTuple):
    """What early stopping remembers: the best loss and accuracy so far, and epochs without progress."""

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    waited: Int[Array, ""]


Rule = Callable[[Progress, Metrics], tuple[Bool[Array, ""], Bool[Array, ""]]]


def both_metrics(best: Progress, now: Metrics) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """The rule of the original GAT: either metric resets patience, both at once save the parameters."""
    accuracy, loss = now.accuracy >= best.accuracy, now.loss <= best.loss
    return accuracy & loss, accuracy | loss


def lowest_loss(best: Progress, now: Metrics) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """The rule of Shchur et al. (2018): a lower validation loss saves and resets."""
    better = now.loss < best.loss
    return better, better


def either_metric(best: Progress, now: Metrics) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Either metric saves and resets."""
    better = (now.accuracy >= best.accuracy) | (now.loss <= best.loss)
    return better, better


RULES: dict[str, Rule] = {"both": both_metrics, "loss": lowest_loss, "either": either_metric}


class TrainState(NamedTuple):
    """All that one seed's training is: the next epoch depends on this and the data alone."""

    parameters: PyTree
    optimizer: PyTree
    key: Key[Array, ""]
    epoch: Int[Array, ""]
    progress: Progress
    best_parameters: PyTree
    best_epoch: Int[Array, ""]
    stopped: Bool[Array, ""]


class History(NamedTuple):
    """One entry per epoch."""

    train_loss: Float[Array | np.ndarray, "epochs"]
    validation_loss: Float[Array | np.ndarray, "epochs"]
    validation_accuracy: Float[Array | np.ndarray, "epochs"]


class Training(NamedTuple):
    """What to train and for how long; hashable, so that equal trainings compile once."""

    initialise: Callable[[Key[Array, ""]], PyTree]
    loss: Callable[[PyTree, Key[Array, ""], PyTree, PyTree], Float[Array, ""]]
    validate: Callable[[PyTree, PyTree, PyTree], Metrics]
    optimizer: optax.GradientTransformation
    rule: Rule = both_metrics
    patience: int = 100
    max_epochs: int = 100_000
    epochs_per_dispatch: int = 25


class Trained(NamedTuple):
    """The outcome of one seed; `parameters` are those that the stopping rule saved."""

    seed: int
    parameters: PyTree
    best_epoch: int
    epochs: int
    history: History


def start(training: Training, seed: int) -> TrainState:
    """The state before the first epoch of a seed."""
    for_parameters, for_training = jax.random.split(jax.random.key(seed))
    parameters = training.initialise(for_parameters)
    worst = Progress(jnp.float32(jnp.inf), jnp.float32(-jnp.inf), jnp.int32(0))
    return TrainState(
        parameters=parameters,
        optimizer=training.optimizer.init(parameters),
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
      The state after, and the history of these epochs, NaN after the stop.
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
    loss, gradient = jax.value_and_grad(training.loss)(state.parameters, key, data, labels)
    updates, optimizer = training.optimizer.update(gradient, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    now = training.validate(parameters, data, labels)

    best = state.progress
    save, reset = training.rule(best, now)
    waited = jnp.where(reset, 0, best.waited + 1)
    epoch = state.epoch + 1
    state = TrainState(
        parameters=parameters,
        optimizer=optimizer,
        key=state.key,
        epoch=epoch,
        progress=Progress(
            jnp.minimum(best.loss, now.loss), jnp.maximum(best.accuracy, now.accuracy), waited
        ),
        best_parameters=jax.tree.map(
            lambda new, old: jnp.where(save, new, old), parameters, state.best_parameters
        ),
        best_epoch=jnp.where(save, epoch, state.best_epoch),
        stopped=(waited >= training.patience) | (epoch >= training.max_epochs),
    )
    return state, History(loss, now.loss, now.accuracy)


class _Run:
    """One seed on its way: its labels, its state as it last left the device, its history."""

    def __init__(self, seed: int, labels: PyTree, state: TrainState):
        self.seed = seed
        self.labels = labels
        self.state = state
        self.past: list[History] = []
        self.stopped = False

    @property
    def name(self) -> str:
        return f"seed_{self.seed}"

    @property
    def history(self) -> History:
        return History(*map(np.concatenate, zip(*self.past, strict=True)))

    def outcome(self) -> Trained:
        return Trained(
            seed=self.seed,
            parameters=jax.tree.map(np.asarray, self.state.best_parameters),
            best_epoch=int(self.state.best_epoch),
            epochs=int(self.state.epoch),
            history=self.history,
        )


class _Worker:
    """A device and the seeds that it trains, in one program."""

    def __init__(
        self,
        training: Training,
        device: jax.Device,
        data: PyTree,
        checkpoints: Checkpoints | None,
        room: int,
    ):
        self.training = training
        self.device = device
        self.data = jax.device_put(data, device)
        self.checkpoints = checkpoints
        self.room = room
        self.runs: list[_Run] = []

    def refill(self, waiting: list[int], labels: Callable[[int], PyTree]) -> None:
        """Waiting seeds take the place of those that have stopped.

        Where none waits, a program shrinks once half of its seeds have stopped: each size compiles anew.
        """
        going = [run for run in self.runs if not run.stopped]
        stopped = len(self.runs) - len(going)
        if self.runs and (stopped == 0 or (not waiting and stopped < len(going))):
            return
        for index, run in enumerate(self.runs):
            run.state = self._of_one(self.state, index)
        self.runs = going
        while waiting and len(self.runs) < self.room:
            self.runs.append(self._begin(seed := waiting.pop(0), labels(seed)))
        if self.runs:
            self.state = self._of_all([run.state for run in self.runs])
            self.labels = self._of_all([run.labels for run in self.runs])

    def dispatch(self) -> None:
        run = advance if self.room == 1 else advance_together
        self.state, self.latest = run(self.training, self.state, self.data, self.labels)

    def is_ready(self) -> bool:
        return self.latest.train_loss.is_ready()

    def collect(self) -> tuple[list[Trained], list[History]]:
        """Of the dispatch that is ready, the seeds that have stopped, and the news of each one that took part."""
        latest, stopped = jax.tree.map(np.asarray, (self.latest, self.state.stopped))
        done, all_news = [], []
        for index, run in enumerate(self.runs):
            if run.stopped:
                continue
            columns, run.stopped = self._of_one(latest, index), bool(self._of_one(stopped, index))
            news = History(*(column[~np.isnan(columns.train_loss)] for column in columns))
            run.past.append(news)
            all_news.append(news)
            if run.stopped or self._is_due(run):
                run.state = self._of_one(self.state, index)
                # A seed that was found stopped has stood still, and is saved already.
                if len(news.train_loss):
                    self._save(run)
            if run.stopped:
                done.append(run.outcome())
        return done, all_news

    def _is_due(self, run: _Run) -> bool:
        return self.checkpoints is not None and self.checkpoints.is_due(run.name)

    def _save(self, run: _Run) -> None:
        if self.checkpoints is not None:
            notes = {name: column.tolist() for name, column in run.history._asdict().items()}
            self.checkpoints.save(run.name, int(run.state.epoch), run.state, notes)

    def _of_one(self, tree: PyTree, index: int) -> PyTree:
        return tree if self.room == 1 else jax.tree.map(lambda leaf: leaf[index], tree)

    def _of_all(self, trees: list[PyTree]) -> PyTree:
        return trees[0] if self.room == 1 else jax.tree.map(lambda *x: jnp.stack(x), *trees)

    def _begin(self, seed: int, labels: PyTree) -> _Run:
        run = _Run(seed, labels, start(self.training, seed))
        saved = None if self.checkpoints is None else self.checkpoints.restore(run.name, run.state)
        if saved is not None:
            run.state, notes = saved
            columns = (np.array(notes[name], np.float32) for name in History._fields)
            run.past.append(History(*columns))
        run.labels, run.state = jax.device_put((run.labels, run.state), self.device)
        return run


def train(
    training: Training,
    seeds: Sequence[int],
    data: PyTree,
    labels: Callable[[int], PyTree],
    *,
    devices: Sequence[jax.Device] | None = None,
    seeds_per_device: int = 1,
    checkpoints: Checkpoints | None = None,
    progress: bool = True,
) -> Iterator[Trained]:
    """Train every seed to its own stop.

    Args:
      training: what to train.
      seeds: one training each.
      data: handed to `loss` and `validate`, the same for all seeds.
      labels: `labels(seed)` is handed to `loss` and `validate`; one shape for all seeds.
      devices: where to train; all devices of the default backend by default.
      seeds_per_device: how many seeds a device trains side by side, as one program. A CPU gains nothing from more
        than one, a GPU much. With more than one, the last bits of a result depend on how many there are.
      checkpoints: where each seed is saved from time to time and when it stops; a seed found there goes
        on from there, to the same end, bit for bit (with one seed per device), as without the interruption.
      progress: show a bar with loss and accuracy.

    Yields:
      Each seed's outcome, in the order in which they finish.

    Raises:
      ValueError: `seeds_per_device` is not positive.
    """
    if seeds_per_device < 1:
        raise ValueError(f"seeds_per_device must be at least 1, got {seeds_per_device}")
    waiting = list(seeds)
    devices = jax.local_devices() if devices is None else devices
    room = min(seeds_per_device, max(-(-len(waiting) // len(devices)), 1))
    with tqdm(total=len(waiting), unit="seed", disable=not progress) as bar:
        busy = [_Worker(training, device, data, checkpoints, room) for device in devices]
        busy = busy[: -(-len(waiting) // room)]
        for worker in busy:
            worker.refill(waiting, labels)
            worker.dispatch()
        epochs = 0
        while busy:
            ready = [worker for worker in busy if worker.is_ready()]
            if not ready:
                time.sleep(0.002)
            for worker in ready:
                done, news = worker.collect()
                worker.refill(waiting, labels)
                if worker.runs:
                    worker.dispatch()
                else:
                    busy.remove(worker)
                epochs += sum(len(history.train_loss) for history in news)
                bar.set_postfix({"epochs": epochs} | _last(news[-1]))
                bar.update(len(done))
                yield from done


def _last(latest: History) -> dict[str, str]:
    names = "loss", "val_loss", "val_acc"
    return {
        name: f"{column[-1]:.3f}" for name, column in zip(names, latest, strict=True) if len(column)
    }
