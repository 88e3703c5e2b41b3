"""The interface of a layer: its call and its attention, the same for all."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from flax import nnx
from jaxtyping import Array, Float, PyTree
from jraph import GraphsTuple

from gatjax.attention.attend import (
    RowFunction,
    attention_logits,
    attention_weights,
    graph_attention,
)
from gatjax.layers.parts import Dropout, Keys, Mask, edge_features, node_features
from gatjax.ops.sparse import Features


class Mechanism(NamedTuple):
    """What tells one layer from another: the first arguments of `graph_attention`, and a gate.

    The gate [N, H], where there is one, multiplies what each receiver's heads have summed up.
    """

    score: RowFunction
    value: RowFunction
    weights: PyTree
    receiver_rows: PyTree
    sender_rows: PyTree
    edge_rows: PyTree
    gate: Float[Array, "N H"] | None = None


@runtime_checkable
class Layer(Protocol):
    """What `convolve` asks of a layer; one that has a `normalize` uses it, the others the softmax."""

    num_heads: int
    edge_features: int | None
    dropout: Dropout

    @property
    def output(self) -> Callable[[Array, Features], Array]: ...

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism: ...


def convolve(
    layer: Layer,
    graph: GraphsTuple,
    edge_mask: Mask,
    deterministic: bool | None,
    rngs: nnx.Rngs | None,
) -> GraphsTuple:
    check_edge_features(layer, graph)
    keys = layer.dropout.keys(deterministic, rngs)
    *mechanism, gate = layer.mechanism(graph, edge_mask, keys)
    x = graph_attention(
        graph,
        *mechanism,
        edge_mask=edge_mask,
        multiplier=layer.dropout.attention(keys),
        normalize=getattr(layer, "normalize", "softmax"),
    )
    x = x if gate is None else x * gate[:, :, None]
    return graph._replace(nodes=layer.output(x, node_features(graph)))


def attention_of(layer: Layer, graph: GraphsTuple, edge_mask: Mask) -> Float[Array, "E H"]:
    check_edge_features(layer, graph)
    score, _, *rows, _ = layer.mechanism(graph, edge_mask, Keys())
    logits = attention_logits(graph, score, *rows)
    normalize = getattr(layer, "normalize", "softmax")
    return attention_weights(graph, logits, edge_mask, normalize=normalize)


def check_edge_features(layer: Layer, graph: GraphsTuple) -> None:
    if layer.edge_features is None and graph.edges is not None:
        raise ValueError(
            "the graph has edge features, but the layer was built without: pass edge_features=... to the "
            "layer, or drop them with graph._replace(edges=None)"
        )
    if layer.edge_features is not None and graph.edges is None:
        raise ValueError(
            f"the layer was built with edge_features={layer.edge_features}, but the graph has none (edges=None)"
        )
    if layer.edge_features is not None and edge_features(graph).shape[1:] != (layer.edge_features,):
        shape = list(edge_features(graph).shape)
        raise ValueError(f"expected edges of shape [E, {layer.edge_features}], got {shape}")
