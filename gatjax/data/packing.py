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
from gatjax.graph.check import Ids, host_ids
from gatjax.graph.messages import shown
from gatjax.graph.numbers import DIGITS_REMEDY, default_float, first_over, to_float


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
    return array


def take(packed: Packed, index: np.ndarray, budgets: Sequence[Budget], step: int) -> GraphBatch:
    """The graphs `index`, padded as `pad` does to the smallest budget that holds them."""
    n_node, n_edge = packed.ids.n_node[index], packed.ids.n_edge[index]
    nodes, edges = _ranges(packed.nodes[index], n_node), _ranges(packed.edges[index], n_edge)
    budget = smallest_that_holds(budgets, len(nodes), len(edges))
    moved = np.repeat(np.cumsum(n_node) - n_node - packed.nodes[index], n_edge).astype(np.int32)
    senders, receivers = (
        _filled(end[edges] + moved, budget.edges, len(nodes)) for end in packed.ids[:2]
    )
    counts = _filled(n_node, budget.graphs), _filled(n_edge, budget.graphs)
    counts[0][len(index)], counts[1][len(index)] = (
        budget.nodes - len(nodes),
        budget.edges - len(edges),
    )
    rows = nodes, edges, index
    whole = packed.graph
    features = _rows_of((whole.nodes, whole.edges, whole.globals), rows, budget)
    tables = dict(zip(("nodes", "edges", "globals"), features, strict=True))
    ids = Ids(senders, receivers, *counts)._asdict()
    graph = whole._replace(**tables, **ids)
    targets = Targets(*_rows_of(packed.targets, rows, budget, _none))
    masks = Masks(*(np.arange(size) < len(real) for size, real in zip(budget, rows, strict=True)))
    which = _filled(index.astype(np.int32), budget.graphs, -1)
    return GraphBatch(graph, targets, masks, which, np.asarray(step, np.int32))


def _rows_of(
    trees: Sequence[PyTree],
    rows: Sequence[np.ndarray],
    sizes: Sequence[int],
    padding: Callable[[np.dtype], Any] = lambda dtype: 0,
) -> list[PyTree]:
    """Rows of the tables of nodes, edges and graphs, filled up to the sizes."""
    filled = lambda chosen, size: lambda leaf: _filled(leaf[chosen], size, padding(leaf.dtype))
    chosen = zip(trees, rows, sizes, strict=True)
    return [jax.tree.map(filled(own, size), tree) for tree, own, size in chosen]


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each, one after the other."""
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


def _filled(rows: np.ndarray, size: int, value: Any = 0) -> np.ndarray:
    result = np.full((size, *rows.shape[1:]), value, rows.dtype)
    result[: len(rows)] = rows
    return result


def _none(dtype: np.dtype) -> Any:
    """What says that there is no target."""
    return {"i": -1, "f": np.nan}.get(dtype.kind, 0)
