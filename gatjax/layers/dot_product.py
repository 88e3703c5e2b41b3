"""Scaled dot-product attention over a graph."""

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.scores import dot_product_score
from gatjax.layers.conv import Mechanism, attention_of, convolve
from gatjax.layers.parts import (
    Combine,
    Dropout,
    DropoutRates,
    HeadOutput,
    HeadProjection,
    Keys,
    Mask,
    Normalize,
    check_normalize,
    glorot_uniform,
    make_heads,
)
from gatjax.ops.sparse import project


class DotProductConv(nnx.Module):
    """Scaled dot-product attention over a graph: query from the receiver, key and value from the sender.

    ```
    q_i  = W_q h_i + b_q        k_ij = W_k h_j + W_e e_ij        v_ij = W_v h_j + W_e e_ij
    e_ij = q_i · k_ij / sqrt(C)
    h'_i = combine_h(Σ_j softmax(e_ij) v_ij) + W_res h_i + b
    ```

    for every head. Edge features enter key and value alike, as in the unified message-passing model.
    A bias of the key would add the same to all logits of a receiver, and one of the value the same to all
    nodes with an edge: the first changes nothing, the second is b.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output, of all heads together.
      num_heads: H.
      combine: "concat" or "mean".
      edge_features: width of the edges' features, None if they have none.
      normalize: "softmax", "hardmax" or "straight_through" (see `gatjax.layers`).
      residual: adds the input, projected where the widths differ.
      use_bias: b on the output and b_q on the query.
      dropout_rate: of the attention weights, or `DropoutRates` for all three places.
      kernel_init: called once per head, with shape (F, C).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine` or `normalize`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> DotProductConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)).attention(graph).shape
    (2, 2)

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; with edges as in Shi et al., Masked Label
    Prediction, IJCAI 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        combine: Combine = "concat",
        edge_features: int | None = None,
        normalize: Normalize = "softmax",
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
        self.edge_features = edge_features
        self.normalize = check_normalize(normalize)
        self.query = HeadProjection(in_features, heads)
        self.key = HeadProjection(in_features, heads)
        self.value = HeadProjection(in_features, heads)
        self.query_bias = heads.zeros(num_heads, heads.features) if use_bias else None
        self.edge_kernel = None if edge_features is None else heads.kernel(edge_features)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine=combine, residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        nodes = self.dropout.inputs(graph, keys)
        query = self.query(nodes)
        if self.query_bias is not None:
            query += self.query_bias[...].astype(query.dtype)[None, :, :]
        senders = {"key": self.key(nodes), "value": self.dropout.projected(self.value(nodes), keys)}
        kernel = None if self.edge_kernel is None else self.edge_kernel[...].astype(query.dtype)
        return Mechanism(_query_key, _value_with_edge, kernel, query, senders, graph.edges)

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


def _query_key(edge_kernel, r, s, e):
    return dot_product_score(r, _with_edge(edge_kernel, s["key"], e))


def _value_with_edge(edge_kernel, r, s, e):
    return _with_edge(edge_kernel, s["value"], e)


def _with_edge(edge_kernel, row, e):
    return row if e is None else row + project(e.astype(row.dtype), edge_kernel)
