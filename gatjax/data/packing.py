"""Many graphs and what is known of them in a few arrays, of which a batch is some rows.

Shapes: K graphs in all, G graphs of a batch, N nodes, E edges.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int32, PyTree
from jraph import GraphsTuple

from gatjax.data.budgets import smallest_that_holds
from gatjax.graph.batching import Budget, Masks, batch
from gatjax.graph.ids import Ids, host_ids
from gatjax.graph.messages import shown
from gatjax.graph.numbers import DIGITS_REMEDY, default_float, first_over, to_float
from gatjax.graph.slots import Places, ids_of, place, put, sizes_of
from gatjax.ops.pairs import Slots


class Targets(NamedTuple):
    """What is to be learned of nodes, edges and graphs; each is a tree of arrays, or None.

    Given to `batches`, `graph` has K rows, `node` and `edge` are sequences of K trees, one per graph, with a row for
    each of its nodes or edges. In a batch they have N, E and G rows. A row of padding says that there is none, as
    everywhere: -1 among whole numbers, NaN among others.
    """

    node: PyTree = None
    edge: PyTree = None
    graph: PyTree = None


class GraphBatch(NamedTuple):
    """A padded batch, a tree of arrays that can go into `jax.jit`.

    Attributes:
      graph: the graphs side by side, as `pad` gives them.
      targets: theirs.
      masks: what of it is real.
      index: which of the K graphs each is, [G], -1 for padding.
      step: the number of the batch, from 0.
    """

    graph: GraphsTuple
    targets: Targets
    masks: Masks
    index: Int32[np.ndarray, "G"]
    step: Int32[np.ndarray, ""]


class Packed(NamedTuple):
    """All graphs in one, so that a batch is some rows of a few arrays; and where each graph begins, [K + 1]."""

    graph: GraphsTuple
    ids: Ids
    targets: Targets
    nodes: np.ndarray
    edges: np.ndarray


def pack(graphs: Sequence[GraphsTuple], targets: Targets) -> Packed:
    """All graphs in one, with their targets.

    Raises:
      ValueError: no graph, one that is a batch, graphs or targets that differ, targets of another length.
    """
    for index, graph in enumerate(graphs):
        if len(graph.n_node) != 1:
            raise ValueError(
                f"graphs[{index}] is a batch of {len(graph.n_node)} graphs: unbatch it first"
            )
    whole = batch(graphs)
    ids = host_ids(whole)
    joined = Targets(
        node=_joined("node", targets.node, ids.n_node),
        edge=_joined("edge", targets.edge, ids.n_edge),
        graph=_rows("graph", targets.graph, len(graphs)),
    )
    starts = (np.concatenate([[0], np.cumsum(count)]) for count in (ids.n_node, ids.n_edge))
    return Packed(whole, ids, joined, *starts)


def _joined(name: str, trees: Sequence[PyTree] | None, counts: np.ndarray) -> PyTree:
    """The rows of all graphs."""
    if trees is None:
        return None
    if not isinstance(trees, Sequence) or len(trees) != len(counts):
        got = f"{len(trees)}" if isinstance(trees, Sequence) else f"a {type(trees).__name__}"
        raise ValueError(
            f"targets.{name} must be a list of {len(counts)} trees, one per graph, got {got}"
        )
    rows = [
        _rows(f"{name}[{index}]", tree, int(count))
        for index, (tree, count) in enumerate(zip(trees, counts, strict=True))
    ]
    kinds = [jax.tree.map(lambda leaf: (leaf.dtype.name, leaf.shape[1:]), tree) for tree in rows]
    for index, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise ValueError(
                f"targets.{name}[{index}] has {shown(kind)}, targets.{name}[0] has {shown(kinds[0])}: give "
                "all graphs the same targets"
            )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)


def _rows(name: str, tree: PyTree, count: int) -> PyTree:
    """Arrays of so many rows, in dtypes that JAX keeps."""
    scalars = isinstance(tree, list | tuple) and all(map(np.isscalar, jax.tree.leaves(tree)))
    return jax.tree.map(
        lambda leaf: _array(f"targets.{name}", np.asarray(leaf), count),
        np.asarray(tree) if scalars else tree,
    )


def _array(name: str, array: np.ndarray, count: int) -> np.ndarray:
    if array.ndim == 0 or len(array) != count:
        raise ValueError(f"{name} has shape {array.shape}: its first axis must be {count}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} has dtype {array.dtype}: targets are numbers; number the classes")
    place = lambda index: f"{name}[{', '.join(map(str, index))}] = "
    if array.dtype == np.float64:
        return to_float(array, place)
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4 and default_float() == np.float32:
        if (index := first_over(array, np.dtype(np.int32))) is not None:
            raise ValueError(f"{place(index)}{array[index]} is over int32: {DIGITS_REMEDY}")
        return array.astype(np.int32)
    if array.dtype.kind == "u":  # -1 says that there is none.
        return array.astype(np.int32 if array.dtype.itemsize < 4 else np.int64)
    return array


def take(
    packed: Packed, index: np.ndarray, shapes: Sequence[Budget | Slots], step: int
) -> GraphBatch:
    """The graphs `index`, padded as `pad` does to the smallest shape that holds them."""
    n_node, n_edge = packed.ids.n_node[index], packed.ids.n_edge[index]
    nodes, edges = _ranges(packed.nodes[index], n_node), _ranges(packed.edges[index], n_edge)
    moved = np.repeat(np.cumsum(n_node) - n_node - packed.nodes[index], n_edge).astype(np.int32)
    senders, receivers = (end[edges] + moved for end in packed.ids[:2])
    ids = Ids(senders, receivers, n_node, n_edge)
    shape = smallest_that_holds(shapes, n_node, n_edge)
    if isinstance(shape, Slots):
        sizes, places, fields = sizes_of(shape), place(ids, shape), ids_of(shape)
    else:
        sizes, places, fields = shape, *_in_budget(shape, ids)
    chosen = list(zip((nodes, edges, index), places, sizes, strict=True))
    features = _rows_of([getattr(packed.graph, name) for name in _TABLES], chosen)
    graph = packed.graph._replace(**dict(zip(_TABLES, features, strict=True)), **fields)
    targets = Targets(*_rows_of(packed.targets, chosen, _none))
    masks = Masks(*(put(np.ones(len(rows), bool), to, size) for rows, to, size in chosen))
    which = put(index.astype(np.int32), places[2], sizes[2], -1)
    return GraphBatch(graph, targets, masks, which, np.asarray(step, np.int32))


_TABLES = ("nodes", "edges", "globals")


def _in_budget(budget: Budget, ids: Ids) -> tuple[Places, dict[str, Any]]:
    """What is real comes first, and a spare graph has the padding."""
    real = Places(*map(np.arange, (ids.n_node.sum(), len(ids.senders), len(ids.n_node))))
    spare = len(real.nodes), len(real.edges), len(real.graphs)
    ends = (put(end, real.edges, budget.edges, spare[0]) for end in ids[:2])
    counts = [put(count, real.graphs, budget.graphs) for count in ids[2:]]
    counts[0][spare[2]], counts[1][spare[2]] = budget.nodes - spare[0], budget.edges - spare[1]
    return real, Ids(*ends, *counts)._asdict()


def _rows_of(
    trees: Sequence[PyTree],
    chosen: Sequence[tuple[np.ndarray, np.ndarray, int]],
    padding: Callable[[np.dtype], Any] = lambda dtype: 0,
) -> list[PyTree]:
    """Rows of the tables of nodes, edges and graphs, at their places among as many as the sizes say."""
    filled = lambda rows, to, size: lambda leaf: put(leaf[rows], to, size, padding(leaf.dtype))
    return [jax.tree.map(filled(*own), tree) for tree, own in zip(trees, chosen, strict=True)]


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each, one after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


def _none(dtype: np.dtype) -> Any:
    """What says that there is no target."""
    return {"i": -1, "f": np.nan}.get(dtype.kind, 0)
