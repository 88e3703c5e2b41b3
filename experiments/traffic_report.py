"""What a run of `traffic.py` says, in tables and pictures."""

from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from report import count, markdown_table

from gatjax import build_graph, plots

matplotlib.use("Agg")

# In minutes.
DAY = 24 * 60
PUBLISHED_AT = "15", "30", "45", "60"


def table(result: dict[str, Any]) -> str:
    """RMSE / MAE up to each horizon, the published ones below."""
    horizons = list(result["horizons"])
    cell = lambda values: " / ".join(f"{value:.2f}" for value in np.mean(values, axis=0))
    spread = lambda values: f" ± {np.std(values, axis=0, ddof=1)[0]:.2f}" if len(values) > 1 else ""
    rows = [
        [name, *(cell(row["up_to"][h]) + spread(row["up_to"][h]) for h in horizons)]
        for name, row in result["rows"].items()
        if "up_to" in row
    ]
    rows += [
        [name, *(cell([pairs[h]]) if h in pairs else "-" for h in horizons)]
        for name, published in result["published"].items()
        for pairs in [dict(zip(PUBLISHED_AT, published, strict=True))]
    ]
    seeds = count(result["config"]["seeds"], "seed")
    return markdown_table([f"RMSE / MAE, {seeds}", *(f"{h} min" for h in horizons)], rows)


def step_table(result: dict[str, Any]) -> str:
    """The same at each step alone, as DCRNN has it, of the networks."""
    horizons = list(result["horizons"])
    cell = lambda values: " / ".join(f"{value:.2f}" for value in np.mean(values, axis=0))
    rows = [
        [name, *(cell(result["rows"][name]["at_step"][h]) for h in horizons)]
        for name in result["config"]["models"]
        if "at_step" in result["rows"][name]
    ]
    return markdown_table(["RMSE / MAE at the step", *(f"{h} min" for h in horizons)], rows)


def differences_table(result: dict[str, Any]) -> str:
    """What the last network gains, with the middle 95 % of a block bootstrap over the test."""
    horizons = list(result["horizons"])
    cell = lambda found: "{:+.2f} [{:+.2f}, {:+.2f}]".format(found["mean"], *found["interval"])
    rows = [
        [name, *(cell(found[h]) for h in horizons)] for name, found in result["differences"].items()
    ]
    return markdown_table(["difference in RMSE", *(f"{h} min" for h in horizons)], rows)


def plot_errors(result: dict[str, Any]) -> Any:
    """Error at the step against the horizon, the networks and the forecasts that come near them."""
    minutes = [int(horizon) for horizon in result["horizons"]]
    shown = [*result["config"]["models"], "linear + time of day", "last value"]
    lines = {
        name: [np.array(result["rows"][name]["at_step"][str(m)])[:, 0] for m in minutes]
        for name in shown
        if "at_step" in result["rows"].get(name, {})
    }
    widest = max(len(seeds) for line in lines.values() for seeds in line)
    full = lambda seeds: (
        np.resize(seeds, widest)
        if len(seeds) == 1
        else np.pad(seeds, (0, widest - len(seeds)), constant_values=np.nan)
    )
    groups = {name: [full(seeds) for seeds in line] for name, line in lines.items()}
    return plots.seed_lines(minutes, groups, xlabel="minutes ahead", ylabel="RMSE at that step")


def plot_day(result: dict[str, Any]) -> Any:
    """A day of one sensor, beside what was forecast for it a quarter and a whole horizon before."""
    day = result["day"]
    number = lambda line: [np.nan if value is None else value for value in line]
    return plots.forecast_lines(
        np.array(day["minutes"]) - day["minutes"][0] // DAY * DAY,
        number(day["measured"]),
        {name: number(line) for name, line in day["forecasts"].items()},
        bands=day["bands"],
        least=0.0,
        ylabel=f"speed ({day['unit']})",
    )


def plot_attention(result: dict[str, Any]) -> Any:
    """The neighbours of one sensor, and how much it attends to each, in the morning and at night."""
    rows, models = result["rows"], result["config"]["models"]
    found = next(rows[name]["attention"] for name in reversed(models) if "attention" in rows[name])
    others = len(found["neighbours"])
    center = others if found["own"] is None else found["own"]
    nodes = max(others, center + 1)
    star = build_graph(np.arange(others), np.full(others, center), num_nodes=nodes)
    with plt.rc_context(dict(plots.STYLE)):
        _, axes = plt.subplots(1, len(found["alpha"]), figsize=(plots.PAGE, 2.5), squeeze=False)
        for ax, (when, alpha) in zip(axes[0], found["alpha"].items(), strict=True):
            plots.attention_graph(star, np.array(alpha), center=center, edge_labels=False, ax=ax)
            ax.set_title(when)
    return axes[0, 0]


PICTURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "errors": plot_errors,
    "day": plot_day,
    "attention": plot_attention,
}
