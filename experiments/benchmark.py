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
accelerator, all of a library in one process, since such a device counts its memory by itself; with
`--deterministic` besides, XLA adds in a fixed order there. Each measurement is kept as it is made: a stopped
benchmark goes on where it was.
"""

import contextlib
import dataclasses
import gc
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
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
from outputs import INTERRUPTED, drawn, find_result, made_once
from peers import Workload
from report import library_versions, save_result
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
    """What to measure, how a worker does it, how to show the results, what they advise, and a picture of them."""

    cases: Callable[[Config], list[Case]]
    workload: Callable[[Config, Case], Workload | None]
    table: Callable[[list[Measured]], str]
    advice: Callable[[list[Measured]], str | None] = lambda results: None
    picture: Callable[[list[Measured]], Any] | None = None


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
    return {
        "seconds": seconds,
        "compile_seconds": workload.compile_seconds,
        "temporary_bytes": workload.temporary_bytes,
        **memory(config, workload, resident),
        "floor_seconds": floor_seconds(workload),
    }


def memory(config: Config, workload: Workload, resident: int) -> Measured:
    """What the runs took: of a GPU's memory where there is one, else of the process, which held so much before them."""
    if config.device == "gpu":
        return {"run_bytes": workload.device_bytes() if workload.device_bytes else None}
    peak = peak_memory()
    return {"peak_bytes": peak, "run_bytes": peak - resident}


def work_through(config: Config, cases: Iterable[Case]) -> None:
    """Print what each case gives as a line of JSON, false where memory is too small, and nothing else."""
    lines = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for case in cases:
            try:
                measured = work(config, case)
            except Exception as error:
                if not is_shortage(error):
                    raise
                measured = False
            print(json.dumps(measured), file=lines, flush=True)
            gc.collect()
            jax.clear_caches()


def is_shortage(error: Exception) -> bool:
    """Whether it is what JAX, PyTorch or NumPy raise where an array does not fit."""
    return any(
        words in str(error)
        for words in ("RESOURCE_EXHAUSTED", "out of memory", "Unable to allocate")
    )


def measure(config: Config, cases: list[Case]) -> Iterator[Measured | None]:
    """What a worker measures of cases of one library; None of what the library has not, or has no room for."""
    left = list(cases)
    while left:
        with tempfile.TemporaryFile("w+") as task, tempfile.TemporaryFile("w+") as errors:
            json.dump([dataclasses.asdict(part) for part in (config, *left)], task, default=str)
            task.seek(0)
            worker = python(config, [__file__, "worker"], stdin=task, stderr=errors)
            with worker:
                for line in worker.stdout or ():
                    case, measured = left.pop(0), json.loads(line)
                    if measured is False:
                        print(f"{case.library}, {case.name}: too little memory, left out")
                    yield measured or None
            errors.seek(0)
            if left and worker.returncode >= 0:
                raise SystemExit(f"{left[0].library}, {left[0].name}:\n{errors.read()}")
        if left:
            case = left.pop(0)
            print(f"{case.library}, {case.name}: killed by signal {-worker.returncode}, left out")
            yield None


def python(config: Config, arguments: list[str], **streams: Any) -> subprocess.Popen[str]:
    """Another Python, on the device and with the options asked for.

    On a GPU products are in float32, PyTorch's default; JAX by itself rounds their factors to fewer digits.
    """
    settings = {"JAX_PLATFORMS": "cpu"}
    if config.device == "gpu":
        precision = os.environ.get("JAX_DEFAULT_MATMUL_PRECISION", "highest")
        settings = {"JAX_PLATFORMS": "cuda", "JAX_DEFAULT_MATMUL_PRECISION": precision}
    if config.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")
        settings["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true"
    command, environment = [sys.executable, *arguments], os.environ | settings
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **streams)


def check_gpu(config: Config) -> None:
    """Say so at once where there is none."""
    looking = python(config, ["-c", "import jax; jax.devices()"], stderr=subprocess.DEVNULL)
    looking.communicate()
    if looking.returncode:
        raise SystemExit(
            "JAX finds no gpu here. On a machine with an NVIDIA GPU: "
            "pip install -e '.[experiments,cuda]'; anywhere else leave out --device."
        )


def merge(rounds: list[Measured]) -> Measured:
    """All times of a case, and the most memory."""
    seconds = [second for measured in rounds for second in measured["seconds"]]
    known = {
        name: [measured[name] for measured in rounds if measured.get(name) is not None]
        for name in ("peak_bytes", "run_bytes")
    }
    most = {name: max(numbers) for name, numbers in known.items() if numbers}
    return rounds[-1] | {"seconds": seconds, "median_seconds": float(np.median(seconds))} | most


def table(result: dict[str, Any]) -> str:
    """The table of a result, as its suite has it."""
    return SUITES[result["config"]["suite"]].table(result["results"])


def layer_suite(problems: Callable[[Config], Problems], **options: Any) -> Suite:
    cases = lambda config: layer_cases(config, problems(config))
    return Suite(cases, layer_workload, layer_table, **options)


SUITES = {
    "layer": layer_suite(phases),
    "graphs": layer_suite(graphs),
    "options": layer_suite(options),
    "scaling": layer_suite(
        lambda config: every_size(dataclasses.replace(config, mechanisms=config.mechanisms[:1])),
        picture=scaling,
    ),
    "floors": layer_suite(every_size, picture=floors),
    "widths": layer_suite(widths),
    "first": layer_suite(first_layers),
    "blocks": layer_suite(sizes_of_blocks),
    "scatter": Suite(scatter_cases, workload_of_that_name, scatter_table, scatter_advice),
    "epoch": Suite(epoch_cases, workload_of_that_name, dataset_table),
    "seeds": Suite(seed_cases, workload_of_that_name, dataset_table),
}


def measure_all(config: Config, cases: list[Case]) -> list[Measured]:
    """All rounds of every case, but of those that were killed or found no room."""
    rounds: list[list[Measured]] = [[] for _ in cases]
    with tqdm(total=config.rounds * len(cases), unit="measurement") as bar:
        for turn in range(config.rounds):
            for numbers in in_processes(config, cases):
                kept = {number: find_kept(config, turn, cases[number]) for number in numbers}
                left = [number for number, measured in kept.items() if measured is None]
                made = measure(config, [cases[number] for number in left])
                for number in numbers:
                    case, measured = cases[number], kept[number]
                    bar.set_postfix_str(f"{case.library}: {case.name}")
                    if measured is None and (measured := next(made)) is not None:
                        keep(config, turn, case, measured)
                    rounds[number] += [measured] if measured else []
                    bar.update()
    return [
        dataclasses.asdict(case) | merge(measurements)
        for case, measurements in zip(cases, rounds, strict=True)
        if measurements
    ]


def find_kept(config: Config, turn: int, case: Case) -> Measured | None:
    """What a run with these settings that was stopped has measured, if it has."""
    path = path_of(config, turn, case)
    if config.overwrite or not path.exists():
        return None
    found = find_result(path, dataclasses.asdict(config), overwrite=False)
    return found and found["measured"]


def keep(config: Config, turn: int, case: Case, measured: Measured) -> None:
    made_by = {"config": dataclasses.asdict(config), "versions": library_versions()}
    save_result(path_of(config, turn, case), {"measured": measured, **made_by})


def path_of(config: Config, turn: int, case: Case) -> Path:
    name = re.sub(r"\W+", "-", f"{turn + 1} {case.library} {case.name}")
    return config.output / "measurements" / f"{name}.json"


def in_processes(config: Config, cases: list[Case]) -> list[list[int]]:
    """Which cases share a process: on a GPU those of a library, else none, for each to have a peak of its own."""
    if config.device == "cpu":
        return [[number] for number in range(len(cases))]
    libraries = dict.fromkeys(case.library for case in cases)
    return [
        [number for number, case in enumerate(cases) if case.library == library]
        for library in libraries
    ]


def check_config(config: Config) -> None:
    counts = "nodes edges heads features scaling_edges most_edges_of_others block_numbers counts runs rounds"
    check(config, at_least=dict.fromkeys(counts.split(), 1))


def main(config: Config) -> None:
    """Measure, unless this very measurement is there already."""
    check_config(config)
    suite = SUITES[config.suite]
    draw = lambda result: None
    if suite.picture is not None:
        picture = drawn(config.output / f"{config.suite}.png", suite.picture)
        draw = lambda result: picture(result["results"])
    result = made_once(config, make_result, draw)
    print(f"\n{table(result)}")
    if advice := suite.advice(result["results"]):
        print(f"\n{advice}")
    print(f"\nDetails in {config.output / 'result.json'}")


def make_result(config: Config) -> dict[str, Any]:
    """Every case of the suite in the libraries that are installed."""
    if config.device == "gpu":
        check_gpu(config)
    cases = SUITES[config.suite].cases(config)
    todo = [case for case in cases if importlib.util.find_spec(MODULES[case.library])]
    absent = {case.library for case in cases} - {case.library for case in todo}
    if absent:
        print(f"Not installed, left out: {', '.join(sorted(absent))} (see experiments/README.md).")
    results = measure_all(config, todo)
    if not results:
        raise SystemExit("Nothing has been measured: nothing to report.")
    return {"results": results}


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        settings, *tasks = json.load(sys.stdin)
        work_through(Config(**settings), [Case(**task) for task in tasks])
    else:
        try:
            main(tyro.cli(Config))
        except KeyboardInterrupt:
            print("\nInterrupted: the same command goes on with what is left to measure.")
            raise SystemExit(INTERRUPTED) from None
