"""How long an explanation of one node takes, next to PyTorch Geometric.

    python experiments/explain_speed.py                  # needs PyTorch Geometric, else its row is left out

A GAT of two layers on Cora, one node of typical reach. Exact deletion of every edge of its two hops; and a learned mask
with as many epochs as GNNExplainer there, on the whole graph, as there, and on the two hops, which say the same. All on
one core, and beside the time on the clock stands that of the processor, which others on the machine do not change much.
"""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import script
from flax import nnx
from outputs import made_once
from report import count, markdown_table
from settings import check

from gatjax import GAT, add_self_loops
from gatjax.data import load
from gatjax.explain import computation_graph, edge_deletion, learned_mask, log_odds


@dataclasses.dataclass(frozen=True)
class Config:
    """Time the explanation of one node."""

    epochs: int = 100
    """Epochs of the learned mask."""
    repetitions: int = 3
    """The fastest of so many counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/explain_speed")
    """Folder for result.json."""


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Threads that are started inside stay on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def fastest(name: str, run: Callable[[], Any], repetitions: int) -> dict[str, float]:
    """Seconds on the clock and of the processor; what is compiled, or done once, is done before."""
    print(name, flush=True)
    run()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter(), time.process_time()
        run()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return dict(zip(("clock", "processor"), map(min, zip(*times, strict=True)), strict=True))


def ours(config: Config, graph: Any, target: int, classes: int) -> dict[str, dict[str, float]]:
    width = np.asarray(graph.nodes).shape[1]
    model = GAT(width, classes, hidden_features=64, num_heads=8, rngs=nnx.Rngs(0))
    part = computation_graph(graph, target, hops=2)
    delete = jax.jit(functools.partial(edge_deletion, model, score=log_odds))
    mask = jax.jit(functools.partial(learned_mask, model, epochs=config.epochs))
    key = jax.random.key(0)
    runs: dict[str, Callable[[], Any]] = {
        "exact deletion, two hops": lambda: delete(part.graph, part.target),
        "learned mask, two hops": lambda: mask(part.graph, part.target, key=key),
        "learned mask, whole graph": lambda: mask(graph, target, key=key),
    }
    return {
        name: fastest(name, lambda run=run: jax.block_until_ready(run()), config.repetitions)
        for name, run in runs.items()
    }


def theirs(config: Config, graph: Any, target: int, classes: int) -> dict[str, dict[str, float]]:
    """PyG's GNNExplainer, with a mask of edges alone; nothing where it is missing."""
    try:
        from peers.explainer import gnn_explainer
    except ImportError:
        return {}
    run = gnn_explainer(graph, target, classes, config.epochs)
    name = "GNNExplainer of PyG, whole graph"
    return {name: fastest(name, run, config.repetitions)}


def make_result(config: Config) -> dict[str, Any]:
    data = load("cora", features="dense")
    graph = add_self_loops(data.graph)
    # The node whose reach is the median.
    random = np.random.default_rng(0)
    some = random.choice(data.num_nodes, 51, replace=False)
    reach = [len(computation_graph(graph, int(node), hops=2).edges) for node in some]
    place = int(np.argsort(reach)[len(reach) // 2])
    given = config, graph, int(some[place]), data.num_classes
    return {
        "node": int(some[place]),
        "edges": int(reach[place]),
        "seconds": ours(*given) | theirs(*given),
    }


def table(result: dict[str, Any]) -> str:
    """In milliseconds, and how often that goes into PyG's time."""
    seconds = result["seconds"]
    peer = next((value for name, value in seconds.items() if "PyG" in name), None)
    rows = []
    for name, value in seconds.items():
        beside = peer if peer is not None and name.startswith("learned mask") else {}
        ratios = [f"{beside[kind] / value[kind]:.1f}x" if beside else "" for kind in value]
        times = [f"{1e3 * value[kind]:.0f}" for kind in value]
        rows.append([name, *(cell for pair in zip(times, ratios, strict=True) for cell in pair)])
    where = f"a node of Cora, {count(result['edges'], 'edge')} within two hops"
    header = [where, "ms, clock", "PyG / ours", "ms, processor", "PyG / ours"]
    return markdown_table(header, rows)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    check(config, at_least={"epochs": 1, "repetitions": 1})
    with on_one_core():
        result = made_once(config, make_result)
    print(f"\n{table(result)}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
