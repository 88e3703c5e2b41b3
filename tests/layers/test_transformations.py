"""Layers under jit, vmap, scan, remat, export and Linen."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    ALL_THREE,
    CASES,
    EDGES,
    HEADS,
    IN,
    NODES,
    ONE_EACH,
    OUT,
    REPRESENTATIVES,
    all_layers,
    build,
    differentiate,
    evaluate,
    fullest_of_each,
    graph_for,
    narrow,
    one_of_each,
    rows,
    shared_by_all,
    takes,
    weights_of,
)
from flax import nnx
from helpers import assert_close, changed_rows, run
from jax.sharding import PartitionSpec as P

from gatjax.layers import GATConv


@fullest_of_each
def test_jit_in_each_form_equals_eager(case):
    layer, graph = build(case), graph_for(case)
    expected = layer(graph).nodes, layer.attention(graph)
    assert_close(run(layer, graph), expected, of="nnx.jit")
    result = evaluate(layer, graph)
    assert_close((result.nodes, result.attention), expected, of="jax.jit")


@one_of_each
def test_a_graph_that_a_program_holds_may_be_on_the_device(case):
    """What is known of it is read on the host, where no program is traced."""
    layer, graph = build(case), jax.device_put(graph_for(case))
    expected = jax.eval_shape(lambda graph: layer(graph).nodes, graph)
    assert jax.eval_shape(lambda: layer(graph).nodes) == expected


@rows(ONE_EACH, REPRESENTATIVES)
def test_a_second_call_is_not_traced_again_and_draws_anew(case):
    traced = []

    @nnx.jit
    def forward(layer, graph):
        traced.append("nnx.jit")
        return layer(graph).nodes

    @partial(jax.jit, static_argnums=0)
    def pure(graphdef, state, graph):
        traced.append("jax.jit")
        return nnx.merge(graphdef, state)(graph).nodes

    for seed in range(3):
        layer, graph = build(case, seed, dropout_rate=ALL_THREE), graph_for(case, seed)
        pure.lower(*nnx.split(layer), graph)
        assert changed_rows(forward(layer, graph), forward(layer, graph))
    assert traced == ["jax.jit", "nnx.jit"]


def stack(layers):
    """One tree of parameters with a leading axis, and what rebuilds a layer from a row of it."""
    graphdef, _ = nnx.split(layers[0])
    states = [nnx.state(layer) for layer in layers]
    return graphdef, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@shared_by_all
def test_vmap_over_parameters_and_features(case):
    layers, graphs = zip(
        *((build(case, seed), graph_for(case, seed)) for seed in range(2)), strict=True
    )
    graphdef, states = stack(layers)
    nodes = jnp.stack([graph.nodes for graph in graphs])

    def apply(state, nodes):
        return nnx.merge(graphdef, state)(graphs[0]._replace(nodes=nodes)).nodes

    out = jax.jit(jax.vmap(apply))(states, nodes)
    for index, layer in enumerate(layers):
        assert_close(out[index], evaluate(layer, graphs[0]._replace(nodes=nodes[index])).nodes)


@pytest.mark.slow
@one_of_each
def test_scan_over_layers_is_a_loop_dropout_included(case):
    """With `nnx.scan` over a stacked layer, and with `jax.lax.scan` over its state."""
    make = partial(build, case, in_features=OUT, dropout_rate=0.5)
    graphdef, states = stack([make(seed) for seed in range(3)])

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(layer, graph):
        return layer(graph)

    def step(graph, state):
        return nnx.merge(graphdef, state, copy=True)(graph), None

    @jax.jit
    def all_ways(states, graph):
        one = run(nnx.merge(graphdef, states, copy=True), graph)
        two, _ = jax.lax.scan(step, graph, states)
        for index in range(3):
            graph, _ = step(graph, jax.tree.map(lambda leaf, i=index: leaf[i], states))
        return one.nodes, two.nodes, graph.nodes

    one, two, expected = all_ways(states, narrow(case))
    assert_close(one, expected)
    assert_close(two, expected)


def test_layers_made_under_vmap_differ():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return GATConv(IN, OUT, num_heads=HEADS, rngs=rngs)

    layers = make(nnx.Rngs(3))
    graphdef, states = nnx.split(layers)
    graph = graph_for(CASES[0])
    run = jax.jit(jax.vmap(lambda state: nnx.merge(graphdef, state)(graph).nodes))
    first, second, third = run(states)
    assert changed_rows(first, second) and changed_rows(second, third)


@shared_by_all
def test_remat_keeps_value_and_gradient(case):
    layer, graph, weights = build(case), graph_for(case), weights_of(graph_for(case))
    graphdef, params = nnx.split(layer)
    forward = nnx.remat(lambda layer, graph: layer(graph).nodes)
    loss = lambda params: (forward(nnx.merge(graphdef, params), graph) * weights).sum()
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected = evaluate(layer, graph)
    assert_close(value, (expected.nodes * weights).sum())
    assert_close(gradient, expected.d_params)


@all_layers
def test_value_and_gradient_lower_for_every_platform(case):
    lower_for_every_platform(case)


@shared_by_all
def test_blocks_lower_for_every_platform(case, blocks):
    lower_for_every_platform(case)


def lower_for_every_platform(case):
    layer, graph = build(case, dropout_rate=ALL_THREE), graph_for(case)
    graphdef, *state = nnx.split(layer, nnx.Param, ...)
    arguments = *state, graph, np.ones(EDGES, bool), weights_of(graph), jax.random.key(0)
    platforms = ("cpu", "cuda", "tpu")
    function = jax.jit(partial(differentiate, graphdef))
    exported = jax.export.export(function, platforms=platforms)(*arguments)
    assert exported.platforms == platforms
    assert exported.out_avals[0].shape == (NODES, OUT)


@pytest.mark.slow
@fullest_of_each
@pytest.mark.parametrize("block_size", [None, 8])
def test_shard_map_checks_what_differs_from_shard_to_shard(case, block_size):
    """A batch of the user's own over two devices: the layer is on all, a graph on each."""
    layer = build(case, block_size=block_size) if takes(case, "block_size") else build(case)
    graphdef, state = nnx.split(layer)
    graphs = [graph_for(case, seed) for seed in range(2)]
    mesh = jax.make_mesh((2,), ("shards",), axis_types=(jax.sharding.AxisType.Auto,))
    loss = lambda state, graph: jnp.sum(nnx.merge(graphdef, state)(graph).nodes ** 2)

    @partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("shards")), out_specs=P())
    def on_both(state, graphs):
        own = jax.tree.map(lambda leaf: leaf[0], graphs)
        return jax.lax.psum(loss(state, own), "shards")

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *graphs)
    found = jax.jit(jax.value_and_grad(on_both))(state, stacked)
    expected = jax.jit(
        jax.value_and_grad(lambda state: sum(loss(state, graph) for graph in graphs))
    )(state)
    assert_close(found, expected, 1e-4)


@shared_by_all
def test_linen_has_the_same_output_and_attention(case):
    graph = graph_for(case)
    module = nnx.bridge.to_linen(
        case.layer, IN, OUT, **case.options, dropout_rate=ALL_THREE, name="layer"
    )
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, graph, deterministic=True)
    layer = build(case)
    params = nnx.state(layer, nnx.Param)
    nnx.replace_by_pure_dict(params, jax.tree.map(jnp.asarray, nnx.to_pure_dict(params)))
    pure = jax.tree.map(lambda leaf: leaf, nnx.to_pure_dict(params))
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(pure)
    variables = {**variables, "params": pure}

    @jax.jit
    def evaluated(variables, graph):
        out = module.apply(variables, graph, deterministic=True)
        return out.nodes, module.apply(variables, graph, nnx_method="attention")

    expected = evaluate(layer, graph)
    assert_close(evaluated(variables, graph), (expected.nodes, expected.attention))
    draw = jax.jit(lambda key: module.apply(variables, graph, rngs={"dropout": key}).nodes)
    draws = [draw(jax.random.key(seed)) for seed in (2, 2, 3)]
    assert_close(draws[0], draws[1])
    assert changed_rows(draws[0], draws[2])
