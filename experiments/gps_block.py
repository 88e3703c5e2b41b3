"""One block of GPS, forward and gradient, beside PyTorch Geometric's `GPSConv`.

    python experiments/gps_block.py

The same weights on the same batches: GAT on the edges beside attention to all nodes, batch statistics, dense layers.
Every measurement runs in a process of its own, in turns; both must give the same loss and gradient. Needs PyTorch
Geometric.
"""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import script
from in_turns import Peer, compare
from outputs import made_once
from report import markdown_table
from settings import check, check_multiple

# Relative, of a loss and a norm that are sums of thousands of float32.
AGREEMENT = 1e-3


class Graphs(NamedTuple):
    """A batch: how many graphs, of how many nodes on average, and which share of their pairs are edges."""

    graphs: int
    nodes: int
    density: float


BATCHES = {
    "block models": Graphs(16, 120, 0.44),
    "molecules": Graphs(128, 14, 0.15),
    "one sparse graph": Graphs(1, 2708, 0.0015),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    features: int = 64
    """Width of the block."""
    heads: int = 4
    """Attention heads."""
    rounds: int = 5
    """Processes per measurement; libraries take turns."""
    runs: int = 21
    """Timed runs per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/gps-block")
    """Folder for result.json."""


def drawn(config: Config, size: Graphs, path: Path) -> Path:
    """Random graphs with self-loops, features and weights, as arrays in a file."""
    random = np.random.default_rng(0)
    least, most = round(0.8 * size.nodes), round(1.2 * size.nodes)
    n_node = random.integers(least, most + 1, size.graphs) if size.graphs > 1 else [size.nodes]
    first = np.concatenate([[0], np.cumsum(n_node)])
    ends = []
    for start, nodes in zip(first, n_node, strict=False):
        matrix = random.random((nodes, nodes)) < size.density
        receivers, senders = np.nonzero(matrix | matrix.T | np.eye(nodes, dtype=bool))
        ends.append(np.stack([senders, receivers]) + start)
    senders, receivers = np.concatenate(ends, 1).astype(np.int32)
    normal = lambda *shape: random.normal(size=shape).astype(np.float32)
    width, of_heads = config.features, (config.heads, config.features // config.heads)
    np.savez(
        path,
        n_node=np.asarray(n_node, np.int32),
        senders=senders,
        receivers=receivers,
        nodes=normal(first[-1], width),
        target=normal(first[-1], width),
        sender=normal(*of_heads) / 4,
        receiver=normal(*of_heads) / 4,
        wide=normal(width, 2 * width) / width**0.5,
        narrow=normal(2 * width, width) / width**0.5,
        **{
            name: normal(width, width) / width**0.5
            for name in ("local", "query", "key", "value", "mix")
        },
    )
    return path


def make_result(config: Config) -> dict[str, Any]:
    """Both libraries in turns, on each batch."""
    peers = {
        "gatjax": Peer("gatjax_block", "block", (config.heads,)),
        "pyg": Peer("pyg_block", "block", (config.heads,)),
    }
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in BATCHES.items():
            path = drawn(config, size, Path(folder) / "batch.npz")
            with np.load(path) as file:
                counts = {"nodes": len(file["nodes"]), "edges": len(file["senders"])}
            libraries = compare(
                peers, path, rounds=config.rounds, runs=config.runs, agreement=AGREEMENT
            )
            rows[name] = {"graphs": size.graphs, **counts, "libraries": libraries}
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """A row per batch."""
    lines = []
    for name, row in result["rows"].items():
        ours, theirs = row["libraries"]["gatjax"], row["libraries"]["pyg"]
        times = ours["median_seconds"], theirs["median_seconds"]
        memory = [f"{each['run_bytes'] / 2**20:.0f}" for each in (ours, theirs)]
        counts = [f"{row[key]:,}" for key in ("graphs", "nodes", "edges")]
        line = [f"{1e3 * times[0]:.1f}", f"{1e3 * times[1]:.1f}", f"{times[1] / times[0]:.1f}x"]
        lines.append([name, *counts, *line, *memory])
    header = ["batch", "graphs", "nodes", "edges", "gatjax (ms)", "PyG (ms)", "PyG / gatjax"]
    return markdown_table([*header, "gatjax (MiB)", "PyG (MiB)"], lines)


def main(config: Config) -> dict[str, Any]:
    """Measure, unless this very measurement is there already."""
    check(config, at_least=dict.fromkeys("features heads rounds runs".split(), 1))
    check_multiple(config, "features", "heads")
    if importlib.util.find_spec("torch_geometric") is None:
        raise SystemExit("needs torch_geometric: see experiments/README.md")
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\nDetails in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
