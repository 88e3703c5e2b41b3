"""The gated attention network."""

from typing import Any, Unpack

import jax
from flax import nnx
from jaxtyping import Array

from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.dropout import Dropout, DropoutRates, rates_of
from gatjax.layers.gaan import NEGATIVE_SLOPE, GaANConv
from gatjax.layers.inputs import InFeatures, widths
from gatjax.layers.options import listed
from gatjax.models.options import GaANOptions
from gatjax.models.stack import Stack, beside_senders

_AFTER_LAYERS = DropoutRates(inputs=0.1)

# What the linear layers of a model share with its message-passing layers.
_LINEAR_OPTIONS = ("use_bias", "kernel_init", "dtype", "param_dtype")


@listed(GaANOptions, GaANConv)
def GaAN(
    in_features: InFeatures,
    out_features: int,
    *,
    embed_features: int = 64,
    hidden_features: int = 128,
    num_layers: int = 2,
    num_heads: int = 8,
    dropout_rate: float | DropoutRates = _AFTER_LAYERS,
    rngs: nnx.Rngs,
    **layer_options: Unpack[GaANOptions],
) -> Stack:
    """Gated attention network: an embedding, `GaANConv` layers with a LeakyReLU, a linear layer to the classes.

    By default it is the network of the paper for PPI. The graph needs no self-loops.

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the output.
      embed_features: width of the embedding, a linear layer.
      hidden_features: width of every `GaANConv`.
      num_layers: how many there are.
      num_heads: H of each.
      dropout_rate: of the attention weights, or `DropoutRates`; of these, `inputs` acts on what leaves each GaANConv,
        after the activation. The paper's Reddit network has `DropoutRates(inputs=0.1, attention=0.5)`.
      rngs: random keys.
      **layer_options: those of `GaANConv`, such as `gate="code"` and `scale="linear"` for the authors' program.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> model = GaAN(3, 5, rngs=nnx.Rngs(0))
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> model(graph).nodes.shape, [alpha.shape for alpha in model.attention(graph)]
    ((3, 5), [(2, 8), (2, 8)])

    Zhang et al., GaAN: Gated Attention Networks for Learning on Large and Spatiotemporal Graphs, UAI 2018.
    """
    check_sizes(num_layers=num_layers, embed_features=embed_features)
    rates = rates_of(dropout_rate)
    dropout = Dropout(rates._replace(head_inputs=0.0), rngs=rngs)
    rates = rates._replace(inputs=0.0)
    of_nodes = [embed_features] + [hidden_features] * num_layers
    linear: dict[str, Any] = {
        name: value for name, value in layer_options.items() if name in _LINEAR_OPTIONS
    }
    layers = [
        GaANConv(
            beside_senders(width, in_features),
            hidden_features,
            num_heads=num_heads,
            dropout_rate=rates,
            rngs=rngs,
            **layer_options,
        )
        for width in of_nodes[:-1]
    ]
    return Stack(
        [*layers, NodeLinear(of_nodes[-1], out_features, rngs=rngs, **linear)],
        activation=_leaky_relu,
        embed=NodeLinear(widths(in_features).receivers, embed_features, rngs=rngs, **linear),
        dropout=dropout,
    )


def _leaky_relu(x: Array) -> Array:
    return jax.nn.leaky_relu(x, NEGATIVE_SLOPE)
