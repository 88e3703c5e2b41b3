"""Stacks of layers by the paper's name, ready to train, and saved ones."""

from gatjax.models.controls import GCN as GCN
from gatjax.models.controls import MLP as MLP
from gatjax.models.gaan import GaAN as GaAN
from gatjax.models.gat import GAT as GAT
from gatjax.models.gat import ConstGAT as ConstGAT
from gatjax.models.gat import DotProductGAT as DotProductGAT
from gatjax.models.gat import GATv2 as GATv2
from gatjax.models.saving import load_model as load_model
from gatjax.models.saving import save_model as save_model
from gatjax.models.stack import Stack as Stack
