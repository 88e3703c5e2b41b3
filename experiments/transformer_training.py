"""Training of graph transformers on many graphs: batches of a few sizes, one compiled step for each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jraph import GraphsTuple
from transformer_data import Lookups

from gatjax import batch
from gatjax.data import Targets, batches
from gatjax.training import Variables, functional_with_statistics


class Batch(NamedTuple):
    """Graphs, which nodes are real, and classes of nodes or graphs, -1 where there is none."""

    graph: GraphsTuple
    node_mask: Any
    labels: Any


class Source(Protocol):
    """Where batches come from."""

    def count(self, rows: np.ndarray) -> int:
        """Batches in an epoch of these graphs."""
        ...

    def draw(self, rows: np.ndarray, seed: int | None, epochs: int) -> Iterator[Batch]:
        """Batches of these graphs, shuffled where there is a seed."""
        ...


class Graphs:
    """Graphs of any size, with classes of their nodes or of their own, in batches of a few sizes."""

    def __init__(
        self, graphs: Sequence[GraphsTuple], labels: Sequence[Any], batch_size: int, sizes: Any
    ):
        self.graphs, self.labels = graphs, labels
        self.options = {"batch_size": batch_size, "budgets": sizes}
        self.of_nodes = np.ndim(labels[0]) > 0

    def _data(self, rows: np.ndarray, **options: Any) -> Any:
        classes = [np.asarray(self.labels[row], np.int32) for row in rows]
        targets = Targets(node=classes) if self.of_nodes else Targets(graph=np.stack(classes))
        return batches([self.graphs[row] for row in rows], targets, **self.options, **options)

    def count(self, rows: np.ndarray) -> int:
        return len(self._data(rows))

    def draw(self, rows: np.ndarray, seed: int | None, epochs: int) -> Iterator[Batch]:
        shuffled = {"shuffle": False} if seed is None else {"seed": seed}
        for each in self._data(rows, epochs=epochs, **shuffled):
            labels = each.targets.node if self.of_nodes else each.targets.graph
            yield Batch(each.graph, each.masks.node, labels)


class Trees:
    """Questions about one tree, whose nodes are keys and values [N, 2]: batches are copies of one graph."""

    def __init__(self, graph: GraphsTuple, lookups: Lookups, batch_size: int):
        self.graph = batch([graph] * batch_size)
        self.lookups, self.batch_size = lookups, batch_size
        self.extra = int(graph.n_node[0]) - lookups.keys.shape[1]

    def count(self, rows: np.ndarray) -> int:
        return -(-len(rows) // self.batch_size)

    def draw(self, rows: np.ndarray, seed: int | None, epochs: int) -> Iterator[Batch]:
        generator = None if seed is None else np.random.default_rng(seed)
        for _ in range(epochs):
            order = rows if generator is None else generator.permutation(rows)
            for start in range(0, len(order), self.batch_size):
                yield self._batch(order[start : start + self.batch_size])

    def _batch(self, rows: np.ndarray) -> Batch:
        missing = self.batch_size - len(rows)
        labels = np.pad(self.lookups.answers[rows], (0, missing), constant_values=-1)
        # Virtual nodes, if there are any, have neither key nor value, and are last.
        tables = self.lookups.keys[rows], self.lookups.values[rows]
        nodes = np.pad(np.stack(tables, -1), [(0, missing), (0, self.extra), (0, 0)])
        nodes = nodes.reshape(-1, 2)
        return Batch(self.graph._replace(nodes=nodes), np.ones(len(nodes), bool), labels)


def weighted_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy in which a class counts the more the rarer it is in the batch; -1 is no label."""
    known = labels >= 0
    classes = jnp.maximum(labels, 0)
    counts = (jax.nn.one_hot(classes, logits.shape[-1]) * known[:, None]).sum(0)
    of_classes = jnp.where(counts > 0, (counts.sum() - counts) / counts.sum(), 0)
    weights = of_classes[classes] * known
    each = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
    return (jnp.where(known, each, 0) * weights).sum() / jnp.maximum(weights.sum(), 1e-9)


def weighted_accuracy(found: np.ndarray, true: np.ndarray) -> float:
    """The mean over classes of the share that is found.

    >>> round(weighted_accuracy(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 3)
    0.833
    """
    return float(np.mean([(found[true == k] == k).mean() for k in np.unique(true)]))


def weighted_score(logits: np.ndarray, true: np.ndarray) -> float:
    """`weighted_accuracy` of the likeliest classes."""
    return weighted_accuracy(logits.argmax(-1), true)


def joined(runs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Of several trainings each score as a list.

    >>> joined([{"test": 0.5}, {"test": 0.75}])
    {'test': [0.5, 0.75]}
    """
    return {name: [run[name] for run in runs] for name in runs[0]}


class Recipe(NamedTuple):
    """How a model is trained.

    Attributes:
      epochs: how often each graph comes.
      learning_rate: of Adam, at its highest, after a tenth of the updates; then it falls to 0 along half a cosine.
      augment: `augment(key, graph)`, of each batch in training.
      loss: of logits and classes, -1 where there is none.
      score: of logits and classes, on the host.
      early: the first updates whose call takes `early_options`.
    """

    epochs: int
    learning_rate: float
    augment: Callable[[Any, GraphsTuple], GraphsTuple] | None = None
    loss: Callable[[jax.Array, jax.Array], jax.Array] = weighted_loss
    score: Callable[[np.ndarray, np.ndarray], float] = weighted_score
    early: int = 0
    early_options: Mapping[str, Any] = MappingProxyType({})


class Learner:
    """A model of graphs and where its batches come from; folds and seeds share what is compiled.

    Args:
        build: draws the model.
        source: batches.
        recipe: of the training.
        updates: of one training.
    """

    def __init__(self, build: Callable[..., Any], source: Source, recipe: Recipe, updates: int):
        self.initialise, self.apply = functional_with_statistics(build)
        self.source, self.recipe = source, recipe
        rates = optax.warmup_cosine_decay_schedule(
            0.0, recipe.learning_rate, max(updates // 10, 1), updates + 1
        )
        self.optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rates))
        self.update = jax.jit(self._update, donate_argnums=(0, 1), static_argnames="early")
        self.predict = jax.jit(lambda *arguments: self._outputs(*arguments)[0])

    def fit(self, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, Any]:
        """The score on both parts after the last update, and the mean loss of each epoch."""
        first, key = jax.random.split(jax.random.key(seed))
        variables = self.initialise(first)
        state = self.optimizer.init(variables.parameters)
        losses = []
        for step, each in enumerate(self.source.draw(train, seed, self.recipe.epochs)):
            given = variables, state, jax.random.fold_in(key, step), each
            variables, state, loss = self.update(*given, early=step < self.recipe.early)
            losses.append(loss)
        means = np.array(jax.device_get(losses)).reshape(self.recipe.epochs, -1).mean(1)
        if not np.isfinite(means).all():
            raise SystemExit(f"seed {seed}: the loss is not finite: lower --learning-rate")
        parts = {"train": train, "test": test}
        scores = {name: self._score(variables, rows) for name, rows in parts.items()}
        return {**scores, "losses": means.tolist()}

    def _score(self, variables: Variables, rows: np.ndarray) -> float:
        found, true = [], []
        for each in self.source.draw(rows, None, 1):
            known = np.asarray(each.labels)
            found.append(np.asarray(self.predict(variables, each))[known >= 0])
            true.append(known[known >= 0])
        return self.recipe.score(np.concatenate(found), np.concatenate(true))

    def _outputs(
        self, variables: Variables, each: Batch, key: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        graph = each.graph
        if key is not None and self.recipe.augment is not None:
            graph = self.recipe.augment(jax.random.fold_in(key, 1), graph)
        options["node_mask"] = each.node_mask
        out, statistics = self.apply(variables, graph, key=key, **options)
        of_nodes = len(each.labels) == len(each.node_mask)
        return (out.nodes if of_nodes else out.globals), statistics

    def _loss(
        self, parameters: Any, statistics: Any, key: Any, each: Batch, options: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        variables = Variables(parameters, statistics)
        logits, statistics = self._outputs(variables, each, key, **options)
        return self.recipe.loss(logits, each.labels), statistics

    def _update(
        self, variables: Variables, state: Any, key: Any, each: Batch, *, early: bool
    ) -> Any:
        loss = partial(self._loss, options=self.recipe.early_options if early else {})
        graded = jax.value_and_grad(loss, has_aux=True)
        (loss, statistics), gradient = graded(*variables, key, each)
        change, state = self.optimizer.update(gradient, state, variables.parameters)
        parameters = optax.apply_updates(variables.parameters, change)
        return Variables(parameters, statistics), state, loss
