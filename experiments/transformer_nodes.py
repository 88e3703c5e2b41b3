"""The rows of `transformers.py` on one real graph: networks on neighbours, and transformers beside them."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import heterophilous
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jraph import GraphsTuple
from sgformer import SGFormer
from transformer_training import Batch, Learner, Recipe

from gatjax import (
    GPS,
    DropoutRates,
    GATConv,
    GCNConv,
    GraphTransformer,
    MeanConv,
    NodeLinear,
    Polynormer,
    Stack,
    add_self_loops,
    degree_encoding,
    random_walk_encoding,
)
from gatjax.layers.dropout import Dropout
from gatjax.training import softmax_cross_entropy

RETURNS = 8
ON_EDGES: dict[str, Callable[..., nnx.Module]] = {
    "GAT": partial(GATConv, residual="linear"),
    "uniform": partial(MeanConv, residual="linear"),
    "GCN": partial(GCNConv, residual="linear"),
    "MLP": NodeLinear,
}
# The last is GPS without its attention to all nodes.
WHOLE = ("GT", "GPS", "Polynormer", "SGFormer", "blocks on neighbours")
MODELS = (*ON_EDGES, *WHOLE)

# Of the epochs of Polynormer those without its blocks over all nodes.
LOCAL_SHARE = 0.5


class OneGraph:
    """One graph, as a batch: an epoch is an update."""

    def __init__(self, graph: GraphsTuple, labels: np.ndarray):
        self.graph, self.labels = graph, labels
        self.mask = np.ones(len(labels), bool)

    def count(self, rows: np.ndarray) -> int:
        return 1

    def draw(self, rows: np.ndarray, seed: int | None, epochs: int) -> Iterator[Batch]:
        """The graph, with the labels of these nodes alone."""
        labels = np.full_like(self.labels, -1)
        labels[rows] = self.labels[rows]
        for _ in range(epochs):
            yield Batch(self.graph, self.mask, labels)


def node_rows(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """Each model, without and with an encoding."""
    return {
        f"{name}, encoding" if encoded else name: partial(node_row, config, name, encoded)
        for name in MODELS
        for encoded in (False, True)
    }


def node_row(config: Any, name: str, encoded: bool) -> dict[str, Any]:
    """Scores on each split, of each seed."""
    found = heterophilous.read(heterophilous.file_of(config.task, "take another --task"))
    graph, width = prepared(found.graph, encoded)
    classes = int(found.labels.max()) + 1
    build = lambda rngs: model(name, width, classes, config, rngs)
    score = area_under_curve if classes == 2 else accuracy
    early = int(LOCAL_SHARE * config.epochs) if name == "Polynormer" else 0
    recipe = Recipe(
        config.epochs,
        config.learning_rate,
        loss=plain_loss,
        score=score,
        early=early,
        early_options={"local_only": True},
    )
    learner = Learner(build, OneGraph(graph, found.labels), recipe, config.epochs)
    runs = []
    for number in range(config.splits):
        train, _, test = found.split(number)
        runs += [learner.fit(train, test, seed) for seed in range(config.seeds)]
    return {name: [run[name] for run in runs] for name in ("train", "test")}


def prepared(graph: GraphsTuple, encoded: bool) -> tuple[GraphsTuple, int]:
    """Features, the encoding beside them, and self-loops; and how wide that is."""
    columns = [np.asarray(graph.nodes)]
    if encoded:
        columns += [degree_encoding(graph), random_walk_encoding(graph, RETURNS)]
    nodes = np.concatenate(columns, 1)
    return jax.device_put(add_self_loops(graph._replace(nodes=nodes))), nodes.shape[1]


def model(name: str, in_features: int, classes: int, config: Any, rngs: nnx.Rngs) -> Any:
    """By its name, as wide and as deep as asked for."""
    width, heads, layers = config.width, config.heads, config.layers
    rates = DropoutRates(inputs=config.dropout)
    if name in ON_EDGES:
        many = {"num_heads": heads} if name in ("GAT", "uniform") else {}
        convs = [ON_EDGES[name](width, width, **many, rngs=rngs) for _ in range(layers)]
        return Stack(
            [*convs, NodeLinear(width, classes, rngs=rngs)],
            norms=[nnx.BatchNorm(width, momentum=0.9, rngs=rngs) for _ in convs],
            activation=jax.nn.relu,
            embed=NodeLinear(in_features, width, rngs=rngs),
            dropout=Dropout(rates, rngs=rngs),
        )
    if name == "SGFormer":
        return SGFormer(in_features, classes, width=width, heads=heads, rngs=rngs)
    sizes: dict[str, Any] = {"hidden_features": width, "num_heads": heads, "dropout_rate": rates}
    if name == "Polynormer":
        return Polynormer(in_features, classes, local_layers=layers, **sizes, rngs=rngs)
    sizes["num_layers"] = layers
    if name in ("GPS", "blocks on neighbours"):
        whole = "linear" if name == "GPS" else None
        return GPS(in_features, classes, whole=whole, **sizes, rngs=rngs)
    return GraphTransformer(in_features, classes, **sizes, rngs=rngs)


def plain_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of the nodes that have a label."""
    return softmax_cross_entropy(logits, jnp.arange(len(labels)), labels).loss


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of nodes that are found."""
    return float((logits.argmax(-1) == labels).mean())


def area_under_curve(logits: np.ndarray, labels: np.ndarray) -> float:
    """How likely a node of class 1 is put before one of class 0.

    >>> area_under_curve(np.array([[0, 1], [0, 2], [0, 0]]), np.array([0, 1, 0]))
    1.0
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, logits[:, 1] - logits[:, 0]))
