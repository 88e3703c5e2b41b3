"""encodings.py: dense matrices and searches written out, symmetries, batches, and graphs that cannot be encoded."""

from collections import deque

import jax
import numpy as np
import pytest
from graph_strategies import relabel
from helpers import close, rejects

from gatjax.graph import (
    add_self_loops,
    batch,
    build_graph,
    degree_encoding,
    encodings,
    flip_signs,
    fully_connected,
    laplacian_encoding,
    random_walk_encoding,
    relative_random_walk,
    shortest_paths,
    to_undirected,
)


def random_graph(size=11, edges=17, seed=0, directed=False):
    """Its last node is isolated."""
    senders, receivers = np.random.default_rng(seed).integers(0, size - 1, (2, edges))
    graph = build_graph(senders, receivers, np.zeros((size, 1)))
    return graph if directed else to_undirected(graph)


def adjacency(graph):
    matrix = np.zeros((len(graph.nodes),) * 2)
    for sender, receiver in zip(graph.senders, graph.receivers, strict=True):
        matrix[sender, receiver] += 1
    return matrix


def transitions(graph):
    matrix = adjacency(graph)
    return np.stack([row / row.sum() if row.sum() else row for row in matrix])


def hops(graph, cutoff):
    """[sender, receiver], breadth first."""
    neighbors = [np.flatnonzero(row) for row in adjacency(graph)]
    lengths = np.full((len(neighbors),) * 2, cutoff + 1)
    for start in range(len(neighbors)):
        lengths[start, start], queue = 0, deque([start])
        while queue:
            node = queue.popleft()
            for other in neighbors[node]:
                if lengths[start, other] > lengths[start, node] + 1 <= cutoff:
                    lengths[start, other] = lengths[start, node] + 1
                    queue.append(other)
    return lengths


@pytest.mark.parametrize("directed", [False, True])
def test_walks_are_powers_of_the_transition_matrix(directed, monkeypatch):
    graph = random_graph(directed=directed)
    powers = [np.linalg.matrix_power(transitions(graph), k) for k in range(6)]
    expected = np.stack([np.diag(power) for power in powers[1:]], 1)
    walks = random_walk_encoding(graph, steps=5)
    close(walks, expected)
    assert walks.dtype == np.float32 and not walks[-1].any()
    close(relative_random_walk(graph, steps=6), np.stack(powers, -1).reshape(-1, 6))
    monkeypatch.setattr(encodings, "ROWS", 30)
    close(random_walk_encoding(graph, steps=5), expected)


def test_a_walk_returns_at_once_only_along_a_loop():
    graph = random_graph()
    loops = np.bincount(graph.senders[graph.senders == graph.receivers], minlength=11)
    assert ((random_walk_encoding(graph, 1)[:, 0] > 0) == (loops > 0)).all()
    assert (random_walk_encoding(add_self_loops(graph), 1) > 0).all()


@pytest.mark.parametrize("directed", [False, True])
def test_paths_are_those_of_a_search(directed):
    graph = random_graph(directed=directed)
    for cutoff in (1, 3, 11):
        found = shortest_paths(graph, cutoff)
        assert found.dtype == np.int32
        assert (found.reshape(11, 11) == hops(graph, cutoff).T).all()
    pairs = fully_connected(11)
    assert (found == hops(graph, 11)[pairs.senders, pairs.receivers]).all()


def test_degrees():
    graph = random_graph()
    expected = [np.log(1 + sum(graph.receivers == node)) for node in range(11)]
    close(degree_encoding(graph)[:, 0], expected)


def components(graph):
    reach = hops(graph, 99) < 99
    return {tuple(np.flatnonzero(row)) for row in reach}


@pytest.mark.parametrize("normalization", ["symmetric", "none"])
def test_eigenvectors_of_each_component(normalization, monkeypatch):
    graph = batch([random_graph(seed=seed) for seed in range(3)])
    encoding = laplacian_encoding(graph, 4, normalization=normalization)
    matrix = adjacency(graph)
    np.fill_diagonal(matrix, 0)
    kinds = set()
    for nodes in map(list, components(graph)):
        part, vectors = matrix[np.ix_(nodes, nodes)], encoding[nodes].astype(float)
        degrees = part.sum(1)
        laplacian = np.diag(degrees) - part
        constant = np.ones(len(nodes))
        if normalization == "symmetric" and len(nodes) > 1:
            laplacian = laplacian / np.sqrt(np.outer(degrees, degrees))
            constant = np.sqrt(degrees)
        count = min(len(nodes) - 1, 4)
        values = np.linalg.eigvalsh(laplacian)[1 : count + 1]
        close(laplacian @ vectors[:, :count], vectors[:, :count] * values)
        close(vectors.T @ vectors, np.diag([1.0] * count + [0.0] * (4 - count)))
        close(constant @ vectors, 0)
        kinds.add(count)
    assert {0, 4} <= kinds
    monkeypatch.setattr(encodings, "DENSE", 0)
    few = laplacian_encoding(graph, 4, normalization=normalization)
    projection = lambda x, nodes: x[nodes] @ x[nodes].T
    whole = [nodes for nodes in map(list, components(graph)) if len(nodes) > 4]
    # A basis may differ in sign; of different eigenvalues, as here, in nothing else.
    for nodes in whole:
        close(projection(few, nodes), projection(encoding, nodes), 1e-4)


def test_self_loops_leave_the_laplacian_alone():
    graph = random_graph()
    close(laplacian_encoding(add_self_loops(graph), 3), laplacian_encoding(graph, 3))


ENCODERS = {
    "random walk": lambda graph: random_walk_encoding(graph, 5),
    "degree": degree_encoding,
    "laplacian up to sign": lambda graph: abs(laplacian_encoding(graph, 2)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encodings_follow_the_nodes(name):
    graph, order = random_graph(), np.random.default_rng(1).permutation(11)
    moved = ENCODERS[name](relabel(graph, order))
    close(moved[order], ENCODERS[name](graph), 1e-4)


PAIRS = {
    "paths": lambda graph: shortest_paths(graph, 3),
    "walks": lambda graph: relative_random_walk(graph, 4),
}


@pytest.mark.parametrize("name", [*ENCODERS, *PAIRS])
def test_a_batch_has_the_rows_of_its_graphs(name):
    encode = (ENCODERS | PAIRS)[name]
    graphs = [random_graph(), random_graph(7, 5, seed=3), build_graph([], [], np.zeros((0, 1)))]
    graphs += [build_graph([], [], np.zeros((1, 1))), random_graph(5, 3, seed=4)]
    close(encode(batch(graphs)), np.concatenate([encode(graph) for graph in graphs]))


def test_flipped_signs_are_those_of_whole_columns():
    graph = batch([random_graph(), random_graph(7, 5, seed=3)])
    encoding = np.random.default_rng(0).normal(size=(18, 64)).astype(np.float32)
    signs = np.asarray(jax.jit(flip_signs)(jax.random.key(0), encoding, graph) / encoding)
    first, second = signs[:11], signs[11:]
    assert (first == first[:1]).all() and (second == second[:1]).all()
    assert set(signs.ravel()) == {-1.0, 1.0} and (first[0] != second[0]).any()


def test_bad_input(unchecked):
    graph = random_graph()
    with rejects(ValueError, "steps = 0 must be at least 1"):
        random_walk_encoding(graph, 0)
    with rejects(ValueError, "steps = 0 must be at least 1"):
        relative_random_walk(graph, 0)
    with rejects(ValueError, "features = 0 must be at least 1"):
        laplacian_encoding(graph, 0)
    with rejects(ValueError, "cutoff = 0 must be at least 1"):
        shortest_paths(graph, 0)
    with rejects(ValueError, "choose one of symmetric, none"):
        laplacian_encoding(graph, normalization="random")
    one_way = build_graph([0, 1, 3], [1, 0, 2], num_nodes=4)
    with rejects(ValueError, "edge 3 -> 2 has no reverse"):
        laplacian_encoding(one_way)
    assert laplacian_encoding(to_undirected(one_way), 1).any()
    with rejects(ValueError, "graph has 121 pairs of nodes of one graph, over max_pairs = 120"):
        shortest_paths(graph, 1, max_pairs=120)
    assert len(relative_random_walk(graph, 1, max_pairs=121)) == 121
    assert len(shortest_paths(batch([random_graph(7, 5), graph]), 1, max_pairs=170)) == 170
    with rejects(ValueError, "encoding must have 11 rows, got 3"):
        flip_signs(jax.random.key(0), np.zeros((3, 2)), graph)
