"""Attention to all nodes of a graph: the numbers of its edges, whatever the blocks, masks and batches."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, draw, rejects

from gatjax import (
    Slots,
    batch,
    build_graph,
    connect_all,
    dot_product_score,
    graph_attention,
    graph_self_attention,
    pad,
    unbatch,
)
from gatjax.ops.dropout import DropoutMask

HEADS, WIDTH, OUT = 3, 4, 5
SIZES = 5, 1, 7, 0, 2
TOTAL, PAIRS = sum(SIZES), sum(size**2 for size in SIZES)
GRAPH = batch([build_graph([], [], num_nodes=size) for size in SIZES])
ROWS = [draw(TOTAL, HEADS, width, seed=width).astype(np.float32) for width in (WIDTH, WIDTH, OUT)]
BIAS = draw(PAIRS, HEADS, seed=9).astype(np.float32)
MASK = np.random.default_rng(2).random(TOTAL) < 0.7


def over_edges(query, key, value, bias, node_mask=None, **options):
    """The same by `graph_attention`."""
    mask = np.ones(TOTAL, bool) if node_mask is None else node_mask
    graph = connect_all(GRAPH)
    scale = options.pop("scale", None)
    score = lambda w, r, s, e: dot_product_score(r, s["key"], e, scale=scale)
    value_of = lambda w, r, s, e: s["value"]
    senders = {"key": key, "value": value}
    kept = mask[graph.senders] & mask[graph.receivers]
    return graph_attention(
        graph, score, value_of, None, query, senders, bias, edge_mask=kept, **options
    )


def outputs_and_gradients(function, *rows):
    direction = draw(TOTAL, HEADS, OUT, seed=5).astype(np.float32)

    def loss(*rows):
        out = function(*rows)
        return (out * direction).sum(), out

    gradient = jax.value_and_grad(loss, argnums=tuple(range(len(rows))), has_aux=True)
    (_, out), gradients = jax.jit(gradient)(*rows)
    return out, gradients


OPTIONS = {
    "plain": {},
    "masked": {"node_mask": MASK},
    "dropped": {"multiplier": DropoutMask(jax.random.key(3), 0.4), "scale": 0.3},
    "weighed": {"multiplier": abs(BIAS[::-1]), "node_mask": MASK},
    "warm": {"temperature": jnp.array([0.5, 1.0, 3.0])},
    "sparsemax": {"normalize": "sparsemax", "node_mask": MASK},
    "entmax": {"normalize": "entmax", "multiplier": abs(BIAS[::-1])},
    "hard": {"normalize": "straight_through", "temperature": 2.0},
}
FAST = {"masked"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in OPTIONS]
)
def test_the_numbers_of_its_edges(name):
    options = OPTIONS[name]
    rows = *ROWS, BIAS
    expected = outputs_and_gradients(lambda *rows: over_edges(*rows, **options), *rows)
    for size in (3,) if name in FAST else ("auto", 1, 4):

        def function(query, key, value, bias, size=size):
            parts = {"bias": bias, "block_size": size, **options}
            return graph_self_attention(GRAPH, query, key, value, **parts)

        assert_close(outputs_and_gradients(function, *rows), expected, 1e-5, of=str(size))


def test_one_graph_of_more_rows_than_blocks_hold():
    """Against the textbook's formula; the last block is filled up with rows of no node."""
    size = 40
    graph = build_graph([], [], num_nodes=size)
    rows = [draw(size, HEADS, width, seed=width).astype(np.float32) for width in (WIDTH, OUT)]
    direction = draw(size, HEADS, OUT, seed=5).astype(np.float32)

    def textbook(rows, value):
        logits = jnp.einsum("ihc,jhc->hij", rows, rows) / WIDTH**0.5
        return jnp.einsum("hij,jhc->ihc", jax.nn.softmax(logits), value)

    in_blocks = lambda rows, value: graph_self_attention(graph, rows, rows, value, block_size=16)

    def gradient(function):
        loss = lambda *rows: (function(*rows) * direction).sum()
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(*rows)

    assert_close(gradient(in_blocks), gradient(textbook), 1e-5)


def poisoned(rows):
    rows = rows.copy()
    rows[~MASK] = np.nan
    return rows


@pytest.mark.slow
def test_what_takes_no_part_is_not_read():
    pairs = connect_all(GRAPH)
    bias = BIAS.copy()
    bias[~(MASK[pairs.senders] & MASK[pairs.receivers])] = np.nan
    function = lambda *rows: graph_self_attention(
        GRAPH, *rows[:3], bias=rows[3], node_mask=MASK, block_size=2
    )
    rows = *map(poisoned, ROWS), bias
    out, gradients = outputs_and_gradients(function, *rows)
    expected = outputs_and_gradients(function, *ROWS, BIAS)
    assert_close((out, gradients), expected, 1e-6)
    assert not out[~MASK].any() and not gradients[2][~MASK].any()


@pytest.mark.slow
def test_a_batch_is_its_graphs():
    attend = jax.jit(lambda graph, *rows, bias: graph_self_attention(graph, *rows, bias=bias))
    out = graph_self_attention(GRAPH, *ROWS, bias=BIAS)
    ends, squares = np.cumsum(SIZES), np.cumsum(np.square(SIZES))
    for index, (graph, size) in enumerate(zip(unbatch(GRAPH), SIZES, strict=True)):
        own = slice(ends[index] - size, ends[index])
        bias = BIAS[squares[index] - size**2 : squares[index]]
        alone = attend(graph, *(rows[own] for rows in ROWS), bias=bias)
        assert_close(alone, out[own], 1e-6)


def test_inside_jit_sizes_are_told_or_those_of_slots():
    expected = graph_self_attention(GRAPH, *ROWS)
    inside = jax.jit(graph_self_attention, static_argnames=("max_nodes", "block_size"))
    for most in (7, 9):
        assert_close(inside(GRAPH, *ROWS, max_nodes=most), expected, 1e-6)
    with rejects(ValueError, "unknown inside jax.jit: pass max_nodes=n"):
        inside(GRAPH, *ROWS)
    # The graph of seven nodes has no place for two of them, and all of its rows say so.
    lost = inside(GRAPH, *ROWS, max_nodes=5)
    assert np.isnan(lost[6:13]).all()
    assert_close(np.delete(lost, range(6, 13), 0), np.delete(expected, range(6, 13), 0), 1e-6)
    one = build_graph([], [], num_nodes=TOTAL)
    assert inside(one, *ROWS).shape == (TOTAL, HEADS, OUT)


@pytest.mark.slow
def test_padding_counts_for_nothing():
    """A budget's spare graph may have more nodes than any other; slots have padding in every graph."""
    filled = [np.zeros((TOTAL + 30, *rows.shape[1:]), np.float32) for rows in ROWS]
    for table, rows in zip(filled, ROWS, strict=True):
        table[:TOTAL] = rows
    padded, masks = pad(GRAPH, (TOTAL + 30, 1, 9))
    inside = jax.jit(graph_self_attention, static_argnames=("max_nodes", "block_size"))
    expected = graph_self_attention(GRAPH, *ROWS, bias=BIAS)
    bias = np.concatenate([BIAS, np.zeros((900, HEADS), np.float32)])
    found = inside(padded, *filled, bias=bias, node_mask=masks.node, max_nodes=7)
    assert_close(found[:TOTAL], expected, 1e-6)
    assert not found[TOTAL:].any()
    slots, masks = pad(connect_all(GRAPH), Slots(8, 6))
    tables = [np.full((48, *rows.shape[1:]), np.nan, np.float32) for rows in ROWS]
    for table, rows in zip(tables, ROWS, strict=True):
        table[masks.node] = rows
    wide = np.full((6 * 64, HEADS), np.nan, np.float32)
    wide[masks.edge] = BIAS
    found = inside(slots, *tables, bias=wide, node_mask=masks.node, block_size=3)
    assert_close(found[masks.node], expected, 1e-6)


@pytest.mark.slow
def test_large_logits_and_pairs_that_are_ruled_out():
    bias = np.where(np.arange(PAIRS)[:, None] % 3, 1e30, -np.inf) * np.ones((1, HEADS))
    out, gradients = outputs_and_gradients(
        lambda *rows: graph_self_attention(GRAPH, *rows, bias=bias.astype(np.float32)), *ROWS
    )
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, gradients)))
    # The one pair of the graph of one node is ruled out or not.
    assert (out[5] == ROWS[2][5]).all() or not out[5].any()


@pytest.mark.slow
@pytest.mark.slow
def test_derivatives_of_both_modes_and_of_second_order():
    """Of queries, keys, values, biases and multipliers, against those of the edges."""
    rng = np.random.default_rng(8)
    tables = *ROWS, BIAS, abs(BIAS[::-1])
    along = [rng.normal(size=table.shape).astype(np.float32) for table in tables]
    direction = draw(TOTAL, HEADS, OUT, seed=5).astype(np.float32)

    def by_rows(query, key, value, bias, multiplier):
        options = {"bias": bias, "multiplier": multiplier, "node_mask": MASK, "block_size": 2}
        return graph_self_attention(GRAPH, query, key, value, max_nodes=7, **options)

    def by_edges(query, key, value, bias, multiplier):
        return over_edges(query, key, value, bias, MASK, multiplier=multiplier)

    def derivatives(function, *tables):
        loss = lambda *tables: (function(*tables) * direction).sum()
        gradient = jax.grad(loss, argnums=tuple(range(5)))
        forward = jax.jvp(function, tables, tuple(along))[1]
        return forward, *jax.jvp(gradient, tables, tuple(along))

    tables = tuple(map(jnp.asarray, tables))
    found, expected = (
        jax.jit(derivatives, static_argnums=0)(function, *tables)
        for function in (by_rows, by_edges)
    )
    assert_close(found, expected)


def test_low_precision_sums_in_float32():
    rows = [jnp.asarray(rows, jnp.bfloat16) for rows in ROWS]
    out = graph_self_attention(GRAPH, *rows)
    assert out.dtype == jnp.bfloat16
    exact = graph_self_attention(GRAPH, *(rows.astype(jnp.float32) for rows in rows))
    assert_close(out.astype(jnp.float32), exact, 1e-2)


@pytest.mark.slow
def test_of_nothing_there_is_nothing():
    nothing = build_graph([], [], num_nodes=0)
    rows = [np.zeros((0, HEADS, width), np.float32) for width in (WIDTH, WIDTH, OUT)]
    assert graph_self_attention(nothing, *rows).shape == (0, HEADS, OUT)
    none = graph_self_attention(GRAPH, *ROWS, node_mask=np.zeros(TOTAL, bool))
    assert not none.any()


@pytest.mark.slow
def test_a_large_graph_holds_few_of_its_pairs(optimised, as_on_a_cpu):
    """One array of weights of all pairs would be 59 million numbers, 235 MB."""
    size = 2708
    graph = build_graph([], [], num_nodes=size)
    rows = [jax.ShapeDtypeStruct((size, 8, 8), jnp.float32)] * 3
    loss = lambda *rows: graph_self_attention(graph, *rows).sum()
    program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*rows).compile()
    assert program.memory_analysis().temp_size_in_bytes < 50e6


def test_a_dropout_that_would_repeat_itself_is_refused(unchecked):
    nodes = 30_000
    graph = build_graph([], [], num_nodes=nodes)
    rows = jax.ShapeDtypeStruct((nodes, 8, 1), jnp.float32)
    mask = DropoutMask(jax.random.key(0), 0.5)
    call = lambda x: graph_self_attention(graph, x, x, x, multiplier=mask)
    with rejects(ValueError, "900000000 rows of 8 entries are more than the 2³²"):
        jax.eval_shape(call, rows)


def test_bad_input(unchecked):
    query, key, value = ROWS
    call = lambda *rows, **options: graph_self_attention(GRAPH, *rows, **options)
    with rejects(ValueError, "query must be [N, H, C], got [15, 12]"):
        call(query.reshape(TOTAL, -1), key, value)
    with rejects(ValueError, "query and key must be [N, H, C] and value [N, H, V], got [15, 3, 4]"):
        call(query, key[:, :, :2], value)
    with rejects(ValueError, "query must have 15 rows, got 14"):
        call(query[1:], key[1:], value[1:])
    with rejects(ValueError, "bias must be [P, H] = [P, 3], got [79, 2]"):
        call(*ROWS, bias=BIAS[:, :2])
    with rejects(ValueError, "bias must have 79 rows, got 78"):
        call(*ROWS, bias=BIAS[1:])
    with rejects(ValueError, "node_mask must have 15 rows, got 3"):
        call(*ROWS, node_mask=np.ones(3, bool))
    with rejects(ValueError, "normalize must be one of ['softmax',"):
        call(*ROWS, normalize="softplus")
    with rejects(ValueError, "temperature must be positive"):
        call(*ROWS, temperature=0.0)
    with rejects(ValueError, "max_nodes = 6, and a graph has 7: raise it"):
        call(*ROWS, max_nodes=6)
    assert_close(call(*ROWS, max_nodes=7), call(*ROWS))
    with rejects(ValueError, "block_size = 0 must be at least 1"):
        call(*ROWS, block_size=0)
    with rejects(ValueError, 'block_size must be "auto", None or a positive integer'):
        call(*ROWS, block_size="dense")
