"""Importance or correlation? What attention points at, beside what a prediction rests on, where that is known.

    python experiments/importance.py                    # 10 seeds, a quarter of an hour
    python experiments/importance.py --seeds 3 --graphs churn

Models learn graphs with a planted truth (`planted.py`); every attribution is asked which edges a prediction rests on,
and is judged by the truth and by exact deletion. On the churn graph a campaign is then made to agree with the label
wherever models learn, and breaks where they are tested.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import script
from devices import use_every_core
from flax import nnx
from importance_report import EITHER_SIGN, plot, tables
from jraph import GraphsTuple
from outputs import drawn
from planted import GRAPHS, Planted, churn
from seed_runs import adam_with_l2, every_seed, training_of
from settings import check
from study_rows import made_of_rows

from gatjax import GAT, Budget, ConstGAT, DotProductGAT, GATv2, pad
from gatjax.explain import (
    computation_graph,
    edge_auroc,
    edge_deletion,
    edge_gradient,
    integrated_gradients,
    learned_mask,
    log_odds,
    mean_attention,
    predict,
    random_attribution,
    rank_correlation,
    unrolled_attention,
)
from gatjax.training import Labels, Trained, lowest_loss, node_classification

MODELS = {"GAT": GAT, "GATv2": GATv2, "dot product": DotProductGAT, "uniform attention": ConstGAT}
LAYERS = {"churn": 2, "ba_shapes": 3, "infection": 4}
METHODS: dict[str, Callable[..., jax.Array]] = {
    "deletion": edge_deletion,
    "integrated gradients": functools.partial(integrated_gradients, steps=8),
    "gradient": edge_gradient,
    "learned mask": learned_mask,
    "unrolled attention": unrolled_attention,
    "mean attention": mean_attention,
    "random": random_attribution,
}
WITH_KEY = ("learned mask", "random")


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on graphs with a planted truth, and ask every attribution for it."""

    graphs: tuple[Literal["churn", "ba_shapes", "infection"], ...] = (
        "churn",
        "ba_shapes",
        "infection",
    )
    """Graphs with a truth."""
    models: tuple[Literal["GAT", "GATv2", "dot product", "uniform attention"], ...] = (
        "GAT",
        "GATv2",
        "dot product",
        "uniform attention",
    )
    """What learns them."""
    seeds: int = 10
    """Seeds 0, 1, ... of parameters and of what is asked; each graph has a seed of its own."""
    data_seed: int = 0
    """Seed of the graphs."""
    targets: int = 5
    """Test nodes that each seed explains, of those that are predicted rightly."""
    candidates: int = 60
    """Edges beside the truth that are ranked with it: drawn from the target's computation graph, where it has more."""
    features: int = 32
    """Width of the hidden layers."""
    num_heads: int = 4
    """Heads of the hidden layers."""
    campaign: float = 0.97
    """How often the spurious campaign agrees with the label."""
    max_epochs: int = 600
    """Epochs at most."""
    patience: int = 100
    """Epochs without a lower validation loss before a seed stops."""
    learning_rate: float = 5e-3
    """Of Adam."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """Show a progress bar."""
    output: Path = Path("runs/importance")
    """Folder for result.json, auroc.png and what is finished of them."""


class Asked(NamedTuple):
    """Questions about several targets, stacked: each has its own padded computation graph.

    Attributes:
      graphs: `[T, ...]`.
      targets: `[T]`.
      real: edges that are no padding, `[T, E]`.
      candidates: ids of the edges that are ranked, `[T, S]`.
      ranked: which edges these are, `[T, E]`.
      truth: `[T, E]`.
    """

    graphs: GraphsTuple
    targets: np.ndarray
    real: np.ndarray
    candidates: np.ndarray
    ranked: np.ndarray
    truth: np.ndarray


def ask(config: Config, planted: Planted, chosen: np.ndarray, hops: int, seed: int) -> Asked:
    """Questions about the chosen targets, by their places among `planted.targets`."""
    random, graph = np.random.default_rng(seed), planted.graph
    loops = np.asarray(graph.senders) == np.asarray(graph.receivers)
    # One hop more than the model has layers, for attention away from the target.
    near = [computation_graph(graph, int(planted.targets[i]), hops) for i in chosen]
    parts = [computation_graph(graph, int(planted.targets[i]), hops + 1) for i in chosen]
    round_up = lambda size: -(-size // 64) * 64
    budget = Budget(
        round_up(1 + max(len(part.nodes) for part in parts)),
        round_up(max(len(part.edges) for part in parts)),
        2,
    )
    rows = []
    for i, part, inner in zip(chosen, parts, near, strict=True):
        padded, masks = pad(part.graph, budget)
        truth = np.zeros(budget.edges, bool)
        truth[np.searchsorted(part.edges, planted.truth[i])] = True
        other = inner.edges[~loops[inner.edges] & ~planted.beside[inner.edges]]
        other = np.setdiff1d(other, planted.truth[i])
        if len(other) > config.candidates:
            other = random.choice(other, config.candidates, replace=False)
        ranked = truth.copy()
        ranked[np.searchsorted(part.edges, other)] = True
        rows.append(
            (padded, np.int32(part.target), masks.edge, np.flatnonzero(ranked), ranked, truth)
        )
    columns = list(zip(*rows, strict=True))
    most = max(map(len, columns[3]))
    # Where there are fewer, one of them is deleted again.
    columns[3] = tuple(np.pad(ids, (0, most - len(ids)), mode="edge") for ids in columns[3])
    return Asked(*(jax.tree.map(lambda *leaves: np.stack(leaves), *column) for column in columns))


class Study:
    """One model on one graph: its training, and its attributions."""

    def __init__(self, config: Config, planted: Planted, model: str, layers: int):
        self.config, self.planted, self.layers = config, planted, layers
        width, classes = np.asarray(planted.graph.nodes).shape[1], int(planted.labels.max()) + 1
        self.build = lambda rngs: MODELS[model](
            width,
            classes,
            hidden_features=config.features,
            num_layers=layers,
            num_heads=config.num_heads,
            rngs=rngs,
        )
        self.graphdef, _, self.rest = nnx.split(self.build(nnx.Rngs(0)), nnx.Param, ...)
        self.functions = node_classification(self.build)

    def train(self) -> list[Trained]:
        config, planted = self.config, self.planted
        optimizer = adam_with_l2(config.learning_rate)
        training = training_of(self.functions, optimizer, config, lowest_loss)
        fit, stop, _ = planted.parts
        labels = Labels(fit, planted.labels[fit], stop, planted.labels[stop])
        seeds, progress = range(config.seeds), config.progress
        return every_seed(training, seeds, planted.graph, lambda seed: labels, progress=progress)

    def right(self, trained: Trained, planted: Planted | None = None) -> np.ndarray:
        """Which test nodes are predicted rightly."""
        planted = self.planted if planted is None else planted
        test = planted.parts[2]
        logits = np.asarray(self.functions.logits(trained.parameters, planted.graph))
        return logits[test].argmax(-1) == planted.labels[test]

    def module(self, parameters: Any) -> Any:
        return nnx.merge(self.graphdef, parameters, self.rest, copy=True)

    @functools.cached_property
    def explain(self) -> Callable[[Any, Asked, jax.Array], dict[str, dict[str, jax.Array]]]:
        """Of every method the AUROC and the correlation with deletion, [T]."""

        def one(parameters: Any, given: tuple[Asked, jax.Array]) -> dict[str, Any]:
            asked, key = given
            model = self.module(parameters)
            options = {"edge_mask": asked.real, "score": log_odds}
            found = {}
            for name, method in METHODS.items():
                more = {"key": key} if name in WITH_KEY else {}
                more |= {"edges": asked.candidates} if name == "deletion" else {}
                found[name] = method(model, asked.graphs, asked.targets, **options, **more)
            found[EITHER_SIGN] = jnp.abs(found["deletion"])
            of = lambda measure, second: {
                name: measure(values, second, edge_mask=asked.ranked)
                for name, values in found.items()
            }
            return {
                "auroc": of(edge_auroc, asked.truth),
                "correlation": of(rank_correlation, found["deletion"]),
                "at_once": self.at_once(model, asked, key),
            }

        return jax.jit(
            lambda parameters, asked, keys: jax.lax.map(
                functools.partial(one, parameters), (asked, keys)
            )
        )

    def at_once(self, model: Any, asked: Asked, key: jax.Array) -> dict[str, jax.Array]:
        """The log-odds of a prediction, and what they lose without all of the truth, or as many ranked others."""
        question = predict(model, asked.graphs, asked.targets, edge_mask=asked.real, score=log_odds)
        others = asked.ranked & ~asked.truth
        order = jnp.where(others, jax.random.uniform(key, others.shape), 2).argsort().argsort()
        drawn = others & (order < asked.truth.sum())
        value = question.value()
        lost = lambda edges: value - question.value(edge_mask=asked.real & ~edges)
        return {"log-odds": value, "truth": lost(asked.truth), "others": lost(drawn)}

    def attributions(self, trained: Trained) -> dict[str, dict[str, float | None]]:
        """On average over the targets; None where a number is none, as the correlation of what is all the same."""
        config, planted = self.config, self.planted
        test = list(planted.parts[2])
        right = self.right(trained)
        known = [i for i, node in enumerate(planted.targets) if right[test.index(node)]]
        random = np.random.default_rng(trained.seed)
        chosen = random.choice(known, config.targets, replace=len(known) < config.targets)
        asked = ask(config, planted, chosen, self.layers, trained.seed)
        keys = jax.random.split(jax.random.key(trained.seed), len(chosen))
        found = jax.tree.map(np.asarray, self.explain(trained.parameters, asked, keys))
        mean = lambda values: None if np.isnan(values).all() else float(np.nanmean(values))
        return jax.tree.map(mean, found)


def truth_row(config: Config, name: str, model: str) -> dict[str, Any]:
    """How well each attribution finds the truth, by seed."""
    study = Study(config, GRAPHS[name](config.data_seed), model, LAYERS[name])
    runs = study.train()
    each = [study.attributions(trained) for trained in runs]
    by_name = lambda measure: {
        name: [one[measure][name] for one in each] for name in each[0][measure]
    }
    return {
        "graph": name,
        "model": model,
        "test_accuracy": [float(study.right(trained).mean()) for trained in runs],
        "epochs": [trained.epochs for trained in runs],
        "auroc": by_name("auroc"),
        "correlation": by_name("correlation"),
        "at_once": by_name("at_once"),
    }


def spurious_row(config: Config, model: str) -> dict[str, Any]:
    """What models make of a campaign that agrees with the label, and what becomes of them where that ends."""
    agrees = churn(config.data_seed, campaign=config.campaign)
    ends = churn(config.data_seed, campaign=config.campaign, broken=True)
    study = Study(config, agrees, model, LAYERS["churn"])
    runs = study.train()
    test, kinds = agrees.parts[2], agrees.kinds
    assert kinds is not None
    receivers, graph = np.asarray(agrees.graph.receivers), agrees.graph
    into = np.isin(receivers, test) & (np.asarray(graph.senders) != receivers)

    def shares(values: np.ndarray) -> dict[str, float]:
        """The mean of an edge from a campaign and from a friend."""
        return {
            name: float(values[into & (kinds == kind)].mean())
            for name, kind in (("campaign", 3), ("friend", 1))
        }

    attention = jax.jit(lambda parameters: self_mean(study.module(parameters).attention(graph)))
    logits = jax.jit(
        lambda parameters, mask: (
            study.module(parameters)(graph, edge_mask=mask, deterministic=True).nodes
        )
    )

    def lost(parameters: Any, kind: int) -> float:
        """What the log-odds of the label lose without the edge from this kind, on average over the test."""
        y = agrees.labels[test]
        odds = lambda mask: np.asarray(jax.vmap(log_odds)(logits(parameters, mask)[test], y))
        every = np.ones(len(receivers), bool)
        return float((odds(every) - odds(kinds != kind)).mean())

    return {
        "model": model,
        "intact": [float(study.right(trained).mean()) for trained in runs],
        "broken": [float(study.right(trained, ends).mean()) for trained in runs],
        "attention": [shares(np.asarray(attention(trained.parameters))) for trained in runs],
        "deletion": [
            {"campaign": lost(trained.parameters, 3), "friend": lost(trained.parameters, 1)}
            for trained in runs
        ],
    }


def self_mean(layers: tuple[jax.Array, ...]) -> jax.Array:
    return jnp.stack([alpha.mean(1) for alpha in layers]).mean(0)


def makers(config: Config) -> dict[str, Callable[[], dict[str, Any]]]:
    rows: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in config.graphs:
        for model in config.models:
            rows[f"{name} {model}"] = functools.partial(truth_row, config, name, model)
    if "churn" in config.graphs:
        for model in config.models:
            rows[f"campaign {model}"] = functools.partial(spurious_row, config, model)
    return rows


def told(rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "truth": [row for row in rows.values() if "auroc" in row],
        "campaign": [row for row in rows.values() if "auroc" not in row],
    }


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    counts = "seeds targets candidates features num_heads max_epochs patience"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"data_seed": 0},
        above_zero=("learning_rate",),
        rates=("campaign",),
    )
    draw = drawn(config.output / "auroc.png", plot)
    result = made_of_rows(config, makers, told, draw, choosing=("graphs", "models"))
    print(f"\n{tables(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
