"""Gated attention: a dot-product layer whose heads each receiver opens and closes."""

from functools import partial
from typing import Literal, Unpack, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.neighbors import pool_ends
from gatjax.attention.scores import combine_heads, dot_product_score
from gatjax.graph.check import SideParts
from gatjax.graph.sizes import num_nodes
from gatjax.graph.views import Sides, View
from gatjax.layers.checks import check_dtypes, check_in_features, check_sizes, check_widths
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Dropout, DropoutRates, Keys
from gatjax.layers.inputs import InFeatures, seen_through, widths
from gatjax.layers.options import WeighingOptions, listed
from gatjax.layers.parts import (
    Dense,
    HeadInit,
    HeadProjection,
    Linear,
    Setup,
    Weighing,
    add_bias,
    glorot_uniform,
    sender_value,
)
from gatjax.ops.blocks import BlockSize
from gatjax.ops.ends import Ends
from gatjax.ops.sparse import Features, HeadDropout, project, promote

Gate = Literal["paper", "code", "none"]
Scale = Literal["none", "sqrt", "linear"]

NEGATIVE_SLOPE = 0.1
SCALES: dict[Scale, float] = {"none": 0.0, "sqrt": -0.5, "linear": -1.0}


class GaANConv(Conv):
    """Gated attention: dot-product heads, each multiplied by a gate of its own at every receiver.

    ```
    e_ij  = s (W_q h_i + b_q) · W_k h_j + u · LeakyReLU(W_e e_ij + b_e)
    v_j   = LeakyReLU(W_v h_j + b_v)
    x_i   = g_i Σ_j softmax over the incoming edges j -> i of (e_ij / T) v_j
    h'_i  = W [x_i1 ‖ ... ‖ x_iH ‖ h_i] + b
    ```

    for every head; W_q h and W_k h [N, H, d_a], v [N, H, d_v], g [N, H], the slope of LeakyReLU 0.1. The gate sees the
    neighbourhood, by the largest of its features W_m h_j of width d_m and by its mean:

    ```
    "paper":  g_i = sigmoid(W_g [max_j W_m h_j ‖ mean_j h_j ‖ h_i] + b_g)
    "code":   g_i = sigmoid(W_g LeakyReLU(W_c [max_j W_m h_j ‖ mean_j h_j] + b_c) + b_g)
    "none":   g_i = 1                                     the paper's attention-only variant
    ```

    where max and mean of no neighbour are 0. The node itself enters at the end and needs no self-loop, which would
    make it its own neighbour. `layer.gates(graph)` are the gates. The activation is the caller's, and an edge given
    twice counts twice.

    Args:
      in_features, out_features, num_heads, edge_features, normalize, temperature, block_size, dropout_rate, dtype,
        param_dtype, rngs: as in `GATConv`.
      key_features: d_a, per head.
      value_features: d_v, per head.
      gate_features: d_m.
      gate: "paper"; "code", the authors' program, whose gate does not see its receiver; or "none".
      scale: s: "none" is 1, as in the paper, "sqrt" 1/sqrt(d_a), "linear" 1/d_a, as in the authors' program.
      use_bias: all b.
      kernel_init: called once per head for W_q, W_k and W_v, once for every other matrix, as written above.

    Raises:
      ValueError: no head, a width below 1, a rate outside [0, 1), an unknown `gate` or `scale`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> layer = GaANConv(3, 5, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(graph).nodes.shape, layer.attention(graph).shape, layer.gates(graph).shape
    ((3, 5), (2, 2), (3, 2))

    Zhang et al., GaAN: Gated Attention Networks for Learning on Large and Spatiotemporal Graphs, UAI 2018. The widths
    by default are those for PPI, with 8 heads. Biases of W_k and W_m are left out, since they would change nothing
    that b_g and the softmax do not. The authors train the gate's last matrix with a tenth of the learning rate.
    """

    @listed(WeighingOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        num_heads: int = 1,
        key_features: int = 24,
        value_features: int = 32,
        gate_features: int = 64,
        gate: Gate = "paper",
        scale: Scale = "none",
        edge_features: int | None = None,
        use_bias: bool = True,
        dropout_rate: float | DropoutRates = 0.0,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Unpack[WeighingOptions],
    ):
        if gate not in get_args(Gate):
            raise ValueError(f"gate must be one of {list(get_args(Gate))}, got {gate!r}")
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {list(SCALES)}, got {scale!r}")
        self.in_features = check_in_features(in_features)
        check_widths(out_features=out_features, num_heads=num_heads)
        check_widths(key_features=key_features, value_features=value_features)
        check_widths(gate_features=gate_features)
        check_sizes(edge_features=edge_features)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        heads = HeadInit(num_heads, out_features, kernel_init, dtype, param_dtype, rngs)
        keys = heads._replace(features=key_features)
        values = heads._replace(features=value_features)
        self.num_heads = num_heads
        self.edge_features = edge_features
        self.weighing = Weighing(**options).checked()
        self.scale = key_features ** SCALES[scale]
        width = widths(in_features)
        self.query = HeadProjection(width.receivers, keys, use_bias=use_bias)
        self.key = HeadProjection(width.senders, keys)
        self.value = HeadProjection(width.senders, values, use_bias=use_bias)
        self.edge_score = (
            None if edge_features is None else EdgeScore(edge_features, keys, use_bias=use_bias)
        )
        self.gate = (
            None
            if gate == "none"
            else NeighborhoodGate(width, gate_features, heads, gate, use_bias=use_bias)
        )
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = SkipOutput(width.receivers, out_features, values, use_bias=use_bias)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        query = self.query(nodes.receivers)
        value = lambda rows: self.dropout.projected(_leaky_relu(self.value(rows)), keys)
        senders = nodes.sent(lambda rows: {"key": self.key(rows), "value": value(rows)})
        weights = None if self.edge_score is None else self.edge_score.linear(query.dtype)
        gate = None
        if self.gate is not None:
            gate = self.gate(ends, nodes.each(_of_all_heads), self.weighing.block_size)
        score = partial(_query_key, scale=self.scale)
        return Mechanism(score, sender_value, Rows(weights, query, senders, graph.edges), gate)

    def gates(
        self, graph: GraphsTuple, *, view: View | None = None, **parts: Unpack[SideParts]
    ) -> Float[Array, "receivers H"]:
        """What each receiver multiplies its heads by, in (0, 1); 1 where the layer has no gate.

        `senders`, `edge_mask`, `node_mask`, `sender_mask` and `view` are those of the call. Weights of edges do not
        enter: the gate sees which neighbours there are.
        """
        graph, parts = seen_through(view, graph, parts)
        gate = self.read(graph, **parts)[1].gate
        return jnp.ones((num_nodes(graph), self.num_heads)) if gate is None else gate


class EdgeScore(nnx.Module):
    """What an edge's own features add to its logits, u · LeakyReLU(W_e e_ij + b_e) for every head."""

    def __init__(self, edge_features: int, keys: HeadInit, *, use_bias: bool):
        self.hidden = Dense(edge_features, keys.features, keys, use_bias=use_bias)
        self.out = Dense(keys.features, keys.num_heads, keys)

    def linear(self, dtype: DTypeLike) -> tuple[Linear, Linear]:
        return self.hidden.linear(dtype), self.out.linear(dtype)


class NeighborhoodGate(nnx.Module):
    """One gate per node and head, from what its neighbours send.

    ```
    c_i = W_c [max_j W_m h_j ‖ mean_j h_j ‖ h_i] + b_c           "paper": H wide, and g_i = sigmoid(c_i)
    g_i = sigmoid(W_g LeakyReLU(c_i) + b_g)                       "code": c_i is d_m wide and leaves out h_i
    ```

    W_c is one matrix, as in the paper, but acts part by part: the mean of W h_j is W times the mean of h_j, and H or
    d_m numbers are fewer to average along the edges than F.
    """

    def __init__(
        self, in_features: Sides, width: int, heads: HeadInit, kind: Gate, *, use_bias: bool
    ):
        from_code = kind == "code"
        joined = width + in_features.senders + (0 if from_code else in_features.receivers)
        context = width if from_code else heads.num_heads
        self.pool = Dense(in_features.senders, width, heads)
        self.context = Dense(joined, context, heads, use_bias=use_bias)
        self.out = Dense(width, heads.num_heads, heads, use_bias=use_bias) if from_code else None
        self.dtype = heads.dtype

    def __call__(self, ends: Ends, nodes: Sides, block_size: BlockSize) -> Float[Array, "N H"]:
        parameters = self.pool.kernel[...], self.context.kernel[...]
        receivers, pool, joined = promote(self.dtype, nodes.receivers, *parameters)
        width = pool.shape[1]
        of_max, of_mean, own = jnp.split(joined, [width, width + len(pool)])
        pooled = jnp.concatenate([pool, of_mean], axis=1)
        sent = nodes.sent(lambda rows: project(*promote(self.dtype, rows, pooled)))
        tables = sent[:, :width], sent[:, width:], receivers.shape[0]
        largest, mean = pool_ends(ends, *tables, block_size=block_size)
        context = add_bias(largest @ of_max + mean, self.context.bias)
        if self.out is None:
            context += project(receivers, own)
        else:
            context = self.out.linear(context.dtype)(_leaky_relu(context))
        return jax.nn.sigmoid(context)


class SkipOutput(nnx.Module):
    """What follows the weighted sum: one linear map of all heads and of the node itself.

    ```
    h'_i = W [x_i1 ‖ ... ‖ x_iH ‖ h_i] + b
    ```
    """

    def __init__(self, in_features: int, out_features: int, heads: HeadInit, *, use_bias: bool):
        joined = heads.num_heads * heads.features + in_features
        self.dense = Dense(joined, out_features, heads, use_bias=use_bias)

    def __call__(self, x: Float[Array, "N H C"], nodes: Features) -> Float[Array, "N out"]:
        joined = combine_heads(x, "concat")
        of_heads, of_node = jnp.split(self.dense.kernel[...].astype(x.dtype), [joined.shape[1]])
        skipped = project(*promote(x.dtype, nodes, of_node))
        return add_bias(joined @ of_heads + skipped, self.dense.bias)


def _of_all_heads(rows: Features | HeadDropout) -> Features:
    """The features, without what each head is still to drop."""
    return rows.features if isinstance(rows, HeadDropout) else rows


def _leaky_relu(x):
    return jax.nn.leaky_relu(x, NEGATIVE_SLOPE)


def _query_key(weights, r, s, e, *, scale):
    logits = dot_product_score(r, s["key"], scale=scale)
    if weights is None:
        return logits
    hidden, out = weights
    return logits + out(_leaky_relu(hidden(e)))
