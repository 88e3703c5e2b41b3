"""The graph network of Battaglia et al.: a block that updates edges, nodes and globals in turn, and stacks of it.

```
e'_k = φ^e(e_k, v_sk, v_rk, u)              every edge k, from sender s_k to receiver r_k
v'_i = φ^v(v_i, ē_i, u),                    ē_i = ρ^{e→v} of e'_k over the edges with r_k = i
u'   = φ^u(v̄, ē, u),                        v̄ = ρ^{v→u} of v', ē = ρ^{e→u} of e', per graph
```

φ are functions or modules on rows, ρ reductions that do not depend on the order of rows. `update_edges`,
`update_nodes` and `update_globals` are the three lines, `GraphNetwork` is the block. Features may be trees of arrays,
or None where there are none.

Write φ as modules or as functions at module level. A lambda made anew with every model is a new function to
`jax.jit`, which then compiles every model anew.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.attention.steps import Normalize, Temperature, normalized
from gatjax.graph.check import EdgeMask, EdgeWeight, GraphMask, NodeMask
from gatjax.graph.ids import require_dense
from gatjax.graph.sizes import graph_ids, num_edges, num_nodes
from gatjax.layers.counted import AllParts, Counted, apply_to_rows, check_counted, check_updates
from gatjax.layers.edge_step import Attended, weigh
from gatjax.layers.parts import Weighing
from gatjax.layers.pooling import AttentionPooling
from gatjax.ops.blocks import fill_rows, gather, mask_rows
from gatjax.ops.segment import over_rows, segment_max, segment_mean, segment_sum

Aggregation = str | Callable[..., Array]


AGGREGATIONS: dict[str, Callable[..., Array]] = {
    "sum": segment_sum,
    "mean": segment_mean,
    "max": segment_max,
}


def update_edges(
    graph: GraphsTuple,
    update: Callable[..., PyTree],
    *,
    edge_mask: EdgeMask = None,
    node_mask: NodeMask = None,
    graph_mask: GraphMask = None,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
) -> GraphsTuple:
    """The first line of the block: every edge from itself, its two ends and the globals.

    ```
    e'_k = φ^e(e_k, v_sk, v_rk, u)
    ```

    Sender before receiver, as everywhere here: the textbook's (4.12) has φ^e(e_k, v_rk, v_sk, u), the other way round.
    A function transcribed from there has its second and third argument swapped.

    Args:
      graph: one graph or a batch.
      update: φ^e, called as `update(edges, senders, receivers, globals)` with rows `[E, ...]` or None; it returns
        rows `[E, ...]`, or `Attended` logits and values, which become e'_k = b_k V_k.
      edge_mask: edges that take part, `[E]`; all by default.
      node_mask: nodes that take part, `[N]`, and with them their edges; all by default.
      graph_mask: graphs that take part, `[G]`, and with them their nodes; by default those with a node that does.
      normalize, temperature: of `Attended` edges, as in `attention_weights`.

    Returns:
      The graph with its edges replaced; 0 on edges that do not count, whatever they and their ends hold.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [10.0]]))
    >>> update_edges(graph, lambda e, s, r, u: r - s).edges.tolist()
    [[9.0], [7.0]]
    """
    counted = _check(graph, edge_mask=edge_mask, node_mask=node_mask, graph_mask=graph_mask)
    messages = _messages(graph, update, counted)
    if isinstance(messages, Attended):
        options = normalize, temperature
        return graph._replace(edges=weigh(messages, counted.ends, num_nodes(graph), *options))
    return graph._replace(edges=mask_rows(messages, counted.ends.counted))


def update_nodes(
    graph: GraphsTuple,
    update: Callable[..., PyTree],
    *,
    aggregate: Aggregation = "sum",
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    node_mask: NodeMask = None,
    graph_mask: GraphMask = None,
) -> GraphsTuple:
    """The second line of the block: every node from itself, the edges that enter it, and the globals.

    ```
    v'_i = φ^v(v_i, ρ_{k : r_k = i} w_k e_k, u)
    ```

    Args:
      graph: one graph or a batch.
      update: φ^v, called as `update(nodes, received, globals)` with rows `[N, ...]` or None.
      aggregate: ρ: "sum", "mean", "max", or a function with the signature of `segment_sum`.
      edge_mask: edges that take part, `[E]`; all by default.
      edge_weight: w, how much each edge counts, `[E]`; 1 by default. It multiplies what is aggregated; in an
        `AttentionPooling` it multiplies after the softmax.
      node_mask: nodes that take part, `[N]`, and with them their edges; all by default.
      graph_mask: graphs that take part, `[G]`, and with them their nodes; by default those with a node that does.

    Returns:
      The graph with its nodes replaced; a node that no edge enters has received 0, and one that takes no part is 0.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.zeros((3, 1)), edges=jnp.array([[1.0], [3.0]]))
    >>> update_nodes(graph, lambda v, e, u: v + e, aggregate="max").nodes.tolist()
    [[0.0], [0.0], [3.0]]
    """
    counted = _check(
        graph,
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        node_mask=node_mask,
        graph_mask=graph_mask,
    )
    ends, total = counted.ends, num_nodes(graph)
    received = _aggregate(
        aggregate, graph.edges, ends.receivers, total, ends.counted, weight=ends.weight
    )
    globals = gather(graph.globals, graph_ids(graph.n_node, total))
    rows = graph.nodes, received, globals
    return graph._replace(nodes=apply_to_rows(update, counted.nodes, *rows))


def update_globals(
    graph: GraphsTuple,
    update: Callable[..., PyTree],
    *,
    aggregate_nodes: Aggregation = "sum",
    aggregate_edges: Aggregation = "sum",
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    node_mask: NodeMask = None,
    graph_mask: GraphMask = None,
) -> GraphsTuple:
    """The third line of the block: the globals of every graph from its nodes, its edges and themselves.

    ```
    u' = φ^u(ρ_i v_i, ρ_k w_k e_k, u)
    ```

    Args:
      graph: one graph or a batch.
      update: φ^u, called as `update(nodes, edges, globals)` with rows `[G, ...]` or None.
      aggregate_nodes: ρ^{v→u}: "sum", "mean", "max", or a function with the signature of `segment_sum`.
      aggregate_edges: ρ^{e→u}, likewise.
      edge_mask: edges that take part, `[E]`; all by default.
      edge_weight: w, how much each edge counts, as in `update_nodes`.
      node_mask: nodes that take part, `[N]`, and with them their edges; all by default.
      graph_mask: graphs that take part, `[G]`, and with them their nodes; by default those with a node that does.

    Returns:
      The graph with its globals replaced; a graph without nodes or edges has aggregated 0, and one that takes no part
      is 0.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([], [], jnp.array([[1.0], [3.0]]))
    >>> update_globals(graph, lambda v, e, u: v, aggregate_nodes="mean").globals.tolist()
    [[2.0]]
    """
    counted = _check(
        graph,
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        node_mask=node_mask,
        graph_mask=graph_mask,
    )
    ends, num_graphs = counted.ends, len(graph.n_node)
    of_nodes = graph_ids(graph.n_node, num_nodes(graph))
    of_edges = graph_ids(graph.n_edge, num_edges(graph))
    nodes = _aggregate(aggregate_nodes, graph.nodes, of_nodes, num_graphs, counted.nodes)
    edges = _aggregate(
        aggregate_edges, graph.edges, of_edges, num_graphs, ends.counted, weight=ends.weight
    )
    rows = nodes, edges, graph.globals
    return graph._replace(globals=apply_to_rows(update, counted.graphs, *rows))


class GraphNetwork(nnx.Module):
    """The full block: `update_edges`, `update_nodes` and `update_globals`, each left out where its update is None.

    ```
    e'_k = φ^e(e_k, v_sk, v_rk, u)        v'_i = φ^v(v_i, ē_i, u)        u' = φ^u(v̄, ē, u)
    ```

    Each update sees what the earlier ones have made. It is any function or module on rows, and receives None for
    what the graph lacks:

    ```
    edge_update(edges, senders, receivers, globals)     rows [E, ...]; or Attended logits and values
    node_update(nodes, received, globals)               rows [N, ...]
    global_update(nodes, edges, globals)                rows [G, ...], one per graph of a batch
    ```

    Attention is an edge update that returns `Attended`, such as `AttentionEdgeStep`; the updated edges are then
    b_k V_k. Where they are not needed, `AttentionBlock` costs far less.

    Args:
      edge_update: φ^e, or None.
      node_update: φ^v, or None.
      global_update: φ^u, or None.
      edges_to_nodes: ρ^{e→v}: "sum", "mean", "max", or a function with the signature of `segment_sum`, such as
        `AttentionPooling`.
      edges_to_globals: ρ^{e→u}, likewise.
      nodes_to_globals: ρ^{v→u}, likewise.
      normalize, temperature: of `Attended` edges, as in `GATConv`; an `AttentionPooling` has its own.

    Raises:
      ValueError: an unknown name of an aggregation or a normaliser, a temperature that is not positive.

    An interaction network, a relation network and a deep set are what is left when updates are left out:

    >>> def effect(e, s, r, u): return s - r
    >>> def move(v, received, u): return v + received
    >>> def pair(e, s, r, u): return s * r
    >>> def own(v, received, u): return v**2
    >>> def of_edges(v, e, u): return e
    >>> def of_nodes(v, e, u): return v
    >>> interaction_network = GraphNetwork(effect, move)
    >>> relation_network = GraphNetwork(pair, global_update=of_edges)
    >>> deep_set = GraphNetwork(node_update=own, global_update=of_nodes)

    >>> from gatjax.graph import fully_connected
    >>> graph = fully_connected(2, nodes=jnp.array([[1.0], [3.0]]))
    >>> interaction_network(graph).nodes.tolist()
    [[3.0], [1.0]]
    >>> relation_network(graph).globals.tolist(), deep_set(graph).globals.tolist()
    ([[16.0]], [[10.0]])

    Battaglia et al., Relational inductive biases, deep learning, and graph networks, 2018, algorithm 1. Unlike
    `jraph.GraphNetwork`, a node does not receive the edges that leave it, as in the paper: reverse those edges if it
    should.
    """

    def __init__(
        self,
        edge_update: Callable[..., Any] | None = None,
        node_update: Callable[..., Any] | None = None,
        global_update: Callable[..., Any] | None = None,
        *,
        edges_to_nodes: Aggregation = "sum",
        edges_to_globals: Aggregation = "sum",
        nodes_to_globals: Aggregation = "sum",
        normalize: Normalize = "softmax",
        temperature: float = 1.0,
    ):
        for aggregation in (edges_to_nodes, edges_to_globals, nodes_to_globals):
            _reduction(aggregation)
        check_updates(edge_update=edge_update, node_update=node_update, global_update=global_update)
        self.weighing = Weighing(normalize, temperature, block_size=None).checked()
        self.edge_update = edge_update
        self.node_update = node_update
        self.global_update = global_update
        self.edges_to_nodes = edges_to_nodes
        self.edges_to_globals = edges_to_globals
        self.nodes_to_globals = nodes_to_globals

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        graph_mask: GraphMask = None,
    ) -> GraphsTuple:
        """The graph with new edges, nodes and globals.

        What takes no part, NaN included, is handed to no φ, enters no ρ, and is 0 afterwards where it is updated.

        Args:
          graph: one graph or a batch.
          edge_mask: edges that take part, [E]; all by default.
          edge_weight: how much each edge counts where edges are aggregated, [E]: ρ over w_k e'_k. The edges themselves
            are e'_k. In attention it multiplies after the softmax.
          node_mask: nodes that take part, [N], and with them their edges; all by default.
          graph_mask: graphs that take part, [G], and with them their nodes; by default those with a node that does.

        Raises:
          TypeError, ValueError: a graph, a mask or weights that are not sound.
        """
        masks = {"edge_mask": edge_mask, "node_mask": node_mask, "graph_mask": graph_mask}
        parts = {**masks, "edge_weight": edge_weight}
        if self.edge_update is not None:
            normalize, temperature, _ = self.weighing
            options = {"normalize": normalize, "temperature": temperature}
            graph = update_edges(graph, self.edge_update, **masks, **options)
        if self.node_update is not None:
            graph = update_nodes(graph, self.node_update, aggregate=self.edges_to_nodes, **parts)
        if self.global_update is not None:
            graph = update_globals(
                graph,
                self.global_update,
                aggregate_nodes=self.nodes_to_globals,
                aggregate_edges=self.edges_to_globals,
                **parts,
            )
        return graph

    def attention(self, graph: GraphsTuple, **parts: Unpack[AllParts]) -> Float[Array, "E *H"]:
        """The weights w b with which edges enter their receivers, of `Attended` edges or of an `AttentionPooling`.

        The arguments are those of the call.
        """
        counted = _check(graph, **parts)
        ends, update, pooling = counted.ends, self.edge_update, self.edges_to_nodes
        messages = graph.edges if update is None else _messages(graph, update, counted)
        if isinstance(messages, Attended):
            logits, weighing = jnp.asarray(messages.logits), self.weighing
        elif isinstance(pooling, AttentionPooling):
            logits = pooling.logits(mask_rows(messages, ends.counted))
            weighing = pooling.weighing
        else:
            raise ValueError(
                "this block has no attention: let edge_update return Attended(logits, values), or set "
                "edges_to_nodes=AttentionPooling(...)"
            )
        return ends.weigh(normalized(logits, ends, num_nodes(graph), *weighing[:2]))


def _check(graph: GraphsTuple, **parts: Unpack[AllParts]) -> Counted:
    require_dense(graph, "apply a graph network to")
    return check_counted(graph, **parts)


def _messages(graph: GraphsTuple, update: Callable[..., PyTree], counted: Counted) -> PyTree:
    """What the edge update makes of every edge; an edge that does not count reads the rows of one that does."""
    ends = counted.ends
    nodes = graph.nodes if counted.nodes is None else mask_rows(graph.nodes, counted.nodes)
    globals = gather(graph.globals, graph_ids(graph.n_edge, num_edges(graph)))
    edges = jax.tree.map(jnp.asarray, graph.edges)
    if num_edges(graph):
        edges, globals = (
            fill_rows(rows, ends.counted, rows, ends.safe) for rows in (edges, globals)
        )
    return update(edges, gather(nodes, ends.senders), gather(nodes, ends.receivers), globals)


def _reduction(aggregation: Aggregation) -> Callable[..., Array]:
    if callable(aggregation):
        return aggregation
    if aggregation not in AGGREGATIONS:
        raise ValueError(
            f"an aggregation must be one of {list(AGGREGATIONS)} or a function, got {aggregation!r}"
        )
    return AGGREGATIONS[aggregation]


def _aggregate(
    aggregation: Aggregation,
    rows: PyTree,
    ids: Int[Array, "rows"],
    num_groups: int,
    mask: Bool[Array, "rows"] | None,
    *,
    weight: Float[Array, "rows"] | None = None,
) -> PyTree:
    """ρ of the rows, each times its weight; attention takes the weight after its softmax."""
    reduce = _reduction(aggregation)
    weight = weight if weight is None or mask is None else jnp.where(mask, weight, 0)
    if weight is not None and isinstance(reduce, AttentionPooling):
        reduce, weight = partial(reduce, weight=weight), None

    def reduced(leaf):
        leaf = jnp.asarray(leaf)
        if weight is not None:
            leaf = leaf if mask is None else mask_rows(leaf, mask)
            narrow = jnp.issubdtype(leaf.dtype, jnp.inexact)
            leaf = leaf * over_rows(weight.astype(leaf.dtype) if narrow else weight, leaf)
        return reduce(leaf, ids, num_groups, mask=mask)

    return jax.tree.map(reduced, rows)
