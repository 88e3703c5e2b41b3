"""gatjax: its layers, by the hot path it chooses and by the plain formula."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gatjax import DotProductConv, GATConv, GATv2Conv, attention, build_graph
from peers import Workload

EPOCHS = 5
SEED_EPOCHS = 50
LAYERS = {"gat": GATConv, "gatv2": GATv2Conv, "dot": DotProductConv}


def layer(
    mechanism: str,
    senders: np.ndarray,
    receivers: np.ndarray,
    num_nodes: int,
    heads: int,
    features: int,
    backward: bool,
) -> Workload:
    width = heads * features
    nodes = np.random.default_rng(0).normal(size=(num_nodes, width)).astype(np.float32)
    graph = jax.device_put(build_graph(senders, receivers, nodes))
    module = LAYERS[mechanism](width, width, num_heads=heads, rngs=nnx.Rngs(0))
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def forward(parameters, nodes, graph):
        return nnx.merge(graphdef, parameters, rest)(graph._replace(nodes=nodes)).nodes

    def both(parameters, nodes, graph):
        out, pull_back = jax.vjp(lambda *inputs: forward(*inputs, graph), parameters, nodes)
        return out, pull_back(jnp.ones_like(out))

    return compiled(both if backward else forward, parameters, graph.nodes, graph)


def plain_layer(*arguments) -> Workload:
    """The same layer, made to hold all E·H·C numbers at once."""
    attention.DIRECT_NUMBERS = 2**62
    return layer(*arguments)


def compiled(function: Callable, *arguments) -> Workload:
    started = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - started
    return Workload(
        run=lambda: jax.block_until_ready(program(*arguments)),
        compile_seconds=seconds,
        temporary_bytes=program.memory_analysis().temp_size_in_bytes,
    )


def epoch(dataset: str, features: str) -> Workload:
    """An epoch of the paper's GAT, a training step and an evaluation; several in one dispatch."""
    import citation

    from gatjax.training import advance, start

    task = citation.Task(citation.Config(dataset=dataset, features=features))
    training = citation.make_training(task)._replace(patience=10**6, epochs_per_dispatch=EPOCHS)
    graph, labels = jax.device_put(task.graph), jax.device_put(task.labels(0))
    box = [start(training, 0)]
    started = time.perf_counter()
    program = advance.lower(training, box[0], graph, labels).compile()
    seconds = time.perf_counter() - started

    def run() -> None:
        box[0], history = program(box[0], graph, labels)
        jax.block_until_ready(history)

    return Workload(run, seconds, program.memory_analysis().temp_size_in_bytes, times=EPOCHS)


def seeds(dataset: str, count: int) -> Workload:
    """`count` trainings of the paper's GAT at once, per epoch of each."""
    import citation

    from gatjax.training import train

    task = citation.Task(citation.Config(dataset=dataset))
    training = citation.make_training(task)._replace(patience=10**6, max_epochs=SEED_EPOCHS)

    def run() -> None:
        list(train(training, range(count), task.graph, task.labels, progress=False))

    return Workload(run, times=SEED_EPOCHS)
