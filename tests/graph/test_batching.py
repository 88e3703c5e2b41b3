"""padding.py: what comes out is what went in, at the budget's shape, and the masks say which is which."""

# jraph declares every field as an optional tree, and bad arguments are wanted here.

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from graph_strategies import assert_same, edge_list, examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from gatjax.graph import (
    Budget,
    Masks,
    batch,
    budget_for,
    build_graph,
    in_degree,
    masks_of,
    pad,
    pad_batches,
    unbatch,
    unpad,
    validate,
)
from gatjax.graph.sizes import graph_ids

lists_of_graphs = st.lists(graphs(), min_size=1, max_size=5)


def sizes(graph):
    return int(graph.n_node.sum()), int(graph.n_edge.sum()), len(graph.n_node)


def ring(total, **features):
    """Node i sends to node i + 1, round the ring."""
    ids = np.arange(total, dtype=np.int32)
    return build_graph(ids, np.roll(ids, -1), num_nodes=total, **features)


# ---- batch and unbatch


def test_batch_by_hand():
    first = build_graph([0, 1], [1, 0], [[1.0], [2.0]], edges=[[5.0], [6.0]], globals=[[8.0]])
    second = build_graph([2], [0], [[3.0], [4.0], [5.0]], edges=[[7.0]], globals=[[9.0]])
    both = batch([first, second])
    assert edge_list(both) == [(0, 1, 5), (1, 0, 6), (4, 2, 7)]
    assert (both.n_node.tolist(), both.n_edge.tolist()) == ([2, 3], [2, 1])
    assert both.nodes[:, 0].tolist() == [1, 2, 3, 4, 5] and both.globals[:, 0].tolist() == [8, 9]


@examples
@given(lists_of_graphs)
def test_unbatch_undoes_batch(parts):
    together = batch(parts)
    validate(together)
    before = jax.tree.map(np.copy, together)
    back = unbatch(together)
    assert len(back) == len(parts)
    for part, original in zip(back, parts, strict=True):
        assert_same(part, original)
    assert_same(together, before)


@examples
@given(st.lists(lists_of_graphs, min_size=1, max_size=3))
def test_a_batch_of_batches_is_one_batch(groups):
    together = batch([batch(group) for group in groups])
    assert_same(together, batch([graph for group in groups for graph in group]))


# ---- pad and unpad


def test_pad_by_hand():
    graph = build_graph([0], [1], [[3.0], [4.0]], edges=[[5.0]], globals=[[6.0]])
    padded, masks = pad([graph, graph], Budget(nodes=7, edges=5, graphs=4))
    assert edge_list(padded) == [(0, 1, 5), (2, 3, 5), (4, 4, 0), (4, 4, 0), (4, 4, 0)]
    assert padded.n_node.tolist() == [2, 2, 3, 0]
    assert padded.n_edge.tolist() == [1, 1, 3, 0]
    assert padded.nodes[:, 0].tolist() == [3, 4, 3, 4, 0, 0, 0]
    assert padded.globals[:, 0].tolist() == [6, 6, 0, 0]
    assert masks.node.tolist() == [True] * 4 + [False] * 3
    assert masks.edge.tolist() == [True] * 2 + [False] * 3
    assert masks.graph.tolist() == [True] * 2 + [False] * 2


@examples
@given(lists_of_graphs, st.tuples(*[st.integers(0, 5)] * 3))
def test_pad_fills_the_budget_and_unpad_empties_it(parts, extra):
    together = batch(parts)
    nodes, edges, count = sizes(together)
    budget = Budget(nodes + 1 + extra[0], edges + extra[1], count + 1 + extra[2])
    padded, masks = pad(parts, budget)
    validate(padded)
    assert sizes(padded) == budget
    assert tuple(map(len, masks)) == budget
    assert tuple(mask.sum() for mask in masks) == (nodes, edges, count)
    assert np.all(padded.senders[edges:] == nodes) and np.all(padded.receivers[edges:] == nodes)
    np.testing.assert_array_equal(in_degree(padded)[:nodes], in_degree(together))
    assert_same(unpad(padded, masks), together)
    assert_same(pad(together, budget)[0], padded)


@examples
@given(lists_of_graphs)
def test_masks_agree_with_jraph_on_padded_batches(parts):
    nodes, edges, count = sizes(batch(parts))
    padded, masks = pad(parts, (nodes + 3, edges + 2, count + 5))
    on_device = jax.tree.map(jnp.asarray, padded)
    np.testing.assert_array_equal(masks.node, jraph.get_node_padding_mask(on_device))
    np.testing.assert_array_equal(masks.edge, jraph.get_edge_padding_mask(on_device))
    np.testing.assert_array_equal(masks.graph, jraph.get_graph_padding_mask(on_device))


@examples
@given(lists_of_graphs, st.integers(0, 3))
def test_masks_of_knows_padded_from_unpadded(parts, spare):
    together = batch(parts)
    assert all(np.all(mask) for mask in masks_of(together))
    assert tuple(map(len, masks_of(together))) == sizes(together)
    nodes, edges, count = sizes(together)
    padded, masks = pad(parts, (nodes + 1 + spare, edges + spare, count + 1 + spare))
    for expected, mask in zip(masks, masks_of(padded, count), strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_masks_of_takes_sparse_nodes():
    graph = build_graph([0], [1], BCOO.fromdense(jnp.eye(3), nse=7))
    assert masks_of(graph).node.tolist() == [True] * 3


def test_pad_keeps_dtypes_trees_and_absent_fields():
    nodes = {"half": np.ones((2, 3), np.float16), "id": np.arange(2)}
    padded, _ = pad(build_graph([0], [1], nodes), (5, 2, 2))
    assert padded.edges is None and padded.globals is None
    assert (padded.nodes["half"].shape, padded.nodes["half"].dtype) == ((5, 3), np.float16)
    assert (padded.nodes["id"].shape, padded.nodes["id"].dtype) == ((5,), np.int64)
    for ids in (padded.senders, padded.receivers, padded.n_node, padded.n_edge):
        assert isinstance(ids, np.ndarray) and ids.dtype == np.int32


def test_unpad_takes_what_a_jitted_model_returns():
    graph = ring(3, nodes=jnp.ones((3, 2)))
    padded, masks = pad(graph, (7, 5, 2))
    double = jax.jit(lambda g: g._replace(nodes=2 * g.nodes))
    result = unpad(double(padded), masks)
    np.testing.assert_array_equal(result.nodes, np.full((3, 2), 2.0))
    assert edge_list(result) == edge_list(graph)


# ---- budgets


def test_budget_for_by_hand():
    sizes_of = [build_graph([0] * e, [0] * e, num_nodes=n) for n, e in [(2, 13), (7, 1), (5, 4)]]
    assert budget_for(sizes_of, batch_size=1, round_to=1) == Budget(8, 13, 2)
    assert budget_for(sizes_of, batch_size=2, round_to=8) == Budget(16, 24, 3)
    assert budget_for(sizes_of, batch_size=7, round_to=1) == Budget(15, 18, 4)
    assert budget_for([batch(sizes_of)] * 2, batch_size=1, round_to=1) == Budget(15, 18, 4)


@examples
@given(lists_of_graphs, st.integers(1, 4), st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_batch_of_that_size_fits_the_budget(parts, batch_size, round_to, random):
    budget = budget_for(parts, batch_size=batch_size, round_to=round_to)
    assert budget.nodes % round_to == budget.edges % round_to == 0
    chosen = random.sample(parts, min(batch_size, len(parts)))
    assert sizes(pad(chosen, budget)[0]) == budget


def test_pad_batches_is_greedy_and_in_order():
    rings = [ring(total) for total in (2, 3, 4, 1, 1)]
    batches = list(pad_batches(iter(rings), Budget(nodes=7, edges=7, graphs=3)))
    assert [graph.n_node[mask.graph].tolist() for graph, mask in batches] == [[2, 3], [4, 1], [1]]


@examples
@given(lists_of_graphs, st.integers(1, 3))
def test_pad_batches_loses_nothing(parts, batch_size):
    budget = budget_for(parts, batch_size=batch_size, round_to=3)
    batches = list(pad_batches(parts, budget))
    assert {sizes(graph) for graph, _ in batches} == {budget}
    assert_same(batch([unpad(*padded) for padded in batches]), batch(parts))


def test_pad_batches_of_nothing():
    assert list(pad_batches([], Budget(5, 3, 2))) == []


def test_one_budget_is_one_trace():
    traces = []

    @jax.jit
    def total(graph, masks):
        traces.append(graph.nodes.shape)
        return jnp.sum(jnp.where(masks.node[:, None], graph.nodes, 0.0))

    rings = [ring(total, nodes=np.ones((total, 2), np.float32)) for total in (2, 3, 5, 1, 7)]
    budget = budget_for(rings, batch_size=2)
    sums = [float(total(*padded)) for padded in pad_batches(rings, budget)]
    assert sum(sums) == 2 * (2 + 3 + 5 + 1 + 7)
    assert traces == [(64, 2)]


# ---- bad input


SPARSE = {
    "bcoo": BCOO.fromdense(jnp.eye(3)),
    "in_a_tree": {"words": BCOO.fromdense(jnp.eye(3)), "id": np.arange(3)},
}


@pytest.mark.parametrize("nodes", SPARSE.values(), ids=SPARSE.keys())
@pytest.mark.parametrize(
    "call",
    {
        "batch": lambda graph: batch([graph, graph]),
        "batch_one": lambda graph: batch([graph]),
        "pad": lambda graph: pad(graph, (9, 9, 3)),
        "pad_batches": lambda graph: list(pad_batches([graph], (9, 9, 3))),
        "unbatch": unbatch,
        "unpad": lambda graph: unpad(graph, masks_of(graph)),
    }.values(),
)
def test_sparse_nodes_are_refused(call, nodes, unchecked):
    with pytest.raises(TypeError, match=r"nodes is sparse \(BCOO\).*densify.*nodes.todense\(\)"):
        call(build_graph([0], [1], nodes))


@pytest.mark.parametrize(
    "budget, message",
    [
        ((3, 5, 2), "need 4 nodes with the spare one, budget.nodes is 3: raise the budget, see"),
        ((4, 2, 2), "need 3 edges, budget.edges is 2: raise"),
        ((4, 3, 1), "need 2 graphs with the spare one, budget.graphs is 1: raise"),
        ((3, 2, 1), "4 nodes.*is 3; 3 edges.*is 2; 2 graphs.*is 1: raise"),
    ],
)
def test_what_does_not_fit_is_named(budget, message, unchecked):
    with pytest.raises(ValueError, match=message):
        pad(ring(3), Budget(*budget))
    with pytest.raises(ValueError, match=message):
        pad_batches([ring(3)] * 2, Budget(*budget))
    assert sizes(pad(ring(3), (4, 3, 2))[0]) == (4, 3, 2)


def test_graphs_that_differ_are_refused(unchecked):
    plain, wide, whole = (
        ring(3, nodes=np.ones(shape, dtype))
        for shape, dtype in [((3, 2), np.float32), ((3, 5), np.float32), ((3, 2), np.int32)]
    )
    with pytest.raises(ValueError, match=r"graphs\[1\].nodes has rows.*float32\[5\].*float32\[2\]"):
        batch([plain, wide])
    with pytest.raises(ValueError, match=r"graphs\[2\].nodes has rows.*int32\[2\].*float32\[2\]"):
        batch([plain, plain, whole])
    with pytest.raises(ValueError, match=r"graphs\[1\].edges has rows.*give all graphs the same"):
        batch([plain, plain._replace(edges=np.ones((3, 1)))])
    with pytest.raises(ValueError, match=r"graphs\[1\].globals has rows"):
        batch([plain, plain._replace(globals=np.ones((1, 1)))])


def test_empty_lists_and_bad_graphs_are_refused(unchecked):
    for call in (batch, lambda graphs: pad(graphs, (3, 3, 3))):
        with pytest.raises(ValueError, match="graphs is empty: a batch needs at least one graph"):
            call([])
        with pytest.raises(ValueError, match=r"senders\[2\] = 3 is out of range"):
            call([ring(3)._replace(senders=np.array([0, 1, 3]))])
    with pytest.raises(ValueError, match="graphs is empty: a budget needs at least one graph"):
        budget_for([], batch_size=2)
    with pytest.raises(ValueError, match="batch_size = 0 must be at least 1"):
        budget_for([ring(3)], batch_size=0)
    with pytest.raises(ValueError, match="round_to = -2 must be at least 1"):
        budget_for([ring(3)], batch_size=1, round_to=-2)


def test_batches_over_int32_are_refused(unchecked):
    huge = build_graph([2**31 - 2], [0], num_nodes=2**31 - 1)
    with pytest.raises(ValueError, match=r"over int32"):
        batch([huge, huge])


def test_foreign_masks_are_refused(unchecked):
    padded, masks = pad(ring(3), (7, 5, 2))
    with pytest.raises(ValueError, match=r"masks.node has shape \(7,\): this graph needs \(3,\)"):
        unpad(ring(3), masks)
    with pytest.raises(ValueError, match="masks.edge is True after False: pass the masks that pad"):
        unpad(padded, masks._replace(edge=~masks.edge))
    with pytest.raises(ValueError, match="num_real_graphs = 3 must lie between 0 and 2 graphs"):
        masks_of(padded, 3)


def test_masks_travel_through_jit():
    _, masks = pad(ring(3), (7, 5, 2))
    assert isinstance(jax.jit(lambda m: m)(masks), Masks)


# ---- tables without rows


def molecule(bonds, edges, nodes=4):
    return build_graph([0] * bonds, [1] * bonds, np.ones((nodes, 2), np.float32), edges=edges)


@pytest.mark.parametrize(
    "empty", [None, [], np.zeros((0, 1)), np.zeros((0, 3), np.float32)], ids=str
)
def test_a_molecule_without_bonds_stands_among_others(empty):
    bare, other = molecule(0, empty), molecule(2, np.ones((2, 3), np.float32))
    for parts in ([bare, other], [other, bare], [bare, other, bare]):
        together = batch(parts)
        assert together.edges.shape == (2, 3) and together.edges.dtype == np.float32
        assert [part.edges.shape[1] for part in unbatch(together)] == [3] * len(parts)
    padded = list(pad_batches([bare, other, bare], (5, 3, 2)))
    assert [graph.edges.shape for graph, _ in padded] == [(3, 3)] * 3
    assert batch([bare, bare]).senders.tolist() == []


def test_a_graph_without_nodes_stands_among_others():
    nothing = build_graph([], [], num_nodes=0)
    assert batch([nothing, molecule(0, None)]).nodes.shape == (4, 2)


def test_trees_of_features_follow():
    tree = {"a": np.ones((2, 3)), "b": np.ones(2, np.int32)}
    edges = batch([molecule(0, None), molecule(2, tree)]).edges
    assert edges["a"].shape == (2, 3) and edges["b"].dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_counts_and_ids_are_counted_right(dtype):
    part = build_graph(np.array([99], dtype), np.array([0], dtype), num_nodes=100)
    part = part._replace(n_node=part.n_node.astype(dtype), n_edge=part.n_edge.astype(dtype))
    together = batch([part] * 3)
    assert together.senders.tolist() == [99, 199, 299]
    narrow = together._replace(n_node=together.n_node.astype(dtype))
    assert masks_of(narrow).node.sum() == 300
    assert [int(i) for i in np.bincount(graph_ids(narrow.n_node, 300))] == [100] * 3
    assert [len(graph.senders) for graph in unbatch(narrow)] == [1, 1, 1]


def test_sizes_are_integers(unchecked):
    for call, name in [
        (lambda: budget_for([ring(3)], batch_size=0.5), "batch_size"),
        (lambda: masks_of(ring(3), 0.5), "num_real_graphs"),
        (lambda: pad(ring(3), (4, 3.5, 2)), "budget.edges"),
        (lambda: pad_batches([ring(3)], (4, "x", 2)), "budget.edges"),
    ]:
        with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
            call()
    with pytest.raises(ValueError, match="budget has 2 entries: give three"):
        pad(ring(3), (4, 3))
