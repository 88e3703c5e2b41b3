"""Losses and metrics on labelled nodes."""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int


class Metrics(NamedTuple):
    """Loss and accuracy on one set of nodes."""

    loss: Float[Array, "*seeds"]
    accuracy: Float[Array, "*seeds"]


def softmax_cross_entropy(
    logits: Float[Array, "N classes"], nodes: Int[ArrayLike, "n"], labels: Int[ArrayLike, "n"]
) -> Metrics:
    """Mean cross-entropy and accuracy over the given nodes.

    ```
    L = -1/n Σ_i log softmax(logits_i)[label_i]
    ```

    >>> metrics = softmax_cross_entropy(jnp.array([[0.0, 9.0], [9.0, 0.0]]), jnp.array([0]), jnp.array([1]))
    >>> float(metrics.accuracy)
    1.0
    """
    chosen = logits.at[jnp.asarray(nodes)].get(mode="promise_in_bounds").astype(jnp.float32)
    labels = jnp.asarray(labels)
    loss = optax.softmax_cross_entropy_with_integer_labels(chosen, labels).mean()
    return Metrics(loss, (chosen.argmax(-1) == labels).mean(dtype=jnp.float32))


class Labels(NamedTuple):
    """The labelled nodes that training may see: those it fits, and those that tell when to stop."""

    train_nodes: Int[ArrayLike, "n"]
    train_labels: Int[ArrayLike, "n"]
    validation_nodes: Int[ArrayLike, "m"]
    validation_labels: Int[ArrayLike, "m"]
