"""Ask along one relation: does attention over relations find the edge that the question names?

    python experiments/relations.py                    # 5 seeds, about a minute
    python experiments/relations.py --relations 8

Every query node is joined to one value node by each of R relations, and asks about one of them: "who is your boss?"
where there are a mother, a boss, a doctor. The answer is the class of the value node at the other end of that edge. All
layers see the same graph and differ in what they know of the relations:

    GAT                  nothing
    GAT, edge features   one-hot, in the score: the ranking of the relations is the same for all questions
    GATv2, edge features the same, in a score that may rank them anew for each question
    RGAT within          a projection for each relation, and a softmax over its own edges alone
    RGAT across          the same, and one softmax over the edges of all relations

With one edge of each relation, "within" gives every edge the weight 1, so only "across" can choose between relations.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from outputs import drawn, made_once
from report import count, markdown_table, mean_and_sd
from seed_runs import every_seed, training_of
from settings import check, check_multiple

from gatjax import GATConv, GATv2Conv, RelationalGATConv, build_graph, plots
from gatjax.training import Labels, Trained, lowest_loss, node_classification


@dataclasses.dataclass(frozen=True)
class Config:
    """Train five layers to answer questions about one of several relations."""

    relations: int = 4
    """Number of relations R."""
    classes: int = 8
    """Number of value nodes, one of each class."""
    queries: int = 1536
    """Query nodes: half to train on, a sixth to stop by, a third to test."""
    seeds: int = 5
    """Seeds 0, 1, ... of parameters; the graph has a seed of its own."""
    data_seed: int = 0
    """Seed of the graph."""
    features: int = 32
    """Width of the layer."""
    num_heads: int = 4
    """Heads of the attention."""
    max_epochs: int = 600
    """Epochs at most."""
    patience: int = 100
    """Epochs without a lower validation loss before a seed stops."""
    learning_rate: float = 1e-2
    """Of Adam."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path = Path("runs/relations")
    """Folder for result.json and accuracy.png."""


class Questions:
    """The graph: value nodes, then query nodes; what each asks for; and which queries are for what."""

    def __init__(self, config: Config):
        random = np.random.default_rng(config.data_seed)
        values, queries = config.classes, config.queries
        shape = queries, config.relations
        self.senders = random.integers(values, size=shape)
        asked = random.integers(config.relations, size=queries)
        self.answers = self.senders[np.arange(queries), asked].astype(np.int32)
        receivers = np.broadcast_to(values + np.arange(queries)[:, None], shape)
        self.relation = np.broadcast_to(np.arange(config.relations, dtype=np.int32), shape).ravel()
        nodes = np.zeros((values + queries, values + config.relations), np.float32)
        nodes[np.arange(values), np.arange(values)] = 1
        nodes[values + np.arange(queries), values + asked] = 1
        self.graph = build_graph(self.senders.ravel(), receivers.ravel(), nodes)
        self.parts = np.split(values + np.arange(queries), [queries // 2, 2 * queries // 3])
        self.values = values

    def with_edges(self, edges: np.ndarray | None) -> GraphsTuple:
        return self.graph._replace(edges=edges)

    def answers_of(self, nodes: np.ndarray) -> np.ndarray:
        return self.answers[nodes - self.values]


class Model(nnx.Module):
    """One layer of attention, and a linear map to the classes."""

    def __init__(self, layer: Callable[..., Any], config: Config, rngs: nnx.Rngs):
        width = config.classes + config.relations
        self.layer = layer(width, config.features, num_heads=config.num_heads, rngs=rngs)
        self.out = nnx.Linear(config.features, config.classes, rngs=rngs)

    def __call__(self, graph: GraphsTuple, **options: Any) -> GraphsTuple:
        nodes = self.layer(graph, **options).nodes
        return graph._replace(nodes=self.out(nnx.elu(jnp.asarray(nodes))))


def variants(config: Config, relation: np.ndarray) -> dict[str, tuple[Any, np.ndarray | None]]:
    """By name, the layer's constructor and the edges that it sees."""
    number = config.relations
    one_hot = np.eye(number, dtype=np.float32)[relation]
    relational = functools.partial(RelationalGATConv, num_relations=number)
    return {
        "GAT": (GATConv, None),
        "GAT, edge features": (functools.partial(GATConv, edge_features=number), one_hot),
        "GATv2, edge features": (functools.partial(GATv2Conv, edge_features=number), one_hot),
        "RGAT within": (functools.partial(relational, softmax="within"), relation),
        "RGAT across": (functools.partial(relational, softmax="across"), relation),
    }


def train_variant(
    config: Config, questions: Questions, layer: Any, edges: np.ndarray | None
) -> dict[str, Any]:
    functions = node_classification(lambda rngs: Model(layer, config, rngs))
    training = training_of(functions, optax.adam(config.learning_rate), config, lowest_loss)
    graph = questions.with_edges(edges)
    fit, stop, test = questions.parts
    labels = Labels(fit, questions.answers_of(fit), stop, questions.answers_of(stop))
    seeds = range(config.seeds)
    runs = every_seed(training, seeds, graph, lambda seed: labels, progress=config.progress)

    def accuracy(trained: Trained) -> float | None:
        if trained.diverged:
            return None
        logits = np.asarray(functions.logits(trained.parameters, graph))[test]
        return float((logits.argmax(-1) == questions.answers_of(test)).mean())

    return {
        "test_accuracy": [accuracy(trained) for trained in runs],
        "epochs": [trained.epochs for trained in runs],
        "diverged": [trained.diverged_epoch for trained in runs],
    }


def make_result(config: Config) -> dict[str, Any]:
    questions, rows = Questions(config), {}
    for name, (layer, edges) in variants(config, questions.relation).items():
        print(name)
        rows[name] = train_variant(config, questions, layer, edges)
    return {"rows": rows}


def table(result: dict[str, Any]) -> str:
    config = result["config"]
    header = [f"{count(config['relations'], 'relation')}, {count(config['seeds'], 'seed')}"]
    rows = [
        [name, mean_and_sd(row["test_accuracy"]), f"{np.mean(row['epochs']):.0f}"]
        for name, row in result["rows"].items()
    ]
    return markdown_table([*header, "test (%)", "epochs"], rows)


def plot(result: dict[str, Any]) -> Any:
    percent = {
        name: 100 * np.array(row["test_accuracy"], float) for name, row in result["rows"].items()
    }
    return plots.seed_strips(percent, xlabel="questions answered right (%)")


def check_config(config: Config) -> None:
    counts = "seeds features num_heads max_epochs patience"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"relations": 2, "classes": 2, "queries": 6, "data_seed": 0},
        above_zero=("learning_rate",),
    )
    check_multiple(config, "features", "num_heads")


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    check_config(config)
    result = made_once(config, make_result, drawn(config.output / "accuracy.png", plot))
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
