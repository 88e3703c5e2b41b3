"""Models without attention: what the graph, and what the features alone, are worth."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from gatjax.layers.controls import GCNConv, NodeLinear
from gatjax.layers.parts import DropoutRates
from gatjax.models.stack import Stack, _stack


def GCN(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    """Graph convolutional network: `GCNConv` layers with a ReLU; the graph must bring its self-loops.

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """
    return _stack(
        GCNConv,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={},
        last={},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )


def MLP(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    """Multilayer perceptron on each node alone: what the features tell without the graph.

    Of `dropout_rate` it uses `DropoutRates.inputs`; it has no attention.
    """
    return _stack(
        NodeLinear,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={},
        last={},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )
