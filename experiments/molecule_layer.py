"""One layer of the molecule attention transformer, forward and gradient, beside a plain one in PyTorch.

    python experiments/molecule_layer.py

The same weights on the same molecules, padded to the largest of them. Every measurement runs in a process of its own,
in turns; all of them must give the same loss and gradient. Needs RDKit and PyTorch, and the data in GATJAX_DATA.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import script
from benchmark import forget_peak, peak_memory
from outputs import claimed, find_result, say_found
from report import describe_run, markdown_table, save_result
from settings import check
from tqdm import tqdm

from gatjax.data import featurize_all, load_molecules
from gatjax.graph import Slots, pad

LIBRARIES = {"gatjax": "jax", "gatjax, edges": "jax", "torch": "torch"}
WEIGHTS = 0.33, 0.33, 0.34
# Relative, of a loss and a norm that are sums of thousands of float32.
AGREEMENT = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    dataset: str = "esol"
    """Molecules, as `load_molecules` knows them."""
    batch_sizes: tuple[int, ...] = (8, 32, 128)
    """Molecules in a batch, drawn at random."""
    features: int = 64
    """Width of the layer."""
    heads: int = 4
    """Attention heads."""
    rounds: int = 7
    """Processes per measurement; libraries take turns."""
    runs: int = 41
    """Timed runs per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/molecule-layer")
    """Folder for result.json."""


def drawn(config: Config, count: int, folder: Path) -> Path:
    """A batch of molecules with random features and weights, as arrays in a file."""
    random = np.random.default_rng(0)
    molecules = load_molecules(config.dataset)
    rows = random.permutation(len(molecules))[:count]
    graphs, failures = featurize_all(molecules.take(np.sort(rows)).smiles, dummy=True)
    if failures:
        raise SystemExit(f"{len(failures)} of the molecules have no coordinates: {failures[0]}")
    size = max(int(graph.n_node[0]) for graph in graphs)
    graph, masks = pad(graphs, Slots(size, len(graphs)))
    edges: Any = graph.edges
    square = lambda name: edges[name].reshape(len(graphs), size, size)
    normal = lambda *shape: random.normal(size=shape).astype(np.float32)
    width = config.features
    path = folder / f"{count}.npz"
    np.savez(
        path,
        nodes=normal(len(graphs), size, width),
        mask=masks.node.reshape(len(graphs), size),
        distance=square("distance"),
        adjacency=square("adjacency"),
        weights=np.array(WEIGHTS),
        **{name: normal(width, width) / width**0.5 for name in ("query", "key", "value", "mix")},
    )
    return path


def work(library: str, path: str, heads: int, runs: int) -> dict[str, Any]:
    """Set up, run once, time the rest."""
    with np.load(path) as file:
        batch = dict(file)
    name, *how = library.split(", ")
    peer = importlib.import_module(f"peers.{name}_peer")
    workload, values = peer.molecule_layer(batch, heads, *how)
    resident = forget_peak()
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        workload.run()
        seconds.append(time.perf_counter() - started)
    return {
        "seconds": float(np.median(seconds[1:])),
        "run_bytes": peak_memory() - resident,
        "compile_seconds": workload.compile_seconds,
        "values": values(),
    }


def measure(library: str, path: Path, config: Config) -> dict[str, Any]:
    """Let a worker do it."""
    arguments = json.dumps([library, str(path), config.heads, config.runs])
    process = subprocess.run(
        [sys.executable, __file__, "worker", arguments], capture_output=True, text=True
    )
    if process.returncode:
        raise SystemExit(f"{library}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def compare(path: Path, config: Config) -> dict[str, Any]:
    """All libraries in turns, and what tells one batch from another."""
    rounds: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES}
    for _ in tqdm(range(config.rounds), unit="round"):
        for library, found in rounds.items():
            found.append(measure(library, path, config))
    values = np.array([each["values"] for found in rounds.values() for each in found])
    if not np.allclose(values, values[0], rtol=AGREEMENT):
        raise SystemExit(
            f"the layers do not agree: loss and norm of the gradient are {values.tolist()}"
        )
    with np.load(path) as file:
        graphs, nodes = file["mask"].shape
        real = int((file["mask"].sum(1) ** 2).sum())
    return {
        "graphs": graphs,
        "nodes": nodes,
        "edges": real,
        "libraries": {
            library: {
                "seconds": [each["seconds"] for each in found],
                "median_seconds": float(np.median([each["seconds"] for each in found])),
                "run_bytes": int(np.median([each["run_bytes"] for each in found])),
                "compile_seconds": found[-1]["compile_seconds"],
            }
            for library, found in rounds.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """A row per batch: our time and memory, and those of the others as multiples of ours."""
    rows = []
    others = [library for library in LIBRARIES if library != "gatjax"]
    for batch in result["results"]:
        ours, pairs = batch["libraries"]["gatjax"], batch["graphs"] * batch["nodes"] ** 2
        theirs = [batch["libraries"][library] for library in others]
        times, memories = (
            [f"{each[field] / max(ours[field], 1e-9):.1f}x" for each in theirs]
            for field in ("median_seconds", "run_bytes")
        )
        rows.append(
            [
                f"{batch['graphs']}",
                f"{batch['edges']:,}",
                f"{100 * batch['edges'] / pairs:.0f} %",
                f"{1e3 * ours['median_seconds']:.2f}",
                *times,
                f"{ours['run_bytes'] / 2**20:.1f}",
                *memories,
            ]
        )
    header = ["molecules", "pairs of atoms", "of the padded", "gatjax (ms)"]
    header += [f"{library}: time" for library in others]
    header += ["gatjax (MiB)", *(f"{library}: memory" for library in others)]
    return markdown_table(header, rows)


def main(config: Config) -> None:
    """Measure, unless this very measurement is there already."""
    check(config, at_least=dict.fromkeys("batch_sizes features heads rounds runs".split(), 1))
    absent = [name for name in ("torch", "rdkit") if importlib.util.find_spec(name) is None]
    if absent:
        raise SystemExit(f"needs {' and '.join(absent)}: see experiments/README.md")
    with claimed(config.output), tempfile.TemporaryDirectory() as folder:
        path = config.output / "result.json"
        found = find_result(path, dataclasses.asdict(config), overwrite=config.overwrite)
        if found is not None:
            say_found(path)
            print(f"\n{table(found)}")
            return
        batches = [drawn(config, count, Path(folder)) for count in config.batch_sizes]
        results = [compare(batch, config) for batch in batches]
        result = {"results": results, "config": dataclasses.asdict(config), **describe_run()}
        print(f"\n{table(result)}")
        save_result(path, result)
        print(f"\nDetails in {path}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        print(json.dumps(work(*json.loads(sys.argv[2]))))
    else:
        script.run(main, Config)
