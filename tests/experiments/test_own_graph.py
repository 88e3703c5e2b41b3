"""A folder of one's own through the script: every task by its own score, never another's name."""

import dataclasses
import json

import numpy as np
import pytest

RNG = np.random.default_rng(0)
NODES = 60
HEIGHT = RNG.normal(size=NODES)
LABELS = {
    "classes": ["team", *np.where(HEIGHT > 1, "tall", "short")],
    "numbers": ["price,age", *(f"{1000 * h + 5000:.2f},{h / 2:.5f}" for h in HEIGHT)],
    "labels": ["tall,odd", *(f"{int(h > 0)},{i % 2}" for i, h in enumerate(HEIGHT))],
}


def folder_of(path, task, weights=False):
    ends = RNG.integers(NODES, size=(80, 2))
    weight = [f",{RNG.random():.4f}" if weights else ""] * len(ends)
    lines = [f"{a},{b}{w}" for (a, b), w in zip(ends.tolist(), weight, strict=True)]
    (path / "edges.csv").write_text(
        "\n".join(["sender,receiver" + ",weight" * weights, *lines]) + "\n"
    )
    rows = [f"{h:.5f},{i % 2},1" for i, h in enumerate(HEIGHT)]
    (path / "features.csv").write_text("\n".join(["height,odd,one", *rows]) + "\n")
    (path / "labels.csv").write_text("\n".join(LABELS[task]) + "\n")
    return path


def config_of(tmp_path, task, **changes):
    import own_graph

    folder = tmp_path / "people"
    folder.mkdir()
    folder_of(folder, task, weights=changes.pop("weights", False))
    short = {
        "model": "mlp",
        "train": 0.5,
        "validation": 0.2,
        "test": 0.3,
        "seeds": 2,
        "max_epochs": 150,
    }
    return own_graph.Config(
        dataset=folder, task=task, output=tmp_path / "run", progress=False,
        dropout=0.0, learning_rate=0.02, **short | changes,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "changes", "shown", "least"),
    [
        ("classes", {"class_weights": True}, "test accuracy (%)", 0.8),
        ("numbers", {"model": "gat", "weights": True, "seeds": 1}, "test R²", 0.3),
        ("labels", {}, "test micro-F1 (%)", 0.8),
    ],
)
def test_every_task_by_its_own_score(task, changes, shown, least, tmp_path, capsys):
    import own_graph

    result = own_graph.main(config_of(tmp_path, task, **changes))
    printed = capsys.readouterr().out
    assert shown in printed and (task == "classes") == ("accuracy" in printed)
    assert set(result["rows"]) == ({"price", "age"} if task == "numbers" else {"people"})
    assert all(np.mean(row["test_score"]) > least for row in result["rows"].values())
    predictions = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert len(predictions) == NODES + 1
    if task == "numbers":
        assert "its own units" in printed
        price = np.array([float(line.split(",")[1]) for line in predictions[1:]])
        assert abs(np.mean(price) - 5000) < 500, "in the units of the file"
    assert json.loads((tmp_path / "run" / "result.json").read_text())["task"] == task


@pytest.mark.slow
def test_what_a_folder_does_not_have_is_said(tmp_path):
    import own_graph

    config = config_of(tmp_path, "numbers", class_weights=True)
    with pytest.raises(SystemExit, match="--class-weights: the labels are numbers, not classes"):
        own_graph.main(config)
    config = dataclasses.replace(config, class_weights=False, train=None, validation=2, test=3)
    with pytest.raises(SystemExit, match="people: .*pass train="):
        own_graph.main(config)
    with pytest.raises(SystemExit, match="nowhere: there is no such folder"):
        own_graph.main(dataclasses.replace(config, dataset=tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="--per-class 5 and --train 3: one of them"):
        own_graph.main(dataclasses.replace(config, train=3, per_class=5))
