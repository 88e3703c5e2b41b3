"""Attention whose weights are products of features, so that no pair of nodes is ever looked at.

Shapes: C features of queries and keys, V of values, per head.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.attention.all_nodes import check_rows
from gatjax.attention.pairs import wide_einsum
from gatjax.graph.check import NodeMask, check_mask, check_padding
from gatjax.graph.sizes import graph_ids
from gatjax.ops.blocks import mask_rows
from gatjax.ops.segment import segment_sum

FeatureMap = Literal["elu", "sigmoid"] | Callable[[Array], Array]


def _elu_and_one(x: Array) -> Array:
    """`elu(x) + 1`, which is `exp(x)` below 0: where exp(x) - 1 is rounded to -1, the sum would be 0."""
    return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0, x)))


FEATURE_MAPS: dict[str, Callable[[Array], Array]] = {
    "elu": _elu_and_one,
    "sigmoid": jax.nn.sigmoid,
}


def linear_attention(
    graph: GraphsTuple,
    query: Float[ArrayLike, "N H C"],
    key: Float[ArrayLike, "N H C"],
    value: Float[ArrayLike, "N H V"],
    *,
    feature_map: FeatureMap = "elu",
    node_mask: NodeMask = None,
) -> Float[Array, "N H V"]:
    """Attention of every node to all nodes of its graph, itself included, in time linear in the nodes.

    ```
    α_ij  = φ(q_i) · φ(k_j) / Σ_l φ(q_i) · φ(k_l)
    out_i = Σ_j α_ij v_j                                over the nodes j of the graph of i
          = φ(q_i) (Σ_j φ(k_j) v_jᵀ) / (φ(q_i) · Σ_j φ(k_j))
    ```

    The sums over j are of the graph, `[C, V]` and `[C]` for every head: N·H·C·V multiplications, where
    `graph_self_attention` has N·n·H·(C + V). No weight is as sharp as a softmax may be.

    Args:
      graph: one graph or a batch, for the number of nodes of each.
      query: q `[N, H, C]`.
      key: k `[N, H, C]`.
      value: v `[N, H, V]`.
      feature_map: φ: "elu", elu(x) + 1; "sigmoid"; or a function whose numbers are positive.
      node_mask: nodes that take part, `[N]`; all by default.

    Returns:
      `[N, H, V]` in the dtype of the values; 0 for a node that takes no part.

    Raises:
      ValueError: shapes that disagree, or an unknown feature map.

    >>> from gatjax.graph import build_graph
    >>> graph, zeros = build_graph([], [], num_nodes=2), jnp.zeros((2, 1, 3))
    >>> linear_attention(graph, zeros, zeros, jnp.array([[[1.0]], [[3.0]]])).tolist()
    [[[2.0]], [[2.0]]]

    Katharopoulos et al., Transformers are RNNs, ICML 2020, with "elu"; Deng et al., Polynormer, ICLR 2024, with
    "sigmoid".
    """
    query, key, value = (jnp.asarray(rows) for rows in (query, key, value))
    check_rows(graph, query, key, value)
    features = check_feature_map(feature_map)
    total, num_graphs = len(query), len(graph.n_node)
    check_mask(total, node_mask=node_mask)
    check_padding(graph, node_mask)
    if value.size == 0:
        return value
    kept = jnp.ones(total, bool) if node_mask is None else jnp.asarray(node_mask)
    dtype = jnp.promote_types(value.dtype, jnp.float32)
    q, k, v = (mask_rows(rows, kept).astype(dtype) for rows in (query, key, value))
    q, k = features(q), mask_rows(features(k), kept)
    if num_graphs == 1:
        products = wide_einsum("nhc,nhv->hcv", k, v)
        out, weight = (
            wide_einsum("nhc,hcv->nhv", q, products),
            wide_einsum("nhc,hc->nh", q, k.sum(0)),
        )
    else:
        owner = graph_ids(graph.n_node, total)
        # Column by column, so that no [N, H, C, V] is held.
        of_graphs = lambda column: segment_sum(k * column[..., None], owner, num_graphs)
        products = jax.lax.map(of_graphs, jnp.moveaxis(v, -1, 0))
        of_column = lambda column: (q * column[owner]).sum(-1)
        out = jnp.moveaxis(jax.lax.map(of_column, products), 0, -1)
        weight = of_column(segment_sum(k, owner, num_graphs))
    out = (out / jnp.where(weight == 0, 1, weight)[..., None]).astype(value.dtype)
    return mask_rows(out, kept)


def check_feature_map(feature_map: FeatureMap) -> Callable[[Array], Array]:
    """The function of that name, or the function itself.

    Raises:
      ValueError: an unknown name.
    """
    if callable(feature_map):
        return feature_map
    if feature_map not in FEATURE_MAPS:
        raise ValueError(
            f"feature_map must be one of {list(FEATURE_MAPS)} or a function, got {feature_map!r}"
        )
    return FEATURE_MAPS[feature_map]
