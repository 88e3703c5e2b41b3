"""Whole numbers keep their digits or are refused, wherever data enter a graph."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from helpers import rejects
from hypothesis import given
from hypothesis import strategies as st

from gatjax.graph import build_graph, coalesce, from_csv, from_networkx, from_scipy
from gatjax.graph.messages import listed, shown
from gatjax.graph.numbers import inexact, to_float

TIMES = [1577836801, 1577836863]
REFUSED = (
    "1577836801 has more digits than float32 holds, which makes it 1577836800: subtract an off"
)
FLOAT32 = np.dtype("float32")


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_inexact_is_what_conversion_says(numbers):
    expected = [int(np.float32(number)) != number for number in numbers]
    assert inexact(np.array(numbers, np.int64), FLOAT32).tolist() == expected


def csv_of(folder, times):
    path = folder / "edges.csv"
    rows = [f"{i},{i + 1},0.5,{time}" for i, time in enumerate(times)]
    path.write_text("\n".join(["sender,receiver,length,time", *rows]))
    return path


def networkx_of(times):
    g = nx.path_graph(len(times) + 1, nx.DiGraph)
    for i, time in enumerate(times):
        g.edges[i, i + 1].update(time=time, length=0.5)
    return g


def scipy_of(times):
    return scipy.sparse.coo_array((np.array(times), ([0, 1], [1, 2])), shape=(3, 3))


READERS = {
    "csv": lambda folder, times: from_csv(csv_of(folder, times)).edges[:, 1],
    "networkx": lambda folder, times: from_networkx(
        networkx_of(times), edge_features=["length", "time"]
    ).edges[:, 1],
    "networkx_vector": lambda folder, times: from_networkx(
        nx.DiGraph([(0, 1, {"a": times})]), edge_features="a"
    ).edges[0],
    "scipy": lambda folder, times: from_scipy(scipy_of(times), edge_weight=True).edges[:, 0],
    "scipy_float": lambda folder, times: from_scipy(
        scipy_of(times).astype(float), edge_weight=True
    ).edges[:, 0],
    "lists": lambda folder, times: build_graph([], [], [[t, 0.5] for t in times]).nodes[:, 0],
}
WHERE = {
    "csv": "edges.csv line 2, column time: ",
    "networkx": "edge_features: a number of edge 0 -> 1: ",
    "scipy": r"adjacency\[0, 1\] = ",
    "lists": r"nodes\[0, 0\] = ",
}


@pytest.mark.parametrize("name", READERS)
def test_a_time_in_seconds_is_refused_and_the_remedies_work(name, tmp_path, unchecked):
    read = READERS[name]
    with pytest.raises(ValueError, match=WHERE.get(name, "") + REFUSED):
        read(tmp_path, TIMES)
    offset = [time - TIMES[0] for time in TIMES]
    assert np.asarray(read(tmp_path, offset)).tolist() == [0, 62]
    high, low = (
        [divide(time, 10**6) for time in TIMES] for divide in (int.__floordiv__, int.__mod__)
    )
    both = [read(tmp_path, part) for part in (high, low)]
    np.testing.assert_array_equal(np.float64(both[0]) * 10**6 + np.float64(both[1]), TIMES)


@pytest.mark.parametrize("name", READERS)
def test_double_precision_keeps_them(name, tmp_path, x64):
    assert np.asarray(READERS[name](tmp_path, TIMES)).tolist() == TIMES


@pytest.mark.parametrize("number", [2**70 + 1, 12345678901234567890123, 2**53 + 1])
@pytest.mark.parametrize("double", [False, True])
def test_longer_numbers_than_float64_holds_are_refused(tmp_path, number, double, unchecked):
    with (
        jax.enable_x64(double),
        rejects(ValueError, f"line 3, column time: {number} has more digit"),
    ):
        from_csv(csv_of(tmp_path, [1, number]))
    with jax.enable_x64(double):
        assert from_csv(csv_of(tmp_path, [1, 2**70])).edges[1, 1] == 2.0**70
        assert from_csv(csv_of(tmp_path, [0.5, number])).edges[1, 1] == np.float32(number) or double


def test_measured_numbers_round(tmp_path):
    prices = [1577836801.5, 16777217.0]
    assert from_csv(csv_of(tmp_path, prices)).edges[:, 1].tolist() == [1577836800, 16777216]
    assert build_graph([], [], [[0.1]]).nodes.dtype == np.float32


def test_whole_lists_over_int32_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"edges\[0, 1\] = -4294967295 is over int32: subtract an"):
        build_graph([0], [0], edges=[[1, 1 - 2**32]], num_nodes=1)
    assert build_graph([0], [0], edges=[TIMES], num_nodes=1).edges.tolist() == [TIMES]


@pytest.mark.parametrize("field", ["nodes", "edges", "globals"])
def test_arrays_that_jax_would_cut_are_refused(field, unchecked):
    build = lambda array: build_graph([0], [0], **{"num_nodes": 1, field: {"x": array}})
    with pytest.raises(
        ValueError, match=rf"{field}\[0, 1\] = 1099511627776 is over int32: subtract"
    ):
        build(np.array([[1, 2**40]]))
    with pytest.raises(ValueError, match=rf"{field}\[0, 0\] = {REFUSED}"):
        build(np.array([[float(TIMES[0])]]))
    for array in (
        np.array([[2**31 - 1]]),
        np.array([[1e30, np.nan]]),
        np.array([[0.1]]),
        np.zeros((1, 0), int),
    ):
        assert getattr(build(array), field)["x"] is array


def test_arrays_of_64_bits_stay_where_jax_has_them(x64):
    assert build_graph([0], [0], np.array([[2**40]])).nodes.dtype == np.int64


def test_to_float_looks_at_each_column():
    place = lambda index: f"row {index[0]}: "
    values = np.array([[0.5, 3.0], [16777217.0, 4.0]])
    np.testing.assert_array_equal(to_float(values, place, FLOAT32), values.astype(np.float32))
    with pytest.raises(ValueError, match="row 1: 33554434 has more digits"):
        to_float(values + [[0.5, 0], [16777217, 0]], place, FLOAT32)
    for special in (np.nan, np.inf, -np.inf):
        assert to_float(np.array([special, 1.0]), place, FLOAT32).dtype == np.float32


def test_a_sum_that_its_dtype_cannot_hold_is_refused_and_the_remedy_works(unchecked):
    graph = build_graph([0, 0], [1, 1], edges=np.array([[100], [100]], np.int8), num_nodes=2)
    with pytest.raises(
        ValueError, match="edges has dtype int8, which cannot hold a sum of 200: widen"
    ):
        coalesce(graph)
    assert coalesce(graph._replace(edges=graph.edges.astype(np.int64))).edges.tolist() == [[200]]
    assert coalesce(graph, reduce="max").edges.tolist() == [[100]]


# ---- messages


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, list(range(10**6)), np.zeros((1000, 1000)), jnp.zeros(5000), {i: i for i in range(10**5)},
     10**2000, "a\nb" * 99, {"a": {"b": ["c" * 999] * 99}}],
    ids=str,
)  # fmt: skip
def test_a_value_is_shown_on_one_short_line(value):
    assert len(shown(value)) <= 60 and "\n" not in shown(value)


def test_names_are_listed_shortly():
    assert len(listed("n" * 999 for _ in range(10**4))) < 400


def test_messages_about_big_input_are_short(tmp_path, unchecked):
    g = nx.DiGraph()
    g.add_node("n" * 10**5, **{f"attribute{i}": i for i in range(10**4)}, big=["x"] * 10**5)
    path = tmp_path / "edges.csv"
    path.write_text(",".join(f"c{i}" for i in range(10**4)) + "\n")
    cell = tmp_path / "cell.csv"
    cell.write_text("sender,receiver\n0," + "x" * 10**5)
    calls = [
        lambda: from_networkx(g, node_features="absent"),
        lambda: from_networkx(g, node_features="big"),
        lambda: from_csv(path),
        lambda: from_csv(cell),
        lambda: build_graph([], [], num_nodes=list(range(10**5))),
        lambda: coalesce(build_graph([], [], num_nodes=0), reduce="x" * 10**5),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError)) as error:
            call()
        assert len(str(error.value)) < 500, str(error.value)[:1000]
