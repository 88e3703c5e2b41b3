"""Attention of every node to all nodes of its graph, forward and gradient: by rows, by edges, as the formula has it.

    python experiments/all_nodes.py

`graph_self_attention` beside `edge_attention` over the edges of `connect_all`, and beside the formula on a table of all
pairs. Every measurement runs in a process of its own, in turns; all must give the same loss and gradient.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import script
from in_turns import Peer, compare
from outputs import made_once
from report import markdown_table
from settings import check

WAYS = {"rows": "graph_self_attention", "edges": "edge_attention", "table": "the formula"}
# How many graphs of how many nodes.
BATCHES = {"sixteen graphs": (16, 120), "one graph": (1, 2708)}
# Relative, of a loss and a norm that are sums of thousands of float32.
AGREEMENT = 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    heads: int = 8
    """Attention heads."""
    features: int = 8
    """Width of each."""
    rounds: int = 5
    """Processes per measurement; the ways take turns."""
    runs: int = 5
    """Timed runs per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/all-nodes")
    """Folder for result.json."""


def make_result(config: Config) -> dict[str, Any]:
    """All ways in turns, on each batch."""
    random, rows = np.random.default_rng(0), {}
    peers = {way: Peer("gatjax_all_nodes", "attention", (way,)) for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for name, (graphs, nodes) in BATCHES.items():
            path = Path(folder) / "batch.npz"
            shape = graphs * nodes, config.heads, config.features
            drawn = {
                part: random.normal(size=shape).astype(np.float32)
                for part in ("query", "key", "value", "target")
            }
            np.savez(path, allow_pickle=False, n_node=np.full(graphs, nodes), **drawn)
            measured = compare(
                peers, path, rounds=config.rounds, runs=config.runs, agreement=AGREEMENT
            )
            rows[name] = {"graphs": graphs, "nodes": nodes, "ways": measured}
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    """A row per batch, and its times and memory."""
    lines = []
    for row in result["rows"].values():
        found = [row["ways"][way] for way in WAYS]
        times = [f"{1e3 * each['median_seconds']:.1f}" for each in found]
        memory = [f"{each['run_bytes'] / 2**20:.0f}" for each in found]
        ratio = f"{found[1]['median_seconds'] / found[0]['median_seconds']:.1f}x"
        lines.append([f"{row['graphs']} of {row['nodes']:,}", *times, ratio, *memory])
    header = ["graphs of nodes", *(f"{title} (ms)" for title in WAYS.values()), "edges / rows"]
    return markdown_table([*header, *(f"{title} (MiB)" for title in WAYS.values())], lines)


def main(config: Config) -> dict[str, Any]:
    """Measure, unless this very measurement is there already."""
    check(config, at_least=dict.fromkeys("heads features rounds runs".split(), 1))
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\nDetails in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
