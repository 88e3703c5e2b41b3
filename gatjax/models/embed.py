"""What a model makes of every node, layer by layer, a part of the graph at a time: in memory, or from file to file.

Shapes: N nodes and E edges of the graph; R rows and K edges of a chunk; S rows that send to it.
"""

import itertools
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import PyTree
from jraph import GraphsTuple
from tqdm import tqdm

from gatjax.graph.messages import check_at_least
from gatjax.graph.neighbors import Neighbors, check_no_loops, neighbors_of
from gatjax.graph.views import Numbered
from gatjax.layers.controls import NodeLinear
from gatjax.layers.conv import Conv
from gatjax.models.chunks import Chunk, Parts, Table, as_table, delete, distinct, make_table
from gatjax.models.stack import Stack

Make = Callable[[tuple[int, ...], Any], Any]


def embed_nodes(
    model: nnx.Module,
    neighbors: Neighbors | GraphsTuple,
    nodes: Any = None,
    edges: PyTree = None,
    *,
    globals: Any = None,
    self_loops: bool = False,
    edges_per_chunk: int = 2**21,
    out: str | os.PathLike | None = None,
    progress: bool = True,
) -> np.ndarray:
    """`model(graph).nodes` without dropout, layer by layer, each of which sees a chunk of the edges at a time.

    Each layer goes over the graph twice: first every node computes what it sends, once; then the nodes receive, as many
    at a time as have `edges_per_chunk` incoming edges together. A node with more of them has a chunk of its own.

    Args:
      model: a `Stack`, such as `GAT`, of layers that are a `Conv` or a `NodeLinear`; or one such layer.
      neighbors: the edges, of `neighbors_of`; or a graph, which has the next three of its own.
      nodes: features [N, F]: an array, a `gatjax.data.FileArray`, or what else has a shape, a dtype and slices.
      edges: what layers read of the edges, a tree of such tables [E, ...], or None.
      globals: what they read of the graph, [1, ...], or None.
      self_loops: as in `sample_hops`: whether each node sends to itself, too.
      edges_per_chunk: how many edges are in memory at a time, with what their ends send and receive.
      out: a `.npy` file to make. What nodes send, and what leaves each layer, is then in files beside it for as long as
        this runs; where it is None, in memory.
      progress: show a bar.

    Returns:
      [N, out_features]; mapped from the file where there is one.

    Raises:
      TypeError: a model or a table of another kind.
      ValueError: a layer that cannot be computed node by node, tables of another number of rows, a number under 1.
      FileExistsError: `out` is there already.

    >>> from gatjax import GAT, build_graph
    >>> graph = build_graph([0, 1, 2], [1, 2, 0], jnp.eye(3))
    >>> model = GAT(3, 2, rngs=nnx.Rngs(0))
    >>> found = embed_nodes(model, neighbors_of(graph), graph.nodes, edges_per_chunk=2, progress=False)
    >>> bool(np.allclose(found, model(graph, deterministic=True).nodes, atol=1e-6))
    True
    """
    check_at_least(1, edges_per_chunk=edges_per_chunk)
    if isinstance(neighbors, GraphsTuple):
        if not (nodes is edges is globals is None):
            raise ValueError(
                "a graph has nodes, edges and globals of its own: pass neighbors_of(graph) beside others"
            )
        nodes, edges, globals = neighbors.nodes, neighbors.edges, neighbors.globals
        neighbors = neighbors_of(neighbors)
    if self_loops:
        check_no_loops(neighbors)
    stack = _checked(model)
    nodes = as_table(nodes, len(neighbors.starts) - 1, "nodes")
    edges = jax.tree.map(lambda table: as_table(table, len(neighbors.senders), "edges"), edges)
    parts = Parts(neighbors, edges, globals, self_loops, edges_per_chunk)
    if out is None:
        return _embed(stack, parts, nodes, np.empty, progress)
    return _into(Path(out), lambda make: _embed(stack, parts, nodes, make, progress))


def _checked(model: nnx.Module) -> Stack:
    """The model, if each of its layers computes a node from what its neighbours send."""
    stack = Stack([model]) if isinstance(model, Conv | NodeLinear) else model
    if not isinstance(stack, Stack) or type(stack).__call__ is not Stack.__call__:
        raise TypeError(f"model must be a Stack or a layer, got {type(model).__name__}")
    for stage in _stages(stack):
        layer, name = _layer(stack, stage), "embed" if stage < 0 else f"layers[{stage}]"
        if not isinstance(layer, Conv | NodeLinear) or isinstance(layer, Conv) and not layer.local:
            raise ValueError(
                f"{name}, {type(layer).__name__}, reads more than what neighbours send: run model(graph)"
            )
    return stack


def _stages(model: Stack) -> range:
    """The numbers of the layers; that of what comes before them is -1."""
    return range(0 if model.embed is None else -1, len(model.layers))


def _layer(model: Stack, stage: int) -> Any:
    return model.embed if stage < 0 else model.layers[stage]


def _into(out: Path, embed: Callable[[Make], Table]) -> np.ndarray:
    """What is embedded, in a file that is there only when all of it is."""
    if out.suffix != ".npy":
        raise ValueError(f"out must be a .npy file, got {out}")
    if out.exists():
        raise FileExistsError(f"{out} is there already: delete it, or choose another out")
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
        number = itertools.count()
        table = embed(
            lambda shape, dtype: make_table(Path(folder) / f"{next(number)}.npy", shape, dtype)
        )
        if np.dtype(table.dtype).kind == "V":
            raise ValueError(f"a .npy file cannot hold {table.dtype}: leave out away")
        os.replace(table.path, out)
    return np.load(out, mmap_mode="r")


def _embed(model: Stack, parts: Parts, nodes: Any, make: Make, progress: bool) -> Any:
    """The rows that leave the last layer."""
    walks = [isinstance(_layer(model, stage), Conv) for stage in _stages(model)]
    total = len(parts.bounds) * (len(walks) + sum(walks))
    with tqdm(total=total, unit="chunk", disable=not progress) as bar:
        for stage, walking in zip(_stages(model), walks, strict=True):
            layer = _Layer(*nnx.split(model), stage, walking, parts, make, bar)
            sent = layer.send(nodes) if walking else _Sent((), [])
            received = layer.receive(nodes, sent)
            delete([nodes, *jax.tree.leaves(sent.tables)])
            nodes = received
    return nodes


class _Sent(NamedTuple):
    """What all nodes send.

    Attributes:
      order: which of the tables the layer asks for, time after time.
      tables: trees of tables [N, ...].
    """

    order: tuple[int, ...]
    tables: list[PyTree]


class _Layer(NamedTuple):
    """A layer of a model, and its way over the graph.

    Attributes:
      graphdef, state: the model.
      stage: which of its layers.
      walks: whether that reads neighbours.
      parts: the graph.
      make: makes a table of a shape and a dtype.
      bar: counts the chunks.
    """

    graphdef: nnx.GraphDef
    state: nnx.State
    stage: int
    walks: bool
    parts: Parts
    make: Make
    bar: tqdm

    def send(self, nodes: Any) -> _Sent:
        """What every node sends, computed once."""
        order: list[int] = []
        note = partial(_sent, self.graphdef, self.stage)
        arguments = jnp.zeros(()), self.state, self.parts.example(nodes, walks=True)
        shapes = jax.eval_shape(partial(note, order), *arguments)
        if _depends(partial(note, []), *arguments):
            raise ValueError(
                f"layers[{self.stage}] sends something that it has received: run model(graph)"
            )
        send = partial(_send, self.graphdef, self.stage, arguments[0], self.state)
        return _Sent(tuple(order), self._fill(shapes, nodes, send))

    def receive(self, nodes: Any, sent: _Sent) -> Any:
        """What leaves the layer, of every node."""
        of_layer = partial(_receive, self.graphdef, self.stage, sent.order, self.state)
        like = lambda table: jax.ShapeDtypeStruct(table.shape, table.dtype)
        example = self.parts.example(nodes, walks=self.walks)
        shape = jax.eval_shape(of_layer, example, jax.tree.map(like, sent.tables))
        read = _reader(sent.tables, self.parts.num_nodes)
        return self._fill(shape, nodes, lambda chunk: of_layer(*read(chunk)))

    def _fill(self, shapes: PyTree, nodes: Any, program: Callable[[Chunk], PyTree]) -> PyTree:
        """Tables of all nodes, from what a program makes of each chunk."""
        total = self.parts.num_nodes
        tables = jax.tree.map(lambda like: self.make((total, *like.shape[1:]), like.dtype), shapes)
        for first, last in self.parts.bounds:
            found = program(self.parts.read(nodes, first, last, walks=self.walks))
            for table, rows in zip(jax.tree.leaves(tables), jax.tree.leaves(found), strict=True):
                table[first:last] = np.asarray(rows)[: last - first]
            self.bar.update()
        return tables


def _reader(tables: list[PyTree], total: int) -> Callable[[Chunk], tuple[Chunk, list[PyTree]]]:
    """A chunk with what is sent to it: all rows where they are in memory; where they are in files, those it names."""
    if not any(isinstance(table, Table) for table in jax.tree.leaves(tables)):
        on_device = jax.tree.map(jnp.asarray, tables)
        return lambda chunk: (chunk, on_device)
    buffers: dict[int, list[PyTree]] = {}

    def read(chunk: Chunk) -> tuple[Chunk, list[PyTree]]:
        ids, senders = distinct(chunk.senders(), total)
        rows = min(len(senders), total)
        if rows not in buffers:
            zeros = lambda table: np.zeros((rows, *table.shape[1:]), table.dtype)
            buffers[rows] = jax.tree.map(zeros, tables)
        jax.tree.map(
            lambda table, buffer: table.take(ids, buffer[: len(ids)]), tables, buffers[rows]
        )
        return chunk._replace(graph=chunk.graph._replace(senders=senders)), buffers[rows]

    return read


class _Rows:
    """A view of a chunk: all of its rows receive, and what is sent comes from elsewhere."""

    numbers = Numbered()

    def receivers(self, rows: PyTree) -> PyTree:
        return rows

    def walked(
        self, graph: GraphsTuple, tables: dict[str, Any]
    ) -> tuple[GraphsTuple, dict[str, Any]]:
        return graph, tables

    def after(self, graph: GraphsTuple) -> GraphsTuple:
        return graph


class _Sending(_Rows):
    """Notes what is sent; what is received in its place is one row of a number that stands for it.

    Attributes:
      sent: what was noted, each once.
      order: which of it, time after time.
    """

    def __init__(self, received: jax.Array, order: list[int]):
        self.received, self.order = received, order
        self.sent: list[PyTree] = []
        self.places: dict[tuple[int, ...], int] = {}

    def senders(self, rows: PyTree) -> PyTree:
        leaves = tuple(map(id, jax.tree.leaves(rows)))
        if leaves not in self.places:
            self.places[leaves] = len(self.sent)
            self.sent.append(rows)
        self.order.append(self.places[leaves])
        shape = lambda leaf: (1, *leaf.shape[1:])
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(self.received, shape(leaf)).astype(leaf.dtype), rows
        )

    def num_senders(self, num_rows: int) -> int:
        return 1


class _Receiving(_Rows):
    """Hands on what was sent before, in the same order."""

    def __init__(self, tables: list[PyTree], order: tuple[int, ...]):
        self.tables, self.order = tables, iter(order)

    def senders(self, rows: PyTree) -> PyTree:
        return self.tables[next(self.order)]

    def num_senders(self, num_rows: int) -> int:
        return len(jax.tree.leaves(self.tables)[0])


def _sent(
    graphdef: nnx.GraphDef,
    stage: int,
    order: list[int],
    received: jax.Array,
    state: nnx.State,
    chunk: Chunk,
) -> list[PyTree]:
    """What the nodes of a chunk send in a layer, none of which may depend on what they receive."""
    view = _Sending(received, order)
    graph = chunk.graph._replace(senders=jnp.zeros_like(chunk.senders()))
    layer = _layer(nnx.merge(graphdef, state), stage)
    layer(graph, edge_mask=chunk.mask, view=view, deterministic=True)
    return view.sent


@partial(jax.jit, static_argnums=(0, 1))
def _send(
    graphdef: nnx.GraphDef, stage: int, received: jax.Array, state: nnx.State, chunk: Chunk
) -> list[PyTree]:
    return _sent(graphdef, stage, [], received, state, chunk)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _receive(
    graphdef: nnx.GraphDef,
    stage: int,
    order: tuple[int, ...],
    state: nnx.State,
    chunk: Chunk,
    tables: list[PyTree],
) -> jax.Array:
    """What leaves a layer, of the nodes of a chunk, with what comes between it and the next."""
    model = nnx.merge(graphdef, state)
    how: dict[str, Any] = {"deterministic": True}
    if isinstance(_layer(model, stage), Conv):
        how |= {"edge_mask": chunk.mask, "view": _Receiving(tables, order)}
    graph = _layer(model, stage)(chunk.graph, **how)
    if 0 <= stage < len(model.layers) - 1:
        graph = model.between(stage, graph, None, deterministic=True)
    return graph.nodes


def _depends(function: Callable[..., PyTree], *arguments: Any) -> bool:
    """Whether what a function returns may depend on its first argument."""
    program = jax.make_jaxpr(function)(*arguments).jaxpr
    reached = {id(program.invars[0])}
    for equation in program.eqns:
        if any(id(variable) in reached for variable in equation.invars):
            reached.update(map(id, equation.outvars))
    return any(id(variable) in reached for variable in program.outvars)
