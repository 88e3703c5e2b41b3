"""Complete graphs in slots: the same numbers, all pairs at once, as over their edges; and what slots are."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, close, draw, rejects

from gatjax import (
    MAT,
    DotProductConv,
    GaANConv,
    GATConv,
    GATv2Conv,
    GraphReadout,
    MATConv,
    MeanConv,
    Slots,
    TopK,
    batch,
    build_graph,
    fully_connected,
    graph_attention,
    masks_of,
    mixed_attention,
    pad,
    pad_batches,
    remove_self_loops,
    segment_softmax,
    unbatch,
    unpad,
)
from gatjax.ops.pairs import PairIds

WIDTH, EDGE_WIDTH = 6, 3
SIZES = 3, 1, 5


def molecule(size, seed=0):
    """Edges in an order of their own; that of five atoms is in two fragments."""
    bonds = {3: [(0, 1), (1, 2)], 1: [], 5: [(0, 1), (2, 3), (3, 4)]}[size]
    adjacency = np.eye(size, dtype=np.float32)
    for one, other in bonds:
        adjacency[one, other] = adjacency[other, one] = 1
    edges = {
        "distance": np.abs(draw(size * size, seed=seed)).astype(np.float32),
        "adjacency": adjacency.ravel(),
        "features": draw(size * size, EDGE_WIDTH, seed=seed + 1).astype(np.float32),
    }
    order = np.random.default_rng(seed).permutation(size * size)
    graph = fully_connected(size, nodes=draw(size, WIDTH, seed=seed + 2).astype(np.float32))
    ends = {end: getattr(graph, end)[order] for end in ("senders", "receivers")}
    return graph._replace(**ends, edges={name: rows[order] for name, rows in edges.items()})


MOLECULES = [molecule(size, seed) for seed, size in enumerate(SIZES)]


def in_slots(change, nodes=7, graphs=4):
    """The molecules, with NaN in all padding, and the same with their edges as arrays."""
    graph, masks = pad([change(each) for each in MOLECULES], Slots(nodes, graphs))
    graph.nodes[~masks.node] = np.nan
    for leaf in jax.tree.leaves(graph.edges):
        leaf[~masks.edge] = np.nan
    ends = {end: np.asarray(getattr(graph, end)) for end in ("senders", "receivers")}
    return graph, graph._replace(**ends), masks


def only(*names):
    """The edges without all but these; the features alone are no dict."""

    def change(graph):
        kept = {name: rows for name, rows in graph.edges.items() if name in names}
        return graph._replace(edges=kept if "distance" in kept else kept.get("features"))

    return change


def outputs_and_gradients(layer, graph, masks, **parts):
    split, parameters, others = nnx.split(layer, nnx.Param, ...)

    @jax.jit
    def both(parameters, graph):
        def total(parameters, nodes):
            merged = nnx.merge(split, parameters, others)
            out = merged(
                graph._replace(nodes=nodes),
                node_mask=masks.node,
                rngs=nnx.Rngs(dropout=3),
                **parts,
            ).nodes
            return (jnp.where(masks.node[:, None], out, 0) ** 2).sum(), out[masks.node]

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(parameters, graph.nodes)

    (_, out), gradients = both(parameters, graph)
    return out, gradients


def same(layer, change, **parts):
    dense, edges, masks = in_slots(change)
    parts = {"edge_weight": np.abs(draw(len(masks.edge), seed=9)).astype(np.float32), **parts}
    expected = outputs_and_gradients(layer, edges, masks, **parts)
    assert_close(outputs_and_gradients(layer, dense, masks, **parts), expected, 1e-5)
    matrices = [layer.attention(g, node_mask=masks.node, **parts) for g in (dense, edges)]
    assert_close(matrices[0], matrices[1], 1e-6)


def make(kind, **options):
    return kind(WIDTH, 8, num_heads=2, **options, rngs=nnx.Rngs(0))


def test_a_mixture_of_all_pairs_is_that_of_the_edges():
    """Values, gradients of nodes and parameters, dropout, temperature, weights, and masks of nodes and edges."""
    options = {"dropout_rate": 0.3, "temperature": 1.7, "edge_features": EDGE_WIDTH}
    mask = np.random.default_rng(0).random(4 * 7 * 7) < 0.8
    same(make(MATConv, **options), lambda graph: graph, edge_mask=mask)


@pytest.mark.slow
def test_every_normaliser_and_mechanism_of_all_pairs_is_that_of_the_edges():
    of_mixture = only("distance", "adjacency")
    names = "sparsemax", "entmax", "hardmax", "straight_through"
    for normalize in (*names, TopK(2), segment_softmax):
        same(make(MATConv, normalize=normalize), of_mixture)
    same(make(MATConv, kernel="softmax", trainable_weights=True), of_mixture)
    same(make(DotProductConv, normalize="entmax", use_value_bias=True), only())
    for edges_in in ("logit", "both"):
        layer = make(DotProductConv, edge_features=EDGE_WIDTH, edges_in=edges_in)
        same(layer, only("features"))
    for kind in (MeanConv, GaANConv):
        same(make(kind), only())
    for kind in (GATConv, GATv2Conv, DotProductConv):
        same(make(kind, edge_features=EDGE_WIDTH, dropout_rate=0.5), only("features"))


def test_no_row_is_looked_up_or_added_up_by_its_id(as_on_a_cpu):
    dense, edges, masks = in_slots(only("distance", "adjacency"))
    program = lambda layer, graph: str(
        jax.make_jaxpr(lambda graph: layer(graph, node_mask=masks.node).nodes)(graph)
    )
    for size, graph, expected in (
        ("auto", dense, False),
        ("dense", dense, False),
        (None, dense, True),
        ("auto", edges, True),
    ):
        assert ("scatter" in program(make(MATConv, block_size=size), graph)) == expected
    with rejects(ValueError, "pad the graphs with Slots"):
        make(MATConv, block_size="dense")(edges, node_mask=masks.node)
    bare, _, masks = in_slots(only(), nodes=50)
    for kind, size, expected in (
        (DotProductConv, "auto", False),
        (GATConv, "auto", False),
        (GATv2Conv, "dense", False),
        # Blocks of edges are faster here.
        (GATv2Conv, "auto", True),
    ):
        layer = kind(WIDTH, 64, num_heads=2, block_size=size, rngs=nnx.Rngs(0))
        assert ("scatter" in program(layer, bare)) == expected


def test_a_temperature_per_head_divides_the_queries_of_that_head():
    graph, _ = pad([fully_connected(2), fully_connected(3)], Slots(3, 2))
    rows, temperature = draw(6, 2, 4).astype(np.float32), np.array([0.5, 3.0], np.float32)
    score, value = lambda w, r, s, e: (r * s).sum(-1), lambda w, r, s, e: s
    attend = lambda queries, **options: graph_attention(
        graph, score, value, None, queries, rows, block_size="dense", **options
    )
    expected = attend(rows / temperature[None, :, None])
    close(attend(rows, temperature=jnp.asarray(temperature)), expected)


@pytest.mark.slow
def test_functions_of_all_pairs_and_a_loop():
    """Scores and values of one's own, and the mixture, in float64 against a loop over pairs."""
    graph, _ = pad([fully_connected(2), fully_connected(3)], Slots(3, 2))
    mask = np.array([True, True, False, True, True, True])
    edge_mask = mask[graph.senders] & mask[graph.receivers]
    q, k, v = (draw(6, 2, 4, seed=seed).astype(np.float32) for seed in range(3))
    distance = np.abs(draw(18, seed=3)).astype(np.float32)
    logit = lambda i, j: (q[i] * k[j]).astype(np.float64).sum(-1) / 2
    expected = np.zeros((2, 6, 2, 4))
    for g in range(2):
        members = [i for i in range(3 * g, 3 * g + 3) if mask[i]]
        for i in members:
            alpha = np.exp([logit(i, j) for j in members])
            alpha /= alpha.sum(0)
            for a, j in zip(alpha, members, strict=True):
                near = np.exp(-float(distance[i * 3 + j % 3]))
                expected[:, i] += np.stack([a, 0.5 * a + 0.5 * near])[:, :, None] * v[j]
    score = lambda w, r, s, e: (r * s["key"]).sum(-1) / 2
    value = lambda w, r, s, e: s["value"]
    rows = q, {"key": k, "value": v}
    out = graph_attention(graph, score, value, None, *rows, edge_mask=edge_mask)
    close(out, expected[0])
    options = {"distance": distance, "weights": (0.5, 0.5, 0), "edge_mask": edge_mask}
    close(mixed_attention(graph, q, k, v, **options), expected[1])
    own = lambda key: graph_attention(
        graph, score, value, None, q, {"key": key, "value": v}, edge_mask=edge_mask
    )
    assert "scatter" not in str(jax.make_jaxpr(own)(k))


@pytest.mark.slow
def test_a_batch_in_slots_is_each_molecule_alone():
    network = MAT(WIDTH, 2, hidden_features=8, num_layers=1, num_heads=2, rngs=nnx.Rngs(0))
    outputs = nnx.jit(lambda network, graph, mask=None: network(graph, node_mask=mask).globals)
    change = only("distance", "adjacency")
    dense, _, masks = in_slots(change)
    expected = np.concatenate([outputs(network, change(each)) for each in MOLECULES])
    assert_close(outputs(network, dense, masks.node)[masks.graph], expected, 1e-5)


# Slots


def test_nodes_and_edges_have_their_places():
    """Node j of graph g in row g·n + j; its edge to node i in row (g·n + i)·n + j, whatever order edges had."""
    graph, masks = pad(MOLECULES, Slots(nodes=5, graphs=4))
    assert [len(mask) for mask in masks] == [20, 100, 4]
    close(masks.node.reshape(4, 5).sum(1), [3, 1, 5, 0])
    close(graph.n_node, [5] * 4)
    first = MOLECULES[0]
    for row, (j, i) in enumerate(zip(first.senders, first.receivers, strict=True)):
        assert graph.edges["distance"][5 * i + j] == first.edges["distance"][row]
    back = unpad(graph, masks)
    close(back.nodes, batch(MOLECULES).nodes)
    close(back.n_edge, [9, 1, 25])
    for one, other in zip(unbatch(back), MOLECULES, strict=True):
        order = np.lexsort((other.senders, other.receivers))
        close(one.receivers, other.receivers[order])
        close(one.senders, other.senders[order])
        close(one.edges["features"], other.edges["features"][order])


def test_the_rule_is_a_part_of_the_structure_and_reads_as_an_array():
    ids = PairIds(Slots(nodes=2, graphs=2), "receivers")
    assert ids.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert jax.tree.leaves(ids) == [] and len(ids) == ids.size == 8 and ids.shape == (8,)
    close(ids[2:5] + 1, [2, 2, 3])
    close((ids == np.asarray(ids)).all(), True)
    close(jnp.asarray(ids), np.asarray(ids))
    traced = []
    count = jax.jit(lambda ids: traced.append(type(ids)) or jnp.asarray(ids).sum())
    other = PairIds(Slots(nodes=1, graphs=8), "receivers")
    assert [int(count(each)) for each in (ids, other, ids)] == [12, 28, 12]
    assert traced == [PairIds, PairIds]


def test_batches_of_consecutive_graphs_in_slots():
    parts = list(pad_batches(MOLECULES, Slots(nodes=5, graphs=2)))
    assert [masks.node.sum() for _, masks in parts] == [4, 5]
    close(parts[1][0].n_node, [5, 5])


def test_graphs_that_fit_no_slot_or_are_not_complete():
    for wrong, slots, message in (
        (MOLECULES, Slots(3, 4), "graphs[2] has 5 nodes: a slot has room for 3; raise slots.nodes"),
        (MOLECULES, Slots(5, 2), "slots.graphs = 2 has no room for 3 graphs"),
        (MOLECULES, Slots(0, 2), "slots.nodes = 0 must be at least 1"),
        (
            [MOLECULES[1], remove_self_loops(MOLECULES[0])],
            Slots(5, 4),
            "graph 1 has no edges 1 -> 1",
        ),
    ):
        with rejects(ValueError, message):
            pad(wrong, slots)
    with rejects(ValueError, "graphs[2] has 5 nodes"):
        pad_batches(MOLECULES, Slots(3, 4))


def test_padding_within_graphs_needs_its_mask():
    graph, masks = pad([only()(each) for each in MOLECULES], Slots(5, 4))
    layer, readout = make(DotProductConv), GraphReadout(WIDTH, 2, rngs=nnx.Rngs(0))
    for call in (layer, layer.attention, jax.jit(layer), readout):
        with rejects(ValueError, "pass node_mask=masks.node"):
            call(graph)
    layer(graph, node_mask=masks.node)
    with rejects(ValueError, "only the masks tell that pad returned"):
        masks_of(graph, 3)


def test_edges_given_anew_are_an_array_as_ever():
    """What changes the edges leaves no rule behind."""
    graph, masks = pad([only()(each) for each in MOLECULES], Slots(5, 4))
    kept = unpad(graph, masks)._replace(n_node=np.array([9]), n_edge=np.array([35]))
    assert isinstance(kept.senders, np.ndarray)
    assert isinstance(remove_self_loops(graph).senders, np.ndarray)
    with rejects(ValueError, "pad the graphs with Slots"):
        make(DotProductConv, block_size="dense")(build_graph([0], [0], np.ones((1, WIDTH))))
