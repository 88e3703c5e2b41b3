"""Which types of nodes a graph has, and which relations join them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from gatjax.graph.typed import Triple, TypedGraph, count_nodes, require_typed
from gatjax.plots.style import LINES, new_axes, styled

BEND = 0.26


@styled
def typed_schema(graph: TypedGraph, *, counts: bool = True, ax: Axes | None = None) -> Axes:
    """Draw the types of a typed graph, an arrow for each relation, sender -> receiver, and how many there are.

    Args:
        graph: one graph or a batch.
        counts: whether the numbers of nodes and edges are written.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: a graph without types.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph({"author": [[1.0]], "paper": [[1.0]]}, {("author", "writes", "paper"): ([0], [0])})
    >>> sorted(text.get_text() for text in typed_schema(graph).texts)
    ['author\\n1', 'paper\\n1', 'writes, 1']
    """
    require_typed(graph)
    if not graph.types:
        raise ValueError("graph has no types: there is nothing to draw")
    ax = new_axes(ax, 3.0)
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(graph.types)) / len(graph.types)
    places = dict(zip(graph.types, np.stack([np.cos(angles), np.sin(angles)], axis=1), strict=True))
    drawn: dict[tuple[str, str], int] = {}
    for triple in graph.triples:
        pair = triple[0], triple[2]
        drawn[pair] = drawn.get(pair, 0) + 1
        size = f", {len(np.asarray(graph.relations[triple].senders)):,}" if counts else ""
        _relation(ax, triple, f"{triple[1]}{size}", places, drawn[pair])
    for place, name in enumerate(graph.types):
        size = f"\n{count_nodes(graph, name):,}" if counts else ""
        box = {
            "boxstyle": "round,pad=0.4",
            "fc": "white",
            "ec": LINES[place % len(LINES)],
            "lw": 1.2,
        }
        x, y = places[name]
        ax.text(x, y, f"{name}{size}", ha="center", va="center", bbox=box, zorder=3)
    ax.set(xlim=(-1.8, 1.8), ylim=(-1.5, 1.6), aspect="equal")
    ax.axis("off")
    return ax


def _relation(ax: Axes, triple: Triple, text: str, places: dict, count: int) -> None:
    """An arrow, bent so that those of the other direction and of other names stand beside it."""
    start, stop = places[triple[0]], places[triple[2]]
    style = {"arrowstyle": "-|>", "mutation_scale": 8, "lw": 0.8, "color": "#606060", "zorder": 1}
    if triple[0] == triple[2]:
        # Outwards, away from the other types.
        height, side = 0.3 + 0.2 * count, np.array([-start[1], start[0]])
        ends = start - 0.2 * side, start + 0.2 * side
        middle, bend = start * (1 + height), 5 * height
    else:
        across = stop - start
        bend = BEND * count
        ends = start, stop
        # Where a bent arrow is farthest from the straight line.
        middle = (start + stop) / 2 + bend / 2 * np.array([across[1], -across[0]])
    ax.add_patch(
        FancyArrowPatch(
            *map(tuple, ends),
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=8 if triple[0] == triple[2] else 16,
            shrinkB=8 if triple[0] == triple[2] else 16,
            **style,
        )
    )
    box = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.85}
    ax.text(
        middle[0],
        middle[1],
        text,
        ha="center",
        va="center",
        fontsize=6,
        color="#404040",
        bbox=box,
        zorder=2,
    )
