"""Shortest paths with a graph network: attention or a sum over the messages, on graphs larger than those trained on.

    python experiments/graph_network.py                                         # 3 seeds, within a quarter of an hour
    python experiments/graph_network.py --aggregations sum mean max attention
    python experiments/graph_network.py --degree 3                              # larger, but not denser graphs

A graph has weighted edges and one marked node, the goal. Every other node is to say which of its neighbours is the next
on its shortest path to the goal. The rule that solves it is local, and repeated,

    d_i = min_j (w_ij + d_j)        next_i = argmin_j (w_ij + d_j)

with a minimum over neighbours, however many there are. Both networks encode, apply one graph network block several
times, and decode; they have the same updates of edges and nodes, seeds, batches, learning rate and number of
updates. One adds up the messages that reach a node, the other weighs them by attention, which can come
close to a minimum at any degree. A sum cannot: it can be made to work for the numbers of neighbours seen in training.

Claim: on graphs of the size trained on both are right about equally often. On graphs four times as large, attention
is right at least 20 points more often than the sum. The reason is degree: an edge exists with a fixed probability, so
a node of a larger graph has more neighbours. `--degree 3` tells: there it has not, however large the graph.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from matplotlib.axes import Axes
from outputs import drawn, made_once
from report import count, markdown_table, mean_and_sd, sound
from seed_runs import every_seed
from settings import check, check_multiple
from shortest_paths import Paths, make_paths

from gatjax import (
    AttentionPooling,
    Budget,
    EncodeProcessDecode,
    GraphIndependent,
    GraphNetwork,
    RowMLP,
    attention_weights,
    batch,
    build_graph,
    num_nodes,
    pad,
    plots,
    segment_max,
)
from gatjax.training import Metrics, Trained, Training, functional, lowest_loss

Aggregation = Literal["sum", "mean", "max", "attention"]

# Of random numbers, so that no set of graphs shares its own with another.
TRAIN, VALIDATION, TEST, EXAMPLE = range(4)
# A graph that can be drawn without an edge across a node.
EXAMPLE_KEY = (EXAMPLE, 59)


@dataclasses.dataclass(frozen=True)
class Config:
    """Train a graph network to find shortest paths, once per seed and aggregation, and test it on larger graphs."""

    aggregations: tuple[Aggregation, ...] = ("sum", "attention")
    """How a node takes in the messages that reach it."""
    seeds: int = 3
    """Number of seeds; a seed sets parameters and training graphs, the same for all aggregations."""
    train_nodes: tuple[int, int] = (6, 12)
    """Smallest and largest graph of training and validation."""
    test_nodes: tuple[int, ...] = (8, 12, 24, 48, 96)
    """Sizes of the graphs tested on."""
    probability: float = 0.3
    """Of an edge between two nodes; there is always a random path through all nodes besides."""
    degree: float | None = None
    """Expected number of these edges per node, instead of a probability: degrees then do not grow with the graph."""
    features: int = 32
    """Width of every hidden row."""
    num_heads: int = 4
    """Heads of the attention."""
    num_steps: int = 6
    """Steps of the core."""
    updates: int = 1000
    """Updates of the parameters."""
    batch_size: int = 32
    """Graphs per update."""
    batches: int = 50
    """Different batches of training graphs, of which every update draws one."""
    test_graphs: int = 64
    """Graphs of each size tested on."""
    learning_rate: float = 3e-3
    """Of Adam at the start; it falls to 0 along a cosine."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path = Path("runs") / "graph_network"
    """Folder for result.json, accuracy.png and attention.png."""


def check_config(config: Config) -> None:
    counts = "seeds train_nodes test_nodes features num_heads num_steps updates batch_size batches test_graphs"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"train_nodes": 2, "test_nodes": 2, "probability": 0, "degree": 0},
        above_zero=("learning_rate",),
    )
    if config.probability > 1:
        raise SystemExit(f"--probability {config.probability}: must be at most 1")
    if config.train_nodes[0] > config.train_nodes[1]:
        raise SystemExit(f"--train-nodes {config.train_nodes}: the smallest comes first")
    check_multiple(config, "features", "num_heads")


def make_batches(
    config: Config, key: tuple[int, ...], sizes: tuple[int, int], count: int, batch_size: int
) -> Paths:
    """`count` batches, padded to one shape and stacked; sizes are drawn between the two given ones, included."""
    rng = np.random.default_rng(key)
    batches = []
    for _ in range(count):
        totals = rng.integers(sizes[0], sizes[1] + 1, batch_size)
        batches.append([make_paths(rng, n, _probability(config, n)) for n in totals.tolist()])
    joined = [batch([paths.graph for paths in each]) for each in batches]
    budget = Budget(
        nodes=max(int(graph.n_node.sum()) for graph in joined) + 1,
        edges=max(int(graph.n_edge.sum()) for graph in joined),
        graphs=batch_size + 1,
    )
    padded = []
    for each, graph in zip(batches, joined, strict=True):
        graph, masks = pad(graph, budget)
        next_hop = np.zeros(budget.edges, bool)
        next_hop[masks.edge] = np.concatenate([paths.next_hop for paths in each])
        padded.append(Paths(graph, next_hop, masks.edge))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *padded)


def _probability(config: Config, num_nodes: int) -> float:
    return config.probability if config.degree is None else config.degree / (num_nodes - 1)


class EdgeUpdate(nnx.Module):
    """φ^e: a perceptron on the edge and its two ends."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.mlp = RowMLP([6 * features, features, features], rngs=rngs)

    def __call__(self, edges, senders, receivers, globals):
        return self.mlp(edges, senders, receivers)


class NodeUpdate(nnx.Module):
    """φ^v: a perceptron on the node and what it has received."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.mlp = RowMLP([3 * features, features, features], rngs=rngs)

    def __call__(self, nodes, received, globals):
        return self.mlp(nodes, received)


def build_model(config: Config, aggregation: Aggregation, rngs: nnx.Rngs) -> EncodeProcessDecode:
    """One logit per edge; the aggregation of the core is all that differs."""
    width = config.features
    encoder = GraphIndependent(
        edges=RowMLP([1, width, width], rngs=rngs), nodes=RowMLP([1, width, width], rngs=rngs)
    )
    updates = EdgeUpdate(width, rngs=rngs), NodeUpdate(width, rngs=rngs)
    decoder = GraphIndependent(edges=RowMLP([width, width, 1], rngs=rngs))
    pooling = aggregation
    if aggregation == "attention":
        pooling = AttentionPooling(width, width, num_heads=config.num_heads, rngs=rngs)
    core = GraphNetwork(*updates, edges_to_nodes=pooling)
    return EncodeProcessDecode(encoder, core, decoder, num_steps=config.num_steps)


class Task:
    """One aggregation as the pure functions that training wants."""

    def __init__(self, config: Config, aggregation: Aggregation):
        self.config = config
        self.aggregation: Aggregation = aggregation
        self.initialise, self.apply = functional(self.build)

    def build(self, rngs: nnx.Rngs) -> EncodeProcessDecode:
        return build_model(self.config, self.aggregation, rngs)

    def model(self, parameters: nnx.State) -> EncodeProcessDecode:
        model = self.build(nnx.Rngs(0))
        nnx.update(model, parameters)
        return model

    def score(self, parameters: nnx.State, paths: Paths) -> Metrics:
        """Cross-entropy and accuracy of the next hop, over all nodes but the goals."""
        graph, receivers = paths.graph, jnp.asarray(paths.graph.receivers)
        edge_mask = jnp.asarray(paths.edge_mask)
        edges = self.apply(parameters, graph, edge_mask=edge_mask).edges
        logits = edges[:, 0]
        chosen = attention_weights(graph, logits, edge_mask)
        count = paths.next_hop.sum()
        loss = -jnp.where(paths.next_hop, jnp.log(jnp.maximum(chosen, 1e-20)), 0).sum() / count
        largest = segment_max(logits, receivers, num_nodes(graph), mask=edge_mask)
        right = paths.next_hop & (logits >= largest[receivers])
        return Metrics(loss, right.sum() / count)

    def loss(self, parameters, key, data, labels) -> jax.Array:
        train_paths, _ = labels
        index = jax.random.randint(key, (), 0, self.config.batches)
        return self.score(
            parameters, jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], train_paths)
        ).loss

    def validate(self, parameters, data, labels) -> Metrics:
        _, validation_paths = labels
        return self.score(parameters, validation_paths)

    @functools.cached_property
    def accuracy(self):
        """Mean accuracy over stacked batches."""

        def over_batches(parameters: nnx.State, paths: Paths) -> jax.Array:
            return jax.lax.map(lambda each: self.score(parameters, each).accuracy, paths).mean()

        return jax.jit(over_batches)


def labels_of(config: Config, seed: int) -> tuple[Paths, Paths]:
    """The training batches of a seed, and one batch to choose parameters by."""
    small = functools.partial(make_batches, config, sizes=config.train_nodes)
    validation = small((VALIDATION, seed), count=1, batch_size=config.batch_size)
    return (
        small((TRAIN, seed), count=config.batches, batch_size=config.batch_size),
        jax.tree.map(lambda leaf: leaf[0], validation),
    )


def train_all(config: Config, task: Task) -> list[Trained]:
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.updates)
    training = Training(
        initialise=task.initialise,
        loss=task.loss,
        validate=task.validate,
        optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)),
        rule=lowest_loss,
        patience=config.updates,
        max_epochs=config.updates,
        epochs_per_dispatch=min(config.updates, 25),
    )
    labels = functools.partial(labels_of, config)
    return every_seed(training, range(config.seeds), (), labels, progress=config.progress)


def run(config: Config) -> dict[str, Any]:
    """Train and test everything."""
    tests = {
        n: make_batches(config, (TEST, n), (n, n), max(config.test_graphs // 8, 1), 8)
        for n in config.test_nodes
    }
    results: dict[str, Any] = {}
    example = None
    for aggregation in config.aggregations:
        print(f"{aggregation}:")
        task = Task(config, aggregation)
        runs = train_all(config, task)
        parameters = [jax.tree.map(jnp.asarray, trained.parameters) for trained in runs]
        results[aggregation] = {
            "accuracy": {
                str(n): [
                    None if trained.diverged else float(task.accuracy(each, paths))
                    for trained, each in zip(runs, parameters, strict=True)
                ]
                for n, paths in tests.items()
            },
            "diverged": [trained.diverged_epoch for trained in runs],
            "train_loss": [float(trained.history.train_loss[-1]) for trained in runs],
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(parameters[0])),
        }
        if aggregation == "attention":
            example = attention_on_example(config, task.model(parameters[0]))
    return {
        "seeds": list(range(config.seeds)),
        "results": results,
        "example": example,
    }


def attention_on_next_hop(
    model: EncodeProcessDecode, paths: Paths
) -> tuple[np.ndarray, tuple[int, int]]:
    """The attention [E] of that step and head which attends most to the next hops, and which they are."""
    attention = nnx.jit(lambda model, graph: model.attention(graph))
    alphas = np.stack([np.asarray(alpha) for alpha in attention(model, paths.graph)])
    on_next_hop = alphas[:, paths.next_hop].mean(axis=1)
    step, head = np.unravel_index(on_next_hop.argmax(), on_next_hop.shape)
    return alphas[step, :, head], (int(step), int(head))


def attention_on_example(config: Config, model: EncodeProcessDecode) -> dict[str, Any]:
    """One graph and its attention, to be drawn."""
    n = config.train_nodes[1]
    paths = make_paths(np.random.default_rng(EXAMPLE_KEY), n, _probability(config, n))
    alpha, (step, head) = attention_on_next_hop(model, paths)
    graph = paths.graph
    return {
        "senders": np.asarray(graph.senders).tolist(),
        "receivers": np.asarray(graph.receivers).tolist(),
        "goal": int(np.asarray(graph.nodes)[:, 0].argmax()),
        "alpha": np.round(alpha, 4).tolist(),
        "step": step,
        "head": head,
        "on_next_hop": float(alpha[paths.next_hop].mean()),
    }


def plot_accuracy(result: dict[str, Any]) -> Axes:
    """Accuracy against the size of the graph."""
    config = result["config"]
    sizes = config["test_nodes"]
    groups = {
        name: [100 * np.array(each["accuracy"][str(n)], float) for n in sizes]
        for name, each in result["results"].items()
    }
    ax = plots.seed_lines(sizes, groups, xlabel="nodes of a graph", ylabel="next hop is right (%)")
    ax.axvspan(*config["train_nodes"], color="0.93", lw=0, zorder=0, label="sizes trained on")
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.set_ylim(0, 102)
    with plt.rc_context(dict(plots.STYLE)):
        ax.legend(loc="lower left", bbox_to_anchor=(0.3, 0))
    return ax


def plot_attention(example: dict[str, Any]) -> Axes:
    """Where the attention of one step and head lies, on one graph."""
    total = max(example["senders"] + example["receivers"]) + 1
    graph = build_graph(example["senders"], example["receivers"], num_nodes=total)
    is_goal = np.arange(total) == example["goal"]
    ax = plots.attention_graph(
        graph,
        np.array(example["alpha"]),
        node_colors=np.where(is_goal, 1, -1),
        node_labels=["goal" if goal else str(i) for i, goal in enumerate(is_goal)],
    )
    share = f"{example['on_next_hop']:.0%} of the attention on the next hop"
    ax.set_title(f"step {example['step'] + 1}, head {example['head']}: {share}")
    return ax


def table(result: dict[str, Any]) -> str:
    sizes = [str(n) for n in result["config"]["test_nodes"]]
    rows = [
        [name, str(each["parameters"]), *(mean_and_sd(each["accuracy"][n]) for n in sizes)]
        for name, each in result["results"].items()
    ]
    return markdown_table(["aggregation", "parameters", *(f"{n} nodes" for n in sizes)], rows)


def margins(result: dict[str, Any]) -> dict[str, float]:
    """Points by which attention leads the sum, by the size of the graphs, over the seeds that have not diverged."""
    ours, control = (result["results"][name]["accuracy"] for name in ("attention", "sum"))
    pairs = {n: (sound(ours[n]), sound(control[n])) for n in ours}
    return {n: 100 * float(np.mean(a) - np.mean(b)) for n, (a, b) in pairs.items() if a and b}


def main(config: Config) -> dict[str, Any]:
    """Run, and say how far attention leads."""
    use_every_core()
    check_config(config)
    result = made_once(config, run, lambda result: draw(result, config.output))
    seeds = count(config.seeds, "seed")
    print(f"\nnext hop is right, in percent (mean ± sd of {seeds})\n\n{table(result)}\n")
    if {"attention", "sum"} <= set(config.aggregations):
        lead = ", ".join(f"{lead:+.1f} at {n} nodes" for n, lead in margins(result).items())
        print(f"attention leads the sum by {lead}")
    print(f"{result['seconds']:.0f} s, compilation included; details in {config.output}")
    return result


def draw(result: dict[str, Any], folder: Path) -> None:
    drawn(folder / "accuracy.png", plot_accuracy)(result)
    if example := result["example"]:
        drawn(folder / "attention.png", plot_attention)(example)


if __name__ == "__main__":
    script.run(main, Config)
