"""How much each edge matters: against derivatives, enumerated paths, and a model called edge by edge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import array, close, draw, forward, rejects

from gatjax import GAT, GATv2, MeanConv, build_graph, pad, relabel, weighted_sum
from gatjax.explain import (
    computation_graph,
    edge_deletion,
    edge_gradient,
    gradient_times_weight,
    integrated_gradients,
    learned_mask,
    log_odds,
    mean_attention,
    predict,
    probability,
    random_attribution,
    unrolled_attention,
)
from gatjax.training import functional

NODES, EDGES, FEATURES, CLASSES, TARGET = 9, 23, 4, 3, 2
KEY = jax.random.key(0)
EXACT = (mean_attention, unrolled_attention, edge_gradient, edge_deletion, integrated_gradients)


@pytest.fixture(scope="module")
def graph():
    """Edges in no order, self-loops among them, not at the end."""
    random = np.random.default_rng(0)
    senders, receivers = random.integers(0, NODES, (2, EDGES))
    senders[[3, 7]] = receivers[[3, 7]]
    receivers[[0, 5, 9]] = TARGET
    return build_graph(senders, receivers, draw(NODES, FEATURES).astype(np.float32))


def build(rngs):
    return GAT(FEATURES, CLASSES, hidden_features=6, num_heads=2, dropout_rate=0.5, rngs=rngs)


MODEL = build(nnx.Rngs(0))


class Linear:
    """Two layers that sum values by attention that is given, without anything between."""

    def __init__(self, *layers):
        self.layers = layers

    def attention(self, graph):
        return self.layers

    def __call__(self, graph, *, edge_mask=None, edge_weight=None):
        nodes = graph.nodes
        for alpha in self.layers:
            weight = alpha.mean(1) if edge_weight is None else alpha.mean(1) * edge_weight
            nodes = weighted_sum(graph, weight[:, None], nodes[:, None, :])[:, 0]
        return graph._replace(nodes=nodes)


def test_unrolled_attention_is_the_derivative_through_the_computation_tree(graph):
    """And the sum over all paths to the target on which an edge is, each as often as it is on it."""
    with jax.enable_x64(True):
        random = np.random.default_rng(1)
        senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
        layers = []
        for heads in (3, 2):
            weights = random.random((EDGES, heads))
            total = np.zeros((NODES, heads))
            np.add.at(total, receivers, weights)
            layers.append(array(weights / total[receivers]))
        model = Linear(*layers)
        given = graph._replace(nodes=jnp.ones((NODES, 1)))
        found = unrolled_attention(model, given, TARGET)
        first, second = (np.asarray(layer.mean(1)) for layer in layers)
        paths = np.zeros(EDGES)
        for up in np.flatnonzero(receivers == TARGET):
            below = np.flatnonzero(receivers == senders[up])
            paths[up] += second[up]
            for down in below:
                paths[down] += second[up] * first[down]
        close(found, paths, 1e-12)
        score = lambda outputs, label: outputs[0]
        slope = edge_gradient(model, given, TARGET, label=0, score=score)
        # With values of 1 the target's output is the sum over all paths, and its derivative counts those through an
        # edge; but an edge from a node that nothing enters carries nothing in the second layer.
        dead = (receivers == TARGET) & ~np.isin(senders, receivers)
        close(slope, np.where(dead, 0, found), 1e-12)
        assert not dead.all()
        average = mean_attention(model, given, TARGET)
        reached = paths > 0
        close(average, np.where(reached, (first + second) / 2, 0), 1e-12)


@pytest.mark.slow
def test_deletion_is_the_model_without_the_edge(graph):
    """Called on a graph that has no such edge."""
    logits = np.asarray(forward(MODEL, graph, deterministic=True), np.float64)[TARGET]
    label = int(logits.argmax())
    softmax = lambda z: np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    expected = []
    for edge in range(EDGES):
        kept = np.arange(EDGES) != edge
        fewer = graph._replace(
            senders=graph.senders[kept],
            receivers=graph.receivers[kept],
            n_edge=np.array([EDGES - 1], np.int32),
        )
        without = np.asarray(forward(MODEL, fewer, deterministic=True), np.float64)[TARGET]
        expected.append(softmax(logits)[label] - softmax(without)[label])
    close(edge_deletion(MODEL, graph, TARGET), expected, 1e-6)
    some = np.array([5, 0])
    only = np.where(np.isin(np.arange(EDGES), some), expected, 0)
    close(edge_deletion(MODEL, graph, TARGET, edges=some, batch_size=1), only, 1e-6)


@pytest.mark.slow
def test_gradients_against_finite_differences(graph):
    with jax.enable_x64(True):
        model = GATv2(FEATURES, CLASSES, num_heads=2, rngs=nnx.Rngs(1), param_dtype=jnp.float64)
        given = graph._replace(nodes=array(graph.nodes))
        weight = array(np.random.default_rng(3).random(EDGES) + 0.5)
        options = {"label": 1, "score": log_odds, "edge_weight": weight}
        value = jax.jit(
            lambda weight: predict(model, given, TARGET, **options).value(edge_weight=weight)
        )
        steps = 1e-5 * jnp.eye(EDGES)
        differences = [float(value(weight + s) - value(weight - s)) / 2e-5 for s in steps]
        close(edge_gradient(model, given, TARGET, **options), differences, 1e-7)
        expected = weight * np.array(differences)
        close(gradient_times_weight(model, given, TARGET, **options), expected, 1e-7)
        # Completeness: attributions sum to what all edges add.
        gained = float(value(weight) - value(0 * weight))
        found = integrated_gradients(model, given, TARGET, steps=256, **options)
        assert abs(float(found.sum()) - gained) < 1e-3 * abs(gained)


def attribute(method, graph, target, **options):
    if method is learned_mask:
        options |= {"epochs": 5}
    if method in (learned_mask, random_attribution):
        options |= {"key": KEY}
    return method(MODEL, graph, target, **options)


@pytest.mark.slow
def test_order_of_edges_and_nodes_and_padding_do_not_matter(graph):
    order = np.random.default_rng(2).permutation(EDGES)
    shuffled = graph._replace(senders=graph.senders[order], receivers=graph.receivers[order])
    new = np.random.default_rng(4).permutation(NODES)
    renamed = relabel(graph, new)
    padded, masks = pad(graph, (NODES + 4, EDGES + 6, 2))
    for method in EXACT:
        found = np.asarray(attribute(method, graph, TARGET))
        close(attribute(method, shuffled, TARGET), found[order])
        close(attribute(method, renamed, int(new[TARGET])), found)
        filled = np.asarray(attribute(method, padded, TARGET, edge_mask=masks.edge))
        close(filled[:EDGES], found)
        assert not filled[EDGES:].any(), method.__name__


@pytest.mark.slow
def test_edges_that_cannot_reach_the_target_are_nought(graph):
    part = computation_graph(graph, TARGET, hops=2)
    outside = ~np.isin(np.arange(EDGES), part.edges)
    assert 0 < outside.sum() < EDGES
    for method in (*EXACT, learned_mask):
        found = np.asarray(attribute(method, graph, TARGET))
        assert not found[outside].any() and found[~outside].any(), method.__name__


@pytest.mark.slow
def test_the_computation_graph_says_the_same(graph):
    part = computation_graph(graph, TARGET, hops=2)
    assert part.nodes[part.target] == TARGET
    whole = forward(MODEL, graph, deterministic=True)[TARGET]
    close(forward(MODEL, part.graph, deterministic=True)[part.target], whole, 1e-6)
    for method in (unrolled_attention, edge_gradient, edge_deletion):
        found = attribute(method, part.graph, part.target)
        close(found, np.asarray(attribute(method, graph, TARGET))[part.edges])
    # The last layer's attention one hop away reads what is three hops away.
    more = computation_graph(graph, TARGET, hops=3)
    found = mean_attention(MODEL, more.graph, more.target)
    close(found, np.asarray(mean_attention(MODEL, graph, TARGET))[more.edges])
    # One hop is too few for two layers, and three are no different from two.
    assert len(computation_graph(graph, TARGET, hops=1).edges) < len(part.edges)
    assert len(computation_graph(graph, TARGET, hops=20).edges) <= EDGES


@pytest.mark.slow
def test_a_pure_function_compiled_once_for_all_targets(graph):
    pure = functional(build)
    parameters = pure.initialise(jax.random.key(0))
    traces = []

    @jax.jit
    def of(parameters, graph, target):
        traces.append(target)
        apply = functools.partial(pure.apply, parameters)
        return edge_deletion(apply, graph, target, label=0, score=log_odds)

    model = build(nnx.Rngs(jax.random.key(0)))
    for target in (1, TARGET):
        found = of(parameters, graph, target)
        close(found, edge_deletion(model, graph, target, label=0, score=log_odds))
    assert len(traces) == 1
    together = jax.vmap(of, in_axes=(None, None, 0))(parameters, graph, jnp.array([1, TARGET]))
    close(together[1], found)


@pytest.mark.slow
def test_a_learned_mask_keeps_what_decides():
    """One neighbour of eight has the feature that the model looks for; the prediction rests on its edge."""
    nodes = np.zeros((9, 2), np.float32)
    nodes[3, 0] = 12
    graph = build_graph(np.arange(8), np.full(8, 8), nodes)
    identity = lambda key, shape, dtype: jnp.eye(2, dtype=dtype).reshape(shape)
    layer = MeanConv(2, 2, use_bias=False, kernel_init=identity, rngs=nnx.Rngs(0))
    mask = learned_mask(layer, graph, 8, key=KEY, epochs=300, learning_rate=0.05, label=0)
    assert int(mask.argmax()) == 3 and float(mask[3]) > 0.8
    # The other senders carry zeros, so that their weight changes nothing: they are left out from the start.
    assert np.flatnonzero(mask).tolist() == [3]


def test_random_attribution_is_of_its_key(graph):
    mask = np.arange(EDGES) % 2 == 0
    found = random_attribution(MODEL, graph, TARGET, key=KEY, edge_mask=mask)
    assert np.array_equal(found, random_attribution(None, graph, 0, key=KEY, edge_mask=mask))
    assert not np.asarray(found)[~mask].any() and len(set(np.asarray(found)[mask].tolist())) == 12


def test_scores():
    outputs = jnp.array([1.0, 3.0, 0.0])
    p = np.exp([1, 3, 0]) / np.exp([1, 3, 0]).sum()
    close(probability(outputs, 1), p[1])
    close(log_odds(outputs, 1), np.log(p[1] / (1 - p[1])))
    one = lambda graph, edge_mask: graph._replace(nodes=graph.nodes[:, :1])
    pair = build_graph([0], [1], draw(2, FEATURES))
    with rejects(
        ValueError, "give a score of your own, such as score=lambda outputs, label: outputs[0]"
    ):
        predict(one, pair, 1).value()
    close(predict(one, pair, 1, score=lambda outputs, label: outputs[0]).value(), pair.nodes[1, 0])


class Passed(nnx.Module):
    """A module of one's own, whose calls say nothing of dropout."""

    def __init__(self):
        self.inner = build(nnx.Rngs(0))

    def __call__(self, graph, **options):
        return self.inner(graph, **options)


def test_a_module_that_passes_options_on_is_asked_without_dropout(graph):
    module = Passed()
    close(edge_gradient(module, graph, TARGET), edge_gradient(MODEL, graph, TARGET))
    assert not module.inner.layers[0].dropout.deterministic, "the module itself stays as it is"


def test_bad_input(graph, unchecked):
    for target in (NODES, -1):
        with rejects(ValueError, f"target = {target} is no node: ids run from 0 to 8"):
            edge_deletion(MODEL, graph, target)
        with rejects(ValueError, f"target = {target} is no node"):
            mean_attention(MODEL, graph, target)
        with rejects(ValueError, f"target = {target} is no node"):
            computation_graph(graph, target, 2)
    with rejects(TypeError, "target must be the id of one node, got 1.5"):
        edge_gradient(MODEL, graph, 1.5)
    with rejects(ValueError, "label = 3 is no output: ids run from 0 to 2"):
        edge_gradient(MODEL, graph, TARGET, label=CLASSES)
    with rejects(ValueError, "hops must be a whole number from 1 on, got 0"):
        computation_graph(graph, TARGET, 0)
    for edges in ([2, EDGES], [-1]):
        with rejects(ValueError, f"edges has {edges[-1]}, no edge: ids run from 0 to 22"):
            edge_deletion(MODEL, graph, TARGET, edges=edges)
    with rejects(TypeError, "edges must be ids of edges, got booleans: use np.flatnonzero(edges)"):
        edge_deletion(MODEL, graph, TARGET, edges=np.ones(EDGES, bool))
    with rejects(TypeError, "edges must be ids of edges, got float"):
        edge_deletion(MODEL, graph, TARGET, edges=[0.5])
    with rejects(TypeError, "has no attention(graph)"):
        mean_attention(functools.partial(MODEL), graph, TARGET)
    with rejects(ValueError, "edge_weight must have 23 rows, got 22"):
        edge_gradient(MODEL, graph, TARGET, edge_weight=np.ones(EDGES - 1, np.float32))
    for name, method in {
        "steps": integrated_gradients,
        "batch_size": edge_deletion,
        "epochs": functools.partial(learned_mask, key=KEY),
    }.items():
        with rejects(ValueError, f"{name} must be at least 1, got 0"):
            method(MODEL, graph, TARGET, **{name: 0})
