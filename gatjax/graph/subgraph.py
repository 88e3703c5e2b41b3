"""Part of a graph, and a graph whose nodes are numbered otherwise.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs. Everything runs on the host, on concrete values,
before `jax.jit` and padding.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import Int32, PyTree
from jraph import GraphsTuple
from numpy.typing import ArrayLike

from gatjax.graph.ids import Ids, first_true, host_ids, integers
from gatjax.graph.sizes import is_sparse


def subgraph(graph: GraphsTuple, nodes: ArrayLike) -> tuple[GraphsTuple, Int32[np.ndarray, "n"]]:
    """Some of the nodes, and all edges between them.

    Nodes are numbered anew, in the order given; edges keep their order. Features follow, those of
    sparse nodes too. Globals stay, as do the graphs of a batch, even where nothing is left of one.

    Args:
        graph: one graph or a batch.
        nodes: distinct ids of the nodes to keep, [n], or a boolean mask [N]. In a batch, ids of
            one graph must stand together, in the order of the graphs.

    Returns:
        The graph and `kept` [n]: node i of it was node `kept[i]`.

    Raises:
        TypeError: ids that are not integers; sparse node features of another format than `BCOO`.
        ValueError: a mask of another length, an id that is no node or occurs twice, or ids that
            mix the graphs of a batch.

    >>> from gatjax.graph import build_graph
    >>> path = build_graph([0, 1, 2], [1, 2, 3], num_nodes=4)
    >>> part, kept = subgraph(path, [3, 2])
    >>> part.senders.tolist(), part.receivers.tolist(), kept.tolist()
    ([1], [0], [3, 2])
    """
    ids = host_ids(graph)
    total = int(ids.n_node.sum())
    kept = node_ids(nodes, total)
    owner = np.repeat(np.arange(len(ids.n_node)), ids.n_node)[kept]
    if (late := first_true(owner[1:] < owner[:-1])) is not None:
        raise ValueError(
            f"nodes[{late + 1}] = {kept[late + 1]} belongs to graph {owner[late + 1]} of the batch, "
            f"the node before it to graph {owner[late]}: sort the ids, np.sort(nodes)"
        )
    new = np.full(total, -1, np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    inside = np.flatnonzero((new[ids.senders] >= 0) & (new[ids.receivers] >= 0))
    graph_of_edge = np.repeat(np.arange(len(ids.n_edge)), ids.n_edge)[inside]
    count = lambda ids: np.bincount(ids, minlength=graph.n_node.shape[0]).astype(np.int32)
    part = Ids(
        new[ids.senders[inside]], new[ids.receivers[inside]], count(owner), count(graph_of_edge)
    )
    edges = jax.tree.map(lambda leaf: np.asarray(leaf)[inside], graph.edges)
    return graph._replace(nodes=_take(graph.nodes, kept), edges=edges, **part._asdict()), kept


def relabel(graph: GraphsTuple, new_ids: ArrayLike) -> GraphsTuple:
    """The same graph with its nodes numbered otherwise: node i becomes node `new_ids[i]`.

    Edges keep their order; `sort_edges` afterwards restores an order by receiver.

    Args:
        graph: one graph or a batch.
        new_ids: [N], every id from 0 to N - 1 once; in a batch nodes stay in their graph.

    Returns:
        The graph; its node features are those of the old nodes in the new order.

    Raises:
        TypeError: ids that are not integers.
        ValueError: not every node is named once, or a node would move to another graph.

    >>> from gatjax.graph import build_graph
    >>> turned = relabel(build_graph([0], [1], [[5.0], [6.0], [7.0]]), [2, 0, 1])
    >>> turned.senders.tolist(), turned.receivers.tolist(), turned.nodes.tolist()
    ([2], [0], [[6.0], [7.0], [5.0]])
    """
    n_node = host_ids(graph).n_node
    total = int(n_node.sum())
    if np.shape(new_ids) != (total,):
        raise ValueError(
            f"new_ids has shape {np.shape(new_ids)}: give one new id for each of the {total} nodes"
        )
    new, owner = node_ids(new_ids, total, "new_ids"), np.repeat(np.arange(len(n_node)), n_node)
    if (node := first_true(owner[new] != owner)) is not None:
        raise ValueError(
            f"new_ids[{node}] = {new[node]} is an id of graph {owner[new[node]]} of the batch, node "
            f"{node} is in graph {owner[node]}: number the nodes of each graph among themselves"
        )
    old = np.empty(total, np.int32)
    old[new] = np.arange(total, dtype=np.int32)
    return subgraph(graph, old)[0]


def node_ids(nodes: ArrayLike, total: int, name: str = "nodes") -> np.ndarray:
    """Distinct ids of nodes, or of rows of any table, int32, from ids or a mask."""
    array = np.asarray(nodes)
    if array.dtype == bool:
        if array.shape != (total,):
            raise ValueError(f"{name} is a mask of shape {array.shape}: it must be ({total},)")
        return np.flatnonzero(array).astype(np.int32)
    ids = integers(name, array)
    if (row := first_true(ids >= total)) is not None:
        raise ValueError(f"{name}[{row}] = {ids[row]} is no node: ids run from 0 to {total - 1}")
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    if (row := first_true(again)) is not None:
        raise ValueError(f"{name}[{row}] = {ids[row]} occurs twice: name a node once")
    return ids


def _take(features: PyTree, rows: np.ndarray) -> PyTree:
    take = lambda leaf: _sparse_rows(leaf, rows) if is_sparse(leaf) else np.asarray(leaf)[rows]
    return jax.tree.map(take, features, is_leaf=is_sparse)


def _sparse_rows(matrix: Any, rows: np.ndarray) -> BCOO:
    """Rows of a BCOO in the order given; its entries stay sorted if they were."""
    if not isinstance(matrix, BCOO) or matrix.n_batch:
        raise TypeError(
            f"nodes holds a {type(matrix).__name__} whose rows cannot be taken: densify it first "
            "with graph._replace(nodes=graph.nodes.todense())"
        )
    indices, data = np.asarray(matrix.indices), np.asarray(matrix.data)
    # Padding entries of a BCOO have the row N.
    new = np.full(matrix.shape[0] + 1, -1, np.int64)
    new[rows] = np.arange(len(rows))
    row = new[np.minimum(indices[:, 0], matrix.shape[0])]
    entries = np.flatnonzero(row >= 0)
    entries = entries[np.argsort(row[entries], kind="stable")]
    indices = np.concatenate([row[entries, None], indices[entries, 1:]], axis=1)
    return BCOO(
        (jnp.asarray(data[entries]), jnp.asarray(indices.astype(np.int32))),
        shape=(len(rows), *matrix.shape[1:]),
        indices_sorted=matrix.indices_sorted,
        unique_indices=matrix.unique_indices,
    )
