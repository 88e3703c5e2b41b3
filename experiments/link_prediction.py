"""Which edges are missing? Embeddings by graph attention, by a GCN and without the graph, beside graph auto-encoders.

    python experiments/link_prediction.py                                   # its protocol on Cora, 10 seeds
    python experiments/link_prediction.py --protocol tuned --dataset citeseer
    python experiments/link_prediction.py --models gat --num-heads 1
    python experiments/link_prediction.py --resume                          # after an interruption

Of the edges 5 % are kept back for validation and 10 % for the test, with as many pairs without an edge; a model sees
the others, and the dot product of two embeddings is the score of a pair.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from report import count, markdown_table, mean_and_sd, sound
from seed_runs import Open, Seeds, made_of_seeds, open_rows, told_of, training_of
from settings import check, check_multiple, fill, required
from weighing import Normalizer, check_weighing, weighing

from gatjax import (
    GAT,
    GCN,
    MLP,
    DropoutRates,
    EdgeSplit,
    GATv2,
    Pairs,
    add_self_loops,
    neighbor_table,
    sample_negative_edges,
    split_edges,
)
from gatjax.data import load
from gatjax.training import (
    RULES,
    Links,
    Trained,
    area_under_roc,
    average_precision,
    link_prediction,
)

MODELS = {"gat": GAT, "gatv2": GATv2, "gcn": GCN, "mlp": MLP}
TITLES = {"gat": "GAT", "gatv2": "GATv2", "gcn": "GCN", "mlp": "MLP (no graph)"}
ModelName = Literal["gat", "gatv2", "gcn", "mlp"]
WITH_HEADS = ("gat", "gatv2")

PROTOCOLS: dict[str, dict[str, Any]] = {
    "gae": {
        "split": "fixed",
        "hidden_features": 32,
        "out_features": 16,
        "num_heads": 4,
        "use_bias": False,
        "dropout": 0.0,
        "normalize": "softmax",
        "temperature": 1.0,
        "all_negatives": True,
        "negatives": 1,
        "learning_rate": 0.01,
        "rule": "last",
        "patience": 100,
        "max_epochs": 200,
    },
    "tuned": {
        "split": "random",
        "hidden_features": 128,
        "out_features": 64,
        "num_heads": 8,
        "use_bias": True,
        "dropout": 0.5,
        "normalize": "softmax",
        "temperature": 1.0,
        "all_negatives": False,
        "negatives": 1,
        "learning_rate": 0.005,
        "rule": "loss",
        "patience": 100,
        "max_epochs": 1000,
    },
}

# What runs did that were recorded before there was a choice.
BEFORE = {"all_negatives": False, "normalize": "softmax", "temperature": 1.0}

# Kipf and Welling (2016), Table 1: AUC and AP in percent, mean and standard error of ten initialisations on one split.
GAE = {
    "cora": ("91.0 ± 0.02", "92.0 ± 0.03"),
    "citeseer": ("89.5 ± 0.04", "89.9 ± 0.05"),
    "pubmed": ("96.4 ± 0.00", "96.5 ± 0.00"),
}
VGAE = {
    "cora": ("91.4 ± 0.01", "92.6 ± 0.01"),
    "citeseer": ("90.8 ± 0.02", "92.0 ± 0.02"),
    "pubmed": ("94.4 ± 0.02", "94.7 ± 0.02"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Predict the edges of a citation graph that are kept back, once per model and seed.

    What is None is as the protocol has it. "gae" is that of Kipf and Welling (2016): layers of 32 and 16 features
    without a bias, Adam with 0.01, 200 epochs, no dropout, one split for all seeds, and a loss of all pairs of nodes;
    features sum to 1 per node, of which the paper does not speak. "tuned" has wider layers, dropout, early stopping,
    sampled negatives and a split per seed. The paper's number is shown where nothing differs from its protocol.
    """

    dataset: Literal["citeseer", "cora", "pubmed"] = "cora"
    """Citation graph."""
    models: tuple[ModelName, ...] = ("gat", "gcn", "mlp")
    """Encoders: GAT, GATv2, GCN, or no graph at all (MLP)."""
    protocol: Literal["gae", "tuned"] = "gae"
    """Kipf and Welling (2016), or what is better."""
    split: Literal["fixed", "random"] | None = None
    """One split of the edges for all seeds, or one per seed. gae: fixed, tuned: random."""
    seeds: int = 10
    """Number of seeds."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    hidden_features: int | None = None
    """Width of the hidden layer, all heads together. gae: 32, tuned: 128."""
    out_features: int | None = None
    """Width of the embeddings. gae: 16, tuned: 64."""
    num_heads: int | None = None
    """Attention heads of the hidden layer, of models that have any. gae: 4, tuned: 8."""
    use_bias: bool | None = None
    """A bias in each layer. gae: none."""
    dropout: float | None = None
    """Dropout of each layer's input. gae: 0, tuned: 0.5."""
    normalize: Normalizer = "softmax"
    """What makes weights of attention's logits."""
    top_k: int = 8
    """How many edges of a node "top_k" keeps."""
    temperature: float = 1.0
    """What the logits are divided by before."""
    block_size: int | None = None
    """Edges that are computed at a time, with the softmax. None: chosen from the sizes."""
    all_negatives: bool | None = None
    """The loss takes all pairs of nodes: N² products per epoch, minutes of them on Pubmed. gae: yes, tuned: no."""
    negatives: int | None = None
    """Where it does not: pairs without an edge per training edge, drawn anew in each epoch. Both: 1."""
    learning_rate: float | None = None
    """Of Adam. gae: 0.01, tuned: 0.005."""
    rule: Literal["both", "loss", "either", "last"] | None = None
    """Which validation metric saves parameters: AUC and loss at once, loss, either; or keep the last of `max_epochs`.
    gae: last, tuned: loss."""
    patience: int | None = None
    """Epochs without progress before a seed stops. Both: 100."""
    max_epochs: int | None = None
    """Epochs at most. gae: 200, tuned: 1000."""
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
    """Folder for result.json. None: runs/links-<dataset>-<protocol>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    split: Literal["fixed", "random"] = required()
    hidden_features: int = required()
    out_features: int = required()
    num_heads: int = required()
    use_bias: bool = required()
    dropout: float = required()
    all_negatives: bool = required()
    negatives: int = required()
    learning_rate: float = required()
    rule: Literal["both", "loss", "either", "last"] = required()
    patience: int = required()
    max_epochs: int = required()
    seeds_per_device: int = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None, as the protocol has it; impossible settings end here."""
    check(config)
    by_default = PROTOCOLS[config.protocol] | {
        "seeds_per_device": 1 if jax.default_backend() == "cpu" else config.seeds,
        "output": Path("runs") / f"links-{config.dataset}-{config.protocol}",
        "block_size": None,
    }
    settings = fill(Settings, config, by_default)
    counts = (
        "seeds hidden_features out_features num_heads negatives patience max_epochs "
        "seeds_per_device top_k block_size"
    )
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1) | {"first_seed": 0, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "temperature"),
        rates=("dropout",),
    )
    if {*WITH_HEADS} & {*settings.models}:
        check_multiple(settings, "hidden_features", "num_heads")
    check_weighing(settings, settings.models, WITH_HEADS)
    return settings


class Parts(NamedTuple):
    """The pairs of one split."""

    split: EdgeSplit
    validation_negatives: Pairs
    test_negatives: Pairs


class Task:
    """One model and its data, and the pure functions of both that training wants."""

    def __init__(self, settings: Settings):
        self.settings = settings
        (self.model,) = settings.models
        self.data = load(settings.dataset)
        self.graph = self.messages(settings.first_seed)
        negatives = "all" if settings.all_negatives else settings.negatives
        self.functions = link_prediction(self.build, negatives=negatives)
        self.scores = jax.jit(self.functions.scores)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        settings = self.settings
        options: dict[str, Any] = {
            "hidden_features": settings.hidden_features,
            "dropout_rate": DropoutRates(inputs=settings.dropout),
            "use_bias": settings.use_bias,
        }
        if self.model in WITH_HEADS:
            options["num_heads"] = settings.num_heads
        options |= weighing(settings, self.model)
        return MODELS[self.model](
            self.data.num_features, settings.out_features, **options, rngs=rngs
        )

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _parts(self, seed: int) -> Parts:
        split = split_edges(self.data.graph, validation=0.05, test=0.1, seed=seed)
        sizes = len(split.validation.senders), len(split.test.senders)
        drawn = sample_negative_edges(self.data.graph, sum(sizes), seed=seed)
        first, rest = (Pairs(*(ids[part] for ids in drawn)) for part in _halves(sizes[0]))
        return Parts(split, first, rest)

    def parts(self, seed: int) -> Parts:
        return self._parts(0 if self.settings.split == "fixed" else seed)

    def messages(self, seed: int) -> Any:
        """The graph that a seed sees."""
        return add_self_loops(self.parts(seed).split.graph)

    def links(self, seed: int) -> Links:
        split, negatives, _ = self.parts(seed)
        own = self.settings.split == "random"
        edges = self.messages(seed)._replace(nodes=None) if own else None
        return Links(split.train, split.validation, negatives, neighbor_table(split.graph), edges)

    def metrics(self, trained: Trained) -> dict[str, float]:
        """AUC and AP of test and validation pairs: the one look at the test pairs of a seed."""
        split, for_validation, for_test = self.parts(trained.seed)
        graph = self.messages(trained.seed)
        of = lambda pairs: np.asarray(self.scores(trained.parameters, graph, pairs))
        found = {}
        for name, pairs, others in (
            ("test", split.test, for_test),
            ("validation", split.validation, for_validation),
        ):
            ends = of(pairs), of(others)
            found |= {f"{name}_auc": area_under_roc(*ends), f"{name}_ap": average_precision(*ends)}
        return found


def _halves(first: int) -> tuple[slice, slice]:
    return slice(first), slice(first, None)


def run(settings: Settings) -> dict[str, Any]:
    """Train every model; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result)


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    rows = open_rows(settings, settings.models, opened, field="models")
    return {
        "dataset": settings.dataset,
        "protocol": settings.protocol,
        "deviations": deviations(dataclasses.asdict(settings)),
        "rows": {model: train_row(seeds) for model, seeds in rows.items()},
    }


def train_row(seeds: Seeds) -> dict[str, Any]:
    """One model: an entry per seed in each list, None where a seed that diverged has no such number."""
    settings, task = seeds.settings, Task(seeds.settings)
    print(f"{TITLES[task.model]} on {task.data}")
    started = time.perf_counter()
    optimizer = optax.adam(settings.learning_rate)
    training = training_of(task.functions, optimizer, settings, RULES[settings.rule])
    runs = seeds.train(training, task.graph, task.links)
    metrics = [None if one.diverged else task.metrics(one) for one in runs]
    return {
        **{
            name: [each and each[name] for each in metrics]
            for name in ("test_auc", "test_ap", "validation_auc", "validation_ap")
        },
        **told_of(runs),
        "seconds": time.perf_counter() - started,
    }


def deviations(settings: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs from the protocol: by name, its value and that of the run."""
    expected = PROTOCOLS[settings["protocol"]]
    settings = BEFORE | settings
    return {
        name: (value, settings[name]) for name, value in expected.items() if settings[name] != value
    }


def table(result: dict[str, Any]) -> str:
    """Ours beside the paper's, for the one row that it speaks of."""
    dataset, config = result["dataset"], result["config"]
    differing = deviations(config)
    follows = result["protocol"] == "gae" and not differing
    header = [f"{dataset}, {count(config['seeds'], 'seed')}", "AUC: paper", "AUC: ours"]
    header += ["AP: paper", "AP: ours", "parameters", "epochs", "s"]
    rows = []
    for model, row in result["rows"].items():
        paper = GAE[dataset] if follows and model == "gcn" else ("-", "-")
        ours = [mean_and_sd(row[f"test_{name}"]) for name in ("auc", "ap")]
        rows.append([TITLES[model], paper[0], ours[0], paper[1], ours[1]])
        rows[-1] += [f"{row['parameters']:,}", f"{np.mean(row['epochs']):.0f}"]
        rows[-1].append(f"{row['seconds']:.0f}")
    lines = [markdown_table(header, rows)]
    if follows:
        auc, precision = VGAE[dataset]
        lines.append(
            f"Paper: GAE, with its standard error; VGAE by the same protocol has an AUC of {auc} and an AP of "
            f"{precision}. Ours: mean ± standard deviation."
        )
    if differing:
        named = ", ".join(
            f"{name} {here} (there {there})" for name, (there, here) in differing.items()
        )
        lines.append(f"Not the protocol {result['protocol']}: {named}.")
    return "\n\n".join(lines)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\nDetails in {settings.output}")
    if not any(sound(row["test_auc"]) for row in result["rows"].values()):
        raise SystemExit("Every seed has diverged.")
    return result


if __name__ == "__main__":
    script.run(main, Config)
