"""Graphs that are not seen in training: the protocol of PPI, several labels for each node, attention and its controls.

    python experiments/inductive.py                                     # generated graphs
    python experiments/inductive.py --dataset ppi --seeds 10            # files in GATJAX_DATA/ppi, or fetched there
    python experiments/inductive.py --resume                            # after an interruption

Three layers with a skip connection across the second, a batch of two graphs, Adam, no dropout; a run stops when neither
loss nor micro-F1 of the validation graphs has improved for so long, and keeps the parameters at which both were best.
Each step draws its graphs anew: an epoch sees each once on average.
"""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from inductive_graphs import Stacked, generated, joined, stacked
from report import count, markdown_table, mean_and_sd
from seed_runs import Open, Seeds, made_of_seeds, open_rows, seeds_of, told_of
from settings import check, fill, required

from gatjax import GATConv, GCNConv, MeanConv, NodeLinear, Stack, num_nodes
from gatjax.data import LabelledGraphs, load_ppi
from gatjax.graph.sizes import num_edges
from gatjax.training import Metrics, Trained, Training, functional, sigmoid_cross_entropy

RowName = Literal["gat", "uniform", "gcn", "mlp"]
TITLES = {
    "gat": "GAT",
    "uniform": "uniform attention",
    "gcn": "GCN",
    "mlp": "MLP",
}
# Micro-F1 on PPI, in percent: Veličković et al. 2018; the MLP is in Hamilton et al. 2017.
PUBLISHED = {"gat": "97.3 ± 0.2", "uniform": "93.4 ± 0.6", "mlp": "42.2"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Predict the labels of nodes of graphs that were not seen, once per row and seed."""

    dataset: Literal["generated", "ppi"] = "generated"
    """Graphs whose labels are what some neighbours say, or proteins that interact."""
    rows: tuple[RowName, ...] = get_args(RowName)
    """Attention, attention held uniform, a graph convolution, features alone."""
    graphs: int = 24
    """Generated graphs: so many, of which a tenth validates and a tenth tests."""
    nodes: int = 500
    """Of a generated graph."""
    seeds: int = 3
    """How many of each row; the graphs are the same."""
    first_seed: int = 0
    """The first of them; the others follow."""
    batch_size: int = 2
    """Graphs that a step learns from."""
    head_features: int = 256
    """Width of a head in the first two layers."""
    num_heads: int = 4
    """Heads of the first two layers, concatenated; layers without heads are as wide."""
    out_heads: int = 6
    """Heads of the last layer, averaged."""
    learning_rate: float = 0.005
    """Of Adam."""
    patience: int = 100
    """Epochs without progress on the validation graphs before a run stops."""
    max_epochs: int = 1000
    """Epochs at most."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    checkpoint_seconds: float = 30.0
    """Save each seed this often, and when it stops."""
    output: Path | None = None
    """Folder for result.json. None: runs/inductive-<dataset>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    seeds_per_device: int = 1
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None filled in; impossible settings end here."""
    settings = fill(Settings, config, {"output": Path("runs") / f"inductive-{config.dataset}"})
    counts = "seeds nodes batch_size head_features num_heads out_heads patience max_epochs"
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"graphs": 3, "first_seed": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate",),
    )
    return settings


class Problem:
    """The graphs, and the functions that train on them."""

    def __init__(self, settings: Settings):
        self.settings = settings
        try:
            self.data = load(settings)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(f"--dataset {settings.dataset}: {error}") from error
        train = len(self.data.splits.train)
        if settings.batch_size > train:
            raise SystemExit(
                f"--batch-size {settings.batch_size}: there are {train} graphs to train on"
            )
        self.stacked = jax.tree.map(jnp.asarray, stacked(self.data))

    def training(self, row: str) -> Training:
        """How a row is trained."""
        settings, splits = self.settings, self.data.splits
        initialise, apply = functional(self.builder(row))
        steps = -(-len(splits.train) // settings.batch_size)
        return Training(
            initialise=initialise,
            loss=partial(_loss, apply, tuple(splits.train.tolist()), settings.batch_size),
            validate=partial(_validate, apply, tuple(splits.validation.tolist())),
            optimizer=optax.adam(settings.learning_rate),
            patience=settings.patience,
            max_epochs=settings.max_epochs,
            epochs_per_dispatch=5,
            steps_per_epoch=steps,
        )

    def builder(self, row: str) -> Any:
        """What draws the model of a row."""
        features, labels = self.stacked.nodes.shape[2], self.stacked.labels.shape[2]
        settings = self.settings
        heads = settings.num_heads, settings.head_features, settings.out_heads
        return partial(build_model, row, features, labels, heads)

    def judge(self, row: str, trained: Trained) -> float | None:
        """Micro-F1 over all nodes and labels of the test graphs: the one look at them."""
        if trained.diverged:
            return None
        apply = functional(self.builder(row)).apply
        of = jax.jit(partial(_validate, apply, tuple(self.data.splits.test.tolist())))
        return float(of(trained.parameters, self.stacked, ()).accuracy)


def build_model(
    row: str, features: int, labels: int, heads: tuple[int, int, int], rngs: nnx.Rngs
) -> Stack:
    """Two wide layers, the second with a skip connection across it, but for the MLP, and a last one of all labels."""
    num_heads, head_features, out_heads = heads
    width = num_heads * head_features
    layer: Any = {"gat": GATConv, "uniform": MeanConv, "gcn": GCNConv, "mlp": NodeLinear}[row]
    many: dict[str, Any] = {"num_heads": num_heads} if row in ("gat", "uniform") else {}
    skip: dict[str, Any] = {} if row == "mlp" else {"residual": True}
    last: dict[str, Any] = {"num_heads": out_heads, "combine": "mean"} if many else {}
    return Stack(
        [
            layer(features, width, **many, rngs=rngs),
            layer(width, width, **many, **skip, rngs=rngs),
            layer(width, labels, **last, rngs=rngs),
        ],
        activation=jax.nn.elu,
    )


def load(settings: Settings) -> LabelledGraphs:
    if settings.dataset == "ppi":
        return load_ppi()
    return generated(graphs=settings.graphs, nodes=settings.nodes)


def _measure(apply: Any, parameters: Any, data: Stacked, chosen: Any, key: Any = None) -> Metrics:
    """Cross-entropy and micro-F1 of some graphs."""
    some = joined(data, chosen)
    masks = {"node_mask": some.node_mask, "edge_mask": some.edge_mask}
    logits = apply(parameters, some.graph, key=key, **masks).nodes
    return sigmoid_cross_entropy(logits, jnp.arange(len(logits)), some.labels)


def _loss(
    apply: Any, train: tuple[int, ...], size: int, parameters: Any, key: Any, data: Stacked, _: Any
) -> Any:
    for_graphs, for_dropout = jax.random.split(key)
    chosen = jax.random.choice(for_graphs, jnp.array(train), (size,), replace=False)
    return _measure(apply, parameters, data, chosen, for_dropout).loss


def _validate(
    apply: Any, graphs: tuple[int, ...], parameters: Any, data: Stacked, _: Any
) -> Metrics:
    return _measure(apply, parameters, data, np.array(graphs))


def run(settings: Settings) -> dict[str, Any]:
    """Every row; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result)


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    problem = Problem(settings)
    print(problem.data)
    rows = open_rows(settings, settings.rows, opened)
    return {
        "dataset": settings.dataset,
        "graphs": [len(part) for part in problem.data.splits],
        "nodes": sum(map(num_nodes, problem.data.graphs)),
        "edges": sum(map(num_edges, problem.data.graphs)),
        "labels": problem.data.labels[0].shape[1],
        "seeds": [*seeds_of(settings)],
        "rows": {row: train_row(problem, row, seeds) for row, seeds in rows.items()},
    }


def train_row(problem: Problem, row: str, seeds: Seeds) -> dict[str, Any]:
    """All seeds, and what each makes of the test graphs."""
    started = time.perf_counter()
    print(TITLES[row])
    runs = seeds.train(problem.training(row), problem.stacked, lambda seed: ())
    return {
        "test": [problem.judge(row, one) for one in runs],
        "validation": [
            None if one.diverged else float(one.history.validation_accuracy[one.best_epoch - 1])
            for one in runs
        ],
        **told_of(runs),
        "seconds": time.perf_counter() - started,
    }


def table(result: dict[str, Any]) -> str:
    """Micro-F1 of each row, and what is published of it."""
    seeds, on_ppi = count(len(result["seeds"]), "seed"), result["dataset"] == "ppi"
    header = [
        f"{result['dataset']}, {seeds}",
        "micro-F1 (%)",
        "validation (%)",
        "epochs",
        "parameters",
    ]
    rows = [
        [
            TITLES[row],
            mean_and_sd(each["test"]),
            mean_and_sd(each["validation"]),
            f"{np.mean(each['epochs']):.0f}",
            f"{each['parameters']:,}",
            *([PUBLISHED.get(row, "")] if on_ppi else []),
        ]
        for row, each in result["rows"].items()
    ]
    return markdown_table(header + ["published (%)"] * on_ppi, rows)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {settings.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
