"""What do relations cost? A training step of layers that know them, beside GAT on the same edges without relations.

    python experiments/relation_costs.py            # 1, 5 and 50 relations, minutes

Five types of nodes, relations between random pairs of them, the same number of edges whatever the number of relations.
A step is the forward pass and the gradient of parameters and nodes; layers take turns, and of their steps that of the
least CPU time counts, so that other programs of a busy machine do not. Edges of GAT stand by receiver, those of layers
that know relations by relation.

The graph is large, on purpose: the allocator of most Linux systems keeps up to 32 MB from one step to the next, and
gives more back each time. On a small graph that costs layers with relations more than half of their time, and GAT none.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import script
from devices import use_every_core
from flax import nnx
from outputs import made_once
from report import count, markdown_table
from settings import check

from gatjax import (
    DotProductConv,
    GATConv,
    HANConv,
    HGTConv,
    RelationalGATConv,
    TypedConv,
    TypedGraph,
    build_typed_graph,
    merge_types,
    sort_edges,
)

TYPES = 5


@dataclasses.dataclass(frozen=True)
class Config:
    """Time a training step of each layer for several numbers of relations."""

    relations: tuple[int, ...] = (1, 5, 50)
    """Numbers of relations."""
    nodes: int = 10_000
    """Nodes of all types together."""
    edges: int = 1_000_000
    """Edges of all relations together."""
    features: int = 64
    """Width of nodes and of the output."""
    num_heads: int = 8
    """Heads."""
    repeats: int = 7
    """Steps of each layer; the one of the least CPU time counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/relation-costs")
    """Folder for result.json."""


def make_graph(config: Config, relations: int) -> TypedGraph:
    rng = np.random.default_rng(0)
    size, number = config.nodes // TYPES, config.edges // relations
    names = [f"type {k}" for k in range(TYPES)]
    pairs = [(k % TYPES, (k + k // TYPES) % TYPES) for k in range(relations)]
    ends = lambda: (rng.integers(0, size, number), np.sort(rng.integers(0, size, number)))
    return build_typed_graph(
        {name: rng.normal(size=(size, config.features)).astype(np.float32) for name in names},
        {(names[s], f"relation {k}", names[r]): ends() for k, (s, r) in enumerate(pairs)},
    )


def layers(config: Config, graph: TypedGraph) -> dict[str, tuple[nnx.Module, Any]]:
    """By name, the layer and the graph that it takes."""
    width, rngs = config.features, nnx.Rngs(0)
    options = {"num_heads": config.num_heads, "rngs": rngs}
    merged = merge_types(graph).graph
    plain, number = sort_edges(merged._replace(edges=None)), len(graph.triples)
    relational = {"num_relations": number, **options}
    return {
        "GATConv, no relations": (GATConv(width, width, **options), plain),
        "DotProductConv, no relations": (DotProductConv(width, width, **options), plain),
        "HGTConv": (
            HGTConv(dict.fromkeys(graph.types, width), width, relations=graph.triples, **options),
            graph,
        ),
        "TypedConv of GATConv": (
            TypedConv({t: GATConv((width, width), width, **options) for t in graph.triples}),
            graph,
        ),
        "RelationalGATConv": (RelationalGATConv(width, width, **relational), merged),
        "RelationalGATConv, 4 bases": (
            RelationalGATConv(width, width, num_bases=4, **relational),
            merged,
        ),
        "HANConv": (HANConv(width, width, **relational), merged),
    }


def compile_step(layer: nnx.Module, graph: Any) -> tuple[Any, float]:
    """A step with its arguments bound, and the seconds that compiling takes."""
    graphdef, state = nnx.split(layer)

    @jax.jit
    def step(state: Any, graph: Any) -> Any:
        def loss(state: Any, nodes: Any) -> Any:
            out = nnx.merge(graphdef, state)(graph._replace(nodes=nodes)).nodes
            return sum((rows**2).mean() for rows in jax.tree.leaves(out))

        return jax.grad(loss, argnums=(0, 1))(state, graph.nodes)

    state, graph = jax.tree.map(jnp.asarray, (state, graph))
    started = time.perf_counter()
    compiled = step.lower(state, graph).compile()
    seconds = time.perf_counter() - started
    return lambda: jax.block_until_ready(compiled(state, graph)), seconds


def measure(config: Config, relations: int) -> dict[str, dict[str, Any]]:
    graph = make_graph(config, relations)
    steps, rows = {}, {}
    for name, (layer, seen) in layers(config, graph).items():
        steps[name], compiling = compile_step(layer, seen)
        rows[name] = {"compiling_s": compiling, "ms": [], "cpu_ms": []}
        steps[name]()
    for _ in range(config.repeats):
        for name, step in steps.items():
            started, cpu = time.perf_counter(), time.process_time()
            step()
            rows[name]["ms"].append(1e3 * (time.perf_counter() - started))
            rows[name]["cpu_ms"].append(1e3 * (time.process_time() - cpu))
    base = min(rows["GATConv, no relations"]["cpu_ms"])
    return {name: row | {"ratio": min(row["cpu_ms"]) / base} for name, row in rows.items()}


def make_result(config: Config) -> dict[str, Any]:
    rows = {str(number): measure(config, number) for number in config.relations}
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    config, rows = result["config"], result["rows"]
    header = f"{config['nodes']:,} nodes, {config['edges']:,} edges"
    cell = lambda row: f"{min(row['cpu_ms']):.0f} ms, {row['ratio']:.2f}"
    names = next(iter(rows.values()))
    return markdown_table(
        [header, *(count(int(number), "relation") for number in rows)],
        [[name, *(cell(of_number[name]) for of_number in rows.values())] for name in names],
    )


def check_config(config: Config) -> None:
    counts = "nodes edges features num_heads repeats"
    check(config, at_least=dict.fromkeys(counts.split(), 1) | {"nodes": TYPES})
    for number in config.relations:
        if not 1 <= number <= config.edges:
            raise SystemExit(f"--relations {number}: must be at least 1, and at most --edges")


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    check_config(config)
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\ndetails in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
