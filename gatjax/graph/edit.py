"""Graphs in, graphs out: self-loops, reversed edges, duplicates, order.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs, F features. Every function runs on the host, on
concrete values, before `jax.jit` and padding; it returns ids and counts as int32 NumPy arrays and leaves its argument
untouched. Nodes and globals are passed through as they are, so node features may be a sparse `BCOO`; edge features
come back as NumPy arrays of the same dtype.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from jraph import GraphsTuple

from gatjax.graph.ids import Ids, host_ids, integers
from gatjax.graph.messages import shown
from gatjax.graph.numbers import default_float, to_float
from gatjax.graph.sizes import is_unknown

Reduction = Literal["sum", "mean", "max", "first"]


def add_self_loops(graph: GraphsTuple, *, fill: PyTree = "mean") -> GraphsTuple:
    """Exactly one self-loop on every node.

    An existing loop stays where it is and keeps its features; of several loops on one node the
    first stays; a node without a loop gets one, after its graph's other edges, in the order of
    the nodes. `sort_edges` afterwards restores an order by receiver.

    Args:
        graph: one graph or a batch.
        fill: features of the new loops. "mean": the mean over the edges that enter the node, zeros
            if there are none; "zeros"; "ones"; a number; or one row [F], for a tree of edge
            features a tree of rows. Without edge features there is nothing to fill.

    Returns:
        The graph with its N loops.

    Raises:
        TypeError: "mean" or a fraction for edge features that are not floating-point.
        ValueError: an unknown `fill`, or one that is not a row of `edges`; edges from an empty list, and
            a `fill` that does not say how wide a row is.

    >>> from gatjax.graph import build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [1, 1], num_nodes=3))
    >>> list(zip(graph.senders.tolist(), graph.receivers.tolist()))
    [(0, 1), (1, 1), (0, 0), (2, 2)]
    """
    senders, receivers, n_node, _ = host_ids(graph)
    is_loop = senders == receivers
    looped, first = np.unique(senders[is_loop], return_index=True)
    kept = np.sort(np.concatenate([np.flatnonzero(~is_loop), np.flatnonzero(is_loop)[first]]))
    bare = np.setdiff1d(np.arange(int(n_node.sum()), dtype=np.int32), looped)
    old, new = _take(graph.edges, kept), _loop_features(graph, bare, fill)
    nothing = is_unknown(graph.edges)
    edges = new if nothing else jax.tree.map(lambda *rows: np.concatenate(rows), old, new)
    senders, receivers = (np.concatenate([ids[kept], bare]) for ids in (senders, receivers))
    return with_edges(graph, senders, receivers, edges)


def remove_self_loops(graph: GraphsTuple) -> GraphsTuple:
    """Every edge between two different nodes, in the same order.

    >>> from gatjax.graph import build_graph
    >>> remove_self_loops(build_graph([0, 1, 1], [0, 0, 1], num_nodes=2)).senders.tolist()
    [1]
    """
    senders, receivers, _, _ = host_ids(graph)
    kept = np.flatnonzero(senders != receivers)
    return with_edges(graph, senders[kept], receivers[kept], _take(graph.edges, kept))


def to_undirected(graph: GraphsTuple, *, reduce: Reduction = "mean") -> GraphsTuple:
    """Every edge in both directions, each direction once, in the order of `sort_edges`.

    The reverse of an edge carries its features; a self-loop is its own reverse. All copies of a
    direction are then merged as in `coalesce`, so a second call changes nothing under "mean" and
    "max", while "sum" adds the features of both directions each time, and "first" prefers a
    direction's own edges over reversed ones.

    Args:
        graph: one graph or a batch.
        reduce: how features are merged: "sum", "mean", "max" or "first".

    Raises:
        TypeError, ValueError: as `coalesce`.

    >>> from gatjax.graph import build_graph
    >>> graph = to_undirected(build_graph([0, 1], [1, 2], num_nodes=3))
    >>> list(zip(graph.senders.tolist(), graph.receivers.tolist()))
    [(1, 0), (0, 1), (2, 1), (1, 2)]
    """
    senders, receivers, _, _ = host_ids(graph)
    reversible = np.flatnonzero(senders != receivers)
    edges = _take(graph.edges, np.concatenate([np.arange(len(senders)), reversible]))
    both = np.concatenate([senders, receivers[reversible]])
    reverse = np.concatenate([receivers, senders[reversible]])
    return coalesce(with_edges(graph, both, reverse, edges), reduce=reduce)


def coalesce(graph: GraphsTuple, *, reduce: Reduction = "sum") -> GraphsTuple:
    """One edge for each pair (sender, receiver) that has any, in the order of `sort_edges`.

    Args:
        graph: one graph or a batch.
        reduce: how the features of equal edges are merged: "sum", "mean", "max" (elementwise) or
            "first" (in the order of the edges). The dtype is kept.

    Raises:
        TypeError: a mean of features that are not floating-point, or a sum of booleans.
        ValueError: an unknown `reduce`, or a sum of integers that their dtype cannot hold.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([1, 0, 1], [0, 1, 0], edges=[[2.0], [3.0], [4.0]], num_nodes=2)
    >>> graph = coalesce(graph)
    >>> graph.senders.tolist(), graph.edges.tolist()
    ([1, 0], [[6.0], [3.0]])
    """
    if reduce not in get_args(Reduction):
        known = ", ".join(get_args(Reduction))
        raise ValueError(f"unknown reduce {shown(reduce)}: choose one of {known}")
    graph = sort_edges(graph)
    senders, receivers, _, _ = host_ids(graph)
    first = np.ones(len(senders), bool)
    first[1:] = (senders[1:] != senders[:-1]) | (receivers[1:] != receivers[:-1])
    group = np.cumsum(first) - 1
    merge = lambda leaf: _reduce_rows(np.asarray(leaf), group, int(first.sum()), reduce)
    return with_edges(graph, senders[first], receivers[first], jax.tree.map(merge, graph.edges))


def sort_edges(graph: GraphsTuple, by: Literal["receiver", "sender"] = "receiver") -> GraphsTuple:
    """Edges ordered by one end, then by the other; equal edges keep their order.

    Weights beside the graph keep the old order: put them in `edges` before, and take them out by `split_weights`.

    Args:
        graph: one graph or a batch.
        by: "receiver" or "sender".

    Raises:
        ValueError: an unknown `by`.

    >>> from gatjax.graph import build_graph
    >>> sort_edges(build_graph([2, 1, 0], [1, 1, 0], num_nodes=3)).senders.tolist()
    [0, 1, 2]
    """
    if by not in ("receiver", "sender"):
        raise ValueError(f"unknown by {shown(by)}: choose receiver or sender")
    senders, receivers, _, _ = host_ids(graph)
    order = np.lexsort((senders, receivers) if by == "receiver" else (receivers, senders))
    return with_edges(graph, senders[order], receivers[order], _take(graph.edges, order))


def split_weights(
    graph: GraphsTuple, column: int = 0
) -> tuple[GraphsTuple, Float[np.ndarray, "E"]]:
    """The weights of the edges out of their features, for `edge_weight=` of a layer.

    Args:
        graph: one graph or a batch with edge features [E, F], as `from_csv` and `from_scipy` give them.
        column: which of them is the weight.

    Returns:
        The graph with the other columns, None if there are no others; and the weights in JAX's
        default float dtype.

    Raises:
        ValueError: edge features of another form, a column that there is not, or a whole number
            that would lose digits.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 0], num_nodes=2, edges=[[0.5], [2.0]])
    >>> graph, weights = split_weights(graph)
    >>> graph.edges, weights.tolist()
    (None, [0.5, 2.0])
    """
    senders, *_ = host_ids(graph)
    edges = graph.edges
    if not len(senders) and is_unknown(edges):
        return graph._replace(edges=None), np.zeros(0, default_float())
    if not isinstance(edges, np.ndarray | jax.Array) or edges.ndim != 2:
        raise ValueError(
            f"edges must be one array [E, F], got {shown(edges)}: its weights are then a column"
        )
    edges = np.asarray(edges)
    if not 0 <= column < edges.shape[1]:
        raise ValueError(f"column = {shown(column)} must lie between 0 and {edges.shape[1] - 1}")
    place = lambda index: f"edges[{index[0]}, {column}] = "
    others = np.delete(edges, column, axis=1)
    graph = graph._replace(edges=others if others.shape[1] else None)
    return graph, to_float(edges[:, column], place)


def with_edges(
    graph: GraphsTuple, senders: np.ndarray, receivers: np.ndarray, edges: PyTree
) -> GraphsTuple:
    """The graph with other edges; each graph's edges are made contiguous, in the order given."""
    n_node = integers("n_node", graph.n_node)
    owner = np.repeat(np.arange(len(n_node)), n_node)[receivers]
    order = np.argsort(owner, kind="stable")
    n_edge = np.bincount(owner, minlength=len(n_node)).astype(np.int32)
    ids = Ids(senders[order], receivers[order], n_node, n_edge)
    return graph._replace(edges=_take(edges, order), **ids._asdict())


def _take(features: PyTree, rows: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], features)


def _reduce_rows(rows: np.ndarray, groups: np.ndarray, num_groups: int, how: str) -> np.ndarray:
    """[E, ...] -> [num_groups, ...]; sums are taken in 64 bits; a group without rows is zero."""
    inexact = jnp.issubdtype(rows.dtype, jnp.inexact)
    if (how == "mean" and not inexact) or (how == "sum" and rows.dtype == bool):
        raise TypeError(
            f"edges has dtype {rows.dtype}, which has no {how}: "
            "convert the features to floats or choose another reduce or fill"
        )
    order = np.argsort(groups, kind="stable")
    present, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    rows = rows[order]
    wide = np.promote_types(rows.dtype, np.float64) if inexact else np.dtype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        if how == "first":
            reduced = rows[starts]
        elif how == "max":
            reduced = np.maximum.reduceat(rows, starts, axis=0)
        else:
            reduced = np.add.reduceat(rows.astype(wide), starts, axis=0)
        if how == "mean":
            reduced = reduced / counts.reshape(-1, *[1] * (rows.ndim - 1))
        out = np.zeros((num_groups, *rows.shape[1:]), rows.dtype)
        out[present] = reduced.astype(rows.dtype)
    if not inexact and np.any(out[present] != reduced):
        total = reduced[out[present] != reduced][0]
        raise ValueError(
            f"edges has dtype {rows.dtype}, which cannot hold a sum of {total}: widen the features, "
            "graph._replace(edges=graph.edges.astype(np.int64)), or choose another reduce"
        )
    return out


def _loop_features(graph: GraphsTuple, loops: np.ndarray, fill: PyTree) -> PyTree:
    """Features of new self-loops on the nodes `loops`, shaped like the graph's edge features."""
    edges = jax.tree.map(np.asarray, graph.edges)
    senders, receivers, n_node, _ = host_ids(graph)
    others, total = np.flatnonzero(senders != receivers), int(n_node.sum())
    if is_unknown(graph.edges) and edges is not None and len(loops):
        if isinstance(fill, str) or np.ndim(fill) != 1:
            raise ValueError(
                "edges is empty and does not say how wide a row is: build the graph with "
                "edges=np.zeros((0, F)), or give a row as fill"
            )
        edges = np.zeros((0, len(fill)), edges.dtype)
    if isinstance(fill, str):
        rules = {
            "mean": lambda leaf: _reduce_rows(leaf[others], receivers[others], total, "mean")[
                loops
            ],
            "zeros": lambda leaf: np.zeros((len(loops), *leaf.shape[1:]), leaf.dtype),
            "ones": lambda leaf: np.ones((len(loops), *leaf.shape[1:]), leaf.dtype),
        }
        if fill not in rules:
            raise ValueError(
                f"unknown fill {shown(fill)}: choose {', '.join(rules)}, a number or a row"
            )
        return jax.tree.map(rules[fill], edges)
    if edges is None:
        raise ValueError("fill is a value, but the graph has no edge features: leave fill out")
    one_leaf = isinstance(edges, np.ndarray)
    if np.isscalar(fill) and not one_leaf:
        fill = jax.tree.map(lambda leaf: fill, edges)
    if not one_leaf and jax.tree.structure(fill) != jax.tree.structure(edges):
        raise ValueError("fill must be a tree of rows with the structure of edges")
    return jax.tree.map(lambda leaf, row: _repeat_row(leaf, np.asarray(row), loops), edges, fill)


def _repeat_row(leaf: np.ndarray, row: np.ndarray, loops: np.ndarray) -> np.ndarray:
    if row.shape not in ((), leaf.shape[1:]):
        raise ValueError(
            f"fill has shape {row.shape}: the features of one edge have shape {leaf.shape[1:]}"
        )
    if not jnp.issubdtype(leaf.dtype, jnp.inexact) and row.dtype.kind not in "iub":
        raise TypeError(f"fill has dtype {row.dtype}, which does not fit edges of {leaf.dtype}")
    return np.broadcast_to(row, (len(loops), *leaf.shape[1:])).astype(leaf.dtype)
