"""typed_convert.py: types, directions and order survive the trip to other libraries and back."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax.graph import (
    batch_typed,
    build_typed_graph,
    from_tables,
    from_typed_dgl,
    from_typed_networkx,
    from_typed_pyg,
    to_typed_dgl,
    to_typed_networkx,
    to_typed_pyg,
)

WRITES, CITES = ("author", "writes", "paper"), ("paper", "cites", "paper")


def bibliography():
    return build_typed_graph(
        {
            "author": np.arange(6, dtype=np.float32).reshape(3, 2),
            "paper": np.ones((4, 3), np.float32),
            "venue": None,
        },
        {
            WRITES: ([2, 0, 0], [3, 1, 0], np.arange(3, dtype=np.float32)[:, None]),
            CITES: ([3, 2], [0, 0]),
        },
        num_nodes={"venue": 2},
    )


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_pyg_and_back_as_dictionaries():
    graph = bibliography()
    stores = {"_global_store": {"year": 2019}, "venue": {"num_nodes": 2}}
    stores |= {name: {"x": graph.nodes[name], "y": np.zeros(4)} for name in ("paper", "author")}
    for triple, edges in graph.relations.items():
        stores[triple] = {"edge_index": np.stack(edges[:2]), "edge_attr": edges.edges}
    stores[WRITES]["edge_attr"] = np.arange(3, dtype=np.float32)  # a column
    for data in (stores, SimpleNamespace(to_dict=lambda: stores)):
        read, names, others = from_typed_pyg(data)
        same(read, graph)
        assert (
            names == {}
            and others["_global_store"]["year"] == 2019
            and len(others["paper"]["y"]) == 4
        )


def test_pyg_and_dgl_themselves():
    """Where they are installed."""
    pytest.importorskip("torch_geometric")
    same(from_typed_pyg(to_typed_pyg(bibliography())).graph, bibliography())


def test_dgl_itself():
    pytest.importorskip("dgl")
    g = to_typed_dgl(bibliography())
    same(from_typed_dgl(g, node_features="feat", edge_features="feat").graph, bibliography())


class Heterograph:
    """What is read of a DGLGraph."""

    ntypes, canonical_etypes = ["paper", "author", "venue"], [CITES, WRITES]

    def __init__(self, graph):
        store = lambda rows: SimpleNamespace(data={} if rows is None else {"feat": rows})
        self.graph = graph
        self.nodes = {name: store(rows) for name, rows in graph.nodes.items()}
        self.edges_of = {triple: store(one.edges) for triple, one in graph.relations.items()}
        self.nodes["paper"].data["label"] = np.array([0, 1, 1, 0])
        self.edges = Edges(self)

    def num_nodes(self, name):
        return int(self.graph.n_node[name][0])


class Edges:
    def __init__(self, g):
        self.g = g

    def __getitem__(self, triple):
        return self.g.edges_of[triple]

    def __call__(self, order, etype):
        return self.g.graph.relations[etype][:2]


def test_dgl_as_it_is_read():
    g = Heterograph(bibliography())
    graph, _, others = from_typed_dgl(g, node_features="feat", edge_features="feat")
    same(graph, bibliography())
    assert others["paper"]["label"].tolist() == [0, 1, 1, 0]
    bare = from_typed_dgl(g)
    assert bare.graph.nodes["paper"] is None and bare.others["paper"].keys() == {"feat", "label"}
    with rejects(ValueError, "node_features: nothing has 'fest'; there is"):
        from_typed_dgl(g, node_features="fest")
    with rejects(TypeError, "g must be a DGLGraph and no block, got int"):
        from_typed_dgl(3)


def test_networkx_and_back():
    graph = bibliography()
    g = to_typed_networkx(graph)
    assert g.nodes["venue", 1] == {"type": "venue"} and g.number_of_edges() == 5
    features = {
        "node_features": dict(author="features", paper="features"),
        "edge_features": {"writes": "features"},
    }
    read, names, _ = from_typed_networkx(g, **features)
    assert names["author"].tolist() == [("author", place) for place in range(3)]
    assert read.triples == graph.triples and read.nodes.keys() == graph.nodes.keys()
    for triple, edges in graph.relations.items():
        there = sorted(zip(*(ids.tolist() for ids in read.relations[triple][:2]), strict=True))
        assert there == sorted(zip(*(ids.tolist() for ids in edges[:2]), strict=True))
    np.testing.assert_array_equal(read.nodes["author"], graph.nodes["author"])
    assert sorted(read.relations[WRITES].edges[:, 0].tolist()) == [0, 1, 2]


def test_networkx_bad_input():
    g = nx.MultiDiGraph()
    g.add_node("ann", type="author")
    g.add_node("p")
    with rejects(ValueError, "node 'p' has no 'type' that is a string; its attributes: none"):
        from_typed_networkx(g)
    g.nodes["p"]["type"] = "paper"
    g.add_edge("ann", "p", kind="writes")
    with rejects(
        ValueError, "edge 'ann' -> 'p' has no 'relation' that is a string; its attributes: 'kind'"
    ):
        from_typed_networkx(g)
    assert from_typed_networkx(g, relation_attribute="kind").graph.triples == (WRITES,)
    with rejects(ValueError, "node_features: there is no 'auther'; there are author, paper"):
        from_typed_networkx(g, relation_attribute="kind", node_features={"auther": "x"})
    with rejects(TypeError, "g must be a directed NetworkX graph, got Graph"):
        from_typed_networkx(nx.Graph())


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


FILES = {
    "nodes/author.csv": "node,age\nann,30\nbob,40\n",
    "nodes/paper.tsv": "node\tyear\tpages\n7\t1999\t10\n3\t2001\t12\n",
    "nodes/venue.csv": "size\n1\n2\n3\n",
    "relations/author.writes.paper.csv": "sender,receiver,share\nbob,3,0.5\nann,7,1\n",
    "relations/paper.in.venue.csv": "from,to\n7,2\n3,0\n",
}


def test_a_folder_of_tables(tmp_path):
    graph, names, _ = from_tables(write(tmp_path, FILES))
    assert names["author"].tolist() == ["ann", "bob"] and names["paper"].tolist() == [7, 3]
    writes, venue = graph.relations[WRITES], graph.relations["paper", "in", "venue"]
    assert (writes.senders.tolist(), writes.receivers.tolist()) == ([1, 0], [1, 0])
    assert writes.edges.tolist() == [[0.5], [1.0]] and venue.edges is None
    assert (venue.senders.tolist(), venue.receivers.tolist()) == ([0, 1], [2, 0])
    assert graph.nodes["paper"].tolist() == [[1999, 10], [2001, 12]] and "venue" not in names


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("relations/author.wrote.csv", "sender,receiver\n", "author.wrote.csv must be called <sender type>.<name>."),
        ("relations/a.w.paper.csv", "sender,receiver\n", "; the types are author, paper, venue"),
        ("relations/author.writes.paper.csv", "sender,receiver\ncat,3\n", "line 2: sender 'cat' is no node; it must"),
        ("relations/paper.in.venue.csv", "from,to\n7,3\n", "line 2: to 3 is no node; ids run from 0 to 2"),
        ("relations/paper.in.venue.csv", "from,to\n8,2\n", "line 2: from"),
        ("nodes/author.csv", "node,age\nann,30\nann,40\n", "author.csv line 3: 'ann' names another node too"),
        ("nodes/author.csv", "node,age\nann,old\n", "line 2, column age: 'old' is not a number"),
    ],
)  # fmt: skip
def test_bad_tables(tmp_path, file, text, message):
    with rejects(ValueError, message):
        from_tables(write(tmp_path, FILES | {file: text}))


def test_no_tables(tmp_path):
    with rejects(FileNotFoundError, "is no folder: it must hold a table of each kind"):
        from_tables(tmp_path)
    (tmp_path / "nodes").mkdir()
    with rejects(FileNotFoundError, "holds no table: put one there for each type"):
        from_tables(tmp_path)


def test_what_other_libraries_do_not_take(unchecked):
    sparse = build_typed_graph({"user": BCOO.fromdense(jnp.eye(2))}, {})
    for export in (to_typed_pyg, to_typed_dgl, to_typed_networkx):
        with rejects(TypeError, "nodes['user'] is sparse (BCOO)"):
            export(sparse)
    both = batch_typed([bibliography(), bibliography()])
    with rejects(ValueError, "graph is a batch: give DGL one graph at a time, see unbatch_typed"):
        to_typed_dgl(both)
    with rejects(
        TypeError, "data is a dict without relations: pass a torch_geometric.data.HeteroData"
    ):
        from_typed_pyg({"x": np.ones((2, 2)), "edge_index": np.zeros((2, 0))})
    with rejects(TypeError, "has no edge_index; it has adj_t"):
        from_typed_pyg({WRITES: {"adj_t": 3}})
    with rejects(ValueError, "'user' has neither x nor num_nodes: set data['user'].num_nodes"):
        from_typed_pyg(
            {"user": {"y": np.zeros(2)}, ("user", "a", "user"): {"edge_index": np.zeros((2, 0))}}
        )
