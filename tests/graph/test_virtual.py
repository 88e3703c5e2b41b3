"""virtual.py and expander.py: pairs, random regular graphs, nodes that all see, and types of edges."""

from collections import Counter

import jax
import networkx as nx
import numpy as np
import pytest
from graph_strategies import assert_same
from helpers import rejects

from gatjax.graph import (
    EDGE_TYPES,
    Slots,
    add_expander,
    add_virtual_nodes,
    batch,
    build_graph,
    check_complete,
    coalesce,
    connect_all,
    edge_types,
    fully_connected,
    pad,
    to_networkx,
    validate,
    virtual,
)
from gatjax.graph.expander import second_eigenvalue


def some_graph(size=11, edges=17, seed=0, features=2):
    """Each edge once."""
    generator = np.random.default_rng(seed)
    places = generator.choice(size**2, edges, replace=False)
    rows = None if features is None else np.float32(generator.normal(size=(edges, features)))
    nodes = generator.normal(size=(size, 3))
    return build_graph(places // size, places % size, nodes, edges=rows)


def triples(graph):
    """{(sender, receiver, type): features}, each edge once."""
    ends = graph.senders, graph.receivers, graph.edges["type"]
    rows = zip(*(ids.tolist() for ids in ends), strict=True)
    features = graph.edges.get("features", np.zeros((len(graph.senders), 0))).tolist()
    found = dict(zip(rows, map(tuple, features), strict=True))
    assert len(found) == len(graph.senders)
    return found


def of_type(graph, name):
    kept = graph.edges["type"] == EDGE_TYPES.index(name)
    return list(zip(graph.senders[kept].tolist(), graph.receivers[kept].tolist(), strict=True))


def test_all_pairs_and_the_edges_among_them():
    graph = some_graph()
    joined = check_complete(connect_all(graph))
    own = dict(
        zip(zip(graph.senders, graph.receivers, strict=True), graph.edges.tolist(), strict=True)
    )
    expected = {
        (j, i, 0 if (j, i) in own else 1): tuple(own.get((j, i), (0.0, 0.0)))
        for i in range(11)
        for j in range(11)
    }
    assert triples(joined) == expected
    order = fully_connected(11)
    assert joined.senders.tolist() == order.senders.tolist()
    assert joined.receivers.tolist() == order.receivers.tolist()
    assert joined.nodes is graph.nodes
    padded, masks = pad(joined, Slots(nodes=13, graphs=2))
    assert padded.edges["type"][masks.edge].tolist() == joined.edges["type"].tolist()
    assert_same(connect_all(joined), joined)


@pytest.mark.parametrize("make", [connect_all, add_expander, lambda g: add_virtual_nodes(g, 2)[0]])
@pytest.mark.parametrize("features", [None, 2])
def test_a_batch_is_its_graphs(make, features):
    graphs = [some_graph(size, 9, seed=size, features=features) for size in (11, 7, 8)]
    assert_same(make(batch(graphs)), batch([make(graph) for graph in graphs]))


@pytest.mark.parametrize(
    ("size", "degree"), [(5, 4), (8, 3), (9, 6), (9, 8), (11, 4), (40, 5), (251, 4)]
)
def test_an_expander_is_regular_connected_and_simple(size, degree):
    graph = add_expander(build_graph([], [], num_nodes=size), degree, draws=3)
    edges = of_type(graph, "expander")
    assert set(Counter(edges).values()) == {1} and len(edges) == size * degree
    assert set(edges) == {(j, i) for i, j in edges} and not any(i == j for i, j in edges)
    assert Counter(Counter(i for i, _ in edges).values()) == {degree: size}
    assert nx.is_connected(nx.Graph(to_networkx(graph)))
    assert_same(add_expander(build_graph([], [], num_nodes=size), degree, draws=3), graph)
    if size > 12:
        other = add_expander(build_graph([], [], num_nodes=size), degree, seed=1, draws=3)
        assert set(of_type(other, "expander")) != set(edges)


def test_of_several_draws_the_one_that_mixes_fastest(monkeypatch):
    slow = [slowness(draws) for draws in (1, 20)]
    assert slow[1] < slow[0]
    pairs = np.array(of_type(add_expander(build_graph([], [], num_nodes=250), 4), "expander"))
    monkeypatch.setattr("gatjax.graph.expander.DENSE", 999)
    exact = second_eigenvalue(pairs, 250)
    monkeypatch.setattr("gatjax.graph.expander.DENSE", 0)
    np.testing.assert_allclose(second_eigenvalue(pairs, 250), exact, rtol=1e-2)
    assert second_eigenvalue(np.array([[0, 1], [2, 3]]), 4) == np.inf


def slowness(draws):
    graph = add_expander(build_graph([], [], num_nodes=30), 4, draws=draws)
    matrix = np.zeros((30, 30))
    matrix[graph.senders, graph.receivers] = 1
    return np.sort(abs(np.linalg.eigvalsh(matrix)))[-2]


def test_own_edges_stay_and_new_ones_have_zeros():
    graph = some_graph()
    for made in (add_expander(graph), add_virtual_nodes(graph)[0]):
        assert made.senders[:17].tolist() == graph.senders.tolist()
        assert made.edges["features"][:17].tolist() == graph.edges.tolist()
        assert not made.edges["type"][:17].any() and made.edges["type"][17:].all()
        assert not made.edges["features"][17:].any()


def test_virtual_nodes_see_all_and_are_seen_by_all():
    graphs = [some_graph(11), some_graph(7, 5, seed=1), build_graph([], [], np.zeros((0, 3)))]
    made, own = add_virtual_nodes(batch([graph._replace(edges=None) for graph in graphs]), 2)
    validate(made)
    assert made.n_node.tolist() == [13, 9, 2] and own.sum() == 18
    np.testing.assert_array_equal(made.nodes[own][:, :3], np.concatenate([g.nodes for g in graphs]))
    assert made.nodes[~own].tolist() == [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]] * 3
    assert not made.nodes[own][:, 3:].any()
    hubs, nodes = [11, 12, 20, 21], [*range(11), *range(13, 20)]
    expected = {(n, h) for n in nodes for h in hubs if (n < 13) == (h < 13)}
    assert set(of_type(made, "to_virtual")) == expected
    assert set(of_type(made, "from_virtual")) == {(h, n) for n, h in expected}
    bare, _ = add_virtual_nodes(build_graph([0], [1], num_nodes=2))
    assert bare.nodes.tolist() == [[0], [0], [1]]


def test_types_as_features():
    graph, _ = add_virtual_nodes(add_expander(some_graph()))
    rows = edge_types(graph).edges
    assert (rows[:, :5].argmax(1) == graph.edges["type"]).all() and (rows[:, :5].sum(1) == 1).all()
    assert (rows[:, 5:] == graph.edges["features"]).all() and rows.dtype == np.float32
    bare = connect_all(some_graph(features=None))
    assert edge_types(bare).edges.shape == (121, 5)
    one_hot = jax.nn.one_hot(bare.edges["type"], len(EDGE_TYPES))
    assert (one_hot == edge_types(bare).edges).all()


def test_bad_input(unchecked):
    graph = some_graph()
    twice = build_graph([0, 2, 2], [1, 1, 1], num_nodes=3)
    with rejects(ValueError, "edge 2 -> 1 is given twice"):
        connect_all(twice)
    assert connect_all(coalesce(twice, reduce="first")).n_edge.tolist() == [9]
    with rejects(ValueError, "121 pairs of nodes of one graph, over max_pairs = 120"):
        connect_all(graph, max_pairs=120)
    with rejects(ValueError, "degree = 2 must be at least 3"):
        add_expander(graph, 2)
    with rejects(ValueError, "degree = 11 needs 12 nodes, and graph 0 has 11: lower it"):
        add_expander(graph, 11)
    assert add_expander(graph, 10).n_edge.tolist() == [17 + 110]
    with rejects(ValueError, "degree = 3 is odd, and so is the number of nodes of graph 0, 11"):
        add_expander(graph, 3)
    with rejects(ValueError, "draws = 0 must be at least 1"):
        add_expander(graph, draws=0)
    with rejects(ValueError, "count = 0 must be at least 1"):
        add_virtual_nodes(graph, 0)
    with rejects(ValueError, "has virtual nodes already"):
        add_virtual_nodes(add_virtual_nodes(graph)[0])
    with rejects(ValueError, "nodes must be one array [N, F], or None"):
        add_virtual_nodes(graph._replace(nodes={"x": graph.nodes}))
    with rejects(ValueError, "graph has no types of edges, got edges 'ndarray'"):
        edge_types(graph)
    with rejects(ValueError, 'edges["features"] must be one array [E, D]'):
        edge_types(connect_all(graph._replace(edges={"a": graph.edges})))
    assert virtual.OWN == EDGE_TYPES.index("own")
