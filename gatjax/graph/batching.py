"""Batches of fixed shape: graphs side by side, padded to a budget, with masks of what is real.

Shapes: N nodes, E edges, G graphs of a batch. Padding comes last, after self-loops and sorting, and
before `jax.jit`, which then compiles once per budget. Every size is read from `n_node` and `n_edge`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jraph
import numpy as np
from jaxtyping import Array, Bool, PyTree
from jraph import GraphsTuple

from gatjax.graph.ids import Ids, host_ids, integers, require_dense
from gatjax.graph.messages import check_at_least, check_integer, shown
from gatjax.graph.sizes import leaves
from gatjax.graph.slots import check_slots, fill_slots
from gatjax.ops.blocks import round_up
from gatjax.ops.pairs import Slots, all_pairs


class Masks(NamedTuple):
    """True where a node, an edge or a graph is real, False where it is padding."""

    node: Bool[Array | np.ndarray, "N"]
    edge: Bool[Array | np.ndarray, "E"]
    graph: Bool[Array | np.ndarray, "G"]


class Budget(NamedTuple):
    """The shape of a padded batch, the spare node and the spare graph included."""

    nodes: int
    edges: int
    graphs: int


def batch(graphs: Sequence[GraphsTuple]) -> GraphsTuple:
    """Several graphs side by side as one `GraphsTuple`, as `jraph.batch`, checked.

    Args:
        graphs: graphs, or batches of graphs, whose features have the same structure, row shape
            and dtype. A graph without edges, or without nodes, may say nothing about their
            features: it has no rows, of the width of the others'.

    Returns:
        One batch of NumPy arrays; ids are int32 and count nodes through the whole batch.

    Raises:
        TypeError: sparse node features.
        ValueError: no graph at all, features that differ, or a graph that is not sound.

    >>> from gatjax.graph import build_graph
    >>> both = batch([build_graph([0], [1], num_nodes=2), build_graph([0], [0], num_nodes=1)])
    >>> both.senders.tolist(), both.n_node.tolist()
    ([0, 2], [2, 1])
    """
    graphs = list(graphs)
    if not graphs:
        raise ValueError("graphs is empty: a batch needs at least one graph")
    for graph in graphs:
        require_dense(graph, "batch or pad")
    # As int32 beforehand, too: narrow ids would overflow, unsigned ones become floats.
    graphs = _alike([_int32(graph) for graph in graphs])
    return _int32(jraph.batch_np(jax.device_get(graphs)))


def unbatch(graph: GraphsTuple) -> list[GraphsTuple]:
    """The graphs of a batch, one by one; the inverse of `batch`.

    Args:
        graph: a batch. To leave out padding, `unpad` it first.

    Returns:
        G graphs whose ids start at 0; features are slices of the batch's.

    Raises:
        TypeError: sparse node features.

    >>> from gatjax.graph import build_graph
    >>> pair = batch([build_graph([0], [1], num_nodes=2), build_graph([0], [0], num_nodes=1)])
    >>> [part.receivers.tolist() for part in unbatch(pair)]
    [[1], [0]]
    """
    require_dense(graph, "unbatch")
    ids = host_ids(graph)
    nodes, edges = np.cumsum([0, *ids.n_node]), np.cumsum([0, *ids.n_edge])
    return [
        _part(
            graph,
            ids,
            slice(nodes[index], nodes[index + 1]),
            slice(edges[index], edges[index + 1]),
            slice(index, index + 1),
        )
        for index in range(len(ids.n_node))
    ]


def pad(
    graphs: GraphsTuple | Sequence[GraphsTuple], budget: Budget | Slots | tuple[int, int, int]
) -> tuple[GraphsTuple, Masks]:
    """A batch filled up to the budget, and masks of its real part.

    The real graphs come first. After them one spare graph owns all padding nodes, at least one, and
    all padding edges, which are self-loops of its first node; any further spare graphs are empty.
    Padding features are zeros.

    Complete graphs, in which each node has one edge from every node, itself included, such as molecules,
    may go into `Slots` instead: every graph gets n nodes, of which its own come first, and all edges
    between them, j -> i in row i·n + j, whatever order they had. A layer then knows the edges inside
    `jax.jit`, and computes all pairs of a graph at once where that is faster. It needs
    `node_mask=masks.node`, and refuses to go without.

    Args:
        graphs: one graph, a batch, or a sequence of them.
        budget: nodes, edges and graphs of the result, or nodes of each of so many graphs.

    Returns:
        The padded batch and its `Masks`.

    Raises:
        TypeError: sparse node features.
        ValueError: the graphs do not fit, by the size that is too small; for `Slots`, a graph that is not
            complete, by the first pair that has no edge, or two.

    >>> from gatjax.graph import build_graph
    >>> graph, masks = pad(build_graph([0], [1], num_nodes=2), Budget(nodes=5, edges=3, graphs=2))
    >>> graph.senders.tolist(), masks.node.tolist()
    ([0, 2, 2], [True, True, False, False, False])
    >>> from gatjax.graph import fully_connected
    >>> pad([fully_connected(1), fully_connected(2)], Slots(nodes=2, graphs=2))[1].node.tolist()
    [True, False, True, True]
    """
    if isinstance(budget, Slots):
        together, masks = fill_slots(
            batch([graphs] if isinstance(graphs, GraphsTuple) else graphs), budget
        )
        return together, Masks(*masks)
    budget = _checked(budget)
    together = batch([graphs] if isinstance(graphs, GraphsTuple) else graphs)
    sizes = _sizes(together)
    _check_fit(sizes, budget)
    padded = jraph.pad_with_graphs(together, *budget)
    real = (np.arange(size) < used for size, used in zip(budget, sizes, strict=True))
    return _int32(padded), Masks(*real)


def unpad(graph: GraphsTuple, masks: Masks) -> GraphsTuple:
    """The real part of a padded batch; the inverse of `pad`.

    Args:
        graph: a padded batch, or what a model made of one.
        masks: the masks that `pad` returned with it.

    Raises:
        TypeError: sparse node features.
        ValueError: masks of another batch, or masks that do not put what is real first.

    >>> from gatjax.graph import build_graph
    >>> original = build_graph([0], [1], num_nodes=2)
    >>> unpad(*pad(original, Budget(nodes=5, edges=3, graphs=2))).senders.tolist()
    [0]
    """
    require_dense(graph, "unpad")
    if all_pairs(graph.senders, graph.receivers) is not None:
        return _out_of_slots(graph, masks)
    kept = []
    for name, mask, size in zip(Masks._fields, masks, _sizes(graph), strict=True):
        mask = np.asarray(mask)
        if mask.shape != (size,):
            raise ValueError(f"masks.{name} has shape {mask.shape}: this graph needs ({size},)")
        if np.any(mask[1:] > mask[:-1]):
            raise ValueError(f"masks.{name} is True after False: pass the masks that pad returned")
        kept.append(slice(0, int(mask.sum())))
    return _part(graph, host_ids(graph), *kept)


def masks_of(graph: GraphsTuple, num_real_graphs: int | None = None) -> Masks:
    """Masks of a batch whose first graphs are real; without a number all of them are.

    Args:
        graph: one graph or a batch, padded or not; its nodes may be sparse.
        num_real_graphs: how many graphs are real; they come first.

    Raises:
        ValueError: a number outside 0 to G.

    >>> from gatjax.graph import build_graph
    >>> masks_of(build_graph([0], [1], num_nodes=2)).node.tolist()
    [True, True]
    """
    _, _, n_node, n_edge = host_ids(graph)
    if all_pairs(graph.senders, graph.receivers) is not None:
        raise ValueError(
            "what is padding in a batch of Slots, only the masks tell that pad returned: keep them"
        )
    num_graphs = len(n_node)
    real = num_graphs if num_real_graphs is None else num_real_graphs
    check_integer(num_real_graphs=real)
    if not 0 <= real <= num_graphs:
        raise ValueError(f"num_real_graphs = {real} must lie between 0 and {num_graphs} graphs")
    return Masks(
        node=np.arange(n_node.sum()) < n_node[:real].sum(),
        edge=np.arange(n_edge.sum()) < n_edge[:real].sum(),
        graph=np.arange(num_graphs) < real,
    )


def budget_for(graphs: Iterable[GraphsTuple], *, batch_size: int, round_to: int = 64) -> Budget:
    """The budget that any `batch_size` of these graphs fit.

    Args:
        graphs: the data set.
        batch_size: how many of them go into one batch.
        round_to: nodes and edges are rounded up to a multiple of this, so that similar data sets
            share compiled code.

    Returns:
        The largest `batch_size` node counts, edge counts and graph counts summed, and one spare
        node and graph.

    Raises:
        ValueError: no graphs, or a `batch_size` or `round_to` under 1.

    >>> from gatjax.graph import build_graph
    >>> graphs = [build_graph([0] * 4, [0] * 4, num_nodes=n) for n in (2, 7, 5)]
    >>> budget_for(graphs, batch_size=2, round_to=1)
    Budget(nodes=13, edges=8, graphs=3)
    """
    check_at_least(1, batch_size=batch_size, round_to=round_to)
    sizes = np.array([_sizes(graph) for graph in graphs])
    if not len(sizes):
        raise ValueError("graphs is empty: a budget needs at least one graph")
    nodes, edges, count = np.sort(sizes, axis=0)[-batch_size:].sum(axis=0).tolist()
    return Budget(round_up(nodes + 1, round_to), round_up(edges, round_to), count + 1)


def pad_batches(
    graphs: Iterable[GraphsTuple], budget: Budget | Slots | tuple[int, int, int]
) -> Iterator[tuple[GraphsTuple, Masks]]:
    """Padded batches of consecutive graphs, each as full as the budget allows.

    Args:
        graphs: graphs in the order in which they are to appear; shuffle them beforehand.
        budget: the shape of every batch.

    Returns:
        An iterator over what `pad` returns, nothing for no graphs.

    Raises:
        ValueError: a graph that does not fit on its own; before the first batch.

    >>> from gatjax.graph import build_graph
    >>> graphs = [build_graph([0], [0], num_nodes=n) for n in (2, 3, 4)]
    >>> [masks.graph.sum().item() for _, masks in pad_batches(graphs, Budget(7, 2, 3))]
    [2, 1]
    """
    graphs = _alike(list(graphs))
    if isinstance(budget, Slots):
        sizes = [integers("n_node", graph.n_node) for graph in graphs]
        check_slots(budget, np.concatenate([*sizes, np.zeros(0, int)]), most=0)
        parts = range(0, len(graphs), budget.graphs)
        return (pad(graphs[part : part + budget.graphs], budget) for part in parts)
    budget = _checked(budget)
    groups: list[list[GraphsTuple]] = []
    used = (0, 0, 0)
    for graph in graphs:
        alone = _sizes(graph)
        _check_fit(alone, budget)
        used = tuple(map(sum, zip(used, alone, strict=True)))
        if not groups or _shortage(used, budget):
            groups.append([])
            used = alone
        groups[-1].append(graph)
    return (pad(group, budget) for group in groups)


def _checked(budget: Budget | tuple[int, int, int]) -> Budget:
    if len(budget) != 3:
        raise ValueError(
            f"budget has {len(budget)} entries: give three, Budget(nodes, edges, graphs)"
        )
    budget = Budget(*budget)
    check_integer(**{f"budget.{name}": size for name, size in budget._asdict().items()})
    return budget


def _sizes(graph: GraphsTuple) -> tuple[int, int, int]:
    """Nodes, edges and graphs."""
    n_node, n_edge = integers("n_node", graph.n_node), integers("n_edge", graph.n_edge)
    return int(n_node.sum()), int(n_edge.sum()), len(n_node)


def _shortage(sizes: Iterable[int], budget: Budget) -> list[str]:
    spare = Budget(nodes=1, edges=0, graphs=1)
    return [
        f"{size + extra} {name}{' with the spare one' * extra}, budget.{name} is {limit}"
        for name, size, extra, limit in zip(Budget._fields, sizes, spare, budget, strict=True)
        if size + extra > limit
    ]


def _check_fit(sizes: Iterable[int], budget: Budget) -> None:
    shortage = _shortage(sizes, budget)
    if shortage:
        raise ValueError(
            f"the graphs need {'; '.join(shortage)}: raise the budget, see budget_for, or take "
            "fewer graphs"
        )


def _alike(graphs: list[GraphsTuple]) -> list[GraphsTuple]:
    """The graphs, whose features must have the same structure, row shapes and dtypes; tables without rows follow."""
    for name in ("nodes", "edges", "globals"):
        tables = [getattr(graph, name) for graph in graphs]
        rows = [_rows(graph, name) for graph in graphs]
        # What has rows says what a row is; where nothing has, the first that has a table.
        order = sorted(range(len(tables)), key=lambda i: (rows[i] == 0, tables[i] is None))
        if not order:
            return graphs
        model, kind = order[0], _kind(tables[order[0]])
        for index, table in enumerate(tables):
            if rows[index] and _kind(table) != kind:
                raise ValueError(
                    f"graphs[{index}].{name} has {_described(table)}, graphs[{model}].{name} has "
                    f"{_described(tables[model])}: give all graphs the same features"
                )
        if 0 in rows:
            empty = jax.tree.map(
                lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), tables[model]
            )
            graphs = [
                graph if count else graph._replace(**{name: empty})
                for graph, count in zip(graphs, rows, strict=True)
            ]
    return graphs


def _rows(graph: GraphsTuple, name: str) -> int:
    counts = {"nodes": graph.n_node, "edges": graph.n_edge}
    return len(graph.n_node) if name == "globals" else int(integers(name, counts[name]).sum())


def _described(features: PyTree) -> str:
    structure, rows = _kind(features)
    return f"rows {shown(rows)} in {shown(structure)}"


def _kind(features: PyTree) -> tuple[str, str]:
    rows = ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves(features))
    return str(jax.tree.structure(features)), rows


def _part(graph: GraphsTuple, ids: Ids, node: slice, edge: slice, part: slice) -> GraphsTuple:
    """The graphs in the slice `part`, which own the nodes and edges of the other two slices."""
    senders, receivers = (ends[edge] - np.int32(node.start) for ends in ids[:2])
    ids = Ids(senders, receivers, ids.n_node[part], ids.n_edge[part])
    rows = lambda features, kept: jax.tree.map(lambda leaf: leaf[kept], features)
    return graph._replace(
        nodes=rows(graph.nodes, node),
        edges=rows(graph.edges, edge),
        globals=rows(graph.globals, part),
        **ids._asdict(),
    )


def _out_of_slots(graph: GraphsTuple, masks: Masks) -> GraphsTuple:
    """The real part of a batch in slots."""
    ids, sizes = host_ids(graph), _sizes(graph)
    for name, mask, size in zip(Masks._fields, masks, sizes, strict=True):
        if np.shape(mask) != (size,):
            raise ValueError(f"masks.{name} has shape {np.shape(mask)}: this graph needs ({size},)")
    node, edge, part = (np.asarray(mask) for mask in masks)
    new = np.cumsum(node) - 1
    count = lambda mask, counts: np.add.reduceat(mask, np.cumsum(counts) - counts, dtype=np.int32)
    rows = lambda features, kept: jax.tree.map(lambda leaf: leaf[kept], features)
    return _int32(
        graph._replace(
            nodes=rows(graph.nodes, node),
            edges=rows(graph.edges, edge),
            globals=rows(graph.globals, part),
            senders=new[ids.senders[edge]],
            receivers=new[ids.receivers[edge]],
            n_node=count(node, ids.n_node)[part],
            n_edge=count(edge, ids.n_edge)[part],
        )
    )


def _int32(graph: GraphsTuple) -> GraphsTuple:
    """Ids and counts as int32; `jraph` widens them."""
    return graph._replace(**host_ids(graph)._asdict())
