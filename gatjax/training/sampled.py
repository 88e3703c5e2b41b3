"""Training on samples of a graph's neighbours, as pure functions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
from jraph import GraphsTuple

from gatjax.graph.edit import add_self_loops
from gatjax.graph.neighbors import Neighbors, neighbors_of
from gatjax.graph.sample import hop_sizes, sample_hops
from gatjax.training.losses import Labels, Metrics
from gatjax.training.pure import (
    Build,
    Module,
    NodeMetrics,
    NodePrediction,
    Of,
    apply,
    hold,
    initialise,
    take_apart,
    training_loss,
)


class Sampling(NamedTuple):
    """How a step sees a part of a graph.

    Attributes:
      batch_size: nodes that it learns from.
      fanouts: neighbours at most, by hop: one hop for each layer that reads neighbours.
    """

    batch_size: int
    fanouts: tuple[int, ...]


class LargeGraph(NamedTuple):
    """A graph and what samples of it are drawn from; see `large_graph`.

    Attributes:
      graph: what is validated on, whole.
      neighbors: of its edges, but self-loops.
    """

    graph: GraphsTuple
    neighbors: Neighbors


def large_graph(graph: GraphsTuple, edge_weight: Any = None) -> LargeGraph:
    """A graph with a self-loop on every node, and what samples of it are drawn from.

    Args:
      graph: one graph without self-loops and features of edges.
      edge_weight: by which neighbours are drawn, [E], as in `neighbors_of`; layers do not see it.

    Raises:
      ValueError: it has self-loops, or features of edges.

    >>> from gatjax.graph import build_graph
    >>> large_graph(build_graph([0], [1], jnp.eye(2))).graph.senders.tolist()
    [0, 0, 1]
    """
    if graph.edges is not None:
        raise ValueError(
            "the graph has edge features, which samples do not hand on: drop them, graph._replace(edges=None)"
        )
    neighbors = neighbors_of(graph, edge_weight)
    if neighbors.has_loops:
        raise ValueError(
            "the graph has self-loops, and every node gets one here: take them out, remove_self_loops(graph)"
        )
    return LargeGraph(add_self_loops(graph), neighbors)


def sampled_prediction(
    build: Build, metrics: NodeMetrics, *, batch_size: int, fanouts: Sequence[int]
) -> NodePrediction:
    """`node_prediction` whose loss is that of some nodes, from some of their neighbours, drawn anew by each key.

    ```
    initialise(key)                           -> parameters
    loss(parameters, key, data, labels)       -> loss of batch_size training nodes and a sample of their neighbours
    validate(parameters, data, labels)        -> Metrics of the validation nodes, from the whole graph
    outputs(parameters, data, key=None)       -> [N, ...], from the whole graph
    ```

    A training has `steps_per_epoch` of them, `ceil(training nodes / batch_size)` to see each node once on average.

    Args:
      build: draws a `Stack` from `nnx.Rngs`, such as `GAT`.
      metrics: as in `node_prediction`.
      batch_size: training nodes of a step; all of them where there are fewer.
      fanouts: neighbours at most, by hop, in `sample_hops`: a hop for each layer that reads neighbours.

    Returns:
      The four functions; `data` is a `large_graph`, `labels` are `Labels`.

    Raises:
      ValueError: a number under 1.

    >>> from gatjax.graph import build_graph
    >>> from gatjax import GAT
    >>> from gatjax.training import softmax_cross_entropy
    >>> data = large_graph(build_graph([0, 1, 2], [1, 2, 0], jnp.eye(3)))
    >>> build = lambda rngs: GAT(3, 2, num_layers=1, rngs=rngs)
    >>> pure = sampled_prediction(build, softmax_cross_entropy, batch_size=1, fanouts=[1])
    >>> labels = Labels(jnp.array([0, 1]), jnp.array([0, 1]), jnp.array([2]), jnp.array([1]))
    >>> pure.loss(pure.initialise(jax.random.key(0)), jax.random.key(1), data, labels).shape
    ()

    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, NeurIPS 2017.
    """
    hop_sizes(batch_size, fanouts)
    sampling = Sampling(batch_size, tuple(fanouts))
    module, held = take_apart(build), hold(metrics)
    return NodePrediction(
        Of(initialise, module),
        Of(_loss, module, (*held, sampling)),
        Of(_validate, module, held),
        Of(_outputs, module),
    )


def _loss(
    module: Module,
    metrics: NodeMetrics,
    sampling: Sampling,
    parameters: Any,
    key: Key[Array, ""],
    data: LargeGraph,
    labels: Labels,
) -> Any:
    for_batch, for_neighbors, for_dropout = jax.random.split(key, 3)
    nodes, targets = jnp.asarray(labels.train_nodes), jnp.asarray(labels.train_labels)
    size = min(sampling.batch_size, len(nodes))
    chosen = jax.random.choice(for_batch, len(nodes), (size,), replace=False)
    hops = sample_hops(
        for_neighbors, data.neighbors, nodes[chosen], sampling.fanouts, self_loops=True
    )
    of = lambda graph: metrics(graph.nodes, jnp.arange(size), targets[chosen]).loss
    return training_loss(
        module,
        of,
        parameters,
        for_dropout,
        hops.graph(data.graph.nodes),
        view=hops.views,
        node_mask=hops.node_mask,
        edge_mask=hops.edge_mask,
    )


def _outputs(
    module: Module, parameters: Any, data: LargeGraph, key: Key[Array, ""] | None = None
) -> Float[Array, "N *targets"]:
    return apply(module, parameters, data.graph, key=key).nodes


def _validate(
    module: Module, metrics: NodeMetrics, parameters: Any, data: LargeGraph, labels: Labels
) -> Metrics:
    outputs = _outputs(module, parameters, data)
    return metrics(outputs, labels.validation_nodes, labels.validation_labels)
