"""The link experiment as a user runs it, with a small budget."""

import dataclasses
import json

import numpy as np
import pytest

SHORT = {
    "dataset": "citeseer",
    "seeds": 2,
    "max_epochs": 3,
    "all_negatives": False,
    "progress": False,
}


def result_of(seeds=1, **changes):
    import link_prediction

    config = link_prediction.Config(dataset="cora", seeds=seeds, **changes)
    values = dataclasses.asdict(link_prediction.resolve(config))
    row = {"test_auc": [0.9], "test_ap": [0.8], "parameters": 7, "epochs": [200], "seconds": 1.0}
    found = {"deviations": link_prediction.deviations(values), "config": values}
    return {
        "dataset": "cora",
        "protocol": config.protocol,
        "rows": {"gat": row, "gcn": row},
    } | found


@pytest.mark.parametrize(
    ("changes", "shown", "named"),
    [
        ({}, ("91.0 ± 0.02", "92.0 ± 0.03"), "VGAE by the same protocol has an AUC of 91.4 ± 0.01"),
        ({"learning_rate": 0.1}, ("-", "-"), "Not the protocol gae: learning_rate 0.1 (there 0.01)."),
        ({"protocol": "tuned"}, ("-", "-"), "| GCN"),
    ],
)  # fmt: skip
def test_the_papers_numbers_stand_beside_its_protocol_alone(changes, shown, named):
    import link_prediction

    table = link_prediction.table(result_of(**changes))
    gat, gcn = ([cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:4])
    assert (gcn[2], gcn[4]) == shown and (gat[2], gat[4]) == ("-", "-")
    assert named in table


@pytest.mark.slow
def test_it_learns_reports_and_finds_its_result(tmp_path, capsys):
    import link_prediction

    config = link_prediction.Config(
        **SHORT | {"max_epochs": 30}, models=("gcn",), split="random", output=tmp_path
    )
    result = link_prediction.main(config)
    assert json.loads((tmp_path / "result.json").read_text())["rows"] == result["rows"]
    assert np.mean(result["rows"]["gcn"]["test_auc"]) > 0.6, "chance is one half"
    assert result["rows"]["gcn"]["epochs"] == [30, 30]
    assert not list(tmp_path.rglob("checkpoints/*"))
    capsys.readouterr()
    assert link_prediction.main(config) == result
    assert "is the result of this very run already" in capsys.readouterr().out


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, monkeypatch, capsys):
    import link_prediction
    import seed_runs

    config = link_prediction.Config(**SHORT, models=("mlp", "gcn"), output=tmp_path / "whole")
    whole = link_prediction.main(config)
    train = seed_runs.train

    def interrupted(training, seeds, *arguments, **options):
        runs = train(training, seeds, *arguments, **options)
        if (tmp_path / "cut/mlp/checkpoints").exists():
            raise KeyboardInterrupt
        return runs

    monkeypatch.setattr(seed_runs, "train", interrupted)
    cut = dataclasses.replace(config, output=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        link_prediction.main(cut)
    monkeypatch.setattr(seed_runs, "train", train)
    with pytest.raises(SystemExit, match="pass --resume to go on with it"):
        link_prediction.main(cut)
    resumed = link_prediction.main(dataclasses.replace(cut, resume=True))
    for model, row in whole["rows"].items():
        for name in ("test_auc", "test_ap", "epochs"):
            assert resumed["rows"][model][name] == row[name]
