"""Graphs from and to NetworkX and SciPy sparse matrices.

An edge runs sender -> receiver: `u -> v` in NetworkX, row -> column in a matrix. Shapes: N nodes, E edges, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.graph.build import build_graph
from gatjax.graph.ids import first_true, require_dense, validate
from gatjax.graph.messages import listed, shown
from gatjax.graph.numbers import default_float, digits_lost, rounded, to_float
from gatjax.graph.sizes import is_unknown, num_nodes


def from_networkx(
    g: Any,
    *,
    node_features: str | Sequence[str] | Mapping[str, int] | None = None,
    edge_features: str | Sequence[str] | Mapping[str, int] | None = None,
) -> GraphsTuple:
    """A NetworkX graph of any class as a `GraphsTuple`.

    Nodes are numbered in the order of `g.nodes`, so `list(g.nodes)[i]` is the name of node i. An
    undirected edge becomes one edge in each direction with the same features, an undirected
    self-loop one edge. Parallel edges of a multigraph all stay.

    Args:
        g: a NetworkX graph.
        node_features: the attribute, or the attributes side by side, that make up a node's row;
            each a number or a vector. A dictionary from attributes to their widths says what a graph without
            nodes cannot show; otherwise each counts as one number there. None: no node features.
        edge_features: the same for edges.

    Returns:
        The graph; features are [N, F] and [E, F] of JAX's default float dtype.

    Raises:
        ImportError: NetworkX is not installed.
        TypeError: `g` is not a NetworkX graph.
        ValueError: a node or edge without the attribute, or with one that is not numbers, rows of unequal length,
            or a whole number with more digits than the dtype holds.

    >>> import networkx as nx
    >>> graph = from_networkx(nx.DiGraph([("ann", "bob"), ("bob", "cat")]))
    >>> graph.senders.tolist(), graph.receivers.tolist()
    ([0, 1], [1, 2])
    """
    nx = networkx()
    if not isinstance(g, nx.Graph):
        raise TypeError(f"g must be a NetworkX graph, got {type(g).__name__}")
    number = {node: index for index, node in enumerate(g.nodes)}
    edges = [(u, v, attributes) for u, v, attributes in g.edges(data=True)]
    if not g.is_directed():
        edges += [(v, u, attributes) for u, v, attributes in edges if u != v]
    node_items = [((node,), attributes) for node, attributes in g.nodes(data=True)]
    edge_items = [((u, v), attributes) for u, v, attributes in edges]
    return build_graph(
        np.array([number[u] for u, _, _ in edges], np.int32),
        np.array([number[v] for _, v, _ in edges], np.int32),
        attribute_rows("node_features", node_features, node_items),
        edges=attribute_rows("edge_features", edge_features, edge_items),
        num_nodes=len(number),
    )


def to_networkx(graph: GraphsTuple) -> Any:
    """A `networkx.MultiDiGraph` with the same nodes and edges; `networkx.DiGraph(...)` of it is
    simple.

    Node i carries its row of `nodes` as the attribute `features`, and edge k its row of `edges`;
    k is the edge's key. A batch becomes one graph of several components. Globals are dropped.

    Args:
        graph: one graph or a batch, with dense features.

    Raises:
        ImportError: NetworkX is not installed.
        TypeError: sparse node features.

    >>> g = to_networkx(build_graph([0, 1], [1, 2], [[5.0], [6.0], [7.0]]))
    >>> g.nodes[2]["features"].tolist(), list(g.edges(keys=True))
    ([7.0], [(0, 1, 0), (1, 2, 1)])
    """
    nx = networkx()
    require_dense(validate(graph), "convert")
    g = nx.MultiDiGraph()
    node_rows = row_attributes(graph.nodes, num_nodes(graph))
    g.add_nodes_from(enumerate(node_rows))
    senders, receivers = np.asarray(graph.senders).tolist(), np.asarray(graph.receivers).tolist()
    edge_rows = row_attributes(graph.edges, len(senders))
    g.add_edges_from(zip(senders, receivers, range(len(senders)), edge_rows, strict=True))
    return g


def from_scipy(adjacency: Any, nodes: Any = None, *, edge_weight: bool = False) -> GraphsTuple:
    """A SciPy sparse adjacency matrix as a `GraphsTuple`: A[i, j] is an edge from i to j.

    The row is the sender, as in `scipy.sparse.csgraph` and NetworkX, so `A.T @ X` sums each node's
    incoming edges. If the row of your matrix is the receiver, pass `A.T`. Every stored entry is an
    edge, explicit zeros and the duplicates of a COO matrix too.

    Args:
        adjacency: [N, N], any SciPy sparse format.
        nodes: node features as in `build_graph`, or a SciPy sparse matrix [N, F], which becomes a `BCOO`.
        edge_weight: whether the entries become `edges`, [E, 1] in the matrix's dtype;
            `split_weights` takes them out for a layer's `edge_weight=`.

    Raises:
        TypeError: `adjacency` is not a SciPy sparse matrix.
        ValueError: it is not square, `nodes` has another number of rows, or a weight is a whole number with more
            digits than JAX's default float dtype holds.

    >>> import numpy as np, scipy.sparse
    >>> adjacency = scipy.sparse.csr_array(np.array([[0, 3.0], [0, 0]]))
    >>> graph = from_scipy(adjacency, np.eye(2))
    >>> graph.senders.tolist(), graph.receivers.tolist(), graph.edges is None
    ([0], [1], True)
    >>> from_scipy(adjacency, edge_weight=True).edges.tolist()
    [[3.0]]
    """
    if not scipy.sparse.issparse(adjacency):
        raise TypeError(
            f"adjacency is a {type(adjacency).__name__}: pass a SciPy sparse matrix, "
            "e.g. scipy.sparse.csr_array(adjacency)"
        )
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency has shape {adjacency.shape}: it must be square")
    entries = scipy.sparse.coo_array(adjacency)
    senders, receivers = entries.coords
    edges = np.array(entries.data)[:, None] if edge_weight else None
    if (
        edges is not None
        and (lost := first_true(rounded(edges, default_float())[:, 0])) is not None
    ):
        entry = f"adjacency[{senders[lost]}, {receivers[lost]}]"
        raise ValueError(f"{entry} = {digits_lost(edges[lost, 0], default_float())}")
    nodes = _sparse_nodes(nodes) if scipy.sparse.issparse(nodes) else nodes
    return build_graph(senders, receivers, nodes, edges=edges, num_nodes=adjacency.shape[0])


def _sparse_nodes(nodes: Any) -> BCOO:
    """In JAX's default float dtype."""
    entries = scipy.sparse.coo_array(nodes)
    row, column = entries.coords
    data = to_float(entries.data, lambda index: f"nodes[{row[index]}, {column[index]}] = ")
    return BCOO.from_scipy_sparse(scipy.sparse.coo_array((data, (row, column)), entries.shape))


def to_scipy(graph: GraphsTuple) -> scipy.sparse.coo_array:
    """The adjacency matrix [N, N]: entry k is edge k, its row the sender, its column the receiver.

    Parallel edges are separate entries; `.tocsr()` adds them up.

    Args:
        graph: one graph or a batch. `edges` is None (entries are 1.0) or one number per edge, [E]
            or [E, 1]; half precision becomes float32, which SciPy needs.

    Raises:
        ValueError: `edges` is anything else.

    >>> to_scipy(build_graph([0, 2], [1, 1], num_nodes=3)).toarray().tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    validate(graph)
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    if graph.edges is None or is_unknown(graph.edges):
        weight = np.ones(len(senders), np.float32)
    else:
        leaves = jax.tree.leaves(graph.edges)
        if len(leaves) != 1 or np.shape(leaves[0]) not in ((len(senders),), (len(senders), 1)):
            raise ValueError(
                "edges must hold one number per edge, shape [E] or [E, 1], got "
                f"{shown([np.shape(leaf) for leaf in leaves])}: choose a column, "
                "graph._replace(edges=graph.edges[:, 0])"
            )
        weight = np.asarray(leaves[0]).reshape(-1)
        if jnp.issubdtype(weight.dtype, jnp.floating) and weight.dtype.itemsize < 4:
            weight = weight.astype(np.float32)
    total = num_nodes(graph)
    return scipy.sparse.coo_array((weight, (senders, receivers)), shape=(total, total))


def networkx() -> Any:
    try:
        import networkx
    except ImportError:
        raise ImportError("this needs networkx: pip install 'gatjax[experiments]'") from None
    return networkx


def attribute_rows(
    field: str,
    names: str | Sequence[str] | Mapping[str, int] | None,
    items: list[tuple[Any, dict]],
) -> np.ndarray | None:
    """[items, F]: the named attributes of every item side by side."""
    if names is None:
        return None
    names = [names] if isinstance(names, str) else names
    widths: Any = names if isinstance(names, Mapping) else dict.fromkeys(names)
    parts = [[_attribute(field, name, *item) for item in items] for name in widths]
    columns = [np.zeros((len(items), 0))]
    for (name, width), rows in zip(widths.items(), parts, strict=True):
        first = (len(rows[0]) if rows else 1) if width is None else width
        for (item, _), row in zip(items, rows, strict=True):
            if len(row) != first:
                whose = "the first has" if width is None else f"{field} says"
                raise ValueError(
                    f"{field}: {shown(name)} of {_item(item)} has {len(row)} numbers, {whose} {first}: "
                    "give all the same width"
                )
        columns.append(np.array(rows).reshape(len(rows), first))
    place = lambda index: f"{field}: a number of {_item(items[index[0]][0])}: "
    return np.concatenate([to_float(column, place) for column in columns], axis=1)


def _attribute(field: str, name: str, item: Any, attributes: dict) -> np.ndarray:
    if attributes.get(name) is None:
        known = listed(map(repr, attributes))
        raise ValueError(
            f"{field}: {_item(item)} has no value for {shown(name)}; its attributes: {known}"
        )
    try:
        row = np.asarray(attributes[name])
        # Integers over 64 bits are objects to NumPy.
        return row.astype(np.float64).reshape(-1) if row.dtype.kind not in "iu" else row.reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(
            f"{field}: attribute {shown(name)} of {_item(item)} is {shown(attributes[name])}: "
            "it must be a number or a vector of numbers"
        ) from None


def _item(item: tuple) -> str:
    """A node, or both ends of an edge."""
    return f"node {shown(item[0])}" if len(item) == 1 else f"edge {' -> '.join(map(shown, item))}"


def row_attributes(features: PyTree, count: int) -> list[dict[str, PyTree]]:
    """One attribute dictionary per row; empty ones where there are no features."""
    if features is None:
        return [{} for _ in range(count)]
    features = jax.tree.map(np.asarray, features)
    row = lambda index: jax.tree.map(lambda leaf: leaf[index], features)
    return [{"features": row(index)} for index in range(count)]
