"""Graphs in shards: the same numbers as on one device, whatever their number; files; processes."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import build, graph_for
from flax import nnx
from helpers import assert_close, rejects
from jax.experimental.sparse import BCOO
from jax.sharding import AxisType, Mesh, PartitionSpec
from sharded import NODES, ONE_EACH, RATES, differences, parts, with_hub

from gatjax import (
    GAT,
    DropoutMask,
    GATConv,
    GraphTransformer,
    Halo,
    RowNumbers,
    batch,
    build_graph,
    keep_mask,
)
from gatjax.layers import DropoutRates, HANConv
from gatjax.models import Stack
from gatjax.training import (
    cluster,
    halo_report,
    load_shards,
    map_shards,
    on_shards,
    partition,
    place_shards,
    save_shards,
    shard_graph,
    shard_rows,
    unshard_rows,
)

PROGRAM = Path(__file__).parents[1] / "sharded.py"
CASE = next(case for case in ONE_EACH if case.layer is GATConv)


def random_graph(nodes=40, edges=160, seed=0):
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, nodes, (2, edges))
    return build_graph(
        *ends, rng.normal(size=(nodes, 3)), edges=rng.normal(size=(edges, 2)).astype(np.float32)
    )


def two_devices():
    return Mesh(np.array(jax.devices()[:2]), ("shards",), axis_types=(AxisType.Auto,))


def test_every_edge_lies_with_its_receiver_and_finds_its_sender():
    """By hand: what each shard would gather, if rows were the numbers of the nodes."""
    graph = random_graph()
    part = np.random.default_rng(1).integers(0, 5, 40)
    part[part == 2] = 4
    shards = shard_graph(graph, part, num_shards=6)
    seen = []
    for shard in range(6):
        own = shards.node_ids[shard]
        assert sorted(own[own >= 0]) == sorted(np.flatnonzero(part == shard))
        comes = [
            np.where(ids[shard - by] >= 0, shards.node_ids[shard - by][ids[shard - by]], -1)
            for by, ids in enumerate(shards.send, start=1)
        ]
        rows = np.concatenate([own, *comes])
        for edge, sender, receiver in zip(
            shards.edge_ids[shard], shards.senders[shard], shards.receivers[shard], strict=True
        ):
            if edge < 0:
                assert sender == receiver == -1
                continue
            assert rows[sender] == graph.senders[edge] and own[receiver] == graph.receivers[edge]
            seen.append(edge)
        counted = shards.receivers[shard][shards.edge_ids[shard] >= 0]
        assert (np.diff(counted) >= 0).all()
    assert sorted(seen) == list(range(160))
    assert not shards.nodes[shards.node_ids < 0].any()
    np.testing.assert_array_equal(shards.edges[0, 0], graph.edges[shards.edge_ids[0, 0]])
    rows = shard_rows(graph.nodes, shards)
    np.testing.assert_array_equal(rows, shards.nodes)
    np.testing.assert_array_equal(unshard_rows(rows, shards), graph.nodes)
    for by, ids in enumerate(shards.send, start=1):
        filled = (ids >= 0).sum(1)
        assert filled.max(initial=0) == ids.shape[1], by


def test_a_report_counts_what_is_exchanged():
    graph = build_graph([0, 0, 1, 2, 3], [1, 2, 3, 0, 3], num_nodes=5)
    report = halo_report(shard_graph(graph, [0, 0, 1, 1, 2]))
    assert (report.num_shards, report.rows, report.ring, report.all_to_all) == (3, 3, 9, 18)
    assert (report.nodes, report.edges) == (2 / (5 / 3), 3 / (5 / 3))
    assert report.bytes(10) == 9 * 10 * 4


def test_parts_have_as_many_edges_and_metis_cuts_few():
    """A ring of dense groups whose ids are shuffled, with a hub."""
    rng = np.random.default_rng(0)
    name = rng.permutation(400)
    ends = rng.integers(0, 100, (2, 4000)) + 100 * np.repeat(np.arange(4), 1000)
    bridges = np.array([[0, 100, 200, 300], [100, 200, 300, 0]])
    graph = build_graph(*name[np.concatenate([ends, bridges], axis=1)], num_nodes=400)
    for how in ("metis", "contiguous"):
        part = partition(graph, 4, how)
        report = halo_report(shard_graph(graph, part, num_shards=4))
        assert report.edges < 1.1 and report.nodes < 1.2
        assert report.rows <= 4 if how == "metis" else report.rows > 400
    assert partition(graph, 1).max() == 0
    star = build_graph(np.arange(1, 60), np.zeros(59, int), num_nodes=60)
    assert set(partition(star, 3, "contiguous")) <= {0, 1, 2}
    assert_close(partition(build_graph([], [], num_nodes=3), 3, "contiguous"), np.arange(3))


def test_masks_go_by_the_numbers_of_rows():
    key, rows = jax.random.key(3), np.array([6, 0, 6, 3])
    numbers = RowNumbers(rows, 7)
    whole = keep_mask(key, 0.4, (7, 2, 5))
    mask = DropoutMask(key, 0.4, numbers)
    np.testing.assert_array_equal(mask.rows(0, 4, 10), whole[rows].reshape(4, 10))
    places = np.array([[2], [0], [1], [3]])
    np.testing.assert_array_equal(
        mask.at(jnp.asarray(places), 10), whole[rows[places]].reshape(4, 1, 10)
    )
    with rejects(ValueError, "4294967296 rows of 2 entries are more than the 2³²"):
        keep_mask(key, 0.5, (4, 2), numbers=RowNumbers(rows, 2**32))
    assert keep_mask(key, 0.4, (4, 2, 5), numbers=numbers).shape == (4, 2, 5)
    with rejects(ValueError, "drop before the rows are sent"):
        keep_mask(key, 0.5, (5, 2), numbers=numbers)


@pytest.mark.slow
def test_a_layer_on_two_shards_is_the_layer_on_the_graph():
    """With dropout in all four places, features of edges, a hub, an isolated node, and NaN in padding."""
    loss, gradient = differences(build(CASE, dropout_rate=RATES), with_hub(graph_for(CASE)), 2)
    assert loss < 1e-6 and gradient < 1e-5


def test_a_halo_in_a_shard_map_of_ones_own(blocks):
    """With its check of what differs from shard to shard on, the gradient taken inside, and no more than arrays."""
    graph = random_graph()._replace(edges=None)
    layer = GATConv(3, 4, num_heads=2, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(layer)
    shards = shard_graph(graph, parts(2)[np.arange(40) % NODES])
    n, spec = np.array([shards.node_ids.shape[1]], np.int32), PartitionSpec("shards")

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=two_devices(),
        in_specs=(PartitionSpec(), spec, spec, spec, spec),
        out_specs=PartitionSpec(),
    )
    def gradient(params, nodes, senders, receivers, send):
        own = graph._replace(nodes=nodes[0], senders=senders[0], receivers=receivers[0], n_node=n)
        view = Halo((send[0],), "shards", "all_to_all")
        loss = lambda params: (nnx.merge(graphdef, params)(own, view=view).nodes ** 2).sum()
        return jax.grad(lambda params: jax.lax.psum(loss(params), "shards"))(params)

    arrays = shards.nodes, shards.senders, shards.receivers, shards.send[0]
    expected = jax.jit(
        jax.grad(lambda params: (nnx.merge(graphdef, params)(graph).nodes ** 2).sum())
    )
    assert_close(gradient(params, *arrays), expected(params), 1e-5)
    assert blocks


@pytest.mark.slow
def test_rows_of_all_shards_are_those_of_the_graph():
    graph = random_graph()
    layer = GATConv(3, 4, edge_features=2, rngs=nnx.Rngs(0))
    mesh = two_devices()
    shards = place_shards(shard_graph(graph, partition(graph, 2)), mesh)
    nodes = lambda layer, shard: layer(shard.graph, view=shard.view).nodes
    graphdef, params = nnx.split(layer)
    mapped = map_shards(lambda params, shard: nodes(nnx.merge(graphdef, params), shard), mesh)
    assert_close(unshard_rows(jax.jit(mapped)(params, shards), shards), layer(graph).nodes, 1e-5)


def test_bad_input_says_what_to_do(unchecked, monkeypatch):
    graph = random_graph(nodes=6, edges=12)
    part = np.array([0, 1, 0, 1, 0, 1])
    with rejects(ValueError, "num_shards=7 are more than the 6 nodes"):
        partition(graph, 7)
    with rejects(ValueError, "num_shards = 0 must be at least 1"):
        partition(graph, 0)
    with rejects(ValueError, "how must be one of ['metis', 'contiguous'], got 'random'"):
        partition(graph, 2, "random")
    with rejects(ValueError, "batch of 2"):
        partition(batch([graph, graph]), 2)
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with rejects(ImportError, 'pip install "gatjax[large]"'):
        partition(graph, 2)
    partition(graph, 2, "contiguous")
    with rejects(ValueError, "part[1] = 1 is no shard: with num_shards=1 they are 0 to 0"):
        shard_graph(graph, part, num_shards=1)
    with rejects(ValueError, "part[0] = -1 is no shard"):
        shard_graph(graph, part - 1)
    with rejects(TypeError, "part must be integers"):
        shard_graph(graph, part / 2)
    with rejects(ValueError, "part must have 6 rows, got 5"):
        shard_graph(graph, part[:5])
    with rejects(ValueError, "labels must have 6 rows, got 4"):
        shard_graph(graph, part, tables={"labels": np.zeros(4)})
    with rejects(TypeError, "can't shard it"):
        shard_graph(graph._replace(nodes=BCOO.fromdense(jnp.eye(6))), part)
    shards = shard_graph(graph, part)
    with rejects(ValueError, "values must be [2, 3] and more axes"):
        unshard_rows(np.zeros((6, 2)), shards)
    with cluster(num_devices=1) as mesh, rejects(ValueError, "partition the graph for 1"):
        on_shards(lambda parameters, shard: shard.node_mask.sum(), mesh)(None, shards)
    with rejects(ValueError, "num_devices=3, and there are 2: on a CPU JAX_NUM_CPU_DEVICES=3"):
        with cluster(num_devices=3):
            pass
    square = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("shards", "model"))
    with rejects(ValueError, "the axes ['shards', 'model']"):
        on_shards(lambda parameters, shard: 0, square)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with rejects(ValueError, "JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID must be set, too"):
        with cluster():
            pass
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", f"localhost:{free_port()}")
    with rejects(ConnectionError, "look whether `getent hosts $(hostname)` gives an address"):
        with cluster(connect_seconds=0):
            pass


@pytest.mark.slow
def test_a_view_of_a_shard_is_refused_where_it_does_not_fit(unchecked):
    graph = random_graph(nodes=6, edges=12)._replace(edges=None)
    shards = shard_graph(graph, np.arange(6) % 2)
    layer = GATConv(3, 4, rngs=nnx.Rngs(0))
    with rejects(ValueError, "there is no axis 'shards' here"):
        jax.eval_shape(lambda: layer(graph, view=Halo((), "shards")).nodes)
    with rejects(ValueError, "exchange must be one of ['ring', 'all_to_all'], got 'gather'"):
        Halo((), "shards", "gather")
    mesh = two_devices()
    run = lambda model, **how: jax.eval_shape(
        on_shards(lambda _, shard: model(shard.graph, view=shard.view, **how).nodes.sum(), mesh),
        None,
        shards,
    )
    own = lambda _, shard: layer(shard.graph, view=Halo((), "shards")).nodes.sum()
    with rejects(ValueError, "the view is of 1 shards, but axis 'shards' of the mesh has 2"):
        jax.eval_shape(on_shards(own, mesh), None, shards)
    rngs = nnx.Rngs(0)
    with rejects(ValueError, "a TransformerBlock cannot run on a shard"):
        run(GraphTransformer(3, 2, hidden_features=4, num_heads=1, rngs=rngs))
    normed = GAT(3, 2, hidden_features=4, num_heads=1, norm=nnx.BatchNorm, rngs=rngs)
    with rejects(ValueError, "a BatchNorm averages over all nodes, and a shard has some"):
        run(normed)
    run(normed, deterministic=True)
    run(Stack([layer], norms=[]))
    typed = HANConv(3, 4, num_relations=2, rngs=rngs)
    of_two = lambda _, shard: typed(
        shard.graph._replace(edges=jnp.zeros(len(shard.graph.senders), jnp.int32)), view=shard.view
    ).nodes.sum()
    with rejects(ValueError, 'HANConv can with semantic="node"'):
        jax.eval_shape(on_shards(of_two, mesh), None, shards)
    sparse = lambda rows: Halo((rows,), "shards").senders(BCOO.fromdense(jnp.eye(2)))
    with rejects(ValueError, "a shard cannot send sparse rows"):
        sparse(jnp.zeros(1, jnp.int32))
    dropped = GATConv(3, 4, dropout_rate=DropoutRates(inputs=0.5), rngs=rngs)
    sparse_inputs = lambda _, shard: dropped(
        shard.graph._replace(nodes=BCOO.fromdense(jnp.ones((3, 3)), nse=9)),
        view=shard.view,
        rngs=nnx.Rngs(dropout=0),
    ).nodes.sum()
    with rejects(ValueError, "pass features.todense(), or drop nothing of the inputs"):
        jax.eval_shape(on_shards(sparse_inputs, mesh), None, shards)


def test_shards_come_back_from_files(tmp_path, unchecked):
    graph = random_graph(nodes=9, edges=20)
    features = {"wide": jnp.asarray(graph.nodes, jnp.bfloat16), "one": np.arange(9)}
    graph = graph._replace(nodes=features, globals=np.ones((1, 2), np.float32))
    tables = {"labels": np.arange(9, dtype=np.int32)}
    shards = shard_graph(graph, np.arange(9) % 2, tables=tables)
    save_shards(tmp_path / "two", shards)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two"]
    with cluster() as mesh:
        loaded = load_shards(tmp_path / "two", mesh)
    assert_close(jax.tree.map(np.asarray, loaded), jax.tree.map(jnp.asarray, shards), 0)
    assert loaded.nodes["wide"].dtype == jnp.bfloat16
    assert [shard.data.shape[0] for shard in loaded.senders.addressable_shards] == [1, 1]
    with rejects(FileExistsError, "two is there already: delete it, or choose another folder"):
        save_shards(tmp_path / "two", shards)
    with rejects(TypeError, "nodes is a tuple: arrays and dicts of arrays can be saved"):
        save_shards(tmp_path / "tuple", dataclasses.replace(shards, nodes=(1, 2)))
    with cluster(num_devices=1) as one, rejects(ValueError, "there are 2 shards and 1 devices"):
        load_shards(tmp_path / "two", one)
    load = lambda: load_shards(tmp_path / "two", mesh)
    file = tmp_path / "two" / "shard-00001.npz"
    whole = file.read_bytes()
    save_shards(tmp_path / "other", shard_graph(graph, np.arange(9) // 5, tables=tables))
    other = tmp_path / "other" / file.name
    for damaged, message in (
        (whole[:-100], f"damaged or truncated, {len(whole) - 100} bytes of {len(whole)}: copy it"),
        (whole[:2000] + b"?" * 8 + whole[2008:], "damaged or truncated"),
        (b"", "damaged or truncated"),
        (other.read_bytes(), "is of another partition than"),
    ):
        file.write_bytes(damaged)
        with rejects(ValueError, message):
            load()
    file.unlink()
    with rejects(FileNotFoundError, "shard-00001.npz is missing: copy it from where it was made"):
        load()
    with rejects(FileNotFoundError, "manifest.json is missing"):
        load_shards(tmp_path / "none", mesh)
    file.write_bytes(whole)
    load()
    manifest = tmp_path / "two" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with rejects(ValueError, "has format 9"):
        load()


def start(*arguments, devices=4, **environment):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)} | environment
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output[-2000:]


def together(*arguments):
    """Two processes with two devices each."""
    address = f"localhost:{free_port()}"
    of_cluster = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    both = [start(*arguments, devices=2, **of_cluster, JAX_PROCESS_ID=str(n)) for n in range(2)]
    for process in both:
        finish(process)


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.slow
def test_two_processes_with_two_devices_each():
    together("few", "4")


@pytest.mark.slow
def test_a_process_opens_its_own_files_only(tmp_path):
    graph = random_graph()
    shards = shard_graph(graph, partition(graph, 4), tables={"number": np.arange(40)})
    save_shards(tmp_path / "process-0", shards)
    shutil.copytree(tmp_path / "process-0", tmp_path / "process-1")
    for process, own in enumerate(((0, 1), (2, 3))):
        for number in set(range(4)) - set(own):
            (tmp_path / f"process-{process}" / f"shard-{number:05d}.npz").unlink()
    together("files", str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("layers", "3"), ("models", "4")], ids="-".join)
def test_layers_and_models_on_shards_are_those_on_the_graph(arguments):
    finish(start(*arguments))
