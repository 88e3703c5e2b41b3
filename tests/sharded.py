"""Layers and models on shards of a graph, against the whole graph on one device; a program that tests start.

JAX_NUM_CPU_DEVICES=4 python tests/sharded.py layers 3    # every layer on three shards, one of them empty
JAX_NUM_CPU_DEVICES=4 python tests/sharded.py models 4    # or `few` of them
JAX_NUM_CPU_DEVICES=4 python tests/sharded.py all         # every layer and model, 1 to 4 shards, both paths
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import IN, ISOLATED, NODES, ONE_EACH, OUT, build, graph_for
from flax import nnx
from jax.sharding import Mesh
from jraph import GraphsTuple

import gatjax.ops.blocks
from gatjax import GAT, GCN, GaAN, GATConv, HANConv, NodeLinear
from gatjax.layers import DropoutRates
from gatjax.models import Stack
from gatjax.training import cluster, load_shards, on_shards, shard_graph, unshard_rows

RATES = DropoutRates(inputs=0.2, projected=0.3, attention=0.4, head_inputs=0.25)


def parts(num_shards: int, seed: int = 0) -> np.ndarray:
    """The shard of each node; the last but one has none where there are three or more."""
    part = np.random.default_rng(seed).integers(0, num_shards, NODES)
    part[0] = num_shards - 1
    return np.where(part == num_shards - 2, 0, part) if num_shards > 2 else part


def with_hub(graph: GraphsTuple) -> GraphsTuple:
    """Half of the edges enter one node, and one node has none, neither in nor out."""
    receivers = np.asarray(graph.receivers).copy()
    receivers[::2] = 1
    senders = np.where(np.asarray(graph.senders) == ISOLATED, 0, graph.senders)
    assert ISOLATED not in receivers
    return graph._replace(senders=senders, receivers=receivers)


def differences(
    model: nnx.Module, graph: GraphsTuple, num_shards: int, exchange: Any = "ring"
) -> tuple[float, float]:
    """How far loss and gradients are from those of the whole graph, with dropout and NaN in all padding."""
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    weights = np.random.default_rng(1).uniform(0.5, 2.0, graph.nodes.shape[0]).astype(np.float32)

    def outputs(params, graph, **how):
        model = nnx.merge(graphdef, params, rest, copy=True)
        return model(graph, rngs=nnx.Rngs(dropout=7), deterministic=False, **how).nodes

    def whole(params, graph):
        return (outputs(params, graph) ** 2 * weights[:, None]).sum()

    def of_one(params, shard):
        out = outputs(params, shard.graph, view=shard.view, node_mask=shard.node_mask)
        kept = jnp.where(shard.node_mask[:, None], out, 0)
        return (kept**2 * shard.tables["weights"][:, None]).sum()

    shards = shard_graph(
        graph, parts(num_shards), num_shards=num_shards, tables={"weights": weights}
    )
    padding = shards.node_ids < 0
    shards = dataclasses.replace(
        shards, nodes=np.where(padding[:, :, None], np.nan, shards.nodes), edges=_poisoned(shards)
    )
    with cluster(num_devices=num_shards) as mesh:
        sharded = on_shards(of_one, mesh, exchange=exchange)
        loss, gradient = jax.jit(jax.value_and_grad(sharded))(params, shards)
        loss, gradient = jax.tree.map(np.asarray, (loss, gradient))
    expected_loss, expected = jax.jit(jax.value_and_grad(whole))(params, graph)
    return float(abs(loss - expected_loss) / expected_loss), _furthest(gradient, expected)


def _poisoned(shards):
    def poison(table):
        if not np.issubdtype(table.dtype, np.floating):
            return table
        padding = (shards.edge_ids < 0).reshape(*shards.edge_ids.shape, *(1,) * (table.ndim - 2))
        return np.where(padding, np.nan, table)

    return jax.tree.map(poison, shards.edges)


def _furthest(tree, expected) -> float:
    leaves, others = jax.tree.leaves(tree), jax.tree.leaves(expected)
    scale = max(float(np.abs(np.asarray(leaf)).max()) for leaf in others)
    gaps = [
        np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(leaves, others, strict=True)
    ]
    return float(max(gaps)) / scale


def layers():
    """Every layer by name, with all that it drops, and a graph for it."""
    for case in ONE_EACH:
        options = {"semantic": "node"} if case.layer is HANConv else {}
        yield case.name, build(case, dropout_rate=RATES, **options), with_hub(graph_for(case))


def models():
    """Models of several layers, of which some read no neighbours."""
    graph = with_hub(graph_for(next(case for case in ONE_EACH if case.layer is GATConv)))
    graph = graph._replace(edges=None)
    rngs = nnx.Rngs(0)
    wide = {"hidden_features": 12, "dropout_rate": RATES._replace(head_inputs=0.0), "rngs": rngs}
    norm = {"norm": nnx.LayerNorm, "residual": True}
    yield "GAT", GAT(IN, 3, num_layers=3, num_heads=2, **norm, **wide), graph
    yield "GCN", GCN(IN, 3, num_layers=2, **wide), graph
    yield "GaAN", GaAN(IN, 3, embed_features=8, num_heads=2, **wide), graph
    linear = NodeLinear(IN, OUT, dropout_rate=DropoutRates(inputs=0.5), rngs=rngs)
    yield "Stack", Stack([linear, GATConv(OUT, 3, rngs=rngs)]), graph


def compare(named, num_shards: int, exchange: Any = "ring") -> list[str]:
    """What is further from the whole graph than rounding."""
    far = []
    for name, model, graph in named:
        loss, gradient = differences(model, graph, num_shards, exchange)
        print(
            f"{name} on {num_shards} by {exchange}: loss {loss:.1e}, gradient {gradient:.1e}",
            flush=True,
        )
        if not (loss < 1e-6 and gradient < 1e-5):
            far.append(name)
    return far


def read_own_files(folder: Path, mesh: Mesh) -> None:
    """Each process in a folder with no files but its own."""
    own = folder / f"process-{jax.process_index()}"
    shards = load_shards(own, mesh)
    count = on_shards(
        lambda _, shard: jnp.where(shard.node_mask, shard.tables["number"], 0).sum(), mesh
    )
    ids = np.arange(shards.num_nodes)
    assert int(jax.jit(count)(None, shards)) == ids.sum()
    np.testing.assert_array_equal(unshard_rows(shards.tables["number"], shards), ids)


def in_blocks() -> None:
    """Two blocks for these edges, and the blocked path everywhere."""
    gatjax.ops.blocks.DIRECT_NUMBERS = 0
    gatjax.ops.blocks.rows_per_block = lambda width, fewest=16: 16


def main(what: str, *sizes: str) -> None:
    """Alone, or as one of the processes that the environment names."""
    jax.config.update("jax_disable_most_optimizations", True)
    with cluster() as mesh:
        if what == "files":
            read_own_files(Path(sizes[0]), mesh)
        else:
            compare_all(what, *sizes)


def compare_all(what: str, *sizes: str) -> None:
    far: list[str] = []
    if what == "all":
        for turn in range(2):
            for num_shards in (1, 2, 3, 4):
                exchange = ("ring", "all_to_all")[(num_shards + turn) % 2]
                far += compare(layers(), num_shards, exchange)
                far += compare(models(), num_shards, exchange)
            in_blocks()
            jax.clear_caches()
    else:
        named = list(layers() if what == "layers" else models())
        named = named[1:3] if what == "few" else named
        half = len(named) // 2
        for size in map(int, sizes):
            far += compare(named[:half], size, "all_to_all")
        in_blocks()
        jax.clear_caches()
        for size in map(int, sizes):
            far += compare(named[half:], size)
    if far:
        raise SystemExit(f"not the same as on one device: {', '.join(far)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
