"""Neighbours drawn at random, in shapes that are known before: inside `jax.jit`, or with NumPy, to the same bits.

Shapes: N nodes and E edges of the graph; B seeds; M rows and K edges of a sample; f of a fan-out.
"""

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree
from jraph import GraphsTuple

from gatjax.graph.check import check_lengths
from gatjax.graph.draws import by_weight, different
from gatjax.graph.ids import Ids as CheckedIds
from gatjax.graph.messages import check_at_least, is_integer, shown
from gatjax.graph.neighbors import Ids, Mask, Neighbors, check_no_loops, check_nodes
from gatjax.graph.sizes import is_sparse, leaves
from gatjax.graph.views import First


class Sampled(NamedTuple):
    """Neighbours that were drawn.

    Attributes:
        senders: ids of nodes, [n, f]; 0 where there is none.
        edges: the numbers of the edges in the graph, likewise.
        mask: whether there is one.
    """

    senders: Ids
    edges: Ids
    mask: Mask


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["nodes", "node_mask", "edges", "edge_mask"],
    meta_fields=["sizes", "fanouts", "self_loops", "num_nodes"],
)
@dataclasses.dataclass(frozen=True)
class Hops:
    """A tree of neighbours around each seed; see `sample_hops`.

    Rows and edges stand in the order of their hops, so that those of the first hops are the first.

    Attributes:
        nodes: the node of the graph that each row is, [M]; the first B are the seeds.
        node_mask: whether the row is one, [M].
        edges: the number in the graph of each edge, [K]; -1 for a self-loop.
        edge_mask: whether there is such an edge, [K].
        sizes: how many rows and edges there are up to each hop, from none to the last.
        fanouts: neighbours that each node may have, by hop.
        self_loops: whether each row that receives sends to itself first.
        num_nodes: N.
    """

    # JAX rebuilds these from leaves that are no arrays, too.
    nodes: Any
    node_mask: Any
    edges: Any
    edge_mask: Any
    sizes: tuple[tuple[int, int], ...]
    fanouts: tuple[int, ...]
    self_loops: bool
    num_nodes: int

    @property
    def views(self) -> tuple[First, ...]:
        """What each layer of a model with a layer per hop is to see of the graph, the first layer all of it."""
        receiving = [rows for rows, _ in self.sizes[:-1]]
        walked = [edges for _, edges in self.sizes[1:]]
        return tuple(map(First, reversed(receiving), reversed(walked)))

    def graph(self, nodes: PyTree, edges: PyTree = None) -> GraphsTuple:
        """The sample as one graph of M nodes and K edges, whose first B nodes are the seeds.

        What it holds where `node_mask` and `edge_mask` are False is of no node or edge: pass both masks to the model.

        Args:
            nodes: a row for each node of the graph, a tree of arrays [N, ...].
            edges: a row for each of its edges, [E, ...], or None. Self-loops have zeros.

        Raises:
            TypeError: sparse features of nodes.
            ValueError: another number of rows of nodes.
        """
        if any(map(is_sparse, leaves(nodes))):
            raise TypeError("nodes are sparse: pass nodes.todense()")
        check_lengths(self.num_nodes, nodes=nodes)
        senders, receivers = _ends(self.sizes[0][0], self.fanouts, self.self_loops)
        xp = library_of(self.nodes)

        def of_edges(table: Any) -> Any:
            rows = take(table, xp.maximum(self.edges, 0))
            return xp.where((self.edges >= 0).reshape(-1, *(1,) * (rows.ndim - 1)), rows, 0)

        sizes = (np.array([len(rows)], np.int32) for rows in (self.nodes, self.edges))
        return GraphsTuple(
            nodes=jax.tree.map(lambda table: take(table, self.nodes), nodes),
            edges=jax.tree.map(of_edges, edges),
            globals=None,
            **CheckedIds(senders, receivers, *sizes)._asdict(),
        )


def sample_neighbors(
    key: Key[Array, ""],
    neighbors: Neighbors,
    nodes: Ids,
    fanout: int,
    *,
    mask: Mask | None = None,
    first: int = 0,
) -> Sampled:
    """Of each node all its neighbours, or `fanout` different ones where there are more, each set with the same chance.

    Floyd's algorithm: of d neighbours, for t = d - f, ..., d - 1 draw one of the first t + 1, or t itself if that one
    is drawn already. Where edges have weights, one is drawn after the other, each by its weight among those that are
    left: the f largest of log(u) / w, for uniform u, are drawn so, too. That takes a search for each.

    Arrays of NumPy are sampled by NumPy, those of JAX by JAX, inside `jax.jit` too, to the same bits.

    Args:
        key: a JAX random key.
        neighbors: of `neighbors_of`.
        nodes: ids, [n]; one given twice is drawn for twice.
        fanout: f, neighbours per node at most.
        mask: which of them are nodes, [n]; the others get none.
        first: number of the first draw, of which there are n f; for several samples that share a key.

    Returns:
        Senders, numbers of the edges and a mask, [n, f].

    Raises:
        TypeError: ids that are not integers.
        ValueError: ids out of range, a fan-out under 1, a mask of another length.

    >>> from gatjax.graph import build_graph, neighbors_of
    >>> table = neighbors_of(build_graph([1, 2, 3, 0], [0, 0, 0, 1], num_nodes=4))
    >>> drawn = sample_neighbors(jax.random.key(0), table, np.array([0, 1, 2]), 2)
    >>> drawn.mask.tolist()
    [[True, True], [True, False], [False, False]]

    Bentley, Floyd, A sample of brilliance, Communications of the ACM 30, 1987. The largest of log(u) / w: Efraimidis,
    Spirakis, Weighted random sampling with a reservoir, Information Processing Letters 97, 2006.
    """
    check_at_least(1, fanout=fanout)
    check_nodes(neighbors, mask, nodes=nodes)
    return drawn_for(key, neighbors, nodes, fanout, mask, first)


def drawn_for(
    key: Key[Array, ""],
    neighbors: Neighbors,
    nodes: Ids,
    fanout: int,
    mask: Mask | None,
    first: int,
) -> Sampled:
    """`sample_neighbors` of ids that are known to be nodes."""
    xp = library_of(nodes, *jax.tree.leaves(neighbors))
    starts, nodes = xp.asarray(neighbors.starts), xp.asarray(nodes)
    start = starts[nodes]
    degree = starts[nodes + 1] - start
    degree = degree if mask is None else xp.where(mask, degree, 0)
    count = degree.astype(np.uint32)
    if neighbors.heights is None:
        offsets = different(xp, key, count, fanout, first)
    else:
        weights = neighbors.heights, neighbors.steps
        offsets = by_weight(xp, key, start, count, *weights, fanout, first)
    there = np.arange(fanout)[None] < degree[:, None]
    places = xp.where(there, start[:, None] + offsets.astype(start.dtype), 0)
    if not len(neighbors.senders):
        return Sampled(places, places, there)
    pick = lambda table: xp.where(there, take(table, places), 0)
    edges = places if neighbors.edges is None else pick(neighbors.edges)
    return Sampled(pick(neighbors.senders), edges, there)


def sample_hops(
    key: Key[Array, ""],
    neighbors: Neighbors,
    seeds: Ids,
    fanouts: Sequence[int],
    *,
    mask: Mask | None = None,
    self_loops: bool = False,
    part: tuple[int, int] = (0, 1),
) -> Hops:
    """Neighbours of seeds, their neighbours, and so on: the part of a graph that a model with a layer per hop reads.

    A node that is drawn twice has two rows, each with neighbours of its own, so that all shapes are known before
    anything is drawn (`hop_sizes`). With fan-outs as large as any degree the model's output at the seeds is that of the
    whole graph; with smaller ones its softmax is over the neighbours that were drawn. `GCNConv` counts the degrees that
    it sees, and differs.

    Args:
        key: a JAX random key.
        neighbors: of `neighbors_of`.
        seeds: ids of nodes, [B].
        fanouts: how many neighbours at most, by hop: first those of the seeds.
        mask: which seeds are nodes, [B]; all by default. The others are padding.
        self_loops: whether each node sends to itself, as after `add_self_loops`, which a sample would drop at times.
            The graph then must not have self-loops of its own.
        part: the number of these seeds among so many parts of one batch, all of as many seeds: each part is drawn as it
            is in the whole.

    Returns:
        A sample; `model(hops.graph(features), view=hops.views, node_mask=hops.node_mask, edge_mask=hops.edge_mask)`
        gives what the model makes of the seeds.

    Raises:
        TypeError: ids that are not integers.
        ValueError: no seed, ids out of range, no fan-out or one under 1, a mask of another length, self-loops twice.

    >>> from gatjax.graph import build_graph, neighbors_of
    >>> ring = build_graph([0, 1, 2, 3], [1, 2, 3, 0], num_nodes=4)
    >>> hops = sample_hops(jax.random.key(0), neighbors_of(ring), np.array([2]), [2, 1])
    >>> hops.nodes.tolist(), hops.node_mask.tolist(), hops.views
    ([2, 1, 0, 0, 0], [True, True, False, True, False], (First(nodes=3, edges=4), First(nodes=1, edges=2)))

    Hamilton, Ying, Leskovec, Inductive representation learning on large graphs, NeurIPS 2017.
    """
    check_nodes(neighbors, mask, seeds=seeds)
    sizes = hop_sizes(len(seeds), fanouts, self_loops=self_loops)
    if self_loops:
        check_no_loops(neighbors)
    xp = library_of(seeds, *jax.tree.leaves(neighbors))
    rows, row_mask = xp.asarray(seeds), xp.ones(len(seeds), bool) if mask is None else mask
    nodes, node_mask, edges, edge_mask = [rows], [row_mask], [], []
    number, parts = check_part(part)
    before = 0
    for fanout in fanouts:
        draws = len(rows) * fanout
        drawn = drawn_for(key, neighbors, rows, fanout, row_mask, before + number * draws)
        before += parts * draws
        of_edges, is_edge = drawn.edges, drawn.mask
        if self_loops:
            loop = xp.full((len(rows), 1), -1, of_edges.dtype)
            of_edges = xp.concatenate([loop, of_edges], axis=1)
            is_edge = xp.concatenate([row_mask[:, None], is_edge], axis=1)
        rows, row_mask = drawn.senders.reshape(-1), drawn.mask.reshape(-1)
        nodes.append(rows)
        node_mask.append(row_mask)
        edges.append(of_edges.reshape(-1))
        edge_mask.append(is_edge.reshape(-1))
    return Hops(
        xp.concatenate(nodes),
        xp.concatenate(node_mask),
        xp.concatenate(edges),
        xp.concatenate(edge_mask),
        sizes,
        tuple(fanouts),
        self_loops,
        len(neighbors.starts) - 1,
    )


def check_part(part: Any) -> tuple[int, int]:
    """The number of a part and how many there are.

    Raises:
        ValueError: no such pair.

    >>> check_part((2, 2))
    Traceback (most recent call last):
    ...
    ValueError: a part is (number, of how many), the number from 0 on and below the second, got (2, 2)
    """
    pair = tuple(part) if isinstance(part, Sequence) else ()
    if len(pair) != 2 or not all(map(is_integer, pair)) or not 0 <= pair[0] < pair[1]:
        raise ValueError(
            f"a part is (number, of how many), the number from 0 on and below the second, got {shown(part)}"
        )
    return pair


def hop_sizes(
    batch_size: int, fanouts: Sequence[int], *, self_loops: bool = False
) -> tuple[tuple[int, int], ...]:
    """How many rows and edges a sample has up to each hop, before anything is drawn.

    ```
    rows  = B (1 + f_1 + f_1 f_2 + ...)
    edges = B (f_1 + f_1 f_2 + ...)         with self-loops as many more as there are rows before the last hop
    ```

    Args:
        batch_size: B.
        fanouts: f_1, f_2, ...
        self_loops: whether each row that receives sends to itself.

    Raises:
        ValueError: no seed, no fan-out, or one under 1.

    >>> hop_sizes(2, [3, 2]), hop_sizes(2, [3, 2], self_loops=True)
    (((2, 0), (8, 6), (20, 18)), ((2, 0), (8, 8), (20, 26)))
    """
    check_at_least(1, batch_size=batch_size)
    if not isinstance(fanouts, Sequence) or not fanouts:
        raise ValueError(f"fanouts must be one number per hop, such as [15, 10], got {fanouts!r}")
    check_at_least(1, **{f"fanouts[{hop}]": fanout for hop, fanout in enumerate(fanouts)})
    sizes, new = [(batch_size, 0)], batch_size
    for fanout in fanouts:
        rows, edges = sizes[-1]
        sizes.append((rows + new * fanout, edges + new * (fanout + self_loops)))
        new *= fanout
    return tuple(sizes)


@functools.cache
def _ends(
    batch_size: int, fanouts: tuple[int, ...], self_loops: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers of a sample's edges, whatever is drawn; sorted by receiver."""
    sizes = hop_sizes(batch_size, fanouts, self_loops=self_loops)
    senders, receivers, before = [], [], 0
    for fanout, (rows, _) in zip(fanouts, sizes, strict=False):
        here = np.arange(before, rows, dtype=np.int32)
        drawn = np.arange(rows, rows + len(here) * fanout, dtype=np.int32).reshape(-1, fanout)
        drawn = np.concatenate([here[:, None], drawn], axis=1) if self_loops else drawn
        senders.append(drawn.reshape(-1))
        receivers.append(np.repeat(here, drawn.shape[1]))
        before = rows
    return np.concatenate(senders), np.concatenate(receivers)


def library_of(*arrays: Any) -> Any:
    """JAX, where one of the arrays is its own, else NumPy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def take(table: Any, rows: Any) -> Any:
    """Some rows of a table, whichever library they are of."""
    if isinstance(rows, jax.Array):
        return jnp.asarray(table).at[rows].get(mode="promise_in_bounds")
    return table[rows]
