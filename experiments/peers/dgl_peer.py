"""DGL: its layers, and the same GAT."""

import warnings

warnings.filterwarnings("ignore", module="dgl|outdated|networkx")

import dgl
import numpy as np
import torch
from dgl.nn import GATConv, GATv2Conv

from peers import Workload

LAYERS = {"gat": GATConv, "gatv2": GATv2Conv}


def layer(
    mechanism: str,
    senders: np.ndarray,
    receivers: np.ndarray,
    num_nodes: int,
    heads: int,
    features: int,
    backward: bool,
) -> Workload | None:
    """None for the dot product, which DGL has no layer for."""
    if mechanism not in LAYERS:
        return None
    torch.manual_seed(0)
    graph = dgl.graph(
        (torch.from_numpy(senders.astype(np.int64)), torch.from_numpy(receivers.astype(np.int64))),
        num_nodes=num_nodes,
    )
    graph.create_formats_()
    x = torch.randn(num_nodes, heads * features, requires_grad=backward)
    module = LAYERS[mechanism](heads * features, features, heads, allow_zero_in_degree=True)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            out = module(graph, x)
        if backward:
            module.zero_grad()
            x.grad = None
            out.backward(torch.ones_like(out))

    return Workload(run)
