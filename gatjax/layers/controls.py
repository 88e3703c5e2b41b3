"""Layers without attention: the controls of every claim about it."""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.graph.check import SideParts, check_edges, check_not_negative
from gatjax.graph.views import Sides, View
from gatjax.layers.checks import check_in_features
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Dropout, Keys
from gatjax.layers.inputs import InFeatures, check_widths, node_features, seen_through, widths
from gatjax.layers.options import ConvOptions, ResidualOptions, RowOptions, check_call, listed
from gatjax.layers.parts import HeadOutput, HeadProjection, Setup, sender_value
from gatjax.ops.blocks import gather
from gatjax.ops.ends import Ends
from gatjax.ops.segment import segment_sum
from gatjax.ops.sparse import HeadDropout, keep_rows, promote


class MeanConv(Conv):
    """Project, then average the neighbours: attention with equal weights, the control of every layer here.

    ```
    h'_i = combine_h(1/|N(i)| Σ_{j -> i} W h_j) + W_res h_i + b
    ```

    With the widths, heads and dropout of a GAT it is that GAT with its attention held uniform (Const-GAT). Self-loops
    and the activation are the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, combine, block_size, residual, use_bias, dropout_rate, kernel_init, dtype,
        param_dtype, rngs: as in `GATConv`.

    Raises:
      ValueError: as `GATConv`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> MeanConv(3, 4, rngs=nnx.Rngs(0)).attention(graph).tolist()
    [[0.5], [0.5]]
    """

    @listed(ConvOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        rngs: nnx.Rngs,
        **options: Unpack[ConvOptions],
    ):
        setup = Setup(in_features, out_features, rngs, **options)
        self.projection = HeadProjection(setup.widths.senders, setup.heads)
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        value = lambda rows: self.dropout.projected(self.projection(rows), keys)
        senders = {"value": nodes.sent(value)}
        return Mechanism(_uniform, sender_value, Rows(None, None, senders, None))


def _uniform(weights, r, s, e):
    return jnp.zeros_like(s["value"][:, :, 0])


class GCNConv(Conv):
    """Graph convolution: fixed weights from the degrees, no attention.

    ```
    h'_i = Σ_{j -> i} w_ij W h_j / sqrt(d_i d_j) + b
    ```

    d_i is the number of incoming edges of i that the masks leave, or the sum of their weights w where there are any;
    a node without any counts as 1. The published layer has self-loops on every node (`add_self_loops`), which
    are the caller's, as is the activation; an edge given twice is one of twice the weight. Senders with a
    table of their own have no incoming edges: there d_j is the number, or the weight, of those that leave j.

    Args:
      in_features, out_features, block_size, residual, use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`,
        with one head.
      dropout_rate: of the edges, or `DropoutRates` for its four places.

    Raises:
      ValueError: a rate outside [0, 1).

    >>> from gatjax.graph import add_self_loops, build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [1, 0], jnp.eye(2)))
    >>> print(jnp.round(10 * GCNConv(2, 4, rngs=nnx.Rngs(0)).attention(graph)[:, 0]))
    [5. 5. 5. 5.]

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """

    @listed(ResidualOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        rngs: nnx.Rngs,
        **options: Unpack[ResidualOptions],
    ):
        setup = Setup(in_features, out_features, rngs, **options)
        self.projection = HeadProjection(setup.widths.senders, setup.heads)
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        root = _roots(nodes, ends, self._dtype(nodes))
        gate = root.receivers
        if ends.weight is not None:
            count = _count(ends, ends.receivers, len(gate), gate.dtype)
            gate = (count / gate).astype(gate.dtype)
        value = lambda rows: self.dropout.projected(self.projection(rows), keys)
        of_rows = root.tables.senders[:, None, None]
        senders = {"value": nodes.sent(lambda rows: value(rows) / of_rows)}
        return Mechanism(_uniform, sender_value, Rows(None, None, senders, None), gate[:, None])

    def attention(
        self, graph: GraphsTuple, *, view: View | None = None, **parts: Unpack[SideParts]
    ) -> Float[Array, "walked 1"]:
        """The weights w_ij / sqrt(d_i d_j), aligned with the graph's edges; 0 on an edge that does not count.

        The arguments are those of the call.
        """
        graph, parts = seen_through(view, graph, parts)
        _, nodes, ends = self.check(graph, **parts)
        root = _roots(nodes, ends, self._dtype(nodes))
        product = gather(root.receivers, ends.receivers) * gather(root.senders, ends.senders)
        return ends.weigh(jnp.where(ends.counted, 1 / product, 0)[:, None])

    def _dtype(self, nodes: Sides) -> DTypeLike:
        """Of the projected rows."""
        rows = nodes.tables.senders
        features = rows.features if isinstance(rows, HeadDropout) else rows
        kernel = jnp.asarray(self.projection.kernel[...])
        return promote(self.projection.dtype, features, kernel)[1].dtype


def _roots(nodes: Sides, ends: Ends, dtype: DTypeLike) -> Sides:
    """The square roots of the degrees, [N] and [M]."""
    root = lambda ids: lambda rows: jnp.sqrt(_degree(ends, ids, rows.shape[0], dtype)).astype(dtype)
    if nodes.shared:
        return nodes.each(root(ends.receivers))
    return nodes.each(root(ends.senders), root(ends.receivers))


def _degree(ends: Ends, ids: Array, num_rows: int, dtype: DTypeLike) -> Float[Array, "N"]:
    """The weights of the edges at each row that the ids name, 1 where they sum to nothing."""
    if ends.weight is None:
        return _count(ends, ids, num_rows, dtype)
    check_not_negative("edge_weight", ends.weight)
    weight = ends.weight.astype(jnp.promote_types(dtype, jnp.float32))
    degree = segment_sum(weight, ids, num_rows, mask=ends.counted)
    return jnp.where(degree > 0, degree, 1)


def _count(ends: Ends, ids: Array, num_rows: int, dtype: DTypeLike) -> Float[Array, "N"]:
    """The number of edges at each row that the ids name, 1 where there is none."""
    ones = jnp.ones(ends.counted.shape, jnp.promote_types(dtype, jnp.float32))
    return jnp.maximum(segment_sum(ones, ids, num_rows, mask=ends.counted), 1)


class NodeLinear(nnx.Module):
    """A linear layer on each node alone; the edges are ignored. The control without a graph.

    ```
    h'_i = W h_i + b
    ```

    Args:
      in_features, out_features, use_bias, kernel_init, dtype, param_dtype, rngs: as in `GATConv`, with one head.
      dropout_rate: of the edges, of which there are none, or `DropoutRates`, of which `inputs` counts.

    >>> from gatjax.graph import build_graph
    >>> NodeLinear(3, 4, rngs=nnx.Rngs(0))(build_graph([], [], jnp.eye(3))).nodes.shape
    (3, 4)
    """

    @listed(RowOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        rngs: nnx.Rngs,
        **options: Unpack[RowOptions],
    ):
        setup = Setup(in_features, out_features, rngs, **options)
        self.in_features = check_in_features(setup.in_features)
        self.projection = HeadProjection(setup.widths.receivers, setup.heads)
        self.dropout = Dropout(setup.dropout_rate, rngs=rngs)
        self.output = HeadOutput(setup)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        view: View | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[SideParts],
    ) -> GraphsTuple:
        """As `GATConv`; the edges, their senders, masks and weights change nothing."""
        check_call(self, parts)
        graph, parts = seen_through(view, graph, parts)
        check_edges(graph, **parts)
        nodes = keep_rows(node_features(graph), parts.get("node_mask"))
        check_widths(Sides(nodes, nodes), widths(self.in_features).receivers)
        keys = self.dropout.keys(deterministic, rngs, view)
        z = self.projection(self.dropout.inputs(nodes, keys))
        graph = graph._replace(nodes=self.output(z, nodes))
        return graph if view is None else view.after(graph)
