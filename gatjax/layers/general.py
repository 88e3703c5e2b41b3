"""General attention over a graph."""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.scores import dot_product_score
from gatjax.layers.checks import check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import HeadProjection, Setup, project_rows, sender_value
from gatjax.ops.ends import Ends
from gatjax.ops.sparse import Features, HeadDropout


class GeneralConv(Conv):
    """General (Luong) attention over a graph: a trainable product of the two ends themselves.

    ```
    e_ij = h_i · W (h_j + W_e e_ij)
    h'_i = combine_h(Σ_j softmax(e_ij / T) W_v h_j) + W_res h_i + b
    ```

    for every head; W [F, H, F] of any rank, where `DotProductConv` has one of rank C, and no scale. It is for nodes of
    few features: N·H·F numbers are held, and a sparse table of senders is made dense. Self-loops and the activation are
    the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, combine, edge_features, normalize, temperature, block_size, residual,
        use_bias, dropout_rate, dtype, param_dtype, rngs: as in `GATConv`.
      kernel_init: called once per head, with shape (F, F) or (F, C), and with (edge_features, F) for W_e.

    Raises:
      ValueError: as `GATConv`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GeneralConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)).attention(graph).shape
    (2, 2)

    Luong, Pham, Manning, Effective Approaches to Attention-based Neural Machine Translation, EMNLP 2015, which has no
    edge features.
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
        self.query = HeadProjection(width.receivers, heads._replace(features=width.senders))
        self.value = HeadProjection(width.senders, heads)
        self.edge_projection = (
            None
            if edge_features is None
            else HeadProjection(edge_features, heads.one(width.senders))
        )
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        query = self.query(nodes.receivers)
        key = lambda rows: _dense(rows, self.num_heads, query.dtype)
        value = lambda rows: self.dropout.projected(self.value(rows), keys)
        senders = nodes.sent(lambda rows: {"key": key(rows), "value": value(rows)})
        edge = None if self.edge_projection is None else self.edge_projection.linear(query.dtype)
        return Mechanism(_product, sender_value, Rows(edge, query, senders, graph.edges))


def _dense(
    rows: Features | HeadDropout, num_heads: int, dtype: DTypeLike
) -> Float[Array, "M heads F"]:
    """The features as they are, once for all heads, or for each what it has not dropped."""
    width, heads = rows.shape[1], num_heads if isinstance(rows, HeadDropout) else 1
    same = jnp.broadcast_to(jnp.eye(width, dtype=dtype)[:, None], (width, heads, width))
    return project_rows(rows, same, dtype, "senders")


def _product(edge, r, s, e):
    key = s["key"] if e is None else s["key"] + edge(e)
    return dot_product_score(r, jnp.broadcast_to(key, r.shape), scale=1.0)
