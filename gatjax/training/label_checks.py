"""Labels that no training can have are refused before it starts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from gatjax.training.loop import Training, TrainState
from gatjax.training.losses import Labels
from gatjax.training.stopping import last_epoch


def checked_labels(training: Training, seed: int, labels: PyTree) -> PyTree:
    """`Labels` as arrays; refused are names, none to fit, and none that tells when to stop."""
    if not isinstance(labels, Labels):
        return labels
    labels = Labels(*(np.asarray(x) if isinstance(x, list | tuple) else x for x in labels))
    for name in ("train_labels", "validation_labels"):
        if (dtype := np.asarray(getattr(labels, name)).dtype).kind in "OSU":
            raise TypeError(
                f"{name} of seed {seed} must be numbers, got {dtype}: number those of all nodes before some are "
                "chosen, names, labels = np.unique(labels, return_inverse=True)"
            )
    if not np.any(_is_known(labels.train_labels)):
        raise ValueError(
            f"train_nodes of seed {seed} has no node with a label: give some to fit, see gatjax.data.random_split"
        )
    if training.rule is not last_epoch and not np.any(_is_known(labels.validation_labels)):
        raise ValueError(
            f"validation_nodes of seed {seed} has no node with a label, by which to stop and to save: give "
            "some, or train for a stated number of epochs and keep the last with rule=last_epoch, max_epochs=..."
        )
    return labels


def _is_known(labels: ArrayLike) -> np.ndarray:
    """Of class ids and labels those that are not -1, of numbers those that are not NaN."""
    array = np.asarray(labels)
    return array >= 0 if _has_ids(array) else ~np.isnan(array)


class ValueCheck:
    """Has the losses look at labels that are known: inside `jax.jit` one that does not exist would be left out.

    Nothing is computed, but for the trace of both losses, which takes as long as dozens of epochs of a small graph. So
    it is left out for ids between those that were looked at before, and for numbers that equal them.
    """

    def __init__(self, training: Training):
        self.training = training
        self.seen: tuple[Any, list[np.ndarray]] | None = None

    def __call__(self, state: TrainState, data: PyTree, labels: PyTree) -> None:
        leaves, kind = jax.tree.flatten(labels)
        arrays = [_numbers(leaf) for leaf in leaves]
        kind = kind, [(array.shape, array.dtype) for array in arrays]
        extents = [_extent(array) for array in arrays]
        known = self.seen[1] if self.seen is not None and self.seen[0] == kind else None
        if known is not None and all(map(_covers, known, extents)):
            return
        self._look(state, data, labels)
        self.seen = kind, extents if known is None else list(map(_both, known, extents))

    def _look(self, state: TrainState, data: PyTree, labels: PyTree) -> None:
        def of(parameters, key, data):
            loss = self.training.loss(parameters, key, data, labels)
            return loss, self.training.validate(parameters, data, labels)

        jax.eval_shape(of, state.parameters, state.key, data)


def _numbers(leaf: ArrayLike) -> np.ndarray:
    """Those of an array; of a random key its words."""
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _extent(array: np.ndarray) -> np.ndarray:
    """The least and the largest id; of numbers all."""
    return np.array([array.min(), array.max()]) if _has_ids(array) and array.size else array


def _covers(known: np.ndarray, extent: np.ndarray) -> bool:
    if _has_ids(known) and known.size:
        return bool(known[0] <= extent[0] and extent[1] <= known[1])
    return np.array_equal(known, extent, equal_nan=known.dtype.kind in "fc")


def _both(known: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """What covers both."""
    if _has_ids(known) and known.size:
        return np.array([min(known[0], extent[0]), max(known[1], extent[1])])
    return extent


def _has_ids(array: np.ndarray) -> bool:
    return array.dtype.kind in "biu"
