"""Batches of many graphs and what is known of them, shuffled, padded to a few sizes, resumable; on Grain.

Shapes: K graphs in all, G graphs of a batch, N nodes, E edges.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.data.budgets import budgets_for, check_all_slots, check_budgets
from gatjax.data.packing import GraphBatch, Targets, pack, take
from gatjax.graph.batching import Budget, Masks
from gatjax.graph.build import check_complete
from gatjax.graph.messages import check_at_least
from gatjax.ops.pairs import Slots

Budgets = Sequence[Budget] | Sequence[Slots] | Budget | Slots


class Padding(NamedTuple):
    """How much of batches is padding: shares of nodes, edges and graphs; and how many shapes they have."""

    node: float
    edge: float
    graph: float
    shapes: int


def batches(
    graphs: Sequence[GraphsTuple],
    targets: PyTree = None,
    *,
    batch_size: int,
    seed: int = 0,
    epochs: int | None = 1,
    budgets: Budgets | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Any:
    """All batches of a training, as a Grain `MapDataset`: batch k, `batches(...)[k]`, depends on the seed and k alone.

    In each epoch every graph comes once, in an order of its own. The last batch of an epoch holds what remains; it is
    padded like any other. Iterate from any step, in threads, by `start_at`. As everywhere in Grain, an index below 0 or
    past the end goes round and raises nothing: stop at `len`.

    Args:
        graphs: K graphs whose features have the same structure, row shape and dtype.
        targets: `Targets`; or the targets of the graphs alone, a tree of arrays with K rows.
        batch_size: graphs in a batch.
        seed: of the orders, from 0 to 2³² - 1.
        epochs: how often each graph comes; None for ever.
        budgets: the shapes of the batches, of which each takes the smallest that holds it; those of `budgets_for` by
            default. Of complete graphs they may be `Slots`, such as those of `slots_for`: a batch then holds graphs of
            one size, those that go into the same slots.
        shuffle: whether the graphs come in random order; else in their own.
        drop_last: leave out the last batch of an epoch if it is not full.

    Returns:
        A `grain.MapDataset` of `GraphBatch`.

    Raises:
        ImportError: Grain is not installed.
        TypeError: sparse node features.
        ValueError: no graph, graphs that differ, targets of another length, or a graph that fits no budget.

    >>> from gatjax.graph import build_graph
    >>> graphs = [build_graph([0] * n, [0] * n, np.ones((n, 2))) for n in (1, 2, 3, 4, 5)]
    >>> data = batches(graphs, np.array([0, 1, 0, 1, 1]), batch_size=2, epochs=10)
    >>> len(data), [batch.index.tolist() for batch in data[:3]]
    (30, [[...], [...], [..., -1, -1]])
    >>> data[29].targets.graph.tolist()[1:], data[29].masks.graph.tolist()
    ([-1, -1], [True, False, False])
    """
    grain = find_grain()
    check_at_least(1, batch_size=batch_size, **({} if epochs is None else {"epochs": epochs}))
    check_seed(seed)
    graphs = list(graphs)
    targets = targets if isinstance(targets, Targets) else Targets(graph=targets)
    packed = pack(graphs, targets)
    sizes, classes = _sizes(budgets, graphs, packed.ids.n_node, batch_size)
    if sizes and isinstance(sizes[0], Slots):
        check_complete(packed.graph)
    parts = [
        in_batches(grain, part, batch_size, drop_last, seed if shuffle else None)
        for part in classes
    ]
    order = parts[0] if len(parts) == 1 else grain.MapDataset.concatenate(parts)
    order = order.shuffle(seed=seed) if shuffle and len(parts) > 1 else order
    order = order.repeat(epochs) if epochs != 1 else order
    return order.map_with_index(lambda step, index: take(packed, index, sizes, step))


def _sizes(
    budgets: Budgets | None, graphs: Sequence[GraphsTuple], n_node: np.ndarray, batch_size: int
) -> tuple[tuple[Budget | Slots, ...], list[np.ndarray]]:
    """The sizes of batches, smallest first, and which graphs may be in one batch: all, or those of the same slots."""
    given = budgets_for(graphs, batch_size=batch_size) if budgets is None else budgets
    given = [given] if isinstance(given, Budget | Slots) else list(given)
    if not given:
        raise ValueError("budgets is empty: give one, or leave it out")
    slots = [size for size in given if isinstance(size, Slots)]
    if len(slots) < len(given):
        each = [Budget(*size) for size in given]
        return check_budgets(each, graphs, batch_size), [np.arange(len(graphs))]
    ordered = check_all_slots(slots, graphs, batch_size)
    smallest = np.searchsorted([size.nodes for size in ordered], n_node)
    parts = (np.flatnonzero(smallest == k) for k in range(len(ordered)))
    return ordered, [part for part in parts if len(part)]


def check_seed(seed: int) -> None:
    """Refuse what Grain cannot shuffle by.

    Raises:
        TypeError, ValueError: it is no number from 0 to 2³² - 1.
    """
    check_at_least(0, seed=seed)
    if seed >= 2**32:
        raise ValueError(f"seed = {seed} must be below 2**32")


def in_batches(
    grain: Any, ids: np.ndarray, batch_size: int, drop_last: bool, seed: int | None
) -> Any:
    """Batches of ids, once through, in the order of a seed, each time round another; or in their own."""
    if drop_last and len(ids) < batch_size:
        raise ValueError(
            f"drop_last leaves nothing of {len(ids)} graphs: lower batch_size = {batch_size}"
        )
    order = grain.MapDataset.source(ids)
    order = order if seed is None else order.shuffle(seed=seed)
    return order.batch(batch_size, drop_remainder=drop_last, batch_fn=np.array)


def start_at(dataset: Any, step: int = 0, *, threads: int = 2, ahead: int = 8) -> Any:
    """An iterator over a Grain data set from batch `step` on: the step is the whole state of a training's data.

    Args:
        dataset: of `batches`.
        step: the number of the first batch.
        threads: how many make batches at the same time; they are the same for any number.
        ahead: how many batches are made before they are asked for.

    Returns:
        A `grain.DatasetIterator`. For Grain's checkpoints it has a state of its own, which counts from `step`.

    Raises:
        ValueError: a step or numbers that are not sound.

    >>> from gatjax.graph import build_graph
    >>> data = batches([build_graph([], [], num_nodes=n) for n in range(9)], batch_size=2, epochs=None)
    >>> int(next(start_at(data, 1000)).step)
    1000
    """
    check_at_least(0, step=step)
    check_at_least(1, threads=threads, ahead=ahead)
    options = find_grain().ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(ahead, threads)
    )
    if step > len(dataset):
        raise ValueError(f"step = {step} is beyond the {len(dataset)} batches of the data set")
    return iter(dataset[step:].to_iter_dataset(options))


def padding_of(batches: Iterable[GraphBatch]) -> Padding:
    """How much of these batches is padding, and how many programs they compile.

    Args:
        batches: some of them, such as one epoch.

    Raises:
        ValueError: no batch.

    >>> from gatjax.graph import build_graph
    >>> graphs = [build_graph([], [], num_nodes=n) for n in range(9)]
    >>> padding_of(batches(graphs, batch_size=3, budgets=Budget(24, 0, 4)))
    Padding(node=0.5, edge=0.0, graph=0.25, shapes=1)
    """
    masks = [batch.masks for batch in batches]
    if not masks:
        raise ValueError("batches is empty: give at least one")
    shares = []
    for name in Masks._fields:
        rows = np.array([(mask.sum(), len(mask)) for mask in (getattr(m, name) for m in masks)])
        real, total = rows.sum(axis=0).tolist()
        shares.append(1 - real / total if total else 0.0)
    return Padding(*shares, shapes=len({tuple(map(len, mask)) for mask in masks}))


def find_grain() -> Any:
    """The package that batches are made with.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import grain
    except ImportError:
        raise ImportError("batches need grain: pip install 'gatjax[loader]'") from None
    return grain
