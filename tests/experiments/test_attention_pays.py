"""Graphs on which attention may pay, and the command that asks whether it does, with a small budget."""

import numpy as np
import pytest


def test_neighbours_are_of_the_own_class_with_the_chance_h():
    import attention_pays

    config = attention_pays.Config(nodes=600, neighbors=8)
    made = attention_pays.make(config, 2.0, 0.3, seed=5)
    senders, receivers = np.asarray(made.graph.senders), np.asarray(made.graph.receivers)
    assert len(senders) == 4800 and (np.bincount(receivers) == 8).all()
    assert np.array_equal(made.inner, made.labels[senders] == made.labels[receivers])
    assert made.inner.mean() == pytest.approx(0.3, abs=0.03)
    nodes = np.asarray(made.graph.nodes)
    means = nodes[made.labels == 1].mean(0) - nodes[made.labels == 0].mean(0)
    assert means[0] == pytest.approx(4, abs=0.4) and np.abs(means[1:]).max() < 0.4


def test_a_crossing_lies_between_two_places():
    from attention_pays_report import crossing

    means = [1.0, 2.0, 4.0]
    assert crossing(means, np.array([0.0, 0.2, 0.6]), 0.4) == pytest.approx(3.0)
    assert crossing(means, np.array([0.5, 0.2, 0.6]), 0.4) == 1.0
    assert crossing(means, np.array([0.0, 0.2, 0.3]), 0.4) is None


def test_a_graph_that_is_not_there_is_said_before_anything_runs(tmp_path, monkeypatch):
    import attention_pays

    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match=r"filtered\.npz is not there: set GATJAX_DATA"):
        attention_pays.main(attention_pays.Config(output=tmp_path / "out"))
    with pytest.raises(SystemExit, match=r"--homophily 1\.5: must be a chance"):
        attention_pays.main(attention_pays.Config(homophily=(0.5, 1.5), output=tmp_path / "out"))


@pytest.mark.slow
def test_a_small_study_of_when_attention_pays_is_kept(tmp_path, capsys):
    import attention_pays

    cells = {"means": (0.25, 3.0), "homophily": (0.5,), "nodes": 300, "seeds": 1}
    config = attention_pays.Config(**cells, max_epochs=120, real_seeds=0, output=tmp_path)
    result = attention_pays.main(config)
    found = {row["model"]: np.array(row["accuracy"])[:, 0, 0] for row in result["made"]}
    assert found["oracle"][1] > 0.95 and found["GATv2"][1] > 0.85
    assert max(found["uniform"]) < 0.7 and found["GATv2"][0] < 0.75
    assert "√log n = 2.39" in capsys.readouterr().out
