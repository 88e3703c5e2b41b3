"""Where the nodes of a picture lie: each component by itself, and the components side by side."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

# Up to this many nodes the distances between all pairs of a component are balanced.
MOST_BALANCED = 200
# Between the components, where an edge is about 1 long.
GAP = 1.0

Place = tuple[float, float]


def component_places(
    nodes: Sequence[int], pairs: Iterable[tuple[int, int]], *, seed: int, aspect: float
) -> Mapping[int, Place]:
    """Places in which an edge is about 1 long and no component covers another.

    Args:
        nodes: all of them.
        pairs: edges between them, of any direction.
        seed: where the springs start from.
        aspect: width by height of the room that there is.
    """
    try:
        import networkx as nx
    except ImportError:
        raise ImportError("a layout needs networkx: pip install 'gatjax[experiments]'") from None
    whole = nx.Graph()
    whole.add_nodes_from(nodes)
    whole.add_edges_from(pairs)
    whole.remove_edges_from(list(nx.selfloop_edges(whole)))
    parts = sorted((sorted(part) for part in nx.connected_components(whole)), key=_largest_first)
    laid_out = [_balanced(whole.subgraph(part), part, seed) for part in parts]
    corners = _shelves([box.max(axis=0) + GAP for box in laid_out], aspect)
    return {
        node: (float(x), float(y))
        for part, places, corner in zip(parts, laid_out, corners, strict=True)
        for node, (x, y) in zip(part, places + corner, strict=True)
    }


def _largest_first(part: list[int]) -> tuple[int, int]:
    return -len(part), part[0]


def _balanced(graph, nodes: list[int], seed: int) -> np.ndarray:
    """Places [n, 2] of one component, from (0, 0) on, wider than high."""
    import networkx as nx

    if len(nodes) == 1:
        return np.zeros((1, 2))
    places = nx.spring_layout(graph, seed=seed)
    if len(nodes) <= MOST_BALANCED:
        places = nx.kamada_kawai_layout(graph, pos=places)
    found = np.array([places[node] for node in nodes])
    index = {node: i for i, node in enumerate(nodes)}
    ends = np.array([[index[a], index[b]] for a, b in graph.edges])
    lengths = np.linalg.norm(found[ends[:, 0]] - found[ends[:, 1]], axis=1)
    found = found / max(float(np.median(lengths)), 1e-9)
    found = found - found.mean(axis=0)
    _, _, axes = np.linalg.svd(found, full_matrices=False)
    # The signs are those of the layout, so that a rounding error does not turn the picture over.
    axes = axes * np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]
    turned = found @ axes.T
    return turned - turned.min(axis=0)


def _shelves(sizes: Sequence[np.ndarray], aspect: float) -> list[np.ndarray]:
    """The lower left corners of boxes, one shelf above the other, all about as wide as `aspect` asks for."""
    if not sizes:
        return []
    area = sum(float(width * height) for width, height in sizes)
    room = max((aspect * area) ** 0.5, max(float(width) for width, _ in sizes))
    corners, x, y, shelf = [], 0.0, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > room * 1.05:
            x, y, shelf = 0.0, y - shelf, 0.0
        shelf = max(shelf, float(height))
        corners.append(np.array([x, y - float(height)]))
        x += float(width)
    return corners
