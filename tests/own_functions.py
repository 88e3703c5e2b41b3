"""A module of the user's own, whose functions models and processes use."""

import jax
import numpy as np


def squash(x):
    return jax.nn.tanh(x) + x


def predict(model, graph):
    return np.asarray(model(graph).nodes)
