"""What the libraries in JAX have in common: inputs, phases, compilation."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from peers import Problem, Workload


def inputs(problem: Problem) -> tuple[Any, np.ndarray | None]:
    """Features of nodes and edges."""
    random = np.random.default_rng(0)
    nodes = problem.inputs
    if nodes is None:
        nodes = random.normal(size=(problem.edges.num_nodes, problem.width)).astype(np.float32)
    if problem.edge_features is None:
        return nodes, None
    size = len(problem.edges.senders), problem.edge_features
    return nodes, random.normal(size=size).astype(np.float32)


def workload(
    problem: Problem, forward: Callable, parameters: Any, nodes: Any, fixed: Any
) -> Workload:
    """The phase asked for, of `forward(parameters, nodes, fixed, key) -> [N, out]`."""
    key = jax.random.key(0)
    if problem.phase == "forward":
        return compiled(forward, parameters, nodes, fixed, key)
    if problem.phase == "gradient":

        def gradient(parameters, nodes, fixed, key):
            by = (parameters, nodes) if problem.inputs is None else (parameters,)
            run = lambda parameters, nodes=nodes: forward(parameters, nodes, fixed, key)
            out, pull_back = jax.vjp(run, *by)
            return out, pull_back(jnp.ones_like(out))

        return compiled(gradient, parameters, nodes, fixed, key)
    optimizer = optax.adam(1e-3)

    def step(parameters, state, nodes, fixed, key):
        loss = lambda parameters: jnp.mean(forward(parameters, nodes, fixed, key) ** 2)
        updates, state = optimizer.update(jax.grad(loss)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    return compiled(step, parameters, optimizer.init(parameters), nodes, fixed, key)


def compiled(function: Callable, *arguments: Any) -> Workload:
    arguments = jax.device_put(arguments)
    started = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - started
    return Workload(
        run=lambda: jax.block_until_ready(program(*arguments)),
        compile_seconds=seconds,
        **memory_of(program),
    )


def memory_of(program: Any) -> dict[str, Any]:
    """What a compiled program takes beside its inputs, by the compiler's account."""
    sizes = program.memory_analysis()
    most = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return {"temporary_bytes": sizes.temp_size_in_bytes, "device_bytes": lambda: most}
