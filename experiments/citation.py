"""Node classification on citation graphs: the tables of the GAT paper, with their spread over seeds.

    python experiments/citation.py                                  # the paper's GAT on Citeseer, 10 seeds
    python experiments/citation.py --dataset cora --seeds 100
    python experiments/citation.py --protocol shchur --seeds 20
    python experiments/citation.py --model gcn --split random
    python experiments/citation.py --resume                         # after an interruption

Cora and Pubmed are downloaded on first use; Citeseer comes with the package.
"""

import dataclasses
import functools
import shutil
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import script
from citation_settings import WITH_HEADS, Config, Settings, resolve
from curves import draw_curves, save_curves
from devices import use_every_core
from flax import nnx
from jax.typing import DTypeLike
from jraph import GraphsTuple
from outputs import try_to_plot
from protocols import deviations, paper_value
from report import count, markdown_table, mean_and_sd
from seed_runs import Open, adam_with_l2, made_of_seeds, told_of, training_of
from weighing import weighing

from gatjax import (
    GAT,
    GCN,
    MLP,
    ConstGAT,
    DotProductGAT,
    DropoutRates,
    GaAN,
    GATv2,
    add_self_loops,
    save_model,
)
from gatjax.data import Dataset, load
from gatjax.training import RULES, Labels, Trained, Training, node_classification

MODELS = {
    "gat": GAT,
    "gatv2": GATv2,
    "dot": DotProductGAT,
    "const": ConstGAT,
    "gaan": GaAN,
    "gcn": GCN,
    "mlp": MLP,
}


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
        if settings.model == "gaan":
            # It drops what leaves a layer, and once for all heads.
            rates = DropoutRates(settings.input_dropout, attention=settings.attention_dropout)
            arguments |= {"num_heads": settings.num_heads, "dropout_rate": rates}
        if settings.model in WITH_HEADS:
            arguments |= {"num_heads": settings.num_heads, "out_heads": settings.out_heads}
        if settings.model not in ("mlp", "gaan"):
            residuals = {"none": False, "identity": True, "linear": "linear"}
            arguments |= {"residual": residuals[settings.residual]}
        if settings.model == "gat":
            arguments |= {"use_score_bias": settings.score_bias}
        return arguments | weighing(settings, settings.model)

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
    optimizer = adam_with_l2(settings.learning_rate, settings.l2)
    training = training_of(task.functions, optimizer, settings, RULES[settings.rule])
    return training._replace(epochs_per_dispatch=settings.epochs_per_dispatch)


def run(settings: Settings) -> dict[str, Any]:
    """Train all seeds; the result, as it is in result.json. One that is there already is not made again."""
    picture = settings.output / "learning_curves.png"
    draw = lambda result: try_to_plot(picture, lambda path: draw_curves(settings.output, path))
    return made_of_seeds(settings, make_result, draw)


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    """Also what else is worth keeping: the model that validates best, and the curves."""
    seeds, task = opened(settings), Task(settings)
    print(task.data)
    started = time.perf_counter()

    def interrupted(runs: list[Trained]) -> None:
        if runs:
            told = describe(task, runs, time.perf_counter() - started)
            print(f"\n{table(told)}\n")

    runs = seeds.train(make_training(task), task.graph, task.labels, interrupted=interrupted)
    result = describe(task, runs, time.perf_counter() - started)
    save_best(task, runs, result["validation_accuracy"])
    save_curves(settings.output / "curves.json", runs)
    return result


def save_best(task: Task, runs: list[Trained], accuracy: list[float | None]) -> None:
    """The model that validates best, of those that have not diverged."""
    folder = task.settings.output / "model"
    shutil.rmtree(folder, ignore_errors=True)
    known = [(value, -index) for index, value in enumerate(accuracy) if value is not None]
    if known:
        best = runs[-max(known)[1]]
        name = MODELS[task.settings.model].__name__
        save_model(folder, name, task.arguments, best.parameters)


def describe(task: Task, runs: list[Trained], seconds: float) -> dict[str, Any]:
    """The result: one entry per seed in each list, None where a seed that diverged has no such number."""
    settings = task.settings
    values = dataclasses.asdict(settings)
    accuracies = [None if one.diverged else task.accuracies(one) for one in runs]
    return {
        "dataset": settings.dataset,
        "model": settings.model,
        "split": settings.split,
        "protocol": settings.protocol,
        "deviations": deviations(values),
        "paper": paper_value(values),
        "seeds": [trained.seed for trained in runs],
        **{
            f"{part}_accuracy": [each and each[part] for each in accuracies]
            for part in ("test", "validation", "train")
        },
        **told_of(runs),
        "seconds": seconds,
    }


def table(result: dict[str, Any]) -> str:
    """Ours beside the paper's, and below it what keeps the two from being compared, or a mean from being one."""
    ours = f"{mean_and_sd(result['test_accuracy'])} over {count(len(result['seeds']), 'seed')}"
    header = ["dataset", "model", "paper", "ours (mean ± sd)"]
    lines = [markdown_table(header, [[result["dataset"], result["model"], result["paper"], ours]])]
    if result["deviations"]:
        named = ", ".join(
            f"{name} {here} (there {there})" for name, (there, here) in result["deviations"].items()
        )
        lines.append(f"Not the protocol of {result['protocol']}: {named}.")
    diverged = {
        seed: epoch
        for seed, epoch in zip(result["seeds"], result["diverged"], strict=True)
        if epoch is not None
    }
    if diverged:
        named = ", ".join(f"seed {seed} at epoch {epoch}" for seed, epoch in diverged.items())
        lines.append(f"Diverged, and left out of the mean: {named}.")
    return "\n\n".join(lines)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n")
    print(f"{result['seconds']:.0f} s, compilation included; details in {settings.output}")
    if None not in result["diverged"]:
        raise SystemExit("Every seed has diverged: there is no model to keep.")
    return result


if __name__ == "__main__":
    script.run(main, Config)
