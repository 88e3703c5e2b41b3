"""Many seeds at full speed.

Seeds are spread over the devices, and a device that finishes a seed takes the next one, so nothing waits for the
slowest. A device that one seed does not fill, such as a GPU, trains several side by side.
"""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree
from tqdm import tqdm

from gatjax.graph.messages import shown
from gatjax.ops.blocks import ceil_div
from gatjax.training.checkpoint import Checkpoints
from gatjax.training.label_checks import ValueCheck, checked_labels
from gatjax.training.loop import (
    History,
    Trained,
    Training,
    TrainState,
    advance,
    advance_together,
    all_finite,
    check_training,
    start,
)


class _Run:
    """One seed on its way: its labels, its state as it last left the device, its history."""

    def __init__(self, seed: int, labels: PyTree, state: TrainState):
        self.seed = seed
        self.labels = labels
        self.state = state
        self.past: list[History] = []
        self.saved_epoch = 0
        self.stopped = False

    @property
    def name(self) -> str:
        return f"seed_{self.seed}"

    @property
    def history(self) -> History:
        return History(*map(np.concatenate, zip(*self.past, strict=True)))

    @property
    def epochs(self) -> int:
        """How many the history knows of."""
        return sum(len(part.train_loss) for part in self.past)

    def outcome(self) -> Trained:
        state, history = self.state, self.history
        best_epoch, epochs = int(state.best_epoch), int(state.epoch)
        finite = np.isfinite(history.train_loss[-1]) and bool(_all_finite(state.parameters))
        diverged = not finite or best_epoch == 0
        return Trained(
            seed=self.seed,
            parameters=jax.tree.map(np.asarray, state.best_parameters),
            best_epoch=best_epoch,
            epochs=epochs,
            history=history,
            diverged=diverged,
            diverged_epoch=epochs if diverged else None,
        )


class _Program:
    """The seeds that one compiled program advances: one alone, or several along a leading axis."""

    def __init__(self, training: Training, data: PyTree, runs: list[_Run], *, together: bool):
        self.training = training
        self.data = data
        self.runs = runs
        self.together = together
        self.labels = self._join([run.labels for run in runs])
        self.state, self.latest = self._advance(self._join([run.state for run in runs]))

    def dispatch(self) -> None:
        self.state, self.latest = self._advance(self.state)

    def is_ready(self) -> bool:
        return all(column.is_ready() for column in jax.tree.leaves(self.latest))

    def is_whole(self) -> bool:
        """Whether the state is there: an interrupted dispatch has taken it, and not given it back."""
        return not any(leaf.is_deleted() for leaf in jax.tree.leaves(self.state))

    def state_of(self, index: int) -> TrainState:
        return _entry(self.state, index) if self.together else self.state

    def news(self) -> list[tuple[History, bool]]:
        """For each seed, once the dispatch is ready: the epochs that are new to its run, and whether it has stopped."""
        fields = self.latest, self.state.epoch, self.state.stopped
        latest, epoch, stopped = jax.tree.map(np.asarray, fields)
        news = []
        for i, run in enumerate(self.runs):
            count = int(self._part(epoch, i)) - run.epochs
            columns = (self._part(column, i)[:count] for column in latest)
            news.append((History(*columns), bool(self._part(stopped, i))))
        return news

    def _advance(self, state: TrainState) -> tuple[TrainState, History]:
        run = advance_together if self.together else advance
        return run(self.training, state, self.data, self.labels)

    def _join(self, trees: list[PyTree]) -> PyTree:
        return _stack(trees) if self.together else trees[0]

    def _part(self, array: np.ndarray, index: int) -> Any:
        return array[index] if self.together else array


# Each as one program: a GPU takes as long to start any of the hundreds of parts as to compute it.


@jax.jit
def _stack(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


@jax.jit
def _entry(tree: PyTree, index: ArrayLike) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)


_all_finite = jax.jit(all_finite)


class _Worker:
    """A device, and the seeds that it trains."""

    def __init__(
        self,
        training: Training,
        device: jax.Device,
        data: PyTree,
        check_values: ValueCheck,
        checkpoints: Checkpoints | None,
        seeds_per_program: int,
    ):
        self.training = training
        self.device = device
        self.data = jax.device_put(data, device)
        self.check_values = check_values
        self.checkpoints = checkpoints
        self.seeds_per_program = seeds_per_program
        self.program: _Program | None = None

    def go_on(self, waiting: list[int], labels: Callable[[int], PyTree]) -> None:
        """Dispatch the next epochs; waiting seeds take the place of those that have stopped.

        Where none waits, a program shrinks once half of its seeds have stopped: each size compiles anew.
        """
        runs = [] if self.program is None else self.program.runs
        unfinished = [run for run in runs if not run.stopped]
        stopped = len(runs) - len(unfinished)
        if self.program is not None:
            if stopped == 0 or (not waiting and stopped < len(unfinished)):
                self.program.dispatch()
                return
            for index, run in enumerate(runs):
                run.state = self.program.state_of(index)
        while waiting and len(unfinished) < self.seeds_per_program:
            unfinished.append(self._begin(seed := waiting.pop(0), labels(seed)))
        self.program = None
        if unfinished:
            together = self.seeds_per_program > 1
            self.program = _Program(self.training, self.data, unfinished, together=together)

    def is_ready(self) -> bool:
        return self.program is not None and self.program.is_ready()

    def collect(self) -> tuple[list[Trained], list[tuple[int, History]]]:
        """Of the dispatch that is ready, the seeds that have stopped, and each one that took part with its news."""
        assert self.program is not None
        done, all_news = [], []
        for index, (news, stopped) in enumerate(self.program.news()):
            run = self.program.runs[index]
            if run.stopped:
                continue
            run.past.append(news)
            all_news.append((run.seed, news))
            if stopped or self._is_due(run):
                run.state = self.program.state_of(index)
                self._save(run)
            if stopped:
                done.append(run.outcome())
            run.stopped = stopped
        return done, all_news

    def save_all(self) -> None:
        """Save what is running, at the end of the dispatch that is under way.

        A seed that was interrupted while it changed hands keeps its last checkpoint.
        """
        if self.checkpoints is None or self.program is None or not self.program.is_whole():
            return
        for index, (run, (news, _)) in enumerate(
            zip(self.program.runs, self.program.news(), strict=True)
        ):
            if not run.stopped:
                run.past.append(news)
                run.state = self.program.state_of(index)
                self._save(run)

    def _is_due(self, run: _Run) -> bool:
        return self.checkpoints is not None and self.checkpoints.is_due(run.name)

    def _save(self, run: _Run) -> None:
        """Save a seed that has come further than what is saved of it."""
        epoch = int(run.state.epoch)
        if self.checkpoints is not None and epoch > run.saved_epoch:
            notes = {name: column.tolist() for name, column in run.history._asdict().items()}
            self.checkpoints.save(run.name, epoch, run.state, notes)
            run.saved_epoch = epoch

    def _begin(self, seed: int, labels: PyTree) -> _Run:
        labels = checked_labels(self.training, seed, labels)
        run = _Run(seed, labels, start(self.training, seed))
        self.check_values(run.state, self.data, labels)
        saved = None if self.checkpoints is None else self.checkpoints.restore(run.name, run.state)
        if saved is not None:
            run.state, notes = saved
            columns = (np.array(notes[name], np.float32) for name in History._fields)
            run.past.append(History(*columns))
            run.saved_epoch = run.epochs
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
) -> Generator[Trained]:
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

    Returns:
      An iterator over each seed's outcome, in the order in which they finish. A seed whose training loss or parameters
      are no longer finite stops there and is marked as `diverged`. An interruption (Ctrl-C) saves what is running,
      where there are checkpoints, before it goes on its way.

    Raises:
      TypeError: seeds that are no list; labels that are names, when their turn comes.
      ValueError: a setting is impossible, before anything runs; or a seed has no node to fit, or none to validate on
        by a rule that asks for them, when its turn comes.
    """
    check_training(training)
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be a list, such as range(10), got {shown(seeds)}")
    seeds, devices = list(seeds), list(jax.local_devices() if devices is None else devices)
    _check_run(seeds, devices, seeds_per_device)
    seeds_per_program = min(seeds_per_device, ceil_div(len(seeds), len(devices)))
    check = ValueCheck(training)
    workers = [
        _Worker(training, device, data, check, checkpoints, seeds_per_program)
        for device in devices[: ceil_div(len(seeds), seeds_per_program)]
    ]
    return _train(workers, seeds, labels, progress)


def _train(
    workers: list[_Worker], waiting: list[int], labels: Callable[[int], PyTree], progress: bool
) -> Generator[Trained]:
    with tqdm(total=len(waiting), unit="seed", disable=not progress) as bar:
        try:
            for worker in workers:
                bar.set_description("compiling")
                worker.go_on(waiting, labels)
            bar.set_description("", refresh=False)
            epochs, busy = 0, workers
            while busy := [worker for worker in busy if worker.program is not None]:
                ready = [worker for worker in busy if worker.is_ready()]
                if not ready:
                    time.sleep(0.002)
                for worker in ready:
                    done, news = worker.collect()
                    worker.go_on(waiting, labels)
                    epochs += sum(len(history.train_loss) for _, history in news)
                    seed, latest = news[-1]
                    bar.set_postfix({"epochs": epochs, "seed": seed} | _last(latest))
                    bar.update(len(done))
                    yield from done
        except (KeyboardInterrupt, GeneratorExit):
            for worker in workers:
                worker.save_all()
            raise


def _check_run(seeds: list[int], devices: list[jax.Device], seeds_per_device: int) -> None:
    if seeds_per_device < 1:
        raise ValueError(f"seeds_per_device must be at least 1, got {seeds_per_device}")
    if not devices:
        raise ValueError("devices is empty: give at least one, or None for all of them")
    if not seeds:
        raise ValueError("seeds is empty: give at least one, such as range(10)")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds holds a seed twice: give each once, got {seeds}")


def _last(latest: History) -> dict[str, str]:
    names = "loss", "val_loss", "val_score"
    return {
        name: f"{column[-1]:.3f}" for name, column in zip(names, latest, strict=True) if len(column)
    }
