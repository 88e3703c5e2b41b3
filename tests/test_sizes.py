"""What changes its way with the size says the same on both sides: values, gradients, dtypes and errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close
from jax.experimental.sparse import BCOO

import gatjax
from gatjax.graph import build_graph
from gatjax.ops import blocks

pytestmark = pytest.mark.slow

N, E, F = 13, 60, 6
rng = np.random.default_rng(0)
NODES = rng.normal(size=(N, F)).astype(np.float32) * (rng.random((N, F)) < 0.5)
GRAPH = build_graph(rng.integers(0, N, E), rng.integers(0, N, E), NODES)
DTYPES = (jnp.float32, jnp.bfloat16)


def score(weights, r, s, e):
    return (r * s).sum(-1)


def value(weights, r, s, e):
    return s


def heads(x):
    return x.reshape(N, 2, F // 2)


COMPARISON = tuple(jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((F, 4), 4, 4))

# Of nodes [N, F]; whatever walks edges, entries or nodes in blocks.
FUNCTIONS = {
    "graph_attention": lambda x: gatjax.graph_attention(
        GRAPH, score, value, None, heads(x), heads(x)
    ),
    "pool_neighbors": lambda x: gatjax.pool_neighbors(GRAPH, x, x),
    "neighbor_mean": lambda x: gatjax.neighbor_mean(GRAPH, x),
    "pool_nodes": lambda x: gatjax.pool_nodes(GRAPH._replace(nodes=x)),
    "attention_pool": lambda x: gatjax.attention_pool(
        GRAPH._replace(nodes=x), jnp.ones(F, x.dtype)
    ),
    # Twelve paths: 156 rows, in blocks of 16 where more than 128 are many.
    "semantic_attention": lambda x: gatjax.semantic_attention(
        GRAPH, jnp.tile(x[:, None], (1, 12, 1)), *COMPARISON
    ),
    "score_pairs": lambda x: gatjax.score_pairs(x, GRAPH.senders, GRAPH.receivers),
}
LAYERS = [gatjax.GATConv]


def small_and_large(monkeypatch, run):
    """As for sizes far below the thresholds, and as far above."""
    found = []
    for limits in ({}, {"DIRECT_NUMBERS": 0, "BLOCK_NUMBERS": 64}):
        with monkeypatch.context() as patch:
            for name, limit in limits.items():
                patch.setattr(blocks, name, limit)
            jax.clear_caches()
            found.append(run())
    jax.clear_caches()
    return found


def test_the_thresholds_are_those_that_decide(monkeypatch):
    size = lambda: (blocks.choose_block_size("auto", E, F), blocks.rows_per_block(F, fewest=1))
    (small, rows), (large, fewer) = small_and_large(monkeypatch, size)
    assert small is None and large is not None and fewer < rows


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_say_the_same_at_every_size(name, monkeypatch):
    function = FUNCTIONS[name]

    def run(dtype):
        x = jnp.asarray(NODES, dtype)
        loss = lambda x: sum(
            (leaf.astype(jnp.float32) ** 2).sum() for leaf in jax.tree.leaves(function(x))
        )
        return function(x), jax.grad(loss)(x)

    for dtype in DTYPES:
        small, large = small_and_large(monkeypatch, partial(run, dtype))
        assert_close(large, small, 2e-5 if dtype == jnp.float32 else 2e-2, of=name)
        kinds = [[leaf.dtype for leaf in jax.tree.leaves(each)] for each in (small, large)]
        assert kinds[0] == kinds[1]
    errors = small_and_large(monkeypatch, lambda: error_of(lambda: function(jnp.ones((N + 1, F)))))
    assert errors[0] == errors[1]


def error_of(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_layers_say_the_same_at_every_size_and_density(layer, monkeypatch, unchecked):
    """And with features dense or sparse, between which a data set chooses by their density."""
    for features in (jnp.asarray(NODES), BCOO.fromdense(jnp.asarray(NODES))):
        graph = GRAPH._replace(nodes=features)

        def run(graph=graph):
            built = layer(F, 4, rngs=nnx.Rngs(0))
            out, gradients = nnx.value_and_grad(lambda layer: (layer(graph).nodes ** 2).sum())(
                built
            )
            return built(graph).nodes, out, nnx.to_pure_dict(gradients)

        small, large = small_and_large(monkeypatch, run)
        assert_close(large, small, 5e-5)
        if isinstance(features, BCOO):
            assert_close(small, run(GRAPH), 5e-5)
        wrong = lambda graph=graph: error_of(lambda: layer(F + 1, 4, rngs=nnx.Rngs(0))(graph))
        errors = small_and_large(monkeypatch, wrong)
        assert errors[0] == errors[1] and errors[0]


def test_rows_of_every_width_have_the_same_gradient_in_blocks():
    """What reads rows of a width that a CPU unrolls, and of a single head, in other ways than the rest."""
    for num_heads, features in ((4, 7), (4, 8), (8, 8), (5, 16), (1, 16), (2, 16)):
        shape = (N, num_heads, features)
        query, key, values = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3))

        def loss(rows, block_size):
            query, senders = rows
            out = gatjax.graph_attention(
                GRAPH,
                lambda weights, r, s, e: gatjax.dot_product_score(r, s["key"]),
                lambda weights, r, s, e: s["value"],
                None,
                query,
                senders,
                block_size=block_size,
            )
            return jnp.sum(out**2)

        rows = query, {"key": key, "value": values}
        blocked, direct = (
            jax.jit(jax.grad(partial(loss, block_size=size)))(rows) for size in (16, None)
        )
        assert_close(blocked, direct)
