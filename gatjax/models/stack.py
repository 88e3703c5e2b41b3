"""Layers one after the other."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.graph.check import EdgeMask, EdgeWeight, NodeMask, SenderMask
from gatjax.graph.halo import Halo
from gatjax.graph.messages import shown
from gatjax.graph.sizes import num_edges, num_nodes
from gatjax.graph.views import View
from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.conv import Conv
from gatjax.layers.counted import normalize_rows
from gatjax.layers.dropout import Dropout
from gatjax.layers.inputs import InFeatures, node_features, side_parts, widths
from gatjax.models.names import find, name_of
from gatjax.ops.sparse import Features

_NONE: Mapping[str, Any] = MappingProxyType({})


class _Name(NamedTuple):
    """What stands in a pickle for a function."""

    name: str


class Stack(nnx.Module):
    """Layers one after the other, with an activation and an optional normalisation between them.

    ```
    h^(0)   = embed(h)                                         where there is one, else h
    h^(l+1) = dropout(activation(norm(layer_l(h^(l)))))        the last layer alone, without any
    ```

    Args:
      layers: modules GraphsTuple -> GraphsTuple, as in `gatjax.layers`.
      norms: one module per gap between layers, or None; rows in, rows out.
      activation: a function defined at module level; a lambda per model would compile every model anew.
      embed: a module like the layers, before them; nothing comes between it and the first.
      dropout: of the features that leave a layer, by its rate of `inputs`, or None.

    Raises:
      TypeError: what is no layer on graphs, such as `nnx.Linear`; an activation that is no function.
      ValueError: no layer, another number of norms than gaps, a rate of heads.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GATConv
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> rngs = nnx.Rngs(0)
    >>> model = Stack([GATConv(3, 8, num_heads=2, rngs=rngs), GATConv(8, 5, rngs=rngs)])
    >>> model(graph).nodes.shape, [alpha.shape for alpha in model.attention(graph)]
    ((3, 5), [(2, 2), (2, 1)])
    """

    def __init__(
        self,
        layers: Sequence[Any],
        *,
        norms: Sequence[Callable[[Array], Array]] | None = None,
        activation: Callable[[Array], Array] = jax.nn.elu,
        embed: Any = None,
        dropout: Dropout | None = None,
    ):
        if not layers:
            raise ValueError("layers is empty: a stack needs at least one layer")
        if norms is not None and len(norms) != len(layers) - 1:
            raise ValueError(
                f"{len(layers)} layers have {len(layers) - 1} gaps, got {len(norms)} norms"
            )
        if dropout is not None and dropout.rates.head_inputs:
            raise ValueError(
                f"dropout drops head_inputs={dropout.rates.head_inputs}, and between layers there are no heads: give "
                "that rate to the layers, and inputs= to this one"
            )
        embeds = {} if embed is None else {"embed": embed}
        named = {f"layers[{index}]": layer for index, layer in enumerate(layers)}
        for name, layer in (named | embeds).items():
            _check_layer(name, layer)
        if not callable(activation):
            raise TypeError(
                f"activation must be a function, such as nnx.elu, or nnx.identity for none, got {shown(activation)}"
            )
        self.layers = nnx.List(layers)
        self.norms = None if norms is None else nnx.List(norms)
        self.activation = activation
        self.embed = embed
        self.dropout = dropout

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        senders: Features | None = None,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        sender_mask: SenderMask = None,
        view: View | Sequence[View] | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        """The graph with the last layer's node features.

        The arguments are those of `GATConv`'s call, for all layers; a table of `senders` is the same for all. Of views
        there is one for all layers that read neighbours, or one for each, such as `Hops.views`: a layer sees the nodes
        that received in the one before. A `Halo` is for all layers.
        `deterministic` speaks for dropout and norms alike: True, a norm with running averages uses them and leaves them
        alone.
        """
        parts: Any = side_parts(senders, edge_mask, edge_weight, node_mask, sender_mask)
        how = {"deterministic": deterministic, "rngs": rngs}
        views = self._views(view, deterministic)
        graph = graph if self.embed is None else self.embed(graph, **parts, **_halo(view), **how)
        whole = graph
        for index, layer in enumerate(self.layers):
            graph, told = _told(whole, graph, parts, views[index])
            graph = layer(graph, **told, **how)
            if index == len(self.layers) - 1:
                break
            graph = self.between(index, graph, node_mask, deterministic)
            if self.dropout is not None:
                keys = self.dropout.keys(deterministic, rngs, views[index])
                graph = graph._replace(nodes=self.dropout.inputs(node_features(graph), keys))
        return graph

    def attention(
        self,
        graph: GraphsTuple,
        *,
        senders: Features | None = None,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        sender_mask: SenderMask = None,
        view: View | Sequence[View] | None = None,
    ) -> tuple[Float[Array, "walked H"], ...]:
        """The attention weights of every layer that has them, aligned with the graph's edges, or those of its view.

        Dropout is off, and a normalisation with running statistics uses them and leaves them alone.
        """
        weights = []
        parts: Any = side_parts(senders, edge_mask, edge_weight, node_mask, sender_mask)
        views, how = self._views(view, True), {"deterministic": True}
        graph = graph if self.embed is None else self.embed(graph, **parts, **_halo(view), **how)
        whole = graph
        for index, layer in enumerate(self.layers):
            graph, told = _told(whole, graph, parts, views[index])
            if hasattr(layer, "attention"):
                weights.append(layer.attention(graph, **told))
            if index < len(self.layers) - 1:
                graph = layer(graph, **told, deterministic=True)
                graph = self.between(index, graph, node_mask, deterministic=True)
        return tuple(weights)

    def _views(
        self, view: View | Sequence[View] | None, deterministic: bool | None
    ) -> list[View | None]:
        """The view of each layer; None where there is none, and for those that read no neighbours, but of a shard."""
        if isinstance(view, Halo):
            self._check_shard(deterministic)
            return [view] * len(self.layers)
        walking = [view is not None and isinstance(layer, Conv) for layer in self.layers]
        views = list(view) if isinstance(view, Sequence) else [view] * sum(walking)
        if len(views) != sum(walking):
            raise ValueError(
                f"view must be one, or one for each of the {sum(walking)} layers that read neighbours, got {len(views)}"
            )
        left = iter(views)
        return [next(left) if walks else None for walks in walking]

    def _check_shard(self, deterministic: bool | None) -> None:
        """Refuse what reads more of the graph than a shard and its halo hold."""
        for layer in (self.embed, *self.layers):
            if not isinstance(layer, Conv | NodeLinear | None):
                raise ValueError(
                    f"a {type(layer).__name__} cannot run on a shard: layers of a sharded model read the neighbours of "
                    "a node, such as GATConv, or the node alone, NodeLinear"
                )
        for norm in self.norms or ():
            known = getattr(norm, "use_running_average", None)
            if known is not None and not (known if deterministic is None else deterministic):
                raise ValueError(
                    f"a {type(norm).__name__} averages over all nodes, and a shard has some: take nnx.LayerNorm, or "
                    "pass deterministic=True"
                )

    def between(
        self, index: int, graph: GraphsTuple, node_mask: NodeMask, deterministic: bool | None
    ) -> GraphsTuple:
        """What comes after a layer and before the next: the norm and the activation."""
        nodes = jnp.asarray(graph.nodes)
        if self.norms is not None:
            mask = _first(node_mask, len(nodes))
            nodes = normalize_rows(self.norms[index], nodes, mask, deterministic)
        return graph._replace(nodes=self.activation(nodes))

    def __getstate__(self) -> dict[str, Any]:
        """For pickles: the activation by its name, since a jitted function cannot be pickled."""
        name = name_of(self.activation)
        return vars(self) | {"activation": self.activation if name is None else _Name(name)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state["activation"]
        activation = find(stored.name) if isinstance(stored, _Name) else stored
        vars(self).update(state | {"activation": activation})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> "Stack":
        """Arrays are copied, functions are not: the copy shares what is compiled for this model."""
        graphdef, state = nnx.split(self)
        return nnx.merge(graphdef, copy.deepcopy(state, memo))


def _told(
    whole: GraphsTuple, graph: GraphsTuple, parts: dict[str, Any], view: View | None
) -> tuple[GraphsTuple, dict[str, Any]]:
    """The graph and the parts that a layer is given.

    Args:
      whole: the graph that the model was given, of whose edges a view takes those that it walks.
      graph: what the layer before has returned; where that had a view, the first nodes are left, and fewer edges.
      parts: masks and weights of the whole graph.
      view: of the layer.
    """
    nodes, edges = num_nodes(graph), num_edges(graph)
    if view is not None:
        graph = whole._replace(nodes=graph.nodes, n_node=graph.n_node)
        return graph, {**parts, "node_mask": _first(parts["node_mask"], nodes), "view": view}
    rows = {"node_mask": nodes, "edge_mask": edges, "edge_weight": edges}
    return graph, parts | {name: _first(parts[name], count) for name, count in rows.items()}


def _halo(view: View | Sequence[View] | None) -> dict[str, Any]:
    """The view as an argument of a layer on each row alone, which is of all rows of a shard, but not of a sample."""
    return {"view": view} if isinstance(view, Halo) else {}


def _first(table: Any, count: int) -> Any:
    return table if table is None or len(table) == count else table[:count]


def _check_layer(name: str, layer: Any) -> None:
    """Refuse what cannot be called as a layer, on a graph and with what counts of it."""
    if isinstance(layer, type):
        raise TypeError(
            f"{name} must be a layer, got the class {layer.__name__}: make one, as in {layer.__name__}(...)"
        )
    parts = side_parts(None, None, None, None, None)
    if not _takes(layer, None, **parts, deterministic=None, rngs=None):
        got = getattr(layer, "__name__", type(layer).__name__)
        raise TypeError(
            f"{name} must be a layer, called with a graph, masks, edge_weight, deterministic and rngs, got {got}: for "
            "nnx.Linear take NodeLinear; what comes between layers is given as activation=nnx.elu, norms=, dropout="
        )


def _takes(function: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a function can be called with these arguments, as far as its signature is known."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def beside_senders(width: int, in_features: InFeatures) -> InFeatures:
    """The width of a layer's nodes, beside that of the senders, where they have a table of their own."""
    return (width, widths(in_features).senders) if isinstance(in_features, tuple | list) else width


def build_stack(
    layer: Callable[..., nnx.Module],
    in_features: InFeatures,
    out_features: int,
    *,
    hidden: Mapping[str, Any] = _NONE,
    last: Mapping[str, Any] = _NONE,
    hidden_features: int = 64,
    num_layers: int = 2,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    rngs: nnx.Rngs,
    **shared: Any,
) -> Stack:
    """Layers of one kind: hidden ones of one width, and a last one.

    Args:
      layer: `layer(in_features, out_features, **options, rngs=rngs)`.
      in_features: width F of the nodes, or the pair (receivers, senders) for a table of senders that all layers read.
      out_features: width of the last layer's output.
      hidden: options of the hidden layers alone.
      last: options of the last layer alone.
      hidden_features: width of each hidden layer's output, all heads together.
      num_layers: how many layers, the last one included.
      norm: between layers, called as `norm(features, rngs=rngs)`.
      activation: between layers, after the norm.
      rngs: random keys.
      **shared: options of all layers.

    Raises:
      TypeError: a norm that cannot be called so, such as one that is built already.
      ValueError: fewer than one layer.
    """
    check_sizes(num_layers=num_layers, hidden_features=hidden_features)
    if norm is not None and not _takes(norm, hidden_features, rngs=rngs):
        raise TypeError(
            f"norm must be called as norm(features, rngs=rngs), such as nnx.LayerNorm, a class, got {shown(norm)}"
        )
    deeper = beside_senders(hidden_features, in_features)
    of_layers = [in_features] + [deeper] * (num_layers - 1)
    layers = [
        layer(width, hidden_features, **hidden, **shared, rngs=rngs) for width in of_layers[:-1]
    ]
    layers.append(layer(of_layers[-1], out_features, **last, **shared, rngs=rngs))
    norms = None if norm is None else [norm(hidden_features, rngs=rngs) for _ in layers[1:]]
    return Stack(layers, norms=norms, activation=activation)
