"""Graphs from edge lists, and their degrees.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs. Everything runs on the host, on concrete values,
before `jax.jit`.
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Int32, PyTree
from jraph import GraphsTuple
from numpy.typing import ArrayLike

from gatjax.graph.ids import INT32_MAX, Ids, first_true, host_ids, integers
from gatjax.graph.ids import validate as validate
from gatjax.graph.messages import check_integer
from gatjax.graph.numbers import DIGITS_REMEDY, check_digits, first_over, to_float
from gatjax.graph.sizes import leaves


def build_graph(
    senders: ArrayLike,
    receivers: ArrayLike,
    nodes: PyTree = None,
    *,
    edges: PyTree = None,
    globals: PyTree = None,
    num_nodes: int | None = None,
    num_senders: int | None = None,
) -> GraphsTuple:
    """One graph from its edge list, validated.

    Args:
        senders: [E] integers, the node that each edge leaves.
        receivers: [E] integers, the node that each edge enters.
        nodes: node features [N, ...], a `BCOO` [N, F], or a tree of arrays with N rows.
        edges: edge features [E, ...] or a tree of them.
        globals: graph features [1, ...] or a tree of them.
        num_nodes: N; needed only where `nodes` is None.
        num_senders: M, where the senders have a table of their own, which a layer is given as
            `layer(graph, senders=table)`; the nodes then only receive.

    Returns:
        A `GraphsTuple` with `n_node = [N]` and `n_edge = [E]`. Arrays keep their dtype; nested
        lists of numbers become arrays of JAX's default dtype. An empty list does not say how wide its rows
        would be: it becomes `[0, 0]`, which `batch` and layers take for no edges of their own width.

    Raises:
        TypeError, ValueError: what `validate` refuses, an N that is unknown or contradicted, or a
            whole number that would lose digits in the dtype that JAX makes of it.

    >>> graph = build_graph([0, 1, 1], [1, 0, 2], nodes=[[0.5], [1.5], [2.5]])
    >>> graph.n_node.tolist(), graph.n_edge.tolist()
    ([3], [3])
    """
    senders, receivers = integers("senders", senders), integers("receivers", receivers)
    nodes = _arrays("nodes", nodes)
    n_node = np.array([_node_count(nodes, num_nodes)], np.int32)
    ids = Ids(senders, receivers, n_node, np.array([len(senders)], np.int32))
    edges, globals = _arrays("edges", edges), _arrays("globals", globals)
    graph = GraphsTuple(nodes=nodes, edges=edges, globals=globals, **ids._asdict())
    return validate(graph, num_senders)


def fully_connected(
    num_nodes: int, *, self_loops: bool = True, nodes: PyTree = None
) -> GraphsTuple:
    """Every ordered pair of nodes as an edge, in the order of `sort_edges`.

    Args:
        num_nodes: N.
        self_loops: whether a node is also connected to itself: E = N² with, N² - N without.
        nodes: node features, N rows.

    Raises:
        ValueError: E is over int32, or `nodes` has another number of rows.

    >>> fully_connected(3, self_loops=False).senders.tolist()
    [1, 2, 0, 2, 0, 1]
    """
    total = _node_count(None, num_nodes)
    if total**2 > INT32_MAX:
        raise ValueError(f"num_nodes = {total} gives {total**2} edges, over int32: use fewer nodes")
    receivers, senders = np.indices((total, total), np.int32).reshape(2, -1)
    kept = np.flatnonzero(self_loops | (senders != receivers))
    return build_graph(senders[kept], receivers[kept], nodes, num_nodes=total)


def check_complete(graph: GraphsTuple) -> GraphsTuple:
    """The same graph, if in each graph of a batch every node has an edge from every node, itself included.

    Args:
        graph: one graph or a batch without padding, with concrete values.

    Raises:
        TypeError: traced values.
        ValueError: the first pair of nodes without an edge, or with two; all that `validate` finds.

    >>> check_complete(fully_connected(3)).n_edge.tolist()
    [9]
    """
    senders, receivers, n_node, n_edge = host_ids(graph)
    sizes = n_node.astype(np.int64)
    first, pairs = np.cumsum(sizes) - sizes, np.cumsum(sizes**2) - sizes**2
    owner = np.repeat(np.arange(len(sizes)), n_edge)
    place = (receivers - first[owner]) * sizes[owner] + senders - first[owner] + pairs[owner]
    count = np.bincount(place, minlength=int((sizes**2).sum()))
    if (bad := first_true(count != 1)) is not None:
        which = int(np.searchsorted(pairs + sizes**2, bad, side="right"))
        receiver, sender = divmod(bad - pairs[which], sizes[which]) + first[which]
        raise ValueError(
            f"graph {which} has {count[bad] or 'no'} edges {sender} -> {receiver}: join every pair of nodes once, in "
            "both directions, and each node with itself, as fully_connected does"
        )
    return graph


def in_degree(graph: GraphsTuple) -> Int32[np.ndarray, "N"]:
    """The number of edges that enter each node, self-loops and duplicates counted.

    >>> in_degree(build_graph([0, 2, 2], [2, 2, 1], num_nodes=3)).tolist()
    [0, 1, 2]
    """
    _, receivers, n_node, _ = host_ids(graph)
    return np.bincount(receivers, minlength=int(n_node.sum())).astype(np.int32)


def isolated_nodes(graph: GraphsTuple) -> Int32[np.ndarray, "I"]:
    """The nodes that no edge enters, self-loops aside; ids ascending.

    A node that only sends is isolated in this sense: it has no neighbour to attend to.

    >>> isolated_nodes(build_graph([0, 2], [1, 2], num_nodes=3)).tolist()
    [0, 2]
    """
    senders, receivers, n_node, _ = host_ids(graph)
    heard = np.bincount(receivers[senders != receivers], minlength=int(n_node.sum()))
    return np.flatnonzero(heard == 0).astype(np.int32)


def _arrays(name: str, features: PyTree) -> PyTree:
    """Nested lists of numbers as one array of JAX's default dtype; anything else as it is."""
    numbers = all(np.isscalar(leaf) for leaf in leaves(features))
    if not isinstance(features, list | tuple) or not numbers:
        for leaf in leaves(features):
            if (
                isinstance(leaf, np.ndarray)
                and leaf.dtype.kind in "iuf"
                and leaf.dtype.itemsize > 4
            ):
                _check_device(name, leaf)
        return features
    try:
        array = np.asarray(features)
    except ValueError:
        raise ValueError(f"{name} has rows of unequal length: give all the same width") from None
    if array.shape == (0,):
        return np.zeros((0, 0), jax.dtypes.canonicalize_dtype(np.float64))
    if array.dtype.kind not in "biuf":
        return array
    _check_device(name, array)
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return to_float(array, _place(name), dtype) if array.dtype.kind == "f" else array.astype(dtype)


def _check_device(name: str, array: np.ndarray) -> None:
    """Refuse whole numbers that JAX would cut without a word on their way to a device."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.dtype.kind in "iu" and (index := first_over(array, dtype)) is not None:
        raise ValueError(f"{_place(name)(index)}{array[index]} is over {dtype}: {DIGITS_REMEDY}")
    # From 2**63 on a float64 is a magnitude: it never had all the digits of a whole number.
    if array.dtype.kind == "f" and array.dtype != dtype:
        check_digits(np.where(np.abs(array) < 2.0**63, array, 0), _place(name), dtype)


def _place(name: str) -> Callable[[tuple[int, ...]], str]:
    return lambda index: f"{name}[{', '.join(map(str, index))}] = "


def _node_count(nodes: PyTree, total: int | None) -> int:
    """N from `num_nodes`, else from the first axis of the node features."""
    if total is None:
        rows = leaves(nodes)
        if rows:
            return np.shape(rows[0])[0] if np.ndim(rows[0]) else 0
        raise ValueError("num_nodes is needed where nodes is None: pass num_nodes=N")
    check_integer(num_nodes=total)
    if not 0 <= total <= INT32_MAX:
        raise ValueError(f"num_nodes = {total} must lie between 0 and {INT32_MAX} (int32)")
    return int(total)
