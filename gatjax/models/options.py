"""The options of models, by name and type, so that `help`, completion and type checkers know them.

A model passes on what its layers take. What each option means stands in the docstring of the model or the layer.
"""

import inspect
from collections.abc import Callable
from typing import TypedDict, TypeVar, get_type_hints

from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array

from gatjax.layers.gaan import Gate, Scale
from gatjax.layers.parts import DropoutRates, Normalize

Function = TypeVar("Function", bound=Callable)


class StackOptions(TypedDict, total=False):
    """Of every model."""

    hidden_features: int
    num_layers: int
    dropout_rate: float | DropoutRates
    norm: Callable[..., nnx.Module] | None
    activation: Callable[[Array], Array]
    use_bias: bool
    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike


class ResidualOptions(StackOptions, total=False):
    """Of every model with a graph."""

    residual: bool


class HeadOptions(ResidualOptions, total=False):
    """Of every model with heads."""

    num_heads: int
    out_heads: int


class AttentionOptions(HeadOptions, total=False):
    """Of every model with attention."""

    edge_features: int | None
    normalize: Normalize


class GATOptions(AttentionOptions, total=False):
    """Of `GAT`."""

    negative_slope: float
    use_score_bias: bool


class GATv2Options(AttentionOptions, total=False):
    """Of `GATv2`."""

    negative_slope: float
    share_weights: bool


class GaANOptions(TypedDict, total=False):
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


def listed(options: type, *sources: Callable) -> Callable[[Function], Function]:
    """Put the options that a model takes as `**options` into its signature, one by one.

    Args:
      options: a `TypedDict` of their names and types.
      sources: where their defaults stand: the first that has a parameter of the name.

    >>> from gatjax.models import GAT
    >>> inspect.signature(GAT).parameters["num_heads"].default
    8
    """

    known: dict[str, inspect.Parameter] = {}
    for source in reversed(sources):
        function = source.__init__ if isinstance(source, type) else source
        known |= inspect.signature(function).parameters

    def decorate(model: Function) -> Function:
        signature = inspect.signature(model)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=known[name].default, annotation=hint
            )
            for name, hint in get_type_hints(options).items()
        ]
        *own, rngs = own
        model.__signature__ = signature.replace(parameters=[*own, *more, rngs])
        return model

    return decorate
