"""Speed and memory of graph attention, side by side with other libraries on the same machine.

    python experiments/benchmark.py --suite layer        # one layer on a large power-law graph
    python experiments/benchmark.py --suite graphs       # small graphs, molecules, a hub
    python experiments/benchmark.py --suite options      # edge features and attention dropout
    python experiments/benchmark.py --suite scaling      # time and memory against the number of edges, a plot
    python experiments/benchmark.py --suite floors       # time over the floor of every layer, a plot
    python experiments/benchmark.py --suite widths       # time against heads and features
    python experiments/benchmark.py --suite first        # the paper's first layer, on the data's own features
    python experiments/benchmark.py --suite blocks       # time against the size of a block
    python experiments/benchmark.py --suite scatter      # how this XLA adds rows, in units of a copy
    python experiments/benchmark.py --suite epoch        # an epoch of the paper's GAT
    python experiments/benchmark.py --suite seeds        # many seeds of it at once

Every measurement runs in a process of its own, one after the other, libraries in turn, so that peak memory
is each one's own and drift hits all alike. Libraries that are not installed are left out, and the table
says so; `experiments/README.md` tells how to install them. With `--device gpu` the same runs on an
accelerator, and with `--deterministic` besides, XLA adds in a fixed order there.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tyro
from benchmark_cases import (
    Case,
    Config,
    Problems,
    epoch_cases,
    every_size,
    first_layers,
    graphs,
    layer_cases,
    options,
    phases,
    scatter_cases,
    seed_cases,
    sizes_of_blocks,
    widths,
)
from benchmark_tables import (
    dataset_table,
    floors,
    layer_table,
    scaling,
    scatter_advice,
    scatter_table,
)
from benchmark_work import (
    Measured,
    floor_seconds,
    forget_peak,
    layer_workload,
    peak_memory,
    workload_of_that_name,
)
from outputs import INTERRUPTED, claimed, drawn, find_result, say_found
from peers import Workload
from report import describe_run, save_result
from settings import check
from tqdm import tqdm

MODULES: dict[str, str] = {
    "gatjax": "jax",
    "gatjax plain": "jax",
    "pyg": "torch_geometric",
    "dgl": "dgl",
    "jraph": "jraph",
    "jraphx": "jraphx",
}


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to measure, how a worker does it, how to show the results, and what else to do with them."""

    cases: Callable[[Config], list[Case]]
    workload: Callable[[Config, Case], Workload | None]
    table: Callable[[list[Measured]], str]
    finish: Callable[[Config, list[Measured]], None] = lambda config, results: None


def work(config: Config, case: Case) -> Measured | None:
    """Set up, run once, time the rest."""
    workload = SUITES[config.suite].workload(config, case)
    if workload is None:
        return None
    resident = forget_peak()
    workload.run()
    seconds = []
    for _ in range(config.runs):
        started = time.perf_counter()
        workload.run()
        seconds.append((time.perf_counter() - started) / workload.times)
    peak = peak_memory()
    on_device = workload.peak_bytes() if config.device == "gpu" and workload.peak_bytes else None
    return {
        "seconds": seconds,
        "compile_seconds": workload.compile_seconds,
        "temporary_bytes": workload.temporary_bytes,
        "peak_bytes": on_device or peak,
        "run_bytes": on_device or peak - resident,
        "floor_seconds": floor_seconds(workload),
    }


def measure(config: Config, case: Case) -> Measured | None:
    """Let a worker do it."""
    task = json.dumps([dataclasses.asdict(config), dataclasses.asdict(case)], default=str)
    process = run_python(config, [__file__, "worker"], task)
    if process.returncode < 0:
        print(f"{case.library}, {case.name}: killed by signal {-process.returncode}, left out")
        return None
    if process.returncode != 0:
        raise SystemExit(f"{case.library}, {case.name}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def run_python(
    config: Config, arguments: list[str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Another Python, on the device and with the options asked for."""
    settings = {"JAX_PLATFORMS": "cuda" if config.device == "gpu" else "cpu"}
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        settings["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    return subprocess.run(
        [sys.executable, *arguments],
        input=text,
        capture_output=True,
        text=True,
        env=os.environ | settings,
    )


def check_gpu(config: Config) -> None:
    """Say so at once where there is none."""
    if run_python(config, ["-c", "import jax; jax.devices()"]).returncode:
        raise SystemExit(
            "JAX finds no gpu here. On a machine with an NVIDIA GPU: "
            "pip install -e '.[experiments,cuda]'; anywhere else leave out --device."
        )


def merge(rounds: list[Measured]) -> Measured:
    seconds = [second for measured in rounds for second in measured["seconds"]]
    return rounds[-1] | {
        "seconds": seconds,
        "median_seconds": float(np.median(seconds)),
        "peak_bytes": max(measured["peak_bytes"] for measured in rounds),
        "run_bytes": max(measured["run_bytes"] for measured in rounds),
    }


def table(result: dict[str, Any]) -> str:
    """The table of a result, as its suite has it."""
    return SUITES[result["config"]["suite"]].table(result["results"])


def print_advice(config: Config, results: list[Measured]) -> None:
    if advice := scatter_advice(results):
        print(f"\n{advice}")


def plotted(draw: Callable[[list[Measured]], Any]) -> Callable[[Config, list[Measured]], None]:
    """Keep the picture of a suite, if it can be drawn."""

    return lambda config, results: drawn(config.output / f"{config.suite}.png", draw)(results)


def layer_suite(problems: Callable[[Config], Problems], **options: Any) -> Suite:
    cases = lambda config: layer_cases(config, problems(config))
    return Suite(cases, layer_workload, layer_table, **options)


SUITES = {
    "layer": layer_suite(phases),
    "graphs": layer_suite(graphs),
    "options": layer_suite(options),
    "scaling": layer_suite(
        lambda config: every_size(dataclasses.replace(config, mechanisms=config.mechanisms[:1])),
        finish=plotted(scaling),
    ),
    "floors": layer_suite(every_size, finish=plotted(floors)),
    "widths": layer_suite(widths),
    "first": layer_suite(first_layers),
    "blocks": layer_suite(sizes_of_blocks),
    "scatter": Suite(scatter_cases, workload_of_that_name, scatter_table, print_advice),
    "epoch": Suite(epoch_cases, workload_of_that_name, dataset_table),
    "seeds": Suite(seed_cases, workload_of_that_name, dataset_table),
}


def measure_all(config: Config, cases: list[Case]) -> list[Measured]:
    """All rounds of every case, but of those that were killed."""
    rounds: list[list[Measured]] = [[] for _ in cases]
    with tqdm(total=config.rounds * len(cases), unit="measurement") as bar:
        for _ in range(config.rounds):
            for case, measurements in zip(cases, rounds, strict=True):
                bar.set_postfix_str(f"{case.library}: {case.name}")
                measured = measure(config, case)
                if measured is not None:
                    measurements.append(measured)
                bar.update()
    return [
        dataclasses.asdict(case) | merge(measurements)
        for case, measurements in zip(cases, rounds, strict=True)
        if measurements
    ]


def check_config(config: Config) -> None:
    counts = "nodes edges heads features scaling_edges most_edges_of_others block_numbers counts runs rounds"
    check(config, at_least=dict.fromkeys(counts.split(), 1))


def main(config: Config) -> None:
    """Measure, unless this very measurement is there already."""
    check_config(config)
    with claimed(config.output):
        find_or_measure(config)


def find_or_measure(config: Config) -> None:
    path = config.output / "result.json"
    found = find_result(path, dataclasses.asdict(config), overwrite=config.overwrite)
    if found is not None:
        say_found(path)
        print(f"\n{table(found)}")
        return
    if config.device == "gpu":
        check_gpu(config)
    suite = SUITES[config.suite]
    cases = suite.cases(config)
    todo = [case for case in cases if importlib.util.find_spec(MODULES[case.library])]
    absent = {case.library for case in cases} - {case.library for case in todo}
    if absent:
        print(f"Not installed, left out: {', '.join(sorted(absent))} (see experiments/README.md).")
    results = measure_all(config, todo)
    if not results:
        raise SystemExit("Nothing has been measured: nothing to report.")
    print(f"\n{suite.table(results)}")
    result = {"results": results, "config": dataclasses.asdict(config), **describe_run()}
    save_result(path, result)
    suite.finish(config, results)
    print(f"\nDetails in {path}")


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        settings, case = json.loads(sys.stdin.read())
        print(json.dumps(work(Config(**settings), Case(**case))))
    else:
        try:
            main(tyro.cli(Config))
        except KeyboardInterrupt:
            print("\nInterrupted: no result has been written.")
            raise SystemExit(INTERRUPTED) from None
