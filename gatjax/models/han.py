"""The heterogeneous graph attention network."""

from typing import Unpack

from flax import nnx
from jaxtyping import Array

from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.han import HANConv
from gatjax.layers.inputs import InFeatures
from gatjax.layers.options import listed, parameter_options
from gatjax.models.options import HANOptions
from gatjax.models.stack import Stack, beside_senders


@listed(HANOptions, HANConv)
def HAN(
    in_features: InFeatures,
    out_features: int,
    *,
    num_relations: int,
    hidden_features: int = 64,
    num_layers: int = 1,
    num_heads: int = 8,
    rngs: nnx.Rngs,
    **layer_options: Unpack[HANOptions],
) -> Stack:
    """Heterogeneous graph attention network: `HANConv` layers and a linear layer to the classes.

    With the defaults and `dropout_rate=DropoutRates(projected=0.6, attention=0.6, head_inputs=0.6)` it is the network
    of the authors' program: 8 heads of 8 features, ELU, one layer. `model.layers[0](graph).nodes` is the embedding that
    the paper evaluates, and `model.layers[0].betas(graph)` says which path counts.

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the output.
      num_relations: P, the number of meta-paths.
      hidden_features: width of every `HANConv`.
      num_layers: how many there are.
      num_heads: H of each.
      rngs: random keys.
      **layer_options: those of `HANConv`. The linear layer takes `kernel_init`, `dtype` and `param_dtype`, too.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2, 0], [1, 0, 0, 2], jnp.eye(3), edges=jnp.array([0, 0, 1, 1]))
    >>> model = HAN(3, 5, num_relations=2, rngs=nnx.Rngs(0))
    >>> model(graph).nodes.shape, [alpha.shape for alpha in model.attention(graph)]
    ((3, 5), [(4, 8)])

    Wang et al., Heterogeneous Graph Attention Network, WWW 2019.
    """
    check_sizes(num_layers=num_layers)
    deeper = beside_senders(hidden_features, in_features)
    layers = [
        HANConv(
            width,
            hidden_features,
            num_relations=num_relations,
            num_heads=num_heads,
            rngs=rngs,
            **layer_options,
        )
        for width in [in_features] + [deeper] * (num_layers - 1)
    ]
    classes = NodeLinear(
        hidden_features, out_features, rngs=rngs, **parameter_options(layer_options)
    )
    return Stack([*layers, classes], activation=_as_it_is)


def _as_it_is(x: Array) -> Array:
    """`HANConv` has its activation inside, before paths are compared."""
    return x
