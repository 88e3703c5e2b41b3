"""Mean and maximum of what the neighbours send: no attention, the controls of every claim about it.

Like `gatjax.attention.blocked`, `pool_neighbors` takes the edges k at a time and never holds an array with a row per
edge. With m the largest entries and g their gradient, the backward pass counts, then shares, the ties:

```
∂L/∂a_j = Σ_{j -> i} [a_j = m_i] g_i / #{k -> i : a_k = m_i}
```
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.graph.check import EdgeMask, check_edges, check_lengths
from gatjax.graph.sizes import num_nodes
from gatjax.ops.blocks import (
    BlockSize,
    choose_block_size,
    fill_columns,
    gather,
    read,
    reader,
    scatter_add,
    walk,
)
from gatjax.ops.ends import Ends
from gatjax.ops.linear import linear_map
from gatjax.ops.segment import segment_max, segment_mean


def neighbor_mean(
    graph: GraphsTuple,
    values: Float[ArrayLike, "N *rest"],
    edge_mask: EdgeMask = None,
) -> Float[Array, "N *rest"]:
    """Mean of the senders' values: attention with equal weights, the control of every claim about attention.

    ```
    h'_i = 1/|N(i)| Σ_{j -> i} v_j
    ```

    Args:
      graph: gives the edges.
      values: `[N, ...]`.
      edge_mask: edges that take part, `[E]`; all by default.

    Returns:
      `[N, ...]`; 0 for a node without incoming edges.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [0.0]]))
    >>> neighbor_mean(graph, jnp.asarray(graph.nodes)).tolist()
    [[0.0], [0.0], [2.0]]
    """
    ends = check_edges(graph, edge_mask)
    check_lengths(num_nodes(graph), values=values)
    return _mean_of_senders(values, ends, num_nodes(graph))


def _mean_of_senders(values: ArrayLike, ends: Ends, num_receivers: int) -> Array:
    rows = gather(values, ends.senders)
    return segment_mean(rows, ends.receivers, num_receivers, mask=ends.counted)


def pool_neighbors(
    graph: GraphsTuple,
    largest: Float[ArrayLike, "N M"],
    mean: Float[ArrayLike, "N K"],
    edge_mask: EdgeMask = None,
    *,
    block_size: BlockSize = "auto",
) -> tuple[Float[Array, "N M"], Float[Array, "N K"]]:
    """Largest and mean features among the senders of each node's incoming edges.

    ```
    m_i = max_{j -> i} a_j            n_i = 1/|N(i)| Σ_{j -> i} b_j
    ```

    Args:
      graph: gives the edges.
      largest: the features a, `[N, M]`; neighbours with the same largest entry share its gradient.
      mean: the features b, `[N, K]`.
      edge_mask: edges that take part, `[E]`; all by default.
      block_size: as in `edge_attention`: None holds E·(M + K) numbers, an integer k walks the edges in blocks of k in
        little memory, "auto" chooses from the sizes.

    Returns:
      m `[N, M]` and n `[N, K]`; both 0 for a node without incoming edges.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[-1.0], [-3.0], [0.0]]))
    >>> [x.tolist() for x in pool_neighbors(graph, graph.nodes, graph.nodes)]
    [[[0.0], [0.0], [-1.0]], [[0.0], [0.0], [-2.0]]]
    """
    ends = check_edges(graph, edge_mask)
    check_lengths(num_nodes(graph), largest=largest, mean=mean)
    tables = jnp.asarray(largest), jnp.asarray(mean)
    return pool_ends(ends, *tables, num_nodes(graph), block_size=block_size)


def pool_ends(
    ends: Ends,
    largest: Float[Array, "S M"],
    mean: Float[Array, "S K"],
    num_receivers: int,
    *,
    block_size: BlockSize = "auto",
) -> tuple[Float[Array, "N M"], Float[Array, "N K"]]:
    """`pool_neighbors` where the edges have been checked; S rows send, N receive."""
    num_edges = len(ends.senders)
    width = largest.shape[1] + mean.shape[1]
    block_size = choose_block_size(block_size, num_edges, width)
    if block_size is None or 0 in (num_receivers, len(largest), num_edges, width):
        rows = gather(largest, ends.senders)
        top = segment_max(rows, ends.receivers, num_receivers, mask=ends.counted)
        return top, _mean_of_senders(mean, ends, num_receivers)
    sizes = min(block_size, num_edges), num_receivers
    return _pool(*sizes, largest, mean, _with_spare_row(ends, num_receivers))


def _with_spare_row(ends: Ends, num_receivers: int) -> Ends:
    """An edge that does not count ends in the spare row N of every table [N + 1, ...]."""
    spare = jnp.asarray(num_receivers, ends.receivers.dtype)
    receivers = jnp.where(ends.counted, ends.receivers, spare)
    return ends._replace(receivers=receivers, weight=None)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _pool(
    block_size: int, num_receivers: int, largest: Array, mean: Array, ends: Ends
) -> tuple[Array, Array]:
    return _forward(block_size, num_receivers, largest, mean, ends)[0]


@_pool.defjvp
def _derivative(block_size, num_receivers, primals, tangents):
    largest, mean, ends = primals
    out, residuals = _forward(block_size, num_receivers, *primals)
    at_once = lambda *rows: pool_ends(ends, rows[0], rows[1], num_receivers, block_size=None)
    return out, linear_map(
        lambda along: _push_forward(block_size, residuals, along),
        lambda gradients: _backward(block_size, residuals, gradients),
        lambda along: jax.jvp(at_once, (largest, mean), along)[1],
        tangents[:2],
        out,
    )


def _forward(block_size, num_receivers, largest, mean, ends):
    width, dtype = largest.shape[1], jnp.promote_types(mean.dtype, jnp.float32)
    table = fill_columns(jnp.concatenate([largest, mean], axis=1))

    def step(start, fresh, carry):
        top, total = carry
        senders, receivers = read(ends[:2], start, block_size)
        rows = gather(table, senders, accumulate=None)
        return (
            top.at[receivers].max(rows[:, :width], mode="promise_in_bounds"),
            scatter_add(total, jnp.where(fresh, receivers, num_receivers), rows[:, width:]),
        )

    top = jnp.full((num_receivers + 1, width), -jnp.inf, table.dtype)
    total = jnp.zeros((num_receivers + 1, table.shape[1] - width), dtype)
    top, total = walk(len(ends.senders), block_size, step, (top, total))
    count = jnp.zeros(num_receivers + 1, dtype)
    count = count.at[ends.receivers].add(1, mode="promise_in_bounds")[:num_receivers, None]
    top = jnp.where(count > 0, top[:num_receivers], 0).astype(largest.dtype)
    average = (total[:num_receivers, : mean.shape[1]] / jnp.maximum(count, 1)).astype(mean.dtype)
    return (top, average), (largest, top, count, ends)


def _push_forward(block_size, residuals, along):
    _, _, count, ends = residuals
    d_largest, d_mean = (d.astype(jnp.promote_types(d.dtype, jnp.float32)) for d in along)
    num_receivers, is_largest = len(count), _ties(block_size, residuals)

    def step(start, fresh, carry):
        senders, receivers, new, hit = is_largest(start, fresh)
        of_max, of_mean = gather((d_largest, d_mean), senders)
        rows = jnp.where(hit, of_max, 0), of_mean, hit
        return scatter_add(carry, jnp.where(new, receivers, num_receivers), rows)

    zeros = [jnp.zeros((num_receivers + 1, d.shape[1]), d.dtype) for d in (d_largest, d_mean)]
    sums = walk(len(ends.senders), block_size, step, (*zeros, zeros[0]))
    top, total, ties = (x[:num_receivers] for x in sums)
    both = top / jnp.maximum(ties, 1), total / jnp.maximum(count, 1)
    return tuple(x.astype(d.dtype) for x, d in zip(both, along, strict=True))


def _ties(block_size, residuals):
    """`is_largest(start, fresh)`: the ends of a block's edges, which of them count, and where a sender is largest."""
    largest, top, _, ends = residuals
    num_receivers, sent, received = len(top), fill_columns(largest), _spare(top)
    rows = partial(gather, accumulate=None)

    def is_largest(start, fresh):
        senders, receivers = read(ends[:2], start, block_size)
        hit = rows(sent, senders)[:, : largest.shape[1]] == rows(received, receivers)
        return senders, receivers, fresh & (receivers < num_receivers), hit

    return is_largest


def _backward(block_size, residuals, gradients):
    largest, _, count, ends = residuals
    g_top, g_mean = (g.astype(jnp.promote_types(g.dtype, jnp.float32)) for g in gradients)
    num_senders, num_receivers, num_edges = len(largest), len(count), len(ends.senders)
    is_largest = _ties(block_size, residuals)

    def count_ties(start, fresh, ties):
        _, receivers, new, hit = is_largest(start, fresh)
        return scatter_add(ties, jnp.where(new, receivers, num_receivers), hit)

    ties = walk(num_edges, block_size, count_ties, _spare(jnp.zeros_like(g_top)))
    share = _spare(g_top / jnp.maximum(ties[:num_receivers], 1))
    mean_share = _spare(g_mean / jnp.maximum(count, 1))
    read_shares = reader((share, mean_share), num_edges)

    def share_out(start, fresh, carry):
        senders, receivers, new, hit = is_largest(start, fresh)
        of_max, of_mean = read_shares(receivers)
        shares = jnp.where(hit, of_max, 0), of_mean
        return scatter_add(carry, jnp.where(new, senders, num_senders), shares)

    zeros = tuple(jnp.zeros((num_senders + 1, g.shape[1]), g.dtype) for g in (g_top, g_mean))
    summed = walk(num_edges, block_size, share_out, zeros)
    d_largest, d_mean = (
        s[:num_senders].astype(g.dtype) for s, g in zip(summed, gradients, strict=True)
    )
    return d_largest, d_mean


def _spare(table: Array) -> Array:
    """The table and one more row, of zeros."""
    return jnp.pad(table, [(0, 1), (0, 0)])
