"""Modules as pure functions: the same numbers as the module, and no second compilation."""

import functools
from typing import TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import rejects

from gatjax import GAT, DropoutRates, GATConv, MeanConv, build_graph, load_model, save_model
from gatjax.training import (
    Checkpoints,
    Labels,
    Metrics,
    Training,
    Variables,
    advance,
    functional,
    functional_with_statistics,
    last_epoch,
    lowest_loss,
    node_classification,
    node_prediction,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_error,
    start,
    train,
    weighted_softmax_cross_entropy,
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


@pytest.mark.slow
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
        self.norm = nnx.BatchNorm(4, momentum=0.5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.linear(x)))


X = jnp.asarray(RANDOM.normal(size=(7, 5)), jnp.float32)


def test_a_module_that_keeps_its_own_modes_is_switched_by_the_key():
    initialise, apply = functional(lambda rngs: Normalised(rngs=rngs))
    variables = initialise(KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.parameters)) == 5 * 4 + 4 + 4 + 4
    module = Normalised(rngs=nnx.Rngs(KEY))
    module.eval()
    np.testing.assert_array_equal(apply(variables, X), module(X))
    one, again, other = (apply(variables, X, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert (one == 0).any(), "it drops"
    np.testing.assert_array_equal(one, again)
    assert ((one == 0) != (other == 0)).any(), "each key by its own mask"


def test_statistics_are_handed_back_by_a_call_in_training_alone():
    """With momentum 1/2 a mean of 0 goes half the way to that of the batch, and a variance of 1 likewise."""
    initialise, apply = functional_with_statistics(lambda rngs: Normalised(rngs=rngs))
    variables = initialise(KEY)
    rows = np.asarray(X, np.float64) @ np.asarray(variables.parameters["linear"]["kernel"][...])
    _, after = apply(variables, X, key=KEY)
    np.testing.assert_allclose(after["norm"]["mean"][...], rows.mean(0) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after["norm"]["var"][...], (1 + rows.var(0)) / 2, rtol=1e-5)
    _, untouched = apply(variables, X)
    assert_equal(untouched, variables.statistics)
    assert set(jax.tree.leaves(functional_with_statistics(build).initialise(KEY)[1])) == set()


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


@pytest.mark.parametrize("seeds_per_device", [1, pytest.param(2, marks=pytest.mark.slow)])
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


# Running statistics through training.


def build_normalised(rngs):
    norm = functools.partial(nnx.BatchNorm, momentum=0.8)
    return GAT(5, 3, hidden_features=8, num_heads=2, dropout_rate=0.5, norm=norm, rngs=rngs)


def norm_training(**settings):
    initialise, loss, validate, _ = node_classification(build_normalised)
    settings = {"rule": last_epoch, "max_epochs": 7, "epochs_per_dispatch": 3} | settings
    # Not Adam, which makes steps of the rounding where a norm undoes a bias, whose gradient is 0.
    return Training(initialise, loss, validate, optax.sgd(0.1), **settings)


def train_one(training, **options):
    options |= {"devices": jax.devices()[:1], "progress": False}
    (trained,) = train(training, [0], GRAPH, lambda seed: LABELS, **options)
    return trained


def test_training_carries_statistics_as_a_loop_of_modules_does():
    """The same keys in a loop of `nnx.Optimizer` and a module whose averages move by themselves."""
    trained = train_one(norm_training())
    for_parameters, for_steps = jax.random.split(jax.random.key(0))
    model = build_normalised(nnx.Rngs(for_parameters))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, key):
        def loss(model):
            logits = model(GRAPH, deterministic=False, rngs=nnx.Rngs(dropout=key)).nodes
            return softmax_cross_entropy(logits, *LABELS[:2]).loss

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    losses = [step(model, optimizer, jax.random.fold_in(for_steps, epoch)) for epoch in range(7)]
    np.testing.assert_allclose(trained.history.train_loss, losses, rtol=1e-4)
    close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    jax.tree.map(close, trained.parameters, Variables(*nnx.state(model, nnx.Param, nnx.BatchStat)))
    assert np.abs(trained.parameters.statistics["norms"][0]["mean"][...]).max() > 0.01, "they move"
    metrics = softmax_cross_entropy(model(GRAPH, deterministic=True).nodes, *LABELS[2:])
    np.testing.assert_allclose(trained.history.validation_loss[-1], metrics.loss, rtol=1e-4)


def test_statistics_are_kept_with_the_best_parameters_saved_and_resumed(tmp_path):
    """Validation by a script that is best at epoch 2: both are of that epoch; a killed run ends with the same bits."""

    def validate(variables, graph, labels):
        return Metrics(count(variables), -count(variables))

    def count(variables):
        """How far from two steps the average is."""
        return jnp.abs(variables.statistics["steps"][...] - 2)

    class Counted(GATConv):
        def __init__(self, *, rngs):
            super().__init__(5, 3, rngs=rngs)
            self.steps = nnx.BatchStat(jnp.float32(0))

        def __call__(self, *inputs, deterministic=None, **options):
            self.steps[...] += jnp.float32(not deterministic)
            return super().__call__(*inputs, deterministic=deterministic, **options)

    pure = node_classification(lambda rngs: Counted(rngs=rngs))
    training = norm_training(rule=lowest_loss, epochs_per_dispatch=1)
    training = training._replace(initialise=pure.initialise, loss=pure.loss, validate=validate)
    whole = train_one(training)
    assert (whole.best_epoch, float(whole.parameters.statistics["steps"][...])) == (2, 2)
    two = train_one(training._replace(max_epochs=2))
    assert_equal(whole.parameters, two.parameters)

    class Dying(Checkpoints):
        def is_due(self, name):
            return True

        def save(self, name, step, *rest):
            super().save(name, step, *rest)
            if step == 4:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        train_one(training, checkpoints=Dying(tmp_path, {}))
    resumed = train_one(training, checkpoints=Checkpoints(tmp_path, {}))
    assert_equal(jax.tree.leaves(resumed[1:]), jax.tree.leaves(whole[1:]))


@pytest.mark.slow
def test_a_trained_model_with_statistics_is_saved(tmp_path):
    arguments = {"in_features": 5, "out_features": 3, "norm": nnx.BatchNorm, "num_heads": 2}
    pure = node_classification(lambda rngs: GAT(**arguments, rngs=rngs))
    variables = pure.initialise(KEY)
    _, statistics = pure.loss(variables, KEY, GRAPH, LABELS)
    variables = variables._replace(statistics=statistics)
    save_model(tmp_path / "model", "GAT", arguments, variables)
    loaded = load_model(tmp_path / "model")
    np.testing.assert_array_equal(loaded(GRAPH).nodes, pure.logits(variables, GRAPH))


# Other targets than one class per node.

NUMBERS = RANDOM.normal(size=(11, 3)).astype(np.float32)
NUMBERS[3, 1] = NUMBERS[7] = np.nan
WEIGHTS = np.array([0.5, 1.0, 2.0], np.float32)


def build_linear(rngs):
    return MeanConv(5, 3, dropout_rate=DropoutRates(inputs=0.5), rngs=rngs)


@pytest.mark.parametrize(
    ("metrics", "targets"),
    [
        (squared_error, NUMBERS),
        (sigmoid_cross_entropy, np.where(np.isnan(NUMBERS), np.nan, NUMBERS > 0)),
        (functools.partial(weighted_softmax_cross_entropy, weights=WEIGHTS), np.arange(11) % 3),
    ],
    ids=["numbers", "labels", "weighted"],
)
def test_predictions_by_their_parts(metrics, targets):
    pure = node_prediction(build_linear, metrics)
    nodes, held_out = np.array([0, 3, 7]), np.array([1, 4])
    labels = Labels(nodes, targets[nodes], held_out, targets[held_out])
    parameters = pure.initialise(KEY)
    kept, dropped = pure.outputs(parameters, GRAPH), pure.outputs(parameters, GRAPH, KEY)
    assert pure.validate(parameters, GRAPH, labels) == metrics(kept, held_out, targets[held_out])
    found = pure.loss(parameters, KEY, GRAPH, labels)
    assert found == metrics(dropped, nodes, targets[nodes]).loss != metrics(kept, *labels[:2]).loss


def test_functions_of_equal_losses_are_equal():
    weighted = lambda weights: node_prediction(
        build, functools.partial(weighted_softmax_cross_entropy, weights=weights)
    )
    one, other = weighted(WEIGHTS), weighted(jnp.array(WEIGHTS))
    assert one == other and hash(one) == hash(other)
    assert one.loss != weighted(2 * WEIGHTS).loss and weighted([1, 2, 3]) == weighted([1, 2, 3])
    assert one.loss != node_classification(build).loss and one.outputs == other.outputs
    assert node_prediction(build, softmax_cross_entropy).loss == node_classification(build).loss


@pytest.mark.parametrize(
    ("metrics", "change", "message"),
    [
        (softmax_cross_entropy, {"train_labels": np.array([2, 0, 3])}, "labels[2] = 3"),
        (softmax_cross_entropy, {"validation_nodes": np.array([1, 11])}, "nodes[1] = 11"),
        (sigmoid_cross_entropy, {"train_labels": np.full((3, 3), 2.0)}, "labels[0, 0] = 2.0"),
        (squared_error, {"train_labels": np.full((3, 3), np.nan)}, "no node with a label"),
        (squared_error, {"validation_labels": np.full((2, 3), np.nan)}, "by which to stop"),
    ],
)
def test_labels_that_do_not_exist_are_refused_before_training(metrics, change, message):
    """Inside `jit` they would be left out without a word."""
    good = LABELS
    if metrics is not softmax_cross_entropy:
        good = Labels(LABELS[0], np.ones((3, 3)), LABELS[2], np.ones((2, 3)))
    pure = node_prediction(build_linear, metrics)
    training = Training(*pure[:3], optax.adam(0.01), max_epochs=1)
    with rejects(ValueError, message):
        list(train(training, [0], GRAPH, lambda seed: good._replace(**change), progress=False))


def test_a_model_in_place_of_its_function_is_refused():
    for pure in (functional, node_classification):
        with rejects(
            TypeError, "got a Linear: pass one, such as lambda rngs: GAT(4, 3, rngs=rngs)"
        ):
            pure(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))


@pytest.mark.usefixtures("unchecked")
def test_labels_may_be_lists_but_no_masks_or_names():
    pure = node_classification(build_linear)
    training = Training(*pure[:3], optax.adam(0.01), max_epochs=1)
    run = lambda labels: next(train(training, [0], GRAPH, lambda seed: labels, progress=False))
    assert run(Labels(*(np.asarray(part).tolist() for part in LABELS))).epochs == 1
    names = np.array(["a", "b", "c"])
    with rejects(
        TypeError, "train_labels of seed 0 must be numbers, got <U1: number those of all nodes"
    ):
        run(LABELS._replace(train_labels=names))
    with rejects(ValueError, "of a mask, train_nodes are np.flatnonzero(mask)"):
        run(LABELS._replace(train_nodes=np.arange(11) < 3, train_labels=np.zeros(11, int)))
    _, numbers = np.unique(names, return_inverse=True)
    assert run(LABELS._replace(train_labels=numbers)).epochs == 1


def test_only_listed_options_reach_a_module_whose_options_are_listed_by_type():
    class Options(TypedDict, total=False):
        scale: float

    class Scaled(nnx.Module):
        def __call__(self, x, **options: Unpack[Options]):
            return x * options.get("scale", 1.0) * (len(options) < 2)

    pure = functional(lambda rngs: Scaled())
    assert pure.apply(pure.initialise(jax.random.key(0)), 3.0, scale=2.0) == 6.0
