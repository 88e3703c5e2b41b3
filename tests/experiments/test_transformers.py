"""transformers.py: the graphs are those of the papers' rules, and a run keeps its rows and goes on."""

import heterophilous
import numpy as np
import pytest
import transformer_blocks
import transformer_data as data
import transformer_nodes
import transformer_puzzles
import transformers
from heterophilous import PARTS

from gatjax import validate


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


@pytest.mark.parametrize("name", transformer_puzzles.TREE_ROWS)
def test_every_set_of_edges_of_a_tree(name):
    graph, kinds = transformer_puzzles.tree_edges(3, name)
    beyond = {"tree and expander": 15 * 4, "tree and virtual node": 2 * 15}.get(name, 0)
    assert len(graph.senders) == 14 + 15 + beyond
    assert set(kinds) == ({"typed"} if beyond else {"edges", "all"} & set(kinds))
    assert len(kinds) == {"all nodes, two blocks": 2, "tree and virtual node": 3}.get(name, 4)


@pytest.mark.slow
def test_a_run_keeps_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(transformer_blocks, "SBM_ROWS", {"all, bias, encoding": ("typed", True)})
    options = {"task": "pattern", "graphs": 4, "test_graphs": 3, "batch_size": 2, "epochs": 1}
    config = transformers.Config(**options, width=8, heads=2, output=tmp_path)
    result = transformers.main(config)
    assert len(result["rows"]) == 3 and (tmp_path / "accuracy.png").exists()
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr(transformer_blocks, "sbm_row", lambda *row: pytest.fail("it was kept"))
    assert transformers.main(config)["rows"] == result["rows"]
    assert "all, bias, encoding" in transformers.table(result)


def stand_in(path, classes, count=30):
    """A file as those of the heterophilous graphs."""
    random = np.random.default_rng(classes)
    labels = np.arange(count) % classes
    part = np.arange(count) % 3
    path.mkdir()
    masks = {f"{name}_masks": np.stack([part == k] * 2) for k, name in enumerate(PARTS)}
    np.savez(
        path / "minesweeper.npz",
        node_features=random.normal(size=(count, 4)) + labels[:, None],
        node_labels=labels,
        edges=random.integers(0, count, (60, 2)),
        **masks,
    )


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_real_graphs(classes, tmp_path, monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    stand_in(tmp_path / "heterophilous", classes)
    rows = ("GCN, encoding", *(transformer_nodes.WHOLE if classes == 2 else ("MLP",)))
    options = {"task": "minesweeper", "epochs": 30, "width": 8, "heads": 2, "layers": 2}
    config = transformers.Config(**options, splits=2, rows=rows, output=tmp_path / "out")
    result = transformers.main(config)
    assert list(result["rows"]) == [name for name in transformers.rows_of(config) if name in rows]
    for row in result["rows"].values():
        assert len(row["test"]) == 2 and row["test"][0] == row["test"][1]
        assert 0.9 < row["train"][0] <= 1


def test_a_graph_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"set GATJAX_DATA to a folder .* or take another"):
        heterophilous.file_of("minesweeper", "take another")
    stand_in(tmp_path / "heterophilous", 2)
    graph, labels, masks = found = heterophilous.read(
        heterophilous.file_of("minesweeper", "take another")
    )
    edges = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    assert len(edges) == len(graph.senders) and edges == {(j, i) for i, j in edges}
    assert not any(i == j for i, j in edges) and len(labels) == 30 and set(masks) == set(PARTS)
    train, validation, test = found.split(3)
    assert np.array_equal(np.sort(np.concatenate([train, validation, test])), np.arange(30))
    assert np.array_equal(train, np.arange(0, 30, 3))


def test_rows_that_are_not_there():
    config = transformers.resolve(transformers.Config(task="csl", rows=("gat, all",)))
    with pytest.raises(SystemExit, match="--rows 'gat, all': must be of"):
        transformers.rows_of(config)
