"""What do several heads buy? How far they are apart, and what is lost without one of them.

    python experiments/heads.py                      # a minute or two
    python experiments/heads.py --dataset cora

`controls.py --study heads` compares models with other numbers of heads. Here one model is looked at: how far the heads
of its first layer are apart before and after training, and what its accuracy becomes, without any training, where one
head is silenced, two share the mean of their attention, all do, or all attend to everyone alike.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from outputs import drawn, made_once
from report import markdown_table, mean_and_sd
from seed_runs import adam_with_l2, every_seed, training_of
from settings import check

from gatjax import GAT, GATv2, add_self_loops, plots, weighted_sum
from gatjax.data import load
from gatjax.explain import entropy_ratio, head_divergence
from gatjax.training import Labels, lowest_loss, node_classification

CHANGES = {
    "as trained": "nothing",
    "one head silenced": "its output is 0; on average over the heads",
    "two heads share their mean": "on average over the pairs",
    "all heads share their mean": "of the weights",
    "uniform weights": "in all heads",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train, then change the attention of the first layer's heads."""

    dataset: Literal["cora", "citeseer"] = "citeseer"
    """Citation graph, with its public split."""
    seeds: int = 3
    """Seeds 0, 1, ... of the parameters."""
    num_heads: int = 8
    """Heads of the first layer."""
    features: int = 8
    """Features of each head."""
    max_epochs: int = 200
    """Epochs at most."""
    patience: int = 50
    """Epochs without a lower validation loss before a seed stops."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """Show a progress bar."""
    output: Path = Path("runs/heads")
    """Folder for result.json and heads.png."""


def with_weights(model: Any, graph: GraphsTuple, alpha: jax.Array) -> jax.Array:
    """What the model says with other weights [E, H] in its first layer."""
    layer = model.layers[0]
    project = layer.projection if hasattr(layer, "projection") else layer.sender_projection
    summed = weighted_sum(graph, alpha, project(graph.nodes))
    hidden = jax.nn.elu(layer.output(summed, graph.nodes))
    return model.layers[1](graph._replace(nodes=hidden), deterministic=True).nodes


def changed(alpha: jax.Array) -> dict[str, list[jax.Array]]:
    """The weights after each kind of change, in all the ways there are."""
    heads = range(alpha.shape[1])
    mean = lambda some: alpha.at[:, list(some)].set(alpha[:, list(some)].mean(1, keepdims=True))
    return {
        "as trained": [alpha],
        "one head silenced": [alpha.at[:, head].set(0) for head in heads],
        "two heads share their mean": [mean(pair) for pair in itertools.combinations(heads, 2)],
        "all heads share their mean": [mean(heads)],
    }


def look(config: Config, name: str, build: Any) -> dict[str, Any]:
    """Of one model, by seed."""
    data = load(config.dataset, features="sparse")
    graph = add_self_loops(data.graph)
    fit, stop, test = data.splits
    functions = node_classification(build)
    graphdef, _, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)
    labels = Labels(fit, data.labels[fit], stop, data.labels[stop])
    training = training_of(functions, adam_with_l2(5e-3), config, lowest_loss)
    receivers = np.asarray(graph.receivers)
    uniform = jnp.asarray(1 / np.bincount(receivers)[receivers], jnp.float32)
    uniform = jnp.tile(uniform[:, None], (1, config.num_heads))
    module = lambda parameters: nnx.merge(graphdef, parameters, rest, copy=True)

    @jax.jit
    def attention(parameters: Any, graph: GraphsTuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        alpha = module(parameters).attention(graph)[0]
        apart = head_divergence(graph, alpha)
        others = ~jnp.eye(len(apart), dtype=bool)
        mean = jnp.where(others, apart, 0).sum() / others.sum()
        return alpha, mean, jnp.nanmean(entropy_ratio(graph, alpha))

    @jax.jit
    def accuracy(parameters: Any, graph: GraphsTuple, alpha: jax.Array) -> jax.Array:
        said = with_weights(module(parameters), graph, alpha)[test].argmax(-1)
        return (said == data.labels[test]).mean()

    rows, seeds = [], range(config.seeds)
    runs = every_seed(training, seeds, graph, lambda seed: labels, progress=config.progress)
    for trained in runs:
        start = functions.initialise(jax.random.split(jax.random.key(trained.seed))[0])
        _, before, ratio_before = attention(start, graph)
        alpha, after, ratio_after = attention(trained.parameters, graph)
        ways = changed(alpha) | {"uniform weights": [uniform]}
        found = {
            change: [float(accuracy(trained.parameters, graph, weights)) for weights in each]
            for change, each in ways.items()
        }
        rows.append(
            {
                "seed": trained.seed,
                "divergence": {"before": float(before), "after": float(after)},
                "entropy_ratio": {"before": float(ratio_before), "after": float(ratio_after)},
                "accuracy": found,
            }
        )
    return {"model": name, "rows": rows}


def make_result(config: Config) -> dict[str, Any]:
    data = load(config.dataset, features="sparse")
    models = []
    for name, model in {"GAT": GAT, "GATv2": GATv2}.items():
        build = lambda rngs, model=model: model(
            data.num_features,
            data.num_classes,
            hidden_features=config.num_heads * config.features,
            num_heads=config.num_heads,
            dropout_rate=0.6,
            rngs=rngs,
        )
        print(name, flush=True)
        models.append(look(config, name, build))
    return {"models": models}


def tables(result: dict[str, Any]) -> str:
    """Divergence and entropy before and after training, and accuracy after each change."""
    apart, lost = [], []
    for each in result["models"]:
        of = lambda name, when, rows=each["rows"]: np.mean([row[name][when] for row in rows])
        times = ("before", "after")
        apart.append(
            [
                each["model"],
                *(f"{of('divergence', when):.1e}" for when in times),
                *(f"{of('entropy_ratio', when):.5f}" for when in times),
            ]
        )
        for change, what in CHANGES.items():
            found = [row["accuracy"][change] for row in each["rows"]]
            worst = 100 * np.mean([min(ways) for ways in found])
            mean = mean_and_sd([float(np.mean(ways)) for ways in found])
            lost.append([each["model"], change, what, mean, f"{worst:.1f}"])
    header = ["divergence before (bits)", "after", "entropy / uniform before", "after"]
    return "\n\n".join(
        [
            markdown_table([result["config"]["dataset"], *header], apart),
            markdown_table(["model", "first layer", "", "test (%)", "worst way"], lost),
        ]
    )


def plot(result: dict[str, Any]) -> Any:
    """What test accuracy loses by each change, of every seed."""

    def lost(row: dict[str, Any], change: str) -> float:
        mean = {name: float(np.mean(ways)) for name, ways in row["accuracy"].items()}
        return 100 * (mean["as trained"] - mean[change])

    points = {
        f"{each['model']}, {change}": [lost(row, change) for row in each["rows"]]
        for each in result["models"]
        for change in CHANGES
        if change != "as trained"
    }
    return plots.seed_strips(points, xlabel=f"lost on {result['config']['dataset']} (points)")


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    counts = "seeds features max_epochs patience"
    check(config, at_least=dict.fromkeys(counts.split(), 1) | {"num_heads": 2})
    result = made_once(config, make_result, drawn(config.output / "heads.png", plot))
    print(f"\n{tables(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
