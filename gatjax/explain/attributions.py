"""How much each edge matters to a prediction, by attention and by gradients.

Every attribution is `f(apply, graph, target, **options) -> [E]`, aligned with the graph's own edges; see `predict` for
what `apply`, `target` and the options `label`, `score`, `edge_mask` and `edge_weight` are. It is 0 on edges that do not
take part, and on those from which no path of the model's depth leads to the target.
"""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key
from jraph import GraphsTuple

from gatjax.explain.prediction import Apply, Options, Prediction, check_id, predict
from gatjax.graph.check import check_edges
from gatjax.graph.sizes import num_nodes
from gatjax.ops.ends import Ends
from gatjax.ops.segment import segment_sum


def mean_attention(
    apply: Apply, graph: GraphsTuple, target: Int[ArrayLike, ""], **options: Unpack[Options]
) -> Float[Array, "E"]:
    """Attention, on average over heads and layers: what people look at first.

    ```
    φ_ij = 1/L Σ_l 1/H Σ_h α_ij^{lh}
    ```

    Args:
      apply: a module with `attention(graph, edge_mask=None) -> ([E, H], ...)`, such as a `GAT`.
      graph: one graph or a batch.
      target: id of a node.
      **options: as in `predict`; attention knows neither label nor score.

    Raises:
      TypeError: `apply` has no attention.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1, 2], [1, 2, 2], jnp.eye(3))
    >>> mean_attention(MeanConv(3, 2, rngs=nnx.Rngs(0)), graph, 2).tolist()
    [0.0, 0.5, 0.5]

    AvgAtt in Shin, Li, Cao, Shin, Faithful and Accurate Self-Attention Attribution for Message Passing Neural Networks
    via the Computation Tree Viewpoint, AAAI 2025.
    """
    layers, ends, node = _attention(apply, graph, target, options)
    reached = _unrolled([jnp.ones_like(alpha) for alpha in layers], ends, node, num_nodes(graph))
    return jnp.where(reached > 0, jnp.stack(layers).mean(0), 0)


def unrolled_attention(
    apply: Apply, graph: GraphsTuple, target: Int[ArrayLike, ""], **options: Unpack[Options]
) -> Float[Array, "E"]:
    """Attention over all places of an edge in the computation tree, each times the attention on its way up: GAtt.

    ```text
    φ_ij    = Σ_m c_i^m α_ij^(L-m)                    m = 0 ... L - 1
    c_j^0   = 1 at the target, 0 elsewhere
    c_j^m+1 = Σ_{j -> i} c_i^m α_ij^(L-m)
    ```

    α is the mean over heads. Where values are linear this is how the target's output changes with the edge.

    Args:
      apply: a module with attention, as in `mean_attention`.
      graph: one graph or a batch.
      target: id of a node.
      **options: as in `predict`; attention knows neither label nor score.

    Raises:
      TypeError: `apply` has no attention.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, Stack, build_graph
    >>> graph = build_graph([0, 1, 1, 2], [1, 1, 2, 2], jnp.eye(3))
    >>> model = Stack([MeanConv(3, 3, rngs=nnx.Rngs(0)), MeanConv(3, 2, rngs=nnx.Rngs(1))])
    >>> unrolled_attention(model, graph, 2).tolist()
    [0.25, 0.25, 0.75, 0.75]

    GAtt in Shin, Li, Cao, Shin, AAAI 2025.
    """
    return _unrolled(*_attention(apply, graph, target, options), num_nodes(graph))


def edge_gradient(
    apply: Apply, graph: GraphsTuple, target: Int[ArrayLike, ""], **options: Unpack[Options]
) -> Float[Array, "E"]:
    """How fast the score grows with the weight of an edge.

    ```
    φ_e = ∂ score(w) / ∂ w_e
    ```

    w_e multiplies what the edge carries, after the softmax. Arguments as in `predict`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [1, 1], jnp.eye(2))
    >>> edge_gradient(MeanConv(2, 3, rngs=nnx.Rngs(0)), graph, 0).tolist()
    [0.0, 0.0]

    Simonyan, Vedaldi, Zisserman, Deep Inside Convolutional Networks, 2013, there of pixels.
    """
    return _gradient(predict(apply, graph, target, **options))


def gradient_times_weight(
    apply: Apply, graph: GraphsTuple, target: Int[ArrayLike, ""], **options: Unpack[Options]
) -> Float[Array, "E"]:
    """What an edge takes with it when it goes, to first order.

    ```
    φ_e = w_e ∂ score(w) / ∂ w_e
    ```

    It is `edge_gradient` where edges have no weights. Arguments as in `predict`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [1, 1], jnp.eye(2))
    >>> layer, weight = MeanConv(2, 3, rngs=nnx.Rngs(0)), jnp.array([1.0, 0.0])
    >>> gradient_times_weight(layer, graph, 1, edge_weight=weight)[1].item() == 0
    True

    Shrikumar, Greenside, Kundaje, Learning Important Features Through Propagating Activation Differences, ICML 2017.
    """
    question = predict(apply, graph, target, **options)
    return question.weights * _gradient(question)


def integrated_gradients(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    *,
    steps: int = 32,
    **options: Unpack[Options],
) -> Float[Array, "E"]:
    """The gradient on the way from no edge to all of them; the attributions sum to the difference of the two scores.

    ```text
    φ_e = w_e ∫_0^1 ∂ score(t w) / ∂ w_e dt
    ```

    Args:
      apply: the model.
      graph: one graph or a batch.
      target: id of a node.
      steps: points of the integral, by Gauss and Legendre.
      **options: as in `predict`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [1, 1], jnp.eye(2))
    >>> layer = MeanConv(2, 3, rngs=nnx.Rngs(0))
    >>> question = predict(layer, graph, 1)
    >>> gained = question.value() - question.value(edge_weight=jnp.zeros(2))
    >>> found = integrated_gradients(layer, graph, 1, label=question.label)
    >>> abs(found.sum() - gained).item() < 1e-6
    True

    Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    question = predict(apply, graph, target, **options)
    value = lambda weight: question.value(edge_weight=weight)
    points, shares = np.polynomial.legendre.leggauss(steps)
    weights = question.weights

    def add(total: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        place, share = at
        return total + share * jax.grad(value)(place * weights), None

    places, shares = (jnp.asarray(each / 2, weights.dtype) for each in (points + 1, shares))
    total, _ = jax.lax.scan(add, jnp.zeros_like(weights), (places, shares))
    return jnp.where(question.edge_mask, weights * total, 0)


def random_attribution(
    apply: Any,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    *,
    key: Key[Array, ""],
    **options: Unpack[Options],
) -> Float[Array, "E"]:
    """Numbers by chance, from 0 to 1: what an attribution has to beat.

    Args:
      apply: not called.
      graph: one graph or a batch.
      target: id of a node.
      key: of the random numbers.
      **options: as in `predict`; only `edge_mask` is read.

    >>> from gatjax.graph import build_graph
    >>> random_attribution(None, build_graph([0], [1], num_nodes=2), 1, key=jax.random.key(0)).shape
    (1,)
    """
    counted = check_edges(graph, options.get("edge_mask")).counted
    return jnp.where(counted, jax.random.uniform(key, counted.shape), 0)


def _gradient(question: Prediction) -> Float[Array, "E"]:
    value = lambda weight: question.value(edge_weight=weight)
    return jnp.where(question.edge_mask, jax.grad(value)(question.weights), 0)


def _attention(
    apply: Any, graph: GraphsTuple, target: Int[ArrayLike, ""], options: Options
) -> tuple[list[Array], Ends, Array]:
    """The mean over heads of each layer, [E]; the ends of the edges; the target."""
    if not hasattr(apply, "attention"):
        raise TypeError(
            f"{type(apply).__name__} has no attention(graph): give a module that has, such as a GAT, or take an "
            "attribution that needs none, such as edge_deletion"
        )
    target = check_id("target", target, num_nodes(graph), "node")
    parts = {name: options.get(name) for name in ("edge_mask", "edge_weight")}
    given = {name: part for name, part in parts.items() if part is not None}
    found = apply.attention(graph, **given)
    found = found if isinstance(found, tuple) else (found,)
    return [jnp.asarray(alpha).mean(1) for alpha in found], check_edges(graph, **parts), target


def _unrolled(layers: list[Array], ends: Ends, target: Array, nodes: int) -> Float[Array, "E"]:
    """Down the tree from the target: `share` is how much of each node there is in it."""
    share = jnp.zeros(nodes, layers[0].dtype).at[target].set(1)
    total = jnp.zeros_like(layers[0])
    for alpha in reversed(layers):
        through = jnp.where(ends.counted, share[ends.receivers] * alpha, 0)
        total += through
        share = segment_sum(through, ends.senders, nodes)
    return total
