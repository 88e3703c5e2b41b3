"""Forecasts of signals on a graph: recurrent cells over the past, and two ways to go on from there."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.graph.messages import check_at_least
from gatjax.layers.checks import check_sizes
from gatjax.layers.dropout import dropout_stream
from gatjax.layers.recurrent import GGRUCell, GraphState, over_time


class RecurrentStack(nnx.Module):
    """Cells one above the other: the states of each are the inputs of the next.

    Args:
      in_features: F of the signals.
      hidden_features: C of every cell.
      num_layers: how many cells.
      rngs: random keys.
      **options: of `GGRUCell` and its aggregator.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import MeanConv
    >>> stack = RecurrentStack(2, 4, num_layers=2, aggregator=MeanConv, rngs=nnx.Rngs(0))
    >>> stack(build_graph([0], [1], num_nodes=3), jnp.ones((5, 3, 2)))[1].shape
    (5, 3, 4)
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        num_layers: int = 1,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes(num_layers=num_layers)
        widths = [in_features, *[hidden_features] * num_layers]
        self.cells = nnx.List(
            [
                GGRUCell(*pair, rngs=rngs, **options)
                for pair in zip(widths, widths[1:], strict=False)
            ]
        )

    def __call__(
        self,
        graph: GraphsTuple,
        signals: ArrayLike,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Any,
    ) -> tuple[list[GraphState], Float[Array, "*B T N C"]]:
        """The state of each cell after the last step, and the hidden rows of the uppermost at every step.

        Args:
          graph: gives the edges.
          signals: `[B, T, N, F]`, B signals on the graph, or one, `[T, N, F]`.
          deterministic, rngs: as in the call of a layer.
          **parts: `edge_mask`, `edge_weight` and `node_mask`, of the one graph.
        """
        rows = jnp.asarray(signals)
        batch_size = rows.shape[0] if rows.ndim == 4 else None
        states = []
        for cell in self.cells:
            carry = cell.initialize_carry(graph, batch_size=batch_size, **parts)
            state, rows = over_time(cell, rows, carry, deterministic=deterministic, rngs=rngs)
            states.append(state)
        return states, rows

    def step(
        self, states: list[GraphState], inputs: Float[Array, "*B N F"], **how: Any
    ) -> tuple[list[GraphState], Float[Array, "*B N C"]]:
        """One step of all cells."""
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            state, inputs = cell(state, inputs, **how)
            after.append(state)
        return after, inputs


class Forecaster(nnx.Module):
    """All steps of the future at once, from the state that the past has left.

    ```
    H    = RecurrentStack(signals) after the last step
    y_ti = W_t H_i + b_t,                 t = 1 ... horizon
    ```

    `model(graph, signals)` is `[B, horizon, N, out_features]`.

    Args:
      in_features: F of the signals.
      out_features: of the forecast.
      horizon: steps to forecast.
      hidden_features, num_layers, rngs: as in `RecurrentStack`.
      **options: of `GGRUCell` and its aggregator, such as `aggregator=GATConv, num_heads=2`.

    >>> from gatjax.graph import build_graph
    >>> model = Forecaster(2, 1, horizon=6, hidden_features=4, rngs=nnx.Rngs(0))
    >>> model(build_graph([0], [1], num_nodes=3), jnp.ones((7, 5, 3, 2))).shape
    (7, 6, 3, 1)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        horizon: int,
        *,
        hidden_features: int = 64,
        num_layers: int = 1,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes(out_features=out_features, horizon=horizon)
        self.horizon = horizon
        self.past = RecurrentStack(
            in_features, hidden_features, num_layers=num_layers, rngs=rngs, **options
        )
        self.head = _head(hidden_features, horizon * out_features, options, rngs)

    def __call__(
        self, graph: GraphsTuple, signals: ArrayLike, **options: Any
    ) -> Float[Array, "*B horizon N out"]:
        """The forecast; the arguments are those of `RecurrentStack`."""
        states, _ = self.past(graph, signals, **options)
        forecast = self.head(states[-1].hidden)
        by_step = forecast.reshape(*forecast.shape[:-1], self.horizon, -1)
        return jnp.moveaxis(by_step, -2, -3)


class EncoderDecoder(nnx.Module):
    """Step by step into the future: each forecast is the input of the next step.

    ```
    S_0     = encoder(signals) after the last step
    y_1     = W H_0 + b,                                      H of the uppermost cell of S
    S_t     = decoder(S_t-1, y_t ‖ future_t)
    y_t+1   = W H_t + b
    ```

    In training the truth stands in for y_t with the probability `teaching`, one coin for each step: scheduled sampling,
    where the probability goes to 0 as training goes on; see `teaching_rate`.

    Args:
      in_features: F of the signals.
      out_features: of the forecast.
      future_features: of what is known of every step to forecast, such as its time of day; none by default.
      hidden_features, num_layers, rngs, **options: as in `Forecaster`; encoder and decoder are of the same size.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import MeanConv
    >>> model = EncoderDecoder(2, 1, hidden_features=4, aggregator=MeanConv, rngs=nnx.Rngs(0))
    >>> model(build_graph([0], [1], num_nodes=3), jnp.ones((7, 5, 3, 2)), 6).shape
    (7, 6, 3, 1)

    As Zhang et al. (GaAN, UAI 2018) and Li et al. (DCRNN, ICLR 2018); Bengio et al., Scheduled Sampling, 2015.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        future_features: int = 0,
        hidden_features: int = 64,
        num_layers: int = 1,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_sizes(out_features=out_features)
        check_at_least(0, future_features=future_features)
        self.future_features = future_features
        sizes = {"num_layers": num_layers, "rngs": rngs, **options}
        self.encoder = RecurrentStack(in_features, hidden_features, **sizes)
        self.decoder = RecurrentStack(out_features + future_features, hidden_features, **sizes)
        self.head = _head(hidden_features, out_features, options, rngs)

    def __call__(
        self,
        graph: GraphsTuple,
        signals: ArrayLike,
        horizon: int,
        *,
        future: ArrayLike | None = None,
        targets: ArrayLike | None = None,
        teaching: Any = 0.0,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Any,
    ) -> Float[Array, "*B horizon N out"]:
        """The forecast.

        Args:
          graph, signals, deterministic, **parts: as in `RecurrentStack`.
          horizon: steps to forecast.
          future: `[*B, horizon, N, future_features]`, known of the steps to forecast.
          targets: the truth, `[*B, horizon, N, out_features]`, where `teaching` is not 0.
          teaching: the probability of the truth, a number or an array.
          rngs: keys for dropout and, from its stream `dropout`, for the coins.

        Raises:
          ValueError: no step to forecast, a `future` or `targets` of another shape, truth without keys.
        """
        check_at_least(1, horizon=horizon)
        signals = jnp.asarray(signals)
        self._check(signals, horizon, future, targets)
        how = {"deterministic": deterministic, "rngs": rngs}
        states, _ = self.encoder(graph, signals, **how, **parts)
        coins = jnp.zeros(horizon, bool)
        if targets is not None:
            if rngs is None:
                raise ValueError("targets need rngs=nnx.Rngs(dropout=key), for the coins")
            coins = jax.random.bernoulli(dropout_stream(rngs)(), teaching, (horizon,))
        key = None if rngs is None else dropout_stream(rngs)()
        keys = None if key is None else jax.random.split(key, horizon)
        by_time = lambda table: None if table is None else jnp.moveaxis(jnp.asarray(table), -3, 0)
        steps = coins, by_time(future), by_time(targets), keys
        graphs, hidden = (
            [state._replace(hidden=None) for state in states],
            [s.hidden for s in states],
        )

        @jax.checkpoint
        def step(hidden, now):
            coin, known, truth, key = now
            forecast = self.head(hidden[-1])
            fed = forecast if truth is None else jnp.where(coin, truth, forecast)
            fed = fed if known is None else jnp.concatenate([fed, known], axis=-1)
            states = [s._replace(hidden=h) for s, h in zip(graphs, hidden, strict=True)]
            how = {"deterministic": deterministic}
            how |= {} if key is None else {"rngs": nnx.Rngs(dropout=key)}
            after, _ = self.decoder.step(states, fed, **how)
            return [state.hidden for state in after], forecast

        _, forecasts = jax.lax.scan(step, hidden, steps)
        return jnp.moveaxis(forecasts, 0, -3)

    def _check(self, signals: Array, horizon: int, future: Any, targets: Any) -> None:
        *batch, _, rows, _ = signals.shape
        expected = {
            "future": (future, self.future_features),
            "targets": (targets, self.head.out_features),
        }
        for name, (table, width) in expected.items():
            if table is None and (name == "targets" or not width):
                continue
            shape = [*batch, horizon, rows, width]
            if table is None or list(table.shape) != shape:
                got = None if table is None else list(table.shape)
                raise ValueError(f"{name} must be {shape}, got {got}")


def teaching_rate(step: Any, decay: float) -> Array:
    """How often the truth stands in for a forecast, after so many steps of training: inverse sigmoid decay.

    ```
    rate = decay / (decay + exp(step / decay))
    ```

    >>> teaching_rate(0, 3000.0).round(3).item(), teaching_rate(60_000, 3000.0).round(3).item()
    (1.0, 0.0)
    """
    step = jnp.asarray(step, jnp.float32)
    return jax.nn.sigmoid(jnp.log(jnp.float32(decay)) - step / decay)


def _head(features: int, out_features: int, options: dict[str, Any], rngs: nnx.Rngs) -> nnx.Linear:
    dtypes = {name: options[name] for name in ("dtype", "param_dtype") if name in options}
    return nnx.Linear(features, out_features, **dtypes, rngs=rngs)
