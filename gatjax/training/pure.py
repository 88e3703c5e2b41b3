"""Modules as pure functions of their parameters, which is what training, gradients and `jax.jit` want."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float, Key
from jraph import GraphsTuple

from gatjax.training.losses import Labels, Metrics, softmax_cross_entropy

Build = Callable[[nnx.Rngs], Callable[..., Any]]


class Functional(NamedTuple):
    """A module as two pure functions; see `functional`."""

    initialise: Callable[[Key[Array, ""]], nnx.State]
    apply: Callable[..., Any]


class NodeClassification(NamedTuple):
    """A classifier of nodes as the pure functions of its training; see `node_classification`."""

    initialise: Callable[[Key[Array, ""]], nnx.State]
    loss: Callable[[nnx.State, Key[Array, ""], GraphsTuple, Labels], Float[Array, ""]]
    validate: Callable[[nnx.State, GraphsTuple, Labels], Metrics]
    logits: Callable[..., Float[Array, "N classes"]]


def functional(build: Build) -> Functional:
    """A module as two pure functions, one that draws its parameters and one that calls it with them.

    ```
    initialise(key)                                   -> parameters
    apply(parameters, *inputs, key=None, **options)   -> what module(*inputs, **options) returns
    ```

    With a key the module is called with `deterministic=False, rngs=nnx.Rngs(dropout=key)`, without one with
    `deterministic=True`; a module whose call has no such arguments is called without them. Whatever of its state is
    no `nnx.Param` is part of the functions and constant: averages of a `BatchNorm` stay as they are built, and a
    stream of random numbers that the module keeps itself starts anew in every call.

    Args:
      build: draws a module from `nnx.Rngs`, the same structure for every key. Functions of the same `build` are equal,
        so what is compiled for one serves the other; a lambda or a partial made anew is another `build`.

    Returns:
      The two functions.

    >>> import jax
    >>> initialise, apply = functional(lambda rngs: nnx.Linear(2, 3, rngs=rngs))
    >>> parameters = initialise(jax.random.key(0))
    >>> apply(parameters, jax.numpy.ones((5, 2))).shape
    (5, 3)
    """
    module = _take_apart(build)
    return Functional(_Of(_initialise, module), _Of(_apply, module))


def node_classification(build: Build) -> NodeClassification:
    """A module graph -> graph whose nodes come out as logits, as the functions that `Training` wants.

    ```
    initialise(key)                           -> parameters
    loss(parameters, key, graph, labels)      -> cross-entropy of the training nodes, dropout on
    validate(parameters, graph, labels)       -> Metrics of the validation nodes, dropout off
    logits(parameters, graph, key=None)       -> [N, classes], with dropout where there is a key
    ```

    Args:
      build: draws the module from `nnx.Rngs`, as in `functional`.

    Returns:
      The four functions; `labels` are `Labels`.

    >>> import jax
    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GCNConv
    >>> graph = build_graph([0, 1, 0, 1], [0, 0, 1, 1], jax.numpy.eye(2))
    >>> pure = node_classification(lambda rngs: GCNConv(2, 3, rngs=rngs))
    >>> parameters = pure.initialise(jax.random.key(0))
    >>> labels = Labels(*jax.numpy.array([[0], [2], [1], [2]]))
    >>> gradient = jax.grad(pure.loss)(parameters, jax.random.key(1), graph, labels)
    >>> pure.logits(parameters, graph).shape
    (2, 3)
    """
    module = _take_apart(build)
    functions = _initialise, _loss, _validate, _logits
    return NodeClassification(*(_Of(function, module) for function in functions))


@dataclasses.dataclass(frozen=True)
class _Module:
    """A module without its parameters; as good as another one that the same function builds."""

    build: Build
    graphdef: nnx.GraphDef = dataclasses.field(compare=False, repr=False)
    rest: nnx.State = dataclasses.field(compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class _Of:
    """A function of a module, given the module; equal where both are, as a method or a partial is not."""

    function: Callable[..., Any]
    module: _Module

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.function(self.module, *inputs, **options)


def _take_apart(build: Build) -> _Module:
    graphdef, _, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)
    return _Module(build, graphdef, rest)


def _initialise(module: _Module, key: Key[Array, ""]) -> nnx.State:
    return nnx.state(module.build(nnx.Rngs(key)), nnx.Param)


def _apply(
    module: _Module,
    parameters: nnx.State,
    *inputs: Any,
    key: Key[Array, ""] | None = None,
    **options: Any,
) -> Any:
    call = nnx.merge(module.graphdef, parameters, module.rest, copy=True)
    mode = {"deterministic": True}
    if key is not None:
        mode = {"deterministic": False, "rngs": nnx.Rngs(dropout=key)}
    return call(*inputs, **_accepted(call, mode), **options)


def _accepted(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the named arguments that a call has."""
    parameters = inspect.signature(call).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return arguments
    return {name: value for name, value in arguments.items() if name in parameters}


def _logits(
    module: _Module, parameters: nnx.State, graph: GraphsTuple, key: Key[Array, ""] | None = None
) -> Float[Array, "N classes"]:
    return _apply(module, parameters, graph, key=key).nodes


def _loss(
    module: _Module, parameters: nnx.State, key: Key[Array, ""], graph: GraphsTuple, labels: Labels
) -> Float[Array, ""]:
    logits = _logits(module, parameters, graph, key)
    return softmax_cross_entropy(logits, labels.train_nodes, labels.train_labels).loss


def _validate(
    module: _Module, parameters: nnx.State, graph: GraphsTuple, labels: Labels
) -> Metrics:
    logits = _logits(module, parameters, graph)
    return softmax_cross_entropy(logits, labels.validation_nodes, labels.validation_labels)
