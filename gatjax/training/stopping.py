"""When to save parameters, and when to stop.

A rule compares the metrics of an epoch with the best so far. An epoch whose validation loss is not finite reaches it as
NaN in both metrics, so that every comparison is false: the epoch is as bad as none, and later ones are compared with
the best before it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gatjax.training.losses import Metrics


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


def last_epoch(best: Progress, now: Metrics) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Every epoch saves and resets: train for `max_epochs` and keep the last, with or without validation nodes."""
    always = jnp.bool_(True)
    return always, always


def improve(best: Progress, now: Metrics, waited: Int[Array, ""]) -> Progress:
    """The best of before and now, where a NaN is no improvement; finite numbers as with minimum and maximum."""
    loss, accuracy = jnp.fmin(best.loss, now.loss), jnp.fmax(best.accuracy, now.accuracy)
    return Progress(loss, accuracy, waited)


RULES: dict[str, Rule] = {
    "both": both_metrics,
    "loss": lowest_loss,
    "either": either_metric,
    "last": last_epoch,
}
