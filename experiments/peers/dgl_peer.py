"""DGL: its layers. None of them takes edge features, and there is none for the dot product."""

import dgl
import numpy as np
import torch
from dgl.nn import GATConv, GATv2Conv

from peers import Problem, Workload, on_torch

LAYERS = {"gat": GATConv, "gatv2": GATv2Conv}


def layer(problem: Problem) -> Workload | None:
    if problem.mechanism not in LAYERS or problem.edge_features is not None:
        return None
    nodes, _ = on_torch.inputs(problem)
    ends = (
        torch.from_numpy(ids.astype(np.int64))
        for ids in (problem.edges.senders, problem.edges.receivers)
    )
    graph = dgl.graph(tuple(ends), num_nodes=problem.edges.num_nodes).to(on_torch.device(problem))
    graph.create_formats_()
    module = LAYERS[problem.mechanism](
        problem.in_features,
        problem.features,
        problem.heads,
        attn_drop=problem.dropout,
        allow_zero_in_degree=True,
    ).to(on_torch.device(problem))
    return on_torch.workload(problem, module, lambda: module(graph, nodes), nodes)
