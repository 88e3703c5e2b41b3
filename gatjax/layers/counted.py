"""Which rows of a graph take part, and how all others are kept away from functions on rows.

A function on rows may divide, take roots or logarithms, so a row that does not take part is never handed to it: it
reads a row that does, and what it makes of that is set to 0.
"""

from collections.abc import Callable
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Bool, PyTree
from jraph import GraphsTuple

from gatjax.graph.check import GraphMask, NodeMask, Parts, check_edges, check_mask
from gatjax.graph.messages import shown
from gatjax.graph.sizes import graph_ids, num_nodes
from gatjax.ops.blocks import fill_rows, mask_rows
from gatjax.ops.ends import Ends
from gatjax.ops.segment import segment_max


class AllParts(Parts, total=False):
    """What counts of a graph whose globals are read."""

    graph_mask: GraphMask


class Counted(NamedTuple):
    """The rows that take part.

    Attributes:
      ends: both ends of every edge, and which edges count.
      nodes: [N], None where all do.
      graphs: [G], likewise.
    """

    ends: Ends
    nodes: Bool[Array, "N"] | None
    graphs: Bool[Array, "G"] | None


def check_counted(
    graph: GraphsTuple, *, graph_mask: GraphMask = None, **parts: Unpack[Parts]
) -> Counted:
    """The rows that take part, after every check of the graph, the masks and the weights.

    A node takes part if its mask and that of its graph leave it, an edge if its mask and both of its ends do. Where
    only nodes are named, a graph takes part if one of its nodes does.
    """
    node_mask = parts.get("node_mask")
    if graph_mask is None:
        graphs = graphs_with(graph, node_mask)
        return Counted(
            check_edges(graph, **parts),
            None if node_mask is None else jnp.asarray(node_mask),
            graphs,
        )
    check_mask(len(graph.n_node), graph_mask=graph_mask)
    graphs, total = jnp.asarray(graph_mask), num_nodes(graph)
    check_mask(total, node_mask=node_mask)
    nodes = graphs[graph_ids(graph.n_node, total)] if len(graphs) else jnp.zeros(total, bool)
    nodes = nodes if node_mask is None else nodes & jnp.asarray(node_mask)
    of_edges: Parts = {**parts, "node_mask": nodes}
    return Counted(check_edges(graph, **of_edges), nodes, graphs)


def graphs_with(graph: GraphsTuple, node_mask: NodeMask) -> Bool[Array, "G"] | None:
    """The graphs in which a node takes part; None where all nodes do."""
    if node_mask is None:
        return None
    total = num_nodes(graph)
    check_mask(total, node_mask=node_mask)
    taking_part = jnp.asarray(node_mask).astype(jnp.float32)
    return segment_max(taking_part, graph_ids(graph.n_node, total), len(graph.n_node)) > 0


def apply_to_rows(
    function: Callable[..., PyTree], counted: Bool[Array, "rows"] | None, *tables: PyTree
) -> PyTree:
    """What a function makes of the rows that count, and 0 elsewhere; a norm over rows learns which ones count."""
    if counted is None or not len(counted):
        return function(*tables)
    first = jnp.argmax(counted)
    safe = jnp.where(counted[first], first, len(counted))
    arrays = [jax.tree.map(jnp.asarray, table) for table in tables]
    rows = [fill_rows(table, counted, table, safe) for table in arrays]
    return mask_rows(function(*rows, **norm_mask(function, counted)), counted)


def check_updates(**updates: Callable[..., PyTree] | None) -> None:
    """Every update is a function or a module, or None.

    Raises:
      TypeError: one is not.
    """
    for name, update in updates.items():
        if update is not None and not callable(update):
            raise TypeError(f"{name} must be a function or a module on rows, got {shown(update)}")


def norm_mask(
    function: Callable[..., PyTree], counted: Bool[ArrayLike, "rows"] | None
) -> dict[str, Bool[Array, "rows 1"]]:
    """The argument that tells a norm with running averages which rows count; none for any other function."""
    if counted is None or not hasattr(function, "use_running_average"):
        return {}
    return {"mask": jnp.asarray(counted)[:, None]}


def normalize_rows(
    norm: Callable[..., Array],
    rows: Array,
    counted: Bool[ArrayLike, "rows"] | None,
    deterministic: bool | None,
) -> Array:
    """A norm over rows, which, where it has running averages, learns which to use and which rows count."""
    if not hasattr(norm, "use_running_average"):
        return norm(rows)
    if deterministic is not None:
        norm = nnx.view(norm, use_running_average=deterministic)
    return norm(rows, **norm_mask(norm, counted))
