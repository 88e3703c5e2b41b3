"""The traffic experiment on a small series in the files of DCRNN, and the arithmetic of its scores by hand."""

import dataclasses
import json
import pickle

import h5py
import numpy as np
import pytest
from helpers import rejects

from gatjax.data import Traffic, load_traffic, split_in_time

SENSORS, STEPS, STEP_MINUTES = 4, 3 * 288, 5


def write(folder, *, sensors=("a", "b", "c", "d"), of_graph=None, start=0):
    """Sines of a day, each sensor a little after the one before, and what pandas and DCRNN make of it."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    phase = 2 * np.pi * np.arange(STEPS)[:, None] / 288 - np.arange(len(sensors))
    series = 50 + 10 * np.sin(phase) + random.normal(size=phase.shape)
    series[7, 1] = 0
    with h5py.File(folder / "metr-la.h5", "w") as file:
        frame = file.create_group("df")
        frame["block0_values"] = series
        frame["axis0"] = np.array([name.encode() for name in sensors])
        minute = np.int64(60_000_000_000)
        frame["axis1"] = (start + 5 * np.arange(STEPS)) * minute
    names = list(of_graph or sensors)
    adjacency = (np.eye(len(names)) + np.eye(len(names), k=1)).astype(np.float32)
    content = [names, {name: i for i, name in enumerate(names)}, adjacency]
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return series


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    return tmp_path / "dcrnn"


def test_the_files_of_dcrnn(folder):
    with rejects(
        FileNotFoundError, "which lacks metr-la.h5 and adj_mx.pkl: put the files of DCRNN"
    ):
        load_traffic("metr-la")
    series = write(folder, start=600)
    traffic = load_traffic("metr-la")
    assert repr(traffic) == (
        "Traffic('metr-la': 4 sensors, 864 steps of 5 minutes, 7 edges, 1 value missing)"
    )
    assert np.isnan(traffic.series[7, 1]) and traffic.series[8, 2] == np.float32(series[8, 2])
    assert traffic.step_of_day[:2].tolist() == [120, 121] and traffic.sensors[3] == "d"
    graph, weight = traffic.graph()
    pairs = set(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    assert (0, 1) in pairs and (1, 0) not in pairs and weight.tolist() == [1] * 7
    write(folder, of_graph=("a", "b", "d", "c"))
    with rejects(ValueError, "adj_mx.pkl names other sensors than metr-la.h5"):
        load_traffic("metr-la")
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps(print))
    with rejects(ValueError, "adj_mx.pkl: refused: it names builtins.print"):
        load_traffic("metr-la")


def test_scores_by_hand():
    """Two windows, two steps, one sensor: errors 1, 3 and 5, 7."""
    from traffic_scores import difference, scores_of

    series = np.arange(12.0)[:, None]
    traffic = Traffic("line", series, np.eye(1))
    split = split_in_time(12, train=0.25, validation=0.25)
    starts = np.array([6, 7])
    target = series[starts[:, None] + 2 + np.arange(2)]
    forecast = target + np.array([[[1.0], [3.0]], [[5.0], [7.0]]])
    scores = scores_of([forecast], traffic, split, starts, 2, {"5": 1, "10": 2})
    np.testing.assert_allclose(scores.up_to("5"), [[np.sqrt(13), 3]])
    np.testing.assert_allclose(scores.up_to("10"), [[np.sqrt(21), 4]])
    np.testing.assert_allclose(scores.at_step["10"], [[np.sqrt(29), 5]])
    none = scores_of([target], traffic, split, starts, 2, {"5": 1, "10": 2})
    found = difference(scores, none)["10"]
    assert found["mean"] == pytest.approx(np.sqrt(21)) and found["interval"][0] >= np.sqrt(5) - 1e-9


def test_forecasts_without_a_network_by_hand():
    from traffic_baselines import BASELINES, Past, time_of_day_series

    daily = np.tile([[10.0, 1.0], [20.0, 5.0], [30.0, 3.0], [20.0, 4.0]], (5, 1))
    traffic = Traffic("four steps a day", daily, np.eye(2), step_minutes=360)
    past, starts = Past(traffic, range(16), 2, 2), np.array([16])
    of = lambda name: BASELINES[name](past, starts)[0, :, 0].tolist()
    assert of("last value") == [20, 20] and of("time of day") == [30, 20]
    assert of("moving mean") == [15, 17.5]
    ramp = Traffic("ramp", np.arange(40.0).reshape(20, 2), np.eye(2), step_minutes=360)
    np.testing.assert_allclose(
        BASELINES["linear"](past._replace(traffic=ramp), starts)[0], [[36, 37], [38, 39]], atol=1e-4
    )
    # A step is no part of its own mean: day 0 is 0 where the three others are 10.
    odd = daily.copy()
    odd[0, 0] = 0
    of_day = time_of_day_series(Traffic("odd", odd, np.eye(2), step_minutes=360), range(16))
    assert of_day[0, 0] == 10 and of_day[4, 0] == pytest.approx(20 / 3)
    assert of_day[16, 0] == pytest.approx(7.5)


def test_published_errors_stand_at_their_horizons():
    from traffic import PUBLISHED
    from traffic_report import table

    row = {"up_to": {"5": [[1.0, 2.0]], "15": [[3.0, 4.0]]}}
    result = {"horizons": {"5": 1, "15": 3}, "rows": {"gru": row}, "config": {"seeds": 1}}
    lines = table(result | {"published": PUBLISHED["los-loop"]}).splitlines()
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == [
        "T-GCN (paper)",
        "-",
        "5.13 / 3.18",
    ]


TINY = (
    "--data metr-la --steps-in 4 --steps-out 4 --hidden-features 4 --epochs 2 --steps-per-epoch 2 "
    "--batch-size 8 --validation-stride 16 --no-progress"
).split()


@pytest.mark.slow
def test_a_run_its_result_and_its_resumption(folder, tmp_path, capsys):
    import traffic
    import tyro

    write(folder, start=600)
    run = lambda *more: traffic.main(
        tyro.cli(traffic.Config, args=[*TINY, "--output", str(tmp_path / "run"), *more])
    )
    result = run("--models", "gru", "ggru", "--seeds", "2")
    said = capsys.readouterr().out
    assert "RMSE / MAE, 2 seeds" in said and "ggru - linear + time of day" in said
    names = {path.name for path in (tmp_path / "run").glob("*")}
    assert {"result.json", "errors.png", "day.png", "attention.png"} <= names
    assert not list((tmp_path / "run").glob("*/checkpoints"))
    row = result["rows"]["ggru"]
    assert np.shape(row["up_to"]["20"]) == (2, 2) and np.isfinite(row["up_to"]["20"]).all()
    for alpha in row["attention"]["alpha"].values():
        assert sum(alpha) == pytest.approx(1, abs=1e-5)
    assert run("--models", "gru", "ggru", "--seeds", "2") == json.loads(
        (tmp_path / "run" / "result.json").read_text()
    )
    assert "is the result of this very run already" in capsys.readouterr().out
    with rejects(SystemExit, "is the result of another run"):
        run("--models", "gru", "--seeds", "2")


@pytest.mark.slow
def test_step_by_step_and_the_other_cells(folder, tmp_path):
    import traffic
    import tyro

    write(folder)
    args = [*TINY, "--output", str(tmp_path / "run"), "--head", "decoder"]
    args += "--models mean t-gcn gat dot-product --epochs 1".split()
    result = traffic.main(tyro.cli(traffic.Config, args=args))
    for name in ("mean", "t-gcn", "gat", "dot-product"):
        assert np.isfinite(result["rows"][name]["up_to"]["20"]).all(), name


def test_what_no_run_can_have_is_said(folder, tmp_path):
    import traffic

    write(folder)
    config = traffic.Config(data="metr-la", output=tmp_path / "run", progress=False)
    said = {
        "--steps-out 0: must be at least 1": {"steps_out": 0},
        "fewer than a window of steps_in=500 and steps_out=12": {"steps_in": 500},
        "--validation 0.0: some of the time must be left": {"validation": 0.0},
        "must be shares that leave some of the time for the test": {"validation": 0.4},
        "there are 581 windows to train on": {"batch_size": 1000},
        "names one twice": {"models": ("gru", "gru")},
        "GATJAX_DATA": {"data": "pems-bay"},
    }
    for message, changes in said.items():
        with rejects(SystemExit, message):
            traffic.main(dataclasses.replace(config, **changes))
