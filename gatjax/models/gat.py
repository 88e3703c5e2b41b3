"""Stacks of attention layers, by the paper's name."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

from gatjax.layers.controls import MeanConv
from gatjax.layers.dot_product import DotProductConv
from gatjax.layers.gat import GATConv
from gatjax.layers.gatv2 import GATv2Conv
from gatjax.layers.parts import DropoutRates
from gatjax.models.stack import Stack, _stack


def _attention_model(
    layer: Callable[..., nnx.Module],
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    num_heads: int = 8,
    out_heads: int = 1,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.elu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    return _stack(
        layer,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={"num_heads": num_heads, "combine": "concat"},
        last={"num_heads": out_heads, "combine": "mean"},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )


def GAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """Graph attention network: hidden layers of concatenated heads, an output layer of averaged heads.

    With the defaults and `dropout_rate=DropoutRates(projected=0.6, attention=0.6, head_inputs=0.6)` it is
    the network of the paper for citation graphs: 8 heads of 8 features, ELU, one output head (8 for
    Pubmed: `out_heads=8`). The graph must bring its self-loops (`add_self_loops`).

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the embedding.
      rngs: random keys.
      **options: `hidden_features=64` (all heads together), `num_layers=2`, `num_heads=8`, `out_heads=1`,
        `dropout_rate=0.0`, `norm=None` (called as `norm(features, rngs=rngs)`, such as `nnx.LayerNorm`),
        `activation=jax.nn.elu`, and those of `GATConv`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GAT(3, 5, rngs=nnx.Rngs(0))(graph).nodes.shape
    (3, 5)

    Veličković et al., Graph Attention Networks, ICLR 2018.
    """
    return _attention_model(GATConv, in_features, out_features, rngs=rngs, **options)


def GATv2(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with dynamic attention; options as there, and those of `GATv2Conv`.

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """
    return _attention_model(GATv2Conv, in_features, out_features, rngs=rngs, **options)


def DotProductGAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with scaled dot products; options as there, and those of `DotProductConv`."""
    return _attention_model(DotProductConv, in_features, out_features, rngs=rngs, **options)


def ConstGAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with attention held uniform: the paper's control; options as there, and those of `MeanConv`."""
    return _attention_model(MeanConv, in_features, out_features, rngs=rngs, **options)
