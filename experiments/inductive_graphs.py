"""Many graphs with several labels per node: PPI, and a generated family; and all of them as tables of one size.

Shapes: K graphs, of at most N nodes and E edges; F features, L labels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jraph import GraphsTuple

from gatjax import add_self_loops, build_graph, num_nodes
from gatjax.data import LabelledGraphs, Splits
from gatjax.graph.sizes import num_edges

LOUD = 2.0


class Stacked(NamedTuple):
    """Graphs of one size: their nodes and edges, padded, and which there are.

    Attributes:
      nodes: [K, N, F].
      labels: [K, N, L]; NaN where there is no node.
      senders, receivers: [K, E], counted in each graph.
      node_mask: [K, N].
      edge_mask: [K, E].
    """

    nodes: np.ndarray
    labels: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    node_mask: np.ndarray
    edge_mask: np.ndarray


class Joined(NamedTuple):
    """Some of them as one graph: its labels, and what of it counts."""

    graph: GraphsTuple
    labels: jax.Array
    node_mask: jax.Array
    edge_mask: jax.Array


def generated(
    *, graphs: int, nodes: int, degree: int = 12, content: int = 8, labels: int = 12, seed: int = 0
) -> LabelledGraphs:
    """Graphs in which a node's labels are what its open neighbours say, and closed ones say more, and louder.

    A node is open or closed, which is a feature of its own, and says something, `content` numbers, twice as loud where
    it is closed. Label k of a node is 1 where direction k of the sum of what its open neighbours and itself, if open,
    say is above 0; directions are the same in all graphs. Four of five graphs train, of at least three.
    """
    random = np.random.default_rng(seed)
    directions = random.normal(size=(content, labels))
    made, known = [], []
    for _ in range(graphs):
        ends = random.integers(nodes, size=(nodes * degree // 2, 2))
        ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1), axis=0)
        is_open = random.random(nodes) < 0.4
        said = random.normal(size=(nodes, content)) * np.where(is_open, 1, LOUD)[:, None]
        features = np.concatenate([np.where(is_open, 1, -1)[:, None], said], axis=1)
        senders, receivers = np.concatenate([ends, ends[:, ::-1]]).T
        heard = said * is_open[:, None]
        np.add.at(heard, receivers, (said * is_open[:, None])[senders])
        made.append(build_graph(senders, receivers, features.astype(np.float32)))
        known.append((heard @ directions > 0).astype(np.float32))
    held_out = max(1, graphs // 10)
    parts = np.split(np.arange(graphs, dtype=np.int32), [graphs - 2 * held_out, graphs - held_out])
    return LabelledGraphs("generated", tuple(made), tuple(known), Splits(*parts), f"seed {seed}")


def stacked(data: LabelledGraphs) -> Stacked:
    """All graphs, with self-loops; features are standardised by the nodes of the graphs that train."""
    trained = np.concatenate([np.asarray(data.graphs[k].nodes) for k in data.splits.train])
    mean, deviation = trained.mean(axis=0), trained.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    graphs = [
        add_self_loops(graph._replace(nodes=(np.asarray(graph.nodes) - mean) / deviation))
        for graph in data.graphs
    ]
    most = max(map(num_nodes, graphs)), max(map(num_edges, graphs))

    def table(rows: list[np.ndarray], size: int, fill: float) -> np.ndarray:
        found = np.full((len(rows), size, *rows[0].shape[1:]), fill, rows[0].dtype)
        for each, of_graph in zip(found, rows, strict=True):
            each[: len(of_graph)] = of_graph
        return found

    ends = (
        [np.asarray(getattr(graph, end)) for graph in graphs] for end in ("senders", "receivers")
    )
    senders, receivers = (table(ids, most[1], 0) for ids in ends)
    there = [np.full(len(labels), True) for labels in data.labels]
    joined = [np.full(num_edges(graph), True) for graph in graphs]
    return Stacked(
        table([np.asarray(graph.nodes, np.float32) for graph in graphs], most[0], 0),
        table(list(data.labels), most[0], np.nan),
        senders,
        receivers,
        table(there, most[0], False),
        table(joined, most[1], False),
    )


def joined(data: Stacked, chosen: jax.Array | np.ndarray) -> Joined:
    """Some graphs as one, in which they are not joined; also inside `jax.jit`, for so many of them."""
    some = jax.tree.map(lambda table: jnp.asarray(table)[chosen], data)
    count, nodes = some.node_mask.shape
    flat = lambda table: table.reshape(-1, *table.shape[2:])
    start = (jnp.arange(count, dtype=jnp.int32) * nodes)[:, None]
    graph = GraphsTuple(
        nodes=flat(some.nodes),
        edges=None,
        senders=flat(some.senders + start),
        receivers=flat(some.receivers + start),
        globals=None,
        n_node=jnp.array([count * nodes]),
        n_edge=jnp.array([some.edge_mask.size]),
    )
    return Joined(graph, *map(flat, (some.labels, some.node_mask, some.edge_mask)))
