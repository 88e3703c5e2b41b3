"""DictionaryLookup, the task of the GATv2 paper that GAT cannot do: find your own key among k, and say its value.

    python experiments/dictionary_lookup.py                      # k = 4, 6, 8, 10 within minutes
    python experiments/dictionary_lookup.py --sizes 10 --seeds 5
    python experiments/dictionary_lookup.py --budget paper       # k = 4 ... 20, as long as the paper trains

A lookup is a complete bipartite graph. Query i knows its key, key j knows its value, all k keys send to all k
queries, and query i has to name the value of key i. A new lookup is a new permutation of the values.
"""

import dataclasses
import itertools
import queue
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import script
from devices import use_every_core
from lookup import Lookups, Task, make_lookups, train
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from outputs import INTERRUPTED, drawn, made_once
from report import count, markdown_table, mean_and_sd, sound
from settings import check, check_multiple, fill, required
from tqdm import tqdm

from gatjax import plots

NAMES = {"gat": "GAT", "gatv2": "GATv2"}
# Train and test accuracy in percent for k = 4 ... 20, read off the figures of Brody et al. (2022).
PAPER = {
    ("gat", 1): (
        (85, 83, 67, 63, 34, 29, 27, 21, 22, 22, 18, 22, 16, 17, 16, 15, 11),
        (45, 49, 43, 41, 32, 26, 20, 18, 17, 21, 17, 16, 13, 14, 15, 13, 11),
    ),
    ("gat", 8): (
        (100,) * 17,
        (29, 30, 48, 75, 85, 67, 87, 68, 53, 65, 50, 59, 53, 66, 42, 52, 43),
    ),
    ("gatv2", 1): ((100,) * 17, (100,) * 17),
}

# Evaluations of a run that its result keeps, about.
MOST_EVALUATIONS = 20

BUDGETS: dict[str, dict[str, Any]] = {
    "quick": {
        "sizes": (4, 6, 8, 10),
        "steps": 1000,
        "batch_size": 128,
        "evaluate_every": 10,
        "evaluate": 512,
        "patience": None,
    },
    "paper": {
        "sizes": tuple(range(4, 21)),
        "steps": 1_200_000,
        "batch_size": 1024,
        "evaluate_every": 240,
        "evaluate": None,
        "patience": 20,
    },
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train GAT and GATv2 to look up a dictionary of k keys, with the same steps, learning rates and seeds.

    Data, model, optimiser and stop are those of the paper's code, but for two things: dropout is milder, and off in
    evaluation (see `always_dropout`); and batches are drawn with replacement. What is None is set by the budget:
    "quick" takes smaller batches and fewer steps, and looks at 512 lookups of either part while it trains;
    "paper" takes those of the paper, whose 50 000 epochs of some 24 batches are 1.2 million steps.
    """

    budget: Literal["quick", "paper"] = "quick"
    """How long to train, and for which k."""
    sizes: tuple[int, ...] | None = None
    """Numbers of keys k."""
    layers: tuple[Literal["gat", "gatv2"], ...] = ("gat", "gatv2")
    """Attention layers."""
    heads: tuple[int, ...] = (1, 8)
    """Numbers of attention heads."""
    learning_rates: tuple[float, ...] = (1e-3, 1e-2)
    """Of Adam; the table shows the one with the best training accuracy, of equals the first. Paper: 0.001."""
    seeds: int = 3
    """Seeds 0, 1, ... of every row. The data has a seed of its own. Paper: one."""
    steps: int | None = None
    """Steps at most; a run ends before where every answer is right. With one head GAT would go on gaining, slowly: at
    k = 10 it fits a quarter after 1000 steps, where GATv2 is done before 100."""
    batch_size: int | None = None
    """Lookups per step, drawn with replacement; all of them where there are fewer."""
    evaluate_every: int | None = None
    """Steps between two evaluations."""
    evaluate: int | None = None
    """Lookups of either part that an evaluation on the way looks at. None in the paper's budget: all."""
    patience: int | None = None
    """Evaluations without a better test accuracy before a run stops. None in the quick budget: never."""
    features: int = 128
    """Width of the embeddings and of the layer."""
    lookups: int = 32_000
    """Lookups to draw where k is 8 or more; for smaller k all k! are used."""
    data_seed: int = 11
    """Seed of the lookups and of their split."""
    dropout_rate: float | None = None
    """Dropout of the layer's output in training. None: 0.2, or 0.5 where it is always on."""
    always_dropout: bool = False
    """Dropout in evaluation too: a slip of the paper's code, at rate 0.5, behind its published numbers."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path = Path("runs/dictionary_lookup")
    """Folder for result.json and accuracy.png."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default; `evaluate` may be None for all, `patience` for never."""

    sizes: tuple[int, ...] = required()
    steps: int = required()
    batch_size: int = required()
    evaluate_every: int = required()
    dropout_rate: float = required()


def resolve(config: Config) -> Settings:
    """What is None, as the budget has it."""
    dropout_rate = 0.5 if config.always_dropout else 0.2
    settings = fill(Settings, config, {**BUDGETS[config.budget], "dropout_rate": dropout_rate})
    counts = "heads seeds steps batch_size evaluate_every evaluate patience features lookups"
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1) | {"data_seed": 0},
        above_zero=("learning_rates",),
        rates=("dropout_rate",),
    )
    if min(settings.sizes) < 3:
        raise SystemExit(f"sizes = {settings.sizes}: a split needs at least 3 keys")
    check_multiple(settings, "features", "heads")
    if settings.steps < settings.evaluate_every:
        raise SystemExit(
            f"steps = {settings.steps} must be at least evaluate_every = {settings.evaluate_every}"
        )
    return settings


class Row(NamedTuple):
    """A row of the table; all its runs share one compiled program, so they share a device too."""

    k: int
    layer: str
    heads: int

    def __str__(self) -> str:
        return f"k={self.k} {NAMES[self.layer]} {self.heads}h"


def rows_of(settings: Settings) -> list[Row]:
    return [Row(*row) for row in itertools.product(settings.sizes, settings.layers, settings.heads)]


def train_row(
    settings: Settings, row: Row, data: Lookups, stop: threading.Event, bar: tqdm
) -> dict[str, Any] | None:
    """Every learning rate and seed of a row, or None where someone says stop."""
    task = Task(
        *row,
        features=settings.features,
        batch_size=settings.batch_size,
        evaluate_every=settings.evaluate_every,
        dropout_rate=settings.dropout_rate,
        always_dropout=settings.always_dropout,
    )
    started, runs = time.perf_counter(), []
    bar.set_postfix_str(f"{row}: compiling")
    for rate, seed in itertools.product(settings.learning_rates, range(settings.seeds)):
        evaluations = train(
            task,
            data,
            learning_rate=rate,
            seed=seed,
            steps=settings.steps,
            patience=settings.patience,
            evaluate=settings.evaluate,
        )
        history = []
        for now in evaluations:
            if stop.is_set():
                return None
            history.append(now)
            bar.set_postfix_str(f"{row}: {100 * now.train_accuracy:.1f} %", refresh=False)
            bar.update(task.evaluate_every)
        bar.update(settings.steps - history[-1].step)
        diverged = not np.isfinite(history[-1].loss)
        runs.append(
            {"learning_rate": rate, "seed": seed}
            | history[-1]._asdict()
            | ({"train_accuracy": None, "test_accuracy": None} if diverged else {})
            | {"diverged": diverged, "history": thinned([list(each) for each in history])}
        )
    return row._asdict() | {"seconds": time.perf_counter() - started, "runs": runs}


def thinned(history: list[list[float]]) -> list[list[float]]:
    """Four digits of every n-th evaluation and of the last one, some twenty in all."""
    every = -(-len(history) // MOST_EVALUATIONS)
    kept = [*history[:-1][::every], history[-1]]
    return [[step, *(float(f"{value:.4g}") for value in values)] for step, *values in kept]


def run(settings: Settings) -> list[dict[str, Any]]:
    """Every row, one at a time on each device; after Ctrl-C those that have finished."""
    rows, stop = rows_of(settings), threading.Event()
    data = {
        k: make_lookups(k, lookups=settings.lookups, seed=settings.data_seed)
        for k in settings.sizes
    }
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in jax.local_devices():
        free.put(device)

    def on_a_free_device(row: Row) -> dict[str, Any] | None:
        device = free.get()
        try:
            with jax.default_device(device):
                return train_row(settings, row, data[row.k], stop, bar)
        finally:
            free.put(device)

    total = len(rows) * len(settings.learning_rates) * settings.seeds * settings.steps
    with (
        tqdm(total=total, unit="step", disable=not settings.progress) as bar,
        ThreadPoolExecutor(len(jax.local_devices())) as pool,
    ):
        futures = [pool.submit(on_a_free_device, row) for row in rows]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            bar.write("Interrupted: the rows that have finished are kept, those under way are not.")
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    results = [future.result() for future in futures if not future.cancelled()]
    return [result for result in results if result is not None]


def best_rate(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs with the learning rate that fits the training lookups best; of equals the first.

    One at which a seed diverged comes after all others.
    """
    by_rate: dict[float, list[dict[str, Any]]] = {}
    for one in result["runs"]:
        by_rate.setdefault(one["learning_rate"], []).append(one)

    def fit(runs: list[dict[str, Any]]) -> tuple[int, float]:
        accuracies = column(runs, "train_accuracy")
        found = sound(accuracies)
        return len(found) - len(accuracies), float(np.mean(found)) if found else 0.0

    return max(by_rate.values(), key=fit)


def column(runs: list[dict[str, Any]], name: str) -> list[Any]:
    return [one[name] for one in runs]


def paper_values(layer: str, heads: int, k: int) -> tuple[str, str]:
    """The paper's accuracies on the training and the test lookups, where it has them."""
    if (layer, heads) not in PAPER or not 4 <= k <= 20:
        return "-", "-"
    train, test = PAPER[layer, heads]
    return str(train[k - 4]), str(test[k - 4])


def table(results: list[dict[str, Any]]) -> str:
    """Accuracies in percent, of the better learning rate, next to the paper's.

    "solved" counts the seeds that answered every test lookup right.
    """
    header = [
        "k",
        "layer",
        "heads",
        "train",
        "test",
        "solved",
        "paper: train",
        "test",
        "rate",
        "steps",
    ]
    lines = []
    for result in results:
        runs = best_rate(result)
        k, layer, heads = (result[name] for name in Row._fields)
        lines.append(
            [
                str(k),
                NAMES[layer],
                str(heads),
                mean_and_sd(column(runs, "train_accuracy")),
                mean_and_sd(column(runs, "test_accuracy")),
                f"{column(runs, 'test_accuracy').count(1.0)} of {len(runs)}",
                *paper_values(layer, heads, k),
                f"{runs[0]['learning_rate']:g}",
                f"{np.mean(column(runs, 'step')):.0f}",
            ]
        )
    return markdown_table(header, lines)


def plot(results: list[dict[str, Any]]) -> Axes:
    """Accuracy against k, one panel per part, with a band over the seeds; dashed, what the paper's figure shows."""
    with plt.rc_context(dict(plots.STYLE)):
        _, axes = plt.subplots(1, 2, figsize=(plots.PAGE, 2.5), sharey=True)
        for index, (ax, part) in enumerate(zip(axes, Lookups._fields, strict=True)):
            plot_part(ax, results, part, index)
        axes[0].set_ylabel("accuracy (%)")
        axes[1].plot([], [], "--", color="gray", lw=0.8, label="paper's figure")
        axes[1].plot([], [], ":", color="black", lw=0.8, label="a guess")
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes[0]


def plot_part(ax: Axes, results: list[dict[str, Any]], part: str, index: int) -> None:
    kinds = list(dict.fromkeys((result["layer"], result["heads"]) for result in results))
    sizes = sorted({result["k"] for result in results})
    lines = {}
    for layer, heads in kinds:
        mine = {one["k"]: one for one in results if (one["layer"], one["heads"]) == (layer, heads)}
        found = {k: column(best_rate(one), f"{part}_accuracy") for k, one in mine.items()}
        widest = max(map(len, found.values()))
        rows = np.full((len(sizes), widest), np.nan)
        for row, k in enumerate(sizes):
            values = np.array(found.get(k, []), float)
            rows[row, : len(values)] = 100 * values
        lines[f"{NAMES[layer]}, {count(heads, 'head')}"] = rows
    plots.seed_lines(sizes, lines, ax=ax)
    if (legend := ax.get_legend()) is not None:
        legend.remove()
    for color, (layer, heads) in zip(plots.LINES, kinds, strict=False):
        theirs = [(k, paper_values(layer, heads, k)[index]) for k in sizes]
        theirs = np.array([(k, float(y)) for k, y in theirs if y != "-"]).reshape(-1, 2)
        ax.plot(*theirs.T, "--", lw=0.8, color=color)
    ax.plot(sizes, 100 / np.array(sizes), ":", color="black", lw=0.8)
    ax.set(title=f"{part} lookups", xlabel="keys k", ylim=(0, 104))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    draw = drawn(settings.output / "accuracy.png", lambda result: plot(result["rows"]))
    result = made_once(settings, make_result, draw)
    print(f"\n{table(result['rows'])}\n\nIn percent; the paper's numbers are read off its figure.")
    print(f"{result['seconds']:.0f} s, compilation included; details in {settings.output}")
    if result["interrupted"]:
        raise SystemExit(INTERRUPTED)
    return result


def make_result(settings: Settings) -> dict[str, Any]:
    rows = run(settings)
    if not rows:
        print("No row has finished: nothing to report.")
        raise SystemExit(INTERRUPTED)
    return {"rows": rows, "interrupted": len(rows) < len(rows_of(settings))}


if __name__ == "__main__":
    script.run(main, Config)
