"""The comparison of three ways to attend to all nodes."""

import all_nodes
import pytest


@pytest.mark.slow
def test_three_ways_give_the_same_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(all_nodes, "BATCHES", {"small graphs": (2, 5)})
    config = all_nodes.Config(heads=2, features=3, rounds=1, runs=1, output=tmp_path)
    result = all_nodes.main(config)
    measured = result["rows"]["small graphs"]["ways"]
    assert set(measured) == set(all_nodes.WAYS)
    assert all(each["median_seconds"] > 0 for each in measured.values())
    assert "2 of 5" in capsys.readouterr().out


def test_impossible_settings_end_at_once(tmp_path):
    with pytest.raises(SystemExit, match="--heads 0: must be at least 1"):
        all_nodes.main(all_nodes.Config(heads=0, output=tmp_path))
