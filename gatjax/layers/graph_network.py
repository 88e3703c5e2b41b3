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

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree
from jraph import GraphsTuple

from gatjax.attention.attend import attention_weights
from gatjax.graph.check import check_graph, counted_edges, ends_of, require_dense
from gatjax.graph.sizes import num_edges, num_nodes, owners
from gatjax.layers.block import Attended, AttentionPooling, attend_edges
from gatjax.layers.parts import Mask
from gatjax.ops.blocks import fill_rows, gather_wide, mask_rows
from gatjax.ops.segment import segment_max, segment_mean, segment_sum

Aggregation = str | Callable[..., Array]


NodeMask = Bool[ArrayLike, "N"] | None


FEATURES = ("edges", "nodes", "globals")


AGGREGATIONS: dict[str, Callable[..., Array]] = {
    "sum": segment_sum,
    "mean": segment_mean,
    "max": segment_max,
}


def update_edges(
    graph: GraphsTuple, update: Callable[..., PyTree], *, edge_mask: Mask = None
) -> GraphsTuple:
    """The first line of the block: every edge from itself, its two ends and the globals.

    ```
    e'_k = φ^e(e_k, v_sk, v_rk, u)
    ```

    Args:
      graph: one graph or a batch.
      update: φ^e, called as `update(edges, senders, receivers, globals)` with rows `[E, ...]` or None; it returns
        rows `[E, ...]`, or `Attended` logits and values, which become e'_k = b_k V_k.
      edge_mask: edges that take part, `[E]`; all by default.

    Returns:
      The graph with its edges replaced; 0 on edges that do not count.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [10.0]]))
    >>> update_edges(graph, lambda e, s, r, u: r - s).edges.tolist()
    [[9.0], [7.0]]
    """
    messages = _messages(graph, update, edge_mask)
    if isinstance(messages, Attended):
        return graph._replace(edges=attend_edges(graph, messages, edge_mask))
    return graph._replace(edges=mask_rows(messages, counted_edges(graph, edge_mask)))


def update_nodes(
    graph: GraphsTuple,
    update: Callable[..., PyTree],
    *,
    aggregate: Aggregation = "sum",
    edge_mask: Mask = None,
) -> GraphsTuple:
    """The second line of the block: every node from itself, the edges that enter it, and the globals.

    ```
    v'_i = φ^v(v_i, ρ_{k : r_k = i} e_k, u)
    ```

    Args:
      graph: one graph or a batch.
      update: φ^v, called as `update(nodes, received, globals)` with rows `[N, ...]` or None.
      aggregate: ρ: "sum", "mean", "max", or a function with the signature of `segment_sum`.
      edge_mask: edges that take part, `[E]`; all by default.

    Returns:
      The graph with its nodes replaced; a node that no edge enters has received 0.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.zeros((3, 1)), edges=jnp.array([[1.0], [3.0]]))
    >>> update_nodes(graph, lambda v, e, u: v + e, aggregate="max").nodes.tolist()
    [[0.0], [0.0], [3.0]]
    """
    _require_rows(graph)
    total, ends = num_nodes(graph), ends_of(graph, edge_mask)
    received = _aggregate(aggregate, graph.edges, ends.receivers, total, ends.counted)
    globals = gather_wide(graph.globals, owners(graph.n_node, total))
    return graph._replace(nodes=update(graph.nodes, received, globals))


def update_globals(
    graph: GraphsTuple,
    update: Callable[..., PyTree],
    *,
    aggregate_nodes: Aggregation = "sum",
    aggregate_edges: Aggregation = "sum",
    edge_mask: Mask = None,
    node_mask: NodeMask = None,
) -> GraphsTuple:
    """The third line of the block: the globals of every graph from its nodes, its edges and themselves.

    ```
    u' = φ^u(ρ_i v_i, ρ_k e_k, u)
    ```

    Args:
      graph: one graph or a batch.
      update: φ^u, called as `update(nodes, edges, globals)` with rows `[G, ...]` or None.
      aggregate_nodes: ρ^{v→u}: "sum", "mean", "max", or a function with the signature of `segment_sum`.
      aggregate_edges: ρ^{e→u}, likewise.
      edge_mask: edges that take part, `[E]`; all by default.
      node_mask: nodes that take part, `[N]`; all by default.

    Returns:
      The graph with its globals replaced; a graph without nodes or edges has aggregated 0.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([], [], jnp.array([[1.0], [3.0]]))
    >>> update_globals(graph, lambda v, e, u: v, aggregate_nodes="mean").globals.tolist()
    [[2.0]]
    """
    _require_rows(graph)
    num_graphs, total = len(graph.n_node), num_nodes(graph)
    counted = counted_edges(graph, edge_mask)
    node_mask = None if node_mask is None else jnp.asarray(node_mask)
    of_nodes, of_edges = owners(graph.n_node, total), owners(graph.n_edge, num_edges(graph))
    nodes = _aggregate(aggregate_nodes, graph.nodes, of_nodes, num_graphs, node_mask)
    edges = _aggregate(aggregate_edges, graph.edges, of_edges, num_graphs, counted)
    return graph._replace(globals=update(nodes, edges, graph.globals))


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

    Raises:
      ValueError: an unknown name of an aggregation.

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
    ):
        for aggregation in (edges_to_nodes, edges_to_globals, nodes_to_globals):
            _reduction(aggregation)
        self.edge_update = edge_update
        self.node_update = node_update
        self.global_update = global_update
        self.edges_to_nodes = edges_to_nodes
        self.edges_to_globals = edges_to_globals
        self.nodes_to_globals = nodes_to_globals

    def __call__(
        self, graph: GraphsTuple, *, edge_mask: Mask = None, node_mask: NodeMask = None
    ) -> GraphsTuple:
        if self.edge_update is not None:
            graph = update_edges(graph, self.edge_update, edge_mask=edge_mask)
        if self.node_update is not None:
            graph = update_nodes(
                graph, self.node_update, aggregate=self.edges_to_nodes, edge_mask=edge_mask
            )
        if self.global_update is not None:
            graph = update_globals(
                graph,
                self.global_update,
                aggregate_nodes=self.nodes_to_globals,
                aggregate_edges=self.edges_to_globals,
                edge_mask=edge_mask,
                node_mask=node_mask,
            )
        return graph

    def attention(self, graph: GraphsTuple, *, edge_mask: Mask = None) -> Float[Array, "E *H"]:
        """The weights with which edges enter their receivers, of `Attended` edges or of an `AttentionPooling`."""
        update, pooling = self.edge_update, self.edges_to_nodes
        messages = graph.edges if update is None else _messages(graph, update, edge_mask)
        if isinstance(messages, Attended):
            return attention_weights(graph, messages.logits, edge_mask)
        if isinstance(pooling, AttentionPooling):
            messages = mask_rows(messages, counted_edges(graph, edge_mask))
            return attention_weights(graph, pooling.votes(messages), edge_mask)
        raise ValueError(
            "this block has no attention: let edge_update return Attended(logits, values), or set "
            "edges_to_nodes=AttentionPooling(...)"
        )


class GraphIndependent(nnx.Module):
    """Edges, nodes and globals, each by a function of their own: the usual encoder and decoder.

    ```
    e'_k = f^e(e_k)        v'_i = f^v(v_i)        u' = f^u(u)
    ```

    Args:
      edges: f^e, a function or module on rows; None leaves the edges as they are.
      nodes: f^v, likewise.
      globals: f^u, likewise.

    >>> from gatjax.graph import build_graph
    >>> GraphIndependent(nodes=jnp.abs)(build_graph([], [], jnp.array([[-1.0]]))).nodes.tolist()
    [[1.0]]
    """

    def __init__(
        self,
        *,
        edges: Callable[..., Any] | None = None,
        nodes: Callable[..., Any] | None = None,
        globals: Callable[..., Any] | None = None,
    ):
        self.edges = edges
        self.nodes = nodes
        self.globals = globals

    def __call__(self, graph: GraphsTuple, *, edge_mask: Mask = None) -> GraphsTuple:
        parts = {name: getattr(self, name) for name in FEATURES}
        return graph._replace(
            **{name: f(getattr(graph, name)) for name, f in parts.items() if f is not None}
        )


class EncodeProcessDecode(nnx.Module):
    """Encode once, apply one core several times, decode.

    ```
    G_0 = encoder(G)        G_t = core(G_0 ‖ G_{t-1})        G' = decoder(G_T)
    ```

    ‖ joins nodes, edges and globals, each along its last axis, so the core reads twice the encoder's widths and
    gives back the encoder's. What the encoder leaves None is not carried from step to step, and what the core leaves
    alone stays as it was encoded.

    Args:
      encoder: a module graph -> graph, such as `GraphIndependent`.
      core: a module graph -> graph, such as `GraphNetwork`; one set of parameters for all steps.
      decoder: a module graph -> graph.
      num_steps: T, which a call may change: a larger graph may need more steps.

    Raises:
      ValueError: fewer than one step.

    >>> from gatjax.graph import build_graph
    >>> def add(v, received, u): return v[:, :1] + received
    >>> def send(e, s, r, u): return s[:, 1:]
    >>> model = EncodeProcessDecode(
    ...     GraphIndependent(), GraphNetwork(send, add), GraphIndependent(), num_steps=2)
    >>> graph = build_graph([0, 1], [1, 2], jnp.array([[1.0], [0.0], [0.0]]))
    >>> model(graph).nodes.ravel().tolist()
    [1.0, 1.0, 1.0]

    Battaglia et al., Relational inductive biases, deep learning, and graph networks, 2018, section 4.3.
    """

    def __init__(
        self,
        encoder: Callable[..., GraphsTuple],
        core: Callable[..., GraphsTuple],
        decoder: Callable[..., GraphsTuple],
        *,
        num_steps: int,
    ):
        _check_steps(num_steps)
        self.encoder = encoder
        self.core = core
        self.decoder = decoder
        self.num_steps = num_steps

    def __call__(
        self, graph: GraphsTuple, *, edge_mask: Mask = None, num_steps: int | None = None
    ) -> GraphsTuple:
        *_, latent = self._inputs_of_core(graph, edge_mask, num_steps)
        return self.decoder(latent, edge_mask=edge_mask)

    def attention(
        self, graph: GraphsTuple, *, edge_mask: Mask = None, num_steps: int | None = None
    ) -> tuple[Float[Array, "E *H"], ...]:
        """The attention of the core in every step."""
        *inputs, _ = self._inputs_of_core(graph, edge_mask, num_steps)
        return tuple(self.core.attention(joined, edge_mask=edge_mask) for joined in inputs)

    def _inputs_of_core(
        self, graph: GraphsTuple, edge_mask: Mask, num_steps: int | None
    ) -> list[GraphsTuple]:
        """What the core reads in every step, and what it returns in the last."""
        num_steps = self.num_steps if num_steps is None else num_steps
        _check_steps(num_steps)
        encoded = latent = self.encoder(graph, edge_mask=edge_mask)
        inputs = []
        for _ in range(num_steps):
            joined = _join(encoded, latent)
            latent = self.core(joined, edge_mask=edge_mask)
            untouched = [
                name for name in FEATURES if getattr(latent, name) is getattr(joined, name)
            ]
            latent = latent._replace(**{name: getattr(encoded, name) for name in untouched})
            inputs.append(joined)
        return [*inputs, latent]


class RowMLP(nnx.Module):
    """A multilayer perceptron on rows that are joined side by side: an update for every place of a block.

    ```
    y = W_L relu(... relu(W_1 [x_1 ‖ x_2 ‖ ...] + b_1) ...) + b_L
    ```

    Args:
      widths: of the input, of all parts together, of the hidden layers, and of the output.
      dtype: of the computation; promoted from rows and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    >>> mlp = RowMLP([5, 16, 2], rngs=nnx.Rngs(0))
    >>> mlp(jnp.ones((7, 3)), None, jnp.ones((7, 2))).shape
    (7, 2)
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nnx.List(
            nnx.Linear(*pair, dtype=dtype, param_dtype=param_dtype, rngs=rngs) for pair in pairs
        )

    def __call__(self, *rows: Float[ArrayLike, "rows _"] | None) -> Float[Array, "rows out"]:
        *hidden, last = self.layers
        x = jnp.concatenate([jnp.asarray(part) for part in rows if part is not None], axis=-1)
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


def _messages(graph: GraphsTuple, update: Callable[..., PyTree], edge_mask: Mask) -> PyTree:
    """What the edge update makes of every edge; an edge that does not count reads the rows of one that does."""
    _require_rows(graph)
    ends = ends_of(graph, edge_mask)
    edges = jax.tree.map(jnp.asarray, graph.edges)
    if num_edges(graph):
        edges = fill_rows(edges, ends.counted, edges, ends.safe)
    senders, receivers = (
        gather_wide(graph.nodes, ends.senders),
        gather_wide(graph.nodes, ends.receivers),
    )
    globals = gather_wide(graph.globals, owners(graph.n_edge, num_edges(graph)))
    return update(edges, senders, receivers, globals)


def _require_rows(graph: GraphsTuple) -> None:
    check_graph(graph)
    require_dense(graph, "apply a graph network to")


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
) -> PyTree:
    reduce = _reduction(aggregation)
    return jax.tree.map(lambda leaf: reduce(jnp.asarray(leaf), ids, num_groups, mask=mask), rows)


def _join(one: GraphsTuple, other: GraphsTuple) -> GraphsTuple:
    """Both graphs' features side by side, where the first has any."""
    names = [name for name in FEATURES if getattr(one, name) is not None]
    join = lambda x, y: jnp.concatenate([jnp.asarray(x), jnp.asarray(y)], axis=-1)
    return one._replace(
        **{name: jax.tree.map(join, getattr(one, name), getattr(other, name)) for name in names}
    )


def _check_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
