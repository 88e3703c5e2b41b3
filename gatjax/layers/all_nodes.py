"""Layers in which every node attends to all nodes of its graph; they read no edge."""

from typing import Any, Unpack

from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.all_nodes import graph_self_attention
from gatjax.attention.linear import FeatureMap, check_feature_map, linear_attention
from gatjax.graph.check import NodeMask, SideParts, check_edges
from gatjax.graph.virtual import check_pair_order
from gatjax.layers.checks import check_in_features, check_sizes
from gatjax.layers.dropout import Dropout, Keys
from gatjax.layers.inputs import Sides, check_widths, node_features
from gatjax.layers.options import AttentionOptions, LinearAttentionOptions, check_call, listed
from gatjax.layers.parts import HeadOutput, HeadProjection, Setup
from gatjax.ops.sparse import keep_rows


class AllNodes(nnx.Module):
    """Query, key and value of each node, what attention makes of them, and the output of heads.

    A layer defines `attend`; the rest of its call is here.
    """

    def finish(self, setup: Setup) -> None:
        """Projections, dropout and output."""
        heads, width = setup.heads, setup.in_features
        if isinstance(width, tuple | list):
            raise ValueError(
                f"in_features must be one width, got {width}: all nodes of a graph send and receive"
            )
        self.in_features = check_in_features(width)
        self.num_heads = setup.num_heads
        self.query = HeadProjection(width, heads, use_bias=setup.use_bias)
        self.key = HeadProjection(width, heads)
        self.value = HeadProjection(width, heads)
        self.dropout = Dropout(setup.dropout_rate, rngs=setup.rngs)
        self.output = HeadOutput(setup)

    def attend(
        self,
        graph: GraphsTuple,
        query: Float[Array, "N H C"],
        key: Float[Array, "N H C"],
        value: Float[Array, "N H C"],
        node_mask: NodeMask,
        keys: Keys,
    ) -> Float[Array, "N H C"]:
        """What each node sums up."""
        raise NotImplementedError(f"{type(self).__name__} must define attend")

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[SideParts],
    ) -> GraphsTuple:
        """The graph with new node features; of the arguments of `GATConv`'s call those of edges change nothing."""
        check_call(self, parts)
        if parts.get("senders") is not None:
            raise ValueError(f"{type(self).__name__} has no senders but the nodes: leave them out")
        check_edges(graph, **parts)
        node_mask = parts.get("node_mask")
        nodes = keep_rows(node_features(graph), node_mask)
        check_widths(Sides(nodes, nodes), self.in_features)
        keys = self.dropout.keys(deterministic, rngs)
        rows = self.dropout.inputs(nodes, keys)
        value = self.dropout.projected(self.value(rows), keys)
        x = self.attend(graph, self.query(rows), self.key(rows), value, node_mask, keys)
        return graph._replace(nodes=self.output(x, nodes))


class GraphSelfAttention(AllNodes):
    """Dot-product attention of every node to all nodes of its graph, itself included.

    ```
    q_i  = W_q h_i + b_q        k_j = W_k h_j        v_j = W_v h_j
    e_ij = q_i · k_j / sqrt(C) + u · e_ij
    h'_i = combine_h(Σ_j softmax(e_ij / T) v_j) + W_res h_i + b
    ```

    for every head, j over the nodes of the graph of i: `graph_self_attention`. The same as `DotProductConv` on the
    edges of `connect_all`, which it does not need, unless pairs have features: then it is that with `edges_in="logit"`.

    Args:
      in_features, out_features, num_heads, combine, temperature, residual, use_bias, dropout_rate, kernel_init, dtype,
        param_dtype, rngs: as in `GATConv`.
      edge_features: width of the features of pairs, which are `graph.edges` where the edges are those of `connect_all`;
        None reads no edge.
      normalize, max_nodes, block_size: as in `graph_self_attention`.

    Raises:
      ValueError: as `GATConv` and `graph_self_attention`; two widths; outside `jax.jit`, features of other edges.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> layer = GraphSelfAttention(3, 8, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(build_graph([], [], jnp.eye(3))).nodes.shape
    (3, 8)

    Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        edge_features: int | None = None,
        max_nodes: int | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(max_nodes=max_nodes, edge_features=edge_features)
        setup = Setup(in_features, out_features, rngs, **options)
        self.max_nodes = max_nodes
        self.weighing = setup.weighing
        self.finish(setup)
        self.edge_bias = (
            None
            if edge_features is None
            else HeadProjection(edge_features, setup.heads._replace(features=1))
        )

    def attend(self, graph, query, key, value, node_mask, keys):
        """`graph_self_attention`."""
        return graph_self_attention(
            graph,
            query,
            key,
            value,
            bias=self._bias(graph),
            node_mask=node_mask,
            multiplier=self.dropout.attention(keys),
            max_nodes=self.max_nodes,
            **self.weighing._asdict(),
        )

    def _bias(self, graph: GraphsTuple) -> Float[Array, "P H"] | None:
        if self.edge_bias is None:
            return None
        edges: Any = graph.edges
        if not hasattr(edges, "ndim"):
            raise ValueError(
                "the layer was built with edge_features, and the graph's edges are no array [P, D]: give it those of "
                "connect_all(graph), or build the layer without"
            )
        check_pair_order(graph)
        return self.edge_bias(edges, name="edges")[:, :, 0]


class GraphLinearAttention(AllNodes):
    """Attention of every node to all nodes of its graph by products of features, in time linear in the nodes.

    ```
    q_i = W_q h_i + b_q        k_j = W_k h_j        v_j = W_v h_j
    h'_i = combine_h(Σ_j φ(q_i) · φ(k_j) v_j / Σ_j φ(q_i) · φ(k_j)) + W_res h_i + b
    ```

    for every head, j over the nodes of the graph of i: `linear_attention`.

    Args:
      in_features, out_features, num_heads, combine, residual, use_bias, kernel_init, dtype, param_dtype, rngs: as in
        `GATConv`.
      feature_map: φ, as in `linear_attention`; a function defined at module level.
      dropout_rate: `DropoutRates`, of which `attention` must be 0, since no weight is ever held.

    Raises:
      ValueError: as `GATConv` and `linear_attention`; two widths, or a rate of the weights.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> layer = GraphLinearAttention(3, 8, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(build_graph([], [], jnp.eye(3))).nodes.shape
    (3, 8)

    Katharopoulos et al., Transformers are RNNs, ICML 2020.
    """

    @listed(LinearAttentionOptions, Setup)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        feature_map: FeatureMap = "elu",
        rngs: nnx.Rngs,
        **options: Unpack[LinearAttentionOptions],
    ):
        check_feature_map(feature_map)
        setup = Setup(in_features, out_features, rngs, **options)
        self.feature_map: FeatureMap = feature_map
        self.finish(setup)
        if rate := self.dropout.rates.attention:
            raise ValueError(
                f"dropout_rate {rate} is of weights, which linear attention never holds: "
                "pass DropoutRates(inputs=..., projected=...)"
            )

    def attend(self, graph, query, key, value, node_mask, keys):
        """`linear_attention`."""
        rows = query, key, value
        return linear_attention(graph, *rows, feature_map=self.feature_map, node_mask=node_mask)
