"""A forecast beside what came."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import ArrayLike

from gatjax.plots.checks import check_length
from gatjax.plots.style import LINES, new_axes, styled

HOUR = 60
DAY = 24


@styled
def forecast_lines(
    minutes: ArrayLike,
    measured: ArrayLike,
    forecasts: Mapping[str, ArrayLike],
    *,
    bands: Mapping[str, ArrayLike] | None = None,
    least: float = -np.inf,
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """What was measured over time, and what had been forecast for it, each with a band where it has one.

    Args:
        minutes: of every place in time, [X].
        measured: [X]; NaN where nothing was.
        forecasts: by name, such as "15 min ahead", [X] or shorter.
        bands: by the same names, how far below and above the forecast its band reaches, the first 0 or less.
        least: what nothing can be below, such as a speed of 0; bands end there.
        ylabel: what is measured, with its unit.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes, in hours of the day.

    Raises:
        ValueError: a forecast that is longer than time, or a band without a forecast.

    >>> import matplotlib.pyplot as plt
    >>> ax = forecast_lines([0, 60], [5, 6], {"ahead": [5, 5]}, bands={"ahead": [-1, 1]})
    >>> plt.close(ax.figure)
    """
    hours = np.asarray(minutes) / HOUR
    check_length("measured", np.asarray(measured).tolist(), len(hours))
    bands = bands or {}
    if unknown := bands.keys() - forecasts.keys():
        raise ValueError(f"bands: there is no forecast {min(unknown)!r}")
    ax = new_axes(ax, 2.1)
    ax.plot(hours, measured, color="0.35", lw=0.9, label="measured")
    for color, (name, values) in zip(LINES, forecasts.items(), strict=False):
        line = np.asarray(values, float)
        if len(line) > len(hours):
            raise ValueError(f"forecasts[{name!r}] has {len(line)} places, time has {len(hours)}")
        at = hours[: len(line)]
        ax.plot(at, line, color=color, lw=0.9, label=name)
        if name in bands:
            low, high = np.asarray(bands[name], float)
            below, above = (np.maximum(line + reach, least) for reach in (low, high))
            ax.fill_between(at, below, above, color=color, alpha=0.2, linewidth=0)
    ax.xaxis.set_major_locator(MultipleLocator(_hours_between(np.ptp(hours))))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{hour % DAY:g}"))
    ax.set(xlabel="hour", ylabel=ylabel)
    ax.legend()
    return ax


def _hours_between(span: float, most: int = 8) -> int:
    """Hours from tick to tick: a part of a day, or whole days."""
    parts = [hours for hours in (1, 2, 3, 6, 12) if span <= most * hours]
    return parts[0] if parts else DAY * int(np.ceil(span / most / DAY))
