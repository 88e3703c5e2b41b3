"""Graph network blocks: against the equations in plain loops, against jraph, and the properties of every layer."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from cases import EDGE_WIDTH, IN, NODES, OUT, Case, build, graph_for
from flax import nnx
from graph_strategies import relabel, reorder
from helpers import assert_close, assign, rejects
from jax.experimental.sparse import BCOO

from gatjax.attention import attention_weights, combine_heads
from gatjax.graph import Budget, batch, build_graph, fully_connected, pad
from gatjax.layers import (
    Attended,
    AttentionBlock,
    AttentionEdgeStep,
    AttentionPooling,
    EncodeProcessDecode,
    GraphIndependent,
    GraphNetwork,
    NodeLinear,
    RowMLP,
    attend_edges,
    update_edges,
    update_globals,
    update_nodes,
)

V, D, U = 5, 3, 2
OUT_E, OUT_V, OUT_U = 7, 4, 6
REDUCTIONS = {"sum": sum, "mean": lambda rows: sum(rows) / len(rows), "max": np.maximum.reduce}


def random_graph(seed=0, nodes=11, edges=29, dtype=np.float32):
    """A directed graph with duplicates and a loop; nothing enters its last node."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, nodes, edges), rng.integers(0, max(nodes - 1, 1), edges)
    if edges > 3:
        senders[:3], receivers[:3] = (2, 2, 1), (0, 0, 1)
    draw = lambda rows, width: rng.normal(size=(rows, width)).astype(dtype)
    features = draw(nodes, V), draw(edges, D), draw(1, U)
    return build_graph(senders, receivers, features[0], edges=features[1], globals=features[2])


def pair_of_graphs(dtype=np.float32):
    return batch([random_graph(0, dtype=dtype), random_graph(1, 7, 13, dtype)])


class Update(nnx.Module):
    """`tanh(x W + b)` of all rows that there are, side by side."""

    def __init__(self, in_features, out_features, *, rngs, param_dtype=jnp.float32):
        widths = [in_features, out_features]
        self.rows = RowMLP(widths, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, *rows):
        return jnp.tanh(self.rows(*rows))

    def in_numpy(self, *rows):
        layer = self.rows.layers[0]
        x = np.concatenate([row for row in rows if row is not None])
        return np.tanh(x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]))


@cache
def make_network(reductions=("sum", "sum", "sum"), rngs=None, **options):
    """A block with all three updates; made once, since no test changes it."""
    make = partial(Update, rngs=nnx.Rngs(0) if rngs is None else rngs, **options)
    updates = make(D + 2 * V + U, OUT_E), make(V + OUT_E + U, OUT_V), make(OUT_V + OUT_E + U, OUT_U)
    names = ("edges_to_nodes", "edges_to_globals", "nodes_to_globals")
    return GraphNetwork(*updates, **dict(zip(names, reductions, strict=True)))


def by_hand(network, graph, edge_mask=None, edge_weight=None, node_mask=None, graph_mask=None):
    """Algorithm 1 of the paper, one row at a time; what takes no part is 0."""
    of_node = [g for g, count in enumerate(graph.n_node) for _ in range(count)]
    of_edge = [g for g, count in enumerate(graph.n_edge) for _ in range(count)]
    weight = np.ones(len(graph.senders)) if edge_weight is None else edge_weight
    real = np.ones(len(graph.nodes), bool) if node_mask is None else node_mask
    if graph_mask is not None:
        real = real & np.array(graph_mask)[of_node]
    taking_part = {of_node[i] for i in np.flatnonzero(real)} if graph_mask is None else None
    counted = np.ones(len(graph.senders), bool) if edge_mask is None else edge_mask
    counted = counted & real[graph.senders] & real[graph.receivers]
    edges = np.zeros((len(graph.senders), OUT_E))
    for k in np.flatnonzero(counted):
        v_s, v_r = graph.nodes[graph.senders[k]], graph.nodes[graph.receivers[k]]
        edges[k] = network.edge_update.in_numpy(graph.edges[k], v_s, v_r, graph.globals[of_edge[k]])

    def gathered(reduction, rows, chosen, width):
        chosen = [rows[k] * (weight[k] if rows is edges else 1.0) for k in chosen]
        return REDUCTIONS[reduction](chosen) if chosen else np.zeros(width)

    nodes = np.zeros((len(graph.nodes), OUT_V))
    for i in np.flatnonzero(real):
        entering = [k for k in np.flatnonzero(counted) if graph.receivers[k] == i]
        received = gathered(network.edges_to_nodes, edges, entering, OUT_E)
        nodes[i] = network.node_update.in_numpy(graph.nodes[i], received, graph.globals[of_node[i]])
    globals = np.zeros((len(graph.n_node), OUT_U))
    graphs = taking_part if graph_mask is None else np.flatnonzero(graph_mask)
    for g in graphs:
        of_v = [i for i in np.flatnonzero(real) if of_node[i] == g]
        of_e = [k for k in np.flatnonzero(counted) if of_edge[k] == g]
        globals[g] = network.global_update.in_numpy(
            gathered(network.nodes_to_globals, nodes, of_v, OUT_V),
            gathered(network.edges_to_globals, edges, of_e, OUT_E),
            graph.globals[g],
        )
    return edges, nodes, globals


def features(graph):
    return graph.edges, graph.nodes, graph.globals


@nnx.jit
def _run(network, graph, masks):
    return features(network(graph, **masks))


@nnx.jit
def attention(network, graph, edge_mask=None):
    return network.attention(graph, edge_mask=edge_mask)


def run(network, graph, edge_mask=None, **masks):
    """Edges, nodes and globals, compiled; ids and features are unknown to the compiler."""
    return _run(network, graph, masks if edge_mask is None else {"edge_mask": edge_mask, **masks})


# The equations


@pytest.mark.parametrize(
    "reductions", [("sum", "mean", "max"), ("mean", "max", "sum"), ("max", "sum", "mean")]
)
def test_the_block_is_algorithm_1_of_the_paper(reductions, x64):
    network = make_network(reductions=reductions, param_dtype=jnp.float64)
    graph = pair_of_graphs(np.float64)
    parts = {
        "edge_mask": np.arange(42) % 5 != 2,
        "node_mask": np.arange(18) % 7 != 3,
        "edge_weight": np.random.default_rng(2).normal(size=42),
        "graph_mask": np.array([True, False]),
    }
    for names in ((), ("edge_mask",), ("edge_mask", "node_mask"), parts):
        masks = {name: parts[name] for name in names}
        assert_close(run(network, graph, **masks), by_hand(network, graph, **masks), 1e-12)


def test_the_three_functions_are_the_block():
    @nnx.jit
    def in_turn(network, graph):
        edges = update_edges(graph, network.edge_update)
        nodes = update_nodes(edges, network.node_update, aggregate="max")
        return features(update_globals(nodes, network.global_update, aggregate_nodes="mean"))

    network, graph = make_network(reductions=("max", "sum", "mean")), pair_of_graphs()
    assert_close(in_turn(network, graph), run(network, graph))


@pytest.mark.parametrize("missing", ["edge_update", "node_update", "global_update"])
def test_an_update_left_out_leaves_its_part_alone(missing):
    widths = {"edge_update": D + 2 * V + U, "node_update": V + D + U, "global_update": V + D + U}
    same = {"edge_update": D, "node_update": V, "global_update": U}
    rngs = nnx.Rngs(0)
    updates = {
        name: Update(width, same[name], rngs=rngs)
        for name, width in widths.items()
        if name != missing
    }
    graph = pair_of_graphs()
    fields = {"edge_update": "edges", "node_update": "nodes", "global_update": "globals"}

    def forward():
        out = GraphNetwork(**updates)(graph)
        for name, field in fields.items():
            assert (getattr(graph, field) is getattr(out, field)) == (name == missing), name
        return out

    jax.eval_shape(forward)


def test_what_the_graph_lacks_comes_as_none():
    seen = []

    def update(*parts):
        seen.append([None if part is None else part.shape for part in parts])
        return next(part for part in parts if part is not None)

    graph = random_graph()._replace(edges=None, globals=None)
    out = GraphNetwork(node_update=update, global_update=update)(graph)
    assert seen == [[(11, V), None, None], [(1, V), None, None]]
    assert out.edges is None and out.globals.shape == (1, V)
    seen.clear()
    GraphNetwork(update)(graph._replace(nodes=None, globals=np.ones((1, U), np.float32)))
    assert seen == [[None, None, None, (29, U)]]


def test_trees_of_features():
    graph = random_graph()
    tree = graph._replace(nodes={"x": graph.nodes, "y": graph.nodes[:, 0]})

    def effect(e, s, r, u):
        return {"one": s["x"] - r["x"], "two": s["y"]}

    def receive(v, received, u):
        return received

    out = GraphNetwork(effect, receive)(tree)
    expected = np.zeros((11, V)), np.zeros(11)
    for j, i in zip(graph.senders, graph.receivers, strict=True):
        expected[0][i] += graph.nodes[j] - graph.nodes[i]
        expected[1][i] += graph.nodes[j, 0]
    assert_close((out.nodes["one"], out.nodes["two"]), expected)


# Special cases of the block, each one line


def spring(e, s, r, u):
    return e * (s - r)


def push(v, received, u):
    return v + 0.5 * received


def product(e, s, r, u):
    return s * r


def square(v, received, u):
    return v**2


def only_edges(v, e, u):
    return e


def only_nodes(v, e, u):
    return jnp.sqrt(v)


@pytest.mark.slow
def test_interaction_network_relation_network_and_deep_set():
    x = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
    graph = fully_connected(5, nodes=x)
    stiffness = np.random.default_rng(4).normal(size=(25, 1)).astype(np.float32)
    moved = GraphNetwork(spring, push)(graph._replace(edges=stiffness)).nodes
    expected = x.astype(np.float64).copy()
    for k, (j, i) in enumerate(zip(graph.senders, graph.receivers, strict=True)):
        expected[i] += 0.5 * stiffness[k] * (x[j] - x[i])
    assert_close(moved, expected)
    related = GraphNetwork(product, global_update=only_edges)(graph).globals
    assert_close(related, sum(a * b for a in x for b in x)[None])
    pooled = GraphNetwork(node_update=square, global_update=only_nodes)(graph).globals
    assert_close(pooled, np.linalg.norm(x, axis=0)[None])


# jraph


def jraph_updates(network):
    """Our updates in jraph's signature; the edges that leave a node are not used."""
    return (
        network.edge_update,
        lambda nodes, sent, received, globals: network.node_update(nodes, received, globals),
        network.global_update,
    )


def value_and_gradient(apply, graph):
    def loss(nodes, edges, globals):
        out = features(apply(graph._replace(nodes=nodes, edges=edges, globals=globals)))
        rng = np.random.default_rng(9)
        return sum((leaf * rng.normal(size=leaf.shape)).sum() for leaf in out), out

    arguments = jax.tree.map(jnp.asarray, (graph.nodes, graph.edges, graph.globals))
    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*arguments)


def test_the_block_is_jraphs_graph_network():
    network, graph = make_network(), pair_of_graphs()
    theirs = jraph.GraphNetwork(*jraph_updates(network))
    assert_close(value_and_gradient(network, graph), value_and_gradient(theirs, graph))


def test_the_block_is_jraphs_graph_network_with_means():
    network, graph = make_network(reductions=("mean",) * 3), pair_of_graphs()
    means = {f"aggregate_{part}_fn": jraph.segment_mean for part in JRAPH_PARTS}
    theirs = jraph.GraphNetwork(*jraph_updates(network), **means)
    assert_close(value_and_gradient(network, graph), value_and_gradient(theirs, graph))


JRAPH_PARTS = ("edges_for_nodes", "nodes_for_globals", "edges_for_globals")


class Attending(nnx.Module):
    """An edge update with attention, and the two functions that jraph splits it into."""

    def __init__(self, heads, features, *, rngs):
        self.message = Update(D + 2 * V + U, heads * features, rngs=rngs)
        self.logit = RowMLP([heads * features + 2 * V + U, heads], rngs=rngs)
        self.shape = heads, features

    def __call__(self, edges, senders, receivers, globals):
        messages = self.message(edges, senders, receivers, globals)
        logits = self.logit(messages, senders, receivers, globals)
        return Attended(logits, messages.reshape(-1, *self.shape))

    def weigh(self, messages, weights):
        return (weights[:, :, None] * messages.reshape(-1, *self.shape)).reshape(messages.shape)


def test_attended_edges_are_those_of_jraphs_graph_net_gat():
    rngs, heads, width = nnx.Rngs(0), 3, 4
    attending = Attending(heads, width, rngs=rngs)
    receive = Update(V + heads * width + U, OUT_V, rngs=rngs)

    def with_flat_heads(nodes, received, globals):
        return receive(nodes, combine_heads(received, "concat"), globals)

    network = GraphNetwork(attending, with_flat_heads)
    theirs = jraph.GraphNetGAT(
        attending.message,
        lambda nodes, sent, received, globals: receive(nodes, received, globals),
        attending.logit,
        attending.weigh,
    )
    graph = pair_of_graphs()
    ours = lambda graph: flat_edges(network(graph))
    assert_close(value_and_gradient(ours, graph), value_and_gradient(theirs, graph))


def flat_edges(graph):
    return graph._replace(edges=graph.edges.reshape(len(graph.edges), -1))


# Attention


SENTENCE = np.array([[0, 0, 0], [2, 0, 1], [1, -1, -2], [2, 3, 1], [-2, 0, 0], [0, 2, 1]])
MEANING = np.array([[0, -0.2, 0.3, 0.4, 0, 0.1]]).T
GOLDEN = [(None, 0.3077897567), (1.0, 0.3624280762)]
WEIGHTS = {
    None: [0.01270253, 0.02262717, 0.00126162, 0.72288696, 0.01270253, 0.22781920],
    1.0: [0.00080014, 0.00217500, 0.00001466, 0.87745891, 0.00080014, 0.11875115],
}


def read_sentence(step):
    """Kernels that pick the word's key out of a row, and its value out of the fourth column."""
    for part in (step.query, step.key):
        assign(part.kernel, np.eye(4, 3)[:, None])
    assign(step.value.kernel, np.eye(4)[:, [3, 0, 1]][:, None])
    return step


def sentence(dtype):
    """Six words that all speak to the last one."""
    return build_graph(range(6), [5] * 6, np.concatenate([SENTENCE, MEANING], axis=1).astype(dtype))


def total(nodes, received, globals):
    return received[:, 0, :1]


@pytest.mark.parametrize(("scale", "expected"), GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_the_sentence_of_the_textbook_through_the_edge_step(scale, expected, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        step = AttentionEdgeStep(4, 3, scale=scale, param_dtype=dtype, rngs=nnx.Rngs(0))
        network, graph = GraphNetwork(read_sentence(step), total), sentence(dtype)
        edges, nodes, _ = run(network, graph)
        np.testing.assert_allclose(nodes[5, 0], expected, rtol=tolerance)
        np.testing.assert_allclose(
            attention(network, graph)[:, 0], WEIGHTS[scale], atol=1e-8 + tolerance
        )
        weighed = np.array(WEIGHTS[scale])[:, None] * MEANING
        np.testing.assert_allclose(edges[:, 0, :1], weighed, atol=1e-8 + tolerance)


@pytest.mark.parametrize(("scale", "expected"), GOLDEN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
def test_the_sentence_of_the_textbook_through_the_block(scale, expected, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        block = AttentionBlock(
            4, 1, head_features=3, scale=scale, param_dtype=dtype, rngs=nnx.Rngs(0)
        )
        read_sentence(block.step)
        assign(block.output.contraction, np.array([[[1.0], [0.0], [0.0]]]))
        graph = sentence(dtype)
        np.testing.assert_allclose(run(block, graph)[1][5, 0], expected, rtol=tolerance)
        np.testing.assert_allclose(
            attention(block, graph)[:, 0], WEIGHTS[scale], atol=1e-8 + tolerance
        )


def test_heads_and_features_are_contracted_as_in_the_textbook():
    """ē_il = Σ_hc ē_ihc w_hcl, worked out by hand for one edge, two heads of two features, three outputs."""
    block = AttentionBlock(1, 3, num_heads=2, head_features=2, rngs=nnx.Rngs(0))
    assign(block.step.value.kernel, [[[1.0, 2.0], [3.0, 4.0]]])
    w = [[[1, 0, 0], [0, 1, 0]], [[10, 0, 1], [0, 10, 1]]]
    assign(block.output.contraction, w)
    out = block(build_graph([0], [1], jnp.array([[2.0], [7.0]]))).nodes
    np.testing.assert_allclose(out, [[0, 0, 0], [2 + 60, 4 + 80, 6 + 8]], rtol=1e-6)


WIDE = Case(
    "wide",
    AttentionBlock,
    {"num_heads": 2, "head_features": 4, "edge_features": EDGE_WIDTH, "global_features": 2},
)


@pytest.mark.slow
def test_the_edge_step_on_rows_is_the_block_on_nodes():
    """Updated edges, weights and, contracted, nodes; a mask included."""
    block, graph = build(WIDE), graph_for(WIDE)
    mask = np.arange(len(graph.senders)) % 4 != 1
    on_rows = GraphNetwork(block.step)
    edges = run(on_rows, graph, mask)[0]
    assert edges.shape == (29, 2, 4)
    assert_close(block.updated_edges(graph, edge_mask=mask), edges)
    assert_close(attention(block, graph, mask), attention(on_rows, graph, mask))
    assert not np.asarray(edges)[~mask].any()
    received = np.zeros((NODES, 2, 4))
    np.add.at(received, graph.receivers, np.asarray(edges))
    contracted = np.einsum("nhc,hcl->nl", received, np.asarray(block.output.contraction[...]))
    expected = contracted + np.asarray(block.output.bias[...])
    assert_close(run(block, graph, mask)[1], expected)


def test_the_block_never_asks_for_the_updated_edges(blocks):
    """It goes through the blocks of `edge_attention`, which hold no array [E, H, C]."""
    graph = graph_for(WIDE, nodes=101, edges=523)
    block = build(WIDE)
    jax.eval_shape(lambda: block(graph).nodes)
    pool = AttentionPooling(IN, OUT, rngs=nnx.Rngs(0))
    jax.eval_shape(lambda: pool(jnp.asarray(graph.nodes), jnp.zeros(101, int), 3))
    # Up to 256 edges or rows: 523 edges are three blocks of about 175, 101 rows one.
    assert blocks == [176, 112]


def test_a_constant_in_the_keys_would_change_nothing():
    """Why globals reach query and value only: what is added to every key of a receiver drops out of the softmax."""
    block, graph = build(WIDE), graph_for(WIDE)
    before = block.attention(graph)
    shift = np.random.default_rng(0).normal(size=(1, 2, 4))
    key, query = (
        jnp.einsum("nf,fhc->nhc", graph.nodes, p.kernel[...])
        for p in (block.step.key, block.step.query)
    )
    logits = lambda keys: (query[graph.receivers] * keys[graph.senders]).sum(-1)
    alphas = [attention_weights(graph, logits(k)) for k in (key, key + shift)]
    assert_close(*alphas)
    moved = block.attention(graph._replace(globals=graph.globals + 1))
    assert np.abs(np.asarray(moved - before)).max() > 1e-3


def test_attend_edges_by_hand():
    graph = build_graph([0, 1, 2], [3, 3, 0], num_nodes=4)
    values = jnp.array([[2.0, 4.0], [6.0, 8.0], [1.0, 1.0]])
    edges = Attended(jnp.array([0.0, jnp.log(3.0), 5.0]), values)
    np.testing.assert_allclose(attend_edges(graph, edges), [[0.5, 1], [4.5, 6], [1, 1]], rtol=1e-6)
    masked = attend_edges(graph, edges, np.array([False, True, True]))
    np.testing.assert_allclose(masked, [[0, 0], [6, 8], [1, 1]], rtol=1e-6)


@pytest.mark.parametrize("masked", [True, False])
def test_pooling_by_attention_is_its_equation(masked, x64):
    rng = np.random.default_rng(0)
    rows, ids, mask = rng.normal(size=(13, 5)), rng.integers(0, 3, 13), rng.random(13) < 0.7
    pool = AttentionPooling(5, 6, num_heads=2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    vote, value = np.asarray(pool.logit.kernel[...]), np.asarray(pool.value.kernel[...])
    expected = np.zeros((4, 6))
    for i in range(4):
        members = [k for k in range(13) if ids[k] == i and (mask[k] or not masked)]
        for h in range(2):
            shares = np.array([np.exp(rows[k] @ vote[:, h, 0]) for k in members])
            for share, k in zip(shares / shares.sum(), members, strict=True):
                expected[i, 3 * h : 3 * h + 3] += share * (rows[k] @ value[:, h])
    weigh = jax.jit(lambda rows, ids, mask: pool(rows, ids, 4, mask=mask))
    out = weigh(rows, ids, mask if masked else None)
    assert_close(out, expected, 1e-12)
    assert not np.asarray(out[3]).any(), "nothing is in the last group"


@cache
def make_attentive(rngs=None, param_dtype=jnp.float32):
    """A block that attends in all places: to edges, twice, and to nodes."""
    rngs = nnx.Rngs(0) if rngs is None else rngs
    make = partial(Update, rngs=rngs, param_dtype=param_dtype)
    pool = partial(AttentionPooling, num_heads=2, rngs=rngs, param_dtype=param_dtype)
    return GraphNetwork(
        make(D + 2 * V + U, OUT_E),
        make(V + OUT_V + U, OUT_V),
        make(OUT_V + OUT_U + U, OUT_U),
        edges_to_nodes=pool(OUT_E, OUT_V),
        edges_to_globals=pool(OUT_E, OUT_V),
        nodes_to_globals=pool(OUT_V, OUT_U),
    )


def test_the_attention_of_a_block_with_pooling():
    network, graph = make_attentive(), pair_of_graphs()
    mask = np.arange(42) % 5 != 2
    alpha = np.asarray(attention(network, graph, mask))
    assert alpha.shape == (42, 2) and not alpha[~mask].any()
    edges = np.asarray(run(network, graph, mask)[0])
    pool = network.edges_to_nodes
    votes = np.exp(edges @ np.asarray(pool.logit.kernel[..., 0]))
    for i in set(graph.receivers[mask]):
        entering = (graph.receivers == i) & mask
        assert_close(alpha[entering], votes[entering] / votes[entering].sum(axis=0))


# Properties, of a block with sums and of one with attention

NETWORKS = {"sum": make_network, "attention": make_attentive}
each_network = pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=() if name == "attention" else pytest.mark.slow)
        for name, make in NETWORKS.items()
    ],
)


def everything(graph):
    return np.ones(len(graph.senders), bool)


@pytest.mark.slow
@each_network
def test_jit_is_eager(make):
    network, graph = make(), pair_of_graphs()
    assert_close(run(network, graph, everything(graph)), features(network(graph)))


@each_network
def test_relabelled_nodes_give_relabelled_output(make):
    network, graph = make(), random_graph()
    new_ids = np.random.default_rng(5).permutation(11).astype(np.int32)
    edges, nodes, globals = run(network, graph, everything(graph))
    moved = run(network, relabel(graph, new_ids), everything(graph))
    assert_close(moved, (edges, nodes[np.argsort(new_ids)], globals))


@each_network
def test_edge_order_does_not_matter(make):
    network, graph = make(), random_graph()
    order = np.random.default_rng(6).permutation(29)
    edges, nodes, globals = run(network, graph, everything(graph))
    assert_close(
        run(network, reorder(graph, order), everything(graph)), (edges[order], nodes, globals)
    )


@each_network
def test_a_batch_is_its_graphs_alone(make):
    network, one, two = make(), random_graph(0), random_graph(1, 7, 13)
    both = run(network, batch([one, two]))
    alone = [run(network, graph) for graph in (one, two)]
    assert_close(both, tuple(np.concatenate(parts) for parts in zip(*alone, strict=True)))


@each_network
def test_padding_changes_nothing_and_nan_in_it_reaches_nothing(make):
    network, graph = make(), random_graph()
    padded, masks = pad(graph, Budget(nodes=17, edges=37, graphs=3))
    expected = run(network, graph)
    real = lambda parts: (parts[0][:29], parts[1][:11], parts[2][:1])
    assert_close(real(run(network, padded, masks.edge)), expected)
    assert not np.asarray(run(network, padded, masks.edge)[0])[29:].any()
    padded.nodes[11:], padded.edges[29:] = np.nan, np.nan
    assert_close(real(run(network, padded, masks.edge)), expected)


def make_edge_step():
    """Attention as an edge update, and a node update that reads its heads."""
    step = AttentionEdgeStep(
        V, 4, num_heads=2, edge_features=D, global_features=U, rngs=nnx.Rngs(0)
    )
    return GraphNetwork(step, FlatHeads(rngs=nnx.Rngs(1)))


class FlatHeads(nnx.Module):
    def __init__(self, *, rngs):
        self.update = Update(V + 8 + U, OUT_V, rngs=rngs)

    def __call__(self, nodes, received, globals):
        return self.update(nodes, combine_heads(received, "concat"), globals)


@nnx.jit
def with_gradients(network, graph, edge_weight, masks):
    """Everything updated, and the gradients of a sum over all rows of it, padding included."""

    def loss(network, edge_weight):
        out = features(network(graph, edge_weight=edge_weight, **masks))
        return sum(jnp.sin(leaf).sum() for leaf in out), out

    gradient = nnx.grad(loss, argnums=(0, 1), has_aux=True)
    (d_network, d_weight), out = gradient(network, edge_weight)
    return out, d_network, d_weight


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make_network, marks=pytest.mark.slow),
        pytest.param(make_attentive, marks=pytest.mark.slow),
        make_edge_step,
        pytest.param(lambda: make_stack(nnx.Rngs(0)), marks=pytest.mark.slow),
    ],
    ids=["sum", "attention", "edge step", "encode process decode"],
)
def test_padding_of_every_kind_reaches_no_value_and_no_gradient(make):
    """NaN in padding nodes, edges, globals and weights; a batch, whose graphs are as they are alone."""
    network, graphs = make(), [random_graph(0), random_graph(1, 7, 13)]
    padded, masks = pad(graphs, Budget(nodes=23, edges=53, graphs=4))
    padded.nodes[18:], padded.edges[42:], padded.globals[2:] = np.nan, np.nan, np.nan
    weight = np.random.default_rng(3).uniform(0.5, 2.0, 53).astype(np.float32)
    weight[42:] = np.nan
    given = {"node_mask": masks.node, "graph_mask": masks.graph}
    out, d_network, d_weight = with_gradients(network, padded, weight, given)
    expected, d_expected, d_weight_expected = with_gradients(
        network, batch(graphs), weight[:42], {}
    )
    real = tuple(leaf[:count] for leaf, count in zip(out, (42, 18, 2), strict=True))
    assert_close(real, expected)
    assert_close(d_network, d_expected)
    assert_close(d_weight[:42], d_weight_expected)
    assert not np.asarray(d_weight)[42:].any()


def reciprocal(v, received, u):
    return 1 / v


def test_a_function_on_rows_never_meets_the_zeros_of_padding():
    graph = random_graph()
    mask = np.arange(11) != 4
    graph.nodes[4] = np.nan

    def total(nodes, mask):
        masked = graph._replace(nodes=nodes)
        network = GraphNetwork(node_update=reciprocal)(masked, node_mask=mask)
        rows = GraphIndependent(nodes=jnp.log)(
            network._replace(nodes=jnp.abs(nodes)), node_mask=mask
        )
        return network.nodes.sum() + rows.nodes.sum()

    value_and_grad = jax.jit(jax.value_and_grad(total))
    gradient = np.asarray(value_and_grad(graph.nodes, mask)[1])
    assert_close(gradient[mask], (1 / graph.nodes - 1 / graph.nodes**2)[mask])
    assert not gradient[4].any()
    assert value_and_grad(np.full((11, V), np.nan, np.float32), np.zeros(11, bool))[0] == 0


def test_nothing_that_counts_is_no_nan():
    """No edge and no node takes part, and all of them hold NaN."""
    graph = random_graph()
    spoiled = graph._replace(**{name: np.full_like(getattr(graph, name), np.nan) for name in NAMES})
    nothing = {"node_mask": np.zeros(11, bool)}
    for make in (make_network, make_edge_step):
        out, *gradients = with_gradients(make(), spoiled, np.full(29, np.nan, np.float32), nothing)
        assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves((out[:2], gradients)))


NAMES = ("nodes", "edges", "globals")


def test_weights_of_edges_multiply_what_is_aggregated():
    graph = build_graph([0, 1], [2, 2], jnp.zeros((3, 1)), edges=jnp.array([[1.0], [3.0]]))
    weight = jnp.array([5.0, 0.5])
    received = {
        how: update_nodes(graph, first_received, aggregate=how, edge_weight=weight).nodes[2, 0]
        for how in REDUCTIONS
    }
    assert received == {"sum": 6.5, "mean": 3.25, "max": 5.0}
    assert update_globals(graph, only_edges, edge_weight=weight).globals.tolist() == [[6.5]]
    pool = AttentionPooling(1, 1, rngs=nnx.Rngs(0))
    assign(pool.logit.kernel, [[[0.0]]])
    assign(pool.value.kernel, [[[1.0]]])
    network = GraphNetwork(node_update=first_received, edges_to_nodes=pool)
    assert network(graph, edge_weight=weight).nodes.ravel().tolist() == [0, 0, 3.25]
    assert network.attention(graph, edge_weight=weight).ravel().tolist() == [2.5, 0.25]
    attended = attend_edges(graph, Attended(jnp.zeros(2), graph.edges), edge_weight=weight)
    assert attended.ravel().tolist() == [2.5, 0.75]


def first_received(nodes, received, globals):
    return received


def test_a_norm_over_nodes_knows_which_count():
    graph = random_graph()
    mask = np.arange(11) != 4
    expected, norm = nnx.BatchNorm(V, rngs=nnx.Rngs(0)), nnx.BatchNorm(V, rngs=nnx.Rngs(0))
    out = GraphIndependent(nodes=norm)(graph, node_mask=mask).nodes
    assert_close(out[mask], expected(jnp.asarray(graph.nodes[mask])))
    assert not np.asarray(out[4]).any()
    assert_close(nnx.state(norm, nnx.BatchStat), nnx.state(expected, nnx.BatchStat))


@each_network
def test_masked_edges_are_as_good_as_absent_even_where_they_are_nan(make):
    network, graph = make(), random_graph()
    mask = np.arange(29) % 3 != 1
    short = reorder(graph, np.flatnonzero(mask))
    short = short._replace(n_edge=np.array([mask.sum()], np.int32))
    edges, nodes, globals = run(network, short)
    spoiled = graph._replace(edges=np.where(mask[:, None], graph.edges, np.nan))
    actual = run(network, spoiled, mask)
    assert_close((actual[0][mask], *actual[1:]), (edges, nodes, globals))

    graphdef, params = nnx.split(network)
    loss = lambda params: sum(
        leaf.sum() for leaf in run(nnx.merge(graphdef, params), spoiled, mask)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(params)))


@each_network
def test_inside_jit_an_edge_with_a_bad_end_is_dropped(make):
    network, graph = make(), random_graph()
    for bad in (-1, 11, 2**31 - 1):
        senders = graph.senders.copy()
        senders[[3, 8]] = bad
        without = np.ones(29, bool)
        without[[3, 8]] = False
        actual = run(network, graph._replace(senders=senders), everything(graph))
        assert_close(actual, run(network, graph, without))


@pytest.mark.parametrize(("nodes", "edges"), [(1, 0), (3, 0), (1, 2), (0, 0)])
@each_network
def test_tiny_graphs(make, nodes, edges):
    graph = random_graph(nodes=nodes, edges=edges)
    out = run(make(), graph)
    assert [leaf.shape for leaf in out] == [(edges, OUT_E), (nodes, OUT_V), (1, OUT_U)]
    assert all(np.isfinite(leaf).all() for leaf in out)


@pytest.mark.parametrize("reduction", ["sum", "mean", "max"])
def test_a_node_that_no_edge_enters_has_received_zero(reduction):
    def received_alone(nodes, received, globals):
        return received

    graph = random_graph()._replace(edges=np.full((29, 1), -3.0, np.float32))
    received = GraphNetwork(node_update=received_alone, edges_to_nodes=reduction)(graph).nodes
    degree = np.bincount(graph.receivers, minlength=11)
    expected = {"sum": -3.0 * degree, "mean": -3.0 * (degree > 0), "max": -3.0 * (degree > 0)}
    np.testing.assert_allclose(received[:, 0], expected[reduction])
    assert degree[10] == 0


@pytest.mark.slow
@each_network
def test_gradients_are_finite_differences(make, x64):
    network, graph = make(param_dtype=jnp.float64), pair_of_graphs(np.float64)
    graphdef, params = nnx.split(network)

    @jax.jit
    def value(params, nodes, edges, globals):
        whole = graph._replace(nodes=nodes, edges=edges, globals=globals)
        out = features(nnx.merge(graphdef, params)(whole))
        rng = np.random.default_rng(9)
        return sum((leaf * rng.normal(size=leaf.shape)).sum() for leaf in out)

    point = params, graph.nodes, graph.edges, graph.globals
    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3)))(*point)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    rng = np.random.default_rng(4)
    for _ in range(3):
        along = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        move = lambda step: jax.tree.map(lambda x, d: x + step * d, point, along)  # noqa: B023
        slope = (value(*move(1e-6)) - value(*move(-1e-6))) / 2e-6
        products = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, along)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-6)


@pytest.mark.slow
@each_network
def test_bfloat16_is_close_to_float32(make):
    """With thousands of edges into one node."""
    graph = random_graph(nodes=13, edges=4099)
    graph = graph._replace(receivers=np.where(np.arange(4099) % 2, 0, graph.receivers))
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), features(graph))
    half = graph._replace(edges=narrow[0], nodes=narrow[1], globals=narrow[2])
    out = run(make(param_dtype=jnp.bfloat16), half)
    assert {leaf.dtype for leaf in out} == {jnp.dtype(jnp.bfloat16)}
    wide = make(rngs=nnx.Rngs(1), param_dtype=jnp.float32)
    nnx.update(
        wide,
        jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32), nnx.state(make(param_dtype=jnp.bfloat16))
        ),
    )
    full = graph._replace(
        **{
            name: jnp.asarray(getattr(half, name), jnp.float32)
            for name in ("edges", "nodes", "globals")
        }
    )
    assert_close(out, run(wide, full), 0.03)


@pytest.mark.slow
@each_network
def test_value_and_gradient_lower_for_every_platform(make):
    graphdef, params = nnx.split(make())
    graph = pair_of_graphs()
    loss = lambda params, graph: sum(
        leaf.sum() for leaf in features(nnx.merge(graphdef, params)(graph))
    )
    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=platforms)(params, graph)
    assert exported.platforms == platforms


@pytest.mark.slow
@each_network
def test_equal_networks_compile_once(make):
    traced = []

    @partial(jax.jit, static_argnums=0)
    def apply(graphdef, params, graph):
        traced.append(graphdef)
        return nnx.merge(graphdef, params)(graph).nodes

    for seed in range(3):
        apply(*nnx.split(make(rngs=nnx.Rngs(seed))), random_graph(seed))
    assert len(traced) == 1


@pytest.mark.parametrize("make", [make_network, make_attentive])
def test_linen_has_the_same_output(make):
    build_one = lambda *, rngs: make(rngs=rngs)
    module = nnx.bridge.to_linen(build_one)
    graph = pair_of_graphs()
    variables = module.init(jax.random.key(0), graph)
    network = make()
    params = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    assert jax.tree.structure(params) == jax.tree.structure(variables["params"])
    out = module.apply({**variables, "params": params}, graph)
    assert_close(features(out), run(network, graph))


# Stacks


def counting(e, s, r, u):
    return s[:, 1:]


def adding(v, received, u):
    return v[:, :1] + 10 * received


def test_encode_process_decode_by_hand():
    """On a path 0 -> 1 -> 2, with h_0 = x: h_t = x + 10 (h_{t-1} of the node before)."""
    graph = build_graph([0, 1], [1, 2], jnp.array([[1.0], [2.0], [3.0]]))
    core = GraphNetwork(counting, adding)
    model = EncodeProcessDecode(
        GraphIndependent(), core, GraphIndependent(nodes=jnp.negative), num_steps=2
    )
    assert model(graph, num_steps=1).nodes.ravel().tolist() == [-1, -12, -23]
    assert model(graph).nodes.ravel().tolist() == [-1, -12, -123]
    assert model(graph, num_steps=5).nodes.ravel().tolist() == [-1, -12, -123]


def make_stack(rngs, width=4):
    encoder = GraphIndependent(
        edges=RowMLP([D, 8, width], rngs=rngs),
        nodes=RowMLP([V, 8, width], rngs=rngs),
        globals=RowMLP([U, width], rngs=rngs),
    )
    core = GraphNetwork(
        RowMLP([8 * width, width], rngs=rngs),
        RowMLP([5 * width, width], rngs=rngs),
        RowMLP([4 * width, width], rngs=rngs),
        edges_to_nodes=AttentionPooling(width, width, num_heads=2, rngs=rngs),
    )
    return EncodeProcessDecode(
        encoder, core, GraphIndependent(nodes=RowMLP([width, OUT_V], rngs=rngs)), num_steps=3
    )


@pytest.mark.slow
def test_encode_process_decode_joins_all_three_parts():
    model, graph = make_stack(nnx.Rngs(0)), pair_of_graphs()
    encoded = latent = model.encoder(graph)
    alphas = []
    for _ in range(3):
        joined = [
            np.concatenate(pair, axis=1)
            for pair in zip(features(encoded), features(latent), strict=True)
        ]
        joined = encoded._replace(edges=joined[0], nodes=joined[1], globals=joined[2])
        alphas.append(model.core.attention(joined))
        latent = model.core(joined)
    assert_close(run(model, graph), features(model.decoder(latent)))
    assert_close(model.attention(graph), tuple(alphas))


def test_what_the_core_leaves_alone_stays_as_encoded():
    widths = []

    def watch(v, received, u):
        widths.append((v.shape[1], received.shape[1]))
        return v[:, :V]

    model = EncodeProcessDecode(
        GraphIndependent(), GraphNetwork(node_update=watch), GraphIndependent(), num_steps=3
    )
    out = model(random_graph())
    assert widths == [(2 * V, 2 * D)] * 3
    np.testing.assert_array_equal(out.edges, random_graph().edges)


def test_what_the_encoder_lacks_is_not_carried_along():
    def send(e, s, r, u):
        assert e is None
        return s[:, :V]

    def receive(v, received, u):
        return received

    model = EncodeProcessDecode(
        GraphIndependent(), GraphNetwork(send, receive), GraphIndependent(), num_steps=2
    )
    assert model(random_graph()._replace(edges=None)).edges.shape == (29, V)


def test_a_stack_under_jit_and_in_linen():
    model, graph = make_stack(nnx.Rngs(0)), pair_of_graphs()
    expected = model(graph).nodes
    assert_close(nnx.jit(lambda model, graph: model(graph).nodes)(model, graph), expected)
    module = nnx.bridge.to_linen(make_stack)
    variables = module.init(jax.random.key(0), graph)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert_close(module.apply({**variables, "params": params}, graph).nodes, expected)
    alphas = module.apply({**variables, "params": params}, graph, nnx_method="attention")
    assert [alpha.shape for alpha in alphas] == [(42, 2)] * 3


@pytest.mark.slow
@pytest.mark.parametrize("decode", [NodeLinear, None], ids=["layer", "function"])
def test_a_core_that_is_a_layer_takes_the_mask_of_graphs(decode):
    """The second graph holds NaN and takes no part, and the first is as it is alone."""
    rngs = nnx.Rngs(0)
    encoder = GraphIndependent(nodes=RowMLP([V, 4], rngs=rngs), edges=RowMLP([D, 4], rngs=rngs))
    core = AttentionBlock(8, 4, edge_features=8, rngs=rngs)
    decoder = GraphIndependent(nodes=jnp.tanh) if decode is None else decode(4, 3, rngs=rngs)
    model = EncodeProcessDecode(encoder, core, decoder, num_steps=2)
    one, other = random_graph(), random_graph()
    other.nodes[:], other.edges[:] = np.nan, np.nan
    pair, masks = batch([one, other]), {"graph_mask": np.array([True, False])}
    nodes, edges = len(one.nodes), len(one.senders)
    own = np.arange(2 * nodes) != 3

    @nnx.jit
    def run(model, graph, masks):
        return model(graph, **masks).nodes, model.attention(graph, **masks)

    for given, alone in (({}, {}), ({"node_mask": own}, {"node_mask": own[:nodes]})):
        found, alphas = run(model, pair, masks | given)
        expected, of_one = run(model, one, alone)
        assert not np.isnan(found).any()
        assert_close((found[:nodes], tuple(alpha[:edges] for alpha in alphas)), (expected, of_one))
        assert not any(np.asarray(alpha[edges:]).any() for alpha in alphas)


# Bad input


def test_bad_arguments_are_refused(unchecked):
    with rejects(
        ValueError, "an aggregation must be one of ['sum', 'mean', 'max'] or a function, got 'min'"
    ):
        GraphNetwork(edges_to_globals="min")
    for steps in (0, -1):
        with rejects(ValueError, f"num_steps must be at least 1, got {steps}"):
            EncodeProcessDecode(
                GraphIndependent(), GraphNetwork(), GraphIndependent(), num_steps=steps
            )
    with rejects(ValueError, "out_features=21 cannot be split over num_heads=2"):
        AttentionBlock(IN, OUT, num_heads=2, rngs=nnx.Rngs(0))
    for make in (AttentionBlock, AttentionEdgeStep, AttentionPooling):
        with rejects(ValueError, "num_heads must be at least 1, got 0"):
            make(IN, OUT, num_heads=0, rngs=nnx.Rngs(0))


def test_a_block_without_attention_says_so(unchecked):
    with rejects(ValueError, "this block has no attention: let edge_update return Attended"):
        make_network().attention(random_graph())


def test_bad_graphs_are_refused(unchecked):
    network, graph = make_network(), random_graph()
    with rejects(ValueError, "senders[3] = 11 is out of range"):
        senders = graph.senders.copy()
        senders[3] = 11
        network(graph._replace(senders=senders))
    with rejects(TypeError, "nodes is sparse (BCOO): can't apply a graph network to it"):
        network(graph._replace(nodes=BCOO.fromdense(graph.nodes)))
    for name, rows in {"edge_mask": 29, "node_mask": 11, "graph_mask": 1}.items():
        for part in (network, network.attention, GraphIndependent(nodes=jnp.abs)):
            with rejects(ValueError, f"{name} must have {rows} rows, got {rows + 1}"):
                part(graph, **{name: np.ones(rows + 1, bool)})
            with rejects(TypeError, f"{name} must be boolean, got int"):
                part(graph, **{name: np.ones(rows, int)})
    with rejects(ValueError, "edge_weight must have 29 rows, got 28"):
        network(graph, edge_weight=np.ones(28, np.float32))
    with rejects(ValueError, "the layer was built with global_features, but the graph has none"):
        build(WIDE)(graph_for(WIDE)._replace(globals=None))
    step = AttentionEdgeStep(V, 4, edge_features=D, rngs=nnx.Rngs(0))
    with rejects(ValueError, "built with edge_features=3, and got no edge features"):
        GraphNetwork(step)(graph._replace(edges=None))
    step = AttentionEdgeStep(V, 4, rngs=nnx.Rngs(0))
    with rejects(ValueError, "built with edge_features=None, and got some"):
        GraphNetwork(step)(graph)


def test_bad_settings_of_every_part_are_refused_by_name(unchecked):
    rngs = nnx.Rngs(0)
    of_width = {
        "in_features": lambda x: AttentionPooling(x, 4, rngs=rngs),
        "out_features": lambda x: AttentionPooling(4, x, rngs=rngs),
        "num_heads": lambda x: AttentionPooling(4, 4, num_heads=x, rngs=rngs),
        "head_features": lambda x: AttentionEdgeStep(4, x, rngs=rngs),
        "widths[1]": lambda x: RowMLP([4, x], rngs=rngs),
        "num_steps": lambda x: EncodeProcessDecode(None, None, None, num_steps=x),
    }
    for name, make in of_width.items():
        for bad in (2.0, float("nan"), "3", None, True, np.float32(4)):
            with rejects(TypeError, f"{name} must be a whole number, got {bad!r}"):
                make(bad)
        with rejects(ValueError, f"{name} must be at least 1, got -1"):
            make(-1)
    for dtype in ("float33", np.int32, 3):
        for name in ("dtype", "param_dtype"):
            for make in (AttentionPooling, AttentionEdgeStep, AttentionBlock, RowMLP):
                arguments = ([4, 4],) if make is RowMLP else (4, 4)
                with rejects(TypeError, f"{name} must be a dtype of fractions, such as"):
                    make(*arguments, **{name: dtype}, rngs=rngs)
    for make, name in ((GraphNetwork, "node_update"), (GraphIndependent, "nodes")):
        with rejects(TypeError, f"{name} must be a function or a module on rows, got 3"):
            make(**{name: 3})
    for widths in ([], [5], 5):
        with rejects(ValueError, "widths must be those of the input and the output at least"):
            RowMLP(widths, rngs=rngs)


def test_rows_that_do_not_fit_are_refused_by_name(unchecked):
    mlp, step = (
        RowMLP([4, 2], rngs=nnx.Rngs(0)),
        AttentionEdgeStep(4, 4, global_features=2, rngs=nnx.Rngs(0)),
    )
    with rejects(ValueError, "the rows must be equally many in all parts, got [[3, 2], [2, 2]]"):
        mlp(jnp.ones((3, 2)), jnp.ones((2, 2)))
    with rejects(ValueError, "the rows must be 4 wide together, the first of widths, got []"):
        mlp(None)
    with rejects(ValueError, "the step was built with global_features=2, and got none: give"):
        step(None, jnp.ones((3, 4)), jnp.ones((3, 4)))
    pool, ids = AttentionPooling(4, 4, rngs=nnx.Rngs(0)), jnp.array([0, 0, 1])
    with rejects(ValueError, "rows must be [R, 4], got [3, 5]"):
        pool(jnp.ones((3, 5)), ids, 2)
    with rejects(ValueError, "mask must have 3 rows, got 2"):
        pool(jnp.ones((3, 4)), ids, 2, mask=np.ones(2, bool))
    with rejects(TypeError, "mask must be boolean, got float32; use mask > 0"):
        pool(jnp.ones((3, 4)), ids, 2, mask=np.ones(3, np.float32))
