"""Batches of typed graphs: side by side, padded to a budget for each type and relation, with masks of what is real.

Shapes: N nodes of a type, E edges of a relation, G graphs of a batch. As `batching`, for every type and relation.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from gatjax.graph.ids import first_true
from gatjax.graph.messages import check_at_least, check_integer, listed
from gatjax.graph.typed import (
    Relation,
    Triple,
    TypedGraph,
    arrow,
    check_dense,
    row_of,
    validate_typed,
)
from gatjax.ops.blocks import round_up


class TypedMasks(NamedTuple):
    """True where a node of a type, an edge of a relation or a graph is real, False where it is padding."""

    node: dict[str, Bool[Array | np.ndarray, "_"]]
    edge: dict[Triple, Bool[Array | np.ndarray, "_"]]
    graph: Bool[Array | np.ndarray, "G"]


class TypedBudget(NamedTuple):
    """The shape of a padded batch, the spare node of each type and the spare graph included."""

    nodes: Mapping[str, int]
    edges: Mapping[Triple, int]
    graphs: int


def batch_typed(graphs: Sequence[TypedGraph]) -> TypedGraph:
    """Several typed graphs side by side as one.

    Args:
        graphs: graphs, or batches of graphs, of the same types and relations, whose features have the same structure,
            row shape and dtype.

    Returns:
        One batch of NumPy arrays; ids are int32 and count the nodes of a type through the whole batch.

    Raises:
        TypeError: sparse features.
        ValueError: no graph at all, types, relations or features that differ, or a graph that is not sound.

    >>> from gatjax.graph import build_typed_graph
    >>> one = build_typed_graph({"user": [[1.0]], "item": [[2.0], [3.0]]}, {("user", "buys", "item"): ([0], [1])})
    >>> both = batch_typed([one, one])
    >>> both.relations["user", "buys", "item"].receivers.tolist(), both.n_node["item"].tolist()
    ([1, 3], [2, 2])
    """
    graphs = [validate_typed(graph) for graph in graphs]
    if not graphs:
        raise ValueError("graphs is empty: a batch needs at least one graph")
    first = graphs[0]
    for place, graph in enumerate(graphs):
        check_dense(graph, "batch or pad")
        for field in ("nodes", "relations"):
            have, want = getattr(graph, field), getattr(first, field)
            if differing := have.keys() ^ want.keys():
                raise ValueError(
                    f"graphs[{place}] has other {field} than graphs[0], {listed(sorted(differing))}: give all graphs "
                    "the same, if need be without any rows"
                )
    nodes, n_node, starts = {}, {}, {}
    for name in first.types:
        nodes[name] = _joined(f"nodes[{name!r}]", [graph.nodes[name] for graph in graphs])
        n_node[name] = _counts(graph.n_node[name] for graph in graphs)
        sizes = [int(np.sum(graph.n_node[name])) for graph in graphs]
        starts[name] = np.cumsum([0, *sizes])
    relations, n_edge = {}, {}
    for triple in first.triples:
        parts = [graph.relations[triple] for graph in graphs]
        ends = (
            np.concatenate(
                [
                    np.asarray(part[end], np.int32) + start
                    for part, start in zip(parts, at, strict=False)
                ]
            )
            for end, at in ((0, starts[triple[0]]), (1, starts[triple[2]]))
        )
        senders, receivers = (ids.astype(np.int32) for ids in ends)
        edges = _joined(arrow(triple), [part.edges for part in parts])
        relations[triple] = Relation(senders, receivers, edges)
        n_edge[triple] = _counts(graph.n_edge[triple] for graph in graphs)
    return TypedGraph(nodes, relations, n_node, n_edge)


def unbatch_typed(graph: TypedGraph) -> list[TypedGraph]:
    """The graphs of a batch, one by one; the inverse of `batch_typed`.

    >>> from gatjax.graph import build_typed_graph
    >>> one = build_typed_graph({"user": [[1.0]], "item": [[2.0], [3.0]]}, {("user", "buys", "item"): ([0], [1])})
    >>> [part.relations["user", "buys", "item"].receivers.tolist() for part in unbatch_typed(batch_typed([one, one]))]
    [[1], [1]]
    """
    validate_typed(graph)
    total = len(next(iter(graph.n_node.values()), ()))
    return [_part(graph, place, place + 1) for place in range(total)]


def pad_typed(
    graphs: TypedGraph | Sequence[TypedGraph], budget: TypedBudget
) -> tuple[TypedGraph, TypedMasks]:
    """A batch filled up to the budget, and masks of its real part.

    The real graphs come first. After them one spare graph owns all padding, at least one node of each type; padding
    edges join the first spare nodes of their types. Any further spare graphs are empty. Padding features are zeros.

    Args:
        graphs: one graph, a batch, or a sequence of them.
        budget: nodes of each type, edges of each relation and graphs of the result.

    Raises:
        TypeError: sparse features.
        ValueError: a budget that lacks a type or relation, or graphs that do not fit, by the size that is too small.

    >>> from gatjax.graph import build_typed_graph
    >>> one = build_typed_graph({"user": [[1.0]], "item": [[2.0], [3.0]]}, {("user", "buys", "item"): ([0], [1])})
    >>> padded, masks = pad_typed(one, TypedBudget({"user": 2, "item": 4}, {("user", "buys", "item"): 2}, 2))
    >>> padded.relations["user", "buys", "item"].senders.tolist(), masks.node["item"].tolist()
    ([0, 1], [True, True, False, False])
    """
    together = batch_typed([graphs] if isinstance(graphs, TypedGraph) else graphs)
    spare = _spare(together, budget)
    used = len(next(iter(together.n_node.values()), ()))
    padded = batch_typed([together, spare])
    empty = np.zeros(budget.graphs - used - 1, np.int32)
    padded = padded._replace(
        n_node={name: np.concatenate([count, empty]) for name, count in padded.n_node.items()},
        n_edge={triple: np.concatenate([count, empty]) for triple, count in padded.n_edge.items()},
    )
    real = lambda size, count: np.arange(size) < int(np.sum(count))
    masks = TypedMasks(
        {name: real(budget.nodes[name], count) for name, count in together.n_node.items()},
        {triple: real(budget.edges[triple], count) for triple, count in together.n_edge.items()},
        np.arange(budget.graphs) < used,
    )
    return padded, masks


def unpad_typed(graph: TypedGraph, masks: TypedMasks) -> TypedGraph:
    """The real part of a padded batch; the inverse of `pad_typed`.

    Args:
        graph: a padded batch, or what a model made of one.
        masks: the masks that `pad_typed` returned with it.

    Raises:
        ValueError: masks of another batch, or masks that do not put what is real first.

    >>> from gatjax.graph import build_typed_graph
    >>> one = build_typed_graph({"user": [[1.0]]}, {})
    >>> unpad_typed(*pad_typed(one, TypedBudget({"user": 3}, {}, 2))).nodes["user"].tolist()
    [[1.0]]
    """
    validate_typed(graph)
    mask = np.asarray(masks.graph)
    if mask.shape != (len(next(iter(graph.n_node.values()), ())),) or np.any(mask[1:] > mask[:-1]):
        raise ValueError(
            f"masks.graph has shape {mask.shape}: pass the masks that pad_typed returned with it"
        )
    return _part(graph, 0, int(mask.sum()))


def typed_budget_for(
    graphs: Iterable[TypedGraph], *, batch_size: int, round_to: int = 64
) -> TypedBudget:
    """The budget that any `batch_size` of these graphs fit; see `budget_for`.

    Args:
        graphs: the data set, all of the same types and relations.
        batch_size: how many of them go into one batch.
        round_to: nodes of each type and edges of each relation are rounded up to a multiple of this.

    Raises:
        ValueError: no graphs, or a `batch_size` or `round_to` under 1.

    >>> from gatjax.graph import build_typed_graph
    >>> graphs = [build_typed_graph({"user": None}, {}, num_nodes={"user": size}) for size in (2, 7, 5)]
    >>> typed_budget_for(graphs, batch_size=2, round_to=1)
    TypedBudget(nodes={'user': 13}, edges={}, graphs=3)
    """
    check_at_least(1, batch_size=batch_size, round_to=round_to)
    graphs = list(graphs)
    if not graphs:
        raise ValueError("graphs is empty: a budget needs at least one graph")
    most = lambda counts: int(np.sort([int(np.sum(count)) for count in counts])[-batch_size:].sum())
    return TypedBudget(
        {
            name: round_up(most(graph.n_node[name] for graph in graphs) + 1, round_to)
            for name in graphs[0].types
        },
        {
            triple: round_up(most(graph.n_edge[triple] for graph in graphs), round_to)
            for triple in graphs[0].triples
        },
        most([len(next(iter(graph.n_node.values()), ()))] for graph in graphs) + 1,
    )


def _spare(graph: TypedGraph, budget: TypedBudget) -> TypedGraph:
    """The graph that fills the budget up."""
    left, missing = {}, []
    graphs = len(next(iter(graph.n_node.values()), ()))
    for field, counts, extra in (("nodes", graph.n_node, 1), ("edges", graph.n_edge, 0)):
        limits = getattr(budget, field)
        for name, count in counts.items():
            if name not in limits:
                raise ValueError(f"budget.{field} has no {name!r}: give one for {listed(counts)}")
            check_integer(**{f"budget.{field}[{name!r}]": limits[name]})
            used = int(np.sum(count))
            left[name] = limits[name] - used
            if left[name] < extra:
                missing.append(f"{used + extra} {field} of {name!r}, the budget is {limits[name]}")
    if graphs + 1 > budget.graphs:
        missing.append(f"{graphs + 1} graphs, the budget is {budget.graphs}")
    if missing:
        raise ValueError(
            f"with the spare ones the graphs need {'; '.join(missing)}: raise the budget, see typed_budget_for, or "
            "take fewer graphs"
        )
    zeros = lambda count: lambda leaf: np.zeros((count, *leaf.shape[1:]), leaf.dtype)
    ids = lambda triple: np.zeros(left[triple], np.int32)
    return TypedGraph(
        {name: jax.tree.map(zeros(left[name]), rows) for name, rows in graph.nodes.items()},
        {
            triple: Relation(ids(triple), ids(triple), jax.tree.map(zeros(left[triple]), one.edges))
            for triple, one in graph.relations.items()
        },
        {name: np.array([left[name]], np.int32) for name in graph.nodes},
        {triple: np.array([left[triple]], np.int32) for triple in graph.relations},
    )


def _part(graph: TypedGraph, first: int, stop: int) -> TypedGraph:
    """Some consecutive graphs of a batch."""
    rows = lambda table, kept: jax.tree.map(lambda leaf: np.asarray(leaf)[kept], table)
    check_dense(graph, "take apart")
    nodes, relations, starts = {}, {}, {}
    for name in graph.types:
        bounds = np.cumsum([0, *np.asarray(graph.n_node[name])])
        starts[name] = np.int32(bounds[first])
        nodes[name] = rows(graph.nodes[name], slice(bounds[first], bounds[stop]))
    for triple in graph.triples:
        bounds = np.cumsum([0, *np.asarray(graph.n_edge[triple])])
        kept, one = slice(bounds[first], bounds[stop]), graph.relations[triple]
        senders = np.asarray(one.senders)[kept] - starts[triple[0]]
        receivers = np.asarray(one.receivers)[kept] - starts[triple[2]]
        relations[triple] = Relation(senders, receivers, rows(one.edges, kept))
    counts: Any = lambda table: {name: np.asarray(c)[first:stop] for name, c in table.items()}
    return TypedGraph(nodes, relations, counts(graph.n_node), counts(graph.n_edge))


def _joined(what: str, tables: list[PyTree]) -> PyTree:
    """Rows of all graphs on top of each other."""
    kinds = [row_of(table) for table in tables]
    if (bad := first_true(np.array([kind != kinds[0] for kind in kinds]))) is not None:
        raise ValueError(
            f"{what} of graphs[{bad}] has rows {kinds[bad]}, of graphs[0] {kinds[0]}: give all graphs the same features"
        )
    return jax.tree.map(lambda *rows: np.concatenate([np.asarray(row) for row in rows]), *tables)


def _counts(counts: Any) -> np.ndarray:
    return np.concatenate([np.asarray(count, np.int32) for count in counts])
