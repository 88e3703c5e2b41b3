"""What `importance.py` found, as tables and a picture."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from report import markdown_table, mean_and_sd

from gatjax import plots

# Attributions, in the order of the tables.
METHODS = (
    "deletion",
    "integrated gradients",
    "gradient",
    "learned mask",
    "unrolled attention",
    "mean attention",
    "random",
)
# Deletion that asks how much changes, and not whether the prediction gains or loses.
EITHER_SIGN = "deletion, either sign"
KINDS = ("campaign", "friend")
AT_ONCE = {
    "log-odds": "log-odds",
    "truth": "lost without the truth",
    "others": "lost without as many others",
}


def tables(result: dict[str, Any]) -> str:
    """AUROC against the truth; correlation with deletion; and the campaign that breaks."""
    found = [
        [row["graph"], row["model"], mean_and_sd(row["test_accuracy"])]
        + [mean_and_sd(row["auroc"][method], scale=1, digits=2) for method in METHODS]
        for row in result["truth"]
    ]
    alike = [
        [row["graph"], row["model"]]
        + [
            f"{np.mean(values):.2f}" if (values := _numbers(row["correlation"][method])) else "-"
            for method in METHODS[1:]
        ]
        for row in result["truth"]
    ]
    signed = [
        [
            row["graph"],
            row["model"],
            mean_and_sd(row["auroc"][EITHER_SIGN], scale=1, digits=2),
            *(f"{np.mean(row['at_once'][what]):.2f}" for what in AT_ONCE),
        ]
        for row in result["truth"]
        if "at_once" in row
    ]
    mean = lambda row, measure, kind: f"{np.mean([one[kind] for one in row[measure]]):.2f}"
    campaign = [
        [row["model"], mean_and_sd(row["intact"]), mean_and_sd(row["broken"])]
        + [mean(row, what, kind) for what in ("attention", "deletion") for kind in KINDS]
        for row in result["campaign"]
    ]
    blocks = [
        "AUROC against the planted truth, mean ± sd over seeds:",
        markdown_table(["graph", "model", "test (%)", *METHODS], found),
        "Rank correlation with deletion:",
        markdown_table(["graph", "model", *METHODS[1:]], alike),
    ]
    if signed:
        header = ["graph", "model", "AUROC", *AT_ONCE.values()]
        blocks += [
            "Deletion that counts a gain as a loss; and what the log-odds lose without many edges at once:",
            markdown_table(header, signed),
        ]
    if campaign:
        header = [f"{what} {kind}" for what in ("attention to", "loss without") for kind in KINDS]
        blocks += [
            "A campaign that agrees with the label in training, and where it does no more:",
            markdown_table(["model", "intact (%)", "broken (%)", *header], campaign),
        ]
    return "\n\n".join(blocks)


def _numbers(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def plot(result: dict[str, Any]) -> Any:
    """AUROC of each attribution, a panel a graph, a colour a model."""
    with plt.rc_context(dict(plots.STYLE)):
        return _plot(result)


def _plot(result: dict[str, Any]) -> Any:
    names = list(dict.fromkeys(row["graph"] for row in result["truth"]))
    figure, axes = plt.subplots(
        1, len(names), figsize=(plots.PAGE, 2.6), sharey=True, squeeze=False
    )
    places = np.arange(len(METHODS))[::-1]
    for ax, name in zip(axes[0], names, strict=True):
        rows = [row for row in result["truth"] if row["graph"] == name]
        for index, row in enumerate(rows):
            values = [_numbers(row["auroc"][method]) for method in METHODS]
            shift = 0.18 * (1.5 - index)
            style = {"color": plots.LINES[index], "marker": plots.MARKERS[index]}
            means = [np.mean(each) for each in values]
            spread = np.array(
                [[m - min(v), max(v) - m] for m, v in zip(means, values, strict=True)]
            )
            ax.errorbar(
                means, places + shift, xerr=spread.T, ls="", lw=0.7, label=row["model"], **style
            )
        ax.axvline(0.5, color="0.6", lw=0.6, ls=":")
        ax.set(title=name.replace("_", " "), xlabel="AUROC against the truth", xlim=(0, 1.02))
    axes[0][0].set_yticks(places, METHODS)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return axes[0][0]
