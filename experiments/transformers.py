"""Graph transformers: which of encodings, biases and edges beyond neighbours pays, on graphs made for the question.

    python experiments/transformers.py --task csl            # two minutes: only an encoding tells these graphs apart
    python experiments/transformers.py --task tree           # a bottleneck, and what leads around it
    python experiments/transformers.py --task pattern --seeds 3
    python experiments/transformers.py --task pattern --graphs 10000        # the size of the benchmark
    python experiments/transformers.py --task cluster
    python experiments/transformers.py --task minesweeper --splits 3 --rows GAT MLP GPS
    python experiments/transformers.py --task minesweeper --layers 15 --epochs 2000    # a day

Each row is a model, trained for a fixed number of epochs: nothing is chosen by validation. Rows that are finished are
kept in the output folder, and the same command goes on after an interruption, or with other rows. Accuracies are means
over classes; on real graphs the score is the area under the ROC curve where there are two classes, else accuracy.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import script
import transformer_data as data
from jraph import GraphsTuple
from matplotlib.axes import Axes
from outputs import claimed, find_result, say_found, try_to_plot
from report import describe_run, markdown_table, mean_and_sd, save_result
from settings import check
from study_rows import finish_rows
from transformer_models import of_graphs, of_nodes, of_trees
from transformer_nodes import RETURNS, node_rows
from transformer_training import Graphs, Learner, Recipe, Trees, weighted_accuracy

from gatjax import (
    add_expander,
    add_self_loops,
    add_virtual_nodes,
    connect_all,
    degree_encoding,
    edge_types,
    flip_signs,
    laplacian_encoding,
    plots,
    random_walk_encoding,
)
from gatjax.data import budgets_for, slots_for

Task = Literal[
    "csl",
    "tree",
    "pattern",
    "cluster",
    "minesweeper",
    "tolokers",
    "chameleon_filtered",
    "squirrel_filtered",
]

# Epochs, graphs of a batch, learning rate, width and heads.
ONE_GRAPH = {"epochs": 200, "batch_size": 1, "learning_rate": 1e-2, "width": 64, "heads": 1}
BY_DEFAULT: dict[str, dict[str, Any]] = {
    "csl": {"epochs": 40, "batch_size": 30, "learning_rate": 5e-3, "width": 64, "heads": 4},
    "tree": {"epochs": 15, "batch_size": 64, "learning_rate": 2e-3, "width": 32, "heads": 4},
    "pattern": {"epochs": 4, "batch_size": 20, "learning_rate": 2e-3, "width": 64, "heads": 8},
    "cluster": {"epochs": 4, "batch_size": 20, "learning_rate": 2e-3, "width": 64, "heads": 8},
    "minesweeper": ONE_GRAPH,
    "tolokers": ONE_GRAPH,
    "chameleon_filtered": ONE_GRAPH,
    "squirrel_filtered": ONE_GRAPH,
}

# Encodings of the nodes of a row.
Encoding = Callable[[GraphsTuple], np.ndarray]
ENCODINGS: dict[str, Encoding | None] = {
    "none": None,
    "random walk": partial(random_walk_encoding, steps=20),
    "Laplacian": partial(laplacian_encoding, features=20),
}
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
TREE_ROWS: tuple[str, ...] = (
    "tree",
    "tree, last block on all nodes",
    "all nodes, two blocks",
    "tree and expander",
    "tree and virtual node",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Train models that differ in encodings, biases and edges."""

    task: Task = "csl"
    """csl: circular skip links; tree: values of leaves asked for at the root; pattern, cluster: block models; the other
    ones are real graphs, whose files are read from GATJAX_DATA."""
    rows: tuple[str, ...] | None = None
    """Models, by their names in the table. None: all."""
    seeds: int = 1
    """Seeds 0, 1, ... of parameters and order; each with all five folds of csl, or all splits of a real graph."""
    splits: int = 10
    """Splits of a real graph, out of ten."""
    layers: int = 8
    """Layers, or blocks, on a real graph."""
    dropout: float = 0.2
    """Of the features between layers, on a real graph."""
    graphs: int = 1000
    """Training graphs of pattern and cluster."""
    test_graphs: int = 300
    """Test graphs of pattern and cluster."""
    depths: tuple[int, ...] = (4, 5)
    """Depths of the trees."""
    permutations: int = 500
    """Orders of the values over the leaves of a tree, each asked for every key; a fifth is for testing."""
    epochs: int | None = None
    """How often each graph comes. None: as the task wants it, as are the next three."""
    batch_size: int | None = None
    """Graphs per update."""
    learning_rate: float | None = None
    """Of Adam, at its highest."""
    width: int | None = None
    """Of every block."""
    heads: int | None = None
    """Of every block."""
    data_seed: int = 11
    """Seed of the graphs."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """(Rows are said as they are finished.)"""
    output: Path | None = None
    """Folder for result.json, a picture and the rows. None: runs/transformers-<task>."""


def resolve(config: Config) -> Config:
    """What is None filled in; impossible settings end here."""
    counts = (
        "seeds splits layers graphs test_graphs depths permutations epochs batch_size width heads"
    )
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"data_seed": 0},
        above_zero=("learning_rate",),
        rates=("dropout",),
    )
    known = BY_DEFAULT[config.task] | {"output": Path(f"runs/transformers-{config.task}")}
    known = {name: value for name, value in known.items() if getattr(config, name) is None}
    filled = dataclasses.replace(config, **known)
    if filled.width % filled.heads:
        raise SystemExit(f"--heads {filled.heads}: must divide --width {filled.width}")
    return filled


# Circular skip links


def csl_rows(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """Two layers, three encodings."""
    return {
        f"{layer}, {encoding}": partial(csl_row, config, layer, encoding)
        for layer in ("gat", "dot")
        for encoding in ENCODINGS
    }


def csl_row(config: Any, layer: str, encoding: str) -> dict[str, Any]:
    """Accuracy on each fold, with signs of the Laplacian's columns drawn anew in each batch."""
    graphs, labels = data.circular_skip_links(config.data_seed)
    encode = ENCODINGS[encoding]
    if encode is not None:
        graphs = [_beside(graph, encode(graph)) for graph in graphs]
    graphs = [add_self_loops(graph) for graph in graphs]
    shape = _width(graphs[0]), len(data.CSL_SKIPS), config.width, config.heads, 4
    source = Graphs(
        graphs, labels, config.batch_size, budgets_for(graphs, batch_size=config.batch_size)
    )
    augment = _flipped if encoding == "Laplacian" else None
    folds = data.csl_folds(config.data_seed)
    train = [np.setdiff1d(np.arange(len(graphs)), fold) for fold in folds]
    recipe = Recipe(config.epochs, config.learning_rate, augment)
    learner = Learner(
        lambda rngs: of_graphs(layer, *shape, rngs),
        source,
        recipe,
        config.epochs * source.count(train[0]),
    )
    runs = [
        learner.fit(rows, fold, seed)
        for seed in range(config.seeds)
        for rows, fold in zip(train, folds, strict=True)
    ]
    return {"layer": layer, "encoding": encoding, **_joined(runs)}


def _flipped(key: Any, graph: GraphsTuple) -> GraphsTuple:
    """The first column is no eigenvector."""
    nodes = jnp.asarray(graph.nodes)
    flipped = flip_signs(key, nodes[:, 1:], graph)
    return graph._replace(nodes=jnp.concatenate([nodes[:, :1], flipped], 1))


# Trees


def tree_rows(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """Each set of edges at each depth."""
    return {
        f"depth {depth}, {name}": partial(tree_row, config, depth, name)
        for depth in config.depths
        for name in TREE_ROWS
    }


def tree_row(config: Any, depth: int, name: str) -> dict[str, Any]:
    """Accuracy at the root."""
    lookups = data.tree_lookups(depth, config.permutations, config.data_seed)
    graph, kinds = tree_edges(depth, name)
    source = Trees(graph, lookups, config.batch_size)
    shape = int(graph.n_node[0]), 2**depth, config.width, config.heads
    order = np.random.default_rng(config.data_seed).permutation(len(lookups.answers))
    train, test = np.split(order, [4 * len(order) // 5])
    recipe = Recipe(config.epochs, config.learning_rate)
    updates = config.epochs * source.count(train)
    learner = Learner(lambda rngs: of_trees(kinds, *shape, rngs), source, recipe, updates)
    runs = [learner.fit(train, test, seed) for seed in range(config.seeds)]
    return {"depth": depth, "edges": name, "blocks": len(kinds), **_joined(runs)}


def tree_edges(depth: int, name: str) -> tuple[GraphsTuple, tuple[str, ...]]:
    """The graph of a row, and what its blocks attend to: one block for each step to the root, and one more."""
    tree = data.tree(depth)
    if name == "tree and expander":
        return edge_types(add_expander(tree, 4)), ("typed",) * 4
    if name == "tree and virtual node":
        bare = tree._replace(nodes=np.zeros((int(tree.n_node[0]), 0), np.float32))
        return edge_types(add_virtual_nodes(bare)[0]), ("typed",) * 3
    kinds = {
        "tree": ("edges",) * (depth + 1),
        "tree, last block on all nodes": ("edges",) * depth + ("all",),
        "all nodes, two blocks": ("all",) * 2,
    }
    return tree, kinds[name]


# Stochastic block models


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
        graphs = [_beside(graph, (own - mean) / scale) for graph, own in pairs]
    graphs = [SBM_EDGES[kind](graph) for graph in graphs]
    sizes = (budgets_for if kind == "edges" else slots_for)(graphs, batch_size=config.batch_size)
    source = Graphs(graphs, labels, config.batch_size, sizes)
    classes = 2 if config.task == "pattern" else 6
    shape = _width(graphs[0]), classes, config.width, config.heads
    recipe = Recipe(config.epochs, config.learning_rate)
    updates = config.epochs * source.count(train)
    kinds = (kind,) * BLOCKS
    learner = Learner(lambda rngs: of_nodes(kinds, *shape, rngs), source, recipe, updates)
    runs = [learner.fit(train, test, seed) for seed in range(config.seeds)]
    return {"attends": kind, "encoded": encoded, **_joined(runs)}


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


def _width(graph: Any) -> int:
    return graph.nodes.shape[1]


def _beside(graph: Any, *encodings: np.ndarray) -> GraphsTuple:
    return graph._replace(nodes=np.concatenate([graph.nodes, *encodings], 1))


def _joined(runs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [run[name] for run in runs] for name in runs[0]}


MADE: dict[str, Callable[[Any], dict[str, Callable[[], dict[str, Any]]]]] = {
    "csl": csl_rows,
    "tree": tree_rows,
    "pattern": sbm_rows,
    "cluster": sbm_rows,
}


def rows_of(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """The rows that are asked for."""
    rows = MADE.get(config.task, node_rows)(config)
    for name in config.rows or ():
        if name not in rows:
            raise SystemExit(f"--rows {name!r}: must be of {list(rows)}")
    return {name: make for name, make in rows.items() if config.rows is None or name in config.rows}


def table(result: dict[str, Any]) -> str:
    """Rows with both accuracies."""
    rows = [
        [
            name,
            *(mean_and_sd(row[part]) for part in ("train", "test")),
            f"{row['cpu_seconds']:.0f}",
        ]
        for name, row in result["rows"].items()
    ]
    return markdown_table(["", "train", "test", "seconds of a processor"], rows)


def plot(result: dict[str, Any]) -> Axes:
    """Score on test of each row, a dot a run."""
    with plt.rc_context(dict(plots.STYLE)):
        names = list(result["rows"])
        height = 0.6 + 0.22 * len(names)
        _, ax = plt.subplots(figsize=(plots.PAGE, height))
        for place, name in enumerate(reversed(names)):
            values = 100 * np.array(result["rows"][name]["test"])
            ax.plot(values, np.full(len(values), place), ls="", marker="o", color=plots.LINES[0])
        ax.set_yticks(np.arange(len(names)), names[::-1])
        ax.set(xlabel="score on test, %", xlim=(0, 103))
        return ax


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    settings = resolve(config)
    assert settings.output is not None
    path, makers = settings.output / "result.json", rows_of(settings)
    with claimed(settings.output):
        values = dataclasses.asdict(settings)
        result = find_result(path, values, overwrite=settings.overwrite)
        if result is None:
            rows = finish_rows(settings, makers, choosing=("rows",))
            result = {"config": values, "rows": rows, **describe_run()}
            save_result(path, result)
            try_to_plot(
                settings.output / "accuracy.png", lambda path: plots.save(plot(result), path)
            )
        else:
            say_found(path)
    print(f"\n{table(result)}\n\ndetails in {settings.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
