"""What is missing in a knowledge graph? Attention over relations before DistMult, and DistMult alone.

    python experiments/knowledge.py                     # UMLS, 5 seeds, two minutes
    python experiments/knowledge.py --folder FB15k-237  # facts of your own: train.txt, valid.txt, test.txt

"Einstein was born in Germany, Germany is located in Europe": a fact (head, relation, tail) is an edge. A model scores
every entity as the tail of (head, relation, ?) and as the head of (?, relation, tail), and the right one should come
first. All models score by DistMult, Σ_c z_hc w_rc z_tc, with a vector w_r for each relation and one for its inverse:

    DistMult                z are parameters
    DistMult, wide          the same, as wide as it takes to have the parameters of relational attention
    GAT                     z is what a layer of attention makes of parameters, from the facts to train on, whatever
                            their relations
    RGAT within             the same with a projection for each relation, and a softmax over its own edges alone
    RGAT across             the same, and one softmax over the edges of all relations

The edges are the facts in both directions and self-loops. In each step a share of the facts carries no messages, and
the loss is that of these, so that no model sees the answer as an edge.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from outputs import made_once
from report import count, markdown_table, mean_and_sd
from seed_runs import every_seed
from settings import check, check_multiple

from gatjax import DropoutRates, GATConv, RelationalGATConv
from gatjax.data import KnowledgeGraph, load_knowledge_graph
from gatjax.training import (
    Metrics,
    Trained,
    Training,
    either_metric,
    filtered_ranks,
    functional,
    ranking_metrics,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Predict the facts that are kept back, by five models that differ in what they know of the others."""

    folder: Path | None = None
    """Folder of facts, train.txt, valid.txt and test.txt. None: UMLS, which is in the package."""
    share: float = 1.0
    """Share of the facts to train on that is used; the others are still known as right answers."""
    seeds: int = 5
    """Seeds 0, 1, ... of parameters and dropout."""
    features: int = 64
    """Width of the entities, before and after the layer."""
    num_heads: int = 4
    """Heads of the attention."""
    num_bases: int = 4
    """Matrices that the relations of relational attention share."""
    hidden_facts: float = 0.5
    """Share of the facts that carries no messages in a step."""
    dropout: float = 0.3
    """Dropout of the entities that are scored."""
    max_epochs: int = 200
    """Epochs at most; in each, all facts."""
    patience: int = 100
    """Epochs without a better validation loss or MRR before a seed stops."""
    learning_rate: float = 1e-2
    """Of Adam."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path = Path("runs/knowledge")
    """Folder for result.json."""


class Questions(NamedTuple):
    """Facts as questions: (head, relation, ?), then (tail, inverse relation, ?).

    Attributes:
      entities, relations: what is given, [Q]; inverse relations are R, ..., 2R - 1.
      answers: what is asked for, [Q].
      known: all right answers, [Q, N]; the one that is asked for among them.
    """

    entities: Any
    relations: Any
    answers: Any
    known: Any


class Data:
    """The graph of messages, and the questions of each part."""

    def __init__(self, facts: KnowledgeGraph, share: float):
        every = np.concatenate([facts.train, facts.validation, facts.test])
        used = np.random.default_rng(0).permutation(len(facts.train))
        used = np.sort(used[: max(round(share * len(used)), 1)])
        self.facts = facts = dataclasses.replace(facts, train=facts.train[used])
        self.size, self.number = len(facts.entities), len(facts.relations)
        self.graph = facts.graph()._replace(nodes=np.arange(self.size, dtype=np.int32)[:, None])
        right: dict[tuple[int, int], list[int]] = {}
        for head, relation, tail in np.concatenate([every, self.turned(every)]).tolist():
            right.setdefault((head, relation), []).append(tail)
        self.right = right

    def turned(self, facts: np.ndarray) -> np.ndarray:
        """The same facts by the inverse relations."""
        return facts[:, ::-1] + np.array([0, self.number, 0], np.int32)

    def questions(self, facts: np.ndarray) -> Questions:
        both = np.concatenate([facts, self.turned(facts)])
        known = np.zeros((len(both), self.size), bool)
        for row, (entity, relation, _) in enumerate(both.tolist()):
            known[row, self.right[entity, relation]] = True
        entities, relations, answers = both.T
        return Questions(entities, relations, answers, known)


class Model(nnx.Module):
    """Entities, a layer or none, and the vectors of DistMult."""

    def __init__(self, entities: int, relations: int, width: int, layer: Any, config: Config, rngs):
        init = nnx.initializers.glorot_uniform()
        self.entities = nnx.Param(init(rngs.params(), (entities, width)))
        self.relations = nnx.Param(init(rngs.params(), (relations, width)))
        self.layer = None if layer is None else layer(rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout, rngs=rngs)

    def __call__(
        self,
        graph: GraphsTuple,
        questions: Questions,
        *,
        edge_mask=None,
        deterministic=None,
        rngs=None,
    ):
        """The score of every entity as the answer to every question, [Q, N]."""
        z = self.entities[...]
        if self.layer is not None:
            out = self.layer(
                graph._replace(nodes=z), edge_mask=edge_mask, deterministic=deterministic, rngs=rngs
            )
            z = z + nnx.elu(out.nodes)
        z = self.dropout(z, deterministic=deterministic, rngs=rngs)
        return (z[questions.entities] * self.relations[...][questions.relations]) @ z.T


def cross_entropy(scores: jax.Array, questions: Questions, counts: jax.Array) -> jax.Array:
    """Of the answer among all entities that are not right as well."""
    asked = jax.nn.one_hot(questions.answers, scores.shape[1], dtype=bool)
    scores = jnp.where(questions.known & ~asked, -jnp.inf, scores)
    own = jnp.take_along_axis(scores, questions.answers[:, None], axis=1)[:, 0]
    losses = jax.nn.logsumexp(scores, axis=1) - own
    return jnp.where(counts, losses, 0).sum() / jnp.maximum(counts.sum(), 1)


def variants(config: Config, data: Data) -> dict[str, tuple[int, Any]]:
    """By name, the width and the constructor of the layer."""
    own = {
        "num_heads": config.num_heads,
        "dropout_rate": DropoutRates(attention=config.dropout),
    }
    width, number = config.features, data.facts.num_relations
    plain = functools.partial(GATConv, width, width, **own)
    relational = functools.partial(
        RelationalGATConv, width, width, num_relations=number, num_bases=config.num_bases, **own
    )
    layers = {
        "GAT": plain,
        "RGAT within": functools.partial(relational, softmax="within"),
        "RGAT across": functools.partial(relational, softmax="across"),
    }
    numbers = parameters(Model, data, width, layers["RGAT across"], config)
    wide = round(numbers / (data.size + 2 * data.number))
    return {
        "DistMult": (width, None),
        "DistMult, wide": (wide, None),
        **{name: (width, layer) for name, layer in layers.items()},
    }


def parameters(model: Any, data: Data, width: int, layer: Any, config: Config) -> int:
    """How many numbers a model has."""
    built = nnx.eval_shape(
        lambda: model(data.size, 2 * data.number, width, layer, config, nnx.Rngs(0))
    )
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(built, nnx.Param)))


def train_variant(config: Config, data: Data, width: int, layer: Any) -> dict[str, Any]:
    pure = functional(lambda rngs: Model(data.size, 2 * data.number, width, layer, config, rngs))
    facts, keep_relations = (
        len(data.facts.train),
        layer is not None and "num_relations" in layer.keywords,
    )
    graph = data.graph if keep_relations else data.graph._replace(edges=None)
    parts = {
        name: data.questions(getattr(data.facts, name)) for name in ("train", "validation", "test")
    }

    def loss(parameters, key, graph, questions):
        for_facts, for_dropout = jax.random.split(key)
        hidden = jax.random.bernoulli(for_facts, config.hidden_facts, (facts,))
        if layer is None:
            counts = jnp.ones(2 * facts, bool)
            return cross_entropy(
                pure.apply(parameters, graph, questions["train"], key=for_dropout),
                questions["train"],
                counts,
            )
        selves = jnp.ones(len(graph.senders) - 2 * facts, bool)
        mask = jnp.concatenate([~hidden, ~hidden, selves])
        scores = pure.apply(parameters, graph, questions["train"], edge_mask=mask, key=for_dropout)
        return cross_entropy(scores, questions["train"], jnp.concatenate([hidden, hidden]))

    def validate(parameters, graph, questions):
        asked = questions["validation"]
        scores = pure.apply(parameters, graph, asked)
        ranks = filtered_ranks(scores, asked.answers, asked.known)
        every = jnp.ones(len(asked.answers), bool)
        return Metrics(cross_entropy(scores, asked, every), ranking_metrics(ranks)["mrr"])

    training = Training(
        pure.initialise,
        loss,
        validate,
        optax.adam(config.learning_rate),
        rule=either_metric,
        patience=config.patience,
        max_epochs=config.max_epochs,
    )
    seen = {name: parts[name] for name in ("train", "validation")}
    started = time.perf_counter()
    seeds = range(config.seeds)
    runs = every_seed(training, seeds, graph, lambda seed: seen, progress=config.progress)

    @jax.jit
    def test(parameters):
        scores = pure.apply(parameters, graph, parts["test"])
        return ranking_metrics(filtered_ranks(scores, parts["test"].answers, parts["test"].known))

    def metrics(trained: Trained) -> dict[str, float | None]:
        """Of the test facts: the one look at them of a seed."""
        if trained.diverged:
            return dict.fromkeys(METRICS)
        return {name: float(value) for name, value in test(trained.parameters).items()}

    found = [metrics(trained) for trained in runs]
    return {
        **{name: [each[name] for each in found] for name in METRICS},
        "epochs": [trained.epochs for trained in runs],
        "diverged": [trained.diverged_epoch for trained in runs],
        "width": width,
        "parameters": parameters(Model, data, width, layer, config),
        "seconds": time.perf_counter() - started,
    }


METRICS = ("mrr", "hits@1", "hits@3", "hits@10")


def make_result(config: Config) -> dict[str, Any]:
    facts = load_knowledge_graph("umls" if config.folder is None else config.folder)
    data, rows = Data(facts, config.share), {}
    for name, (width, layer) in variants(config, data).items():
        print(name)
        rows[name] = train_variant(config, data, width, layer)
    return {"name": facts.name, "rows": rows}


def table(result: dict[str, Any]) -> str:
    seeds = count(result["config"]["seeds"], "seed")
    share = result["config"]["share"]
    part = "" if share == 1 else f", {share:.0%} of the facts"
    header = [f"{result['name']}{part}, {seeds}", "parameters", "MRR (%)", *METRICS[1:], "epochs"]
    rows = [
        [
            name,
            f"{row['parameters']:,}",
            *(mean_and_sd(row[metric]) for metric in METRICS),
            f"{np.mean(row['epochs']):.0f}",
        ]
        for name, row in result["rows"].items()
    ]
    return markdown_table(header, rows)


def check_config(config: Config) -> None:
    counts = "seeds features num_heads num_bases max_epochs patience"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1),
        above_zero=("learning_rate", "hidden_facts", "share"),
        rates=("dropout", "hidden_facts"),
    )
    if config.share > 1:
        raise SystemExit(f"--share {config.share}: must be at most 1")
    check_multiple(config, "features", "num_heads")


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    check_config(config)
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
