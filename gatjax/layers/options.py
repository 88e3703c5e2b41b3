"""The options that layers share, by name and type, so that `help`, completion and type checkers know them.

What each option means stands in the docstring of `GATConv`.
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, cast, get_type_hints

from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from gatjax.attention.steps import Normalize
from gatjax.graph.check import SideParts
from gatjax.layers.dropout import DropoutRates
from gatjax.layers.parts import Combine, Residual
from gatjax.ops.blocks import BlockSize

Function = TypeVar("Function", bound=Callable)


class ParameterOptions(TypedDict, total=False):
    """Of every module with parameters."""

    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike


class RowOptions(ParameterOptions, total=False):
    """Of every layer."""

    use_bias: bool
    dropout_rate: float | DropoutRates


class ResidualOptions(RowOptions, total=False):
    """Of every layer with a graph."""

    residual: Residual
    block_size: BlockSize


class BlockOptions(ResidualOptions, total=False):
    """Of every layer with heads."""

    num_heads: int


class ConvOptions(BlockOptions, total=False):
    """Of every layer whose heads are concatenated or averaged."""

    combine: Combine


class LinearAttentionOptions(RowOptions, total=False):
    """Of `GraphLinearAttention`."""

    num_heads: int
    combine: Combine
    residual: Residual


class WeightOptions(TypedDict, total=False):
    """How logits become weights: of every layer with attention."""

    normalize: Normalize
    temperature: float


class HGTOptions(RowOptions, WeightOptions, total=False):
    """Of `HGTConv`, but for its heads."""

    block_size: BlockSize


class AttentionBlockOptions(BlockOptions, WeightOptions, total=False):
    """Of `AttentionBlock`."""


class AttentionOptions(ConvOptions, WeightOptions, total=False):
    """Of every layer with attention whose heads are concatenated or averaged."""


class WeighingOptions(WeightOptions, total=False):
    """Of layers with attention and an output of their own."""

    block_size: BlockSize


def parameter_options(options: Mapping[str, Any]) -> Any:
    """Those of `ParameterOptions` among the options of a layer, for a part of it.

    >>> parameter_options({"dtype": None, "num_heads": 2})
    {'dtype': None}
    """
    return {name: options[name] for name in get_type_hints(ParameterOptions) if name in options}


def listed(options: type, *sources: Callable) -> Callable[[Function], Function]:
    """Put the options that a function takes as `**options` into its signature, one by one, before `rngs`.

    The function refuses every other name, and says which one may be meant.

    Args:
      options: a `TypedDict` of their names and types.
      sources: where their defaults stand: the first that has a parameter of the name.

    >>> from gatjax.models import GAT
    >>> inspect.signature(GAT).parameters["num_heads"].default
    8
    """
    known: dict[str, inspect.Parameter] = {}
    for source in reversed(sources):
        is_module = isinstance(source, type) and issubclass(source, nnx.Module)
        known |= inspect.signature(source.__init__ if is_module else source).parameters

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        *own, rngs = (p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD)
        more = [
            known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint)
            for name, hint in get_type_hints(options).items()
        ]
        name = function.__qualname__.removesuffix(".__init__")
        signature = signature.replace(parameters=[*own, *more, rngs])

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for given in kwargs.keys() - signature.parameters.keys():
                keywords = [p for p in signature.parameters if p != "self"]
                raise TypeError(_unknown(name, given, keywords))
            return function(*args, **kwargs)

        vars(checked)["__signature__"] = signature
        return cast(Function, checked)

    return decorate


def check_call(layer: nnx.Module, parts: Mapping[str, Any]) -> None:
    """Refuse arguments that no call of a layer takes, and say which one may be meant, or where it belongs.

    Raises:
      TypeError: there is one.
    """
    name = type(layer).__name__
    for given in parts.keys() - SideParts.__optional_keys__:
        if given in inspect.signature(type(layer).__init__).parameters:
            raise TypeError(
                f"{given} is an option of the layer, not of its call: {name}(..., {given}=...)"
            )
        keywords = [*get_type_hints(SideParts), "deterministic", "rngs"]
        raise TypeError(_unknown(f"a call of {name}", given, keywords))


def _unknown(name: str, given: str, keywords: Sequence[str]) -> str:
    meant = difflib.get_close_matches(given, keywords, 1)
    remedy = f"did you mean {meant[0]}?" if meant else f"it takes {', '.join(keywords)}"
    return f"{name} has no option {given}: {remedy}"
