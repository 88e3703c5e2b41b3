"""Complete graphs in slots of one size, so that the edges of a batch follow a rule that `jax.jit` knows.

Shapes: n nodes of a slot, G slots; N = G·n nodes and E = G·n² edges of a batch.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int
from jraph import GraphsTuple

from gatjax.graph.build import check_complete
from gatjax.graph.ids import Ids, first_true, host_ids
from gatjax.graph.messages import check_at_least
from gatjax.ops.pairs import ENDS, PairIds, Slots


class Places(NamedTuple):
    """The row of each node, edge and graph in the padded tables."""

    nodes: Int[np.ndarray, "N"]
    edges: Int[np.ndarray, "E"]
    graphs: Int[np.ndarray, "G"]


def place(ids: Ids, slots: Slots) -> Places:
    """Where nodes, edges and graphs go: node j of graph g to row g·n + j, its edge to node i to row (g·n + i)·n + j.

    >>> from gatjax.graph import fully_connected
    >>> place(host_ids(fully_connected(2)), Slots(nodes=3, graphs=1)).edges.tolist()
    [0, 1, 3, 4]
    """
    n, counts = slots.nodes, ids.n_node.astype(np.int64)
    graphs = np.arange(len(counts))
    moved = graphs * n - (np.cumsum(counts) - counts)
    of_edges = np.repeat(moved, ids.n_edge)
    senders, receivers = ids.senders + of_edges, ids.receivers + of_edges
    nodes = np.arange(counts.sum()) + np.repeat(moved, counts)
    return Places(nodes, receivers * n + senders % n, graphs)


def put(rows: np.ndarray, where: Int[np.ndarray, "rows"], size: int, value: Any = 0) -> np.ndarray:
    """The rows at their places among so many, and a value in all other places.

    >>> put(np.array([5, 6]), np.array([0, 2]), 3, -1).tolist()
    [5, -1, 6]
    """
    result = np.full((size, *rows.shape[1:]), value, rows.dtype)
    result[where] = rows
    return result


def ids_of(slots: Slots) -> dict[str, Any]:
    """Ids and counts of a batch in slots, by the names of a `GraphsTuple`."""
    counts = np.full(slots.graphs, slots.nodes, np.int32)
    ends = {end: PairIds(slots, end) for end in ENDS}
    return {**ends, "n_node": counts, "n_edge": counts * np.int32(slots.nodes)}


def sizes_of(slots: Slots) -> tuple[int, int, int]:
    """Rows of nodes, edges and graphs."""
    return slots.graphs * slots.nodes, slots.edges, slots.graphs


def fill_slots(graph: GraphsTuple, slots: Slots) -> tuple[GraphsTuple, list[np.ndarray]]:
    """A batch of complete graphs in slots, and which rows of nodes, edges and graphs are real.

    Raises:
        ValueError: a graph that is not complete, or larger than a slot; more graphs than slots.
    """
    ids = host_ids(graph)
    check_slots(slots, ids.n_node)
    rows, sizes = place(host_ids(check_complete(graph)), slots), sizes_of(slots)
    table = lambda tree, where, size: jax.tree.map(
        lambda leaf: put(np.asarray(leaf), where, size), tree
    )
    trees = graph.nodes, graph.edges, graph.globals
    nodes, edges, globals = map(table, trees, rows, sizes)
    masks = [
        np.bincount(where, minlength=size) > 0 for where, size in zip(rows, sizes, strict=True)
    ]
    return GraphsTuple(nodes=nodes, edges=edges, globals=globals, **ids_of(slots)), masks


def check_slots(slots: Slots, n_node: Int[np.ndarray, "G"], most: int | None = None) -> None:
    """Refuse slots that are none, and graphs that do not fit; all of them at once, or at most so many.

    Raises:
        TypeError, ValueError: by the size that is too small.
    """
    check_at_least(1, **{f"slots.{name}": size for name, size in slots._asdict().items()})
    if (first := first_true(n_node > slots.nodes)) is not None:
        raise ValueError(
            f"graphs[{first}] has {n_node[first]} nodes: a slot has room for {slots.nodes}; raise slots.nodes, or "
            "leave the graph out"
        )
    count = len(n_node) if most is None else most
    if count > slots.graphs:
        raise ValueError(
            f"slots.graphs = {slots.graphs} has no room for {count} graphs: raise it, or take fewer"
        )
