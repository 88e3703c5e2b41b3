"""Batches of nodes and a sample of their neighbours, made in threads, resumable; on Grain.

Shapes: N nodes and E edges of the graph; B seeds of a batch, b of this process; M rows and K edges of a sample.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, Key, PyTree
from jraph import GraphsTuple

from gatjax.data.loader import check_seed, find_grain, in_batches
from gatjax.graph.ids import first_true
from gatjax.graph.messages import check_at_least, shown
from gatjax.graph.neighbors import Neighbors, check_no_loops
from gatjax.graph.sample import Hops, check_part, hop_sizes, sample_hops
from gatjax.models.chunks import as_table


class SeedBatch(NamedTuple):
    """Nodes to learn from; see `seed_batches`.

    Attributes:
      seed: of all batches.
      step: the number of this one.
      nodes: ids, [b]; 0 where there is none.
      mask: whether there is one, [b].
      part: the number of this process, and how many there are.
    """

    seed: int
    step: int
    nodes: Int[np.ndarray, "b"]
    mask: Bool[np.ndarray, "b"]
    part: tuple[int, int]

    @property
    def key(self) -> Key[Array, ""]:
        """Of the batch, for all processes the same."""
        return jax.random.fold_in(jax.random.key(self.seed), self.step)


class SampledBatch(NamedTuple):
    """Nodes to learn from and a sample of their neighbours; see `sampled_batches`.

    Attributes:
      seeds: the nodes.
      hops: what was drawn.
      graph: the sample, with the features of its rows, whose first b nodes are the seeds.
    """

    seeds: SeedBatch
    hops: Hops
    graph: GraphsTuple


def seed_batches(
    seeds: Sequence[int] | np.ndarray,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    process: tuple[int, int] = (0, 1),
) -> Any:
    """Batches of nodes, as a Grain `MapDataset`: batch k, `seed_batches(...)[k]`, depends on the seed and k alone.

    In each epoch every node comes once, in an order of its own. The last batch of an epoch is padded. Several processes
    each get their slice of the same batches: all have as many, and together they do what one would.

    Args:
      seeds: ids of nodes to learn from; one given twice comes twice.
      batch_size: B, nodes of a batch, of all processes together.
      seed: of the orders and of the samples, from 0 to 2³² - 1.
      epochs: how often each node comes; None for ever.
      process: the number of this process, and how many there are, such as
        `(jax.process_index(), jax.process_count())`.

    Returns:
      A `grain.MapDataset` of `SeedBatch`; `start_at` iterates from any step on.

    Raises:
      ImportError: Grain is not installed.
      TypeError, ValueError: seeds that are no ids, none, fewer than a batch has, a batch that processes do not divide.

    >>> data = seed_batches([5, 6, 7, 8, 9], 2, epochs=1)
    >>> len(data), data[2].mask.tolist(), sorted(int(node) for batch in data for node in batch.nodes[batch.mask])
    (3, [True, False], [5, 6, 7, 8, 9])
    >>> halves = [seed_batches([5, 6, 7, 8, 9], 2, process=(number, 2))[7].nodes.tolist() for number in (0, 1)]
    >>> halves[0] + halves[1] == seed_batches([5, 6, 7, 8, 9], 2)[7].nodes.tolist()
    True
    """
    grain = find_grain()
    check_at_least(1, batch_size=batch_size, **({} if epochs is None else {"epochs": epochs}))
    check_seed(seed)
    ids = _checked(seeds, batch_size)
    number, parts = check_part(process)
    if batch_size % parts:
        raise ValueError(
            f"batch_size = {batch_size} must be a multiple of the {parts} processes, which share it"
        )
    here = slice(*(batch_size * part // parts for part in (number, number + 1)))
    order = in_batches(grain, ids, batch_size, False, seed)
    order = order if epochs == 1 else order.repeat(epochs)

    def of_step(step: int, chosen: np.ndarray) -> SeedBatch:
        nodes = np.zeros(batch_size, np.int32)
        nodes[: len(chosen)] = chosen
        there = np.arange(batch_size) < len(chosen)
        return SeedBatch(seed, step, nodes[here], there[here], (number, parts))

    return order.map_with_index(of_step)


def sampled_batches(
    batches: Any,
    neighbors: Neighbors,
    fanouts: Sequence[int],
    nodes: PyTree = None,
    edges: PyTree = None,
    *,
    self_loops: bool = False,
) -> Any:
    """The same batches with a sample of their neighbours, drawn by `sample_hops` with NumPy and the key of the batch.

    What is drawn is what `sample_hops` draws inside `jax.jit`. `start_at(dataset, step, threads=4)` makes batches
    ahead, in threads; the step is all that has to be kept.

    Args:
      batches: of `seed_batches`.
      neighbors: of `neighbors_of`.
      fanouts: how many neighbours at most, by hop.
      nodes: features, a tree of tables [N, ...] in memory or `FileArray`s; None where `hops.graph(features)` takes them
        later.
      edges: features of the edges, [E, ...], likewise.
      self_loops: as in `sample_hops`.

    Returns:
      A `grain.MapDataset` of `SampledBatch`.

    Raises:
      TypeError, ValueError: tables of another number of rows, fan-outs that are no numbers from 1 on, self-loops twice;
        when a batch is made, seeds that are no nodes.

    >>> from gatjax.data import start_at
    >>> from gatjax.graph import build_graph, neighbors_of
    >>> graph = build_graph([1, 2, 3, 0], [0, 1, 2, 3], np.eye(4, dtype=np.float32))
    >>> data = sampled_batches(seed_batches([0, 1, 2], 2), neighbors_of(graph), [1, 1], graph.nodes)
    >>> batch = next(start_at(data, 100, threads=2))
    >>> batch.seeds.step, batch.graph.nodes.shape, batch.hops.views
    (100, (6, 4), (First(nodes=4, edges=4), First(nodes=2, edges=2)))
    """
    hop_sizes(1, fanouts)
    if self_loops:
        check_no_loops(neighbors)
    checked = lambda tables, rows, name: jax.tree.map(lambda x: as_table(x, rows, name), tables)
    nodes = checked(nodes, len(neighbors.starts) - 1, "nodes")
    edges = checked(edges, len(neighbors.senders), "edges")
    host = jax.tree.map(np.asarray, neighbors)

    def sampled(batch: SeedBatch) -> SampledBatch:
        drawn = sample_hops(
            batch.key,
            host,
            batch.nodes,
            fanouts,
            mask=batch.mask,
            self_loops=self_loops,
            part=batch.part,
        )
        return SampledBatch(batch, drawn, drawn.graph(nodes, edges))

    return batches.map(sampled)


def _checked(seeds: Any, batch_size: int) -> np.ndarray:
    ids = np.asarray(seeds)
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise TypeError(f"seeds must be a vector of integers, got {shown(seeds)}")
    if not len(ids):
        raise ValueError("seeds is empty: give the nodes to learn from")
    if (first := first_true(ids < 0)) is not None:
        raise ValueError(f"seeds[{first}] = {ids[first]} is no node: ids count from 0")
    if batch_size > len(ids):
        raise ValueError(f"batch_size = {batch_size} is over the {len(ids)} seeds: lower it")
    return ids.astype(np.int32)
