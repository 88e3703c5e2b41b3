"""A block of a graph network whose edge step is attention, as a layer that never holds an array of all edges' values.

```
ē_i = Σ_{k : r_k = i} b_k V_k          v'_il = Σ_hc ē_ihc w_hcl + (W_res v_i)_l + b_l
```

with b and V of `AttentionEdgeStep`.
"""

from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.steps import on_edges
from gatjax.graph.check import SideParts
from gatjax.graph.sizes import graph_ids, num_nodes
from gatjax.graph.views import Sides, View
from gatjax.layers.checks import check_in_features, check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.counted import graphs_with
from gatjax.layers.dropout import Dropout, Keys
from gatjax.layers.edge_step import Attended, AttentionEdgeStep, value_with_edge, weigh
from gatjax.layers.inputs import InFeatures, seen_through
from gatjax.layers.options import AttentionBlockOptions, listed
from gatjax.layers.parts import HeadInit, HeadOutput, Setup
from gatjax.ops.blocks import gather, mask_rows
from gatjax.ops.ends import Ends


class AttentionBlock(Conv):
    """A graph network block whose edge step is attention and whose node update is linear, as a layer.

    ```
    b_k  = softmax over the edges k with the same receiver of scale · q_k · K_k / T
    ē_i  = Σ_{k : r_k = i} b_k V_k
    v'_il = Σ_hc ē_ihc w_hcl + (W_res v_i)_l + b_l
    ```

    with q, K and V of `AttentionEdgeStep`, and a learned contraction w [H, C, out_features] over (feature, head). The
    graph's edges and globals are left alone; `updated_edges` gives e'_k = b_k V_k. Globals are read only where
    `global_features` is set. Self-loops and the activation are the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, edge_features, normalize, temperature, block_size, residual, dropout_rate,
        dtype, param_dtype, rngs: as in `GATConv`.
      head_features: C, per head; `out_features / num_heads` by default.
      global_features, scale: as in `AttentionEdgeStep`.
      use_bias: b on the output and b_q on the query.
      kernel_init: called once per head with shape (width, C), and for w with (H·C, out_features).

    Raises:
      ValueError: no head, a width that heads do not divide where `head_features` is not given, a rate outside [0, 1).

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> block = AttentionBlock(3, 5, num_heads=2, head_features=4, rngs=nnx.Rngs(0))
    >>> block(graph).nodes.shape, block.attention(graph).shape, block.updated_edges(graph).shape
    ((3, 5), (2, 2), (2, 2, 4))

    Battaglia et al., Relational inductive biases, deep learning, and graph networks, 2018, whose edge update is open.
    Unlike `DotProductConv`, it has kernels of their own for an edge's part in key and value, reads globals, and
    contracts the heads.
    """

    @listed(AttentionBlockOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        head_features: int | None = None,
        edge_features: int | None = None,
        global_features: int | None = None,
        scale: float | None = None,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionBlockOptions],
    ):
        check_sizes(head_features=head_features)
        setup = Setup(in_features, out_features, rngs, **options)
        features = head_features or setup.heads.features
        heads = HeadInit(setup.num_heads, features, *setup.numbers, rngs)
        self.num_heads = setup.num_heads
        self.in_features = check_in_features(in_features)
        self.edge_features = edge_features
        self.step = AttentionEdgeStep(
            in_features,
            features,
            num_heads=setup.num_heads,
            edge_features=edge_features,
            global_features=global_features,
            scale=scale,
            use_bias=setup.use_bias,
            kernel_init=setup.kernel_init,
            dtype=setup.dtype,
            param_dtype=setup.param_dtype,
            rngs=rngs,
        )
        self.dropout = Dropout(setup.dropout_rate, rngs=rngs)
        self.weighing = setup.weighing
        self.output = HeadOutput(setup, learned=heads)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        step, globals = self.step, self._globals_of_rows(graph, nodes)
        query = step.queries(nodes.receivers, globals.receivers)
        value = lambda rows: self.dropout.projected(step.values(rows, globals.senders), keys)
        senders = nodes.sent(lambda rows: {"key": step.key(rows), "value": value(rows)})
        weights = step.edge_weights(query.dtype)
        return Mechanism(step.score, value_with_edge, Rows(weights, query, senders, graph.edges))

    def _globals_of_rows(self, graph: GraphsTuple, nodes: Sides) -> Sides:
        """The globals of the graph that each row belongs to; a table of senders belongs to the only one."""
        if self.step.global_features is None:
            return Sides(None, None)
        globals = _globals(graph, self.step.global_features)
        of_nodes = graph_ids(graph.n_node, num_nodes(graph))
        received = gather(globals, of_nodes)
        sending = nodes.tables.senders
        if nodes.receivers is sending:
            return Sides(received, received)
        return Sides(received, gather(globals, jnp.zeros(sending.shape[0], jnp.int32)))

    def check(
        self, graph: GraphsTuple, **parts: Unpack[SideParts]
    ) -> tuple[GraphsTuple, Sides, Ends]:
        """Without the globals of graphs in which no node takes part, too."""
        kept, nodes, ends = super().check(graph, **parts)
        width, counted = self.step.global_features, graphs_with(graph, parts.get("node_mask"))
        if width is None:
            return kept, nodes, ends
        if parts.get("senders") is not None and len(graph.n_node) != 1:
            raise ValueError(
                f"a layer with global_features cannot tell which of {len(graph.n_node)} graphs each row of senders "
                "belongs to: pass one graph, or build the layer without"
            )
        if counted is None:
            return kept, nodes, ends
        return kept._replace(globals=mask_rows(_globals(graph, width), counted)), nodes, ends

    def updated_edges(
        self, graph: GraphsTuple, *, view: View | None = None, **parts: Unpack[SideParts]
    ) -> Float[Array, "walked H C"]:
        """The updated edges e'_k = w_k b_k V_k, before they are added up and without dropout.

        The arguments are those of `attention`.
        """
        graph, parts = seen_through(view, graph, parts)
        _, mechanism, ends = self.read(graph, **parts)
        functions = mechanism.score, mechanism.value
        edges = Attended(*(on_edges(function, mechanism.rows, ends) for function in functions))
        return weigh(edges, ends, num_nodes(graph), *self.weighing[:2])


def _globals(graph: GraphsTuple, width: int | None) -> Array:
    if graph.globals is None:
        raise ValueError(
            "the layer was built with global_features, but the graph has none (globals=None): give it "
            "globals [G, K], or build the layer without"
        )
    globals = jnp.asarray(graph.globals)
    if globals.shape[1:] != (width,):
        raise ValueError(
            f"globals must be [G, {width}], got {list(globals.shape)}: as wide as the layer was built for"
        )
    return globals
