"""Classes of nodes in a graph of several kinds: HAN and what it is measured by.

    python experiments/hetero.py                                  # IMDB, in the package
    python experiments/hetero.py --dataset dblp --seeds 5         # files in GATJAX_DATA
    python experiments/hetero.py --dataset dblp --rows han --max-neighbors 0    # all neighbours, 11.8 million edges
    python experiments/hetero.py --rows all --resume              # after an interruption

Two evaluations, of the test nodes alone: the classes that a model predicts, and those of the five nearest neighbours in
its embedding, which is the paper's, where 20, 40, 60 or 80 % of the test nodes lend their labels, in ten shuffles.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import script
from devices import use_every_core
from flax import nnx
from hetero_rows import Problem, Row, regress
from hetero_scores import F1, SIZES, f1, nearest_neighbors
from matplotlib.axes import Axes
from outputs import drawn
from report import count, markdown_table, mean_and_sd
from seed_runs import (
    Open,
    Seeds,
    adam_with_l2,
    made_of_seeds,
    open_rows,
    seeds_of,
    told_of,
    training_of,
)
from settings import check, check_multiple, fill, required

from gatjax import plots
from gatjax.training import RULES, Labels, Trained, node_classification

PAPER = {
    "dblp": {
        "HAN (paper)": (92.24, 92.40, 92.80, 93.08),
        "GAT (paper)": (90.97, 91.20, 90.80, 91.73),
    },
    "imdb": {
        "HAN (paper)": (50.00, 52.71, 54.24, 54.38),
        "GAT (paper)": (49.44, 50.64, 51.90, 52.99),
    },
    "acm": {
        "HAN (paper)": (89.40, 89.79, 89.51, 90.63),
        "GAT (paper)": (86.23, 87.04, 87.56, 87.33),
    },
}
LINEAR = ("features", "venues")


@dataclasses.dataclass(frozen=True)
class Config:
    """Train models on a typed data set, once per row and seed."""

    dataset: Literal["imdb", "dblp", "acm"] = "imdb"
    """Movies, authors or papers."""
    rows: tuple[str, ...] = ("all",)
    """han, han-node, hgt, relational, alone-<path>, without-<path>, union, normalised, features, venues; or all."""
    seeds: int = 5
    """How many of every row."""
    first_seed: int = 0
    """The first of them; seeds of IMDB have splits of their own."""
    max_neighbors: int = 64
    """So many neighbours of a node by each meta-path, those with most walks; 0: all."""
    hidden_features: int = 64
    """Width of the embedding."""
    num_heads: int = 8
    """Heads of the attention."""
    semantic_features: int = 128
    """Width of the comparison of paths."""
    dropout: float = 0.6
    """Of inputs per head, of projected features and of attention."""
    hgt_dropout: float = 0.2
    """Of HGT's attention."""
    learning_rate: float = 5e-3
    """Of Adam."""
    l2: float = 1e-3
    """Half the squared norm of all parameters, times this, is part of the loss."""
    rule: Literal["loss", "both", "either"] = "loss"
    """Which validation metrics save parameters; "both" is that of HAN's program, and stops at an early peak."""
    patience: int = 100
    """Epochs without progress before a seed stops."""
    max_epochs: int = 200
    """Epochs at most."""
    seeds_per_device: int | None = None
    """Seeds side by side on a device."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json and pictures. None: runs/hetero-<dataset>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    seeds_per_device: int = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None filled in; impossible settings end here."""
    settings = fill(
        Settings,
        config,
        {"seeds_per_device": 1, "output": Path("runs") / f"hetero-{config.dataset}"},
    )
    counts = (
        "seeds hidden_features num_heads semantic_features patience max_epochs seeds_per_device"
    )
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"max_neighbors": 0, "first_seed": 0, "checkpoint_seconds": 0, "l2": 0},
        above_zero=("learning_rate",),
        rates=("dropout", "hgt_dropout"),
    )
    check_multiple(settings, "hidden_features", "num_heads")
    return settings


def run(settings: Settings) -> dict[str, Any]:
    """Every row; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result, lambda result: draw(result, settings.output))


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    started = time.perf_counter()
    problem = Problem(settings)
    composed = time.perf_counter() - started
    print(f"{problem.data}\n{problem.meta}")
    rows = chosen(problem)
    trained = open_rows(settings, [row for row in rows if row not in LINEAR], opened)
    return {
        "dataset": settings.dataset,
        "seeds": [*seeds_of(settings)],
        "edges": {name: int(count[0]) for (_, name, _), count in problem.meta.n_edge.items()},
        "titles": {row: problem.title(row) for row in rows},
        "rows": {
            row: train_row(problem, row, trained[row])
            if row in trained
            else compute_row(problem, row)
            for row in rows
        },
        "paper": PAPER[settings.dataset],
        "seconds_of_paths": composed,
    }


def chosen(problem: Problem) -> tuple[str, ...]:
    """The rows, each once; SystemExit where one is unknown."""
    wanted = problem.settings.rows
    rows = problem.rows if "all" in wanted else tuple(dict.fromkeys(wanted))
    for row in rows:
        if row not in problem.rows:
            raise SystemExit(f"--rows {row}: must be all or of {', '.join(problem.rows)}")
    return rows


def train_row(problem: Problem, row: str, seeds: Seeds) -> dict[str, Any]:
    """All seeds of a network."""
    settings, started = problem.settings, time.perf_counter()
    cpu = time.process_time()
    print(problem.title(row))
    network = problem.network(row)
    training = training_of(
        node_classification(network.build),
        adam_with_l2(settings.learning_rate, settings.l2),
        settings,
        RULES[settings.rule],
    )

    def labels(seed: int) -> Labels:
        data = problem.of_seed(seed)
        train, validation, _ = data.splits
        return Labels(train, data.labels[train], validation, data.labels[validation])

    runs = seeds.train(training, network.graph, labels)
    trained = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        **told_of(runs),
    }
    module = network.build(nnx.Rngs(0))
    judged = [judge(problem, network, module, one) for one in runs]
    return scores_of([scores for scores, _ in judged]) | trained | {"betas": [b for _, b in judged]}


def judge(problem: Problem, network: Row, module: Any, trained: Trained) -> Any:
    """The scores of a seed, and the mean weight of each path: the one look at the test labels."""
    if trained.diverged:
        return None, None
    nnx.update(module, trained.parameters)
    data = problem.of_seed(trained.seed)
    test = np.asarray(data.splits.test)
    predicted = np.asarray(read(module, network.graph).nodes).argmax(axis=-1)
    rows = np.asarray(embedded(network.embed, module, network.graph))[test]
    known = data.labels[test]
    betas = None if network.betas is None else network.betas(module, network.graph)
    found = {"direct": f1(known, predicted[test]), **nearest_neighbors(rows, known)}
    return found, None if betas is None else np.asarray(betas).mean(axis=0).tolist()


@nnx.jit
def read(module: Any, graph: Any) -> Any:
    return module(graph, deterministic=True)


def embedded(embed: Any, module: Any, graph: Any) -> Any:
    return nnx.jit(lambda module, graph: embed(module, graph))(module, graph)


def compute_row(problem: Problem, row: str) -> dict[str, Any]:
    """A logistic regression, and the neighbours in the features themselves."""
    started = time.perf_counter()
    print(problem.title(row))
    features, found = problem.without_network(row), []
    for seed in seeds_of(problem.settings):
        data = problem.of_seed(seed)
        if found and data is problem.data:
            found.append(found[0])
            continue
        test = np.asarray(data.splits.test)
        near = nearest_neighbors(features[test], data.labels[test])
        found.append({"direct": regress(features, data), **near})
    return scores_of(found) | {"seconds": time.perf_counter() - started}


def scores_of(found: list[dict[str, F1] | None]) -> dict[str, Any]:
    """Both F1 of each evaluation, a number for each seed, None for one that diverged."""
    evaluations = ["direct", *(f"{100 * size:.0f} %" for size in SIZES)]
    return {
        kind: {name: [each and getattr(each[name], kind) for each in found] for name in evaluations}
        for kind in F1._fields
    }


def table(result: dict[str, Any], kind: str = "macro") -> str:
    """F1 of every row by both evaluations, and below them the paper's."""
    known = ["20 %", "40 %", "60 %", "80 %"]
    header = [
        f"{result['dataset']}, {kind}-F1, {count(len(result['seeds']), 'seed')}",
        *known,
        "direct",
    ]
    lines = [
        [result["titles"][row], *(mean_and_sd(scores[kind][name]) for name in [*known, "direct"])]
        for row, scores in result["rows"].items()
    ]
    if kind == "macro":
        lines += [[name, *(f"{x:.1f}" for x in row), ""] for name, row in result["paper"].items()]
    return markdown_table(header, lines)


def draw(result: dict[str, Any], folder: Path) -> None:
    """The weights of the paths of every seed."""
    for row in result["titles"]:
        betas = result["rows"][row].get("betas") or [None]
        if betas[0] is not None:
            drawn(folder / f"betas-{row}.png", functools.partial(plot, row=row))(result)


def plot(result: dict[str, Any], row: str = "han") -> Axes:
    """The weight of each meta-path in every seed."""
    names = [name for name in sorted(result["edges"]) if name not in row.split("-")]
    columns = np.array([each for each in result["rows"][row]["betas"] if each], float)
    betas = {name: columns[:, place] for place, name in enumerate(names)}
    return plots.seed_strips(betas, xlabel=f"weight of a meta-path on {result['dataset']} (β)")


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {settings.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
