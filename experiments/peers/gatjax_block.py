"""A GPS block by gatjax: GAT on the edges beside attention to all nodes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jraph import GraphsTuple

from gatjax import GATConv, GraphSelfAttention, NodeLinear, Stack, TransformerBlock
from peers import Workload, on_jax


def as_it_is(x: jax.Array) -> jax.Array:
    """What stands between attention and its output."""
    return x


def block(
    batch: Mapping[str, np.ndarray], num_heads: int
) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient by parameters and nodes; and the loss, and the norm of the nodes' gradient."""
    width, n_node = batch["nodes"].shape[1], batch["n_node"].astype(np.int32)
    shape: dict[str, Any] = {"num_heads": num_heads, "rngs": nnx.Rngs(0)}
    local = GATConv(width, width, **shape)
    attend = GraphSelfAttention(width, width, max_nodes=int(n_node.max()), **shape)
    output = NodeLinear(width, width, rngs=nnx.Rngs(0))
    whole = Stack([attend, output], activation=as_it_is)
    layer = TransformerBlock(local, whole, width, rngs=nnx.Rngs(0))
    heads = lambda name: jnp.asarray(batch[name].reshape(width, num_heads, -1))
    local.projection.kernel[...] = heads("local")
    for name in ("sender", "receiver"):
        getattr(local, f"{name}_vector")[...] = jnp.asarray(batch[name])
    for name in ("query", "key", "value"):
        getattr(attend, name).kernel[...] = heads(name)
    output.projection.kernel[...] = jnp.asarray(batch["mix"])[:, None]
    layer.wide.kernel[...] = jnp.asarray(batch["wide"])
    layer.narrow.kernel[...] = jnp.asarray(batch["narrow"])
    split, parameters, rest = nnx.split(layer, nnx.Param, ...)
    senders, receivers = batch["senders"], batch["receivers"]
    counts = np.bincount(
        np.repeat(np.arange(len(n_node)), n_node)[receivers], minlength=len(n_node)
    )
    graph = GraphsTuple(None, None, receivers, senders, None, n_node, counts.astype(np.int32))

    def gradient(parameters, x, graph, target):
        def loss(parameters, x):
            layer = nnx.merge(split, parameters, rest, copy=True)
            return (layer(graph._replace(nodes=x), deterministic=False).nodes * target).sum()

        return jax.value_and_grad(loss, argnums=(0, 1))(parameters, x)

    workload = on_jax.compiled(gradient, parameters, batch["nodes"], graph, batch["target"])

    def values() -> list[float]:
        loss, (_, of_nodes) = workload.run()
        return [float(loss), float(jnp.sqrt((of_nodes**2).sum()))]

    return workload, values
