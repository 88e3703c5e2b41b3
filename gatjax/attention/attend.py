"""Attention over the edges of a graph, at once: what all layers go through.

```
e_ij  = score(weights, r_i, s_j, e_ij)
α_ij  = softmax_{j -> i}(e_ij / T)
out_i = Σ_{j -> i} w_ij m_ij α_ij value(weights, r_i, s_j, e_ij)
```

The three lines of `gatjax.attention.steps`, for any mechanism, in blocks of edges where the graph is large, so that an
[E, H, C] array is never held.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows, blocked_attention
from gatjax.attention.mixture import Mixture
from gatjax.attention.pairs import attend_to_pairs, has_forms
from gatjax.attention.steps import (
    Normalize,
    RowFunction,
    Temperature,
    cool,
    normalized,
    normalizer,
)
from gatjax.graph.check import EdgeMask, EdgeWeight, check_ends, check_graph, check_lengths
from gatjax.graph.sizes import num_nodes
from gatjax.ops.blocks import (
    PAIR_NUMBERS,
    BlockSize,
    choose_block_size,
    fill_rows,
    gather,
    mask_rows,
    round_up,
    rows_like,
)
from gatjax.ops.dropout import DropoutMask
from gatjax.ops.ends import Ends
from gatjax.ops.pairs import PairIds
from gatjax.ops.segment import segment_sum
from gatjax.ops.softmax import check_temperature


def edge_attention(
    score: RowFunction,
    value: RowFunction,
    weights: PyTree,
    receiver_rows: PyTree,
    sender_rows: PyTree,
    edge_rows: PyTree,
    senders: Int[ArrayLike, "E"] | PairIds,
    receivers: Int[ArrayLike, "E"] | PairIds,
    num_receivers: int,
    *,
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    multiplier: Float[ArrayLike, "E H"] | DropoutMask | None = None,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
    block_size: BlockSize = "auto",
) -> Float[Array, "N H C"]:
    """Logits, weights and weighted sum at once, for any mechanism.

    ```
    e_ij  = score(weights, r_i, s_j, e_ij)
    α_ij  = softmax_{j -> i}(e_ij / T)
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
      normalize, temperature: as in `attention_weights`.
      block_size: None computes the formula directly, holding E·H·C numbers; it is the fastest way on small graphs. An
        integer k walks the edges in blocks of k in little memory, and its derivatives, of either mode, recompute each
        block (softmax only; derivatives of higher order hold E·H·C numbers); any edge order is right, edges sorted by
        receiver are fastest. "dense" computes all pairs of a graph at once, holding G·H·n² numbers, where the edges are
        those of `Slots`. "auto" does so there as far as it is faster: for scores and values that are products of
        matrices, such as dot products, and for any others on small graphs; elsewhere it chooses from the sizes.

    Returns:
      `[num_receivers, H, C]` in the dtype of the values, of fractions where those are whole numbers; 0 for a receiver
      without edges.

    Raises:
      ValueError: sizes that disagree, an unknown normaliser, a normaliser other than softmax with blocks, or a
        temperature that is not positive.
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
        temperature=temperature,
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
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
    block_size: BlockSize = "auto",
) -> Float[Array, "N H C"]:
    """`edge_attention` where rows and ends have been checked: what all layers go through."""
    check_weighing(normalize, temperature, block_size)
    rows = jax.tree.map(jnp.asarray, rows)
    if not (multiplier is None or isinstance(multiplier, DropoutMask)):
        multiplier = jnp.asarray(multiplier)
    values = _value_type(score, value, rows, multiplier, len(ends.senders))
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        # A mean of whole numbers is a fraction.
        whole, dtype = value, jnp.promote_types(values.dtype, jnp.float32)
        value = lambda *edge: whole(*edge).astype(dtype)
        values = jax.ShapeDtypeStruct(values.shape, dtype)
    asked, block_size = block_size, _block_size(block_size, normalize, values)
    on_pairs = _on_pairs(asked, ends, block_size, has_forms(score, value), values)
    if values.size == 0 or num_receivers == 0 or _num_rows(rows.senders) == 0:
        return jnp.zeros((num_receivers, *values.shape[1:]), values.dtype)
    if on_pairs:
        multiplier, ends = _factors(multiplier, ends, values.shape[1], blocked=False)
        return attend_to_pairs(score, value, rows, multiplier, ends, normalize, temperature)
    score = _cooled(score, temperature)
    if block_size is not None and isinstance(normalize, Mixture):
        functions = score, value, rows, ends, num_receivers
        return _mixed_in_blocks(normalize, *functions, multiplier, block_size)
    multiplier, ends = _factors(multiplier, ends, values.shape[1], blocked=block_size is not None)
    if block_size is not None:
        return blocked_attention(
            _at_once, score, value, rows, multiplier, ends, num_receivers, block_size
        )
    return _at_once(score, value, rows, multiplier, ends, num_receivers, normalize)


def _at_once(
    score: RowFunction,
    value: RowFunction,
    rows: Rows,
    multiplier: Float[Array, "at_least_E H"] | None,
    ends: Ends,
    num_receivers: int,
    normalize: Normalize = "softmax",
) -> Float[Array, "N H C"]:
    """The direct formula."""
    edges = Rows(
        rows.weights,
        gather(rows.receivers, ends.receivers),
        gather(rows.senders, ends.senders),
        fill_rows(rows.edges, ends.counted, rows.edges, ends.safe),
    )
    values = value(*edges)
    alpha = normalized(score(*edges), ends, num_receivers, normalize)
    if multiplier is not None:
        factor = mask_rows(multiplier[: len(ends.senders)], ends.counted)
        alpha = alpha * factor.astype(alpha.dtype)
    messages = alpha[:, :, None].astype(values.dtype) * values
    return segment_sum(messages, ends.into, num_receivers, mask=ends.counted)


def _mixed_in_blocks(
    mixture: Mixture,
    score: RowFunction,
    value: RowFunction,
    rows: Rows,
    ends: Ends,
    num_receivers: int,
    multiplier: Any,
    block_size: int,
) -> Float[Array, "N H C"]:
    """Attention, and what is known of the edges: weights after a softmax of zeros, which is 1 over their number."""
    options = {"multiplier": multiplier, "block_size": block_size}
    total = attend(score, value, rows, ends, num_receivers, **options) * mixture.share
    dtype = jnp.promote_types(total.dtype, jnp.float32)
    known = mixture.known(ends.into, num_receivers, mask=ends.counted, dtype=dtype)
    ones = jnp.ones_like(known)
    count = segment_sum(ones, ends.into, num_receivers, mask=ends.counted)
    weight = ends.weigh(known * gather(count, ends.into))
    even = lambda *edge: jnp.zeros_like(score(*edge))
    return (
        total + attend(even, value, rows, ends._replace(weight=weight), num_receivers, **options)
    ).astype(total.dtype)


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
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
    block_size: BlockSize = "auto",
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
    senders: Any = graph.senders
    receivers: Any = graph.receivers
    return edge_attention(
        score,
        value,
        weights,
        receiver_rows,
        sender_rows,
        edge_rows,
        senders,
        receivers,
        num_nodes(graph),
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        multiplier=multiplier,
        normalize=normalize,
        temperature=temperature,
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


def check_weighing(normalize: Normalize, temperature: Temperature, block_size: BlockSize) -> None:
    """Refuse what no graph can be attended to with.

    Raises:
      ValueError: an unknown normaliser, a temperature or a size that is not positive, or blocks of another normaliser
        than the softmax.
    """
    normalizer(normalize)
    check_temperature(temperature, 'normalize="hardmax"')
    choose_block_size(block_size, 0, 0)
    if not _in_blocks(normalize) and block_size not in (None, "auto"):
        raise ValueError(
            f"blocks compute the softmax only: for normalize={normalize!r} pass block_size=None"
        )


def _on_pairs(
    asked: BlockSize,
    ends: Ends,
    block_size: int | None,
    as_products: bool,
    values: jax.ShapeDtypeStruct,
) -> bool:
    """Whether all pairs of a graph are computed at once, in place of one edge after the other.

    "auto" does where it is the faster way: as products of matrices always, unless the weights alone are very many, and
    else as long as blocks of edges would not be taken.

    Raises:
      ValueError: it is asked for, and the edges are not known to be all pairs.
    """
    if asked == "dense" and ends.pairs is None:
        raise ValueError(
            'block_size="dense" needs edges between all nodes of graphs of one size, known before jax.jit: '
            "pad the graphs with Slots"
        )
    if ends.pairs is None or asked != "auto":
        return asked == "dense"
    return block_size is None or (as_products and math.prod(values.shape[:2]) <= PAIR_NUMBERS)


def _block_size(
    block_size: BlockSize, normalize: Normalize, values: jax.ShapeDtypeStruct
) -> int | None:
    """The number of edges per block, or None for the direct formula."""
    if not _in_blocks(normalize):
        return None
    return choose_block_size(block_size, values.shape[0], math.prod(values.shape[1:]))


def _in_blocks(normalize: Normalize) -> bool:
    """Whether blocks compute it: the softmax, and what is mixed with one."""
    inner = normalize.normalize if isinstance(normalize, Mixture) else normalize
    return isinstance(inner, str) and inner == "softmax"


def _cooled(score: RowFunction, temperature: Temperature) -> RowFunction:
    """The score over the temperature, which gets its gradient like any weight of the mechanism."""
    return lambda *rows: cool(score(*rows), temperature)


def _value_type(
    score: RowFunction, value: RowFunction, rows: Rows, multiplier: Any, num_edges: int
) -> jax.ShapeDtypeStruct:
    """Shape [E, H, C] and dtype of the values, from the functions themselves."""
    edge = [rows_like(table, num_edges) for table in rows[1:]]
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
