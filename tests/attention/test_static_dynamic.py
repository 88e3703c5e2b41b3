"""Brody et al. (2022): GAT ranks a shared neighbourhood alike for every receiver, GATv2 and dot products need not.

Graphs are complete bipartite: every sender of a neighbourhood sends to every receiver.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from gatjax import DotProductConv, GATConv, GATv2Conv, build_graph

RECEIVERS, SENDERS, IN, C = 7, 5, 3, 11

heads = pytest.mark.parametrize("num_heads", [1, 3])


def bipartite(receiver_rows, sender_rows):
    """Receivers are the first nodes; edges are ordered by receiver, then by sender."""
    few, many = len(receiver_rows), len(sender_rows)
    senders, receivers = few + np.tile(np.arange(many), few), np.repeat(np.arange(few), many)
    nodes = np.concatenate([receiver_rows, sender_rows]).astype(np.float32)
    return build_graph(senders, receivers, nodes)


def set_values(layer, seed, scale):
    """Every parameter anew, biases included, from a normal distribution."""
    random = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape), leaf.dtype)
    nnx.update(layer, jax.tree.map(draw, nnx.state(layer, nnx.Param)))


@nnx.jit
def weights(layer, graph):
    return layer.attention(graph)


def attention(layer, receiver_rows, sender_rows):
    """[receivers, senders, H]."""
    alpha = weights(layer, bipartite(receiver_rows, sender_rows))
    return np.asarray(alpha, np.float64).reshape(len(receiver_rows), len(sender_rows), -1)


def disagreement(alpha):
    """How much weight receivers lose by following another's ranking of the senders, at most.

    Zero where all rank alike: sorted by any receiver's weights, those of every other are non-decreasing.
    """
    losses = []
    for ranking in np.argsort(alpha, axis=1):
        steps = np.diff(np.take_along_axis(alpha, ranking[None], axis=1), axis=1)
        losses.append(np.maximum(-steps, 0).max())
    return max(losses)


@heads
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_gat_ranks_senders_alike_for_every_receiver(num_heads, seed, scale):
    """In every head, whatever the parameters and the features; scores that tie but for rounding may swap."""
    layer = GATConv(IN, C * num_heads, num_heads=num_heads, use_score_bias=True, rngs=nnx.Rngs(0))
    set_values(layer, seed, scale)
    random = np.random.default_rng([seed, 1])
    alpha = attention(layer, random.normal(size=(RECEIVERS, IN)), random.normal(size=(SENDERS, IN)))
    assert disagreement(alpha) < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_gat_still_weighs_them_differently(seed):
    """The ranking is static, the weights are not: the LeakyReLU bends at another place for each receiver."""
    layer = GATConv(IN, C, rngs=nnx.Rngs(seed))
    random = np.random.default_rng(seed)
    alpha = attention(layer, random.normal(size=(RECEIVERS, IN)), random.normal(size=(SENDERS, IN)))
    assert alpha.std(axis=0).max() > 1e-3


@heads
@pytest.mark.parametrize("conv", [GATv2Conv, DotProductConv])
def test_random_layers_of_the_dynamic_kind_do_rank_differently(conv, num_heads):
    """The property above is one of GAT, and not of the way it is measured."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(RECEIVERS, IN)), random.normal(size=(SENDERS, IN))
    found = []
    for seed in range(5):
        layer = conv(IN, C * num_heads, num_heads=num_heads, rngs=nnx.Rngs(0))
        set_values(layer, seed, 0.5)
        found.append(disagreement(attention(layer, *rows)))
    assert np.median(found) > 0.05


KEYS, VALUES = np.diag([1.0, 1, 1, 0, 0, 0]), np.diag([0.0, 0, 0, 1, 1, 1])


def gatv2_by_hand():
    """A match leads by 8.

    With W = diag(10, 10, 10, 1, 1, 1), a = (1, 1, 1, 0, 0, 0) and b = -10 the first three features of W h_i + W h_j + b
    are (10, -10, -10) in some order where the keys match, and (0, 0, -10) where they do not: after the LeakyReLU
    they sum to 10 - 2 - 2 = 6 and to -2.
    """
    layer = GATv2Conv(6, 6, share_weights=True, rngs=nnx.Rngs(0))
    layer.sender_projection.kernel[...] = jnp.asarray(10 * KEYS + VALUES)[:, None, :]
    layer.vector[...] = jnp.array([[1.0, 1, 1, 0, 0, 0]])
    layer.score_bias[...] = jnp.full((1, 6), -10.0)
    return layer


def dot_product_by_hand():
    """A match leads by 8: the scale 1/sqrt(6) is in the query's kernel."""
    layer = DotProductConv(6, 6, rngs=nnx.Rngs(0))
    for part, kernel in (
        (layer.query, 8 * 6**0.5 * KEYS),
        (layer.key, KEYS),
        (layer.value, VALUES),
    ):
        part.kernel[...] = jnp.asarray(kernel)[:, None, :]
    return layer


@pytest.mark.parametrize("make", [gatv2_by_hand, dot_product_by_hand])
@pytest.mark.parametrize("values", list(itertools.permutations(range(3))))
def test_parameters_by_hand_look_up_a_dictionary_of_three(make, values):
    """Rows are (one-hot key, one-hot value); a query's value is blank. Each receiver has a favourite of its own."""
    layer, queries = make(), np.eye(3, 6)
    dictionary = np.concatenate([np.eye(3), np.eye(3)[list(values)]], axis=1)
    alpha = attention(layer, queries, dictionary)[:, :, 0]
    match = np.exp(8) / (np.exp(8) + 2)
    expected = np.where(np.eye(3, dtype=bool), match, (1 - match) / 2)
    np.testing.assert_allclose(alpha, expected, rtol=1e-4)
    answers = np.asarray(layer(bipartite(queries, dictionary)).nodes)[:3, 3:]
    assert answers.argmax(axis=1).tolist() == list(values)
    np.testing.assert_allclose(answers.max(axis=1), match, rtol=1e-5)
