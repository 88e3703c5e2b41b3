"""Edges that a graph does not have, for attention beyond neighbours: all pairs, random ones, or through a node of all.

A transformer on a graph is a layer like any other on one of these sets of edges. On the host, before `jax.jit` and
padding. Every edge has a type, its place in `EDGE_TYPES`, by which a layer can tell them apart, and its features, if
the graph has any: `graph.edges = {"type": [E], "features": [E, ...]}`, zeros on edges that are new.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Bool, Int, PyTree
from jraph import GraphsTuple

from gatjax.graph.edit import with_edges
from gatjax.graph.encodings import MAX_PAIRS, check_pairs
from gatjax.graph.expander import expander
from gatjax.graph.ids import Ids, first_true, host_ids, require_dense
from gatjax.graph.messages import check_at_least, shown
from gatjax.graph.numbers import default_float, to_float
from gatjax.graph.sizes import is_unknown
from gatjax.ops.pairs import PairIds

EDGE_TYPES = ("own", "pair", "expander", "to_virtual", "from_virtual")
OWN, PAIR, EXPANDER, TO_VIRTUAL, FROM_VIRTUAL = range(len(EDGE_TYPES))

# A regular graph of a lesser degree is a set of circles, or of pairs.
LEAST_DEGREE = 3


def connect_all(graph: GraphsTuple, *, max_pairs: int = MAX_PAIRS) -> GraphsTuple:
    """Every ordered pair of nodes of each graph as an edge, a node with itself too, in the order of `fully_connected`.

    An edge of the graph keeps its type, "own", and its features; all others have the type "pair". The result may be
    padded into `Slots`, and the rows of `shortest_paths` and `relative_random_walk` are those of its edges.

    Args:
      graph: one graph or a batch, each edge given once.
      max_pairs: refuse a result with more edges.

    Raises:
      ValueError: an edge given twice, or too many pairs.

    >>> from gatjax.graph import build_graph
    >>> graph = connect_all(build_graph([0], [1], num_nodes=2))
    >>> list(zip(graph.senders.tolist(), graph.receivers.tolist(), graph.edges["type"].tolist()))
    [(0, 0, 1), (1, 0, 1), (0, 1, 0), (1, 1, 1)]

    Ying et al., Do Transformers Really Perform Badly for Graph Representation?, NeurIPS 2021.
    """
    check_pairs(graph, max_pairs)
    ids = host_ids(graph)
    sizes = ids.n_node.astype(np.int64)
    first, start = np.cumsum(sizes) - sizes, np.cumsum(sizes**2) - sizes**2
    owner = np.repeat(np.arange(len(sizes)), ids.n_edge)
    places = (ids.receivers - first[owner]) * sizes[owner] + ids.senders - first[owner]
    places += start[owner]
    total = int((sizes**2).sum())
    if (twice := first_true(np.bincount(places, minlength=total) > 1)) is not None:
        edge = int(np.flatnonzero(places == twice)[0])
        raise ValueError(
            f"edge {ids.senders[edge]} -> {ids.receivers[edge]} is given twice, and a pair is one edge: "
            'coalesce(graph, reduce="first") first'
        )
    types, features = _read(graph, len(ids.senders))
    edges = {"type": _put(types, places, total, PAIR)}
    if features is not None:
        edges["features"] = jax.tree.map(lambda leaf: _put(leaf, places, total, 0), features)
    return with_edges(graph, *pair_ends(ids.n_node), edges)


def pair_ends(
    n_node: Int[np.ndarray, "G"],
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Senders and receivers of all pairs, in their order.

    >>> [ids.tolist() for ids in pair_ends(np.array([2, 1]))]
    [[0, 1, 0, 1, 2], [0, 0, 1, 1, 2]]
    """
    sizes = n_node.astype(np.int64)
    first, start = np.cumsum(sizes) - sizes, np.cumsum(sizes**2) - sizes**2
    owner = np.repeat(np.arange(len(sizes)), sizes**2)
    places = np.arange(len(owner)) - start[owner]
    receivers, senders = np.divmod(places, sizes[owner]) + first[owner]
    return senders.astype(np.int32), receivers.astype(np.int32)


def check_pair_order(graph: GraphsTuple) -> None:
    """Refuse edges that are not all pairs in their order, as far as they are known.

    Raises:
        ValueError: they are not.
    """
    ids = graph.senders, graph.receivers, graph.n_node
    if isinstance(graph.senders, PairIds) or any(isinstance(part, Tracer) for part in ids):
        return
    known = host_ids(graph)
    senders, receivers = pair_ends(known.n_node)
    if not np.array_equal([known.senders, known.receivers], [senders, receivers]):
        raise ValueError(
            "features of edges are read as those of all pairs, and the edges are others: "
            "graph = connect_all(graph) first"
        )


def add_expander(
    graph: GraphsTuple, degree: int = 4, *, seed: int = 0, draws: int = 8
) -> GraphsTuple:
    """Random edges, as many at every node, over which any two nodes of a graph are a few steps apart.

    Each node gets `degree` more edges in, of the type "expander", and as many out, their reverses: a random regular
    graph, connected, without self-loops, no edge given twice. An edge that the graph has stays beside it. Graphs of one
    size get the same edges of one seed, alone or in a batch. Virtual nodes come after it, or they would be part of it.

    Args:
      graph: one graph or a batch.
      degree: how many at each node.
      seed: of the draw.
      draws: how many are compared; the one in which a random walk mixes fastest is taken, by the second largest
        eigenvalue of its adjacency, in absolute value.

    Raises:
      ValueError: a degree below 3, a graph of too few nodes, or an odd degree of an odd number of nodes.

    >>> from gatjax.graph import build_graph
    >>> graph = add_expander(build_graph([], [], num_nodes=8), degree=3)
    >>> graph.n_edge.tolist(), np.bincount(graph.receivers).tolist()
    ([24], [3, 3, 3, 3, 3, 3, 3, 3])

    Shirzad et al., Exphormer: Sparse Transformers for Graphs, ICML 2023, whose draw may repeat an edge.
    """
    check_at_least(LEAST_DEGREE, degree=degree)
    check_at_least(1, draws=draws)
    check_at_least(0, seed=seed)
    ids = host_ids(graph)
    _check_degree(degree, ids.n_node)
    known = {size: expander(size, degree, seed, draws) for size in set(ids.n_node.tolist()) if size}
    first = np.cumsum(ids.n_node) - ids.n_node
    none = np.zeros((0, 2), np.int64)
    pairs = [
        known.get(size, none) + start
        for size, start in zip(ids.n_node.tolist(), first, strict=True)
    ]
    ends = np.concatenate([none, *pairs]).T
    both = np.concatenate([ends, ends[::-1]], axis=1)
    types = np.full(both.shape[1], EXPANDER)
    return _append(graph, ids, both[0], both[1], types)


def add_virtual_nodes(
    graph: GraphsTuple, count: int = 1
) -> tuple[GraphsTuple, Bool[np.ndarray, "N"]]:
    """Nodes that all nodes of their graph send to and receive from, so that any two nodes are two steps apart.

    They stand after their graph's other nodes. Edges to them have the type "to_virtual", from them "from_virtual".
    `nodes` get `count` more columns, which say which virtual node a row is, all 0 for a node that was there before;
    a virtual node has zeros in the other columns.

    Args:
      graph: one graph or a batch, with node features [N, F] or none.
      count: how many for each graph.

    Returns:
      The graph, and which of its nodes were there before, such as the loss is taken over.

    Raises:
      TypeError: sparse node features.
      ValueError: no virtual node, a graph that has some, or node features of another form.

    >>> from gatjax.graph import build_graph
    >>> graph, own = add_virtual_nodes(build_graph([0], [1], [[5.0], [6.0]]))
    >>> graph.nodes.tolist(), own.tolist()
    ([[5.0, 0.0], [6.0, 0.0], [0.0, 1.0]], [True, True, False])
    >>> list(zip(graph.senders.tolist(), graph.receivers.tolist(), graph.edges["type"].tolist()))
    [(0, 1, 0), (0, 2, 3), (1, 2, 3), (2, 0, 4), (2, 1, 4)]

    Gilmer et al., Neural Message Passing for Quantum Chemistry, ICML 2017.
    """
    check_at_least(1, count=count)
    require_dense(graph, "add virtual nodes to")
    ids = host_ids(graph)
    types, _ = _read(graph, len(ids.senders))
    if np.isin(types, (TO_VIRTUAL, FROM_VIRTUAL)).any():
        raise ValueError(
            "graph has virtual nodes already: add all of them at once, add_virtual_nodes(graph, count)"
        )
    num_graphs, owner = len(ids.n_node), np.repeat(np.arange(len(ids.n_node)), ids.n_node)
    moved = np.arange(len(owner)) + owner * count
    last = np.cumsum(ids.n_node) + np.arange(num_graphs) * count
    virtual = last[:, None] + np.arange(count)
    own = np.ones(len(owner) + num_graphs * count, bool)
    own[virtual] = False
    rows = np.zeros((len(own), _width(graph.nodes) + count), _dtype(graph.nodes))
    if graph.nodes is not None:
        rows[moved, :-count] = graph.nodes
    rows[virtual, -count + np.arange(count)] = 1
    n_node = (ids.n_node + count).astype(np.int32)
    senders, receivers = (moved[end].astype(np.int32) for end in (ids.senders, ids.receivers))
    there = graph._replace(nodes=rows, n_node=n_node, senders=senders, receivers=receivers)
    nodes, hubs = np.repeat(moved, count), virtual[owner].reshape(-1)
    half = np.ones(len(nodes), np.int32)
    ends = np.concatenate([nodes, hubs]), np.concatenate([hubs, nodes])
    types = np.concatenate([TO_VIRTUAL * half, FROM_VIRTUAL * half])
    return _append(there, host_ids(there), ends[0], ends[1], types), own


def edge_types(graph: GraphsTuple) -> GraphsTuple:
    """The same graph with its edges' types as features, one column for each of `EDGE_TYPES`, beside those it had.

    Args:
      graph: of `connect_all`, `add_expander` or `add_virtual_nodes`.

    Returns:
      The graph with `edges` `[E, 5 + D]`: `edge_features=5 + D` of a layer.

    Raises:
      ValueError: a graph without types, or with features of edges of another form than [E, D].

    >>> from gatjax.graph import build_graph
    >>> edge_types(connect_all(build_graph([0], [1], num_nodes=2))).edges[:, :2].tolist()
    [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    if not _has_types(graph.edges):
        raise ValueError(
            f"graph has no types of edges, got edges {shown(type(graph.edges).__name__)}: connect_all, add_expander or "
            "add_virtual_nodes first"
        )
    types, features = _read(graph, len(host_ids(graph).senders))
    one_hot = np.eye(len(EDGE_TYPES), dtype=default_float())[types]
    if features is None:
        return graph._replace(edges=one_hot)
    if not isinstance(features, np.ndarray) or features.ndim != 2:
        raise ValueError(
            f'edges["features"] must be one array [E, D], got {shown(features)}: put the types beside what you have, '
            'jax.nn.one_hot(graph.edges["type"], 5)'
        )
    place = lambda index: f'edges["features"]{list(index)} = '
    return graph._replace(edges=np.concatenate([one_hot, to_float(features, place)], 1))


def _has_types(edges: PyTree) -> bool:
    return isinstance(edges, dict) and "type" in edges and edges.keys() <= {"type", "features"}


def _read(graph: GraphsTuple, total: int) -> tuple[np.ndarray, PyTree]:
    """The type of each edge, and the features, None where there are none."""
    edges: Any = graph.edges
    if _has_types(edges):
        features = edges.get("features")
        return np.asarray(edges["type"]), jax.tree.map(np.asarray, features)
    unknown = is_unknown(edges) and not total
    return np.full(total, OWN, np.int32), None if unknown else jax.tree.map(np.asarray, edges)


def _put(rows: np.ndarray, places: np.ndarray, total: int, value: Any) -> np.ndarray:
    result = np.full((total, *rows.shape[1:]), value, rows.dtype)
    result[places] = rows
    return result


def _append(
    graph: GraphsTuple, ids: Ids, senders: np.ndarray, receivers: np.ndarray, types: np.ndarray
) -> GraphsTuple:
    """More edges after each graph's own, with zeros for features."""
    old, features = _read(graph, len(ids.senders))
    edges = {"type": np.concatenate([old, types]).astype(np.int32)}
    if features is not None:
        zeros = lambda leaf: np.zeros((len(types), *leaf.shape[1:]), leaf.dtype)
        edges["features"] = jax.tree.map(lambda leaf: np.concatenate([leaf, zeros(leaf)]), features)
    join = lambda own, new: np.concatenate([own, new.astype(np.int32)])
    return with_edges(graph, join(ids.senders, senders), join(ids.receivers, receivers), edges)


def _width(nodes: Any) -> int:
    if nodes is None:
        return 0
    if not hasattr(nodes, "ndim") or nodes.ndim != 2:
        raise ValueError(f"nodes must be one array [N, F], or None, got {shown(nodes)}")
    return nodes.shape[1]


def _dtype(nodes: Any) -> np.dtype:
    return default_float() if nodes is None else np.dtype(nodes.dtype)


def _check_degree(degree: int, n_node: Int[np.ndarray, "G"]) -> None:
    if (few := first_true((n_node > 0) & (n_node <= degree))) is not None:
        raise ValueError(
            f"degree = {degree} needs {degree + 1} nodes, and graph {few} has {n_node[few]}: lower it, or connect_all "
            "small graphs"
        )
    if degree % 2 and (odd := first_true(n_node % 2 == 1)) is not None:
        raise ValueError(
            f"degree = {degree} is odd, and so is the number of nodes of graph {odd}, {n_node[odd]}: choose an even "
            "degree"
        )
