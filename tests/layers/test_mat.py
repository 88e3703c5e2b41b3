"""Attention mixed with distances and bonds: what it equals at its corners, on molecules, and what it refuses."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, close, draw, rejects, run

from gatjax import (
    MAT,
    Budget,
    DotProductConv,
    GraphReadout,
    MATConv,
    Mixture,
    attention_weights,
    batch,
    build_graph,
    check_complete,
    fully_connected,
    load_model,
    mixed_attention,
    pad,
    pool_nodes,
    save_model,
)

WIDTH = 6
BONDS = {3: [(0, 1), (1, 2)], 1: [], 5: [(0, 1), (2, 3), (3, 4)]}


def molecule(positions, bonds, nodes, order=None, dummy=False):
    """Atoms at places in space, in an order; the dummy node, far from all and without bonds, comes first."""
    order = np.arange(len(positions)) if order is None else order
    places, atoms = positions[order], nodes[order]
    adjacency = np.eye(len(order), dtype=np.float32)
    for one, other in bonds:
        adjacency[one, other] = adjacency[other, one] = 1
    adjacency = adjacency[np.ix_(order, order)]
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1)).astype(np.float32)
    if dummy:
        atoms = np.pad(atoms, [(1, 0), (1, 0)])
        atoms[0, 0] = 1
        adjacency = np.pad(adjacency, [(1, 0), (1, 0)])
        distance = np.pad(distance, [(1, 0), (1, 0)], constant_values=1e6)
    edges = {"distance": distance.ravel(), "adjacency": adjacency.ravel()}
    return fully_connected(len(atoms), nodes=atoms)._replace(edges=edges)


def drawn(size, seed=0, **options):
    """A molecule of so many atoms; that of five is in two fragments."""
    nodes = draw(size, WIDTH, seed=seed).astype(np.float32)
    return molecule(2 * draw(size, 3, seed=seed + 1), BONDS[size], nodes, **options)


def model(width=WIDTH, **options):
    small = {"hidden_features": 8, "num_layers": 1, "num_heads": 2, **options}
    return MAT(width, 2, **small, rngs=nnx.Rngs(0))


outputs = nnx.jit(lambda model, graph, mask=None: model(graph, node_mask=mask).globals)


# The mechanism


def by_hand(kernel):
    """Node 2 hears 0 and 1, of which only 1 is bonded to it, and itself; the dot products are log 1, log 2, log 1."""
    near = np.array([0.5, 0.25, 1.0])
    near = near if kernel == "exp" else near / 1.75
    return 0.5 * np.array([0.25, 0.5, 0.25]) + 0.3 * near + 0.2 * np.array([0, 0.5, 0.5])


def three(**changes):
    known = {"distance": -np.log([0.5, 0.25, 1.0]), "adjacency": np.array([0.0, 1.0, 1.0])}
    return {"weights": (0.5, 0.3, 0.2), **known, **changes}


THREE = build_graph([0, 1, 2], [2, 2, 2], num_nodes=3)


@pytest.mark.parametrize("kernel", ["exp", "softmax"])
def test_a_mixture_worked_out_by_hand(kernel):
    logits = jnp.log(jnp.array([1.0, 2.0, 1.0]))[:, None, None]
    value = jnp.eye(3)[:, None, :]
    expected = by_hand(kernel)
    options = three(kernel=kernel)
    alpha = attention_weights(THREE, logits[:, 0], normalize=Mixture(**options))
    close(alpha[:, 0], expected)
    out = mixed_attention(THREE, jnp.ones((3, 1, 1)), logits, value, **options)
    close(out[2, 0], expected)
    close(out[:2], np.zeros((2, 1, 3)))


def test_dropout_and_weights_of_edges_act_on_the_mixture_in_blocks_too():
    logits, value = jnp.log(jnp.array([1.0, 2.0, 1.0]))[:, None, None], jnp.eye(3)[:, None, :]
    kept, weight = jnp.array([[2.0], [0.0], [2.0]]), jnp.array([1.0, 1.0, 3.0])
    for block_size in (None, 2):
        out = mixed_attention(
            THREE,
            jnp.ones((3, 1, 1)),
            logits,
            value,
            **three(),
            multiplier=kept,
            edge_weight=weight,
            block_size=block_size,
        )
        close(out[2, 0], by_hand("exp") * [2, 0, 6])


def test_attention_alone_is_that_of_dot_products():
    graph = drawn(5)
    mixed = MATConv(WIDTH, 8, num_heads=2, weights=(1, 0, 0), rngs=nnx.Rngs(0))
    plain = DotProductConv(WIDTH, 8, num_heads=2, rngs=nnx.Rngs(0))
    bare = graph._replace(edges=None)
    assert_close(run(mixed, graph._replace(edges={})), run(plain, bare), 1e-6)


def test_bonds_alone_are_the_mean_of_the_bonded_atoms_and_distances_alone_their_kernel():
    graph = drawn(5, dummy=True)
    matrix = lambda **options: run(MATConv(WIDTH + 1, 4, rngs=nnx.Rngs(0), **options), graph)[
        1
    ].reshape(6, 6)
    neighbours = graph.edges["adjacency"].reshape(6, 6)
    close(matrix(weights=(0, 0, 1)), neighbours / np.maximum(neighbours.sum(1), 1)[:, None], 2e-6)
    distance = graph.edges["distance"].reshape(6, 6).astype(np.float64)
    close(matrix(weights=(0, 1, 0)), np.exp(-distance))
    shares = np.exp(distance.min(1)[:, None] - distance)
    shares /= shares.sum(1)[:, None]
    close(matrix(weights=(0, 1, 0), kernel="softmax"), shares)
    close(shares[0], np.full(6, 1 / 6))


@pytest.mark.slow
def test_the_weights_are_learned_where_that_is_wanted():
    graph = drawn(3)
    layer = MATConv(WIDTH, 4, weights=(2, 0, 1), trainable_weights=True, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda layer: (layer(graph).nodes ** 2).sum())(layer)
    assert np.all(np.asarray(gradient["weights"][...]) != 0)
    fixed = MATConv(WIDTH, 4, rngs=nnx.Rngs(0))
    assert "weights" not in nnx.state(fixed, nnx.Param)


# Molecules


def test_motion_and_the_order_of_the_atoms_change_nothing():
    """Rotation, reflection and translation, and another order; nodes and matrices follow the order."""
    places, nodes = 2 * draw(5, 3, seed=1), draw(5, WIDTH).astype(np.float32)
    turn = np.linalg.qr(draw(3, 3, seed=5))[0]
    order = np.array([3, 0, 4, 1, 2])
    for kernel, dummy in (("exp", True), ("softmax", False)):
        network = model(WIDTH + dummy, kernel=kernel, pool="first" if dummy else "mean")
        make = partial(molecule, bonds=BONDS[5], nodes=nodes, dummy=dummy)
        expected = outputs(network, make(places))
        for moved in (places @ turn, -places, places + 7.0):
            assert_close(outputs(network, make(moved)), expected, 1e-5)
        assert_close(outputs(network, make(places, order=order)), expected, 1e-5)


@pytest.mark.parametrize(
    "pool", ["first", *(pytest.param(pool, marks=pytest.mark.slow) for pool in ("mean", "sum"))]
)
def test_a_batch_is_each_molecule_alone_and_nan_in_padding_reaches_nothing(pool):
    """One atom, two fragments, and three in a row; values, and the gradients of all parameters."""
    molecules, network = (
        [drawn(size, dummy=True) for size in (1, 5, 3)],
        model(WIDTH + 1, pool=pool),
    )
    together = batch([check_complete(each) for each in molecules])
    padded, masks = pad(together, Budget(nodes=16, edges=80, graphs=5))
    expected = np.concatenate([outputs(network, each) for each in molecules])
    padded.nodes[12:] = np.nan
    for leaf in padded.edges.values():
        leaf[together.n_edge.sum() :] = np.nan
    assert_close(outputs(network, padded, masks.node)[:3], expected, 1e-5)

    @nnx.jit
    def gradient(network, graph, mask):
        total = lambda network: (network(graph, node_mask=mask).globals[:3] ** 2).sum()
        return nnx.state(nnx.grad(total)(network))

    ones = np.ones(12, bool)
    assert_close(gradient(network, padded, masks.node), gradient(network, together, ones), 2e-5)


@pytest.mark.slow
def test_a_model_is_saved_and_summed_up(tmp_path):
    arguments = {"in_features": WIDTH, "out_features": 2, "hidden_features": 8, "num_layers": 1}
    arguments |= {"weights": (0.5, 0.5, 0.0), "dense_layers": 2, "pool": "sum"}
    network, graph = MAT(**arguments, rngs=nnx.Rngs(0)), drawn(3)
    save_model(tmp_path / "mat", "MAT", arguments, network)
    assert_close(load_model(tmp_path / "mat")(graph).globals, network(graph).globals, 1e-6)
    assert [p.shape for p in network.attention(graph)] == [(9, 4)]


@pytest.mark.slow
def test_dropout_is_drawn_from_the_keys_and_off_in_evaluation():
    network, graph = model(dropout_rate=0.5), drawn(5)
    draws = [network(graph, rngs=nnx.Rngs(dropout=seed)).globals for seed in (0, 0, 1)]
    assert_close(draws[0], draws[1], 0)
    assert not np.allclose(draws[0], draws[2])
    plain = network(graph, deterministic=True).globals
    network.eval()
    assert_close(network(graph).globals, plain, 0)


def test_the_first_node_of_each_graph():
    graphs = batch([drawn(1), drawn(5), drawn(3)])
    close(pool_nodes(graphs, "first"), graphs.nodes[[0, 1, 6]])
    mask = np.arange(9) != 6
    close(pool_nodes(graphs, "first", node_mask=mask)[2], np.zeros(WIDTH))
    close(pool_nodes(graphs._replace(n_node=np.array([0, 9, 0])), "first")[2], np.zeros(WIDTH))


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (0.5, 0.3, 0.3)}, "must be at least 0 and sum to 1, got the sum 1.1"),
        ({"weights": (1.5, -0.5, 0.0)}, "must be at least 0"),
        ({"weights": (np.nan, 0.5, 0.5)}, "must be at least 0"),
        ({"weights": (0.5, 0.5)}, "weights must be three"),
        ({"kernel": "gauss"}, "kernel must be one of ['exp', 'softmax'], got 'gauss'"),
    ],
)
def test_weights_and_kernels_that_are_none(options, message, unchecked):
    with rejects(ValueError, message):
        MATConv(WIDTH, 4, **options, rngs=nnx.Rngs(0))
    with rejects(ValueError, message):
        Mixture(**three(**options))
    if len(options.get("weights", ())) == 3:
        MATConv(WIDTH, 4, **options, trainable_weights=True, rngs=nnx.Rngs(0))
        Mixture(**three(weights=jnp.array(options["weights"])))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("distance", -1.0, "distance[4] = -1.0: it must be a number from 0 on"),
        ("distance", np.nan, "distance[4] = nan: it must be"),
        ("adjacency", -1.0, "adjacency[4] = -1.0: it must be"),
    ],
)
def test_what_is_known_of_edges_is_no_number_from_0_on(part, value, message):
    graph = drawn(3)
    graph.edges[part][4] = value
    layer = MATConv(WIDTH, 4, rngs=nnx.Rngs(0))
    for call in (layer, layer.attention):
        with rejects(ValueError, message):
            call(graph)
    layer(graph, edge_mask=np.arange(9) != 4)


def test_edges_without_what_the_layer_reads_or_with_more(unchecked):
    graph, layer = drawn(3), MATConv(WIDTH, 4, rngs=nnx.Rngs(0))
    edges = graph.edges
    for wrong, message in (
        (None, "a dict with some of distance, adjacency, features, got NoneType"),
        (np.ones((9, 2)), "got ndarray"),
        ({**edges, "length": edges["distance"]}, "got distance, adjacency, length"),
        ({"distance": edges["distance"]}, "adjacency is missing, and its weight is 0.34"),
        ({"adjacency": edges["adjacency"]}, "distance is missing, and its weight is 0.33"),
        ({**edges, "features": np.ones((9, 2))}, "the layer was built without"),
        ({**edges, "distance": np.ones((9, 1))}, "distance must be [E], one number per edge"),
    ):
        with rejects(ValueError, message):
            layer(graph._replace(edges=wrong))
    with rejects(ValueError, "adjacency must have 9 rows, got 8"):
        mixed_attention(graph, *[jnp.ones((3, 1, 1))] * 3, adjacency=jnp.ones(8))


def test_a_dummy_node_on_one_side_only():
    with rejects(
        ValueError, "nodes must be [N, 6], got [4, 7]: as wide as the layer was built for"
    ):
        model()(drawn(3, dummy=True))
    with rejects(
        ValueError, "nodes must be [N, 7], got [3, 6]: as wide as the layer was built for"
    ):
        model(WIDTH + 1)(drawn(3))


def test_edges_that_are_not_fully_connected():
    graphs = batch([drawn(1), drawn(3), drawn(5)])
    assert check_complete(graphs) is graphs
    assert check_complete(fully_connected(0)).n_node.tolist() == [0]
    lacking = build_graph([0, 1, 1], [0, 1, 0], num_nodes=2)
    with rejects(ValueError, "graph 1 has no edges 1 -> 2: join every pair of nodes once"):
        check_complete(batch([fully_connected(1), lacking]))
    with rejects(ValueError, "graph 0 has 2 edges 0 -> 1"):
        check_complete(build_graph([0, 1, 0, 1, 0], [0, 0, 1, 1, 1], num_nodes=2))


def test_pools_and_sizes_that_are_none(unchecked):
    with rejects(ValueError, "pool must be one of ['mean', 'sum', 'max', 'first'], got 'dummy'"):
        GraphReadout(2, 3, pool="dummy", rngs=nnx.Rngs(0))
    for wrong in ({"num_layers": 0}, {"dense_layers": -1}, {"hidden_features": 0}):
        (name,) = wrong
        with rejects(ValueError, f"{name} must be at least 1"):
            model(**wrong)
    assert jax.tree.leaves(nnx.state(model(num_layers=1, dense_layers=0)))
