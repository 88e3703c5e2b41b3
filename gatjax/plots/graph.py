"""A graph with its attention."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jraph import GraphsTuple
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from gatjax.graph.ids import host_ids
from gatjax.graph.sizes import num_nodes
from gatjax.plots.checks import check_length, check_node, name_of, per_edge
from gatjax.plots.layout import component_places
from gatjax.plots.style import ATTENTION_COLORS, NO_COLOR, PALETTE, new_axes, styled

# Up to this many nodes their ids are written, and to this many edges their attention.
MOST_LABELS = 20
MOST_ALPHAS = 12
# In points: the largest and smallest node, the longest edge, and the height of the numbers on edges.
LARGEST, SMALLEST, LONGEST, SMALL_TEXT = 22.0, 2.5, 85.0, 6
BEND = 0.16

Position = Sequence[float | int] | np.ndarray
Places = Mapping[int, tuple[float, float]]
HALO = [withStroke(linewidth=1.6, foreground="white")]


class _Edges(NamedTuple):
    """Distinct edges and the attention on each; parallel edges are added up."""

    senders: np.ndarray
    receivers: np.ndarray
    alpha: np.ndarray

    def pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.senders.tolist(), self.receivers.tolist(), strict=True))


@styled
def attention_graph(
    graph: GraphsTuple,
    alpha: ArrayLike,
    *,
    center: int | np.integer | None = None,
    hops: int = 1,
    node_labels: Sequence[str] | None = None,
    node_colors: ArrayLike | None = None,
    color_names: Sequence[str] | None = None,
    edge_labels: bool | None = None,
    positions: Mapping[int, Position] | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a graph with its attention: the wider and darker an edge, the more its receiver attends.

    Arrows run sender -> receiver, a self-loop is a loop, heads are averaged and parallel edges added up. Graphs of a
    batch, and what else is not connected, lie side by side.

    Args:
        graph: one graph or a batch.
        alpha: attention [E] or [E, H].
        center: draw only what `hops` layers read to compute this node: the nodes at most `hops` edges
            upstream of it, and the edges on the way. None: the whole graph.
        hops: how far upstream.
        node_labels: one text per node, in the node where it fits and else below it; the ids by default,
            where at most 20 nodes are drawn.
        node_colors: one integer per node, an index into `PALETTE`, such as a class; -1 is grey.
        color_names: the names of the colours, for a legend.
        edge_labels: whether the attention is written on each edge; by default where at most 12 are drawn.
        positions: x and y of every node that is drawn; by default edges act as springs.
        seed: where the springs start from.
        ax: axes to draw into, whose place in their figure should be settled; a new figure by default.

    Returns:
        The axes.

    Raises:
        ImportError: NetworkX is not installed.
        ValueError: `alpha`, `node_labels` or `node_colors` of another length than the graph's, or
            `center`, `hops` or a colour out of range.

    >>> import matplotlib.pyplot as plt
    >>> from gatjax.graph.build import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> ax = attention_graph(graph, np.array([0.8, 0.2]), node_labels=["Ann", "Bob", "Cat"])
    >>> plt.close(ax.figure)
    """
    edges, total = _mean_attention(graph, alpha), num_nodes(graph)
    check_length("node_labels", node_labels, total)
    colors, named = _node_colors(node_colors, color_names, total)
    shown = list(range(total))
    if center is not None:
        check_node("center", center, total)
        edges, shown = _upstream(edges, center, hops)
    if positions is not None:
        places = _given(shown, positions)
    else:
        places = component_places(shown, edges.pairs(), seed=seed, aspect=1.2)
    labelled = node_labels is not None or len(shown) <= MOST_LABELS
    names = {i: name_of(node_labels, i) for i in shown if labelled or i == center}
    ax = new_axes(ax, 2.5)
    scale = ScalarMappable(Normalize(0, edges.alpha.max(initial=0) or 1), ATTENTION_COLORS)
    ax.set_axis_off()
    ax.figure.colorbar(scale, ax=ax, label="attention α", shrink=0.8, aspect=18, pad=0.02)
    _draw_legend(ax, {color: name for color, name in named.items() if color in colors[shown]})
    loops = bool((edges.senders == edges.receivers).any())
    size = _fit(ax, places, list(names.values()), loops)
    _draw_edges(ax, edges, places, scale, size)
    _draw_nodes(ax, places, colors[shown].tolist(), size, center)
    for i, name in names.items():
        _write_name(ax, name, places[i], str(colors[i]), size, bold=i == center)
    if edge_labels or (edge_labels is None and len(edges.alpha) <= MOST_ALPHAS):
        _write_alphas(ax, edges, places, size)
    return ax


def _mean_attention(graph: GraphsTuple, alpha: ArrayLike) -> _Edges:
    senders, receivers, _, _ = host_ids(graph)
    alpha = per_edge(alpha, len(senders)).mean(axis=1)
    pairs, edge = np.unique(np.stack([senders, receivers]), axis=1, return_inverse=True)
    return _Edges(pairs[0], pairs[1], np.bincount(edge.reshape(-1), alpha, pairs.shape[1]))


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


def _given(shown: list[int], positions: Mapping[int, Position]) -> Places:
    missing = [i for i in shown if i not in positions]
    if missing:
        raise ValueError(f"positions has no place for node {missing[0]}: give one for each")
    rows = np.array([positions[i] for i in shown], float).reshape(-1, 2).tolist()
    return {i: (x, y) for i, (x, y) in zip(shown, rows, strict=True)}


def _fit(ax: Axes, places: Places, names: list[str], loops: bool) -> float:
    """Set the limits so that all of it is inside, and return the diameter of a node, in points.

    No node covers another: a node is at most half as wide as the closest two are apart.
    """
    points = np.reshape(list(places.values()), (-1, 2))
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    room = np.array([box.width, box.height]) * 72 / figure.dpi
    low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2),) * 2
    span, closest = np.maximum(high - low, 1e-9), _closest(points)
    text = max((_width(name) for name in names), default=0.0)
    size, unit = LARGEST, LONGEST
    for _ in range(5):
        below = text > _inner(size)
        margin = np.array([max(size / 2, text / 2 if below else 0), size / 2 + 9 * below]) + 3
        margin = margin + size * loops
        unit = min(float(((room - 2 * margin) / span).min()), LONGEST / max(closest, 1e-9))
        unit = max(unit, 1e-9)
        size = float(np.clip(0.5 * closest * unit, SMALLEST, LARGEST))
    half = room / (2 * unit)
    middle = (low + high) / 2
    ax.set(xlim=middle[0] + half[:1] * [-1, 1], ylim=middle[1] + half[1:] * [-1, 1])
    ax.set_aspect("equal", adjustable="box")
    return size


def _closest(points: np.ndarray) -> float:
    """The smallest distance between two points; 1 for less than two."""
    if len(points) < 2:
        return 1.0
    distances, _ = KDTree(points).query(points, k=2)
    return float(distances[:, 1].min()) or 1.0


def _width(text: str, size: float = 7.0) -> float:
    """In points."""
    return TextPath((0, 0), text, size=size).get_extents().width if text.strip() else 0.0


def _inner(size: float) -> float:
    """How wide a text in a node may be."""
    return 0.9 * size if size > 9 else 0.0


def _write_name(
    ax: Axes, name: str, place: tuple[float, float], color: str, size: float, *, bold: bool
) -> None:
    style: dict[str, Any] = {"fontsize": 7, "fontweight": "bold" if bold else "normal"}
    if _width(name) <= _inner(size):
        ink = "white" if np.dot(to_rgb(color), (0.299, 0.587, 0.114)) < 0.4 else "black"
        ax.annotate(name, place, ha="center", va="center", color=ink, **style)
    else:
        style |= {"xytext": (0, -size / 2 - 1.5), "textcoords": "offset points"}
        ax.annotate(name, place, ha="center", va="top", path_effects=HALO, **style)


def _draw_edges(
    ax: Axes, edges: _Edges, places: Places, scale: ScalarMappable, size: float
) -> None:
    """Arrows from rim to rim, bent where another runs the other way; the strongest on top."""
    radius = size / 2
    order = np.argsort(edges.alpha, kind="stable")
    edges = _Edges(*(column[order] for column in edges))
    ends = dict.fromkeys(edges.pairs())
    for (sender, receiver), alpha in zip(ends, edges.alpha.tolist(), strict=True):
        style = {
            "arrowstyle": "-|>",
            "color": scale.to_rgba(alpha),
            "linewidth": (0.4 + 2.2 * alpha / scale.norm.vmax) * np.clip(size / 12, 0.4, 1),
            "mutation_scale": float(np.clip(0.5 * size, 3, 9)),
            "shrinkA": radius,
            "shrinkB": radius + 0.5,
            "connectionstyle": f"arc3,rad={BEND if (receiver, sender) in ends else 0}",
        }
        start = end = ax.transData
        if sender == receiver:
            start, end = _rim(ax, free_direction(sender, ends, places), radius)
            style |= {"connectionstyle": "arc3,rad=-2.2", "shrinkA": 0, "shrinkB": 0.5}
        arrow = ax.annotate("", places[receiver], places[sender], end, start, style, zorder=1)
        arrow.set_in_layout(False)


def free_direction(node: int, ends: Iterable[tuple[int, int]], places: Places) -> float:
    """The middle of the widest angle between the edges of a node."""
    others = {i for pair in ends if node in pair for i in pair if i != node}
    angles = np.sort([np.arctan2(*np.subtract(places[i], places[node])[::-1]) for i in others])
    if len(angles) == 0:
        return np.pi / 2
    gaps = np.diff(angles, append=angles[0] + 2 * np.pi)
    return float(angles[gaps.argmax()] + gaps.max() / 2)


def _rim(ax: Axes, angle: float, radius: float) -> list[Transform]:
    """Two points on the rim of a node, on either side of an angle, as offsets from its middle."""
    return [_offset(ax, radius * np.exp(1j * (angle + turn))) for turn in (0.55, -0.55)]


def _offset(ax: Axes, points: complex) -> Transform:
    """From a place in the graph so many points on."""
    inches = points / 72
    return ax.transData + ScaledTranslation(inches.real, inches.imag, ax.figure.dpi_scale_trans)


def _draw_nodes(
    ax: Axes, places: Places, colors: list[str], size: float, center: int | np.integer | None
) -> None:
    rims = ["black" if i == center else "white" for i in places]
    x, y = np.reshape(list(places.values()), (-1, 2)).T
    width = min(1.0, size / 12)
    ax.scatter(x, y, s=size**2, c=colors, edgecolors=rims, linewidths=width, zorder=2)


def _write_alphas(ax: Axes, edges: _Edges, places: Places, size: float) -> None:
    """The attention on each edge, where on it there is most room."""
    pairs = edges.pairs()
    unit = float(np.diff(ax.transData.transform([(0, 0), (1, 0)])[:, 0])[0]) * 72 / ax.figure.dpi
    taken = [np.array(place) for place in places.values()]
    style: dict[str, Any] = {
        "fontsize": SMALL_TEXT,
        "ha": "center",
        "va": "center",
        "path_effects": HALO,
    }
    for (sender, receiver), alpha in zip(pairs, edges.alpha.tolist(), strict=True):
        text = f"{alpha:.2f}"
        if sender == receiver:
            away = np.exp(1j * free_direction(sender, pairs, places)) * (1.25 * size + 5)
            x, y = places[sender]
            ax.text(x, y, text, transform=_offset(ax, away), zorder=4, **style)
            continue
        bend = BEND if (receiver, sender) in pairs else 0.0
        start, end = np.array(places[sender]), np.array(places[receiver])
        dx, dy = end - start
        bow = start / 2 + end / 2 + bend * np.array([dy, -dx])
        spots = [
            (1 - t) ** 2 * start + 2 * t * (1 - t) * bow + t**2 * end
            for t in (0.5, 0.4, 0.6, 0.33, 0.67)
        ]
        free = [
            min(unit * float(np.linalg.norm(spot - other)) for other in taken) for spot in spots
        ]
        best = next((i for i, room in enumerate(free) if room > 16), int(np.argmax(free)))
        taken.append(spots[best])
        x, y = spots[best]
        ax.text(x, y, text, zorder=4, **style)


def _draw_legend(ax: Axes, named: Mapping[str, str]) -> None:
    """The names of the colours that occur, below the graph."""
    dots = [Line2D([], [], marker="o", ls="", color=c, label=name) for c, name in named.items()]
    if dots:
        columns = max(1, min(len(dots), int(48 / max(len(name) + 4 for name in named.values()))))
        ax.legend(
            handles=dots,
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=columns,
            columnspacing=1,
            handletextpad=0.2,
        )
