"""What a sound `GraphsTuple` is, and the errors that say why one is not.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs. All of it runs on the host, on
concrete values, before `jax.jit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jax.experimental.sparse import JAXSparse
from jaxtyping import Array, ArrayLike, Bool, PyTree
from jraph import GraphsTuple

from gatjax.graph.sizes import is_sparse, leaves, num_edges, num_nodes
from gatjax.ops.ends import Ends, _ends

INT32_MAX = int(np.iinfo(np.int32).max)


class Ids(NamedTuple):
    """The ids and counts of a `GraphsTuple` as int32 NumPy vectors: [E], [E], [G], [G]."""

    senders: np.ndarray
    receivers: np.ndarray
    n_node: np.ndarray
    n_edge: np.ndarray


def validate(graph: GraphsTuple) -> GraphsTuple:
    """The same graph, if it is sound.

    Sound means: ids and counts are integers that fit int32; every id names a node of the graph that
    its edge belongs to; `nodes`, `edges` and `globals` have N, E and G rows; only `nodes` may be
    sparse. NaN and infinite features are allowed.

    Args:
        graph: one graph or a batch, with concrete values.

    Returns:
        `graph` itself.

    Raises:
        TypeError: traced values, ids that are not integers, features that are not arrays.
        ValueError: anything else, by field, first bad value and remedy.

    >>> import numpy as np
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 0], num_nodes=2)
    >>> validate(graph._replace(senders=np.array([0, 2])))
    Traceback (most recent call last):
    ...
    ValueError: senders[1] = 2 is out of range: the graph has 2 nodes, ...
    """
    host_ids(graph)
    return graph


def host_ids(graph: GraphsTuple) -> Ids:
    """Ids and counts of a graph, after every check of `validate`.

    >>> from gatjax.graph import build_graph
    >>> host_ids(build_graph([0], [1], num_nodes=2)).receivers
    array([1], dtype=int32)
    """
    senders, receivers = integers("senders", graph.senders), integers("receivers", graph.receivers)
    n_node, n_edge = integers("n_node", graph.n_node), integers("n_edge", graph.n_edge)
    if len(senders) != len(receivers):
        raise ValueError(
            f"senders has {len(senders)} ids and receivers has {len(receivers)}: "
            "an edge needs both ends"
        )
    if len(n_node) != len(n_edge):
        raise ValueError(
            f"n_node has {len(n_node)} entries and n_edge has {len(n_edge)}: "
            "both need one entry per graph"
        )
    if n_edge.sum() != len(senders):
        raise ValueError(
            f"n_edge sums to {n_edge.sum()}, but senders has {len(senders)} edges: "
            "count the edges of each graph"
        )
    if n_node.sum() > INT32_MAX:
        raise ValueError(f"n_node sums to {n_node.sum()}, over int32: split the graph")
    _check_rows("nodes", graph.nodes, int(n_node.sum()), "the sum of n_node")
    _check_rows("edges", graph.edges, len(senders), "the number of edges")
    _check_rows("globals", graph.globals, len(n_node), "the number of graphs")
    _check_ids(senders, receivers, n_node, n_edge)
    return Ids(senders, receivers, n_node, n_edge)


def require_dense(graph: GraphsTuple, action: str) -> None:
    """Refuse a graph with sparse node features for an `action` that needs their rows.

    Raises:
        TypeError: `nodes` is, or contains, a sparse array.
    """
    if any(is_sparse(leaf) for leaf in leaves(graph.nodes)):
        raise TypeError(
            f"nodes is sparse (BCOO): can't {action} it; densify it first with "
            "graph._replace(nodes=graph.nodes.todense())"
        )


def integers(name: str, values: npt.ArrayLike | None) -> np.ndarray:
    """Concrete, whole, non-negative numbers within int32, as an int32 vector."""
    if isinstance(values, Tracer):
        raise TypeError(
            f"{name} is traced, so its values are unknown: build and validate graphs before "
            "jax.jit and pass them to the jitted function as arguments"
        )
    array = np.asarray(values)
    if array.shape == (0,):
        return np.zeros(0, np.int32)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must hold integers, got dtype {array.dtype}: "
            "convert it with np.asarray(..., np.int32)"
        )
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: it must have one axis")
    bounds = {"is negative: it must be at least 0": array < 0, "is over int32": array > INT32_MAX}
    for reason, bad in bounds.items():
        for first in np.flatnonzero(bad)[:1]:
            raise ValueError(f"{name}[{first}] = {array[first]} {reason}, at most {INT32_MAX}")
    return array.astype(np.int32)


def _check_rows(name: str, features: PyTree, rows: int, meaning: str) -> None:
    for leaf in leaves(features):
        if is_sparse(leaf) and name != "nodes":
            raise TypeError(f"{name} is sparse, only nodes may be: densify it with .todense()")
        if not isinstance(leaf, np.ndarray | jax.Array | JAXSparse):
            raise TypeError(
                f"{name} holds a {type(leaf).__name__}: pass NumPy or JAX arrays, for sparse node "
                "features jax.experimental.sparse.BCOO.from_scipy_sparse(matrix)"
            )
        if leaf.dtype.kind in "OSU":
            raise TypeError(f"{name} has dtype {leaf.dtype}: features must be numbers")
        if not leaf.shape or leaf.shape[0] != rows:
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}: its first axis must be {rows}, {meaning}"
            )


def _check_ids(
    senders: np.ndarray, receivers: np.ndarray, n_node: np.ndarray, n_edge: np.ndarray
) -> None:
    """Every end of every edge is a node, and a node of the edge's own graph."""
    total = n_node.sum()
    ends = {"senders": senders, "receivers": receivers}
    outside = {name: ids >= total for name, ids in ends.items()}
    for name, edge in _first_end(outside):
        raise ValueError(
            f"{name}[{edge}] = {ends[name][edge]} is out of range: the graph has {total} nodes, "
            "ids start at 0; mend the edge or add the node"
        )
    if len(n_node) < 2:
        return
    stop = np.cumsum(n_node)
    start, stop = np.repeat(stop - n_node, n_edge), np.repeat(stop, n_edge)
    stray = {name: (ids < start) | (ids >= stop) for name, ids in ends.items()}
    for name, edge in _first_end(stray):
        raise ValueError(
            f"{name}[{edge}] = {ends[name][edge]} crosses graphs: by n_node and n_edge this edge's "
            f"graph has the ids from {start[edge]} up to, not including, {stop[edge]}; "
            "keep the edges of each graph together"
        )


def _first_end(bad: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    """The field and index of the first bad edge, in a list that is empty if there is none."""
    edges = np.flatnonzero(bad["senders"] | bad["receivers"])[:1]
    return [("senders" if bad["senders"][edge] else "receivers", int(edge)) for edge in edges]


def check_graph(graph: GraphsTuple) -> None:
    """What a layer can check of its input: everything outside `jax.jit`, types and lengths inside.

    Raises:
        TypeError: ids that are not integers.
        ValueError: lengths that disagree; outside `jax.jit`, all that `validate` finds.
    """
    fields = ("senders", "receivers", "n_node", "n_edge")
    if not any(isinstance(getattr(graph, name), Tracer) for name in fields):
        validate(graph)
        return
    for name in fields:
        dtype = getattr(graph, name).dtype
        if not np.issubdtype(dtype, np.integer):
            raise TypeError(f"{name} must be integers, got {dtype}; use {name}.astype(np.int32)")
    num_edges, num_receivers = (leaves(ids)[0].shape[0] for ids in (graph.senders, graph.receivers))
    if num_receivers != num_edges:
        raise ValueError(
            f"senders has {num_edges} ids and receivers has {num_receivers}: an edge needs both ends"
        )
    _check_rows("edges", graph.edges, num_edges, "the number of edges")


def counted_edges(
    graph: GraphsTuple, edge_mask: Bool[ArrayLike, "E"] | None = None
) -> Bool[Array, "E"]:
    """The edges that count: both ends name a node of the graph, and the mask leaves them.

    >>> from gatjax.graph import build_graph
    >>> counted_edges(build_graph([0, 1], [1, 0], num_nodes=2), jnp.array([True, False])).tolist()
    [True, False]
    """
    check_graph(graph)
    _check_lengths(num_edges(graph), edge_mask=edge_mask)
    return ends_of(graph, edge_mask).counted


def ends_of(graph: GraphsTuple, edge_mask: Bool[ArrayLike, "E"] | None = None) -> Ends:
    """Ids that `gather_wide` may use, and which edges count; an edge that does not reads where one that does ends."""
    nodes = num_nodes(graph)
    _check_lengths(num_edges(graph), edge_mask=edge_mask)
    senders = _edge_ids("senders", jnp.asarray(graph.senders))
    receivers = _edge_ids("receivers", jnp.asarray(graph.receivers))
    return _ends(senders, receivers, nodes, nodes, edge_mask)


def _edge_ids(name: str, ids: ArrayLike) -> Array:
    ids = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got {ids.dtype}; use {name}.astype(jnp.int32)")
    if ids.ndim != 1:
        raise ValueError(f"{name} must have one axis [E], got {list(ids.shape)}")
    if isinstance(ids, np.ndarray) and ids.size and ids.max() > np.iinfo(np.int32).max:
        raise ValueError(f"{name} has the id {ids.max()}, over int32")
    ids = jnp.asarray(ids)
    return ids.astype(jnp.promote_types(ids.dtype, jnp.int32))


def _check_lengths(length: int | None, **tables: PyTree) -> None:
    for name, table in tables.items():
        for leaf in jax.tree.leaves(table):
            if np.shape(leaf)[:1] != (length,):
                got = np.shape(leaf)[0] if np.ndim(leaf) else "a number"
                raise ValueError(f"{name} must have {length} rows, got {got}")


def _num_rows(table: PyTree) -> int | None:
    leaves = jax.tree.leaves(table)
    return np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else None
