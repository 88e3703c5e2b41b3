"""GNNExplainer of PyTorch Geometric, on a GAT of the same sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.nn import GATConv


class Model(torch.nn.Module):
    """Eight heads of eight features, then one of the classes."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.first = GATConv(width, 8, heads=8, add_self_loops=False)
        self.second = GATConv(64, classes, heads=1, add_self_loops=False)

    def forward(self, x, edge_index):
        return self.second(torch.nn.functional.elu(self.first(x, edge_index)), edge_index)


def gnn_explainer(graph: Any, target: int, classes: int, epochs: int) -> Callable[[], Any]:
    """A mask of edges alone, of one node."""
    explainer = Explainer(
        Model(np.asarray(graph.nodes).shape[1], classes).eval(),
        GNNExplainer(epochs=epochs, lr=0.01),
        explanation_type="model",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )
    x = torch.from_numpy(np.array(graph.nodes))
    ends = torch.from_numpy(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    return lambda: explainer(x, ends, index=target)
