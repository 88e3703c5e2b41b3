"""Blocks of a graph transformer: a layer on the edges, one on all nodes, or both, and dense layers on each node."""

from functools import partial
from typing import Any, Literal, Unpack, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float
from jraph import GraphsTuple

from gatjax.graph.check import Parts
from gatjax.graph.virtual import EDGE_TYPES
from gatjax.layers.checks import check_dtypes, check_sizes
from gatjax.layers.counted import normalize_rows
from gatjax.layers.dropout import Dropout, DropoutRates
from gatjax.layers.inputs import node_features
from gatjax.layers.options import check_call
from gatjax.ops.blocks import mask_rows

Norm = Literal["batch", "layer"]
Order = Literal["post", "pre"]
NORMS: dict[str, Any] = {"batch": partial(nnx.BatchNorm, momentum=0.9), "layer": nnx.LayerNorm}


class TransformerBlock(nnx.Module):
    """A layer on the edges and one on all nodes, side by side, then dense layers on each node alone.

    ```
    l_i  = norm(h_i + drop(local(h)_i))                                 "post"
    a_i  = norm(h_i + drop(attention(h)_i))
    z_i  = l_i + a_i
    h'_i = norm(z_i + dense(z_i))
    ```

    where the part that is None is left out, and dense(z) = drop(W_2 drop(ReLU(W_1 z + b_1)) + b_2). Norms first are

    ```
    z_i  = h_i + drop(local(norm(h))_i) + drop(attention(norm(h))_i)    "pre"
    h'_i = z_i + dense(norm(z_i))
    ```

    Statistics of a batch are those of the nodes that take part, and running ones go a tenth of the way to them.

    Args:
      local: a layer features -> features, such as `GATConv`, or None.
      attention: the same, such as `GraphSelfAttention`, or `DotProductConv` on edges beyond neighbours, or None.
      features: width of the nodes.
      feed_forward: how many times as wide the hidden dense layer is.
      norm: "batch" or "layer".
      order: "post" or "pre".
      dropout_rate: of what each part adds, and of the hidden dense layer.
      dtype, param_dtype, rngs: as in `GATConv`.

    Raises:
      ValueError: neither part, an unknown norm or order, a rate outside [0, 1), a width below 1; when called outside
        `jax.jit` in training, batch statistics of a single node.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GATConv, GraphSelfAttention
    >>> rngs = nnx.Rngs(0)
    >>> local, attention = GATConv(4, 4, num_heads=2, rngs=rngs), GraphSelfAttention(4, 4, num_heads=2, rngs=rngs)
    >>> block = TransformerBlock(local, attention, 4, rngs=rngs)
    >>> block(build_graph([0, 1], [1, 2], jnp.eye(3, 4))).nodes.shape
    (3, 4)

    Rampášek et al., Recipe for a General, Powerful, Scalable Graph Transformer, NeurIPS 2022, is "post" with both parts
    and batch statistics. Their layer on edges is GINE, and any here.
    """

    def __init__(
        self,
        local: Any,
        attention: Any,
        features: int,
        *,
        feed_forward: int = 2,
        norm: Norm = "batch",
        order: Order = "post",
        dropout_rate: float = 0.0,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if local is None and attention is None:
            raise ValueError("local and attention are both None: give one of them, or both")
        for name, value, known in (("norm", norm, NORMS), ("order", order, get_args(Order))):
            if value not in known:
                raise ValueError(f"{name} must be one of {list(known)}, got {value!r}")
        check_sizes(features=features, feed_forward=feed_forward)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        numbers: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        make_norm = lambda: NORMS[norm](features, **numbers)
        self.order: Order = order
        self.local, self.whole = local, attention
        post = order == "post"
        self.local_norm = make_norm() if post and local is not None else None
        self.whole_norm = make_norm() if post and attention is not None else None
        self.first_norm = None if post else make_norm()
        self.last_norm = make_norm()
        self.wide = nnx.Linear(features, feed_forward * features, **numbers)
        self.narrow = nnx.Linear(feed_forward * features, features, **numbers)
        self.dropout = Dropout(DropoutRates(inputs=dropout_rate), rngs=rngs)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[Parts],
    ) -> GraphsTuple:
        """The graph with new node features; the arguments are those of `GATConv`."""
        check_call(self, parts)
        node_mask = parts.get("node_mask")
        how = {"deterministic": deterministic, "rngs": rngs}
        x = jnp.asarray(node_features(graph))
        counted = jnp.ones(len(x), bool) if node_mask is None else jnp.asarray(node_mask)
        self._check_statistics(counted, deterministic)
        x = mask_rows(x, counted)
        normed = lambda norm, rows: normalize_rows(norm, rows, counted, deterministic)
        drop = lambda rows: self._drop(rows, **how)
        added = lambda layer, rows: drop(
            jnp.asarray(layer(graph._replace(nodes=rows), **parts, **how).nodes)
        )
        sides = [(layer, norm) for layer, norm in self._sides() if layer is not None]
        if self.order == "pre":
            rows = normed(self.first_norm, x)
            z = x + sum(added(layer, rows) for layer, _ in sides)
            out = z + self._dense(normed(self.last_norm, z), drop)
        else:
            z = sum((normed(norm, x + added(layer, x)) for layer, norm in sides), jnp.zeros_like(x))
            out = normed(self.last_norm, z + self._dense(z, drop))
        return graph._replace(nodes=mask_rows(out, counted))

    def attention(self, graph: GraphsTuple, **parts: Unpack[Parts]) -> Float[Array, "E H"]:
        """The weights of the part that has them, aligned with the graph's edges; of `attention` where both do.

        Raises:
          ValueError: no part has weights of edges.
        """
        layer = next(
            (part for part in (self.whole, self.local) if hasattr(part, "attention")), None
        )
        if layer is None:
            raise ValueError(
                "neither part of the block has weights of edges: use DotProductConv on connect_all"
            )
        if self.first_norm is None:
            return layer.attention(graph, **parts)
        node_mask = parts.get("node_mask")
        x = jnp.asarray(node_features(graph))
        counted = jnp.ones(len(x), bool) if node_mask is None else jnp.asarray(node_mask)
        rows = normalize_rows(self.first_norm, mask_rows(x, counted), counted, True)
        return layer.attention(graph._replace(nodes=rows), **parts)

    def _sides(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        return (self.local, self.local_norm), (self.whole, self.whole_norm)

    def _dense(self, rows: Array, drop: Any) -> Array:
        return drop(self.narrow(drop(jax.nn.relu(self.wide(rows)))))

    def _drop(self, x: Array, deterministic: bool | None, rngs: nnx.Rngs | None) -> Array:
        return jnp.asarray(self.dropout.inputs(x, self.dropout.keys(deterministic, rngs)))

    def _check_statistics(self, counted: Bool[Array, "N"], deterministic: bool | None) -> None:
        norm = self.last_norm
        if not isinstance(norm, nnx.BatchNorm) or isinstance(counted, Tracer):
            return
        still = norm.use_running_average if deterministic is None else deterministic
        if not still and int(counted.sum()) == 1:
            raise ValueError(
                'one node has no deviation to divide by: take norm="layer", or larger batches'
            )


class OfTypes(nnx.Module):
    """A layer on the edges of some types alone.

    ```
    h' = layer(the edges whose type is among `types`)
    ```

    So that one graph holds the edges of the local layer of a block and those of its attention.

    Args:
      layer: any layer; where it was built without `edge_features`, it is given none.
      types: names out of `EDGE_TYPES`; the graph's features of edges are those of `edge_types`.

    Raises:
      ValueError: an unknown type, or none.

    >>> from gatjax.graph import build_graph, connect_all, edge_types
    >>> from gatjax.layers import GATConv
    >>> graph = edge_types(connect_all(build_graph([0], [1], jnp.eye(2))))
    >>> layer = OfTypes(GATConv(2, 2, rngs=nnx.Rngs(0)), ["own"])
    >>> layer.attention(graph).ravel().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, layer: Any, types: tuple[str, ...] | list[str]):
        for name in types:
            if name not in EDGE_TYPES:
                raise ValueError(f"types must be of {list(EDGE_TYPES)}, got {name!r}")
        if not types:
            raise ValueError(f"types is empty: give some of {list(EDGE_TYPES)}")
        self.layer, self.types = layer, tuple(types)
        self.edge_features = getattr(layer, "edge_features", None)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[Parts],
    ) -> GraphsTuple:
        """The graph with new node features; the arguments are those of the layer."""
        inner, kept = self._of_types(graph, parts)
        out = self.layer(inner, **kept, deterministic=deterministic, rngs=rngs)
        return graph._replace(nodes=out.nodes)

    def attention(self, graph: GraphsTuple, **parts: Unpack[Parts]) -> Float[Array, "E H"]:
        """The weights of the layer, 0 on edges of other types."""
        inner, kept = self._of_types(graph, parts)
        return self.layer.attention(inner, **kept)

    def _of_types(self, graph: GraphsTuple, parts: Parts) -> tuple[GraphsTuple, Parts]:
        edges: Any = graph.edges
        if not hasattr(edges, "ndim") or edges.ndim != 2 or edges.shape[1] < len(EDGE_TYPES):
            raise ValueError(
                "the graph's edges do not say what type they are: graph = edge_types(graph) first"
            )
        columns = jnp.asarray([EDGE_TYPES.index(name) for name in self.types])
        mask = (jnp.asarray(edges)[:, columns] > 0).any(1)
        given = parts.get("edge_mask")
        mask = mask if given is None else mask & jnp.asarray(given)
        inner = graph if self.edge_features is not None else graph._replace(edges=None)
        return inner, {**parts, "edge_mask": mask}
