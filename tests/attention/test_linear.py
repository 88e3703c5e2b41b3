"""Linear attention: the weights written out pair by pair, masks, batches, feature maps."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, close, draw, rejects

from gatjax import batch, build_graph, linear_attention, pad, segment_mean, unbatch
from gatjax.attention.linear import FEATURE_MAPS

HEADS, WIDTH, OUT = 3, 4, 5
SIZES = 5, 1, 7, 0, 2
TOTAL = sum(SIZES)
GRAPH = batch([build_graph([], [], num_nodes=size) for size in SIZES])
ROWS = [draw(TOTAL, HEADS, width, seed=seed) for seed, width in enumerate((WIDTH, WIDTH, OUT))]
MASK = np.random.default_rng(2).random(TOTAL) < 0.7
MAPS = {
    "elu": lambda x: np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}

attend = jax.jit(linear_attention, static_argnames="feature_map")


def by_hand(feature_map, mask=None):
    mask = np.ones(TOTAL, bool) if mask is None else mask
    query, key, value = ROWS
    owner, out = np.repeat(range(len(SIZES)), SIZES), np.zeros_like(value)
    for i in np.flatnonzero(mask):
        others = np.flatnonzero(mask & (owner == owner[i]))
        for h in range(HEADS):
            weights = [
                MAPS[feature_map](query[i, h]) @ MAPS[feature_map](key[j, h]) for j in others
            ]
            out[i, h] = np.average(value[others, h], axis=0, weights=weights)
    return out


@pytest.mark.parametrize("feature_map", MAPS)
def test_weights_are_products_of_features(feature_map):
    rows = [np.float32(rows) for rows in ROWS]
    close(attend(GRAPH, *rows, feature_map=feature_map), by_hand(feature_map), 1e-5)
    rows = [np.where(MASK[:, None, None], rows, np.nan).astype(np.float32) for rows in ROWS]
    out = attend(GRAPH, *rows, feature_map=feature_map, node_mask=MASK)
    close(out, by_hand(feature_map, MASK), 1e-5)


def test_elu_stays_above_nothing():
    graph, one = build_graph([], [], num_nodes=2), np.zeros((2, 1, 1), np.float32)
    key = np.array([-14, -15], np.float32).reshape(one.shape)
    value = np.array([1, 3], np.float32).reshape(one.shape)
    expected = np.average([1, 3], weights=np.exp([-14, -15]))
    close(attend(graph, one, key, value)[:, 0, 0], [expected] * 2, 1e-5)
    close(attend(graph, one - 20, one, value)[:, 0, 0], [2, 2], 1e-5)
    assert jax.vmap(jax.grad(FEATURE_MAPS["elu"]))(jnp.array([-1.0, 0, 1])).tolist()[1:] == [1, 1]


@pytest.mark.slow
def test_gradients_of_a_batch_are_those_of_its_graphs():
    ends = np.cumsum(SIZES)
    direction = np.float32(draw(TOTAL, HEADS, OUT, seed=7))

    def loss(graph, rows, direction):
        return (linear_attention(graph, *rows) * direction).sum()

    rows = [np.float32(rows) for rows in ROWS]
    found = jax.jit(jax.grad(loss, argnums=1))(GRAPH, rows, direction)
    for graph, size, end in zip(unbatch(GRAPH), SIZES, ends, strict=True):
        own = slice(end - size, end)
        part = [table[own] for table in rows]
        alone = jax.jit(jax.grad(loss, argnums=1))(graph, part, direction[own])
        assert_close([table[own] for table in found], alone, 1e-4)


@pytest.mark.slow
def test_padding_counts_for_nothing():
    padded, masks = pad(GRAPH, (TOTAL + 9, 1, 7))
    rows = [np.full((TOTAL + 9, *table.shape[1:]), np.nan, np.float32) for table in ROWS]
    for table, own in zip(rows, ROWS, strict=True):
        table[:TOTAL] = own
    loss = lambda rows: linear_attention(padded, *rows, node_mask=masks.node).sum()
    out, gradients = jax.jit(jax.value_and_grad(loss))(rows)
    close(out, by_hand("elu").sum(), 1e-4)
    assert all(np.isfinite(part).all() and not part[TOTAL:].any() for part in gradients)


def test_equal_queries_and_keys_take_the_mean():
    query, key, value = np.zeros_like(ROWS[0]), np.zeros_like(ROWS[1]), ROWS[2]
    ids = np.repeat(range(len(SIZES)), SIZES)
    mean = segment_mean(jnp.asarray(value, jnp.float32), jnp.asarray(ids), len(SIZES))[ids]
    out = linear_attention(GRAPH, query, key, np.float32(value), feature_map=jnp.exp)
    close(out, mean)


def test_bad_input(unchecked):
    query, key, value = ROWS
    with rejects(ValueError, "feature_map must be one of ['elu', 'sigmoid'] or a function"):
        linear_attention(GRAPH, query, key, value, feature_map="relu")
    with rejects(ValueError, "query and key must be [N, H, C]"):
        linear_attention(GRAPH, query, key[:, :1], value)
    with rejects(ValueError, "query must have 15 rows, got 14"):
        linear_attention(GRAPH, query[1:], key[1:], value[1:])
    with rejects(ValueError, "node_mask must have 15 rows, got 2"):
        linear_attention(GRAPH, query, key, value, node_mask=np.ones(2, bool))
