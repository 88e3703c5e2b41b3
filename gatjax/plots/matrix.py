"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from gatjax.plots.checks import name_of
from gatjax.plots.style import ATTENTION_COLORS, new_axes, styled

# Up to this many classes the counts are written.
MOST_LABELS = 20


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
        for (i, j), count in np.ndenumerate(table):
            color = "white" if shares[i, j] > 0.4 else "black"
            ax.text(j, i, str(count), ha="center", va="center", fontsize=7, color=color)
    ax.set_xticks(range(total), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(total), names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    return ax
