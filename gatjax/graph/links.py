"""Edges as what is to be predicted: some are kept back, and pairs without an edge are drawn beside them.

A pair of nodes has no direction here: both directions of an edge, and its duplicates, stay together. Shapes: N nodes, E
edges, P pairs. Everything runs on the host, on concrete values, before `jax.jit` and padding.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int
from jraph import GraphsTuple

from gatjax.graph.ids import host_ids
from gatjax.graph.messages import check_integer, shown


class Pairs(NamedTuple):
    """Pairs of nodes, each once.

    Attributes:
      senders: node j of each pair, [P].
      receivers: node i of each pair, [P].
    """

    senders: Int[Array | np.ndarray, "P"]
    receivers: Int[Array | np.ndarray, "P"]


class EdgeSplit(NamedTuple):
    """What `split_edges` makes of a graph.

    Attributes:
      graph: the graph with its training edges and self-loops alone, which carry messages.
      train: pairs to learn from.
      validation: pairs for early stopping; no edge of the graph joins them.
      test: pairs that are looked at once, at the end; no edge of the graph joins them.
    """

    graph: GraphsTuple
    train: Pairs
    validation: Pairs
    test: Pairs


class NeighborTable(NamedTuple):
    """The neighbours of each node in order, where `jax.jit` can look a pair up; see `neighbor_table`.

    Attributes:
      starts: those of node i stand from `starts[i]` to `starts[i + 1]`, [N + 1].
      neighbors: ids, ascending within each node.
    """

    starts: Int[Array | np.ndarray, "ends"]
    neighbors: Int[Array | np.ndarray, "places"]


def split_edges(
    graph: GraphsTuple,
    *,
    validation: float = 0.05,
    test: float = 0.1,
    supervision: float | None = None,
    seed: int = 0,
) -> EdgeSplit:
    """Keep some edges back, to be predicted from the others.

    Args:
        graph: one graph; self-loops carry messages and are never predicted.
        validation: share of the pairs with an edge that is kept back for validation, rounded down; 0 for none.
        test: likewise for the test.
        supervision: share of the training pairs that are to be predicted and carry no messages, so
            that a pair is never predicted from its own edge; by default all of them do both, as in
            graph auto-encoders.
        seed: the split is a function of the graph and the seed alone.

    Returns:
        The graph that carries messages, its edges in their old order, and three sets of pairs: an
        edge in both directions, or more than once, is one pair, and one in a single direction keeps
        it.

    Raises:
        TypeError: a seed that is no integer.
        ValueError: a batch of several graphs, or shares that leave a part without a pair.

    >>> from gatjax.graph import build_graph
    >>> ring = build_graph([0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3], num_nodes=4)
    >>> split = split_edges(ring, validation=0.25, test=0.25)
    >>> len(split.graph.senders), [len(pairs.senders) for pairs in split[1:]]
    (4, [2, 1, 1])

    Kipf and Welling, Variational graph auto-encoders, 2016, keep 5 % and 10 % back.
    """
    senders, receivers, _ = ends_of_one(graph)
    pair_of_edge, first = _pairs_of(senders, receivers)
    total = len(first)
    order = generator(seed).permutation(total)
    sizes = {
        "test": _share("test", test, total, or_none=True),
        "validation": _share("validation", validation, total, or_none=True),
    }
    if sum(sizes.values()) >= total:
        raise ValueError(
            f"validation={validation} and test={test} leave none of {total} pairs to train on; lower them"
        )
    parts = np.split(order, np.cumsum(list(sizes.values())))
    if supervision is None:
        supervised, silent = parts[2], np.concatenate(parts[:2])
    else:
        number = _share("supervision", supervision, len(parts[2]))
        if number == len(parts[2]):
            raise ValueError(f"supervision={supervision} leaves no edge for messages; lower it")
        supervised, silent = parts[2][:number], np.concatenate([*parts[:2], parts[2][:number]])
    held = np.zeros(total + 1, bool)
    held[silent] = True
    kept = np.flatnonzero(~held[pair_of_edge])
    pairs = lambda chosen: Pairs(*(ids[first[np.sort(chosen)]] for ids in (senders, receivers)))
    messages = graph._replace(
        senders=senders[kept],
        receivers=receivers[kept],
        edges=jax.tree.map(lambda leaf: np.asarray(leaf)[kept], graph.edges),
        n_edge=np.array([len(kept)], np.int32),
    )
    return EdgeSplit(messages, pairs(supervised), pairs(parts[1]), pairs(parts[0]))


def sample_negative_edges(graph: GraphsTuple, count: int, *, seed: int = 0) -> Pairs:
    """Pairs of different nodes without an edge in either direction, every such pair with the same chance.

    Memory grows with the edges and the count, not with the square of the nodes.

    Args:
        graph: one graph, with all its edges: those that are kept back are true as well.
        count: how many pairs; no pair comes twice.
        seed: of the draw.

    Returns:
        `count` pairs in random order.

    Raises:
        TypeError: a count or seed that is no integer.
        ValueError: a batch of several graphs, or fewer pairs without an edge than that.

    >>> from gatjax.graph import build_graph
    >>> path = build_graph([0, 1, 2], [1, 2, 3], num_nodes=4)
    >>> pairs = sample_negative_edges(path, 3)
    >>> sorted(zip(pairs.senders.tolist(), pairs.receivers.tolist()))
    [(0, 2), (0, 3), (1, 3)]
    """
    senders, receivers, nodes = ends_of_one(graph)
    check_integer(count=count)
    low, high = np.minimum(senders, receivers), np.maximum(senders, receivers)
    edges = np.unique(_place(low, high)[low != high])
    free = nodes * (nodes - 1) // 2 - len(edges)
    if not 0 <= count <= free:
        raise ValueError(
            f"count={count}: there are {free} pairs of different nodes without an edge, so give 0 to {free}"
        )
    # The places of all pairs are numbered; rank r among those without an edge stands behind every edge whose place
    # leaves at most r free places before it.
    ranks = generator(seed).choice(free, count, replace=False)
    places = ranks + np.searchsorted(edges - np.arange(len(edges)), ranks, side="right")
    return _at_place(places)


def neighbor_table(graph: GraphsTuple) -> NeighborTable:
    """The neighbours of each node, in both directions, in order.

    Args:
        graph: one graph.

    Returns:
        A table for `gatjax.training.draw_pairs` and the like.

    Raises:
        ValueError: a batch of several graphs.

    >>> from gatjax.graph import build_graph
    >>> table = neighbor_table(build_graph([0, 2], [1, 1], num_nodes=3))
    >>> table.starts.tolist(), table.neighbors.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1])
    """
    senders, receivers, nodes = ends_of_one(graph)
    here = np.concatenate([receivers, senders]).astype(np.int64)
    there = np.concatenate([senders, receivers])
    here, there = np.divmod(np.unique(here * nodes + there), max(nodes, 1))
    starts = np.searchsorted(here, np.arange(nodes + 1))
    return NeighborTable(starts.astype(np.int32), there.astype(np.int32))


def ends_of_one(graph: GraphsTuple) -> tuple[np.ndarray, np.ndarray, int]:
    """Senders, receivers and the number of nodes of a graph, on the host.

    Raises:
      TypeError, ValueError: a graph that is not sound, or a batch of several.
    """
    senders, receivers, n_node, _ = host_ids(graph)
    if len(n_node) != 1:
        raise ValueError(
            f"graph is a batch of {len(n_node)}: give one at a time, see gatjax.unbatch"
        )
    return senders, receivers, int(n_node[0])


def _pairs_of(senders: np.ndarray, receivers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pair of each edge, for a self-loop that after the last; and the first edge of each pair."""
    low, high = np.minimum(senders, receivers), np.maximum(senders, receivers)
    between = np.flatnonzero(low != high)
    _, first, pair = np.unique(_place(low, high)[between], return_index=True, return_inverse=True)
    pair_of_edge = np.full(len(senders), len(first), np.int64)
    pair_of_edge[between] = pair
    return pair_of_edge, between[first]


def _place(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The place of each pair low < high among all pairs: (0, 1), (0, 2), (1, 2), (0, 3), ..."""
    high = high.astype(np.int64)
    return high * (high - 1) // 2 + low


def _at_place(places: np.ndarray) -> Pairs:
    high = ((1 + np.sqrt(1 + 8 * places.astype(np.float64))) / 2).astype(np.int64)
    # The root is rounded.
    high -= high * (high - 1) // 2 > places
    high += high * (high + 1) // 2 <= places
    return Pairs((places - high * (high - 1) // 2).astype(np.int32), high.astype(np.int32))


def _share(name: str, fraction: float, total: int, *, or_none: bool = False) -> int:
    """So many of all pairs; at least one, unless none are asked for."""
    if or_none and fraction == 0:
        return 0
    if not 0 < fraction < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {shown(fraction)}")
    if (number := int(fraction * total + 1e-9)) < 1:
        raise ValueError(
            f"{name}={fraction} of {total} pairs is none; raise it to more than {1 / max(total, 1):.2g}"
        )
    return number


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed that is checked."""
    check_integer(seed=seed)
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    return np.random.default_rng(seed)
