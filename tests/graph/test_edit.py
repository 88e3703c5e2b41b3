"""graph.py: what each function does to edges, by hand and against plain-Python loops."""

# jraph declares every field as an optional tree, and bad arguments are wanted here.

from collections import Counter, defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from flax import nnx
from graph_strategies import assert_same, edge_bag, edge_list, examples, graphs, relabel, reorder
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from gatjax.data import load_folder
from gatjax.graph import (
    add_self_loops,
    batch,
    build_graph,
    coalesce,
    from_csv,
    from_scipy,
    fully_connected,
    in_degree,
    isolated_nodes,
    num_nodes,
    remove_self_loops,
    sort_edges,
    split_weights,
    to_undirected,
    validate,
)
from gatjax.graph.check import check_ends
from gatjax.layers import MeanConv

EDITS = {
    "loops": add_self_loops,
    "loops_ones": lambda graph: add_self_loops(graph, fill="ones"),
    "no_loops": remove_self_loops,
    "undirected": to_undirected,
    "undirected_max": lambda graph: to_undirected(graph, reduce="max"),
    "coalesce_sum": coalesce,
    "coalesce_mean": lambda graph: coalesce(graph, reduce="mean"),
    "coalesce_max": lambda graph: coalesce(graph, reduce="max"),
    "coalesce_first": lambda graph: coalesce(graph, reduce="first"),
    "by_receiver": sort_edges,
    "by_sender": lambda graph: sort_edges(graph, "sender"),
}
edits = pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())

LOOPY = dict(
    senders=[0, 1, 2, 1, 0, 2],
    receivers=[1, 1, 1, 1, 2, 0],
    edges=[[2.0], [7.0], [4.0], [9.0], [5.0], [6.0]],
    num_nodes=5,
)


# ---- build_graph


def test_build_graph_keeps_what_it_is_given():
    nodes, edges = np.ones((3, 5), np.float16), {"length": np.zeros((2, 7)), "kind": np.arange(2)}
    graph = build_graph([0, 2], np.array([1, 1], np.int64), nodes, edges=edges)
    assert graph.nodes is nodes and graph.edges is edges and graph.globals is None
    assert (graph.n_node.tolist(), graph.n_edge.tolist()) == ([3], [2])
    for name in ("senders", "receivers", "n_node", "n_edge"):
        assert isinstance(getattr(graph, name), np.ndarray)
        assert getattr(graph, name).dtype == np.int32


def test_build_graph_turns_nested_lists_into_arrays_of_the_default_dtype():
    graph = build_graph([0], [1], [[0.5, 1], [2, 3]], edges=[[4]], globals=[[True]])
    assert (graph.nodes.dtype, graph.edges.dtype) == (np.float32, np.int32)
    assert graph.globals.dtype == bool
    np.testing.assert_array_equal(graph.nodes, [[0.5, 1], [2, 3]])


def test_build_graph_default_dtype_follows_x64(x64):
    assert build_graph([0], [0], [[0.5]]).nodes.dtype == np.float64


def test_build_graph_copies_ids():
    senders = np.array([0, 1], np.int32)
    graph = build_graph(senders, [1, 0], num_nodes=2)
    senders[:] = 7
    assert graph.senders.tolist() == [0, 1]


@pytest.mark.parametrize("total", [0, 1])
def test_build_graph_without_edges(total):
    graph = build_graph([], [], np.zeros((total, 5), np.float32), edges=np.zeros((0, 3)))
    assert (graph.senders.shape, graph.senders.dtype) == ((0,), np.int32)
    assert (num_nodes(graph), graph.n_edge.tolist()) == (total, [0])


def test_build_graph_counts_a_sparse_matrix_by_its_shape():
    nodes = BCOO.fromdense(jnp.zeros((3, 5)).at[1, 2].set(1.0), nse=7)
    graph = build_graph([0], [2], nodes)
    assert graph.n_node.tolist() == [3] and graph.nodes is nodes


# ---- num_nodes


def test_num_nodes_is_static_under_jit():
    sizes = []
    record = jax.jit(lambda graph: sizes.append(num_nodes(graph)))
    nodes = jnp.ones((3, 5))
    record(build_graph([0], [1], nodes))
    record(build_graph([0], [1], {"x": nodes}))
    record(build_graph([0], [1], BCOO.fromdense(nodes, nse=17)))
    assert sizes == [3, 3, 3]


def test_num_nodes_without_features():
    graph = batch([build_graph([], [], num_nodes=2), build_graph([], [], num_nodes=3)])
    assert num_nodes(graph) == 5
    assert num_nodes(graph._replace(n_node=jnp.array([2, 3]))) == 5
    with pytest.raises(
        TypeError, match=r"nodes is None and n_node is traced.*jnp.zeros\(\(N, 0\)\)"
    ):
        jax.jit(num_nodes)(graph)


# ---- self-loops


def test_add_self_loops_by_hand():
    graph = add_self_loops(build_graph(**LOOPY))
    expected = [(0, 1, 2), (1, 1, 7), (2, 1, 4), (0, 2, 5), (2, 0, 6)]
    assert edge_list(graph) == expected + [(0, 0, 6), (2, 2, 5), (3, 3, 0), (4, 4, 0)]
    assert graph.n_edge.tolist() == [9]


def test_add_self_loops_mean_is_over_all_incoming_edges():
    graph = build_graph([0, 2, 2], [1, 1, 1], edges=[[1.0], [2.0], [6.0]], num_nodes=3)
    assert add_self_loops(graph).edges[:, 0].tolist() == [1, 2, 6, 0, 3, 0]


@pytest.mark.parametrize(
    "fill, rows",
    {
        "zeros": ("zeros", [0, 0]),
        "ones": ("ones", [1, 1]),
        "number": (0.5, [0.5, 0.5]),
        "row": (np.array([2.0, 3.0]), [2, 3]),
        "list": ([2.0, 3.0], [2, 3]),
    }.values(),
)
def test_add_self_loops_fill(fill, rows):
    graph = build_graph([0], [1], edges=np.full((1, 2), 9, np.float16), num_nodes=2)
    graph = add_self_loops(graph, fill=fill)
    assert graph.edges.dtype == np.float16
    np.testing.assert_array_equal(graph.edges, [[9, 9], rows, rows])


def test_add_self_loops_fills_trees():
    edges = {"a": np.ones((1, 2)), "b": np.array([4], np.int32)}
    graph = build_graph([0], [1], edges=edges, num_nodes=2)
    filled = add_self_loops(graph, fill={"a": np.array([5.0, 6.0]), "b": 7}).edges
    np.testing.assert_array_equal(filled["a"], [[1, 1], [5, 6], [5, 6]])
    np.testing.assert_array_equal(filled["b"], [4, 7, 7])
    assert filled["b"].dtype == np.int32
    assert add_self_loops(graph, fill=8).edges["b"].tolist() == [4, 8, 8]


def test_add_self_loops_averages_half_precision_beyond_its_range():
    edges = jnp.full((11, 1), 6e4, jnp.float16)
    graph = build_graph([1] * 11, [0] * 11, edges=edges, num_nodes=2)
    assert float(add_self_loops(graph).edges[11, 0]) == float(np.float16(6e4))
    count = 3001
    edges = jnp.ones((count, 1), jnp.bfloat16)
    graph = build_graph([1] * count, [0] * count, edges=edges, num_nodes=2)
    filled = add_self_loops(graph).edges
    assert filled.dtype == jnp.bfloat16 and float(filled[count, 0]) == 1.0


def test_nan_and_infinite_features_stay_where_they_are():
    edges = [[np.nan], [np.inf], [-np.inf], [3.0]]
    graph = build_graph([1, 0, 0, 0], [0, 2, 2, 1], edges=edges, num_nodes=4)
    loops = add_self_loops(graph).edges[4:, 0]
    np.testing.assert_array_equal(loops, [np.nan, 3, np.nan, 0])
    for reduce in ("sum", "mean", "max", "first"):
        assert coalesce(graph, reduce=reduce).edges[1, 0] == 3.0


@examples
@given(graphs())
def test_add_self_loops_gives_every_node_one_loop(graph):
    result = edge_list(add_self_loops(graph))
    loops = Counter(sender for sender, receiver, *_ in result if sender == receiver)
    assert loops == Counter(range(num_nodes(graph)))
    others = [edge for edge in edge_list(graph) if edge[0] != edge[1]]
    assert [edge for edge in result if edge[0] != edge[1]] == others
    before = {}
    for sender, receiver, *row in edge_list(graph):
        if sender == receiver:
            before.setdefault(sender, row)
    for node, receiver, *row in result:
        if node == receiver:
            incoming = [edge[2:] for edge in others if edge[1] == node]
            mean = np.mean(incoming, axis=0) if incoming else np.zeros(3)
            np.testing.assert_allclose(row, before.get(node, mean), rtol=1e-6)


@examples
@given(graphs())
def test_removing_loops_undoes_adding_them(graph):
    bare = remove_self_loops(graph)
    assert edge_list(bare) == [edge for edge in edge_list(graph) if edge[0] != edge[1]]
    assert_same(remove_self_loops(add_self_loops(bare)), bare)


# ---- undirected, coalesce, sort


def test_to_undirected_by_hand():
    graph = build_graph(
        [0, 0, 1, 2, 2], [1, 1, 0, 2, 0], edges=[[1.0], [2.0], [6.0], [5.0], [4.0]], num_nodes=3
    )
    pairs = [(1, 0), (2, 0), (0, 1), (0, 2), (2, 2)]
    values = {"mean": [3, 4, 3, 4, 5], "sum": [9, 4, 9, 4, 5], "max": [6, 4, 6, 4, 5]}
    values["first"] = [6, 4, 1, 4, 5]
    for reduce, column in values.items():
        expected = [(*pair, value) for pair, value in zip(pairs, column, strict=True)]
        assert edge_list(to_undirected(graph, reduce=reduce)) == expected


@examples
@given(graphs())
def test_to_undirected_is_symmetric(graph):
    for reduce in ("sum", "mean", "max"):
        result = edge_list(to_undirected(graph, reduce=reduce))
        assert Counter((r, s, *row) for s, r, *row in result) == Counter(result)
    pairs = {(s, r) for s, r, *_ in edge_list(graph)}
    assert {(s, r) for s, r, *_ in result} == pairs | {(r, s) for s, r in pairs}


def test_coalesce_by_hand():
    graph = build_graph(**LOOPY)
    pairs = [(2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]
    for reduce, loop in {"sum": 16, "mean": 8, "max": 9, "first": 7}.items():
        values = [6, 2, loop, 4, 5]
        expected = [(*pair, value) for pair, value in zip(pairs, values, strict=True)]
        assert edge_list(coalesce(graph, reduce=reduce)) == expected


@examples
@given(graphs())
def test_coalesce_matches_a_dictionary(graph):
    rows = defaultdict(list)
    for sender, receiver, *row in edge_list(graph):
        rows[receiver, sender].append(row)
    rules = {"sum": np.sum, "mean": np.mean, "max": np.max, "first": lambda r, axis: r[0]}
    for reduce, rule in rules.items():
        result = coalesce(graph, reduce=reduce)
        assert list(zip(result.receivers, result.senders, strict=True)) == sorted(rows)
        expected = [rule(np.array(rows[pair]), axis=0) for pair in sorted(rows)]
        np.testing.assert_allclose(result.edges, np.reshape(expected, (-1, 3)), rtol=1e-6)
        assert result.edges.dtype == np.float32


def test_coalesce_keeps_every_dtype():
    graph = build_graph([0, 0], [1, 1], num_nodes=2)
    kinds = {np.int8: 7, np.uint32: 7, np.float16: 7, np.float64: 7, np.complex64: 7 + 2j}
    kinds[jnp.bfloat16] = 7
    for dtype, total in kinds.items():
        graph = graph._replace(edges=np.array([[3], [total - 3]]).astype(dtype))
        merged = coalesce(graph).edges
        assert merged.dtype == dtype and merged[0, 0] == total
    graph = graph._replace(edges=np.array([False, True]))
    assert coalesce(graph, reduce="max").edges.tolist() == [True]


@examples
@given(graphs(), st.sampled_from(["receiver", "sender"]))
def test_sort_edges_is_pythons_stable_sort(graph, by):
    key = (lambda edge: (edge[1], edge[0])) if by == "receiver" else (lambda edge: edge[:2])
    assert edge_list(sort_edges(graph, by)) == sorted(edge_list(graph), key=key)


# ---- fully connected, degrees


@pytest.mark.parametrize("total", [0, 1, 2, 5])
def test_fully_connected(total):
    pairs = [(s, r) for r in range(total) for s in range(total)]
    assert edge_list(fully_connected(total)) == pairs
    others = [(s, r) for s, r in pairs if s != r]
    nodes = np.ones((total, 3), np.float32)
    graph = fully_connected(total, self_loops=False, nodes=nodes)
    assert edge_list(graph) == others and graph.nodes is nodes


@examples
@given(graphs())
def test_degrees_match_a_count(graph):
    nodes = range(num_nodes(graph))
    count = Counter(receiver for _, receiver, *_ in edge_list(graph))
    assert in_degree(graph).tolist() == [count[node] for node in nodes]
    reached = {receiver for sender, receiver, *_ in edge_list(graph) if sender != receiver}
    assert isolated_nodes(graph).tolist() == [node for node in nodes if node not in reached]
    assert in_degree(graph).dtype == isolated_nodes(graph).dtype == np.int32


# ---- what all edits share


@edits
@examples
@given(data=st.data())
def test_edits_are_equivariant_under_node_permutation(edit, data):
    graph = data.draw(graphs())
    new_ids = np.array(data.draw(st.permutations(range(num_nodes(graph)))), np.int32)
    before, after = relabel(edit(graph), new_ids), edit(relabel(graph, new_ids))
    assert edge_bag(before) == edge_bag(after)
    np.testing.assert_array_equal(before.nodes, after.nodes)


@pytest.mark.parametrize("name", [n for n in EDITS if "first" not in n])
@examples
@given(data=st.data())
def test_edits_ignore_the_order_of_edges(name, data):
    graph = data.draw(graphs())
    if "loops" in name:
        graph = coalesce(graph)
    order = np.array(data.draw(st.permutations(range(len(graph.senders)))), np.int32)
    assert edge_bag(EDITS[name](graph)) == edge_bag(EDITS[name](reorder(graph, order)))


@edits
@examples
@given(graph=graphs())
def test_edits_are_idempotent(edit, graph):
    once = edit(graph)
    assert_same(edit(once), once)


@edits
@examples
@given(parts=st.lists(graphs(), min_size=1, max_size=3))
def test_edits_commute_with_batching(edit, parts):
    assert_same(edit(batch(parts)), batch([edit(part) for part in parts]))


@edits
@examples
@given(graph=graphs(edge_features=False))
def test_edits_work_without_edge_features(edit, graph):
    zeros = np.zeros((len(graph.senders), 2), np.float32)
    with_features = edit(graph._replace(edges=zeros))
    bare = edit(graph)
    assert bare.edges is None
    assert_same(bare, with_features._replace(edges=None))


@edits
def test_edits_leave_their_argument_and_sparse_nodes_alone(edit):
    nodes = BCOO.fromdense(jnp.eye(5))
    graph = build_graph(**{**LOOPY, "num_nodes": None}, nodes=nodes)
    copy = jax.tree.map(np.array, graph._replace(nodes=None))
    result = edit(graph)
    assert result.nodes is nodes
    assert_same(graph._replace(nodes=None), copy)
    validate(result)


@edits
def test_edits_take_jax_arrays_and_return_int32_numpy(edit):
    graph = build_graph(**LOOPY)
    on_device = jax.tree.map(jnp.asarray, graph)
    assert_same(edit(on_device), edit(graph))
    for name in ("senders", "receivers", "n_node", "n_edge", "edges"):
        assert isinstance(getattr(edit(on_device), name), np.ndarray)


@edits
def test_edits_refuse_bad_ids_and_traced_values(edit, unchecked):
    graph = build_graph([0], [1], np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"receivers\[0\] = 5 is out of range"):
        edit(graph._replace(receivers=np.array([5])))
    with pytest.raises(TypeError, match=r"senders is traced.*before jax.jit"):
        jax.jit(edit)(graph)


# ---- bad arguments


@pytest.mark.parametrize(
    "call, error, message",
    {
        "reduce": (
            lambda g: coalesce(g, reduce="median"),
            ValueError,
            r"unknown reduce 'median': choose one of sum, mean, max, first",
        ),
        "undirected": (
            lambda g: to_undirected(g, reduce="min"),
            ValueError,
            "unknown reduce 'min'",
        ),
        "by": (
            lambda g: sort_edges(g, "target"),
            ValueError,
            "unknown by 'target': choose receiver or sender",
        ),
        "fill": (
            lambda g: add_self_loops(g, fill="max"),
            ValueError,
            "unknown fill 'max': choose mean, zeros, ones, a number or a row",
        ),
        "fill_shape": (
            lambda g: add_self_loops(g, fill=np.zeros(3)),
            ValueError,
            r"fill has shape \(3,\).*one edge.*\(1,\)",
        ),
        "fill_tree": (
            lambda g: add_self_loops(g._replace(edges={"a": g.edges}), fill={"b": 1.0}),
            ValueError,
            "fill must be a tree of rows with the structure of edges",
        ),
        "fill_nothing": (
            lambda g: add_self_loops(g._replace(edges=None), fill=1.0),
            ValueError,
            "no edge features: leave fill out",
        ),
        "fill_fraction": (
            lambda g: add_self_loops(g._replace(edges=np.zeros(6, np.int32)), fill=0.5),
            TypeError,
            "fill has dtype float64, which does not fit edges of int32",
        ),
        "mean_int": (
            lambda g: add_self_loops(g._replace(edges=np.zeros(6, np.int32))),
            TypeError,
            "edges has dtype int32, which has no mean",
        ),
        "sum_bool": (
            lambda g: coalesce(g._replace(edges=np.zeros(6, bool))),
            TypeError,
            "edges has dtype bool, which has no sum",
        ),
    }.values(),
)
def test_bad_arguments_are_named(call, error, message, unchecked):
    with pytest.raises(error, match=message):
        call(build_graph(**LOOPY))


@pytest.mark.parametrize(
    "total, error, message",
    [
        (-3, ValueError, "num_nodes = -3 must lie between 0 and 2147483647"),
        (2.0, TypeError, "num_nodes must be an integer, got 2.0"),
        (True, TypeError, "num_nodes must be an integer, got True"),
        (46341, ValueError, "num_nodes = 46341 gives 2147488281 edges, over int32"),
    ],
)
def test_fully_connected_refuses(total, error, message, unchecked):
    with pytest.raises(error, match=message):
        fully_connected(total)
    with pytest.raises(ValueError, match=r"nodes has shape \(5, 2\): its first axis must be 3"):
        fully_connected(3, nodes=np.zeros((5, 2)))


def test_build_graph_needs_to_know_the_number_of_nodes(unchecked):
    with pytest.raises(ValueError, match="num_nodes is needed where nodes is None"):
        build_graph([0], [0])
    with pytest.raises(ValueError, match=r"nodes has shape \(3, 2\): its first axis must be 5"):
        build_graph([0], [0], np.zeros((3, 2)), num_nodes=5)
    with pytest.raises(
        ValueError, match="num_nodes = 2147483648 must lie between 0 and 2147483647"
    ):
        build_graph([], [], num_nodes=2**31)
    with pytest.raises(ValueError, match="nodes has rows of unequal length"):
        build_graph([0], [0], [[1.0], [2.0, 3.0]])


# ---- weights


@pytest.mark.parametrize("kind", ["csv", "scipy", "folder"])
def test_weights_reach_a_layer_from_every_reader(kind, tmp_path):
    matrix = np.array([[0, 0.5, 0], [0, 0, 2], [3, 0, 0]], np.float32)
    nodes, coo = np.eye(3, 2, dtype=np.float32), scipy.sparse.coo_array(matrix)
    lines = [f"{s},{r},{w}" for s, r, w in zip(coo.row, coo.col, coo.data, strict=True)]
    (tmp_path / "edges.csv").write_text("\n".join(["sender,receiver,weight", *lines]))
    if kind == "csv":
        graph, weights = split_weights(from_csv(tmp_path / "edges.csv", nodes))
    elif kind == "scipy":
        graph, weights = split_weights(from_scipy(coo, nodes, edge_weight=True))
    else:
        np.save(tmp_path / "features.npy", nodes)
        np.save(tmp_path / "labels.npy", np.arange(3))
        np.savez(tmp_path / "splits.npz", train=[0], validation=[1], test=[2])
        data = load_folder(tmp_path, directed=True, features="dense")
        graph, weights = data.graph, data.edge_weight
    assert graph.edges is None and weights.dtype == np.float32
    layer = MeanConv(2, 3, rngs=nnx.Rngs(0))
    found = layer(graph, edge_weight=weights).nodes
    order = np.argsort(graph.receivers)
    expected = layer(
        build_graph(graph.senders[order], graph.receivers[order], nodes), edge_weight=weights[order]
    ).nodes
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert sorted(weights.tolist()) == [0.5, 2.0, 3.0]


def test_weights_that_lost_their_edges_name_the_remedy(unchecked):
    graph, weight = build_graph([1, 0], [2, 1], num_nodes=3), np.array([0.5, 2.0])
    with pytest.raises(
        ValueError, match=r"must have 5 rows, got 2: .*edge_weight\[:, None\].*split_weights"
    ):
        looped = add_self_loops(graph)
        check_ends(looped.senders, looped.receivers, 3, 3, edge_weight=weight)
    looped = sort_edges(add_self_loops(graph._replace(edges=weight[:, None]), fill="ones"))
    assert split_weights(looped)[1].tolist() == [1, 2, 1, 0.5, 1]


def test_split_weights_leaves_the_other_columns(unchecked):
    graph = build_graph([0, 1], [1, 0], edges=np.array([[1, 2], [3, 4]]), num_nodes=2)
    rest, weights = split_weights(graph, 1)
    assert rest.edges.tolist() == [[1], [3]] and weights.tolist() == [2, 4]
    for bad in (2, -1):
        with pytest.raises(ValueError, match=f"column = {bad} must lie between 0 and 1"):
            split_weights(graph, bad)
    with pytest.raises(ValueError, match=r"edges must be one array \[E, F\], got None"):
        split_weights(graph._replace(edges=None))
    with pytest.raises(ValueError, match=r"edges\[1, 0\] = 16777217 has more digits"):
        split_weights(graph._replace(edges=np.array([[1], [16777217]])))
