"""Tables as pictures: dense attention, and which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from gatjax.plots.checks import name_of
from gatjax.plots.style import ATTENTION_COLORS, PALETTE, new_axes, styled

# Up to this many classes the counts are written.
MOST_LABELS = 20


@styled
def attention_matrix(
    alpha: ArrayLike,
    *,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
    mark_largest: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Dense attention: a row per query or receiver, a column per key or sender, and the weight in each cell.

    Args:
        alpha: [V, U], of one head, such as `AttentionLayer.attention` gives for each.
        row_names: one per row; the ids by default.
        column_names: one per column; the ids by default.
        mark_largest: put a dot where a row attends most, in place of the numbers.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: `alpha` is not [V, U], or another number of names.

    >>> import matplotlib.pyplot as plt
    >>> ax = attention_matrix([[0.9, 0.1], [0.4, 0.6]], row_names=["cat", "dog"])
    >>> plt.close(ax.figure)
    """
    table = np.asarray(alpha, np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"alpha has shape {table.shape}: give the weights [V, U] of one head")
    names = []
    for field, given, total in (
        ("row_names", row_names, table.shape[0]),
        ("column_names", column_names, table.shape[1]),
    ):
        if given is not None and len(given) != total:
            raise ValueError(f"{field} has {len(given)} entries for {total}: give one for each")
        names.append([name_of(given, i) for i in range(total)])
    ax = new_axes(ax, 2.7)
    image = ax.imshow(table, cmap=ATTENTION_COLORS, vmin=0, vmax=1)
    if mark_largest:
        ax.plot(table.argmax(axis=1), range(len(table)), "o", color=PALETTE[1], ms=3.5)
    elif max(table.shape) <= MOST_LABELS // 2:
        _write(ax, table, [f"{weight:.2f}" for weight in table.flat])
    _name_axes(ax, *names)
    ax.figure.colorbar(image, ax=ax, label="attention α", aspect=18, pad=0.02)
    return ax


def _write(ax: Axes, shares: np.ndarray, texts: Sequence[str]) -> None:
    for ((i, j), share), text in zip(np.ndenumerate(shares), texts, strict=True):
        color = "white" if share > 0.4 else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize="small", color=color)


def _name_axes(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(columns)), columns, **(turned if max(map(len, columns)) > 2 else {}))
    ax.set_yticks(range(len(rows)), rows)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


@styled
def confusion_matrix(
    counts: ArrayLike, *, class_names: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Which classes a model takes for which: a row per true class, a column per predicted class.

    A cell shows its count, and its colour the share of its row, so that a rare class is seen as well as a
    frequent one. A class that never occurs is a pale row.

    Args:
        counts: [K, K] integers, `counts[i, j]` the number of nodes of class i that are predicted as j.
        class_names: one per class; the ids by default.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: `counts` is not a square matrix of non-negative integers, or another number of names.

    >>> import matplotlib.pyplot as plt
    >>> ax = confusion_matrix([[7, 1], [2, 5]], class_names=["cat", "dog"])
    >>> plt.close(ax.figure)
    """
    table = np.asarray(counts)
    total = len(table) if table.ndim else 0
    if total == 0 or table.shape != (total, total) or table.dtype.kind not in "iu":
        raise ValueError(
            f"counts is {table.dtype} of shape {table.shape}: give integers [K, K], true class by predicted"
        )
    if table.min() < 0:
        raise ValueError(f"counts has {table.min()}: give numbers of nodes, none below 0")
    if class_names is not None and len(class_names) != total:
        raise ValueError(
            f"class_names has {len(class_names)} entries for {total} classes: give one per class"
        )
    names = [name_of(class_names, i) for i in range(total)]
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax = new_axes(ax, 2.7)
    image = ax.imshow(shares, cmap=ATTENTION_COLORS, vmin=0, vmax=1)
    if total <= MOST_LABELS:
        _write(ax, shares, [str(number) for number in table.flat])
    _name_axes(ax, names, names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    return ax
