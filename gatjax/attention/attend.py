"""Attention over the edges of a graph.

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

and `edge_attention` computes the three lines at once without ever holding an [E, H, C] array.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows, blocked_attention
from gatjax.graph.check import (
    EdgeMask,
    EdgeWeight,
    check_edges,
    check_ends,
    check_graph,
    check_lengths,
)
from gatjax.graph.sizes import num_edges, num_nodes
from gatjax.ops.blocks import choose_block_size, fill_rows, gather, mask_rows, round_up
from gatjax.ops.dropout import DropoutMask
from gatjax.ops.ends import Ends
from gatjax.ops.segment import (
    segment_hardmax,
    segment_softmax,
    segment_straight_through,
    segment_sum,
)

RowFunction = Callable[[Any, Any, Any, Any], Array]
Normalizer = Callable[..., Array]

NORMALIZERS: dict[str, Normalizer] = {
    "softmax": segment_softmax,
    "hardmax": segment_hardmax,
    "straight_through": segment_straight_through,
}


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
    r = gather(rows.receivers, ends.receivers, accumulate=jnp.float32)
    s = gather(rows.senders, ends.senders, accumulate=jnp.float32)
    return function(rows.weights, r, s, jax.tree.map(jnp.asarray, rows.edges))


def attention_weights(
    graph: GraphsTuple,
    logits: Float[ArrayLike, "E *H"],
    edge_mask: EdgeMask = None,
    *,
    normalize: str | Normalizer = "softmax",
) -> Float[Array, "E *H"]:
    """Softmax of the logits over the incoming edges of each receiver.

    ```
    α_ij = exp(e_ij) / Σ_{k -> i} exp(e_ik)
    ```

    Args:
      graph: gives the edges.
      logits: `[E, H]`.
      edge_mask: edges that take part, `[E]`; all by default.
      normalize: "softmax", "hardmax", "straight_through", or a function with the signature of `segment_softmax`.

    Returns:
      Weights `[E, H]`; over the incoming edges of a node they sum to 1, and to 0 where it has none.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2], [3, 3, 3], num_nodes=4)
    >>> print(jnp.round(100 * attention_weights(graph, jnp.array([2.0, 0.5, 1.0]))))
    [63. 14. 23.]
    """
    ends = check_edges(graph, edge_mask)
    check_lengths(num_edges(graph), logits=logits)
    return normalizer(normalize)(
        jnp.asarray(logits), ends.receivers, num_nodes(graph), mask=ends.counted
    )


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
    messages = 0 if values is None else gather(values, ends.senders, accumulate=jnp.float32)
    messages = messages if edge_values is None else messages + edge_values
    messages = mask_rows(messages, ends.counted) * jnp.asarray(alpha)[..., None]
    return segment_sum(messages, ends.receivers, num_nodes(graph), mask=ends.counted)


def edge_attention(
    score: RowFunction,
    value: RowFunction,
    weights: PyTree,
    receiver_rows: PyTree,
    sender_rows: PyTree,
    edge_rows: PyTree,
    senders: Int[ArrayLike, "E"],
    receivers: Int[ArrayLike, "E"],
    num_receivers: int,
    *,
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    multiplier: Float[ArrayLike, "E H"] | DropoutMask | None = None,
    normalize: str | Normalizer = "softmax",
    block_size: int | str | None = "auto",
) -> Float[Array, "N H C"]:
    """Logits, weights and weighted sum at once, for any mechanism.

    ```
    e_ij  = score(weights, r_i, s_j, e_ij)
    α_ij  = softmax_{j -> i}(e_ij)
    out_i = Σ_{j -> i} w_ij m_ij α_ij value(weights, r_i, s_j, e_ij)
    ```

    The functions receive rows with one leading axis, and must treat each row alone. Receivers and senders may be
    different tables. An edge with either end out of range, or masked, contributes nothing, to no node.

    Args:
      score: `score(weights, r, s, e) -> [k, H]`.
      value: `value(weights, r, s, e) -> [k, H, C]`.
      weights: pytree handed to both.
      receiver_rows: pytree of arrays `[num_receivers, ...]`, or None.
      sender_rows: pytree of arrays `[num_senders, ...]`, or None.
      edge_rows: pytree of arrays `[E, ...]`, or None.
      senders: row of `sender_rows` at the start of each edge, `[E]`.
      receivers: row of `receiver_rows` at the end of each edge, `[E]`.
      num_receivers: number N of receivers, static.
      edge_mask: edges that take part, `[E]`; all by default.
      edge_weight: factor w after the softmax, `[E]`; to weigh inside the softmax add `log w` to the score.
      multiplier: factor m after the softmax, per head `[E, H]`, or a `DropoutMask`, drawn where it is used.
      normalize: "softmax", "hardmax", "straight_through", or a function with the signature of `segment_softmax`.
      block_size: None computes the formula directly, holding E·H·C numbers; it is the fastest way on small graphs and
        differentiable in every mode and order. An integer k walks the edges in blocks of k in little memory and has a
        reverse-mode gradient that recomputes each block (softmax only); any edge order is right, edges sorted by
        receiver are fastest. "auto" chooses from the sizes.

    Returns:
      `[num_receivers, H, C]` in the dtype of the values; 0 for a receiver without edges.

    Raises:
      ValueError: sizes that disagree, an unknown normaliser, or a normaliser other than softmax with blocks.
      TypeError: ids that are not integers.

    >>> from gatjax.attention import dot_product_score
    >>> score = lambda weights, r, s, e: dot_product_score(r, s["key"], scale=1.0)
    >>> value = lambda weights, r, s, e: s["value"]
    >>> query, rows = jnp.ones((1, 1, 2)), {"key": jnp.zeros((2, 1, 2)), "value": jnp.array([[[1.0]], [[3.0]]])}
    >>> ids = jnp.array([0, 1]), jnp.array([0, 0])
    >>> edge_attention(score, value, None, query, rows, None, *ids, 1).tolist()
    [[[2.0]]]
    """
    rows = Rows(weights, receiver_rows, sender_rows, edge_rows)
    num_senders = _num_rows(sender_rows)
    sizes = num_senders, num_receivers
    ends = check_ends(senders, receivers, *sizes, edge_mask, edge_weight=edge_weight)
    check_lengths(len(ends.senders), edge_rows=edge_rows)
    check_lengths(num_receivers, receiver_rows=receiver_rows)
    check_lengths(num_senders, sender_rows=sender_rows)
    return attend(
        score,
        value,
        rows,
        ends,
        num_receivers,
        multiplier=multiplier,
        normalize=normalize,
        block_size=block_size,
    )


def attend(
    score: RowFunction,
    value: RowFunction,
    rows: Rows,
    ends: Ends,
    num_receivers: int,
    *,
    multiplier: Float[ArrayLike, "E H"] | DropoutMask | None = None,
    normalize: str | Normalizer = "softmax",
    block_size: int | str | None = "auto",
) -> Float[Array, "N H C"]:
    """`edge_attention` where rows and ends have been checked: what all layers go through."""
    rows = jax.tree.map(jnp.asarray, rows)
    if not (multiplier is None or isinstance(multiplier, DropoutMask)):
        multiplier = jnp.asarray(multiplier)
    values = _value_type(score, value, rows, multiplier, len(ends.senders))
    block_size = _block_size(block_size, normalize, values)
    if values.size == 0 or num_receivers == 0 or _num_rows(rows.senders) == 0:
        return jnp.zeros((num_receivers, *values.shape[1:]), values.dtype)
    multiplier, ends = _factors(multiplier, ends, values.shape[1], blocked=block_size is not None)
    if block_size is not None:
        return blocked_attention(score, value, rows, multiplier, ends, num_receivers, block_size)
    edges = Rows(
        rows.weights,
        gather(rows.receivers, ends.receivers, accumulate=jnp.float32),
        gather(rows.senders, ends.senders, accumulate=jnp.float32),
        fill_rows(rows.edges, ends.counted, rows.edges, ends.safe),
    )
    factor = mask_rows(multiplier, ends.counted)
    alpha = normalizer(normalize)(score(*edges), ends.receivers, num_receivers, mask=ends.counted)
    alpha = alpha if factor is None else alpha * factor.astype(alpha.dtype)
    messages = alpha[:, :, None].astype(values.dtype) * value(*edges)
    return segment_sum(messages, ends.receivers, num_receivers, mask=ends.counted)


def graph_attention(
    graph: GraphsTuple,
    score: RowFunction,
    value: RowFunction,
    weights: PyTree,
    receiver_rows: PyTree,
    sender_rows: PyTree,
    edge_rows: PyTree = None,
    *,
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    multiplier: Float[ArrayLike, "E H"] | DropoutMask | None = None,
    normalize: str | Normalizer = "softmax",
    block_size: int | str | None = "auto",
) -> Float[Array, "N H C"]:
    """`edge_attention` over the edges of a graph; the arguments are the same.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [2.0]]))
    >>> score = lambda weights, r, s, e: r * s
    >>> value = lambda weights, r, s, e: s[:, None, :]
    >>> x = graph_attention(graph, score, value, None, graph.nodes, graph.nodes)
    >>> x.shape, bool(2.9 < x[2, 0, 0] < 3.0)
    ((3, 1, 1), True)
    """
    check_graph(graph)
    return edge_attention(
        score,
        value,
        weights,
        receiver_rows,
        sender_rows,
        edge_rows,
        jnp.asarray(graph.senders),
        jnp.asarray(graph.receivers),
        num_nodes(graph),
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        multiplier=multiplier,
        normalize=normalize,
        block_size=block_size,
    )


def _factors(
    multiplier: Array | DropoutMask | None, ends: Ends, num_heads: int, *, blocked: bool
) -> tuple[Float[Array, "at_least_E H"] | None, Ends]:
    """All that multiplies the weights after the softmax, as one array, and the ends without theirs."""
    num_edges, weight = len(ends.senders), ends.weight
    num_rows = round_up(num_edges) if blocked else num_edges
    if isinstance(multiplier, DropoutMask):
        multiplier = multiplier.rows(0, num_rows, num_heads)
    if weight is not None:
        weight = jnp.where(ends.counted, weight, 0)[:, None]
        if multiplier is None:
            multiplier = jnp.broadcast_to(weight, (num_edges, num_heads))
        else:
            padding = len(multiplier) - num_edges
            multiplier = multiplier * jnp.pad(weight, [(0, padding), (0, 0)])
    return multiplier, ends._replace(weight=None)


def normalizer(normalize: str | Normalizer) -> Normalizer:
    """The function of that name, or the function itself.

    Raises:
      ValueError: an unknown name.
    """
    if callable(normalize):
        return normalize
    if normalize not in NORMALIZERS:
        raise ValueError(
            f"normalize must be one of {list(NORMALIZERS)} or a function, got {normalize!r}"
        )
    return NORMALIZERS[normalize]


def _block_size(
    block_size: int | str | None, normalize: str | Normalizer, values: jax.ShapeDtypeStruct
) -> int | None:
    """The number of edges per block, or None for the direct formula."""
    normalizer(normalize)
    chosen = choose_block_size(block_size, values.shape[0], math.prod(values.shape[1:]))
    if normalize == "softmax":
        return chosen
    if block_size not in (None, "auto"):
        raise ValueError(
            f"blocks compute the softmax only: for normalize={normalize!r} pass block_size=None"
        )
    return None


def _value_type(
    score: RowFunction, value: RowFunction, rows: Rows, multiplier: Any, num_edges: int
) -> jax.ShapeDtypeStruct:
    """Shape [E, H, C] and dtype of the values, from the functions themselves."""

    def one_per_edge(table: PyTree) -> PyTree:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((num_edges, *x.shape[1:]), x.dtype), table
        )

    edge = [one_per_edge(table) for table in rows[1:]]
    logits = jax.eval_shape(lambda *edge: score(rows.weights, *edge), *edge)
    values = jax.eval_shape(lambda *edge: value(rows.weights, *edge), *edge)
    if (
        logits.ndim != 2
        or values.ndim != 3
        or values.shape[:2] != logits.shape
        or logits.shape[0] != num_edges
    ):
        raise ValueError(
            f"for {num_edges} edges score must return [E, H] and value [E, H, C] with the same H, "
            f"got {list(logits.shape)} and {list(values.shape)}"
        )
    if isinstance(multiplier, Array) and multiplier.shape != logits.shape:
        raise ValueError(
            f"multiplier must be [E, H] = {list(logits.shape)}, got {list(multiplier.shape)}"
        )
    return values


def _num_rows(table: PyTree) -> int | None:
    leaves = jax.tree.leaves(table)
    return np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else None
