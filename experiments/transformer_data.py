"""The graphs of `transformers.py`, made by the rules of the papers that they come from.

Shapes: K graphs, N nodes of one of them.
"""

from typing import Any, NamedTuple

import numpy as np
from jraph import GraphsTuple

from gatjax import build_graph

# Circular skip links: 41 nodes on a circle, each joined to those so many steps on.
CSL_NODES, CSL_SKIPS, CSL_COPIES = 41, (2, 3, 4, 5, 6, 9, 11, 12, 13, 16), 15

# Stochastic block models: least and most nodes of a community, the latter exclusive.
LEAST, MOST = 5, 35
VALUES = 3
GRAPHS_PER_PATTERN = 100
# Of test graphs, so that a few hundred of them have many patterns.
TEST_GRAPHS_PER_PATTERN = 10


class Labelled(NamedTuple):
    """Graphs, and of each a class, or a class for each of its nodes."""

    graphs: list[GraphsTuple]
    labels: list[np.ndarray]


def circular_skip_links(seed: int) -> Labelled:
    """150 graphs of ten classes, 15 permutations of each; all nodes look alike.

    Murphy et al., Relational Pooling for Graph Representations, ICML 2019.
    """
    generator = np.random.default_rng(seed)
    around, graphs = np.arange(CSL_NODES), []
    for skip in CSL_SKIPS:
        for _ in range(CSL_COPIES):
            ends = np.concatenate([[around, around + 1], [around, around + skip]], 1) % CSL_NODES
            ends = generator.permutation(CSL_NODES)[ends]
            senders, receivers = np.concatenate([ends, ends[::-1]], 1)
            graphs.append(build_graph(senders, receivers, np.ones((CSL_NODES, 1), np.float32)))
    classes = np.repeat(np.arange(len(CSL_SKIPS)), CSL_COPIES)
    return Labelled(graphs, [np.asarray(each) for each in classes])


def csl_folds(seed: int, count: int = 5) -> list[np.ndarray]:
    """Test graphs of each fold, as many of every class."""
    generator = np.random.default_rng(seed)
    copies = [generator.permutation(CSL_COPIES) for _ in CSL_SKIPS]
    places = np.stack([CSL_COPIES * k + order for k, order in enumerate(copies)])
    return [fold.reshape(-1) for fold in np.split(places, count, axis=1)]


def tree(depth: int) -> GraphsTuple:
    """A binary tree whose edges lead from children to parents, and a self-loop on each node; the root is node 0."""
    nodes = 2 ** (depth + 1) - 1
    children = np.arange(1, nodes)
    senders = np.concatenate([children, np.arange(nodes)])
    receivers = np.concatenate([(children - 1) // 2, np.arange(nodes)])
    return build_graph(senders, receivers, num_nodes=nodes)


class Lookups(NamedTuple):
    """Trees that ask their root for the value of the leaf with a key: keys and values [K, N], the answers [K]."""

    keys: np.ndarray
    values: np.ndarray
    answers: np.ndarray


def tree_lookups(depth: int, permutations: int, seed: int = 11) -> Lookups:
    """Each permutation of the values over the leaves, asked for every key.

    Tree-NeighborsMatch of Alon, Yahav, On the Bottleneck of Graph Neural Networks, ICLR 2021.
    """
    generator = np.random.default_rng(seed)
    leaves, nodes = 2**depth, 2 ** (depth + 1) - 1
    of_leaves = np.stack([generator.permutation(leaves) + 1 for _ in range(permutations)])
    asked = np.tile(np.arange(1, leaves + 1), permutations)
    keys, values = np.zeros((2, len(asked), nodes), np.int32)
    keys[:, 0], keys[:, -leaves:] = asked, np.arange(1, leaves + 1)
    values[:, -leaves:] = np.repeat(of_leaves, leaves, axis=0)
    answers = values[np.arange(len(asked)), nodes - leaves + asked - 1] - 1
    return Lookups(keys, values, answers)


def pattern(count: int, seed: int, per_pattern: int = GRAPHS_PER_PATTERN) -> Labelled:
    """Communities into which another has been wired, the same in so many graphs: which nodes are its?

    Five communities of 5 to 34 nodes, joined with chance .5 inside and .35 between; the pattern has 5 to 34 nodes,
    joined with chance .5 among themselves and to all others; nodes have one of three values, drawn, those of the
    pattern once for its graphs.

    Dwivedi et al., Benchmarking Graph Neural Networks, JMLR 2023.
    """
    generator = np.random.default_rng(seed)
    graphs, labels = [], []
    size, inner, own = 0, np.zeros((0, 0), bool), np.zeros(0, int)
    for index in range(count):
        if index % per_pattern == 0:
            size = int(generator.integers(LEAST, MOST))
            inner = _symmetric(np.full((size, size), 0.5), generator)
            own = generator.integers(0, VALUES, size)
        _, blocks = _communities(5, 0.5, 0.35, generator)
        nodes = len(blocks)
        matrix = np.zeros((nodes + size,) * 2, bool)
        matrix[:nodes, :nodes], matrix[nodes:, nodes:] = blocks, inner
        across = generator.random((nodes, size)) < 0.5
        matrix[:nodes, nodes:], matrix[nodes:, :nodes] = across, across.T
        values = np.concatenate([generator.integers(0, VALUES, nodes), own])
        label = np.repeat([0, 1], [nodes, size])
        order = generator.permutation(nodes + size)
        graphs.append(_from_matrix(matrix[np.ix_(order, order)], np.eye(VALUES)[values[order]]))
        labels.append(label[order])
    return Labelled(graphs, labels)


def cluster(count: int, seed: int) -> Labelled:
    """Communities of which one node each is named: to which does every node belong?

    Six communities of 5 to 34 nodes, joined with chance .55 inside and .25 between; features are the class of the named
    node of each community, and a seventh column for all other nodes.

    Dwivedi et al., Benchmarking Graph Neural Networks, JMLR 2023.
    """
    generator = np.random.default_rng(seed)
    graphs, labels = [], []
    for _ in range(count):
        label, matrix = _communities(6, 0.55, 0.25, generator)
        order = generator.permutation(len(label))
        label, matrix = label[order], matrix[np.ix_(order, order)]
        shown = np.full(len(label), 6)
        for k in range(6):
            shown[generator.choice(np.flatnonzero(label == k))] = k
        graphs.append(_from_matrix(matrix, np.eye(7)[shown]))
        labels.append(label)
    return Labelled(graphs, labels)


def _communities(
    count: int, inside: float, between: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which community each node is of, and the adjacency."""
    owner = np.repeat(np.arange(count), generator.integers(LEAST, MOST, count))
    same = owner[:, None] == owner
    return owner, _symmetric(np.where(same, inside, between), generator)


def _symmetric(chance: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    upper = np.triu(generator.random(chance.shape) < chance, 1)
    return upper | upper.T


def _from_matrix(matrix: np.ndarray, nodes: np.ndarray) -> GraphsTuple:
    receivers, senders = np.nonzero(matrix)
    return build_graph(senders, receivers, nodes.astype(np.float32))


def width_of(graph: Any) -> int:
    """Of the rows of its nodes."""
    return graph.nodes.shape[1]


def beside(graph: Any, encoding: np.ndarray) -> GraphsTuple:
    """The graph with an encoding beside what its nodes have."""
    return graph._replace(nodes=np.concatenate([graph.nodes, encoding], 1))
