"""The edges of a graph with masks and weights, and the errors that say what is wrong with them.

An edge runs sender -> receiver. Shapes: N nodes, E edges, G graphs. `check_edges` is the one door through which
functions and layers read the edges of a graph: outside `jax.jit` it validates the whole graph, inside it checks what is
known there.
"""

from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.graph.ids import INT32_MAX, check_table, first_true, integer_remedy, validate
from gatjax.graph.sizes import num_nodes, num_rows, require_graph
from gatjax.graph.views import Seen
from gatjax.ops.ends import Ends, safe_ends
from gatjax.ops.pairs import PairIds, all_pairs
from gatjax.ops.segment import wide_ids
from gatjax.ops.sparse import Features

EdgeMask = Bool[ArrayLike, "E"] | None
NodeMask = Bool[ArrayLike, "N"] | None
SenderMask = Bool[ArrayLike, "M"] | None
GraphMask = Bool[ArrayLike, "G"] | None
EdgeWeight = Float[ArrayLike, "E"] | None

_REMEDIES = {
    "edge_weight": ": while edges are added, merged or sorted, let graph._replace(edges=edge_weight[:, None]) carry "
    "the weights, and split_weights(graph) gives them back"
}


class Parts(TypedDict, total=False):
    """What counts of a graph, and how much: the arguments of `check_edges`."""

    edge_mask: EdgeMask
    edge_weight: EdgeWeight
    node_mask: NodeMask


class SideParts(Parts, total=False):
    """The same where senders may have a table of their own."""

    senders: Features | Seen | None
    sender_mask: SenderMask


def check_padding(graph: GraphsTuple, *masks: Any) -> None:
    """Refuse to take padding for nodes: a batch in `Slots`, which has it within its graphs, needs one of the masks.

    Raises:
        ValueError: there is none.
    """
    in_slots = all_pairs(graph.senders, graph.receivers) is not None
    if in_slots and all(mask is None for mask in masks):
        raise ValueError(
            "a batch in Slots has padding within its graphs: pass node_mask=masks.node, of the masks that came with it"
        )


def check_graph(graph: GraphsTuple, num_senders: int | None = None) -> None:
    """What a layer can check of its input: everything outside `jax.jit`, types and lengths inside.

    Raises:
        TypeError: no `GraphsTuple`, or ids that are not integers.
        ValueError: lengths that disagree; outside `jax.jit`, all that `validate` finds.
    """
    require_graph(graph)
    fields = ("senders", "receivers", "n_node", "n_edge")
    if not any(isinstance(getattr(graph, name), Tracer) for name in fields):
        validate(graph, num_senders)
        return
    for name in fields:
        dtype = getattr(graph, name).dtype
        if not np.issubdtype(dtype, np.integer):
            raise TypeError(f"{name} must be integers, got {dtype}; use {name}.astype(np.int32)")
    total, num_receivers = num_rows(graph.senders), num_rows(graph.receivers)
    if num_receivers != total:
        raise ValueError(
            f"senders has {total} ids and receivers has {num_receivers}: an edge needs both ends"
        )
    check_table("edges", graph.edges, total, "the number of edges")


def check_edges(
    graph: GraphsTuple,
    edge_mask: EdgeMask = None,
    *,
    edge_weight: EdgeWeight = None,
    node_mask: NodeMask = None,
    senders: Features | Seen | None = None,
    sender_mask: SenderMask = None,
) -> Ends:
    """The edges of a graph, ready to be gathered with, after every check of the graph, the masks and the weights.

    Args:
        graph: one graph or a batch.
        edge_mask: edges that take part, [E]; all by default.
        edge_weight: how much each edge counts, [E]; all alike by default.
        node_mask: nodes that take part, [N]; all by default.
        senders: the table [M, F] whose rows the ids of senders name; the nodes by default.
        sender_mask: rows of that table that take part, [M]; all by default.

    Returns:
        Both ends of every edge; an edge counts if both name a node that takes part, and the mask leaves it.

    Raises:
        TypeError, ValueError: as `check_graph`; masks that are not boolean, weights that are no real numbers, or of
            another length.

    >>> from gatjax.graph import build_graph
    >>> check_edges(build_graph([0, 1], [1, 0], num_nodes=2), jnp.array([True, False])).counted.tolist()
    [True, False]
    """
    num_senders = _num_rows(senders, sender_mask)
    check_graph(graph, num_senders)
    nodes = num_nodes(graph)
    check_mask(nodes, node_mask=node_mask)
    check_padding(graph, node_mask, edge_mask)
    if num_senders is None:
        num_senders, sender_mask = nodes, node_mask
    check_mask(num_senders, sender_mask=sender_mask)
    ends = graph.senders, graph.receivers, num_senders, nodes
    return check_ends(*ends, edge_mask, edge_weight=edge_weight, row_masks=(sender_mask, node_mask))


def _num_rows(senders: Any, sender_mask: SenderMask) -> int | None:
    """M, where senders have a table of their own."""
    if senders is None:
        if sender_mask is not None:
            raise ValueError(
                "sender_mask is of a table of senders, and there is none: pass senders=[M, F], or node_mask"
            )
        return None
    if not isinstance(senders, Features | Seen) or senders.ndim != 2:
        got = list(np.shape(senders)) if isinstance(senders, Features) else type(senders).__name__
        raise ValueError(f"senders must be [M, F], an array or a BCOO, got {got}")
    return senders.shape[0]


def check_ends(
    senders: ArrayLike | PairIds | None,
    receivers: ArrayLike | PairIds | None,
    num_senders: int | None,
    num_receivers: int,
    edge_mask: EdgeMask = None,
    *,
    edge_weight: EdgeWeight = None,
    row_masks: tuple[SenderMask, NodeMask] = (None, None),
) -> Ends:
    """As `check_edges`, for edges that join the rows of two tables; ids out of range do not count."""
    pairs = all_pairs(senders, receivers)
    if (
        pairs is not None
        and not num_senders == num_receivers == pairs.slots.graphs * pairs.slots.nodes
    ):
        pairs = None
    senders, receivers = _edge_ids("senders", senders), _edge_ids("receivers", receivers)
    _check_mask("edge_mask", edge_mask)
    _check_weight(edge_weight)
    tables = {"receivers": receivers, "edge_mask": edge_mask, "edge_weight": edge_weight}
    check_lengths(len(senders), **tables)
    ends = safe_ends(senders, receivers, num_senders, num_receivers, edge_mask, row_masks)
    ends = ends._replace(pairs=pairs)
    return ends if edge_weight is None else ends._replace(weight=jnp.asarray(edge_weight))


def check_mask(length: int, **masks: Any) -> None:
    """Every mask is boolean and of this length, or None.

    Raises:
        TypeError, ValueError: one is not.
    """
    for name, mask in masks.items():
        if mask is not None:
            _check_mask(name, mask)
            check_lengths(length, **{name: mask})


def _check_array(name: str, values: Any) -> None:
    if isinstance(values, list | tuple):
        raise TypeError(
            f"{name} must be an array, got a {type(values).__name__}; use np.array({name})"
        )


def _check_mask(name: str, mask: Any) -> None:
    if mask is None:
        return
    _check_array(name, mask)
    if not jnp.issubdtype(jnp.result_type(mask), bool):
        raise TypeError(f"{name} must be boolean, got {jnp.result_type(mask)}; use {name} > 0")
    if np.ndim(mask) > 1:
        remedy = f"; use {name}[:, 0]" if np.shape(mask)[1:] == (1,) else ""
        raise ValueError(f"{name} must have one axis, got {list(np.shape(mask))}{remedy}")


def _check_weight(weight: Any) -> None:
    if weight is None:
        return
    _check_array("edge_weight", weight)
    dtype = jnp.result_type(weight)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"edge_weight must be real numbers, got {dtype}; use edge_weight.astype(jnp.float32), "
            "or edge_mask for edges that take part or not"
        )
    if np.ndim(weight) != 1:
        raise ValueError(
            f"edge_weight must be [E], one number per edge, got {list(np.shape(weight))}; "
            "a weight per head is the multiplier of graph_attention"
        )


def check_not_negative(name: str, values: Array) -> None:
    """Refuse negative numbers, where they are known.

    Raises:
        ValueError: one is negative.
    """
    if isinstance(values, Tracer):
        return
    if (first := first_true(np.asarray(values) < 0)) is not None:
        raise ValueError(f"{name}[{first}] = {values[first]} is negative: it must be at least 0")


def check_lengths(length: int | None, **tables: PyTree) -> None:
    """Every array of every table has so many rows.

    Raises:
        TypeError: one is a list of numbers.
        ValueError: one has another number of rows, by name.
    """
    for name, table in tables.items():
        arrays = jax.tree.leaves(table)
        if arrays and all(isinstance(leaf, float | int) for leaf in arrays):
            _check_array(name, table)
        for leaf in arrays:
            if np.shape(leaf)[:1] != (length,):
                got = np.shape(leaf)[0] if np.ndim(leaf) else "a number"
                raise ValueError(
                    f"{name} must have {length} rows, got {got}{_REMEDIES.get(name, '')}"
                )


def _edge_ids(name: str, ids: ArrayLike | PairIds | None) -> Int[Array, "E"]:
    if isinstance(ids, PairIds):
        return ids.array(jnp)
    ids = ids if isinstance(ids, jax.Array) else np.asarray(ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        named = ids.dtype.kind in "OSU"
        remedy = (
            integer_remedy(name, np.asarray(ids))
            if named
            else f"use jnp.asarray({name}).astype(jnp.int32)"
        )
        raise TypeError(f"{name} must be integers, got {ids.dtype}; {remedy}")
    if ids.ndim != 1:
        raise ValueError(f"{name} must have one axis [E], got {list(ids.shape)}")
    if isinstance(ids, np.ndarray):
        outside = (ids > INT32_MAX) | (ids < -INT32_MAX - 1)
        if (first := first_true(outside)) is not None:
            raise ValueError(
                f"{name}[{first}] has the id {ids[first]}, over int32: number the nodes from 0, "
                "and mark an edge that does not count by -1"
            )
    return wide_ids(jnp.asarray(ids))
