"""The heterogeneous graph transformer."""

from collections.abc import Iterable, Mapping
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.graph.typed import Triple, TypedGraph
from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.hgt import HGTConv
from gatjax.layers.options import HGTOptions, listed, parameter_options
from gatjax.layers.typed import EdgeMasks, EdgeWeights, NodeMasks, TypedLinear


class HGT(nnx.Module):
    """Heterogeneous graph transformer: a linear layer for each type, `HGTConv` layers, and classes of one type.

    ```
    h^(0)   = tanh(W_τ h + b_τ)
    h^(l+1) = HGTConv_l(h^(l))
    ```

    A call returns the nodes of the type `target` with their outputs, as a graph without edges, so that what trains
    classifiers of nodes trains this one. `embeddings(graph)` are the rows of all types before the last linear layer.

    Args:
      in_features: of each type of nodes its width.
      out_features: number of classes, or width of the output.
      relations: the triples (sender type, name, receiver type).
      target: the type whose nodes are predicted.
      hidden_features: width of every type in every layer.
      num_layers: how many `HGTConv` there are.
      num_heads: H of each.
      rngs: random keys.
      **options: those of `HGTConv`.

    Raises:
      ValueError: a target that is no type, fewer than one layer, and what `HGTConv` refuses.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": jnp.ones((2, 3)), "paper": jnp.ones((4, 5))},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 3]), ("paper", "by", "author"): ([0, 3], [0, 1])},
    ... )
    >>> widths = {name: rows.shape[1] for name, rows in graph.nodes.items()}
    >>> model = HGT(widths, 7, relations=graph.triples, target="author", rngs=nnx.Rngs(0))
    >>> model(graph).nodes.shape
    (2, 7)

    Hu et al., Heterogeneous Graph Transformer, WWW 2020, without its encoding of time.
    """

    @listed(HGTOptions, HGTConv)
    def __init__(
        self,
        in_features: Mapping[str, int],
        out_features: int,
        *,
        relations: Iterable[Triple],
        target: str,
        hidden_features: int = 64,
        num_layers: int = 2,
        num_heads: int = 8,
        rngs: nnx.Rngs,
        **options: Unpack[HGTOptions],
    ):
        check_sizes(num_layers=num_layers, hidden_features=hidden_features)
        if target not in in_features:
            raise ValueError(
                f"target {target!r} is no type of in_features: it has {', '.join(in_features)}"
            )
        relations = tuple(relations)
        hidden = dict.fromkeys(in_features, hidden_features)
        parameters = parameter_options(options)
        self.target = target
        self.embed = TypedLinear(in_features, hidden_features, rngs=rngs, **parameters)
        self.layers = nnx.List(
            [
                HGTConv(
                    hidden,
                    hidden_features,
                    relations=relations,
                    num_heads=num_heads,
                    rngs=rngs,
                    **options,
                )
                for _ in range(num_layers)
            ]
        )
        self.last = NodeLinear(hidden_features, out_features, rngs=rngs, **parameters)

    def __call__(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        """The nodes of the type `target` and their outputs, a graph without edges.

        The arguments are those of `HGTConv`'s call, for all layers.
        """
        graph = self.embeddings(
            graph,
            edge_mask=edge_mask,
            edge_weight=edge_weight,
            node_mask=node_mask,
            deterministic=deterministic,
            rngs=rngs,
        )
        n_node, none = jnp.asarray(graph.n_node[self.target]), jnp.zeros(0, jnp.int32)
        nodes = graph.nodes[self.target]
        return self.last(GraphsTuple(nodes, None, none, none, None, n_node, 0 * n_node))

    def embeddings(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> TypedGraph:
        """The graph with the rows of all types as the last `HGTConv` leaves them.

        The arguments are those of the call.
        """
        parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        how = {"deterministic": deterministic, "rngs": rngs}
        graph = self._embedded(graph, node_mask)
        for layer in self.layers:
            graph = layer(graph, **parts, **how)
        return graph

    def attention(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
    ) -> tuple[dict[Triple, Float[Array, "_ H"]], ...]:
        """The weights of every layer, by relation, without dropout; the arguments are those of the call."""
        parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        weights, graph = [], self._embedded(graph, node_mask)
        for layer in self.layers:
            weights.append(layer.attention(graph, **parts))
            graph = layer(graph, **parts, deterministic=True)
        return tuple(weights)

    def _embedded(self, graph: TypedGraph, node_mask: NodeMasks) -> TypedGraph:
        graph = self.embed(graph, node_mask=node_mask)
        return graph._replace(nodes={name: jnp.tanh(h) for name, h in graph.nodes.items()})
