"""Logistic regression on random rows: a training that is small, but has real parameters, keys and labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gatjax.training import Labels, Training, softmax_cross_entropy

ROWS = np.random.default_rng(0).normal(size=(29, 5)).astype(np.float32)
CLASSES = (ROWS[:, 0] + 0.3 * ROWS[:, 1] > 0).astype(np.int32)


def logistic(**settings):
    def logits(kernel, rows):
        return rows @ kernel

    def loss(kernel, key, rows, labels):
        kept = jax.random.bernoulli(key, 0.8, rows.shape)
        dropped = jnp.where(kept, rows, 0)
        return softmax_cross_entropy(
            logits(kernel, dropped), labels.train_nodes, labels.train_labels
        ).loss

    def validate(kernel, rows, labels):
        return softmax_cross_entropy(
            logits(kernel, rows), labels.validation_nodes, labels.validation_labels
        )

    settings = {"patience": 5, "max_epochs": 60, "epochs_per_dispatch": 7} | settings
    return Training(
        initialise=lambda key: jax.random.normal(key, (5, 2)),
        loss=loss,
        validate=validate,
        optimizer=optax.adam(0.1),
        **settings,
    )


def split_of(seed):
    nodes = np.random.default_rng(seed).permutation(29).astype(np.int32)
    return Labels(nodes[:11], CLASSES[nodes[:11]], nodes[11:18], CLASSES[nodes[11:18]])
