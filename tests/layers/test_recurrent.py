"""Graph gated recurrent units against plain loops, Flax's own recurrence, and what they are for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, normal, rejects

from gatjax import (
    DropoutRates,
    GaANConv,
    GATConv,
    GCNConv,
    GGRUCell,
    MeanConv,
    NodeLinear,
    build_graph,
    disjoint_copies,
    gated_update,
    over_time,
)

N, F, C, T, B = 5, 2, 3, 3, 2
SENDERS, RECEIVERS = [0, 1, 2, 2, 3, 4, 1], [1, 1, 1, 0, 2, 2, 3]
AGGREGATORS = {
    "GaAN": partial(GaANConv, num_heads=2, key_features=2, value_features=3, gate_features=2),
    "GAT": partial(GATConv, num_heads=3),
    "mean": MeanConv,
    "GCN": GCNConv,
    "none": NodeLinear,
}


def graph():
    return build_graph(SENDERS, RECEIVERS, num_nodes=N)


def cell(name="GaAN", **options):
    return GGRUCell(F, C, aggregator=AGGREGATORS[name], rngs=nnx.Rngs(7), **options)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(mean_cell, signals):
    """The states of every step with the mean as aggregator, edge by edge in float64."""
    of = {
        side: (
            np.asarray(layer.projection.kernel[...], np.float64)[:, 0],
            np.asarray(layer.output.bias[...], np.float64),
        )
        for side, layer in (("x", mean_cell.of_input), ("h", mean_cell.of_state))
    }
    hidden, states = np.zeros((N, C)), []
    for x in np.asarray(signals, np.float64):
        after = np.zeros((N, C))
        for i in range(N):
            sent = [k for k in range(len(SENDERS)) if RECEIVERS[k] == i]
            gates = {}
            for side, rows in (("x", x), ("h", hidden)):
                kernel, bias = of[side]
                mean = sum(rows[SENDERS[k]] @ kernel for k in sent) / max(len(sent), 1)
                gates[side] = np.split(mean + bias, 3)
            update = sigmoid(gates["x"][0] + gates["h"][0])
            reset = sigmoid(gates["x"][1] + gates["h"][1])
            candidate = np.tanh(gates["x"][2] + reset * gates["h"][2])
            after[i] = (1 - update) * candidate + update * hidden[i]
        hidden = after
        states.append(hidden)
    return np.stack(states)


def test_three_steps_are_those_of_a_loop():
    with jax.enable_x64(True):
        module = cell("mean", param_dtype=jnp.float64)
        signals = normal(T, N, F)
        hidden = over_time(module, signals, module.initialize_carry(graph()))[1]
        np.testing.assert_allclose(hidden, by_hand(module, signals), atol=1e-12)
        counts = np.round(3 * signals)
        hidden = over_time(module, counts.astype(int), module.initialize_carry(graph()))[1]
        np.testing.assert_allclose(hidden, by_hand(module, counts), atol=1e-12)


@pytest.mark.slow
def test_the_aggregator_sees_inputs_and_states_of_receivers_and_states_of_senders():
    """GaAN's cell from its layers, called one by one."""
    module, x, hidden = cell(), normal(N, F), normal(N, C, seed=1)
    carry = module.initialize_carry(graph())._replace(hidden=hidden)
    of_input = module.of_input(graph()._replace(nodes=x)).nodes
    both = jnp.concatenate([x, hidden], axis=1)
    of_state = module.of_state(graph()._replace(nodes=both), senders=hidden).nodes
    assert_close(module(carry, x)[1], gated_update(of_input, of_state, hidden))


def test_gates_worked_by_hand():
    """u = 3/4 and r = 1/2: H' = 1/4 tanh(1 + 1/2 · 2) + 3/4 · 8."""
    of_input = jnp.array([[jnp.log(3.0), 0.0, 1.0]])
    of_state, hidden = jnp.array([[0.0, 0.0, 2.0]]), jnp.array([[8.0]])
    expected = np.tanh(2.0) / 4 + 6
    np.testing.assert_allclose(gated_update(of_input, of_state, hidden), [[expected]], rtol=1e-6)
    relu = gated_update(of_input, of_state, hidden, activation=jax.nn.relu)
    np.testing.assert_allclose(relu, [[6.5]], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGGREGATORS)
def test_over_time_is_the_recurrence_of_flax(name):
    module, signals = cell(name), normal(B, T, N, F)
    carry = module.initialize_carry(graph(), batch_size=B)
    ours = lambda module, signals: over_time(module, signals, carry)[1]
    theirs = lambda module, signals: nnx.RNN(module)(signals, initial_carry=carry)
    assert_close(ours(module, signals), theirs(module, signals))

    def gradient(run):
        loss = lambda module, signals: (run(module, signals) ** 2).sum()
        of_module, of_signals = nnx.grad(loss, argnums=(0, 1))(module, signals)
        return nnx.to_pure_dict(of_module), of_signals

    assert_close(gradient(ours), gradient(theirs))


@pytest.mark.slow
def test_a_batch_is_disjoint_copies_and_each_signal_alone():
    module, signals = cell(), normal(B, T, N, F)
    carry = module.initialize_carry(graph(), batch_size=B)
    together = over_time(module, signals, carry)[1]
    alone = [over_time(module, one, module.initialize_carry(graph()))[1] for one in signals]
    assert_close(together, jnp.stack(alone))
    copies = module.initialize_carry(disjoint_copies(graph(), B))
    flat = jnp.moveaxis(signals, 1, 0).reshape(T, B * N, F)
    beside = over_time(module, flat, copies)[1].reshape(T, B, N, C)
    assert_close(together, jnp.moveaxis(beside, 0, 1))


def test_copies_lose_no_edge_and_gain_none():
    """An id out of range stays so, where N more would name a node of the next copy."""
    odd = graph()._replace(senders=np.array([0, N, 2, 2, -1, 4, 1]), edges=normal(7, 1))
    twice = jax.jit(disjoint_copies, static_argnums=1)(odd._replace(nodes=jnp.zeros((N, 0))), 2)
    assert twice.senders.tolist() == [0, -1, 2, 2, -1, 4, 1, 5, -1, 7, 7, -1, 9, 6]
    assert twice.receivers.tolist() == RECEIVERS + [i + N for i in RECEIVERS]
    assert twice.n_node.tolist() == [N, N] and twice.edges.shape == (14, 1)
    with rejects(ValueError, "count = 0 must be at least 1"):
        disjoint_copies(graph(), 0)


@pytest.mark.slow
def test_nothing_later_reaches_a_state():
    """The gradient of a step's state is exactly zero in all later inputs."""
    module, signals = cell(), normal(T, N, F)
    states = lambda signals: over_time(module, signals, module.initialize_carry(graph()))[1]
    jacobian = jax.jacobian(lambda signals: states(signals).sum((1, 2)))(signals)
    reached = (jacobian != 0).any(axis=(2, 3))
    assert reached.tolist() == np.tri(T, dtype=bool).tolist()


@pytest.mark.slow
def test_permuted_nodes_permute_the_states():
    module, signals = cell(), normal(T, N, F)
    order = np.array([3, 0, 4, 1, 2])
    place = np.argsort(order)
    moved = build_graph(place[SENDERS], place[RECEIVERS], num_nodes=N)
    states = over_time(module, signals, module.initialize_carry(graph()))[1]
    permuted = over_time(module, signals[:, order], module.initialize_carry(moved))[1]
    assert_close(permuted, states[:, order])


@pytest.mark.slow
def test_states_stay_within_the_candidates():
    """A state is a mean of candidates in (-1, 1) and of 0; a constant signal brings it to rest."""
    module = cell()
    signals = jnp.ones((300, N, F)) * 2.0
    states = over_time(module, signals, module.initialize_carry(graph()))[1]
    assert (jnp.abs(states) < 1).all()
    np.testing.assert_allclose(states[-1], states[-2], atol=1e-5)


@pytest.mark.slow
def test_one_node_no_edges_and_masks():
    for name in ("GaAN", "none"):
        module = cell(name)
        lonely = build_graph([], [], num_nodes=1)
        states = over_time(module, normal(T, 1, F), module.initialize_carry(lonely))[1]
        assert states.shape == (T, 1, C) and jnp.isfinite(states).all()
    module, signals = cell(), normal(B, T, N, F)
    kept = np.array([True, True, True, True, False])
    hole = signals.at[:, :, 4].set(jnp.nan)
    masked = module.initialize_carry(graph(), batch_size=B, node_mask=kept)
    out = over_time(module, hole, masked)[1][:, :, :4]
    edges = np.array([s != 4 and r != 4 for s, r in zip(SENDERS, RECEIVERS, strict=True)])
    fewer = build_graph(np.array(SENDERS)[edges], np.array(RECEIVERS)[edges], num_nodes=4)
    assert_close(
        out, over_time(module, signals[:, :, :4], module.initialize_carry(fewer, batch_size=B))[1]
    )


@pytest.mark.slow
def test_weights_of_edges_act_in_every_copy():
    module, signals = cell("GCN"), normal(B, T, N, F)
    weight = jnp.array([1.0, 0.0, 2.0, 1.0, 0.5, 1.0, 3.0])
    weighed = module.initialize_carry(graph(), batch_size=B, edge_weight=weight)
    states = over_time(module, signals, weighed)[1]
    alone = module.initialize_carry(graph(), edge_weight=weight)
    assert_close(states[1], over_time(module, signals[1], alone)[1])
    without = np.delete(np.arange(7), 1)
    fewer = build_graph(np.array(SENDERS)[without], np.array(RECEIVERS)[without], num_nodes=N)
    alone = module.initialize_carry(fewer, edge_weight=weight[without])
    assert_close(states[1], over_time(module, signals[1], alone)[1])


@pytest.mark.slow
def test_every_step_drops_anew():
    module = GGRUCell(
        F, C, aggregator=GATConv, dropout_rate=DropoutRates(inputs=0.5), rngs=nnx.Rngs(0)
    )
    signals = jnp.ones((T, N, F))
    carry = module.initialize_carry(graph())
    run = lambda **how: over_time(module, signals, carry, **how)[1]
    first = run(rngs=nnx.Rngs(dropout=1))
    assert_close(first, run(rngs=nnx.Rngs(dropout=1)))
    assert not np.allclose(first, run(rngs=nnx.Rngs(dropout=2)))
    assert not np.allclose(run(), run())
    assert_close(run(deterministic=True), run(deterministic=True))


@pytest.mark.slow
def test_bad_input_is_named():
    with rejects(ValueError, "hidden_features must be at least 1, got 0"):
        GGRUCell(F, 0, rngs=nnx.Rngs(0))
    module = cell("mean")
    with rejects(TypeError, "with nnx.RNN, pass initial_carry=cell.initialize_carry(graph, ...)"):
        nnx.RNN(module)(jnp.ones((B, T, N, F)))
    with rejects(TypeError, "initialize_carry has no weights: it takes edge_mask, edge_weight"):
        module.initialize_carry(graph(), weights=np.ones(7))
    with rejects(ValueError, "batch_size = 0 must be at least 1"):
        module.initialize_carry(graph(), batch_size=0)
    with rejects(ValueError, "edge_weight"):
        module.initialize_carry(graph(), edge_weight=np.ones(3))
    carry = module.initialize_carry(graph())
    with rejects(ValueError, "inputs must end in [N, F] = [5, 2], got shape [5, 3]"):
        module(carry, jnp.ones((N, 3)))
    with rejects(ValueError, "initialize_carry(graph, batch_size=B) makes a state for B signals"):
        module(carry, jnp.ones((B, N, F)))
    with rejects(ValueError, "signals must be [T, N, F] or [B, T, N, F], got [5, 2]"):
        over_time(module, jnp.ones((N, F)), carry)
