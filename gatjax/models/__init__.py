"""Stacks of layers by the paper's name, ready to train, and saved ones."""

from gatjax.models.controls import GCN, MLP
from gatjax.models.dgl_weights import with_dgl_weights
from gatjax.models.embed import embed_nodes
from gatjax.models.forecast import EncoderDecoder, Forecaster, RecurrentStack, teaching_rate
from gatjax.models.gaan import GaAN
from gatjax.models.gat import GAT, ConstGAT, DotProductGAT, GATv2
from gatjax.models.han import HAN
from gatjax.models.hgt import HGT
from gatjax.models.mat import MAT
from gatjax.models.polynormer import Polynormer
from gatjax.models.pyg_weights import with_pyg_weights
from gatjax.models.saving import load_model, save_model
from gatjax.models.stack import Stack
from gatjax.models.summary import LayerSummary, Summary, summary
from gatjax.models.transformer import GPS, GraphTransformer
from gatjax.training.memory import Memory

__all__ = [
    "GAT",
    "GCN",
    "GPS",
    "HAN",
    "HGT",
    "MAT",
    "MLP",
    "ConstGAT",
    "DotProductGAT",
    "EncoderDecoder",
    "Forecaster",
    "GATv2",
    "GaAN",
    "GraphTransformer",
    "LayerSummary",
    "Memory",
    "Polynormer",
    "RecurrentStack",
    "Stack",
    "Summary",
    "embed_nodes",
    "load_model",
    "save_model",
    "summary",
    "teaching_rate",
    "with_dgl_weights",
    "with_pyg_weights",
]
