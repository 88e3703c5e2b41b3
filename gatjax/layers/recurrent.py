"""Recurrent cells on a graph: what a gated recurrent unit does with a matrix, done with a layer."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Num
from jraph import GraphsTuple

from gatjax.graph.check import check_edges
from gatjax.graph.copies import disjoint_copies, tiled
from gatjax.graph.messages import check_at_least
from gatjax.graph.sizes import num_nodes
from gatjax.layers.checks import check_sizes
from gatjax.layers.dropout import DropoutRates
from gatjax.layers.gaan import GaANConv

PARTS = ("edge_mask", "edge_weight", "node_mask")


class GraphState(NamedTuple):
    """The carry of a cell: the hidden rows, and the graph on which they live.

    Attributes:
      hidden: H, `[N, C]`, or `[B, N, C]` for B signals on the one graph.
      graph: gives the edges, and their features where the aggregator reads them; its nodes have none.
      parts: `edge_mask`, `edge_weight` and `node_mask`, those that there are.
    """

    hidden: Float[Array, "*B N C"]
    graph: GraphsTuple
    parts: dict[str, Any]


def gated_update(
    of_input: Float[Array, "*B N gates"],
    of_state: Float[Array, "*B N gates"],
    hidden: Float[Array, "*B N C"],
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
) -> Float[Array, "*B N C"]:
    """One step of a gated recurrent unit, from what its three gates are made of.

    ```
    u  = sigmoid(x_u + s_u)
    r  = sigmoid(x_r + s_r)
    H~ = activation(x_c + r * s_c)
    H' = (1 - u) * H~ + u * H
    ```

    Args:
      of_input: x_u, x_r and x_c side by side, `[..., 3C]`, made of the step's input.
      of_state: s_u, s_r and s_c likewise, made of the hidden state.
      hidden: H, `[..., C]`.
      activation: of the candidate.

    >>> import jax.numpy as jnp
    >>> gated_update(jnp.zeros((1, 3)), jnp.zeros((1, 3)), jnp.ones((1, 1))).tolist()
    [[0.5]]
    """
    x_update, x_reset, x_candidate = jnp.split(of_input, 3, axis=-1)
    s_update, s_reset, s_candidate = jnp.split(of_state, 3, axis=-1)
    update = jax.nn.sigmoid(x_update + s_update)
    reset = jax.nn.sigmoid(x_reset + s_reset)
    candidate = activation(x_candidate + reset * s_candidate)
    return (1 - update) * candidate + update * hidden


class GGRUCell(nnx.Module):
    """Graph gated recurrent unit: a GRU whose linear maps are layers on the graph.

    ```text
    [x_u ‖ x_r ‖ x_c] = Γ_x(X, X)
    [s_u ‖ s_r ‖ s_c] = Γ_h(X ‖ H, H)
    H' = gated_update(x, s, H)
    ```

    Γ(receivers, senders) is the aggregator: a receiver sees its input and its state, and attends to the states of its
    neighbours. With `GaANConv`, by default, it is the cell of GaAN; `GCNConv` makes the cell of T-GCN, `MeanConv` the
    control without attention, `NodeLinear` a GRU of every node alone.

    The carry is a `GraphState`, so that the graph is an argument and no part of the module:

    ```text
    carry = cell.initialize_carry(graph, batch_size=B)
    carry, H = cell(carry, X)                                    X [B, N, F] -> H [B, N, C]
    H = nnx.RNN(cell)(signals, initial_carry=carry)              [B, T, N, F] -> [B, T, N, C]
    H = over_time(cell, signals, carry)[1]                          the same, Γ_x of all steps at once
    ```

    Without a batch size the leading axis is left out. B signals are as B disjoint copies of the graph.

    Args:
      in_features: F, width of the inputs.
      hidden_features: C, width of the state.
      aggregator: constructs Γ, such as the class of a layer: `aggregator(in_features, out_features, rngs=rngs)`.
      activation: of the candidate.
      dtype, param_dtype, rngs: as in `GATConv`.
      **options: those of the aggregator, such as `num_heads`.

    Raises:
      ValueError: a width below 1, or as the aggregator; when called, an input of another width.

    >>> from gatjax.graph import build_graph
    >>> cell = GGRUCell(2, 4, num_heads=2, rngs=nnx.Rngs(0))
    >>> carry = cell.initialize_carry(build_graph([0, 1], [1, 0], num_nodes=2), batch_size=3)
    >>> nnx.RNN(cell)(jnp.ones((3, 5, 2, 2)), initial_carry=carry).shape
    (3, 5, 2, 4)

    Zhang et al., GaAN: Gated Attention Networks for Learning on Large and Spatiotemporal Graphs, UAI 2018, whose cell
    has the activation LeakyReLU (0.1) where a GRU has tanh, as here. Cho et al., 2014; Zhao et al., T-GCN, 2019, who
    multiply by r before the map, where GaAN and Flax multiply after it.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        aggregator: Callable[..., Any] = GaANConv,
        activation: Callable[[Array], Array] = jnp.tanh,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes(in_features=in_features, hidden_features=hidden_features)
        options |= {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.in_features = in_features
        self.hidden_features = hidden_features
        self.activation = activation
        self.param_dtype = param_dtype
        width = 3 * hidden_features
        self.of_input = aggregator(in_features, width, **options)
        self.of_state = aggregator(
            (in_features + hidden_features, hidden_features), width, **options
        )

    @property
    def num_feature_axes(self) -> int:
        """Nodes and features: `nnx.RNN` takes the axis before them for time."""
        return 2

    def initialize_carry(
        self, graph: Any, rngs: Any = None, *, batch_size: int | None = None, **parts: Any
    ) -> GraphState:
        """A state of zeros on a graph.

        Args:
          graph: gives nodes and edges.
          rngs: not used; `nnx.RNN` has it.
          batch_size: B, of signals that share the graph; without, the state has no leading axis.
          **parts: `edge_mask`, `edge_weight` and `node_mask`, as in the call of a layer.

        Raises:
          TypeError: no graph, such as the shape that `nnx.RNN` hands over where it gets no `initial_carry`.
          ValueError: a graph that is not sound.
        """
        if not isinstance(graph, GraphsTuple):
            raise TypeError(
                f"the carry of GGRUCell holds the graph, got {type(graph).__name__}: with nnx.RNN, pass "
                "initial_carry=cell.initialize_carry(graph, ...)"
            )
        for name in parts.keys() - set(PARTS):
            raise TypeError(f"initialize_carry has no {name}: it takes {', '.join(PARTS)}")
        check_edges(graph, **parts)
        if batch_size is not None:
            check_at_least(1, batch_size=batch_size)
        batch = () if batch_size is None else (batch_size,)
        hidden = jnp.zeros((*batch, num_nodes(graph), self.hidden_features), self.param_dtype)
        rows = jnp.zeros((num_nodes(graph), 0))
        return GraphState(hidden, graph._replace(nodes=rows), dict(parts))

    def __call__(
        self,
        carry: GraphState,
        inputs: Num[Array, "*B N F"],
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[GraphState, Float[Array, "*B N C"]]:
        """The carry after a step, and its hidden rows.

        Args:
          carry: of `initialize_carry`, or of the step before.
          inputs: X, with the leading axis of the carry.
          deterministic, rngs: as in the call of a layer.

        Raises:
          ValueError: inputs of another shape than the carry asks for.
        """
        how = {"deterministic": deterministic, "rngs": rngs}
        return self.step(carry, inputs, self.aggregate_inputs(carry, inputs, **how), **how)

    def attention(self, carry: GraphState, inputs: Num[Array, "N F"]) -> Float[Array, "E H"]:
        """How each node attends to the states of its neighbours, Γ_h(X ‖ H, H), in one step on one signal.

        Args:
          carry: before the step, without a leading axis.
          inputs: of the step.
        """
        receivers = jnp.concatenate([inputs, carry.hidden], axis=-1)
        graph, parts = carry.graph._replace(nodes=receivers), _of_both_sides(carry.parts)
        return self.of_state.attention(graph, senders=carry.hidden, **parts)

    def aggregate_inputs(
        self, carry: GraphState, inputs: Num[Array, "*T N F"], **how: Any
    ) -> Float[Array, "*T N gates"]:
        """Γ_x(X, X), of one step or of many: the leading axes are signals on the carry's graph."""
        expected = num_nodes(carry.graph), self.in_features
        if inputs.shape[-2:] != expected:
            raise ValueError(
                f"inputs must end in [N, F] = {list(expected)}, got shape {list(inputs.shape)}: nodes of the "
                "carry's graph, features of the cell"
            )
        return _on_copies(self.of_input, carry, inputs, None, how)

    def step(
        self,
        carry: GraphState,
        inputs: Num[Array, "*B N F"],
        of_input: Float[Array, "*B N gates"],
        **how: Any,
    ) -> tuple[GraphState, Float[Array, "*B N C"]]:
        """A step from `aggregate_inputs`, which needs no state."""
        if inputs.shape[:-1] != carry.hidden.shape[:-1]:
            raise ValueError(
                f"inputs have shape {list(inputs.shape)}, the state {list(carry.hidden.shape)}: "
                "initialize_carry(graph, batch_size=B) makes a state for B signals"
            )
        floating = jnp.issubdtype(inputs.dtype, jnp.floating)
        dtype = inputs.dtype if floating else carry.hidden.dtype
        receivers = jnp.concatenate([inputs.astype(dtype), carry.hidden.astype(dtype)], axis=-1)
        of_state = _on_copies(self.of_state, carry, receivers, carry.hidden, how)
        hidden = gated_update(of_input, of_state, carry.hidden, activation=self.activation)
        hidden = hidden.astype(carry.hidden.dtype)
        return carry._replace(hidden=hidden), hidden


def over_time(
    cell: GGRUCell,
    signals: ArrayLike,
    carry: GraphState,
    *,
    deterministic: bool | None = None,
    rngs: nnx.Rngs | None = None,
) -> tuple[GraphState, Float[Array, "*B T N C"]]:
    """A cell over time: the carry after the last step, and the hidden rows of every step.

    As `nnx.RNN(cell)`, but what a step makes of its input alone is made of all steps at once, and the gradient computes
    each step again from its state, so that its memory is that of T states and of one step.

    Args:
      cell: of F features.
      signals: `[B, T, N, F]`, B on the graph of the carry, or one, `[T, N, F]`.
      carry: of `cell.initialize_carry`.
      deterministic, rngs: as in the call of a layer; every step drops anew.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers.controls import MeanConv
    >>> cell = GGRUCell(2, 4, aggregator=MeanConv, rngs=nnx.Rngs(0))
    >>> carry, hidden = over_time(cell, jnp.ones((5, 3, 2)), cell.initialize_carry(build_graph([0], [1], num_nodes=3)))
    >>> hidden.shape, bool((hidden[-1] == carry.hidden).all())
    ((5, 3, 4), True)
    """
    signals = jnp.asarray(signals)
    if signals.ndim < 3:
        raise ValueError(f"signals must be [T, N, F] or [B, T, N, F], got {list(signals.shape)}")
    key = _dropout_key(cell, deterministic, rngs)
    steps = signals.shape[-3]
    keys = None if key is None else jax.random.split(key, steps + 1)
    how = lambda key: (
        {"deterministic": deterministic} | ({} if key is None else {"rngs": nnx.Rngs(dropout=key)})
    )
    by_time = jnp.moveaxis(signals, -3, 0)
    of_inputs = cell.aggregate_inputs(carry, by_time, **how(None if keys is None else keys[-1]))
    graph, parts = carry.graph, carry.parts

    @jax.checkpoint
    def step(hidden, now):
        inputs, of_input, key = now
        state = GraphState(hidden, graph, parts)
        hidden = cell.step(state, inputs, of_input, **how(key))[1]
        return hidden, hidden

    now = by_time, of_inputs, None if keys is None else keys[:-1]
    last, hidden = jax.lax.scan(step, carry.hidden, now)
    return carry._replace(hidden=last), jnp.moveaxis(hidden, 0, -3)


def _dropout_key(cell: GGRUCell, deterministic: bool | None, rngs: nnx.Rngs | None) -> Array | None:
    """A key for all steps, where the aggregator drops anything."""
    keys = cell.of_state.dropout.keys(deterministic, rngs)
    places = (getattr(keys, place) for place in DropoutRates._fields)
    return next((key for key in places if key is not None), None)


def _on_copies(
    layer: Any, carry: GraphState, receivers: Array, senders: Array | None, how: dict[str, Any]
) -> Array:
    """The layer on [..., N, F]: leading axes are disjoint copies of the graph."""
    *batch, rows, _ = receivers.shape
    count = math.prod(batch)
    flat = lambda table: table.reshape(-1, table.shape[-1])
    copies = disjoint_copies(carry.graph, count)._replace(nodes=flat(receivers))
    parts = tiled(carry.parts, count)
    if senders is not None:
        parts = _of_both_sides(parts) | {"senders": flat(senders)}
    nodes = layer(copies, **parts, **how).nodes
    return nodes.reshape(*batch, rows, nodes.shape[-1])


def _of_both_sides(parts: dict[str, Any]) -> dict[str, Any]:
    """The masks of a layer whose senders are the nodes, in a table of their own."""
    return parts | ({"sender_mask": parts["node_mask"]} if "node_mask" in parts else {})
