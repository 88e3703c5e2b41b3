"""Budgets for batches drawn at random: a few sizes, so that little is padded and few programs are compiled."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jraph import GraphsTuple

from gatjax.graph.batching import Budget
from gatjax.graph.ids import integers
from gatjax.graph.messages import check_at_least, check_integer
from gatjax.graph.slots import check_slots
from gatjax.ops.blocks import round_up
from gatjax.ops.pairs import Slots

DRAWS = 512  # batches drawn to learn how large they are


def budgets_for(
    graphs: Iterable[GraphsTuple], *, batch_size: int, count: int = 3, round_to: int = 64
) -> tuple[Budget, ...]:
    """Budgets for batches of `batch_size` of these graphs, drawn at random.

    The largest holds any `batch_size` of the graphs, as that of `budget_for` does. Such a batch hardly ever comes, so
    the others hold equal shares of the batches that do: of 3 budgets, one holds half of them, the second nearly all.

    Args:
        graphs: the data set.
        batch_size: how many of them go into one batch.
        count: how many budgets at most, hence compiled programs.
        round_to: nodes and edges are rounded up to a multiple of this.

    Returns:
        At most `count` budgets, the smallest first, each with room for one spare node and graph.

    Raises:
        ValueError: no graphs, or a number under 1.

    >>> from gatjax.graph import build_graph
    >>> graphs = [build_graph([0] * n, [0] * n, num_nodes=n) for n in range(1, 100)]
    >>> for budget in budgets_for(graphs, batch_size=8, round_to=32):
    ...     print(budget)
    Budget(nodes=416, edges=416, graphs=9)
    Budget(nodes=672, edges=672, graphs=9)
    Budget(nodes=768, edges=768, graphs=9)
    """
    check_at_least(1, batch_size=batch_size, count=count, round_to=round_to)
    sizes = sizes_of(graphs)
    if not len(sizes):
        raise ValueError("graphs is empty: a budget needs at least one graph")
    drawn = _drawn(sizes, min(batch_size, len(sizes)))
    shares = np.arange(1, count) / max(count - 1, 1)
    steps = [*np.quantile(drawn, shares, axis=0, method="higher"), largest(sizes, batch_size)]
    budgets = [
        Budget(round_up(int(nodes) + 1, round_to), round_up(int(edges), round_to), batch_size + 1)
        for nodes, edges in steps
    ]
    return tuple(dict.fromkeys(budgets))


def sizes_of(graphs: Iterable[GraphsTuple]) -> np.ndarray:
    """Nodes and edges of each, [K, 2]."""
    fields = ("n_node", "n_edge")
    counts = [[integers(name, getattr(graph, name)).sum() for name in fields] for graph in graphs]
    return np.array(counts, np.int64).reshape(-1, 2)


def largest(sizes: np.ndarray, batch_size: int) -> np.ndarray:
    """Nodes and edges that any batch may need, [2]."""
    return np.sort(sizes, axis=0)[-batch_size:].sum(axis=0)


def slots_for(
    graphs: Iterable[GraphsTuple], *, batch_size: int, count: int = 3
) -> tuple[Slots, ...]:
    """Sizes of slots for batches of `batch_size` of these graphs, which are complete, with the fewest pairs in all.

    Args:
        graphs: the data set.
        batch_size: how many of them go into one batch.
        count: how many sizes at most, hence compiled programs.

    Returns:
        At most `count` slots, the smallest first; the last is as large as the largest graph.

    Raises:
        ValueError: no graphs, or a number under 1.

    >>> from gatjax.graph import fully_connected
    >>> [slots.nodes for slots in slots_for([fully_connected(n) for n in (2, 3, 3, 9, 30)], batch_size=2)]
    [3, 9, 30]
    """
    check_at_least(1, batch_size=batch_size, count=count)
    nodes = np.maximum(sizes_of(graphs)[:, 0], 1)
    if not len(nodes):
        raise ValueError("graphs is empty: slots need at least one graph")
    sizes, counts = np.unique(nodes, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    pairs = lambda j, k: int((below[k] - below[j]) * sizes[k - 1] ** 2)
    # Of the graphs of the first k sizes: their pairs, and the slots they are in.
    best: list[tuple[float, tuple[int, ...]]] = [(0, ()), *[(math.inf, ())] * len(sizes)]
    for _ in range(count):
        last, best = best, best[:1]
        for k, size in enumerate(sizes.tolist(), 1):
            split = ((last[j][0] + pairs(j, k), (*last[j][1], size)) for j in range(k))
            best.append(min(last[k], *split))
    return tuple(Slots(size, batch_size) for size in best[-1][1])


def smallest_that_holds(
    sizes: Sequence[Budget | Slots], n_node: np.ndarray, n_edge: np.ndarray
) -> Budget | Slots:
    """The first budget with room for graphs of so many nodes and edges, beside a spare node; or slots for each."""

    def holds(size: Budget | Slots) -> bool:
        if isinstance(size, Slots):
            return bool(n_node.max(initial=0) <= size.nodes)
        return bool(n_node.sum() < size.nodes and n_edge.sum() <= size.edges)

    return next(filter(holds, sizes))


def check_all_slots(
    slots: Sequence[Slots], graphs: Sequence[GraphsTuple], batch_size: int
) -> tuple[Slots, ...]:
    """The slots in order of size, of which the largest must hold any graph.

    Raises:
      ValueError: a graph does not fit, or a batch has more than there are slots.
    """
    *others, most = sorted(slots)
    nodes = sizes_of(graphs)[:, 0]
    for each in others:
        check_slots(each, nodes[:0], most=batch_size)
    check_slots(most, nodes, most=batch_size)
    return *others, most


def check_budgets(
    budgets: Sequence[Budget], graphs: Sequence[GraphsTuple], batch_size: int
) -> tuple[Budget, ...]:
    """The budgets in order of size, of which the largest must hold any batch.

    Raises:
      ValueError: a graph, or the largest ones together, do not fit.
    """
    ordered = sorted(budgets, key=lambda budget: (budget.nodes, budget.edges))
    for budget in ordered:
        check_integer(**{f"budget.{name}": size for name, size in budget._asdict().items()})
        if budget.graphs <= batch_size:
            raise ValueError(
                f"budget.graphs = {budget.graphs}: {batch_size} graphs and a spare one need {batch_size + 1}"
            )
    sizes, most = sizes_of(graphs), ordered[-1]
    remedy = "raise it, see budgets_for"
    for index, (nodes, edges) in enumerate(sizes.tolist()):
        if nodes >= most.nodes or edges > most.edges:
            raise ValueError(
                f"graphs[{index}] has {nodes} nodes and {edges} edges: the largest budget has room for "
                f"{most.nodes - 1} and {most.edges}; {remedy}, or leave the graph out"
            )
    nodes, edges = largest(sizes, batch_size).tolist()
    if nodes >= most.nodes or edges > most.edges:
        raise ValueError(
            f"{batch_size} graphs may need {nodes} nodes and {edges} edges: the largest budget has room for "
            f"{most.nodes - 1} and {most.edges}; {remedy}, or lower batch_size"
        )
    return tuple(ordered)


def _drawn(sizes: np.ndarray, batch_size: int) -> np.ndarray:
    """Nodes and edges of batches drawn at random, [draws, 2]."""
    generator = np.random.default_rng(0)
    rounds = -(-DRAWS // (len(sizes) // batch_size))
    full = len(sizes) // batch_size * batch_size
    orders = [generator.permutation(len(sizes))[:full] for _ in range(rounds)]
    return sizes[np.concatenate(orders)].reshape(-1, batch_size, 2).sum(axis=1)
