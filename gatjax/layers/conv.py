"""The interface of a layer: its call and its attention, written once for all."""

from collections.abc import Callable
from typing import NamedTuple, Unpack

from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.attend import attend
from gatjax.attention.blocked import Rows
from gatjax.attention.steps import RowFunction, normalized, on_edges
from gatjax.graph.check import (
    EdgeMask,
    EdgeWeight,
    NodeMask,
    Parts,
    check_edge_features,
    check_edges,
    node_features,
)
from gatjax.graph.sizes import num_nodes
from gatjax.layers.parts import Dropout, HeadOutput, Keys, Setup, Weighing
from gatjax.ops.ends import Ends
from gatjax.ops.sparse import Features, keep_rows


class Mechanism(NamedTuple):
    """What tells one layer from another: two functions on rows, the rows that they read, and a gate.

    Attributes:
      score: `score(weights, r, s, e) -> [..., H]`.
      value: `value(weights, r, s, e) -> [..., H, C]`.
      rows: weights, and tables of receivers, senders and edges.
      gate: `[N, H]`, multiplies what each receiver's heads have summed up; none by default.
    """

    score: RowFunction
    value: RowFunction
    rows: Rows
    gate: Float[Array, "N H"] | None = None


class Conv(nnx.Module):
    """A layer: node features [N, in_features] in, [N, out_features] out, the rest of the graph left alone.

    ```
    h'_i = output(g_i Σ_{j -> i} m_ij α_ij v_ij, h_i),        α_ij = softmax over the incoming edges of e_ij / T
    ```

    A layer of one's own sets the attributes below and defines `mechanism`, which says what e_ij and v_ij are; the
    attention dropout m and the rest are here. No layer applies an activation or adds self-loops: both are the caller's
    (`add_self_loops`). A node without incoming edges gets the bias and the residual, nothing else.

    Attributes:
      num_heads: H.
      edge_features: width of the edges' features, None if it reads none.
      weighing: `normalize`, `temperature` and `block_size`.
      dropout: the layer's `Dropout`.
      output: `output(x, nodes)`, from what the heads have summed up [N, H, C], and the node features, to
        [N, out_features].
    """

    num_heads: int = 1
    edge_features: int | None = None
    weighing: Weighing = Weighing()
    dropout: Dropout
    output: Callable[[Array, Features], Array]

    def finish(self, setup: Setup) -> None:
        """Weighing, dropout and output; the last two take their random keys after a layer's own parameters."""
        self.num_heads = setup.num_heads
        self.weighing = setup.weighing
        self.dropout = Dropout(setup.dropout_rate, rngs=setup.rngs)
        self.output = HeadOutput(setup)

    def mechanism(self, graph: GraphsTuple, ends: Ends, keys: Keys) -> Mechanism:
        """Score, value and what they read.

        Args:
          graph: one graph or a batch, checked.
          ends: both ends of its edges, and which edges count.
          keys: for dropout, None where nothing is dropped.
        """
        raise NotImplementedError(f"{type(self).__name__} must define mechanism(graph, ends, keys)")

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        """The graph with new node features.

        Args:
          graph: one graph or a batch; node features may be a sparse `BCOO`.
          edge_mask: edges that take part, [E]; all by default.
          edge_weight: how much each edge counts, [E], after the softmax: α_ij becomes w_ij α_ij, and the weights of a
            receiver no longer sum to 1. To weigh inside the softmax instead, give the layer log w_ij as an edge
            feature, or add it to a score of your own.
          node_mask: nodes that take part, [N]; all by default. What the others and their edges hold, NaN included,
            reaches no sum and no gradient.
          deterministic: without dropout; as set by `train()` and `eval()` by default.
          rngs: keys for dropout; those of the layer by default.

        Raises:
          TypeError, ValueError: a graph that is not sound, or not what the layer was built for.
        """
        parts: Parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        kept, ends = self.check(graph, **parts)
        keys = self.dropout.keys(deterministic, rngs)
        score, value, rows, gate = self.mechanism(kept, ends, keys)
        x = attend(
            score,
            value,
            rows,
            ends,
            num_nodes(graph),
            multiplier=self.dropout.attention(keys),
            **self.weighing._asdict(),
        )
        x = x if gate is None else x * gate[:, :, None]
        return graph._replace(nodes=self.output(x, node_features(kept)))

    def attention(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
    ) -> Float[Array, "E H"]:
        """The weights w α, aligned with the graph's edges, before dropout; 0 on an edge that does not count.

        The arguments are those of the call.
        """
        parts: Parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        graph, ends = self.check(graph, **parts)
        mechanism = self.mechanism(graph, ends, Keys())
        logits = on_edges(mechanism.score, mechanism.rows, ends)
        return ends.weigh(self.weights(logits, ends, num_nodes(graph)))

    def weights(
        self, logits: Float[Array, "E H"], ends: Ends, num_receivers: int
    ) -> Float[Array, "E H"]:
        """The logits, normalised over the edges that share a receiver."""
        normalize, temperature, _ = self.weighing
        return normalized(logits, ends, num_receivers, normalize, temperature)

    def check(self, graph: GraphsTuple, **parts: Unpack[Parts]) -> tuple[GraphsTuple, Ends]:
        """The graph without the features of nodes that do not take part, and the edges that count."""
        ends = check_edges(graph, **parts)
        graph = check_edge_features(graph, self.edge_features)
        return graph._replace(nodes=keep_rows(node_features(graph), parts.get("node_mask"))), ends
