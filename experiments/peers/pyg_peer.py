"""PyTorch Geometric: its layers, and the GAT of its examples."""

import numpy as np
import torch
import torch.nn.functional as F
from torch_geometric.nn import GATConv, GATv2Conv, RGATConv, TransformerConv
from torch_geometric.utils import scatter, softmax

from peers import GATE_FEATURES, NUM_RELATIONS, Problem, Workload, on_torch


def layer(problem: Problem) -> Workload | None:
    """A layer of the library's, and GaAN without edge features and dropout."""
    if problem.mechanism in ("block", "hard"):
        return None
    if problem.mechanism == "gaan" and (problem.edge_features or problem.dropout):
        return None
    nodes, edges = on_torch.inputs(problem)
    extra = ()
    options = {
        "heads": problem.heads,
        "edge_dim": problem.edge_features,
        "dropout": problem.dropout,
    }
    sizes = problem.in_features, problem.features
    if problem.mechanism == "dot":
        module = TransformerConv(*sizes, **options, root_weight=False)
    elif problem.mechanism == "relational":
        module = RGATConv(
            *sizes, NUM_RELATIONS, **options, attention_mode="additive-self-attention"
        )
        extra = (
            torch.from_numpy(problem.relations.astype(np.int64)).to(
                on_torch.device(problem.device)
            ),
        )
    elif problem.mechanism == "gaan":
        module = GaAN(problem)
    else:
        module = {"gat": GATConv, "gatv2": GATv2Conv}[problem.mechanism](
            *sizes, **options, add_self_loops=False
        )
    place = on_torch.device(problem.device)
    module = module.to(place)
    ids = np.stack([problem.edges.senders, problem.edges.receivers]).astype(np.int64)
    ids = torch.from_numpy(ids).to(place)
    return on_torch.workload(problem, module, lambda: module(nodes, ids, *extra, edges), nodes)


class GaAN(torch.nn.Module):
    """Gated attention as one writes it with the library's softmax and scatter; it has no such layer."""

    def __init__(self, problem: Problem):
        super().__init__()
        width = problem.width
        self.heads = problem.heads
        self.query = torch.nn.Linear(problem.in_features, width)
        self.key = torch.nn.Linear(problem.in_features, width, bias=False)
        self.value = torch.nn.Linear(problem.in_features, width)
        self.pool = torch.nn.Linear(problem.in_features, GATE_FEATURES, bias=False)
        self.gate = torch.nn.Linear(GATE_FEATURES + 2 * problem.in_features, problem.heads)
        self.out = torch.nn.Linear(width + problem.in_features, width)

    def forward(self, x: torch.Tensor, ids: torch.Tensor, edges: None) -> torch.Tensor:
        senders, receivers = ids
        size = len(x)
        of_heads = lambda rows: rows.view(size, self.heads, -1)
        logits = of_heads(self.query(x))[receivers] * of_heads(self.key(x))[senders]
        alpha = softmax(logits.sum(-1), receivers, num_nodes=size)
        values = of_heads(F.leaky_relu(self.value(x), 0.1))[senders]
        summed = scatter(alpha[:, :, None] * values, receivers, dim_size=size)
        largest = scatter(self.pool(x)[senders], receivers, dim_size=size, reduce="max")
        mean = scatter(x[senders], receivers, dim_size=size, reduce="mean")
        gate = torch.sigmoid(self.gate(torch.cat([largest, mean, x], -1)))
        return self.out(torch.cat([(gate[:, :, None] * summed).flatten(1), x], -1))


class GAT(torch.nn.Module):
    """The paper's network, with dropout on inputs and attention."""

    def __init__(self, in_features: int, classes: int, out_heads: int):
        super().__init__()
        self.first = GATConv(in_features, 8, heads=8, dropout=0.6)
        self.last = GATConv(64, classes, heads=out_heads, concat=False, dropout=0.6)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.first(F.dropout(x, 0.6, self.training), edges))
        return self.last(F.dropout(x, 0.6, self.training), edges)


def epoch(dataset: str, features: str, dropouts: str, device: str) -> Workload:
    """A training step and an evaluation on dense features."""
    from gatjax.data import load

    data, place = load(dataset, features="dense"), on_torch.device(device)
    x = torch.from_numpy(np.asarray(data.graph.nodes)).to(place)
    edges = np.stack([data.graph.senders, data.graph.receivers])
    edges, labels, train, validation = (
        torch.from_numpy(ids.astype(np.int64)).to(place)
        for ids in (edges, data.labels, *data.splits[:2])
    )
    pubmed = dataset == "pubmed"
    model = GAT(data.num_features, data.num_classes, out_heads=8 if pubmed else 1).to(place)
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

    return Workload(run, device_bytes=on_torch.peak_on_gpu() if device == "gpu" else None)
