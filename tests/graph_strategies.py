"""Random small graphs for property tests, and the few questions that tests ask of them."""

# jraph declares every field as an optional tree, and bad arguments are wanted here.

from collections import Counter

import jax
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from jraph import GraphsTuple

NODE_FEATURES, EDGE_FEATURES = 5, 3

examples = settings(max_examples=25, deadline=None, database=None)


@st.composite
def graphs(draw, edge_features=True, min_nodes=0):
    """Empty and one-node graphs, hubs, duplicates, loops; whole-number features, so sums are exact."""
    total = draw(st.sampled_from([n for n in (0, 1, 2, 3, 7, 11) if n >= min_nodes]))
    ids = st.integers(0, max(total - 1, 0))
    hub = draw(st.booleans())
    ends = st.tuples(ids, st.just(0) if hub else ids)
    pairs = np.array(draw(st.lists(ends, max_size=17 if total else 0)), np.int32).reshape(-1, 2)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    row = lambda count, width: rng.integers(-9, 9, (count, width)).astype(np.float32)
    return GraphsTuple(
        nodes=row(total, NODE_FEATURES),
        edges=row(len(pairs), EDGE_FEATURES) if edge_features else None,
        globals=row(1, 2),
        senders=pairs[:, 0].copy(),
        receivers=pairs[:, 1].copy(),
        n_node=np.array([total], np.int32),
        n_edge=np.array([len(pairs)], np.int32),
    )


def edge_list(graph):
    """Edges in order, as tuples (sender, receiver, feature...)."""
    rows = [()] * len(graph.senders) if graph.edges is None else np.asarray(graph.edges).tolist()
    ends = zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True)
    return [(*pair, *row) for pair, row in zip(ends, rows, strict=True)]


def edge_bag(graph):
    """Edges without their order."""
    return Counter(edge_list(graph))


def relabel(graph, new_ids):
    """The graph whose node `new_ids[i]` is this graph's node i; edges keep their order."""
    old_ids = np.argsort(new_ids)
    return graph._replace(
        senders=new_ids[graph.senders],
        receivers=new_ids[graph.receivers],
        nodes=graph.nodes[old_ids],
    )


def reorder(graph, order):
    """The same edges in another order."""
    take = lambda leaf: leaf[order]
    return graph._replace(
        senders=graph.senders[order],
        receivers=graph.receivers[order],
        edges=jax.tree.map(take, graph.edges),
    )


def assert_same(actual, expected):
    """Equal structure, dtypes, shapes and values, field by field."""
    for name in expected._fields:
        left, right = getattr(actual, name), getattr(expected, name)
        assert jax.tree.structure(left) == jax.tree.structure(right), name
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            assert a.dtype == b.dtype, name
            np.testing.assert_array_equal(a, b, err_msg=name)
