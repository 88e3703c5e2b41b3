"""Samples of neighbours by DGL's `NeighborSampler`, and a step of training on them."""

from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import dgl
import numpy as np
import torch
from dgl.dataloading import NeighborSampler
from dgl.nn import GATConv

from peers import Workload

Measured = tuple[Workload, Callable[[], list[float]]]


def sample(arrays: Mapping[str, np.ndarray], fanouts: list[int]) -> Measured:
    """A batch: the blocks of every layer."""
    graph, sampler = _prepared(arrays, fanouts)
    batches = cycle(torch.from_numpy(arrays["batches"]).long())
    first = _first_hop(graph, sampler, arrays)
    return Workload(lambda: sampler.sample(graph, next(batches))), lambda: first


def step(
    arrays: Mapping[str, np.ndarray], fanouts: list[int], sizes: Mapping[str, int]
) -> Measured:
    """Sampling, rows of features, loss, gradient and Adam."""
    graph, sampler = _prepared(arrays, fanouts)
    batches = cycle(torch.from_numpy(arrays["batches"]).long())
    features, labels = (torch.from_numpy(arrays[name]) for name in ("features", "labels"))
    of_head = sizes["width"] // sizes["heads"]
    widths = [features.shape[1]] + [sizes["width"]] * (len(fanouts) - 1)
    layers = [
        GATConv(width, of_head, sizes["heads"], allow_zero_in_degree=True) for width in widths[:-1]
    ]
    last = GATConv(widths[-1], sizes["classes"], 1, allow_zero_in_degree=True)
    module = torch.nn.ModuleList([*layers, last])
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)

    def train() -> float:
        _, seeds, blocks = sampler.sample(graph, next(batches))
        x: Any = features[blocks[0].srcdata[dgl.NID]]
        for layer, block in zip(layers, blocks[:-1], strict=True):
            x = torch.nn.functional.elu(layer(block, x).flatten(1))
        logits = last(blocks[-1], x).mean(1)
        loss = torch.nn.functional.cross_entropy(logits, labels[seeds].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    first = _first_hop(graph, sampler, arrays)
    return Workload(train), lambda: first


def _prepared(arrays: Mapping[str, np.ndarray], fanouts: list[int]) -> tuple[Any, NeighborSampler]:
    ends = tuple(torch.from_numpy(arrays[name]).long() for name in ("senders", "receivers"))
    graph = dgl.graph(ends, num_nodes=len(arrays["labels"])).formats(["csc"])
    graph.create_formats_()
    return graph, NeighborSampler(fanouts[::-1])


def _first_hop(graph: Any, sampler: Any, arrays: Mapping[str, np.ndarray]) -> list[float]:
    """How many neighbours the seeds of the first batch have: those of a node, or the fan-out."""
    blocks = sampler.sample(graph, torch.from_numpy(arrays["batches"][0]).long())[2]
    return [float(blocks[-1].num_edges())]
