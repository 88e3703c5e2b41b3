"""convert.py: directions, order and features survive the trip to other formats and back."""

# jraph declares every field as an optional tree, and bad arguments are wanted here.

import sys

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse
from graph_strategies import assert_same, edge_bag, edge_list, examples, graphs
from helpers import rejects
from hypothesis import given
from jax.experimental.sparse import BCOO

from gatjax.graph import (
    batch,
    build_graph,
    from_csv,
    from_networkx,
    from_scipy,
    sort_edges,
    to_networkx,
    to_scipy,
)

# ---- NetworkX


def test_from_networkx_follows_the_arrow_and_the_order_of_nodes():
    g = nx.DiGraph()
    g.add_node("cat", size=1.0, at=[2.0, 3.0])
    g.add_node("ann", size=4, at=(5.0, 6.0))
    g.add_edge("cat", "ann", length=np.float32(0.5))
    g.add_edge("ann", "ann", length=2)
    graph = from_networkx(g, node_features=["at", "size"], edge_features="length")
    assert edge_list(graph) == [(0, 1, 0.5), (1, 1, 2)]
    assert graph.nodes.tolist() == [[2, 3, 1], [5, 6, 4]]
    assert graph.nodes.dtype == graph.edges.dtype == np.float32


def test_from_networkx_gives_an_undirected_edge_both_directions():
    g = nx.Graph()
    g.add_nodes_from(range(3))
    g.add_edge(0, 2, w=7.0)
    g.add_edge(1, 1, w=5.0)
    assert edge_list(from_networkx(g, edge_features="w")) == [(0, 2, 7), (1, 1, 5), (2, 0, 7)]


@pytest.mark.parametrize(
    "kind, edges",
    [
        (nx.Graph, [(0, 1), (1, 0)]),
        (nx.DiGraph, [(0, 1), (1, 0)]),
        (nx.MultiGraph, [(0, 1)] * 3 + [(1, 0)] * 3),
        (nx.MultiDiGraph, [(0, 1)] * 2 + [(1, 0)]),
    ],
)
def test_from_networkx_takes_every_class(kind, edges):
    graph = from_networkx(kind([(0, 1), (0, 1), (1, 0)]))
    assert sorted(edge_list(graph)) == edges
    assert graph.nodes is None and graph.edges is None


def test_from_networkx_karate_club():
    club = nx.karate_club_graph()
    graph = from_networkx(club, edge_features="weight")
    degree = np.zeros(34)
    np.add.at(degree, graph.receivers, 1)
    assert (len(graph.senders), graph.n_node.tolist()) == (2 * 78, [34])
    assert degree.tolist() == [club.degree[node] for node in range(34)]


@pytest.mark.parametrize("total", [0, 1])
def test_from_networkx_without_edges(total):
    g = nx.empty_graph(total)
    nx.set_node_attributes(g, 2.0, "x")
    graph = from_networkx(g, node_features=["x"], edge_features=["a", "b"])
    assert (graph.nodes.shape, graph.edges.shape) == ((total, 1), (0, 2))
    assert to_networkx(graph).number_of_nodes() == total


@examples
@given(graphs())
def test_networkx_round_trip(graph):
    g = to_networkx(graph)
    in_order = sorted(g.edges(keys=True), key=lambda edge: edge[-1])
    assert [edge[:2] for edge in edge_list(graph)] == [edge[:2] for edge in in_order]
    back = from_networkx(g, node_features="features", edge_features="features")
    if not len(graph.nodes):
        return
    np.testing.assert_array_equal(back.nodes, graph.nodes)
    assert edge_bag(back) == edge_bag(graph)
    if len(graph.senders):
        assert_same(sort_edges(back), sort_edges(graph._replace(globals=None)))


def test_to_networkx_of_a_batch_with_trees():
    part = build_graph([0], [1], {"a": np.arange(4).reshape(2, 2), "b": np.arange(2)})
    g = to_networkx(batch([part, part]))
    assert list(g.edges) == [(0, 1, 0), (2, 3, 1)]
    assert g.nodes[3]["features"]["a"].tolist() == [2, 3] and g.nodes[3]["features"]["b"] == 1
    assert g.edges[2, 3, 1] == {}


def test_networkx_bad_input(unchecked, monkeypatch):
    g = nx.DiGraph()
    g.add_node("ann", size=1.0)
    g.add_node("bob", sise=2.0)
    g.add_edge("ann", "bob", word="hello")
    with pytest.raises(
        ValueError,
        match="node_features: node 'bob' has no value for 'size'; its attributes: 'sise'",
    ):
        from_networkx(g, node_features="size")
    with pytest.raises(
        ValueError, match="edge_features: edge 'ann' -> 'bob' has no value for 'w'; its attributes"
    ):
        from_networkx(g, edge_features=["w"])
    with pytest.raises(
        ValueError, match="'word' of edge 'ann' -> 'bob' is 'hello': it must be a num"
    ):
        from_networkx(g, edge_features="word")
    g.nodes["bob"]["size"] = [2.0, 3.0]
    with pytest.raises(ValueError, match="node 'bob' has 2 numbers, the first has 1: give all"):
        from_networkx(g, node_features="size")
    g.nodes["bob"]["size"] = None
    with pytest.raises(ValueError, match="node 'bob' has no value for 'size'"):
        from_networkx(g, node_features="size")
    with pytest.raises(TypeError, match="g must be a NetworkX graph, got list"):
        from_networkx([(0, 1)])
    with pytest.raises(TypeError, match=r"nodes is sparse \(BCOO\)"):
        to_networkx(build_graph([0], [1], BCOO.fromdense(jnp.eye(2))))
    with pytest.raises(ValueError, match=r"senders\[0\] = 3 is out of range"):
        to_networkx(build_graph([0], [1], num_nodes=2)._replace(senders=np.array([3])))
    monkeypatch.setitem(sys.modules, "networkx", None)
    for call in (from_networkx, to_networkx):
        with pytest.raises(ImportError, match=r"pip install 'gatjax\[experiments\]'"):
            call(g)


# ---- SciPy


DIRECTED = np.array([[0, 2.0, 0], [0, 0, 3.0], [0, 0, 5.0]], np.float32)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("flavour", ["array", "matrix"])
def test_from_scipy_row_is_sender(kind, flavour):
    adjacency = getattr(scipy.sparse, f"{kind}_{flavour}")(DIRECTED)
    graph = from_scipy(adjacency, edge_weight=True)
    assert sorted(edge_list(graph)) == [(0, 1, 2), (1, 2, 3), (2, 2, 5)]
    assert graph.edges.dtype == np.float32
    bare = from_scipy(adjacency, np.ones((3, 2)))
    assert bare.edges is None and bare.nodes.shape == (3, 2)


def test_transposed_matrix_sums_incoming_edges():
    graph, rows = (
        from_scipy(scipy.sparse.csr_array(DIRECTED), edge_weight=True),
        np.array([[7.0], [11.0], [13.0]]),
    )
    sums = np.zeros((3, 1))
    np.add.at(sums, graph.receivers, graph.edges * rows[graph.senders])
    np.testing.assert_array_equal(DIRECTED.T @ rows, sums)
    assert sums.tolist() == [[0], [14], [98]]


def test_scipy_and_networkx_agree_on_direction():
    g = nx.DiGraph([(0, 1), (1, 2), (3, 2), (2, 2)])
    assert edge_bag(from_scipy(nx.to_scipy_sparse_array(g))) == edge_bag(from_networkx(g))


def test_from_scipy_keeps_explicit_zeros_and_duplicates():
    entries = ([4.0, 0.0, 6.0], ([0, 1, 0], [1, 1, 1]))
    graph = from_scipy(scipy.sparse.coo_array(entries, shape=(2, 2)), edge_weight=True)
    assert edge_list(graph) == [(0, 1, 4), (1, 1, 0), (0, 1, 6)]
    assert from_scipy(scipy.sparse.csr_array((0, 0))).n_node.tolist() == [0]


@examples
@given(graphs())
def test_scipy_round_trip(graph):
    graph = graph._replace(edges=graph.edges[:, :1], globals=None)
    adjacency = to_scipy(graph)
    assert_same(from_scipy(adjacency, graph.nodes, edge_weight=True), graph)
    dense = np.zeros(adjacency.shape)
    for sender, receiver, *weight in edge_list(graph):
        dense[sender, receiver] += weight[0]
    np.testing.assert_array_equal(adjacency.toarray(), dense)


def test_to_scipy_weights():
    graph = build_graph([0, 0], [1, 1], num_nodes=3)
    assert to_scipy(graph).tocsr()[0, 1] == 2.0
    assert to_scipy(graph._replace(edges=jnp.array([3, 4]))).tocsr()[0, 1] == 7
    assert to_scipy(batch([graph, graph])).shape == (6, 6)
    for half in (jnp.float16, jnp.bfloat16):
        adjacency = to_scipy(graph._replace(edges=jnp.array([[0.5], [2.0]], half)))
        assert adjacency.dtype == np.float32 and adjacency.tocsr()[0, 1] == 2.5


def test_from_scipy_gives_what_a_gat_takes():
    words = scipy.sparse.csr_array(np.array([[0, 1.0], [2, 0], [0, 0]]))
    graph = from_scipy(scipy.sparse.csr_array(DIRECTED), words)
    assert isinstance(graph.nodes, BCOO) and graph.nodes.dtype == np.float32
    np.testing.assert_array_equal(graph.nodes.todense(), words.toarray())
    assert graph.edges is None  # a GAT without edge features refuses them
    with rejects(ValueError, "nodes[0, 1] = 16777217 has more digits than float32 holds"):
        from_scipy(scipy.sparse.csr_array(DIRECTED), words.astype(int) * 16777217)


def test_scipy_bad_input(unchecked):
    with pytest.raises(
        TypeError, match="adjacency is a ndarray: pass a SciPy sparse matrix.*csr_arr"
    ):
        from_scipy(DIRECTED)
    with pytest.raises(ValueError, match=r"adjacency has shape \(2, 3\): it must be square"):
        from_scipy(scipy.sparse.csr_array((2, 3)))
    with pytest.raises(ValueError, match=r"nodes has shape \(5, 1\): its first axis must be 3"):
        from_scipy(scipy.sparse.csr_array(DIRECTED), np.ones((5, 1)))
    graph = build_graph([0, 1], [1, 0], edges=np.ones((2, 3)), num_nodes=2)
    with pytest.raises(ValueError, match=r"one number per edge.*got \[\(2, 3\)\]: choose a column"):
        to_scipy(graph)
    with pytest.raises(ValueError, match="one number per edge"):
        to_scipy(graph._replace(edges={"a": np.ones(2), "b": np.ones(2)}))


# ---- CSV


@pytest.fixture
def csv_file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "edges.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_from_csv_by_hand(csv_file):
    path = csv_file("sender,receiver,length,kind\n0,1,0.5,2\n\n 3 , 1 ,-1e3,nan\n3,1,.25,inf\n")
    graph = from_csv(path)
    assert (graph.senders.tolist(), graph.receivers.tolist()) == ([0, 3, 3], [1, 1, 1])
    np.testing.assert_array_equal(graph.edges, [[0.5, 2], [-1000, np.nan], [0.25, np.inf]])
    assert graph.edges.dtype == np.float32 and graph.n_node.tolist() == [4]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_from_csv_takes_what_spreadsheets_write(csv_file, ending):
    path = csv_file('"sender","receiver"' + ending + '"0","1"' + ending, "utf-8-sig")
    assert edge_list(from_csv(path)) == [(0, 1)]
    assert from_csv(str(path)).edges is None


def test_from_csv_number_of_nodes(csv_file):
    path = csv_file("sender,receiver\n0,2\n")
    assert from_csv(path).n_node.tolist() == [3]
    assert from_csv(path, num_nodes=5).n_node.tolist() == [5]
    nodes = BCOO.fromdense(jnp.eye(7))
    graph = from_csv(path, nodes)
    assert graph.n_node.tolist() == [7] and graph.nodes is nodes


def test_from_csv_without_edges(csv_file):
    graph = from_csv(csv_file("sender,receiver,length\n"))
    assert (graph.n_node.tolist(), graph.n_edge.tolist(), graph.edges.shape) == ([0], [0], (0, 1))


def test_from_csv_in_double_precision(csv_file, x64):
    edges = from_csv(csv_file("sender,receiver,length\n0,1,1e300\n")).edges
    assert edges.dtype == np.float64 and edges[0, 0] == 1e300


@examples
@given(graphs(min_nodes=1))
def test_csv_round_trip(tmp_path_factory, graph):
    path = tmp_path_factory.mktemp("csv") / "edges.csv"
    lines = [",".join(map(str, edge)) for edge in edge_list(graph)]
    path.write_text("\n".join(["sender,receiver,a,b,c", *lines]))
    assert_same(from_csv(path, graph.nodes), graph._replace(globals=None))


@pytest.mark.parametrize(
    "text, message",
    {
        "empty": ("", "line 1: the header must name the columns, got ''"),
        "headless": ("0,1\n", "line 1: the header must name the columns, got '0,1'"),
        "other_names": (
            "up,to\n0,1\n",
            "line 1: the header must be .*from,to.*, got 'up,to': rename",
        ),
        "two_pairs": (
            "sender,receiver,to,from\n0,1,1,1\n",
            "line 1: sender,receiver and from,to may both",
        ),
        "short": ("sender,receiver\n0,1\n0\n", "line 3: 1 cells, expected 2"),
        "long": ("sender,receiver\n0,1,2\n", "line 2: 3 cells, expected 2"),
        "word": ("sender,receiver\n0,1\n\nann,1\n", "line 4, column sender: 'ann' is not a whole"),
        "fraction": ("sender,receiver\n0,1.5\n", "line 2, column receiver: '1.5' is not a whole"),
        "underscore": ("sender,receiver\n1_2,0\n", "line 2, column sender: '1_2' is not a whole"),
        "empty_id": ("sender,receiver\n,0\n", "line 2, column sender: '' is not a whole number"),
        "negative": ("sender,receiver\n0,-1\n", "line 2: receiver -1 is no node; ids run from 0"),
        "int32": ("sender,receiver\n0,2147483647\n", "line 2: receiver 2147483647 is no node"),
        "feature": ("sender,receiver,w\n0,1,x\n", "line 2, column w: 'x' is not a number"),
        "no_feature": ("sender,receiver,w\n0,1,\n", "line 2, column w: '' is not a number"),
        "large": ("sender,receiver,w\n0,1,1e39\n", r"line 2, column w: 1e\+39 is over float32"),
        "larger": (
            "sender,receiver,w\n0,1,inf\n1,0,-1e400\n",
            "line 3, column w: -1e400 is over float32",
        ),
        "twice": ("sender,receiver,w,w\n0,1,1,1\n", "line 1: the header names a column twice"),
        "quote": ('sender,receiver\n0,"1\n', "line 2: not a CSV file"),
    }.values(),
)
def test_from_csv_names_the_line(csv_file, text, message, unchecked):
    with pytest.raises(ValueError, match="edges.csv " + message):
        from_csv(csv_file(text))


def test_from_csv_ids_must_be_nodes(csv_file, unchecked):
    path = csv_file("sender,receiver\n0,1\n2,5\n")
    for arguments in (dict(num_nodes=5), dict(nodes=np.ones((5, 2)))):
        with pytest.raises(ValueError, match="line 3: receiver 5 is no node; ids run from 0 to 4"):
            from_csv(path, **arguments)
    with pytest.raises(ValueError, match="edges.csv: not a CSV file in UTF-8: .*utf-8"):
        from_csv(csv_file("sender,receiver\né,1\n", "latin-1"))
    with pytest.raises(FileNotFoundError):
        from_csv(path.parent / "absent.csv")


def test_conversions_travel_to_the_device():
    graph = jax.device_put(
        from_scipy(scipy.sparse.csr_array(DIRECTED), jnp.ones((3, 2)), edge_weight=True)
    )
    assert (
        graph.senders.dtype == jnp.int32 and to_scipy(graph).toarray().tolist() == DIRECTED.tolist()
    )


def test_from_networkx_is_told_the_widths_of_what_has_no_rows(unchecked):
    g = nx.empty_graph(2)
    bond = {"bond": 3, "length": 1}
    assert from_networkx(g, edge_features=bond).edges.shape == (0, 4)
    g.add_edge(0, 1, bond=[1, 2, 3], length=0.5)
    assert from_networkx(g, edge_features=bond).edges.tolist() == [[1, 2, 3, 0.5]] * 2
    with pytest.raises(
        ValueError, match="'bond' of edge 0 -> 1 has 3 numbers, edge_features says 2: give"
    ):
        from_networkx(g, edge_features={"bond": 2})
