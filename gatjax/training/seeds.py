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
