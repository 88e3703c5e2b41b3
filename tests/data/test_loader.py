"""Batches of graphs: each once an epoch, with its targets; the same from any step on; few shapes, little padding."""

import itertools
import subprocess
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax.data import Targets, batches, budgets_for, padding_of, slots_for, start_at
from gatjax.graph import Budget, Slots, batch, budget_for, build_graph, fully_connected, pad

COUNT = 23


def graph_of(index, rng):
    """Row 0 of every table says which graph it is of; some graphs have no edges, one no nodes."""
    n, e = (index * 7) % 11, ((index * 5) % 13) * (index % 11 > 0)
    rows = lambda count: np.full((count, 2), index, np.float32)
    return build_graph(
        rng.integers(0, max(n, 1), e * (n > 0)),
        rng.integers(0, max(n, 1), e * (n > 0)),
        {"x": rows(n), "kind": np.arange(n)},
        edges=rows(e * (n > 0)),
        globals={"of": rows(1)},
    )


GRAPHS = [graph_of(index, np.random.default_rng(index)) for index in range(COUNT)]
TARGETS = Targets(
    node=[100.0 * i + np.arange(int(g.n_node[0]), dtype=np.float32) for i, g in enumerate(GRAPHS)],
    edge=[{"bond": i * np.ones((int(g.n_edge[0]), 3), np.int8)} for i, g in enumerate(GRAPHS)],
    graph={
        "class": np.arange(COUNT),
        "energy": np.arange(COUNT) / 2,
        "known": np.arange(COUNT) > 4,
    },
)


def order(data):
    return [part.index[part.masks.graph].tolist() for part in data]


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [4, 100])
def test_every_graph_comes_once_an_epoch(batch_size, shuffle):
    data = batches(GRAPHS, batch_size=batch_size, epochs=3, seed=5, shuffle=shuffle)
    per_epoch = -(-COUNT // batch_size)
    assert len(data) == 3 * per_epoch
    found = order(data)
    epochs = [sum(found[i * per_epoch : (i + 1) * per_epoch], []) for i in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(COUNT))] * 3
    assert [len(part) for part in found[: per_epoch - 1]] == [batch_size] * (per_epoch - 1)
    assert (epochs[0] == epochs[1]) == (not shuffle) == (epochs[0] == list(range(COUNT)))
    other = batches(GRAPHS, batch_size=batch_size, epochs=3, seed=6, shuffle=shuffle)
    assert (order(other) == found) == (not shuffle)


def test_a_batch_is_what_pad_makes_and_its_targets_are_those_of_its_graphs():
    """`pad`, which goes one graph at a time, is the reference."""
    for part in batches(GRAPHS, TARGETS, batch_size=5, seed=1):
        real = part.index[part.masks.graph]
        budget = Budget(len(part.masks.node), len(part.masks.edge), len(part.masks.graph))
        graph, masks = pad(batch([GRAPHS[i] for i in real]), budget)
        same((part.graph, part.masks), (jax.device_get(graph), masks))
        assert part.graph.senders.dtype == part.graph.n_node.dtype == part.index.dtype == np.int32
        nodes = np.concatenate([TARGETS.node[i] for i in real])
        bonds = np.concatenate([TARGETS.edge[i]["bond"] for i in real])
        same(part.targets.node[masks.node], nodes)
        same(part.targets.edge["bond"][masks.edge], bonds)
        same(part.graph.nodes["x"][:, 0][masks.node], nodes // 100)
        same(part.targets.graph["class"][masks.graph], real)
        same(part.targets.graph["energy"][masks.graph], real / 2)


def test_padding_has_no_target():
    last = batches(GRAPHS, TARGETS, batch_size=5)[4]
    assert np.isnan(last.targets.node[~last.masks.node]).all() and not last.masks.node.all()
    assert (last.targets.edge["bond"][~last.masks.edge] == -1).all()
    assert last.targets.graph["class"][~last.masks.graph].tolist() == [-1] * 3
    assert not last.targets.graph["known"][~last.masks.graph].any()
    assert last.index.tolist()[3:] == [-1] * 3 and int(last.step) == 4
    unsigned = {"class": np.zeros(len(GRAPHS), np.uint8)}
    last = batches(GRAPHS, Targets(graph=unsigned), batch_size=5)[4]
    assert last.targets.graph["class"].tolist() == [0, 0, 0, -1, -1, -1]


@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_resumed_loader_goes_on_where_it_was(threads):
    data = batches(GRAPHS, TARGETS, batch_size=4, epochs=2, seed=9)
    whole = list(start_at(data, threads=threads))
    assert len(whole) == len(data) == 12 and [int(part.step) for part in whole] == list(range(12))
    for step in (0, 3, 6, 11, 12):  # within an epoch and between two
        again = batches(GRAPHS, TARGETS, batch_size=4, epochs=2, seed=9)
        same(list(start_at(again, step, threads=threads)), whole[step:])
    iterator = start_at(data, threads=threads)
    parts = [next(iterator) for _ in range(5)]
    same(parts, whole[:5])
    other = start_at(data)
    other.set_state(iterator.get_state())
    same(list(other), whole[5:])


def test_for_ever():
    data = batches(GRAPHS, batch_size=4, epochs=None, seed=2)
    same(data[7], batches(GRAPHS, batch_size=4, epochs=2, seed=2)[7])
    assert int(next(start_at(data, 10**6)).step) == 10**6
    assert isinstance(data, grain.MapDataset)


def test_the_last_batch_is_left_out_only_if_asked():
    assert [len(part) for part in order(batches(GRAPHS, batch_size=5))] == [5, 5, 5, 5, 3]
    dropped = batches(GRAPHS, batch_size=5, drop_last=True, epochs=2)
    assert [len(part) for part in order(dropped)] == [5] * 8
    with rejects(ValueError, "drop_last leaves nothing of 23 graphs: lower batch_size = 24"):
        batches(GRAPHS, batch_size=24, drop_last=True)


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_few_programs_are_compiled_and_little_is_padded(count):
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(3, 0.5, 200).astype(int) + 1
    graphs = [
        build_graph(np.zeros(2 * n, int), np.zeros(2 * n, int), np.ones((n, 1))) for n in sizes
    ]
    budgets = budgets_for(graphs, batch_size=16, count=count, round_to=16)
    assert len(budgets) <= count and budgets[-1] == budget_for(graphs, batch_size=16, round_to=16)
    data = batches(graphs, batch_size=16, budgets=budgets, epochs=2)
    traced = []
    total = jax.jit(lambda graph: traced.append(0) or graph.n_node.sum())
    for part in data[:20]:
        total(part.graph)
    padding = padding_of(data)
    assert len(traced) <= count and padding.shapes <= count
    assert padding.node < {1: 0.7, 3: 0.22}[count]
    parts = list(data)
    real = sum(int(part.masks.node.sum()) for part in parts)
    assert padding.node == 1 - real / sum(len(part.masks.node) for part in parts)
    assert real == 2 * sizes.sum()


def complete(sizes):
    """Graphs whose rows say which graph they are of."""
    rows = lambda count, index: np.full((count, 2), index, np.float32)
    of = lambda index, n: fully_connected(n, nodes=rows(n, index))._replace(
        edges=rows(n * n, index)
    )
    return [of(index, n) for index, n in enumerate(sizes)]


def test_complete_graphs_come_in_slots_of_few_sizes():
    """Each once an epoch, with graphs of its size, in another order each epoch, as `pad` makes it; three programs."""
    sizes = np.random.default_rng(0).integers(1, 30, 61).tolist()
    graphs, shapes = complete(sizes), slots_for(complete(sizes), batch_size=8)
    data = batches(graphs, np.arange(61), batch_size=8, epochs=2, budgets=shapes)
    traced = []
    count = jax.jit(lambda graph: traced.append(graph.senders.slots) or graph.nodes.sum())
    found = order(data)
    for part, ids in zip(data, found, strict=True):
        count(part.graph)
        smallest = min(slots for slots in shapes if slots.nodes >= max(sizes[i] for i in ids))
        expected, masks = pad([graphs[i] for i in ids], smallest)
        same((part.graph, part.masks), (expected, masks))
        assert part.targets.graph.tolist()[: len(ids)] == ids
    assert sorted(traced) == sorted(shapes) and len(shapes) == 3
    half = len(found) // 2
    assert sorted(sum(found[:half], [])) == sorted(sum(found[half:], [])) == list(range(61))
    assert found[:half] != found[half:]


def test_slots_hold_all_graphs_with_the_fewest_pairs():
    sizes = [1, 2, 2, 4, 7, 7, 7, 8, 20]
    cost = lambda chosen: sum(min(n for n in chosen if n >= size) ** 2 for size in sizes)
    distinct = sorted(set(sizes))
    for count in (1, 2, 3, 9):
        found = [slots.nodes for slots in slots_for(complete(sizes), batch_size=5, count=count)]
        others = itertools.combinations(distinct[:-1], min(count, len(distinct)) - 1)
        assert cost(found) == min(cost((*other, 20)) for other in others)
    assert slots_for(complete([0, 1]), batch_size=2) == (Slots(1, 2),)


def test_gradients_do_not_meet_the_padding():
    part = batches(GRAPHS, TARGETS, batch_size=5)[4]

    def loss(weight):
        target = jnp.where(part.masks.graph, part.targets.graph["energy"], 0)
        return jnp.sum(jnp.where(part.masks.graph, weight - target, 0) ** 2)

    real = part.index[part.masks.graph] / 2
    assert float(jax.grad(loss)(1.0)) == pytest.approx(float(np.sum(2 * (1 - real))))


# What is refused


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"batch_size": 0}, ValueError, "batch_size = 0 must be at least 1"),
        ({"batch_size": 2.0}, TypeError, "batch_size must be an integer, got 2.0"),
        ({"seed": -1}, ValueError, "seed = -1 must be at least 0"),
        ({"seed": 2**32}, ValueError, "seed = 4294967296 must be below 2**32"),
        ({"epochs": 0}, ValueError, "epochs = 0 must be at least 1"),
        ({"budgets": []}, ValueError, "budgets is empty: give one, or leave it out"),
        ({"budgets": Budget(90, 90, 5)}, ValueError, "budget.graphs = 5: 5 graphs and a spare one need 6"),
        ({"budgets": Budget(7, 90, 6)}, ValueError, "graphs[1] has 7 nodes and 5 edges: the largest budget has room"),
        ({"budgets": Budget(20, 99, 6)}, ValueError, "5 graphs may need 46 nodes and 55 edges"),
        ({"budgets": Slots(9, 5)}, ValueError, "graphs[3] has 10 nodes: a slot has room for 9"),
        ({"budgets": [Slots(9, 4), Slots(10, 5)]}, ValueError, "slots.graphs = 4 has no room for 5 graphs"),
        ({"budgets": Slots(10, 5)}, ValueError, "graph 1 has no edges"),
    ],
)  # fmt: skip
def test_options_that_are_refused(options, error, message, unchecked):
    with rejects(error, message):
        batches(GRAPHS, **{"batch_size": 5, **options})


def test_a_budget_that_is_refused_has_a_remedy_that_works():
    with rejects(ValueError, "raise it, see budgets_for, or lower batch_size"):
        batches(GRAPHS, batch_size=5, budgets=Budget(20, 99, 6))
    batches(GRAPHS, batch_size=5, budgets=budgets_for(GRAPHS, batch_size=5))
    batches(GRAPHS, batch_size=1, budgets=Budget(20, 99, 6))


@pytest.mark.parametrize(
    "targets, message",
    [
        (np.zeros(22), "targets.graph has shape (22,): its first axis must be 23"),
        ({"a": np.zeros(23), "b": 1.0}, "targets.graph has shape (): its first axis must be 23"),
        (
            np.array(["a"] * 23),
            "targets.graph has dtype <U1: targets are numbers; number the classes",
        ),
        ([2**40] * 23, "targets.graph[0] = 1099511627776 is over int32: subtract an offset"),
        ([16777217.0] * 23, "targets.graph[0] = 16777217 has more digits than float32"),
        (
            Targets(node=TARGETS.node[:-1]),
            "targets.node must be a list of 23 trees, one per graph, got 22",
        ),
        (
            Targets(node=np.zeros(23)),
            "targets.node must be a list of 23 trees, one per graph, got a ndarray",
        ),
        (
            Targets(node=TARGETS.node[::-1]),
            "targets.node[1] has shape (4,): its first axis must be 7",
        ),
        (
            Targets(
                edge=[
                    *TARGETS.edge[:-1],
                    {"bond": np.zeros((int(GRAPHS[-1].n_edge[0]), 2), np.int8)},
                ]
            ),
            "targets.edge[22] has {'bond': ('int8', (2,))}, targets.edge[0] has",
        ),
    ],
    ids=range(9),
)
def test_targets_that_are_refused(targets, message, unchecked):
    with rejects(ValueError, message):
        batches(GRAPHS, targets, batch_size=5)


def test_lists_of_numbers_are_targets():
    part = batches(GRAPHS, list(range(COUNT)), batch_size=5, shuffle=False)[0]
    assert part.targets.graph.tolist() == [0, 1, 2, 3, 4, -1]


def test_graphs_that_are_refused(unchecked):
    with rejects(ValueError, "graphs is empty"):
        batches([], batch_size=2)
    with rejects(ValueError, "graphs[1] is a batch of 2 graphs: unbatch it first"):
        batches([GRAPHS[1], batch(GRAPHS[1:3])], batch_size=2)
    with rejects(TypeError, "sparse"):
        batches([build_graph([0], [1], BCOO.fromdense(jnp.eye(2)))], batch_size=1)
    data = batches(GRAPHS, batch_size=5)
    for options, message in [
        ({"step": -1}, "step = -1 must be at least 0"),
        ({"step": 6}, "step = 6 is beyond the 5 batches"),
        ({"threads": 0}, "threads = 0 must be at least 1"),
    ]:
        with rejects(ValueError, message):
            start_at(data, **options)
    with rejects(ValueError, "batches is empty"):
        padding_of([])


def test_without_grain(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with rejects(ImportError, "batches need grain: pip install 'gatjax[loader]'"):
        batches(GRAPHS, batch_size=2)


@pytest.mark.slow
def test_another_process_draws_the_same_batches():
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/data']; import test_loader as t\n"
        "print(t.order(t.batches(t.GRAPHS, batch_size=4, epochs=2, seed=9)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == str(order(batches(GRAPHS, batch_size=4, epochs=2, seed=9))), (
        run.stderr
    )
