"""Modules as pure functions: the same numbers as the module, and no second compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gatjax import GAT, GATConv, build_graph
from gatjax.training import (
    Labels,
    Training,
    advance,
    functional,
    node_classification,
    softmax_cross_entropy,
    start,
    train,
)

RANDOM = np.random.default_rng(0)
GRAPH = build_graph(
    *RANDOM.integers(11, size=(2, 41)), RANDOM.normal(size=(11, 5)).astype(np.float32)
)
LABELS = Labels(*(np.array(ids, np.int32) for ids in ([0, 3, 7], [2, 0, 1], [1, 4], [1, 1])))
KEY = jax.random.key(3)


def build(rngs):
    return GAT(5, 3, hidden_features=8, num_heads=2, dropout_rate=0.5, rngs=rngs)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_parameters_are_those_of_a_module_built_with_the_key():
    initialise, _ = functional(build)
    assert_equal(initialise(KEY), nnx.state(build(nnx.Rngs(KEY)), nnx.Param))
    kernels = [initialise(jax.random.key(seed)) for seed in (0, 1)]
    assert any(map(np.any, jax.tree.leaves(jax.tree.map(jnp.subtract, *kernels))))


def test_a_call_is_that_of_the_module():
    """Deterministic without a key, with dropout by the key; under jit as well."""
    initialise, apply = functional(build)
    module, parameters = build(nnx.Rngs(KEY)), initialise(KEY)
    dropped = module(GRAPH, deterministic=False, rngs=nnx.Rngs(dropout=jax.random.key(5))).nodes
    kept = module(GRAPH, deterministic=True).nodes
    np.testing.assert_array_equal(apply(parameters, GRAPH).nodes, kept)
    np.testing.assert_array_equal(apply(parameters, GRAPH, key=jax.random.key(5)).nodes, dropped)
    assert np.abs(dropped - kept).max() > 0.01
    compiled = jax.jit(lambda parameters, key: apply(parameters, GRAPH, key=key).nodes)
    np.testing.assert_allclose(compiled(parameters, jax.random.key(5)), dropped, rtol=1e-5)


def test_options_reach_the_module():
    initialise, apply = functional(lambda rngs: GATConv(5, 4, rngs=rngs))
    parameters, mask = initialise(KEY), np.arange(41) % 2 == 0
    masked = apply(parameters, GRAPH, edge_mask=mask).nodes
    np.testing.assert_array_equal(
        masked, GATConv(5, 4, rngs=nnx.Rngs(KEY))(GRAPH, edge_mask=mask).nodes
    )
    assert np.abs(masked - apply(parameters, GRAPH).nodes).max() > 0.01


def test_a_module_without_dropout_takes_no_notice_of_the_key():
    initialise, apply = functional(lambda rngs: nnx.Linear(5, 4, rngs=rngs))
    parameters, x = initialise(KEY), jnp.ones((2, 5))
    np.testing.assert_array_equal(apply(parameters, x), apply(parameters, x, key=KEY))


class Normalised(nnx.Module):
    """With averages that a call changes, and a random stream of its own."""

    def __init__(self, *, rngs):
        self.linear = nnx.Linear(5, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


def test_what_is_no_parameter_is_constant():
    initialise, apply = functional(lambda rngs: Normalised(rngs=rngs))
    parameters, x = initialise(KEY), jnp.asarray(RANDOM.normal(size=(7, 5)), jnp.float32)
    assert sum(leaf.size for leaf in jax.tree.leaves(parameters)) == 5 * 4 + 4 + 4 + 4
    first = apply(parameters, x)
    assert (first == 0).any(), "it drops"
    np.testing.assert_array_equal(apply(parameters, x), first)
    gradient = jax.grad(lambda parameters: apply(parameters, x).sum())(parameters)
    assert jax.tree.structure(gradient) == jax.tree.structure(parameters)


def test_classification_by_its_parts():
    initialise, loss, validate, logits = node_classification(build)
    module, parameters = build(nnx.Rngs(KEY)), initialise(KEY)
    kept = module(GRAPH, deterministic=True).nodes
    dropped = module(GRAPH, rngs=nnx.Rngs(dropout=jax.random.key(5))).nodes
    np.testing.assert_array_equal(logits(parameters, GRAPH), kept)
    np.testing.assert_array_equal(logits(parameters, GRAPH, jax.random.key(5)), dropped)
    assert validate(parameters, GRAPH, LABELS) == softmax_cross_entropy(kept, *LABELS[2:])
    expected = softmax_cross_entropy(dropped, *LABELS[:2]).loss
    assert loss(parameters, jax.random.key(5), GRAPH, LABELS) == expected


def training_of(build, optimizer):
    initialise, loss, validate, _ = node_classification(build)
    return Training(initialise, loss, validate, optimizer, max_epochs=4, epochs_per_dispatch=2)


def test_functions_of_one_module_are_equal():
    one, other = node_classification(build), node_classification(build)
    assert one == other and hash(one) == hash(other)
    assert len(set(one)) == len(set(functional(build))) + 2 == 4
    assert functional(build) == functional(build) != functional(lambda rngs: build(rngs))
    assert functional(build).initialise == one.initialise != functional(build).apply


def test_an_equal_training_compiles_nothing():
    calls = []

    class Counted(GATConv):
        def __call__(self, *inputs, **options):
            calls.append(None)
            return super().__call__(*inputs, **options)

    def build(rngs):
        return Counted(5, 3, rngs=rngs)

    optimizer = optax.adam(0.01)
    first = training_of(build, optimizer)
    state, _ = advance(first, start(first, 0), GRAPH, LABELS)
    traced = len(calls)
    assert traced > 0
    advance(first, state, GRAPH, LABELS)
    second = training_of(build, optimizer)
    advance(second, start(second, 1), GRAPH, LABELS)
    assert len(calls) == traced


@pytest.mark.parametrize("seeds_per_device", [1, 2])
def test_it_trains(seeds_per_device):
    training = training_of(build, optax.adam(0.01))
    found = train(
        training,
        [0, 1],
        GRAPH,
        lambda seed: LABELS,
        seeds_per_device=seeds_per_device,
        devices=jax.devices()[:1],
        progress=False,
    )
    assert {trained.seed: trained.epochs for trained in found} == {0: 4, 1: 4}
