"""Samples of a graph of several kinds: so many neighbours by each relation, and what models read of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import rejects

from gatjax import (
    HGT,
    batch_typed,
    build_typed_graph,
    sample_typed_hops,
    typed_neighbors_of,
)

WRITES, CITES, BY = (
    ("author", "writes", "paper"),
    ("paper", "cites", "paper"),
    ("paper", "by", "author"),
)


def library(seed=0, papers=11, authors=7):
    rng = np.random.default_rng(seed)
    wrote = rng.integers(authors, size=25), rng.integers(papers - 1, size=25)
    cited = rng.integers(papers, size=(2, 30))
    features = {"author": rng.normal(size=(authors, 3)), "paper": rng.normal(size=(papers, 4))}
    features = {name: rows.astype(np.float32) for name, rows in features.items()}
    weights = np.arange(30, dtype=np.float32)[:, None]
    relations = {WRITES: wrote, CITES: (*cited, weights), BY: wrote[::-1]}
    return build_typed_graph(features, relations)


def test_each_relation_gives_its_own_number_of_edges_that_are_there():
    graph, seeds = library(), np.array([0, 4, 10])
    fanouts = [{WRITES: 2, CITES: 3}, {BY: 4}]
    hops = sample_typed_hops(
        jax.random.key(0),
        typed_neighbors_of(graph),
        "paper",
        seeds,
        fanouts,
        mask=np.array([True, True, False]),
    )
    sizes = {name: len(ids) for name, ids in hops.nodes.items()}
    assert sizes == {"author": 6, "paper": 3 + 9 + 24}
    assert {triple: len(ids) for triple, ids in hops.edges.items()} == {WRITES: 6, CITES: 9, BY: 24}
    edges = {CITES: graph.relations[CITES].edges}
    sample = hops.graph(graph.nodes, edges)
    for triple, (senders, receivers) in hops.ends.items():
        relation, there = graph.relations[triple], hops.edge_mask[triple]
        numbers = hops.edges[triple][there]
        np.testing.assert_array_equal(
            relation.senders[numbers], hops.nodes[triple[0]][senders][there]
        )
        np.testing.assert_array_equal(
            relation.receivers[numbers], hops.nodes[triple[2]][receivers][there]
        )
    cites, there = sample.relations[CITES].edges, hops.edge_mask[CITES]
    np.testing.assert_array_equal(cites[there, 0], hops.edges[CITES][there])
    degree = np.bincount(graph.relations[WRITES].receivers, minlength=11)[seeds]
    found = np.bincount(hops.ends[WRITES][1][hops.edge_mask[WRITES]], minlength=3)
    np.testing.assert_array_equal(found, np.minimum(degree, 2) * [1, 1, 0])


@pytest.mark.slow
def test_numpy_and_jax_draw_the_same_bits():
    graph, seeds, weights = library(), np.array([3, 1], np.int32), {CITES: np.arange(30.0)}
    table = typed_neighbors_of(graph, weights)
    draw = lambda key, table: sample_typed_hops(key, table, "paper", seeds, [2, 2])
    host, traced = draw(jax.random.key(1), table), jax.jit(draw)(jax.random.key(1), table)
    for a, b in zip(jax.tree.leaves(host), jax.tree.leaves(traced), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (host.edges[CITES][host.edge_mask[CITES]] == 0).any()


@pytest.mark.slow
def test_all_neighbours_of_all_relations_give_what_the_whole_graph_gives():
    graph, seeds = library(2), np.array([0, 7, 7, 10, 2])
    graph = graph._replace(
        relations={triple: each._replace(edges=None) for triple, each in graph.relations.items()}
    )
    model = HGT(
        {"author": 3, "paper": 4},
        2,
        relations=graph.triples,
        target="paper",
        hidden_features=8,
        num_heads=2,
        rngs=nnx.Rngs(0),
    )
    mask = np.array([True, True, True, True, False])
    hops = sample_typed_hops(
        jax.random.key(1), typed_neighbors_of(graph), "paper", seeds, [20, 20], mask=mask
    )
    sample = hops.graph(graph.nodes)
    spoilt = {
        name: jnp.where(hops.node_mask[name][:, None], rows, jnp.nan)
        for name, rows in sample.nodes.items()
    }
    masks = {"node_mask": hops.node_mask, "edge_mask": hops.edge_mask}
    run = nnx.jit(lambda model, graph, masks: model(graph, **masks).nodes)
    found = run(model, sample._replace(nodes=spoilt), masks)
    whole = run(model, graph, {})
    np.testing.assert_allclose(found[:4], whole[seeds[:4]], atol=1e-5)


def test_bad_input_says_what_to_do(unchecked):
    graph, key, seeds = library(), jax.random.key(0), np.array([0])
    table = typed_neighbors_of(graph)
    draw = lambda *arguments: sample_typed_hops(key, table, *arguments)
    with rejects(ValueError, "kind = 'journal' is entered by no relation: there are author, paper"):
        draw("journal", seeds, [2])
    with rejects(ValueError, "seeds[0] = 7 is no node: there are 7"):
        draw("author", np.array([7]), [2])
    with rejects(ValueError, "fanouts[0] of author -writes-> paper = 0 must be at least 1"):
        draw("paper", seeds, [{WRITES: 0}])
    with rejects(ValueError, "fanouts[1] has ('a', 'b', 'c'): there are author -writes-> paper"):
        draw("paper", seeds, [2, {("a", "b", "c"): 1}])
    with rejects(ValueError, "one per hop, such as [5, 5]"):
        draw("paper", seeds, [])
    with rejects(ValueError, "batch_size = 0"):
        draw("paper", np.array([], int), [2])
    with rejects(ValueError, "edge_weight has ('a', 'b', 'c')"):
        typed_neighbors_of(graph, {("a", "b", "c"): [1.0]})
    with rejects(ValueError, "edge_weight must be [25]"):
        typed_neighbors_of(graph, {WRITES: [1.0]})
    with rejects(ValueError, "batch of 2"):
        typed_neighbors_of(batch_typed([graph, graph]))
