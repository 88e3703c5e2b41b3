"""The models of `transformers.py`: blocks that differ in the edges they attend to, and in what they know of nodes."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax import (
    EDGE_TYPES,
    DotProductConv,
    GATConv,
    GraphReadout,
    GraphSelfAttention,
    MeanConv,
    NodeLinear,
    OfTypes,
    Stack,
    TransformerBlock,
)


class LookupEmbed(nnx.Module):
    """Keys and values of a node, each by a vector of its own, added up."""

    def __init__(self, count: int, features: int, *, rngs: nnx.Rngs):
        self.keys = nnx.Embed(count, features, rngs=rngs)
        self.values = nnx.Embed(count, features, rngs=rngs)

    def __call__(self, graph: GraphsTuple, **options: Any) -> GraphsTuple:
        """The graph with embedded nodes."""
        keys, values = jnp.asarray(graph.nodes).T
        return graph._replace(nodes=self.keys(keys) + self.values(values))


def everywhere(width: int, heads: int, rngs: nnx.Rngs) -> DotProductConv:
    """Dot-product attention over all edges, whose types are added to the logits."""
    typed: dict[str, Any] = {"edge_features": len(EDGE_TYPES), "edges_in": "logit"}
    return DotProductConv(width, width, num_heads=heads, **typed, rngs=rngs)


def block(
    kind: str, width: int, heads: int, rngs: nnx.Rngs, max_nodes: int | None = None
) -> TransformerBlock:
    """A block by what it attends to.

    "edges", whatever they are; of edges with types all, "typed", in its logits, or "beside" a mean over its own; or
    without edges "all" nodes.
    """
    known: dict[str, Any] = {
        "edges": lambda: (DotProductConv(width, width, num_heads=heads, rngs=rngs), None),
        "typed": lambda: (None, everywhere(width, heads, rngs)),
        "all": lambda: (
            None,
            GraphSelfAttention(width, width, num_heads=heads, max_nodes=max_nodes, rngs=rngs),
        ),
        "beside": lambda: (
            OfTypes(MeanConv(width, width, num_heads=heads, rngs=rngs), ["own"]),
            everywhere(width, heads, rngs),
        ),
    }
    on_edges, on_all = known[kind]()
    return TransformerBlock(on_edges, on_all, width, norm="layer", order="pre", rngs=rngs)


def of_nodes(
    kinds: tuple[str, ...], in_features: int, classes: int, width: int, heads: int, rngs: nnx.Rngs
) -> Stack:
    """Blocks of these kinds, and a class for each node."""
    embed = NodeLinear(in_features, width, rngs=rngs)
    blocks = [block(kind, width, heads, rngs) for kind in kinds]
    return Stack([*blocks, NodeLinear(width, classes, rngs=rngs)], activation=as_it_is, embed=embed)


def of_trees(
    kinds: tuple[str, ...], nodes: int, leaves: int, width: int, heads: int, rngs: nnx.Rngs
) -> Stack:
    """Blocks of these kinds, and a class for the root."""
    embed = LookupEmbed(leaves + 1, width, rngs=rngs)
    blocks = [block(kind, width, heads, rngs, nodes) for kind in kinds]
    readout = GraphReadout(width, leaves, pool="first", rngs=rngs)
    return Stack([*blocks, readout], activation=as_it_is, embed=embed)


def of_graphs(
    layer: str, in_features: int, classes: int, width: int, heads: int, layers: int, rngs: nnx.Rngs
) -> Stack:
    """Layers of one kind with batch statistics between them, and a class for the graph."""
    kind = {"gat": GATConv, "dot": DotProductConv}[layer]
    widths = [in_features, *[width] * (layers - 1)]
    convs = [kind(each, width, num_heads=heads, rngs=rngs) for each in widths]
    readout = GraphReadout(width, classes, rngs=rngs)
    norms = [nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for _ in convs]
    return Stack([*convs, readout], norms=norms)


def as_it_is(x: Any) -> Any:
    """Between blocks nothing happens."""
    return x
