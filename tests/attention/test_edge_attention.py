"""edge_attention: the direct formula against plain loops and dense softmax, blocks against the direct formula,
edges that must not count, half precision, memory, tracing, lowering, and bad input.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from helpers import both_precisions, steps_of
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from reference import EXTREME_LOGITS

from gatjax.attention import (
    additive_score,
    attention_logits,
    attention_weights,
    dot_product_score,
    dynamic_score,
    edge_attention,
    weighted_sum,
)
from gatjax.graph import build_graph
from gatjax.ops import DropoutMask, sum_features
from gatjax.ops.blocks import choose_block_size

N, M, E, H, C, RELATIONS = 11, 13, 35, 2, 3, 5
BLOCK = 8
tolerance = both_precisions(float32=1e-5, float64=1e-10)

tolerance = both_precisions(float32=1e-5, float64=1e-10)

# Compiling dominates these tests, and code that runs once need not be fast.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


# The mechanisms: each is made from captured arrays, so that closures are tested throughout.


class Arrays(NamedTuple):
    """Everything that can have a gradient, and integer leaves that cannot."""

    captured: Any
    weights: Any
    receivers: Any
    senders: Any
    edges: Any
    multiplier: Any


class Ends(NamedTuple):
    senders: Any
    receivers: Any
    mask: Any


def gat(captured):
    score = lambda w, r, s, e: additive_score(r, s["term"], e)
    return score, lambda w, r, s, e: s["value"] + captured[None]


def gatv2(captured):
    """With the edge in logits and values."""
    score = lambda w, r, s, e: dynamic_score(r, s, w + captured, e["row"])
    return score, lambda w, r, s, e: s + e["row"]


def dot_product(captured):
    score = lambda w, r, s, e: dot_product_score(r, s["key"]) * captured[None, :, 0]
    return score, lambda w, r, s, e: s["value"]


def relational(captured):
    """A mechanism of one's own: a relation per edge, an integer among the edge's features."""

    def score(w, r, s, e):
        return jnp.tanh(sum_features(r * s["key"] * captured[None])) + w["relation"][e["id"]]

    def value(w, r, s, e):
        return w["gate"][None] * s["value"] * e["x"][:, :, None] + r * captured[None]

    return score, value


MECHANISMS = {"GAT": gat, "GATv2": gatv2, "dot product": dot_product, "custom": relational}
every_mechanism = pytest.mark.parametrize("name", MECHANISMS)
both_paths = pytest.mark.parametrize("block_size", [None, BLOCK], ids=["plain", "blocked"])


def random_arrays(name, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.result_type(float))
    relations = jnp.asarray(rng.integers(0, RELATIONS, E), jnp.int32)
    weights, receivers, senders, edges = {
        "GAT": lambda: (None, draw(N, H), {"term": draw(M, H), "value": draw(M, H, C)}, draw(E, H)),
        "GATv2": lambda: (draw(H, C), draw(N, H, C), draw(M, H, C), {"row": draw(E, H, C)}),
        "dot product": lambda: (
            None,
            draw(N, H, C),
            {"key": draw(M, H, C), "value": draw(M, H, C)},
            None,
        ),
        "custom": lambda: (
            {"relation": draw(RELATIONS, H), "gate": draw(H, C)},
            draw(N, H, C),
            {"none": None, "key": draw(M, H, C), "value": draw(M, H, C)},
            {"absent": None, "id": relations, "missing": None, "x": draw(E, H)},
        ),
    }[name]()
    return Arrays(draw(H, C), weights, receivers, senders, edges, draw(E, H))


def random_ends(seed=0):
    """A hub, duplicates, an isolated receiver, masked edges, and edges with one bad end."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(0, M, E), rng.integers(0, N - 1, E)
    receivers[: E // 3] = 4
    senders[1], receivers[1] = senders[0], receivers[0]
    senders[5], receivers[17], senders[29] = M, -1, -2
    mask = rng.random(E) < 0.8
    return Ends(*(jnp.asarray(x, jnp.int32) for x in (senders, receivers)), jnp.asarray(mask))


def counted(ends):
    s, r, mask = (np.asarray(x) for x in ends)
    return mask & (s >= 0) & (s < M) & (r >= 0) & (r < N)


def reorder(arrays, ends, order):
    take = partial(jax.tree.map, lambda x: x[order])
    arrays = arrays._replace(edges=take(arrays.edges), multiplier=take(arrays.multiplier))
    return arrays, take(ends)


def attend(name, arrays, ends, block_size):
    score, value = MECHANISMS[name](arrays.captured)
    return edge_attention(
        score,
        value,
        *arrays[1:5],
        ends.senders,
        ends.receivers,
        N,
        edge_mask=ends.mask,
        multiplier=arrays.multiplier,
        block_size=block_size,
    )


def pull_back(function, arrays):
    """Value, and gradients along a direction given by it, of all leaves that have one."""
    out, vjp = jax.vjp(function, arrays)
    has_gradient = lambda g: None if g.dtype == jax.dtypes.float0 else g
    return out, jax.tree.map(has_gradient, vjp(jnp.cos(3 * out))[0])


def _value_and_gradients(name, arrays, ends, block_size):
    return pull_back(lambda arrays: attend(name, arrays, ends, block_size), arrays)


value_and_gradients = jax.jit(_value_and_gradients, static_argnames=("name", "block_size"))


def assert_close(actual, expected, tolerance, smallest_scale=0.0):
    """Relative error of every leaf, by its largest entry."""
    paths, structure = jax.tree.flatten_with_path(expected)
    assert jax.tree.structure(actual) == structure
    for (path, b), a in zip(paths, jax.tree.leaves(actual), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, path
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.isfinite(b).all(), path
        error = np.abs(a - b).max(initial=0)
        scale = max(np.abs(b).max(initial=0), smallest_scale)
        assert error <= tolerance * scale, f"{jax.tree_util.keystr(path)}: {error} of {scale}"


# The direct formula.


def loops(name, arrays, ends):
    """The same in plain loops."""
    captured, w, r, s, e, multiplier = jax.tree.map(np.asarray, arrays)
    logit, value = {
        "GAT": (
            lambda i, j, k: reference.leaky_relu(r[i] + s["term"][j] + e[k]),
            lambda i, j, k: s["value"][j] + captured,
        ),
        "GATv2": (
            lambda i, j, k: reference.gatv2_logit(r[i], s[j], w + captured, e["row"][k]),
            lambda i, j, k: s[j] + e["row"][k],
        ),
        "dot product": (
            lambda i, j, k: reference.dot_logit(r[i], s["key"][j]) * captured[:, 0],
            lambda i, j, k: s["value"][j],
        ),
        "custom": (
            lambda i, j, k: (
                np.tanh((r[i] * s["key"][j] * captured).sum(-1)) + w["relation"][e["id"][k]]
            ),
            lambda i, j, k: w["gate"] * s["value"][j] * e["x"][k][:, None] + r[i] * captured,
        ),
    }[name]
    return in_loops(logit, value, ends, multiplier=multiplier)


def in_loops(logit, value, ends, **options):
    senders, receivers, mask = (np.asarray(x) for x in ends)
    return reference.edge_attention(
        logit, value, senders, receivers, (N, H, C), M, mask=mask, **options
    )[0]


@partial(jax.jit, static_argnames="name")
def dense(name, arrays, ends):
    """With softmax over all edges, of which `belongs` [N, E] says which one enters which node."""
    belongs = (ends.receivers[None, :] == jnp.arange(N)[:, None])[:, :, None]
    take = lambda tree, ids: jax.tree.map(lambda x: x[ids], tree)

    def function(arrays):
        score, value = MECHANISMS[name](arrays.captured)
        r, s = take(arrays.receivers, ends.receivers), take(arrays.senders, ends.senders)
        row = arrays.weights, r, s, arrays.edges
        alpha = jax.nn.softmax(jnp.where(belongs, score(*row)[None], -1e30), axis=1)
        alpha = jnp.where(belongs, alpha, 0)
        return jnp.einsum("neh,eh,ehc->nhc", alpha, arrays.multiplier, value(*row))

    return pull_back(function, arrays)


@every_mechanism
def test_plain_equals_loops_and_dense_softmax(name, x64):
    """Values against loops; values and gradients against the dense formula on the edges that count."""
    arrays, ends = random_arrays(name), random_ends()
    out, gradients = value_and_gradients(name, arrays, ends, None)
    np.testing.assert_allclose(out, loops(name, arrays, ends), atol=1e-12)
    kept = np.flatnonzero(counted(ends))
    assert 0 < len(kept) < E - 3
    expected, (*nodes, edges, multiplier) = dense(name, *reorder(arrays, ends, kept))
    spread = partial(jax.tree.map, lambda g: jnp.zeros((E, *g.shape[1:])).at[kept].set(g))
    assert_close(out, expected, 1e-12)
    assert_close(gradients, Arrays(*nodes, spread(edges), spread(multiplier)), 1e-12)


def test_gradients_are_those_of_finite_differences(x64):
    arrays, ends = random_arrays("custom"), random_ends()
    leaves, structure = jax.tree.flatten(arrays)
    real = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]

    @jax.jit
    def function(*values):
        filled = leaves.copy()
        for i, x in zip(real, values, strict=True):
            filled[i] = x
        return attend("custom", jax.tree.unflatten(structure, filled), ends, None)

    modes = ["fwd", "rev"]
    check_grads(function, [leaves[i] for i in real], 1, modes=modes, atol=1e-6, rtol=1e-6)


# Blocks.

ORDERS = {
    "as given": lambda ends: np.arange(E),
    "by receiver": lambda ends: np.argsort(np.asarray(ends.receivers), kind="stable"),
    "by sender": lambda ends: np.argsort(np.asarray(ends.senders), kind="stable"),
    "backwards by receiver": lambda ends: np.argsort(-np.asarray(ends.receivers), kind="stable"),
}


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(order, id=name, marks=() if name == "as given" else pytest.mark.slow)
        for name, order in ORDERS.items()
    ],
)
@every_mechanism
def test_blocked_equals_plain_in_any_order(name, order, tolerance):
    """Values and every gradient; gradients of edges come in the order of the edges."""
    arrays, ends = random_arrays(name), random_ends()
    expected, (*nodes, edges, multiplier) = value_and_gradients(name, arrays, ends, None)
    order = order(ends)
    edges, multiplier = jax.tree.map(lambda x: x[order], (edges, multiplier))
    expected = expected, Arrays(*nodes, edges, multiplier)
    actual = value_and_gradients(name, *reorder(arrays, ends, order), BLOCK)
    assert_close(actual, expected, tolerance)


@pytest.mark.parametrize("block_size", [1, 5, 64])
def test_block_sizes(block_size, x64):
    """One edge, a divisor, and more than there are."""
    arrays, ends = random_arrays("custom"), random_ends()
    actual = value_and_gradients("custom", arrays, ends, block_size)
    assert_close(actual, value_and_gradients("custom", arrays, ends, None), 1e-10)


@pytest.mark.parametrize("features", [2, 16, 32])
def test_blocked_equals_plain_whether_or_not_features_fill_vectors(features, x64):
    """The gradient sums over features in two ways."""
    rng = np.random.default_rng(features)
    rows = [jnp.asarray(rng.normal(size=(size, H, features))) for size in (N, M)]
    ends = random_ends()
    score = lambda w, r, s, e: dot_product_score(r, s)
    value = lambda w, r, s, e: s

    def attend(block_size):
        run = lambda r, s: edge_attention(
            score, value, None, r, s, None, *ends[:2], N, block_size=block_size
        )
        return jax.jit(partial(pull_back, lambda rows: run(*rows)))(rows)

    assert_close(attend(BLOCK), attend(None), 1e-10)


@both_paths
def test_a_dropout_mask_is_the_multiplier_that_it_draws(block_size, x64):
    """Values and gradients."""
    arrays, ends = random_arrays("GATv2"), random_ends()
    mask = DropoutMask(jax.random.key(0), 0.4)

    def run(multiplier, block_size):
        attend_with = lambda part: attend(
            "GATv2", part._replace(multiplier=multiplier), ends, block_size
        )
        return jax.jit(partial(pull_back, attend_with))(arrays._replace(multiplier=None))

    rows = jax.jit(lambda mask: mask.rows(0, E, H))(mask)
    assert_close(run(mask, block_size), run(rows, None), 1e-10)


@both_paths
def test_without_multiplier_mask_or_receiver_rows(block_size, x64):
    """None stands for all ones, and for rows that a mechanism does not read."""
    arrays, ends = random_arrays("GAT"), random_ends()
    score = lambda w, r, s, e: additive_score(e, s["term"])
    _, value = gat(arrays.captured)
    run = lambda *rest: edge_attention(score, value, *rest, block_size=block_size)
    expected = in_loops(
        lambda i, j, k: reference.leaky_relu(
            np.asarray(arrays.edges[k] + arrays.senders["term"][j])
        ),
        lambda i, j, k: np.asarray(arrays.senders["value"][j] + arrays.captured),
        ends._replace(mask=jnp.ones(E, bool)),
    )
    out = jax.jit(lambda senders, edges: run(None, None, senders, edges, *ends[:2], N))
    np.testing.assert_allclose(out(arrays.senders, arrays.edges), expected, atol=1e-12)


def twice(arrays, ends, block_size):
    """Reverse over reverse."""

    def norm(arrays):
        grads = jax.grad(lambda a: (attend("GATv2", a, ends, block_size) ** 2).sum())(arrays)
        return sum((g**2).sum() for g in jax.tree.leaves(grads))

    return jax.grad(norm)(arrays)


def scanned(arrays, ends, block_size):
    """Four layers whose output becomes the next layer's receivers."""

    def run(arrays):
        def layer(rows, _):
            return attend("GATv2", arrays._replace(receivers=rows), ends, block_size), None

        return jax.lax.scan(layer, arrays.receivers, length=4)[0]

    return pull_back(run, arrays)


def rematerialised(arrays, ends, block_size):
    return pull_back(jax.checkpoint(lambda a: attend("GATv2", a, ends, block_size)), arrays)


def vmapped(axes):
    """Over three versions of the fields named; gradients of the others are summed."""

    def run(arrays, ends, block_size):
        versions = {
            name: jax.tree.map(lambda x: jnp.stack([x, 2 * x, -x]), getattr(arrays, name))
            for name in axes
        }
        in_axes = Arrays(*(0 if name in axes else None for name in Arrays._fields))
        many = jax.vmap(lambda a: attend("GATv2", a, ends, block_size), in_axes=(in_axes,))
        return pull_back(many, arrays._replace(**versions))

    return run


def pushed(arrays, ends, block_size):
    """Forward mode, along a direction that moves all that has a derivative."""
    points, tree = jax.tree.flatten(arrays)
    smooth = [jnp.issubdtype(jnp.result_type(x), jnp.inexact) for x in points]
    along = [
        jnp.cos(x) if yes else np.zeros(np.shape(x), jax.dtypes.float0)
        for x, yes in zip(points, smooth, strict=True)
    ]
    function = lambda *points: attend("GATv2", tree.unflatten(points), ends, block_size)
    return jax.jvp(function, tuple(points), tuple(along))


def forward_over_reverse(arrays, ends, block_size):
    """A product with the Hessian."""

    def gradient(rows):
        with_rows = lambda rows: attend("GATv2", arrays._replace(receivers=rows), ends, block_size)
        return jax.grad(lambda rows: (with_rows(rows) ** 3).sum())(rows)

    return jax.jvp(gradient, (arrays.receivers,), (jnp.cos(arrays.receivers),))


def pushed_in_a_batch(arrays, ends, block_size):
    """Columns of a Jacobian, and the derivative along them once more."""

    def function(multiplier):
        return attend("GATv2", arrays._replace(multiplier=multiplier), ends, block_size)

    directions = jnp.stack([jnp.cos(arrays.multiplier * k) for k in range(3)])
    push = lambda along: jax.jvp(function, (arrays.multiplier,), (along,))[1]
    return jax.vmap(push)(directions), jax.linearize(function, arrays.multiplier)[1](directions[1])


TRANSFORMS = {
    "jvp": pushed,
    "jvp of grad": forward_over_reverse,
    "vmap of jvp": pushed_in_a_batch,
    "grad of grad": twice,
    "scan": scanned,
    "checkpoint": rematerialised,
    "vmap over weights and what is captured": vmapped(["weights", "captured"]),
    "vmap over rows": vmapped(["receivers", "senders", "edges"]),
}


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(run, id=name, marks=() if name.startswith("jvp") else pytest.mark.slow)
        for name, run in TRANSFORMS.items()
    ],
)
def test_blocked_equals_plain_under_transformations(transform, x64):
    arrays, ends = random_arrays("GATv2"), random_ends()
    run = jax.jit(transform, static_argnums=2)
    assert_close(run(arrays, ends, BLOCK), run(arrays, ends, None), 1e-10)


@pytest.mark.parametrize(
    "transform", [twice, pytest.param(forward_over_reverse, marks=pytest.mark.slow)]
)
def test_second_derivatives_on_an_accelerator(transform, x64, monkeypatch):
    """Where the forward walk is one function that JAX leaves whole."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    arrays, ends = random_arrays("GATv2"), random_ends()
    blocked, plain = (transform(arrays, ends, size) for size in (BLOCK, None))
    assert_close(blocked, plain, 1e-10)


@pytest.mark.parametrize("order", ["grad of vmap", "vmap of grad"])
def test_captured_integers_and_booleans_that_are_traced(order, x64):
    """Say, each seed's choice of heads: neither is differentiable, both vary along the mapped axis."""
    arrays, ends = random_arrays("GATv2"), random_ends()
    choice, flag = jnp.array([0, 1, 1]), jnp.array([True, False, True])

    def loss(arrays, choice, flag, block_size):
        score, value = gatv2(arrays.captured)
        picky = lambda w, r, s, e: jnp.where(flag, score(w, r, s, e), 0) + s[:, choice, :1]
        rest = *arrays[1:5], *ends[:2], N
        return (edge_attention(picky, value, *rest, block_size=block_size) ** 2).sum()

    @partial(jax.jit, static_argnums=0)
    def run(block_size):
        one = lambda arrays, *mapped: loss(arrays, *mapped, block_size)
        if order == "vmap of grad":
            return jax.vmap(jax.grad(one), in_axes=(None, 0, 0))(arrays, choice, flag)
        return jax.grad(lambda a: jax.vmap(partial(one, a))(choice, flag).sum())(arrays)

    arrays = arrays._replace(multiplier=None)
    assert_close(run(BLOCK), run(None), 1e-10)


@jax.custom_vjp
def own_gradient(x):
    return jnp.sin(x)


own_gradient.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))


def test_a_score_with_a_gradient_of_its_own_has_it_in_blocks_too(x64):
    """And is refused in forward mode, in blocks and without, in the same words."""
    arrays, ends = random_arrays("dot product"), random_ends()
    dot, value = dot_product(arrays.captured)
    score = lambda w, r, s, e: own_gradient(dot(w, r, s, e))
    rest = arrays.senders, arrays.edges, *ends[:2], N
    gradients, messages = [], []
    for block_size in (None, BLOCK):
        run = partial(edge_attention, score, value, arrays.weights, block_size=block_size)
        function = lambda rows, run=run: run(rows, *rest)
        gradients.append(jax.jit(partial(pull_back, function))(arrays.receivers))
        with pytest.raises(TypeError, match="forward-mode") as error:
            jax.jvp(function, (arrays.receivers,), (arrays.receivers,))
        messages.append(str(error.value)[:60])
    assert_close(gradients[1], gradients[0], 1e-10)
    assert messages[0] == messages[1]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int32])
def test_values_that_are_whole_numbers_have_a_mean_that_is_none(dtype):
    """At once and in blocks alike."""
    ends = random_ends()
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 2, (M, H, C)).astype(dtype))
    ids = ends.senders, ends.receivers, N
    out = [
        edge_attention(
            lambda w, r, s, e: s.sum(-1, dtype=jnp.float32),
            lambda w, r, s, e: s,
            *(None, None, values, None, *ids),
            block_size=block_size,
        )
        for values in (rows, rows.astype(jnp.float32))
        for block_size in (None, BLOCK)
    ]
    assert {x.dtype for x in out} == {jnp.dtype(jnp.float32)}
    assert any(0 < x < 1 for x in np.ravel(out[0]))
    for other in out[1:]:
        assert_close(other, out[0], 1e-5)


def test_python_numbers_as_weights(x64):
    """A temperature or a scale is a weight like any other, and both paths take the same pytrees."""
    arrays, ends = random_arrays("dot product"), random_ends()
    score = lambda w, r, s, e: w["scale"] * dot_product_score(r, s["key"]) - w["shift"]
    _, value = dot_product(arrays.captured)

    def run(block_size):
        rest = arrays.senders, None, *ends[:2], N
        weights = {"scale": 0.5, "shift": 3}
        function = lambda rows: edge_attention(
            score, value, weights, rows, *rest, block_size=block_size
        )
        return jax.jit(partial(pull_back, function))(arrays.receivers)

    out, gradient = run(None)
    scaled = in_loops(
        lambda i, j, k: (
            0.5
            * reference.dot_logit(*map(np.asarray, (arrays.receivers[i], arrays.senders["key"][j])))
        ),
        lambda i, j, k: np.asarray(arrays.senders["value"][j]),
        ends._replace(mask=jnp.ones(E, bool)),
    )
    np.testing.assert_allclose(out, scaled, atol=1e-12)
    assert_close(run(BLOCK), (out, gradient), 1e-10)


@both_paths
def test_whole_number_logits(block_size, unchecked):
    """A score may count: hops between two nodes, say. Its softmax is not a whole number."""
    arrays, ends = random_arrays("custom"), random_ends()
    hops, values = arrays.edges["id"], arrays.senders["value"]
    score = lambda w, r, s, e: -jnp.stack([e, 2 * e], axis=1)
    value = lambda w, r, s, e: s
    run = lambda values: edge_attention(
        score, value, None, None, values, hops, *ends[:2], N, block_size=block_size
    )
    expected = in_loops(
        lambda i, j, k: -np.array([1.0, 2.0]) * int(hops[k]),
        lambda i, j, k: np.asarray(values[j]),
        ends._replace(mask=jnp.ones(E, bool)),
    )
    np.testing.assert_allclose(jax.jit(run)(values), expected, atol=1e-6)


# Edges that must not count.

BAD_IDS = {
    "-1": lambda rows: -1,
    "-rows": lambda rows: -rows,
    "rows": lambda rows: rows,
    "huge": lambda rows: 2**31 - 1,
    "least": lambda rows: -(2**31),
}


@both_paths
@pytest.mark.parametrize("end, rows", [("senders", M), ("receivers", N)])
@pytest.mark.parametrize("bad", BAD_IDS.values(), ids=BAD_IDS)
def test_inside_jit_an_edge_with_one_bad_end_counts_nowhere(end, rows, bad, block_size):
    """Values and all gradients are those of the graph in which a mask removes the edge."""
    edge, arrays, ends = 7, random_arrays("custom"), random_ends()
    ends = ends._replace(mask=ends.mask.at[edge].set(True))
    broken = ends._replace(**{end: getattr(ends, end).at[edge].set(bad(rows))})
    actual = value_and_gradients("custom", arrays, broken, block_size)
    masked = ends._replace(mask=ends.mask.at[edge].set(False))
    assert_close(actual, value_and_gradients("custom", arrays, masked, block_size), 1e-6)
    assert not actual[1].edges["x"][edge].any()


def poison(arrays, ends, where, hostile):
    """The arrays with hostile numbers where only edges that do not count can read them."""

    def spoil(tree, index):
        """Copies, with hostile rows where they are numbers that can be."""
        tree = jax.tree.map(np.array, tree)
        for leaf in jax.tree.leaves(tree):
            if leaf.dtype.kind == "f":
                leaf[index] = hostile
        return tree

    out = ~counted(ends)
    return {
        "edge rows": lambda: arrays._replace(edges=spoil(arrays.edges, out)),
        "multiplier": lambda: arrays._replace(multiplier=spoil(arrays.multiplier, out)),
        "last sender": lambda: arrays._replace(senders=spoil(arrays.senders, M - 1)),
        "last receiver": lambda: arrays._replace(receivers=spoil(arrays.receivers, N - 1)),
        "first sender": lambda: arrays._replace(senders=spoil(arrays.senders, 0)),
        "first receiver": lambda: arrays._replace(receivers=spoil(arrays.receivers, 0)),
    }[where]()


@both_paths
@pytest.mark.parametrize("hostile", [np.nan, np.inf])
@pytest.mark.parametrize(
    "where",
    ["edge rows", "multiplier", "last sender", "last receiver", "first sender", "first receiver"],
)
def test_hostile_numbers_of_edges_that_do_not_count_stay_there(where, hostile, block_size):
    """Rows of padding, wherever they are, reach no result and no gradient."""
    arrays, ends = random_arrays("custom"), random_ends()
    senders, receivers, mask = map(np.asarray, ends)
    idle = (senders % (M - 1) == 0) | (receivers % (N - 1) == 0)
    ends = ends._replace(mask=mask & ~idle)
    actual = value_and_gradients("custom", poison(arrays, ends, where, hostile), ends, block_size)
    assert_close(actual, value_and_gradients("custom", arrays, ends, block_size), 1e-6)


@both_paths
def test_a_score_that_is_singular_at_zero(block_size):
    """Masked rows must not be handed to the mechanism as zeros: the gradient of `w log e` would be NaN."""
    ends = random_ends()
    distances = 1 + jnp.arange(E * H, dtype=jnp.float32).reshape(E, H) / E
    score = lambda w, r, s, e: w * jnp.log(e)
    value = lambda w, r, s, e: s
    rows = random_arrays("GATv2").senders

    @jax.jit
    def run(w, e, mask):
        attend = lambda *a: edge_attention(
            score,
            value,
            a[0],
            None,
            rows,
            a[1],
            *ends[:2],
            N,
            edge_mask=mask,
            block_size=block_size,
        )
        return jax.grad(lambda *a: (attend(*a) ** 2).sum(), argnums=(0, 1))(w, e)

    actual = run(jnp.float32(-0.7), distances, ends.mask)
    jax.tree.map(lambda g: np.testing.assert_array_equal(np.isfinite(g), True), actual)
    padded = jnp.where(jnp.asarray(counted(ends))[:, None], distances, 0)
    assert_close(run(jnp.float32(-0.7), padded, ends.mask), actual, 1e-6)


@both_paths
def test_all_edges_masked(block_size):
    arrays, ends = random_arrays("custom"), random_ends()
    nothing = ends._replace(mask=jnp.zeros(E, bool))
    for leaf in jax.tree.leaves(value_and_gradients("custom", arrays, nothing, block_size)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))


@both_paths
def test_an_isolated_receiver_gets_zero_and_gives_no_gradient(block_size):
    ends = random_ends()
    isolated = sorted(set(range(N)) - set(np.asarray(ends.receivers)[counted(ends)].tolist()))
    out, gradients = value_and_gradients("custom", random_arrays("custom"), ends, block_size)
    assert isolated
    for i in isolated:
        assert not out[i].any() and not gradients.receivers[i].any()


@partial(jax.jit, static_argnums=1)
def read_out_weights(logits, block_size):
    """Three edges into node 1 with unit vectors as values, one ordinary edge into node 0; and a gradient."""
    ids = jnp.array([0, 1, 2, 3]), jnp.array([1, 1, 1, 0])
    score, value = lambda w, r, s, e: e, lambda w, r, s, e: s
    unit = jnp.eye(4)[:, None, :]
    function = lambda logits: edge_attention(
        score, value, None, None, unit, logits, *ids, 3, block_size=block_size
    )[:, 0]
    out, vjp = jax.vjp(function, jnp.append(logits, 0.7)[:, None])
    return out, vjp(jnp.zeros((3, 4)).at[1].set(jnp.array([1.0, 2.0, 4.0, 8.0])))[0][:, 0]


@pytest.mark.parametrize("block_size", [None, 1, 3])
@pytest.mark.parametrize("logits, weights", EXTREME_LOGITS.values(), ids=EXTREME_LOGITS)
def test_extreme_logits(logits, weights, block_size):
    """Weights, and the gradient `α_j (g_j - Σ_k α_k g_k)`."""
    g = np.array([1.0, 2.0, 4.0])
    out, gradient = read_out_weights(jnp.array(logits), block_size)
    np.testing.assert_array_equal(out, [[0, 0, 0, 1], [*weights, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(gradient, [*(weights * (g - np.dot(weights, g))), 0])


SIZES = {
    "no edges": (N, M, 0),
    "no receivers": (0, M, E),
    "no senders": (N, 0, E),
    "nothing": (0, 0, 0),
    "one of each": (1, 1, 1),
    "as many nodes as edges": (7, 7, 7),
}


@both_paths
@pytest.mark.parametrize("num_receivers, num_senders, num_edges", SIZES.values(), ids=SIZES)
def test_sizes(num_receivers, num_senders, num_edges, block_size):
    """Edge k runs from sender k to receiver k, so every node with an edge gets its sender's value."""
    ids = jnp.arange(num_edges)
    rows, score = 1 + jnp.arange(num_senders * H * C, dtype=jnp.float32), lambda w, r, s, e: e
    rows = rows.reshape(num_senders, H, C)

    @jax.jit
    def run(rows):
        function = lambda rows: edge_attention(
            score, lambda w, r, s, e: s, None, jnp.zeros((num_receivers, 1)), rows,
            jnp.zeros((num_edges, H)), ids, ids, num_receivers, block_size=block_size,
        )  # fmt: skip
        return pull_back(function, rows)

    out, gradient = run(rows)
    both = min(num_receivers, num_senders, num_edges)
    expected = np.zeros((num_receivers, H, C))
    expected[:both] = rows[:both]
    np.testing.assert_array_equal(out, expected)
    assert gradient.shape == rows.shape and np.isfinite(gradient).all()


OUTSIDE = st.sampled_from([-(2**31), -1, N, M, 2**31 - 1])
DRAWN_EDGE = st.tuples(
    st.integers(0, M - 1) | OUTSIDE, st.integers(0, N - 1) | OUTSIDE, st.booleans()
)


@settings(max_examples=25, deadline=None, database=None)
@given(st.lists(DRAWN_EDGE, max_size=E), st.booleans(), st.integers(0, 99))
def test_random_graphs(edges, hub, seed):
    """Empty graphs, hubs, duplicates, isolated nodes, padding, bad ends: both paths equal plain loops."""
    ids, mask = np.full((2, E), -1, np.int32), np.zeros(E, bool)
    for k, (sender, receiver, counts) in enumerate(edges):
        ids[:, k], mask[k] = (sender, 2 if hub else receiver), counts
    ends = Ends(*map(jnp.asarray, (*ids, mask)))
    with jax.enable_x64(True):
        arrays = random_arrays("custom", seed)
        plain = value_and_gradients("custom", arrays, ends, None)
        np.testing.assert_allclose(plain[0], loops("custom", arrays, ends), atol=1e-12)
        blocked = value_and_gradients("custom", arrays, ends, BLOCK)
        assert_close(blocked, plain, 1e-10, smallest_scale=1)


# The same as the three everyday functions.


@partial(jax.jit, static_argnames="block_size")
def at_once(graph, rows, mask, block_size):
    function = lambda rows: edge_attention(
        *gatv2(rows.captured),
        *rows[1:5],
        graph.senders,
        graph.receivers,
        M,
        edge_mask=mask,
        block_size=block_size,
    )
    return pull_back(function, rows)


@jax.jit
def in_three_lines(graph, rows, mask):
    def function(rows):
        score, _ = gatv2(rows.captured)
        logits = attention_logits(graph, score, *rows[1:5])
        alpha = attention_weights(graph, logits, mask)
        return weighted_sum(graph, alpha, rows.senders, edge_values=rows.edges["row"])

    return pull_back(function, rows)


@both_paths
@pytest.mark.parametrize("bad_end", ["none", "senders", "receivers"])
def test_equals_the_three_lines(bad_end, block_size, x64):
    """On one table for both ends, with a mask; also with an edge that has one end out of range."""
    ends, rows = random_ends(), random_arrays("GATv2")
    rows = rows._replace(receivers=rows.senders[::-1], multiplier=None)
    senders, receivers = ends.senders % M, ends.receivers % M
    graph = jax.tree.map(jnp.asarray, build_graph(senders, receivers, jnp.zeros((M, 1))))
    edge = int(np.flatnonzero(ends.mask)[3])
    if bad_end != "none":
        graph = graph._replace(**{bad_end: getattr(graph, bad_end).at[edge].set(M)})
    assert_close(
        at_once(graph, rows, ends.mask, block_size), in_three_lines(graph, rows, ends.mask), 1e-10
    )


@both_paths
def test_renumbering_the_nodes_renumbers_the_result(block_size, x64):
    arrays, ends = random_arrays("custom"), random_ends()
    kept = np.flatnonzero(counted(ends))
    arrays, ends = reorder(arrays, ends, np.resize(kept, E))
    rng = np.random.default_rng(0)
    new_receiver, new_sender = rng.permutation(N), rng.permutation(M)
    renumbered = ends._replace(
        senders=jnp.asarray(new_sender, jnp.int32)[ends.senders],
        receivers=jnp.asarray(new_receiver, jnp.int32)[ends.receivers],
    )
    move = lambda tree, new: jax.tree.map(lambda x: x[np.argsort(new)], tree)
    back = lambda tree, new: jax.tree.map(lambda x: x[new], tree)
    moved = arrays._replace(
        receivers=move(arrays.receivers, new_receiver), senders=move(arrays.senders, new_sender)
    )
    out, grads = value_and_gradients("custom", moved, renumbered, block_size)
    grads = grads._replace(
        receivers=back(grads.receivers, new_receiver), senders=back(grads.senders, new_sender)
    )
    expected = value_and_gradients("custom", arrays, ends, block_size)
    assert_close((back(out, new_receiver), grads), expected, 1e-10)


@pytest.mark.parametrize("normalize", ["hardmax", "straight_through", "own"])
def test_other_normalisers(normalize, x64):
    """Hardmax picks the value of the winner; a function of one's own replaces the softmax."""
    arrays, ends = random_arrays("dot product"), random_ends()
    arrays = arrays._replace(multiplier=None)
    raw = lambda logits, ids, num_segments, mask: jnp.where(mask[:, None], logits, 0)
    options = dict(edge_mask=ends.mask, normalize=raw if normalize == "own" else normalize)
    mechanism = dot_product(arrays.captured)
    out = jax.jit(lambda *rows: edge_attention(*mechanism, *rows, *ends[:2], N, **options))
    captured, _, r, s, *_ = jax.tree.map(np.asarray, arrays)
    expected = in_loops(
        lambda i, j, k: reference.dot_logit(r[i], s["key"][j]) * captured[:, 0],
        lambda i, j, k: s["value"][j],
        ends,
        weigh=lambda x: x if normalize == "own" else np.eye(len(x))[x.argmax(0)].T,
    )
    np.testing.assert_allclose(out(*arrays[1:5]), expected, atol=1e-12)


# Half precision.


@partial(jax.jit, static_argnums=1)
def into_one_node(arrays, block_size):
    """Attention of one query over thousands of keys, and its gradients."""
    senders = jnp.arange(len(arrays[1]))
    score, value = lambda w, r, s, e: dot_product_score(r, s[0]), lambda w, r, s, e: s[1]
    function = lambda arrays: edge_attention(
        score, value, None, arrays[0], arrays[1:], None, senders, 0 * senders, 1,
        block_size=block_size,
    )  # fmt: skip
    return pull_back(function, arrays)


@pytest.mark.parametrize("block_size", [None, 512], ids=["plain", "blocked"])
@pytest.mark.parametrize("dtype, ulp", [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_thousands_of_half_precision_edges_into_one_node(dtype, ulp, block_size):
    """Added up in the dtype itself, weights of 4099 edges would stop growing long before 1."""
    count = 4099
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape).astype(np.float32), dtype)
    arrays = draw(1, H, C), draw(count, H, C), draw(count, H, C)
    ones = into_one_node((*arrays[:2], jnp.ones_like(arrays[2])), block_size)[0]
    np.testing.assert_allclose(np.float32(ones), 1, atol=ulp)
    exact = into_one_node(jax.tree.map(lambda x: x.astype(jnp.float32), arrays), None)
    actual = into_one_node(arrays, block_size)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(exact), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(np.float32(a), b, atol=6 * ulp * np.abs(b).max())


@both_paths
def test_the_gradient_of_a_half_precision_hub(block_size):
    """Node 0 sends to 1031 receivers that hear nobody else: its value's gradient is a sum of 1031 ones."""
    count = 1031
    receivers, rows = jnp.arange(count), jnp.ones((1, H, C), jnp.bfloat16)
    score, value = lambda w, r, s, e: dot_product_score(s, s), lambda w, r, s, e: s
    ids = 0 * receivers, receivers, count
    run = lambda rows: edge_attention(
        score, value, None, None, rows, None, *ids, block_size=block_size
    )
    gradient = jax.jit(jax.grad(lambda rows: run(rows).astype(jnp.float32).sum()))(rows)
    np.testing.assert_allclose(np.float32(gradient), count, rtol=2**-8)


@both_paths
def test_the_output_has_the_dtype_of_the_values(block_size):
    arrays, ends = random_arrays("dot product"), random_ends()
    half = lambda x: x.astype(jnp.bfloat16)
    for logit_type, value_type in ((half, jnp.asarray), (jnp.asarray, half)):
        senders = {
            "key": logit_type(arrays.senders["key"]),
            "value": value_type(arrays.senders["value"]),
        }
        mixed = arrays._replace(senders=senders, receivers=logit_type(arrays.receivers))
        shape = jax.eval_shape(lambda a: attend("dot product", a, ends, block_size), mixed)
        assert (shape.shape, shape.dtype) == ((N, H, C), senders["value"].dtype)


# Large graphs: memory, tracing, lowering.


def large(name, num_nodes, num_edges, heads, features):
    """Shapes of a mechanism's arrays; nothing of that size is allocated."""
    real = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    ids = jax.ShapeDtypeStruct((num_edges,), jnp.int32)
    row, term = real(num_nodes, heads, features), real(num_nodes, heads)
    tables = {
        "GAT": (None, term, {"term": term, "value": row}, None),
        "GATv2": (real(heads, features), row, row, None),
        "dot product": (None, row, {"key": row, "value": row}, None),
    }
    return tables[name], ids


def training_step(name, block_size, num_nodes):
    """Forward and backward of the mechanism without edge features."""
    score, value = {
        "GAT": (lambda w, r, s, e: additive_score(r, s["term"]), lambda w, r, s, e: s["value"]),
        "GATv2": (lambda w, r, s, e: dynamic_score(r, s, w), lambda w, r, s, e: s),
        "dot product": (
            lambda w, r, s, e: dot_product_score(r, s["key"]),
            lambda w, r, s, e: s["value"],
        ),
    }[name]

    def loss(tables, senders, receivers):
        out = edge_attention(
            score, value, *tables, senders, receivers, num_nodes, block_size=block_size
        )
        return (out**2).sum()

    return jax.jit(jax.value_and_grad(loss))


def megabytes(name, block_size):
    num_nodes = 100_000
    tables, ids = large(name, num_nodes, 2_000_000, heads=8, features=16)
    step = training_step(name, block_size, num_nodes).lower(tables, ids, ids).compile()
    memory = step.memory_analysis()
    return (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    ) / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GAT", "GATv2", "dot product"])
def test_memory_of_a_training_step_on_two_million_edges(name, optimised, as_on_a_cpu):
    """Arguments, results and scratch together; the direct formula needs several [E, H, C] arrays of 1 GB."""
    blocked, direct = megabytes(name, "auto"), megabytes(name, None)
    assert blocked < 1000, blocked
    assert direct > 2000, direct


@both_paths
def test_the_second_call_does_not_trace(block_size):
    arrays, ends = random_arrays("custom"), random_ends()
    traces = []

    @jax.jit
    def step(arrays, ends):
        traces.append(None)
        return attend("custom", arrays, ends, block_size)

    first = step(arrays, ends)
    second = step(random_arrays("custom", seed=1), random_ends(seed=1))
    assert len(traces) == 1
    assert not np.allclose(first, second)


def test_auto_takes_the_direct_formula_on_small_graphs_and_blocks_on_large_ones(as_on_a_cpu):
    rows = jnp.zeros((N, H, C))
    score, value = lambda w, r, s, e: dot_product_score(r, s), lambda w, r, s, e: s
    for num_edges, blocked in ((E, False), (1_000_003, True)):
        run = lambda x, ids: edge_attention(score, value, None, x, x, None, ids, ids, N)
        program = jax.make_jaxpr(run)(rows, jax.ShapeDtypeStruct((num_edges,), jnp.int32))
        assert ("custom_jvp_call" in str(program)) is blocked


def test_blocks_are_larger_on_an_accelerator(as_on_a_cpu, monkeypatch):
    sizes = [(10**6, 8), (10**7, 16), (10**7, 2**20)]
    assert [choose_block_size("auto", *size) for size in sizes] == [32_272, 16_368, 256]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [choose_block_size("auto", *size) for size in sizes] == [None, 2_000_000, 256]
    assert choose_block_size(7, 10**7, 16) == 7


@every_mechanism
def test_no_loop_on_an_accelerator_reads_constants_as_wide_as_a_block(name, monkeypatch):
    """JAX moves them out of a scan when it differentiates; each block would fetch them from memory."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    block = 12
    assert block not in (N, M, E)
    function = partial(_value_and_gradients, name, block_size=block)
    program = jax.make_jaxpr(function)(random_arrays(name), random_ends())
    loops = [step for step in steps_of(program.jaxpr) if step.primitive.name in ("while", "scan")]
    read = {array.aval.shape[:1] for loop in loops for array in loop.invars}
    assert (E,) in read and (block,) not in read


def test_blocks_are_as_few_as_there_must_be_and_about_alike(as_on_a_cpu):
    """Up to 2^18 / 64 = 4,096 edges: 10,000 are three blocks of 3,344, so that the last repeats 32 rows, not 2,288."""
    assert [choose_block_size("auto", n, 64) for n in (4_096, 4_097, 10_000)] == [4096, 2064, 3344]


@both_paths
@every_mechanism
def test_values_and_gradients_lower_for_every_platform(name, block_size):
    function = jax.jit(partial(_value_and_gradients, name, block_size=block_size))
    arguments = random_arrays(name), random_ends()
    exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*arguments)
    assert exported.platforms == ("cpu", "cuda", "tpu")


# Bad input.

GOOD = dict(
    score=lambda w, r, s, e: dot_product_score(r, s),
    value=lambda w, r, s, e: s,
    weights=None,
    receiver_rows=np.ones((5, H, C), np.float32),
    sender_rows=np.ones((7, H, C), np.float32),
    edge_rows=None,
    senders=np.array([0, 6, 2]),
    receivers=np.array([4, 0, 0]),
    num_receivers=5,
)
ONES = np.ones((3, H), np.float32)
BAD = {
    "unknown normaliser": (
        dict(normalize="top_k"),
        ValueError,
        r"normalize .*'softmax', 'hardmax'.* TopK\(k\) or a function, got 'top_k'",
    ),
    "no normaliser": (dict(normalize=None), ValueError, r"normalize .*'softmax'.* got None"),
    "hardmax in blocks": (
        dict(normalize="hardmax", block_size=2),
        ValueError,
        r"softmax only.*normalize='hardmax'.*block_size=None",
    ),
    "hardmax in blocks of NumPy's": (
        dict(normalize="hardmax", block_size=np.int64(2)),
        ValueError,
        r"softmax only",
    ),
    "no block": (dict(block_size=0), ValueError, r"block_size must be .*positive.* got 0"),
    "negative block": (dict(block_size=-2), ValueError, r"block_size must be .*positive.* got -2"),
    "unknown block": (
        dict(block_size="big"),
        ValueError,
        r"block_size must be \"auto\", \"dense\", None or a positive integer, got 'big'",
    ),
    "fractional block": (dict(block_size=2.0), ValueError, r"block_size must be .*integer.* 2\.0"),
    "float senders": (
        dict(senders=np.zeros(3)),
        TypeError,
        r"senders must be integers, got float(32|64).*astype",
    ),
    "boolean receivers": (
        dict(receivers=np.zeros(3, bool)),
        TypeError,
        r"receivers must be integers, got bool",
    ),
    "senders over int32": (
        dict(senders=np.array([0, 2**32 + 1, 2])),
        ValueError,
        r"senders.*4294967297.*int32",
    ),
    "matrix of ids": (
        dict(senders=np.zeros((3, 1), int), receivers=np.zeros((3, 1), int)),
        ValueError,
        r"senders",
    ),
    "more receivers": (
        dict(receivers=np.zeros(4, int)),
        ValueError,
        r"receivers must have 3 rows, got 4",
    ),
    "edge rows": (dict(edge_rows=[ONES, ONES[:1]]), ValueError, r"edge_rows must have 3 .* got 1"),
    "mask": (dict(edge_mask=np.ones(1, bool)), ValueError, r"edge_mask must have 3 rows, got 1"),
    "float mask": (dict(edge_mask=np.ones(3)), TypeError, r"edge_mask must be bool.* got float"),
    "multiplier": (
        dict(multiplier=ONES[:, :1]),
        ValueError,
        r"multiplier must be \[E, H\] = \[3, 2\], got \[3, 1\]",
    ),
    "receiver rows": (
        dict(num_receivers=4),
        ValueError,
        r"receiver_rows must have 4 rows, got 5",
    ),
    "sender rows": (
        dict(
            sender_rows=(GOOD["sender_rows"], ONES),
            score=lambda w, r, s, e: s[1],
            value=lambda w, r, s, e: s[0],
        ),
        ValueError,
        r"sender_rows .*7.* 3",
    ),
    "a number among the rows": (
        dict(receiver_rows=(GOOD["receiver_rows"], 1.0), score=lambda w, r, s, e: r[0][..., 0]),
        ValueError,
        r"receiver_rows",
    ),
    "score of rank 3": (
        dict(score=lambda w, r, s, e: r * s),
        ValueError,
        r"score must return \[E, H\] .*got \[3, 2, 3\]",
    ),
    "score of rank 1": (
        dict(score=lambda w, r, s, e: r[:, 0, 0]),
        ValueError,
        r"score must return \[E, H\] .*got \[3\]",
    ),
    "value of rank 2": (
        dict(value=lambda w, r, s, e: s[:, 0]),
        ValueError,
        r"value \[E, H, C\] .*\[3, 3\]",
    ),
    "heads that disagree": (
        dict(value=lambda w, r, s, e: s[:, :1]),
        ValueError,
        r"same H, got \[3, 2\] and \[3, 1, 3\]",
    ),
}


def test_the_good_input_is_good(unchecked):
    np.testing.assert_array_equal(edge_attention(**GOOD)[:, 0, 0], [1, 0, 0, 0, 1])


@pytest.mark.parametrize("wrong, error, message", BAD.values(), ids=BAD)
def test_bad_input_by_message(wrong, error, message, unchecked):
    with pytest.raises(error, match=message):
        edge_attention(**{**GOOD, **wrong})
