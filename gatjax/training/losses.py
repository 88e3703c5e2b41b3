"""Losses and metrics on labelled nodes."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Num

from gatjax.ops.segment import wide_ids

MASK_REMEDY = ": of a mask, train_nodes are np.flatnonzero(mask), and train_labels labels[mask]"


class Metrics(NamedTuple):
    """Loss and accuracy on one set of nodes."""

    loss: Float[Array, "*seeds"]
    accuracy: Float[Array, "*seeds"]


def softmax_cross_entropy(
    logits: Float[Array, "N classes"],
    nodes: Integer[ArrayLike, "n"],
    labels: Integer[ArrayLike, "n"],
) -> Metrics:
    """Mean cross-entropy and accuracy over the given nodes that have a label.

    ```
    L = -1/n Σ_i log softmax(logits_i)[label_i]
    ```

    Args:
      logits: of every node.
      nodes: ids of those to look at.
      labels: the class id of each, or -1 where a node has no label: it is left out.

    Returns:
      Loss and accuracy; 0 where no node has a label. Inside `jax.jit`, where ids are unknown, a node or a label that
      does not exist is left out too.

    Raises:
      ValueError: the lengths disagree, or a node or a label does not exist.

    >>> logits = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    >>> metrics = softmax_cross_entropy(logits, jnp.array([0, 1]), jnp.array([1, -1]))
    >>> float(metrics.accuracy)
    1.0
    """
    _check_labelled(logits, nodes, labels)
    nodes, labels = jnp.asarray(nodes), jnp.asarray(labels)
    num_nodes, num_classes = logits.shape
    total = len(labels)
    if total == 0:
        return Metrics(jnp.float32(0), jnp.float32(0))
    nodes, labels = wide_ids(nodes), wide_ids(labels)
    counts = (labels >= 0) & (labels < num_classes) & (nodes >= 0) & (nodes < num_nodes)
    # What does not count is read as a row of zeros, so that no gradient of it reaches a node.
    chosen = logits.at[jnp.where(counts, nodes, num_nodes)].get(mode="fill", fill_value=0)
    chosen, known = chosen.astype(jnp.float32), jnp.where(counts, labels, 0)
    each = optax.softmax_cross_entropy_with_integer_labels(chosen, known)
    right = counts & (chosen.argmax(-1) == known)
    # 1 where all of them count: the mean over all, to the last bit.
    share = total / jnp.maximum(counts.sum(dtype=jnp.float32), 1)
    loss = jnp.where(counts, each, 0).mean()
    return Metrics(loss * share, right.mean(dtype=jnp.float32) * share)


def _check_labelled(logits: Array, nodes: ArrayLike, labels: ArrayLike) -> None:
    """Shapes and types always, ids where they are known."""
    for name, ids in (("nodes", nodes), ("labels", labels)):
        shape, dtype = np.shape(ids), jnp.asarray(ids).dtype
        if len(shape) != 1 or (shape[0] and not jnp.issubdtype(dtype, jnp.integer)):
            remedy = MASK_REMEDY if name == "nodes" and dtype == np.bool_ else ""
            raise ValueError(
                f"{name} must be a vector of integers, got {dtype}{list(shape)}{remedy}"
            )
    if np.shape(nodes) != np.shape(labels):
        raise ValueError(
            f"nodes has {np.size(nodes)} ids and labels has {np.size(labels)}: give one label per node, "
            "-1 where it has none"
        )
    for name, ids, lowest, end, remedy in (
        ("nodes", nodes, 0, logits.shape[0], "logits has one row per node"),
        ("labels", labels, -1, logits.shape[1], "classes count from 0, and -1 means no label"),
    ):
        if isinstance(ids, Tracer):
            continue
        ids = np.asarray(ids)
        bad = np.flatnonzero((ids < lowest) | (ids >= end))
        if len(bad):
            raise ValueError(
                f"{name}[{bad[0]}] = {ids[bad[0]]} is out of range: it must lie between {lowest} "
                f"and {end - 1}, since {remedy}"
            )


class Labels(NamedTuple):
    """The labelled nodes that training may see: those it fits, and those that tell when to stop.

    A label is what the loss takes: a class id, -1 where there is none; numbers `[n]` or `[n, T]`, NaN where there is
    none; or 0 and 1 for each of several classes, NaN or -1 where that is unknown.
    """

    train_nodes: Int[ArrayLike, "n"]
    train_labels: Num[ArrayLike, "n *targets"]
    validation_nodes: Int[ArrayLike, "m"]
    validation_labels: Num[ArrayLike, "m *targets"]
