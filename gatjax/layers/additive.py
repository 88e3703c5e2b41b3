"""Additive attention over a graph."""

from typing import Any, Unpack

from flax import nnx
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.scores import bahdanau_score
from gatjax.layers.checks import check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import HeadProjection, Setup, sender_value
from gatjax.ops.ends import Ends


class AdditiveConv(Conv):
    """Additive (Bahdanau) attention over a graph: query from the receiver, key and value from the sender.

    ```
    e_ij = a · tanh(W_q h_i + W_k h_j + W_e e_ij + b_q)
    h'_i = combine_h(Σ_j softmax(e_ij / T) W_v h_j) + W_res h_i + b
    ```

    for every head; a [H, C]. GATv2Conv differs in its nonlinearity, and in that its value is the row of the score.
    Self-loops and the activation are the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, combine, edge_features, normalize, temperature, block_size, residual,
        dropout_rate, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.
      use_bias: b on the output and b_q in the score.

    Raises:
      ValueError: as `GATConv`.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> AdditiveConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)).attention(graph).shape
    (2, 2)

    Bahdanau, Cho, Bengio, Neural Machine Translation by Jointly Learning to Align and Translate, ICLR 2015, which has
    no edge features.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        edge_features: int | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(edge_features=edge_features)
        setup = Setup(in_features, out_features, rngs, **options)
        heads, width = setup.heads, setup.widths
        self.edge_features = edge_features
        self.query = HeadProjection(width.receivers, heads, use_bias=setup.use_bias)
        self.key = HeadProjection(width.senders, heads)
        self.value = HeadProjection(width.senders, heads)
        self.edge_projection = (
            None if edge_features is None else HeadProjection(edge_features, heads)
        )
        self.vector = heads.vector()
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        query = self.query(nodes.receivers)
        value = lambda rows: self.dropout.projected(self.value(rows), keys)
        senders = nodes.sent(lambda rows: {"key": self.key(rows), "value": value(rows)})
        weights: dict[str, Any] = {"vector": self.vector[...].astype(query.dtype)}
        if self.edge_projection is not None:
            weights["edge"] = self.edge_projection.linear(query.dtype)
        return Mechanism(_additive, sender_value, Rows(weights, query, senders, graph.edges))


def _additive(weights, r, s, e):
    return bahdanau_score(r, s["key"], weights["vector"], None if e is None else weights["edge"](e))
