"""What must change nothing, in values and in gradients: names of nodes, order of edges, padding, company in a batch,
and edges that do not count."""

import jax
import jax.numpy as jnp
import numpy as np
from cases import (
    CASES,
    EDGES,
    NODES,
    ONE_EACH,
    OUT,
    REPRESENTATIVES,
    WITH_EDGES,
    Result,
    all_layers,
    build,
    evaluate,
    fill_edges,
    graph_for,
    rows,
    weights_of,
)
from graph_strategies import relabel, reorder
from helpers import assert_close, run

from gatjax.graph import Budget, batch, pad


@all_layers
def test_relabelled_nodes_give_relabelled_output(case):
    layer, graph, weights = build(case), graph_for(case), weights_of(graph_for(case))
    new_ids = np.random.default_rng(5).permutation(NODES).astype(np.int32)
    old_ids = np.argsort(new_ids)
    actual = evaluate(layer, relabel(graph, new_ids), cotangent=weights[old_ids])
    expected = evaluate(layer, graph, cotangent=weights)
    moved = expected._replace(
        nodes=expected.nodes[old_ids], d_nodes=np.asarray(expected.d_nodes)[old_ids]
    )
    assert_close(actual, moved)


def sum_by_ends(graph, rows):
    """Of parallel edges all together: which of them hard attention takes depends on their order."""
    total = np.zeros((NODES, NODES, rows.shape[1]))
    np.add.at(total, (graph.receivers, graph.senders), rows)
    return total


@all_layers
def test_edge_order_does_not_matter(case):
    layer, graph = build(case), graph_for(case)
    order = np.random.default_rng(6).permutation(EDGES)
    actual, expected = evaluate(layer, reorder(graph, order)), evaluate(layer, graph)
    d_edges = jax.tree.map(lambda leaf: leaf[order], expected.d_edges)
    attention = expected.attention[order]
    if case.hard:
        between = sum_by_ends(reorder(graph, order), actual.attention)
        assert_close(between, sum_by_ends(graph, expected.attention))
        attention = actual.attention
    assert_close(actual, expected._replace(attention=attention, d_edges=d_edges))


# Padding and batches


def real_part(result: Result) -> Result:
    """Results on the first graph of a pair."""
    return result._replace(
        nodes=result.nodes[:NODES],
        attention=result.attention[:EDGES],
        d_nodes=result.d_nodes[:NODES],
        d_edges=jax.tree.map(lambda leaf: leaf[:EDGES], result.d_edges),
    )


def padded(case, node_padding=0.0, edge_padding=0.0):
    """The graph padded to twice its size, its edge mask, and weights that ignore the padding."""
    graph, masks = pad(graph_for(case), Budget(nodes=2 * NODES, edges=2 * EDGES, graphs=2))
    graph.nodes[NODES:] = node_padding
    fill_edges(graph, EDGES, edge_padding, -1)
    weights = np.zeros((2 * NODES, OUT), np.float32)
    weights[:NODES] = weights_of(graph_for(case))
    return graph, masks.edge, weights


@rows(CASES, REPRESENTATIVES)
def test_padding_changes_nothing(case):
    """With its edge mask, and without."""
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=7.0, edge_padding=-3.0)
    expected = evaluate(layer, graph_for(case))
    assert_close(real_part(evaluate(layer, graph, None, weights)), expected, of="unmasked")
    result = evaluate(layer, graph, mask, weights)
    assert_close(real_part(result), expected, of="masked")
    assert not np.asarray(result.attention[EDGES:]).any()


@rows(ONE_EACH, REPRESENTATIVES)
def test_masked_edges_are_as_good_as_absent(case):
    layer, graph = build(case), graph_for(case)
    mask = np.arange(EDGES) % 3 != 1
    result = evaluate(layer, graph, mask)
    short = reorder(graph, np.flatnonzero(mask))
    short = short._replace(n_edge=np.array([mask.sum()], np.int32))
    assert_close((result.nodes, result.attention[mask]), run(layer, short))
    assert not np.asarray(result.attention)[~mask].any()


@rows([ONE_EACH[0], ONE_EACH[-1]])
def test_eager_calls_take_the_masks_that_pad_returns(case):
    layer, graph = build(case), graph_for(case)
    padded_graph, mask, _ = padded(case)
    assert_close(layer(padded_graph, edge_mask=mask).nodes[:NODES], layer(graph).nodes)
    alpha = layer.attention(padded_graph, edge_mask=mask)
    assert_close(alpha[:EDGES], layer.attention(graph))


@all_layers
def test_nan_in_padding_does_not_reach_what_is_real(case):
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=np.nan, edge_padding=np.nan)
    result = real_part(evaluate(layer, graph, mask, weights))
    expected = evaluate(layer, graph_for(case))
    for part in ("nodes", "attention", "d_nodes", "d_edges"):
        assert_close(getattr(result, part), getattr(expected, part))


@rows(WITH_EDGES)
def test_nan_in_masked_edges_reaches_no_parameter(case):
    layer = build(case)
    graph, mask, weights = padded(case, node_padding=7.0, edge_padding=np.nan)
    result = evaluate(layer, graph, mask, weights)
    assert_close(result.d_params, evaluate(layer, graph_for(case)).d_params)


@all_layers
def test_a_batch_is_its_graphs_alone(case):
    layer, one, two = build(case), graph_for(case), graph_for(case, seed=1)
    weights = np.concatenate([weights_of(one), 2 * weights_of(two)])
    both = evaluate(layer, batch([one, two]), cotangent=weights)
    first = evaluate(layer, one, cotangent=weights[:NODES])
    second = evaluate(layer, two, cotangent=weights[NODES:])
    assert_close(real_part(both)._replace(d_params=first.d_params), first)
    assert_close(both.nodes[NODES:], second.nodes)
    assert_close(both.attention[EDGES:], second.attention)
    assert_close(both.d_nodes[NODES:], second.d_nodes)
    assert_close(both.d_params, jax.tree.map(jnp.add, first.d_params, second.d_params))


@all_layers
def test_inside_jit_an_edge_with_a_bad_end_is_dropped(case):
    layer, graph = build(case), graph_for(case)
    without = np.ones(EDGES, bool)
    without[[3, 8]] = False
    expected = evaluate(layer, graph, without)
    for end in ("senders", "receivers"):
        for bad in (-1, NODES, 2**31 - 1, -(2**31)):
            ids = getattr(graph, end).copy()
            ids[[3, 8]] = bad
            actual = evaluate(layer, graph._replace(**{end: ids}))
            assert_close(actual, expected, of=f"{end} {bad}")
