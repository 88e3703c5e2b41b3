"""Speed and memory of graph attention, side by side with other libraries on the same machine.

    python experiments/benchmark.py --suite layer        # one layer on a large power-law graph
    python experiments/benchmark.py --suite graphs       # small graphs, molecules, a hub
    python experiments/benchmark.py --suite options      # edge features and attention dropout
    python experiments/benchmark.py --suite scaling      # time and memory against the number of edges, a plot
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
import importlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from graphs import features_of, named
from outputs import INTERRUPTED, claimed, find_result, say_found, try_to_plot
from peers import Mechanism, Phase, Problem, Workload
from report import describe_run, markdown_table, save_result
from settings import check
from tqdm import tqdm

Library = Literal["gatjax", "gatjax plain", "pyg", "dgl", "jraph", "jraphx"]
MODULES: dict[str, str] = {
    "gatjax": "jax",
    "gatjax plain": "jax",
    "pyg": "torch_geometric",
    "dgl": "dgl",
    "jraph": "jraph",
    "jraphx": "jraphx",
}

Measured = dict[str, Any]

# So many times a copy, and rows are added one after the other, or by compare-and-swap.
SLOW_SCATTER = 50


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    suite: Literal[
        "layer",
        "graphs",
        "options",
        "scaling",
        "widths",
        "first",
        "blocks",
        "scatter",
        "epoch",
        "seeds",
    ] = "layer"
    """What to measure; see the top of the file."""
    libraries: tuple[Library, ...] = get_args(Library)
    """Libraries to compare."""
    mechanisms: tuple[Mechanism, ...] = ("gat", "gatv2", "dot")
    """Layers; PyTorch Geometric's for relations holds a matrix per edge, so that only small graphs fit."""
    phases: tuple[Phase, ...] = get_args(Phase)
    """Forward; forward and backward; a step of Adam. The suites beside "layer" measure the gradient alone."""
    nodes: int = 169_000
    """Nodes of the made-up graphs."""
    edges: int = 2_800_000
    """Edges of the made-up graphs."""
    heads: int = 8
    """Attention heads of the layer."""
    features: int = 16
    """Features per head of the layer."""
    graphs: tuple[str, ...] = ("cora", "pubmed", "molecules", "regular", "hub")
    """Graphs of the suite "graphs"."""
    scaling_edges: tuple[int, ...] = (100_000, 300_000, 1_000_000, 3_000_000)
    """Numbers of edges of the suite "scaling"; the mean degree is 16."""
    most_edges_of_others: int = 3_000_000
    """Larger graphs are for gatjax alone: the others would need tens of gigabytes."""
    block_numbers: tuple[int, ...] = tuple(2**power for power in range(14, 25, 2))
    """Sizes of the suite "blocks": numbers E·H·C in one."""
    datasets: tuple[str, ...] = ("cora", "pubmed")
    """Citation graphs of the epochs, seeds and first layers."""
    counts: tuple[int, ...] = (1, 2, 20)
    """Numbers of seeds at once."""
    runs: int = 5
    """Timed runs per process, after one that is not timed."""
    rounds: int = 1
    """Processes per measurement; libraries take turns."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where to measure."""
    deterministic: bool = False
    """Let XLA add in a fixed order on a GPU: the same bits in every run."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/benchmark")
    """Folder for result.json."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure in one library."""

    library: str
    name: str
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to measure, how a worker does it, how to show the results, and what else to do with them."""

    cases: Callable[[Config], list[Case]]
    workload: Callable[[Config, Case], Workload | None]
    table: Callable[[list[Measured]], str]
    finish: Callable[[Config, list[Measured]], None] = lambda config, results: None


# Names, and what tells one `Problem` from another.
Problems = list[tuple[str, dict[str, Any]]]


def phases(config: Config) -> Problems:
    return [
        (f"{mechanism}, {phase}", {"mechanism": mechanism, "phase": phase})
        for mechanism in config.mechanisms
        for phase in config.phases
    ]


def graphs(config: Config) -> Problems:
    return [
        (f"{graph}, {mechanism}", {"mechanism": mechanism, "graph": graph})
        for graph in config.graphs
        for mechanism in config.mechanisms
    ]


def options(config: Config) -> Problems:
    each = {
        "neither": {},
        "attention dropout": {"dropout": 0.6},
        "edge features": {"edge_features": 16},
        "both": {"dropout": 0.6, "edge_features": 16},
    }
    return [
        (f"{mechanism}, {name}", {"mechanism": mechanism, **option})
        for mechanism in config.mechanisms
        for name, option in each.items()
    ]


def numbers_of_edges(config: Config) -> Problems:
    first = config.mechanisms[0]
    return [
        (f"{first}, {edges:,} edges", {"mechanism": first, "edges": edges, "nodes": edges // 16})
        for edges in config.scaling_edges
    ]


def widths(config: Config) -> Problems:
    sizes = [(heads, config.features) for heads in (1, 2, 4, 8, 16)]
    sizes += [(config.heads, features) for features in (4, 8, 32)]
    return [
        (
            f"{mechanism}, {heads} x {features}",
            {"mechanism": mechanism, "heads": heads, "features": features},
        )
        for mechanism in config.mechanisms
        for heads, features in sizes
    ]


def first_layers(config: Config) -> Problems:
    return [
        (
            f"{dataset}, {layout} features, {mechanism}",
            {"mechanism": mechanism, "graph": dataset, "layout": layout, "features": 8},
        )
        for dataset in config.datasets
        for mechanism in config.mechanisms
        for layout in ("dense", "sparse")
    ]


def sizes_of_blocks(config: Config) -> Problems:
    return [
        (f"{mechanism}, blocks of {numbers:,}", {"mechanism": mechanism, "block_numbers": numbers})
        for mechanism in config.mechanisms
        for numbers in config.block_numbers
    ]


def layer_cases(config: Config, problems: Problems) -> list[Case]:
    return [
        Case(library, name, {"graph": "power law", "phase": "gradient", **arguments})
        for name, arguments in problems
        for library in config.libraries
        if library == "gatjax" or _can_take(config, arguments)
    ]


def _can_take(config: Config, arguments: dict[str, Any]) -> bool:
    """Whether libraries beside gatjax have such a thing, and can do it in the memory of one machine."""
    return (
        "block_numbers" not in arguments
        and arguments.get("edges", 0) <= config.most_edges_of_others
    )


# Cases of more, or of less, than a layer.


def scatter_cases(config: Config) -> list[Case]:
    """Rows added into few and into many, in order and not, in both widths of a number."""
    width, rows = config.heads * config.features, min(config.edges, 2**20)
    return [
        Case(
            "gatjax",
            f"{dtype}, into {targets:,} rows, {order}",
            {"width": width, "rows": rows, "targets": targets, "order": order, "dtype": dtype},
        )
        for dtype in ("float32", "bfloat16")
        for targets in (8, config.nodes)
        for order in ("sorted", "in any order")
    ]


def epoch_cases(config: Config) -> list[Case]:
    variants = [
        ("gatjax", "auto", "pyg"),
        ("gatjax", "dense", "pyg"),
        ("gatjax", "auto", "original"),
        ("pyg", "dense", "pyg"),
    ]
    return [
        Case(
            library,
            f"{dataset}, {features} features, dropouts of {dropouts}",
            {"dataset": dataset, "features": features, "dropouts": dropouts},
        )
        for dataset in config.datasets
        for library, features, dropouts in variants
        if library in config.libraries
    ]


def seed_cases(config: Config) -> list[Case]:
    return [
        Case("gatjax", f"{dataset}, seeds at once: {count}", {"dataset": dataset, "count": count})
        for dataset in config.datasets
        for count in config.counts
    ]


# What a worker does.


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


def peer_of(case: Case) -> Any:
    """The file of the case's library, imported here so that a process loads no other."""
    return importlib.import_module(f"peers.{case.library.split()[0]}_peer")


def layer_workload(config: Config, case: Case) -> Workload | None:
    """A layer, or None where the library has nothing of the kind."""
    peer = peer_of(case)
    make = peer.plain_layer if case.library == "gatjax plain" else peer.layer
    return make(problem_of(config, case))


def workload_of_that_name(config: Config, case: Case) -> Workload | None:
    return getattr(peer_of(case), config.suite)(**case.arguments)


def problem_of(config: Config, case: Case) -> Problem:
    settings = {"heads": config.heads, "features": config.features, "device": config.device}
    settings |= case.arguments
    sizes = settings.pop("nodes", config.nodes), settings.pop("edges", config.edges)
    name, layout = settings.pop("graph"), settings.pop("layout", None)
    if layout is not None:
        # The others take dense features only.
        layout = layout if case.library.startswith("gatjax") else "dense"
        settings["inputs"] = features_of(name, layout)
    return Problem(edges=named(name, *sizes), **settings)


def floor_seconds(workload: Workload) -> float | None:
    """The time in which this device's memory can move what the work must, at the speed of a plain copy."""
    if workload.least_bytes is None:
        return None
    return workload.least_bytes / importlib.import_module("peers.gatjax_peer").copy_bandwidth()


def forget_peak() -> int:
    """Resident bytes now, from which the peak is counted anew where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return peak_memory()


def peak_memory() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


# What the main process does: workers, one after the other, and tables of what they return.


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


def dataset_table(results: list[Measured]) -> str:
    """Medians, and their ratio to the first gatjax measurement of the same thing."""
    rows = []
    for result in results:
        same = [other for other in results if other["library"] == "gatjax" and alike(other, result)]
        ratio = result["median_seconds"] / same[0]["median_seconds"]
        rows.append(
            [
                result["name"],
                result["library"],
                f"{1e3 * result['median_seconds']:.1f}",
                f"{ratio:.2f}",
                f"{result['peak_bytes'] / 2**30:.2f}",
                f"{result['compile_seconds']:.1f}",
            ]
        )
    header = [
        "what",
        "library",
        "median (ms)",
        "time / gatjax",
        "process peak (GiB)",
        "compile (s)",
    ]
    return markdown_table(header, rows)


def scatter_table(results: list[Measured]) -> str:
    """Time per number added, and in units of the copy that moves as many bytes."""
    rows = []
    for result in results:
        numbers = result["arguments"]["rows"] * result["arguments"]["width"]
        per_number = 1e9 * result["median_seconds"] / numbers
        rows.append(
            [
                result["name"],
                f"{1e3 * result['median_seconds']:.1f}",
                f"{per_number:.3f}",
                f"{result['median_seconds'] / result['floor_seconds']:.1f}x",
            ]
        )
    return markdown_table(["rows added", "median (ms)", "ns per number", "over a copy"], rows)


def scatter_advice(results: list[Measured]) -> str | None:
    """What to do where adding rows is out of all proportion to copying them."""
    slow = [one for one in results if one["median_seconds"] > SLOW_SCATTER * one["floor_seconds"]]
    if not slow:
        return None
    names = "; ".join(one["name"] for one in slow)
    return (
        f"This XLA adds slowly here ({names}). On an NVIDIA GPU with jaxlib 0.10.2 to 0.11.0, float32 sums are a\n"
        "loop of compare-and-swap; set XLA_FLAGS as experiments/README.md says, or change the version of jaxlib."
    )


def alike(one: Measured, other: Measured) -> bool:
    """Same data set, whatever the layout of features, the dropouts or the number of seeds."""
    return one["arguments"]["dataset"] == other["arguments"]["dataset"]


def layer_table(results: list[Measured]) -> str:
    """One row per problem: our time and memory, and those of the others as multiples of ours."""
    libraries = [name for name in MODULES if any(one["library"] == name for one in results)]
    others = [name for name in libraries if name != "gatjax"]
    rows = []
    for name in dict.fromkeys(result["name"] for result in results):
        found = {result["library"]: result for result in results if result["name"] == name}
        ours = found.get("gatjax")
        if ours is None:
            continue
        times = [_ratio(found.get(other), ours, "median_seconds") for other in others]
        memories = [_ratio(found.get(other), ours, "run_bytes") for other in others]
        rows.append(
            [
                name,
                f"{1e3 * ours['median_seconds']:.1f}",
                *times,
                f"{ours['median_seconds'] / ours['floor_seconds']:.1f}x",
                f"{ours['run_bytes'] / 2**20:.0f}",
                *memories,
                f"{ours['compile_seconds']:.1f}",
            ]
        )
    header = [
        "layer",
        "gatjax (ms)",
        *(f"{name}: time" for name in others),
        "over the floor",
        "gatjax (MiB)",
        *(f"{name}: memory" for name in others),
        "compile (s)",
    ]
    return markdown_table(header, rows)


def _ratio(other: Measured | None, ours: Measured, field: str) -> str:
    return "-" if other is None or not ours[field] else f"{other[field] / ours[field]:.1f}x"


def print_advice(config: Config, results: list[Measured]) -> None:
    if advice := scatter_advice(results):
        print(f"\n{advice}")


def plot_scaling(config: Config, results: list[Measured]) -> None:
    from gatjax import plots

    try_to_plot(config.output / "scaling.png", lambda path: plots.save(scaling(results), path))


def scaling(results: list[Measured]) -> Any:
    """Time and memory against the number of edges, one line per library."""
    import matplotlib.pyplot as plt

    from gatjax import plots

    with plt.rc_context(dict(plots.STYLE)):
        _, panels = plt.subplots(1, 2, figsize=(plots.PAGE, 2.4))
        fields = {"median_seconds": ("time (s)", 1), "run_bytes": ("memory (GiB)", 2**30)}
        for axes, (field, (label, unit)) in zip(panels, fields.items(), strict=True):
            for place, library in enumerate(dict.fromkeys(one["library"] for one in results)):
                line = [one for one in results if one["library"] == library]
                edges = [one["arguments"]["edges"] for one in line]
                values = [one[field] / unit for one in line]
                axes.plot(edges, values, marker=plots.MARKERS[place], label=library)
            axes.set(xscale="log", yscale="log", xlabel="edges", ylabel=label)
            axes.grid(linewidth=0.3, color="0.85")
        panels[0].legend()
    return panels[0]


def layer_suite(problems: Callable[[Config], Problems], **options: Any) -> Suite:
    cases = lambda config: layer_cases(config, problems(config))
    return Suite(cases, layer_workload, layer_table, **options)


SUITES = {
    "layer": layer_suite(phases),
    "graphs": layer_suite(graphs),
    "options": layer_suite(options),
    "scaling": layer_suite(numbers_of_edges, finish=plot_scaling),
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
