"""What fails with depth: are nodes smoothed over, or is the network merely hard to train?

    python experiments/depth.py                                     # a quarter of an hour
    python experiments/depth.py --depths 2 4 8 10 16 32 64 --alone 8 16 32 64 --seeds 5 --max-epochs 1000    # hours

Stacks of one-head GAT layers of growing depth, plain and with what is said to help: residuals, norms, both, the first
layer's output at every layer, and the balanced initialisation. At some depths each is trained once more on self-loops
alone. There nothing can be smoothed, so what does not fit its training nodes there is hard to train, and what fits them
there but not on the graph has been smoothed.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import script
from deep import Deep, Norm, balance
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from outputs import drawn
from report import markdown_table, mean_and_sd
from seed_runs import adam_with_l2, every_seed, training_of
from settings import check
from study_rows import made_of_rows

from gatjax import add_self_loops, plots
from gatjax.data import load
from gatjax.explain import dirichlet_energy, numerical_rank
from gatjax.training import Labels, lowest_loss, node_classification


class Variant(NamedTuple):
    """What is done against depth: a norm, the factors α and β of `Deep`, and how weights begin."""

    norm: Norm = "none"
    residual: float = 0
    initial: float = 0
    balanced: bool = False


VARIANTS = {
    "plain": Variant(),
    "residual": Variant(residual=1),
    "LayerNorm": Variant("LayerNorm"),
    "PairNorm": Variant("PairNorm"),
    "residual + LayerNorm": Variant("LayerNorm", residual=1),
    "initial residual": Variant(initial=0.1),
    "balanced": Variant(balanced=True),
}
Name = Literal["cora", "citeseer"]
VariantName = Literal[
    "plain",
    "residual",
    "LayerNorm",
    "PairNorm",
    "residual + LayerNorm",
    "initial residual",
    "balanced",
]

# From so many points of test accuracy below two plain layers on, depth has failed.
FAILS = 0.1
# What fits less of its training nodes has not learned.
FITS = 0.7


@dataclasses.dataclass(frozen=True)
class Config:
    """Accuracy, energy, rank and first gradient over the depth, of plain stacks and of remedies."""

    datasets: tuple[Name, ...] = ("cora", "citeseer")
    """Citation graphs, with their public splits."""
    depths: tuple[int, ...] = (2, 4, 8, 10, 16, 32)
    """Numbers of layers."""
    alone: tuple[int, ...] | None = None
    """Numbers of layers that are trained on self-loops alone, too; none is fine. None: 16, if it is of --depths."""
    variants: tuple[VariantName, ...] = (
        "plain",
        "residual",
        "LayerNorm",
        "PairNorm",
        "residual + LayerNorm",
        "initial residual",
        "balanced",
    )
    """What is done against depth."""
    seeds: int = 2
    """Seeds 0, 1, ... of the parameters, side by side on the cores."""
    features: int = 32
    """Width of the layers, even."""
    max_epochs: int = 150
    """Epochs at most."""
    patience: int = 50
    """Epochs without a lower validation loss before a seed stops."""
    learning_rate: float = 5e-3
    """Of Adam."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """Show a progress bar."""
    output: Path = Path("runs/depth")
    """Folder for result.json, pictures, and the finished rows: a stopped run goes on behind the last of them."""


class Study:
    """Stacks of one depth and norm on one data set: what is compiled serves all its variants."""

    def __init__(self, config: Config, name: str, depth: int, norm: Norm, *, alone: bool):
        self.config, self.data = config, load(name, features="sparse")
        self.whole = add_self_loops(self.data.graph)
        self.graph = only_loops(self.whole) if alone else self.whole
        widths = self.data.num_features, config.features, self.data.num_classes
        build = lambda rngs: Deep(widths, depth, norm, rngs)
        self.functions = node_classification(build)
        self.graphdef, _, self.rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)
        fit, stop, _ = self.data.splits
        self.labels = Labels(fit, self.data.labels[fit], stop, self.data.labels[stop])
        # The same training whatever weights begin it, so that it is compiled once.
        self.balanced = False
        optimizer = adam_with_l2(config.learning_rate)
        training = training_of(self.functions, optimizer, config, lowest_loss)
        self.training = training._replace(initialise=self.initialise)

    def run(self, variant: Variant) -> dict[str, Any]:
        """Measures at the start and at the end, by seed."""
        factors = np.array([[variant.residual, variant.initial]], np.float32)
        graph, training = self.graph._replace(globals=factors), self.training
        self.balanced = variant.balanced
        seeds, progress = range(self.config.seeds), self.config.progress
        trained = every_seed(training, seeds, graph, lambda seed: self.labels, progress=progress)
        for_parameters = lambda seed: jax.random.split(jax.random.key(seed))[0]
        starts = [self.initialise(for_parameters(seed)) for seed in seeds]
        measured = lambda parameters: {
            name: float(value) for name, value in self._measure(parameters, graph).items()
        }
        return {
            "start": [measured(parameters) for parameters in starts],
            "end": [measured(one.parameters) for one in trained],
            "epochs": [one.epochs for one in trained],
        }

    def initialise(self, key: jax.Array) -> Any:
        parameters = self.functions.initialise(key)
        if not self.balanced:
            return parameters
        model = nnx.merge(self.graphdef, parameters, self.rest, copy=True)
        balance(model, nnx.Rngs(key))
        return nnx.state(model, nnx.Param)

    @functools.cached_property
    def _measure(self) -> Any:
        """Of the answers, of what enters the last layer, and of the first layer's gradient."""
        fit, _, test = self.data.splits

        def measure(parameters: Any, graph: GraphsTuple) -> dict[str, jax.Array]:
            model = nnx.merge(self.graphdef, parameters, self.rest, copy=True)
            nodes = model.hidden(graph)
            logits = jnp.asarray(model.last(graph._replace(nodes=nodes)).nodes)
            right = logits.argmax(-1) == self.data.labels
            loss = self.functions.loss
            slope = jax.grad(loss)(parameters, jax.random.key(0), graph, self.labels)
            kernel = slope["first"]["attend"]["projection"]["kernel"][...]
            return {
                "fitted": right[fit].mean(),
                "test_accuracy": right[test].mean(),
                "energy": dirichlet_energy(self.whole, nodes, normalize=True),
                "rank": numerical_rank(nodes),
                "gradient": jnp.linalg.norm(kernel.ravel()),
            }

        return jax.jit(measure)


def only_loops(graph: GraphsTuple) -> GraphsTuple:
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    alone = senders == receivers
    count = np.array([alone.sum()])
    return graph._replace(senders=senders[alone], receivers=receivers[alone], n_edge=count)


def makers(config: Config) -> dict[str, Callable[[], dict[str, Any]]]:
    study = functools.cache(functools.partial(Study, config))

    def row(name: str, depth: int, variant: str, alone: bool) -> dict[str, Any]:
        measures = study(name, depth, VARIANTS[variant].norm, alone=alone).run(VARIANTS[variant])
        cell = {"dataset": name, "depth": depth, "variant": variant, "alone": alone}
        return cell | measures

    cells = [(depth, False) for depth in config.depths] + [
        (depth, True) for depth in config.alone or ()
    ]
    return {
        f"{name} {depth} {variant}{' alone' * alone}": functools.partial(
            row, name, depth, variant, alone
        )
        for name in config.datasets
        for depth, alone in cells
        for variant in config.variants
    }


def mean(row: Mapping[str, Any], when: str, name: str) -> float:
    """Of a measure, over the seeds."""
    return float(np.mean([seed[name] for seed in row[when]]))


def failure(row: Mapping[str, Any], alone: Mapping[str, Any], shallow: float) -> str:
    """What fails at a depth, next to the accuracy of two plain layers: its training, or its nodes, which are smoothed.

    >>> result = lambda accuracy, fitted: {"end": [{"test_accuracy": accuracy, "fitted": fitted}]}
    >>> failure(result(0.3, 0.2), result(0.3, 0.2), 0.8), failure(result(0.3, 0.2), result(0.5, 1.0), 0.8)
    ('training', 'smoothing')
    """
    if mean(row, "end", "test_accuracy") > shallow - FAILS:
        return "nothing"
    if mean(row, "end", "fitted") > FITS:
        return "fits, and errs elsewhere"
    return "smoothing" if mean(alone, "end", "fitted") > FITS else "training"


def tables(result: dict[str, Any]) -> str:
    """For each data set the accuracy by depth, and what each network looks like where it was trained on loops, too."""
    return "\n\n".join(
        block for name in result["config"]["datasets"] for block in _of(result, name)
    )


def _of(result: dict[str, Any], name: str) -> list[str]:
    config = result["config"]
    cells = {
        (row["variant"], row["depth"], row["alone"]): row
        for row in result["rows"]
        if row["dataset"] == name
    }
    accuracy = lambda row: mean_and_sd([seed["test_accuracy"] for seed in row["end"]])
    by_depth = [
        [variant, *(accuracy(cells[variant, depth, False]) for depth in config["depths"])]
        for variant in config["variants"]
    ]
    header = [f"{name}, test (%)", *(f"{depth} layers" for depth in config["depths"])]
    blocks = [markdown_table(header, by_depth)]
    first = config["variants"][0], config["depths"][0], False
    shallow = mean(cells[first], "end", "test_accuracy")
    percent = lambda row: f"{100 * mean(row, 'end', 'fitted'):.0f}"
    for depth in config["alone"]:
        rows = []
        for variant in config["variants"]:
            row, alone = cells[variant, depth, False], cells[variant, depth, True]
            both = lambda measure, row=row: (
                f"{mean(row, 'start', measure):.2g} -> {mean(row, 'end', measure):.2g}"
            )
            rows.append(
                [
                    variant,
                    percent(row),
                    percent(alone),
                    f"{mean(row, 'start', 'gradient'):.1g}",
                    both("energy"),
                    both("rank"),
                    failure(row, alone, shallow),
                ]
            )
        header = [
            f"{name}, {depth} layers",
            "fitted (%)",
            "on self-loops alone",
            "first gradient",
            "energy",
            "rank",
            "what fails",
        ]
        blocks.append(markdown_table(header, rows))
    return blocks


# Of a row's start and end, both of one seed: what stands above, and what explains it below.
PANELS = {
    "test accuracy (%)": lambda start, end: 100 * end["test_accuracy"],
    "first gradient, at the start": lambda start, end: start["gradient"],
    "normalised energy, at the end": lambda start, end: end["energy"],
    "numerical rank, at the end": lambda start, end: end["rank"],
}
LOGARITHMIC = "first gradient", "normalised energy"
# Nodes that differ by less than single precision tells are alike.
LEAST = 1e-8


def plot(result: dict[str, Any], name: str | None = None) -> Any:
    """Of one data set, by default the first: accuracy and the first gradient over the depth; below, energy and rank."""
    import matplotlib.pyplot as plt

    config = result["config"]
    depths = config["depths"]
    shown: str = name or config["datasets"][0]
    cells = {
        (row["variant"], row["depth"]): list(zip(row["start"], row["end"], strict=True))
        for row in result["rows"]
        if row["dataset"] == shown and not row["alone"]
    }
    with plt.rc_context(dict(plots.STYLE)):
        figure, axes = plt.subplots(2, 2, figsize=(plots.PAGE, 4.2), sharex=True)
        for ax, (label, value) in zip(axes.flat, PANELS.items(), strict=True):
            groups = {
                variant: [[value(*seed) for seed in cells[variant, depth]] for depth in depths]
                for variant in config["variants"]
            }
            if label.startswith(LOGARITHMIC):
                groups = {key: np.maximum(values, LEAST) for key, values in groups.items()}
                ax.set_yscale("log")
            xlabel = "layers" if ax in axes[1] else ""
            plots.seed_lines(depths, groups, xlabel=xlabel, ylabel=label, ax=ax)
            ax.set_xscale("log", base=2)
            ax.set_xticks(depths, [str(depth) for depth in depths])
            ax.minorticks_off()
            ax.get_legend().remove()
        figure.suptitle(shown)
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return axes[0][0]


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    if config.alone is None:
        config = dataclasses.replace(config, alone=tuple({16} & {*config.depths}))
    use_every_core()
    check(
        dataclasses.replace(config, alone=config.alone or config.depths),
        at_least=dict.fromkeys("seeds features max_epochs patience".split(), 1)
        | {"depths": 2, "alone": 2},
        above_zero=("learning_rate",),
    )
    if config.features % 2:
        raise SystemExit(f"--features {config.features}: must be even, for the balanced weights")
    if missing := set(config.alone or ()) - set(config.depths):
        raise SystemExit(
            f"--alone {min(missing)}: is none of --depths {' '.join(map(str, config.depths))}"
        )

    def draw(result: dict[str, Any]) -> None:
        for name in config.datasets:
            picture = config.output / f"depth-{name}.png"
            drawn(picture, functools.partial(plot, name=name))(result)

    told = lambda rows: {"rows": list(rows.values())}
    choosing = "datasets", "depths", "alone", "variants"
    result = made_of_rows(config, makers, told, draw, choosing=choosing)
    print(f"\n{tables(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
