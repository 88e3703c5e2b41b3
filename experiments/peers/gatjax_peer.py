"""gatjax: its layers, by the hot path it chooses and by the plain formula."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from devices import use_every_core
from flax import nnx

from gatjax import (
    AttentionBlock,
    DotProductConv,
    GaANConv,
    GATConv,
    GATv2Conv,
    Masks,
    MATConv,
    RelationalGATConv,
    Slots,
    build_graph,
    fully_connected,
    pad,
    unpad,
)
from gatjax.ops import blocks
from gatjax.training import advance, functional, start, train
from peers import GATE_FEATURES, NUM_RELATIONS, Problem, Workload, on_jax

EPOCHS = 5
SEED_EPOCHS = 50
LAYERS = {
    "gat": GATConv,
    "gatv2": GATv2Conv,
    "dot": DotProductConv,
    "gaan": GaANConv,
    "relational": RelationalGATConv,
    "block": AttentionBlock,
    "hard": GATConv,
}


def own_options(problem: Problem) -> dict[str, Any]:
    """What a layer has beside the options of all."""
    if problem.mechanism == "gaan":
        each = {"key_features": problem.features, "value_features": problem.features}
        return {**each, "gate_features": GATE_FEATURES}
    options = {
        "relational": {"num_relations": NUM_RELATIONS},
        "hard": {"normalize": "hardmax"},
    }
    return options.get(problem.mechanism, {})


def layer(problem: Problem) -> Workload:
    """The layer, in blocks of the size that is asked for, if one is."""
    if problem.block_numbers is None:
        return chosen_layer(problem)
    names = "BLOCK_NUMBERS", "ACCELERATOR_BLOCK_NUMBERS"
    with sizes(**dict.fromkeys(names, problem.block_numbers)):
        return chosen_layer(problem)


def plain_layer(problem: Problem) -> Workload:
    """The same layer, made to hold all E·H·C numbers at once."""
    with sizes(DIRECT_NUMBERS=2**62, ACCELERATOR_BLOCK_NUMBERS=2**62):
        return chosen_layer(problem)


@contextlib.contextmanager
def sizes(**numbers: int) -> Iterator[None]:
    """Other sizes than gatjax's own, for what is compiled in here."""
    with contextlib.ExitStack() as stack:
        for name, number in numbers.items():
            stack.enter_context(mock.patch.object(blocks, name, number))
        yield


def chosen_layer(problem: Problem) -> Workload:
    """The layer as it chooses its way itself."""
    nodes, edges = on_jax.inputs(problem)
    if problem.mechanism == "relational":
        edges = (
            problem.relations
            if edges is None
            else {"relation": problem.relations, "features": edges}
        )
    graph = build_graph(problem.edges.senders, problem.edges.receivers, nodes, edges=edges)
    build = functools.partial(
        LAYERS[problem.mechanism],
        problem.in_features,
        problem.width,
        num_heads=problem.heads,
        edge_features=problem.edge_features,
        dropout_rate=problem.dropout,
        **own_options(problem),
    )
    initialise, apply = functional(lambda rngs: build(rngs=rngs))

    def forward(parameters, nodes, graph, key):
        return apply(parameters, graph._replace(nodes=nodes), key=key).nodes

    workload = on_jax.workload(problem, forward, initialise(jax.random.key(0)), nodes, graph)
    return workload._replace(least_bytes=problem.least_bytes)


def scatter(rows: int, width: int, targets: int, order: str, dtype: str) -> Workload:
    """Rows [rows, width] added into a table [targets, width]."""
    random = np.random.default_rng(0)
    ids = random.integers(targets, size=rows).astype(np.int32)
    ids = np.sort(ids) if order == "sorted" else ids
    added = jnp.ones((rows, width), dtype)
    into = jnp.zeros((targets, width), dtype)
    add = lambda into, ids, added: into.at[ids].add(added, mode="promise_in_bounds")
    least = added.nbytes + ids.nbytes + 2 * into.nbytes
    return on_jax.compiled(add, into, ids, added)._replace(least_bytes=least)


@functools.cache
def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a plain copy: of 256 MiB, or on an accelerator of 2 GiB."""
    source = jnp.ones(2**26 if blocks.on_cpu() else 2**29, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        copy(source).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(seconds)


def epoch(dataset: str, features: str, dropouts: str, device: str) -> Workload:
    """An epoch of the paper's GAT, a training step and an evaluation; several in one dispatch.

    Dropouts are those of the original code, or those of PyTorch Geometric's layers.
    """
    import citation

    use_every_core()
    fewer = {"input_masks": "shared", "projected_dropout": 0.0} if dropouts == "pyg" else {}
    config = citation.Config(dataset=dataset, features=features, **fewer)
    task = citation.Task(citation.resolve(config))
    training = citation.make_training(task)._replace(patience=10**6, epochs_per_dispatch=EPOCHS)
    graph, labels = jax.device_put((task.graph, task.labels(0)), jax.devices(device)[0])
    box = [start(training, 0)]
    started = time.perf_counter()
    program = advance.lower(training, box[0], graph, labels).compile()
    seconds = time.perf_counter() - started

    def run() -> None:
        box[0], history = program(box[0], graph, labels)
        jax.block_until_ready(history)

    return Workload(run, seconds, times=EPOCHS, **on_jax.memory_of(program))


def seeds(dataset: str, count: int) -> Workload:
    """`count` trainings of the paper's GAT at once, per epoch of each."""
    import citation

    use_every_core()
    settings = citation.resolve(citation.Config(dataset=dataset, seeds=count))
    task = citation.Task(settings)
    training = citation.make_training(task)._replace(patience=10**6, max_epochs=SEED_EPOCHS)
    together = {"seeds_per_device": settings.seeds_per_device, "progress": False}

    def run() -> None:
        list(train(training, range(count), task.graph, task.labels, **together))

    return Workload(run, times=SEED_EPOCHS)


def molecule_layer(
    batch: Mapping[str, np.ndarray], num_heads: int, how: str = "pairs"
) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient of MAT's layer, and what it gives, as `torch_peer` has them; over the edges alone on demand."""
    graphs, nodes, width = batch["nodes"].shape
    slots, mask = Slots(nodes, graphs), batch["mask"].reshape(-1)
    complete = [fully_connected(nodes, nodes=x) for x in batch["nodes"]]
    known = {name: batch[name].reshape(graphs, -1) for name in ("distance", "adjacency")}
    edges = [{name: rows[g] for name, rows in known.items()} for g in range(graphs)]
    graph, _ = pad([g._replace(edges=e) for g, e in zip(complete, edges, strict=True)], slots)
    counted = mask
    if how == "edges":
        edge = mask[np.asarray(graph.senders)] & mask[np.asarray(graph.receivers)]
        graph = unpad(graph, Masks(mask, edge, np.ones(graphs, bool)))
        counted = np.ones(len(graph.nodes), bool)
    rngs = nnx.Rngs(0)
    conv = MATConv(width, width, num_heads=num_heads, weights=batch["weights"].tolist(), rngs=rngs)
    mix = nnx.Linear(width, width, rngs=rngs)
    for name in ("query", "key", "value"):
        projection = getattr(conv, name)
        projection.kernel[...] = jnp.asarray(batch[name].reshape(width, num_heads, -1))
    mix.kernel[...] = jnp.asarray(batch["mix"])
    split, parameters = nnx.split((conv, mix))

    def gradient(parameters, x, graph):
        def loss(parameters, x):
            conv, mix = nnx.merge(split, parameters)
            out = mix(conv(graph._replace(nodes=x), node_mask=counted).nodes)
            return (jnp.where(counted[:, None], out, 0) ** 2).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(parameters, x)

    workload = on_jax.compiled(gradient, parameters, graph.nodes, graph)

    def values() -> list[float]:
        loss, (_, of_nodes) = workload.run()
        return [float(loss), float(jnp.sqrt((of_nodes**2).sum()))]

    return workload, values
