"""Training on samples beside the whole graph: planted classes are found, and a run goes on where it was."""

import numpy as np
import pytest
from helpers import rejects

SMALL = {
    "dataset": "planted",
    "nodes": 400,
    "edges": 6000,
    "seeds": 2,
    "batch_size": 64,
    "fanouts": (5, 5),
    "hidden_features": 16,
    "epochs": 5,
    "progress": False,
}


def test_planted_graphs_have_what_was_asked_for():
    from large_graphs import planted

    data = planted(400, 6000)
    senders, receivers = np.asarray(data.graph.senders), np.asarray(data.graph.receivers)
    assert len(data.labels) == 400 and 5500 < len(senders) <= 6000 and (senders != receivers).all()
    pairs = set(zip(senders.tolist(), receivers.tolist(), strict=True))
    assert pairs == {(receiver, sender) for sender, receiver in pairs}
    within = (data.labels[senders] == data.labels[receivers]).mean()
    assert 0.75 < within < 0.9


@pytest.mark.slow
def test_both_rows_find_the_classes_and_a_run_is_kept(tmp_path, capsys):
    import large

    settings = large.resolve(large.Config(**SMALL, output=tmp_path))
    result = large.run(settings)
    for row in ("whole", "sampled"):
        assert min(result["rows"][row]["test"]) > 0.6
        assert result["rows"][row]["steps"] == 5 * 4
    assert large.run(settings) == result
    assert "already" in capsys.readouterr().out
    assert "sampled neighbours" in large.table(result)


def test_impossible_settings_end_before_training(tmp_path, monkeypatch):
    import large

    def ends(message, **values):
        with rejects(SystemExit, message):
            large.resolve(large.Config(**values))

    ends("--fanouts 3 0: fanouts[1] = 0", fanouts=(3, 0))
    ends("--fanouts", fanouts=())
    ends("leave no nodes to test", train=0.8, validation=0.2)
    ends("--hidden-features 10: must be a multiple", hidden_features=10)
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    with rejects(SystemExit, "put the Facebook files"):
        large.Problem(large.resolve(large.Config()))


def test_a_published_graph_has_its_own_split(monkeypatch):
    import large
    import large_graphs

    from gatjax.data import Dataset, Splits

    ids = np.arange(4, dtype=np.int32)
    data = Dataset(
        name="tiny",
        graph=large_graphs.planted(4, 20).graph,
        labels=np.array([0, 1, 0, 1], np.int32),
        splits=Splits(ids[:2], ids[2:3], ids[3:]),
        num_classes=2,
        class_names=("a", "b"),
        provenance="made here",
    )
    monkeypatch.setattr(large_graphs, "load_published", lambda name: data)
    problem = large.Problem(large.resolve(large.Config(dataset="ogbn-arxiv")))
    assert problem.split(3) == data.splits and problem.labels(0).train_labels.tolist() == [0, 1]


@pytest.mark.slow
def test_every_node_is_the_same_from_files_and_what_it_takes_is_told(tmp_path):
    import large

    small = SMALL | {"rows": ("embed",), "edges_per_chunk": 1000}
    settings = large.resolve(large.Config(**small, output=tmp_path))
    result = large.run(settings)
    measured = result["rows"]["embed"]
    assert measured["largest_difference"] < 1e-6
    assert all(
        measured[way]["peak_bytes"] > measured[way]["bytes_before"] // 2
        for way in ("memory", "files")
    )
    assert "from file to file" in large.table(result)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["result.json"]
