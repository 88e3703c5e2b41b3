"""Samples of the neighbours of a large graph, and training on them, beside DGL and PyTorch Geometric.

    python experiments/sampling.py                                  # a million nodes, twenty million edges; minutes
    python experiments/sampling.py --nodes 10000 --edges 200000 --libraries gatjax dgl

Every measurement runs in a process of its own, in turns, on the same graph and the same batches of seeds; all must find
as many neighbours of the seeds. A step of training is sampling, reading the rows of features, loss, gradient and Adam,
for a GAT of a layer for each fan-out. PyTorch Geometric samples with pyg-lib or torch-sparse alone; where it has
neither, name the other libraries. CPU time is what counts: DGL samples on all cores, the others on one.
"""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import script
from in_turns import Peer, compare
from outputs import made_once
from report import markdown_table
from settings import check, check_multiple

Library = Literal["gatjax", "dgl", "pyg"]
MODULES = {"dgl": "dgl", "pyg": "torch_geometric"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    nodes: int = 1_000_000
    """Of a random graph."""
    edges: int = 20_000_000
    """Of it, directed, their ends drawn at random; no self-loops."""
    batch_size: int = 1024
    """Seeds of a batch."""
    fanouts: tuple[int, ...] = (15, 10)
    """Neighbours at most, by hop."""
    features: int = 100
    """Of a node."""
    classes: int = 47
    """Of nodes."""
    width: int = 64
    """Of the hidden layers, all heads together."""
    heads: int = 4
    """Attention heads of the hidden layers."""
    libraries: tuple[Library, ...] = ("gatjax", "dgl", "pyg")
    """What is measured."""
    rounds: int = 3
    """Processes per measurement, in turns."""
    runs: int = 15
    """Batches per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/sampling")
    """Folder for result.json."""


def drawn(config: Config, path: Path) -> Path:
    """The graph, its features and labels, and the batches, as arrays in a file."""
    random = np.random.default_rng(0)
    receivers = np.sort(random.integers(0, config.nodes, config.edges, dtype=np.int32))
    further = random.integers(1, config.nodes, config.edges, dtype=np.int32)
    np.savez(
        path,
        senders=(receivers + further) % config.nodes,
        receivers=receivers,
        features=random.standard_normal((config.nodes, config.features), np.float32),
        labels=random.integers(0, config.classes, config.nodes, dtype=np.int32),
        batches=np.stack(
            [
                random.choice(config.nodes, config.batch_size, replace=False).astype(np.int32)
                for _ in range(config.runs + 1)
            ]
        ),
    )
    return path


def peers_of(config: Config) -> dict[str, dict[str, Peer]]:
    """Who samples, and who trains."""
    fanouts = list(config.fanouts)
    sizes = {name: getattr(config, name) for name in ("classes", "width", "heads")}
    sample, step = {}, {}
    if "gatjax" in config.libraries:
        sample["gatjax, in one program"] = Peer("gatjax_sampler", "jitted", (fanouts,))
        sample["gatjax, NumPy"] = Peer("gatjax_sampler", "in_numpy", (fanouts,))
        step["gatjax, in one program"] = Peer("gatjax_sampler", "step", (fanouts, sizes))
    for name, title in (("dgl", "DGL"), ("pyg", "PyG")):
        if name in config.libraries:
            sample[title] = Peer(f"{name}_sampler", "sample", (fanouts,))
            step[title] = Peer(f"{name}_sampler", "step", (fanouts, sizes))
    return {"sampling": sample, "training step": step}


def make_result(config: Config) -> dict[str, Any]:
    """All libraries in turns."""
    times = {"rounds": config.rounds, "runs": config.runs}
    with tempfile.TemporaryDirectory() as folder:
        path = drawn(config, Path(folder) / "graph.npz")
        # The numbers that agree are how many neighbours the seeds of a batch have.
        rows = {
            work: compare(peers, path, **times, agreement=0.0)
            for work, peers in peers_of(config).items()
        }
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """Times and memory of each, and how many times the first one's."""
    lines = []
    for work, libraries in result["rows"].items():
        first = next(iter(libraries.values()))
        for name, row in libraries.items():
            seconds = row["median_cpu_seconds"]
            lines.append(
                [
                    f"{work}, {name}",
                    f"{1e3 * seconds:.1f}",
                    f"{seconds / first['median_cpu_seconds']:.1f}x",
                    f"{1e3 * row['median_seconds']:.1f}",
                    f"{row['peak_bytes'] / 2**20:,.0f}",
                    f"{row['peak_bytes'] / first['peak_bytes']:.2f}x",
                ]
            )
    config = result["config"]
    title = f"{config['nodes']:,} nodes, {config['edges']:,} edges"
    return markdown_table([title, "CPU ms", "", "ms", "peak MiB", ""], lines)


def main(config: Config) -> dict[str, Any]:
    """Measure, unless this very measurement is there already."""
    counts = "edges batch_size fanouts features classes width heads rounds runs"
    check(config, at_least=dict.fromkeys(counts.split(), 1) | {"nodes": 2})
    if config.batch_size > config.nodes:
        raise SystemExit(
            f"--batch-size {config.batch_size}: must be at most --nodes {config.nodes}"
        )
    check_multiple(config, "width", "heads")
    for name in config.libraries:
        if name in MODULES and importlib.util.find_spec(MODULES[name]) is None:
            raise SystemExit(
                f"--libraries {name}: needs {MODULES[name]}: see experiments/README.md"
            )
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\nDetails in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
