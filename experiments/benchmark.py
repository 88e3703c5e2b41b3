"""Speed and memory of graph attention, side by side with other libraries on the same machine.

    python experiments/benchmark.py --suite epoch        # an epoch of the paper's GAT
    python experiments/benchmark.py --suite seeds        # many seeds of it at once
    python experiments/benchmark.py --suite layer        # one layer on a large power-law graph

Every measurement runs in a process of its own, one after the other, libraries in turn, so that peak memory
is each one's own and drift hits all alike. Libraries that are not installed are left out, and the table
says so; `experiments/README.md` tells how to install them.
"""

import dataclasses
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from report import describe_run, markdown_table, save_result
from tqdm import tqdm

MODULES = {"gatjax": "jax", "gatjax plain": "jax", "pyg": "torch_geometric", "dgl": "dgl"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    suite: Literal["epoch", "seeds", "layer"] = "epoch"
    """An epoch of the paper's GAT on citation graphs, many seeds of it, or one layer on power-law graphs."""
    mechanisms: tuple[Literal["gat", "gatv2", "dot"], ...] = ("gat", "gatv2", "dot")
    """Layers."""
    nodes: int = 169_000
    """Nodes of the power-law graph."""
    edges: int = 2_800_000
    """Edges of the power-law graph."""
    heads: int = 8
    """Attention heads of the layer."""
    features: int = 16
    """Features per head of the layer."""
    datasets: tuple[str, ...] = ("cora", "pubmed")
    """Citation graphs of the epochs and seeds."""
    counts: tuple[int, ...] = (1, 2, 20)
    """Numbers of seeds at once."""
    runs: int = 5
    """Timed runs per process, after one that is not timed."""
    rounds: int = 2
    """Processes per measurement; libraries take turns."""
    output: Path = Path("runs/benchmark")
    """Folder for result.json."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure in one library."""

    library: str
    name: str
    arguments: dict[str, Any]


def power_law_graph(num_nodes: int, num_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers sorted by receiver; both degrees fall off as a power law."""
    random = np.random.default_rng(0)
    weight = np.arange(1, num_nodes + 1) ** -0.6
    chance = weight / weight.sum()
    names = random.permutation(num_nodes)
    senders, receivers = (names[random.choice(num_nodes, num_edges, p=chance)] for _ in range(2))
    order = np.lexsort((senders, receivers))
    return senders[order].astype(np.int32), receivers[order].astype(np.int32)


def cases(config: Config) -> list[Case]:
    if config.suite == "epoch":
        variants = [("gatjax", "auto"), ("gatjax", "dense"), ("pyg", "dense")]
        return [
            Case(
                library,
                f"{dataset}, {features} features",
                {"dataset": dataset, "features": features},
            )
            for dataset in config.datasets
            for library, features in variants
        ]
    if config.suite == "seeds":
        return [
            Case(
                "gatjax", f"{dataset}, seeds at once: {count}", {"dataset": dataset, "count": count}
            )
            for dataset in config.datasets
            for count in config.counts
        ]
    return [
        Case(
            library,
            f"{mechanism}, {'forward and backward' if backward else 'forward'}",
            {"mechanism": mechanism, "backward": backward},
        )
        for mechanism in config.mechanisms
        for backward in (False, True)
        for library in MODULES
    ]


def work(config: Config, case: Case) -> dict[str, Any] | None:
    """In a worker: set up, run once, time the rest."""
    workload = prepare(config, case)
    if workload is None:
        return None
    before = peak_memory()
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
        "peak_bytes": peak_memory(),
        "peak_bytes_before": before,
    }


def prepare(config: Config, case: Case) -> Any:
    """The workload of a case, or None where the library has nothing of the kind."""
    peer = importlib.import_module(f"peers.{case.library.split()[0]}_peer")
    if config.suite != "layer":
        return getattr(peer, config.suite)(**case.arguments)
    graph = *power_law_graph(config.nodes, config.edges), config.nodes
    build = getattr(peer, "plain_layer" if case.library == "gatjax plain" else "layer")
    return build(
        case.arguments["mechanism"],
        *graph,
        config.heads,
        config.features,
        case.arguments["backward"],
    )


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(config: Config, case: Case) -> dict[str, Any] | None:
    """In the main process: let a worker do it."""
    task = json.dumps([dataclasses.asdict(config), dataclasses.asdict(case)], default=str)
    process = subprocess.run(
        [sys.executable, __file__, "worker"], input=task, capture_output=True, text=True
    )
    if process.returncode != 0:
        raise SystemExit(f"{case.library}, {case.name}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def merge(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [second for measured in rounds for second in measured["seconds"]]
    return rounds[-1] | {
        "seconds": seconds,
        "median_seconds": float(np.median(seconds)),
        "peak_bytes": max(measured["peak_bytes"] for measured in rounds),
    }


def table(results: list[dict[str, Any]]) -> str:
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


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Same data set, whatever the layout of features or the number of seeds; same layer."""

    def subject(result: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in result["arguments"].items() if k not in ("features", "count")}

    return subject(one) == subject(other)


def main(config: Config) -> None:
    todo = [case for case in cases(config) if importlib.util.find_spec(MODULES[case.library])]
    absent = {case.library for case in cases(config)} - {case.library for case in todo}
    if absent:
        print(f"Not installed, left out: {', '.join(sorted(absent))} (see experiments/README.md).")
    rounds: dict[int, list[dict[str, Any]]] = {index: [] for index in range(len(todo))}
    with tqdm(total=config.rounds * len(todo), unit="measurement") as bar:
        for _ in range(config.rounds):
            for index, case in enumerate(todo):
                bar.set_postfix_str(f"{case.library}: {case.name}")
                measured = measure(config, case)
                if measured is not None:
                    rounds[index].append(measured)
                bar.update()
    results = [
        dataclasses.asdict(todo[index]) | merge(measured)
        for index, measured in rounds.items()
        if measured
    ]
    print(f"\n{table(results)}")
    result = {"results": results, "config": dataclasses.asdict(config), **describe_run()}
    print(f"\nDetails in {save_result(config.output / 'result.json', result)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        settings, case = json.loads(sys.stdin.read())
        print(json.dumps(work(Config(**settings), Case(**case))))
    else:
        main(tyro.cli(Config))
