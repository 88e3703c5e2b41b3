"""typed_batching.py: batches keep every graph, padding joins nothing that is real, and both can be undone."""

import jax
import jax.numpy as jnp
import numpy as np
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax.graph import (
    TypedBudget,
    add_reverses,
    batch_typed,
    build_typed_graph,
    compose,
    meta_paths,
    pad_typed,
    typed_budget_for,
    unbatch_typed,
    unpad_typed,
    validate_typed,
)

WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")


def draw(seed, authors=3, papers=5, links=7):
    generator = np.random.default_rng(seed)
    return build_typed_graph(
        {
            "author": generator.normal(size=(authors, 2)),
            "paper": generator.normal(size=(papers, 3)),
        },
        {
            WRITES: (
                generator.integers(0, max(authors, 1), links if authors else 0),
                generator.integers(0, papers, links if authors else 0),
                generator.normal(size=(links if authors else 0, 1)),
            ),
            CITES: tuple(generator.integers(0, papers, (2, links))),
        },
    )


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


GRAPHS = [draw(0), draw(1, authors=4, papers=2, links=3), draw(2, authors=0, papers=1, links=2)]


def test_a_batch_comes_apart_again():
    both = validate_typed(batch_typed(GRAPHS))
    assert both.n_node["author"].tolist() == [3, 4, 0] and both.n_edge[WRITES].tolist() == [7, 3, 0]
    for one, other in zip(unbatch_typed(both), GRAPHS, strict=True):
        same(one, other)
    same(batch_typed([batch_typed(GRAPHS[:2]), GRAPHS[2]]), both)


def test_padding_is_the_last_graphs_own():
    budget = typed_budget_for(GRAPHS, batch_size=3, round_to=4)
    assert budget == TypedBudget({"author": 8, "paper": 12}, {WRITES: 12, CITES: 12}, 4)
    padded, masks = pad_typed(GRAPHS, budget._replace(graphs=6))
    validate_typed(padded)
    assert {name: len(rows) for name, rows in padded.nodes.items()} == budget.nodes
    assert padded.n_node["paper"].tolist() == [5, 2, 1, 4, 0, 0] and masks.graph.sum() == 3
    for triple, one in padded.relations.items():
        spare = ~masks.edge[triple]
        assert not masks.node[triple[0]][one.senders[spare]].any()
        assert not masks.node[triple[2]][one.receivers[spare]].any()
    same(unpad_typed(padded, masks), batch_typed(GRAPHS))


def test_walks_and_reverses_of_a_batch_are_those_of_its_graphs():
    path = "author -writes-> paper -cites-> paper <-writes- author"
    both = compose(batch_typed(GRAPHS), path, counts=True)
    alone = [compose(graph, path, counts=True) for graph in GRAPHS]
    assert both.n_edge.tolist() == [int(one.n_edge[0]) for one in alone]
    np.testing.assert_array_equal(both.edges, np.concatenate([one.edges for one in alone]))
    same(add_reverses(batch_typed(GRAPHS)), batch_typed([add_reverses(graph) for graph in GRAPHS]))
    papers = meta_paths(batch_typed(GRAPHS), {"PP": "paper -cites-> paper"})
    same(
        papers, batch_typed([meta_paths(graph, {"PP": "paper -cites-> paper"}) for graph in GRAPHS])
    )


def test_bad_input(unchecked):
    with rejects(ValueError, "graphs is empty"):
        batch_typed([])
    with rejects(ValueError, "graphs is empty"):
        typed_budget_for([], batch_size=1)
    other = build_typed_graph(
        {"author": np.ones((1, 2)), "paper": np.ones((1, 3))}, {CITES: ([0], [0])}
    )
    with rejects(
        ValueError, "graphs[1] has other relations than graphs[0], ('author', 'writes', 'paper')"
    ):
        batch_typed([GRAPHS[0], other])
    wide = GRAPHS[0]._replace(nodes=GRAPHS[0].nodes | {"author": np.ones((3, 4))})
    with rejects(
        ValueError, "nodes['author'] of graphs[1] has rows float64[4], of graphs[0] float64[2]"
    ):
        batch_typed([GRAPHS[0], wide])
    with rejects(
        TypeError, "nodes['author'] is sparse (BCOO): can't batch or pad it; densify it first"
    ):
        sparse = BCOO.fromdense(jnp.ones((3, 2)))
        batch_typed([GRAPHS[0]._replace(nodes=GRAPHS[0].nodes | {"author": sparse})])
    small = TypedBudget({"author": 3, "paper": 9}, {WRITES: 6, CITES: 9}, 1)
    with rejects(
        ValueError,
        "need 4 nodes of 'author', the budget is 3; 7 edges of ('author', 'writes', 'paper'), ",
    ):
        pad_typed(GRAPHS[0], small)
    with rejects(ValueError, "budget.nodes has no 'paper': give one for author, paper"):
        pad_typed(GRAPHS[0], TypedBudget({"author": 4}, {}, 2))
    padded, masks = pad_typed(GRAPHS[0], typed_budget_for(GRAPHS[:1], batch_size=1))
    with rejects(ValueError, "masks.graph has shape (2,): pass the masks"):
        unpad_typed(padded, masks._replace(graph=np.array([False, True])))
    with rejects(ValueError, "paths must all start from one type, got a from author, p from paper"):
        meta_paths(GRAPHS[0], {"a": "author-paper-author", "p": "paper-author-paper"})
    with rejects(ValueError, "relations has paper -rev_writes-> author already"):
        add_reverses(add_reverses(GRAPHS[0]))
