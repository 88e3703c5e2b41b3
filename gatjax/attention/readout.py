"""From nodes to one row per graph, and to one number per pair of nodes."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float
from jraph import GraphsTuple

from gatjax.attention.attend import edge_attention
from gatjax.attention.scores import dot_product_score
from gatjax.attention.steps import Normalize, Temperature
from gatjax.graph.check import NodeMask, check_ends, check_mask, check_padding
from gatjax.graph.ids import require_dense
from gatjax.graph.sizes import graph_ids, num_nodes
from gatjax.ops.blocks import BlockSize, gather, mask_rows
from gatjax.ops.segment import segment_max, segment_mean, segment_sum

Pool = Literal["mean", "sum", "max", "first"]

_POOLS = {"mean": segment_mean, "sum": segment_sum, "max": segment_max}


def pool_nodes(
    graph: GraphsTuple,
    how: Pool = "mean",
    *,
    node_mask: NodeMask = None,
) -> Float[Array, "G *rest"]:
    """One row per graph of a batch.

    ```
    y_g = mean, sum or max of h_i over the nodes i of graph g, or the first of them
    ```

    Args:
      graph: a batch of G graphs.
      how: "mean", "sum", "max" or "first", which is that of a dummy node that stands before the others.
      node_mask: nodes that count, `[N]`; all by default.

    Returns:
      `[G, ...]`; 0 for a graph without nodes, or whose first one does not count.

    Raises:
      ValueError: unknown `how`.

    >>> from gatjax.graph import build_graph
    >>> pool_nodes(build_graph([], [], jnp.array([[1.0], [3.0]]))).tolist()
    [[2.0]]
    """
    check_pool(how=how)
    if how == "first":
        return _first_nodes(graph, _mask(graph, node_mask))
    mask, num_graphs = _mask(graph, node_mask), len(graph.n_node)
    return _POOLS[how](
        jnp.asarray(graph.nodes), graph_ids(graph.n_node, num_nodes(graph)), num_graphs, mask=mask
    )


def check_pool(**pools: str) -> None:
    """Refuse an unknown way to pool nodes, by name.

    Raises:
      ValueError: it is none of `Pool`.
    """
    for name, pool in pools.items():
        if pool not in get_args(Pool):
            raise ValueError(f"{name} must be one of {list(get_args(Pool))}, got {pool!r}")


def _first_nodes(graph: GraphsTuple, mask: Bool[Array, "N"] | None) -> Float[Array, "G *rest"]:
    nodes, counts = jnp.asarray(graph.nodes), jnp.asarray(graph.n_node, jnp.int32)
    first = jnp.where(counts > 0, jnp.cumsum(counts) - counts, len(nodes))
    nodes = nodes if mask is None else mask_rows(nodes, mask)
    return nodes.at[first].get(mode="fill", fill_value=0)


def attention_pool(
    graph: GraphsTuple,
    query: Float[ArrayLike, "*G F"],
    *,
    node_mask: NodeMask = None,
    scale: float | Array | None = None,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
    block_size: BlockSize = "auto",
) -> Float[Array, "G F"]:
    """One row per graph of a batch: the nodes, weighted by how well each answers a query.

    ```
    y_g = Σ_{i in g} softmax_{i in g}(scale · q_g · h_i / T) h_i
    ```

    Args:
      graph: a batch of G graphs, nodes h `[N, F]`.
      query: q, `[F]` for all graphs, such as a parameter, or `[G, F]`, such as their globals.
      node_mask: nodes that count, `[N]`; all by default.
      scale: factor of the logits; `1/sqrt(F)` by default.
      normalize, temperature, block_size: as in `edge_attention`.

    Returns:
      `[G, F]`; 0 for a graph without nodes.

    Raises:
      ValueError: a query of another width, or not one per graph.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([], [], jnp.array([[1.0], [3.0]]))
    >>> attention_pool(graph, jnp.array([0.0])).tolist()
    [[2.0]]
    """
    mask, query = _mask(graph, node_mask), jnp.asarray(query)
    nodes = jnp.asarray(graph.nodes)
    nodes = nodes if mask is None else mask_rows(nodes, mask)
    num_graphs, width = len(graph.n_node), nodes.shape[-1]
    if query.shape not in ((width,), (num_graphs, width)):
        raise ValueError(
            f"query must be [F] = [{width}] or [G, F] = [{num_graphs}, {width}], got {list(query.shape)}"
        )
    queries, rows = jnp.broadcast_to(query, (num_graphs, width))[:, None, :], nodes[:, None, :]
    ids = jnp.arange(len(nodes)), graph_ids(graph.n_node, num_nodes(graph)), num_graphs
    pooled = edge_attention(
        *(_query_row, _row, scale, queries, rows, None, *ids),
        edge_mask=mask,
        normalize=normalize,
        temperature=temperature,
        block_size=block_size,
    )
    return pooled[:, 0, :]


def _mask(graph: GraphsTuple, node_mask: NodeMask) -> Bool[Array, "N"] | None:
    require_dense(graph, "pool")
    if graph.nodes is None:
        raise ValueError("nodes is None, so there is nothing to pool: give the graph node features")
    check_mask(num_nodes(graph), node_mask=node_mask)
    check_padding(graph, node_mask)
    return None if node_mask is None else jnp.asarray(node_mask)


def _query_row(scale, r, s, e):
    return dot_product_score(r, s, scale=scale)


def _row(scale, r, s, e):
    return s


def score_pairs(
    nodes: Float[ArrayLike, "N C"], senders: npt.ArrayLike, receivers: npt.ArrayLike
) -> Float[Array, "P"]:
    """One logit per pair of nodes, the dot product of their embeddings: does an edge join them?

    ```
    y_ij = h_i · h_j
    ```

    Args:
      nodes: embeddings h `[N, C]`.
      senders: node j of each pair, `[P]`.
      receivers: node i of each pair, `[P]`.

    Returns:
      `[P]`; 0 for a pair that names no node, inside `jax.jit`.

    Raises:
      TypeError: ids that are not integers.
      ValueError: outside `jax.jit`, an id that is no node; lengths that disagree.

    >>> score_pairs(jnp.array([[1.0, 2.0], [3.0, 4.0]]), [0], [1]).tolist()
    [11.0]
    """
    nodes = jnp.asarray(nodes)
    total = len(nodes)
    for name, ids in {"senders": senders, "receivers": receivers}.items():
        if isinstance(ids, Tracer) or not np.size(ids):
            continue
        least, most = np.min(np.asarray(ids)), np.max(np.asarray(ids))
        if not 0 <= least <= most < total:
            raise ValueError(f"{name} must lie in [0, {total}), got {least} to {most}")
    ends = check_ends(_as_ids(senders), _as_ids(receivers), total, total)
    products = gather(nodes, ends.receivers) * gather(nodes, ends.senders)
    return jnp.where(ends.counted, products.sum(-1), 0)


def _as_ids(ids: npt.ArrayLike) -> Array | np.ndarray:
    """Lists of whole numbers as arrays, an empty one too."""
    return (
        ids
        if isinstance(ids, jax.Array)
        else np.asarray(ids, np.int64 if not np.size(ids) else None)
    )
