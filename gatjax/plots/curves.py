"""Lines over epochs and sizes, each with its seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from gatjax.plots.style import LINES, MARKERS, PAGE, PALETTE, new_axes, styled
from gatjax.training.loop import History


@styled
def learning_curves(
    histories: Sequence[History],
    *,
    names: Sequence[str] | None = None,
    best_epochs: Sequence[int] | None = None,
    epochs: Sequence[ArrayLike] | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> tuple[Axes, Axes]:
    """Loss and validation accuracy over the epochs: a faint line per seed, and their mean.

    The mean goes as far as the longest of its histories: a seed that has stopped counts with its last value, so that
    the mean neither ends with the first of them nor jumps where one stops.

    Args:
        histories: one per seed, as in `gatjax.training.Trained`.
        names: one per history; histories of one name share a colour and a mean.
        best_epochs: one per history, counted from 1, each marked on the validation curves.
        epochs: of each history the epochs that its entries are of; by default 1, 2, ...
        ax: two axes to draw into, for loss and accuracy; a new figure by default.

    Returns:
        The axes of the loss and of the accuracy.

    Raises:
        ValueError: no history, more names than colours, or another number of names, best epochs, epochs or axes.

    >>> history = History(*np.array([[1.8, 1.5], [1.7, 1.6], [0.2, 0.5]]))
    >>> loss, accuracy = learning_curves([history], best_epochs=[2])
    >>> plt.close(loss.figure)
    """
    names = [""] * len(histories) if names is None else names
    runs = _runs(histories, names, best_epochs, epochs)
    axes = plt.subplots(1, 2, figsize=(PAGE, 2.4))[1] if ax is None else ax
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes: give two, for loss and accuracy")
    loss, accuracy = axes
    for color, (name, members) in zip(LINES, runs.items(), strict=False):
        prefix = f"{name}, " if name else ""
        columns = {field: [run[field] for run in members] for field in members[0]}
        x, best = columns["epochs"], columns["best"]
        _curves(loss, x, columns["train_loss"], f"{prefix}training", color=color, dashed=True)
        label = f"{prefix}validation"
        _curves(loss, x, columns["validation_loss"], label, best, color=color)
        percent = [100 * each for each in columns["validation_accuracy"]]
        _curves(accuracy, x, percent, label, best, color=color)
    loss.set(xlabel="epoch", ylabel="loss")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    for panel in (loss, accuracy):
        if best_epochs is not None:
            panel.plot([], [], "o", markersize=3.5, color="0.4", label="kept epoch")
        panel.legend()
    return loss, accuracy


def _curves(
    ax: Axes,
    epochs: list[np.ndarray],
    runs: list[np.ndarray],
    label: str,
    best: Sequence[int | None] = (),
    *,
    color: str,
    dashed: bool = False,
) -> None:
    """A faint line per run, the mean of all, and the best epochs."""
    line: dict[str, Any] = {"color": color, "linestyle": ":" if dashed else "-"}
    for x, run in zip(epochs, runs, strict=True):
        ax.plot(x, run, alpha=0.25, linewidth=0.5, **line)
    grid = np.unique(np.concatenate(epochs))
    # A seed that diverged counts with its last number.
    sound = [np.isfinite(run) for run in runs]
    known = [(x[ok], run[ok]) for x, run, ok in zip(epochs, runs, sound, strict=True) if ok.any()]
    mean = np.mean([np.interp(grid, *each) for each in known] or [grid * np.nan], axis=0)
    ax.plot(grid, mean, linewidth=1.4, label=label, **line)
    for x, run, epoch in zip(epochs, runs, best, strict=False):
        if epoch:
            style: dict[str, Any] = {"mec": "white", "mew": 0.4, "zorder": 3}
            ax.plot(epoch, np.interp(epoch, x, run), "o", ms=3.5, color=color, **style)


def _runs(
    histories: Sequence[History],
    names: Sequence[str],
    best_epochs: Sequence[int] | None,
    epochs: Sequence[ArrayLike] | None,
) -> dict[str, list[dict[str, Any]]]:
    """The curves of every history with its epochs and the best one, by name, in the order of first appearance."""
    if not histories:
        raise ValueError("histories is empty: give at least one")
    best = [None] * len(histories) if best_epochs is None else best_epochs
    if epochs is None:
        epochs = [np.arange(1, len(history.train_loss) + 1) for history in histories]
    for field, items in {"names": names, "best_epochs": best, "epochs": epochs}.items():
        if len(items) != len(histories):
            raise ValueError(f"{field} has {len(items)} entries for {len(histories)} histories")
    runs: dict[str, list[dict[str, Any]]] = {}
    for history, epoch, name, x in zip(histories, best, names, epochs, strict=True):
        x = np.asarray(x)
        if len(x) != len(history.train_loss):
            raise ValueError(f"epochs has {len(x)} for a history of {len(history.train_loss)}")
        last = int(x[-1]) if len(x) else 0
        if epoch is not None and not 1 <= epoch <= last:
            raise ValueError(f"best epoch {epoch} must lie between 1 and the last, {last}")
        columns = {key: np.asarray(column) for key, column in history._asdict().items()}
        runs.setdefault(name, []).append({"epochs": x, "best": epoch} | columns)
    if len(runs) > len(PALETTE):
        raise ValueError(f"{len(runs)} different names: at most {len(PALETTE)} can be told apart")
    return runs


@styled
def seed_lines(
    x: ArrayLike,
    groups: Mapping[str, ArrayLike],
    *,
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A line per group over x: the mean of its seeds, and a band from the lowest to the highest.

    Args:
        x: X places.
        groups: by name, [X] or [X, seeds]; NaN where there is none. Each has a colour and a marker of its own.
        xlabel: below the axes.
        ylabel: beside them.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: no group, more than colours, or one of another length than x.

    >>> ax = seed_lines([8, 16], {"sum": [[90, 92], [50, 61]], "attention": [[91, 93], [90, 92]]})
    >>> plt.close(ax.figure)
    """
    x = np.asarray(x)
    tables = _tables(groups, len(x))
    ax = new_axes(ax, 2.3)
    for color, marker, (name, table) in zip(LINES, MARKERS, tables.items(), strict=False):
        known = np.isfinite(table)
        there = known.any(axis=1)
        sums = np.where(known, table, 0).sum(axis=1)
        mean = sums[there] / known[there].sum(axis=1)
        ax.plot(x[there], mean, color=color, marker=marker, label=name)
        if table.shape[1] > 1:
            low = np.where(known, table, np.inf).min(axis=1)[there]
            high = np.where(known, table, -np.inf).max(axis=1)[there]
            ax.fill_between(x[there], low, high, color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


@styled
def seed_strips(
    groups: Mapping[str, ArrayLike], *, xlabel: str = "", ax: Axes | None = None
) -> Axes:
    """A row per group: a point for each seed, and the mean with its standard deviation.

    Args:
        groups: by name, one number per seed; NaN where a seed has none.
        xlabel: what the numbers are.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: no group.

    >>> ax = seed_strips({"GAT": [72.1, 73.0, 72.4], "MLP": [56.0, 57.1, 55.9]}, xlabel="accuracy (%)")
    >>> plt.close(ax.figure)
    """
    tables = {name: np.ravel(np.asarray(values, float)) for name, values in groups.items()}
    if not tables:
        raise ValueError("groups is empty: give at least one")
    ax = new_axes(ax, 0.55 + 0.21 * len(tables))
    for row, values in enumerate(tables.values()):
        values = np.sort(values[np.isfinite(values)])
        if len(values) == 0:
            continue
        # Neighbours in value stand apart, the same way every time.
        shift = 0.13 * ((np.arange(len(values)) % 3) - 1)
        ax.plot(values, row + shift, "o", ms=2.6, mew=0, alpha=0.55, color=LINES[0])
        spread = values.std(ddof=1) if len(values) > 1 else 0
        ax.errorbar(values.mean(), row, xerr=spread, fmt="|", ms=9, mew=1.4, lw=1.2, color="black")
    ax.set_yticks(range(len(tables)), list(tables))
    ax.set_ylim(len(tables) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", linewidth=0.3, color="0.85")
    ax.set_axisbelow(True)
    return ax


def _tables(groups: Mapping[str, ArrayLike], length: int) -> dict[str, np.ndarray]:
    if not groups:
        raise ValueError("groups is empty: give at least one")
    if len(groups) > len(LINES):
        raise ValueError(f"{len(groups)} groups: at most {len(LINES)} can be told apart")
    tables = {}
    for name, values in groups.items():
        table = np.asarray(values, float)
        if len(table) != length or table.ndim not in (1, 2):
            raise ValueError(f"groups[{name!r}] has shape {table.shape} for {length} places x")
        tables[name] = table.reshape(length, -1)
    return tables
