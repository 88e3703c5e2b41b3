"""Thin Flax NNX modules around the functions of `gatjax.attention`, one mechanism a file.

A layer turns node features [N, in_features] into [N, out_features] and leaves the rest of the graph alone. It has two
methods, written once in `Conv`:

```
layer(graph, *, edge_mask=None, deterministic=None, rngs=None) -> GraphsTuple
layer.attention(graph, *, edge_mask=None) -> [E, H]     aligned with the graph's edges, before dropout
```

With H heads, `combine="concat"` gives each head C = out_features / H features, and `combine="mean"` C = out_features.
Node features may be a sparse `BCOO`. `deterministic` and `rngs` are those of `nnx.MultiHeadAttention`.
"""

from gatjax.layers.block import Attended as Attended
from gatjax.layers.block import AttentionBlock as AttentionBlock
from gatjax.layers.block import AttentionEdgeStep as AttentionEdgeStep
from gatjax.layers.block import attend_edges as attend_edges
from gatjax.layers.controls import GCNConv as GCNConv
from gatjax.layers.controls import MeanConv as MeanConv
from gatjax.layers.controls import NodeLinear as NodeLinear
from gatjax.layers.conv import Conv as Conv
from gatjax.layers.conv import Mechanism as Mechanism
from gatjax.layers.dense import AttentionLayer as AttentionLayer
from gatjax.layers.dot_product import DotProductConv as DotProductConv
from gatjax.layers.encode_process_decode import EncodeProcessDecode as EncodeProcessDecode
from gatjax.layers.encode_process_decode import GraphIndependent as GraphIndependent
from gatjax.layers.encode_process_decode import RowMLP as RowMLP
from gatjax.layers.gaan import GaANConv as GaANConv
from gatjax.layers.gat import GATConv as GATConv
from gatjax.layers.gatv2 import GATv2Conv as GATv2Conv
from gatjax.layers.graph_network import GraphNetwork as GraphNetwork
from gatjax.layers.graph_network import update_edges as update_edges
from gatjax.layers.graph_network import update_globals as update_globals
from gatjax.layers.graph_network import update_nodes as update_nodes
from gatjax.layers.parts import DropoutRates as DropoutRates
from gatjax.layers.pooling import AttentionPooling as AttentionPooling
from gatjax.layers.relational import RelationalGATConv as RelationalGATConv
