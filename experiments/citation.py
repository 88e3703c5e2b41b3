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
import optax
import script
from citation_settings import WITH_HEADS, Config, Settings, resolve
from curves import draw_curves, save_curves
from devices import use_every_core
from flax import nnx
from jax.typing import DTypeLike
from jraph import GraphsTuple
from outputs import INTERRUPTED, claimed, find_result, say_found, try_to_plot
from protocols import deviations, paper_value
from report import as_json, count, describe_run, markdown_table, mean_and_sd, save_result
from seed_runs import open_checkpoints, say_interrupted, train_seeds
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
from gatjax.training import (
    RULES,
    Checkpoints,
    Labels,
    Trained,
    Training,
    node_classification,
)

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
    """Train all seeds; the result, as it is in result.json. One that is there already is not made again."""
    with claimed(settings.output):
        return find_or_make(settings)


def find_or_make(settings: Settings) -> dict[str, Any]:
    path = settings.output / "result.json"
    found = find_result(path, dataclasses.asdict(settings), overwrite=settings.overwrite)
    if found is not None:
        say_found(path)
        return found
    checkpoints = open_checkpoints(settings)
    task = Task(settings)
    print(task.data)
    started = time.perf_counter()
    finished = train_seeds(make_training(task), settings, task.graph, task.labels, checkpoints)
    runs = [finished[seed] for seed in sorted(finished)]
    seconds = time.perf_counter() - started
    if len(finished) < settings.seeds:
        print_interruption(task, runs, seconds, checkpoints)
        raise SystemExit(INTERRUPTED)
    result = keep(task, runs, seconds)
    checkpoints.remove()
    try_to_plot(
        settings.output / "learning_curves.png", lambda path: draw_curves(settings.output, path)
    )
    return as_json(result)


def print_interruption(
    task: Task, runs: list[Trained], seconds: float, checkpoints: Checkpoints
) -> None:
    """What there is, and whether it can be gone on with; no result is written."""
    if runs:
        print(f"\n{table(describe(task, runs, seconds))}\n")
    say_interrupted(task.settings, len(runs), checkpoints)


def keep(task: Task, runs: list[Trained], seconds: float) -> dict[str, Any]:
    """Write everything worth keeping: the model that validates best, the curves, and last result.json."""
    settings, output = task.settings, task.settings.output
    result = describe(task, runs, seconds)
    shutil.rmtree(output / "model", ignore_errors=True)
    sound = [one for one in runs if not one.diverged]
    if sound:
        validation = dict(zip(result["seeds"], result["validation_accuracy"], strict=True))
        best = max(sound, key=lambda trained: validation[trained.seed])
        name = MODELS[settings.model].__name__
        save_model(output / "model", name, task.arguments, best.parameters)
    save_curves(output / "curves.json", runs)
    save_result(output / "result.json", result)
    return result


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
        "diverged": [trained.diverged_epoch for trained in runs],
        "epochs": [trained.epochs for trained in runs],
        "best_epoch": [trained.best_epoch for trained in runs],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(runs[0].parameters)),
        "seconds": seconds,
        "config": values,
        **describe_run(),
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
