"""The rows of `transformers.py` on stochastic block models: blocks that differ in what they attend to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import transformer_data as data
from jraph import GraphsTuple
from transformer_data import beside, width_of
from transformer_models import of_nodes
from transformer_nodes import RETURNS
from transformer_training import Graphs, Learner, Recipe, joined, weighted_accuracy

from gatjax import (
    connect_all,
    degree_encoding,
    edge_types,
    random_walk_encoding,
)
from gatjax.data import budgets_for, slots_for

# What the blocks of a row attend to, and whether nodes have an encoding.
BLOCKS = 4
SBM_ROWS: dict[str, tuple[str, bool]] = {
    "neighbours": ("edges", False),
    "neighbours, encoding": ("edges", True),
    "all, bias": ("typed", False),
    "all, encoding": ("all", True),
    "all, bias, encoding": ("typed", True),
    "all, bias, encoding, beside a mean": ("beside", True),
}
# The edges that each kind of block reads.
SBM_EDGES: dict[str, Callable[[GraphsTuple], GraphsTuple]] = {
    "edges": lambda graph: graph,
    "all": connect_all,
    "typed": lambda graph: edge_types(connect_all(graph)),
    "beside": lambda graph: edge_types(connect_all(graph)),
}


def sbm_rows(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """Models, and without a network two logistic regressions of PATTERN."""
    rows = {name: partial(sbm_row, config, *row) for name, row in SBM_ROWS.items()}
    if config.task == "pattern":
        rows |= {
            "logistic regression on degrees": partial(regression, config, neighbors=False),
            "logistic regression, neighbours' degrees and returns": partial(
                regression, config, neighbors=True
            ),
        }
    return rows


def sbm_graphs(config: Any) -> tuple[data.Labelled, np.ndarray, np.ndarray]:
    """Graphs, and which of them are for training and for testing; test patterns are of test graphs alone."""
    if config.task == "pattern":
        train = data.pattern(config.graphs, config.data_seed)
        per_pattern = data.TEST_GRAPHS_PER_PATTERN
        test = data.pattern(config.test_graphs, config.data_seed + 1, per_pattern)
    else:
        train = data.cluster(config.graphs, config.data_seed)
        test = data.cluster(config.test_graphs, config.data_seed + 1)
    both = data.Labelled(train.graphs + test.graphs, train.labels + test.labels)
    first, last = np.split(np.arange(len(both.graphs)), [config.graphs])
    return both, first, last


def sbm_row(config: Any, kind: str, encoded: bool) -> dict[str, Any]:
    """Accuracy over the classes of nodes."""
    (graphs, labels), train, test = sbm_graphs(config)
    if encoded:
        columns = [encodings(graph) for graph in graphs]
        known = np.concatenate([columns[row] for row in train])
        mean, spread = known.mean(0), known.std(0)
        # The first chance to return is always 0.
        scale = np.where(spread > 0, spread, 1)
        pairs = zip(graphs, columns, strict=True)
        graphs = [beside(graph, (own - mean) / scale) for graph, own in pairs]
    graphs = [SBM_EDGES[kind](graph) for graph in graphs]
    sizes = (budgets_for if kind == "edges" else slots_for)(graphs, batch_size=config.batch_size)
    source = Graphs(graphs, labels, config.batch_size, sizes)
    classes = 2 if config.task == "pattern" else 6
    shape = width_of(graphs[0]), classes, config.width, config.heads
    recipe = Recipe(config.epochs, config.learning_rate)
    updates = config.epochs * source.count(train)
    kinds = (kind,) * BLOCKS
    learner = Learner(lambda rngs: of_nodes(kinds, *shape, rngs), source, recipe, updates)
    runs = [learner.fit(train, test, seed) for seed in range(config.seeds)]
    return {"attends": kind, "encoded": encoded, **joined(runs)}


def encodings(graph: GraphsTuple) -> np.ndarray:
    """Degree and return probabilities, the latter on the scale of a regular graph's."""
    returns = random_walk_encoding(graph, RETURNS) * int(graph.n_node[0])
    return np.concatenate([degree_encoding(graph), returns], 1)


def regression(config: Any, *, neighbors: bool) -> dict[str, Any]:
    """What a logistic regression of a node's own numbers is worth."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (graphs, labels), train, test = sbm_graphs(config)
    rows = [_numbers_of(graph, neighbors=neighbors) for graph in graphs]
    join = lambda parts, ids: np.concatenate([parts[k] for k in ids])
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(join(rows, train), join(labels, train))
    parts = {"train": train, "test": test}
    return {
        name: [weighted_accuracy(model.predict(join(rows, ids)), join(labels, ids))]
        for name, ids in parts.items()
    }


def _numbers_of(graph: Any, *, neighbors: bool) -> np.ndarray:
    nodes = int(graph.n_node[0])
    degrees = np.bincount(graph.receivers, minlength=nodes)
    columns = [degrees / nodes]
    if neighbors:
        sums = np.bincount(graph.receivers, degrees[graph.senders], nodes)
        columns += [sums / np.maximum(degrees, 1) / nodes]
        columns += list(random_walk_encoding(graph, RETURNS)[:, 1:].T * nodes)
    return np.stack(columns, 1)
