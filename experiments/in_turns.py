"""One computation by several libraries, each in a process of its own, in turns; all must give the same numbers."""

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmark_work import forget_peak, peak_memory
from tqdm import tqdm


class Peer(NamedTuple):
    """What one library does: `function(batch, *arguments)` of a module of `peers`, a `Workload` and its values."""

    module: str
    function: str
    arguments: tuple[Any, ...] = ()


def compare(
    peers: Mapping[str, Peer], path: Path, *, rounds: int, runs: int, agreement: float
) -> dict[str, Any]:
    """Time and memory of each, on the arrays in a file.

    Args:
      peers: by name.
      path: an npz file, whose arrays every peer gets.
      rounds: processes for each, in turns.
      runs: timed runs in each process, of which the median counts.
      agreement: by how much, relative, the numbers of two processes may differ.

    Returns:
      By name the seconds of every round and their median, on the clock and of all cores, the memory that runs added
      and the most that the process held, and the seconds of compilation.

    Raises:
      SystemExit: a peer fails, or their numbers differ.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
    for _ in tqdm(range(rounds), unit="round"):
        for name, peer in peers.items():
            found[name].append(_in_a_process(name, peer, path, runs))
    values = {name: [each["values"] for each in results] for name, results in found.items()}
    table = np.concatenate(list(values.values()))
    if not np.allclose(table, table[0], rtol=agreement):
        raise SystemExit(f"the libraries do not agree: {values}")
    return {
        name: {
            "seconds": [each["seconds"] for each in results],
            "median_seconds": float(np.median([each["seconds"] for each in results])),
            "median_cpu_seconds": float(np.median([each["cpu_seconds"] for each in results])),
            "peak_bytes": int(np.median([each["peak_bytes"] for each in results])),
            "run_bytes": int(np.median([each["run_bytes"] for each in results])),
            "compile_seconds": results[-1]["compile_seconds"],
        }
        for name, results in found.items()
    }


def _in_a_process(name: str, peer: Peer, path: Path, runs: int) -> dict[str, Any]:
    arguments = json.dumps([*peer, str(path), runs])
    process = subprocess.run([sys.executable, __file__, arguments], capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{name}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def work(module: str, function: str, arguments: list[Any], path: str, runs: int) -> dict[str, Any]:
    """Set up, run once, time the rest."""
    prepare = getattr(importlib.import_module(f"peers.{module}"), function)
    with np.load(path) as file:
        # What a library copies does not stay here, too.
        workload, values = prepare(dict(file), *arguments)
    resident = forget_peak()
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter(), time.process_time()
        workload.run()
        times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    seconds, of_cores = np.median(times[1:], axis=0)
    return {
        "seconds": float(seconds),
        "cpu_seconds": float(of_cores),
        "peak_bytes": peak_memory(),
        "run_bytes": peak_memory() - resident,
        "compile_seconds": workload.compile_seconds,
        "values": values(),
    }


if __name__ == "__main__":
    print(json.dumps(work(*json.loads(sys.argv[1]))))
