"""A large graph cut into shards, a file for each: `python experiments/large.py partition`."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Literal

import numpy as np
from large_graphs import Large, check_shares, load_large, split_of
from settings import check

from gatjax import add_self_loops, num_nodes
from gatjax.graph.sizes import num_edges
from gatjax.training import halo_report, partition, save_shards, shard_graph

PROBLEM = "problem.json"


@dataclasses.dataclass(frozen=True)
class Partition:
    """Cut a graph into shards, a file for each."""

    dataset: Literal["facebook", "pubmed", "planted"] = "facebook"
    """Pages of Facebook, papers of Pubmed, or a graph with planted classes, of any size."""
    nodes: int = 100_000
    """Of a planted graph."""
    edges: int = 1_000_000
    """Of a planted graph, both directions counted."""
    shards: int = 2
    """One for each device that is to train."""
    how: Literal["metis", "contiguous"] = "metis"
    """METIS cuts few edges; contiguous takes the nodes as they come."""
    seed: int = 0
    """Of the split."""
    train: float = 0.6
    """Share of the nodes that train."""
    validation: float = 0.2
    """Share of the nodes that validate; the others test."""
    folder: Path | None = None
    """Of the files. None: shards/<dataset>-<shards>."""


def cut(config: Partition) -> Path:
    """The folder of shards."""
    check(
        config, at_least={"nodes": 1, "edges": 1, "shards": 1}, above_zero=("train", "validation")
    )
    check_shares(config)
    folder = config.folder or Path("shards") / f"{config.dataset}-{config.shards}"
    if folder.exists():
        raise SystemExit(f"{folder} is there already: delete it, or choose another --folder")
    try:
        data = load_large(config.dataset, config.nodes, config.edges)
        graph, started = add_self_loops(data.graph), time.process_time()
        part = partition(graph, config.shards, config.how)
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SystemExit(str(error)) from error
    seconds = time.process_time() - started
    shards = shard_graph(graph, part, num_shards=config.shards, tables=_tables(data, config))
    report = halo_report(shards)
    save_shards(folder, shards)
    problem = {
        **{name: value for name, value in dataclasses.asdict(config).items() if name != "folder"},
        "nodes": num_nodes(graph),
        "edges": num_edges(graph),
        "classes": data.classes,
        "report": dataclasses.asdict(report),
        "cpu_seconds": seconds,
    }
    (folder / PROBLEM).write_text(json.dumps(problem, indent=1, default=str))
    print(f"{report}\n{folder}, cut in {seconds:.1f} CPU s")
    return folder


def _tables(data: Large, config: Partition) -> dict[str, np.ndarray]:
    """Labels, and who trains, validates and tests."""
    tables = {"labels": data.labels}
    for name, nodes in split_of(data, config, config.seed)._asdict().items():
        tables[name] = np.zeros(len(data.labels), bool)
        tables[name][nodes] = True
    return tables
