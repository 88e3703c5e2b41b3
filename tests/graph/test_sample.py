"""Samples of neighbours: every set with the same chance, the same bits in NumPy and JAX, what models read of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import rejects
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO
from scipy.stats import chi2_contingency, chisquare

from gatjax import GAT, GaAN, GATv2, add_self_loops, batch, build_graph
from gatjax.graph import First, hop_sizes, neighbors_of, sample_hops, sample_neighbors
from gatjax.graph.neighbors import starts_of
from gatjax.layers import DropoutRates, GATConv, NodeLinear


def random_graph(seed, nodes=13, edges=60, loops=False):
    """Directed, with duplicates, in any order of edges, and with nodes that nothing reaches."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(nodes, size=edges), rng.integers(nodes - 2, size=edges)
    keep = np.full(edges, True) if loops else senders != receivers
    features = rng.normal(size=(nodes, 3)).astype(np.float32)
    edge_features = rng.normal(size=(keep.sum(), 2)).astype(np.float32)
    return build_graph(senders[keep], receivers[keep], features, edges=edge_features)


def star(degree):
    """Node 0 receives from all others."""
    return build_graph(np.arange(1, degree + 1), np.zeros(degree, int), num_nodes=degree + 1)


def equal(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


@given(seed=st.integers(0, 10**6), fanout=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_what_is_drawn_is_as_many_different_edges_into_the_node_as_there_are(seed, fanout):
    graph = random_graph(seed, loops=True)
    drawn = sample_neighbors(jax.random.key(seed), neighbors_of(graph), np.arange(13), fanout)
    degree = np.bincount(graph.receivers, minlength=13)
    np.testing.assert_array_equal(drawn.mask.sum(axis=1), np.minimum(degree, fanout))
    for node in range(13):
        edges = drawn.edges[node][drawn.mask[node]]
        assert len(set(edges.tolist())) == len(edges)
        assert (graph.receivers[edges] == node).all()
        np.testing.assert_array_equal(graph.senders[edges], drawn.senders[node][drawn.mask[node]])


def test_every_set_of_neighbours_has_the_same_chance():
    """All 35 sets of 3 of 7; how often each of 40 is among 10, over the places of a row, too."""
    rows = 20_000
    nodes, table = np.zeros(rows, np.int32), neighbors_of(star(7))
    picks = sample_neighbors(jax.random.key(5), table, nodes, 3).senders
    sets = list(itertools.combinations(range(1, 8), 3))
    counts = dict.fromkeys(sets, 0)
    for pick in np.sort(picks, axis=1).tolist():
        counts[tuple(pick)] += 1
    assert chisquare(list(counts.values())).pvalue > 1e-3
    picks = sample_neighbors(jax.random.key(6), neighbors_of(star(40)), nodes, 10).senders
    assert chisquare(np.bincount(picks.ravel(), minlength=41)[1:]).pvalue > 1e-3


def test_numpy_and_jax_draw_the_same_bits_inside_jit_too():
    graph = random_graph(1)
    table, seeds = neighbors_of(graph), np.array([3, 7, 7, 12], np.int32)
    for loops in (False, True):
        draw = lambda key, table, seeds, loops=loops: sample_hops(
            key, table, seeds, [3, 2], self_loops=loops
        )
        key = jax.random.key(9)
        host, traced = draw(key, table, seeds), jax.jit(draw)(key, table, seeds)
        equal(host, traced)
        equal(host, draw(key, jax.tree.map(jnp.asarray, table), seeds))
        assert isinstance(host.nodes, np.ndarray) and isinstance(traced.nodes, jax.Array)
        other = draw(jax.random.key(10), table, seeds)
        assert not np.array_equal(other.nodes, host.nodes)
        equal(host.graph(graph.nodes, graph.edges), traced.graph(graph.nodes, graph.edges))


def test_an_order_of_edges_changes_numbers_of_edges_and_nothing_else():
    graph = random_graph(2)
    order = np.argsort(graph.receivers, kind="stable")
    in_order = graph._replace(
        senders=graph.senders[order], receivers=graph.receivers[order], edges=graph.edges[order]
    )
    assert neighbors_of(in_order).edges is None and neighbors_of(graph).edges is not None
    draw = lambda graph: sample_hops(jax.random.key(0), neighbors_of(graph), np.arange(5), [3, 3])
    left, right = draw(graph), draw(in_order)
    np.testing.assert_array_equal(left.nodes, right.nodes)
    np.testing.assert_array_equal(left.edges[left.edge_mask], order[right.edges[right.edge_mask]])
    equal(
        left.graph(graph.nodes, graph.edges).edges * left.edge_mask[:, None],
        right.graph(graph.nodes, in_order.edges).edges * right.edge_mask[:, None],
    )


def test_degrees_around_the_fan_out_and_a_hub():
    draw = lambda degree: sample_neighbors(
        jax.random.key(0), neighbors_of(star(degree)), np.array([0, 1]), 4
    )
    for degree, found in ((0, 0), (1, 1), (4, 4), (5, 4), (1_000_000, 4)):
        graph = star(degree) if degree else build_graph([], [], num_nodes=2)
        drawn = sample_neighbors(jax.random.key(0), neighbors_of(graph), np.array([0, 1]), 4)
        assert drawn.mask[0].sum() == found and not drawn.mask[1].any()
    assert len(set(draw(1_000_000).senders[0].tolist())) == 4


@pytest.mark.parametrize("models", [(GAT,), pytest.param((GATv2, GaAN), marks=pytest.mark.slow)])
def test_all_neighbours_of_all_seeds_give_what_the_whole_graph_gives(models):
    """Trimmed to what each layer reads, untrimmed, and with padding that holds NaN."""
    graph, seeds = random_graph(3), np.array([0, 4, 4, 12, 2], np.int32)
    loops = add_self_loops(graph._replace(edges=None))
    mask = np.array([True, True, True, True, False])
    hops = sample_hops(
        jax.random.key(1), neighbors_of(graph), seeds, [60, 60], mask=mask, self_loops=True
    )
    sampled = hops.graph(graph.nodes)
    sampled = sampled._replace(nodes=np.where(hops.node_mask[:, None], sampled.nodes, np.nan))
    masks = {"node_mask": hops.node_mask, "edge_mask": hops.edge_mask}
    for kind in models:
        model = kind(3, 2, hidden_features=8, num_layers=2, rngs=nnx.Rngs(0))
        model.eval()
        whole = model(loops).nodes[seeds[:4]]
        output = model(sampled, view=hops.views, **masks)
        assert output.nodes.shape == (5, 2) and len(output.senders) == 0
        np.testing.assert_allclose(output.nodes[:4], whole, atol=1e-6)
        np.testing.assert_allclose(model(sampled, **masks).nodes[:4], whole, atol=1e-6)
        weights = model.attention(sampled, view=hops.views, **masks)
        assert [len(alpha) for alpha in weights] == [count for _, count in hops.sizes[:0:-1]]


@pytest.mark.slow
def test_a_gradient_through_a_view_is_that_of_the_whole_graph():
    graph, seeds = random_graph(4), np.arange(4, dtype=np.int32)
    hops = sample_hops(jax.random.key(1), neighbors_of(graph), seeds, [60])
    layer = GATConv(3, 4, num_heads=2, edge_features=2, rngs=nnx.Rngs(0))
    sampled = hops.graph(graph.nodes, graph.edges)
    masks = {"node_mask": hops.node_mask, "edge_mask": hops.edge_mask}
    whole = nnx.grad(lambda layer: (layer(graph).nodes[seeds] ** 2).sum())(layer)
    seen = nnx.grad(lambda layer: (layer(sampled, view=hops.views[0], **masks).nodes ** 2).sum())
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(seen(layer)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_an_epoch_is_one_program_whose_shapes_are_known_before():
    graph = random_graph(5)
    table, features = neighbors_of(graph), jnp.asarray(graph.nodes)
    model = GAT(3, 2, hidden_features=8, num_layers=2, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(model)
    traces = []

    @jax.jit
    def epoch(state, key, batches):
        traces.append(1)

        def step(total, batch):
            number, seeds = batch
            hops = sample_hops(jax.random.fold_in(key, number), table, seeds, [3, 2])
            masks = {"node_mask": hops.node_mask, "edge_mask": hops.edge_mask}
            model = nnx.merge(graphdef, state)
            output = model(hops.graph(features), view=hops.views, deterministic=True, **masks)
            return total + output.nodes.sum(), len(hops.nodes)

        return jax.lax.scan(step, 0.0, batches)

    batches = jnp.arange(3), jnp.arange(12, dtype=jnp.int32).reshape(3, 4)
    _, rows = epoch(state, jax.random.key(0), batches)
    assert rows.tolist() == [hop_sizes(4, [3, 2])[-1][0]] * 3
    epoch(state, jax.random.key(1), batches)
    assert len(traces) == 1


def test_bad_input_says_what_to_do(unchecked):
    graph, seeds = random_graph(6), np.array([0, 1])
    table, key = neighbors_of(graph), jax.random.key(0)
    draw = lambda seeds=seeds, fanouts=(2, 2), **options: sample_hops(
        key, table, seeds, list(fanouts), **options
    )
    with rejects(ValueError, "seeds[1] = 13 is no node: there are 13"):
        draw(np.array([0, 13]))
    with rejects(ValueError, "batch_size = 0"):
        draw(np.array([], int))
    for xp in (np, jnp):
        hops = draw(xp.asarray(seeds))
        for rows in (5, 20):
            with rejects(ValueError, f"nodes must have 13 rows, got {rows}"):
                jax.eval_shape(hops.graph, {"x": np.ones((rows, 3))})
    with rejects(TypeError, "nodes are sparse: pass nodes.todense()"):
        draw().graph(BCOO.fromdense(jnp.eye(13)))
    with rejects(TypeError, "such as np.array([0, 1]), got 1"):
        draw(1)
    with rejects(TypeError, "seeds must be a vector of integers"):
        draw(np.array([0.0, 1.0]))
    with rejects(ValueError, "fanouts[1] = 0 must be at least 1"):
        draw(fanouts=(2, 0))
    with rejects(ValueError, "one number per hop, such as [15, 10]"):
        draw(fanouts=())
    with rejects(ValueError, "mask must have 2 rows, got 3"):
        draw(mask=np.full(3, True))
    looped = neighbors_of(add_self_loops(graph._replace(edges=None)))
    with rejects(ValueError, "remove_self_loops(graph)"):
        sample_hops(key, looped, seeds, [2], self_loops=True)
    with rejects(ValueError, "batch of 2"):
        neighbors_of(batch([graph, graph]))


def test_a_view_is_refused_where_it_does_not_fit(unchecked):
    graph = random_graph(7)._replace(edges=None)
    layer = GATConv(3, 4, rngs=nnx.Rngs(0))
    with rejects(ValueError, "the view has 14 nodes, but the graph 13"):
        layer(graph, view=First(14))
    with rejects(ValueError, "lower edges"):
        layer(graph, view=First(13, edges=1000))
    with rejects(ValueError, "not both"):
        layer(graph, view=First(13), senders=graph.nodes)
    with rejects(ValueError, "a view is of one graph, got a batch of 2"):
        layer(batch([graph, graph]), view=First(3))
    with rejects(ValueError, "out of range"):
        layer(graph, view=First(3))
    model = GAT(3, 2, num_layers=2, rngs=nnx.Rngs(0))
    with rejects(ValueError, "one for each of the 2 layers that read neighbours, got 3"):
        model(graph, view=[First(13)] * 3)
    assert NodeLinear(3, 4, rngs=nnx.Rngs(0))(graph, view=First(5, 0)).nodes.shape == (5, 4)


def test_the_first_rows_of_a_sparse_table_are_rows():
    """And not the first of its stored entries."""
    graph = random_graph(7)._replace(edges=None, nodes=np.eye(13, 3, dtype=np.float32))
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    layer = GATConv(3, 4, residual="linear", rngs=nnx.Rngs(0))
    first = np.asarray(graph.receivers) < 5
    ends = {"senders": graph.senders[first], "receivers": graph.receivers[first]}
    of = lambda graph: (
        layer(graph._replace(**ends, n_edge=np.array([first.sum()], np.int32)), view=First(5)).nodes
    )
    found, expected = of(sparse), of(graph)
    assert found.shape == (5, 4)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_row_that_receives_and_sends_drops_the_same_of_its_inputs():
    graph = build_graph([0, 1, 2], [0, 1, 2], np.ones((3, 8), np.float32))
    conv = GATConv(8, 8, dropout_rate=DropoutRates(inputs=0.5), rngs=nnx.Rngs(0))
    seen = conv(graph, view=First(2, 2), rngs=nnx.Rngs(dropout=3)).nodes
    whole = conv(graph, rngs=nnx.Rngs(dropout=3)).nodes
    np.testing.assert_allclose(seen, whole[:2], atol=1e-6)


def test_draws_of_different_hops_do_not_share_bits():
    """The second draw of a root and the only draw of its first child, both among three, know nothing of each other."""
    tree = build_graph([1, 2, 3, *[4, 5, 6] * 3], [0, 0, 0, *np.repeat([1, 2, 3], 3)], num_nodes=7)
    table, pairs = neighbors_of(tree), np.zeros((3, 3))
    for seed in range(400):
        nodes = sample_hops(jax.random.key(seed), table, np.array([0]), [2, 1]).nodes
        pairs[nodes[2] - 1, nodes[3] - 4] += 1
    assert chi2_contingency(pairs).pvalue > 1e-3


def of_weights(weights, fanout, rows=20_000, seed=3):
    """Which edges of a star are drawn, row by row."""
    table = neighbors_of(star(len(weights)), np.asarray(weights))
    return sample_neighbors(jax.random.key(seed), table, np.zeros(rows, np.int32), fanout).edges


def test_weighted_draws_have_the_chances_that_were_worked_by_hand():
    """Weights 1, 2, 3: {1, 2} is drawn as 1/6 2/5 + 2/6 1/4 = 9/60; {1, 3} is 16/60, and {2, 3} 35/60.

    The first of a row has the chance of its weight, 1/6, 2/6, 3/6; the order counts.
    """
    edges = of_weights([0.5, 1.0, 1.5], 2)
    missing = 3 - edges.sum(axis=1)
    expected = np.array([35, 16, 9]) / 60 * len(edges)
    assert chisquare(np.bincount(missing, minlength=3), expected).pvalue > 1e-3
    first = np.bincount(edges[:, 0], minlength=3)
    assert chisquare(first, np.array([1, 2, 3]) / 6 * len(edges)).pvalue > 1e-3
    orders = np.bincount(edges[:, 0] * 3 + edges[:, 1], minlength=9)[[1, 2, 3, 5, 6, 7]]
    chances = np.array([2 / 30, 3 / 30, 1 / 12, 3 / 12, 1 / 6, 1 / 3])
    assert chisquare(orders, chances * len(edges)).pvalue > 1e-3


def test_equal_weights_are_no_weights_and_weights_may_differ_by_far():
    sets = list(itertools.combinations(range(5), 3))
    counts = dict.fromkeys(sets, 0)
    for pick in np.sort(of_weights([7.0] * 5, 3), axis=1).tolist():
        counts[tuple(pick)] += 1
    assert chisquare(list(counts.values())).pvalue > 1e-3
    edges = of_weights([1e-3, 1.0, 1e7, 1.0, 1.0], 2, rows=3000)
    assert (edges[:, 0] == 2).mean() > 0.99 and (edges == 0).mean() < 0.01
    assert chisquare(np.bincount(edges[:, 1], minlength=5)[[1, 3, 4]]).pvalue > 1e-3
    tiny = of_weights([1e-300, 1.0, 1e-250, 1e-280], 2, rows=3000)
    assert chisquare(np.bincount(tiny[:, 1], minlength=4)[[0, 2, 3]]).pvalue > 1e-3


def test_weighted_draws_are_different_edges_and_the_same_bits_everywhere():
    graph = random_graph(8, nodes=13, edges=90, loops=True)
    weights = np.random.default_rng(8).exponential(size=90) * (np.arange(90) % 5 > 0)
    table, nodes = neighbors_of(graph, weights), np.array([*range(13), 3, 0])
    mask = np.arange(15) != 4
    draw = lambda key, table, nodes: sample_neighbors(key, table, nodes, 4, mask=mask)
    drawn = draw(jax.random.key(1), table, nodes)
    degree = np.bincount(graph.receivers[weights > 0], minlength=13)[nodes] * mask
    np.testing.assert_array_equal(drawn.mask.sum(axis=1), np.minimum(degree, 4))
    for node, edges, there in zip(nodes, drawn.edges, drawn.mask, strict=True):
        kept = edges[there]
        assert len(set(kept.tolist())) == len(kept) and (graph.receivers[kept] == node).all()
        assert (weights[kept] > 0).all()
    equal(drawn, jax.jit(draw)(jax.random.key(1), table, nodes))
    equal(drawn, draw(jax.random.key(1), jax.tree.map(jnp.asarray, table), nodes))


@pytest.mark.slow
def test_a_hub_of_a_million_of_which_one_is_as_heavy_as_all_others():
    edges = of_weights(np.r_[np.ones(1_000_000), 1e6], 3, rows=2000)
    assert 0.4 < (edges[:, 0] == 1_000_000).mean() < 0.6
    assert all(len(set(row)) == 3 for row in edges.tolist())


def test_more_edges_than_ids_can_number_are_refused():
    with rejects(ValueError, "the graph has 2147483648 edges, and int32 counts to 2147483647"):
        starts_of(np.array([2**30, 2**30]))
    assert starts_of(np.array([2**30, 2**30 - 1]))[-1] == 2**31 - 1


def test_bad_weights_are_refused(unchecked):
    graph = star(3)
    with rejects(ValueError, "edge_weight[1] = -1.0 must be at least 0, and finite"):
        neighbors_of(graph, [1.0, -1.0, 1.0])
    with rejects(ValueError, "edge_weight[2] = nan"):
        neighbors_of(graph, [1.0, 1.0, np.nan])
    with rejects(ValueError, "edge_weight must be [3], one per edge, got [2]"):
        neighbors_of(graph, [1.0, 1.0])
    with rejects(TypeError, "edge_weight must hold numbers"):
        neighbors_of(graph, ["a", "b", "c"])
