"""transformers.py: the graphs are those of the papers' rules, and a run keeps its rows and goes on."""

import numpy as np
import pytest
import transformer_data as data
import transformers

from gatjax import connect_all, validate


def test_skip_links():
    graphs, labels = data.circular_skip_links(0)
    assert len(graphs) == 150 and np.bincount(labels).tolist() == [15] * 10
    for graph in graphs[::29]:
        validate(graph)
        assert (np.bincount(graph.receivers) == 4).all() and len(graph.senders) == 164
        assert len({*zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True)}) == 164
    folds = data.csl_folds(0)
    assert sorted(np.concatenate(folds)) == list(range(150))
    assert all(np.bincount(np.array(labels)[fold]).tolist() == [3] * 10 for fold in folds)


def test_lookups_in_trees():
    tree = data.tree(2)
    edges = set(zip(tree.senders.tolist(), tree.receivers.tolist(), strict=True))
    assert edges == {(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), *((k, k) for k in range(7))}
    keys, values, answers = data.tree_lookups(2, 5)
    assert keys.shape == values.shape == (20, 7)
    for row, answer in enumerate(answers):
        of_leaves = dict(zip(keys[row, 3:], values[row, 3:], strict=True))
        assert of_leaves[keys[row, 0]] == answer + 1 and sorted(of_leaves.values()) == [1, 2, 3, 4]
    assert not keys[:, 1:3].any() and not values[:, :3].any()


@pytest.mark.parametrize("make", [data.pattern, data.cluster])
def test_block_models(make):
    graphs, labels = make(101, 3)
    for graph, label in zip(graphs, labels, strict=True):
        edges = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
        assert edges == {(j, i) for i, j in edges} and not any(i == j for i, j in edges)
        assert (graph.nodes.sum(1) == 1).all() and len(label) == len(graph.nodes)
    if make is data.cluster:
        assert all((graph.nodes[:, :6].sum(0) == 1).all() for graph in graphs)
        named = [
            label[graph.nodes[:, :6].argmax(0)].tolist()
            for graph, label in zip(*(graphs, labels), strict=True)
        ]
        assert named == [list(range(6))] * 101
        return
    # 100 graphs share the nodes of their pattern, and its values.
    values = [
        sorted(g.nodes[y == 1].argmax(1).tolist()) for g, y in zip(graphs, labels, strict=True)
    ]
    assert values[0] == values[99] != values[100]
    density = np.mean([len(g.senders) / len(g.nodes) ** 2 for g in graphs])
    assert 0.38 < density < 0.5


@pytest.mark.parametrize("name", transformers.TREE_ROWS)
def test_every_set_of_edges_of_a_tree(name):
    graph, kinds = transformers.tree_edges(3, name)
    own = graph.edges["type"] == 0
    assert own.sum() == 14 + 15 and len(kinds) in (2, 4)
    assert (len(own) == 225) == ("pairs" in name or name == "tree")
    assert connect_all(data.tree(3)).edges["type"].sum() == 225 - 29


@pytest.mark.slow
def test_a_run_keeps_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers, "SBM_ROWS", {"all, bias, encoding": ("typed", True)})
    options = {"task": "pattern", "graphs": 4, "test_graphs": 3, "batch_size": 2, "epochs": 1}
    config = transformers.Config(**options, width=8, heads=2, output=tmp_path)
    result = transformers.main(config)
    assert len(result["rows"]) == 3 and (tmp_path / "accuracy.png").exists()
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr(transformers, "sbm_row", lambda *row: pytest.fail("it was kept"))
    assert transformers.main(config)["rows"] == result["rows"]
    assert "all, bias, encoding" in transformers.table(result)
