"""PyTorch Geometric: the graph GRU of GaAN as one writes it there, edges and all."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch_geometric.utils import scatter, softmax

from peers import Workload, on_torch

SLOPE = 0.1


class Linear(torch.nn.Module):
    """x W + b with the weights of a file; b where it has one."""

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str):
        super().__init__()
        kernel = torch.from_numpy(arrays[f"{name}/kernel"])
        self.kernel = torch.nn.Parameter(kernel.reshape(len(kernel), -1).clone())
        bias = arrays.get(f"{name}/bias")
        self.bias = None if bias is None else torch.nn.Parameter(torch.from_numpy(bias).reshape(-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x @ self.kernel
        return out if self.bias is None else out + self.bias


class GaAN(torch.nn.Module):
    """Dot-product heads, each times its gate, and the receiver itself."""

    def __init__(self, arrays: Mapping[str, np.ndarray], name: str):
        super().__init__()
        parts = {
            "query": "query",
            "key": "key",
            "value": "value",
            "pool": "gate/pool",
            "context": "gate/context",
            "out": "output/dense",
        }
        self.parts = torch.nn.ModuleDict(
            {part: Linear(arrays, f"{name}/{path}") for part, path in parts.items()}
        )
        self.heads = arrays[f"{name}/query/kernel"].shape[1]

    def forward(
        self, receivers: torch.Tensor, senders: torch.Tensor, edges: torch.Tensor
    ) -> torch.Tensor:
        source, target = edges
        of, count = self.parts, len(receivers)
        heads = lambda z: z.view(len(z), self.heads, -1)
        query, key = heads(of["query"](receivers)), heads(of["key"](senders))
        value = heads(torch.nn.functional.leaky_relu(of["value"](senders), SLOPE))
        alpha = softmax((query[target] * key[source]).sum(-1), target, num_nodes=count)
        gathered = scatter(alpha[:, :, None] * value[source], target, dim_size=count, reduce="sum")
        largest = scatter(of["pool"](senders)[source], target, dim_size=count, reduce="max")
        mean = scatter(senders[source], target, dim_size=count, reduce="mean")
        gate = torch.sigmoid(of["context"](torch.cat([largest, mean, receivers], dim=1)))
        return of["out"](torch.cat([(gate[:, :, None] * gathered).flatten(1), receivers], dim=1))


class Cell(torch.nn.Module):
    """The gated update of both aggregators."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        super().__init__()
        self.of_input, self.of_state = GaAN(arrays, "of_input"), GaAN(arrays, "of_state")

    def forward(self, x: torch.Tensor, hidden: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        of_input = self.of_input(x, x, edges).chunk(3, dim=1)
        of_state = self.of_state(torch.cat([x, hidden], dim=1), hidden, edges).chunk(3, dim=1)
        update = torch.sigmoid(of_input[0] + of_state[0])
        reset = torch.sigmoid(of_input[1] + of_state[1])
        candidate = torch.tanh(of_input[2] + reset * of_state[2])
        return (1 - update) * candidate + update * hidden


def recurrent_cell(batch: Mapping[str, np.ndarray]) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient by parameters and signals of a cell over time, on disjoint copies of the graph."""
    cell = Cell(batch)
    signals = torch.from_numpy(batch["signals"])
    count, steps, nodes, width = signals.shape
    offset = torch.arange(count)[:, None] * nodes
    ends = [
        (torch.from_numpy(batch[end]).long() + offset).reshape(-1)
        for end in ("senders", "receivers")
    ]
    edges = torch.stack(ends)
    by_time = signals.transpose(0, 1).reshape(steps, count * nodes, width).requires_grad_()
    size = cell.of_state.parts["key"].kernel.shape[0]

    def loss() -> torch.Tensor:
        hidden = torch.zeros(count * nodes, size)
        for x in by_time:
            hidden = cell(x, hidden, edges)
        return hidden.square().sum()

    return on_torch.loss_and_gradient(cell, by_time, loss)
