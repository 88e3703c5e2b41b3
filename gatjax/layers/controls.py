"""Layers without attention: the controls of every claim about it."""

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.attend import attention_logits
from gatjax.graph.check import counted_edges
from gatjax.graph.sizes import num_nodes
from gatjax.layers.conv import Mechanism, attention_of, check_edge_features, convolve
from gatjax.layers.parts import (
    Combine,
    Dropout,
    DropoutRates,
    HeadOutput,
    HeadProjection,
    Keys,
    Mask,
    glorot_uniform,
    make_heads,
    node_features,
    sender_value,
)
from gatjax.ops.segment import segment_sum


class MeanConv(nnx.Module):
    """Project, then average the neighbours: attention with equal weights, the control of every layer here.

    ```
    h'_i = combine_h(1/|N(i)| Σ_{j -> i} W h_j) + W_res h_i + b
    ```

    With the widths, heads and dropout of a GAT it is that GAT with its attention held uniform (Const-GAT).

    Args:
      in_features: width F of the nodes.
      out_features: width of the output, of all heads together.
      num_heads: H.
      combine: "concat" or "mean".
      residual: adds the input, projected where the widths differ.
      use_bias: b, on the output.
      dropout_rate: of the attention weights, or `DropoutRates` for all three places.
      kernel_init: called once per head, with shape (F, C).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, a rate outside [0, 1), an unknown `combine`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> MeanConv(3, 4, rngs=nnx.Rngs(0)).attention(graph).tolist()
    [[0.5], [0.5]]
    """

    edge_features: int | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        combine: Combine = "concat",
        residual: bool = False,
        use_bias: bool = True,
        dropout_rate: float | DropoutRates = 0.0,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        heads = make_heads(out_features, num_heads, combine, kernel_init, dtype, param_dtype, rngs)
        self.num_heads = num_heads
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine=combine, residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        z = self.projection(self.dropout.inputs(graph, keys))
        senders = {"value": self.dropout.projected(z, keys)}
        return Mechanism(_uniform, sender_value, None, None, senders, None)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: Mask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        return convolve(self, graph, edge_mask, deterministic, rngs)

    def attention(self, graph: GraphsTuple, *, edge_mask: Mask = None) -> Float[Array, "E H"]:
        return attention_of(self, graph, edge_mask)


def _uniform(weights, r, s, e):
    return jnp.zeros_like(s["value"][:, :, 0])


class GCNConv(nnx.Module):
    """Graph convolution: fixed weights from the degrees, no attention.

    ```
    h'_i = Σ_{j -> i} W h_j / sqrt(d_i d_j) + b
    ```

    d_i is the number of incoming edges of i that the mask leaves; a sender without any counts as 1. The
    published layer has self-loops on every node (`add_self_loops`).

    Args:
      in_features: width F of the nodes.
      out_features: width of the output.
      residual: adds the input, projected where the widths differ.
      use_bias: b, on the output.
      dropout_rate: of the edges, or `DropoutRates` for all three places.
      kernel_init: called with shape (F, out_features).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: a rate outside [0, 1).

    >>> from gatjax.graph import add_self_loops, build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [1, 0], jnp.eye(2)))
    >>> print(jnp.round(10 * GCNConv(2, 4, rngs=nnx.Rngs(0)).attention(graph)[:, 0]))
    [5. 5. 5. 5.]

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """

    edge_features: int | None = None
    num_heads: int = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        residual: bool = False,
        use_bias: bool = True,
        dropout_rate: float | DropoutRates = 0.0,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        heads = make_heads(out_features, 1, "concat", kernel_init, dtype, param_dtype, rngs)
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine="concat", residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        z = self.projection(self.dropout.inputs(graph, keys))
        root = _root_degree(graph, edge_mask, z.dtype)
        senders = {"value": self.dropout.projected(z, keys) / root[:, None, None]}
        return Mechanism(_uniform, sender_value, None, None, senders, None, gate=root[:, None])

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: Mask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        return convolve(self, graph, edge_mask, deterministic, rngs)

    def attention(self, graph: GraphsTuple, *, edge_mask: Mask = None) -> Float[Array, "E 1"]:
        check_edge_features(self, graph)
        *_, gate = self.mechanism(graph, edge_mask, Keys())
        counted = counted_edges(graph, edge_mask)
        return attention_logits(graph, _inverse_product, counted, gate, gate)


def _root_degree(graph: GraphsTuple, edge_mask: Mask, dtype: DTypeLike) -> Float[Array, "N"]:
    counted = counted_edges(graph, edge_mask)
    ones = jnp.ones(counted.shape, jnp.promote_types(dtype, jnp.float32))
    receivers = jnp.asarray(graph.receivers).astype(jnp.int32)
    degree = segment_sum(ones, receivers, num_nodes(graph), mask=counted)
    return jnp.sqrt(jnp.maximum(degree, 1)).astype(dtype)


def _inverse_product(counted, r, s, e):
    return jnp.where(counted[:, None], 1 / (r * s), 0)


class NodeLinear(nnx.Module):
    """A linear layer on each node alone; the edges are ignored. The control without a graph.

    ```
    h'_i = W h_i + b
    ```

    Args:
      in_features: width F of the nodes.
      out_features: width of the output.
      use_bias: b, on the output.
      dropout_rate: of the edges, of which there are none, or `DropoutRates`, of which `inputs` counts.
      kernel_init: called with shape (F, out_features).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    >>> from gatjax.graph import build_graph
    >>> NodeLinear(3, 4, rngs=nnx.Rngs(0))(build_graph([], [], jnp.eye(3))).nodes.shape
    (3, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        dropout_rate: float | DropoutRates = 0.0,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        heads = make_heads(out_features, 1, "concat", kernel_init, dtype, param_dtype, rngs)
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine="concat", residual=False, use_bias=use_bias
        )

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: Mask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        nodes = self.dropout.inputs(graph, self.dropout.keys(deterministic, rngs))
        z = self.projection(nodes)
        return graph._replace(nodes=self.output(z, node_features(graph)))
