"""Many seeds at full speed.

Seeds are spread over the devices, and a device that finishes a seed takes the next one, so nothing waits for the
slowest. A device that one seed does not fill, such as a GPU, trains several side by side.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from gatjax.ops.blocks import ceil_div
from gatjax.training.checkpoint import Checkpoints
from gatjax.training.loop import (
    History,
    Trained,
    Training,
    TrainState,
    advance,
    advance_together,
    start,
)


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

    def state_of(self, index: int) -> TrainState:
        return self._part(self.state, index)

    def news(self) -> list[tuple[History, bool]]:
        """For each seed, once the dispatch is ready: its history of these epochs, and whether it has stopped."""
        latest, stopped = jax.tree.map(np.asarray, (self.latest, self.state.stopped))
        of_all = range(len(self.runs))
        return [(self._part(latest, i), bool(self._part(stopped, i))) for i in of_all]

    def _advance(self, state: TrainState) -> tuple[TrainState, History]:
        run = advance_together if self.together else advance
        return run(self.training, state, self.data, self.labels)

    def _join(self, trees: list[PyTree]) -> PyTree:
        return jax.tree.map(lambda *x: jnp.stack(x), *trees) if self.together else trees[0]

    def _part(self, tree: PyTree, index: int) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[index], tree) if self.together else tree


class _Worker:
    """A device, and the seeds that it trains."""

    def __init__(
        self,
        training: Training,
        device: jax.Device,
        data: PyTree,
        checkpoints: Checkpoints | None,
        seeds_per_program: int,
    ):
        self.training = training
        self.device = device
        self.data = jax.device_put(data, device)
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

    def collect(self) -> tuple[list[Trained], list[History]]:
        """Of the dispatch that is ready, the seeds that have stopped, and the news of each one that took part."""
        assert self.program is not None
        done, all_news = [], []
        for index, (columns, stopped) in enumerate(self.program.news()):
            run = self.program.runs[index]
            if run.stopped:
                continue
            run.stopped = stopped
            news = History(*(column[~np.isnan(columns.train_loss)] for column in columns))
            run.past.append(news)
            all_news.append(news)
            if run.stopped or self._is_due(run):
                run.state = self.program.state_of(index)
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
    seeds_per_program = min(seeds_per_device, max(ceil_div(len(waiting), len(devices)), 1))
    with tqdm(total=len(waiting), unit="seed", disable=not progress) as bar:
        workers = [
            _Worker(training, device, data, checkpoints, seeds_per_program)
            for device in devices[: ceil_div(len(waiting), seeds_per_program)]
        ]
        for worker in workers:
            worker.go_on(waiting, labels)
        epochs = 0
        while workers:
            ready = [worker for worker in workers if worker.is_ready()]
            if not ready:
                time.sleep(0.002)
            for worker in ready:
                done, news = worker.collect()
                worker.go_on(waiting, labels)
                if worker.program is None:
                    workers.remove(worker)
                epochs += sum(len(history.train_loss) for history in news)
                bar.set_postfix({"epochs": epochs} | _last(news[-1]))
                bar.update(len(done))
                yield from done


def _last(latest: History) -> dict[str, str]:
    names = "loss", "val_loss", "val_acc"
    return {
        name: f"{column[-1]:.3f}" for name, column in zip(names, latest, strict=True) if len(column)
    }
