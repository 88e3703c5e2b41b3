"""Large graphs: training on samples of the neighbours beside training on the whole graph.

    python experiments/large.py                                     # Facebook pages, files in GATJAX_DATA/musae
    python experiments/large.py --dataset pubmed --seeds 3
    python experiments/large.py --dataset planted --nodes 1000000 --edges 20000000 --rows sampled --epochs 2
    python experiments/large.py --dataset planted --nodes 1000000 --edges 20000000 --rows embed
    python experiments/large.py --resume                            # after an interruption
    python experiments/large.py partition --shards 4                # and then `sharded`: see large_shards.py

Both see every training node as often: an epoch has as many steps as there are batches of training nodes, the whole
graph's with all of them in each. Both are judged on the whole graph. `embed` trains nothing: it measures what
`embed_nodes` takes, in memory and from file to file.
"""

import dataclasses
import hashlib
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any, Literal

import jax
import large_embed
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from large_graphs import build_model, check_shares, load_large, split_of
from report import count, markdown_table, mean_and_sd
from seed_runs import Open, Seeds, made_of_seeds, open_rows, seeds_of
from settings import check, check_multiple, fill, required

from gatjax import hop_sizes, num_nodes
from gatjax.data import Splits
from gatjax.graph.sizes import num_edges
from gatjax.training import (
    Labels,
    Trained,
    Training,
    large_graph,
    last_epoch,
    node_prediction,
    sampled_prediction,
    softmax_cross_entropy,
)

TITLES = {"whole": "whole graph", "sampled": "sampled neighbours"}
RowName = Literal["whole", "sampled", "embed"]


Dataset = Literal["facebook", "pubmed", "planted", "ogbn-arxiv", "ogbn-products", "reddit"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on the whole graph and on samples of it, once per seed."""

    dataset: Dataset = "facebook"
    """Pages of Facebook, papers of Pubmed, a published large graph, or one with planted classes, of any size."""
    rows: tuple[RowName, ...] = ("whole", "sampled")
    """What a step of training sees; or `embed`, what it takes to compute every node without training."""
    nodes: int = 100_000
    """Of a planted graph."""
    edges: int = 1_000_000
    """Of a planted graph, both directions counted."""
    seeds: int = 3
    """How many of each row; the split has the same seed."""
    first_seed: int = 0
    """The first of them; the others follow."""
    train: float = 0.6
    """Share of the nodes that train, where no split is published."""
    validation: float = 0.2
    """Share of the nodes that validate, likewise; the others test."""
    batch_size: int = 1024
    """Nodes that a step on samples learns from."""
    fanouts: tuple[int, ...] = (10, 10)
    """Neighbours at most, by hop; as many layers."""
    edges_per_chunk: int = 2**21
    """Edges that `embed` sees at a time."""
    model: Literal["gat", "gatv2"] = "gat"
    """What is trained."""
    hidden_features: int = 64
    """Width of the hidden layers, all heads together."""
    num_heads: int = 4
    """Heads of a hidden layer."""
    dropout: float = 0.2
    """Of the attention weights."""
    learning_rate: float = 0.005
    """Of Adam."""
    epochs: int = 15
    """How often each training node comes; the last epoch counts."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    checkpoint_seconds: float = 30.0
    """Save each seed this often, and when it stops."""
    output: Path | None = None
    """Folder for result.json. None: runs/large-<dataset>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    seeds_per_device: int = 1
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None filled in; impossible settings end here."""
    settings = fill(Settings, config, {"output": Path("runs") / f"large-{config.dataset}"})
    counts = "nodes edges seeds batch_size edges_per_chunk hidden_features num_heads epochs"
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1) | {"first_seed": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "train", "validation"),
        rates=("dropout",),
    )
    check_shares(settings)
    check_multiple(settings, "hidden_features", "num_heads")
    try:
        hop_sizes(settings.batch_size, settings.fanouts)
    except ValueError as error:
        raise SystemExit(f"--fanouts {' '.join(map(str, settings.fanouts))}: {error}") from error
    return settings


class Problem:
    """A graph, its splits, and the functions that train on it."""

    def __init__(self, settings: Settings):
        self.settings = settings
        try:
            self.data = load_large(settings.dataset, settings.nodes, settings.edges)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(f"--dataset {settings.dataset}: {error}") from error
        self.graph = large_graph(self.data.graph)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        sizes = np.asarray(self.data.graph.nodes).shape[1], self.data.classes
        return build_model(self.settings, *sizes, len(self.settings.fanouts), rngs)

    def split(self, seed: int) -> Splits:
        return split_of(self.data, self.settings, seed)

    def labels(self, seed: int) -> Labels:
        split, known = self.split(seed), self.data.labels
        return Labels(split.train, known[split.train], split.validation, known[split.validation])

    def training(self, row: str) -> tuple[Training, Any]:
        """How a row is trained, and on what."""
        settings = self.settings
        if row == "whole":
            pure: Any = node_prediction(self.build, softmax_cross_entropy)
            data: Any = self.graph.graph
        else:
            sizes = {"batch_size": settings.batch_size, "fanouts": settings.fanouts}
            pure = sampled_prediction(self.build, softmax_cross_entropy, **sizes)
            data = self.graph
        steps = math.ceil(len(self.split(settings.first_seed).train) / settings.batch_size)
        training = Training(
            initialise=pure.initialise,
            loss=pure.loss,
            validate=pure.validate,
            optimizer=optax.adam(settings.learning_rate),
            rule=last_epoch,
            patience=settings.epochs,
            max_epochs=settings.epochs,
            epochs_per_dispatch=1,
            steps_per_epoch=steps,
        )
        return training, data


def run(settings: Settings) -> dict[str, Any]:
    """Every row; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result)


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    problem = Problem(settings)
    graph = problem.data.graph
    size = {"nodes": num_nodes(graph), "edges": num_edges(graph)}
    print(f"{settings.dataset}: {size['nodes']} nodes, {size['edges']} edges")
    trained = open_rows(settings, [row for row in settings.rows if row in TITLES], opened)
    rows = {row: train_row(problem, row, seeds) for row, seeds in trained.items()}
    if "embed" in settings.rows:
        rows["embed"] = large_embed.embed_row(
            problem.data.graph,
            problem.build(nnx.Rngs(settings.first_seed)),
            edges_per_chunk=settings.edges_per_chunk,
            progress=settings.progress,
        )
    return {
        "dataset": settings.dataset,
        **size,
        "seeds": [*seeds_of(settings)],
        "rows": rows,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def train_row(problem: Problem, row: str, seeds: Seeds) -> dict[str, Any]:
    """All seeds, and what each makes of its test nodes."""
    started, cpu = time.perf_counter(), time.process_time()
    print(TITLES[row])
    training, data = problem.training(row)
    runs = seeds.train(training, data, problem.labels)
    seconds = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }
    return {
        "test": [judge(problem, one) for one in runs],
        "validation": [
            None if one.diverged else float(one.history.validation_accuracy[-1]) for one in runs
        ],
        "steps": training.steps_per_epoch * problem.settings.epochs,
        "diverged": [one.diverged_epoch for one in runs],
        "digests": [digest(one.parameters) for one in runs],
        **seconds,
    }


def digest(parameters: Any) -> str:
    """By which the parameters of two runs are compared."""
    leaves = jax.tree.leaves(parameters)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def judge(problem: Problem, trained: Trained) -> float | None:
    """Accuracy on the test nodes, from the whole graph: the one look at their labels."""
    if trained.diverged:
        return None
    outputs = node_prediction(problem.build, softmax_cross_entropy).outputs
    logits = np.asarray(jax.jit(outputs)(trained.parameters, problem.graph.graph))
    test = problem.split(trained.seed).test
    return float((logits[test].argmax(axis=1) == problem.data.labels[test]).mean())


def table(result: dict[str, Any]) -> str:
    """Accuracy and time of what was trained; time and memory of what was not."""
    rows = result["rows"]
    tables = [trained_table(result)] if set(rows) & set(TITLES) else []
    tables += [large_embed.table(rows["embed"])] if "embed" in rows else []
    return "\n\n".join(tables)


def trained_table(result: dict[str, Any]) -> str:
    """Accuracy and time of each row that was trained."""
    seeds = count(len(result["seeds"]), "seed")
    header = [
        f"{result['dataset']}, {seeds}",
        "test (%)",
        "validation (%)",
        "steps",
        "CPU s a seed",
    ]
    rows = [
        [
            TITLES[row],
            mean_and_sd(each["test"]),
            mean_and_sd(each["validation"]),
            str(each["steps"]),
            f"{each['cpu_seconds'] / len(result['seeds']):.0f}",
        ]
        for row, each in result["rows"].items()
        if row in TITLES
    ]
    return markdown_table(header, rows)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\nDetails in {settings.output}")
    return result


if __name__ == "__main__":
    if sys.argv[1:2] in (["partition"], ["sharded"]):
        import large_shards

        script.run(large_shards.main, large_shards.Commands)
    else:
        script.run(main, Config)
