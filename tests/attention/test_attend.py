"""attention.py: scores, the three everyday functions on a graph, head combination, and the worked examples.

`edge_attention` beyond those examples is in test_edge_attention.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
import reference
from helpers import array, assert_same, both_precisions, draw
from jax.test_util import check_grads

from gatjax.attention import (
    additive_score,
    attention_logits,
    attention_weights,
    combine_heads,
    dot_product_score,
    dynamic_score,
    edge_attention,
    graph_attention,
    neighbor_mean,
    weighted_sum,
)
from gatjax.graph import build_graph
from gatjax.ops import sum_features

N, E, H, C = 5, 13, 2, 3
tolerance = both_precisions(float32=1e-5, float64=1e-6)


def random_rows(count=3, shape=(N, H, C)):
    return [array(draw(*shape, seed=seed)) for seed in range(count)]


def random_graph(rows=None, seed=0):
    """N nodes of which the last has no incoming edge, E edges with duplicates and a self-loop."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, N, E), rng.integers(0, N - 1, E)
    senders[0] = receivers[0] = 1
    senders[2], receivers[2] = senders[3], receivers[3]
    return build_graph(senders, receivers, jnp.zeros((N, 1)) if rows is None else rows)


# The tutorial's party: scores 2.0, 0.5 and 1.0; and weights 0.6, 0.3 and 0.1.

PARTY_WEIGHTS = [0.62853172, 0.14024438, 0.23122390]


def party():
    """Alice, Dave and Carol, in this order, speak to node 3."""
    return build_graph([0, 1, 2], [3, 3, 3], num_nodes=4)


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("heads", [(), (1,)], ids=["E", "E 1"])
def test_party_softmax(heads, shift, tolerance):
    logits = array(np.reshape([2.0, 0.5, 1.0], (3, *heads)) + shift)
    tolerance = max(tolerance, shift * float(jnp.finfo(logits.dtype).eps))
    alpha = jax.jit(lambda logits: attention_weights(party(), logits))(logits)
    np.testing.assert_allclose(np.ravel(alpha), PARTY_WEIGHTS, atol=tolerance)


def test_party_weighted_sum(tolerance):
    """0.6, 0.3 and 0.1 of (1, 0), (0, 1) and (10, 10)."""
    values = array([[1, 0], [0, 1], [10, 10], [1e6, 1e6]])
    weights = array([0.6, 0.3, 0.1])
    out = jax.jit(lambda *arrays: weighted_sum(party(), *arrays))(weights, values)
    np.testing.assert_allclose(out, [[0, 0], [0, 0], [0, 0], [1.6, 1.3]], atol=tolerance)


@pytest.mark.parametrize("block_size", [None, 1, 2, 3])
def test_party_by_edge_attention(block_size, tolerance):
    """Unit vectors as values read out the weights."""
    rows = {"score": array([[2.0], [0.5], [1.0]]), "value": array(np.eye(3)[:, None, :])}
    senders = jnp.arange(3)
    attend = lambda rows: edge_attention(
        lambda w, r, s, e: s["score"],
        value,
        None,
        None,
        rows,
        None,
        senders,
        0 * senders,
        1,
        block_size=block_size,
    )
    np.testing.assert_allclose(np.ravel(jax.jit(attend)(rows)), PARTY_WEIGHTS, atol=tolerance)


# A textbook's sentence, "The sleepy child reads a book", with "book" as the query.

KEYS = [(0, 0, 0), (2, 0, 1), (1, -1, -2), (2, 3, 1), (-2, 0, 0), (0, 2, 1)]
VALUES = [0, -0.2, 0.3, 0.4, 0, 0.1]
BOOK = 5
SENTENCE = {
    "unscaled": (
        1.0,
        [0.00080014, 0.002175, 0.00001466, 0.87745891, 0.00080014, 0.11875115],
        0.3624280762,
    ),
    "scaled": (
        3**-0.5,
        [0.01270253, 0.02262717, 0.00126162, 0.72288696, 0.01270253, 0.2278192],
        0.3077897567,
    ),
    "scaled by a third": (1 / 3, None, 0.2312010145),
    "hard": (1.0, [0, 0, 0, 1, 0, 0], 0.4),
    "uniform": (0.0, [1 / 6] * 6, 0.1),
}
SELF_ATTENTION = [
    (0.5, 0.66666667, 0.16666667),
    (1.82491035, 1.41803066, 0.89687382),
    (0.97487328, -0.90385403, -1.8129939),
    (1.96488657, 2.96539117, 0.99950823),
    (-1.54379776, 0.15758869, 0.04517002),
    (1.46688482, 2.62303764, 0.97081007),
]


def scaled_dot(scale, r, s, e):
    return dot_product_score(r, s["key"], scale=scale)


def value(w, r, s, e):
    return s["value"]


def words():
    return {"key": array(np.array(KEYS)[:, None, :]), "value": array(np.reshape(VALUES, (6, 1, 1)))}


@partial(jax.jit, static_argnames="normalize")
def sentence_in_three_lines(scale, rows, normalize):
    graph = build_graph(range(6), [BOOK] * 6, num_nodes=6)
    logits = attention_logits(graph, scaled_dot, scale, rows["key"], rows)
    alpha = attention_weights(graph, logits, normalize=normalize)
    return alpha, weighted_sum(graph, alpha, rows["value"])


@partial(jax.jit, static_argnames=("normalize", "block_size"))
def sentence_at_once(scale, rows, normalize, block_size):
    """Through a graph, and through arrays with the query as the only receiver."""
    options = {"normalize": normalize, "block_size": block_size}
    graph = build_graph(range(6), [BOOK] * 6, num_nodes=6)
    on_graph = graph_attention(graph, scaled_dot, value, scale, rows["key"], rows, **options)
    query, senders = rows["key"][BOOK:], jnp.arange(6)
    ids = senders, 0 * senders, 1
    return on_graph, edge_attention(scaled_dot, value, scale, query, rows, None, *ids, **options)


@pytest.mark.parametrize("case", SENTENCE)
def test_sentence(case, tolerance):
    """Six senders into one receiver: every way to compute attention gives the printed numbers."""
    scale, weights, output = SENTENCE[case]
    normalize = "hardmax" if case == "hard" else "softmax"
    alpha, out = sentence_in_three_lines(array(scale), words(), normalize)
    if weights is not None:
        np.testing.assert_allclose(alpha[:, 0], weights, atol=tolerance)
    assert float(out[BOOK, 0, 0]) == pytest.approx(output, abs=tolerance)
    assert not out[:BOOK].any()
    for block_size in ("auto",) if case == "hard" else (None, 3, 4):
        on_graph, on_arrays = sentence_at_once(array(scale), words(), normalize, block_size)
        assert float(on_graph[BOOK, 0, 0]) == pytest.approx(output, abs=tolerance)
        assert float(on_arrays[0, 0, 0]) == pytest.approx(output, abs=tolerance)


@pytest.mark.parametrize("block_size", [None, 7])
def test_self_attention_of_the_sentence(block_size, tolerance):
    """All six words attend to all six, scaled by the root of the width."""
    senders, receivers = np.tile(np.arange(6), 6), np.repeat(np.arange(6), 6)
    rows = {"key": words()["key"], "value": words()["key"]}
    attend = lambda rows: edge_attention(
        scaled_dot,
        value,
        None,
        rows["key"],
        rows,
        None,
        senders,
        receivers,
        6,
        block_size=block_size,
    )
    np.testing.assert_allclose(jax.jit(attend)(rows)[:, 0], SELF_ATTENTION, atol=tolerance)


# Scores.


def test_additive_score_is_gat_with_the_vector_split_in_two(x64):
    """The first half of the paper's vector belongs to the receiver."""
    r, s, vector = draw(N, H, C), draw(N, H, C, seed=1), draw(H, 2 * C, seed=2)
    r_term, s_term = np.sum(r * vector[:, :C], -1), np.sum(s * vector[:, C:], -1)
    expected = [reference.gat_logit(*rows, vector) for rows in zip(r, s, strict=True)]
    np.testing.assert_allclose(jax.jit(additive_score)(r_term, s_term), expected, atol=1e-12)


def test_dynamic_score_is_gatv2(x64):
    r, s, e, vector = (
        draw(N, H, C),
        draw(N, H, C, seed=1),
        draw(N, H, C, seed=2),
        draw(H, C),
    )
    expected = [
        reference.gatv2_logit(*rows[:2], vector, rows[2]) for rows in zip(r, s, e, strict=True)
    ]
    np.testing.assert_allclose(jax.jit(dynamic_score)(r, s, vector, e), expected, atol=1e-12)
    expected = [reference.gatv2_logit(*rows, vector, None, 0.7) for rows in zip(r, s, strict=True)]
    steep = jax.jit(partial(dynamic_score, negative_slope=0.7))
    np.testing.assert_allclose(steep(r, s, vector), expected, atol=1e-12)


def test_dot_product_score_divides_by_the_root_of_the_width(x64):
    q, k = draw(N, H, C), draw(N, H, C, seed=1)
    for scale in (None, 0.7):
        expected = [reference.dot_logit(*rows, scale) for rows in zip(q, k, strict=True)]
        actual = jax.jit(partial(dot_product_score, scale=scale))(q, k)
        np.testing.assert_allclose(actual, expected, atol=1e-12)


@pytest.mark.parametrize("rows", [(), (N,), (N, 7)], ids=["none", "N", "N M"])
def test_scores_take_any_leading_axes(rows):
    @jax.jit
    def scores(x):
        term = x[..., 0]
        vector = jnp.ones((H, C))
        return (
            additive_score(term, -3 * term),
            additive_score(term, term, term),
            dynamic_score(x, x, vector),
            dot_product_score(x, x, scale=1.0),
            sum_features(x),
        )

    for actual, expected in zip(scores(jnp.ones((*rows, H, C))), (-0.4, 3, 6, 3, 3), strict=True):
        np.testing.assert_allclose(actual, np.full((*rows, H), expected), rtol=1e-6)


def test_ranking_is_static_in_gat_and_dynamic_in_gatv2():
    """Brody et al., theorem 1: with additive scores all receivers prefer the same sender."""
    rows = jnp.array([[[1.0, -1.0]], [[-1.0, 1.0]]])
    pairs = rows[:, None], rows[None, :]
    logits = dynamic_score(*jnp.broadcast_arrays(*pairs), jnp.array([[1.0, 1.0]]))
    assert logits.argmax(1).tolist() == [[0], [1]]
    term = jnp.asarray(draw(2, 7), jnp.float32)
    logits = additive_score(*jnp.broadcast_arrays(term[:, None], term[None, ::-1]))
    assert (logits.argmax(1)[0] == logits.argmax(1)[1]).all()


def test_sum_features_in_half_precision_is_rounded_once():
    x = jnp.asarray(1 + draw(1, 1, 2003), jnp.bfloat16)
    exact = np.float32(np.asarray(x, np.float64).sum())
    assert float(sum_features(x)[0, 0]) == float(jnp.asarray(exact, jnp.bfloat16))


# The three everyday functions.


def test_three_functions_equal_plain_loops(x64):
    graph, mask = random_graph(), np.arange(E) % 5 != 1
    senders, receivers = graph.senders, graph.receivers
    q, k, v = (draw(N, H, C, seed=seed) for seed in range(3))
    e = draw(E, H)

    @jax.jit
    def run(q, k, v, e):
        score = lambda w, r, s, e: w * dot_product_score(r, s) + e
        logits = attention_logits(graph, score, 0.7, q, k, e)
        alpha = attention_weights(graph, logits, mask)
        return logits, alpha, weighted_sum(graph, alpha, v), neighbor_mean(graph, v, mask)

    logits = [
        0.7 * reference.dot_logit(q[i], k[j]) + e[edge]
        for edge, (j, i) in enumerate(zip(senders, receivers, strict=True))
    ]
    alpha = reference.segment_softmax(logits, receivers, N, mask)
    out = reference.segment_sum(alpha[..., None] * v[senders], receivers, N)
    mean = reference.neighbor_mean(v, senders, receivers, mask)
    for actual, expected in zip(run(q, k, v, e), (logits, alpha, out, mean), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_functions_without_a_head_axis():
    """They are the functions of one head, with its axis left out."""

    @jax.jit
    def run(graph, x):
        logits = attention_logits(graph, lambda w, r, s, e: r - s, None, x[..., 0], x[..., 1])
        alpha = attention_weights(graph, logits)
        return logits, alpha, weighted_sum(graph, alpha, x)

    graph, rows = (
        jax.tree.map(jnp.asarray, random_graph()),
        jnp.asarray(draw(N, 1, C), jnp.float32),
    )
    without, one_head = run(graph, rows[:, 0]), run(graph, rows)
    assert [x.shape for x in without] == [(E,), (E,), (N, C)]
    for actual, expected in zip(without, one_head, strict=True):
        np.testing.assert_allclose(actual, expected[:, 0], rtol=1e-6)


def test_as_many_nodes_as_edges():
    """Values of senders and of edges must not be mistaken for each other."""
    graph = build_graph([0, 2, 0], [1, 1, 2], num_nodes=3)

    @jax.jit
    def run(alpha, rows):
        both = weighted_sum(graph, alpha, rows, edge_values=rows)
        return weighted_sum(graph, alpha, rows), weighted_sum(graph, alpha, edge_values=rows), both

    by_sender, by_edge, both = run(jnp.array([0.5, 2.0, 4.0]), jnp.array([[1.0], [10.0], [100.0]]))
    np.testing.assert_allclose(by_sender, [[0], [0.5 * 1 + 2 * 100], [4 * 1]])
    np.testing.assert_allclose(by_edge, [[0], [0.5 * 1 + 2 * 10], [4 * 100]])
    np.testing.assert_allclose(both, by_sender + by_edge)


def test_hand_worked_neighbor_mean():
    graph = build_graph([0, 1, 1, 2], [2, 2, 2, 0], num_nodes=4)
    out = jax.jit(partial(neighbor_mean, graph))(jnp.array([[1.0], [7.0], [3.0], [100.0]]))
    np.testing.assert_allclose(out, [[3], [0], [5], [0]])


@pytest.mark.parametrize("normalize, expected", [("hardmax", [0, 1, 1]), ("own", [1, 4, -2])])
def test_other_normalisers(normalize, expected):
    """Hardmax, and a function of one's own: here the logits are the weights."""
    graph = build_graph([0, 1, 2], [3, 3, 2], num_nodes=4)
    own = lambda logits, ids, num_segments, mask: jnp.where(mask, logits, 0)
    normalize = own if normalize == "own" else normalize
    weigh = jax.jit(partial(attention_weights, graph, normalize=normalize))
    assert weigh(jnp.array([1.0, 4.0, -2.0])).tolist() == expected


@pytest.mark.parametrize("size", [0, 1])
def test_no_edges(size):
    graph, rows = build_graph([], [], jnp.zeros((size, 1))), jnp.ones((size, H, C))

    @jax.jit
    def run(rows):
        logits = attention_logits(graph, scaled_dot, None, rows, {"key": rows})
        soft = attention_weights(graph, logits)
        hard = attention_weights(graph, logits, normalize="hardmax")
        per_edge = (logits, soft, hard)
        return per_edge, (
            weighted_sum(graph, soft, rows),
            weighted_sum(graph, hard, edge_values=jnp.ones((0, H, C))),
            neighbor_mean(graph, rows),
            graph_attention(graph, scaled_dot, value, None, rows, {"key": rows, "value": rows}),
        )

    per_edge, per_node = run(rows)
    assert [x.shape for x in per_edge] == [(0, H)] * 3
    for out in per_node:
        np.testing.assert_array_equal(out, np.zeros((size, H, C)))


def test_a_node_with_only_its_own_loop_keeps_its_value():
    graph, rows = build_graph([0], [0], num_nodes=1), jnp.full((1, H, C), 7.0)
    attend = lambda logits: weighted_sum(graph, attention_weights(graph, logits), rows)
    np.testing.assert_array_equal(jax.jit(attend)(jnp.full((1, H), -1e30)), rows)


# Edges that must not count.

BAD_IDS = {"-1": -1, "-N": -N, "N": N, "huge": 2**31 - 1, "least": -(2**31)}


def composition(graph, q, k, v, edge_mask=None):
    logits = attention_logits(graph, lambda w, r, s, e: dot_product_score(r, s), None, q, k)
    return weighted_sum(graph, attention_weights(graph, logits, edge_mask), v)


@jax.jit
def with_gradients(graph, rows, edge_mask=None):
    out, pull_back = jax.vjp(lambda *rows: composition(graph, *rows, edge_mask), *rows)
    return out, pull_back(jnp.cos(3 * out))


compose = jax.jit(composition)
mean_of = jax.jit(neighbor_mean)
sum_edge_values = jax.jit(lambda graph, alpha, rows: weighted_sum(graph, alpha, edge_values=rows))
weigh = jax.jit(attention_weights)


def with_id(graph, end, edge, node):
    ids = {name: jnp.asarray(getattr(graph, name)) for name in ("senders", "receivers")}
    return graph._replace(**{**ids, end: ids[end].at[edge].set(node)})


@pytest.mark.parametrize("end", ["senders", "receivers"])
@pytest.mark.parametrize("bad", BAD_IDS.values(), ids=BAD_IDS)
def test_inside_jit_an_edge_with_one_bad_end_counts_nowhere(end, bad):
    """Values and gradients are those of the graph in which a mask removes the edge."""
    edge, good, everything = 4, jax.tree.map(jnp.asarray, random_graph()), jnp.ones(E, bool)
    graph, mask = with_id(good, end, edge, bad), everything.at[edge].set(False)
    rows, logits = random_rows(), array(draw(E, H))
    actual = with_gradients(graph, rows, everything)
    expected = with_gradients(good, rows, mask)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), actual, expected)
    for function, argument in ((weigh, logits), (mean_of, rows[0])):
        actual = function(graph, argument, everything)
        np.testing.assert_allclose(actual, function(good, argument, mask), atol=1e-6)
    ones, edge_values = jnp.ones((E, H)), array(draw(E, H, C))
    actual = sum_edge_values(graph, ones, edge_values)
    assert_same(actual, sum_edge_values(good, ones * mask[:, None], edge_values))


def test_inside_jit_a_graph_whose_ids_are_all_bad():
    """Not one node, and yet (padding) edges."""
    graph = jax.tree.map(jnp.asarray, random_graph())._replace(nodes=jnp.zeros((0, 1)))
    rows = jnp.zeros((0, H, C))
    assert compose(graph, rows, rows, rows).shape == (0, H, C)
    assert mean_of(graph, rows).shape == (0, H, C)


def test_hostile_logits_of_masked_edges_stay_there():
    """They reach no other weight and no gradient."""
    graph, mask = random_graph(), jnp.arange(E) % 3 != 1
    g = array(draw(E, H, seed=1))

    @jax.jit
    def run(logits):
        alpha, pull_back = jax.vjp(lambda x: attention_weights(graph, x, mask), logits)
        return alpha, pull_back(g)[0]

    logits = array(draw(E, H))
    for hostile in (np.nan, np.inf):
        actual = run(jnp.where(mask[:, None], logits, hostile))
        jax.tree.map(np.testing.assert_array_equal, actual, run(logits))


def test_gradients_of_the_three_functions_are_those_of_finite_differences(x64):
    graph, mask = jax.tree.map(jnp.asarray, random_graph()), jnp.arange(E) % 5 != 1
    function = jax.jit(lambda *rows: composition(graph, *rows, mask))
    check_grads(function, random_rows(), order=1, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6)


# Symmetries.


def test_renumbering_the_nodes_renumbers_the_result():
    graph = jax.tree.map(jnp.asarray, random_graph())
    new = np.array([3, 0, 4, 1, 2], np.int32)
    renumbered = graph._replace(senders=new[graph.senders], receivers=new[graph.receivers])
    rows = random_rows()
    moved = [x[np.argsort(new)] for x in rows]
    np.testing.assert_allclose(compose(renumbered, *moved)[new], compose(graph, *rows), atol=1e-6)
    np.testing.assert_allclose(
        mean_of(renumbered, moved[0])[new], mean_of(graph, rows[0]), atol=1e-6
    )


def test_reordering_the_edges_reorders_weights_and_leaves_nodes_alone():
    graph, order = (
        jax.tree.map(jnp.asarray, random_graph()),
        np.random.default_rng(0).permutation(E),
    )
    shuffled = graph._replace(senders=graph.senders[order], receivers=graph.receivers[order])
    rows = random_rows()
    np.testing.assert_allclose(compose(shuffled, *rows), compose(graph, *rows), atol=1e-6)
    logits = array(draw(E, H))
    np.testing.assert_allclose(
        weigh(shuffled, logits[order]), weigh(graph, logits)[order], atol=1e-6
    )


def test_direction_matters():
    """Node 1 receives from node 0, and node 0 from nobody."""
    graph, rows = build_graph([0], [1], num_nodes=2), jnp.array([[3.0], [5.0]])
    function = lambda rows: (weighted_sum(graph, jnp.ones(1), rows), neighbor_mean(graph, rows))
    for out in jax.jit(function)(rows):
        np.testing.assert_array_equal(out, [[0], [3]])


# Against jraph, on a graph with all self-loops, as its GAT wants.


def test_jraph_gat_agrees(x64):
    loops = range(N)
    graph = random_graph(jnp.asarray(draw(N, 7)))
    graph = build_graph([*graph.senders, *loops], [*graph.receivers, *loops], graph.nodes)
    projection, vector = draw(7, C, seed=1), draw(2 * C, 1, seed=2)
    theirs = jraph.GAT(
        lambda nodes: nodes @ projection,
        lambda s, r, e: jax.nn.leaky_relu(jnp.concatenate([r, s], -1) @ vector, 0.2),
        lambda nodes: nodes,
    )

    @jax.jit
    def ours(nodes):
        z = nodes @ projection
        rows = {"term": z @ vector[C:], "value": z[:, None, :]}
        mechanism = (
            lambda w, r, s, e: additive_score(r, s["term"]),
            value,
            None,
            z @ vector[:C],
            rows,
        )
        direct, blocked = (graph_attention(graph, *mechanism, block_size=k) for k in (None, 7))
        score, _, *arrays = mechanism
        alpha = attention_weights(graph, attention_logits(graph, score, *arrays))
        return direct, blocked, weighted_sum(graph, alpha, rows["value"])

    expected = theirs(graph).nodes
    for actual in ours(graph.nodes):
        np.testing.assert_allclose(actual[:, 0], expected, atol=1e-12)


# Heads.

HEADS = {
    "concat": [1, 2, 3, -4, 5, -6],
    "mean": [-1.5, 3.5, -1.5],
    "sum": [-3, 7, -3],
    "max": [1, 5, 3],
}


@pytest.mark.parametrize("rows", [(), (5,), (5, 7)], ids=["none", "N", "N M"])
@pytest.mark.parametrize("how, expected", HEADS.items(), ids=HEADS)
def test_combine_heads(how, expected, rows):
    x = jnp.broadcast_to(jnp.array([[1.0, 2.0, 3.0], [-4.0, 5.0, -6.0]]), (*rows, 2, 3))
    np.testing.assert_allclose(
        combine_heads(x, how), np.broadcast_to(expected, (*rows, len(expected)))
    )


def test_combine_heads_by_a_learned_contraction(x64):
    x, w = draw(N, H, C), draw(H, C, 7, seed=1)
    expected = sum(x[:, h, c, None] * w[h, c] for h in range(H) for c in range(C))
    np.testing.assert_allclose(combine_heads(jnp.asarray(x), jnp.asarray(w)), expected, atol=1e-12)
    identity = jnp.eye(H * C).reshape(H, C, H * C)
    flat = np.reshape(x, (N, H * C))
    np.testing.assert_allclose(combine_heads(jnp.asarray(x), identity), flat, atol=1e-12)


# Bad input.


def test_weighted_sum_wants_values(unchecked):
    with pytest.raises(ValueError, match=r"needs values \[N, H, C\].*edge_values \[E, H, C\]"):
        weighted_sum(party(), jnp.ones(3))


def test_known_names_are_listed(unchecked):
    with pytest.raises(ValueError, match=r"normalize.*'softmax', 'hardmax'.*got 'sharp'"):
        attention_weights(party(), jnp.ones(3), normalize="sharp")
    with pytest.raises(ValueError, match=r"'concat', 'mean', 'sum', 'max'.*got 'median'"):
        combine_heads(jnp.ones((N, H, C)), "median")


@pytest.mark.parametrize("shape", [(H, 4, 7), (C, H, 7), (H, C)], ids=str)
def test_a_contraction_of_the_wrong_shape(shape, unchecked):
    with pytest.raises(ValueError, match=r"how must be \[H, C, L\] = \[2, 3, L\], got"):
        combine_heads(jnp.ones((N, H, C)), jnp.ones(shape))


WRONG_LENGTHS = {
    "receiver_rows": lambda g, rows: attention_logits(g, _add, None, rows(2), rows(N)),
    "sender_rows": lambda g, rows: attention_logits(g, _add, None, rows(N), rows(2)),
    "edge_rows": lambda g, rows: attention_logits(
        g, lambda w, r, s, e: r + e, None, rows(N), rows(N), rows(1)
    ),
    "logits": lambda g, rows: attention_weights(g, rows(1)),
    "edge_mask": lambda g, rows: attention_weights(g, rows(E), jnp.ones(1, bool)),
    "alpha": lambda g, rows: weighted_sum(g, rows(1), jnp.ones((N, H, C))),
    "values": lambda g, rows: weighted_sum(g, rows(E), jnp.ones((2, H, C))),
    "edge_values": lambda g, rows: weighted_sum(g, rows(E), edge_values=jnp.ones((1, H, C))),
    "values of a mean": lambda g, rows: neighbor_mean(g, rows(2)),
    "mask of a mean": lambda g, rows: neighbor_mean(g, rows(N), jnp.ones(1, bool)),
}


def _add(weights, r, s, e):
    return r + s


@pytest.mark.parametrize("call", WRONG_LENGTHS.values(), ids=WRONG_LENGTHS)
def test_lengths_that_disagree_with_the_graph(call, request, unchecked):
    """Rows are read without bounds checks and length 1 broadcasts, so each of these must be refused."""
    field = request.node.callspec.id.split()[0]
    field = "edge_mask" if field == "mask" else field
    with pytest.raises(ValueError, match=rf"{field}.* (5|13) .*got (1|2)"):
        call(random_graph(), lambda length: jnp.ones((length, H)))


BAD_GRAPHS = {
    "out of range": (dict(senders=np.array([0, 4, 2])), ValueError, r"senders\[1\] = 4"),
    "negative": (dict(receivers=np.array([3, 3, -1])), ValueError, r"receivers\[2\] = -1"),
    "float": (dict(senders=np.ones(3)), TypeError, r"senders must hold integers, got .*float64"),
    "lengths": (dict(senders=np.array([0, 1])), ValueError, r"senders has 2 ids .* 3"),
}


@pytest.mark.parametrize("fields, error, message", BAD_GRAPHS.values(), ids=BAD_GRAPHS)
def test_every_graph_function_refuses_an_unsound_graph(fields, error, message, unchecked):
    graph = party()._replace(**fields)
    rows = jnp.ones((4, H, C))
    calls = [
        lambda: attention_logits(graph, _add, None, rows, rows),
        lambda: attention_weights(graph, jnp.ones((3, H))),
        lambda: weighted_sum(graph, jnp.ones((3, H)), rows),
        lambda: neighbor_mean(graph, rows),
        lambda: graph_attention(graph, scaled_dot, value, None, rows, {"key": rows, "value": rows}),
    ]
    for call in calls:
        with pytest.raises(error, match=message):
            call()
