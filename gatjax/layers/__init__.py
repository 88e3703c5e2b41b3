"""Thin Flax NNX modules around the functions of `gatjax.attention`, one mechanism a file."""

from gatjax.layers.block import Attended as Attended
from gatjax.layers.block import AttentionBlock as AttentionBlock
from gatjax.layers.block import AttentionEdgeStep as AttentionEdgeStep
from gatjax.layers.block import AttentionPooling as AttentionPooling
from gatjax.layers.block import attend_edges as attend_edges
from gatjax.layers.controls import GCNConv as GCNConv
from gatjax.layers.controls import MeanConv as MeanConv
from gatjax.layers.controls import NodeLinear as NodeLinear
from gatjax.layers.dense import AttentionLayer as AttentionLayer
from gatjax.layers.dot_product import DotProductConv as DotProductConv
from gatjax.layers.gaan import GaANConv as GaANConv
from gatjax.layers.gat import GATConv as GATConv
from gatjax.layers.gatv2 import GATv2Conv as GATv2Conv
from gatjax.layers.graph_network import EncodeProcessDecode as EncodeProcessDecode
from gatjax.layers.graph_network import GraphIndependent as GraphIndependent
from gatjax.layers.graph_network import GraphNetwork as GraphNetwork
from gatjax.layers.graph_network import RowMLP as RowMLP
from gatjax.layers.graph_network import update_edges as update_edges
from gatjax.layers.graph_network import update_globals as update_globals
from gatjax.layers.graph_network import update_nodes as update_nodes
from gatjax.layers.parts import DropoutRates as DropoutRates
from gatjax.layers.relational import RelationalGATConv as RelationalGATConv
