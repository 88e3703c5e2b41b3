"""The edges into each node, one node after the other."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Int
from jraph import GraphsTuple

from gatjax.graph.check import check_mask
from gatjax.graph.ids import INT32_MAX, first_true
from gatjax.graph.links import ends_of_one
from gatjax.graph.messages import shown

Ids = Int[Array | np.ndarray, "..."]
Mask = Bool[Array | np.ndarray, "..."]

WHOLE = 2**31


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["starts", "senders", "edges", "heights"],
    meta_fields=["has_loops", "steps"],
)
@dataclasses.dataclass(frozen=True)
class Neighbors:
    """The incoming edges of each node, one node after the other; see `neighbors_of`.

    Attributes:
        starts: those of node i stand from `starts[i]` to `starts[i + 1]`, [N + 1].
        senders: where each starts, [E].
        edges: its number in the graph, [E]; None where the graph's edges stand in this order.
        has_loops: whether an edge starts where it ends.
        heights: of edges with weights, the sum of those of its node up to each, in parts of about 2³¹, [E].
        steps: how often that sum must be halved to find an edge in it.
    """

    # JAX rebuilds these from leaves that are no arrays, too.
    starts: Any
    senders: Any
    edges: Any
    has_loops: bool
    heights: Any = None
    steps: int = 0


def neighbors_of(graph: GraphsTuple, edge_weight: Any = None) -> Neighbors:
    """The incoming edges of each node in compressed rows, on the host, once: what neighbours are drawn from.

    Args:
        graph: one graph; an edge given twice is drawn twice as often.
        edge_weight: [E], at least 0, by which neighbours are drawn; all with the same chance by default. Edges of
            weight 0 are left out. A weight is kept as a whole number of parts of 2³¹ of the sum at its node, at least
            1: those of a node that are smaller than a part of it count alike.

    Raises:
        TypeError, ValueError: a graph that is not sound, or of more edges than int32 counts; a batch of several;
            weights that are negative, not finite, or of another number.

    >>> from gatjax.graph import build_graph
    >>> found = neighbors_of(build_graph([2, 0, 1], [1, 1, 0], num_nodes=3))
    >>> found.starts.tolist(), found.senders.tolist(), found.edges.tolist()
    ([0, 1, 3, 3], [1, 2, 0], [2, 0, 1])
    """
    senders, receivers, nodes = ends_of_one(graph)
    return compressed(
        senders, receivers, nodes, edge_weight, has_loops=bool((senders == receivers).any())
    )


def compressed(
    senders: np.ndarray, receivers: np.ndarray, nodes: int, edge_weight: Any, *, has_loops: bool
) -> Neighbors:
    """`neighbors_of` edges into so many nodes, which are known to be sound."""
    if edge_weight is not None:
        return _weighted(senders, receivers, nodes, _checked(edge_weight, len(senders)), has_loops)
    starts = starts_of(np.bincount(receivers, minlength=nodes))
    if (receivers[1:] >= receivers[:-1]).all():
        return Neighbors(starts, senders, None, has_loops)
    edges = np.argsort(receivers, kind="stable").astype(np.int32)
    return Neighbors(starts, senders[edges], edges, has_loops)


def _weighted(
    senders: np.ndarray, receivers: np.ndarray, nodes: int, weight: np.ndarray, has_loops: bool
) -> Neighbors:
    """`neighbors_of`, and how high the weights of each node stand on each other."""
    edges = np.flatnonzero(weight > 0)
    edges = edges[np.argsort(receivers[edges], kind="stable")].astype(np.int32)
    receivers, weight = receivers[edges], weight[edges]
    degree = np.bincount(receivers, minlength=nodes)
    starts = starts_of(degree)
    largest = np.zeros(nodes)
    np.maximum.at(largest, receivers, weight)
    share = weight / largest[receivers]
    total = np.bincount(receivers, share, minlength=nodes)
    parts = np.maximum(share / total[receivers] * (WHOLE - degree[receivers]), 1).astype(np.int64)
    sums = np.concatenate([[0], np.cumsum(parts)])
    heights = (sums[1:] - sums[starts[receivers]]).astype(np.uint32)
    steps = int(degree.max(initial=0)).bit_length()
    return Neighbors(starts, senders[edges], edges, has_loops, heights, steps)


def _checked(edge_weight: Any, count: int) -> np.ndarray:
    weight = np.asarray(edge_weight)
    if not (jnp.issubdtype(weight.dtype, jnp.number) or weight.dtype == bool):
        raise TypeError(f"edge_weight must hold numbers, got dtype {weight.dtype}")
    if weight.shape != (count,):
        raise ValueError(f"edge_weight must be [{count}], one per edge, got {list(weight.shape)}")
    weight = weight.astype(np.float64)
    if (first := first_true(~np.isfinite(weight) | (weight < 0))) is not None:
        raise ValueError(f"edge_weight[{first}] = {weight[first]} must be at least 0, and finite")
    return weight


def starts_of(degree: np.ndarray) -> np.ndarray:
    """Where the edges of each node start, [N + 1].

    Raises:
        ValueError: more edges than int32 counts.

    >>> starts_of(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    starts = np.concatenate([[0], np.cumsum(degree, dtype=np.int64)])
    if starts[-1] > INT32_MAX:
        raise ValueError(
            f"the graph has {starts[-1]} edges, and int32 counts to {INT32_MAX}: split it into parts"
        )
    return starts.astype(np.int32)


def check_no_loops(neighbors: Neighbors) -> None:
    """Refuse a graph with self-loops where every node is to get one.

    Raises:
        ValueError: it has.
    """
    if neighbors.has_loops:
        raise ValueError(
            "the graph has self-loops, and self_loops=True would add others: take out the graph's by "
            "remove_self_loops(graph), or leave self_loops out"
        )


def check_nodes(neighbors: Neighbors, mask: Mask | None = None, **named: Any) -> None:
    """Refuse what is no vector of ids, and ids out of range that are known and that the mask leaves.

    Raises:
        TypeError, ValueError: by name.
    """
    ((name, nodes),) = named.items()
    if not hasattr(nodes, "dtype") or not np.issubdtype(nodes.dtype, np.integer) or nodes.ndim != 1:
        raise TypeError(
            f"{name} must be a vector of integers, such as np.array([0, 1]), got {shown(nodes)}"
        )
    check_mask(len(nodes), mask=mask)
    if isinstance(nodes, Tracer) or isinstance(mask, Tracer):
        return
    ids, total = np.asarray(nodes), len(neighbors.starts) - 1
    bad = (ids < 0) | (ids >= total)
    bad = bad if mask is None else bad & np.asarray(mask)
    if (first := first_true(bad)) is not None:
        raise ValueError(f"{name}[{first}] = {ids[first]} is no node: there are {total}")
