"""PyTorch: the layer of the molecule attention transformer as its paper writes it, on molecules padded to one size."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from peers import Workload, on_torch


class MATLayer(torch.nn.Module):
    """Attention of several heads, mixed with distances and bonds; then a linear map of the heads.

    ```
    p   = λ_a softmax(q kᵀ / sqrt(C)) + λ_d exp(-D) + λ_g A / (A 1 + 1e-6)
    out = W_o concat_h(p v) + b_o
    ```
    """

    def __init__(self, width: int, num_heads: int, weights: tuple[float, float, float]):
        super().__init__()
        self.num_heads, self.weights = num_heads, weights
        self.query = torch.nn.Linear(width, width)
        self.key = torch.nn.Linear(width, width, bias=False)
        self.value = torch.nn.Linear(width, width, bias=False)
        self.mix = torch.nn.Linear(width, width)

    def forward(
        self, x: torch.Tensor, distance: torch.Tensor, adjacency: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        graphs, nodes, width = x.shape
        heads = lambda z: z.view(graphs, nodes, self.num_heads, -1).transpose(1, 2)
        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        logits = query @ key.transpose(-2, -1) / (width // self.num_heads) ** 0.5
        attention = torch.softmax(logits.masked_fill(~mask[:, None, None, :], -1e12), dim=-1)
        near = torch.exp(-distance.masked_fill(~mask[:, None, :], float("inf")))
        bonded = adjacency / (adjacency.sum(dim=-1, keepdim=True) + 1e-6)
        of_attention, of_distance, of_bonds = self.weights
        known = of_distance * near + of_bonds * bonded
        p = of_attention * attention + known[:, None]
        mixed = (p @ value).transpose(1, 2).reshape(graphs, nodes, width)
        return self.mix(mixed)


def molecule_layer(
    batch: Mapping[str, np.ndarray], num_heads: int
) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient by parameters and inputs; and what it gives: the loss, and the norm of the inputs' gradient."""
    width = batch["query"].shape[0]
    layer = MATLayer(width, num_heads, tuple(batch["weights"].tolist()))
    with torch.no_grad():
        for name in ("query", "key", "value", "mix"):
            getattr(layer, name).weight.copy_(torch.from_numpy(batch[name].T.copy()))
        layer.query.bias.zero_()
        layer.mix.bias.zero_()
    distance, adjacency, mask = (
        torch.from_numpy(batch[name]) for name in ("distance", "adjacency", "mask")
    )
    x = torch.from_numpy(batch["nodes"]).requires_grad_()
    out = lambda: layer(x, distance, adjacency, mask) * mask[..., None]
    return on_torch.loss_and_gradient(layer, x, lambda: out().square().sum())
