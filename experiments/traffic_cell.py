"""The graph GRU of GaAN, an hour of signals forward and back, beside the same cell in PyTorch Geometric.

    python experiments/traffic_cell.py

The same weights on the same signals and on the sensors' graph of Los-loop. Every measurement runs in a process of its
own, in turns, and all give the same loss and gradient. Needs PyTorch Geometric, and the data in GATJAX_DATA.
"""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import script
from in_turns import Peer, compare
from outputs import made_once
from peers.gatjax_cell import arrays_of, make_cell
from report import markdown_table
from settings import check

from gatjax.data import load_traffic


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    batch_sizes: tuple[int, ...] = (16, 64)
    """Signals of a batch."""
    steps: int = 12
    """Steps of time."""
    in_features: int = 2
    """Of the signals."""
    hidden_features: int = 32
    """Width of the state."""
    num_heads: int = 2
    """Attention heads."""
    key_features: int = 8
    """Per head."""
    value_features: int = 16
    """Per head."""
    gate_features: int = 16
    """Of the gate."""
    rounds: int = 5
    """Processes per library, in turns."""
    runs: int = 7
    """Timed runs per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/traffic-cell")
    """Folder for result.json."""


# Relative, of numbers that are sums of many float32, twelve steps deep.
AGREEMENT = 1e-3

SIZES = "in_features hidden_features num_heads key_features value_features gate_features".split()


def make_result(config: Config) -> dict[str, Any]:
    sizes = {name: getattr(config, name) for name in SIZES}
    graph, _ = load_traffic("los-loop").graph()
    peers = {
        "gatjax": Peer("gatjax_cell", "recurrent_cell", (sizes,)),
        "PyG": Peer("pyg_cell", "recurrent_cell"),
    }
    weights, random = arrays_of(make_cell(sizes)), np.random.default_rng(0)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for count in config.batch_sizes:
            shape = count, config.steps, int(graph.n_node[0]), config.in_features
            path = Path(folder) / f"{count}.npz"
            arrays: dict[str, Any] = {"senders": graph.senders, "receivers": graph.receivers}
            arrays |= weights | {"signals": random.normal(size=shape).astype(np.float32)}
            np.savez(path, **arrays)
            times = {"rounds": config.rounds, "runs": config.runs}
            libraries = compare(peers, path, **times, agreement=AGREEMENT)
            edges = count * int(graph.n_edge[0])
            results.append({"signals": count, "edges": edges, "libraries": libraries})
    return {"results": results}


def table(result: dict[str, Any]) -> str:
    """A row per batch: our time and memory, and those of the other as multiples of ours."""
    rows = []
    for each in result["results"]:
        ours, theirs = each["libraries"]["gatjax"], each["libraries"]["PyG"]
        ratio = lambda field, ours=ours, theirs=theirs: f"{theirs[field] / ours[field]:.1f}x"
        rows.append(
            [
                f"{each['signals']}",
                f"{each['edges']:,}",
                f"{1e3 * ours['median_seconds']:.0f}",
                ratio("median_seconds"),
                f"{ours['run_bytes'] / 2**20:.0f}",
                ratio("run_bytes"),
            ]
        )
    header = ["signals", "edges a step", "gatjax (ms)", "PyG: time", "gatjax (MiB)", "PyG: memory"]
    return markdown_table(header, rows)


def main(config: Config) -> dict[str, Any]:
    """Measure, unless this very measurement is there already."""
    counts = (*SIZES, "batch_sizes", "steps", "rounds", "runs")
    check(config, at_least=dict.fromkeys(counts, 1))
    if importlib.util.find_spec("torch_geometric") is None:
        raise SystemExit("needs PyTorch Geometric: see experiments/README.md")
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\nDetails in {config.output / 'result.json'}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
