"""What a sound `GraphsTuple` is, and the errors that say why one is not: on the host, on concrete values.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs.
"""

from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jax.experimental.sparse import JAXSparse
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.graph.sizes import is_sparse, leaves

INT32_MAX = int(np.iinfo(np.int32).max)


class Ids(NamedTuple):
    """The ids and counts of a `GraphsTuple` as int32 NumPy vectors: [E], [E], [G], [G]."""

    senders: np.ndarray
    receivers: np.ndarray
    n_node: np.ndarray
    n_edge: np.ndarray


def validate(graph: GraphsTuple, num_senders: int | None = None) -> GraphsTuple:
    """The same graph, if it is sound.

    Sound means: ids and counts are integers that fit int32; every id names a node of the graph that
    its edge belongs to; `nodes`, `edges` and `globals` have N, E and G rows; only `nodes` may be
    sparse. NaN and infinite features are allowed.

    Args:
        graph: one graph or a batch, with concrete values.
        num_senders: the rows of the senders' own table, where they have one: the ids of senders name its rows, and
            those of receivers the nodes.

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
    host_ids(graph, num_senders)
    return graph


def host_ids(graph: GraphsTuple, num_senders: int | None = None) -> Ids:
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
    check_table("nodes", graph.nodes, int(n_node.sum()), "the sum of n_node")
    check_table("edges", graph.edges, len(senders), "the number of edges")
    check_table("globals", graph.globals, len(n_node), "the number of graphs")
    _check_ids(senders, receivers, n_node, n_edge, num_senders)
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
            f"{name} must hold integers, got dtype {array.dtype}: {integer_remedy(name, array)}"
        )
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: it must have one axis")
    bounds = {"is negative: it must be at least 0": array < 0, "is over int32": array > INT32_MAX}
    for reason, bad in bounds.items():
        if (first := first_true(bad)) is not None:
            raise ValueError(f"{name}[{first}] = {array[first]} {reason}, at most {INT32_MAX}")
    return array.astype(np.int32)


def integer_remedy(name: str, array: np.ndarray) -> str:
    """What to do about values that should be integers."""
    if name in ("senders", "receivers") and array.ndim and array.dtype.kind in "OSU":
        return "senders, receivers, names = number_names(senders, receivers) numbers what has names"
    if array.dtype.kind in "fb" and np.all(array == np.floor(array)):
        return f"convert it with np.asarray({name}, np.int32)"
    return f"pass whole numbers as {name}"


def first_true(marked: np.ndarray) -> int | None:
    """The index of the first entry that is true, None where none is.

    >>> first_true(np.array([False, True, True])), first_true(np.array([False]))
    (1, None)
    """
    return int(np.argmax(marked)) if marked.any() else None


def check_table(name: str, features: PyTree, rows: int, meaning: str) -> None:
    """Refuse features that are no arrays of numbers with so many rows, by the name of their field."""
    for leaf in leaves(features):
        if is_sparse(leaf) and name != "nodes":
            raise TypeError(f"{name} is sparse, only nodes may be: densify it with .todense()")
        if not isinstance(leaf, np.ndarray | jax.Array | JAXSparse):
            raise TypeError(
                f"{name} holds a {type(leaf).__name__}: pass NumPy or JAX arrays, for sparse node "
                "features jax.experimental.sparse.BCOO.from_scipy_sparse(matrix)"
            )
        if leaf.dtype.kind in "OSU":
            raise TypeError(
                f"{name} has dtype {leaf.dtype}: features must be numbers of at most 64 bits"
            )
        if not leaf.shape or leaf.shape[0] != rows:
            raise ValueError(
                f"{name} has shape {tuple(leaf.shape)}: its first axis must be {rows}, {meaning}"
            )


def _check_ids(
    senders: np.ndarray,
    receivers: np.ndarray,
    n_node: np.ndarray,
    n_edge: np.ndarray,
    num_senders: int | None,
) -> None:
    """Every end of every edge is a node, and a node of the edge's own graph; or a row of the senders' own table."""
    total = n_node.sum()
    ends = {"senders": senders, "receivers": receivers}
    sizes = {"senders": total if num_senders is None else num_senders, "receivers": total}
    outside = _first_end({name: ids >= sizes[name] for name, ids in ends.items()})
    if outside is not None:
        name, edge = outside
        table = name == "senders" and num_senders is not None
        raise ValueError(
            f"{name}[{edge}] = {ends[name][edge]} is out of range: "
            f"{'the table of senders' if table else 'the graph'} has {sizes[name]} {'rows' if table else 'nodes'}, "
            f"ids start at 0; mend the edge or add the {'row' if table else 'node'}"
        )
    if len(n_node) < 2:
        return
    stop = np.cumsum(n_node)
    start, stop = np.repeat(stop - n_node, n_edge), np.repeat(stop, n_edge)
    crossing = {name: (ids < start) | (ids >= stop) for name, ids in ends.items()}
    if num_senders is not None:
        crossing["senders"] = np.zeros(len(senders), bool)
    stray = _first_end(crossing)
    if stray is not None:
        name, edge = stray
        raise ValueError(
            f"{name}[{edge}] = {ends[name][edge]} crosses graphs: by n_node and n_edge this edge's "
            f"graph has the ids from {start[edge]} up to, not including, {stop[edge]}; "
            "keep the edges of each graph together"
        )


def _first_end(bad: dict[str, np.ndarray]) -> tuple[str, int] | None:
    """The field and index of the first bad edge, if there is one."""
    edge = first_true(bad["senders"] | bad["receivers"])
    return None if edge is None else ("senders" if bad["senders"][edge] else "receivers", edge)
