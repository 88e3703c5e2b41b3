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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import heterophilous
import jax
import jax.numpy as jnp
import numpy as np
import script
from attention_pays_report import plot, tables
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from outputs import drawn
from seed_runs import adam_with_l2, every_seed, training_of
from settings import check
from study_rows import made_of_rows

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
)
from gatjax.data import load, normalize_rows
from gatjax.explain import edge_auroc, entropy_ratio
from gatjax.training import (
    Labels,
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
        adam_with_l2(2e-2),
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
    training = training_of(functions, adam_with_l2(1e-2), config, lowest_loss)
    parts = {seed: read(name, seed).parts for seed in range(config.real_seeds)}

    def labels(seed: int) -> Labels:
        fit, stop, _ = parts[seed]
        return Labels(fit, real.labels[fit], stop, real.labels[stop])

    @jax.jit
    def ratio(parameters: Any, graph: GraphsTuple) -> jax.Array:
        alpha = nnx.merge(graphdef, parameters, rest, copy=True).attention(graph)[0]
        return jnp.nanmean(entropy_ratio(graph, alpha))

    seeds = range(config.real_seeds)
    runs = every_seed(training, seeds, real.graph, labels, progress=config.progress)
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


def makers(config: Config) -> dict[str, Callable[[], dict[str, Any]]]:
    rows = {f"made {model}": functools.partial(made_row, config, model) for model in MADE}
    for name in config.datasets if config.real_seeds else ():
        rows |= {
            f"{name} {model}": functools.partial(real_row, config, name, model) for model in REAL
        }
    return rows


def told(rows: dict[str, Any]) -> dict[str, Any]:
    return {
        "made": [row for row in rows.values() if "dataset" not in row],
        "real": [row for row in rows.values() if "dataset" in row],
    }


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
    draw = drawn(config.output / "gain.png", plot)
    result = made_of_rows(config, makers, told, draw, choosing=("datasets",))
    print(f"\n{tables(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
