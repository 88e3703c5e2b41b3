"""Graphs without nodes, without edges, and tables without rows: who knows how wide they are."""

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import rejects

from gatjax.graph import (
    Budget,
    add_self_loops,
    batch,
    build_graph,
    coalesce,
    pad,
    relabel,
    remove_self_loops,
    sort_edges,
    split_weights,
    subgraph,
    to_scipy,
    to_undirected,
    unbatch,
    unpad,
)
from gatjax.layers import AttentionEdgeStep, GATv2Conv, GraphNetwork

WIDTH = 3
NO_EDGES = {
    "empty list": [],
    "width": np.zeros((0, WIDTH), np.float32),
    "tree": {"a": np.zeros((0, WIDTH), np.float32)},
    "none": None,
}
EDITS = {
    "add_self_loops": lambda graph: add_self_loops(graph._replace(edges=None)),
    "remove_self_loops": remove_self_loops,
    "to_undirected": to_undirected,
    "to_undirected max": lambda graph: to_undirected(graph, reduce="max"),
    "coalesce": coalesce,
    "sort_edges": sort_edges,
    "relabel": lambda graph: relabel(graph, np.arange(len(graph.nodes))),
    "subgraph": lambda graph: subgraph(graph, np.ones(len(graph.nodes), bool))[0],
    "batch": lambda graph: batch([graph]),
    "unbatch": lambda graph: unbatch(batch([graph, graph]))[1],
    "unpad": lambda graph: unpad(*pad(graph, Budget(5, 0, 2))),
}


@pytest.mark.parametrize("kind", NO_EDGES)
def test_a_table_without_rows_keeps_its_width(kind):
    """Through every function on graphs, with no node, one or three."""
    for total in (0, 1, 3):
        graph = build_graph([], [], np.zeros((total, 2)), edges=NO_EDGES[kind])
        expected = {"empty list": (0, 0), "width": (0, WIDTH), "tree": (0, WIDTH), "none": None}
        for name, edit in EDITS.items():
            out = edit(graph)
            shapes = {leaf.shape for leaf in jax.tree.leaves(out.edges)} or {None}
            wanted = None if name == "add_self_loops" else expected[kind]
            assert (shapes, out.nodes.shape) == ({wanted}, (total, 2)), (name, total)


def test_what_has_rows_or_is_told_says_how_wide_an_empty_list_is(unchecked):
    bare = build_graph([], [], np.zeros((2, 1)), edges=[])
    bonded = build_graph([0], [1], np.zeros((2, 1)), edges=np.ones((1, WIDTH)))
    assert batch([bare, bonded]).edges.shape == (1, WIDTH)
    assert unbatch(batch([bare, bonded]))[0].edges.shape == (0, WIDTH)
    assert add_self_loops(bare, fill=[1.0, 2.0]).edges.tolist() == [[1, 2]] * 2
    with rejects(ValueError, "edges is empty and does not say how wide a row is: build the graph"):
        add_self_loops(bare)
    told = build_graph([], [], np.zeros((2, 1)), edges=np.zeros((0, WIDTH)))
    assert add_self_loops(told).edges.shape == (2, WIDTH)
    graph, weights = split_weights(bare)
    assert (graph.edges, weights.shape, to_scipy(bare).nnz) == (None, (0,), 0)


@pytest.mark.parametrize("edges", [[], None])
def test_a_layer_knows_the_width_of_the_edges_that_are_not_there(edges):
    for width in (None, WIDTH):
        layer = GATv2Conv(2, 4, edge_features=width, rngs=nnx.Rngs(0))
        graph = build_graph([], [], np.ones((3, 2), np.float32), edges=edges)
        assert layer(graph).nodes.shape == (3, 4) and layer.attention(graph).shape == (0, 1)
        assert layer(graph).edges is graph.edges
        step = AttentionEdgeStep(2, 4, edge_features=width, rngs=nnx.Rngs(0))
        assert GraphNetwork(step)(graph).edges.shape == (0, 1, 4)
