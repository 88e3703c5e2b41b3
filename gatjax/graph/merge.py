"""All types of a typed graph as one, so that one walk along the edges serves all relations.

Shapes: N nodes, E edges, D edge features; all types and relations together.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree
from jraph import GraphsTuple

from gatjax.graph.ids import INT32_MAX
from gatjax.graph.sizes import is_sparse, leaves
from gatjax.graph.typed import TypedGraph, arrow, count_nodes, require_typed, row_of


class Merged(NamedTuple):
    """All types of a `TypedGraph` as one, which a layer walks once.

    Attributes:
        graph: one `GraphsTuple`, whose `nodes` are those of all types, one type after the other, and whose `edges` are
            relation ids [E], or `{"relation": [E], "features": [E, D]}`, as `RelationalGATConv` reads them.
        node_types: the type of each node, [N], an index of `TypedGraph.types`.
        relations: the relation of each edge, [E], an index of `TypedGraph.triples`.
        offsets: of each type its first row; node i of the type is row `offsets[type] + i`.
    """

    graph: GraphsTuple
    node_types: Int[Array, "N"]
    relations: Int[Array, "E"]
    offsets: dict[str, int]


def merge_types(graph: TypedGraph) -> Merged:
    """All types as one graph, for a layer that walks the edges of all relations once; works inside `jax.jit`, too.

    Nodes stand type after type, edges relation after relation, which is the fastest order for layers that know
    relations, and the graphs of a batch count as one.

    Args:
        graph: rows of one shape and dtype for all types. Where they differ, project them first:
            `merge_types(graph._replace(nodes=projected))`.

    Returns:
        The graph, types of its nodes and relations of its edges, and the first row of each type.

    Raises:
        ValueError: rows, or edge features, of several shapes; no type at all; over int32 in all.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": [[0.5], [1.5]], "paper": [[2.5]]},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 0]), ("paper", "by", "author"): ([0], [1])},
    ... )
    >>> merged = merge_types(graph)
    >>> merged.graph.nodes.tolist(), merged.node_types.tolist(), merged.offsets
    ([[0.5], [1.5], [2.5]], [0, 0, 1], {'author': 0, 'paper': 2})
    >>> merged.graph.senders.tolist(), merged.graph.receivers.tolist(), merged.graph.edges.tolist()
    ([0, 1, 2], [2, 2, 1], [0, 0, 1])
    """
    require_typed(graph)
    if not graph.nodes:
        raise ValueError("nodes is empty: a graph needs at least one type")
    counts = [count_nodes(graph, name) for name in graph.types]
    starts = np.cumsum([0, *counts])
    if starts[-1] > INT32_MAX:
        raise ValueError(f"nodes: {starts[-1]} in all, over int32: split the graph")
    offsets = dict(zip(graph.types, starts.tolist(), strict=False))
    parts = [(triple, graph.relations[triple]) for triple in graph.triples]
    sizes = [leaves(part.senders)[0].shape[0] for _, part in parts]
    node_types, relations = _kinds(counts), _kinds(sizes)
    ends = [
        _joined(
            [jnp.asarray(part[end], jnp.int32) + offsets[triple[2 * end]] for triple, part in parts]
        )
        for end in (0, 1)
    ]
    nodes = _stacked("nodes", {name: graph.nodes[name] for name in graph.types})
    features = _stacked("edges", {arrow(triple): part.edges for triple, part in parts})
    one = GraphsTuple(
        nodes=nodes,
        edges=relations if features is None else {"relation": relations, "features": features},
        senders=ends[0],
        receivers=ends[1],
        globals=None,
        n_node=jnp.array([starts[-1]], jnp.int32),
        n_edge=jnp.array([sum(sizes)], jnp.int32),
    )
    return Merged(one, node_types, relations, offsets)


def _kinds(sizes: list[int]) -> Int[Array, "rows"]:
    return jnp.asarray(np.repeat(np.arange(len(sizes), dtype=np.int32), np.array(sizes, int)))


def _joined(ids: list[Array]) -> Array:
    return jnp.concatenate(ids) if ids else jnp.zeros(0, jnp.int32)


def _stacked(field: str, tables: dict[str, PyTree]) -> PyTree:
    """Rows of all types, or of all relations, on top of each other; None where none has any."""
    kinds = {name: row_of(table) for name, table in tables.items()}
    for name, kind in kinds.items():
        first, model = next(iter(kinds.items()))
        if kind != model:
            raise ValueError(
                f"{field} of {name} have rows {kind}, of {first} {model}: project them to one width "
                "first, or give all of them features or none"
            )
    if len(tables) == 1:
        return next(iter(tables.values()))
    if any(is_sparse(leaf) for table in tables.values() for leaf in leaves(table)):
        raise TypeError(f"{field} are sparse (BCOO): project them to dense rows first")
    return jax.tree.map(lambda *rows: jnp.concatenate(rows), *tables.values()) if tables else None
