"""Message-passing layers: thin Flax NNX modules around `graph_attention`.

A layer turns node features [N, in_features] into [N, out_features] and leaves the rest of the graph
alone. It has two methods:

```
layer(graph, *, edge_mask=None, deterministic=None, rngs=None) -> GraphsTuple
layer.attention(graph, *, edge_mask=None) -> [E, H]     aligned with the graph's edges, before dropout
```

No layer applies an activation or adds self-loops: both are the caller's (`add_self_loops`). A node
without incoming edges gets the bias and the residual, nothing else. With H heads, `combine="concat"`
gives each head C = out_features / H features, and `combine="mean"` C = out_features. Node features may
be a sparse `BCOO`. `deterministic` and `rngs` are those of `nnx.MultiHeadAttention`.

Attention may be hard: with `normalize="hardmax"` each receiver reads, per head, the one sender of the
largest logit, and the logits get no gradient; with "straight_through" it reads the same, and the logits
get the gradient of the softmax, so that the choice can be learned. Of equal logits the first edge wins.
Hard attention holds E·H·C numbers, where the softmax may go in blocks.
"""

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention import attention_logits, counted_edges
from gatjax.blocked import mask_rows
from gatjax.graph import num_nodes
from gatjax.heads import (
    Combine,
    Dropout,
    DropoutRates,
    HeadOutput,
    HeadProjection,
    Keys,
    Mask,
    Mechanism,
    Normalize,
    attention_of,
    check_edge_features,
    check_normalize,
    convolve,
    edge_features,
    glorot_uniform,
    make_heads,
    node_features,
    sender_value,
)
from gatjax.projection import Features, project, promote
from gatjax.scores import additive_score, dot_features, dot_product_score, dynamic_score
from gatjax.segment import segment_sum


class GATConv(nnx.Module):
    """Graph attention: the logit is a LeakyReLU of one term per end of the edge.

    ```
    z_i   = W h_i
    e_ij  = LeakyReLU(a_r · z_i + a_s · z_j + a_e · W_e e_ij + b_a)
    α_ij  = softmax over the incoming edges j -> i of e_ij
    h'_i  = combine_h(Σ_j α_ij z_j) + W_res h_i + b
    ```

    for every head; z [N, H, C], a_r and a_s [H, C], α [E, H]. GAT ranks the senders alike for every
    receiver (a_s · z_j decides); GATv2Conv does not.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output, of all heads together.
      num_heads: H.
      combine: "concat" or "mean".
      edge_features: width of the edges' features, None if they have none.
      negative_slope: of the LeakyReLU.
      normalize: "softmax", "hardmax" or "straight_through" (see `gatjax.layers`).
      residual: adds the input, projected where the widths differ.
      use_bias: b, on the output.
      use_score_bias: b_a, one per head, as in the original code (not in the paper, nor in PyG).
      dropout_rate: of the attention weights, or `DropoutRates` for all three places.
      kernel_init: called once per head, with shape (F, C) or (C, 1).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine` or `normalize`.

    >>> from gatjax.graph import add_self_loops, build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [2, 2], jnp.eye(3)))
    >>> layer = GATConv(3, 8, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(graph).nodes.shape, layer.attention(graph).shape
    ((3, 8), (5, 2))

    Veličković et al., Graph Attention Networks, ICLR 2018. The paper's equations have no bias b_a and no
    edge features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        combine: Combine = "concat",
        edge_features: int | None = None,
        negative_slope: float = 0.2,
        normalize: Normalize = "softmax",
        residual: bool = False,
        use_bias: bool = True,
        use_score_bias: bool = False,
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
        self.projection = HeadProjection(in_features, heads)
        self.receiver_vector = heads.vector()
        self.sender_vector = heads.vector()
        self.edge_projection = (
            None if edge_features is None else HeadProjection(edge_features, heads)
        )
        self.edge_vector = None if edge_features is None else heads.vector()
        self.score_bias = heads.zeros(num_heads) if use_score_bias else None
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.output = HeadOutput(
            in_features, out_features, heads, combine=combine, residual=residual, use_bias=use_bias
        )

    def mechanism(self, graph: GraphsTuple, edge_mask: Mask, keys: Keys) -> Mechanism:
        z = self.projection(self.dropout.inputs(graph, keys))
        vectors = jnp.stack([self.receiver_vector[...], self.sender_vector[...]])
        receiver_term, sender_term = jnp.moveaxis(dot_features(z, vectors.astype(z.dtype)), 1, 0)
        if self.score_bias is not None:
            receiver_term += self.score_bias[...].astype(z.dtype)[None, :]
        edge_term = None
        if self.edge_projection is not None and self.edge_vector is not None:
            edges = mask_rows(edge_features(graph), counted_edges(graph, edge_mask))
            edge_term = _edge_terms(edges, self.edge_projection, self.edge_vector)
        senders = {"term": sender_term, "value": self.dropout.projected(z, keys)}
        score = partial(_additive, negative_slope=self.negative_slope)
        return Mechanism(score, sender_value, None, receiver_term, senders, edge_term)

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


def _edge_terms(
    edges: Features, projection: HeadProjection, vector: nnx.Param
) -> Float[Array, "E H"]:
    """a_e · W_e e_ij as one product with the vectors W_eᵀ a_e [F, H]: W_e e_ij [E, H, C] is never held."""
    edges, kernel, vector = promote(projection.dtype, edges, projection.kernel[...], vector[...])
    return project(edges, dot_features(kernel, jnp.asarray(vector)))


def _additive(weights, r, s, e, *, negative_slope):
    return additive_score(r, s["term"], e, negative_slope=negative_slope)


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
