"""validation.py: every kind of bad graph is refused by field, value and remedy."""

# jraph declares every field as an optional tree, and bad arguments are wanted here.

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from graph_strategies import examples, graphs
from hypothesis import given
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO

from gatjax.graph import batch, build_graph, in_degree, num_nodes, validate
from gatjax.graph.check import check_ends


def pair():
    """Graphs of 2 and 3 nodes, of 2 and 1 edges."""
    first = build_graph([0, 1], [1, 0], np.ones((2, 5)), edges=np.ones((2, 7)), globals=[[1.0]])
    second = build_graph([2], [0], np.ones((3, 5)), edges=np.ones((1, 7)), globals=[[2.0]])
    return batch([first, second])


BAD = {
    "out_of_range": (
        dict(receivers=np.array([1, 0, 9])),
        ValueError,
        r"receivers\[2\] = 9 is out of range: the graph has 5 nodes.*mend",
    ),
    "first_bad_edge": (
        dict(senders=np.array([0, 7, 8]), receivers=np.array([1, 0, 9])),
        ValueError,
        r"senders\[1\] = 7 is out",
    ),
    "negative": (
        dict(senders=np.array([0, -1, 4])),
        ValueError,
        r"senders\[1\] = -1 is negative",
    ),
    "over_int32": (
        dict(senders=np.array([0, 1, 2**31])),
        ValueError,
        r"senders\[2\] = 2147483648 is over int32",
    ),
    "unsigned": (
        dict(senders=np.array([0, 1, 2**64 - 1], np.uint64)),
        ValueError,
        r"senders\[2\] = 18446744073709551615 is over int32",
    ),
    "float": (
        dict(senders=np.array([0.0, 1.0, 4.0])),
        TypeError,
        "senders must hold integers, got dtype float64: convert",
    ),
    "float32": (
        dict(receivers=jnp.array([1.0, 0.0, 2.0])),
        TypeError,
        "receivers must hold integers, got dtype float32",
    ),
    "bool": (
        dict(senders=np.array([True, False, True])),
        TypeError,
        "senders must hold integers, got dtype bool",
    ),
    "none": (
        dict(senders=None),
        TypeError,
        "senders must hold integers, got dtype object",
    ),
    "text": (
        dict(senders=np.array(["a", "b", "c"])),
        TypeError,
        "senders must hold integers",
    ),
    "matrix": (
        dict(senders=np.zeros((3, 1), int)),
        ValueError,
        r"senders has shape \(3, 1\): it must have one axis",
    ),
    "lengths": (
        dict(senders=np.array([0, 1])),
        ValueError,
        "senders has 2 ids and receivers has 3: an edge needs both",
    ),
    "crossing": (
        dict(senders=np.array([0, 1, 1])),
        ValueError,
        r"senders\[2\] = 1 crosses graphs.*from 2 up to, not including, 5",
    ),
    "crossing_receiver": (
        dict(receivers=np.array([1, 4, 2])),
        ValueError,
        r"receivers\[1\] = 4 crosses graphs.*from 0 up to, not including, 2",
    ),
    "nodes": (
        dict(nodes=np.ones((4, 5))),
        ValueError,
        r"nodes has shape \(4, 5\): its first axis must be 5, the sum of n_node",
    ),
    "node_leaf": (
        dict(nodes={"a": np.ones((5, 1)), "b": np.ones(3)}),
        ValueError,
        r"nodes has shape \(3,\)",
    ),
    "sparse_nodes": (
        dict(nodes=BCOO.fromdense(jnp.ones((3, 2)))),
        ValueError,
        r"nodes has shape \(3, 2\)",
    ),
    "edges": (
        dict(edges=np.ones((4, 7))),
        ValueError,
        r"edges has shape \(4, 7\): its first axis must be 3, the number of edges",
    ),
    "edge_scalar": (
        dict(edges=np.ones(())),
        ValueError,
        r"edges has shape \(\): its first axis must be 3",
    ),
    "sparse_edges": (
        dict(edges=BCOO.fromdense(jnp.ones((3, 2)))),
        TypeError,
        "edges is sparse, only nodes may be: densify",
    ),
    "globals": (
        dict(globals=np.ones((3, 1))),
        ValueError,
        r"globals has shape \(3, 1\): its first axis must be 2, the number of graphs",
    ),
    "scipy": (
        dict(nodes=scipy.sparse.csr_array(np.eye(5))),
        TypeError,
        "nodes holds a csr_array: pass NumPy or JAX arrays.*BCOO.from_scipy_sparse",
    ),
    "numbers": (
        dict(nodes={"a": 1.0}),
        TypeError,
        "nodes holds a float",
    ),
    "objects": (
        dict(nodes=np.array([None] * 5)),
        TypeError,
        "nodes has dtype object: features must be numbers",
    ),
    "n_edge": (
        dict(n_edge=np.array([2, 2])),
        ValueError,
        "n_edge sums to 4, but senders has 3 edges",
    ),
    "n_graph": (
        dict(n_edge=np.array([3])),
        ValueError,
        "n_node has 2 entries and n_edge has 1",
    ),
    "n_node": (
        dict(n_node=np.array([2.0, 3.0])),
        TypeError,
        "n_node must hold integers, got dtype float64",
    ),
    "n_node_negative": (
        dict(n_node=np.array([6, -1])),
        ValueError,
        r"n_node\[1\] = -1 is negative",
    ),
    "n_node_int32": (
        dict(n_node=np.array([2**31 - 1, 3])),
        ValueError,
        "n_node sums to 2147483650, over int32",
    ),
}


@pytest.mark.parametrize("fields, error, message", BAD.values(), ids=BAD.keys())
def test_validate_refuses(fields, error, message, unchecked):
    with pytest.raises(error, match=message):
        validate(pair()._replace(**fields))


@pytest.mark.parametrize("name", ["senders", "receivers"])
def test_build_graph_refuses_the_same_ids(name, unchecked):
    ids = {"senders": [0, 1], "receivers": [1, 0]}
    for bad, error, message in [
        ([0, 2], ValueError, rf"{name}\[1\] = 2 is out of range: the graph has 2 nodes"),
        ([0, -1], ValueError, rf"{name}\[1\] = -1 is negative"),
        ([0, 2**70], TypeError, f"{name} must hold integers, got dtype object"),
        ([0.0, 1.0], TypeError, f"{name} must hold integers, got dtype float64"),
        ([0], ValueError, "an edge needs both ends"),
    ]:
        with pytest.raises(error, match=message):
            build_graph(**{**ids, name: bad}, num_nodes=2)


@examples
@given(graphs())
def test_validate_returns_the_very_same_graph(graph):
    assert validate(graph) is graph
    on_device = jax.tree.map(jnp.asarray, graph)
    assert validate(on_device) is on_device


@examples
@given(graphs(min_nodes=1), st.data())
def test_one_bad_end_anywhere_is_found(graph, data):
    for name, size in (("senders", len(graph.senders)), ("receivers", len(graph.senders))):
        if not size:
            continue
        edge = data.draw(st.integers(0, size - 1))
        ids = getattr(graph, name).copy()
        ids[edge] = num_nodes(graph) + data.draw(st.integers(0, 3))
        with pytest.raises(ValueError, match=rf"{name}\[{edge}\] = {ids[edge]} is out of range"):
            validate(graph._replace(**{name: ids}))


def test_validate_allows():
    graph = pair()
    validate(graph._replace(nodes=np.full((5, 2), np.nan), edges=np.full((3, 1), np.inf)))
    validate(graph._replace(nodes=None, edges=None, globals=None))
    validate(graph._replace(nodes=BCOO.fromdense(jnp.zeros((5, 2)))))
    validate(graph._replace(senders=graph.senders.astype(np.uint8)))
    nothing = np.zeros(0, np.int32)
    validate(build_graph([], [], num_nodes=0)._replace(n_node=nothing, n_edge=nothing))


@pytest.mark.parametrize("name", ["senders", "receivers", "n_node", "n_edge"])
def test_validate_says_to_validate_before_jit(name, unchecked):
    graph = pair()
    with pytest.raises(TypeError, match=f"{name} is traced.*validate graphs before jax.jit"):
        jax.jit(lambda ids: validate(graph._replace(**{name: ids})))(getattr(graph, name))


def test_validate_runs_inside_jit_on_concrete_graphs():
    graph = pair()
    assert jax.jit(lambda x: x + num_nodes(validate(graph)))(2) == 7


@pytest.mark.parametrize("end", ["senders", "receivers"])
@pytest.mark.parametrize("number", [-(2**32) + 1, 2**32 + 1, -(2**63), 2**31])
def test_an_id_beyond_int32_never_wraps_to_a_row(end, number, unchecked):
    ids = {"senders": np.array([0, 1]), "receivers": np.array([0, 1])}
    bad = {**ids, end: np.array([0, number])}
    with pytest.raises(ValueError, match=rf"{end}\[1\] has the id {number}, over int32: .* by -1"):
        check_ends(**bad, num_senders=2, num_receivers=2)
    marked = {**ids, end: np.array([0, -1])}
    assert check_ends(**marked, num_senders=2, num_receivers=2).counted.tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_narrow_ids_reach_every_row_that_they_name(dtype):
    ids = np.arange(0, 120, 7, dtype=dtype)
    for array in (ids, jnp.asarray(ids)):
        ends = check_ends(array, array, 200, 200)
        assert ends.counted.all() and ends.senders.tolist() == ids.tolist()
    graph = build_graph(ids, ids[::-1], num_nodes=200)
    assert graph.senders.dtype == np.int32 and in_degree(graph).sum() == len(ids)
