"""Neighbours drawn at random from a graph of several kinds of nodes, so many by each relation.

Shapes: B seeds; M rows of a type and K edges of a relation in a sample; n nodes that are drawn for.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, PyTree

from gatjax.graph.messages import check_at_least, listed, shown
from gatjax.graph.neighbors import Ids, Mask, Neighbors, check_nodes, compressed
from gatjax.graph.sample import drawn_for, library_of, take
from gatjax.graph.typed import (
    Relation,
    Triple,
    TypedGraph,
    arrow,
    count_nodes,
    naming,
    validate_typed,
)

Fanout = int | Mapping[Triple, int]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "node_mask", "edges", "edge_mask", "ends"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class TypedHops:
    """A tree of neighbours around each seed; see `sample_typed_hops`.

    Attributes:
        nodes: of each type the node of the graph that each row is, [M]; the first B of the seeds' type are the seeds.
        node_mask: whether the row is one, likewise.
        edges: of each relation the number in the graph of each edge, [K].
        edge_mask: whether there is such an edge, likewise.
        ends: of each relation the rows that its edges join, senders and receivers.
    """

    # JAX rebuilds these from leaves that are no arrays, too.
    nodes: Any
    node_mask: Any
    edges: Any
    edge_mask: Any
    ends: Any

    def graph(
        self, nodes: Mapping[str, PyTree], edges: Mapping[Triple, PyTree] | None = None
    ) -> TypedGraph:
        """The sample as one graph: pass `node_mask` and `edge_mask` to the model beside it.

        Args:
            nodes: of each type a row for each of its nodes, a tree of arrays.
            edges: of each relation that has features a row for each of its edges.
        """
        features, count = edges or {}, lambda rows: np.array([len(rows)], np.int32)
        of = lambda table, ids: jax.tree.map(lambda leaf: take(leaf, ids), table)
        relations = {
            triple: Relation(senders, receivers, of(features.get(triple), self.edges[triple]))
            for triple, (senders, receivers) in self.ends.items()
        }
        return TypedGraph(
            nodes={kind: of(nodes[kind], ids) for kind, ids in self.nodes.items()},
            relations=relations,
            n_node={kind: count(ids) for kind, ids in self.nodes.items()},
            n_edge={triple: count(ids) for triple, ids in self.edges.items()},
        )


def typed_neighbors_of(
    graph: TypedGraph, edge_weight: Mapping[Triple, Any] | None = None
) -> dict[Triple, Neighbors]:
    """`neighbors_of` for each relation: what neighbours of each kind are drawn from.

    Args:
        graph: one graph.
        edge_weight: of some relations the weights of their edges.

    Raises:
        TypeError, ValueError: a graph that is not sound, a batch of several, weights of no relation, and what
            `neighbors_of` refuses.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph({"a": np.ones((2, 1)), "b": np.ones((3, 1))}, {("a", "to", "b"): ([0, 1], [2, 0])})
    >>> typed_neighbors_of(graph)["a", "to", "b"].senders.tolist()
    [1, 0]
    """
    validate_typed(graph)
    graphs = next((len(counts) for counts in graph.n_node.values()), 0)
    if graphs != 1:
        raise ValueError(
            f"graph is a batch of {graphs}: give one at a time, see gatjax.unbatch_typed"
        )
    for triple in edge_weight or {}:
        if triple not in graph.relations:
            known = listed(map(arrow, graph.triples))
            raise ValueError(f"edge_weight has {shown(triple)}: the graph has {known}")
    found = {}
    for triple in graph.triples:
        senders, receivers = (np.asarray(ids) for ids in graph.relations[triple][:2])
        with naming(arrow(triple)):
            found[triple] = compressed(
                senders.astype(np.int32),
                receivers.astype(np.int32),
                count_nodes(graph, triple[2]),
                (edge_weight or {}).get(triple),
                has_loops=triple[0] == triple[2] and bool((senders == receivers).any()),
            )
    return found


def sample_typed_hops(
    key: Key[Array, ""],
    neighbors: Mapping[Triple, Neighbors],
    kind: str,
    seeds: Ids,
    fanouts: Sequence[Fanout],
    *,
    mask: Mask | None = None,
) -> TypedHops:
    """`sample_hops` in a graph of several kinds: neighbours by each relation into each node, and so on.

    All rows are computed in every layer: there are no views of such a sample. With fan-outs as large as any degree the
    model's output at the seeds is that of the whole graph. Self-loops are drawn like any other edge.

    Args:
        key: a JAX random key.
        neighbors: of `typed_neighbors_of`; its arrays decide whether NumPy or JAX draws, to the same bits.
        kind: the type of the seeds.
        seeds: ids among the nodes of that type, [B].
        fanouts: how many neighbours at most, by hop: a number for every relation, or of some relations one each; the
            others are not followed in that hop.
        mask: which seeds are nodes, [B]; all by default.

    Returns:
        A sample; `model(hops.graph(features), node_mask=hops.node_mask, edge_mask=hops.edge_mask)` gives what the model
        makes of the seeds, in its first B rows of that type.

    Raises:
        TypeError: ids that are not integers.
        ValueError: no seed, ids out of range, a type that no relation has, no fan-out, one under 1 or of no relation.

    >>> from gatjax.graph import build_typed_graph
    >>> writes, cites = ("author", "writes", "paper"), ("paper", "cites", "paper")
    >>> graph = build_typed_graph(
    ...     {"author": np.ones((2, 3)), "paper": np.ones((3, 4))},
    ...     {writes: ([0, 1, 1], [0, 0, 2]), cites: ([1, 2], [0, 0])},
    ... )
    >>> table = typed_neighbors_of(graph)
    >>> hops = sample_typed_hops(jax.random.key(0), table, "paper", np.array([0]), [{cites: 2}, {writes: 1}])
    >>> hops.nodes["paper"].tolist(), hops.nodes["author"].tolist(), hops.node_mask["author"].tolist()
    ([0, 1, 2], [0, 1], [False, True])
    """
    wanted = _fanouts(fanouts, neighbors)
    into = {triple: table for triple, table in sorted(neighbors.items()) if triple[2] == kind}
    types = sorted({end for triple in neighbors for end in (triple[0], triple[2])})
    if not into:
        raise ValueError(
            f"kind = {shown(kind)} is entered by no relation: there are {listed(types)}"
        )
    check_nodes(next(iter(into.values())), mask, seeds=seeds)
    check_at_least(1, batch_size=len(seeds))
    xp = library_of(seeds, *jax.tree.leaves(dict(neighbors)))
    there = xp.ones(len(seeds), bool) if mask is None else mask
    rows = {name: [] for name in types}
    rows[kind] = [_Rows(xp.asarray(seeds), there, 0)]
    edges: dict[Triple, list[_Edges]] = {triple: [] for triple in sorted(neighbors)}
    drawn = 0
    frontier = {kind: list(rows[kind])}
    for hop in wanted:
        found: dict[str, list[_Rows]] = {name: [] for name in types}
        for triple, fanout in hop.items():
            sender, _, receiver = triple
            for at in frontier.get(receiver, []):
                sampled = drawn_for(key, neighbors[triple], at.ids, fanout, at.mask, drawn)
                drawn += len(at.ids) * fanout
                new = _Rows(
                    sampled.senders.reshape(-1), sampled.mask.reshape(-1), _count(rows[sender])
                )
                joined = np.repeat(at.places, fanout)
                edges[triple].append(
                    _Edges(sampled.edges.reshape(-1), new.mask, new.places, joined)
                )
                rows[sender].append(new)
                found[sender].append(new)
        frontier = found
    return _joined(xp, rows, edges)


class _Rows(NamedTuple):
    """Rows that were added together.

    Attributes:
        ids, mask: which nodes they are.
        first: the place of the first among the rows of their type.
    """

    ids: Any
    mask: Any
    first: int

    @property
    def places(self) -> np.ndarray:
        return np.arange(self.first, self.first + len(self.ids), dtype=np.int32)


class _Edges(NamedTuple):
    """Edges that were added together: their numbers, which there are, and the rows that they join."""

    numbers: Any
    mask: Any
    senders: np.ndarray
    receivers: np.ndarray


def _count(rows: list[_Rows]) -> int:
    return sum(len(part.ids) for part in rows)


def _joined(xp: Any, rows: dict[str, list[_Rows]], edges: dict[Triple, list[_Edges]]) -> TypedHops:
    """All that was added."""
    whole = lambda parts, dtype: xp.concatenate([xp.zeros(0, dtype), *parts])
    column = lambda table, field, dtype: {
        name: whole([getattr(part, field) for part in parts], dtype)
        for name, parts in table.items()
    }
    host = lambda parts: np.concatenate([np.zeros(0, np.int32), *parts])
    ends = {
        triple: (host([part.senders for part in parts]), host([part.receivers for part in parts]))
        for triple, parts in edges.items()
    }
    return TypedHops(
        nodes=column(rows, "ids", np.int32),
        node_mask=column(rows, "mask", bool),
        edges=column(edges, "numbers", np.int32),
        edge_mask=column(edges, "mask", bool),
        ends=ends,
    )


def _fanouts(
    fanouts: Sequence[Fanout], neighbors: Mapping[Triple, Neighbors]
) -> list[dict[Triple, int]]:
    """By hop, of each relation that is followed its fan-out."""
    if not isinstance(fanouts, Sequence) or not fanouts:
        raise ValueError(f"fanouts must be one per hop, such as [5, 5], got {shown(fanouts)}")
    wanted = []
    for hop, fanout in enumerate(fanouts):
        each = fanout if isinstance(fanout, Mapping) else dict.fromkeys(neighbors, fanout)
        for triple, number in each.items():
            if triple not in neighbors:
                known = listed(map(arrow, sorted(neighbors)))
                raise ValueError(f"fanouts[{hop}] has {shown(triple)}: there are {known}")
            check_at_least(1, **{f"fanouts[{hop}] of {arrow(triple)}": number})
        wanted.append(dict(sorted(each.items())))
    return wanted
