"""The experiments on molecules: schedules, scores, what rows see, trainings side by side, and small runs."""

import dataclasses
import json
import threading
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from helpers import rejects

from gatjax.data import Splits, featurize


def test_the_rate_rises_then_falls_to_zero_along_half_a_cosine():
    from molecule_training import Schedule

    rates = Schedule(2.0, 0.2).rates(10)
    expected = [1, 2, *(1 + np.cos(np.pi * np.arange(1, 9) / 8))]
    np.testing.assert_allclose(rates, expected, atol=1e-6)
    assert Schedule(1.0, 0.0).rates(1).tolist() == [1.0]


def test_scores_by_hand():
    from molecule_tables import difference, score_of, summary

    truth = np.array([0.0, 1.0, 1.0, np.nan], np.float32)
    assert score_of("numbers", np.array([2.0, 1.0, 1.0, 9.0]), truth) == pytest.approx(2 / 3**0.5)
    assert score_of("labels", np.array([0.3, 0.2, 0.9, 9.0]), truth) == 0.5
    assert score_of("numbers", np.array([np.nan, 1.0, 1.0, 9.0]), truth) is None
    assert score_of("numbers", np.zeros(0), np.zeros(0)) is None

    problem = SimpleNamespace(
        molecules=SimpleNamespace(task="numbers"),
        settings=SimpleNamespace(seeds=2),
        scores=np.array([0.0, 1.0, 3.0, 5.0]),
        splits=[
            Splits(*map(np.array, ([0], [1], [2, 3]))),
            Splits(*map(np.array, ([3], [2], [0, 1]))),
        ],
    )
    right, nothing = problem.scores, np.full(4, np.nan)
    made = {(0, 0): right + 2, (0, 1): right - 2, (1, 0): right + 1, (1, 1): nothing}
    found = summary(problem, made)
    assert found["test"] == [[2.0, 2.0], [1.0, None]]
    assert found["validation"] == [[2.0, 2.0], [1.0, None]]
    assert found["averaged"] == [0.0, None]
    assert found["diverged"] == [[], [1]]
    # Means of the splits are 2 and 1 against 1 and 3: +1 and -2.
    other = {"test": [[1.0, 1.0], [2.0, 4.0]]}
    assert difference(found, other) == "-0.500 ± 1.500"
    assert difference({"test": [[3.0, 5.0]]}, {"test": [[1.0, 2.0]]}) == "+2.500 ± 0.500"
    assert difference({"test": [[3.0]]}, {"test": [[1.0]]}) == "+2.000", "one pair has no error"


def test_rows_see_all_pairs_or_bonds():
    from molecule_models import ROWS, RowName, seen_by, wants_dummy

    assert set(get_args(RowName)) == set(ROWS)
    ethanol = featurize("CCO", conformer=None, bond_features=True)
    assert len(seen_by("mat", ethanol).senders) == 16
    for row, edges in {"gat": 7, "gatv2": 7, "graph-network": 4, "gps": 7}.items():
        seen = seen_by(row, ethanol)
        assert (len(seen.senders), np.shape(seen.nodes), np.shape(seen.edges)) == (
            edges,
            (3, 25),
            (edges, 6),
        )
    assert [row for row in ROWS if not wants_dummy(row)] == ["no-dummy"]


def test_trainings_run_side_by_side_and_end_when_one_fails_or_nobody_waits():
    from molecule_training import Interrupted, side_by_side

    both = threading.Barrier(2, timeout=10)

    def work(task, after_epoch):
        both.wait()
        after_epoch(0.5)
        return task**2

    options: Any = {"workers": 2, "epochs": 4, "progress": False}
    assert dict(side_by_side(work, [1, 2, 3, 4], **options)) == {1: 1, 2: 4, 3: 9, 4: 16}

    ended, started = [], threading.Event()

    def endless(task, after_epoch):
        if task == "done":
            started.wait(10)
            return task
        started.set()
        try:
            while True:
                after_epoch(0.5)
        except Interrupted:
            ended.append(task)
            raise

    trainings = side_by_side(endless, ["endless", "done", "never"], **options | {"workers": 2})
    assert next(trainings) == ("done", "done")
    trainings.close()
    assert "endless" in ended

    def fails(task, after_epoch):
        raise ValueError("no such molecule")

    with rejects(ValueError, "no such molecule"):
        list(side_by_side(fails, [1, 2], **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"rows": ("mat", "mlp")}, "--rows mlp: must be one of mat"),
        ({"hidden_features": 30}, "--hidden-features 30: must be a multiple of --num-heads 4"),
        ({"warm_up": 1.0}, "--warm-up 1.0: must lie in [0, 1)"),
        ({"limit": 3}, "--limit 3: must be at least 10"),
    ],
)
def test_impossible_settings_end_before_anything_is_read(options, message):
    from molecules import Config, resolve

    with rejects(SystemExit, message):
        resolve(Config(**options))


def test_rows_by_default_and_all_of_them(tmp_path):
    from molecules import Config, resolve

    assert resolve(Config(rows=("all", "mat"))).rows[:2] == ("mat", "no-dummy")
    settings = resolve(Config(dataset="ESOL", splits="random"))
    assert str(settings.output).endswith("molecules-esol-random")
    with rejects(SystemExit, "--dataset tox21: name must be one of freesolv"):
        import molecules

        molecules.Problem(resolve(Config(dataset="tox21")))


def test_the_first_atom_of_a_chain_asks_for_the_one_that_is_so_far_away():
    from fully_connected import ATOMS, ELEMENTS, chain

    elements = np.arange(ATOMS) % ELEMENTS
    pairs: Any = chain(elements, 5, "pairs")
    bonds: Any = chain(elements, 5, "bonds")
    assert np.flatnonzero(pairs.nodes[0, ELEMENTS:]).tolist() == [4]
    assert pairs.nodes[:, :ELEMENTS].argmax(axis=1).tolist() == elements.tolist()
    apart = np.abs(pairs.senders - pairs.receivers)
    assert pairs.edges["features"].argmax(axis=1).tolist() == apart.tolist()
    assert len(pairs.senders) == ATOMS**2 and len(bonds.senders) == 3 * ATOMS - 2
    assert np.abs(bonds.senders - bonds.receivers).max() == 1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    import molecule_data

    monkeypatch.setattr(molecule_data, "user_cache_folder", lambda: tmp_path / "cache")
    return tmp_path


@pytest.mark.slow
def test_all_rows_run_once_resume_after_an_interruption_and_say_what_is_in_the_way(
    cache, monkeypatch, capsys
):
    import molecules

    config = molecules.Config(
        rows=("mat", "no-dummy", "gatv2", "graph-network", "gps", "forest", "mean"),
        limit=48,
        num_splits=2,
        seeds=2,
        epochs=2,
        batch_size=16,
        hidden_features=8,
        num_layers=1,
        num_heads=2,
        workers=2,
        progress=False,
        output=cache / "whole",
    )
    few = dataclasses.replace(config, limit=20, output=cache / "few")
    with rejects(SystemExit, "--limit 20: no molecule of split 0 is left to test: take more"):
        molecules.main(few)
    whole = molecules.main(config)
    assert whole == json.loads((cache / "whole" / "result.json").read_text())
    for name, row in whole["rows"].items():
        assert np.shape(row["test"]) == (2, 2), name
        assert np.isfinite(row["test"]).all() and row["diverged"] == [[], []], name
        if "traces" in row:
            assert row["traces"] <= 3, name
    assert {"rows.png", "predicted.png", "attention.png"} <= {
        p.name for p in (cache / "whole").iterdir()
    }
    parts = whole["example"]["parts"]
    assert len({len(part) for part in parts.values()}) == 1
    # The attention of an atom sums to its share, and so do its bonds; what is far counts little.
    assert sum(parts["attention"]) == pytest.approx(0.33, abs=1e-3)
    assert sum(parts["adjacency"]) == pytest.approx(0.34, abs=1e-3)
    out = capsys.readouterr().out
    assert "| MAT, no dummy node " in out and "0.263 ± 0.046" not in out, (
        "a part of a set has no paper"
    )

    assert molecules.main(config) == whole
    assert "the result of this very run already" in capsys.readouterr().out
    with rejects(SystemExit, "seeds: 2 there, 1 here"):
        molecules.main(dataclasses.replace(config, seeds=1))

    # Interrupted at the third training, and gone on with: nothing that has ended is done again.
    some = dataclasses.replace(config, rows=("mat", "mean"), workers=1, output=cache / "some")
    train_one, done = molecules.train_one, []

    def until_third(problem, learner, row, job, after_epoch):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job)
        return train_one(problem, learner, row, job, after_epoch)

    monkeypatch.setattr(molecules, "train_one", until_third)
    with pytest.raises(SystemExit) as stopped:
        molecules.main(some)
    assert stopped.value.code == 130 and not (cache / "some" / "result.json").exists()
    assert "Interrupted with 2 of 4 trainings of MAT ended. --resume" in capsys.readouterr().out
    with rejects(SystemExit, "holds an interrupted run: pass --resume"):
        molecules.main(some)
    again = []
    monkeypatch.setattr(
        molecules, "train_one", lambda *given: again.append(given[3]) or train_one(*given)
    )
    resumed = molecules.main(dataclasses.replace(some, resume=True))
    assert len(again) == 2 and not {*again} & {*done}
    assert resumed["rows"]["mat"]["test"] == whole["rows"]["mat"]["test"]
    assert resumed["example"] == whole["example"]


@pytest.mark.slow
def test_pairs_and_bonds_over_sizes_and_distances(cache, monkeypatch, capsys):
    import fully_connected

    small = fully_connected.Config(
        updates=4, num_splits=2, sizes=(16, 40), hidden_features=8, num_layers=1, progress=False
    )
    sizes = fully_connected.main(dataclasses.replace(small, output=cache / "sizes"))
    for row in sizes["rows"].values():
        assert {size: np.shape(table) for size, table in row.items()} == {
            "16": (2, 1),
            "40": (2, 1),
        }
    assert (cache / "sizes" / "size.png").stat().st_size > 10_000
    assert "| bonds less pairs " in capsys.readouterr().out
    with rejects(SystemExit, "--sizes 600: there are 513 to train on"):
        fully_connected.study_size(
            dataclasses.replace(fully_connected.resolve(small), sizes=(600,))
        )

    config = dataclasses.replace(
        small, study="range", chains=128, depths=(1,), updates=300, learning_rate=1e-2
    )
    found = fully_connected.main(dataclasses.replace(config, output=cache / "range"))
    (bonds,) = np.array(found["rows"]["bonds"]["1"])
    assert bonds.shape == (8,) and bonds[2:].mean() < 0.6
    assert (cache / "range" / "range.png").stat().st_size > 10_000
