"""Batches of nodes and their neighbours: each once an epoch, the same for any number of threads, hosts and starts."""

import gc
import pickle
import threading
import time

import jax
import numpy as np
from helpers import rejects

from gatjax.data import FileArray, sampled_batches, seed_batches, start_at
from gatjax.graph import build_graph, neighbors_of, sample_hops

SEEDS = np.array([3, 5, 8, 11, 12, 17, 18])


def ring(nodes=23, reach=4):
    """Each node receives from the next few."""
    receivers = np.repeat(np.arange(nodes), reach)
    senders = (receivers + np.tile(np.arange(1, reach + 1), nodes)) % nodes
    rows = np.arange(nodes, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    return build_graph(senders, receivers, rows, edges=senders[:, None].astype(np.float32))


GRAPH = ring()


def equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_seed_comes_once_an_epoch_in_batches_of_one_size():
    data = seed_batches(SEEDS, 3, seed=4, epochs=2)
    assert len(data) == 6 and [len(batch.nodes) for batch in data] == [3] * 6
    epochs = [
        np.concatenate([data[k].nodes[data[k].mask] for k in part])
        for part in ([0, 1, 2], [3, 4, 5])
    ]
    for found in epochs:
        np.testing.assert_array_equal(np.sort(found), SEEDS)
    assert epochs[0].tolist() != epochs[1].tolist()
    assert [int(batch.step) for batch in data] == list(range(6))


def test_a_batch_is_the_same_from_any_start_with_any_threads_on_any_number_of_hosts():
    table = neighbors_of(GRAPH)
    options = {"nodes": GRAPH.nodes, "edges": GRAPH.edges, "self_loops": True}
    make = lambda process: sampled_batches(
        seed_batches(SEEDS, 4, seed=2, process=process), table, [2, 3], **options
    )
    whole = make((0, 1))
    for threads in (1, 4):
        for step, batch in zip((7, 8, 9), start_at(whole, 7, threads=threads), strict=False):
            equal(batch, whole[step])
    batch, halves = whole[9], [make((number, 2))[9] for number in (0, 1)]
    for hop, (rows, _) in enumerate(batch.hops.sizes[:-1]):
        level = lambda hops, hop=hop: np.split(hops.nodes, [size for size, _ in hops.sizes])[hop]
        found = np.concatenate([level(half.hops) for half in halves])
        np.testing.assert_array_equal(found, level(batch.hops), err_msg=f"{hop}, {rows}")
    inside = jax.jit(
        lambda key, nodes, mask: sample_hops(key, table, nodes, [2, 3], mask=mask, self_loops=True)
    )
    equal(inside(batch.seeds.key, batch.seeds.nodes, batch.seeds.mask), batch.hops)


def test_features_in_files_are_those_in_memory(tmp_path):
    np.save(tmp_path / "x.npy", GRAPH.nodes)
    features, seeds = FileArray(tmp_path / "x.npy"), seed_batches(SEEDS, 4)
    table = neighbors_of(GRAPH)
    batch = sampled_batches(seeds, table, [2, 2], features, GRAPH.edges)[5]
    equal(batch, sampled_batches(seeds, table, [2, 2], GRAPH.nodes, GRAPH.edges)[5])
    there = batch.hops.node_mask
    np.testing.assert_array_equal(batch.graph.nodes[there][:, 0], batch.hops.nodes[there])
    drawn = batch.hops.edge_mask
    senders = batch.hops.nodes[batch.graph.senders]
    np.testing.assert_array_equal(batch.graph.edges[drawn, 0], senders[drawn])


def test_a_file_pickles_as_its_path_and_reads_rows_alone(tmp_path):
    rows = np.arange(300_000, dtype=np.float32).reshape(-1, 3)
    np.save(tmp_path / "x.npy", rows)
    features = pickle.loads(pickle.dumps(FileArray(tmp_path / "x.npy")))
    assert len(pickle.dumps(features)) < 1000
    assert (len(features), features.shape, features.ndim) == (100_000, (100_000, 3), 2)
    np.testing.assert_array_equal(features[[5, 2, 5]], rows[[5, 2, 5]])
    np.testing.assert_array_equal(features[7:9], rows[7:9])
    np.testing.assert_array_equal(np.asarray(features), rows)
    assert features[:1].flags.owndata


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    path = tmp_path / "x.npy"
    with rejects(FileNotFoundError, "x.npy is missing: make it, np.save('x.npy', features)"):
        FileArray(path)
    np.save(path, np.ones((50, 3)))
    features = FileArray(path)
    path.write_bytes(path.read_bytes()[:-8])
    with rejects(ValueError, "was cut short"):
        features[:2]
    np.save(path, np.ones((50, 2)))
    with rejects(ValueError, "holds float64[50, 2] by now, and held float64[50, 3]"):
        features[:2]
    path.write_text("no table")
    with rejects(ValueError, "is no .npy file of numbers"):
        FileArray(path)
    np.save(path, np.array([{}], object), allow_pickle=True)
    with rejects(ValueError, "is no .npy file of numbers"):
        FileArray(path)
    np.save(path, np.array(["a", "b"]))
    with rejects(ValueError, "holds <U1[2]: a table of numbers is needed"):
        FileArray(path)


def test_a_file_that_goes_while_it_is_opened_is_missing(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", GRAPH.nodes)
    features, opened = FileArray(tmp_path / "x.npy"), np.lib.format.open_memmap

    def too_late(path, **options):
        path.unlink()
        return opened(path, **options)

    monkeypatch.setattr(np.lib.format, "open_memmap", too_late)
    with rejects(FileNotFoundError, "x.npy is missing"):
        features[0]


def test_a_thread_that_fails_says_so_at_once_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, GRAPH.nodes)
    data = sampled_batches(seed_batches(SEEDS, 4), neighbors_of(GRAPH), [2, 2], FileArray(path))
    before, batches, started = (
        threading.active_count(),
        start_at(data, 0, threads=3, ahead=3),
        time.monotonic(),
    )
    next(batches)
    path.unlink()
    with rejects(FileNotFoundError, "x.npy is missing"):
        for _ in range(10):
            next(batches)
    assert time.monotonic() - started < 10
    del batches
    gc.collect()
    while threading.active_count() > before and time.monotonic() - started < 10:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_bad_input_says_what_to_do(unchecked, tmp_path):
    table, seeds = neighbors_of(GRAPH), seed_batches(SEEDS, 4)
    with rejects(ValueError, "seeds is empty: give the nodes to learn from"):
        seed_batches([], 1)
    with rejects(ValueError, "seeds[1] = -1 is no node"):
        seed_batches([0, -1], 1)
    with rejects(TypeError, "seeds must be a vector of integers"):
        seed_batches([0.5, 1.0], 1)
    with rejects(ValueError, "batch_size = 8 is over the 7 seeds: lower it"):
        seed_batches(SEEDS, 8)
    assert len(seed_batches(SEEDS, 7, epochs=1)) == 1
    with rejects(ValueError, "batch_size = 4 must be a multiple of the 3 processes"):
        seed_batches(SEEDS, 4, process=(0, 3))
    with rejects(ValueError, "got (3, 3)"):
        seed_batches(SEEDS, 3, process=(3, 3))
    with rejects(ValueError, "seed = 4294967296 must be below 2**32"):
        seed_batches(SEEDS, 3, seed=2**32)
    with rejects(ValueError, "seeds[0] = 23 is no node: there are 23"):
        sampled_batches(seed_batches([23], 1), table, [2])[0]
    with rejects(ValueError, "fanouts[0] = -1 must be at least 1"):
        sampled_batches(seeds, table, [-1])
    np.save(tmp_path / "x.npy", GRAPH.nodes[1:])
    with rejects(ValueError, "nodes must have 23 rows, got shape [22, 2]"):
        sampled_batches(seeds, table, [2], FileArray(tmp_path / "x.npy"))
    with rejects(ValueError, "edges must have 92 rows"):
        sampled_batches(seeds, table, [2], GRAPH.nodes, GRAPH.nodes)
    with rejects(ValueError, "step = -1 must be at least 0"):
        start_at(seeds, -1)
    assert sampled_batches(seed_batches([4, 4, 4], 2), table, [2])[1].seeds.nodes[0] == 4
