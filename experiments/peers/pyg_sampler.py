"""Samples of neighbours by PyTorch Geometric's `NeighborLoader`, and a step of training on them.

It needs pyg-lib or torch-sparse, without which PyTorch Geometric does not sample.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NeighborLoader
from torch_geometric.nn import GATConv

from peers import Workload

Measured = tuple[Workload, Callable[[], list[float]]]


def sample(arrays: Mapping[str, np.ndarray], fanouts: list[int]) -> Measured:
    """A batch as the loader gives it, without features."""
    loader = _loader(arrays, fanouts, features=False)
    return Workload(loader.__next__), lambda: _first_hop(loader)


def step(
    arrays: Mapping[str, np.ndarray], fanouts: list[int], sizes: Mapping[str, int]
) -> Measured:
    """Sampling, rows of features, loss, gradient and Adam."""
    loader = _loader(arrays, fanouts, features=True)
    of_head, heads = sizes["width"] // sizes["heads"], sizes["heads"]
    widths = [arrays["features"].shape[1]] + [sizes["width"]] * (len(fanouts) - 1)
    layers = [GATConv(width, of_head, heads=heads) for width in widths[:-1]]
    last = GATConv(widths[-1], sizes["classes"])
    module = torch.nn.ModuleList([*layers, last])
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-3)

    def train() -> float:
        batch = next(loader)
        x: Any = batch.x
        for layer in layers:
            x = torch.nn.functional.elu(layer(x, batch.edge_index))
        logits = last(x, batch.edge_index)[: batch.batch_size]
        loss = torch.nn.functional.cross_entropy(logits, batch.y[: batch.batch_size].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return Workload(train), lambda: _first_hop(loader)


class _Turns:
    """The batches of a loader, over and over."""

    def __init__(self, loader: NeighborLoader):
        self.loader, self.batches = loader, iter(loader)

    def __next__(self) -> Any:
        try:
            return next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            return next(self.batches)


def _loader(arrays: Mapping[str, np.ndarray], fanouts: list[int], *, features: bool) -> _Turns:
    table = {name: torch.from_numpy(arrays[name]) for name in ("senders", "receivers", "labels")}
    data = Data(
        edge_index=torch.stack([table["senders"], table["receivers"]]).long(),
        num_nodes=len(table["labels"]),
    )
    if features:
        data.x, data.y = torch.from_numpy(arrays["features"]), table["labels"]
    batches = arrays["batches"]
    seeds = torch.from_numpy(batches.reshape(-1)).long()
    options = {"batch_size": batches.shape[1], "shuffle": False}
    return _Turns(NeighborLoader(data, fanouts, input_nodes=seeds, **options))


def _first_hop(turns: _Turns) -> list[float]:
    """How many neighbours the seeds of the first batch have: those of a node, or the fan-out."""
    batch = next(iter(turns.loader))
    return [float((batch.edge_index[1] < batch.batch_size).sum())]
