"""Training on batches of graphs: one compiled step for all of them, and several at a time."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import optax
from flax import nnx
from jraph import GraphsTuple
from tqdm import tqdm

from gatjax.data import GraphBatch, batches, budgets_for
from gatjax.training import graph_prediction, sigmoid_cross_entropy, squared_error

LOSSES = {"numbers": squared_error, "labels": sigmoid_cross_entropy}
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


class Interrupted(Exception):
    """A training that was told to stop."""


class Schedule(NamedTuple):
    """A learning rate that rises for a share of the updates, and then falls to 0 along half a cosine."""

    learning_rate: float
    warm_up: float

    def rates(self, updates: int) -> np.ndarray:
        """The rate of each update."""
        first = max(1, round(self.warm_up * updates))
        steps = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, first, max(updates, first + 1)
        )
        # The first update would have a rate of 0.
        return np.asarray(steps(np.arange(1, updates + 1)), np.float32)


class Learner:
    """A model of graphs and the graphs that it is trained on, with its step compiled once per size of batch.

    Rate, key and batch are arguments of the step, so that splits, seeds and schedules share what is compiled.

    Args:
        build: draws the model.
        graphs: all K of them.
        targets: `[K, T]`, float32, NaN where there is none.
        task: "numbers" or "labels".
        batch_size: graphs in a batch.
        clip: largest norm of a gradient.
    """

    def __init__(
        self,
        build: Callable[[nnx.Rngs], Any],
        graphs: Sequence[GraphsTuple],
        targets: np.ndarray,
        *,
        task: str,
        batch_size: int,
        clip: float,
    ):
        self.build = build
        self.functions = graph_prediction(build, LOSSES[task])
        self.graphs, self.targets = graphs, targets
        self.budgets = budgets_for(graphs, batch_size=batch_size)
        self.batches = partial(batches, batch_size=batch_size)
        self.optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam())
        self.traces = 0
        self._update = jax.jit(self._updated, donate_argnums=(0, 1))
        self._outputs = jax.jit(self.functions.outputs)
        self._compiled: set[tuple[int, ...]] = set()
        self._compiling = threading.Lock()

    def train(
        self,
        rows: np.ndarray,
        schedule: Schedule,
        *,
        seed: int,
        epochs: int,
        after_epoch: Callable[[float], None] = lambda loss: None,
    ) -> tuple[Any, float]:
        """Parameters after the last update, and the mean loss of the last epoch.

        Args:
            rows: the graphs to fit.
            schedule: of the learning rate.
            seed: of the parameters, of the order of the graphs and of dropout.
            epochs: how often each graph comes.
            after_epoch: called with the mean loss of each epoch.
        """
        data = self.batches(
            [self.graphs[row] for row in rows],
            self.targets[rows],
            seed=seed,
            epochs=epochs,
            budgets=self.budgets,
        )
        rates, each = schedule.rates(len(data)), len(data) // epochs
        first, key = jax.random.split(jax.random.key(seed))
        parameters = self.functions.initialise(first)
        state = self.optimizer.init(parameters)
        losses: list[jax.Array] = []
        for step, rate in enumerate(rates):
            parameters, state, loss = self._step(parameters, state, rate, key, data[step])
            losses.append(loss)
            if len(losses) == each:
                mean = float(np.mean(jax.device_get(losses)))
                after_epoch(mean)
                losses.clear()
        return parameters, mean

    def predict(self, parameters: Any, rows: np.ndarray) -> np.ndarray:
        """What the model gives for these graphs, `[n, T]`."""
        if not len(rows):
            return np.zeros((0, self.targets.shape[1]), np.float32)
        # Forward alone is quick: one size is compiled in place of three.
        graphs, largest = [self.graphs[row] for row in rows], self.budgets[-1]
        found = []
        for batch in self.batches(graphs, shuffle=False, budgets=largest):
            outputs = np.asarray(self._outputs(parameters, batch.graph, batch.masks))
            found.append(outputs[batch.masks.graph])
        return np.concatenate(found)

    def model(self, parameters: Any) -> Any:
        """The module with these parameters."""
        model = self.build(nnx.Rngs(0))
        nnx.update(model, parameters)
        return model

    def _step(self, *arguments: Any) -> Any:
        """One update; a size of batch that is new to it is compiled once, whoever else is waiting for it."""
        shape = tuple(map(len, arguments[-1].masks))
        with contextlib.nullcontext() if shape in self._compiled else self._compiling:
            outcome = self._update(*arguments)
        self._compiled.add(shape)
        return outcome

    def _updated(self, parameters: Any, state: Any, rate: Any, key: Any, batch: GraphBatch) -> Any:
        self.traces += 1
        loss, gradient = jax.value_and_grad(self.functions.loss)(
            parameters,
            jax.random.fold_in(key, batch.step),
            batch.graph,
            batch.targets.graph,
            batch.masks,
        )
        change, state = self.optimizer.update(gradient, state)
        parameters = jax.tree.map(lambda x, dx: x - rate * dx, parameters, change)
        return parameters, state, loss


def side_by_side(
    work: Callable[[Task, Callable[[float], None]], Outcome],
    tasks: Sequence[Task],
    *,
    workers: int,
    epochs: int,
    progress: bool,
) -> Iterator[tuple[Task, Outcome]]:
    """Each task with its outcome, in the order in which they end; several are at work at the same time.

    Ctrl-C ends those at work after the epoch that they are in.

    Args:
        work: does a task, and calls its second argument with the loss of each epoch.
        tasks: what is to be done.
        workers: how many at a time.
        epochs: of all tasks together, for the bar.
        progress: show a bar.
    """
    stop = threading.Event()
    with (
        tqdm(total=epochs, unit="epoch", disable=not progress) as bar,
        ThreadPoolExecutor(max_workers=workers) as pool,
    ):

        def after_epoch(loss: float) -> None:
            if stop.is_set():
                raise Interrupted
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        ahead = {pool.submit(work, task, after_epoch): task for task in tasks}
        try:
            while ahead:
                done, _ = wait(ahead, return_when=FIRST_COMPLETED)
                # What has ended well is handed over before what has failed is raised.
                for future in sorted(done, key=lambda each: each.exception() is not None):
                    yield ahead.pop(future), future.result()
        finally:
            stop.set()
            with contextlib.suppress(Interrupted):
                pool.shutdown(cancel_futures=True)
