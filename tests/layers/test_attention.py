"""What the weights say: a distribution over the edges that enter, and who is receiver and who is sender."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CASES,
    EDGES,
    HEADS,
    IN,
    ISOLATED,
    NODES,
    OUT,
    REPRESENTATIVES,
    SOFT,
    blank,
    build,
    evaluate,
    graph_for,
    rows,
    sum_by_receiver,
)
from flax import nnx
from helpers import assert_close, assign, changed_rows, run

from gatjax.graph import build_graph, connect_all, shortest_paths
from gatjax.layers import DotProductConv, GATConv, GATv2Conv


@rows(CASES, REPRESENTATIVES)
def test_attention_is_a_distribution_over_the_edges_that_enter(case):
    graph = graph_for(case)
    alpha = np.asarray(evaluate(build(case), graph).attention)
    assert set(np.unique(alpha)) == {0, 1} if case.hard else (alpha > 0).all()
    if case.sums_to_one:
        entered = sum_by_receiver(graph, np.ones((EDGES, 1))) > 0
        expected = np.broadcast_to(entered, (NODES, alpha.shape[1]))
        np.testing.assert_allclose(sum_by_receiver(graph, alpha), expected, atol=1e-6)


@rows([case for case in SOFT if case.local])
def test_a_sender_is_felt_by_its_receivers_alone(case):
    layer, graph = build(case), graph_for(case)
    before = evaluate(layer, graph).nodes
    for j in (0, 2, ISOLATED):
        nodes = graph.nodes.copy()
        nodes[j] += 1
        after = evaluate(layer, graph._replace(nodes=nodes)).nodes
        receivers = set(graph.receivers[graph.senders == j].tolist())
        assert receivers and changed_rows(before, after) - {j} == receivers - {j}


@rows(SOFT)
def test_an_edge_turned_round_changes_its_two_ends(case):
    layer, graph = build(case), graph_for(case)
    before = evaluate(layer, graph).nodes
    edge = np.flatnonzero(graph.senders != graph.receivers)[5]
    ends = {int(graph.senders[edge]), int(graph.receivers[edge])}
    senders, receivers = graph.senders.copy(), graph.receivers.copy()
    senders[edge], receivers[edge] = receivers[edge], senders[edge]
    after = evaluate(layer, graph._replace(senders=senders, receivers=receivers)).nodes
    changed = changed_rows(before, after)
    assert ends <= changed
    if case.sums_to_one:
        assert changed == ends


# Receivers and senders are told apart


def bipartite(num_receivers, nodes):
    """Every later node sends to every one of the first `num_receivers`."""
    senders = np.arange(num_receivers, len(nodes))
    return build_graph(
        np.tile(senders, num_receivers),
        np.repeat(np.arange(num_receivers), len(senders)),
        jnp.asarray(nodes, jnp.float32),
    )


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (GATConv, ["receiver_vector", "sender_vector"]),
        (GATv2Conv, ["receiver_projection", "sender_projection"]),
        (DotProductConv, ["query", "key", "value"]),
    ],
)
def test_receiver_and_sender_parameters_are_drawn_apart(layer, parameters):
    module = layer(IN, OUT, num_heads=HEADS, rngs=nnx.Rngs(0))
    arrays = [
        np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)) if leaf.any()
    ]
    heads = [
        head
        for leaf in arrays
        for head in (leaf if leaf.shape[0] == HEADS else leaf.swapaxes(0, 1))
    ]
    assert len(arrays) >= len(parameters)
    assert len({head.tobytes() for head in heads}) == len(heads) == HEADS * len(arrays)


def test_gat_receiver_vector_acts_on_the_receiver():
    """With the sender's vector zero every sender gets the same; with the receiver's zero, all receivers agree."""
    layer = build(CASES[0])
    graph = bipartite(3, np.random.default_rng(0).normal(size=(7, IN)))
    sender_vector = layer.sender_vector[...]
    assign(layer.sender_vector, np.zeros_like(sender_vector))
    np.testing.assert_allclose(run(layer, graph)[1], 0.25, rtol=1e-6)
    assign(layer.sender_vector, sender_vector)
    assign(layer.receiver_vector, np.zeros_like(sender_vector))
    alpha = np.asarray(run(layer, graph)[1]).reshape(3, 4, HEADS)
    np.testing.assert_allclose(alpha[1:], alpha[:1].repeat(2, axis=0), rtol=1e-6)
    assert (alpha.std(axis=1) > 1e-3).all()


def test_dot_product_query_is_the_receivers():
    """A receiver with a zero row has a zero query and no preference; a sender's zero row changes nothing of that."""
    layer = DotProductConv(IN, OUT, num_heads=HEADS, rngs=nnx.Rngs(0))
    nodes = np.random.default_rng(0).normal(size=(6, IN))
    nodes[0] = 0
    alpha = np.asarray(run(layer, bipartite(2, nodes))[1]).reshape(2, 4, HEADS)
    np.testing.assert_allclose(alpha[0], 0.25, rtol=1e-6)
    assert (alpha[1].std(axis=0) > 1e-3).all()


def test_gatv2_values_are_the_senders_projection():
    layer = build(next(case for case in CASES if case.name == "GATv2Conv"))
    nodes = np.random.default_rng(0).normal(size=(2, IN)).astype(np.float32)
    out = run(layer, build_graph([0], [1], nodes))[0][1] - layer.output.bias[...]
    expected = np.einsum("f,fhc->hc", nodes[0], layer.sender_projection.kernel[...])
    assert_close(out, expected.ravel())


def test_gat_ranks_common_neighbours_alike_for_every_receiver():
    """Brody et al., theorem 1: the attention of GAT is static."""
    for seed in range(3):
        layer = GATConv(IN, OUT, num_heads=HEADS, use_score_bias=True, rngs=nnx.Rngs(seed))
        graph = bipartite(7, np.random.default_rng(seed).normal(size=(7 + 5, IN)))
        alpha = np.asarray(run(layer, graph)[1]).reshape(7, 5, HEADS)
        ranking = np.argsort(alpha, axis=1)
        np.testing.assert_array_equal(ranking, ranking[:1].repeat(7, axis=0), err_msg=f"{seed}")
        assert (alpha.std(axis=0) > 0).all(), seed


def test_gatv2_lets_every_receiver_prefer_its_own_sender():
    """Rows are one-hot keys. With b = -1 the score is LeakyReLU(1) + LeakyReLU(-1) = 0.8 where they match, else 0."""
    layer = blank(GATv2Conv, 2, 2, share_weights=True, negative_slope=0.2, use_bias=True)
    assign(layer.sender_projection.kernel, np.eye(2)[:, None])
    assign(layer.vector, [[1.0, 1.0]])
    assign(layer.score_bias, [[-1.0, -1.0]])
    _, alpha = run(layer, bipartite(2, np.concatenate([np.eye(2), np.eye(2)])))
    match = np.exp(0.8) / (np.exp(0.8) + 1)
    expected = [[match, 1 - match], [1 - match, match]]
    np.testing.assert_allclose(np.asarray(alpha).reshape(2, 2), expected, rtol=1e-6)


def test_what_is_known_of_a_pair_is_added_to_its_logit():
    """A table of distances: half as much for one step more, and for two steps a quarter; the products are all 0."""
    layer = blank(DotProductConv, 2, 2, edge_features=3, edges_in="logit", num_heads=2)
    assign(layer.edge_bias.kernel, jnp.log(jnp.array([[1.0, 1.0], [0.5, 1.0], [0.25, 1.0]])))
    path = build_graph([0, 1, 1, 2], [1, 0, 2, 1], np.ones((3, 2)))
    distances = shortest_paths(path, cutoff=1)
    graph = connect_all(path)._replace(edges=jax.nn.one_hot(distances, 3))
    expected = np.array([[4, 2, 1], [1, 2, 1], [1, 2, 4]]) / [[7], [4], [7]]
    alpha = layer.attention(graph).reshape(3, 3, 2)
    np.testing.assert_allclose(alpha[:, :, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(alpha[:, :, 1], 1 / 3, rtol=1e-6)
