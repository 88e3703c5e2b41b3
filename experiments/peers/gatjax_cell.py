"""gatjax: the graph GRU of GaAN over time."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from devices import use_every_core
from flax import nnx

from gatjax import GGRUCell, build_graph, over_time
from peers import Workload, on_jax

use_every_core()


def make_cell(sizes: Mapping[str, int]) -> GGRUCell:
    return GGRUCell(**sizes, rngs=nnx.Rngs(0))


def arrays_of(cell: GGRUCell) -> dict[str, np.ndarray]:
    """Its weights, by their paths."""
    parameters: Any = nnx.to_flat_state(nnx.state(cell, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(value[...]) for path, value in parameters}


def recurrent_cell(
    batch: Mapping[str, np.ndarray], sizes: dict[str, int]
) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient by parameters and signals, and what it gives, as `pyg_cell` has them."""
    cell, signals = make_cell(sizes), jnp.asarray(batch["signals"])
    parameters: Any = nnx.to_flat_state(nnx.state(cell, nnx.Param))
    for path, value in parameters:
        value[...] = jnp.asarray(batch["/".join(map(str, path))])
    nodes = np.zeros((signals.shape[2], 0), np.float32)
    graph = build_graph(batch["senders"], batch["receivers"], nodes)
    split, parameters = nnx.split(cell)

    def gradient(parameters, signals, graph):
        def loss(parameters, signals):
            cell = nnx.merge(split, parameters)
            carry = cell.initialize_carry(graph, batch_size=len(signals))
            last, _ = over_time(cell, signals, carry)
            return (last.hidden**2).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(parameters, signals)

    workload = on_jax.compiled(gradient, parameters, signals, graph)

    def values() -> list[float]:
        loss, (_, of_signals) = workload.run()
        return [float(loss), float(jnp.sqrt((of_signals**2).sum()))]

    return workload, values
