"""How logits become weights, in every layer with attention: normaliser, temperature and blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import IN, ONE_EACH, OUT, graph_for, make, one_of_each, takes
from flax import nnx
from helpers import assert_close, normal, rejects

from gatjax.attention import TopK, attention_pool, attention_weights, dense_weights
from gatjax.graph import build_graph
from gatjax.layers import (
    Attended,
    AttentionPooling,
    GATConv,
    GraphNetwork,
    HANConv,
    RelationalGATConv,
    attend_edges,
)
from gatjax.ops import (
    segment_entmax,
    segment_hardmax,
    segment_softmax,
    segment_sparsemax,
    segment_straight_through,
)

ATTENDING = [case for case in ONE_EACH if takes(case, "normalize")]
# The options are handed on in one place, but for relations, which run by default.
OWN_PLACE = (RelationalGATConv,)
attending = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case.layer in OWN_PLACE else pytest.mark.slow)
        for case in ATTENDING
    ],
)


def halved(logits, segment_ids, num_segments, *, mask=None):
    """A normaliser of one's own, whose weights sum to a half; it marks no edge as one that does not count."""
    return segment_softmax(logits, segment_ids, num_segments, mask=mask) / 2


NORMALIZERS = {
    "softmax": segment_softmax,
    "hardmax": segment_hardmax,
    "straight_through": segment_straight_through,
    "sparsemax": segment_sparsemax,
    "entmax": segment_entmax,
    TopK(2): TopK(2),
    halved: halved,
}
WARM = 1.7


def of_each(layers, graph, mask):
    """Attention and output of layers that share their parameters, in one program."""
    graphdefs = [nnx.split(layer)[0] for layer in layers]

    @jax.jit
    def run(state, graph, mask):
        results = []
        for graphdef in graphdefs:
            layer = nnx.merge(graphdef, state, copy=True)
            alpha = layer.attention(graph, edge_mask=mask)
            results.append((alpha, layer(graph, edge_mask=mask).nodes))
        return results

    return run(nnx.split(layers[0])[1], graph, mask)


def shared_by(layer, graph):
    """Where the edges that are weighed against one another meet."""
    if isinstance(layer, HANConv) or getattr(layer, "softmax", None) == "within":
        relations = graph.edges if layer.edge_features is None else graph.edges["relation"]
        return np.asarray(graph.receivers) * layer.num_relations + np.asarray(relations)
    return np.asarray(graph.receivers)


@attending
def test_every_layer_takes_every_normaliser_and_temperature(case):
    """Logits are the logarithms of the softmax's weights, up to a number that no normaliser sees. And one head's output
    is that of the softmax, where each edge weighs as much more as its weight is larger. Nothing is mixed with it."""
    graph, mask = graph_for(case), np.arange(29) % 5 != 1
    settings = [("softmax", 1.0)] + [(name, WARM) for name in NORMALIZERS]
    layers = [
        make(case, num_heads=1, normalize=name, temperature=temperature, weights=(1.0, 0.0, 0.0))
        for name, temperature in settings
    ]
    (soft, _), *others = of_each(layers, graph, mask)
    logits = jnp.log(jnp.where(mask[:, None], soft, 1.0))
    weigh = nnx.jit(lambda layer, weight: layer(graph, edge_mask=mask, edge_weight=weight).nodes)
    for (name, _), (alpha, out) in zip(settings[1:], others, strict=True):
        ids = jnp.asarray(shared_by(layers[0], graph))
        expected = NORMALIZERS[name](logits / WARM, ids, int(ids.max()) + 1, mask=jnp.array(mask))
        assert_close(alpha, jnp.where(mask[:, None], expected, 0), 1e-5, of=str(settings))
        ratio = jnp.where(mask, alpha[:, 0] / jnp.where(mask, soft[:, 0], 1), 0)
        assert_close(out, weigh(layers[0], ratio), 1e-5, of=str(settings))


@attending
def test_blocks_of_a_given_size(case, blocks):
    graph = graph_for(case)
    results = {}
    for size in (None, 7):
        results[size] = make(case, block_size=size)(graph).nodes
        assert set(blocks) == (set() if size is None else {7})
    assert_close(results[7], results[None], 1e-5)


@one_of_each
def test_every_layer_with_a_graph_takes_a_block_size(case):
    with rejects(ValueError, "block_size must be positive, got 0"):
        make(case, block_size=0)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"normalize": "argmax"}, ValueError, "normalize must be one of ['softmax', 'hardmax', "),
        ({"normalize": None}, ValueError, "or a function, got None"),
        (
            {"normalize": jax.nn.softmax},
            ValueError,
            "normalize must be callable as normalize(logits, segment_ids, num_segments, mask=mask)",
        ),
        ({"temperature": 0.0}, ValueError, "temperature must be positive, got 0.0"),
        ({"temperature": float("nan")}, ValueError, "temperature must be positive, got nan"),
        ({"temperature": float("inf")}, ValueError, "temperature must be finite, got inf"),
        ({"temperature": "1"}, TypeError, "temperature must be a number, got '1'"),
        (
            {"normalize": "hardmax", "block_size": 64},
            ValueError,
            "blocks compute the softmax only: for normalize='hardmax' pass block_size=None",
        ),
        (
            {"block_size": "big"},
            ValueError,
            'block_size must be "auto", "dense", None or a positive',
        ),
    ],
)
def test_options_that_no_layer_takes(options, error, message, unchecked):
    """Before any work, by every layer; and what the message names is taken."""
    for case in ATTENDING:
        with rejects(error, message):
            make(case, **options)
    for build in (GraphNetwork, lambda **o: AttentionPooling(IN, OUT, rngs=nnx.Rngs(0), **o)):
        if "block_size" not in options or build is not GraphNetwork:
            with rejects(error, message):
                build(**options)
    GATConv(IN, OUT, normalize="hardmax", block_size=None, rngs=nnx.Rngs(0))


def test_a_normaliser_that_returns_another_shape_is_refused(unchecked):
    graph = build_graph([0, 1], [2, 2], num_nodes=3)
    summed = lambda logits, ids, num_segments, mask: logits.sum(0)
    with rejects(ValueError, "normalize must return one weight per logit, [2, 1], got [1]"):
        attention_weights(graph, jnp.ones((2, 1)), normalize=summed)
    column = lambda logits, ids, num_segments, mask: logits[:, None]
    with rejects(ValueError, "normalize must return one weight per logit, [4], got [4, 1]"):
        dense_weights(jnp.ones(3), jnp.ones((4, 3)), normalize=column)


def test_a_normaliser_that_forgets_the_mask_reaches_no_edge_that_does_not_count():
    graph = build_graph([0, 1], [2, 2], num_nodes=3)
    ones = lambda logits, ids, num_segments, mask: jnp.ones_like(logits)
    alpha = attention_weights(graph, jnp.zeros(2), np.array([True, False]), normalize=ones)
    assert alpha.tolist() == [1, 0]


def test_a_temperature_per_head_and_its_gradient(x64):
    """It is that of a factor on the logits, and a logit of -inf has no part in it."""
    graph = build_graph([0, 1, 0, 1], [2, 2, 2, 1], num_nodes=3)
    logits, probe = normal(4, 2).at[2].set(-jnp.inf), normal(4, 2, seed=1)
    loss = lambda t: (attention_weights(graph, logits, temperature=t) * probe).sum()
    temperature = jnp.array([0.5, 3.0])
    slope = jax.grad(loss)(temperature)
    step = 1e-6 * jnp.eye(2)
    expected = [(loss(temperature + d) - loss(temperature - d)) / 2e-6 for d in step]
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    with rejects(ValueError, "temperature must be a number or one per head, [2], got [3]"):
        attention_weights(graph, logits, temperature=jnp.ones(3))


def test_low_precision_weights_have_the_dtype_of_the_logits():
    graph = build_graph([0, 1], [2, 2], num_nodes=3)
    for temperature in (1.0, 2.0):
        alpha = attention_weights(graph, jnp.zeros(2, jnp.bfloat16), temperature=temperature)
        assert alpha.dtype == jnp.bfloat16


def test_graph_networks_and_poolings_take_them_too():
    """Three edges into one node with logits 0, 1 and 2: hard attention reads the last, a warm one all more alike."""
    graph = build_graph([0, 1, 2], [3, 3, 3], jnp.array([[0.0], [1.0], [2.0], [0.0]]))
    attend = lambda e, s, r, u: Attended(s, s[:, :, None])
    edges = attend(None, graph.nodes[:3], None, None)
    hard, half = {"normalize": "hardmax"}, {"temperature": 0.5}
    cold = np.exp([0.0, 2.0, 4.0]) / np.exp([0.0, 2.0, 4.0]).sum()
    for options, expected in ((hard, [0, 0, 1]), (half, cold)):
        network = GraphNetwork(attend, **options)
        np.testing.assert_allclose(network.attention(graph)[:, 0], expected, atol=1e-6)
        rows = expected * np.arange(3.0)
        np.testing.assert_allclose(network(graph).edges.ravel(), rows, atol=1e-6)
        np.testing.assert_allclose(attend_edges(graph, edges, **options).ravel(), rows, atol=1e-6)
        pooling = AttentionPooling(1, 1, **options, rngs=nnx.Rngs(0))
        pooling.logit.kernel[...] = jnp.ones((1, 1, 1))
        pooling.value.kernel[...] = jnp.ones((1, 1, 1))
        out = pooling(graph.nodes[:3], jnp.zeros(3, int), 1)
        np.testing.assert_allclose(out, [[rows.sum()]], rtol=1e-6)
        of_edges = GraphNetwork(edges_to_nodes=pooling).attention(
            graph._replace(edges=graph.nodes[:3])
        )
        np.testing.assert_allclose(of_edges[:, 0], expected, atol=1e-6)
        three = build_graph([], [], graph.nodes[:3])
        pooled = attention_pool(three, jnp.ones(1), scale=1.0, **options)
        np.testing.assert_allclose(pooled, [[rows.sum()]], rtol=1e-6)
