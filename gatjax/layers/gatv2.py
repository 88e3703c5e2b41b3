"""Graph attention with dynamic scores (GATv2)."""

from functools import partial
from typing import Any, Unpack

from flax import nnx
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.scores import dynamic_score
from gatjax.layers.checks import check_finite, check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import HeadProjection, Setup, add_bias
from gatjax.ops.ends import Ends


class GATv2Conv(Conv):
    """Graph attention with dynamic scores: the attention vector acts after the nonlinearity.

    ```
    z_j   = W_s h_j + b_v
    e_ij  = a · LeakyReLU(W_r h_i + z_j + W_e e_ij + b_a)
    α_ij  = softmax over the incoming edges j -> i of e_ij / T
    h'_i  = combine_h(Σ_j α_ij z_j) + W_res h_i + b
    ```

    for every head; a, b_a and b_v [H, C], α [E, H]. The ranking of the senders depends on the receiver. Self-loops and
    the activation are the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, combine, edge_features, negative_slope, normalize, temperature, block_size,
        residual, dropout_rate, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.
      share_weights: W_r = W_s, half the parameters; W_r h_i has b_v then, too.
      use_bias: b on the output.
      use_score_bias: b_a in the score; as `use_bias` where it is None.
      use_value_bias: b_v on the senders. PyG has a bias in each projection: b_v, and b_a in place of that of the
        receivers.

    Raises:
      ValueError: as `GATConv`.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GATv2Conv(3, 8, num_heads=2, share_weights=True, rngs=nnx.Rngs(0))(graph).nodes.shape
    (3, 8)

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        edge_features: int | None = None,
        share_weights: bool = False,
        negative_slope: float = 0.2,
        use_score_bias: bool | None = None,
        use_value_bias: bool = False,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(edge_features=edge_features)
        check_finite(negative_slope=negative_slope)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        self.edge_features = edge_features
        self.negative_slope = negative_slope
        width = setup.widths
        if share_weights and width.receivers != width.senders:
            raise ValueError(
                f"share_weights=True needs receivers and senders of one width, got in_features={in_features}"
            )
        self.sender_projection = HeadProjection(width.senders, heads, use_bias=use_value_bias)
        self.receiver_projection = None if share_weights else HeadProjection(width.receivers, heads)
        self.edge_projection = (
            None if edge_features is None else HeadProjection(edge_features, heads)
        )
        self.vector = heads.vector()
        bias = heads.num_heads, heads.features
        has_score_bias = setup.use_bias if use_score_bias is None else use_score_bias
        self.score_bias = heads.zeros(*bias) if has_score_bias else None
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        z = nodes.each(self.sender_projection, self.receiver_projection)
        drops = keys.projected is not None
        value = lambda z: {"value": self.dropout.projected(z, keys)} if drops else {}
        senders = z.sent(lambda z: {"row": z, **value(z)})
        dtype = senders["row"].dtype
        weights: dict[str, Any] = {"vector": self.vector[...].astype(dtype)}
        if self.edge_projection is not None:
            weights["edge"] = self.edge_projection.linear(dtype)
        rows = Rows(weights, add_bias(z.receivers, self.score_bias), senders, graph.edges)
        score = partial(_dynamic, negative_slope=self.negative_slope)
        return Mechanism(score, _row_or_value, rows)


def _dynamic(weights, r, s, e, *, negative_slope):
    edge_row = None if e is None else weights["edge"](e)
    return dynamic_score(r, s["row"], weights["vector"], edge_row, negative_slope=negative_slope)


def _row_or_value(weights, r, s, e):
    return s.get("value", s["row"])
