"""The rows of `transformers.py` on skip links and on trees: only an encoding, or a way around, answers these."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import transformer_data as data
from jraph import GraphsTuple
from transformer_data import beside, width_of
from transformer_models import of_graphs, of_trees
from transformer_training import Graphs, Learner, Recipe, Trees, joined

from gatjax import (
    add_expander,
    add_self_loops,
    add_virtual_nodes,
    edge_types,
    flip_signs,
    laplacian_encoding,
    random_walk_encoding,
)
from gatjax.data import budgets_for

# Encodings of the nodes of a row.
Encoding = Callable[[GraphsTuple], np.ndarray]
ENCODINGS: dict[str, Encoding | None] = {
    "none": None,
    "random walk": partial(random_walk_encoding, steps=20),
    "Laplacian": partial(laplacian_encoding, features=20),
}
TREE_ROWS: tuple[str, ...] = (
    "tree",
    "tree, last block on all nodes",
    "all nodes, two blocks",
    "tree and expander",
    "tree and virtual node",
)


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
        graphs = [beside(graph, encode(graph)) for graph in graphs]
    graphs = [add_self_loops(graph) for graph in graphs]
    shape = width_of(graphs[0]), len(data.CSL_SKIPS), config.width, config.heads, 4
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
    return {"layer": layer, "encoding": encoding, **joined(runs)}


def _flipped(key: Any, graph: GraphsTuple) -> GraphsTuple:
    """The first column is no eigenvector."""
    nodes = jnp.asarray(graph.nodes)
    flipped = flip_signs(key, nodes[:, 1:], graph)
    return graph._replace(nodes=jnp.concatenate([nodes[:, :1], flipped], 1))


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
    return {"depth": depth, "edges": name, "blocks": len(kinds), **joined(runs)}


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
