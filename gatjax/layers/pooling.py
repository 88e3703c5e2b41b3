"""Aggregation by attention, for every place of a graph network that aggregates, and one row per graph."""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int
from jraph import GraphsTuple

from gatjax.attention.attend import edge_attention
from gatjax.attention.readout import Pool, check_pool, pool_nodes
from gatjax.attention.scores import combine_heads
from gatjax.graph.check import SideParts, check_mask
from gatjax.layers.checks import check_dtypes, check_widths
from gatjax.layers.inputs import node_features
from gatjax.layers.options import WeighingOptions, listed
from gatjax.layers.parts import (
    HeadInit,
    HeadProjection,
    Setup,
    Weighing,
    features_per_head,
    glorot_uniform,
    sender_value,
)
from gatjax.ops.blocks import mask_rows


class AttentionPooling(nnx.Module):
    """Aggregation by attention: each row of a group has a logit of its own, and the group is the weighted sum.

    ```
    out_i = ‖_h Σ_{k : id_k = i} b_kh W_h x_k,      b = softmax over the group of a_h · x_k / T
    ```

    It has the signature of `segment_sum`, so it stands in every place of a `GraphNetwork` that aggregates.

    Args:
      in_features: width of the rows.
      out_features, num_heads, normalize, temperature, block_size, kernel_init, dtype, param_dtype, rngs: as in
        `GATConv`.

    Raises:
      ValueError: no head, or a width that heads do not divide.

    >>> pool = AttentionPooling(3, 4, num_heads=2, rngs=nnx.Rngs(0))
    >>> pool(jnp.eye(3), jnp.array([0, 0, 2]), 4).shape
    (4, 4)
    """

    @listed(WeighingOptions, Setup)
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_heads: int = 1,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Unpack[WeighingOptions],
    ):
        check_widths(in_features=in_features)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        features = features_per_head(out_features, num_heads, "concat")
        heads = HeadInit(num_heads, features, kernel_init, dtype, param_dtype, rngs)
        self.weighing = Weighing(**options).checked()
        self.logit = HeadProjection(in_features, heads._replace(features=1))
        self.value = HeadProjection(in_features, heads)

    def __call__(
        self,
        rows: Float[Array, "R F"],
        segment_ids: Int[Array, "R"],
        num_segments: int,
        *,
        mask: Bool[Array, "R"] | None = None,
        weight: Float[Array, "R"] | None = None,
    ) -> Float[Array, "S out"]:
        """One row per group; the arguments are those of `segment_sum`, and a `weight` w that multiplies after the
        softmax: b_kh becomes w_k b_kh.
        """
        check_mask(len(rows), mask=mask)
        rows = rows if mask is None else mask_rows(rows, jnp.asarray(mask))
        members = {"logit": self.logits(rows), "value": self.value(rows, name="rows")}
        ids = jnp.arange(len(rows)), segment_ids, num_segments
        out = edge_attention(
            *(_own_logit, sender_value, None, None, members, None, *ids),
            edge_mask=mask,
            edge_weight=weight,
            **self.weighing._asdict(),
        )
        return combine_heads(out, "concat")

    def logits(self, rows: Float[Array, "R F"]) -> Float[Array, "R H"]:
        """The logits a_h · x_k."""
        return self.logit(rows, name="rows")[:, :, 0]


def _own_logit(weights, r, s, e):
    return s["logit"]


class GraphReadout(nnx.Module):
    """One row per graph of a batch, from its nodes to its globals: what stands last in a model of whole graphs.

    ```
    u_g = W pool_{i in g}(h_i) + b
    ```

    Args:
      in_features: width of the nodes.
      out_features: width of the globals.
      pool: "mean", "sum", "max" or "first", as in `pool_nodes`.
      use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`.

    Raises:
      ValueError: an unknown pool.

    >>> from gatjax.graph import build_graph
    >>> graph = GraphReadout(2, 3, rngs=nnx.Rngs(0))(build_graph([], [], jnp.eye(2)))
    >>> graph.nodes.shape, graph.globals.shape
    ((2, 2), (1, 3))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        pool: Pool = "mean",
        use_bias: bool = True,
        kernel_init: Initializer = glorot_uniform,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_pool(pool=pool)
        check_widths(in_features=in_features, out_features=out_features)
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        self.pool: Pool = pool
        heads = HeadInit(1, out_features, kernel_init, dtype, param_dtype, rngs)
        self.projection = HeadProjection(in_features, heads, use_bias=use_bias)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[SideParts],
    ) -> GraphsTuple:
        """The graph with new globals `[G, out_features]`; its nodes and edges are left alone.

        The arguments are those of a layer, so that it ends a `Stack`; of these, `node_mask` counts.
        """
        node_features(graph)
        pooled = pool_nodes(graph, self.pool, node_mask=parts.get("node_mask"))
        return graph._replace(globals=self.projection(pooled, name="globals")[:, 0, :])
