"""A GPS block by PyTorch Geometric: `GPSConv` around `GATConv`."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch_geometric.nn import GATConv, GPSConv

from peers import Workload, on_torch


def block(
    batch: Mapping[str, np.ndarray], num_heads: int
) -> tuple[Workload, Callable[[], list[float]]]:
    """As `gatjax_block.block`, with the same weights."""
    width = batch["nodes"].shape[1]
    conv = GATConv(width, width // num_heads, heads=num_heads, add_self_loops=False)
    layer = GPSConv(width, conv, heads=num_heads, act="relu", norm="batch_norm")
    table = {name: torch.from_numpy(rows) for name, rows in batch.items()}
    with torch.no_grad():
        conv.lin.weight.copy_(table["local"].T)
        conv.att_src.copy_(table["sender"][None])
        conv.att_dst.copy_(table["receiver"][None])
        joined = torch.cat([table[name] for name in ("query", "key", "value")], 1)
        layer.attn.in_proj_weight.copy_(joined.T)
        layer.attn.out_proj.weight.copy_(table["mix"].T)
        layer.mlp[0].weight.copy_(table["wide"].T)
        layer.mlp[3].weight.copy_(table["narrow"].T)
        linear = (layer.attn.in_proj_bias, layer.attn.out_proj.bias, layer.mlp[0].bias)
        for bias in (*linear, layer.mlp[3].bias):
            bias.zero_()
    ids = torch.stack([table["senders"], table["receivers"]]).long()
    owner = torch.repeat_interleave(torch.arange(len(batch["n_node"])), table["n_node"].long())
    x = table["nodes"].requires_grad_()
    loss = lambda: (layer(x, ids, batch=owner) * table["target"]).sum()
    return on_torch.loss_and_gradient(layer, x, loss)
