"""PyTorch Geometric: its layers, and the GAT of its examples."""

import numpy as np
import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, GATv2Conv, TransformerConv

from peers import Problem, Workload, on_torch


def layer(problem: Problem) -> Workload:
    nodes, edges = on_torch.inputs(problem)
    options = {
        "heads": problem.heads,
        "edge_dim": problem.edge_features,
        "dropout": problem.dropout,
    }
    sizes = problem.in_features, problem.features
    if problem.mechanism == "dot":
        module = TransformerConv(*sizes, **options, root_weight=False)
    else:
        module = {"gat": GATConv, "gatv2": GATv2Conv}[problem.mechanism](
            *sizes, **options, add_self_loops=False
        )
    place = on_torch.device(problem)
    module = module.to(place)
    ids = np.stack([problem.edges.senders, problem.edges.receivers]).astype(np.int64)
    ids = torch.from_numpy(ids).to(place)
    return on_torch.workload(problem, module, lambda: module(nodes, ids, edges), nodes)


class GAT(torch.nn.Module):
    """The paper's network, with dropout on inputs and attention."""

    def __init__(self, in_features: int, classes: int, out_heads: int):
        super().__init__()
        self.first = GATConv(in_features, 8, heads=8, dropout=0.6)
        self.last = GATConv(64, classes, heads=out_heads, concat=False, dropout=0.6)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.first(F.dropout(x, 0.6, self.training), edges))
        return self.last(F.dropout(x, 0.6, self.training), edges)


def epoch(dataset: str, features: str, dropouts: str) -> Workload:
    """A training step and an evaluation on dense features."""
    from gatjax.data import load

    data = load(dataset, features="dense")
    x = torch.from_numpy(np.asarray(data.graph.nodes))
    edges = torch.from_numpy(np.stack([data.graph.senders, data.graph.receivers]).astype(np.int64))
    labels = torch.from_numpy(data.labels.astype(np.int64))
    train, validation = (torch.from_numpy(part.astype(np.int64)) for part in data.splits[:2])
    pubmed = dataset == "pubmed"
    model = GAT(data.num_features, data.num_classes, out_heads=8 if pubmed else 1)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=0.01 if pubmed else 0.005, weight_decay=1e-3 if pubmed else 5e-4
    )

    def run() -> None:
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(x, edges)[train], labels[train]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(x, edges)[validation]
            F.cross_entropy(logits, labels[validation]).item()
            (logits.argmax(-1) == labels[validation]).float().mean().item()

    return Workload(run)
