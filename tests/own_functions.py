"""A module of the user's own, whose functions models and processes use."""

import dataclasses
import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import gatjax


def squash(x):
    return jax.nn.tanh(x) + x


def predict(model, graph):
    return np.asarray(model(graph).nodes)


class Kind(enum.Enum):
    WIDE = "wide"
    NARROW = "narrow"


class Widths(NamedTuple):
    hidden: int
    out: int


@dataclasses.dataclass(frozen=True)
class Config:
    kind: Kind
    widths: Widths
    activation: object
    dtype: object = jnp.float32
    names: tuple[str, ...] = ()


class Own(nnx.Module):
    """A convolution, a norm with running statistics, and what its configuration says."""

    def __init__(self, config, options, *, shapes, rngs):
        self.config, self.shapes = config, shapes
        self.conv = gatjax.GATConv(5, config.widths.hidden, **options, rngs=rngs)
        self.norm = nnx.BatchNorm(config.widths.hidden, rngs=rngs)
        self.last = nnx.Linear(config.widths.hidden, config.widths.out, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, graph):
        nodes = self.config.activation(self.norm(self.conv(graph).nodes))
        return self.last(self.drop(nodes))


def network(width, rngs):
    """A module made of modules and of a function that has no name."""
    edge = gatjax.RowMLP([10, width], rngs=rngs)
    return gatjax.GraphNetwork(edge, lambda nodes, received, globals: jnp.tanh(received))


class Looks(nnx.Module):
    """Its constructor looks at the numbers that it draws."""

    def __init__(self, rngs):
        kernel = rngs.normal((5, 2))
        self.kernel = nnx.Param(kernel if float(kernel.sum()) > 0 else -kernel)

    def __call__(self, graph):
        return graph.nodes @ self.kernel[...]


def two_layers(layer, in_features, hidden_features, out_features, *, rngs, **options):
    """A stack of any layer, such as one's own, in which the last has one head."""
    senders = in_features[1] if isinstance(in_features, tuple) else None
    deeper = hidden_features if senders is None else (hidden_features, senders)
    first = layer(in_features, hidden_features, **options, rngs=rngs)
    last = layer(deeper, out_features, **{**options, "num_heads": 1}, rngs=rngs)
    return gatjax.Stack([first, last])
