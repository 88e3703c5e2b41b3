"""The mathematics: pure functions, the ones that a notebook calls."""

from gatjax.attention.all_nodes import graph_self_attention
from gatjax.attention.attend import edge_attention, graph_attention
from gatjax.attention.blocked import Rows
from gatjax.attention.dense import (
    attention_layer,
    dense_score,
    dense_weights,
    general_dot,
    self_attention,
    tensor_dot,
)
from gatjax.attention.linear import linear_attention
from gatjax.attention.mixed import mixed_attention
from gatjax.attention.mixture import Mixture
from gatjax.attention.multi_head import multi_head_attention
from gatjax.attention.neighbors import neighbor_mean, pool_neighbors
from gatjax.attention.readout import attention_pool, pool_nodes, score_pairs
from gatjax.attention.scores import (
    additive_score,
    bahdanau_score,
    combine_heads,
    dot_product_score,
    dynamic_score,
    general_score,
    reduce_heads,
)
from gatjax.attention.semantic import semantic_attention, semantic_weights
from gatjax.attention.steps import TopK, attention_logits, attention_weights, weighted_sum

__all__ = [
    "Mixture",
    "Rows",
    "TopK",
    "additive_score",
    "attention_layer",
    "attention_logits",
    "attention_pool",
    "attention_weights",
    "bahdanau_score",
    "combine_heads",
    "dense_score",
    "dense_weights",
    "dot_product_score",
    "dynamic_score",
    "edge_attention",
    "general_dot",
    "general_score",
    "graph_attention",
    "graph_self_attention",
    "linear_attention",
    "mixed_attention",
    "multi_head_attention",
    "neighbor_mean",
    "pool_neighbors",
    "pool_nodes",
    "reduce_heads",
    "score_pairs",
    "self_attention",
    "semantic_attention",
    "semantic_weights",
    "tensor_dot",
    "weighted_sum",
]
