"""typed.py: graphs of several kinds are sound or refused, and are the same graph as one and by relation."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax import GATConv, HGTConv, TypedConv, TypedLinear, build_graph
from gatjax.graph import (
    Relation,
    TypedGraph,
    add_reverses,
    add_self_loops,
    build_typed_graph,
    coalesce,
    compose,
    count_nodes,
    find_relation,
    in_degree,
    merge_types,
    relation_graph,
    to_scipy,
    unbatch,
    unbatch_typed,
    validate,
    validate_typed,
)
from gatjax.plots import typed_schema

WRITES, CITES, IN = (
    ("author", "writes", "paper"),
    ("paper", "cites", "paper"),
    ("paper", "in", "venue"),
)


def bibliography(width=2):
    """3 authors, 5 papers, 2 venues without features."""
    rows = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
    return build_typed_graph(
        {"author": np.ones((3, 4), np.float32), "paper": rows, "venue": None},
        {
            WRITES: ([0, 1, 1, 2], [0, 0, 3, 4]),
            CITES: ([4, 3, 3], [0, 0, 1], np.arange(3.0, dtype=np.float32)[:, None]),
            IN: ([0, 1, 2, 3, 4], [0, 0, 1, 1, 1]),
        },
        num_nodes={"venue": 2},
    )


def test_a_typed_graph_shows_its_types_and_relations():
    assert repr(bibliography()).splitlines() == [
        "TypedGraph of 1 graph",
        "  author                  3 nodes  float32[4]",
        "  paper                   5 nodes  float32[2]",
        "  venue                   2 nodes",
        "  author -writes-> paper  4 edges",
        "  paper -cites-> paper    3 edges  float32[1]",
        "  paper -in-> venue       5 edges",
    ]


def test_a_typed_graph_is_a_pytree_whose_order_is_that_of_names():
    graph = bibliography()
    again = jax.tree.map(jnp.asarray, graph)
    assert isinstance(again, TypedGraph) and isinstance(again.relations[IN], Relation)
    assert list(graph.relations) == list(again.relations) == list(graph.triples)
    assert graph.types == ("author", "paper", "venue")
    other = TypedGraph(*(dict(reversed(field.items())) for field in graph))
    assert jax.tree.structure(other) == jax.tree.structure(graph)
    assert repr(other) == repr(graph) and other.triples == graph.triples
    assert "3 nodes" in jax.jit(lambda graph: repr(graph) and graph)(again).__repr__()


def test_a_relation_is_a_graph_that_layers_take():
    from flax import nnx

    graph = bibliography()
    layer = GATConv((2, 4), 3, rngs=nnx.Rngs(0))
    expected = layer(
        build_graph([0, 1, 1, 2], [0, 0, 3, 4], graph.nodes["paper"], num_senders=3),
        senders=graph.nodes["author"],
    )
    for relation in (WRITES, "writes"):
        one = relation_graph(graph, relation)
        np.testing.assert_array_equal(
            layer(one, senders=graph.nodes["author"]).nodes, expected.nodes
        )
    compiled = jax.jit(lambda graph: relation_graph(graph, "cites").edges.sum())
    assert compiled(graph) == 3


def test_merged_types_keep_every_edge_row_and_type():
    graph = bibliography()
    rows = {
        name: np.full((count_nodes(graph, name), 1), place)
        for place, name in enumerate(graph.types)
    }
    plain = graph._replace(
        nodes=rows, relations={t: r._replace(edges=None) for t, r in graph.relations.items()}
    )
    for merge in (merge_types, jax.jit(lambda graph: merge_types(graph)._replace(offsets=None))):
        merged = merge(plain)
        one = merged.graph
        np.testing.assert_array_equal(one.nodes[:, 0], merged.node_types)
        np.testing.assert_array_equal(one.edges, merged.relations)
        for place, (sender, _, receiver) in enumerate(graph.triples):
            own = np.asarray(merged.relations) == place
            first = {"author": 0, "paper": 3, "venue": 8}
            ids = graph.relations[graph.triples[place]]
            np.testing.assert_array_equal(one.senders[own] - first[sender], ids.senders)
            np.testing.assert_array_equal(one.receivers[own] - first[receiver], ids.receivers)
        assert one.n_node.tolist() == [10] and one.n_edge.tolist() == [12]
    assert merge_types(plain).offsets == {"author": 0, "paper": 3, "venue": 8}
    featured = {
        t: r._replace(edges=np.ones((len(r.senders), 2))) for t, r in graph.relations.items()
    }
    edges = merge_types(plain._replace(relations=featured)).graph.edges
    assert edges["features"].shape == (12, 2) and edges["relation"].shape == (12,)


def test_what_cannot_be_merged():
    graph = bibliography()
    with rejects(ValueError, "nodes of paper have rows float32[2], of author float32[4]: project"):
        merge_types(graph)
    rows = {name: np.ones((count_nodes(graph, name), 1)) for name in graph.types}
    with rejects(ValueError, "edges of paper -cites-> paper have rows"):
        merge_types(graph._replace(nodes=rows))
    with rejects(TypeError, "nodes are sparse"):
        sparse = {name: BCOO.fromdense(jnp.asarray(table)) for name, table in rows.items()}
        plain = {t: r._replace(edges=None) for t, r in graph.relations.items()}
        merge_types(graph._replace(nodes=sparse, relations=plain))
    alone = build_typed_graph({"user": BCOO.fromdense(jnp.eye(2))}, {})
    assert merge_types(alone).graph.nodes is alone.nodes["user"]
    with rejects(ValueError, "nodes is empty"):
        merge_types(build_typed_graph({}, {}))


def test_types_and_relations_without_anything():
    graph = build_typed_graph(
        {"user": np.zeros((0, 3)), "item": np.ones((2, 3))},
        {("user", "buys", "item"): ([], [])},
    )
    assert count_nodes(graph, "user") == 0
    assert validate_typed(graph) is graph
    merged = merge_types(graph)
    assert merged.graph.nodes.shape == (2, 3) and merged.graph.senders.shape == (0,)
    assert merge_types(build_typed_graph({"user": [[1.0]]}, {})).graph.n_edge.tolist() == [0]


NODES = {"author": np.ones((3, 4)), "paper": np.ones((5, 2))}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((NODES, {("auther", "writes", "paper"): ([], [])}), ValueError,
         "relation auther -writes-> paper: there is no type 'auther'; the types are author, paper"),
        ((NODES, {("author", "paper"): ([], [])}), TypeError, "a relation must be called by (sender type, name, "),
        ((NODES, {"writes": ([], [])}), TypeError, "a relation must be called by"),
        ((NODES, {("author", 3, "paper"): ([], [])}), TypeError, "a relation must be called by a string, got 3"),
        (({"": np.ones((1, 1))}, {}), TypeError, "a type must be called by a string, got ''"),
        ((NODES, {WRITES: ([0], [0], None, None)}), TypeError, "author -writes-> paper: give (senders, receivers)"),
        ((NODES, {WRITES: 3}), TypeError, "or (senders, receivers, edges), got int"),
        ((NODES, {WRITES: ([0, 1], [0])}), ValueError, "author -writes-> paper: senders has 2 ids"),
        ((NODES, {WRITES: ([3], [0])}), ValueError,
         "author -writes-> paper: senders[0] = 3 is out of range: the table of senders has 3 rows"),
        ((NODES, {WRITES: ([0], [5])}), ValueError, "receivers[0] = 5 is out of range: the graph has 5 nodes"),
        ((NODES, {WRITES: ([0], [-1])}), ValueError, "receivers[0] = -1 is negative"),
        ((NODES, {WRITES: ([0.5], [1])}), TypeError, "senders must hold integers"),
        ((NODES, {WRITES: ([0], [1], np.ones((2, 1)))}), ValueError, "edges has shape (2, 1): its first axis"),
        (({"author": None}, {}), ValueError, "nodes['author']: num_nodes is needed where nodes is None"),
        ((NODES, []), TypeError, "relations must be a dictionary by triples"),
        (([], {}), TypeError, "nodes must be a dictionary by types, got list"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(arguments, error, message, unchecked):
    with rejects(error, message):
        build_typed_graph(*arguments)


def test_bad_counts_and_names(unchecked):
    graph = bibliography()
    with rejects(ValueError, "num_nodes['auther']: there is no type 'auther'"):
        build_typed_graph(NODES, {}, num_nodes={"auther": 3})
    with rejects(ValueError, "nodes['paper']: nodes has shape (5, 2): its first axis must be 4"):
        build_typed_graph(NODES, {}, num_nodes={"paper": 4})
    with rejects(ValueError, "n_node and nodes differ in venue"):
        validate_typed(graph._replace(n_node={"author": np.array([3]), "paper": np.array([5])}))
    with rejects(ValueError, "paper -in-> venue: n_edge sums to 4, but senders has 5 edges"):
        validate_typed(graph._replace(n_edge=graph.n_edge | {IN: np.array([4])}))
    with rejects(ValueError, "entries: all need one entry for each graph"):
        validate_typed(graph._replace(n_node=graph.n_node | {"venue": np.array([2, 0])}))
    halves = {"author": np.array([2, 1]), "paper": np.array([2, 3]), "venue": np.array([1, 1])}
    edges = {WRITES: np.array([2, 2]), CITES: np.array([0, 3]), IN: np.array([2, 3])}
    with rejects(ValueError, "author -writes-> paper: senders[2] = 1 crosses graphs"):
        validate_typed(graph._replace(n_node=halves, n_edge=edges))
    with rejects(
        ValueError, "relation 'wrote': there is none; the graph has author -writes-> paper, "
    ):
        relation_graph(graph, "wrote")
    both = {("author", "knows", "author"): ([], []), ("paper", "knows", "paper"): ([], [])}
    with rejects(
        ValueError, "there are several; give one of the triples author -knows-> author, paper"
    ):
        find_relation(build_typed_graph(NODES, both), "knows")
    with rejects(ValueError, "type: there is no type 'x'; the types are author, paper, venue"):
        count_nodes(graph, "x")


def test_a_typed_graph_and_one_of_one_type_are_not_taken_for_each_other(unchecked):
    typed, one = bibliography(), build_graph([0, 1], [1, 2], np.ones((3, 2), np.float32))
    for function in (add_self_loops, coalesce, in_degree, to_scipy, unbatch, validate):
        with rejects(AttributeError, "a TypedGraph has no senders, as a jraph.GraphsTuple has"):
            function(typed)
    # What the message names.
    layer = GATConv((2, 4), 3, rngs=nnx.Rngs(0))
    writes = relation_graph(typed, WRITES)
    assert layer(writes, senders=typed.nodes["author"]).nodes.shape == (5, 3)
    bare = {triple: edges._replace(edges=None) for triple, edges in typed.relations.items()}
    alike = typed._replace(nodes=dict.fromkeys(typed.types), relations=bare)
    assert in_degree(merge_types(alike).graph).sum() == 12
    assert not hasattr(typed, "globals") and not hasattr(typed, "type")
    with rejects(AttributeError, "'TypedGraph' object has no attribute 'type'"):
        typed.type  # noqa: B018
    assert jax.tree.structure(copy.deepcopy(typed)) == jax.tree.structure(typed)

    message = "graph must be a TypedGraph, got GraphsTuple; make one by build_typed_graph"
    for call in (
        add_reverses,
        merge_types,
        validate_typed,
        unbatch_typed,
        typed_schema,
        lambda graph: count_nodes(graph, "paper"),
        lambda graph: relation_graph(graph, "writes"),
        lambda graph: compose(graph, "paper-paper"),
        TypedConv({CITES: GATConv(2, 3, rngs=nnx.Rngs(0))}),
        TypedLinear({"paper": 2}, 3, rngs=nnx.Rngs(0)),
        HGTConv({"paper": 2}, 4, relations=(CITES,), rngs=nnx.Rngs(0)),
    ):
        with rejects(TypeError, message):
            call(one)
