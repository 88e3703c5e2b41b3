"""Attention as the edge step of a graph network.

Battaglia et al. leave the edge update φ^e open. Attention is one choice of it: every edge has a logit and a value per
head, computed from its own rows alone, and the edges that share a receiver are weighed against one another.

```
q_k = W_q v_rk          K_k = W_K [v_sk ‖ e_k]          V_k = W_V [v_sk ‖ e_k]
b_k = softmax over the edges k with the same receiver of scale · q_k · K_k
e'_k = b_k V_k
```

Textbooks call this tensor-dot attention on edges, after Zhang et al. (GaAN): q, K and V are their equations 4.13 to
4.15, the softmax of q · K / sqrt(d) and its product with V 4.16 to 4.18. Written there as a contraction of b with V, it
is one product per edge, since the sum over neighbours follows. What GaAN has beyond that, gates and values that are not
linear, is in `GaANConv`.

`AttentionEdgeStep` is the first line, a function of rows for `GraphNetwork`, which does the rest and keeps the updated
edges e' [E, H, C].
"""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.scores import dot_product_score
from gatjax.attention.steps import Normalize, RowFunction, Temperature, normalized
from gatjax.graph.check import (
    EdgeMask,
    EdgeWeight,
    NodeMask,
    check_edges,
    check_lengths,
)
from gatjax.graph.sizes import is_unknown, num_edges, num_nodes
from gatjax.layers.checks import (
    check_dtypes,
    check_finite,
    check_in_features,
    check_sizes,
    check_widths,
)
from gatjax.layers.inputs import InFeatures, widths
from gatjax.layers.parts import HeadInit, HeadProjection, Linear, glorot_uniform
from gatjax.ops.blocks import mask_rows
from gatjax.ops.ends import Ends


class Attended(NamedTuple):
    """What an edge update returns for attention: a logit and a value per edge and head, before the softmax.

    Attributes:
      logits: `[E, H]`, or `[E]`.
      values: `[E, H, C]`, or `[E, C]`.
    """

    logits: Float[Array, "E *H"]
    values: Float[Array, "E *H C"]


def attend_edges(
    graph: GraphsTuple,
    edges: Attended,
    edge_mask: EdgeMask = None,
    *,
    edge_weight: EdgeWeight = None,
    node_mask: NodeMask = None,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
) -> Float[Array, "E *H C"]:
    """The updated edges of attention, before they are added up.

    ```
    e'_k = w_k b_k V_k,     b = softmax over the edges that share a receiver
    ```

    Args:
      graph: gives the edges.
      edges: logits `[E, H]` and values `[E, H, C]`.
      edge_mask: edges that take part, `[E]`; all by default.
      edge_weight: w, how much each edge counts, `[E]`; 1 by default.
      node_mask: nodes that take part, `[N]`, and with them their edges; all by default.
      normalize, temperature: as in `attention_weights`.

    Returns:
      `[E, H, C]`; 0 for an edge that does not count.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> attend_edges(graph, Attended(jnp.zeros((2, 1)), jnp.array([[[2.0]], [[6.0]]]))).ravel().tolist()
    [1.0, 3.0]

    The chapter that writes this as a contraction of b with V, and sums again afterwards, adds the neighbours twice.
    """
    check_lengths(num_edges(graph), logits=edges.logits, values=edges.values)
    ends = check_edges(graph, edge_mask, edge_weight=edge_weight, node_mask=node_mask)
    return weigh(edges, ends, num_nodes(graph), normalize, temperature)


def weigh(
    edges: Attended,
    ends: Ends,
    num_receivers: int,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
) -> Float[Array, "E *H C"]:
    """`attend_edges` where the edges have been checked."""
    logits, values = jnp.asarray(edges.logits), jnp.asarray(edges.values)
    weights = normalized(logits, ends, num_receivers, normalize, temperature)
    values = mask_rows(values, ends.counted)
    return ends.weigh(weights)[..., None].astype(values.dtype) * values


class AttentionEdgeStep(nnx.Module):
    """The edge update of attention: one query, key and value per edge and head, from the rows of that edge.

    ```
    q_k = W_q v_rk + U_q u + b_q        K_k = W_K v_sk + A_K e_k        V_k = W_V v_sk + A_V e_k + U_V u
    logit_k = scale · q_k · K_k
    ```

    q, K, V [E, H, C]; the receiver asks, sender and edge answer. A matrix on [sender ‖ edge] is the sum of one for
    each part. The globals u reach query and value; in the key they would add the same to all logits of a receiver,
    which the softmax ignores.

    Args:
      in_features: width F of the nodes, or the pair (receivers, senders).
      head_features: C, per head.
      num_heads, edge_features, dtype, param_dtype, rngs: as in `GATConv`.
      global_features: width of the globals, None if they are not read.
      scale: of the logits; `1/sqrt(C)` by default, 1.0 for unscaled dot products.
      use_bias: b_q.
      kernel_init: called once per head, with shape (width, C).

    Raises:
      ValueError: no head; when called, edge features that it was not built for, or the reverse.

    >>> step = AttentionEdgeStep(3, 4, num_heads=2, rngs=nnx.Rngs(0))
    >>> update = step(None, senders=jnp.ones((5, 3)), receivers=jnp.ones((5, 3)))
    >>> update.logits.shape, update.values.shape
    ((5, 2), (5, 2, 4))
    """

    def __init__(
        self,
        in_features: InFeatures,
        head_features: int,
        *,
        num_heads: int = 1,
        edge_features: int | None = None,
        global_features: int | None = None,
        scale: float | None = None,
        use_bias: bool = True,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_in_features(in_features)
        check_widths(head_features=head_features, num_heads=num_heads)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        check_sizes(edge_features=edge_features, global_features=global_features)
        check_finite(scale=scale)
        heads = HeadInit(num_heads, head_features, kernel_init, dtype, param_dtype, rngs)
        self.edge_features = edge_features
        self.global_features = global_features
        self.scale = scale
        width = widths(in_features)
        self.query = HeadProjection(width.receivers, heads, use_bias=use_bias)
        self.key = HeadProjection(width.senders, heads)
        self.value = HeadProjection(width.senders, heads)
        self.edge_key, self.edge_value = _pair(heads, edge_features)
        self.global_query, self.global_value = _pair(heads, global_features)

    @property
    def score(self) -> RowFunction:
        """The score of a query and a key with its edge, for `graph_attention`."""
        return partial(_score, scale=self.scale)

    def queries(self, receivers: Any, globals: Any = None) -> Float[Array, "rows H C"]:
        """The queries of receivers, and of the globals of their graphs."""
        return _plus(self.query(receivers), self.global_query, globals)

    def values(self, senders: Any, globals: Any = None) -> Float[Array, "rows H C"]:
        """The values of senders, and of the globals of their graphs; without the edges' share."""
        return _plus(self.value(senders), self.global_value, globals)

    def edge_weights(self, dtype: DTypeLike) -> dict[str, Linear] | None:
        """The maps that act on the edges' own features."""
        if self.edge_key is None or self.edge_value is None:
            return None
        return {"key": self.edge_key.linear(dtype), "value": self.edge_value.linear(dtype)}

    def __call__(
        self,
        edges: Float[Array, "E D"] | None,
        senders: Float[Array, "E F"],
        receivers: Float[Array, "E F"],
        globals: Float[Array, "E K"] | None = None,
    ) -> Attended:
        """Logits and values of every edge, from the rows of the edge, of its ends and of its graph."""
        if not len(senders) and is_unknown(edges):
            edges = None if self.edge_features is None else jnp.zeros((0, self.edge_features))
        if (edges is None) != (self.edge_features is None):
            raise ValueError(
                f"the step was built with edge_features={self.edge_features}, and got "
                f"{'no edge features' if edges is None else 'some'}: both must have them, or neither"
            )
        if globals is None and self.global_features is not None:
            raise ValueError(
                f"the step was built with global_features={self.global_features}, and got none: give the graph "
                "globals [G, K], or build the step without"
            )
        if edges is not None and np.shape(edges)[1:] != (self.edge_features,):
            raise ValueError(
                f"edges must be [E, {self.edge_features}], as wide as the step was built for, got "
                f"{list(np.shape(edges))}"
            )
        query = self.queries(receivers, globals)
        sent = {"key": self.key(senders), "value": self.values(senders, globals)}
        weights = self.edge_weights(query.dtype)
        return Attended(
            self.score(weights, query, sent, edges), value_with_edge(weights, query, sent, edges)
        )


def _pair(
    heads: HeadInit, width: int | None
) -> tuple[HeadProjection, HeadProjection] | tuple[None, None]:
    """Two maps of the same rows, or none where there are no rows."""
    if width is None:
        return None, None
    return HeadProjection(width, heads), HeadProjection(width, heads)


def _plus(z: Array, projection: HeadProjection | None, globals: Any) -> Array:
    return z if projection is None else z + projection(globals, name="globals").astype(z.dtype)


def _score(weights, r, s, e, *, scale):
    return dot_product_score(r, _with_edge("key", weights, s, e), scale=scale)


def value_with_edge(weights, r, s, e):
    return _with_edge("value", weights, s, e)


def _with_edge(part, weights, s, e):
    row = s[part]
    return row if weights is None else row + weights[part](e)
