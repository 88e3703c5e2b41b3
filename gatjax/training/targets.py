"""Losses and metrics for targets other than one class per node: numbers, several labels, unbalanced classes.

Shapes: N nodes, n of them looked at, T targets, K classes. A target that a node lacks is NaN, a label -1 or NaN: it is
left out of losses and metrics. Outside `jax.jit` a node that does not exist is refused, inside it is left out.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Integer, Num

from gatjax.graph.numbers import check_digits
from gatjax.ops.segment import wide_ids
from gatjax.training.losses import MASK_REMEDY, Metrics


def squared_error(
    outputs: Float[Array, "N *targets"],
    nodes: Integer[ArrayLike, "n"],
    targets: Num[ArrayLike, "n *targets"],
) -> Metrics:
    """Mean squared error and the coefficient of determination over the targets that are not NaN.

    ```
    L = 1/m Σ (output - target)²        R² = 1 - Σ (output - target)² / Σ (target - mean)²
    ```

    with m targets and the mean of each column.

    Args:
      outputs: of every node, [N] or [N, T].
      nodes: ids of those to look at.
      targets: of each of them, [n] or [n, T], NaN where there is none.

    Returns:
      The loss, and R² as the accuracy; 0 where there are no targets, and R² is 0 where all are equal.

    Raises:
      ValueError: shapes that disagree, a node that does not exist, an infinite target.

    >>> outputs, targets = jnp.array([[1.0], [4.0], [7.0]]), jnp.array([[3.0], [jnp.nan]])
    >>> float(squared_error(outputs, jnp.array([0, 1]), targets).loss)
    4.0
    """
    given = targets
    chosen, targets, counted = _chosen(outputs, nodes, targets)
    counted = counted & jnp.isfinite(targets)
    _check_values("targets", given, lambda x: ~np.isinf(x), "finite, or NaN where there is none")
    targets = jnp.where(counted, targets, 0)
    squares = jnp.where(counted, chosen - targets, 0) ** 2
    count = counted.sum(axis=0, keepdims=True, dtype=squares.dtype)
    mean = targets.sum(axis=0, keepdims=True) / jnp.maximum(count, 1)
    # Not by the spread itself: a mean of equal numbers may be rounded away from them.
    highest = jnp.where(counted, targets, -jnp.inf).max(axis=0, keepdims=True, initial=-jnp.inf)
    lowest = jnp.where(counted, targets, jnp.inf).min(axis=0, keepdims=True, initial=jnp.inf)
    varies = counted & (lowest < highest)
    spread = jnp.sum(jnp.where(varies, targets - mean, 0) ** 2)
    loss = squares.sum() / jnp.maximum(count.sum(), 1)
    score = jnp.where(spread > 0, 1 - squares.sum() / jnp.where(spread > 0, spread, 1), 0)
    return Metrics(loss, score)


def sigmoid_cross_entropy(
    logits: Float[Array, "N classes"],
    nodes: Integer[ArrayLike, "n"],
    labels: Num[ArrayLike, "n classes"] | Bool[ArrayLike, "n classes"],
) -> Metrics:
    """Mean cross-entropy of several labels of 0 and 1 per node, and the micro-averaged F1 score.

    ```
    L = -1/m Σ label log σ(logit) + (1 - label) log(1 - σ(logit))       F1 = 2 TP / (2 TP + FP + FN)
    ```

    with m labels; a label is predicted where its logit is over 0, and TP, FP, FN are counted over all labels.

    Args:
      logits: of every node.
      nodes: ids of those to look at.
      labels: 0 or 1 for each class, NaN or -1 where it is unknown.

    Returns:
      The loss, and F1 as the accuracy; 0 where there are no labels.

    Raises:
      ValueError: shapes that disagree, a node that does not exist, a label that is not 0 or 1.

    >>> metrics = sigmoid_cross_entropy(jnp.array([[9.0, -9.0]]), jnp.array([0]), jnp.array([[1, 1]]))
    >>> round(float(metrics.accuracy), 2)
    0.67
    """
    given = labels
    chosen, labels, counted = _chosen(logits, nodes, labels)
    is_label = lambda x: (x == 0) | (x == 1) | (x == -1) | np.isnan(x)
    _check_values("labels", given, is_label, "0 or 1, or NaN or -1 where it is unknown")
    counted = counted & ((labels == 0) | (labels == 1))
    chosen, labels = jnp.where(counted, chosen, 0), jnp.where(counted, labels, 0)
    each = jnp.where(counted, optax.sigmoid_binary_cross_entropy(chosen, labels), 0)
    loss = each.sum() / jnp.maximum(counted.sum(dtype=each.dtype), 1)
    predicted, true = counted & (chosen > 0), counted & (labels == 1)
    positives = (predicted.sum() + true.sum()).astype(each.dtype)
    return Metrics(loss, 2 * (predicted & true).sum() / jnp.maximum(positives, 1))


def weighted_softmax_cross_entropy(
    logits: Float[Array, "N classes"],
    nodes: Integer[ArrayLike, "n"],
    labels: Integer[ArrayLike, "n"],
    weights: Float[ArrayLike, "classes"],
) -> Metrics:
    """Cross-entropy whose nodes weigh as their classes do, and accuracy, in which they weigh the same.

    ```
    L = -Σ_i w[label_i] log softmax(logits_i)[label_i] / Σ_i w[label_i]
    ```

    Args:
      logits: of every node.
      nodes: ids of those to look at.
      labels: the class id of each, -1 where it has none.
      weights: of each class, such as `class_weights` gives.

    Returns:
      Loss and accuracy; 0 where no node has a label.

    Raises:
      ValueError: shapes that disagree, a node or a class that does not exist, a negative weight.

    >>> logits = jnp.array([[0.0, 0.0], [0.0, 0.0]])
    >>> metrics = weighted_softmax_cross_entropy(logits, jnp.array([0, 1]), jnp.array([0, -1]), jnp.ones(2))
    >>> round(float(metrics.loss), 4)
    0.6931
    """
    num_classes = logits.shape[-1]
    if np.shape(weights) != (num_classes,):
        raise ValueError(
            f"weights has shape {np.shape(weights)}: give one for each of {num_classes} classes"
        )
    is_weight = lambda x: np.isfinite(x) & (x >= 0)
    _check_values("weights", weights, is_weight, "a finite number that is not negative")
    weights = jnp.asarray(weights)
    classes = _array(labels)
    if classes.ndim != 1 or not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(
            f"labels must be class ids [n], got {classes.dtype} of shape {classes.shape}"
        )
    exists = (classes >= 0) & (classes < num_classes)
    is_id = lambda x: (x >= -1) & (x < num_classes)
    _check_values("labels", labels, is_id, "a class id, or -1 where it has none")
    chosen, _, counted = _chosen(
        logits, nodes, jnp.broadcast_to(classes[:, None], (len(classes), num_classes))
    )
    counted = counted.all(axis=-1) & exists
    known = jnp.where(counted, classes, 0).astype(jnp.int32)
    chosen = jnp.where(counted[:, None], chosen, 0)
    each = optax.softmax_cross_entropy_with_integer_labels(chosen, known)
    weight = jnp.where(counted, weights.astype(chosen.dtype)[known], 0)
    total = weight.sum()
    loss = jnp.sum(weight * each) / jnp.where(total > 0, total, 1)
    right = (counted & (chosen.argmax(-1) == known)).sum(dtype=jnp.float32)
    return Metrics(loss, right / jnp.maximum(counted.sum(dtype=jnp.float32), 1))


def class_weights(
    labels: npt.ArrayLike, num_classes: int | None = None
) -> Float[np.ndarray, "classes"]:
    """Weights by which every class counts the same, however few nodes it has.

    ```
    w_k = n / (K n_k)                                       K classes have a node
    ```

    Args:
      labels: class ids, -1 where there is none; those of the training nodes.
      num_classes: how many weights; the largest id plus 1 by default.

    Returns:
      A weight per class, 1 on average over the nodes; 0 for a class without nodes.

    Raises:
      ValueError: labels that are no class ids.

    >>> class_weights([0, 0, 0, 1, -1]).round(3).tolist()
    [0.6669999957084656, 2.0]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
        raise ValueError(
            f"labels must be class ids [n], got {labels.dtype} of shape {labels.shape}"
        )
    ids = labels.astype(np.int64)
    total = int(ids.max(initial=-1)) + 1 if num_classes is None else num_classes
    bad = np.flatnonzero((ids < -1) | (ids >= total))
    if len(bad):
        raise ValueError(
            f"labels[{bad[0]}] = {ids[bad[0]]} is no class: ids run from 0 to {total - 1}, and -1 is none"
        )
    counts = np.bincount(ids[ids >= 0], minlength=total)
    present = np.maximum(counts, 1) * max(np.count_nonzero(counts), 1)
    return np.where(counts > 0, counts.sum() / present, 0).astype(np.float32)


def _chosen(
    outputs: Array, nodes: ArrayLike, targets: ArrayLike
) -> tuple[Array, Array, Bool[Array, "n ..."]]:
    """Rows and targets of the nodes in float32 at least, and which entries have a node.

    A row that does not count is one of zeros, so that no gradient of it reaches a node.
    """
    given, wanted = _array(nodes), _array(targets)
    dtype = jnp.promote_types(outputs.dtype, jnp.float32)
    num_nodes, width = outputs.shape[0], tuple(outputs.shape[1:])
    if not jnp.issubdtype(given.dtype, jnp.integer) and given.size:
        remedy = MASK_REMEDY if given.dtype == bool else ""
        raise ValueError(f"nodes must be integers, got {given.dtype}{remedy}")
    if given.ndim != 1 or wanted.shape != (given.shape[0], *width):
        raise ValueError(
            f"outputs has shape {list(outputs.shape)}, nodes {list(given.shape)} and the targets "
            f"{list(wanted.shape)}: give one target of shape {list(width)} per node"
            + _reshaped(outputs, wanted)
        )
    if not isinstance(given, Tracer):
        known = np.asarray(given)
        bad = np.flatnonzero((known < 0) | (known >= num_nodes))
        if len(bad):
            raise ValueError(
                f"nodes[{bad[0]}] = {known[bad[0]]} is out of range: outputs has {num_nodes} rows"
            )
    if isinstance(wanted, np.ndarray):
        place = lambda index: f"targets[{', '.join(map(str, index))}] = "
        check_digits(wanted, place, np.dtype(dtype))
    ids = wide_ids(jnp.asarray(given))
    exists = (ids >= 0) & (ids < num_nodes)
    chosen = outputs.at[jnp.where(exists, ids, num_nodes).astype(jnp.int32)].get(
        mode="fill", fill_value=0
    )
    counted = jnp.broadcast_to(jnp.expand_dims(exists, tuple(range(1, outputs.ndim))), chosen.shape)
    return chosen.astype(dtype), jnp.asarray(wanted).astype(dtype), counted


def _array(values: ArrayLike) -> Any:
    """Lists become NumPy arrays, whose large integers no conversion to JAX has cut yet."""
    return values if isinstance(values, jax.Array) else np.asarray(values)


def _reshaped(outputs: Array, targets: ArrayLike) -> str:
    """What helps where one of the two has a column that the other has not."""
    if outputs.ndim == 2 and outputs.shape[1] == 1 and np.ndim(targets) == 1:
        return ", here targets[:, None]"
    return ""


def _check_values(
    name: str, values: ArrayLike, is_good: Callable[[np.ndarray], np.ndarray], meaning: str
) -> None:
    """Refuse values that are known and not good, by NumPy: inside `jax.jit` JAX would stage it."""
    if isinstance(values, Tracer):
        return
    bad = np.argwhere(~is_good(array := np.asarray(values)))
    if len(bad):
        index = tuple(bad[0].tolist())
        raise ValueError(f"{name}[{', '.join(map(str, index))}] = {array[index]} must be {meaning}")
