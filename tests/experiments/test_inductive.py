"""Graphs that are not seen in training: what is generated, graphs of one size, rows that learn, a run that is kept."""

import numpy as np
import pytest
from helpers import rejects

from gatjax import build_graph
from gatjax.data import LabelledGraphs, Splits


def test_labels_are_what_open_neighbours_say():
    from inductive_graphs import LOUD, generated

    data = generated(graphs=6, nodes=40, labels=3)
    assert [len(part) for part in data.splits] == [4, 1, 1]
    directions = np.random.default_rng(0).normal(size=(8, 3))
    for graph, labels in zip(data.graphs, data.labels, strict=True):
        features = np.asarray(graph.nodes, np.float64)
        for node in range(40):
            heard = graph.senders[graph.receivers == node].tolist() + [node]
            total = sum((features[j, 1:] for j in heard if features[j, 0] > 0), np.zeros(8))
            np.testing.assert_array_equal(labels[node], np.dot(total, directions) > 0)
    features = np.concatenate([graph.nodes for graph in data.graphs])
    closed = features[features[:, 0] < 0, 1:].std() / features[features[:, 0] > 0, 1:].std()
    assert abs(closed / LOUD - 1) < 0.15


def test_some_graphs_of_one_size_are_those_graphs():
    from inductive_graphs import joined, stacked

    graphs = (
        build_graph([0], [1], np.array([[1.0], [3.0]], np.float32)),
        build_graph([], [], np.array([[5.0]], np.float32)),
        build_graph([2, 0], [1, 2], np.array([[2.0], [2.0], [2.0]], np.float32)),
    )
    labels = tuple(np.full((len(graph.nodes), 2), k, np.float32) for k, graph in enumerate(graphs))
    ids = np.arange(3, dtype=np.int32)
    table = stacked(LabelledGraphs("x", graphs, labels, Splits(ids[:1], ids[1:2], ids[2:]), ""))
    some = joined(table, np.array([2, 0]))
    there = np.asarray(some.node_mask)
    assert there.tolist() == [True] * 5 + [False]
    np.testing.assert_array_equal(some.graph.nodes[there, 0], [0, 0, 0, -1, 1])
    assert some.labels[there, 0].tolist() == [2, 2, 2, 0, 0] and np.isnan(some.labels[5]).all()
    ends = np.stack([some.graph.senders, some.graph.receivers], axis=1)[np.asarray(some.edge_mask)]
    assert sorted(map(tuple, ends.tolist())) == sorted(
        [(2, 1), (0, 2), (0, 0), (1, 1), (2, 2), (3, 4), (3, 3), (4, 4)]
    )


@pytest.mark.slow
def test_attention_finds_open_neighbours_and_a_run_is_kept(tmp_path, capsys):
    import inductive

    small = {"graphs": 8, "nodes": 100, "head_features": 16, "num_heads": 2, "seeds": 1}
    small |= {"max_epochs": 100, "learning_rate": 0.02}
    rows = ("gat", "uniform")
    settings = inductive.resolve(
        inductive.Config(**small, rows=rows, progress=False, output=tmp_path)
    )
    result = inductive.run(settings)
    gat, uniform = (result["rows"][row]["test"][0] for row in rows)
    assert gat > uniform + 0.03
    assert inductive.run(settings) == result
    assert "already" in capsys.readouterr().out
    assert "published" not in inductive.table(result)
    assert "97.3" in inductive.table(result | {"dataset": "ppi"})


def test_impossible_settings_end_before_training(tmp_path, monkeypatch):
    import inductive

    with rejects(SystemExit, "--graphs 2: must be at least 3"):
        inductive.resolve(inductive.Config(graphs=2))
    with rejects(SystemExit, "--learning-rate 0"):
        inductive.resolve(inductive.Config(learning_rate=0.0))
    with rejects(SystemExit, "--batch-size 9: there are 2 graphs to train on"):
        inductive.Problem(inductive.resolve(inductive.Config(batch_size=9, graphs=4, nodes=5)))
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    with rejects(SystemExit, "--dataset ppi: the data set 'ppi' could not be found"):
        inductive.Problem(inductive.resolve(inductive.Config(dataset="ppi")))
