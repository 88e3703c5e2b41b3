"""Scaled dot-product attention over a graph."""

from typing import Literal, NamedTuple, Unpack, get_args

import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.pairs import mix, on_pairs, product
from gatjax.attention.scores import dot_product_score
from gatjax.layers.checks import check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import Dense, HeadProjection, Linear, Setup
from gatjax.ops.ends import Ends

EdgesIn = Literal["key_value", "logit", "both"]


class DotProductConv(Conv):
    """Scaled dot-product attention over a graph: query from the receiver, key and value from the sender.

    ```
    q_i  = W_q h_i + b_q        k_ij = W_k h_j + W_e e_ij        v_ij = W_v h_j + W_e e_ij + b_v
    e_ij = q_i · k_ij / sqrt(C) + u · e_ij
    h'_i = combine_h(Σ_j softmax(e_ij / T) v_ij) + W_res h_i + b
    ```

    for every head; u [edge_features]. Edge features enter key and value alike, W_e, as in the unified message-passing
    model; or the logit alone, u, where they say what is known of a pair, such as its distance or whether it is an edge;
    or both.
    A bias of the key would add the same to all logits of a receiver, which changes nothing; b_v adds the same to all
    nodes with an edge, and b to all nodes. Self-loops and the activation are the caller's, and an edge given twice
    counts twice.

    Args:
      in_features, out_features, num_heads, combine, edge_features, normalize, temperature, block_size, residual,
        dropout_rate, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.
      use_bias: b on the output and b_q on the query.
      use_value_bias: b_v on the value.
      edges_in: "key_value", "logit" or "both".

    Raises:
      ValueError: as `GATConv`; an unknown `edges_in`, or one without `edge_features`.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> DotProductConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)).attention(graph).shape
    (2, 2)

    Vaswani et al., Attention Is All You Need, NeurIPS 2017; with edges as in Shi et al., Masked Label
    Prediction, IJCAI 2021; the logit as in Ying et al., Do Transformers Really Perform Badly for Graph Representation?,
    NeurIPS 2021. PyG's `TransformerConv` adds W_res h_i by default: that is `residual="linear"`. Its value
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
        edges_in: EdgesIn = "key_value",
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(edge_features=edge_features)
        check_edges_in(edges_in, edge_features)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        self.edge_features = edge_features
        width = setup.widths
        self.query = HeadProjection(width.receivers, heads, use_bias=setup.use_bias)
        self.key = HeadProjection(width.senders, heads)
        self.value = HeadProjection(width.senders, heads, use_bias=use_value_bias)
        in_rows, in_logit = edges_in != "logit", edges_in != "key_value"
        self.edge_projection = (
            HeadProjection(edge_features, heads) if edge_features is not None and in_rows else None
        )
        self.edge_bias = (
            Dense(edge_features, setup.num_heads, heads)
            if edge_features is not None and in_logit
            else None
        )
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        query = self.query(nodes.receivers)
        value = lambda rows: self.dropout.projected(self.value(rows), keys)
        senders = nodes.sent(lambda rows: {"key": self.key(rows), "value": value(rows)})
        parts = (self.edge_projection, self.edge_bias)
        edge = EdgeTerms(*(part and part.linear(query.dtype) for part in parts))
        return Mechanism(_query_key, _value_with_edge, Rows(edge, query, senders, graph.edges))


class EdgeTerms(NamedTuple):
    """What edge features add: rows W_e e [E, H, C] to key and value, numbers u · e [E, H] to the logit."""

    row: Linear | None
    bias: Linear | None


def check_edges_in(edges_in: str, edge_features: int | None) -> None:
    """Refuse an unknown place of edge features, and one of none.

    Raises:
      ValueError: it is none of `EdgesIn`, or there are no edge features.
    """
    if edges_in not in get_args(EdgesIn):
        raise ValueError(f"edges_in must be one of {list(get_args(EdgesIn))}, got {edges_in!r}")
    if edges_in != "key_value" and edge_features is None:
        raise ValueError(f"edges_in={edges_in!r} needs edge_features, the width of what enters")


def _products(edge, r, s, e):
    """q · (k_j + W_e e_ij) is q · k_j + (W_eᵀ q) · e_ij, so that no row of W_e e_ij is held."""
    logits = product(r, s["key"])
    if edge.row is not None:
        kernel = edge.row.kernel
        logits += jnp.einsum("gihd,gijd->ghij", jnp.einsum("gihc,dhc->gihd", r, kernel), e)
    logits *= r.shape[-1] ** -0.5
    return (
        logits if edge.bias is None else logits + jnp.einsum("gijd,dh->ghij", e, edge.bias.kernel)
    )


def _sums(p, edge, r, s, e):
    """Likewise Σ_j p_ij W_e e_ij is W_e Σ_j p_ij e_ij."""
    out = mix(p, s["value"])
    if edge.row is None:
        return out
    return out + jnp.einsum("gihd,dhc->gihc", jnp.einsum("ghij,gijd->gihd", p, e), edge.row.kernel)


@on_pairs(_products)
def _query_key(edge, r, s, e):
    bias = None if edge.bias is None else edge.bias(e)
    return dot_product_score(r, _with_edge(edge, s["key"], e), bias)


@on_pairs(_sums)
def _value_with_edge(edge, r, s, e):
    return _with_edge(edge, s["value"], e)


def _with_edge(edge, row, e):
    return row if edge.row is None else row + edge.row(e)
