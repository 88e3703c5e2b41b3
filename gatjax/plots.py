"""Pictures of attention and of training.

The only file that imports Matplotlib, and therefore a long one.

Matplotlib comes with `pip install 'gatjax[experiments]'`; no other file imports it. Every function draws
into the axes that it is given, or into a new figure, and returns the axes. Attention is what a layer's
`attention(graph)` returns: weights [E] or [E, H] aligned with the graph's edges.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jraph import GraphsTuple
from numpy.typing import ArrayLike

from gatjax.graph.check import host_ids
from gatjax.graph.sizes import num_nodes
from gatjax.training.loop import History

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.transforms import ScaledTranslation, Transform
except ImportError:
    raise ImportError("gatjax.plots needs matplotlib: pip install 'gatjax[experiments]'") from None

__all__ = ["attention_graph", "attention_heads", "confusion_matrix", "learning_curves", "save"]

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
PALETTE = tuple("#F0E442 #E69F00 #56B4E9 #CC79A7 #009E73 #D55E00 #0072B2".split())
NO_COLOR = "#D0D0D0"
# Pale to dark: strong attention stands out on white, in print too.
ATTENTION_COLORS = LinearSegmentedColormap.from_list("attention", ["#D6DEE8", "#2C7FB8", "#081D58"])

# Up to this many nodes their ids are written, and the distances between all pairs are balanced.
MOST_LABELS = 20
MOST_BALANCED = 200

Position = Sequence[float | int] | np.ndarray
Places = Mapping[int, tuple[float, float]]


class _Edges(NamedTuple):
    """Distinct edges and the attention on each; parallel edges are added up."""

    senders: np.ndarray
    receivers: np.ndarray
    alpha: np.ndarray


def attention_graph(
    graph: GraphsTuple,
    alpha: ArrayLike,
    *,
    center: int | np.integer | None = None,
    hops: int = 1,
    node_labels: Sequence[str] | None = None,
    node_colors: ArrayLike | None = None,
    color_names: Sequence[str] | None = None,
    positions: Mapping[int, Position] | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a graph with its attention: the wider and darker an edge, the more its receiver attends.

    Arrows run sender -> receiver, a self-loop is a loop, heads are averaged and parallel edges added up.

    Args:
        graph: one graph or a batch.
        alpha: attention [E] or [E, H].
        center: draw only what `hops` layers read to compute this node: the nodes at most `hops` edges
            upstream of it, and the edges on the way. None: the whole graph.
        hops: how far upstream.
        node_labels: one text per node; the ids by default, where at most 20 nodes are drawn.
        node_colors: one integer per node, an index into `PALETTE`, such as a class; -1 is grey.
        color_names: the names of the colours, for a legend.
        positions: x and y of every node that is drawn; by default edges act as springs.
        seed: where the springs start from.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ImportError: NetworkX is not installed.
        ValueError: `alpha`, `node_labels` or `node_colors` of another length than the graph's, or
            `center`, `hops` or a colour out of range.

    >>> from gatjax.graph.build import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> ax = attention_graph(graph, np.array([0.8, 0.2]), node_labels=["Ann", "Bob", "Cat"])
    >>> plt.close(ax.figure)
    """
    edges, total = _mean_attention(graph, alpha), num_nodes(graph)
    _check_length("node_labels", node_labels, total)
    colors, named = _node_colors(node_colors, color_names, total)
    shown = list(range(total))
    if center is not None:
        _check_node("center", center, total)
        edges, shown = _upstream(edges, center, hops)
    places = _places(edges, shown, positions, seed)
    ax = _axes(ax, (6.4, 4.8))
    scale = ScalarMappable(Normalize(0, edges.alpha.max(initial=0) or 1), ATTENTION_COLORS)
    size = float(np.clip(11000 / max(len(shown), 1), 60, 1000))
    _draw_edges(ax, edges, places, scale, size)
    _draw_nodes(ax, places, colors[shown].tolist(), size, center)
    for i in shown:
        if node_labels is not None or len(shown) <= MOST_LABELS or i == center:
            style = {"fontsize": 9, "fontweight": "bold" if i == center else "normal"}
            ax.annotate(_name(node_labels, i), places[i], ha="center", va="center", **style)
    _draw_legend(ax, {color: name for color, name in named.items() if color in colors[shown]})
    ax.margins(0.15)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_axis_off()
    ax.figure.colorbar(scale, ax=ax, label="attention α", shrink=0.75)
    return ax


def attention_heads(
    graph: GraphsTuple,
    alpha: ArrayLike,
    receiver: int | np.integer,
    *,
    node_labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How one node divides its attention: a bar for each sender and head, and a line at equal weights.

    Args:
        graph: one graph or a batch.
        alpha: attention [E] or [E, H].
        receiver: the node.
        node_labels: one text per node; the ids by default.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: `alpha` or `node_labels` of another length than the graph's; a receiver without edges.

    >>> from gatjax.graph.build import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> ax = attention_heads(graph, np.array([[0.8, 0.5], [0.2, 0.5]]), receiver=2)
    >>> plt.close(ax.figure)
    """
    senders, receivers, _, _ = host_ids(graph)
    alpha, total = _per_edge(alpha, len(senders)), num_nodes(graph)
    _check_length("node_labels", node_labels, total)
    _check_node("receiver", receiver, total)
    entering = np.flatnonzero(receivers == receiver)
    degree, num_heads = len(entering), alpha.shape[1]
    if degree == 0:
        raise ValueError(f"receiver = {receiver} has no incoming edges: choose one that has")
    ax = _axes(ax, (6.4, 3.4))
    x, width = np.arange(degree), 0.8 / num_heads
    for head, color in enumerate(plt.get_cmap("viridis")(np.linspace(0, 0.9, num_heads))):
        shift = (head - (num_heads - 1) / 2) * width
        ax.bar(x + shift, alpha[entering, head], 0.9 * width, color=color, label=f"head {head}")
    ax.axhline(1 / degree, color="black", ls="--", lw=1, label=f"equal weights, 1/{degree}")
    ax.set_xticks(x, [_name(node_labels, i) for i in senders[entering]])
    ax.set(xlabel="sender", ylabel=f"attention α of {_name(node_labels, receiver)}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return ax


def learning_curves(
    histories: Sequence[History],
    *,
    names: Sequence[str] | None = None,
    best_epochs: Sequence[int] | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> tuple[Axes, Axes]:
    """Loss and validation accuracy over the epochs: a faint line per seed, and their mean.

    The mean goes as far as the shortest of its histories, so that it never jumps where a seed stops.

    Args:
        histories: one per seed, as in `gatjax.training.Trained`.
        names: one per history; histories of one name share a colour and a mean.
        best_epochs: one per history, counted from 1, each marked on the validation curves.
        ax: two axes to draw into, for loss and accuracy; a new figure by default.

    Returns:
        The axes of the loss and of the accuracy.

    Raises:
        ValueError: no history, more names than colours, or another number of names, best epochs or axes.

    >>> history = History(*np.array([[1.8, 1.5], [1.7, 1.6], [0.2, 0.5]]))
    >>> loss, accuracy = learning_curves([history], best_epochs=[2])
    >>> plt.close(loss.figure)
    """
    names = [""] * len(histories) if names is None else names
    groups = _groups(histories, names, best_epochs)
    axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")[1] if ax is None else ax
    if len(axes) != 2:
        raise ValueError(f"ax has {len(axes)} axes: give two, for loss and accuracy")
    loss, accuracy = axes
    for color, (name, members) in zip(PALETTE[::-1], groups.items(), strict=False):
        runs, epochs = zip(*members, strict=True)
        prefix = f"{name}, " if name else ""
        train = [np.asarray(run.train_loss) for run in runs]
        validation = [np.asarray(run.validation_loss) for run in runs]
        percent = [100 * np.asarray(run.validation_accuracy) for run in runs]
        _curves(loss, train, f"{prefix}training", color=color, linestyle=":")
        _curves(loss, validation, f"{prefix}validation", epochs, color=color)
        _curves(accuracy, percent, f"{prefix}validation", epochs, color=color)
    loss.set(xlabel="epoch", ylabel="loss")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    for panel in (loss, accuracy):
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return loss, accuracy


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
    names = [_name(class_names, i) for i in range(total)]
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax = _axes(ax, (5.2, 4.4))
    image = ax.imshow(shares, cmap=ATTENTION_COLORS, vmin=0, vmax=1)
    if total <= MOST_LABELS:
        for (i, j), count in np.ndenumerate(table):
            color = "white" if shares[i, j] > 0.4 else "black"
            ax.text(j, i, str(count), ha="center", va="center", fontsize=9, color=color)
    ax.set_xticks(range(total), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(total), names)
    ax.set(xlabel="predicted class", ylabel="true class")
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label="share of the true class")
    return ax


def save(ax: Axes, path: str | Path, *, title: str | None = None) -> None:
    """Write the figure that `ax` belongs to, as PNG or by the path's suffix, and close it.

    Args:
        ax: any of its axes.
        path: where to; folders are made.
        title: written above the figure.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax belongs to no figure: draw into axes of a figure that is still open")
    if title is not None:
        figure.suptitle(title)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def _curves(
    ax: Axes, runs: list[np.ndarray], label: str, best: Sequence[int | None] = (), **style: Any
) -> None:
    """A faint line per run, the mean of all over the epochs that all have, and the best epochs."""
    for run in runs:
        ax.plot(np.arange(1, len(run) + 1), run, alpha=0.25, linewidth=0.8, **style)
    shortest = min(map(len, runs))
    mean = np.mean([run[:shortest] for run in runs], axis=0)
    ax.plot(np.arange(1, shortest + 1), mean, linewidth=1.8, label=label, **style)
    for run, epoch in zip(runs, best, strict=False):
        if epoch:
            ax.plot(epoch, run[epoch - 1], "o", markersize=4, color=style["color"])


def _groups(
    histories: Sequence[History], names: Sequence[str], best_epochs: Sequence[int] | None
) -> dict[str, list[tuple[History, int | None]]]:
    """Histories and best epochs by name, in the order in which the names first appear."""
    if not histories:
        raise ValueError("histories is empty: give at least one")
    best = [None] * len(histories) if best_epochs is None else best_epochs
    for field, items in {"names": names, "best_epochs": best}.items():
        if len(items) != len(histories):
            raise ValueError(f"{field} has {len(items)} entries for {len(histories)} histories")
    groups: dict[str, list[tuple[History, int | None]]] = {}
    for history, epoch, name in zip(histories, best, names, strict=True):
        last = len(history.train_loss)
        if epoch is not None and not 1 <= epoch <= last:
            raise ValueError(f"best epoch {epoch} must lie between 1 and the last, {last}")
        groups.setdefault(name, []).append((history, epoch))
    if len(groups) > len(PALETTE):
        raise ValueError(f"{len(groups)} different names: at most {len(PALETTE)} can be told apart")
    return groups


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _per_edge(alpha: ArrayLike, num_edges: int) -> np.ndarray:
    """[E, H] from [E] or [E, H]."""
    weights = np.asarray(alpha, np.float64)
    if weights.ndim not in (1, 2) or len(weights) != num_edges:
        raise ValueError(
            f"alpha has shape {weights.shape}, it must be [E] or [E, H] for the E = {num_edges} edges "
            "of the graph: pass the attention of this very graph"
        )
    return weights.reshape(num_edges, -1) if num_edges else np.zeros((0, 1))


def _mean_attention(graph: GraphsTuple, alpha: ArrayLike) -> _Edges:
    senders, receivers, _, _ = host_ids(graph)
    alpha = _per_edge(alpha, len(senders)).mean(axis=1)
    pairs, edge = np.unique(np.stack([senders, receivers]), axis=1, return_inverse=True)
    return _Edges(pairs[0], pairs[1], np.bincount(edge.reshape(-1), alpha, pairs.shape[1]))


def _check_node(name: str, node: int | np.integer, total: int) -> None:
    if not 0 <= node < total:
        raise ValueError(f"{name} = {node} is out of range for {total} nodes")


def _check_length(name: str, items: Sequence[str] | None, total: int) -> None:
    if items is not None and len(items) != total:
        raise ValueError(f"{name} has {len(items)} entries for {total} nodes: give one per node")


def _name(node_labels: Sequence[str] | None, node: int | np.integer) -> str:
    return str(node if node_labels is None else node_labels[int(node)])


def _node_colors(
    node_colors: ArrayLike | None, color_names: Sequence[str] | None, total: int
) -> tuple[np.ndarray, Mapping[Any, str]]:
    """A colour per node, and what each named colour means."""
    chosen = np.full(total, -1) if node_colors is None else np.asarray(node_colors)
    if chosen.shape != (total,) or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"node_colors is {chosen.dtype} of shape {chosen.shape}: give {total} integers, one per node"
        )
    names = [""] * len(PALETTE) if color_names is None else color_names
    known = min(len(PALETTE), len(names))
    wrong = chosen[(chosen < -1) | (chosen >= known)]
    if len(wrong):
        raise ValueError(
            f"node_colors has {wrong[0]}: give -1 (grey) or an index below {known}, for PALETTE has "
            f"{len(PALETTE)} colors and color_names {len(names)} names"
        )
    named = {} if color_names is None else dict(zip(PALETTE, names, strict=False))
    return np.array([*PALETTE, NO_COLOR])[chosen], named


def _upstream(edges: _Edges, center: int | np.integer, hops: int) -> tuple[_Edges, list[int]]:
    """What `hops` rounds of messages bring to the center: the edges, and the nodes that they join."""
    if hops < 1:
        raise ValueError(f"hops = {hops} must be at least 1")
    reached = np.array([center])
    read = np.zeros(len(edges.senders), bool)
    for _ in range(hops):
        read = np.isin(edges.receivers, reached)
        reached = np.union1d(reached, edges.senders[read])
    return _Edges(*(column[read] for column in edges)), reached.tolist()


def _places(
    edges: _Edges, shown: list[int], positions: Mapping[int, Position] | None, seed: int
) -> Places:
    """Where each node lies."""
    if positions is not None:
        missing = [i for i in shown if i not in positions]
        if missing:
            raise ValueError(f"positions has no place for node {missing[0]}: give one for each")
        rows = np.array([positions[i] for i in shown], float).reshape(-1, 2).tolist()
        return {i: (x, y) for i, (x, y) in zip(shown, rows, strict=True)}
    try:
        import networkx as nx
    except ImportError:
        raise ImportError("a layout needs networkx: pip install 'gatjax[experiments]'") from None
    g = nx.Graph()
    g.add_nodes_from(shown)
    g.add_edges_from(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True))
    places = nx.spring_layout(g, seed=seed)
    if 1 < len(g) <= MOST_BALANCED and nx.is_connected(g):
        places = nx.kamada_kawai_layout(g, pos=places)
    return {i: (float(x), float(y)) for i, (x, y) in places.items()}


def _draw_edges(
    ax: Axes, edges: _Edges, places: Places, scale: ScalarMappable, size: float
) -> None:
    """Arrows from rim to rim, bent where another runs the other way; the strongest on top."""
    radius = size**0.5 / 2
    order = np.argsort(edges.alpha, kind="stable")
    edges = _Edges(*(column[order] for column in edges))
    ends = dict.fromkeys(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True))
    for (sender, receiver), alpha in zip(ends, edges.alpha.tolist(), strict=True):
        style = {
            "arrowstyle": "-|>",
            "color": scale.to_rgba(alpha),
            "linewidth": 0.6 + 3.4 * alpha / scale.norm.vmax,
            "mutation_scale": 11,
            "shrinkA": radius,
            "shrinkB": radius + 1,
            "connectionstyle": f"arc3,rad={0.15 if (receiver, sender) in ends else 0}",
        }
        start = end = ax.transData
        if sender == receiver:
            start, end = _rim(ax, _free_direction(sender, ends, places), radius)
            style |= {"connectionstyle": "arc3,rad=-2.6", "shrinkA": 0, "shrinkB": 1}
        arrow = ax.annotate("", places[receiver], places[sender], end, start, style, zorder=1)
        arrow.set_in_layout(False)


def _free_direction(node: int, ends: Iterable[tuple[int, int]], places: Places) -> float:
    """The middle of the widest angle between the edges of a node."""
    others = {i for pair in ends if node in pair for i in pair if i != node}
    angles = np.sort([np.arctan2(*np.subtract(places[i], places[node])[::-1]) for i in others])
    if len(angles) == 0:
        return np.pi / 2
    gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
    return float(angles[gaps.argmax()] + gaps.max() / 2)


def _rim(ax: Axes, angle: float, radius: float) -> list[Transform]:
    """Two points on the rim of a node, on either side of an angle, as offsets from its middle."""
    inches = radius / 72 * np.exp(1j * (angle + np.array([0.55, -0.55])))
    scale = ax.figure.dpi_scale_trans
    return [ax.transData + ScaledTranslation(p.real, p.imag, scale) for p in inches]


def _draw_nodes(
    ax: Axes, places: Places, colors: list[str], size: float, center: int | np.integer | None
) -> None:
    rims = ["black" if i == center else "white" for i in places]
    x, y = np.reshape(list(places.values()), (-1, 2)).T
    ax.scatter(x, y, s=size, c=colors, edgecolors=rims, linewidths=1.5, zorder=2)


def _draw_legend(ax: Axes, named: Mapping[str, str]) -> None:
    """The names of the colours that occur, below the graph."""
    for color, name in named.items():
        ax.scatter([], [], color=color, label=name)
    if named:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
