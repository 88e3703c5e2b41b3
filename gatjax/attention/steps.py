"""Attention over the edges of a graph, step by step.

Legend of shapes, here and everywhere: N nodes, E edges, G graphs, H heads, F input features, C features per head.

An attention mechanism is a pure function on rows. Given the row of the receiver `r`, the row of the sender `s` and the
row of the edge `e`, each a pytree with arbitrary leading axes, it returns one logit per head:

```
score(weights, r, s, e) -> [..., H]
value(weights, r, s, e) -> [..., H, C]
```

GAT, GATv2, dot products and any other mechanism differ only there. All that is expensive is shared:

```
logits = attention_logits(graph, score, weights, receiver_rows, sender_rows)     # [E, H]
alpha  = attention_weights(graph, logits)                                        # [E, H]
nodes  = weighted_sum(graph, alpha, values)                                      # [N, H, C]
```

and `edge_attention`, in `gatjax.attention.attend`, computes the three lines at once without ever holding an [E, H, C]
array.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.graph.check import EdgeMask, check_edges, check_lengths
from gatjax.graph.sizes import num_edges, num_nodes
from gatjax.ops.blocks import gather, mask_rows
from gatjax.ops.ends import Ends
from gatjax.ops.segment import (
    check_k,
    segment_entmax,
    segment_hardmax,
    segment_softmax,
    segment_sparsemax,
    segment_straight_through,
    segment_sum,
    segment_top_k,
)
from gatjax.ops.softmax import check_temperature

RowFunction = Callable[[Any, Any, Any, Any], Array]
Normalizer = Callable[..., Array]
Normalize = Literal["softmax", "hardmax", "straight_through", "sparsemax", "entmax"] | Normalizer
Temperature = float | Float[ArrayLike, "..."]

NORMALIZERS: dict[str, Normalizer] = {
    "softmax": segment_softmax,
    "hardmax": segment_hardmax,
    "straight_through": segment_straight_through,
    "sparsemax": segment_sparsemax,
    "entmax": segment_entmax,
}


@dataclass(frozen=True)
class TopK:
    """A normaliser, `normalize=TopK(k)`: the softmax of each receiver's k largest logits, per head.

    Two of the same k are equal, so that what is compiled for one serves the other, and models that have one are saved.

    Args:
      k: how many edges of a receiver may weigh more than 0; of equal logits those of the first edges.

    Raises:
      TypeError, ValueError: k is no whole number from 1 on.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2], [3, 3, 3], num_nodes=4)
    >>> attention_weights(graph, jnp.array([5.0, 1.0, 5.0]), normalize=TopK(2)).tolist()
    [0.5, 0.0, 0.5]

    Its mathematics is `segment_top_k`.
    """

    k: int

    def __post_init__(self):
        check_k(self.k)

    def __call__(
        self,
        logits: Float[Array, "E *H"],
        segment_ids: Int[Array, "E"],
        num_segments: int,
        *,
        mask: Bool[Array, "E"] | None = None,
    ) -> Float[Array, "E *H"]:
        """The weights; arguments as in `segment_softmax`."""
        return segment_top_k(logits, segment_ids, num_segments, k=self.k, mask=mask)


def attention_logits(
    graph: GraphsTuple,
    score: RowFunction,
    weights: PyTree,
    receiver_rows: PyTree,
    sender_rows: PyTree,
    edge_rows: PyTree = None,
) -> Float[Array, "E *H"]:
    """One logit per edge and head.

    ```
    e_ij = score(weights, r_i, s_j, e_ij)
    ```

    Args:
      graph: gives the edges.
      score: `score(weights, r, s, e) -> [..., H]` on rows with a leading axis.
      weights: pytree handed to `score`.
      receiver_rows: pytree of arrays `[N, ...]`, read at the receiver of each edge.
      sender_rows: pytree of arrays `[N, ...]`, read at the sender of each edge.
      edge_rows: pytree of arrays `[E, ...]`, or None.

    Returns:
      Logits `[E, H]`, aligned with the graph's edges.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [2.0]]))
    >>> attention_logits(graph, lambda w, r, s, e: r * s, None, graph.nodes, graph.nodes).tolist()
    [[2.0], [6.0]]
    """
    ends = check_edges(graph)
    check_lengths(num_nodes(graph), receiver_rows=receiver_rows, sender_rows=sender_rows)
    check_lengths(num_edges(graph), edge_rows=edge_rows)
    return on_edges(score, Rows(weights, receiver_rows, sender_rows, edge_rows), ends)


def on_edges(function: RowFunction, rows: Rows, ends: Ends) -> Array:
    """A score or a value of every edge, from the rows that it joins and its own."""
    r = gather(rows.receivers, ends.receivers)
    s = gather(rows.senders, ends.senders)
    return function(rows.weights, r, s, jax.tree.map(jnp.asarray, rows.edges))


def attention_weights(
    graph: GraphsTuple,
    logits: Float[ArrayLike, "E *H"],
    edge_mask: EdgeMask = None,
    *,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
) -> Float[Array, "E *H"]:
    """Softmax of the logits over the incoming edges of each receiver.

    ```
    α_ij = exp(e_ij / T) / Σ_{k -> i} exp(e_ik / T)
    ```

    Args:
      graph: gives the edges.
      logits: `[E, H]`.
      edge_mask: edges that take part, `[E]`; all by default.
      normalize: "softmax", "hardmax", "straight_through", "sparsemax", "entmax", `TopK(k)`, or a function of one's own,
        `normalize(logits, segment_ids, num_segments, *, mask)`, as `segment_softmax` is.
      temperature: T, positive, of all heads or one per head `[H]`.

    Returns:
      Weights `[E, H]`; over the incoming edges of a node they sum to 1, and to 0 where it has none.

    Raises:
      ValueError: an unknown normaliser, one of another signature, a temperature that is not positive.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2], [3, 3, 3], num_nodes=4)
    >>> print(jnp.round(100 * attention_weights(graph, jnp.array([2.0, 0.5, 1.0]))))
    [63. 14. 23.]
    """
    ends = check_edges(graph, edge_mask)
    check_lengths(num_edges(graph), logits=logits)
    return normalized(jnp.asarray(logits), ends, num_nodes(graph), normalize, temperature)


def normalized(
    logits: Float[Array, "E *H"],
    ends: Ends,
    num_receivers: int,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
) -> Float[Array, "E *H"]:
    """`attention_weights` where the edges have been checked."""
    cooled = cool(logits, temperature)
    alpha = weights_of(normalizer(normalize), cooled, ends.into, num_receivers, ends.counted)
    alpha = mask_rows(alpha, ends.counted) if callable(normalize) else alpha
    return alpha.astype(logits.dtype) if jnp.issubdtype(logits.dtype, jnp.inexact) else alpha


def weights_of(
    normalize: Normalizer,
    logits: Float[Array, "E *H"],
    segment_ids: Int[Array, "E"],
    num_segments: int,
    mask: Bool[Array, "E"],
) -> Float[Array, "E *H"]:
    """What a normaliser returns.

    Raises:
      ValueError: not one weight per logit.
    """
    alpha = normalize(logits, segment_ids, num_segments, mask=mask)
    if jnp.shape(alpha) != logits.shape:
        raise ValueError(
            f"normalize must return one weight per logit, {list(logits.shape)}, got {list(jnp.shape(alpha))}"
        )
    return alpha


def cool(logits: Float[Array, "E *H"], temperature: Temperature) -> Float[Array, "E *H"]:
    """The logits over the temperature, in float32 at least; those of -inf stay, without a gradient.

    Raises:
      ValueError: a temperature that is not positive, or not one per head.
    """
    check_temperature(temperature, 'normalize="hardmax"')
    if isinstance(temperature, int | float) and temperature == 1:
        return logits
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    divisor = jnp.asarray(temperature, wide.dtype)
    if divisor.shape not in ((), wide.shape[1:]):
        raise ValueError(
            f"temperature must be a number or one per head, {list(wide.shape[1:])}, got {list(divisor.shape)}"
        )
    known = wide != -jnp.inf
    quotient = jnp.where(known, wide, 0) / jnp.broadcast_to(divisor, wide.shape)
    return jnp.where(known, quotient, -jnp.inf)


def weighted_sum(
    graph: GraphsTuple,
    alpha: Float[ArrayLike, "E *H"],
    values: Float[ArrayLike, "N *H C"] | None = None,
    *,
    edge_values: Float[ArrayLike, "E *H C"] | None = None,
) -> Float[Array, "N *H C"]:
    """Sum of the senders' values into each receiver, weighted by attention.

    ```
    h'_i = Σ_{j -> i} α_ij v_j        values per sender, or
    h'_i = Σ_{j -> i} α_ij v_ij       values per edge
    ```

    Args:
      graph: gives the edges.
      alpha: weights `[E, H]`.
      values: values of the senders, `[N, H, C]`.
      edge_values: values of the edges, `[E, H, C]`; added to those of the senders where both are given.

    Returns:
      `[N, H, C]`; 0 for a node without incoming edges.

    Raises:
      ValueError: neither kind of value is given.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2], [3, 3, 3], num_nodes=4)
    >>> values = jnp.array([[1.0], [10.0], [100.0], [0.0]])
    >>> print(weighted_sum(graph, jnp.array([0.6, 0.3, 0.1]), values)[3])
    [13.6]
    """
    ends = check_edges(graph)
    check_lengths(num_edges(graph), alpha=alpha, edge_values=edge_values)
    check_lengths(num_nodes(graph), values=values)
    if values is None and edge_values is None:
        raise ValueError(
            "weighted_sum needs values [N, H, C] of the senders, or edge_values [E, H, C]"
        )
    messages = 0 if values is None else gather(values, ends.senders)
    messages = messages if edge_values is None else messages + edge_values
    messages = mask_rows(messages, ends.counted) * jnp.asarray(alpha)[..., None]
    return segment_sum(messages, ends.receivers, num_nodes(graph), mask=ends.counted)


def normalizer(normalize: Normalize) -> Normalizer:
    """The function of that name, or the function itself.

    Raises:
      ValueError: an unknown name, or a function that cannot be called as `segment_softmax` is.
    """
    if callable(normalize):
        try:
            inspect.signature(normalize).bind(None, None, None, mask=None)
        except TypeError as error:
            raise ValueError(
                f"normalize must be callable as normalize(logits, segment_ids, num_segments, mask=mask), as "
                f"segment_softmax is, got {normalize!r} ({error})"
            ) from error
        return normalize
    if normalize not in NORMALIZERS:
        raise ValueError(
            f"normalize must be one of {list(NORMALIZERS)}, TopK(k) or a function, got {normalize!r}"
        )
    return NORMALIZERS[normalize]
