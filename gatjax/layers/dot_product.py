"""Scaled dot-product attention over a graph."""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.pairs import mix, on_pairs, product
from gatjax.attention.scores import dot_product_score
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import HeadProjection, Keys, Setup, check_sizes
from gatjax.ops.ends import Ends


class DotProductConv(Conv):
    """Scaled dot-product attention over a graph: query from the receiver, key and value from the sender.

    ```
    q_i  = W_q h_i + b_q        k_ij = W_k h_j + W_e e_ij        v_ij = W_v h_j + W_e e_ij + b_v
    e_ij = q_i · k_ij / sqrt(C)
    h'_i = combine_h(Σ_j softmax(e_ij / T) v_ij) + W_res h_i + b
    ```

    for every head. Edge features enter key and value alike, as in the unified message-passing model.
    A bias of the key would add the same to all logits of a receiver, which changes nothing; b_v adds the same to all
    nodes with an edge, and b to all nodes. Self-loops and the activation are the caller's, and an edge given twice
    counts twice.

    Args:
      in_features, out_features, num_heads, combine, edge_features, normalize, temperature, block_size, residual,
        dropout_rate, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.
      use_bias: b on the output and b_q on the query.
      use_value_bias: b_v on the value.

    Raises:
      ValueError: as `GATConv`.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> DotProductConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)).attention(graph).shape
    (2, 2)

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; with edges as in Shi et al., Masked Label
    Prediction, IJCAI 2021. PyG's `TransformerConv` adds W_res h_i by default: that is `residual="linear"`. Its value
    has a bias by default: that is `use_value_bias=True`.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        edge_features: int | None = None,
        use_value_bias: bool = False,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(edge_features=edge_features)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        self.edge_features = edge_features
        width = setup.widths
        self.query = HeadProjection(width.receivers, heads, use_bias=setup.use_bias)
        self.key = HeadProjection(width.senders, heads)
        self.value = HeadProjection(width.senders, heads, use_bias=use_value_bias)
        self.edge_projection = (
            None if edge_features is None else HeadProjection(edge_features, heads)
        )
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        query, value = self.query(nodes.receivers), self.value(nodes.senders)
        senders = {"key": self.key(nodes.senders), "value": self.dropout.projected(value, keys)}
        edge = None if self.edge_projection is None else self.edge_projection.linear(query.dtype)
        return Mechanism(_query_key, _value_with_edge, Rows(edge, query, senders, graph.edges))


def _products(edge, r, s, e):
    """q · (k_j + W_e e_ij) is q · k_j + (W_eᵀ q) · e_ij, so that no row of W_e e_ij is held."""
    logits = product(r, s["key"])
    if e is not None:
        logits += jnp.einsum("gihd,gijd->ghij", jnp.einsum("gihc,dhc->gihd", r, edge.kernel), e)
    return logits * r.shape[-1] ** -0.5


def _sums(p, edge, r, s, e):
    """Likewise Σ_j p_ij W_e e_ij is W_e Σ_j p_ij e_ij."""
    out = mix(p, s["value"])
    if e is None:
        return out
    return out + jnp.einsum("gihd,dhc->gihc", jnp.einsum("ghij,gijd->gihd", p, e), edge.kernel)


@on_pairs(_products)
def _query_key(edge, r, s, e):
    return dot_product_score(r, _with_edge(edge, s["key"], e))


@on_pairs(_sums)
def _value_with_edge(edge, r, s, e):
    return _with_edge(edge, s["value"], e)


def _with_edge(edge, row, e):
    return row if e is None else row + edge(e)
