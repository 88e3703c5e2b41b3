"""When to save parameters, and when to stop."""

from collections.abc import Callable
from typing import NamedTuple

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


RULES: dict[str, Rule] = {"both": both_metrics, "loss": lowest_loss, "either": either_metric}
