"""Networks that forecast traffic, as the pure functions of their training.

Shapes: T steps, N sensors, B windows of a batch, I steps to see, O steps to forecast.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key
from jraph import GraphsTuple
from traffic_baselines import time_of_day_series

from gatjax import (
    DotProductConv,
    EncoderDecoder,
    Forecaster,
    GaANConv,
    GATConv,
    GCNConv,
    MeanConv,
    NodeLinear,
    over_time,
    teaching_rate,
)
from gatjax.data import TimeSplit, Traffic, fit_scaling, window_starts
from gatjax.training import Metrics, Training, functional_with_statistics, lowest_loss

# What each network aggregates with; "gru" sees no neighbour.
AGGREGATORS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "gru": (NodeLinear, ()),
    "mean": (MeanConv, ()),
    "t-gcn": (GCNConv, ()),
    "gat": (GATConv, ("num_heads",)),
    "dot-product": (DotProductConv, ("num_heads",)),
    "ggru": (GaANConv, ("num_heads", "key_features", "value_features", "gate_features")),
}

# Value and profile of the time of day, at every step.
FEATURES = 2


class Shared(NamedTuple):
    """What all seeds share: an argument of the compiled program.

    Attributes:
      values: z-scores, `[T, N]`; 0, the mean, where nothing was measured.
      known: whether something was.
      profile: z-scores of the profile of the time of day.
      graph: between the sensors.
      edge_weight: of its edges, where the network reads them.
      train, validation: first steps of the windows.
      std: of the z-scores, in the unit of the series.
    """

    values: Any
    known: Any
    profile: Any
    graph: GraphsTuple
    edge_weight: Any
    train: Any
    validation: Any
    std: Any


def share(traffic: Traffic, split: TimeSplit, config: Any, name: str) -> Shared:
    """Everything fitted to the training part alone."""
    scaling = fit_scaling(traffic.series, split.train)
    graph, weight = traffic.graph()
    scores = scaling.apply(traffic.series)
    profile = scaling.apply(time_of_day_series(traffic, split.train))
    number = lambda table: np.nan_to_num(table).astype(np.float32)
    starts = lambda part: window_starts(part, config.steps_in, config.steps_out)
    return Shared(
        number(scores),
        ~np.isnan(scores),
        number(profile),
        graph._replace(nodes=np.zeros((traffic.num_sensors, 0), np.float32)),
        weight if name in ("mean", "t-gcn") else None,
        starts(split.train).astype(np.int32),
        starts(split.validation)[:: config.validation_stride].astype(np.int32),
        np.float32(scaling.std),
    )


class Steps(nnx.Variable):
    """How many steps of training there have been."""


class Network(nnx.Module):
    """Recurrent cells, and one of two ways to go on from there.

    ```
    direct:   y_t = x_now + c_t (p_t - p_now) + Forecaster(x ‖ p)_t
    decoder:  y_t = EncoderDecoder(x ‖ p, p of the future)_t
    ```

    with x the values, p the profile of the time of day, and one number c for each step ahead.
    """

    def __init__(self, name: str, config: Any, *, rngs: nnx.Rngs):
        aggregator, options = AGGREGATORS[name]
        sizes = {option: getattr(config, option) for option in options}
        sizes |= {"hidden_features": config.hidden_features, "num_layers": config.num_layers}
        how = {"aggregator": aggregator, "rngs": rngs, **sizes}
        self.steps_in, self.steps_out = config.steps_in, config.steps_out
        is_direct = config.head == "direct"
        self.course: Any = nnx.Param(jnp.zeros(config.steps_out)) if is_direct else nnx.data(None)
        self.teaching = config.teaching
        self.steps: Any = nnx.data(None) if is_direct else Steps(jnp.int32(0))
        self.cells = (
            Forecaster(FEATURES, 1, config.steps_out, **how)
            if is_direct
            else EncoderDecoder(FEATURES, 1, future_features=1, **how)
        )

    def __call__(
        self,
        data: Shared,
        starts: Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """The z-scores of the steps to forecast."""
        past = self.past(data, starts)
        future = data.profile[self.after(data, starts)]
        how: dict[str, Any] = {"deterministic": deterministic, "rngs": rngs}
        if data.edge_weight is not None:
            how["edge_weight"] = data.edge_weight
        if isinstance(self.cells, Forecaster):
            now, profile_now = past[:, -1:, :, 0], past[:, -1:, :, 1]
            course = self.course[...][None, :, None] * (future - profile_now)
            return now + course + self.cells(data.graph, past, **how)[..., 0]
        how["future"] = future[..., None]
        if self.steps is not None and deterministic is False:
            truth = data.values[self.after(data, starts)]
            how["targets"] = truth[..., None]
            how["teaching"] = teaching_rate(self.steps[...], self.teaching)
            self.steps[...] += 1
        return self.cells(data.graph, past, self.steps_out, **how)[..., 0]

    def past(self, data: Shared, starts: Array) -> Array:
        """What is seen, [B, I, N, 2]."""
        seen = starts[:, None] + jnp.arange(self.steps_in)[None]
        return jnp.stack([data.values[seen], data.profile[seen]], axis=-1)

    def after(self, data: Shared, starts: Array) -> Array:
        """The steps to forecast; the last ones again where the series ends."""
        steps = starts[:, None] + self.steps_in + jnp.arange(self.steps_out)[None]
        return jnp.minimum(steps, len(data.values) - 1)

    def attention(self, data: Shared, start: int) -> Array:
        """How states attend to states in the first cell, at the last step that is seen, [E, H]."""
        past = self.past(data, jnp.array([start]))[0]
        stack = self.cells.past if isinstance(self.cells, Forecaster) else self.cells.encoder
        cell = stack.cells[0]
        parts: dict[str, Any] = (
            {} if data.edge_weight is None else {"edge_weight": data.edge_weight}
        )
        before, _ = over_time(cell, past[:-1], cell.initialize_carry(data.graph, **parts))
        return cell.attention(before, past[-1])


class Functions(NamedTuple):
    """What training and evaluation need of a network."""

    training: Training
    forecast: Callable[..., Array]


@functools.cache
def functions_of(name: str, config: Any) -> Functions:
    """A network's training; the same functions for the same settings, so that nothing compiles twice."""
    initialise, apply = functional_with_statistics(lambda rngs: Network(name, config, rngs=rngs))
    first = config.steps_in + jnp.arange(config.steps_out)

    def truth(data: Shared, starts: Array) -> tuple[Array, Array]:
        steps = starts[:, None] + first[None]
        return data.values[steps], data.known[steps]

    def loss(variables: Any, key: Key[Array, ""], data: Shared, labels: Any) -> Any:
        draw, drop = jax.random.split(key)
        starts = jax.random.choice(draw, data.train, (config.batch_size,), replace=False)
        forecast, statistics = apply(variables, data, starts, key=drop)
        target, known = truth(data, starts)
        error = jnp.where(known, (forecast - target) ** 2, 0).sum() / jnp.maximum(known.sum(), 1)
        return error, statistics

    def validate(variables: Any, data: Shared, labels: Any) -> Metrics:
        """Root mean squared error in the unit of the series, and R²."""
        target, known = truth(data, data.validation)
        forecast = apply(variables, data, data.validation)[0]
        number = jnp.maximum(known.sum(), 1)
        of = lambda x: jnp.where(known, x, 0).sum() / number
        error, mean = of((forecast - target) ** 2), of(target)
        spread = jnp.maximum(of((target - mean) ** 2), 1e-12)
        return Metrics(data.std * jnp.sqrt(error), 1 - error / spread)

    steps = config.epochs * config.steps_per_epoch
    rate = optax.cosine_decay_schedule(config.learning_rate, steps)
    training = Training(
        initialise,
        loss,
        validate,
        optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate)),
        rule=lowest_loss,
        patience=config.epochs,
        max_epochs=config.epochs,
        epochs_per_dispatch=1,
        steps_per_epoch=config.steps_per_epoch,
    )
    return Functions(training, jax.jit(lambda *inputs: apply(*inputs)[0]))


def forecast_of(
    functions: Functions,
    parameters: Any,
    data: Shared,
    starts: np.ndarray,
    traffic: Traffic,
    split: TimeSplit,
    *,
    batch_size: int = 64,
) -> np.ndarray:
    """Forecasts of windows in the unit of the series, [windows, steps, sensors], a batch at a time."""
    scaling = fit_scaling(traffic.series, split.train)
    padded = np.concatenate([starts, np.repeat(starts[-1:], -len(starts) % batch_size)])
    parts = [
        np.asarray(functions.forecast(parameters, data, part.astype(np.int32)))
        for part in padded.reshape(-1, batch_size)
    ]
    return scaling.undo(np.concatenate(parts)[: len(starts)])


def attention_of(
    name: str, config: Any, parameters: Any, data: Shared, traffic: Traffic, split: TimeSplit
) -> dict[str, Any] | None:
    """How the sensor with the most neighbours attends to them, in the morning and at night, over the test.

    The attention to states at the last step that is seen, the mean of the heads and of the windows whose last step lies
    between 7 and 9, or between 1 and 3; None where there is no such window.
    """
    network, graph = Network(name, config, rngs=nnx.Rngs(0)), data.graph
    nnx.update(network, jax.tree.map(jnp.asarray, parameters.parameters))
    degree = np.bincount(np.asarray(graph.receivers), minlength=traffic.num_sensors)
    sensor = int(degree.argmax())
    into = np.flatnonzero(np.asarray(graph.receivers) == sensor)
    starts = window_starts(split.test, config.steps_in, config.steps_out)
    last = traffic.step_of_day[starts + config.steps_in - 1]
    hour = last * traffic.step_minutes // 60
    found = {}
    for name_of_time, hours in (("morning", (7, 8)), ("night", (1, 2))):
        chosen = starts[np.isin(hour, hours)][:24]
        if not len(chosen):
            continue
        alpha = np.mean([network.attention(data, start) for start in chosen], axis=(0, 2))
        found[name_of_time] = alpha[into].tolist()
    if not found:
        return None
    neighbours = np.asarray(graph.senders)[into]
    own = np.flatnonzero(neighbours == sensor)
    return {
        "sensor": traffic.sensors[sensor],
        "neighbours": [traffic.sensors[i] for i in neighbours],
        # Its place among its neighbours, where it is one.
        "own": int(own[0]) if len(own) else None,
        "alpha": found,
    }
