"""Graph attention in JAX: pure functions over `jraph.GraphsTuple`, and thin Flax NNX modules around them.

The rooms, each of which imports only those above it:

```
ops        arrays in, arrays out
graph      GraphsTuple in, GraphsTuple out, on the host
attention  the mathematics
layers     Flax NNX modules, one mechanism a file
training   one compiled run over many seeds
models     stacks by the paper's name
data       data sets
plots      pictures, to be imported by its name
```
"""

from importlib.metadata import version as _version

# ops: arrays in, arrays out
from gatjax import ops as ops
from gatjax.ops import DropoutMask as DropoutMask
from gatjax.ops import dot_features as dot_features
from gatjax.ops import keep_mask as keep_mask
from gatjax.ops import segment_hardmax as segment_hardmax
from gatjax.ops import segment_max as segment_max
from gatjax.ops import segment_mean as segment_mean
from gatjax.ops import segment_softmax as segment_softmax
from gatjax.ops import segment_straight_through as segment_straight_through
from gatjax.ops import segment_sum as segment_sum
from gatjax.ops import sum_features as sum_features

# graph: GraphsTuple in, GraphsTuple out, on the host
from gatjax import graph as graph
from gatjax.graph import Budget as Budget
from gatjax.graph import Masks as Masks
from gatjax.graph import Named as Named
from gatjax.graph import add_self_loops as add_self_loops
from gatjax.graph import batch as batch
from gatjax.graph import budget_for as budget_for
from gatjax.graph import build_graph as build_graph
from gatjax.graph import coalesce as coalesce
from gatjax.graph import from_csv as from_csv
from gatjax.graph import from_named_csv as from_named_csv
from gatjax.graph import from_networkx as from_networkx
from gatjax.graph import from_scipy as from_scipy
from gatjax.graph import fully_connected as fully_connected
from gatjax.graph import in_degree as in_degree
from gatjax.graph import isolated_nodes as isolated_nodes
from gatjax.graph import masks_of as masks_of
from gatjax.graph import num_nodes as num_nodes
from gatjax.graph import number_names as number_names
from gatjax.graph import pad as pad
from gatjax.graph import pad_batches as pad_batches
from gatjax.graph import relabel as relabel
from gatjax.graph import remove_self_loops as remove_self_loops
from gatjax.graph import sort_edges as sort_edges
from gatjax.graph import split_weights as split_weights
from gatjax.graph import subgraph as subgraph
from gatjax.graph import to_networkx as to_networkx
from gatjax.graph import to_scipy as to_scipy
from gatjax.graph import to_undirected as to_undirected
from gatjax.graph import unbatch as unbatch
from gatjax.graph import unpad as unpad
from gatjax.graph import validate as validate

# attention: the mathematics
from gatjax import attention as attention
from gatjax.attention import additive_score as additive_score
from gatjax.attention import attention_layer as attention_layer
from gatjax.attention import attention_logits as attention_logits
from gatjax.attention import attention_pool as attention_pool
from gatjax.attention import attention_weights as attention_weights
from gatjax.attention import combine_heads as combine_heads
from gatjax.attention import dense_score as dense_score
from gatjax.attention import dense_weights as dense_weights
from gatjax.attention import dot_product_score as dot_product_score
from gatjax.attention import dynamic_score as dynamic_score
from gatjax.attention import edge_attention as edge_attention
from gatjax.attention import general_dot as general_dot
from gatjax.attention import graph_attention as graph_attention
from gatjax.attention import multi_head_attention as multi_head_attention
from gatjax.attention import neighbor_mean as neighbor_mean
from gatjax.attention import pool_neighbors as pool_neighbors
from gatjax.attention import pool_nodes as pool_nodes
from gatjax.attention import reduce_heads as reduce_heads
from gatjax.attention import score_pairs as score_pairs
from gatjax.attention import self_attention as self_attention
from gatjax.attention import tensor_dot as tensor_dot
from gatjax.attention import weighted_sum as weighted_sum

# layers: Flax NNX modules, one mechanism a file
from gatjax import layers as layers
from gatjax.layers import Attended as Attended
from gatjax.layers import AttentionBlock as AttentionBlock
from gatjax.layers import AttentionEdgeStep as AttentionEdgeStep
from gatjax.layers import AttentionLayer as AttentionLayer
from gatjax.layers import AttentionPooling as AttentionPooling
from gatjax.layers import Conv as Conv
from gatjax.layers import DotProductConv as DotProductConv
from gatjax.layers import DropoutRates as DropoutRates
from gatjax.layers import EncodeProcessDecode as EncodeProcessDecode
from gatjax.layers import GaANConv as GaANConv
from gatjax.layers import GATConv as GATConv
from gatjax.layers import GATv2Conv as GATv2Conv
from gatjax.layers import GCNConv as GCNConv
from gatjax.layers import GraphIndependent as GraphIndependent
from gatjax.layers import GraphNetwork as GraphNetwork
from gatjax.layers import MeanConv as MeanConv
from gatjax.layers import Mechanism as Mechanism
from gatjax.layers import NodeLinear as NodeLinear
from gatjax.layers import RelationalGATConv as RelationalGATConv
from gatjax.layers import RowMLP as RowMLP
from gatjax.layers import attend_edges as attend_edges
from gatjax.layers import update_edges as update_edges
from gatjax.layers import update_globals as update_globals
from gatjax.layers import update_nodes as update_nodes

# training: one compiled run over many seeds
from gatjax import training as training

# models: stacks by the paper's name
from gatjax import models as models
from gatjax.models import GAT as GAT
from gatjax.models import GCN as GCN
from gatjax.models import MLP as MLP
from gatjax.models import ConstGAT as ConstGAT
from gatjax.models import DotProductGAT as DotProductGAT
from gatjax.models import GaAN as GaAN
from gatjax.models import GATv2 as GATv2
from gatjax.models import Stack as Stack
from gatjax.models import load_model as load_model
from gatjax.models import save_model as save_model

# data: data sets
from gatjax import data as data

__version__ = _version("gatjax")
