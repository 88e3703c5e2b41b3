"""Node classification on citation graphs: the tables of the GAT paper, with their spread over seeds.

    python experiments/citation.py                                  # the paper's GAT on Citeseer, 10 seeds
    python experiments/citation.py --dataset cora --seeds 100
    python experiments/citation.py --model gcn --split random
    python experiments/citation.py --resume                         # after an interruption

Cora and Pubmed are downloaded on first use; Citeseer comes with the package.
"""

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
import tyro
from devices import use_every_core
from flax import nnx
from jax.typing import DTypeLike
from jraph import GraphsTuple
from report import describe_run, markdown_table, mean_and_sd, save_result
from settings import fill, required

from gatjax import (
    GAT,
    GCN,
    MLP,
    ConstGAT,
    DotProductGAT,
    DropoutRates,
    GATv2,
    add_self_loops,
    plots,
    save_model,
)
from gatjax.data import Dataset, load
from gatjax.training import (
    RULES,
    CheckpointError,
    Checkpoints,
    Labels,
    Trained,
    Training,
    node_classification,
    train,
)

DatasetName = Literal["citeseer", "cora", "pubmed"]
MODELS = {
    "gat": GAT,
    "gatv2": GATv2,
    "dot": DotProductGAT,
    "const": ConstGAT,
    "gcn": GCN,
    "mlp": MLP,
}
WITH_HEADS = ("gat", "gatv2", "dot", "const")

# What may differ between a run and its resumption.
FREE = ("seeds", "first_seed", "checkpoint_seconds", "resume", "progress", "output")

# Mean and standard deviation of the test accuracy, in percent. Public split: Table 2 of Veličković et al.
# (2018), the GCN with 64 hidden features, and for GATv2 Brody et al. (2022). Random splits: Shchur et al. (2018).
PAPER = {
    ("public", "cora", "gat"): "83.0 ± 0.7",
    ("public", "citeseer", "gat"): "72.5 ± 0.7",
    ("public", "pubmed", "gat"): "79.0 ± 0.3",
    ("public", "cora", "gcn"): "81.4 ± 0.5",
    ("public", "citeseer", "gcn"): "70.9 ± 0.5",
    ("public", "pubmed", "gcn"): "79.0 ± 0.3",
    ("public", "cora", "mlp"): "55.1",
    ("public", "citeseer", "mlp"): "46.5",
    ("public", "pubmed", "mlp"): "71.4",
    ("public", "pubmed", "gatv2"): "78.5 ± 0.4",
    ("shchur", "cora", "gat"): "81.8 ± 1.3",
    ("shchur", "citeseer", "gat"): "71.4 ± 1.9",
    ("shchur", "pubmed", "gat"): "78.7 ± 2.3",
    ("shchur", "cora", "gcn"): "81.5 ± 1.3",
    ("shchur", "citeseer", "gcn"): "71.9 ± 1.9",
    ("shchur", "pubmed", "gcn"): "77.8 ± 2.9",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a model on a citation graph, once per seed, and compare with the paper.

    The defaults are the original protocol: 8 heads of 8 features, three dropouts of 0.6, a bias in the
    score, L2 in the loss, and the stopping rule on validation loss and accuracy. What is None is set by the
    data set and the split, as the papers do.
    """

    dataset: DatasetName = "citeseer"
    """Citation graph."""
    model: Literal["gat", "gatv2", "dot", "const", "gcn", "mlp"] = "gat"
    """GAT, GATv2, dot-product attention, uniform attention (Const-GAT), GCN, or no graph at all (MLP)."""
    split: Literal["public", "random", "shchur"] = "public"
    """The public split; one Planetoid split per seed; or the splits of Shchur et al. (2018) per seed."""
    seeds: int = 10
    """Number of seeds."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    hidden_features: int = 64
    """Width of the hidden layers, all heads together."""
    num_layers: int = 2
    """Number of layers."""
    num_heads: int = 8
    """Attention heads of a hidden layer."""
    out_heads: int | None = None
    """Attention heads of the output layer, averaged. Paper: 1, Pubmed 8."""
    input_dropout: float = 0.6
    """Dropout of each layer's input."""
    input_masks: Literal["per_head", "shared"] = "per_head"
    """Drop the input anew for each head (original), or once for all (as PyG and DGL do)."""
    projected_dropout: float = 0.6
    """Dropout of the projected features, in the original code but not in the paper."""
    attention_dropout: float = 0.6
    """Dropout of the attention weights."""
    score_bias: bool = True
    """A bias in GAT's score, in the original code but not in the paper."""
    initializer: Literal["per_head", "joint"] = "per_head"
    """Glorot uniform for each head (original), or for all heads as one matrix (as PyG does)."""
    learning_rate: float | None = None
    """Of Adam. Paper: 0.005, Pubmed 0.01."""
    l2: float | None = None
    """Coefficient of half the squared norm of all parameters. Paper: 5e-4, Pubmed 1e-3."""
    rule: Literal["both", "loss", "either"] = "both"
    """Which validation metric saves parameters: accuracy and loss at once (original), loss, or either."""
    patience: int = 100
    """Epochs without progress before a seed stops."""
    max_epochs: int = 100_000
    """Epochs at most."""
    epochs_per_dispatch: int = 25
    """Epochs per call of the compiled program; no influence on results."""
    seeds_per_device: int | None = None
    """Seeds that a device trains side by side. None: 1 on a CPU, which gains nothing from more; else all of them."""
    features: Literal["auto", "dense", "sparse"] = "auto"
    """Node features as a dense or a sparse matrix, by their density or by force."""
    normalize_features: bool | None = None
    """Scale each node's features to sum 1. The original does, Shchur et al. do not."""
    checkpoint_seconds: float = 10.0
    """Save each seed this often, and when it stops."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json and learning_curves.png. None: runs/<dataset>-<model>-<split>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    out_heads: int = required()
    learning_rate: float = required()
    l2: float = required()
    seeds_per_device: int = required()
    normalize_features: bool = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None, as the papers have it for this data set and split."""
    pubmed = config.dataset == "pubmed"
    by_default = {
        "out_heads": 8 if pubmed else 1,
        "learning_rate": 0.01 if pubmed else 0.005,
        "l2": 1e-3 if pubmed else 5e-4,
        "normalize_features": config.split != "shchur",
        "seeds_per_device": 1 if jax.default_backend() == "cpu" else config.seeds,
        "output": Path("runs") / f"{config.dataset}-{config.model}-{config.split}",
    }
    return fill(Settings, config, by_default)


class Task:
    """Model and data, and the pure functions of both that training wants.

    Graph, model and labels meet here and nowhere else: training sees the graph as arrays, and the labels
    of the training and validation nodes.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.data = self.load(settings.first_seed)
        self.graph = add_self_loops(self.data.graph)
        self.functions = node_classification(self.build)

    def load(self, seed: int) -> Dataset:
        settings = self.settings
        return load(
            settings.dataset,
            split=settings.split,
            seed=seed,
            normalize_features=settings.normalize_features,
            features=settings.features,
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the model's constructor."""
        settings = self.settings
        shared = settings.input_masks == "shared"
        arguments = {
            "in_features": self.data.num_features,
            "out_features": self.data.num_classes,
            "hidden_features": settings.hidden_features,
            "num_layers": settings.num_layers,
            "dropout_rate": DropoutRates(
                inputs=settings.input_dropout if shared else 0.0,
                projected=settings.projected_dropout,
                attention=settings.attention_dropout,
                head_inputs=0.0 if shared else settings.input_dropout,
            ),
        }
        if settings.model in WITH_HEADS:
            arguments |= {"num_heads": settings.num_heads, "out_heads": settings.out_heads}
        if settings.model == "gat":
            arguments |= {"use_score_bias": settings.score_bias}
        return arguments

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        options: dict[str, Any] = {}
        if self.settings.initializer == "joint":
            options["kernel_init"] = functools.partial(joint_glorot, self.settings.num_heads)
        return MODELS[self.settings.model](**self.arguments, **options, rngs=rngs)

    def dataset(self, seed: int) -> Dataset:
        return self.data if self.settings.split == "public" else self.load(seed)

    def labels(self, seed: int) -> Labels:
        data = self.dataset(seed)
        train_nodes, validation_nodes, _ = data.splits
        return Labels(
            train_nodes, data.labels[train_nodes], validation_nodes, data.labels[validation_nodes]
        )

    @functools.cached_property
    def predict(self) -> Callable[[nnx.State, GraphsTuple], jax.Array]:
        logits = self.functions.logits
        return jax.jit(lambda parameters, graph: logits(parameters, graph).argmax(-1))

    def accuracies(self, trained: Trained) -> dict[str, float]:
        """Accuracy on each part of the split: the one look at the test labels of a seed."""
        data = self.dataset(trained.seed)
        correct = np.asarray(self.predict(trained.parameters, self.graph)) == data.labels
        return {part: float(correct[nodes].mean()) for part, nodes in data.splits._asdict().items()}


def joint_glorot(
    num_heads: int, key: jax.Array, shape: tuple[int, int], dtype: DTypeLike
) -> jax.Array:
    """One head's part of a Glorot-uniform matrix that spans all heads."""
    bound = (6 / (shape[0] + num_heads * shape[1])) ** 0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def make_training(task: Task) -> Training:
    settings = task.settings
    # Coupled L2: the decay is part of the gradient that Adam sees, as in the original (unlike AdamW).
    optimizer = optax.chain(
        optax.add_decayed_weights(settings.l2), optax.adam(settings.learning_rate)
    )
    return Training(
        initialise=task.functions.initialise,
        loss=task.functions.loss,
        validate=task.functions.validate,
        optimizer=optimizer,
        rule=RULES[settings.rule],
        patience=settings.patience,
        max_epochs=settings.max_epochs,
        epochs_per_dispatch=settings.epochs_per_dispatch,
    )


def run(settings: Settings) -> dict[str, Any]:
    """Train all seeds; the result, as it is in result.json."""
    task = Task(settings)
    print(task.data)
    training = make_training(task)
    checkpoints = open_checkpoints(settings)
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    started = time.perf_counter()
    finished: dict[int, Trained] = {}
    runs = train(
        training,
        seeds,
        task.graph,
        task.labels,
        seeds_per_device=settings.seeds_per_device,
        checkpoints=checkpoints,
        progress=settings.progress,
    )
    try:
        for trained in runs:
            finished[trained.seed] = trained
    except KeyboardInterrupt:
        print(
            f"Interrupted with {len(finished)} of {settings.seeds} seeds finished; --resume goes on from here."
        )
    except CheckpointError as error:
        raise SystemExit(f"Cannot resume: {error}") from error
    seconds = time.perf_counter() - started
    if not finished:
        raise SystemExit("No seed has finished: nothing to report.")
    if len(finished) == settings.seeds:
        checkpoints.remove()
    return summarize(task, [finished[seed] for seed in sorted(finished)], seconds)


def open_checkpoints(settings: Settings) -> Checkpoints:
    """The checkpoints of this run, in its output folder; those of another run are left alone."""
    values = dataclasses.asdict(settings)
    description = {name: value for name, value in values.items() if name not in FREE}
    description["jax"] = jax.__version__
    checkpoints = Checkpoints(
        settings.output / "checkpoints", description, every_seconds=settings.checkpoint_seconds
    )
    if checkpoints.exist() and not settings.resume:
        raise SystemExit(
            f"{checkpoints.folder} holds an interrupted run: pass --resume to go on with it, delete it to "
            "start afresh, or choose another --output."
        )
    if settings.resume and not checkpoints.exist():
        print(f"Nothing to resume in {checkpoints.folder}: starting afresh.")
    return checkpoints


def summarize(task: Task, runs: list[Trained], seconds: float) -> dict[str, Any]:
    """Everything worth keeping: result.json, the curves, and the model that validates best."""
    settings, output = task.settings, task.settings.output
    accuracies = [task.accuracies(trained) for trained in runs]
    plot(output / "learning_curves.png", settings, runs)
    best = runs[int(np.argmax([accuracy["validation"] for accuracy in accuracies]))]
    shutil.rmtree(output / "model", ignore_errors=True)
    save_model(output / "model", MODELS[settings.model].__name__, task.arguments, best.parameters)
    result = {
        "dataset": settings.dataset,
        "model": settings.model,
        "split": settings.split,
        "paper": paper_value(settings),
        "seeds": [trained.seed for trained in runs],
        **{
            f"{part}_accuracy": [accuracy[part] for accuracy in accuracies]
            for part in ("test", "validation", "train")
        },
        "epochs": [trained.epochs for trained in runs],
        "best_epoch": [trained.best_epoch for trained in runs],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.parameters)),
        "seconds": seconds,
        "config": dataclasses.asdict(settings),
        **describe_run(),
    }
    save_result(output / "result.json", result)
    return result


def plot(path: Path, settings: Settings, runs: list[Trained]) -> None:
    loss_axes, _ = plots.learning_curves(
        [trained.history for trained in runs], best_epochs=[trained.best_epoch for trained in runs]
    )
    title = f"{settings.model} on {settings.dataset}, {settings.split} split, {len(runs)} seeds"
    plots.save(loss_axes, path, title=title)


def paper_value(settings: Settings) -> str:
    return PAPER.get((settings.split, settings.dataset, settings.model), "-")


def table(result: dict[str, Any]) -> str:
    ours = f"{mean_and_sd(result['test_accuracy'])} over {len(result['seeds'])} seeds"
    header = ["dataset", "model", "paper", "ours (mean ± sd)"]
    return markdown_table(header, [[result["dataset"], result["model"], result["paper"], ours]])


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n")
    print(f"{result['seconds']:.0f} s, compilation included; details in {settings.output}")
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
