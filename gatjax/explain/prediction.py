"""A prediction as a function of the edges: what every attribution asks, and the part of the graph that can answer."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from jraph import GraphsTuple

from gatjax.graph.check import EdgeMask, EdgeWeight, check_edges, check_graph, check_lengths
from gatjax.graph.ids import host_ids, integers
from gatjax.graph.messages import is_integer, shown
from gatjax.graph.sizes import num_edges, num_nodes
from gatjax.graph.subgraph import subgraph

# `apply(graph, edge_mask=None, edge_weight=None)` gives a graph whose nodes [N, K] are outputs.
Apply = Callable[..., GraphsTuple]
# `score(outputs, label)` of one node's outputs [K].
Score = Callable[[Array, Array], Array]


def probability(outputs: Float[Array, "K"], label: Int[ArrayLike, ""]) -> Float[Array, ""]:
    """The probability of a class, from the logits of all.

    ```
    p = exp(z_y) / Σ_k exp(z_k)
    ```

    >>> probability(jnp.array([0.0, 0.0]), 1).item()
    0.5
    """
    return jax.nn.softmax(_classes(outputs))[label]


def log_odds(outputs: Float[Array, "K"], label: Int[ArrayLike, ""]) -> Float[Array, ""]:
    """The probability of a class, on a scale without end: where a model is sure, it still tells more from less.

    ```text
    log p / (1 - p) = z_y - log Σ_{k ≠ y} exp(z_k)
    ```

    >>> log_odds(jnp.array([50.0, 0.0]), 0).item()
    50.0
    """
    others = jnp.where(jnp.arange(len(_classes(outputs))) == label, -jnp.inf, outputs)
    return outputs[label] - jax.nn.logsumexp(others)


def _classes(outputs: Array) -> Array:
    if len(outputs) < 2:
        raise ValueError(
            "the model has one output per node, which is no choice of classes: give a score of your own, "
            "such as score=lambda outputs, label: outputs[0]"
        )
    return outputs


class Options(TypedDict, total=False):
    """What all attributions take beside the model, the graph and the target."""

    label: Int[ArrayLike, ""] | None
    score: Score
    edge_mask: EdgeMask
    edge_weight: EdgeWeight


class Prediction(NamedTuple):
    """What a model says of one node, as a function of the edges.

    Attributes:
      apply: `apply(graph, edge_mask=None, edge_weight=None)`, a graph whose nodes are outputs.
      graph: one graph or a batch.
      target: a node.
      label: which class it is about.
      score: `score(outputs, label)`, of the target's outputs.
      edge_mask: edges that take part, `[E]`.
      edge_weight: how much each counts, `[E]`, or None.
    """

    apply: Apply
    graph: GraphsTuple
    target: Int[Array, ""]
    label: Int[Array, ""]
    score: Score
    edge_mask: Bool[Array, "E"]
    edge_weight: Float[Array, "E"] | None

    def outputs(
        self, *, edge_mask: EdgeMask = None, edge_weight: EdgeWeight = None
    ) -> Float[Array, "K"]:
        """Of the target, with another mask or other weights."""
        mask = self.edge_mask if edge_mask is None else edge_mask
        weight = self.edge_weight if edge_weight is None else edge_weight
        return jnp.asarray(call(self.apply, self.graph, mask, weight).nodes)[self.target]

    def value(self, *, edge_mask: EdgeMask = None, edge_weight: EdgeWeight = None) -> Array:
        """The score, with another mask or other weights."""
        return self.score(self.outputs(edge_mask=edge_mask, edge_weight=edge_weight), self.label)

    @property
    def weights(self) -> Float[Array, "E"]:
        """Of the edges, 1 where there are none."""
        if self.edge_weight is None:
            return jnp.ones(len(self.edge_mask))
        return self.edge_weight


def predict(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    *,
    label: Int[ArrayLike, ""] | None = None,
    score: Score = probability,
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
) -> Prediction:
    """A model's prediction of one node, as a function of the edges; what an attribution of one's own starts from.

    Args:
      apply: `apply(graph, edge_mask=None, edge_weight=None)` gives a graph whose nodes are outputs `[N, K]`: a module,
        which is asked as after `eval()`; or a function, such as
        `functools.partial(functional(build).apply, parameters)`.
      graph: one graph or a batch.
      target: id of a node; may be traced, as in `jax.vmap` over targets.
      label: the class that is asked about; by default the one that the model predicts.
      score: `score(outputs, label)` of the target's outputs `[K]`.
      edge_mask: edges that take part, `[E]`; all by default.
      edge_weight: how much each edge counts, `[E]`, after the softmax.

    Raises:
      TypeError, ValueError: a graph that is not sound; a target that is no node, a label that is no output.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [1, 1], jnp.eye(2))
    >>> question = predict(MeanConv(2, 3, rngs=nnx.Rngs(0)), graph, 1, label=2)
    >>> question.value().shape, question.value(edge_mask=jnp.array([True, False])).shape
    ((), ())
    """
    check_graph(graph)
    target = check_id("target", target, num_nodes(graph), "node")
    counted = check_edges(graph, edge_mask, edge_weight=edge_weight).counted
    weight = None if edge_weight is None else jnp.asarray(edge_weight)
    question = Prediction(_evaluated(apply), graph, target, target, score, counted, weight)
    if label is None:
        return question._replace(label=question.outputs().argmax())
    outputs = jax.eval_shape(question.outputs)
    return question._replace(label=check_id("label", label, outputs.shape[0], "output"))


def _evaluated(apply: Apply) -> Apply:
    """A module as another one of the same arrays, without dropout and with running averages; a function as it is."""
    if not isinstance(apply, nnx.Module):
        return apply
    module = nnx.clone(apply)
    module.eval()
    return module


def call(
    apply: Apply, graph: GraphsTuple, edge_mask: EdgeMask, edge_weight: EdgeWeight
) -> GraphsTuple:
    options: dict[str, Any] = {"edge_mask": edge_mask}
    if edge_weight is not None:
        options["edge_weight"] = edge_weight
    known = inspect.signature(apply).parameters
    if isinstance(apply, nnx.Module) and "deterministic" in known:
        options["deterministic"] = True
    return apply(graph, **options)


def check_id(name: str, value: Any, count: int, kind: str) -> Int[Array, ""]:
    """A whole number below count; what is traced is taken as it is."""
    if not isinstance(value, Tracer):
        if isinstance(value, np.ndarray | jax.Array) and np.ndim(value) == 0:
            value = np.asarray(value)[()]
        if not is_integer(value):
            raise TypeError(f"{name} must be the id of one {kind}, got {shown(value)}")
        if not 0 <= value < count:
            raise ValueError(f"{name} = {value} is no {kind}: ids run from 0 to {count - 1}")
    return jnp.asarray(value)


def check_values(graph: GraphsTuple, values: Float[ArrayLike, "E"]) -> Float[Array, "E"]:
    """An attribution, if it has one number per edge of the graph."""
    values = one_per_edge("values", values)
    check_lengths(num_edges(graph), values=values)
    return values


def one_per_edge(name: str, values: ArrayLike) -> Array:
    """Numbers along one axis, and not those of several heads."""
    values = jnp.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{name} must be [E], one number per edge, got {list(values.shape)}")
    return values


def check_edge_ids(edges: Any, count: int) -> Int[Array, "e"]:
    """Ids of edges; what is traced is taken as it is."""
    if not isinstance(edges, Tracer):
        ids = np.asarray(edges)
        if ids.dtype == bool:
            raise TypeError("edges must be ids of edges, got booleans: use np.flatnonzero(edges)")
        if ids.size and ids.dtype.kind not in "iu":
            raise TypeError(f"edges must be ids of edges, got {ids.dtype}")
        if (wrong := ids[(ids < 0) | (ids >= count)]).size:
            raise ValueError(f"edges has {wrong[0]}, no edge: ids run from 0 to {count - 1}")
    return jnp.asarray(edges, jnp.int32)


class ComputationGraph(NamedTuple):
    """The part of a graph that a prediction can depend on; see `computation_graph`.

    Attributes:
      graph: that part.
      target: the node, in its numbering.
      nodes: which nodes of the whole graph its nodes are, `[n]`.
      edges: which edges of the whole graph its edges are, `[e]`.
    """

    graph: GraphsTuple
    target: int
    nodes: Int[np.ndarray, "n"]
    edges: Int[np.ndarray, "e"]


def computation_graph(graph: GraphsTuple, target: int, hops: int) -> ComputationGraph:
    """The edges that lead to a node within so many steps, and their nodes; on the host.

    A model of as many layers that sum over incoming edges predicts the same there, so that what is found there is found
    for the whole graph, at a fraction of the cost: `jnp.zeros(E).at[part.edges].set(values)`. A layer that looks at the
    degree of the sender, such as `GCNConv`, needs one hop more, and so does `mean_attention`, which looks at attention
    away from the target in all layers.

    Args:
      graph: one graph or a batch; nodes may be sparse.
      target: id of a node.
      hops: number of layers, at least 1.

    Raises:
      TypeError, ValueError: a target that is no node, no hop.

    >>> from gatjax.graph import build_graph
    >>> path = build_graph([0, 1, 2, 3], [1, 2, 3, 4], num_nodes=5)
    >>> part = computation_graph(path, 3, hops=2)
    >>> part.nodes.tolist(), part.edges.tolist(), part.target
    ([1, 2, 3], [1, 2], 2)
    """
    senders, receivers, n_node, n_edge = host_ids(graph)
    total = int(n_node.sum())
    check_id("target", target, total, "node")
    if not is_integer(hops) or hops < 1:
        raise ValueError(f"hops must be a whole number from 1 on, got {shown(hops)}")
    reached = np.arange(total) == target
    for hop in range(hops):
        into = reached[receivers]
        if hop == hops - 1:
            break
        reached = reached.copy()
        reached[senders[into]] = True
    edges = np.flatnonzero(into)
    graph_of_edge = np.repeat(np.arange(len(n_edge)), n_edge)[edges]
    counts = np.bincount(graph_of_edge, minlength=len(n_edge)).astype(np.int32)
    fewer = graph._replace(
        senders=senders[edges],
        receivers=receivers[edges],
        edges=jax.tree.map(lambda leaf: np.asarray(leaf)[edges], graph.edges),
        n_edge=counts,
    )
    reached[senders[edges]] = True
    nodes = integers("nodes", np.flatnonzero(reached))
    part, _ = subgraph(fewer, nodes)
    return ComputationGraph(part, int(np.searchsorted(nodes, target)), nodes, edges)
