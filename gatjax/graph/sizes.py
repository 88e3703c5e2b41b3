"""How many nodes, edges and graphs: known inside `jax.jit` too, from shapes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental.sparse import JAXSparse
from jaxtyping import Array, Int, PyTree
from jraph import GraphsTuple
from numpy.typing import ArrayLike


def is_sparse(features: PyTree) -> bool:
    """Whether this is one of JAX's sparse arrays."""
    return isinstance(features, JAXSparse)


def is_unknown(table: PyTree) -> bool:
    """Whether a table without rows does not say how wide they would be: None, or what an empty list becomes.

    >>> is_unknown(np.zeros((0, 0))), is_unknown(np.zeros((0, 3))), is_unknown(None)
    (True, False, True)
    """
    return table is None or (hasattr(table, "shape") and np.shape(table) in ((0,), (0, 0)))


def leaves(features: PyTree) -> list:
    """The arrays in a tree of features; a sparse array is one of them, not a tree of its parts."""
    return jax.tree.leaves(features, is_leaf=is_sparse)


def require_graph(graph: GraphsTuple) -> None:
    """Refuse what is no graph, such as the array of its nodes.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(graph, GraphsTuple):
        raise TypeError(
            f"graph must be a jraph.GraphsTuple, got {type(graph).__name__}; "
            "make one of arrays by build_graph(senders, receivers, nodes)"
        )


def num_nodes(graph: GraphsTuple) -> int:
    """N as a Python integer, inside `jax.jit` too.

    Args:
        graph: one graph or a batch.

    Returns:
        The rows of `nodes`; where there are no node features, the sum of a concrete `n_node`.

    Raises:
        TypeError: no graph, or one without node features whose `n_node` is traced.

    >>> from gatjax.graph import build_graph
    >>> num_nodes(build_graph([], [], num_nodes=3))
    3
    """
    require_graph(graph)
    rows = leaves(graph.nodes)
    if rows:
        return rows[0].shape[0]
    if isinstance(graph.n_node, Tracer):
        raise TypeError(
            "nodes is None and n_node is traced, so the number of nodes is unknown inside jax.jit: "
            "give the graph node features, e.g. nodes=jnp.zeros((N, 0))"
        )
    return int(np.sum(np.asarray(graph.n_node)))


def num_edges(graph: GraphsTuple) -> int:
    """E as a Python integer, inside `jax.jit` too.

    >>> from gatjax.graph import build_graph
    >>> num_edges(build_graph([0, 1], [1, 0], num_nodes=2))
    2
    """
    return num_rows(graph.senders)


def num_rows(table: Any) -> int:
    """Of an array, or of what reads as one.

    >>> num_rows(np.zeros((3, 2)))
    3
    """
    return np.shape(table)[0]


def graph_ids(counts: ArrayLike, total: int) -> Int[Array, "rows"]:
    """The graph that each node or edge of a batch belongs to.

    >>> graph_ids(jnp.array([2, 1]), 3).tolist()
    [0, 0, 1]
    """
    counts = jnp.asarray(counts, jnp.int32)
    return jnp.repeat(jnp.arange(len(counts)), counts, total_repeat_length=total)
