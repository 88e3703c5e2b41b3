"""The other experiments with a small budget, and what all of them share."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_a_table_is_markdown_with_aligned_columns():
    from report import markdown_table

    table = markdown_table(["what", "ms"], [["GAT", "1.5"], ["dot product", "20"]])
    assert table.splitlines() == [
        "| what        | ms  |",
        "|-------------|-----|",
        "| GAT         | 1.5 |",
        "| dot product | 20  |",
    ]


def test_mean_and_sample_deviation_by_hand():
    from report import mean_and_sd

    assert mean_and_sd([0.70, 0.72, 0.74]) == "72.0 ± 2.0"
    assert mean_and_sd([0.5]) == "50.0"


def test_every_result_records_what_made_it():
    files = sorted((ROOT / "experiments" / "results").glob("*.json"))
    for file in files:
        result = json.loads(file.read_text(encoding="utf-8"))
        assert {"command", "versions", "hardware", "commit", "config"} <= set(result), file.name
        assert result["commit"] and "dirty" not in result["commit"], file.name
        assert not re.search(r"/(home|root|tmp|work)/", file.read_text(encoding="utf-8")), file.name


DEVICES = (
    "from devices import use_every_core; use_every_core(); import jax; print(len(jax.devices()))"
)


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, os.cpu_count()),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
    ],
)
def test_each_core_is_a_device_unless_the_user_has_said_how_many(environment, number):
    process = subprocess.run(
        [sys.executable, "-c", DEVICES],
        cwd=ROOT / "experiments",
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == str(number), process.stderr


def test_devices_in_use_stay():
    from devices import use_every_core

    use_every_core()
    assert len(jax.devices()) == 2


def test_every_suite_of_the_benchmark_has_cases_and_a_table():
    import benchmark

    names = get_args(get_type_hints(benchmark.Config)["suite"])
    assert set(names) == set(benchmark.SUITES)
    assert all(suite.cases(benchmark.Config()) for suite in benchmark.SUITES.values())


@pytest.mark.slow
def test_a_study_compares_its_rows_pairwise(tmp_path, capsys):
    import controls

    config = controls.Config(study="heads", seeds=2, max_epochs=2, output=tmp_path)
    rows = dict(list(controls.STUDIES["heads"].items())[:1]) | {"8 heads of 8": {}}
    results = {name: controls.run_row(config, name, changes) for name, changes in rows.items()}
    table = controls.table(config, results)
    one, eight = (np.array(results[name]["test_accuracy"]) for name in rows)
    assert f"{100 * (one - eight).mean():+.1f}" in table
    assert "| 1 head of 8" in table

    capsys.readouterr()
    again = controls.run_row(config, "8 heads of 8", {})
    assert again == results["8 heads of 8"]
    assert "8 heads" not in capsys.readouterr().out, "a finished row is read, not run"


@pytest.mark.slow
def test_the_benchmark_measures_time_and_memory(tmp_path, capsys):
    import benchmark

    config = benchmark.Config(
        suite="layer",
        mechanisms=("gat",),
        phases=("forward", "step"),
        nodes=53,
        edges=211,
        heads=2,
        features=3,
        runs=2,
        rounds=1,
        output=tmp_path,
    )
    benchmark.main(config)
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    measured = [result for result in results if result["library"] == "gatjax"]
    assert len(measured) == 2
    for result in measured:
        assert len(result["seconds"]) == 2
        assert result["median_seconds"] > 0
        assert result["peak_bytes"] > 2**20
        assert result["peak_bytes"] > result["run_bytes"] >= 0
    assert "gatjax plain: time" in capsys.readouterr().out


@pytest.mark.slow
def test_the_benchmark_has_every_layer_that_attends():
    from graphs import named
    from peers import Mechanism, Problem, gatjax_peer

    edges = named("power law", 53, 211)
    for mechanism in get_args(Mechanism):
        workload = gatjax_peer.layer(Problem(mechanism, edges, 2, 3, "step"))
        assert (workload.least_bytes or 0) > 4 * 211, mechanism
        workload.run()


@pytest.mark.slow
def test_the_benchmark_tries_sizes_of_blocks(tmp_path, capsys):
    import benchmark

    config = benchmark.Config(
        suite="blocks",
        mechanisms=("gat",),
        block_numbers=(2**10, 2**20),
        nodes=997,
        edges=20_011,
        runs=1,
        deterministic=True,
        output=tmp_path,
    )
    benchmark.main(config)
    small, large = json.loads((tmp_path / "result.json").read_text())["results"]
    assert small["temporary_bytes"] < large["temporary_bytes"], "each in blocks of its own size"
    assert "gat, blocks of 1,024" in capsys.readouterr().out


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="needs a machine without a GPU")
def test_the_benchmark_says_that_there_is_no_gpu(tmp_path):
    import benchmark

    with pytest.raises(SystemExit, match="JAX finds no gpu here.*leave out --device"):
        benchmark.main(benchmark.Config(device="gpu", output=tmp_path))
    assert not (tmp_path / "result.json").exists()


@pytest.mark.slow
def test_the_benchmark_takes_sparse_features(tmp_path):
    import benchmark

    config = benchmark.Config(
        suite="first",
        mechanisms=("gat",),
        datasets=("citeseer",),
        libraries=("gatjax", "jraph"),
        runs=1,
        output=tmp_path,
    )
    benchmark.main(config)
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    ours = {one["arguments"]["layout"]: one for one in results if one["library"] == "gatjax"}
    assert ours["sparse"]["floor_seconds"] < ours["dense"]["floor_seconds"] / 3
    assert [one["name"] for one in results if one["library"] == "jraph"] == [
        f"citeseer, {layout} features, gat" for layout in ("dense", "sparse")
    ]


@pytest.mark.slow
def test_the_benchmark_tells_how_rows_are_added(tmp_path, capsys):
    import benchmark
    import benchmark_tables

    config = benchmark.Config(
        suite="scatter", nodes=997, edges=20_011, heads=2, features=3, runs=1, output=tmp_path
    )
    benchmark.main(config)
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    assert len(results) == 8 and all(one["floor_seconds"] > 0 for one in results)
    assert "ns per number" in capsys.readouterr().out
    slow = [one | {"median_seconds": 51 * one["floor_seconds"]} for one in results[:1]]
    fast = [one | {"median_seconds": 49 * one["floor_seconds"]} for one in results[1:]]
    assert results[0]["name"] in (benchmark_tables.scatter_advice(slow + fast) or "")
    assert benchmark_tables.scatter_advice(fast) is None


def test_the_cases_of_a_library_share_a_process_on_a_gpu_alone():
    import benchmark

    config = benchmark.Config(suite="epoch", datasets=("cora",), libraries=("gatjax", "pyg"))
    cases = benchmark.SUITES["epoch"].cases(config)
    shared = benchmark.in_processes(dataclasses.replace(config, device="gpu"), cases)
    assert shared == [[0, 1, 2], [3]]
    assert benchmark.in_processes(config, cases) == [[0], [1], [2], [3]]


@pytest.mark.slow
def test_a_benchmark_goes_on_after_what_does_not_fit(capsys):
    import benchmark

    config = benchmark.Config(suite="scatter", nodes=11, edges=211, heads=2, features=3, runs=1)
    small = benchmark.SUITES["scatter"].cases(config)[0]
    large = dataclasses.replace(small, arguments=small.arguments | {"rows": 2**50})
    first, none, last = benchmark.measure(config, [small, large, small])
    assert first and last and none is None
    assert "too little memory, left out" in capsys.readouterr().out


def test_a_stopped_benchmark_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    import benchmark

    config = benchmark.Config(
        suite="seeds", datasets=("cora",), counts=(1, 2, 20), rounds=2, output=tmp_path
    )
    names = []

    def measure(stops, config, cases):
        for case in cases:
            if stops and len(names) == 4:
                raise KeyboardInterrupt
            names.append(case.name)
            numbers = {"peak_bytes": 2**30, "run_bytes": 2**20, "compile_seconds": 0.0}
            yield {"seconds": [len(names)], **numbers}

    monkeypatch.setattr(benchmark, "measure", partial(measure, True))
    with pytest.raises(KeyboardInterrupt):
        benchmark.main(config)
    monkeypatch.setattr(benchmark, "measure", partial(measure, False))
    with pytest.raises(SystemExit, match="result of another run .*runs: 5 there, 6 here"):
        benchmark.main(dataclasses.replace(config, runs=6))
    benchmark.main(config)
    assert names == 2 * [f"cora, seeds at once: {count}" for count in (1, 2, 20)]
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [one["seconds"] for one in results] == [[1, 4], [2, 5], [3, 6]]
    assert "seeds at once: 20 | gatjax" in capsys.readouterr().out
    benchmark.main(dataclasses.replace(config, runs=6, overwrite=True))
    assert len(names) == 12


def test_sizes_of_blocks_are_those_of_a_case_alone():
    from peers import gatjax_peer

    from gatjax.ops import blocks

    before = blocks.BLOCK_NUMBERS
    with gatjax_peer.sizes(BLOCK_NUMBERS=before + 1):
        assert before + 1 == blocks.BLOCK_NUMBERS
    assert before == blocks.BLOCK_NUMBERS


@pytest.mark.parametrize("name", ["power law", "regular", "hub", "molecules"])
def test_graphs_to_measure_on(name):
    from graphs import named

    senders, receivers, num_nodes = named(name, 997, 20_011)
    assert (np.diff(receivers) >= 0).all()
    assert 0 <= senders.min() and max(senders.max(), receivers.max()) < num_nodes
    degrees = np.bincount(receivers, minlength=num_nodes)
    if name == "molecules":
        assert len(degrees) == 23_000 and (senders // 23 == receivers // 23).all()
        assert (degrees > 0).all() and degrees.max() < 23
    else:
        assert len(senders) == 20_011
        spread = {"power law": (10, 1000), "regular": (1, 1.1), "hub": (80, 120)}[name]
        assert spread[0] <= degrees.max() / np.median(degrees) <= spread[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"kills": 2, "seeds": 2, "max_epochs": 60},
        {"kills": 1, "seeds": 1, "max_epochs": 6, "training": "sampled"},
    ],
    ids=["citation", "sampled"],
)
def test_killed_and_resumed_is_bit_identical(tmp_path, options, monkeypatch):
    import kill_and_resume

    # As users have it: what the undisturbed run has compiled, the others find, in a folder of this test.
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = kill_and_resume.Config(**options, longest=1.0, output=tmp_path / "run")
    kill_and_resume.main(config)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["bit_identical"] and result["kills"] == options["kills"]
