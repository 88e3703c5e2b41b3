"""Layers without attention: the controls of every claim about it."""

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.graph.check import EdgeMask, check_edge_features, check_edges, node_features
from gatjax.graph.sizes import num_nodes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.parts import (
    Combine,
    Dropout,
    DropoutRates,
    HeadInit,
    HeadOutput,
    HeadProjection,
    Keys,
    features_per_head,
    glorot_uniform,
    sender_value,
)
from gatjax.ops.blocks import gather
from gatjax.ops.ends import Ends
from gatjax.ops.segment import segment_sum


class MeanConv(Conv):
    """Project, then average the neighbours: attention with equal weights, the control of every layer here.

    ```
    h'_i = combine_h(1/|N(i)| Σ_{j -> i} W h_j) + W_res h_i + b
    ```

    With the widths, heads and dropout of a GAT it is that GAT with its attention held uniform (Const-GAT).

    Args:
      in_features, out_features, num_heads, combine, residual, use_bias, dropout_rate, kernel_init, dtype, param_dtype,
        rngs: as in `GATConv`.

    Raises:
      ValueError: as `GATConv`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> MeanConv(3, 4, rngs=nnx.Rngs(0)).attention(graph).tolist()
    [[0.5], [0.5]]
    """

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
        features = features_per_head(out_features, num_heads, combine)
        heads = HeadInit(num_heads, features, kernel_init, dtype, param_dtype, rngs)
        self.num_heads = num_heads
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine=combine, residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, ends: Ends, keys: Keys) -> Mechanism:
        z = self.projection(self.dropout.inputs(graph, keys))
        senders = {"value": self.dropout.projected(z, keys)}
        return Mechanism(_uniform, sender_value, Rows(None, None, senders, None))


def _uniform(weights, r, s, e):
    return jnp.zeros_like(s["value"][:, :, 0])


class GCNConv(Conv):
    """Graph convolution: fixed weights from the degrees, no attention.

    ```
    h'_i = Σ_{j -> i} W h_j / sqrt(d_i d_j) + b
    ```

    d_i is the number of incoming edges of i that the mask leaves; a sender without any counts as 1. The
    published layer has self-loops on every node (`add_self_loops`).

    Args:
      in_features, out_features, residual, use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`, with one
        head.
      dropout_rate: of the edges, or `DropoutRates` for its four places.

    Raises:
      ValueError: a rate outside [0, 1).

    >>> from gatjax.graph import add_self_loops, build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [1, 0], jnp.eye(2)))
    >>> print(jnp.round(10 * GCNConv(2, 4, rngs=nnx.Rngs(0)).attention(graph)[:, 0]))
    [5. 5. 5. 5.]

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """

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
        heads = HeadInit(1, out_features, kernel_init, dtype, param_dtype, rngs)
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine="concat", residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, ends: Ends, keys: Keys) -> Mechanism:
        z = self.projection(self.dropout.inputs(graph, keys))
        root = _root_degree(ends, num_nodes(graph), z.dtype)
        senders = {"value": self.dropout.projected(z, keys) / root[:, None, None]}
        rows = Rows(None, None, senders, None)
        return Mechanism(_uniform, sender_value, rows, gate=root[:, None])

    def attention(self, graph: GraphsTuple, *, edge_mask: EdgeMask = None) -> Float[Array, "E 1"]:
        """The weights 1 / sqrt(d_i d_j), aligned with the graph's edges; 0 on an edge that does not count."""
        ends = check_edges(graph, edge_mask)
        check_edge_features(graph, self.edge_features)
        root = self.mechanism(graph, ends, Keys()).gate
        product = gather(root, ends.receivers) * gather(root, ends.senders)
        return jnp.where(ends.counted[:, None], 1 / product, 0)


def _root_degree(ends: Ends, num_nodes: int, dtype: DTypeLike) -> Float[Array, "N"]:
    ones = jnp.ones(ends.counted.shape, jnp.promote_types(dtype, jnp.float32))
    degree = segment_sum(ones, ends.receivers, num_nodes, mask=ends.counted)
    return jnp.sqrt(jnp.maximum(degree, 1)).astype(dtype)


class NodeLinear(nnx.Module):
    """A linear layer on each node alone; the edges are ignored. The control without a graph.

    ```
    h'_i = W h_i + b
    ```

    Args:
      in_features, out_features, use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`, with one head.
      dropout_rate: of the edges, of which there are none, or `DropoutRates`, of which `inputs` counts.

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
        heads = HeadInit(1, out_features, kernel_init, dtype, param_dtype, rngs)
        self.projection = HeadProjection(in_features, heads)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine="concat", residual=False, use_bias=use_bias
        )

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        nodes = self.dropout.inputs(graph, self.dropout.keys(deterministic, rngs))
        z = self.projection(nodes)
        return graph._replace(nodes=self.output(z, node_features(graph)))
