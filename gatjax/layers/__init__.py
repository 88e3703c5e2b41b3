"""Thin Flax NNX modules around the functions of `gatjax.attention`, one mechanism a file.

A layer turns node features [N, in_features] into [N, out_features] and leaves the rest of the graph alone. It has two
methods, written once in `Conv`:

```
layer(graph, *, senders=None, edge_mask=None, deterministic=None, rngs=None) -> GraphsTuple
layer.attention(graph, *, senders=None, edge_mask=None) -> [E, H]     aligned with the graph's edges, before dropout
```

With H heads, `combine="concat"` gives each head C = out_features / H features, and `combine="mean"` C = out_features.
Node features may be a sparse `BCOO`. `deterministic` is that of `nnx.Dropout`, which `train()`, `eval()` and `nnx.view`
set as well; `rngs`, the keys of one call, is an `nnx.Rngs`.
"""

from gatjax.layers.additive import AdditiveConv
from gatjax.layers.all_nodes import GraphLinearAttention, GraphSelfAttention
from gatjax.layers.block import AttentionBlock
from gatjax.layers.controls import GCNConv, MeanConv, NodeLinear
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dense import AttentionLayer
from gatjax.layers.dot_product import DotProductConv
from gatjax.layers.dropout import DropoutRates
from gatjax.layers.edge_step import Attended, AttentionEdgeStep, attend_edges
from gatjax.layers.encode_process_decode import EncodeProcessDecode, GraphIndependent, RowMLP
from gatjax.layers.gaan import GaANConv
from gatjax.layers.gat import GATConv
from gatjax.layers.gatv2 import GATv2Conv
from gatjax.layers.general import GeneralConv
from gatjax.layers.graph_network import GraphNetwork, update_edges, update_globals, update_nodes
from gatjax.layers.han import HANConv
from gatjax.layers.hgt import HGTConv
from gatjax.layers.inputs import Sides
from gatjax.layers.mat import MATConv
from gatjax.layers.parts import HeadProjection, Setup, sender_value
from gatjax.layers.pooling import AttentionPooling, GraphReadout
from gatjax.layers.recurrent import GGRUCell, GraphState, gated_update, over_time
from gatjax.layers.relational import RelationalGATConv
from gatjax.layers.semantic import SemanticAttention
from gatjax.layers.transformer import OfTypes, TransformerBlock
from gatjax.layers.typed import TypedConv, TypedLinear

__all__ = [
    "AdditiveConv",
    "Attended",
    "AttentionBlock",
    "AttentionEdgeStep",
    "AttentionLayer",
    "AttentionPooling",
    "Conv",
    "DotProductConv",
    "DropoutRates",
    "EncodeProcessDecode",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GGRUCell",
    "GaANConv",
    "GeneralConv",
    "GraphIndependent",
    "GraphLinearAttention",
    "GraphNetwork",
    "GraphReadout",
    "GraphSelfAttention",
    "GraphState",
    "HANConv",
    "HGTConv",
    "HeadProjection",
    "MATConv",
    "MeanConv",
    "Mechanism",
    "NodeLinear",
    "OfTypes",
    "RelationalGATConv",
    "RowMLP",
    "SemanticAttention",
    "Setup",
    "Sides",
    "TransformerBlock",
    "TypedConv",
    "TypedLinear",
    "attend_edges",
    "gated_update",
    "over_time",
    "sender_value",
    "update_edges",
    "update_globals",
    "update_nodes",
]
