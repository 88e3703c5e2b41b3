"""DictionaryLookup: the data, the model, and one training. `dictionary_lookup.py` compares layers on it.

Shapes: k keys, B lookups per batch; a lookup is the row of its values, one per key.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jraph import GraphsTuple

from gatjax import GATConv, GATv2Conv
from gatjax.ops.blocks import ceil_div
from gatjax.training import Functional, functional

# Up to this k all k! lookups exist; above, they are drawn.
MOST_ENUMERATED = 7

# The rate comes in with every step, so that all rates share one compiled program.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
PLATEAU = optax.contrib.reduce_on_plateau(factor=0.5, patience=11, rtol=0.0, atol=1e-4)

standard_normal = nnx.initializers.normal(1.0)


class Lookups(NamedTuple):
    """The two parts of the data, each `[n, k]`."""

    train: np.ndarray
    test: np.ndarray


def make_lookups(k: int, *, lookups: int = 32_000, seed: int = 11) -> Lookups:
    """Permutations of k values, split by unseen combinations of key and value.

    Of the k² pairs (key, value) `floor(0.8^(1/k) k²)` are allowed. A lookup with allowed pairs only is for
    training, one with at least one other pair for the test.

    Args:
      k: number of keys, at least 3: with fewer there may be nothing to train on.
      lookups: how many to draw where k is 8 or more, repetitions included; for smaller k all k! are used.
      seed: of the lookups and of the split.

    >>> train, test = make_lookups(4)
    >>> len(train) + len(test)
    24
    """
    if k < 3 or lookups < 1:
        raise ValueError(f"k must be at least 3 and lookups at least 1, got {k} and {lookups}")
    random = np.random.default_rng(seed)
    if k <= MOST_ENUMERATED:
        values = random.permutation(list(itertools.permutations(range(k))))
    else:
        values = np.stack([random.permutation(k) for _ in range(lookups)])
    allowed = np.zeros(k * k, bool)
    allowed[random.permutation(k * k)[: int(0.8 ** (1 / k) * k * k)]] = True
    seen = allowed[np.arange(k) * k + values].all(axis=1)
    values = values.astype(np.int32)
    return Lookups(values[seen], values[~seen])


class Lookup(nnx.Module):
    """Embeddings of key and value, one attention layer, and a linear map to the k values.

    ```
    h_i      = ReLU(key_i + value_i)         a query's value is a blank of its own
    logits_i = U layer(h)_i                  for the queries; U without bias
    ```

    GAT has self-loops and a bias; GATv2 has neither, and one matrix for both ends (`share_weights`).
    Embeddings start standard normal, as in the paper's code.
    """

    def __init__(
        self,
        k: int,
        layer: str,
        heads: int,
        features: int,
        *,
        dropout_rate: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.k = k
        self.self_loops = layer == "gat"
        self.keys, self.values = (
            nnx.Embed(k + 1, features, embedding_init=standard_normal, rngs=rngs) for _ in range(2)
        )
        self.layer = (
            GATConv(features, features, num_heads=heads, rngs=rngs)
            if layer == "gat"
            else GATv2Conv(
                features, features, num_heads=heads, share_weights=True, use_bias=False, rngs=rngs
            )
        )
        self.dropout = nnx.Dropout(dropout_rate)
        self.out = nnx.Linear(features, k, use_bias=False, rngs=rngs)

    def __call__(self, values: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
        """Logits [B, query, value] of lookups [B, k]; with a key, some of the layer's output is dropped."""
        hidden = jnp.asarray(self.layer(self.graph(values)).nodes)[: values.size]
        if dropout_key is not None:
            hidden = self.dropout(hidden, deterministic=False, rngs=nnx.Rngs(dropout_key))
        return self.out(hidden).reshape(*values.shape, self.k)

    def graph(self, values: jax.Array) -> GraphsTuple:
        """All lookups in one graph: their queries [B·k], then one node for each of the k² pairs (key, value).

        A key with its value has the same features in every lookup, and nothing enters it, so lookups can share it:
        each query hears what it would hear in a graph of its own, and the layer projects far fewer rows.
        """
        ids = jnp.arange(self.k)
        queries = jax.nn.relu(self.keys(ids) + self.values(jnp.full(self.k, self.k)))
        pairs = jax.nn.relu(self.keys(ids)[:, None, :] + self.values(ids)[None, :, :])
        nodes = [jnp.tile(queries, (len(values), 1)), pairs.reshape(self.k**2, -1)]
        receivers = jnp.arange(values.size).reshape(*values.shape, 1)
        senders = (values.size + (ids * self.k)[None, :] + values)[:, None, :]
        senders = jnp.broadcast_to(senders, (*values.shape, self.k))
        if self.self_loops:
            senders = jnp.concatenate([senders, receivers], axis=2)
        return GraphsTuple(
            nodes=jnp.concatenate(nodes),
            edges=None,
            globals=None,
            senders=senders.reshape(-1),
            receivers=jnp.broadcast_to(receivers, senders.shape).reshape(-1),
            n_node=jnp.array([values.size + self.k**2]),
            n_edge=jnp.array([senders.size]),
        )


@dataclasses.dataclass(frozen=True)
class Task:
    """What fixes the compiled program: the model, its dropout, and the steps of one dispatch."""

    k: int
    layer: str
    heads: int
    features: int = 128
    batch_size: int = 128
    evaluate_every: int = 100
    dropout_rate: float = 0.2
    always_dropout: bool = False

    @cached_property
    def model(self) -> Functional:
        size = self.k, self.layer, self.heads, self.features
        return functional(lambda rngs: Lookup(*size, dropout_rate=self.dropout_rate, rngs=rngs))

    def logits(
        self, parameters: nnx.State, values: jax.Array, dropout_key: jax.Array | None
    ) -> jax.Array:
        return self.model.apply(parameters, values, dropout_key)


class State(NamedTuple):
    """All that a training is between two dispatches."""

    parameters: Any
    optimizer: Any
    plateau: Any
    key: jax.Array


def start(task: Task, seed: int) -> State:
    """The state before the first step of a seed."""
    for_parameters, for_training = jax.random.split(jax.random.key(seed))
    parameters = task.model.initialise(for_parameters)
    return State(parameters, OPTIMIZER.init(parameters), PLATEAU.init(parameters), for_training)


@partial(jax.jit, static_argnums=0)
def advance(task: Task, state: State, rate: jax.Array, train: jax.Array) -> tuple[State, jax.Array]:
    """`evaluate_every` steps in one compiled program, and the mean of their losses."""

    def loss(parameters, key):
        for_batch, for_dropout = jax.random.split(key)
        chosen = jax.random.randint(for_batch, (task.batch_size,), 0, len(train))
        values = train if len(train) <= task.batch_size else train[chosen]
        logits = task.logits(parameters, values, for_dropout)
        return optax.softmax_cross_entropy_with_integer_labels(logits, values).mean()

    def step(carry, key):
        parameters, optimizer = carry
        value, gradient = jax.value_and_grad(loss)(parameters, key)
        updates, optimizer = OPTIMIZER.update(gradient, optimizer)
        updates = jax.tree.map(lambda leaf: -rate * state.plateau.scale * leaf, updates)
        return (optax.apply_updates(parameters, updates), optimizer), value

    key, for_steps = jax.random.split(state.key)
    keys = jax.random.split(for_steps, task.evaluate_every)
    (parameters, optimizer), losses = jax.lax.scan(step, (state.parameters, state.optimizer), keys)
    return State(parameters, optimizer, state.plateau, key), losses.mean()


@jax.jit
def wait(plateau: Any, value: jax.Array) -> Any:
    """Take note of an evaluation; the rate falls where too many bring nothing better."""
    return PLATEAU.update((), plateau, value=value)[1]


@partial(jax.jit, static_argnums=0)
def count_correct(
    task: Task, parameters: nnx.State, values: jax.Array, key: jax.Array
) -> jax.Array:
    """Right answers to a batch of lookups; a row of -1 has none."""
    logits = task.logits(parameters, values, key if task.always_dropout else None)
    return (logits.argmax(-1) == values).sum()


def accuracy(task: Task, state: State, values: np.ndarray) -> float:
    """Share of the queries that are answered right, counted batch by batch."""
    batches = ceil_div(len(values), task.batch_size)
    padded = np.full((batches, task.batch_size, task.k), -1, np.int32)
    padded.reshape(-1, task.k)[: len(values)] = values
    keys = jax.random.split(state.key, batches)
    counts = [
        count_correct(task, state.parameters, *each) for each in zip(padded, keys, strict=True)
    ]
    return sum(map(int, counts)) / values.size


class Evaluation(NamedTuple):
    """What is known after a number of steps."""

    step: int
    loss: float
    train_accuracy: float
    test_accuracy: float


def train(
    task: Task,
    data: Lookups,
    *,
    learning_rate: float,
    seed: int,
    steps: int,
    patience: int | None = None,
    evaluate: int | None = None,
) -> Iterator[Evaluation]:
    """Train until every answer is right, or patience or steps are at their end.

    A loss that is not finite ends it too, and is that of the last evaluation.

    As in the paper's code, the test accuracy rules the learning rate, which halves after more than ten
    evaluations without a better one, and the patience. There is no validation set.

    Args:
      task: model, batch, and steps from one evaluation to the next.
      data: what to fit, and what to test.
      learning_rate: of Adam.
      seed: of parameters, batches and dropout.
      steps: at most.
      patience: evaluations without a better test accuracy; None for no limit.
      evaluate: lookups of either part that an evaluation looks at; None for all.

    Yields:
      One evaluation every so many steps; the last one is of all lookups.
    """
    state, best, waited = start(task, seed), -1.0, 0
    some, fit = Lookups(*(values[:evaluate] for values in data)), jnp.asarray(data.train)
    for step in range(task.evaluate_every, steps + 1, task.evaluate_every):
        state, loss = advance(task, state, jnp.float32(learning_rate), fit)
        seen = Evaluation(step, float(loss), *(accuracy(task, state, part) for part in some))
        state = state._replace(plateau=wait(state.plateau, jnp.float32(-seen.test_accuracy)))
        better = seen.test_accuracy > best + 1e-4
        best, waited = (seen.test_accuracy, 0) if better else (best, waited + 1)
        diverged = not np.isfinite(seen.loss)
        done = diverged or waited == patience or step + task.evaluate_every > steps
        if done or seen[2:] == (1, 1):
            seen = Evaluation(step, float(loss), *(accuracy(task, state, part) for part in data))
        yield seen
        if done or seen[2:] == (1, 1):
            return
