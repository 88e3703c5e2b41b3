"""Weights of PyTorch Geometric, which need not be installed, in layers and models of ours."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gatjax.layers.controls import GCNConv, NodeLinear
from gatjax.layers.dot_product import DotProductConv
from gatjax.layers.gat import GATConv
from gatjax.layers.gatv2 import GATv2Conv
from gatjax.layers.relational import RelationalGATConv
from gatjax.models.transplant import (
    BIAS,
    EDGES,
    LINEAR,
    LINEAR_LAYER,
    VALUE_BIAS,
    Module,
    Peer,
    Place,
    Weights,
    additive,
    combined,
    dynamic,
    first,
    kernel_of,
    left_for_output,
    per_head,
    summed,
    transplant,
)

_MESSAGES = {"aggr": ("add", "sum"), "flow": ("source_to_target",)}


def with_pyg_weights(module: Module, source: Any) -> Module:
    """A copy of a layer or a `Stack` with the weights of PyTorch Geometric's, which then gives the same numbers.

    `GATConv`, `GATv2Conv` and `GCNConv` are called so there too, `DotProductConv` is `TransformerConv`,
    `RelationalGATConv` is `RGATConv` and `NodeLinear` is `torch.nn.Linear`. The layers of a stack take theirs in the
    order of the state dict, whatever they are called there: `convs.0` and `convs.1` in PyG's `GAT`.

    What arrays do not show is for you to match: the activation of a stack; that GATConv, GATv2Conv and GCNConv of PyG
    add self-loops of their own (`add_self_loops(remove_self_loops(graph))`); and, where a state dict is passed in place
    of its module, `negative_slope`, `concat`, GCNConv's `improved` and RGATConv's `attention_mechanism`,
    `attention_mode` and `mod`. PyG's GATv2Conv and TransformerConv have a bias in their values, ours with
    `use_value_bias=True`; without, it goes to the bias of the output, which a node without incoming edges has here and
    not there.

    Args:
        module: built as theirs; its own parameters are of no account. It stays as it is.
        source: their module, or its `state_dict()`, of tensors or arrays.

    Raises:
        TypeError: a layer or a source that is none of these.
        ValueError: an array without a place, or the reverse, by name; a shape or a setting that differs.

    >>> from flax import nnx
    >>> layer = GCNConv(2, 3, use_bias=False, rngs=nnx.Rngs(0))
    >>> with_pyg_weights(layer, {"lin.weight": np.arange(6).reshape(3, 2)}).projection.kernel[...].tolist()
    [[[0.0, 2.0, 4.0]], [[1.0, 3.0, 5.0]]]
    """
    return transplant(module, source, _PEERS)


def _heads(layer: Any) -> dict[str, tuple]:
    """Settings of PyG's layers with heads; one head is its own mean."""
    concat = {} if layer.num_heads == 1 else {"concat": (layer.output.combine == "concat",)}
    return {"heads": (layer.num_heads,)} | concat | _MESSAGES


def _edges(layer: Any, read: Weights) -> Iterator[Place]:
    name = "lin_edge.weight"
    yield Place(kernel_of(layer.edge_projection), read.heads(name, layer.num_heads), name, EDGES)


def _output(
    layer: Any, read: Weights, residual: str, *biases: np.ndarray | None
) -> Iterator[Place]:
    """The residual of PyG, and in one bias all that is added at the end."""
    name = f"{residual}.weight"
    option = LINEAR if residual == "res" else f"{LINEAR}, or leave it out where root_weight=False"
    yield Place(kernel_of(layer.output.projection), read.heads(name, 1), name, option)
    yield Place(layer.output.bias, summed(read.get("bias"), *biases), "bias", BIAS)


def _gat(layer: Any, read: Weights) -> Iterator[Place]:
    yield from additive(layer, read, "lin", ("lin_src", "lin_dst"), ("att_src", "att_dst"))
    edge = layer.edge_term
    kernel = read.heads("lin_edge.weight", layer.num_heads)
    yield Place(None if edge is None else edge.projection.kernel, kernel, "lin_edge.weight", EDGES)
    vector = None if edge is None else edge.vector
    yield Place(vector, first(read.get("att_edge")), "att_edge", EDGES)
    yield from _output(layer, read, "res")


def _gatv2(layer: Any, read: Weights) -> Iterator[Place]:
    sent, received = read.get("lin_l.bias"), read.get("lin_r.bias")
    yield from dynamic(layer, read, ("lin_l", "lin_r"), "att", sent, received)
    yield from _edges(layer, read)
    left = left_for_output(layer.sender_projection.bias, combined(layer, sent))
    yield from _output(layer, read, "res", left)


def _transformer(layer: Any, read: Weights) -> Iterator[Place]:
    read.refuse("lin_beta.weight", "is the gate of beta=True, for which there is no place")
    for name in ("query", "key", "value"):
        kernel = read.heads(f"lin_{name}.weight", layer.num_heads)
        yield Place(getattr(layer, name).kernel, kernel, f"lin_{name}.weight")
    query, value = read.get("lin_query.bias"), read.get("lin_value.bias")
    yield Place(layer.query.bias, per_head(layer, query), "lin_query.bias", BIAS)
    if layer.value.bias is not None:
        yield Place(layer.value.bias, per_head(layer, value), "lin_value.bias", VALUE_BIAS)
    read.get("lin_key.bias")  # adds the same to all logits of a receiver
    yield from _edges(layer, read)
    skip = read.get("lin_skip.bias")
    if not read.setting("root_weight", True):  # there all the same, and unused
        read.get("lin_skip.weight")
        skip = None
    left = left_for_output(layer.value.bias, combined(layer, value))
    yield from _output(layer, read, "lin_skip", skip, left)


def _relational(layer: Any, read: Weights) -> Iterator[Place]:
    adds = layer.score == "additive"
    if not adds:
        read.refuse(
            "e", "multiplies the products by a term of the edge, for which there is no place"
        )
    yield from _edges(layer, read)
    for name in ("w", "l1", "b1", "l2", "b2"):
        read.get(name)  # of `mod`, unused without
    kernel = "weight" if layer.projection.coefficients is None else "basis"
    matrices = read.get(kernel)
    if matrices is not None:
        if matrices.ndim != 3:
            raise read.error(kernel, "is of num_blocks, for which there is no place")
        matrices = matrices.transpose(1, 0, 2)
        matrices = matrices.reshape(*matrices.shape[:2], layer.num_heads, -1)
    yield Place(layer.projection.kernel, matrices, kernel)
    mixing = read.get("att")
    yield Place(
        layer.projection.coefficients, None if mixing is None else mixing.T, "att", "num_bases=..."
    )
    if layer.edge_vector is not None or "e" in read.arrays:
        yield Place(layer.edge_vector, _of_own_head(layer, read, "e"), "e", EDGES)
    ends = (layer.receiver_vector, layer.sender_vector) if adds else (layer.query, layer.key)
    for parameter, name in zip(ends, "qk", strict=True):
        vectors = _of_own_head(layer, read, name)
        yield Place(parameter, vectors if adds else vectors[..., None], name)
    yield Place(layer.output.bias, read.get("bias"), "bias", BIAS)
    yield Place(kernel_of(layer.output.projection), None, "a residual", LINEAR)


def _of_own_head(layer: Any, read: Weights, name: str) -> np.ndarray:
    """[H·C, H], where each head reads all heads, as [R, H, C], where it reads its own; the same in all relations."""
    num_heads, matrix = layer.num_heads, read.get(name)
    if matrix is None or matrix.shape != (np.prod(layer.projection.kernel.shape[2:]), num_heads):
        got = None if matrix is None else list(matrix.shape)
        raise read.error(name, f"is {got}, not [H·C, H]: only dim=1 has a place")
    blocks = matrix.reshape(num_heads, -1, num_heads)
    own = np.eye(num_heads, dtype=bool)
    if np.any(np.moveaxis(blocks, 2, 1)[~own]):
        raise read.error(
            name, f"lets each of heads={num_heads} read all others; only heads=1 has a place"
        )
    vectors = np.moveaxis(blocks, 2, 1)[own]
    return np.broadcast_to(vectors, (layer.num_relations, *vectors.shape))


def _gcn(layer: Any, read: Weights) -> Iterator[Place]:
    yield Place(layer.projection.kernel, read.heads("lin.weight", 1), "lin.weight")
    yield Place(layer.output.bias, read.get("bias"), "bias", BIAS)
    yield Place(kernel_of(layer.output.projection), None, "a residual", LINEAR)


def _relational_settings(layer: Any) -> dict[str, tuple]:
    return {
        "attention_mechanism": (f"{layer.softmax}-relation",),
        "attention_mode": (f"{layer.score}-self-attention",),
        "mod": (None,),
        "negative_slope": (layer.negative_slope,),
    } | _heads(layer)


def _settings(layer: Any) -> dict[str, tuple]:
    return {"negative_slope": (layer.negative_slope,)} | _heads(layer)


_PEERS: dict[type, Peer] = {
    GATConv: Peer("att_src", _gat, _settings),
    GATv2Conv: Peer("att", _gatv2, _settings),
    DotProductConv: Peer("lin_query.weight", _transformer, _heads),
    RelationalGATConv: Peer("q", _relational, _relational_settings),
    GCNConv: Peer(
        "lin.weight", _gcn, lambda layer: {"improved": (False,), "normalize": (True,)} | _MESSAGES
    ),
    NodeLinear: LINEAR_LAYER,
}
