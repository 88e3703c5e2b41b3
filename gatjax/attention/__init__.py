"""The mathematics: pure functions, the ones that a notebook calls."""

from gatjax.attention.attend import edge_attention as edge_attention
from gatjax.attention.attend import graph_attention as graph_attention
from gatjax.attention.dense import attention_layer as attention_layer
from gatjax.attention.dense import dense_score as dense_score
from gatjax.attention.dense import dense_weights as dense_weights
from gatjax.attention.dense import general_dot as general_dot
from gatjax.attention.dense import self_attention as self_attention
from gatjax.attention.dense import tensor_dot as tensor_dot
from gatjax.attention.multi_head import multi_head_attention as multi_head_attention
from gatjax.attention.neighbors import neighbor_mean as neighbor_mean
from gatjax.attention.neighbors import pool_neighbors as pool_neighbors
from gatjax.attention.readout import attention_pool as attention_pool
from gatjax.attention.readout import pool_nodes as pool_nodes
from gatjax.attention.readout import score_pairs as score_pairs
from gatjax.attention.scores import additive_score as additive_score
from gatjax.attention.scores import combine_heads as combine_heads
from gatjax.attention.scores import dot_product_score as dot_product_score
from gatjax.attention.scores import dynamic_score as dynamic_score
from gatjax.attention.scores import reduce_heads as reduce_heads
from gatjax.attention.steps import attention_logits as attention_logits
from gatjax.attention.steps import attention_weights as attention_weights
from gatjax.attention.steps import weighted_sum as weighted_sum
