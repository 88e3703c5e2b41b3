"""A graph in parts: the nodes that receive, as many at a time as have so many edges; and tables in memory or in files.

Shapes: N nodes and E edges of the graph; R rows and K edges of a chunk.
"""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.graph.messages import shown
from gatjax.graph.neighbors import Neighbors


class Chunk(NamedTuple):
    """Nodes that receive, and the edges into them, padded to a size that other chunks have, too.

    Attributes:
      graph: R nodes, the last one repeated where there are fewer, and K edges; senders are ids in the whole graph.
      mask: which edges there are, [K].
    """

    graph: GraphsTuple
    mask: Any

    def senders(self) -> Any:
        """Of the edges, [K]."""
        return self.graph.senders


@dataclasses.dataclass(frozen=True)
class Parts:
    """A graph that is read a chunk at a time.

    Attributes:
      neighbors: the edges into each node.
      edges: what is known of each, a tree of tables [E, ...].
      globals: what is known of the graph.
      self_loops: whether each node sends to itself, too; what is known of that edge is 0.
      edges_per_chunk: how many edges a chunk has, unless its only node has more.
    """

    neighbors: Neighbors
    edges: PyTree
    globals: Any
    self_loops: bool
    edges_per_chunk: int

    @property
    def num_nodes(self) -> int:
        return len(self.neighbors.starts) - 1

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where the edges of each node start, loops counted, [N + 1]."""
        starts = np.asarray(self.neighbors.starts, np.int64)
        return starts + np.arange(len(starts)) if self.self_loops else starts

    @functools.cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """The first node of each chunk, and the one after its last."""
        starts, rows, first, bounds = self.starts, self.rows_per_chunk, 0, []
        while first < self.num_nodes:
            within = np.searchsorted(starts, starts[first] + self.edges_per_chunk, "right") - 1
            last = min(max(int(within), first + 1), first + rows)
            bounds.append((first, last))
            first = last
        return bounds

    @functools.cached_property
    def rows_per_chunk(self) -> int:
        """R: as many as have the edges of a chunk on average, so that few chunks are mostly padding."""
        share = -(-self.edges_per_chunk * self.num_nodes // max(int(self.starts[-1]), 1))
        return max(1, min(self.num_nodes, share, self.edges_per_chunk))

    def read(self, nodes: Any, first: int, last: int, *, walks: bool) -> Chunk:
        """The nodes from `first` to before `last`, and, where a layer walks them, their edges."""
        rows = np.asarray(nodes[first:last])
        missing = self.rows_per_chunk - len(rows)
        rows = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        if not walks:
            none = np.zeros(0, np.int32)
            return self._chunk(rows, none, none, None, none.astype(bool))
        starts = self.starts[first : last + 1]
        count = int(starts[-1] - starts[0])
        size = self._edges(count)
        own = slice(int(self.neighbors.starts[first]), int(self.neighbors.starts[last]))
        given = np.full(count, True)
        senders, receivers = np.zeros(size, np.int32), np.full(size, last - first - 1, np.int32)
        if self.self_loops:
            loops = starts[:-1] - starts[0]
            given[loops] = False
            senders[loops] = np.arange(first, last)
        senders[:count][given] = self.neighbors.senders[own]
        receivers[:count] = np.repeat(np.arange(last - first), np.diff(starts))
        order = self.neighbors.edges
        numbers = own if order is None else order[own]
        places = np.flatnonzero(given)
        edges = jax.tree.map(lambda table: _spread(table[numbers], places, size), self.edges)
        return self._chunk(rows, senders, receivers, edges, np.arange(size) < count)

    def example(self, nodes: Any, *, walks: bool) -> Chunk:
        """The shapes and dtypes of a chunk."""
        of = lambda shape, dtype: jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))
        size = self._edges(0) if walks else 0
        ids = of((size,), np.int32)
        edges = jax.tree.map(lambda table: of((size, *table.shape[1:]), table.dtype), self.edges)
        rows = of((self.rows_per_chunk, *nodes.shape[1:]), nodes.dtype)
        return self._chunk(rows, ids, ids, edges if walks else None, of((size,), bool))

    def _chunk(self, rows: Any, senders: Any, receivers: Any, edges: Any, mask: Any) -> Chunk:
        sizes: Any = (np.array(table.shape[:1], np.int32) for table in (rows, senders))
        n_node, n_edge = sizes
        graph = GraphsTuple(
            nodes=rows,
            edges=edges,
            receivers=receivers,
            senders=senders,
            globals=self.globals,
            n_node=n_node,
            n_edge=n_edge,
        )
        return Chunk(graph, mask)

    def _edges(self, count: int) -> int:
        """K: that of all chunks, or twice it, four times it, ..."""
        size = max(1, min(self.edges_per_chunk, int(self.starts[-1])))
        while size < count:
            size *= 2
        return size


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows in a file, mapped only while they are read or written, so that they do not stay in memory.

    Attributes:
      path: the file.
      shape, dtype: of what is in it.
      offset: where in the file that starts.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: Any
    offset: int = 0

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.array(self._mapped("r")[rows])

    def __setitem__(self, rows: Any, values: np.ndarray) -> None:
        self._mapped("r+")[rows] = values

    def take(self, ids: np.ndarray, out: np.ndarray) -> None:
        """Some rows, into an array of as many."""
        np.take(self._mapped("r"), ids, axis=0, out=out, mode="clip")

    def _mapped(self, mode: Any) -> np.ndarray:
        return np.memmap(self.path, self.dtype, mode, self.offset, self.shape)


def make_table(path: Path, shape: tuple[int, ...], dtype: Any) -> Table:
    """Zeros in a new file: a `.npy`, or bytes alone where it has another name."""
    if path.suffix == ".npy":
        return Table(path, shape, dtype, np.lib.format.open_memmap(path, "w+", dtype, shape).offset)
    with open(path, "wb") as file:
        file.truncate(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return Table(path, shape, dtype)


def delete(tables: Iterable[Any]) -> None:
    """Those that are files."""
    for table in tables:
        if isinstance(table, Table):
            table.path.unlink()


def as_table(table: Any, rows: int, name: str) -> Any:
    """A table of numbers with as many rows, on the host; one in a file stays there.

    Raises:
      TypeError: no table, or not of numbers.
      ValueError: another number of rows.
    """
    if isinstance(table, BCOO):
        raise TypeError(f"{name} are sparse: pass {name}.todense()")
    table = np.asarray(table) if isinstance(table, jax.Array) else table
    if not all(hasattr(table, part) for part in ("shape", "dtype", "__getitem__")):
        raise TypeError(f"{name} must be an array or a FileArray, got {shown(table)}")
    if not (jnp.issubdtype(table.dtype, jnp.number) or table.dtype == bool):
        raise TypeError(f"{name} must hold numbers, got dtype {table.dtype}")
    if table.shape[:1] != (rows,):
        raise ValueError(f"{name} must have {rows} rows, got shape {list(table.shape)}")
    return table


def distinct(ids: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ids below `total` there are, in order, and the place of each among them.

    >>> distinct(np.array([4, 1, 4]), 6)
    (array([1, 4]), array([1, 0, 1], dtype=int32))
    """
    there = np.zeros(total, bool)
    there[ids] = True
    found = np.flatnonzero(there)
    place = np.zeros(total, np.int32)
    place[found] = np.arange(len(found))
    return found, place[ids]


def _spread(rows: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """Rows at their places among zeros."""
    spread = np.zeros((size, *rows.shape[1:]), rows.dtype)
    spread[places] = rows
    return spread
