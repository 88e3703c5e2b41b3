"""Graphs of PyTorch Geometric and DGL, by what their objects look like; neither is installed here.

`experiments/side_by_side.py` does the same with the libraries themselves.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from graph_strategies import assert_same
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax.graph import batch, build_graph, from_dgl, from_pyg, to_dgl, to_pyg


class Tensor:
    """As much of a torch.Tensor as is read of one."""

    def __init__(self, values, layout="torch.strided", dtype=None):
        self.values, self.layout = np.asarray(values), layout
        self.dtype = dtype or f"torch.{self.values.dtype}"

    def to_dense(self):
        return self

    def detach(self):
        return SimpleNamespace(dtype=self.dtype, cpu=lambda: self.copied())

    def copied(self):
        return SimpleNamespace(dtype=self.dtype, numpy=lambda: self.values)


class Data:
    def __init__(self, **fields):
        self.fields = fields

    def to_dict(self):
        return dict(self.fields)

    @classmethod
    def from_data_list(cls, parts):
        return tuple(parts)


EDGES = np.array([[0, 2, 2], [1, 1, 0]])


def data(**fields):
    return Data(edge_index=Tensor(EDGES), **{name: Tensor(each) for name, each in fields.items()})


def test_pyg_edges_run_from_the_first_row_to_the_second_and_nothing_is_lost():
    x, attr = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(3, 4)
    weight, y = np.array([0.5, 1, 2], np.float32), np.array([1, 0, 1])
    graph, edge_weight, others = from_pyg(data(x=x, edge_attr=attr, edge_weight=weight, y=y, pos=x))
    assert graph.senders.tolist() == [0, 2, 2] and graph.receivers.tolist() == [1, 1, 0]
    assert graph.nodes is x and graph.edges is attr and edge_weight.tolist() == [0.5, 1, 2]
    assert {name: value.tolist() for name, value in others.items()} == {
        "y": [1, 0, 1],
        "pos": x.tolist(),
    }


def test_pyg_edge_features_are_a_column_and_types_are_ids():
    x = np.zeros((3, 1))
    assert from_pyg(data(x=x, edge_attr=[1.0, 2, 3])).graph.edges.tolist() == [[1], [2], [3]]
    assert from_pyg(data(x=x, edge_type=[1, 0, 2])).graph.edges.tolist() == [1, 0, 2]
    both = from_pyg(data(x=x, edge_type=[1, 0, 2], edge_attr=np.ones((3, 2))))
    assert both.graph.edges.shape == (3, 2) and both.others["edge_type"].tolist() == [1, 0, 2]
    assert from_pyg(Data(edge_index=EDGES, num_nodes=5, x=None)).graph.n_node.tolist() == [5]


def test_a_pyg_batch_is_a_batch():
    parts = [build_graph([0, 1], [1, 0], np.ones((2, 3))), build_graph([0], [0], np.zeros((1, 3)))]
    both = batch(parts)
    index = np.stack([both.senders, both.receivers])
    for says in ({"ptr": [0, 2, 3]}, {"batch": [0, 0, 1]}, {"batch": [0, 0, 1], "ptr": [0, 2, 3]}):
        graph = from_pyg({"edge_index": index, "x": both.nodes} | says).graph
        assert_same(graph, both)
    empty = from_pyg({"edge_index": index[:, :2], "x": both.nodes, "ptr": np.array([0, 2, 2, 3])})
    assert empty.graph.n_node.tolist() == [2, 0, 1] and empty.graph.n_edge.tolist() == [2, 0, 0]


def test_several_pyg_graphs_become_a_batch_one_by_one():
    parts = [data(x=np.ones((3, 2))), data(x=np.zeros((3, 2)))]
    graph = batch([from_pyg(each).graph for each in parts])
    assert graph.n_node.tolist() == [3, 3] and graph.n_edge.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (3, TypeError, "data is a int without edge_index"),
        ([Data()], TypeError, "batch([from_pyg(each).graph for each in data])"),
        ((np.ones((3, 5)), EDGES), TypeError, "data is a tuple: convert each graph"),
        (SimpleNamespace(edge_types=[]), TypeError, "pass data.to_homogeneous()"),
        (Data(adj_t=1), TypeError, "set data.edge_index"),
        (Data(edge_index=EDGES), ValueError, "set data.num_nodes"),
        (Data(edge_index=EDGES[0], num_nodes=3), ValueError, "it must be [2, E]"),
        (Data(edge_index=EDGES, num_nodes=2), ValueError, "senders[1] = 2 is out of range"),
        (Data(edge_index=EDGES, x=Tensor(0, "torch.sparse_coo")), TypeError, "pass x.to_dense()"),
        (
            Data(edge_index=EDGES, x=Tensor(0, dtype="torch.bfloat16")),
            TypeError,
            "pass x.float()",
        ),
        (Data(edge_index=EDGES, num_nodes=3, edge_weight=Tensor([1.0])), ValueError, "each of 3"),
        (Data(edge_index=EDGES, batch=Tensor([0, 1, 0])), ValueError, "must stand together"),
        (Data(edge_index=EDGES, batch=Tensor([0, 0, 1])), ValueError, "crosses graphs"),
    ],
)
def test_what_no_pyg_graph_is_has_its_name(bad, error, message):
    with rejects(error, message):
        from_pyg(bad)


class DGLGraph:
    is_homogeneous, is_block = True, False

    def __init__(self, ends, num_nodes, ndata=None, edata=None):
        self.ends, self.ndata, self.edata = ends, ndata or {}, edata or {}
        self.n_node, self.n_edge = Tensor([num_nodes]), Tensor([len(ends[0].values)])

    def edges(self, order):
        assert order == "eid"
        return self.ends

    def batch_num_nodes(self):
        return self.n_node

    def batch_num_edges(self):
        return self.n_edge

    def set_batch_num_nodes(self, counts):
        self.n_node = counts

    def set_batch_num_edges(self, counts):
        self.n_edge = counts


def dgl_graph(**edata):
    x, label = Tensor(np.ones((4, 2))), Tensor([0, 1, 1, 0])
    edata = {name: Tensor(each) for name, each in edata.items()}
    return DGLGraph((Tensor(EDGES[0]), Tensor(EDGES[1])), 4, {"feat": x, "label": label}, edata)


def test_dgl_features_are_taken_by_name_and_nothing_is_lost():
    g = dgl_graph(w=[[1.0], [2], [3]], length=np.ones((3, 2)), kind=[1, 0, 2])
    names = {"node_features": "feat", "edge_features": "length", "edge_weight": "w"}
    graph, weight, others = from_dgl(g, **names)
    assert graph.senders.tolist() == [0, 2, 2] and graph.receivers.tolist() == [1, 1, 0]
    assert graph.nodes.shape == (4, 2) and graph.edges.shape == (3, 2)
    assert weight.tolist() == [1, 2, 3]
    assert others["ndata"]["label"].tolist() == [0, 1, 1, 0] and list(others["edata"]) == ["kind"]
    assert from_dgl(g, edge_features="kind").graph.edges.tolist() == [1, 0, 2]
    g.set_batch_num_nodes(Tensor([3, 1]))
    g.set_batch_num_edges(Tensor([3, 0]))
    assert from_dgl(g).graph.n_node.tolist() == [3, 1]


def test_what_no_dgl_graph_is_has_its_name():
    with rejects(TypeError, "g must be a DGLGraph, got int"):
        from_dgl(3)
    for attribute, message in (
        ({"is_block": True}, "g is a block"),
        ({"is_homogeneous": False}, "pass dgl.to_homogeneous(g)"),
    ):
        g = dgl_graph()
        vars(g).update(attribute)
        with rejects(TypeError, message):
            from_dgl(g)
    with rejects(ValueError, "node_features: g.ndata has no 'x'; it has feat, label"):
        from_dgl(dgl_graph(), node_features="x")


@pytest.fixture
def libraries(monkeypatch):
    """As much of the libraries as is called."""
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(tensor=Tensor))
    pyg = SimpleNamespace(Data=Data, Batch=Data)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", pyg)
    make = lambda ends, num_nodes: DGLGraph(ends, num_nodes)
    monkeypatch.setitem(sys.modules, "dgl", SimpleNamespace(graph=make))


ROUND_TRIPS = {
    "features": build_graph([0, 2], [1, 1], np.ones((3, 2)), edges=np.ones((2, 4))),
    "relations": build_graph([0, 2], [1, 1], np.ones((3, 2)), edges=np.array([3, 0])),
    "nothing": build_graph([0, 2], [1, 1], num_nodes=4),
    "batch": batch([build_graph([0], [1], np.ones((2, 3))), build_graph([], [], np.ones((1, 3)))]),
}


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_there_and_back_again(name):
    graph = ROUND_TRIPS[name]
    weight = np.arange(len(graph.senders), dtype=np.float32)
    made = to_pyg(graph, edge_weight=weight)
    parts = [from_pyg(part) for part in (made if isinstance(made, tuple) else (made,))]
    assert_same(batch([part.graph for part in parts]), batch([graph]))
    assert np.concatenate([part.edge_weight for part in parts]).tolist() == weight.tolist()

    g = to_dgl(graph, edge_weight=weight)
    names = {"node_features": "feat"} if graph.nodes is not None else {}
    names |= {"edge_features": "feat"} if graph.edges is not None else {}
    back, again, others = from_dgl(g, edge_weight="weight", **names)
    assert_same(back, graph)
    assert again.tolist() == weight.tolist() and others == {"ndata": {}, "edata": {}}


@pytest.mark.parametrize("export", [to_pyg, to_dgl])
def test_what_the_others_have_no_place_for_has_its_name(export, libraries):
    graph = ROUND_TRIPS["features"]
    for bad, error, message in (
        (graph._replace(globals=np.ones((1, 2))), ValueError, "graph._replace(globals=None)"),
        (graph._replace(nodes={"a": graph.nodes}), TypeError, "nodes is a tree"),
        (graph._replace(nodes=BCOO.fromdense(graph.nodes)), TypeError, "nodes is sparse"),
    ):
        with rejects(error, message):
            export(bad)
    with rejects(ValueError, "give one for each of 2 edges"):
        export(graph, edge_weight=np.ones(3))


@pytest.mark.parametrize("export", [to_pyg, to_dgl])
def test_a_library_that_is_missing_has_its_name(export, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with rejects(ImportError, "which has no module torch here: install it"):
        export(ROUND_TRIPS["features"])
