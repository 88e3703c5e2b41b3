"""Edge attention in blocks of edges, with a gradient that recomputes each block.

The forward pass walks the edges twice. The first walk computes the logits [E, H] and the largest
logit of each receiver; the second adds up, for each receiver i and head, with m the multiplier,

```
z_i   = Σ_j exp(e_ij - max_i)                  [N, H]
out_i = Σ_j m_ij exp(e_ij - max_i) v_ij / z_i  [N, H, C]
```

Only max, z and out are kept. With g the gradient of the output, the backward pass walks once more,
recomputes α_ij = exp(e_ij - max_i) / z_i and v_ij, and uses

```
∂L/∂v_ij = α_ij m_ij g_i
∂L/∂m_ij = α_ij <g_i, v_ij>
∂L/∂e_ij = α_ij (m_ij <g_i, v_ij> - <g_i, out_i>)
```

where <g_i, out_i> stands for the softmax's sum over the neighbourhood: one product per node, and no
further reduction over edges. The rest, from e and v to rows and weights, is the derivative of the
mechanism's own functions on one block. Forward mode is one walk, too: with a dot for a derivative along a direction,

```
ȯut_i = Σ_j α_ij (m_ij ė_ij v_ij + ṁ_ij v_ij + m_ij v̇_ij) - (Σ_j α_ij ė_ij) out_i
```

Memory is O(N·H·C + E·H + k·H·C) for blocks of k edges, where the direct formula needs O(E·H·C).
Tables are gathered and scattered as flat rows [N, H·C], which XLA's CPU backend turns into straight
loops.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, Float, Int, PyTree

from gatjax.ops.blocks import (
    VECTOR,
    fill_rows,
    flat,
    gather,
    gather_again,
    mask_rows,
    read,
    reader,
    round_up,
    rows_like,
    scatter_add,
    undivided,
    varying,
    walk,
    write,
)
from gatjax.ops.ends import Ends
from gatjax.ops.features import sum_features
from gatjax.ops.linear import linear_map


class Rows(NamedTuple):
    """What a mechanism reads: its weights, and one table of rows for each end and for the edges.

    Attributes:
      weights: a tree of arrays, handed to score and value as they are.
      receivers: a tree of arrays with a row per receiver, or None.
      senders: a tree of arrays with a row per sender, or None.
      edges: a tree of arrays with a row per edge, or None.
    """

    weights: Any
    receivers: Any
    senders: Any
    edges: Any


class _Softmax(NamedTuple):
    """What the backward pass needs to recompute the weights of a receiver's edges."""

    largest: Float[Array, "N H"]
    total: Float[Array, "N H"]


def _lift(function: Callable, *example: PyTree) -> tuple[Callable, ClosedJaxpr]:
    """The function with all arrays that it closes over as a last argument, and its program, which holds those arrays.

    `jax.closure_convert` lifts out no more than what may be differentiated: a traced array of whole numbers would stay
    behind in the function.
    """
    closed = jax.make_jaxpr(function)(*example)

    def lifted(*args):
        *args, constants = args
        return jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))(*jax.tree.leaves(args))[0]

    return lifted, closed


def _lift_both(
    score: Callable, value: Callable, rows: Rows, num_edges: int
) -> tuple[Callable, list[ClosedJaxpr]]:
    """Both functions as one, for so many edges, with what each of them closes over among the weights."""
    edge = [rows_like(table, num_edges) for table in rows[1:]]
    score, of_score = _lift(score, rows.weights, *edge)
    value, of_value = _lift(value, rows.weights, *edge)

    def mechanism(weights, *edge):
        own, for_score, for_value = weights
        return score(own, *edge, for_score), value(own, *edge, for_value)

    return mechanism, [of_score, of_value]


def blocked_attention(
    plain: Callable[..., Array],
    score: Callable[..., Array],
    value: Callable[..., Array],
    rows: Rows,
    multiplier: Float[Array, "at_least_E H"] | None,
    ends: Ends,
    num_receivers: int,
    block_size: int,
) -> Float[Array, "N H C"]:
    """`edge_attention` for `normalize="softmax"`, `block_size` edges at a time; differentiable in both modes.

    `plain` computes the same at once, for derivatives of higher order. `score` and `value` may close over arrays that
    are being differentiated: those are lifted out of the functions and get their gradients.
    """
    num_edges = ends.senders.shape[0]
    block_size = min(block_size, num_edges)
    rows = varying(rows, rows, ends, multiplier)
    mechanism, jaxprs = _lift_both(score, value, rows, block_size)
    constants = [list(jaxpr.consts) for jaxpr in jaxprs]
    rows = rows._replace(weights=(rows.weights, *constants))

    def at_once(lifted_rows, multiplier, ends):
        of_all = _lift_both(score, value, rows._replace(weights=rows.weights[0]), num_edges)[0]
        first = lambda *edge: of_all(*edge)[0]
        second = lambda *edge: of_all(*edge)[1]
        return plain(first, second, lifted_rows, multiplier, ends, num_receivers)

    reverse_only = any("custom_vjp" in str(jaxpr) for jaxpr in jaxprs)
    make = _reverse_mode if reverse_only else partial(_both_modes, at_once)
    attend = make(mechanism, num_receivers, block_size)
    differentiable, fixed = _partition(rows)
    return attend(differentiable, fixed, multiplier, ends)


def _both_modes(
    plain: Callable, mechanism: Callable, num_receivers: int, block_size: int
) -> Callable:
    """The blocked sum as a function of arrays alone, with its derivative."""

    @jax.custom_jvp
    def attend(rows, fixed_rows, multiplier, ends):
        rows = _combine(rows, fixed_rows)
        return _forward(mechanism, num_receivers, block_size, rows, multiplier, ends)[0]

    @attend.defjvp
    def derivative(primals, tangents):
        rows, fixed_rows, multiplier, ends = primals
        both = _combine(rows, fixed_rows)
        forward = undivided(partial(_forward, mechanism, num_receivers, block_size))
        out, softmax = forward(both, multiplier, ends)
        residuals = rows, fixed_rows, multiplier, ends, out, softmax
        of_point = lambda rows, multiplier: plain(_combine(rows, fixed_rows), multiplier, ends)
        return out, linear_map(
            lambda along: _push_forward(mechanism, block_size, residuals, *along),
            lambda gradient: _backward(mechanism, block_size, residuals, gradient),
            lambda along: jax.jvp(of_point, (rows, multiplier), along)[1],
            (tangents[0], tangents[2]),
            out,
        )

    return attend


def _reverse_mode(mechanism: Callable, num_receivers: int, block_size: int) -> Callable:
    """As `_both_modes`, for functions that have themselves no forward mode, by `jax.custom_vjp`."""

    @jax.custom_vjp
    def attend(rows, fixed_rows, multiplier, ends):
        return forward(rows, fixed_rows, multiplier, ends)[0]

    def forward(rows, fixed_rows, multiplier, ends):
        both = _combine(rows, fixed_rows)
        out, softmax = _forward(mechanism, num_receivers, block_size, both, multiplier, ends)
        return out, (rows, fixed_rows, multiplier, ends, out, softmax)

    def backward(residuals, gradient):
        d_rows, d_multiplier = _backward(mechanism, block_size, residuals, gradient)
        return d_rows, None, d_multiplier, None

    attend.defvjp(forward, backward)
    return attend


def _forward(mechanism, num_receivers, block_size, rows, multiplier, ends):
    num_edges = ends.senders.shape[0]
    logit, vector = jax.eval_shape(lambda: mechanism(*_block_of(rows, ends, 0, block_size)))
    num_heads, features = vector.shape[1:]
    dtype = jnp.promote_types(jnp.result_type(logit.dtype, vector.dtype), jnp.float32)
    num_rows = round_up(num_receivers)

    def compute_logits(start, fresh, carry):
        largest, logits = carry
        block = _ends_of(ends, start, block_size)
        e = mechanism(*_block_of(rows, ends, start, block_size))[0].astype(dtype)
        e = jnp.where(block.counted[:, None], e, -jnp.inf)
        largest = largest.at[block.into].max(e, mode="promise_in_bounds")
        return largest, jax.lax.dynamic_update_slice_in_dim(logits, e, start, 0)

    carry = (
        jnp.full((num_rows, num_heads), -jnp.inf, dtype),
        jnp.zeros((round_up(num_edges), num_heads), dtype),
    )
    largest, logits = walk(num_edges, block_size, compute_logits, carry)
    largest = jnp.where(jnp.isfinite(largest), largest, 0)

    def add_values(start, fresh, carry):
        total, out = carry
        block = _ends_of(ends, start, block_size)
        v = mechanism(*_block_of(rows, ends, start, block_size))[1].astype(dtype)
        shifted = read(logits, start, block_size) - gather(largest, block.into)
        unnormalised = jnp.where(fresh[:, None], jnp.exp(shifted), 0)
        weight = _times(unnormalised, mask_rows(read(multiplier, start, block_size), block.counted))
        return (
            scatter_add(total, block.into, unnormalised),
            scatter_add(out, block.into, weight[:, :, None] * v),
        )

    carry = jnp.zeros_like(largest), jnp.zeros((num_rows, num_heads * features), dtype)
    total, out = walk(num_edges, block_size, add_values, carry)
    total = jnp.where(total == 0, 1, total)
    out = (out.reshape(num_rows, num_heads, features) / total[:, :, None])[:num_receivers]
    return out.astype(vector.dtype), _Softmax(largest, total)


def _push_forward(mechanism, block_size, residuals, d_rows, d_multiplier):
    rows, fixed_rows, multiplier, ends, out, softmax = residuals
    dtype = softmax.total.dtype
    num_rows, (_, num_heads, features) = len(softmax.total), out.shape

    def accumulate(start, fresh, carry):
        d_mean, d_out = carry
        block = _ends_of(ends, start, block_size)
        fixed = _block_of(fixed_rows, ends, start, block_size)
        (e, v), (d_e, d_v) = jax.jvp(
            lambda *row: mechanism(*_combine(Rows(*row), fixed)),
            tuple(_block_of(rows, ends, start, block_size)),
            tuple(_block_of(d_rows, ends, start, block_size)),
        )
        largest, total = gather((*softmax,), block.into)
        alpha = jnp.exp(e.astype(dtype) - largest) / total
        alpha = jnp.where((fresh & block.counted)[:, None], alpha, 0)
        m, d_m = (
            mask_rows(read(table, start, block_size), block.counted)
            for table in (multiplier, d_multiplier)
        )
        d_alpha = alpha * d_e.astype(dtype)
        weight = _times(d_alpha, m)
        weight = weight if d_m is None else weight + alpha * d_m.astype(dtype)
        d_value = weight[:, :, None] * v.astype(dtype)
        d_value = d_value + _times(alpha, m)[:, :, None] * d_v.astype(dtype)
        return scatter_add(d_mean, block.into, d_alpha), scatter_add(d_out, block.into, d_value)

    carry = jnp.zeros_like(softmax.total), jnp.zeros((num_rows, num_heads * features), dtype)
    d_mean, d_out = walk(len(ends.senders), block_size, accumulate, carry)
    d_out = d_out.reshape(num_rows, num_heads, features)[: len(out)]
    return (d_out - d_mean[: len(out), :, None] * out).astype(out.dtype)


def _backward(mechanism, block_size, residuals, gradient):
    rows, fixed_rows, multiplier, ends, out, softmax = residuals
    num_edges = ends.senders.shape[0]
    dtype = softmax.total.dtype
    gradient = gradient.astype(dtype)
    overlap = _sum_products(gradient, out.astype(dtype))
    sums = gradient, *(table[: len(gradient)] for table in (*softmax, overlap))
    read_receivers, read_senders = (
        reader(table, num_edges) for table in (rows.receivers, rows.senders)
    )

    def accumulate(start, fresh, carry):
        d_rows, d_multiplier = carry
        block = _ends_of(ends, start, block_size)
        fixed = _block_of(fixed_rows, ends, start, block_size)
        (e, v), pull_back = jax.vjp(
            lambda *row: mechanism(*_combine(Rows(*row), fixed)),
            *_block_of(rows, ends, start, block_size, read_receivers, read_senders),
        )
        g, largest, total, average = gather(sums, block.into, accumulate=None)
        alpha = jnp.exp(e.astype(dtype) - largest) / total
        alpha = jnp.where((fresh & block.counted)[:, None], alpha, 0)
        d_m = alpha * _sum_products(gather_again(gradient, block.into), v.astype(dtype))
        m = mask_rows(read(multiplier, start, block_size), block.counted)
        d_e = _times(d_m, m) - alpha * average
        d_v = _times(alpha, m)[:, :, None] * g
        d_weights, d_receivers, d_senders, d_edges = pull_back(
            (d_e.astype(e.dtype), d_v.astype(v.dtype))
        )
        d_rows = Rows(
            weights=jax.tree.map(jnp.add, d_rows.weights, d_weights),
            receivers=scatter_add(d_rows.receivers, block.receivers, d_receivers),
            senders=scatter_add(d_rows.senders, block.senders, d_senders),
            edges=write(d_rows.edges, start, fresh, d_edges),
        )
        return d_rows, None if m is None else write(d_multiplier, start, fresh, d_m)

    weights, *tables = rows
    carry = Rows(_zeros(weights), *_zeros(jax.tree.map(flat, tables))), _zeros(multiplier)
    d_rows, d_multiplier = walk(num_edges, block_size, accumulate, carry)
    return jax.tree.map(
        lambda sum, like: sum.reshape(like.shape).astype(like.dtype),
        (d_rows, d_multiplier),
        (rows, multiplier),
    )


def _block_of(
    rows: Rows,
    ends: Ends,
    start: Int[Array, ""] | int,
    size: int,
    read_receivers: Callable | None = None,
    read_senders: Callable | None = None,
) -> Rows:
    """What the mechanism reads for the edges `start, ..., start + size - 1`, by readers of the tables where given."""
    block = _ends_of(ends, start, size)
    return Rows(
        rows.weights,
        (read_receivers or partial(gather, rows.receivers, accumulate=None))(block.receivers),
        (read_senders or partial(gather, rows.senders, accumulate=None))(block.senders),
        fill_rows(read(rows.edges, start, size), block.counted, rows.edges, ends.safe),
    )


def _ends_of(ends: Ends, start: Int[Array, ""] | int, size: int) -> Ends:
    senders, receivers, counted, sums = read((*ends[:3], ends.sums), start, size)
    return Ends(senders, receivers, counted, ends.safe, sums=sums)


def _zeros(table: PyTree) -> PyTree:
    """Accumulators, in float32 at least."""
    return jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), table
    )


def _sum_products(x: Float[Array, "k H C"], y: Float[Array, "k H C"]) -> Float[Array, "k H"]:
    """<x, y> of every row and head; XLA's own reduction is the faster one where several heads fill vector registers."""
    num_heads, features = x.shape[1:]
    as_reduction = num_heads > 1 and features % VECTOR == 0
    return (x * y).sum(-1) if as_reduction else sum_features(x * y)


def _times(weight: Array, multiplier: Array | None) -> Array:
    return weight if multiplier is None else weight * multiplier.astype(weight.dtype)


def _partition(tree: PyTree) -> tuple[PyTree, PyTree]:
    """Split into differentiable leaves and the others, with None in the gaps."""
    inexact = jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact), tree)
    differentiable = jax.tree.map(lambda yes, leaf: leaf if yes else None, inexact, tree)
    return differentiable, jax.tree.map(lambda yes, leaf: None if yes else leaf, inexact, tree)


def _combine(differentiable: PyTree, fixed: PyTree) -> PyTree:
    """The inverse of `_partition`."""
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        differentiable,
        fixed,
        is_leaf=lambda leaf: leaf is None,
    )
