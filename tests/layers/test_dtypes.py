"""Precision: what is computed in which dtype, and that half of it loses nothing in sums."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from cases import (
    FULLEST,
    ONE_EACH,
    REPRESENTATIVES,
    build,
    differentiate,
    evaluate,
    graph_for,
    make,
    one_of_each,
    rows,
    weights_of,
)
from flax import nnx
from helpers import assert_close, steps_of

import gatjax.ops.blocks
from gatjax import AttentionBlock, build_graph, graph_self_attention, score_pairs
from gatjax.ops import segment_max

# Of nodes, `dtype` and `param_dtype`, and what follows from the three.
DTYPES = [
    ("float32", None, "float32", "float32"),
    ("bfloat16", None, "float32", "float32"),
    ("bfloat16", None, "bfloat16", "bfloat16"),
    ("float32", "bfloat16", "float32", "bfloat16"),
    ("bfloat16", "float32", "bfloat16", "float32"),
    ("int32", "float16", "float32", "float16"),
    ("bool", None, "float32", "float32"),
]


@one_of_each
def test_dtype_and_param_dtype_are_honoured(case):
    for nodes, dtype, param_dtype, expected in DTYPES:
        options = {"dtype": dtype, "param_dtype": jnp.dtype(param_dtype), "residual": True}
        layer = nnx.eval_shape(lambda options=options: make(case, **options))
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer))}
        assert dtypes == {jnp.dtype(param_dtype)}, (dtype, param_dtype)
        graph = graph_for(case)
        graph = graph._replace(nodes=jnp.asarray(graph.nodes, nodes))
        out = nnx.eval_shape(lambda layer, graph: layer(graph).nodes, layer, graph)
        assert out.dtype == jnp.dtype(expected), (nodes, dtype, param_dtype)


@rows(FULLEST, REPRESENTATIVES)
def test_numpy_features_in_float64_are_computed_in_float32(case):
    """NumPy makes them by default; JAX has none, and says so in a warning where it is asked for them."""
    layer, graph = build(case), graph_for(case)
    wide = graph_for(case, dtype=np.float64)
    out = layer(wide).nodes
    assert out.dtype == jnp.float32
    assert_close(out, evaluate(layer, graph).nodes)
    assert_close(layer.attention(wide), evaluate(layer, graph).attention)


def crowd(case):
    """Thousands of edges into one node and out of another, with features that bfloat16 can hold."""
    graph = graph_for(case, nodes=13, edges=4099)
    odd = np.arange(4099) % 2 == 1
    return graph._replace(
        senders=np.where(odd, graph.senders, 12).astype(np.int32),
        receivers=np.where(odd, 0, graph.receivers).astype(np.int32),
        nodes=np.asarray(jnp.asarray(graph.nodes, jnp.bfloat16), np.float32),
    )


@rows(ONE_EACH[1:3] + ONE_EACH[-1:])
def test_bfloat16_with_thousands_of_edges_at_one_node(case, monkeypatch):
    monkeypatch.setattr(gatjax.ops.blocks, "DIRECT_NUMBERS", 2**20)
    bfloat16_is_close_to_float32(case)


@rows(FULLEST, REPRESENTATIVES)
def test_no_rows_are_added_in_half_precision(case):
    """Not in a gradient either: such a sum stands still after some hundreds, and takes a GPU forever."""
    graph = graph_for(case, edges=41)
    graph = graph._replace(nodes=jnp.asarray(graph.nodes, jnp.bfloat16))
    layer = build(case, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16)
    graphdef, *state = nnx.split(layer, nnx.Param, ...)
    weights = weights_of(graph).astype(jnp.bfloat16)
    differentiated = partial(differentiate, graphdef)
    program = jax.make_jaxpr(differentiated)(*state, graph, np.ones(41, bool), weights)
    assert not half_sums(program.jaxpr)


def test_no_function_adds_rows_in_half_precision():
    rows, ids = jnp.ones((7, 3), jnp.bfloat16), jnp.asarray([0, 1, 1, 1], jnp.int32)
    graph = build_graph([0, 1], [1, 2], rows, globals=rows[:1])
    heads = lambda x: x[:, None]
    block = AttentionBlock(
        3, 6, num_heads=2, global_features=3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
    )
    functions = {
        "pairs": lambda x: score_pairs(x, ids, ids),
        "maxima": lambda x: segment_max(x, jnp.arange(7) // 2, 4),
        "all nodes": lambda x: graph_self_attention(graph, heads(x), heads(x), heads(x)),
        "bias": lambda x: graph_self_attention(
            graph._replace(n_node=np.array([3, 4], np.int32)),
            *(heads(rows),) * 3,
            bias=jnp.repeat(x, 4, axis=0)[:25, :1],
        ),
        "globals": lambda x: block(graph._replace(globals=x[:1]), senders=rows).nodes,
    }
    for name, function in functions.items():
        derivative = jax.grad(lambda x, function=function: function(x).astype(float).sum())
        assert not half_sums(jax.make_jaxpr(derivative)(rows).jaxpr), name


def half_sums(program):
    """The sums of rows in half precision, in a program and all that it calls."""
    adds = [step for step in steps_of(program) if step.primitive.name == "scatter-add"]
    return [str(step) for step in adds if step.outvars[0].aval.dtype.itemsize < 4]


@rows(ONE_EACH[:1])
def test_bfloat16_with_thousands_of_edges_at_one_node_in_blocks(case, blocks):
    bfloat16_is_close_to_float32(case)
    assert blocks == [256, 256]


def bfloat16_is_close_to_float32(case):
    """In values, and in gradients relative to the largest: no sum over edges may be taken in bfloat16."""
    graph, mask = crowd(case), np.ones(4099, bool)
    expected, actual = (
        jax.jit(partial(differentiate, graphdef))(*state, graph, mask, weights_of(graph))
        for graphdef, *state in (
            nnx.split(build(case, param_dtype=jnp.bfloat16, dtype=dtype), nnx.Param, ...)
            for dtype in (jnp.float32, jnp.bfloat16)
        )
    )
    assert actual.nodes.dtype == jnp.bfloat16
    for part in ("nodes", "attention", "d_nodes"):
        assert_close(getattr(actual, part), getattr(expected, part), 0.02)
    gradients = (jax.tree.leaves(result.d_params) for result in (actual, expected))
    flat = [np.concatenate([np.ravel(leaf) for leaf in leaves]) for leaves in gradients]
    assert_close(*flat, 0.02)


@rows([ONE_EACH[0], ONE_EACH[-1]])
def test_ids_may_be_of_any_integer_dtype(case):
    """Even of one that is too narrow for the number of nodes."""
    layer, graph = build(case), cast_ids(graph_for(case, nodes=257), np.int32)
    forward = jax.jit(lambda graph: layer(graph).nodes)
    expected = forward(graph)
    for dtype in (np.int8, np.uint8):
        assert_close(forward(cast_ids(graph, dtype)), expected, of=dtype.__name__)


def cast_ids(graph, dtype):
    fields = ("senders", "receivers")
    return graph._replace(**{name: (getattr(graph, name) % 120).astype(dtype) for name in fields})
