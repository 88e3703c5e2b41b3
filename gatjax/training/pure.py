"""Modules as pure functions of their variables, which is what training, gradients and `jax.jit` want."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_type_hints, is_typeddict

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Key
from jraph import GraphsTuple

from gatjax.graph.typed import TypedGraph
from gatjax.training.loop import Variables
from gatjax.training.losses import Labels, Metrics, softmax_cross_entropy

Build = Callable[[nnx.Rngs], Callable[..., Any]]

AnyGraph = GraphsTuple | TypedGraph

# Outputs of all nodes, ids of those to look at, a target for each.
NodeMetrics = Callable[..., Metrics]

_STATISTICS = nnx.Not(nnx.Any(nnx.Param, nnx.RngState, nnx.Intermediate))


class Functional(NamedTuple):
    """A module as two pure functions; see `functional` and `functional_with_statistics`."""

    initialise: Callable[[Key[Array, ""]], Any]
    apply: Callable[..., Any]


class NodePrediction(NamedTuple):
    """A predictor of nodes as the pure functions of its training; see `node_prediction`."""

    initialise: Callable[[Key[Array, ""]], Any]
    loss: Callable[[Any, Key[Array, ""], AnyGraph, Labels], Any]
    validate: Callable[[Any, AnyGraph, Labels], Metrics]
    outputs: Callable[..., Float[Array, "N *targets"]]


class NodeClassification(NamedTuple):
    """A classifier of nodes as the pure functions of its training; see `node_classification`."""

    initialise: Callable[[Key[Array, ""]], Any]
    loss: Callable[[Any, Key[Array, ""], AnyGraph, Labels], Any]
    validate: Callable[[Any, AnyGraph, Labels], Metrics]
    logits: Callable[..., Float[Array, "N classes"]]


def functional(build: Build) -> Functional:
    """A module as two pure functions, one that draws its parameters and one that calls it with them.

    ```
    initialise(key)                                   -> parameters
    apply(parameters, *inputs, key=None, **options)   -> what module(*inputs, **options) returns
    ```

    With a key the module is called as in training, `deterministic=False, rngs=nnx.Rngs(dropout=key)`, without one as
    in evaluation, `deterministic=True`; where its call has no such arguments, the module is switched by `train()` or
    `eval()`, and its own streams of random numbers start from the key.

    Where the module has running statistics, such as the averages of a `BatchNorm`, `parameters` are
    `Variables(parameters, statistics)`, and `functional_with_statistics` gives what a call makes of the statistics.

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
    module = take_apart(build)
    return Functional(Of(initialise, module), Of(apply, module))


def functional_with_statistics(build: Build) -> Functional:
    """A module as two pure functions, the second of which hands back its running statistics.

    ```
    initialise(key)                                  -> Variables(parameters, statistics)
    apply(variables, *inputs, key=None, **options)   -> (what module(*inputs, **options) returns, statistics after)
    ```

    Statistics are all variables that are no `nnx.Param` and no state of random numbers. A call with a key changes
    them, one without a key uses them and hands them back as they were. For the rest see `functional`.

    Args:
      build: draws a module from `nnx.Rngs`.

    Returns:
      The two functions; a loss of one's own for `Training` is made of them with `has_aux` in mind.

    >>> import jax
    >>> initialise, apply = functional_with_statistics(lambda rngs: nnx.BatchNorm(2, momentum=0.5, rngs=rngs))
    >>> variables = initialise(jax.random.key(0))
    >>> _, statistics = apply(variables, jax.numpy.ones((5, 2)), key=jax.random.key(1))
    >>> statistics["mean"][...].tolist()
    [0.5, 0.5]
    """
    module = take_apart(build)
    return Functional(Of(initialise_all, module), Of(_call, module))


def node_prediction(build: Build, metrics: NodeMetrics) -> NodePrediction:
    """A module graph -> graph whose nodes come out as predictions, as the functions that `Training` wants.

    ```
    initialise(key)                           -> parameters
    loss(parameters, key, graph, labels)      -> loss of the training nodes, dropout on
    validate(parameters, graph, labels)       -> Metrics of the validation nodes, dropout off
    outputs(parameters, graph, key=None)      -> [N, ...], with dropout where there is a key
    ```

    Where the module has running statistics, `parameters` are `Variables` and the loss is `(loss, statistics after the
    step)`, as `Training` wants both; the other functions use the statistics.

    Args:
      build: draws the module from `nnx.Rngs`, as in `functional`.
      metrics: `metrics(outputs, nodes, labels) -> Metrics`, such as `softmax_cross_entropy`, `squared_error`,
        `sigmoid_cross_entropy` or `functools.partial(weighted_softmax_cross_entropy, weights=weights)`. Two partials
        that hold the same numbers make equal functions.

    Returns:
      The four functions; `labels` are `Labels`.

    >>> import jax
    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GCNConv
    >>> from gatjax.training import squared_error
    >>> graph = build_graph([0, 1, 0, 1], [0, 0, 1, 1], jax.numpy.eye(2))
    >>> pure = node_prediction(lambda rngs: GCNConv(2, 1, rngs=rngs), squared_error)
    >>> parameters = pure.initialise(jax.random.key(0))
    >>> nodes, targets = jax.numpy.array([[0], [1]]), jax.numpy.array([[[2.5]], [[0.5]]])
    >>> labels = Labels(nodes[0], targets[0], nodes[1], targets[1])
    >>> gradient = jax.grad(pure.loss)(parameters, jax.random.key(1), graph, labels)
    >>> pure.outputs(parameters, graph).shape
    (2, 1)
    """
    module = take_apart(build)
    held = hold(metrics)
    return NodePrediction(
        Of(initialise, module),
        Of(_loss, module, held),
        Of(_validate, module, held),
        Of(_outputs, module),
    )


def node_classification(build: Build) -> NodeClassification:
    """A module graph -> graph whose nodes come out as logits: `node_prediction` by `softmax_cross_entropy`.

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
    return NodeClassification(*node_prediction(build, softmax_cross_entropy))


@dataclasses.dataclass(frozen=True)
class Module:
    """A module without its variables; as good as another one that the same function builds."""

    build: Build
    graphdef: nnx.GraphDef = dataclasses.field(compare=False, repr=False)
    rest: nnx.State = dataclasses.field(compare=False, repr=False)
    has_statistics: bool = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class _Metrics:
    """A metric, equal to one that holds the same."""

    function: NodeMetrics = dataclasses.field(compare=False)
    identity: Any

    def __call__(self, outputs: Array, nodes: ArrayLike, labels: ArrayLike) -> Metrics:
        return self.function(outputs, nodes, labels)


@dataclasses.dataclass(frozen=True)
class Of:
    """A function of a module, and of what else it holds; equal where these are, as a method or a partial is not."""

    function: Callable[..., Any]
    module: Module
    held: tuple[Any, ...] = ()

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.function(self.module, *self.held, *inputs, **options)


def hold(metrics: NodeMetrics) -> tuple[NodeMetrics]:
    """A metric, for `Of` to hold."""
    return (_Metrics(metrics, _identity(metrics)),)


def _identity(value: Any) -> Any:
    """What two functions have in common that are the same: of a partial what it holds, of an array its numbers."""
    if isinstance(value, functools.partial):
        held = sorted(value.keywords.items())
        return "partial", _identity(value.func), *map(_identity, value.args), _identity(held)
    if isinstance(value, list | tuple):
        return tuple(map(_identity, value))
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()
    return value


def take_apart(build: Build) -> Module:
    if not callable(build) or isinstance(build, nnx.Module):
        kind = type(build).__name__
        raise TypeError(
            f"build must be a function that draws a module, got a {kind}: pass one, such as "
            "lambda rngs: GAT(4, 3, rngs=rngs)"
        )
    graphdef, _, statistics, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, _STATISTICS, ...)
    return Module(build, graphdef, rest, bool(jax.tree.leaves(statistics)))


def initialise_all(module: Module, key: Key[Array, ""]) -> Variables:
    return Variables(*nnx.state(module.build(nnx.Rngs(key)), nnx.Param, _STATISTICS))


def initialise(module: Module, key: Key[Array, ""]) -> nnx.State | Variables:
    variables = initialise_all(module, key)
    return variables if module.has_statistics else variables.parameters


def _call(
    module: Module,
    variables: Variables,
    *inputs: Any,
    key: Key[Array, ""] | None = None,
    **options: Any,
) -> tuple[Any, nnx.State]:
    call = nnx.merge(module.graphdef, *variables, module.rest, copy=True)
    mode = {"deterministic": True}
    if key is not None:
        mode = {"deterministic": False, "rngs": nnx.Rngs(dropout=key)}
    accepted = _accepted(call, mode)
    _switch(call, key, accepted)
    output = call(*inputs, **accepted, **options)
    return output, nnx.state(call, _STATISTICS)


def apply(
    module: Module,
    parameters: nnx.State | Variables,
    *inputs: Any,
    key: Key[Array, ""] | None = None,
    **options: Any,
) -> Any:
    with_none = lambda parameters: Variables(parameters, nnx.State({}))
    variables = parameters if isinstance(parameters, Variables) else with_none(parameters)
    return _call(module, variables, *inputs, key=key, **options)[0]


def training_loss(
    module: Module,
    of: Callable[[Any], Any],
    parameters: Any,
    key: Key[Array, ""],
    *inputs: Any,
    **options: Any,
) -> Any:
    """A loss of what the module returns in training; with the statistics after, where it has some."""
    if not module.has_statistics:
        return of(apply(module, parameters, *inputs, key=key, **options))
    output, statistics = _call(module, parameters, *inputs, key=key, **options)
    return of(output), statistics


def _switch(call: Any, key: Key[Array, ""] | None, accepted: dict[str, Any]) -> None:
    """What the arguments of a call do not say, said to the module itself."""
    if "deterministic" not in accepted:
        call.eval() if key is None else call.train()
    if key is not None and "rngs" not in accepted:
        other = jax.random.fold_in(key, 1)
        nnx.reseed(call, policy="match_shape", dropout=key, default=other)


def _accepted(call: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the named arguments that a call has."""
    parameters = inspect.signature(call).parameters
    names = set(parameters)
    for each in parameters.values():
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            (listed,) = get_args(each.annotation) or (None,)
            if not is_typeddict(listed):
                return arguments
            names |= set(get_type_hints(listed))
    return {name: value for name, value in arguments.items() if name in names}


def _outputs(
    module: Module, parameters: Any, graph: AnyGraph, key: Key[Array, ""] | None = None
) -> Float[Array, "N *targets"]:
    return apply(module, parameters, graph, key=key).nodes


def _loss(
    module: Module,
    metrics: NodeMetrics,
    parameters: Any,
    key: Key[Array, ""],
    graph: AnyGraph,
    labels: Labels,
) -> Any:
    of = lambda graph: metrics(graph.nodes, labels.train_nodes, labels.train_labels).loss
    return training_loss(module, of, parameters, key, graph)


def _validate(
    module: Module, metrics: NodeMetrics, parameters: Any, graph: AnyGraph, labels: Labels
) -> Metrics:
    outputs = _outputs(module, parameters, graph)
    return metrics(outputs, labels.validation_nodes, labels.validation_labels)
