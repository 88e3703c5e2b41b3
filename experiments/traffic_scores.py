"""Errors of forecasts of traffic: up to a horizon and at it, and what part of them is chance."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gatjax.data import TimeSplit, Traffic

# Two hours of consecutive windows are drawn together, since their errors belong together.
BLOCK_MINUTES, DRAWS = 120, 1000


class Scores(NamedTuple):
    """Errors of the seeds of one forecast.

    Attributes:
      squared, absolute: by horizon in minutes, the mean error of every window up to there, [seeds, windows].
      at_step: by horizon, root mean squared and mean absolute error at this step alone, [seeds, 2].
      block: windows that are drawn together.
    """

    squared: dict[str, np.ndarray]
    absolute: dict[str, np.ndarray]
    at_step: dict[str, np.ndarray]
    block: int

    def up_to(self, horizon: str) -> np.ndarray:
        """Root mean squared and mean absolute error up to a horizon, [seeds, 2]."""
        root = np.sqrt(np.nanmean(self.squared[horizon], axis=1))
        return np.stack([root, np.nanmean(self.absolute[horizon], axis=1)], axis=1)

    def as_json(self) -> dict[str, Any]:
        return {
            "up_to": {horizon: self.up_to(horizon).tolist() for horizon in self.squared},
            "at_step": {horizon: table.tolist() for horizon, table in self.at_step.items()},
        }


def horizons_of(traffic: Traffic, steps_out: int) -> dict[str, int]:
    """Steps of the quarters of the forecast, by their minutes.

    >>> import numpy as np
    >>> horizons_of(Traffic("two", np.array([[1.0], [2.0]]), np.eye(1)), 12)
    {'15': 3, '30': 6, '45': 9, '60': 12}
    """
    quarters = sorted({max(1, steps_out * quarter // 4) for quarter in (1, 2, 3, 4)})
    return {str(steps * traffic.step_minutes): steps for steps in quarters}


def scores_of(
    forecasts: Sequence[np.ndarray],
    traffic: Traffic,
    split: TimeSplit,
    starts: np.ndarray,
    steps_in: int,
    horizons: dict[str, int],
) -> Scores:
    """Errors of forecasts [windows, steps, sensors], one for each seed; what was not measured is left out."""
    squared, absolute, at_step = {}, {}, {}
    for minutes, steps in horizons.items():
        whole = starts[starts + steps_in + steps < split.test.stop]
        target = traffic.series[whole[:, None] + steps_in + np.arange(steps)].astype(np.float64)
        errors = [forecast[: len(whole), :steps] - target for forecast in forecasts]
        squared[minutes] = np.stack([np.nanmean(e**2, axis=(1, 2)) for e in errors])
        absolute[minutes] = np.stack([np.nanmean(np.abs(e), axis=(1, 2)) for e in errors])
        last = [error[:, -1] for error in errors]
        at_step[minutes] = np.stack(
            [[np.sqrt(np.nanmean(e**2)), np.nanmean(np.abs(e))] for e in last]
        )
    return Scores(squared, absolute, at_step, max(1, BLOCK_MINUTES // traffic.step_minutes))


def interval(scores: Scores) -> dict[str, list[float]]:
    """The middle 95 % of the root mean squared error, by horizon, from a moving-block bootstrap over windows."""
    return {
        minutes: _middle(_drawn(table, _blocks(table.shape[1], scores.block)))
        for minutes, table in scores.squared.items()
    }


def difference(ours: Scores, theirs: Scores) -> dict[str, dict[str, Any]]:
    """Ours less theirs in root mean squared error: the mean, its middle 95 %, and of each seed where both have them.

    Both are drawn with the same blocks.
    """
    found = {}
    for minutes, table in ours.squared.items():
        blocks, other = _blocks(table.shape[1], ours.block), theirs.squared[minutes]
        drawn = _drawn(table, blocks) - _drawn(other, blocks)
        by_seed = ours.up_to(minutes)[:, 0] - theirs.up_to(minutes)[:, 0]
        found[minutes] = {
            "mean": float(by_seed.mean()),
            "interval": _middle(drawn),
            "by_seed": by_seed.tolist(),
        }
    return found


def _blocks(windows: int, block: int) -> np.ndarray:
    """Windows drawn in blocks that wrap around, [DRAWS, windows]; the same for the same sizes."""
    random = np.random.default_rng(0)
    firsts = random.integers(windows, size=(DRAWS, -(-windows // block)))
    drawn = (firsts[:, :, None] + np.arange(block)) % windows
    return drawn.reshape(DRAWS, -1)[:, :windows]


def _drawn(squared: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """The error of each draw, on average over seeds."""
    return np.mean([np.sqrt(np.nanmean(seed[blocks], axis=1)) for seed in squared], axis=0)


def _middle(drawn: np.ndarray) -> list[float]:
    return [float(edge) for edge in np.quantile(drawn, [0.025, 0.975])]
