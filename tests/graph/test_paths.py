"""paths.py: every walk counted by hand, caps, sizes known beforehand, and paths that cannot be walked."""

from itertools import product

import numpy as np
import pytest
from helpers import rejects

from gatjax.graph import (
    Step,
    build_typed_graph,
    compose,
    isolated_nodes,
    num_nodes,
    path_size,
    paths,
)

WRITES, IN = ("author", "writes", "paper"), ("paper", "in", "venue")
PATH = "author-paper-venue-paper-author"


def bibliography(more=(), seed=0, authors=11, papers=17, venues=3):
    generator = np.random.default_rng(seed)
    # The last author writes nothing, and two links are given twice.
    links = generator.integers(0, [authors - 1, papers], size=(29, 2))[[*range(29), 3, 5]].T
    venue = generator.integers(0, venues, papers)
    relations = {WRITES: tuple(links), IN: (np.arange(papers), venue)} | dict(more)
    nodes = {"author": np.arange(authors * 2.0).reshape(authors, 2)}
    return build_typed_graph(
        nodes | {"paper": None, "venue": None},
        relations,
        num_nodes={"paper": papers, "venue": venues},
    )


def pairs(graph, triple):
    edges = graph.relations[triple]
    return set(zip(edges.senders.tolist(), edges.receivers.tolist(), strict=True))


def walks_of(graph):
    """{(author, author): walks}, by loops."""
    writes, venue = pairs(graph, WRITES), dict(pairs(graph, IN))
    walks = {}
    for (a, p), (b, q) in product(writes, writes):
        if venue[p] == venue[q]:
            walks[a, b] = walks.get((a, b), 0) + 1
    return walks


def walks_and_loops(graph):
    return {(a, a): 0 for a in range(11)} | walks_of(graph)


def edges_of(one):
    values = one.edges[:, 0].tolist() if one.edges is not None else [None] * len(one.senders)
    return dict(
        zip(zip(one.senders.tolist(), one.receivers.tolist(), strict=True), values, strict=True)
    )


def test_walks_are_those_of_loops(monkeypatch):
    graph = bibliography()
    expected = walks_and_loops(graph)
    one = compose(graph, PATH, counts=True)
    assert edges_of(one) == expected
    assert one.nodes is graph.nodes["author"]
    order = np.lexsort((one.senders, one.receivers))
    assert order.tolist() == list(range(len(order)))
    assert (
        compose(graph, PATH).edges is None
        and edges_of(compose(graph, PATH)).keys() == expected.keys()
    )
    assert isolated_nodes(one).tolist() == [10]
    monkeypatch.setattr(paths, "BLOCK", 1)
    assert edges_of(compose(graph, PATH, counts=True)) == expected


def test_size_before_the_product():
    graph = bibliography()
    size = path_size(graph, PATH)
    distinct = len(pairs(graph, WRITES))
    assert size.links == (distinct, 17, 17, distinct)
    assert size.duplicates == (31 - distinct, 0, 0, 31 - distinct) and size.duplicates[0] > 0
    assert len(compose(graph, PATH).senders) <= size.bound <= 121
    sparse_path = path_size(graph, "author-paper-author")
    made = compose(graph, "author-paper-author", max_edges=sparse_path.bound)
    assert len(made.senders) <= sparse_path.bound
    assert str(size.steps[2]) == "venue <-in- paper" and size.steps[0] == Step(WRITES, False)


def test_a_cap_keeps_most_walks_and_the_node_itself():
    graph = bibliography()
    walks = walks_of(graph)
    kept = edges_of(compose(graph, PATH, max_neighbors=3, counts=True))
    assert kept.items() <= walks_and_loops(graph).items()
    for receiver in range(11):
        own = [count for (s, r), count in kept.items() if r == receiver and s != r]
        others = sorted(
            (count for (s, r), count in walks.items() if r == receiver and s != r), reverse=True
        )
        assert sorted(own, reverse=True) == others[:3]
        assert (receiver, receiver) in kept
    assert edges_of(compose(graph, PATH, max_neighbors=100, counts=True)) == edges_of(
        compose(graph, PATH, counts=True)
    )


def test_ties_are_drawn_by_the_seed_in_blocks_of_any_size(monkeypatch):
    star = build_typed_graph(
        {"author": np.zeros((40, 1)), "paper": np.zeros((1, 1))},
        {WRITES: (np.arange(40), np.zeros(40, int))},
    )
    draw = lambda seed: compose(star, "author-paper-author", max_neighbors=4, seed=seed)
    first = edges_of(draw(0))
    assert edges_of(draw(0)) == first and edges_of(draw(1)) != first
    assert len(first) == 40 * 5
    # The lowest ids are no one's neighbours by being lowest.
    assert len({sender for sender, receiver in first if sender != receiver}) > 30
    monkeypatch.setattr(paths, "BLOCK", 100)
    assert edges_of(draw(0)) == first


def test_renamed_nodes_and_reordered_edges_give_the_same_walks():
    graph = bibliography()
    generator = np.random.default_rng(1)
    new = {name: generator.permutation(len_of(graph, name)) for name in graph.types}
    relations = {}
    for (sender, name, receiver), edges in reversed(graph.relations.items()):
        order = generator.permutation(len(edges.senders))
        ends = new[sender][edges.senders][order], new[receiver][edges.receivers][order]
        relations[sender, name, receiver] = ends
    renamed = build_typed_graph(
        dict.fromkeys(graph.types),
        relations,
        num_nodes={name: len(ids) for name, ids in new.items()},
    )
    mapped = {
        (new["author"][a], new["author"][b]): count
        for (a, b), count in edges_of(compose(graph, PATH, counts=True)).items()
    }
    assert edges_of(compose(renamed, PATH, counts=True)) == mapped


def len_of(graph, name):
    return int(graph.n_node[name].sum())


def test_multiplicities_count_walks():
    graph = build_typed_graph(
        {"author": [[1.0], [2.0]], "paper": [[0.0]]}, {WRITES: ([0, 1, 1], [0, 0, 0])}
    )
    often = compose(graph, "author-paper-author", counts=True, multiplicity={"writes": [2, 3, 1]})
    assert edges_of(often) == {(0, 0): 4, (0, 1): 8, (1, 0): 8, (1, 1): 16}
    none = compose(graph, "author-paper-author", counts=True, multiplicity={WRITES: [0, 3, 1]})
    assert edges_of(none) == {(0, 0): 0, (1, 1): 16}
    for bad, said in (
        ([1, -1, 1], "edge 1 counts -1 times"),
        ([1, 1, 0.5], "edge 2 counts 0.5"),
        ([1, np.nan, 0], "edge 1"),
    ):
        with rejects(ValueError, f"multiplicity of author -writes-> paper: {said}"):
            compose(graph, "author-paper-author", multiplicity={"writes": bad})
    with rejects(ValueError, "has shape (2,): give one number for each of 3 edges"):
        compose(graph, "author-paper-author", multiplicity={"writes": [1, 1]})


CITES = ("paper", "cites", "paper")


def test_steps_are_named_where_types_do_not_say_which():
    graph = cited()
    with rejects(
        ValueError,
        "several relations lead from paper to paper: write one of paper -cites-> paper, paper <-",
    ):
        compose(graph, "paper-paper-paper")
    coupled = {(0, 0), (1, 1), (2, 2), (0, 1), (1, 0)}
    for path in (
        "paper -cites-> paper <-cites- paper",
        ["paper", "-cites->", "paper", "<-cites-", "paper"],
    ):
        assert set(edges_of(compose(graph, path))) == coupled
    cocited = set(edges_of(compose(graph, "paper<-cites-paper-cites->paper")))
    assert cocited == {(0, 0), (1, 1), (2, 2), (1, 2), (2, 1)}
    one = edges_of(compose(graph, "paper -cites-> paper", counts=True))
    assert one == {(0, 1): 1, (0, 2): 1, (1, 2): 1, (0, 0): 0, (1, 1): 0, (2, 2): 0}
    with rejects(
        ValueError,
        "path: no relation 'wrote' leads from author to paper; author has author -writes-> paper",
    ):
        compose(bibliography(), "author -wrote-> paper - author")
    with rejects(ValueError, "no relation 'writes' leads from author to paper"):
        compose(bibliography(), "author <-writes- paper - author")


def cited():
    return build_typed_graph({"paper": np.zeros((3, 1))}, {CITES: ([0, 0, 1], [1, 2, 2])})


def test_a_relation_and_its_reverse_are_no_two_ways():
    forwards = bibliography()
    writes = forwards.relations[WRITES]
    back = {("paper", "written by", "author"): (writes.receivers[::-1], writes.senders[::-1])}
    both = bibliography(back)
    assert edges_of(compose(both, PATH, counts=True)) == walks_and_loops(forwards)
    two = bibliography(back | {("paper", "reviewed by", "author"): ([0], [0])})
    with rejects(ValueError, "write one of author -writes-> paper, author <-reviewed by- paper"):
        compose(two, PATH)
    named = compose(two, "author -writes-> paper - venue - paper <-writes- author", counts=True)
    assert edges_of(named) == walks_and_loops(forwards)


def test_names_with_hyphens_are_given_one_by_one():
    graph = build_typed_graph(
        {"co-author": [[0.0], [1.0]], "p": [[0.0]]}, {("co-author", "w", "p"): ([0, 1], [0, 0])}
    )
    for path in (["co-author", "p", "co-author"], ["co-author", "-w->", "p", "-", "co-author"]):
        assert len(compose(graph, path).senders) == 4
    with rejects(ValueError, "path: there is no type 'co'; the types are co-author, p"):
        compose(graph, "co-author-p")


def test_a_batch_stays_a_batch():
    graph = bibliography()
    n_node = {"author": np.array([11, 0]), "paper": np.array([17, 0]), "venue": np.array([3, 0])}
    n_edge = {
        triple: np.array([len(edges.senders), 0]) for triple, edges in graph.relations.items()
    }
    one = compose(graph._replace(n_node=n_node, n_edge=n_edge), PATH)
    assert one.n_node.tolist() == [11, 0] and one.n_edge.tolist() == [len(one.senders), 0]


@pytest.mark.parametrize(
    "path, options, error, message",
    [
        ("author-paper-venue", {}, ValueError, "path starts from author and ends in venue: it must come back to its "),
        ("author-venue-author", {}, ValueError, "no relation leads from author to venue; author has author -writes->"),
        ("author-book-author", {}, ValueError, "there is no type 'book'; the types are author, paper, venue"),
        ("author", {}, ValueError, "path 'author' must be types with steps between them"),
        ("author--author", {}, ValueError, "must be types with steps between them"),
        ("", {}, ValueError, "path '' must be types"),
        ([], {}, ValueError, "path [] must be types"),
        (["author", 3], {}, TypeError, "path must be a string or a sequence of strings"),
        (PATH, {"max_neighbors": 0}, ValueError, "max_neighbors = 0 must be at least 1"),
        (PATH, {"max_neighbors": 2.5}, TypeError, "max_neighbors must be an integer, got 2.5"),
        (PATH, {"max_edges": 0}, ValueError, "max_edges = 0 must be at least 1"),
        (PATH, {"seed": -1}, ValueError, "seed = -1 must be at least 0"),
        (PATH, {"max_edges": 40}, ValueError, "over max_edges = 40 edges: keep the neighbours with most walks, max_n"),
        (PATH, {"max_edges": 30, "max_neighbors": 3}, ValueError, "30 edges: lower max_neighbors = 3, or raise max_ed"),
        (PATH, {"max_edges": 20, "max_neighbors": 1}, ValueError, "over max_edges = 20 edges: raise max_edges"),
        (PATH, {"max_edges": 3, "max_neighbors": 1}, ValueError, "over max_edges = 3 links half way: raise max_edges"),
        (PATH, {"multiplicity": {"w": [1]}}, ValueError, "relation 'w': there is none; the graph has author -writes->"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(path, options, error, message, unchecked):
    with rejects(error, message):
        compose(bibliography(), path, **options)


def test_the_remedies_work():
    graph = bibliography()
    assert len(compose(graph, PATH, max_neighbors=2, max_edges=40).senders) <= 33
    assert len(compose(graph, PATH, max_edges=121).senders) > 40
    assert num_nodes(compose(graph, "author-paper-venue-paper-author")) == 11
