"""Many seeds of one training in an output folder: checkpoints, Ctrl-C, and what is said of both."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree
from outputs import FREE
from report import count

from gatjax.training import CheckpointError, Checkpoints, Trained, Training, train

# What may differ between a run and its resumption.
FREE_TO_RESUME = (*FREE, "seeds", "first_seed")


def open_checkpoints(settings: Any) -> Checkpoints:
    """The checkpoints of this run, in its output folder; those of another run are left alone."""
    values = dataclasses.asdict(settings)
    description = {name: value for name, value in values.items() if name not in FREE_TO_RESUME}
    description["jax"] = jax.__version__
    checkpoints = Checkpoints(
        settings.output / "checkpoints", description, every_seconds=settings.checkpoint_seconds
    )
    if checkpoints.exist() and not settings.resume:
        if not settings.overwrite:
            raise SystemExit(
                f"{checkpoints.folder} holds an interrupted run: pass --resume to go on with it, --overwrite to "
                "start afresh, or choose another --output."
            )
        checkpoints.remove()
    if settings.resume and not checkpoints.exist():
        print(f"Nothing to resume in {checkpoints.folder}: starting afresh.")
    return checkpoints


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
        range(settings.first_seed, settings.first_seed + settings.seeds),
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


def say_interrupted(settings: Any, finished: int, checkpoints: Checkpoints) -> None:
    """How far it came, and whether it can be gone on with."""
    print(f"Interrupted with {finished} of {count(settings.seeds, 'seed')} finished.", end=" ")
    if checkpoints.exist():
        again = "The same command" if settings.resume else "--resume"
        print(f"{again} goes on from what is saved in {checkpoints.folder}.")
    else:
        print("Nothing has been saved: a new run starts afresh.")
