"""Forecasts from recurrent cells: shapes, causes, the truth in place of a forecast, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, normal, rejects

from gatjax import (
    EncoderDecoder,
    Forecaster,
    MeanConv,
    NodeLinear,
    build_graph,
    load_model,
    save_model,
    teaching_rate,
)

N, F, T, B, HORIZON = 4, 2, 3, 2, 3


def graph():
    return build_graph([0, 1, 2, 0], [1, 2, 2, 0], num_nodes=N)


def decoder(**options):
    options = {"hidden_features": 3, "aggregator": MeanConv, **options}
    return EncoderDecoder(F, 1, rngs=nnx.Rngs(0), **options)


@pytest.mark.slow
def test_the_decoder_is_fed_its_forecasts_or_the_truth():
    """With all truth, step t is what a forecast of one step makes of t - 1 true ones."""
    model, signals, truth = decoder(), normal(B, T, N, F), normal(B, HORIZON, N, 1, seed=1)
    rngs = lambda: nnx.Rngs(dropout=0)
    free = model(graph(), signals, HORIZON)
    assert free.shape == (B, HORIZON, N, 1)
    fed = lambda targets, teaching: model(
        graph(), signals, HORIZON, targets=targets, teaching=teaching, rngs=rngs()
    )
    assert_close(fed(truth, 0.0), free)
    taught = fed(truth, 1.0)
    assert_close(taught[:, 0], free[:, 0])
    assert not np.allclose(taught[:, 1], free[:, 1])
    # The truth at a step reaches later forecasts alone.
    reached = jax.jacobian(lambda truth: fed(truth, 1.0).sum((0, 2, 3)))(truth)
    assert (np.abs(reached).sum((1, 3, 4)) > 0).tolist() == np.tri(
        HORIZON, k=-1, dtype=bool
    ).tolist()
    # Its own forecasts, given as the truth, change nothing.
    assert_close(fed(free, 1.0), free)


def test_how_often_the_truth_is_fed():
    assert teaching_rate(0, 5.0) == pytest.approx(5 / 6)
    assert teaching_rate(10, 5.0) == pytest.approx(5 / (5 + np.exp(2)))
    assert teaching_rate(1e6, 5.0) == 0


@pytest.mark.slow
def test_a_forecast_on_nodes_alone_is_that_of_each_node():
    for model in (
        Forecaster(F, 1, HORIZON, hidden_features=3, aggregator=NodeLinear, rngs=nnx.Rngs(0)),
        Forecaster(
            F, 1, HORIZON, hidden_features=3, num_layers=2, aggregator=NodeLinear, rngs=nnx.Rngs(0)
        ),
    ):
        signals = normal(B, T, N, F)
        one = build_graph([], [], num_nodes=1)
        assert_close(model(graph(), signals)[:, :, 2:3], model(one, signals[:, :, 2:3]))


@pytest.mark.slow
def test_files_and_compiled_calls(tmp_path):
    arguments = {"in_features": F, "out_features": 1, "hidden_features": 3, "num_heads": 1}
    model = Forecaster(**arguments, horizon=HORIZON, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", Forecaster, arguments | {"horizon": HORIZON}, model)
    signals = normal(B, T, N, F)
    assert_close(load_model(tmp_path / "model")(graph(), signals), model(graph(), signals))
    traces = []

    @nnx.jit
    def compiled(model, graph, signals):
        traces.append(1)
        return model(graph, signals)

    with_rows = graph()._replace(nodes=np.zeros((N, 0), np.float32))
    assert_close(compiled(model, with_rows, signals), model(graph(), signals))
    compiled(model, with_rows, signals + 1)
    assert len(traces) == 1


def test_bad_input_is_named():
    with rejects(ValueError, "horizon must be at least 1, got 0"):
        Forecaster(F, 1, 0, rngs=nnx.Rngs(0))
    with rejects(ValueError, "num_layers must be at least 1, got 0"):
        decoder(num_layers=0)
    model, signals = decoder(future_features=2), jnp.ones((B, T, N, F))
    with rejects(ValueError, "future must be [2, 3, 4, 2], got None"):
        model(graph(), signals, HORIZON)
    future = jnp.ones((B, HORIZON, N, 2))
    with rejects(ValueError, "targets must be [2, 3, 4, 1], got [2, 3, 4]"):
        model(graph(), signals, HORIZON, future=future, targets=jnp.ones((B, HORIZON, N)))
    with rejects(ValueError, "targets need rngs=nnx.Rngs(dropout=key), for the coins"):
        model(graph(), signals, HORIZON, future=future, targets=jnp.ones((B, HORIZON, N, 1)))
    with rejects(ValueError, "horizon = 0 must be at least 1"):
        model(graph(), signals, 0, future=future)
