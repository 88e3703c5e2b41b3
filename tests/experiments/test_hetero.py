"""The experiment on typed graphs: its scores by hand, its rows, and the command with a small budget."""

import json

import numpy as np
import pytest
from helpers import rejects


def test_f1_by_hand():
    from hetero_scores import f1

    # Class 0: 1 hit, 1 missed, 1 wrong; class 1: 2 hits, 1 missed, 1 wrong; class 2: 1 hit.
    scores = f1(np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2]))
    np.testing.assert_allclose(scores, [(1 / 2 + 2 / 3 + 1) / 3, 4 / 6])


def test_neighbors_vote():
    from hetero_scores import nearest_neighbors

    # Two clouds far apart: whoever is known there says the class; and rows without any meaning.
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 120)
    apart = generator.normal(size=(120, 3)) + 50 * labels[:, None]
    scores = nearest_neighbors(apart, labels, shuffles=2)
    assert list(scores) == ["20 %", "40 %", "60 %", "80 %"]
    assert all(each == (1, 1) for each in scores.values())
    chance = nearest_neighbors(generator.normal(size=(120, 3)), labels, sizes=[0.5], shuffles=4)
    assert 0.3 < chance["50 %"].micro < 0.7


def test_neighbors_are_those_of_a_loop():
    from hetero_scores import f1, nearest_neighbors

    generator = np.random.default_rng(1)
    rows, labels = generator.normal(size=(31, 2)), generator.integers(0, 3, 31)
    found = nearest_neighbors(rows, labels, sizes=[0.4], shuffles=1, k=3)["40 %"]
    order = np.random.default_rng(0).permutation(31)
    known, others = order[:12], np.sort(order[12:])
    predicted = []
    for node in others:
        distance = [(np.sum((rows[node] - rows[other]) ** 2), other) for other in known]
        votes = [labels[other] for _, other in sorted(distance)[:3]]
        predicted.append(max(sorted(set(votes)), key=votes.count))
    np.testing.assert_allclose(found, f1(labels[others], np.array(predicted)))


def test_bad_settings():
    from hetero import Config, Problem, chosen, resolve

    for message, change in {
        "--seeds 0: must be at least 1": {"seeds": 0},
        "--max-neighbors -1: must be at least 0": {"max_neighbors": -1},
        "--dropout 1.0: must lie in [0, 1)": {"dropout": 1.0},
        "--hidden-features 12: must be a multiple of --num-heads 8": {"hidden_features": 12},
        "--dataset aminer: must be one of imdb, dblp, acm": {"dataset": "aminer"},
    }.items():
        with rejects(SystemExit, message):
            resolve(Config(**change))
    problem = Problem(resolve(Config(rows=("hgx",))))
    with rejects(
        SystemExit, "--rows hgx: must be all or of han, han-node, hgt, relational, alone-MAM"
    ):
        chosen(problem)


def test_files_that_are_not_there(tmp_path, monkeypatch):
    from hetero import Config, Problem, resolve

    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    with rejects(SystemExit, "--dataset acm: the data set 'acm' is not in the package"):
        Problem(resolve(Config(dataset="acm")))


@pytest.mark.slow
def test_the_command_with_a_small_budget(tmp_path, capsys):
    import hetero

    config = hetero.Config(
        rows=("han", "alone-MDM", "features"),
        seeds=2,
        max_epochs=3,
        hidden_features=8,
        num_heads=2,
        progress=False,
        output=tmp_path,
    )
    result = hetero.main(config)
    assert json.loads((tmp_path / "result.json").read_text()) == result
    betas = np.array(result["rows"]["han"]["betas"])
    np.testing.assert_allclose(betas.sum(axis=1), [1, 1], rtol=1e-5)
    assert result["rows"]["alone-MDM"]["betas"] == [None, None]
    assert len(result["rows"]["features"]["macro"]["20 %"]) == 2
    assert (tmp_path / "betas-han.png").stat().st_size > 10_000
    assert "| features alone, no graph" in capsys.readouterr().out
    hetero.main(config)
    assert "is the result of this very run already" in capsys.readouterr().out
