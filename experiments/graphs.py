"""Graphs to measure on: edges sorted by receiver, nothing else."""

import functools
from typing import Any, NamedTuple

import numpy as np


class Edges(NamedTuple):
    """Senders and receivers [E], sorted by receiver, and the number of nodes."""

    senders: np.ndarray
    receivers: np.ndarray
    num_nodes: int


def sorted_edges(senders: np.ndarray, receivers: np.ndarray, num_nodes: int) -> Edges:
    order = np.lexsort((senders, receivers))
    return Edges(senders[order].astype(np.int32), receivers[order].astype(np.int32), num_nodes)


def power_law(num_nodes: int, num_edges: int) -> Edges:
    """Both degrees fall off as a power law."""
    random = np.random.default_rng(0)
    weight = np.arange(1, num_nodes + 1) ** -0.6
    chance = weight / weight.sum()
    names = random.permutation(num_nodes)
    senders, receivers = (names[random.choice(num_nodes, num_edges, p=chance)] for _ in range(2))
    return sorted_edges(senders, receivers, num_nodes)


def regular(num_nodes: int, num_edges: int) -> Edges:
    """As many edges into one node as into any other, up to one; senders at random."""
    random = np.random.default_rng(0)
    return sorted_edges(
        random.integers(num_nodes, size=num_edges), np.arange(num_edges) % num_nodes, num_nodes
    )


def hub(num_nodes: int, num_edges: int) -> Edges:
    """The regular graph, with a tenth of all edges bent into one node."""
    senders, receivers, _ = regular(num_nodes, num_edges)
    bent = np.random.default_rng(1).random(num_edges) < 0.1
    return sorted_edges(senders, np.where(bent, num_nodes // 2, receivers), num_nodes)


def molecules(num_graphs: int = 1000, nodes_each: int = 23) -> Edges:
    """A batch of trees with three rings closed in each, both directions and self-loops: like small molecules."""
    random = np.random.default_rng(0)
    parents = [
        random.integers(max(child - 4, 0), child, size=num_graphs) for child in range(1, nodes_each)
    ]
    tree = np.stack(
        [np.stack(parents), np.repeat(np.arange(1, nodes_each)[:, None], num_graphs, 1)]
    )
    rings = random.integers(nodes_each, size=(2, 3, num_graphs))
    loops = np.repeat(np.arange(nodes_each)[:, None], num_graphs, 1)
    pairs = np.concatenate([tree, rings], axis=1)
    ends = np.concatenate([pairs, pairs[::-1], np.stack([loops, loops])], axis=1)
    senders, receivers = (ends + nodes_each * np.arange(num_graphs)).reshape(2, -1)
    return sorted_edges(senders, receivers, num_graphs * nodes_each)


def citation(name: str) -> Edges:
    """A citation graph with its self-loops."""
    from gatjax import add_self_loops
    from gatjax.data import load

    graph = add_self_loops(load(name).graph)
    return sorted_edges(
        np.asarray(graph.senders), np.asarray(graph.receivers), int(graph.n_node.sum())
    )


def features_of(name: str, layout: str) -> Any:
    """The features of a citation graph, dense or sparse."""
    from gatjax.data import load

    nodes = load(name, features=layout).graph.nodes
    return nodes if layout == "sparse" else np.asarray(nodes)


@functools.lru_cache(maxsize=4)
def named(name: str, num_nodes: int, num_edges: int) -> Edges:
    """A graph by name; the sizes are those of the made-up ones."""
    made_up = {"power law": power_law, "regular": regular, "hub": hub}
    if name in made_up:
        return made_up[name](num_nodes, num_edges)
    return molecules() if name == "molecules" else citation(name)
