"""Forecasts of traffic without a network: what every network has to be held against.

Shapes: T steps, N sensors, W windows, I steps to see, O steps to forecast.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gatjax.data import Traffic, daily_profile, window_starts, windows


class Past(NamedTuple):
    """What may be learned from: a series, the steps before the test, and sizes of windows.

    Attributes:
      traffic: the whole series, of which only `part` may be fitted to.
      part: the steps before the test.
      steps_in, steps_out: I and O.
    """

    traffic: Traffic
    part: range
    steps_in: int
    steps_out: int

    @property
    def starts(self) -> np.ndarray:
        """The windows to fit to."""
        return window_starts(self.part, self.steps_in, self.steps_out)

    @property
    def series(self) -> np.ndarray:
        """What is seen: where nothing was measured, what was measured last, or first."""
        return carried_on(self.traffic.series)

    def seen(self, series: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return windows(series, starts, 0, self.steps_in)

    def after(self, series: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The steps to forecast; the last ones again where the series ends."""
        steps = np.asarray(starts)[:, None] + self.steps_in + np.arange(self.steps_out)
        return series[np.minimum(steps, len(series) - 1)]


# [windows, steps, sensors]
Forecast = np.ndarray


def last_value(past: Past, starts: np.ndarray) -> Forecast:
    """All goes on as it is."""
    return np.repeat(past.seen(past.series, starts)[:, -1:], past.steps_out, axis=1)


def moving_mean(past: Past, starts: np.ndarray) -> Forecast:
    """The mean of the last steps, those forecast among them, which T-GCN calls the historical average."""
    steps = past.seen(past.series, starts)
    for _ in range(past.steps_out):
        latest = steps[:, -past.steps_in :].mean(axis=1, keepdims=True)
        steps = np.concatenate([steps, latest], axis=1)
    return steps[:, past.steps_in :]


def time_of_day(past: Past, starts: np.ndarray) -> Forecast:
    """The mean of that time of day."""
    steps = np.asarray(starts)[:, None] + past.steps_in + np.arange(past.steps_out)
    step = (past.traffic.step_of_day[0] + steps) % past.traffic.steps_per_day
    return daily_profile(past.traffic, past.part)[step]


def linear(past: Past, starts: np.ndarray) -> Forecast:
    """Least squares on the sensor's own past; one model for all sensors, one for each step ahead."""
    return _least_squares(past, starts, _own)


def linear_with_neighbours(past: Past, starts: np.ndarray) -> Forecast:
    """The same, and the weighted mean of the neighbours' past."""
    return _least_squares(past, starts, _own, _neighbours)


def linear_with_time(past: Past, starts: np.ndarray) -> Forecast:
    """The same, and the mean of the time of day, now and then."""
    return _least_squares(past, starts, _own, _neighbours, _profile)


def vector_autoregression(
    past: Past, starts: np.ndarray, *, lags: int = 3, ridge: float = 3e5
) -> Forecast:
    """Ridge regression of all sensors on the last steps of all sensors, one for each step ahead."""
    series = past.series.astype(np.float64)
    mean = series[past.part.start : past.part.stop].mean(0)
    centred = series - mean
    inputs = lambda starts: windows(centred, starts, past.steps_in - lags, lags).reshape(
        len(starts), -1
    )
    x, y = inputs(past.starts), past.after(centred, past.starts)
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y.reshape(len(y), -1))
    return mean + (inputs(starts) @ weights).reshape(len(starts), past.steps_out, -1)


BASELINES: dict[str, Callable[[Past, np.ndarray], Forecast]] = {
    "last value": last_value,
    "moving mean": moving_mean,
    "time of day": time_of_day,
    "linear": linear,
    "linear + neighbours": linear_with_neighbours,
    "linear + time of day": linear_with_time,
    "VAR": vector_autoregression,
}


def _own(past: Past, starts: np.ndarray, step: int) -> np.ndarray:
    return np.moveaxis(past.seen(past.series, starts), 1, -1)


def _neighbours(past: Past, starts: np.ndarray, step: int) -> np.ndarray:
    return _own(past._replace(traffic=neighbours_mean(past.traffic)), starts, step)


def _profile(past: Past, starts: np.ndarray, step: int) -> np.ndarray:
    series = time_of_day_series(past.traffic, past.part)
    now = windows(series, starts, past.steps_in - 1, 1)[:, 0]
    then = past.after(series, starts)[:, step]
    return np.stack([now, then], axis=-1)


def neighbours_mean(traffic: Traffic) -> Traffic:
    """The series of the weighted mean of every sensor's neighbours."""
    weight = traffic.adjacency / np.maximum(traffic.adjacency.sum(0), 1e-9)
    return dataclasses.replace(traffic, series=carried_on(traffic.series) @ weight)


def carried_on(series: np.ndarray) -> np.ndarray:
    """A series whose gaps hold what was measured last; those at its beginning what was measured first.

    >>> carried_on(np.array([[np.nan], [1.0], [np.nan], [3.0]])).ravel().tolist()
    [1.0, 1.0, 1.0, 3.0]
    """
    known = ~np.isnan(series)
    steps = np.arange(len(series))[:, None]
    latest = np.maximum.accumulate(np.where(known, steps, -1), axis=0)
    there = np.where(latest < 0, known.argmax(axis=0), latest)
    return np.take_along_axis(series, there, axis=0)


def time_of_day_series(traffic: Traffic, part: range, *, leave_out: bool = True) -> np.ndarray:
    """The profile at every step, `[T, N]`; within the part it is that of the other days.

    A step that is part of its own mean would seem to be known better than it will be.
    """
    profile = daily_profile(traffic, part)
    series = profile[traffic.step_of_day]
    if not leave_out:
        return series
    steps = np.arange(part.start, part.stop)
    own, step = traffic.series[steps], traffic.step_of_day[steps]
    number = np.zeros((traffic.steps_per_day, traffic.num_sensors))
    np.add.at(number, step, ~np.isnan(own))
    others = number[step] - 1
    without = (series[steps] * (others + 1) - own) / np.maximum(others, 1)
    series[steps] = np.where((others > 0) & ~np.isnan(own), without, series[steps])
    return series


def _least_squares(past: Past, starts: np.ndarray, *features: Callable) -> Forecast:
    """One regression for all sensors for each step ahead, of features [W, N, K] and 1."""
    forecast = np.empty((len(starts), past.steps_out, past.traffic.num_sensors))
    target = past.after(past.traffic.series, past.starts)

    def inputs(starts: np.ndarray, step: int) -> np.ndarray:
        columns = [feature(past, starts, step) for feature in features]
        ones = np.ones((*columns[0].shape[:2], 1))
        return np.concatenate([*columns, ones], axis=-1).astype(np.float64)

    for step in range(past.steps_out):
        y = target[:, step].reshape(-1)
        x = inputs(past.starts, step).reshape(len(y), -1)[~np.isnan(y)]
        moments = x.T @ y[~np.isnan(y)]
        weights = np.linalg.lstsq(x.T @ x, moments)[0]
        forecast[:, step] = inputs(starts, step) @ weights
    return forecast
