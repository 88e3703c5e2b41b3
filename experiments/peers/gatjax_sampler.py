"""Samples of neighbours by gatjax, in one program or with NumPy, and a step of training on them."""

from collections.abc import Callable, Mapping
from itertools import count, cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jraph import GraphsTuple

from gatjax import GAT
from gatjax.graph import Neighbors, neighbors_of, sample_hops
from gatjax.training import softmax_cross_entropy
from peers import Workload

Measured = tuple[Workload, Callable[[], list[float]]]


def jitted(arrays: Mapping[str, np.ndarray], fanouts: list[int]) -> Measured:
    """A batch by `jax.jit`."""
    neighbors = jax.device_put(_neighbors(arrays))
    steps, batches = count(), cycle(arrays["batches"])
    draw = jax.jit(
        lambda step, neighbors, seeds: sample_hops(_key(step), neighbors, seeds, fanouts)
    )
    return _sampling(lambda: jax.block_until_ready(draw(next(steps), neighbors, next(batches))))


def in_numpy(arrays: Mapping[str, np.ndarray], fanouts: list[int]) -> Measured:
    """The same, to the same bits, without compilation."""
    neighbors = _neighbors(arrays)
    steps, batches = count(), cycle(arrays["batches"])
    return _sampling(lambda: sample_hops(_key(next(steps)), neighbors, next(batches), fanouts))


def step(
    arrays: Mapping[str, np.ndarray], fanouts: list[int], sizes: Mapping[str, int]
) -> Measured:
    """Sampling, rows of features, loss, gradient and Adam in one program."""
    neighbors = jax.device_put(_neighbors(arrays))
    seeds = arrays["batches"]
    steps, batches = count(), cycle(seeds)
    features, labels = map(jnp.asarray, (arrays["features"], arrays["labels"]))
    model = GAT(
        features.shape[1],
        sizes["classes"],
        hidden_features=sizes["width"],
        num_layers=len(fanouts),
        num_heads=sizes["heads"],
        rngs=nnx.Rngs(0),
    )
    split, parameters, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adam(5e-3)

    def update(parameters, state, step, neighbors, features, labels, seeds):
        hops = sample_hops(_key(step), neighbors, seeds, fanouts, self_loops=True)
        masks = {"node_mask": hops.node_mask, "edge_mask": hops.edge_mask}

        def loss(parameters):
            layers = nnx.merge(split, parameters, rest, copy=True)
            logits = layers(hops.graph(features), view=hops.views, **masks).nodes
            return softmax_cross_entropy(logits, jnp.arange(len(seeds)), labels[seeds]).loss

        value, gradient = jax.value_and_grad(loss)(parameters)
        change, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, change), state, value

    run = jax.jit(update, donate_argnums=(0, 1))
    held: dict[str, Any] = {"state": (parameters, optimizer.init(parameters))}

    def train() -> Any:
        given = next(steps), neighbors, features, labels, next(batches)
        *state, value = jax.block_until_ready(run(*held["state"], *given))
        held["state"] = tuple(state)
        return value

    def values() -> list[float]:
        return _first_hop(sample_hops(_key(0), neighbors, seeds[0], fanouts))

    return Workload(train), values


def _sampling(draw: Callable[[], Any]) -> Measured:
    first = draw()
    return Workload(draw), lambda: _first_hop(first)


def _first_hop(hops: Any) -> list[float]:
    """How many neighbours the seeds of the first batch have: those of a node, or the fan-out."""
    edges = hops.sizes[1][1]
    return [float(np.asarray(hops.edge_mask)[:edges].sum())]


def _neighbors(arrays: Mapping[str, np.ndarray]) -> Neighbors:
    sizes = (np.array([len(arrays[name])], np.int32) for name in ("labels", "senders"))
    ends = arrays["receivers"], arrays["senders"]
    return neighbors_of(GraphsTuple(None, None, *ends, None, *sizes))


def _key(step: int | jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.key(0), step)
