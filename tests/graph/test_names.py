"""Nodes that are called by names, or by any numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatjax.graph import build_graph, from_csv, from_named_csv, from_table, number_names
from gatjax.graph.names import match_names

TEXT = st.text("abü 0,\"'", min_size=1, max_size=4)


@given(
    st.one_of(
        [st.lists(st.tuples(kind, kind)) for kind in (TEXT, st.integers(-(2**63), 2**63 - 1))]
    )
)
def test_names_come_back(pairs):
    senders, receivers = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    named = number_names(senders, receivers)
    assert named.names[named.senders].tolist() == senders
    assert named.names[named.receivers].tolist() == receivers
    assert named.names.tolist() == sorted({*senders, *receivers})
    assert named.senders.dtype == named.receivers.dtype == np.int32
    build_graph(named.senders, named.receivers, num_nodes=len(named.names))


def test_the_remedy_of_build_graph_works(unchecked):
    senders, receivers = ["ann", "cat"], np.array(["bob", "ann"])
    for bad in (senders, receivers, np.array(senders, object)):
        with pytest.raises(
            TypeError, match=r"senders must hold .* names = number_names\(senders, receivers\)"
        ):
            build_graph(bad, receivers, num_nodes=3)
    senders, receivers, names = number_names(senders, receivers)
    graph = build_graph(senders, receivers, num_nodes=len(names))
    assert names[graph.senders].tolist() == ["ann", "cat"] and names.tolist() == [
        "ann",
        "bob",
        "cat",
    ]
    with pytest.raises(
        TypeError, match=r"senders must .* float64: convert it with np.asarray\(senders, np.i"
    ):
        build_graph([0.0], [1], num_nodes=2)
    assert build_graph(np.asarray([0.0], np.int32), [1], num_nodes=2).senders.tolist() == [0]
    with pytest.raises(TypeError, match="got dtype float64: pass whole numbers as senders"):
        build_graph([0.5], [1], num_nodes=2)


@pytest.mark.parametrize(
    "senders, receivers, error, message",
    [
        (
            ["a", 1],
            ["b", "c"],
            TypeError,
            r"senders\[1\] = 1 is no name: all names must be strings",
        ),
        ([0.5], [1], TypeError, r"senders\[0\] = 0.5 is no name"),
        ([None], ["a"], TypeError, r"senders\[0\] = None is no name"),
        (
            ["a"],
            [1],
            TypeError,
            r"hold strings \('a'\) and integers \(1\): give all names as strings",
        ),
        (["a"], ["b", "c"], ValueError, "1 names and receivers has 2"),
        ([["a"]], ["b"], ValueError, r"senders has shape \(1, 1\)"),
    ],
)
def test_what_is_no_name_is_refused(senders, receivers, error, message, unchecked):
    with pytest.raises(error, match=message):
        number_names(senders, receivers)


def test_the_remedy_for_two_kinds_works():
    assert number_names(["a"], np.asarray([1], str)).names.tolist() == ["1", "a"]


@given(st.lists(st.integers(-5, 5), unique=True), st.lists(st.integers(-6, 6)))
def test_match_names_agrees_with_a_list(names, values):
    expected = [names.index(value) if value in names else -1 for value in values]
    found = match_names(np.array(values, np.int64), np.array(names, np.int64))
    assert found.tolist() == expected
    text = lambda items: np.array([str(item) for item in items], object)
    assert match_names(text(values), text(names)).tolist() == expected


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
def test_an_edge_list_of_names(tmp_path, quote, ending):
    path = tmp_path / "edges.csv"
    rows = [["sender", "weight", "receiver"], ["bob", "0.5", "ann"], [" ann ", "2", "cät"]]
    text = ending.join(",".join(f"{quote}{cell}{quote}" for cell in row) for row in rows)
    path.write_bytes(text.encode("utf-8-sig"))
    graph, names = from_named_csv(path)
    assert names.tolist() == ["ann", "bob", "cät"]
    assert names[graph.senders].tolist() == ["bob", "ann"]
    assert names[graph.receivers].tolist() == ["ann", "cät"]
    assert graph.edges.tolist() == [[0.5], [2.0]] and graph.n_node.tolist() == [3]
    again = from_csv(path, names=["zoe", "ann", "bob", "cät"])
    assert again.senders.tolist() == [2, 1] and again.n_node.tolist() == [4]
    for count in ({"num_nodes": 7}, {"nodes": np.ones((2, 1))}):
        rows = len(count.get("nodes", range(7)))
        with pytest.raises(ValueError, match=f"names must hold {rows}, one for each node, got 4"):
            from_csv(path, names=["zoe", "ann", "bob", "cät"], **count)


@pytest.mark.parametrize("quote", ["", '"'])
def test_an_edge_list_of_long_numbers(tmp_path, quote):
    path = tmp_path / "edges.csv"
    ids = [(31336, 10**15), (-4, 31336)]
    path.write_text("sender,receiver\n" + "\n".join(f"{quote}{a}{quote},{b}" for a, b in ids))
    graph, names = from_named_csv(path)
    assert names.tolist() == [-4, 31336, 10**15] and names.dtype == np.int64
    assert graph.senders.tolist() == [1, 0] and graph.receivers.tolist() == [2, 1]
    assert from_csv(path, names=names).senders.tolist() == [1, 0]


def test_numbers_among_names_are_names(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("sender,receiver\n007,ann\n7,007\n")
    graph, names = from_named_csv(path)
    assert names.tolist() == ["007", "7", "ann"] and graph.senders.tolist() == [0, 1]
    path.write_text("sender,receiver\n7,8\n")
    assert from_csv(path, names=["ann", "8", "7"]).senders.tolist() == [2]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    "cells", [("01", "2", "1", "02"), ("1", "2", "+1", "2"), ("0", "1", "-0", "1")]
)
def test_numbers_written_in_two_ways_are_two_names(tmp_path, cells, quote):
    path = tmp_path / "edges.csv"
    first, second, third, fourth = (f"{quote}{cell}{quote}" for cell in cells)
    path.write_text(f"sender,receiver,x\n{first},{second},-0.5\n{third},{fourth},1\n")
    graph, names = from_named_csv(path)
    assert names.tolist() == sorted(set(cells))
    assert [*names[graph.senders], *names[graph.receivers]] == [*cells[::2], *cells[1::2]]
    table = {"src": cells[::2], "dst": cells[1::2], "r": cells[::2]}
    _, again, _, relation, relations = from_table(table, relation="r")
    assert again.tolist() == names.tolist() and relations[relation].tolist() == list(cells[::2])
    path.write_text("sender,receiver\n01,2\n")
    assert from_csv(path, names=[2, 1]).senders.tolist() == [1]


def test_bad_names_in_a_file_are_placed_and_the_remedy_works(tmp_path, unchecked):
    path = tmp_path / "edges.csv"
    path.write_text("sender,receiver\nann,bob\n,ann\n")
    with pytest.raises(ValueError, match="edges.csv line 3, column sender: the name is blank"):
        from_named_csv(path)
    path.write_text("sender,receiver\nann,bob\n")
    with pytest.raises(
        ValueError, match=r"'ann' is not a whole .* bits: from_named_csv\(path\) reads names"
    ):
        from_csv(path)
    assert from_named_csv(path)[1].tolist() == ["ann", "bob"]
    with pytest.raises(
        ValueError, match="edges.csv line 2: receiver 'bob' is no node; it must be one of names"
    ):
        from_csv(path, names=["ann", "cat"])
    with pytest.raises(ValueError, match="edges.csv line 2: sender 'ann' is no node"):
        from_csv(path, names=[7, 8])


def test_no_edges_have_no_names(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("sender,receiver,weight\n")
    graph, names = from_named_csv(path)
    assert graph.n_node.tolist() == [0] and len(names) == 0 and graph.edges.shape == (0, 1)
    assert number_names([], []).names.shape == (0,)
