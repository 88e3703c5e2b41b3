"""What depth does: energies, ranks and distances against hand-worked values and loops in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import close, draw, rejects

from gatjax import build_graph, pad, relabel
from gatjax.explain import (
    dirichlet_energy,
    distance_to_limit,
    effective_rank,
    hop_distances,
    mad_gap,
    mean_average_distance,
    numerical_rank,
)

NODES, FEATURES = 7, 3


@pytest.fixture(scope="module")
def case():
    random = np.random.default_rng(0)
    senders, receivers = random.integers(0, NODES, (2, 17))
    return build_graph(senders, receivers, num_nodes=NODES), draw(NODES, FEATURES, seed=1)


def loops(graph, nodes):
    """Each measure, entry by entry."""
    energy = sum(
        sum((a - b) ** 2 for a, b in zip(nodes[i], nodes[j], strict=True))
        for i, j in zip(graph.receivers, graph.senders, strict=True)
    )
    norm = sum(x * x for row in nodes for x in row)
    mean = [sum(column) / len(nodes) for column in nodes.T]
    distance = math.sqrt(sum((x - m) ** 2 for row in nodes for x, m in zip(row, mean, strict=True)))
    # The squared singular values are the eigenvalues of XᵀX.
    squares = np.linalg.eigvalsh(nodes.T @ nodes)
    values = np.sqrt(np.maximum(squares, 0))
    shares = [value / sum(values) for value in values]
    effective = math.exp(-sum(p * math.log(p) for p in shares))
    cosine = lambda a, b: sum(a * b) / math.sqrt(sum(a * a) * sum(b * b))
    apart = [
        np.mean([1 - cosine(nodes[i], nodes[j]) for j in range(len(nodes)) if j != i])
        for i in range(len(nodes))
    ]
    return [
        energy / len(nodes),
        energy / norm,
        distance,
        squares.sum() / squares.max(),
        effective,
        np.mean(apart),
    ]


def measures(graph, nodes, mask=None, edge_mask=None):
    nodes = jnp.asarray(nodes, jnp.float32)
    found = [
        dirichlet_energy(graph, nodes, normalize=normalize, node_mask=mask, edge_mask=edge_mask)
        for normalize in (False, True)
    ]
    found += [f(nodes, node_mask=mask) for f in (distance_to_limit, numerical_rank, effective_rank)]
    pairs = None if mask is None else mask[:, None] & mask[None, :]
    return [float(each) for each in [*found, mean_average_distance(nodes, pairs)]]


def test_by_hand():
    """A path of three nodes, both directions of each edge."""
    path = build_graph([0, 1, 1, 2], [1, 0, 2, 1], num_nodes=3)
    nodes = jnp.array([[3.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    close(dirichlet_energy(path, nodes), 50 / 3)
    close(dirichlet_energy(path, nodes, normalize=True), 50 / 41)
    close(distance_to_limit(nodes), math.sqrt(6 + 32 / 3))
    close(numerical_rank(nodes), (9 + 32) / 32)
    p = np.array([3, math.sqrt(32)]) / (3 + math.sqrt(32))
    close(effective_rank(nodes), math.exp(-(p * np.log(p)).sum()))
    close(mean_average_distance(nodes), (1 + 0.5 + 0.5) / 3)
    distances = hop_distances(path)
    assert distances.tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    # Two hops: 0 and 2, both at distance 1. One hop: 0 has 1, node 1 has 1 and 0, node 2 has 0.
    close(mad_gap(nodes, distances, near=1, far=2), 1 - (1 + 0.5 + 0) / 3)


def test_against_loops(case):
    close(measures(*case), loops(*case))


def test_the_limit_of_smoothing(case):
    """Nodes that are all alike: no energy, no distance, one direction; however small they are."""
    graph, _ = case
    for scale in (1.0, 1e-12):
        same = scale * jnp.tile(jnp.arange(1.0, FEATURES + 1), (NODES, 1))
        energy, quotient, distance, numerical, effective, apart = measures(graph, same)
        assert max(energy, quotient, distance, apart) < 1e-5
        close([numerical, effective], [1, 1])
    nothing = measures(graph, np.zeros((NODES, FEATURES)))
    assert nothing == [0, 0, 0, 0, 0, 1]


def test_size_changes_the_energy_alone_and_not_the_quotient(case):
    graph, nodes = case
    small, large = measures(graph, nodes), measures(graph, 1e-3 * nodes)
    close(np.array(large), np.array(small) * [1e-6, 1, 1e-3, 1, 1, 1])


@pytest.mark.slow
def test_order_and_padding_do_not_matter(case):
    graph, nodes = case
    expected = measures(graph, nodes)
    order, new = (np.random.default_rng(5).permutation(count) for count in (17, NODES))
    shuffled = graph._replace(senders=graph.senders[order], receivers=graph.receivers[order])
    close(measures(shuffled, nodes), expected)
    moved = np.empty_like(nodes)
    moved[new] = nodes
    close(measures(relabel(graph, new), moved), expected)
    padded, masks = pad(graph._replace(nodes=nodes), (NODES + 4, 17 + 5, 2))
    filled = np.concatenate([nodes, draw(4, FEATURES, seed=9)])
    close(measures(padded, filled, masks.node, masks.edge), expected)
    # The nodes that take no part may hold anything.
    close(measures(padded, filled * np.where(masks.node, 1, 1e6)[:, None], masks.node), expected)


def test_hop_distances_against_a_search(case):
    graph, _ = case
    found = hop_distances(graph)
    pairs = [*zip(graph.senders, graph.receivers, strict=True)]
    pairs += [pair[::-1] for pair in pairs]
    for i in range(NODES):
        reached, hops = {i}, {i: 0}
        for step in range(1, NODES):
            reached |= {int(b) for a, b in pairs if a in reached}
            hops |= {node: step for node in reached if node not in hops}
        assert found[i].tolist() == [hops.get(j, -1) for j in range(NODES)]


def test_inside_jit(case):
    graph, nodes = case
    given = graph._replace(nodes=jnp.asarray(nodes, jnp.float32))
    compiled = jax.jit(lambda graph: dirichlet_energy(graph, graph.nodes))(given)
    close(compiled, measures(graph, nodes)[0])


def test_bad_input(case, unchecked):
    graph, nodes = case
    with rejects(ValueError, "nodes must have 7 rows, got 6"):
        dirichlet_energy(graph, jnp.asarray(nodes)[:-1])
    with rejects(ValueError, "pairs must be [7, 7], got [6, 7]"):
        mean_average_distance(jnp.asarray(nodes), np.ones((6, 7), bool))
    with rejects(ValueError, "near = 3 must be at least 1 and below far = 3"):
        mad_gap(jnp.asarray(nodes), hop_distances(graph), near=3, far=3)
    with rejects(TypeError, "node_mask must be boolean"):
        distance_to_limit(jnp.asarray(nodes), node_mask=np.ones(NODES))


def test_pairs_of_no_use():
    assert math.isnan(mean_average_distance(jnp.ones((1, 2))))
