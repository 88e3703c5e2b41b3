"""Gated attention: a dot-product layer whose heads each receiver opens and closes."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.neighbors import pool_neighbors
from gatjax.attention.scores import combine_heads, dot_product_score
from gatjax.graph.sizes import num_nodes
from gatjax.layers.conv import Mechanism, attention_of, convolve
from gatjax.layers.parts import (
    Dropout,
    DropoutRates,
    HeadProjection,
    Heads,
    Keys,
    Mask,
    glorot_uniform,
    make_heads,
    sender_value,
)
from gatjax.ops.sparse import Features, HeadDropout, project, promote

Gate = Literal["paper", "code", "none"]


Scale = Literal["none", "sqrt", "linear"]


NEGATIVE_SLOPE = 0.1


GATES = ("paper", "code", "none")


SCALES = {"none": 0.0, "sqrt": -0.5, "linear": -1.0}


class GaANConv(nnx.Module):
    """Gated attention: dot-product heads, each multiplied by a gate of its own at every receiver.

    ```
    e_ij  = s (W_q h_i + b_q) · W_k h_j + u · LeakyReLU(W_e e_ij + b_e)
    v_j   = LeakyReLU(W_v h_j + b_v)
    x_i   = g_i Σ_j softmax over the incoming edges j -> i of (e_ij) v_j
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
    make it its own neighbour. `layer.gates(graph)` are the gates.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output.
      num_heads: H.
      key_features: d_a, per head.
      value_features: d_v, per head.
      gate_features: d_m.
      gate: "paper"; "code", the authors' program, whose gate does not see its receiver; or "none".
      scale: s: "none" is 1, as in the paper, "sqrt" 1/sqrt(d_a), "linear" 1/d_a, as in the authors' program.
      edge_features: width of the edges' features, None if they have none.
      use_bias: all b.
      dropout_rate: of the attention weights, or `DropoutRates` for all three places.
      kernel_init: called once per head for W_q, W_k and W_v, once for every other matrix, as written above.
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

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

    def __init__(
        self,
        in_features: int,
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
    ):
        _check(
            gate,
            scale,
            key_features=key_features,
            value_features=value_features,
            gate_features=gate_features,
        )
        heads = make_heads(out_features, num_heads, "mean", kernel_init, dtype, param_dtype, rngs)
        keys = heads._replace(features=key_features)
        values = heads._replace(features=value_features)
        self.num_heads = num_heads
        self.edge_features = edge_features
        self.scale = key_features ** SCALES[scale]
        self.query = HeadProjection(in_features, keys)
        self.key = HeadProjection(in_features, keys)
        self.value = HeadProjection(in_features, values)
        self.query_bias = heads.zeros(num_heads, key_features) if use_bias else None
        self.value_bias = heads.zeros(num_heads, value_features) if use_bias else None
        self.edge_hidden = (
            None if edge_features is None else Dense(edge_features, key_features, heads, use_bias)
        )
        self.edge_score = (
            None if edge_features is None else Dense(key_features, num_heads, heads, False)
        )
        self.gate = (
            None
            if gate == "none"
            else NeighborhoodGate(in_features, gate_features, heads, gate, use_bias)
        )
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = SkipOutput(in_features, out_features, values, use_bias)

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        nodes = self.dropout.inputs(graph, keys)
        query = _shift(self.query(nodes), self.query_bias)
        value = _leaky_relu(_shift(self.value(nodes), self.value_bias))
        senders = {"key": self.key(nodes), "value": self.dropout.projected(value, keys)}
        weights = None
        if self.edge_hidden is not None and self.edge_score is not None:
            weights = self.edge_hidden.weights(query.dtype), self.edge_score.weights(query.dtype)
        score = partial(_query_key, scale=self.scale)
        shared = nodes.features if isinstance(nodes, HeadDropout) else nodes
        gate = None if self.gate is None else self.gate(graph, shared, edge_mask)
        return Mechanism(score, sender_value, weights, query, senders, graph.edges, gate)

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

    def gates(self, graph: GraphsTuple, *, edge_mask: Mask = None) -> Float[Array, "N H"]:
        """What each receiver multiplies its heads by, in (0, 1); 1 where the layer has no gate."""
        gate = self.mechanism(graph, edge_mask, Keys()).gate
        return jnp.ones((num_nodes(graph), self.num_heads)) if gate is None else gate


class NeighborhoodGate(nnx.Module):
    """One gate per node and head, from what its neighbours send.

    ```
    c_i = W_c [max_j W_m h_j ‖ mean_j h_j ‖ h_i] + b_c           "paper": H wide, and g_i = sigmoid(c_i)
    g_i = sigmoid(W_g LeakyReLU(c_i) + b_g)                       "code": c_i is d_m wide and leaves out h_i
    ```

    W_c is one matrix, as in the paper, but acts part by part: the mean of W h_j is W times the mean of h_j, and H or
    d_m numbers are fewer to average along the edges than F.
    """

    def __init__(self, in_features: int, width: int, heads: Heads, kind: Gate, use_bias: bool):
        from_code = kind == "code"
        joined = width + in_features * (1 if from_code else 2)
        context = width if from_code else heads.num_heads
        self.pool = Dense(in_features, width, heads, False)
        self.context = Dense(joined, context, heads, use_bias)
        self.out = Dense(width, heads.num_heads, heads, use_bias) if from_code else None
        self.dtype = heads.dtype

    def __call__(self, graph: GraphsTuple, nodes: Features, edge_mask: Mask) -> Float[Array, "N H"]:
        nodes, pool, joined = promote(
            self.dtype, nodes, self.pool.kernel[...], self.context.kernel[...]
        )
        in_features, width = pool.shape
        of_max, *parts = jnp.split(joined, [width, width + in_features])
        parts = parts if self.out is None else parts[:1]
        pooled, mean, *own = jnp.split(
            project(nodes, jnp.concatenate([pool, *parts], axis=1)),
            [width + joined.shape[1] * index for index in range(len(parts))],
            axis=1,
        )
        largest, mean = pool_neighbors(graph, pooled, mean, edge_mask)
        context = _shift(sum(own, largest @ of_max + mean), self.context.bias)
        if self.out is not None:
            context = _dense(self.out.weights(context.dtype), _leaky_relu(context))
        return jax.nn.sigmoid(context)


class SkipOutput(nnx.Module):
    """What follows the weighted sum: one linear map of all heads and of the node itself.

    ```
    h'_i = W [x_i1 ‖ ... ‖ x_iH ‖ h_i] + b
    ```
    """

    def __init__(self, in_features: int, out_features: int, heads: Heads, use_bias: bool):
        joined = heads.num_heads * heads.features + in_features
        self.dense = Dense(joined, out_features, heads, use_bias)

    def __call__(self, x: Float[Array, "N H C"], nodes: Features) -> Float[Array, "N out"]:
        joined = combine_heads(x, "concat")
        of_heads, of_node = jnp.split(self.dense.kernel[...].astype(x.dtype), [joined.shape[1]])
        skipped = project(*promote(x.dtype, nodes, of_node))
        return _shift(joined @ of_heads + skipped, self.dense.bias)


class Dense(nnx.Module):
    """A linear map with the settings of the heads, `y = x W + b`."""

    def __init__(self, in_features: int, out_features: int, heads: Heads, use_bias: bool):
        one_head = heads._replace(num_heads=1, features=out_features)
        self.kernel = nnx.Param(one_head.kernel(in_features)[:, 0])
        self.bias = heads.zeros(out_features) if use_bias else None

    def weights(self, dtype: DTypeLike) -> tuple[Array, Array | None]:
        bias = None if self.bias is None else self.bias[...].astype(dtype)
        return self.kernel[...].astype(dtype), bias


def _dense(weights, x):
    kernel, bias = weights
    return _shift(x @ kernel, bias)


def _shift(x, bias):
    """x + b, for a bias with the last axes of x."""
    return x if bias is None else x + bias[...].astype(x.dtype).reshape(1, *x.shape[1:])


def _leaky_relu(x):
    return jax.nn.leaky_relu(x, NEGATIVE_SLOPE)


def _query_key(weights, r, s, e, *, scale):
    logits = dot_product_score(r, s["key"], scale=scale)
    if weights is None:
        return logits
    hidden, out = weights
    return logits + _dense(out, _leaky_relu(_dense(hidden, e.astype(r.dtype))))


def _check(gate: str, scale: str, **widths: int) -> None:
    if gate not in GATES:
        raise ValueError(f"gate must be one of {list(GATES)}, got {gate!r}")
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {list(SCALES)}, got {scale!r}")
    for name, width in widths.items():
        if width < 1:
            raise ValueError(f"{name} must be at least 1, got {width}")
