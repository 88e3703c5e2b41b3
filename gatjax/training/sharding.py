"""A graph in D parts, each with its edges and the list of what it sends to the others.

Shapes: N nodes and E edges of the graph; D shards of n nodes and e edges, as many as the largest has and in the others
padding.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.experimental import multihost_utils
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Int, PyTree, Shaped
from jraph import GraphsTuple
from scipy.sparse import csr_array

from gatjax.graph.check import check_lengths
from gatjax.graph.halo import Exchange, Halo
from gatjax.graph.ids import first_true, require_dense
from gatjax.graph.links import ends_of_one
from gatjax.graph.messages import check_at_least
from gatjax.ops.dropout import RowNumbers

# Integers [D, _]; shapes of them too, where a program is compiled before there is any data.
Ids = Any
How = Literal["metis", "contiguous"]


def partition(graph: GraphsTuple, num_shards: int, how: How = "metis") -> Int[np.ndarray, "N"]:
    """The shard of each node, so that shards have about as many nodes and edges.

    A node weighs 1 and as much as it has incoming edges, which lie on its shard. "metis" cuts few edges: what a shard
    sends is the rows of those of its nodes that others have an edge from. "contiguous" cuts the nodes in the order in
    which they are, which costs nothing and is good where neighbours have ids close by.

    Args:
      graph: one graph; METIS takes its edges in both directions.
      num_shards: D.
      how: "metis", by the package pymetis, or "contiguous".

    Returns:
      Numbers from 0 to D - 1.

    Raises:
      ImportError: pymetis is not there.
      ValueError: an unknown `how`, no shard, or more of them than nodes.

    >>> from gatjax.graph import build_graph
    >>> partition(build_graph([0, 1, 2, 3], [1, 0, 3, 2], num_nodes=4), 2, "contiguous").tolist()
    [0, 0, 1, 1]

    Karypis, Kumar, A fast and high quality multilevel scheme for partitioning irregular graphs, SIAM Journal on
    Scientific Computing 20, 1998.
    """
    if how not in get_args(How):
        raise ValueError(f"how must be one of {list(get_args(How))}, got {how!r}")
    check_at_least(1, num_shards=num_shards)
    senders, receivers, nodes = ends_of_one(graph)
    if num_shards > nodes:
        raise ValueError(
            f"num_shards={num_shards} are more than the {nodes} nodes of the graph: take fewer"
        )
    weights = 1 + np.bincount(receivers, minlength=nodes)
    if num_shards == 1:
        return np.zeros(nodes, np.int32)
    if how == "contiguous":
        before = np.cumsum(weights) - weights
        return (before * num_shards // weights.sum()).astype(np.int32)
    return _metis(senders, receivers, weights, num_shards)


def _metis(
    senders: np.ndarray, receivers: np.ndarray, weights: np.ndarray, num_shards: int
) -> Int[np.ndarray, "N"]:
    try:
        pymetis: Any = importlib.import_module("pymetis")
    except ImportError as error:
        raise ImportError(
            'how="metis" needs pymetis: pip install "gatjax[large]", or, where there is none, as on Windows, take '
            'how="contiguous"'
        ) from error
    other = senders != receivers
    ones = np.ones(int(other.sum()), np.int8)
    size = (len(weights), len(weights))
    directed = csr_array((ones, (receivers[other], senders[other])), shape=size, dtype=bool)
    both: Any = csr_array(directed + directed.T)
    adjacency = pymetis.CSRAdjacency(both.indptr, both.indices)
    _, parts = pymetis.part_graph(num_shards, adjacency=adjacency, vweights=weights.tolist())
    return np.asarray(parts, np.int32)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "nodes",
        "edges",
        "globals",
        "senders",
        "receivers",
        "node_ids",
        "edge_ids",
        "send",
        "tables",
    ],
    meta_fields=["num_nodes", "num_edges"],
)
@dataclasses.dataclass(frozen=True)
class Shards:
    """D shards of one graph, stacked along the first axis of every array; see `shard_graph`.

    Attributes:
      nodes: features of nodes, a tree of arrays [D, n, ...] or None; zeros in padding.
      edges: those of edges, [D, e, ...].
      globals: of the graph, the same on all shards, [D, 1, ...].
      senders: row of the sender of each edge, [D, e]: a node of the shard, or one that it is sent; -1 in padding.
      receivers: row of the receiver, a node of the shard, likewise.
      node_ids: the number in the graph of each node, [D, n]; -1 in padding.
      edge_ids: that of each edge, [D, e], likewise.
      send: what `Halo.send` is on each shard, D - 1 arrays [D, ...].
      tables: more rows by node, such as labels, a dict of arrays [D, n, ...].
      num_nodes: N.
      num_edges: E.
    """

    nodes: PyTree
    edges: PyTree
    globals: PyTree
    senders: Ids
    receivers: Ids
    node_ids: Ids
    edge_ids: Ids
    send: tuple[Ids, ...]
    tables: dict[str, Any]
    num_nodes: int
    num_edges: int

    @property
    def num_shards(self) -> int:
        """D."""
        return self.node_ids.shape[0]


class Shard(NamedTuple):
    """What a device sees of a graph: a model is called as `model(shard.graph, view=shard.view)`.

    Attributes:
      graph: the shard's own nodes and the edges that end there.
      view: the `Halo` through which it receives.
      node_mask: which rows are nodes, [n]; the others are padding.
      tables: more rows by node.
    """

    graph: GraphsTuple
    view: Halo
    node_mask: Bool[Array, "n"]
    tables: dict[str, Any]


def own_shard(shards: Shards, axis: str, exchange: Exchange) -> Shard:
    """The shard of this device, inside `jax.shard_map` over the axis: each array is [1, ...] there."""
    first = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], tree)
    node_ids, edge_ids = first((shards.node_ids, shards.edge_ids))
    one: Any = [np.array([len(ids)], np.int32) for ids in (node_ids, edge_ids)]
    nodes, edges, globals = first((shards.nodes, shards.edges, shards.globals))
    senders, receivers = first((shards.senders, shards.receivers))
    graph = GraphsTuple(nodes, edges, receivers, senders, globals, *one)
    numbers = RowNumbers(node_ids, shards.num_nodes), RowNumbers(edge_ids, shards.num_edges)
    view = Halo(first(shards.send), axis, exchange, *numbers)
    return Shard(graph, view, node_ids >= 0, first(shards.tables))


def shard_graph(
    graph: GraphsTuple,
    part: npt.ArrayLike,
    *,
    num_shards: int | None = None,
    tables: Mapping[str, npt.ArrayLike] | None = None,
) -> Shards:
    """A graph in shards: every edge lies with its receiver, and knows where its sender's row will come to stand.

    On the host, once, in memory and time linear in the edges.

    Args:
      graph: one graph with dense features.
      part: the shard of each node, such as `partition` gives; a shard may be empty.
      num_shards: D; one more than the largest of `part` by default.
      tables: rows [N, ...] that go with the nodes, by name: labels, masks.

    Returns:
      `Shards`, for `on_shards` or `save_shards`.

    Raises:
      TypeError: sparse features, or a `part` that holds no integers.
      ValueError: a graph that is not sound; a number of `part` out of range, or a table of another length.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2], [1, 2, 0], np.eye(3))
    >>> shards = shard_graph(graph, [0, 0, 1])
    >>> shards.node_ids.tolist(), shards.senders.tolist(), shards.receivers.tolist()
    ([[0, 1], [2, -1]], [[2, 0], [2, -1]], [[0, 1], [0, -1]])
    """
    senders, receivers, num_nodes = ends_of_one(graph)
    require_dense(graph, "shard")
    part, num_shards = _checked(part, num_nodes, num_shards)
    tables = {name: np.asarray(table) for name, table in (tables or {}).items()}
    check_lengths(num_nodes, **tables)
    node_ids, places = _grouped(part, num_shards)
    by_receiver = np.argsort((part * np.int64(num_nodes) + places)[receivers], kind="stable")
    edge_ids = _grouped(part[receivers], num_shards, by_receiver)[0]
    rows, send = _halo(part, places, senders, receivers, node_ids.shape)
    of_edges = lambda ids: np.where(edge_ids >= 0, _spread(ids, edge_ids), -1).astype(np.int32)
    return Shards(
        nodes=_spread(graph.nodes, node_ids),
        edges=_spread(graph.edges, edge_ids),
        globals=jax.tree.map(lambda leaf: np.stack([leaf] * num_shards), graph.globals),
        senders=of_edges(rows),
        receivers=of_edges(places[receivers]),
        node_ids=node_ids,
        edge_ids=edge_ids,
        send=send,
        tables=_spread(tables, node_ids),
        num_nodes=num_nodes,
        num_edges=len(senders),
    )


def shard_rows(values: npt.ArrayLike, shards: Shards) -> Shaped[np.ndarray, "D n *rest"]:
    """Rows [N, ...] of the graph's nodes by shard, [D, n, ...]; zeros in padding.

    >>> from gatjax.graph import build_graph
    >>> shards = shard_graph(build_graph([0], [1], num_nodes=3), [1, 0, 1])
    >>> rows = shard_rows([1.0, 2.0, 3.0], shards)
    >>> rows.tolist(), unshard_rows(rows, shards).tolist()
    ([[2.0, 0.0], [1.0, 3.0]], [1.0, 2.0, 3.0])
    """
    values = np.asarray(values)
    check_lengths(shards.num_nodes, values=values)
    return _spread(values, on_host(shards.node_ids))


def unshard_rows(
    values: Shaped[ArrayLike, "D n *rest"], shards: Shards
) -> Shaped[np.ndarray, "N *rest"]:
    """The inverse of `shard_rows`; where several processes run, all must call it, and each gets all rows."""
    ids, values = on_host(shards.node_ids), on_host(values)
    if values.shape[:2] != ids.shape:
        raise ValueError(
            f"values must be {list(ids.shape)} and more axes, rows of each shard, got {list(values.shape)}"
        )
    out = np.zeros((shards.num_nodes, *values.shape[2:]), values.dtype)
    out[ids[ids >= 0]] = values[ids >= 0]
    return out


def on_host(values: Any) -> np.ndarray:
    """An array as one of NumPy, from all processes where each holds a part."""
    if isinstance(values, jax.Array) and not values.is_fully_addressable:
        values = multihost_utils.process_allgather(values, tiled=True)
    return np.asarray(values)


@dataclasses.dataclass(frozen=True)
class HaloReport:
    """What a partition costs; see `halo_report`.

    Attributes:
      num_shards: D.
      num_nodes: N.
      rows: that a layer exchanges, of all shards together.
      ring: the same with padding, by `exchange="ring"`.
      all_to_all: the same by `exchange="all_to_all"`.
      nodes: of the largest shard, over the mean.
      edges: likewise.
    """

    num_shards: int
    num_nodes: int
    rows: int
    ring: int
    all_to_all: int
    nodes: float
    edges: float

    def bytes(self, numbers: int, dtype: DTypeLike = np.float32) -> int:
        """That a layer's forward pass sends by the ring, where a row has so many numbers; its gradient as much again.

        A row of GAT has H·C + H numbers.
        """
        return self.ring * numbers * np.dtype(dtype).itemsize

    def __str__(self) -> str:
        share = lambda rows: f"{rows / self.num_nodes:.2f} N"
        return (
            f"{self.num_shards} shards: a layer exchanges {share(self.rows)} rows, with padding {share(self.ring)} "
            f"(ring) or {share(self.all_to_all)} (all_to_all); the largest has {self.edges:.2f} times the mean of "
            f"edges, {self.nodes:.2f} of nodes"
        )


def halo_report(shards: Shards) -> HaloReport:
    """Rows that each layer exchanges, and how even the shards are.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2, 3], [1, 2, 3, 0], num_nodes=4)
    >>> print(halo_report(shard_graph(graph, [0, 0, 1, 1])))
    2 shards: a layer exchanges 0.50 N rows, with padding 0.50 N (ring) or 1.00 N (all_to_all); the largest has ...
    """
    send = [on_host(ids) for ids in shards.send]
    longest = [ids.shape[1] for ids in send]
    largest = lambda ids: float((on_host(ids) >= 0).sum(1).max())
    num_shards = shards.num_shards
    return HaloReport(
        num_shards=num_shards,
        num_nodes=shards.num_nodes,
        rows=sum(int((ids >= 0).sum()) for ids in send),
        ring=num_shards * sum(longest),
        all_to_all=num_shards * num_shards * max(longest, default=0),
        nodes=largest(shards.node_ids) / max(shards.num_nodes / num_shards, 1),
        edges=largest(shards.edge_ids) / max(shards.num_edges / num_shards, 1),
    )


def _checked(
    part: npt.ArrayLike, num_nodes: int, num_shards: int | None
) -> tuple[Int[np.ndarray, "N"], int]:
    """The shard of each node and the number of shards."""
    part = np.asarray(part)
    if not np.issubdtype(part.dtype, np.integer):
        raise TypeError(f"part must be integers, the shard of each node, got {part.dtype}")
    check_lengths(num_nodes, part=part)
    if num_shards is None:
        num_shards = int(part.max(initial=0)) + 1
    check_at_least(1, num_shards=num_shards)
    if (first := first_true((part < 0) | (part >= num_shards))) is not None:
        raise ValueError(
            f"part[{first}] = {part[first]} is no shard: with num_shards={num_shards} they are 0 to {num_shards - 1}"
        )
    return part.astype(np.int32), num_shards


def _grouped(
    part: Int[np.ndarray, "k"], num_parts: int, order: Int[np.ndarray, "k"] | None = None
) -> tuple[Int[np.ndarray, "num_parts most"], Int[np.ndarray, "k"]]:
    """The members of each part, -1 in padding, and the place of each among its part's; in an order of all of them."""
    order = np.arange(len(part)) if order is None else order
    order = order[np.argsort(part[order], kind="stable")]
    counts = np.bincount(part, minlength=num_parts)
    places = np.empty(len(part), np.int32)
    places[order] = np.arange(len(part)) - (np.cumsum(counts) - counts)[part[order]]
    members = np.full((num_parts, max(counts.max(), 1)), -1, np.int32)
    members[part, places] = np.arange(len(part))
    return members, places


def _halo(
    part: Int[np.ndarray, "N"],
    places: Int[np.ndarray, "N"],
    senders: Int[np.ndarray, "E"],
    receivers: Int[np.ndarray, "E"],
    shape: tuple[int, int],
) -> tuple[Int[np.ndarray, "E"], tuple[np.ndarray, ...]]:
    """The row of each edge's sender on the shard of its receiver, and `Shards.send`."""
    num_shards, own = shape
    rows, num_nodes = places[senders], len(part)
    crossing = np.flatnonzero(part[senders] != part[receivers])
    pairs = part[receivers[crossing]] * np.int64(num_nodes) + senders[crossing]
    pairs, pair_of = np.unique(pairs, return_inverse=True)
    target, node = np.divmod(pairs, num_nodes)
    distance = (target - part[node]) % num_shards
    place = _grouped(target * num_shards + distance, num_shards**2)[1]
    counts = np.bincount(target * num_shards + distance, minlength=num_shards**2)
    longest = counts.reshape(num_shards, num_shards).max(axis=0)
    rows[crossing] = (own + np.cumsum(longest) - longest)[distance][pair_of] + place[pair_of]
    send = []
    for by in range(1, num_shards):
        here = distance == by
        ids = np.full((num_shards, longest[by]), -1, np.int32)
        ids[part[node[here]], place[here]] = places[node[here]]
        send.append(ids)
    return rows, tuple(send)


def _spread(tree: PyTree, ids: Int[np.ndarray, "D k"]) -> PyTree:
    """Rows of every table by their numbers, zeros where there is none."""

    def rows(table):
        table = np.asarray(table)
        out = np.zeros((*ids.shape, *table.shape[1:]), table.dtype)
        out[ids >= 0] = table[ids[ids >= 0]]
        return out

    return jax.tree.map(rows, tree)
