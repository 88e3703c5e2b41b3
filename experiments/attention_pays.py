"""When is attention worth its parameters? Where the theory says it, and on real graphs.

    python experiments/attention_pays.py                  # some minutes
    python experiments/attention_pays.py --real-seeds 0   # made graphs alone

On the made graphs (contextual stochastic block models of two classes) a node hears others, each of its own class with
the chance h, the homophily, and not itself. Features are Gaussian around the mean of the class, +μ or -μ, with standard
deviation 1. One layer of attention meets uniform weights, and an oracle that knows the classes: one of its heads
averages over the node's own class, the other over the other one. Theory: attention tells inner from outer edges where μ
is well above √log n, and where it is below, nothing can.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import heterophilous
import jax
import jax.numpy as jnp
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from matplotlib.axes import Axes
from outputs import made_once, try_to_plot
from report import describe_run, markdown_table, mean_and_sd
from settings import check
from study_rows import finish_rows

from gatjax import (
    GAT,
    ConstGAT,
    DotProductGAT,
    GATConv,
    GATv2,
    GATv2Conv,
    MeanConv,
    add_self_loops,
    build_graph,
    plots,
)
from gatjax.data import load, normalize_rows
from gatjax.explain import edge_auroc, entropy_ratio
from gatjax.training import (
    Labels,
    Trained,
    Training,
    functional,
    lowest_loss,
    node_classification,
    softmax_cross_entropy,
    train,
)

ATTENDING = {"GAT": GATConv, "GATv2": GATv2Conv}
MADE = ("GAT", "GATv2", "uniform", "oracle")
REAL = {"GAT": GAT, "GATv2": GATv2, "dot product": DotProductGAT, "uniform": ConstGAT}
Name = Literal[
    "cora", "citeseer", "chameleon_filtered", "squirrel_filtered", "actor", "minesweeper"
]
CITATIONS = "cora", "citeseer"
HEADS, WIDTH = 4, 16
# Where the oracle gains less than this over uniform weights, there is nothing to gain.
ROOM = 0.02
# From this AUROC of its best head on, attention tells inner from outer edges.
TOLD = 0.9


@dataclasses.dataclass(frozen=True)
class Config:
    """Attention against uniform weights, over the distance of the means and the homophily, and on real graphs."""

    means: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    """μ, in standard deviations of the features."""
    homophily: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Chance h that a neighbour is of the node's own class."""
    nodes: int = 600
    """Nodes n of a made graph: half to train on, a sixth to stop by, a third to test."""
    neighbors: int = 8
    """How many others each node hears."""
    features: int = 8
    """Width of the made features: the means differ along one of them."""
    seeds: int = 3
    """Seeds 0, 1, ... of a made graph and its parameters."""
    datasets: tuple[Name, ...] = ("cora", "citeseer", "chameleon_filtered", "actor")
    """Real graphs; those that are not citations are read from GATJAX_DATA."""
    real_seeds: int = 2
    """Seeds of the parameters on a real graph, and of its split where there are several; 0 leaves real graphs out."""
    max_epochs: int = 200
    """Epochs at most."""
    patience: int = 50
    """Epochs without a lower validation loss before a seed stops."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """Show a progress bar."""
    output: Path = Path("runs/attention_pays")
    """Folder for result.json, gain.png and what is finished of them."""


class Made(NamedTuple):
    """A graph of two classes: each seed of a cell has its own, all of one shape."""

    graph: GraphsTuple
    inner: np.ndarray
    labels: np.ndarray


def make(config: Config, mean: float, homophily: float, seed: int) -> Made:
    random = np.random.default_rng([seed, round(1000 * mean), round(1000 * homophily)])
    n, k = config.nodes, config.neighbors
    labels = random.permutation(np.arange(n) % 2)
    members = np.stack([np.flatnonzero(labels == kind) for kind in (0, 1)])
    same = random.random((n, k)) < homophily
    kind = np.where(same, labels[:, None], 1 - labels[:, None])
    senders = members[kind, random.integers(n // 2, size=(n, k))]
    receivers = np.broadcast_to(np.arange(n)[:, None], (n, k))
    nodes = random.normal(size=(n, config.features))
    nodes[:, 0] += mean * (2 * labels - 1)
    graph = build_graph(senders.ravel(), receivers.ravel(), nodes.astype(np.float32))
    inner = labels[np.asarray(graph.senders)] == labels[np.asarray(graph.receivers)]
    return Made(graph, inner, labels.astype(np.int32))


class OneLayer(nnx.Module):
    """A layer of attention, and a linear map to two classes."""

    def __init__(self, model: str, width: int, rngs: nnx.Rngs):
        self.attend = ATTENDING.get(model, MeanConv)(width, WIDTH, num_heads=HEADS, rngs=rngs)
        self.out = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, made: Made) -> jax.Array:
        return self.out(nnx.elu(jnp.asarray(self.attend(made.graph).nodes)))


class Oracle(nnx.Module):
    """The same, with one half of the heads on the node's own class, the other half on the other one."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.own, self.other = (MeanConv(width, WIDTH // 2, rngs=rngs) for _ in range(2))
        self.out = nnx.Linear(WIDTH, 2, rngs=rngs)

    def __call__(self, made: Made) -> jax.Array:
        own = self.own(made.graph, edge_mask=made.inner).nodes
        other = self.other(made.graph, edge_mask=~made.inner).nodes
        both = jnp.concatenate([jnp.asarray(own), jnp.asarray(other)], 1)
        return self.out(nnx.elu(both))


def made_row(config: Config, model: str) -> dict[str, Any]:
    """Test accuracy, and how well the best head tells inner from outer edges, of every mean, homophily and seed."""
    cells = [(mean, h) for mean in config.means for h in config.homophily]
    width = config.features
    build = lambda rngs: Oracle(width, rngs) if model == "oracle" else OneLayer(model, width, rngs)
    module = functional(build)
    graphdef, _, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)
    fit, stop, test = np.split(np.arange(config.nodes), [config.nodes // 2, config.nodes * 2 // 3])

    def metrics(nodes: np.ndarray) -> Callable[..., Any]:
        return lambda parameters, made: softmax_cross_entropy(
            module.apply(parameters, made), nodes, made.labels[nodes]
        )

    training = Training(
        module.initialise,
        lambda parameters, key, data, made: metrics(fit)(parameters, made).loss,
        lambda parameters, data, made: metrics(stop)(parameters, made),
        optax.chain(optax.add_decayed_weights(5e-4), optax.adam(2e-2)),
        rule=lowest_loss,
        patience=config.patience,
        max_epochs=config.max_epochs,
        epochs_per_dispatch=50,
    )

    @jax.jit
    def judge(parameters: Any, made: Made) -> tuple[jax.Array, jax.Array | float]:
        right = module.apply(parameters, made)[test].argmax(-1) == made.labels[test]
        if model not in ATTENDING:
            return right.mean(), jnp.nan
        trained: Any = nnx.merge(graphdef, parameters, rest, copy=True)
        alpha = trained.attend.attention(made.graph)
        # To look at the other class alone tells the edges apart as well.
        auroc = jnp.stack([edge_auroc(head, made.inner) for head in alpha.T])
        return right.mean(), jnp.maximum(auroc, 1 - auroc).max()

    runs = range(len(cells) * config.seeds)
    accuracy, separates = np.zeros((2, len(runs)))

    def labels(run: int) -> Made:
        mean, homophily = cells[run // config.seeds]
        return jax.tree.map(jnp.asarray, make(config, mean, homophily, run % config.seeds))

    for trained in train(training, runs, None, labels, progress=config.progress):
        found = judge(trained.parameters, labels(trained.seed))
        accuracy[trained.seed], separates[trained.seed] = map(float, found)
    shape = len(config.means), len(config.homophily), config.seeds
    row = {"model": model, "accuracy": accuracy.reshape(shape).tolist()}
    return row | ({"auroc": separates.reshape(shape).tolist()} if model in ATTENDING else {})


class Real(NamedTuple):
    """A real graph with self-loops, its width, its labels and its split."""

    graph: GraphsTuple
    width: int
    labels: np.ndarray
    parts: tuple[np.ndarray, ...]


def file_of(name: str) -> Path:
    """Where a graph that is no citation graph lies; SystemExit where it does not."""
    return heterophilous.file_of(name, f"leave {name} out of --datasets")


def read(name: str, seed: int) -> Real:
    """By name; the seed chooses among splits."""
    if name in CITATIONS:
        data = load(name, features="sparse")
        graph = add_self_loops(data.graph)
        return Real(graph, data.num_features, data.labels.astype(np.int32), tuple(data.splits))
    found = heterophilous.read(file_of(name))
    nodes = normalize_rows(np.asarray(found.graph.nodes))
    graph = add_self_loops(found.graph._replace(nodes=nodes))
    return Real(graph, nodes.shape[1], found.labels, found.split(seed))


def real_row(config: Config, name: str, model: str) -> dict[str, Any]:
    """Accuracy, and the entropy of the first layer's weights by that of uniform ones, of each seed."""
    real = read(name, 0)
    width, classes = real.width, int(real.labels.max()) + 1
    build = lambda rngs: REAL[model](
        width, classes, hidden_features=32, num_heads=4, dropout_rate=0.5, rngs=rngs
    )
    functions = node_classification(build)
    graphdef, _, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)
    training = Training(
        functions.initialise,
        functions.loss,
        functions.validate,
        optax.chain(optax.add_decayed_weights(5e-4), optax.adam(1e-2)),
        rule=lowest_loss,
        patience=config.patience,
        max_epochs=config.max_epochs,
    )
    parts = {seed: read(name, seed).parts for seed in range(config.real_seeds)}

    def labels(seed: int) -> Labels:
        fit, stop, _ = parts[seed]
        return Labels(fit, real.labels[fit], stop, real.labels[stop])

    @jax.jit
    def ratio(parameters: Any, graph: GraphsTuple) -> jax.Array:
        alpha = nnx.merge(graphdef, parameters, rest, copy=True).attention(graph)[0]
        return jnp.nanmean(entropy_ratio(graph, alpha))

    runs: list[Trained] = list(
        train(training, range(config.real_seeds), real.graph, labels, progress=config.progress)
    )
    runs.sort(key=lambda trained: trained.seed)
    test = [parts[trained.seed][2] for trained in runs]
    said = [np.asarray(functions.logits(one.parameters, real.graph)).argmax(-1) for one in runs]
    ends = (
        real.labels[np.asarray(real.graph.senders)],
        real.labels[np.asarray(real.graph.receivers)],
    )
    loops = np.asarray(real.graph.senders) == np.asarray(real.graph.receivers)
    return {
        "dataset": name,
        "model": model,
        "homophily": float((ends[0] == ends[1])[~loops].mean()),
        "accuracy": [
            float((out[nodes] == real.labels[nodes]).mean())
            for out, nodes in zip(said, test, strict=True)
        ],
        "entropy_ratio": [float(ratio(trained.parameters, real.graph)) for trained in runs],
    }


def make_result(config: Config) -> dict[str, Any]:
    started = time.perf_counter()
    makers = {f"made {model}": functools.partial(made_row, config, model) for model in MADE}
    for name in config.datasets if config.real_seeds else ():
        makers |= {
            f"{name} {model}": functools.partial(real_row, config, name, model) for model in REAL
        }
    rows = finish_rows(config, makers, choosing=("datasets",))
    return {
        "made": [row for row in rows.values() if "dataset" not in row],
        "real": [row for row in rows.values() if "dataset" in row],
        "seconds": time.perf_counter() - started,
        "config": dataclasses.asdict(config),
        **describe_run(),
    }


def crossing(means: Sequence[float], values: np.ndarray, level: float) -> float | None:
    """The first μ at which values that are known at some μ reach a level, on straight lines between these.

    >>> crossing([1.0, 2.0, 3.0], np.array([0.0, 0.0, 1.0]), 0.5), crossing([1.0], np.zeros(1), 0.5)
    (2.5, None)
    """
    above = values >= level
    if not above.any():
        return None
    last = int(above.argmax())
    if last == 0:
        return float(means[0])
    pair = slice(last - 1, last + 1)
    return float(np.interp(level, values[pair], means[pair]))


def half_gain(result: dict[str, Any], model: str) -> list[float | None]:
    """For each homophily the first μ at which attention gains half of what the oracle gains over uniform weights."""
    found = {row["model"]: np.mean(row["accuracy"], -1) for row in result["made"]}
    gain, most = found[model] - found["uniform"], found["oracle"] - found["uniform"]
    share = np.where(most > ROOM, gain / np.maximum(most, ROOM), 0)
    return [crossing(result["config"]["means"], column, 0.5) for column in share.T]


def told_apart(result: dict[str, Any], model: str) -> list[float | None]:
    """For each homophily the first μ at which the best head tells inner from outer edges."""
    (row,) = (row for row in result["made"] if row["model"] == model)
    return [
        crossing(result["config"]["means"], column, TOLD) for column in np.mean(row["auroc"], -1).T
    ]


def tables(result: dict[str, Any]) -> str:
    """Accuracy by mean, at each homophily; where attention begins to pay; and real graphs."""
    config = result["config"]
    places, blocks = list(enumerate(config["homophily"])), []
    means = [f"μ = {mean:g}" for mean in config["means"]]
    rows = [
        [f"{h:g}", row["model"], *(f"{100 * np.mean(each[place]):.1f}" for each in row["accuracy"])]
        for place, h in places
        for row in result["made"]
    ]
    blocks.append(markdown_table(["homophily", "test (%)", *means], rows))
    rows = [
        [f"{h:g}", row["model"], *(f"{np.mean(each[place]):.2f}" for each in row["auroc"])]
        for place, h in places
        for row in result["made"]
        if "auroc" in row
    ]
    blocks.append(markdown_table(["homophily", "edges told apart (AUROC)", *means], rows))
    text = lambda mean: "nowhere" if mean is None else f"{mean:.2f}"
    columns = [
        (f"{model}: {what}", list(map(text, of(result, model))))
        for what, of in (("half of the oracle's gain", half_gain), ("edges told apart", told_apart))
        for model in ATTENDING
    ]
    rows = [[f"{h:g}", *(column[place] for _, column in columns)] for place, h in places]
    blocks.append(markdown_table(["homophily", *(f"μ for {name}" for name, _ in columns)], rows))
    blocks.append(f"√log n = {threshold(result):.2f}.")
    if result["real"]:
        rows = [
            [
                row["dataset"],
                f"{row['homophily']:.2f}",
                row["model"],
                mean_and_sd(row["accuracy"]),
                f"{np.mean(row['entropy_ratio']):.4f}",
            ]
            for row in result["real"]
        ]
        header = ["data", "homophily", "model", "test (%)", "entropy / uniform"]
        blocks.append(markdown_table(header, rows))
    return "\n\n".join(blocks)


def plot(result: dict[str, Any]) -> Any:
    """Accuracy and edges told apart over μ, beside the theorem's √log n; the gain over all cells; and real graphs."""
    import matplotlib.pyplot as plt

    with plt.rc_context(dict(plots.STYLE)):
        figure, axes = plt.subplots(2, 2, figsize=(plots.PAGE, 4.8))
        _accuracy(result, axes[0, 0])
        _told_apart(result, axes[0, 1])
        _gain(result, axes[1, 0])
        _real(result, axes[1, 1])
        for ax in axes[0]:
            ax.axvline(threshold(result), color="0.4", ls=":", lw=0.9, label="√log n")
            ax.legend()
        figure.align_labels()
    return axes[0, 0]


def threshold(result: dict[str, Any]) -> float:
    """√log n: well above it, says the theorem, attention tells inner from outer edges."""
    return float(np.sqrt(np.log(result["config"]["nodes"])))


def _accuracy(result: dict[str, Any], ax: Axes) -> None:
    config = result["config"]
    middle = int(np.argmin(np.abs(np.array(config["homophily"]) - 0.5)))
    each = {row["model"]: 100 * np.array(row["accuracy"])[:, middle] for row in result["made"]}
    plots.seed_lines(
        config["means"], each, xlabel="distance of the means μ", ylabel="test (%)", ax=ax
    )
    ax.set_title(f"accuracy, homophily {config['homophily'][middle]:g}")


def _told_apart(result: dict[str, Any], ax: Axes) -> None:
    """The mean over seeds, of every homophily; and where the level is crossed."""
    config, rows = result["config"], [row for row in result["made"] if "auroc" in row]
    each = {row["model"]: np.mean(row["auroc"], -1) for row in rows}
    plots.seed_lines(
        config["means"], each, xlabel="distance of the means μ", ylabel="AUROC, best head", ax=ax
    )
    for color, model in zip(plots.LINES, each, strict=False):
        places = [mean for mean in told_apart(result, model) if mean is not None]
        ax.plot(places, [TOLD] * len(places), "|", color=color, ms=9, mew=1.2)
    ax.axhline(TOLD, color="0.6", lw=0.6)
    ax.set_title("inner edges told apart, every homophily")


def _gain(result: dict[str, Any], ax: Axes) -> None:
    config = result["config"]
    means, homophily = config["means"], config["homophily"]
    found = {row["model"]: np.mean(row["accuracy"], -1) for row in result["made"]}
    gain = 100 * (found["GATv2"] - found["uniform"])
    most = np.abs(gain).max()
    image = ax.pcolormesh(gain.T, cmap="PuOr_r", vmin=-most, vmax=most)
    ax.figure.colorbar(image, ax=ax)
    place = lambda mean: np.interp(mean, means, np.arange(len(means)) + 0.5)
    for model, marker in zip(ATTENDING, plots.MARKERS, strict=False):
        points = [
            (place(mean), row + 0.5)
            for row, mean in enumerate(half_gain(result, model))
            if mean is not None
        ]
        label = f"{model}: half of what there is to gain"
        ax.plot(*np.array(points).reshape(-1, 2).T, f"{marker}-", color="0.1", ms=3, label=label)
    ax.axvline(place(threshold(result)), color="0.4", ls=":", lw=0.9)
    ax.set_xticks(np.arange(len(means)) + 0.5, [f"{mean:g}" for mean in means])
    ax.set_yticks(np.arange(len(homophily)) + 0.5, [f"{h:g}" for h in homophily])
    ax.set(xlabel="distance of the means μ", ylabel="homophily h")
    ax.set_title("gain of GATv2 over uniform weights (points)")
    ax.legend(fontsize=5.5)


# A share of entropy below this is none that single precision tells.
LEAST = 1e-6


def _real(result: dict[str, Any], ax: Axes) -> None:
    uniform = {
        row["dataset"]: np.mean(row["accuracy"])
        for row in result["real"]
        if row["model"] == "uniform"
    }
    attending = [name for name in REAL if name != "uniform"]
    for color, name in zip(plots.LINES, uniform, strict=False):
        for row in result["real"]:
            if row["dataset"] == name and row["model"] in attending:
                gain = 100 * (np.mean(row["accuracy"]) - uniform[name])
                marker = plots.MARKERS[attending.index(row["model"])]
                apart = max(1 - np.mean(row["entropy_ratio"]), LEAST)
                ax.plot(apart, gain, marker, color=color)
        ax.plot([], [], "s", color=color, label=name.replace("_filtered", ""))
    for marker, model in zip(plots.MARKERS, attending, strict=False):
        ax.plot([], [], marker, color="0.5", label=model)
    ax.axhline(0, color="0.6", lw=0.6)
    ax.set(xlabel="1 - entropy / uniform", ylabel="gain over uniform (points)", xscale="log")
    ax.set_title("real graphs")
    ax.legend(fontsize=5.5)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    counts = "neighbors features seeds max_epochs patience"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"nodes": 12, "real_seeds": 0},
        above_zero=("means", "homophily"),
    )
    if max(config.homophily) > 1:
        raise SystemExit(f"--homophily {max(config.homophily)}: must be a chance, at most 1")
    for name in config.datasets if config.real_seeds else ():
        if name not in CITATIONS:
            file_of(name)
    picture = config.output / "gain.png"
    draw = lambda result: try_to_plot(picture, lambda path: plots.save(plot(result), path))
    result = made_once(config, make_result, draw)
    print(f"\n{tables(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
