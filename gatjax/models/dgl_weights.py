"""Weights of DGL, which need not be installed, in layers and models of ours."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gatjax.layers.controls import GCNConv, NodeLinear
from gatjax.layers.dot_product import DotProductConv
from gatjax.layers.gat import GATConv
from gatjax.layers.gatv2 import GATv2Conv
from gatjax.models.transplant import (
    BIAS,
    LINEAR,
    LINEAR_LAYER,
    Module,
    Peer,
    Place,
    Weights,
    additive,
    combined,
    dynamic,
    kernel_of,
    left_for_output,
    summed,
    transplant,
)


def with_dgl_weights(module: Module, source: Any) -> Module:
    """A copy of a layer or a `Stack` with the weights of DGL's, which then gives the same numbers.

    `GATConv` and `GATv2Conv` are called so there too, `DotProductConv` is `DotGatConv`, `NodeLinear` is
    `torch.nn.Linear`, and `GCNConv` is `GraphConv`, with the same numbers where every edge has its reverse. The layers
    of a stack take theirs in the order of the state dict, whatever they are called there. With `combine="mean"` our
    layer is the mean of theirs over heads, `layer(g, x).mean(1)`.

    What arrays do not show is for you to match where a state dict is passed in place of its module: `negative_slope`,
    `activation`, `norm`, and a `residual` between equal widths, which has no weights.

    Args:
        module: built as theirs; its own parameters are of no account. It stays as it is.
        source: their module, or its `state_dict()`, of tensors or arrays.

    Raises:
        TypeError, ValueError: as `with_pyg_weights`.

    >>> from flax import nnx
    >>> layer = NodeLinear(2, 1, use_bias=False, rngs=nnx.Rngs(0))
    >>> with_dgl_weights(layer, {"weight": np.array([[3.0, 4.0]])}).projection.kernel[...].tolist()
    [[[3.0]], [[4.0]]]
    """
    return transplant(module, source, _PEERS)


def _gat(layer: Any, read: Weights) -> Iterator[Place]:
    yield from additive(layer, read, "fc", ("fc_src", "fc_dst"), ("attn_l", "attn_r"))
    _check_edges(layer, read)
    yield from _output(layer, read, read.get("bias"))


def _gatv2(layer: Any, read: Weights) -> Iterator[Place]:
    sent, received = read.get("fc_src.bias"), read.get("fc_dst.bias")
    yield from dynamic(layer, read, ("fc_src", "fc_dst"), "attn", sent, received)
    _check_edges(layer, read)
    yield from _output(layer, read, left_for_output(layer.sender_projection.bias, sent))


def _dot_gat(layer: Any, read: Weights) -> Iterator[Place]:
    """One projection is query, key and value."""
    _check_edges(layer, read)
    kernel = read.heads("fc.weight", layer.num_heads)
    for projection in (layer.query, layer.key, layer.value):
        yield Place(projection.kernel, kernel, "fc.weight")
    yield Place(layer.query.bias, None, "bias", BIAS)
    yield Place(kernel_of(layer.output.projection), None, "a residual", LINEAR)


def _graph_conv(layer: Any, read: Weights) -> Iterator[Place]:
    kernel = read.get("weight")
    yield Place(layer.projection.kernel, None if kernel is None else kernel[:, None], "weight")
    yield Place(layer.output.bias, read.get("bias"), "bias", BIAS)
    yield Place(kernel_of(layer.output.projection), None, "a residual", LINEAR)


def _check_edges(layer: Any, read: Weights) -> None:
    if layer.edge_features is not None:
        raise read.error("edge features", "are unknown there: build it without edge_features=...")


def _output(layer: Any, read: Weights, bias: np.ndarray | None) -> Iterator[Place]:
    """Here everything has all heads side by side."""
    residual = read.setting("res_fc", layer.output.residual or None)
    if (residual is None) != (not layer.output.residual):
        reason = "is missing" if residual is None else "has no place"
        raise read.error("res_fc", f"{reason}: build it with residual={residual is not None}")
    weight = read.get("res_fc.weight")
    kernel = None if weight is None else combined(layer, weight.T)
    kernel = None if kernel is None else kernel[:, None]
    yield Place(kernel_of(layer.output.projection), kernel, "res_fc.weight", LINEAR)
    total = combined(layer, summed(bias, read.get("res_fc.bias")))
    yield Place(layer.output.bias, total, "bias", BIAS)


def _settings(layer: Any) -> dict[str, tuple]:
    return {"leaky_relu.negative_slope": (layer.negative_slope,), "activation": (None,)}


_PEERS: dict[type, Peer] = {
    GATConv: Peer("attn_l", _gat, _settings),
    GATv2Conv: Peer("attn", _gatv2, _settings),
    DotProductConv: Peer("fc.weight", _dot_gat, lambda layer: {}),
    GCNConv: Peer(
        "weight", _graph_conv, lambda layer: {"_norm": ("both",), "_activation": (None,)}
    ),
    NodeLinear: LINEAR_LAYER,
}
