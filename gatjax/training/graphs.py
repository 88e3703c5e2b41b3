"""Models of whole graphs as pure functions, for loops over batches."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key
from jraph import GraphsTuple

from gatjax.graph.batching import Masks
from gatjax.ops.segment import over_rows
from gatjax.training.losses import Metrics
from gatjax.training.pure import (
    Build,
    Module,
    NodeMetrics,
    Of,
    apply,
    hold,
    initialise,
    take_apart,
    training_loss,
)


class GraphPrediction(NamedTuple):
    """A predictor of graphs as the pure functions of its training; see `graph_prediction`."""

    initialise: Callable[[Key[Array, ""]], Any]
    loss: Callable[..., Any]
    validate: Callable[..., Metrics]
    outputs: Callable[..., Float[Array, "G *targets"]]


def graph_prediction(build: Build, metrics: NodeMetrics) -> GraphPrediction:
    """A module graph -> graph whose globals come out as predictions, as functions of batches for a loop of one's own.

    ```
    initialise(key)                                      -> parameters
    loss(parameters, key, graph, targets, masks=None)    -> loss of the graphs of a batch, dropout on
    validate(parameters, graph, targets, masks=None)     -> Metrics, dropout off
    outputs(parameters, graph, masks=None, key=None)     -> [G, ...], with dropout where there is a key
    ```

    `targets` are of all graphs of the batch, as the `metrics` want them, and those of padding are left out, as are NaN,
    and -1 among class ids. `masks` are those of `pad` or of a batch of the loader; their `node` goes to the module as
    `node_mask`. Statistics are handled as in `node_prediction`.

    Args:
      build: draws the module from `nnx.Rngs`, as in `functional`, such as `MAT`, or a `Stack` that ends with a
        `GraphReadout`.
      metrics: as in `node_prediction`, of graphs in place of nodes.

    Returns:
      The four functions.

    >>> import jax
    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GraphReadout
    >>> from gatjax.training import squared_error
    >>> pure = graph_prediction(lambda rngs: GraphReadout(2, 1, rngs=rngs), squared_error)
    >>> parameters, graph = pure.initialise(jax.random.key(0)), build_graph([], [], jax.numpy.eye(2))
    >>> gradient = jax.grad(pure.loss)(parameters, jax.random.key(1), graph, jax.numpy.array([[0.5]]))
    >>> pure.outputs(parameters, graph).shape
    (1, 1)
    """
    module = take_apart(build)
    held = hold(metrics)
    return GraphPrediction(
        Of(initialise, module),
        Of(_graph_loss, module, held),
        Of(_graph_metrics, module, held),
        Of(_graph_outputs, module),
    )


def _graph_outputs(
    module: Module,
    parameters: Any,
    graph: GraphsTuple,
    masks: Masks | None = None,
    key: Key[Array, ""] | None = None,
) -> Float[Array, "G *targets"]:
    return _predicted(apply(module, parameters, graph, key=key, **_of_nodes(masks)))


def _graph_loss(
    module: Module,
    metrics: NodeMetrics,
    parameters: Any,
    key: Key[Array, ""],
    graph: GraphsTuple,
    targets: ArrayLike,
    masks: Masks | None = None,
) -> Any:
    of = lambda out: _of_graphs(metrics, _predicted(out), targets, masks).loss
    return training_loss(module, of, parameters, key, graph, **_of_nodes(masks))


def _graph_metrics(
    module: Module,
    metrics: NodeMetrics,
    parameters: Any,
    graph: GraphsTuple,
    targets: ArrayLike,
    masks: Masks | None = None,
) -> Metrics:
    return _of_graphs(metrics, _graph_outputs(module, parameters, graph, masks), targets, masks)


def _of_nodes(masks: Masks | None) -> dict[str, Any]:
    return {} if masks is None else {"node_mask": masks.node}


def _predicted(graph: GraphsTuple) -> Float[Array, "G *targets"]:
    if not isinstance(graph.globals, jax.Array):
        raise ValueError(
            "the module returns no globals [G, ...], which are the predictions: end it with a GraphReadout"
        )
    return graph.globals


def _of_graphs(
    metrics: NodeMetrics, outputs: Array, targets: ArrayLike, masks: Masks | None
) -> Metrics:
    """Of all graphs; a target of padding says that there is none."""
    ids = np.arange(len(outputs))
    if masks is None:
        return metrics(outputs, ids, targets)
    targets = jnp.asarray(targets)
    if jnp.issubdtype(targets.dtype, jnp.unsignedinteger):
        targets = targets.astype(jnp.int32)
    nothing = jnp.nan if jnp.issubdtype(targets.dtype, jnp.inexact) else -1
    return metrics(
        outputs, ids, jnp.where(over_rows(jnp.asarray(masks.graph), targets), targets, nothing)
    )
