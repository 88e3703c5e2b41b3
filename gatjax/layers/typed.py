"""Layers on a `TypedGraph`: one layer for each relation, and linear maps of each type."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Unpack, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Bool, Float

from gatjax.graph.check import NodeMask, SideParts, check_mask
from gatjax.graph.messages import listed as listed_names
from gatjax.graph.typed import (
    Triple,
    TypedGraph,
    arrow,
    count_nodes,
    naming,
    relation_graph,
    require_typed,
)
from gatjax.layers.checks import check_widths
from gatjax.layers.dropout import Dropout
from gatjax.layers.options import RowOptions, listed
from gatjax.layers.parts import HeadProjection, Setup
from gatjax.layers.semantic import SemanticAttention
from gatjax.ops.sparse import Features, keep_rows

Combination = Literal["sum", "mean"]

# By relation and by type, each of a length of its own.
EdgeMasks = Mapping[Triple, Bool[ArrayLike, "_"] | None] | None
EdgeWeights = Mapping[Triple, Float[ArrayLike, "_"] | None] | None
NodeMasks = Mapping[str, Bool[ArrayLike, "_"] | None] | None


class TypedParts(NamedTuple):
    """What counts of a typed graph, and how much: by relation and by type; all of what is not named."""

    edge_mask: EdgeMasks = None
    edge_weight: EdgeWeights = None
    node_mask: NodeMasks = None

    def of(self, graph: TypedGraph, triple: Triple) -> SideParts:
        """The arguments of a layer on one relation, its senders included."""
        sender, _, receiver = triple
        edges, weights = self.edge_mask or {}, self.edge_weight or {}
        parts: SideParts = {
            "edge_mask": edges.get(triple),
            "edge_weight": weights.get(triple),
            "node_mask": self.nodes_of(receiver),
        }
        if sender != receiver:
            parts |= {"senders": graph.nodes[sender], "sender_mask": self.nodes_of(sender)}
        return parts

    def nodes_of(self, name: str) -> NodeMask:
        """The mask of a type."""
        return (self.node_mask or {}).get(name)

    def checked(self, graph: TypedGraph) -> "TypedParts":
        """The same, if each is a dictionary and all names are of the graph."""
        require_typed(graph)
        for field, part in self._asdict().items():
            of_nodes = field == "node_mask"
            known = graph.types if of_nodes else graph.triples
            if part is not None and not isinstance(part, Mapping):
                kind = "type of nodes" if of_nodes else "relation"
                example = f", such as {{{known[0]!r}: ...}}" if known else ""
                raise TypeError(
                    f"{field} must be a dictionary by {kind}{example}, got {type(part).__name__}"
                )
            for name in part or {}:
                if name not in known:
                    raise ValueError(f"{field} has {name!r}: the graph has {_names(known)}")
        for name, mask in (self.node_mask or {}).items():
            check_mask(count_nodes(graph, name), **{f"node_mask[{name!r}]": mask})
        return self


class TypedConv(nnx.Module):
    """One layer for each relation of a `TypedGraph`; what they make of a node is combined.

    ```
    h'_i = combine over the relations r that enter i's type of layer_r(h_i, {h_j : j -r-> i})
    ```

    A type that no relation with a layer enters keeps its rows. The layers have parameters and widths of their own; of a
    relation between two types, `in_features` is the pair (receivers, senders). The activation is the caller's.

    Args:
      layers: of each relation its layer, such as a `GATConv`; None for a relation that is left out.
      combine: "sum", "mean", or a `SemanticAttention`, which weighs the relations that enter a type.

    Raises:
      TypeError, ValueError: no layer, a relation that is no triple, an unknown `combine`; when called, relations of the
        graph without an entry, entries without a relation, layers into one type with outputs of several widths, and
        what a layer refuses, by relation.

    >>> from gatjax.graph import build_typed_graph
    >>> from gatjax.layers import GATConv
    >>> graph = build_typed_graph(
    ...     {"author": jnp.ones((2, 3)), "paper": jnp.ones((4, 5))},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 3]), ("paper", "by", "author"): ([0, 3], [0, 1])},
    ... )
    >>> width, rngs = {"author": 3, "paper": 5}, nnx.Rngs(0)
    >>> layer = TypedConv({(s, name, r): GATConv((width[r], width[s]), 8, rngs=rngs) for s, name, r in graph.triples})
    >>> layer(graph).nodes["paper"].shape, layer.attention(graph)["author", "writes", "paper"].shape
    ((4, 8), (2, 1))

    Schlichtkrull et al., Modeling Relational Data with Graph Convolutional Networks, ESWC 2018, add up what relations
    send; PyG's `HeteroConv` wraps layers in this way.
    """

    def __init__(
        self,
        layers: Mapping[Triple, Any],
        *,
        combine: Combination | SemanticAttention = "sum",
    ):
        if not any(layer is not None for layer in layers.values()):
            raise ValueError("layers is empty: give at least one relation a layer")
        for triple in layers:
            check_triple("layers", triple)
        known = isinstance(combine, str) and combine in get_args(Combination)
        if not known and not isinstance(combine, SemanticAttention):
            raise ValueError(
                f'combine must be "sum", "mean" or a SemanticAttention, got {combine!r}'
            )
        self.relations = tuple(sorted(layers))
        self.triples = tuple(t for t in self.relations if layers[t] is not None)
        self.layers = nnx.List([layers[triple] for triple in self.triples])
        self.combine = combine

    def __call__(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> TypedGraph:
        """The graph with new rows of the types that relations enter.

        Args:
          graph: one graph or a batch.
          edge_mask, edge_weight: by relation, what `GATConv` takes for its edges.
          node_mask: by type, the nodes that take part.
          deterministic, rngs: as in `GATConv`.
        """
        parts = self._checked(graph, edge_mask, edge_weight, node_mask)
        entering: dict[str, dict[Triple, Array]] = {}
        for triple, layer in zip(self.triples, self.layers, strict=True):
            with naming(arrow(triple)):
                one = relation_graph(graph, triple)
                out = layer(one, **parts.of(graph, triple), deterministic=deterministic, rngs=rngs)
            entering.setdefault(triple[2], {})[triple] = out.nodes
        combined = {
            name: self._combined(graph, name, rows, parts.nodes_of(name))
            for name, rows in entering.items()
        }
        return graph._replace(nodes={**graph.nodes, **combined})

    def attention(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
    ) -> dict[Triple, Float[Array, "_ H"]]:
        """The weights of the edges of each relation whose layer has attention; the arguments are those of the call."""
        parts = self._checked(graph, edge_mask, edge_weight, node_mask)
        return {
            triple: layer.attention(relation_graph(graph, triple), **parts.of(graph, triple))
            for triple, layer in zip(self.triples, self.layers, strict=True)
            if hasattr(layer, "attention")
        }

    def _checked(self, graph: TypedGraph, *parts: Any) -> TypedParts:
        check_relations_of(graph, self.relations, "None leaves it out")
        return TypedParts(*parts).checked(graph)

    def _combined(
        self, graph: TypedGraph, name: str, rows: dict[Triple, Array], node_mask: NodeMask
    ) -> Array:
        shapes = {arrow(triple): list(x.shape) for triple, x in rows.items()}
        if len(set(map(tuple, shapes.values()))) > 1:
            raise ValueError(
                f"what enters {name!r} has several shapes, {shapes}: give its layers one out_features"
            )
        stacked = jnp.stack(list(rows.values()), axis=1)
        if isinstance(self.combine, SemanticAttention):
            one = relation_graph(graph, next(iter(rows)))
            return self.combine(one, stacked, node_mask=node_mask)
        return stacked.sum(1) if self.combine == "sum" else stacked.mean(1)


class TypedLinear(nnx.Module):
    """A linear layer for each type of nodes, such as one that brings all types to one width.

    ```
    h'_i = W_τ h_i + b_τ        τ the type of i
    ```

    Args:
      in_features: of each type its width.
      out_features: width of the output, of all types.
      use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.
      dropout_rate: `DropoutRates`, of which `inputs` counts.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph({"author": jnp.ones((2, 3)), "paper": jnp.ones((4, 5))}, {})
    >>> layer = TypedLinear({"author": 3, "paper": 5}, 8, rngs=nnx.Rngs(0))
    >>> {name: rows.shape for name, rows in layer(graph).nodes.items()}
    {'author': (2, 8), 'paper': (4, 8)}
    """

    @listed(RowOptions, Setup)
    def __init__(
        self,
        in_features: Mapping[str, int],
        out_features: int,
        *,
        rngs: nnx.Rngs,
        **options: Unpack[RowOptions],
    ):
        self.types, widths = check_types(in_features)
        setup = Setup(out_features, out_features, rngs, **options)
        heads = setup.heads
        self.projections = nnx.List(
            [HeadProjection(width, heads, use_bias=setup.use_bias) for width in widths]
        )
        self.dropout = Dropout(setup.dropout_rate, rngs=rngs)

    def __call__(
        self,
        graph: TypedGraph,
        *,
        node_mask: NodeMasks = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Any,
    ) -> TypedGraph:
        """The graph with new rows of all types; edges change nothing."""
        counted = TypedParts(node_mask=node_mask).checked(graph)
        nodes = {}
        for name, projection in zip(self.types, self.projections, strict=True):
            rows = keep_rows(typed_rows(graph, name), counted.nodes_of(name))
            keys = self.dropout.keys(deterministic, rngs)
            nodes[name] = projection(self.dropout.inputs(rows, keys), name=f"nodes[{name!r}]")[:, 0]
        check_types_of(graph, self.types)
        return graph._replace(nodes=nodes)


def check_types(in_features: Mapping[str, int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The types in their order, and the width of each.

    Raises:
      TypeError, ValueError: no type, or a width that is no whole number from 1 on, by type.
    """
    if not isinstance(in_features, Mapping) or not in_features:
        raise TypeError(
            f'in_features must give the width of each type, such as {{"author": 334}}, got {in_features!r}'
        )
    check_widths(**{f"in_features[{name!r}]": width for name, width in in_features.items()})
    types = tuple(sorted(in_features))
    return types, tuple(in_features[name] for name in types)


def check_triple(field: str, triple: Any) -> Triple:
    """Refuse what is no triple of names.

    Raises:
      TypeError: it is none.
    """
    if not (isinstance(triple, tuple) and [type(part) for part in triple] == [str] * 3):
        raise TypeError(
            f"{field} must name relations by triples (sender type, name, receiver type), got {triple!r}"
        )
    return triple


def check_relations_of(graph: TypedGraph, relations: tuple[Triple, ...], remedy: str) -> None:
    """Refuse a graph with other relations than the layer was built for.

    Raises:
      ValueError: both are listed.
    """
    require_typed(graph)
    if graph.triples != relations:
        raise ValueError(
            f"the layer was built for {_names(relations)}, and the graph has {_names(graph.triples)}: give the layer "
            f"each relation of the graph, and no other ({remedy})"
        )


def check_types_of(graph: TypedGraph, types: tuple[str, ...]) -> None:
    """Refuse a graph with other types than the layer was built for.

    Raises:
      ValueError: both are listed.
    """
    require_typed(graph)
    if graph.types != types:
        raise ValueError(
            f"the layer was built for {_names(types)}, and the graph has {_names(graph.types)}: give in_features of "
            "each type of the graph, and no other"
        )


def typed_rows(graph: TypedGraph, name: str) -> Features:
    """The rows of a type, if it has one array of them.

    Raises:
      ValueError: it has none, or a tree of arrays.
    """
    rows = graph.nodes[name]
    if not isinstance(rows, Features):
        raise ValueError(
            f"a layer needs nodes[{name!r}] [N, F], an array or a BCOO, got {type(rows).__name__}; for a type "
            "without features, one number for each node, jnp.eye(N), or parameters of your own"
        )
    return rows


def _names(known: Any) -> str:
    return listed_names([name if isinstance(name, str) else arrow(name) for name in known], 50)
