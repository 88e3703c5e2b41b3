"""Random graphs with the shortest paths to one of their nodes: what `graph_network.py` trains and tests on."""

from typing import Any, NamedTuple

import numpy as np
from jraph import GraphsTuple
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from gatjax import build_graph


class Paths(NamedTuple):
    """Graphs with the answer: which edges j -> i lead from the next node j of i's shortest path to i.

    Nodes carry 1 at the goal and 0 elsewhere, edges their weight; an edge runs in both directions.
    """

    graph: GraphsTuple
    next_hop: Any
    edge_mask: Any


def make_paths(rng: np.random.Generator, total: int, probability: float) -> Paths:
    """One random connected graph, its goal, and the next hop of every other node."""
    chosen = np.triu(rng.random((total, total)) < probability, 1)
    order = rng.permutation(total)
    chosen[np.minimum(order[1:], order[:-1]), np.maximum(order[1:], order[:-1])] = True
    one, other = np.nonzero(chosen)
    senders, receivers = np.concatenate([one, other]), np.concatenate([other, one])
    weight = np.tile(rng.uniform(0.05, 1.0, len(one)), 2)
    goal = rng.integers(total)
    distance = dijkstra(
        csr_array((weight, (senders, receivers)), shape=(total, total)), indices=goal
    )
    through = weight + distance[senders]
    next_hop = np.zeros(len(senders), bool)
    for i in set(range(total)) - {int(goal)}:
        entering = np.flatnonzero(receivers == i)
        next_hop[entering[through[entering].argmin()]] = True
    nodes = (np.arange(total) == goal)[:, None].astype(np.float32)
    graph = build_graph(senders, receivers, nodes, edges=weight[:, None].astype(np.float32))
    return Paths(graph, next_hop, np.ones(len(senders), bool))
