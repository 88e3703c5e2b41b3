"""The options of models, by name and type, so that `help`, completion and type checkers know them.

A model passes on what its layers take. What each option means stands in the docstring of the model or the layer.
"""

from collections.abc import Callable
from typing import TypedDict

from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array

from gatjax.attention.mixture import Kernel, MixtureWeights
from gatjax.attention.readout import Pool
from gatjax.attention.semantic import Semantic
from gatjax.layers.dot_product import EdgesIn
from gatjax.layers.dropout import DropoutRates
from gatjax.layers.gaan import Gate, Scale
from gatjax.layers.options import (
    ResidualOptions,
    RowOptions,
    WeighingOptions,
    WeightOptions,
)


class DepthOptions(TypedDict, total=False):
    """How deep, how wide, and what stands between the layers."""

    hidden_features: int
    num_layers: int
    norm: Callable[..., nnx.Module] | None
    activation: Callable[[Array], Array]


class StackOptions(DepthOptions, RowOptions, total=False):
    """Of every model."""


class GraphOptions(StackOptions, ResidualOptions, total=False):
    """Of every model with a graph."""


class ManyHeadOptions(GraphOptions, total=False):
    """Of every model with heads."""

    num_heads: int
    out_heads: int


class AttentionOptions(ManyHeadOptions, WeightOptions, total=False):
    """Of every model with attention."""

    edge_features: int | None


class GATOptions(AttentionOptions, total=False):
    """Of `GAT`."""

    negative_slope: float
    use_score_bias: bool


class DotProductOptions(AttentionOptions, total=False):
    """Of `DotProductGAT`."""

    use_value_bias: bool
    edges_in: EdgesIn


class GATv2Options(AttentionOptions, total=False):
    """Of `GATv2`."""

    negative_slope: float
    share_weights: bool
    use_score_bias: bool | None
    use_value_bias: bool


class HANOptions(ResidualOptions, WeightOptions, total=False):
    """Of the layers of `HAN`."""

    semantic: Semantic
    semantic_features: int
    negative_slope: float


class GaANOptions(WeighingOptions, total=False):
    """Of the layers of `GaAN`."""

    key_features: int
    value_features: int
    gate_features: int
    gate: Gate
    scale: Scale
    edge_features: int | None
    use_bias: bool
    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike


class MATOptions(WeighingOptions, total=False):
    """Of the layers of `MAT`."""

    edge_features: int | None
    edges_in: EdgesIn
    weights: MixtureWeights
    trainable_weights: bool
    kernel: Kernel
    use_bias: bool
    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike


class BlockOptions(TypedDict, total=False):
    """Of graph transformers whose blocks are `TransformerBlock`."""

    hidden_features: int
    num_layers: int
    num_heads: int
    feed_forward: int
    dropout_rate: float | DropoutRates
    pool: Pool | None
    dtype: DTypeLike | None
    param_dtype: DTypeLike
