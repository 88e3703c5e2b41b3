"""One graph many times, for signals that share it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree
from jraph import GraphsTuple

from gatjax.graph.ids import require_dense
from gatjax.graph.messages import check_at_least
from gatjax.graph.sizes import num_nodes


def disjoint_copies(graph: GraphsTuple, count: int) -> GraphsTuple:
    """The graph `count` times, side by side, as a batch; inside `jax.jit` too, where `batch` is of the host.

    ```
    copy b of node i is node b N + i, of edge e is edge b E + e
    ```

    Args:
      graph: one graph or a batch of N nodes and E edges.
      count: how many copies, from 1 on.

    Raises:
      TypeError: sparse node features.
      ValueError: no copy at all.

    >>> from gatjax.graph import build_graph
    >>> twice = disjoint_copies(build_graph([0], [1], jnp.eye(2)), 2)
    >>> twice.senders.tolist(), twice.receivers.tolist(), twice.n_node.tolist()
    ([0, 2], [1, 3], [2, 2])
    """
    check_at_least(1, count=count)
    require_dense(graph, "copy")
    if count == 1:
        return graph
    rows = num_nodes(graph)

    def moved(ids: Any) -> Array:
        ids = jnp.asarray(ids)
        there = ids[None] + jnp.arange(count, dtype=ids.dtype)[:, None] * rows
        # An id out of range names a node of no copy.
        return jnp.where((ids >= 0) & (ids < rows), there, -1).reshape(-1)

    return GraphsTuple(
        nodes=tiled(graph.nodes, count),
        edges=tiled(graph.edges, count),
        globals=tiled(graph.globals, count),
        n_node=tiled(graph.n_node, count),
        n_edge=tiled(graph.n_edge, count),
        senders=moved(graph.senders),
        receivers=moved(graph.receivers),
    )


def tiled(rows: PyTree, count: int) -> PyTree:
    """Every table `count` times, one below the other."""

    def tile(table: ArrayLike) -> Array:
        table = jnp.asarray(table)
        return jnp.broadcast_to(table, (count, *table.shape)).reshape(
            count * table.shape[0], *table.shape[1:]
        )

    return jax.tree.map(tile, rows)
