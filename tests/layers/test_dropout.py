"""Dropout: when it draws, what it drops, and that the mean stays."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import (
    ADDING,
    ALL_THREE,
    CASES,
    EDGES,
    FULLEST,
    IN,
    NODES,
    ONE_EACH,
    REPRESENTATIVES,
    Keep,
    build,
    evaluate,
    graph_for,
    rows,
    shared_by_all,
    takes,
    values_shape,
)
from flax import nnx
from helpers import assert_close, assert_same, changed_rows, forward, rejects, run
from jax.experimental.sparse import BCOO

from gatjax.graph import build_graph
from gatjax.layers import DropoutRates, GATConv
from gatjax.ops import keep_mask


def with_rates(case, rates):
    """The layer with dropout, and the same parameters without."""
    layer, plain = build(case, dropout_rate=rates), build(case)
    nnx.update(layer, nnx.state(plain, nnx.Param))
    return layer, plain


@shared_by_all
def test_dropout_draws_anew_at_every_call_and_repeats_with_the_same_rngs(case):
    graph = graph_for(case)
    expected, alpha = run(build(case), graph)
    for place in DropoutRates._fields:
        layer, _ = with_rates(case, DropoutRates(**{place: 0.5}))
        first, second = forward(layer, graph), forward(layer, graph)
        assert changed_rows(first, second), place
        again = [forward(layer, graph, rngs=nnx.Rngs(dropout=seed)) for seed in (1, 1, 2)]
        assert_same(again[0], again[1], of=place)
        assert changed_rows(again[0], again[2]), place
        assert changed_rows(first, expected) and changed_rows(again[0], expected), place
        off = without_dropout(layer, graph)
        assert_same(off, (expected, alpha), of=place)


@nnx.jit
def without_dropout(layer, graph):
    """Nodes, and the attention, which never has it."""
    return layer(graph, deterministic=True).nodes, layer.attention(graph)


@shared_by_all
def test_eval_switches_dropout_off_and_train_on(case):
    layer, plain = with_rates(case, ALL_THREE)
    graph = graph_for(case)
    expected = forward(plain, graph)
    layer.eval()
    assert_same(forward(layer, graph), expected)
    assert changed_rows(forward(layer, graph, deterministic=False), expected)
    layer.train()
    assert changed_rows(forward(layer, graph), forward(layer, graph))
    assert_same(forward(nnx.view(layer, deterministic=True), graph), expected)
    assert changed_rows(forward(layer, graph), expected), "a view is another layer"


def test_keys_of_a_call_are_rngs(unchecked):
    layer = GATConv(2, 2, dropout_rate=0.5, rngs=nnx.Rngs(0))
    graph = build_graph([0], [1], np.ones((2, 2), np.float32))
    for rngs in (jax.random.key(1), nnx.Rngs(1).dropout):
        with rejects(TypeError, "pass nnx.Rngs(dropout=key)"):
            layer(graph, rngs=rngs)


@shared_by_all
def test_dropout_off_draws_nothing(case):
    layer, graph = build(case, dropout_rate=ALL_THREE), graph_for(case)
    before = nnx.state(layer, nnx.RngCount)
    assert jax.tree.leaves(before)
    without_dropout(layer, graph)
    forward(layer, graph, rngs=nnx.Rngs(dropout=0))
    assert_close(nnx.state(layer, nnx.RngCount), before)
    assert not jax.tree.leaves(nnx.state(build(case), nnx.RngState))


@rows([case for case in ONE_EACH if case in ADDING], REPRESENTATIVES)
def test_dropout_keeps_the_mean(case):
    """Of an output that is linear in what is dropped: always in values and weights, not always in the inputs."""
    rates = ALL_THREE if case.linear else ALL_THREE._replace(inputs=0.0)
    layer, plain = with_rates(case, rates)
    graph = graph_for(case)
    draw = lambda key: layer(graph, rngs=nnx.Rngs(dropout=key)).nodes
    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 1009))
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - evaluate(plain, graph).nodes) <= 5 * error + 1e-5).all()


@rows([case for case in ONE_EACH if takes(case, "residual")], REPRESENTATIVES)
def test_sparse_dropout_acts_on_the_entries_stored(case):
    layer = build(case, dropout_rate=DropoutRates(inputs=0.5), residual=False)
    graph = graph_for(case)
    dense = np.where(np.random.default_rng(7).random(graph.nodes.shape) < 0.6, 0, graph.nodes)
    sparse = BCOO.fromdense(jnp.asarray(dense))

    @jax.jit
    def thin(data):
        keys = layer.dropout.keys(False, nnx.Rngs(dropout=3))
        kept = data * keep_mask(keys.inputs, 0.5, data.shape)
        return kept, BCOO((kept, sparse.indices), shape=sparse.shape).todense()

    kept, thinned = thin(sparse.data)
    assert np.any(kept == 0)
    out = forward(layer, graph._replace(nodes=sparse), rngs=nnx.Rngs(dropout=3))
    expected = forward(layer, graph._replace(nodes=thinned), deterministic=True)
    assert_close(out, expected)


@rows([case for case in FULLEST if case.reference is not None])
def test_dropout_acts_where_the_original_has_it(case, x64):
    """On the inputs; on the values, after the logits have been computed; on the weights."""
    layer = build(case, param_dtype=jnp.float64, dropout_rate=ALL_THREE)
    graph = graph_for(case, dtype=np.float64)
    shapes = (NODES, IN), values_shape(layer, graph), (EDGES, layer.num_heads)

    @jax.jit
    def draw():
        keys = layer.dropout.keys(False, nnx.Rngs(dropout=5))
        keys = [key for key in keys[:4] if key is not None]
        drawn = zip(keys, ALL_THREE[:3], shapes, strict=True)
        masks = [keep_mask(key, rate, shape, jnp.float64) for key, rate, shape in drawn]
        return [jax.random.key_data(key) for key in keys], masks

    keys, masks = draw()
    assert len({tuple(key.tolist()) for key in keys}) == 3
    nodes, _ = case.reference(layer, graph, Keep(*map(np.asarray, masks)))
    run = jax.jit(lambda graph: layer(graph, rngs=nnx.Rngs(dropout=5)).nodes)
    assert_close(run(graph), nodes, 1e-12)


@rows(
    [case for case in CASES if case.options.get("num_heads", 1) > 1 and takes(case, "combine")],
    REPRESENTATIVES,
)
def test_heads_drop_inputs_together_or_each_its_own(case):
    """Seen on heads with the same parameters, which differ by nothing but their dropout."""
    options = case.options | {"combine": "concat", "residual": False}
    heads, graph = options["num_heads"], graph_for(case)

    def split_output(**rates):
        layer = case.layer(
            IN,
            5 * heads,
            **options,
            dropout_rate=DropoutRates(**rates),
            kernel_init=nnx.initializers.constant(0.1),
            rngs=nnx.Rngs(0),
        )
        return np.split(np.asarray(forward(layer, graph)), heads, axis=1)

    first, second, *_ = split_output(inputs=0.5)
    assert_close(first, second)
    first, second, *_ = split_output(head_inputs=0.5)
    assert changed_rows(first, second)


def test_linen_needs_no_key_for_the_dropout_to_initialise():
    """But a key that is given is used, as the stream of its own in `nnx.Rngs`."""
    graph = build_graph([0, 1, 2], [1, 2, 0], np.eye(3, dtype=np.float32))
    linen = nnx.bridge.to_linen(GATConv, 3, 4, dropout_rate=0.5)
    variables = linen.init(jax.random.key(0), graph)
    calls = [
        linen.apply(variables, graph, rngs={"dropout": jax.random.key(key)}).nodes
        for key in (1, 1, 2, 3)
    ]
    np.testing.assert_array_equal(calls[0], calls[1])
    assert any((calls[0] != other).any() for other in calls[2:])
