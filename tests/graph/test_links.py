"""Splits of edges and pairs without an edge: what must hold for every graph, and sizes that a matrix would not."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
from helpers import rejects
from hypothesis import given, settings
from hypothesis import strategies as st

from gatjax import (
    batch,
    build_graph,
    neighbor_table,
    sample_negative_edges,
    split_edges,
    subgraph,
)


def random_graph(seed, nodes=11, edges=47):
    """Directed, with self-loops, duplicates, and edges in both directions."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(nodes, size=(2, edges))
    return build_graph(*ends, num_nodes=nodes, edges=np.arange(edges)[:, None] + ends[0][:, None])


def unordered(senders, receivers):
    return [frozenset(pair) for pair in zip(senders.tolist(), receivers.tolist(), strict=True)]


def true_pairs(graph):
    return {pair for pair in unordered(graph.senders, graph.receivers) if len(pair) == 2}


@given(seed=st.integers(0, 10**6), supervision=st.sampled_from([None, 0.3]))
@settings(max_examples=40, deadline=None)
def test_a_split_is_a_partition_and_keeps_its_parts_apart(seed, supervision):
    graph = random_graph(seed)
    split = split_edges(graph, validation=0.2, test=0.3, supervision=supervision, seed=seed)
    messages, (train, validation, test) = split.graph, (unordered(*pairs) for pairs in split[1:])
    everything, total = [*train, *validation, *test], len(true_pairs(graph))
    assert len(set(everything)) == len(everything), "each pair once, in one part"
    assert (len(test), len(validation)) == (int(0.3 * total + 1e-9), int(0.2 * total + 1e-9))
    carrying = true_pairs(messages)
    assert not carrying & {*validation, *test}
    assert carrying | {*everything} == true_pairs(graph)
    assert carrying == {*train} if supervision is None else not carrying & {*train}
    # All of an edge goes one way, with its features, and self-loops stay.
    kept = Counter(zip(messages.senders, messages.receivers, strict=True))
    for pair, count in Counter(zip(graph.senders, graph.receivers, strict=True)).items():
        stays = pair[0] == pair[1] or frozenset(pair) in carrying
        assert kept[pair] == (count if stays else 0)
    rows = {tuple(row) for row in np.c_[graph.senders, graph.receivers, graph.edges[:, 0]]}
    assert {
        tuple(row) for row in np.c_[messages.senders, messages.receivers, messages.edges[:, 0]]
    } <= rows
    directed = set(zip(graph.senders, graph.receivers, strict=True))
    for pairs in split[1:]:
        assert set(zip(*pairs, strict=True)) <= directed


def test_a_split_is_that_of_its_seed():
    graph = random_graph(3)
    one, again, other = (split_edges(graph, test=0.2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.test.senders, again.test.senders)
    assert set(unordered(*one.test)) != set(unordered(*other.test))


RING = build_graph([*range(10)], [*range(1, 10), 0], num_nodes=10)


@pytest.mark.parametrize(
    ("options", "message", "remedy"),
    [
        ({}, "validation=0.05 of 10 pairs is none; raise it to more than 0.1", {"validation": 0.11}),
        ({"validation": 0.5, "test": 0.5}, "leave none of 10 pairs to train on; lower them", {"test": 0.4}),
        ({"validation": 0.1, "test": 1.5}, "test must lie between 0 and 1, got 1.5", {"test": 0.1}),
        ({"validation": float("nan")}, "validation must lie between 0 and 1, got nan", {"validation": 0.1}),
        ({"validation": 0.1, "supervision": 0.01}, "supervision=0.01 of 8 pairs is none", {"supervision": 0.2}),
        ({"validation": 0.1, "seed": -1}, "seed must be a non-negative integer, got -1", {"seed": 0}),
    ],
)  # fmt: skip
def test_shares_that_leave_nothing_are_refused(options, message, remedy):
    with rejects(ValueError, message):
        split_edges(RING, **options)
    split = split_edges(RING, **options | remedy)
    assert all(len(pairs.senders) for pairs in split[1:]) and len(split.graph.senders)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_may_be_empty(part):
    split = split_edges(RING, **{"validation": 0.2, "test": 0.2} | {part: 0.0})
    sizes = {
        name: len(pairs.senders) for name, pairs in zip(split._fields[1:], split[1:], strict=True)
    }
    assert sizes == {"train": 8, "validation": 2, "test": 2} | {part: 0}
    assert len(split.graph.senders) == 8
    assert len(sample_negative_edges(RING, sizes[part]).senders) == 0


def test_a_batch_is_refused():
    for function in (split_edges, neighbor_table, lambda graph: sample_negative_edges(graph, 1)):
        with rejects(ValueError, "graph is a batch of 2: give one at a time, see gatjax.unbatch"):
            function(batch([RING, RING]))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_negatives_are_all_pairs_without_an_edge_and_no_others(seed):
    graph = random_graph(seed)
    free = 11 * 10 // 2 - len(true_pairs(graph))
    pairs = unordered(*sample_negative_edges(graph, free, seed=seed))
    assert len(set(pairs)) == free and all(len(pair) == 2 for pair in pairs)
    assert not set(pairs) & true_pairs(graph)
    with rejects(ValueError, f"count={free + 1}: there are {free} pairs of different nodes"):
        sample_negative_edges(graph, free + 1)


def test_negatives_have_the_same_chance():
    """Two of fifteen pairs, 1000 times: each 2/15 of the time, within five standard deviations."""
    graph = build_graph([0], [0], num_nodes=6)
    draws = 1000
    found = Counter(
        pair
        for seed in range(draws)
        for pair in unordered(*sample_negative_edges(graph, 2, seed=seed))
    )
    expected = draws * 2 / 15
    assert len(found) == 15
    assert max(abs(count - expected) for count in found.values()) < 5 * expected**0.5


def test_ten_million_nodes_take_memory_of_edges_alone():
    nodes, edges = 10_000_000, 20_000
    ends = np.random.default_rng(0).integers(nodes, size=(2, edges))
    # The last pairs of all stand where a root in float64 is rounded.
    ends = np.c_[ends, [[nodes - 2, nodes - 3], [nodes - 1, nodes - 1]]]
    graph = build_graph(*ends, num_nodes=nodes)
    tracemalloc.start()
    pairs = sample_negative_edges(graph, 30_000, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    found = np.stack(pairs).astype(np.int64)
    assert found.dtype == np.int64 and found.min() >= 0 and found.max() < nodes
    assert (found[0] < found[1]).all() and len(set(unordered(*pairs))) == 30_000
    assert not set(unordered(*pairs)) & true_pairs(graph)
    assert np.abs(np.median(found[1]) / nodes - 0.5**0.5) < 0.02, "half of all pairs lie below"


def test_a_table_lists_neighbours_of_both_directions_once():
    graph = random_graph(5)
    table = neighbor_table(graph)
    for node in range(11):
        here = table.neighbors[table.starts[node] : table.starts[node + 1]].tolist()
        joined = graph.senders[graph.receivers == node], graph.receivers[graph.senders == node]
        assert here == sorted(set(np.concatenate(joined).tolist()))
    empty, _ = subgraph(graph, [])
    assert neighbor_table(empty).starts.tolist() == [0]
