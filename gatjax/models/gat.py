"""Stacks of attention layers, by the paper's name."""

from collections.abc import Callable
from typing import Any, Unpack

import jax
from flax import nnx
from jaxtyping import Array

from gatjax.layers.controls import MeanConv
from gatjax.layers.dot_product import DotProductConv
from gatjax.layers.gat import GATConv
from gatjax.layers.gatv2 import GATv2Conv
from gatjax.layers.inputs import InFeatures
from gatjax.layers.options import listed
from gatjax.models.options import DotProductOptions, GATOptions, GATv2Options, ManyHeadOptions
from gatjax.models.stack import Stack, build_stack


def attention_stack(
    layer: Callable[..., nnx.Module],
    in_features: InFeatures,
    out_features: int,
    *,
    num_heads: int = 8,
    out_heads: int = 1,
    activation: Callable[[Array], Array] = jax.nn.elu,
    rngs: nnx.Rngs,
    **options: Any,
) -> Stack:
    """`build_stack` with concatenated heads in the hidden layers, and averaged ones in the last."""
    return build_stack(
        layer,
        in_features,
        out_features,
        hidden={"num_heads": num_heads, "combine": "concat"},
        last={"num_heads": out_heads, "combine": "mean"},
        activation=activation,
        rngs=rngs,
        **options,
    )


@listed(GATOptions, attention_stack, build_stack, GATConv)
def GAT(
    in_features: InFeatures, out_features: int, *, rngs: nnx.Rngs, **options: Unpack[GATOptions]
) -> Stack:
    """Graph attention network: hidden layers of concatenated heads, an output layer of averaged heads.

    With the defaults and `dropout_rate=DropoutRates(projected=0.6, attention=0.6, head_inputs=0.6)` it is
    the network of the paper for citation graphs: 8 heads of 8 features, ELU, one output head (8 for
    Pubmed: `out_heads=8`). The graph must bring its self-loops (`add_self_loops`).

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the embedding.
      hidden_features: width of each hidden layer's output, all heads together.
      num_layers: how many layers, the last one included.
      num_heads: heads of a hidden layer, concatenated.
      out_heads: heads of the last layer, averaged.
      norm: between layers, called as `norm(features, rngs=rngs)`, such as `nnx.LayerNorm`.
      activation: between layers, after the norm; a function defined at module level.
      **options: those of `GATConv`, for all layers: `edge_features`, `negative_slope`, `normalize`, `temperature`,
        `block_size`, `residual`, `use_bias`, `use_score_bias`, `dropout_rate`, `kernel_init`, `dtype`, `param_dtype`.
      rngs: random keys.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GAT(3, 5, rngs=nnx.Rngs(0))(graph).nodes.shape
    (3, 5)

    Veličković et al., Graph Attention Networks, ICLR 2018.
    """
    return attention_stack(GATConv, in_features, out_features, rngs=rngs, **options)


@listed(GATv2Options, attention_stack, build_stack, GATv2Conv)
def GATv2(
    in_features: InFeatures, out_features: int, *, rngs: nnx.Rngs, **options: Unpack[GATv2Options]
) -> Stack:
    """As `GAT`, with dynamic attention; options as there, and those of `GATv2Conv`.

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """
    return attention_stack(GATv2Conv, in_features, out_features, rngs=rngs, **options)


@listed(DotProductOptions, attention_stack, build_stack, DotProductConv)
def DotProductGAT(
    in_features: InFeatures,
    out_features: int,
    *,
    rngs: nnx.Rngs,
    **options: Unpack[DotProductOptions],
) -> Stack:
    """As `GAT`, with scaled dot products; options as there, and those of `DotProductConv`."""
    return attention_stack(DotProductConv, in_features, out_features, rngs=rngs, **options)


@listed(ManyHeadOptions, attention_stack, build_stack, MeanConv)
def ConstGAT(
    in_features: InFeatures,
    out_features: int,
    *,
    rngs: nnx.Rngs,
    **options: Unpack[ManyHeadOptions],
) -> Stack:
    """As `GAT`, with attention held uniform: the paper's control; options as there, and those of `MeanConv`."""
    return attention_stack(MeanConv, in_features, out_features, rngs=rngs, **options)
