"""Forecast traffic: does attention over the road network help, and against what?

    python experiments/traffic.py                              # Los-loop, one seed of three networks
    python experiments/traffic.py --seeds 5 --models gru mean t-gcn gat ggru
    python experiments/traffic.py --head decoder               # step by step, as in the papers
    python experiments/traffic.py --resume                     # after an interruption

Networks see the last hour of every sensor and its profile of the time of day, and forecast the next hour. They are
trained on the first 70 % of the time, kept where the error on the next 10 % is lowest, and looked at once on the last
20 %, beside forecasts without a network, which are fitted to the first 80 %:

    gru     every sensor alone                  ggru    the graph GRU of GaAN: attention inside the cell
    mean    the mean of the neighbours          gat     the same cell, with the attention of GAT
    t-gcn   graph convolution, as in T-GCN      dot-product   with dot products

Errors are given up to the horizon, all steps together, as T-GCN has them, and at the step, as DCRNN has them.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import script
from devices import use_every_core
from outputs import drawn
from seed_runs import Open, Seeds, made_of_seeds, open_rows
from settings import check
from traffic_baselines import BASELINES, Past
from traffic_network import attention_of, forecast_of, functions_of, share
from traffic_report import PICTURES, differences_table, step_table, table
from traffic_scores import difference, horizons_of, interval, scores_of

from gatjax.data import TimeSplit, Traffic, load_traffic, split_in_time, window_starts

Network = Literal["gru", "mean", "t-gcn", "gat", "dot-product", "ggru"]

ATTENTIVE = ("gat", "dot-product", "ggru")

# RMSE and MAE at 15, 30, 45 and 60 minutes, all steps up to there; of the epoch with the lowest error on the test.
PUBLISHED = {
    "los-loop": {
        "T-GCN (paper)": [(5.13, 3.18), (6.06, 3.75), (6.71, 4.12), (7.27, 4.60)],
        "A3T-GCN (paper)": [(5.09, 3.14), (6.00, 3.66), (6.68, 4.17), (7.10, 4.23)],
    }
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train networks to forecast traffic, and hold them against forecasts without one."""

    data: Literal["los-loop", "metr-la", "pems-bay"] = "los-loop"
    """The series; those of DCRNN are read from GATJAX_DATA/dcrnn."""
    models: tuple[Network, ...] = ("gru", "mean", "ggru")
    """What the recurrent cell aggregates with."""
    head: Literal["direct", "decoder"] = "direct"
    """All steps at once, or one after the other, each from the one before."""
    seeds: int = 1
    """Number of seeds."""
    first_seed: int = 0
    """The first of them; the others follow."""
    seeds_per_device: int = 1
    """Seeds that one device trains side by side."""
    steps_in: int = 12
    """Steps that a network sees."""
    steps_out: int = 12
    """Steps that it forecasts."""
    train: float = 0.7
    """Share of the time to train on, the first."""
    validation: float = 0.1
    """Share to keep the best epoch by, the next; the rest is the test."""
    hidden_features: int = 32
    """Width of the state."""
    num_layers: int = 1
    """Cells one above the other."""
    num_heads: int = 2
    """Heads, of the networks that attend."""
    key_features: int = 8
    """Of ggru, per head."""
    value_features: int = 16
    """Of ggru, per head."""
    gate_features: int = 16
    """Of ggru."""
    batch_size: int = 64
    """Windows of a step of training."""
    epochs: int = 15
    """Times that the error is looked at; the learning rate falls to 0 over them along a cosine."""
    steps_per_epoch: int = 22
    """Steps of training in each."""
    validation_stride: int = 4
    """Every so many-th window of the validation part is looked at."""
    learning_rate: float = 3e-3
    """Of Adam at the start."""
    clip: float = 5.0
    """Largest norm of a gradient."""
    teaching: float = 100.0
    """Of the decoder: steps after which the truth begins to give way to the forecast, in inverse sigmoid decay."""
    resume: bool = False
    """Go on with an interrupted run."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    checkpoint_seconds: float = 60.0
    """How often a run is saved."""
    output: Path = Path("runs") / "traffic"
    """Folder for result.json, errors.png, day.png and attention.png."""


def check_config(config: Config) -> None:
    counts = "seeds seeds_per_device steps_in steps_out hidden_features num_layers num_heads key_features"
    counts += " value_features gate_features batch_size epochs steps_per_epoch validation_stride"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"first_seed": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "clip", "teaching", "train"),
        rates=("train", "validation"),
    )
    if config.validation == 0:
        raise SystemExit("--validation 0.0: some of the time must be left to keep an epoch by")
    if len(set(config.models)) < len(config.models):
        raise SystemExit(f"--models {' '.join(config.models)}: names one twice")


def split_of(traffic: Traffic, config: Config) -> TimeSplit:
    """The parts, each with a window at least."""
    try:
        split = split_in_time(traffic.num_steps, train=config.train, validation=config.validation)
        for part in split:
            window_starts(part, config.steps_in, config.steps_out)
        starts = window_starts(split.train, config.steps_in, config.steps_out)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    if len(starts) < config.batch_size:
        raise SystemExit(
            f"--batch-size {config.batch_size}: there are {len(starts)} windows to train on"
        )
    return split


class Outcome(NamedTuple):
    """A network: what is told of its training, and its forecasts by seed."""

    row: dict[str, Any]
    forecast: Callable[[np.ndarray], list[np.ndarray]]


def run_network(
    name: Network, config: Config, traffic: Traffic, split: TimeSplit, seeds: Seeds
) -> Outcome:
    """A network trained with all seeds."""
    functions, data = functions_of(name, config), share(traffic, split, config, name)
    began = time.perf_counter()
    runs = seeds.train(functions.training, data, lambda seed: 0.0)
    sound = [trained.parameters for trained in runs if not trained.diverged]
    row = {
        "epochs": [trained.best_epoch for trained in runs],
        "diverged": [trained.diverged_epoch for trained in runs],
        "validation": [float(np.nanmin(trained.history.validation_loss)) for trained in runs],
        "seconds": time.perf_counter() - began,
    }
    if sound and name in ATTENTIVE:
        attention = attention_of(name, config, sound[0], data, traffic, split)
        row |= {} if attention is None else {"attention": attention}
    forecast = lambda starts: [
        forecast_of(functions, parameters, data, starts, traffic, split) for parameters in sound
    ]
    return Outcome(row, forecast)


def make_result(config: Config, opened: Open) -> dict[str, Any]:
    """Everything trained, then the test looked at."""
    try:
        traffic = load_traffic(config.data)
    except (FileNotFoundError, ImportError) as error:
        raise SystemExit(str(error)) from None
    print(traffic)
    split, horizons = split_of(traffic, config), horizons_of(traffic, config.steps_out)
    rows = open_rows(config, config.models, opened, field="models")
    outcomes = {
        name: run_network(name, config, traffic, split, rows[name]) for name in config.models
    }

    # The windows of T-GCN, one fewer than there are, for its shortest horizon.
    starts = np.arange(split.test.start, split.test.stop - config.steps_in - min(horizons.values()))
    past = Past(traffic, range(split.test.start), config.steps_in, config.steps_out)
    forecasts = {name: [forecast(past, starts)] for name, forecast in BASELINES.items()}
    forecasts |= {name: outcome.forecast(starts) for name, outcome in outcomes.items()}
    scores = {
        name: scores_of(each, traffic, split, starts, config.steps_in, horizons)
        for name, each in forecasts.items()
        if each
    }
    rows = {
        name: (outcomes[name].row if name in outcomes else {})
        | (scores[name].as_json() | {"interval": interval(scores[name])} if name in scores else {})
        for name in forecasts
    }
    result = {
        "rows": rows,
        "horizons": horizons,
        "published": PUBLISHED.get(config.data, {}),
        "test_windows": len(starts),
    }
    best = next((name for name in reversed(config.models) if name in scores), None)
    if best is not None:
        rivals = [name for name in scores if name in config.models or name.startswith("linear")]
        result["differences"] = {
            f"{best} - {name}": difference(scores[best], scores[name])
            for name in rivals
            if name != best
        }
        result["day"] = day_of(best, outcomes[best], traffic, split, config)
    return result


def day_of(
    name: str, outcome: Outcome, traffic: Traffic, split: TimeSplit, config: Config
) -> dict[str, Any]:
    """A day of the sensor whose speed varies most, forecast by the mean of the seeds.

    The band of a forecast is the middle 90 % of its errors at this sensor over the validation part.
    """
    series = traffic.series
    windows_of = lambda part: window_starts(part, config.steps_in, config.steps_out)
    shown, checked = windows_of(split.test)[: traffic.steps_per_day], windows_of(split.validation)
    sensor = int(np.nanstd(series[shown + config.steps_in], axis=0).argmax())
    made, before = (
        np.mean(outcome.forecast(starts), axis=0)[:, :, sensor] for starts in (shown, checked)
    )
    forecasts, bands = {}, {}
    for step in sorted({max(0, config.steps_out // 4 - 1), config.steps_out - 1}):
        # What had been forecast for each moment, so many steps before it.
        ahead = f"{(step + 1) * traffic.step_minutes} min ahead"
        forecasts[ahead] = [None] * step + made[: len(shown) - step, step].tolist()
        errors = series[checked + config.steps_in + step, sensor] - before[:, step]
        bands[ahead] = np.nanquantile(errors, [0.05, 0.95]).tolist()
    moments = shown + config.steps_in
    return {
        "model": name,
        "sensor": traffic.sensors[sensor],
        "minutes": ((moments + traffic.step_of_day[0]) * traffic.step_minutes).tolist(),
        "measured": series[moments, sensor].tolist(),
        "forecasts": forecasts,
        "bands": bands,
        "unit": traffic.unit,
    }


def draw(config: Config, result: dict[str, Any]) -> None:
    there = {
        "errors": True,
        "day": "day" in result,
        "attention": any("attention" in row for row in result["rows"].values()),
    }
    for name, plot in PICTURES.items():
        if there[name]:
            drawn(config.output / f"{name}.png", plot)(result)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    check_config(config)
    result = made_of_seeds(config, make_result, lambda result: draw(config, result))
    print(f"\n{table(result)}\n")
    if "differences" in result:
        print(f"{differences_table(result)}\n\n{step_table(result)}\n")
    print(f"{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
