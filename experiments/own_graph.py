"""Predict the nodes of a graph of your own: classes, numbers, or several labels per node, over many seeds.

    python experiments/own_graph.py --dataset my_graph                        # a folder, see docs/guides/graphs.md
    python experiments/own_graph.py --dataset my_graph --task numbers --train 0.5 --validation 0.2 --test 0.3
    python experiments/own_graph.py --dataset my_graph --model gcn --class-weights
    python experiments/own_graph.py --dataset my_graph --resume               # after an interruption

The table has accuracy for classes, R² and the error in the target's own units for numbers, micro-F1 for labels.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from report import count, markdown_table, mean_and_sd, sound
from seed_runs import Open, adam_with_l2, made_of_seeds, told_of, training_of
from settings import check, check_multiple, fill, required
from weighing import Normalizer, check_weighing, weighing

from gatjax import GAT, GCN, MLP, DropoutRates, GATv2, add_self_loops
from gatjax.data import Dataset, load_folder, write_predictions
from gatjax.training import (
    RULES,
    Labels,
    Trained,
    class_weights,
    node_prediction,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    weighted_softmax_cross_entropy,
)

MODELS = {"gat": GAT, "gatv2": GATv2, "gcn": GCN, "mlp": MLP}
WITH_HEADS = ("gat", "gatv2")
METRICS = {
    "classes": softmax_cross_entropy,
    "numbers": squared_error,
    "labels": sigmoid_cross_entropy,
}
# What the second part of `Metrics` is called, and by what it is shown.
SCORES = {"classes": ("accuracy (%)", 100), "numbers": ("R²", 1), "labels": ("micro-F1 (%)", 100)}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on a folder with a graph of your own, once per seed."""

    dataset: Path
    """The folder: edges, features, labels, and splits if you have them."""
    task: Literal["classes", "numbers", "labels"] | None = None
    """What the labels are: one class per node, numbers, or several labels of 0 and 1. None: a guess, and printed."""
    class_weights: bool = False
    """Let each class count the same in the loss, however few of its nodes train (of the first seed's split)."""
    model: Literal["gat", "gatv2", "gcn", "mlp"] = "gat"
    """GAT, GATv2, GCN, or no graph at all (MLP)."""
    directed: bool = False
    """Keep the edges as they are; else the reverse of each edge is added."""
    normalize_features: bool = False
    """Scale each node's features to sum 1."""
    per_class: int = 20
    """Without a split in the folder: training nodes of each class."""
    train: float | None = None
    """Instead of per_class: a number of nodes, or their share below 1. Numbers and labels need it."""
    validation: float | None = None
    """Validation nodes, or their share below 1."""
    test: float | None = None
    """Test nodes, or their share below 1."""
    seeds: int = 10
    """Number of seeds; a split that is drawn has the same seed."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    hidden_features: int = 64
    """Width of the hidden layers, all heads together."""
    num_layers: int = 2
    """Number of layers."""
    num_heads: int = 8
    """Attention heads of a hidden layer, of models that have any."""
    dropout: float = 0.5
    """Dropout of each layer's input."""
    attention_dropout: float = 0.0
    """Dropout of the attention weights."""
    normalize: Normalizer = "softmax"
    """What makes weights of attention's logits."""
    top_k: int = 8
    """How many edges of a node "top_k" keeps."""
    temperature: float = 1.0
    """What the logits are divided by before."""
    block_size: int | None = None
    """Edges that are computed at a time, with the softmax. None: chosen from the sizes."""
    learning_rate: float = 0.005
    """Of Adam."""
    l2: float = 5e-4
    """Coefficient of half the squared norm of all parameters."""
    rule: Literal["both", "loss", "either", "last"] = "loss"
    """Which validation metric saves parameters: score and loss at once, loss, either; or keep the last epoch."""
    patience: int = 100
    """Epochs without progress before a seed stops."""
    max_epochs: int = 10_000
    """Epochs at most."""
    seeds_per_device: int | None = None
    """Seeds that a device trains side by side. None: 1 on a CPU, which gains nothing from more; else all of them."""
    checkpoint_seconds: float = 10.0
    """Save each seed this often, and when it stops."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json and predictions.csv. None: runs/<folder>-<model>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    seeds_per_device: int = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None, filled in; impossible settings end here."""
    if not config.dataset.is_dir():
        raise SystemExit(f"--dataset {config.dataset}: there is no such folder")
    by_default = {
        "seeds_per_device": 1 if jax.default_backend() == "cpu" else config.seeds,
        "output": Path("runs") / f"{config.dataset.resolve().name}-{config.model}",
    }
    open_fields = dict.fromkeys(("task", "train", "validation", "test", "block_size"))
    settings = fill(Settings, config, open_fields | by_default)
    counts = (
        "seeds hidden_features num_layers num_heads per_class patience max_epochs top_k block_size"
    )
    check(
        settings,
        at_least=dict.fromkeys([*counts.split(), "seeds_per_device"], 1)
        | {"first_seed": 0, "l2": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "temperature", "train", "validation", "test"),
        rates=("dropout", "attention_dropout"),
    )
    if settings.model in WITH_HEADS:
        check_multiple(settings, "hidden_features", "num_heads")
    if settings.train is not None and settings.per_class != Config.per_class:
        raise SystemExit(
            f"--per-class {settings.per_class} and --train {settings.train:g}: one of them says how many nodes train"
        )
    check_weighing(settings, [settings.model], WITH_HEADS)
    return settings


class Weighted(nnx.Module):
    """A model whose edges carry their weights through the graph, which all that training hands on is."""

    def __init__(self, model: nnx.Module):
        self.model = model

    def __call__(self, graph: GraphsTuple, **options: Any) -> GraphsTuple:
        weights = jnp.asarray(graph.edges)[:, 0]
        return self.model(graph._replace(edges=None), edge_weight=weights, **options)


class Task:
    """Model and data, and the pure functions of both that training wants.

    Numbers are learned in units of their spread over the training nodes, and scored in their own.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.data = self.load(settings.first_seed)
        graph, weight = self.data.graph, self.data.edge_weight
        if weight is not None:
            graph = graph._replace(edges=weight[:, None])
        self.graph = add_self_loops(graph, fill="ones")
        self.kind = str(self.data.task)
        self.metrics: Any = METRICS[self.kind]
        if settings.class_weights:
            if self.kind != "classes":
                raise SystemExit(f"--class-weights: the labels are {self.kind}, not classes")
            weights = class_weights(self.data.labels[self.data.splits.train], self.data.num_classes)
            self.metrics = functools.partial(weighted_softmax_cross_entropy, weights=weights)
        self.functions = node_prediction(self.build, self.metrics)
        self.outputs = jax.jit(self.functions.outputs)

    def load(self, seed: int) -> Dataset:
        settings = self.settings
        try:
            return load_folder(
                settings.dataset,
                task=settings.task,
                directed=settings.directed,
                seed=seed,
                per_class=settings.per_class,
                normalize_features=settings.normalize_features,
                train=_size(settings.train),
                validation=_size(settings.validation),
                test=_size(settings.test),
            )
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise SystemExit(f"{settings.dataset}: {error}") from error

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        settings = self.settings
        rates = DropoutRates(inputs=settings.dropout, attention=settings.attention_dropout)
        options: dict[str, Any] = {
            "hidden_features": settings.hidden_features,
            "num_layers": settings.num_layers,
            "dropout_rate": rates,
        }
        if settings.model in WITH_HEADS:
            options["num_heads"] = settings.num_heads
        options |= weighing(settings, settings.model)
        sizes = self.data.num_features, self.data.num_classes
        model = MODELS[settings.model](*sizes, **options, rngs=rngs)
        return model if self.data.edge_weight is None else Weighted(model)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def dataset(self, seed: int) -> Dataset:
        return self.load(seed)

    def targets(self, seed: int) -> np.ndarray:
        """[N] for classes, [N, T] for numbers and labels, in their own units."""
        labels = self.dataset(seed).labels
        return labels if self.kind == "classes" else labels.reshape(len(labels), -1)

    def units(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each number over the training nodes."""
        numbers = self.targets(seed)[self.dataset(seed).splits.train].astype(np.float64)
        mean, deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        return mean, np.where(deviation > 0, deviation, 1)

    def labels(self, seed: int) -> Labels:
        targets = self.targets(seed)
        if self.kind == "numbers":
            mean, deviation = self.units(seed)
            targets = ((targets - mean) / deviation).astype(np.float32)
        nodes, held_out, _ = self.dataset(seed).splits
        return Labels(nodes, targets[nodes], held_out, targets[held_out])

    def predictions(self, trained: Trained) -> np.ndarray:
        """Logits, or numbers in their own units."""
        found = np.asarray(self.outputs(trained.parameters, self.graph), np.float64)
        if self.kind == "numbers":
            mean, deviation = self.units(trained.seed)
            found = found * deviation + mean
        return found.astype(np.float32)

    def scores(self, trained: Trained) -> dict[str, list[list[float]]]:
        """Score and loss of each part of the split, of numbers one by one: the one look at a seed's test labels."""
        found, targets = jnp.asarray(self.predictions(trained)), self.targets(trained.seed)
        columns: list[Any] = [slice(None)]
        if self.kind == "numbers":
            columns = [slice(k, k + 1) for k in range(targets.shape[1])]
        of = lambda nodes, k: METRICS[self.kind](
            found[:, k], nodes, targets[nodes] if targets.ndim == 1 else targets[nodes][:, k]
        )
        return {
            part: [[float(m.accuracy), float(m.loss)] for m in (of(nodes, k) for k in columns)]
            for part, nodes in self.dataset(trained.seed).splits._asdict().items()
        }


def _size(value: float | None) -> int | float | None:
    """A share below 1, or a number of nodes."""
    return value if value is None or value < 1 else int(value)


def run(settings: Settings) -> dict[str, Any]:
    """Train all seeds; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result)


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    seeds, task = opened(settings), Task(settings)
    print(task.data)
    optimizer = adam_with_l2(settings.learning_rate, settings.l2)
    training = training_of(task.functions, optimizer, settings, RULES[settings.rule])
    runs = seeds.train(training, task.graph, task.labels)
    scores = [None if one.diverged else task.scores(one) for one in runs]
    ranked = [(each["validation"][0][0], i) for i, each in enumerate(scores) if each]
    if ranked:
        best = task.predictions(runs[max(ranked)[1]])
        write_best(task, settings.output / "predictions.csv", best)
    names = [task.data.name] if task.kind != "numbers" else list(task.data.class_names)
    rows = {
        name: {
            f"{part}_{what}": [each and each[part][k][index] for each in scores]
            for part in ("test", "validation", "train")
            for index, what in enumerate(("score", "loss"))
        }
        for k, name in enumerate(names)
    }
    return {
        "dataset": task.data.name,
        "task": task.kind,
        "guessed": task.data.guessed,
        "rows": rows,
        "seeds": [one.seed for one in runs],
        **told_of(runs),
    }


def write_best(task: Task, path: Path, outputs: np.ndarray) -> None:
    """What the seed that validates best says of every node."""
    path.unlink(missing_ok=True)
    if task.kind == "classes":
        write_predictions(path, task.data, outputs.argmax(-1))
    else:
        found = outputs > 0 if task.kind == "labels" else outputs
        write_predictions(path, task.data, found.astype(np.float32).reshape(task.data.labels.shape))


def table(result: dict[str, Any]) -> str:
    """One row, or for numbers one per target; a score under its own name."""
    name, scale = SCORES[result["task"]]
    digits = 3 if scale == 1 else 1
    seeds = count(len(result["seeds"]), "seed")
    numbers = result["task"] == "numbers"
    header = [f"{result['dataset']}, {seeds}", f"test {name}", f"validation {name}"]
    header += ["test error (RMSE, its own units)"] * numbers
    rows = []
    for target, row in result["rows"].items():
        spread = functools.partial(mean_and_sd, scale=scale, digits=digits)
        rows.append([target, spread(row["test_score"]), spread(row["validation_score"])])
        if numbers:
            errors = [loss and loss**0.5 for loss in row["test_loss"]]
            rows[-1].append(mean_and_sd(errors, scale=1, digits=3))
    guess = f"\n\nThe labels were taken for {result['task']}; --task says otherwise."
    return markdown_table(header, rows) + guess * result["guessed"]


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\nDetails and predictions in {settings.output}")
    if not any(sound(row["test_score"]) for row in result["rows"].values()):
        raise SystemExit("Every seed has diverged: there is nothing to predict with.")
    return result


if __name__ == "__main__":
    script.run(main, Config)
