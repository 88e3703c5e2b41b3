"""Graph attention with dynamic scores (GATv2)."""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.scores import dynamic_score
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


class GATv2Conv(nnx.Module):
    """Graph attention with dynamic scores: the attention vector acts after the nonlinearity.

    ```
    e_ij  = a · LeakyReLU(W_r h_i + W_s h_j + W_e e_ij + b_a)
    α_ij  = softmax over the incoming edges j -> i of e_ij
    h'_i  = combine_h(Σ_j α_ij W_s h_j) + W_res h_i + b
    ```

    for every head; a and b_a [H, C], α [E, H]. The ranking of the senders depends on the receiver.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output, of all heads together.
      num_heads: H.
      combine: "concat" or "mean".
      edge_features: width of the edges' features, None if they have none.
      share_weights: W_r = W_s, half the parameters.
      negative_slope: of the LeakyReLU.
      normalize: "softmax", "hardmax" or "straight_through" (see `gatjax.layers`).
      residual: adds the input, projected where the widths differ.
      use_bias: b on the output and b_a in the score. PyG's biases of both projections are these two.
      dropout_rate: of the attention weights, or `DropoutRates` for all three places.
      kernel_init: called once per head, with shape (F, C) or (C, 1).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine` or `normalize`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GATv2Conv(3, 8, num_heads=2, share_weights=True, rngs=nnx.Rngs(0))(graph).nodes.shape
    (3, 8)

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        combine: Combine = "concat",
        edge_features: int | None = None,
        share_weights: bool = False,
        negative_slope: float = 0.2,
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
        self.negative_slope = negative_slope
        self.sender_projection = HeadProjection(in_features, heads)
        self.receiver_projection = None if share_weights else HeadProjection(in_features, heads)
        self.edge_kernel = None if edge_features is None else heads.kernel(edge_features)
        self.vector = heads.vector()
        self.score_bias = heads.zeros(num_heads, heads.features) if use_bias else None
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine=combine, residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        nodes = self.dropout.inputs(graph, keys)
        z = self.sender_projection(nodes)
        receivers = z if self.receiver_projection is None else self.receiver_projection(nodes)
        if self.score_bias is not None:
            receivers += self.score_bias[...].astype(z.dtype)[None, :, :]
        senders = {"row": z}
        if keys.projected is not None:
            senders["value"] = self.dropout.projected(z, keys)
        weights = {"vector": self.vector[...].astype(z.dtype)}
        if self.edge_kernel is not None:
            weights["edge_kernel"] = self.edge_kernel[...].astype(z.dtype)
        score = partial(_dynamic, negative_slope=self.negative_slope)
        return Mechanism(score, _row_or_value, weights, receivers, senders, graph.edges)

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


def _dynamic(weights, r, s, e, *, negative_slope):
    edge_row = None if e is None else project(e.astype(r.dtype), weights["edge_kernel"])
    return dynamic_score(r, s["row"], weights["vector"], edge_row, negative_slope=negative_slope)


def _row_or_value(weights, r, s, e):
    return s.get("value", s["row"])
