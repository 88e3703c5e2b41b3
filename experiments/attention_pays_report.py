"""What `attention_pays.py` found, as tables and a picture."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from report import markdown_table, mean_and_sd

from gatjax import plots

# Where the oracle gains less than this over uniform weights, there is nothing to gain.
ROOM = 0.02
# From this AUROC of its best head on, attention tells inner from outer edges.
TOLD = 0.9
# A share of entropy below this is none that single precision tells.
LEAST = 1e-6


def crossing(means: Sequence[float], values: np.ndarray, level: float) -> float | None:
    """The first μ at which values that are known at some μ reach a level, on straight lines between these.

    >>> crossing([1.0, 2.0, 3.0], np.array([0.0, 0.0, 1.0]), 0.5), crossing([1.0], np.zeros(1), 0.5)
    (2.5, None)
    """
    above = values >= level
    if not above.any():
        return None
    last = int(above.argmax())
    if last == 0:
        return float(means[0])
    pair = slice(last - 1, last + 1)
    return float(np.interp(level, values[pair], means[pair]))


def half_gain(result: dict[str, Any], model: str) -> list[float | None]:
    """For each homophily the first μ at which attention gains half of what the oracle gains over uniform weights."""
    found = {row["model"]: np.mean(row["accuracy"], -1) for row in result["made"]}
    gain, most = found[model] - found["uniform"], found["oracle"] - found["uniform"]
    share = np.where(most > ROOM, gain / np.maximum(most, ROOM), 0)
    return [crossing(result["config"]["means"], column, 0.5) for column in share.T]


def told_apart(result: dict[str, Any], model: str) -> list[float | None]:
    """For each homophily the first μ at which the best head tells inner from outer edges."""
    (row,) = (row for row in result["made"] if row["model"] == model)
    return [
        crossing(result["config"]["means"], column, TOLD) for column in np.mean(row["auroc"], -1).T
    ]


def _attending(result: dict[str, Any]) -> list[str]:
    """Whose attention was compared with the classes of the edges' ends."""
    return [row["model"] for row in result["made"] if "auroc" in row]


def tables(result: dict[str, Any]) -> str:
    """Accuracy by mean, at each homophily; where attention begins to pay; and real graphs."""
    config = result["config"]
    places, blocks = list(enumerate(config["homophily"])), []
    means = [f"μ = {mean:g}" for mean in config["means"]]
    rows = [
        [f"{h:g}", row["model"], *(f"{100 * np.mean(each[place]):.1f}" for each in row["accuracy"])]
        for place, h in places
        for row in result["made"]
    ]
    blocks.append(markdown_table(["homophily", "test (%)", *means], rows))
    rows = [
        [f"{h:g}", row["model"], *(f"{np.mean(each[place]):.2f}" for each in row["auroc"])]
        for place, h in places
        for row in result["made"]
        if "auroc" in row
    ]
    blocks.append(markdown_table(["homophily", "edges told apart (AUROC)", *means], rows))
    text = lambda mean: "nowhere" if mean is None else f"{mean:.2f}"
    columns = [
        (f"{model}: {what}", list(map(text, of(result, model))))
        for what, of in (("half of the oracle's gain", half_gain), ("edges told apart", told_apart))
        for model in _attending(result)
    ]
    rows = [[f"{h:g}", *(column[place] for _, column in columns)] for place, h in places]
    blocks.append(markdown_table(["homophily", *(f"μ for {name}" for name, _ in columns)], rows))
    blocks.append(f"√log n = {threshold(result):.2f}.")
    if result["real"]:
        rows = [
            [
                row["dataset"],
                f"{row['homophily']:.2f}",
                row["model"],
                mean_and_sd(row["accuracy"]),
                f"{np.mean(row['entropy_ratio']):.4f}",
            ]
            for row in result["real"]
        ]
        header = ["data", "homophily", "model", "test (%)", "entropy / uniform"]
        blocks.append(markdown_table(header, rows))
    return "\n\n".join(blocks)


def plot(result: dict[str, Any]) -> Any:
    """Accuracy and edges told apart over μ, beside the theorem's √log n; the gain over all cells; and real graphs."""
    with plt.rc_context(dict(plots.STYLE)):
        figure, axes = plt.subplots(2, 2, figsize=(plots.PAGE, 4.8))
        _accuracy(result, axes[0, 0])
        _told_apart(result, axes[0, 1])
        _gain(result, axes[1, 0])
        _real(result, axes[1, 1])
        for ax in axes[0]:
            ax.axvline(threshold(result), color="0.4", ls=":", lw=0.9, label="√log n")
            ax.legend()
        figure.align_labels()
    return axes[0, 0]


def threshold(result: dict[str, Any]) -> float:
    """√log n: well above it, says the theorem, attention tells inner from outer edges."""
    return float(np.sqrt(np.log(result["config"]["nodes"])))


def _accuracy(result: dict[str, Any], ax: Axes) -> None:
    config = result["config"]
    middle = int(np.argmin(np.abs(np.array(config["homophily"]) - 0.5)))
    each = {row["model"]: 100 * np.array(row["accuracy"])[:, middle] for row in result["made"]}
    plots.seed_lines(
        config["means"], each, xlabel="distance of the means μ", ylabel="test (%)", ax=ax
    )
    ax.set_title(f"accuracy, homophily {config['homophily'][middle]:g}")


def _told_apart(result: dict[str, Any], ax: Axes) -> None:
    """The mean over seeds, of every homophily; and where the level is crossed."""
    config, rows = result["config"], [row for row in result["made"] if "auroc" in row]
    each = {row["model"]: np.mean(row["auroc"], -1) for row in rows}
    plots.seed_lines(
        config["means"], each, xlabel="distance of the means μ", ylabel="AUROC, best head", ax=ax
    )
    for color, model in zip(plots.LINES, each, strict=False):
        places = [mean for mean in told_apart(result, model) if mean is not None]
        ax.plot(places, [TOLD] * len(places), "|", color=color, ms=9, mew=1.2)
    ax.axhline(TOLD, color="0.6", lw=0.6)
    ax.set_title("inner edges told apart, every homophily")


def _gain(result: dict[str, Any], ax: Axes) -> None:
    config = result["config"]
    means, homophily = config["means"], config["homophily"]
    found = {row["model"]: np.mean(row["accuracy"], -1) for row in result["made"]}
    gain = 100 * (found["GATv2"] - found["uniform"])
    most = np.abs(gain).max()
    image = ax.pcolormesh(gain.T, cmap="PuOr_r", vmin=-most, vmax=most)
    ax.figure.colorbar(image, ax=ax)
    place = lambda mean: np.interp(mean, means, np.arange(len(means)) + 0.5)
    for model, marker in zip(_attending(result), plots.MARKERS, strict=False):
        points = [
            (place(mean), row + 0.5)
            for row, mean in enumerate(half_gain(result, model))
            if mean is not None
        ]
        label = f"{model}: half of what there is to gain"
        ax.plot(*np.array(points).reshape(-1, 2).T, f"{marker}-", color="0.1", ms=3, label=label)
    ax.axvline(place(threshold(result)), color="0.4", ls=":", lw=0.9)
    ax.set_xticks(np.arange(len(means)) + 0.5, [f"{mean:g}" for mean in means])
    ax.set_yticks(np.arange(len(homophily)) + 0.5, [f"{h:g}" for h in homophily])
    ax.set(xlabel="distance of the means μ", ylabel="homophily h")
    ax.set_title("gain of GATv2 over uniform weights (points)")
    ax.legend(fontsize=5.5)


def _real(result: dict[str, Any], ax: Axes) -> None:
    uniform = {
        row["dataset"]: np.mean(row["accuracy"])
        for row in result["real"]
        if row["model"] == "uniform"
    }
    attending = [row["model"] for row in result["real"] if row["model"] != "uniform"]
    attending = list(dict.fromkeys(attending))
    for color, name in zip(plots.LINES, uniform, strict=False):
        for row in result["real"]:
            if row["dataset"] == name and row["model"] in attending:
                gain = 100 * (np.mean(row["accuracy"]) - uniform[name])
                marker = plots.MARKERS[attending.index(row["model"])]
                apart = max(1 - np.mean(row["entropy_ratio"]), LEAST)
                ax.plot(apart, gain, marker, color=color)
        ax.plot([], [], "s", color=color, label=name.replace("_filtered", ""))
    for marker, model in zip(plots.MARKERS, attending, strict=False):
        ax.plot([], [], marker, color="0.5", label=model)
    ax.axhline(0, color="0.6", lw=0.6)
    ax.set(xlabel="1 - entropy / uniform", ylabel="gain over uniform (points)", xscale="log")
    ax.set_title("real graphs")
    ax.legend(fontsize=5.5)
