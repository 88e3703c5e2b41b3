"""Parts of graphs and renumbered graphs: what belonged to a node or an edge still does."""

import jax.numpy as jnp
import numpy as np
import pytest
from graph_strategies import assert_same, edge_bag, examples, graphs
from graph_strategies import relabel as expected_relabel
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO, BCSR

from gatjax.graph import batch, build_graph, num_nodes, relabel, subgraph, unbatch


@examples
@given(graphs(), st.data())
def test_subgraph_by_a_plain_loop(graph, data):
    kept = data.draw(st.lists(st.integers(0, max(num_nodes(graph) - 1, 0)), unique=True))
    kept = kept if num_nodes(graph) else []
    part, mapping = subgraph(graph, np.array(kept, np.int32))
    assert mapping.tolist() == kept and part.n_node.tolist() == [len(kept)]
    edges = []
    for s, r, row in zip(graph.senders, graph.receivers, graph.edges.tolist(), strict=True):
        if s in kept and r in kept:
            edges.append((kept.index(s), kept.index(r), row))
    found = zip(part.senders.tolist(), part.receivers.tolist(), part.edges.tolist(), strict=True)
    assert list(found) == edges and part.n_edge.tolist() == [len(edges)]
    np.testing.assert_array_equal(part.nodes, graph.nodes[kept])
    np.testing.assert_array_equal(part.globals, graph.globals)


@examples
@given(graphs(min_nodes=1), st.data())
def test_a_mask_keeps_the_order(graph, data):
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=num_nodes(graph), max_size=num_nodes(graph)))
    )
    by_mask, by_ids = subgraph(graph, mask), subgraph(graph, np.flatnonzero(mask))
    assert_same(by_mask[0], by_ids[0])
    assert by_mask[1].tolist() == np.flatnonzero(mask).tolist()


@examples
@given(graphs(min_nodes=1), st.data())
def test_relabel_moves_nodes_and_back(graph, data):
    new = np.array(data.draw(st.permutations(range(num_nodes(graph)))), np.int32)
    moved = relabel(graph, new)
    assert_same(moved, expected_relabel(graph, new))
    assert_same(relabel(moved, np.argsort(new)), graph)


@pytest.mark.slow
@examples
@given(graphs(min_nodes=1), st.data())
def test_sparse_nodes_follow(graph, data):
    kept = data.draw(st.lists(st.integers(0, num_nodes(graph) - 1), unique=True))
    dense = subgraph(graph, np.array(kept, np.int32))[0].nodes
    for padding in (0, 5):
        sparse = BCOO.fromdense(jnp.asarray(graph.nodes), nse=graph.nodes.size + padding)
        part = subgraph(graph._replace(nodes={"x": sparse}), np.array(kept, np.int32))[0].nodes["x"]
        np.testing.assert_array_equal(part.todense(), dense)
        rows = np.asarray(part.indices)[:, 0] if len(kept) else np.zeros(0)
        assert part.indices.dtype == jnp.int32 and (np.diff(rows) >= 0).all()


def test_sparse_entries_stay_in_the_order_they_claim():
    matrix = BCOO.fromdense(jnp.arange(12.0).reshape(4, 3))
    part = subgraph(build_graph([], [], matrix), [3, 0, 2])[0].nodes
    assert part.indices_sorted and part.unique_indices
    flat = np.asarray(part.indices) @ [3, 1]
    assert (np.diff(flat) > 0).all()


@examples
@given(st.lists(graphs(), min_size=1, max_size=3), st.data())
def test_subgraph_commutes_with_batching(parts, data):
    masks = [
        np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
        for n in map(num_nodes, parts)
    ]
    whole = subgraph(batch(parts), np.concatenate(masks))[0]
    for found, part, mask in zip(unbatch(whole), parts, masks, strict=True):
        alone = subgraph(part, mask)[0]
        assert edge_bag(found) == edge_bag(alone)
        np.testing.assert_array_equal(found.nodes, alone.nodes)


def test_trees_and_missing_features():
    graph = build_graph([0, 1], [1, 2], num_nodes=3, edges={"a": np.arange(2), "b": np.eye(2)})
    part, _ = subgraph(graph, [1, 2])
    assert (
        part.nodes is None and part.edges["a"].tolist() == [1] and part.edges["b"].shape == (1, 2)
    )
    assert subgraph(graph, [])[0].edges["b"].shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_narrow_ids(dtype):
    graph = build_graph(np.arange(100, dtype=dtype), np.arange(1, 101, dtype=dtype), num_nodes=101)
    assert subgraph(graph, np.arange(100, -1, -1, dtype=dtype))[0].senders.tolist() == list(
        range(100, 0, -1)
    )


PAIR = batch([build_graph([0], [1], num_nodes=2), build_graph([0], [2], num_nodes=3)])


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: subgraph(PAIR, [5]), ValueError, r"nodes\[0\] = 5 is no node: ids run from 0 to 4"),
        (lambda: subgraph(PAIR, [-1]), ValueError, r"nodes\[0\] = -1 is negative"),
        (lambda: subgraph(PAIR, [1, 1]), ValueError, r"nodes\[1\] = 1 occurs twice"),
        (lambda: subgraph(PAIR, [0.5]), TypeError, "nodes must hold integers"),
        (lambda: subgraph(PAIR, [True]), ValueError, r"nodes is a mask of shape \(1,\): it must be \(5,\)"),
        (lambda: subgraph(PAIR, [3, 1]), ValueError, r"nodes\[1\] = 1 belongs to graph 0 .* np.sort\(nodes\)"),
        (lambda: relabel(PAIR, [0, 1]), ValueError, r"new_ids has shape \(2,\).*each of the 5 nodes"),
        (lambda: relabel(PAIR, [0, 0, 1, 2, 3]), ValueError, r"new_ids\[1\] = 0 occurs twice"),
        (lambda: relabel(PAIR, [4, 1, 2, 3, 0]), ValueError, r"new_ids\[0\] = 4 is an id of graph 1"),
        (
            lambda: subgraph(build_graph([], [], BCSR.fromdense(jnp.eye(3))), [0]),
            TypeError,
            r"BCSR whose rows cannot be taken: densify it first .*todense\(\)",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call()


def test_the_remedies_work():
    assert subgraph(PAIR, np.sort([3, 1]))[1].tolist() == [1, 3]
    graph = build_graph([], [], BCSR.fromdense(jnp.eye(3)))
    assert subgraph(graph._replace(nodes=graph.nodes.todense()), [0])[0].nodes.tolist() == [
        [1, 0, 0]
    ]
