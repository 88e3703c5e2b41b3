"""The interface of a layer: its call and its attention, written once for all."""

import inspect
from collections.abc import Callable
from typing import NamedTuple, Unpack

from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.attend import attend
from gatjax.attention.blocked import Rows
from gatjax.attention.steps import Normalizer, RowFunction, normalized, on_edges
from gatjax.graph.check import EdgeMask, EdgeWeight, NodeMask, SenderMask, SideParts, check_edges
from gatjax.graph.halo import Halo
from gatjax.graph.sizes import num_nodes
from gatjax.graph.views import Seen, Sides, View
from gatjax.layers.checks import check_in_features
from gatjax.layers.dropout import Dropout, Keys
from gatjax.layers.inputs import (
    InFeatures,
    check_edge_features,
    check_widths,
    node_features,
    seen_through,
    side_parts,
)
from gatjax.layers.parts import HeadOutput, Setup, Weighing
from gatjax.ops.ends import Ends
from gatjax.ops.sparse import Features, keep_rows

_NO_KEYS = Keys()


class Mechanism(NamedTuple):
    """What tells one layer from another: two functions on rows, the rows that they read, and a gate.

    Attributes:
      score: `score(weights, r, s, e) -> [..., H]`.
      value: `value(weights, r, s, e) -> [..., H, C]`.
      rows: weights, and tables of receivers, senders and edges.
      gate: `[N, H]`, multiplies what each receiver's heads have summed up; none by default.
      ends: of the edges, where the rows are not those of the nodes alone; given by the layer.
      groups: how many softmaxes a receiver has: row i·groups + g is the g-th of receiver i. `Conv.join` adds them up.
      normalize: in place of the layer's, where it reads the edges of the graph, such as a `Mixture`.
    """

    score: RowFunction
    value: RowFunction
    rows: Rows
    gate: Float[Array, "N H"] | None = None
    ends: Ends | None = None
    groups: int = 1
    normalize: Normalizer | None = None


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
      in_features: width of the nodes, or the pair (receivers, senders); not looked at where it is None.
      edge_features: width of the edges' features, None if it reads none.
      weighing: `normalize`, `temperature` and `block_size`.
      dropout: the layer's `Dropout`.
      local: whether a node's output reads nothing but its own row and what its edges carry.
      output: `output(x, nodes)`, from what the heads have summed up [N, H, C], and the node features, to
        [N, out_features].
    """

    num_heads: int = 1
    in_features: InFeatures | None = None
    edge_features: int | None = None
    weighing: Weighing = Weighing()
    local: bool = True
    dropout: Dropout
    output: Callable[[Array, Features], Array]

    def finish(self, setup: Setup) -> None:
        """Weighing, dropout and output; the last two take their random keys after a layer's own parameters."""
        self.num_heads = setup.num_heads
        self.in_features = check_in_features(setup.in_features)
        self.weighing = setup.weighing
        self.dropout = Dropout(setup.dropout_rate, rngs=setup.rngs)
        self.output = HeadOutput(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        """Score, value and what they read.

        Args:
          graph: one graph or a batch, checked; for the features of its edges and its globals.
          nodes: the features of the rows that receive and of those that send, after their dropout; `nodes.each` treats
            both, and once where they are the same.
          ends: both ends of the edges, and which edges count.
          keys: for dropout, None where nothing is dropped.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define mechanism(graph, nodes, ends, keys)"
        )

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        senders: Features | None = None,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        sender_mask: SenderMask = None,
        view: View | None = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        """The graph with new node features.

        Args:
          graph: one graph or a batch; node features may be a sparse `BCOO`.
          senders: features [M, F] of the rows that send, where they are not the nodes: `graph.senders` then name rows
            of this table, and the nodes only receive (`build_graph(..., num_senders=M)`). Self-loops have no meaning
            there. The widths are `in_features=(receivers, senders)`, or one for both.
          edge_mask: edges that take part, [E]; all by default.
          edge_weight: how much each edge counts, [E], after the softmax: α_ij becomes w_ij α_ij, and the weights of a
            receiver no longer sum to 1. To weigh inside the softmax instead, give the layer log w_ij as an edge
            feature, or add it to a score of your own.
          node_mask: nodes that take part, [N]; all by default. What the others and their edges hold, NaN included,
            reaches no sum and no gradient.
          sender_mask: the same for the rows of `senders`, [M].
          view: which nodes receive and which send, such as `First(n)` of a sample or the `Halo` of a shard; all do
            both by default. The graph that is returned has those that receive, and of the edges those between them that
            the view knows.
          deterministic: without dropout; as set by `train()` and `eval()` by default.
          rngs: keys for dropout; those of the layer by default.

        Raises:
          TypeError, ValueError: a graph that is not sound, or not what the layer was built for.
        """
        parts = side_parts(senders, edge_mask, edge_weight, node_mask, sender_mask)
        graph, parts = seen_through(view, graph, parts)
        keys = self.dropout.keys(deterministic, rngs, view)
        nodes, mechanism, ends = self.read(graph, keys, **parts)
        x = self.join(self.sums(graph, mechanism, ends, keys), graph, parts.get("node_mask"))
        x = x if mechanism.gate is None else x * mechanism.gate[:, :, None]
        graph = graph._replace(nodes=self.output(x, nodes.receivers))
        return graph if view is None else view.after(graph)

    def attention(
        self,
        graph: GraphsTuple,
        *,
        senders: Features | None = None,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        sender_mask: SenderMask = None,
        view: View | None = None,
    ) -> Float[Array, "walked H"]:
        """The weights w α, aligned with the graph's edges, before dropout; 0 on an edge that does not count.

        The arguments are those of the call; with a view there are weights for the edges that it walks.
        """
        parts = side_parts(senders, edge_mask, edge_weight, node_mask, sender_mask)
        graph, parts = seen_through(view, graph, parts)
        _, mechanism, ends = self.read(graph, **parts)
        logits = on_edges(mechanism.score, mechanism.rows, ends)
        num_receivers = num_nodes(graph) * mechanism.groups
        normalize, temperature, _ = self._weighing(mechanism)
        return ends.weigh(normalized(logits, ends, num_receivers, normalize, temperature))

    def sums(
        self, graph: GraphsTuple, mechanism: Mechanism, ends: Ends, keys: Keys = _NO_KEYS
    ) -> Float[Array, "N groups H C"]:
        """What each softmax of each receiver has summed up."""
        x = attend(
            mechanism.score,
            mechanism.value,
            mechanism.rows,
            ends,
            num_nodes(graph) * mechanism.groups,
            multiplier=self.dropout.attention(keys),
            **self._weighing(mechanism)._asdict(),
        )
        return x.reshape(num_nodes(graph), mechanism.groups, *x.shape[1:])

    def join(
        self, x: Float[Array, "N groups H C"], graph: GraphsTuple, node_mask: NodeMask
    ) -> Float[Array, "N H C"]:
        """What the softmaxes of a receiver come to: their sum, if a layer does not say otherwise."""
        return x[:, 0] if x.shape[1] == 1 else x.sum(1)

    def _weighing(self, mechanism: Mechanism) -> Weighing:
        if mechanism.normalize is None:
            return self.weighing
        return self.weighing._replace(normalize=mechanism.normalize)

    def read(
        self, graph: GraphsTuple, keys: Keys = _NO_KEYS, **parts: Unpack[SideParts]
    ) -> tuple[Sides, Mechanism, Ends]:
        """The features of both sides, before dropout; what the layer makes of them; and the edges that count."""
        if not self.local and isinstance(getattr(parts.get("senders"), "view", None), Halo):
            raise ValueError(
                f"{type(self).__name__} reads more of a graph than what the neighbours of a node send, so it cannot "
                'run on a shard; HANConv can with semantic="node"'
            )
        graph, nodes, ends = self.check(graph, **parts)
        mechanism = self.mechanism(graph, self.dropout.sides(nodes, keys), ends, keys)
        return nodes, mechanism, ends if mechanism.ends is None else mechanism.ends

    def check(
        self, graph: GraphsTuple, **parts: Unpack[SideParts]
    ) -> tuple[GraphsTuple, Sides, Ends]:
        """The graph, the features of both sides, zeros where they do not take part, and the edges that count."""
        ends = check_edges(graph, **parts)
        graph = self.check_features(graph, parts.get("edge_mask"))
        senders, node_mask = parts.get("senders"), parts.get("node_mask")
        receivers = keep_rows(node_features(graph), node_mask)
        if isinstance(senders, Seen):
            nodes = senders
        else:
            own = senders is None
            nodes = Sides(
                receivers, receivers if own else keep_rows(senders, parts.get("sender_mask"))
            )
        check_widths(nodes, self.in_features)
        return graph._replace(nodes=receivers), nodes, ends

    def check_features(self, graph: GraphsTuple, edge_mask: EdgeMask) -> GraphsTuple:
        """The graph, if the features of its edges are those that the layer was built for."""
        may_read = "edge_features" in inspect.signature(type(self).__init__).parameters
        return check_edge_features(graph, self.edge_features, may_read=may_read)
