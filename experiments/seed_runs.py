"""Many seeds of one training in an output folder: checkpoints, Ctrl-C, and what is said of both."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import optax
from jaxtyping import PyTree
from outputs import FREE, INTERRUPTED, made_once
from report import count

from gatjax.training import CheckpointError, Checkpoints, Trained, Training, train

# What may differ between a run and its resumption.
FREE_TO_RESUME = (*FREE, "seeds", "first_seed")


class Seeds(NamedTuple):
    """Trainings with the same settings, and what is saved of them."""

    settings: Any
    checkpoints: Checkpoints

    def train(
        self,
        training: Training,
        data: PyTree,
        labels: Callable[[int], PyTree],
        *,
        interrupted: Callable[[list[Trained]], None] = lambda runs: None,
    ) -> list[Trained]:
        """The outcome of every seed, in their order; after Ctrl-C the process ends, and says how to go on.

        Args:
          interrupted: called with what had finished before.
        """
        finished = train_seeds(training, self.settings, data, labels, self.checkpoints)
        runs = [finished[seed] for seed in sorted(finished)]
        if len(runs) < self.settings.seeds:
            interrupted(runs)
            self.stop(f"{len(runs)} of {count(self.settings.seeds, 'seed')} finished")
        return runs

    def stop(self, done: str) -> NoReturn:
        """End after Ctrl-C: how far it came, and whether it can be gone on with."""
        print(f"Interrupted with {done}.", end=" ")
        if self.checkpoints.exist():
            again = "The same command" if self.settings.resume else "--resume"
            print(f"{again} goes on from what is saved in {self.checkpoints.folder}.")
        else:
            print("Nothing has been saved: a new run starts afresh.")
        raise SystemExit(INTERRUPTED)


Open = Callable[[Any], Seeds]


def made_of_seeds(
    settings: Any,
    make: Callable[[Any, Open], dict[str, Any]],
    draw: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """As `made_once`, of trainings that are saved while they run: what they have saved is removed at the end.

    Args:
      settings: with `output`, `overwrite` and `resume`.
      make: `make(settings, opened)`, where `opened(settings)` are the seeds of one training, saved in the output folder
        of these settings. It ends where something is in the way, so all are opened before the first is trained.
      draw: pictures of a result that has just been made.
    """
    every: list[Checkpoints] = []

    def opened(settings: Any) -> Seeds:
        every.append(open_checkpoints(settings))
        return Seeds(settings, every[-1])

    def end(result: dict[str, Any]) -> None:
        draw(result)
        for checkpoints in every:
            checkpoints.remove()

    return made_once(settings, lambda settings: make(settings, opened), end)


def open_rows(
    settings: Any, names: Sequence[str], opened: Open, *, field: str = "rows"
) -> dict[str, Seeds]:
    """The seeds of each row, in a folder of its own, with the settings in which there is no other row."""
    own = {
        name: dataclasses.replace(settings, **{field: (name,), "output": settings.output / name})
        for name in names
    }
    return {name: opened(each) for name, each in own.items()}


def seeds_of(settings: Any) -> range:
    return range(settings.first_seed, settings.first_seed + settings.seeds)


def open_checkpoints(settings: Any) -> Checkpoints:
    """The checkpoints of this run, in its output folder; those of another run are left alone."""
    values = dataclasses.asdict(settings)
    description = {name: value for name, value in values.items() if name not in FREE_TO_RESUME}
    description["jax"] = jax.__version__
    checkpoints = Checkpoints(
        settings.output / "checkpoints", description, every_seconds=settings.checkpoint_seconds
    )
    if in_the_way(checkpoints, settings):
        checkpoints.remove()
    if settings.resume and not checkpoints.exist():
        print(f"Nothing to resume in {checkpoints.folder}: starting afresh.")
    return checkpoints


def in_the_way(checkpoints: Checkpoints, settings: Any) -> bool:
    """Whether an interrupted run is there that the user gives up; SystemExit where one is that nobody has spoken of."""
    if settings.resume or not checkpoints.exist():
        return False
    if not settings.overwrite:
        raise SystemExit(
            f"{checkpoints.folder} holds an interrupted run: pass --resume to go on with it, --overwrite to "
            "start afresh, or choose another --output."
        )
    return True


def train_seeds(
    training: Training,
    settings: Any,
    data: PyTree,
    labels: Callable[[int], PyTree],
    checkpoints: Checkpoints,
) -> dict[int, Trained]:
    """The outcome of each seed; after Ctrl-C of those that have finished."""
    finished: dict[int, Trained] = {}
    runs = train(
        training,
        seeds_of(settings),
        data,
        labels,
        seeds_per_device=settings.seeds_per_device,
        checkpoints=checkpoints,
        progress=settings.progress,
    )
    try:
        for trained in runs:
            finished[trained.seed] = trained
    except KeyboardInterrupt:
        # Where it came between two steps of the iterator, closing it saves what is running.
        runs.close()
    except CheckpointError as error:
        raise SystemExit(f"Stopped: {error}") from error
    return finished


def every_seed(
    training: Training,
    seeds: Sequence[int],
    data: PyTree,
    labels: Callable[[int], PyTree],
    *,
    progress: bool,
) -> list[Trained]:
    """The outcome of each in their order, where nothing is saved."""
    runs = train(training, seeds, data, labels, progress=progress)
    return sorted(runs, key=lambda trained: trained.seed)


def training_of(
    functions: Any,
    optimizer: optax.GradientTransformation,
    settings: Any,
    rule: Callable[..., Any],
) -> Training:
    """Of functions as `node_classification` makes them, with the patience and the epochs of the settings."""
    return Training(
        functions.initialise,
        functions.loss,
        functions.validate,
        optimizer,
        rule=rule,
        patience=settings.patience,
        max_epochs=settings.max_epochs,
    )


def adam_with_l2(learning_rate: float, l2: float = 5e-4) -> optax.GradientTransformation:
    """Adam whose gradient has that of half the squared norm in it, as in the original GAT, unlike AdamW."""
    return optax.chain(optax.add_decayed_weights(l2), optax.adam(learning_rate))


def told_of(runs: Sequence[Trained]) -> dict[str, Any]:
    """What every result says of its seeds."""
    return {
        "epochs": [one.epochs for one in runs],
        "best_epoch": [one.best_epoch for one in runs],
        "diverged": [one.diverged_epoch for one in runs],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(runs[0].parameters)),
    }
