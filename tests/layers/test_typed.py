"""Layers on graphs of several types, in a table of their own: the equations, and what must change nothing."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import affine, array, finish, heads
from flax import nnx
from helpers import assert_close, changed_rows, rejects
from reference import edge_attention, gat_logit, softmax

from gatjax.graph import TypedGraph, build_typed_graph
from gatjax.layers import (
    DropoutRates,
    GATConv,
    HGTConv,
    SemanticAttention,
    TypedConv,
    TypedLinear,
)
from gatjax.models import HGT, load_model, save_model, summary
from gatjax.training import Labels, node_classification

COUNTS = {"author": 7, "paper": 5, "term": 3, "venue": 0}
WIDTHS = {"author": 4, "paper": 6, "term": 2, "venue": 3}
OUT, HEADS = 8, 2
# A relation with fewer edges than senders, two between the same types, one within a type, one without edges, and a type
# without nodes.
EDGES = {
    ("author", "writes", "paper"): 11,
    ("paper", "by", "author"): 13,
    ("author", "knows", "author"): 9,
    ("term", "in", "paper"): 2,
    ("term", "titles", "paper"): 5,
    ("venue", "prints", "paper"): 0,
}
RELATIONS = tuple(sorted(EDGES))


def typed_graph(seed=0, dtype=np.float32) -> TypedGraph:
    """Nothing enters a term, nor the last author and paper."""
    rng = np.random.default_rng(seed)
    ids = lambda name, count, fewer: rng.integers(0, max(COUNTS[name] - fewer, 1), count)
    return build_typed_graph(
        {name: rng.normal(size=(COUNTS[name], WIDTHS[name])).astype(dtype) for name in COUNTS},
        {t: (ids(t[0], count, 0), ids(t[2], count, 1)) for t, count in EDGES.items()},
    )


def hgt(layer, graph):
    """One softmax over all edges that enter a node."""
    of_type = dict(zip(layer.types, range(len(layer.types)), strict=True))
    z = {
        part: {
            t: heads(graph.nodes[t], parts[k]) + array(parts[k].bias) for t, k in of_type.items()
        }
        for part, parts in (("q", layer.query), ("k", layer.key), ("v", layer.value))
    }
    width = OUT // HEADS
    nodes, alpha = {}, {t: np.zeros((EDGES[t], HEADS)) for t in RELATIONS}
    for name, place in of_type.items():
        x = np.zeros((COUNTS[name], HEADS, width))
        for i in range(COUNTS[name]):
            entering = [
                (r, triple, k, graph.relations[triple].senders[k])
                for r, triple in enumerate(RELATIONS)
                for k in range(EDGES[triple])
                if triple[2] == name and graph.relations[triple].receivers[k] == i
            ]
            for h in range(HEADS if entering else 0):
                logits = [
                    array(layer.prior)[r, h]
                    / math.sqrt(width)
                    * (z["k"][t[0]][j, h] @ array(layer.key_matrices)[r, h] @ z["q"][name][i, h])
                    for r, t, _, j in entering
                ]
                for weight, (r, t, k, j) in zip(softmax(np.array(logits)), entering, strict=True):
                    alpha[t][k, h] = weight
                    x[i, h] += weight * z["v"][t[0]][j, h] @ array(layer.value_matrices)[r, h]
        update = layer.updates[place]
        x = np.concatenate([x[:, h] for h in range(HEADS)], axis=1)
        gelu = x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))) / 2
        new = heads(gelu, update.linear)[:, 0] + array(update.linear.bias)
        gate = 1 / (1 + np.exp(-array(update.gate)))
        nodes[name] = gate * new + (1 - gate) * heads(graph.nodes[name], update.skip)[:, 0]
    return nodes, alpha


def one_relation(layer, graph, triple):
    """GAT from one table to another."""
    sender, _, receiver = triple
    edges, rows = graph.relations[triple], graph.nodes[receiver]
    z_j = heads(graph.nodes[sender], layer.projection)
    z_i = z_j if layer.receiver_projection is None else heads(rows, layer.receiver_projection)
    vector = np.concatenate([array(layer.receiver_vector), array(layer.sender_vector)], axis=1)
    x, alpha = edge_attention(
        lambda i, j, k: gat_logit(z_i[i], z_j[j], vector),
        lambda i, j, k: z_j[j],
        edges.senders,
        edges.receivers,
        (len(rows), HEADS, OUT // HEADS),
        len(z_j),
    )
    return finish(layer, x, rows), alpha


def wrapped(layer, graph):
    """Every relation by its layer, then their sum, mean, or attention over them."""
    found = {
        t: one_relation(each, graph, t) for t, each in zip(layer.triples, layer.layers, strict=True)
    }
    nodes = dict(graph.nodes)
    for name in {t[2] for t in layer.triples}:
        parts = np.stack([x for t, (x, _) in found.items() if t[2] == name])
        if isinstance(layer.combine, SemanticAttention):
            query = array(layer.combine.query)[0]
            logits = [
                (np.tanh(affine(layer.combine.hidden, part)) @ query).mean() for part in parts
            ]
            beta = softmax(np.array(logits))
            nodes[name] = sum(b * part for b, part in zip(beta, parts, strict=True))
        else:
            nodes[name] = parts.sum(0) if layer.combine == "sum" else parts.mean(0)
    return nodes, {t: alpha for t, (_, alpha) in found.items()}


def wrap(combine="sum", *, rngs, **options):
    """A `GATConv` for each relation; senders of the same type are the nodes themselves."""
    width = lambda t: WIDTHS[t[0]] if t[0] == t[2] else (WIDTHS[t[2]], WIDTHS[t[0]])
    options = {"num_heads": HEADS, "negative_slope": 0.2, **options}
    layers = {t: GATConv(width(t), OUT, rngs=rngs, **options) for t in RELATIONS}
    if combine == "attended":
        combine = SemanticAttention(
            OUT, semantic_features=5, rngs=rngs, param_dtype=options.get("param_dtype", jnp.float32)
        )
    return TypedConv(layers, combine=combine)


def transformer(*, rngs, **options):
    options = {"num_heads": HEADS, **options}
    return HGTConv(WIDTHS, OUT, relations=RELATIONS, rngs=rngs, **options)


class Typed(NamedTuple):
    build: Callable[..., Any]
    options: dict[str, Any]
    reference: Callable[..., Any]


CASES = {
    "HGTConv": Typed(transformer, {}, hgt),
    "TypedConv": Typed(wrap, {}, wrapped),
    "TypedConv-mean": Typed(wrap, {"combine": "mean"}, wrapped),
    "TypedConv-attended": Typed(wrap, {"combine": "attended"}, wrapped),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
one_of_each = pytest.mark.parametrize(
    "case", [CASES["HGTConv"], CASES["TypedConv-attended"]], ids=["HGTConv", "TypedConv"]
)


def built(case, **options):
    """With every parameter drawn at random."""
    layer = case.build(rngs=nnx.Rngs(0), **case.options, **options)
    rng = np.random.default_rng(1)
    drawn = lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype)
    nnx.update(layer, jax.tree.map(drawn, nnx.state(layer, nnx.Param)))
    return layer


@nnx.jit
def run(layer, graph, **parts):
    return layer(graph, **parts).nodes, layer.attention(graph, **parts)


@nnx.jit
def differentiate(layer, graph, **parts):
    """Nodes, and the gradient of a number that reads all of them, by parameters and nodes."""

    def loss(layer, nodes):
        out = layer(graph._replace(nodes=nodes), **parts).nodes
        return sum(jnp.sin(rows[: COUNTS[name]]).sum() for name, rows in out.items()), out

    gradient = nnx.grad(loss, argnums=(0, 1), has_aux=True)
    (of_layer, of_nodes), out = gradient(layer, graph.nodes)
    return out, of_layer, of_nodes


@every_case
def test_layers_are_the_equations(case, x64):
    layer, graph = built(case, param_dtype=jnp.float64), typed_graph(dtype=np.float64)
    assert_close(run(layer, graph), case.reference(layer, graph), 1e-12)


@pytest.mark.slow
@one_of_each
def test_names_of_nodes_and_orders_of_relations_and_edges_do_not_matter(case):
    """Nodes are renamed within each type, relations given in another order, edges too."""
    layer, graph, rng = built(case), typed_graph(), np.random.default_rng(3)
    new = {name: rng.permutation(count) for name, count in COUNTS.items()}
    order = {t: rng.permutation(count) for t, count in EDGES.items()}
    turned = build_typed_graph(
        {name: graph.nodes[name][np.argsort(new[name])] for name in reversed(sorted(COUNTS))},
        {
            t: (new[t[0]][edges.senders[order[t]]], new[t[2]][edges.receivers[order[t]]])
            for t, edges in reversed(sorted(graph.relations.items()))
        },
    )
    nodes, alpha = run(layer, graph)
    expected = {name: rows[np.argsort(new[name])] for name, rows in nodes.items()}
    assert_close(run(layer, turned), (expected, {t: alpha[t][order[t]] for t in alpha}))


def padded(graph):
    """Two rows of NaN for every type, edges between them and out of range, and the masks."""
    nodes = {
        name: np.concatenate([rows, np.full((2, rows.shape[1]), np.nan, rows.dtype)])
        for name, rows in graph.nodes.items()
    }
    relations, edge_mask = {}, {}
    for triple, edges in graph.relations.items():
        more = [np.array([COUNTS[triple[end]], 99, -1], np.int32) for end in (0, 2)]
        ends = [np.concatenate(pair) for pair in zip(edges[:2], more, strict=True)]
        relations[triple] = edges._replace(senders=ends[0], receivers=ends[1])
        edge_mask[triple] = np.arange(len(ends[0])) < len(edges.senders)
    graph = graph._replace(
        nodes=nodes,
        relations=relations,
        n_node={name: count + 2 for name, count in graph.n_node.items()},
        n_edge={triple: count + 3 for triple, count in graph.n_edge.items()},
    )
    node_mask = {name: np.arange(count + 2) < count for name, count in COUNTS.items()}
    return graph, {"edge_mask": edge_mask, "node_mask": node_mask}


@pytest.mark.slow
@one_of_each
def test_nan_in_padding_reaches_nothing(case):
    layer, graph = built(case), typed_graph()
    whole, parts = padded(graph)
    out, of_layer, of_nodes = differentiate(layer, whole, **parts)
    real = lambda nodes: {name: rows[: COUNTS[name]] for name, rows in nodes.items()}
    expected = differentiate(layer, graph)
    assert_close((real(out), of_layer, real(of_nodes)), expected)
    alpha, of_graph = run(layer, whole, **parts)[1], run(layer, graph)[1]
    assert_close({t: rows[: EDGES[t]] for t, rows in alpha.items()}, of_graph)
    assert all(not np.asarray(rows[EDGES[t] :]).any() for t, rows in alpha.items())


@pytest.mark.slow
@one_of_each
def test_blocks_are_the_formula(case):
    graph = typed_graph()
    blocked, direct = (differentiate(built(case, block_size=size), graph) for size in (3, None))
    leaves = [jax.tree.leaves(result) for result in (blocked, direct)]
    for one, other in zip(*leaves, strict=True):
        assert_close(one, other)


@one_of_each
def test_dtype_and_param_dtype_are_honoured(case):
    """Of all types of nodes: in which precision they come in says nothing where `dtype` does."""
    for nodes, dtype, param_dtype, expected in [
        ("float32", None, "float32", "float32"),
        ("bfloat16", None, "float32", "float32"),
        ("bfloat16", None, "bfloat16", "bfloat16"),
        ("float32", "bfloat16", "float32", "bfloat16"),
    ]:
        options = {"dtype": dtype, "param_dtype": jnp.dtype(param_dtype)}
        layer = nnx.eval_shape(
            lambda options=options: case.build(rngs=nnx.Rngs(0), **case.options, **options)
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer))} == {
            jnp.dtype(param_dtype)
        }
        graph = typed_graph()
        graph = graph._replace(
            nodes={name: jnp.asarray(rows, nodes) for name, rows in graph.nodes.items()}
        )
        out = nnx.eval_shape(lambda layer, graph: layer(graph).nodes, layer, graph)
        entered = {triple[2] for triple in RELATIONS}
        assert {out[name].dtype for name in entered} == {jnp.dtype(expected)}, (nodes, dtype)


@pytest.mark.slow
@one_of_each
def test_bfloat16_with_thousands_of_edges_at_one_node(case):
    """No sum over edges, of one relation or of several, is taken in half precision."""
    rng = np.random.default_rng(4)
    graph = typed_graph()
    rounded = {
        name: np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32)
        for name, x in graph.nodes.items()
    }
    ends = {
        t: (rng.integers(0, COUNTS[t[0]], 4099), np.zeros(4099, int))
        for t in RELATIONS
        if t[1] in ("writes", "in")
    }
    given = {
        t: ends.get(t, (graph.relations[t].senders, graph.relations[t].receivers))
        for t in RELATIONS
    }
    crowd = build_typed_graph(rounded, given)
    for size in (None, 256):
        options = {"param_dtype": jnp.bfloat16, "block_size": size}
        wide, narrow = (
            built(case, dtype=dtype, **options) for dtype in (jnp.float32, jnp.bfloat16)
        )
        expected, actual = differentiate(wide, crowd), differentiate(narrow, crowd)
        for k, part in enumerate(("nodes", "parameters", "gradient of nodes")):
            assert_close(*(in_one(result[k]) for result in (actual, expected)), 0.02, of=part)


def in_one(tree):
    return np.concatenate(
        [np.ravel(np.asarray(leaf, np.float32)) for leaf in jax.tree.leaves(tree)]
    )


@pytest.mark.slow
@one_of_each
def test_weights_of_edges_and_dropout_of_them(case):
    """A weight of 0 takes an edge's value away, a weight of 1 changes nothing; one relation alone may have weights."""
    layer, graph = built(case), typed_graph()
    triple = "author", "writes", "paper"
    ones = run(layer, graph, edge_weight={triple: np.ones(11, np.float32)})
    assert_close(ones, run(layer, graph))
    half = run(layer, graph, edge_weight={triple: np.full(11, 0.5, np.float32)})[1]
    expected = {t: rows * (0.5 if t == triple else 1.0) for t, rows in run(layer, graph)[1].items()}
    assert_close(half, expected)
    rates = DropoutRates(inputs=0.3, projected=0.4, attention=0.5)
    dropping = built(case, dropout_rate=rates)
    draw = lambda seed: dropping(graph, rngs=nnx.Rngs(dropout=seed), deterministic=False).nodes[
        "paper"
    ]
    assert changed_rows(draw(0), draw(1)) and not changed_rows(draw(0), draw(0))
    assert_close(dropping(graph, deterministic=True).nodes, layer(graph).nodes)


@pytest.mark.slow
@one_of_each
def test_one_compilation_serves_a_second_graph(case):
    layer, traced = built(case), []

    @nnx.jit
    def counted(layer, graph):
        traced.append(1)
        return layer(graph).nodes

    for seed in (0, 1):
        assert_close(counted(layer, typed_graph(seed)), run(layer, typed_graph(seed))[0])
    assert len(traced) == 1


@pytest.mark.slow
def test_a_layer_and_a_model_in_linen_on_disk_and_in_a_table(tmp_path):
    graph = typed_graph()
    module = nnx.bridge.to_linen(HGTConv, WIDTHS, OUT, relations=RELATIONS, num_heads=HEADS)
    variables = module.init(jax.random.key(0), graph)
    alpha = module.apply(variables, graph, nnx_method="attention")
    assert module.apply(variables, graph).nodes["paper"].shape == (5, OUT)
    assert alpha["paper", "by", "author"].shape == (13, HEADS)
    arguments = {
        "in_features": WIDTHS,
        "out_features": 3,
        "relations": RELATIONS,
        "target": "paper",
        "hidden_features": OUT,
        "num_heads": HEADS,
        "dropout_rate": DropoutRates(attention=0.5),
    }
    model = HGT(**arguments, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", "HGT", arguments, model)
    loaded = load_model(tmp_path / "model")
    model.eval()
    assert_close(loaded(graph).nodes, model(graph).nodes)
    layers = {line.path: line.output for line in summary(model, graph).layers}
    assert layers["layers.0"]["nodes.author"] == (7, OUT)


@pytest.mark.slow
def test_a_model_learns_what_two_relations_away_says():
    """The class of a paper is that of its author, which the paper does not know."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, 30)
    graph = build_typed_graph(
        {"author": np.eye(2, dtype=np.float32)[kinds], "paper": np.ones((30, 1), np.float32)},
        {("author", "writes", "paper"): (np.arange(30), np.arange(30))},
    )
    pure = node_classification(
        lambda rngs: HGT(
            {"author": 2, "paper": 1},
            2,
            relations=graph.triples,
            target="paper",
            hidden_features=OUT,
            num_layers=1,
            num_heads=HEADS,
            rngs=rngs,
        )
    )
    labels = Labels(np.arange(20), kinds[:20], np.arange(20, 30), kinds[20:])
    parameters = pure.initialise(jax.random.key(0))
    step = jax.jit(
        lambda p: jax.tree.map(
            lambda x, d: x - d, p, jax.grad(pure.loss)(p, jax.random.key(1), graph, labels)
        )
    )
    for _ in range(30):
        parameters = step(parameters)
    assert float(pure.validate(parameters, graph, labels).accuracy) == 1


WRITES, BY = ("author", "writes", "paper"), ("paper", "by", "author")
SMALL = build_typed_graph(
    {"author": np.ones((2, 4), np.float32), "paper": np.ones((3, 6), np.float32)},
    {WRITES: ([0], [1]), BY: ([2], [1])},
)
RNGS = nnx.Rngs(0)


def gat(*widths, out=OUT):
    return GATConv(widths, out, rngs=RNGS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: TypedConv({}), ValueError, "layers is empty"),
        (
            lambda: TypedConv({"writes": gat(6, 4)}),
            TypeError,
            "layers must name relations by triples",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4)}, combine="max"),
            ValueError,
            'combine must be "sum", "mean" or a',
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4)})(SMALL),
            ValueError,
            "built for author -writes-> paper, and the graph has author -writes-> paper, paper -by-> author",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 5), BY: None})(SMALL),
            ValueError,
            "author -writes-> paper: senders must be [M, 5], got [2, 4]",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4), BY: None})(
                SMALL, node_mask={"venue": np.ones(2, bool)}
            ),
            ValueError,
            "node_mask has 'venue': the graph has author, paper",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4), BY: None})(
                SMALL, edge_mask={"writes": np.ones(1, bool)}
            ),
            ValueError,
            "edge_mask has 'writes': the graph has author -writes-> paper",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4), BY: None})(
                SMALL, node_mask={"paper": np.ones(2, bool)}
            ),
            ValueError,
            "node_mask['paper'] must have 3 rows, got 2",
        ),
        (
            lambda: TypedConv({WRITES: gat(6, 4), BY: None})(SMALL, node_mask=np.ones(5, bool)),
            TypeError,
            "node_mask must be a dictionary by type of nodes, such as {'author': ...}, got ndarray",
        ),
        (
            lambda: HGTConv({"author": 4, "paper": 6}, 8, relations=[WRITES, BY], rngs=RNGS)(
                SMALL, edge_weight=np.ones(1)
            ),
            TypeError,
            "edge_weight must be a dictionary by relation, such as {('author', ",
        ),
        (
            lambda: TypedLinear({}, 8, rngs=RNGS),
            TypeError,
            "in_features must give the width of each type",
        ),
        (
            lambda: TypedLinear({"author": 4, "paper": 5}, 8, rngs=RNGS)(SMALL),
            ValueError,
            "nodes['paper'] must be [N, 5], got [3, 6]",
        ),
        (
            lambda: TypedLinear({"author": 4}, 8, rngs=RNGS)(SMALL),
            ValueError,
            "built for author, and the graph has author, paper",
        ),
        (
            lambda: TypedLinear({"author": 4, "paper": 6}, 8, rngs=RNGS)(
                SMALL._replace(nodes={**SMALL.nodes, "paper": None})
            ),
            ValueError,
            "a layer needs nodes['paper'] [N, F], an array or a BCOO, got NoneType",
        ),
        (
            lambda: HGTConv({"author": 4}, 8, relations=[WRITES], rngs=RNGS),
            ValueError,
            "relation author -writes-> paper is between types of which in_features has no width",
        ),
        (
            lambda: HGTConv({"author": 4}, 8, relations=[], rngs=RNGS),
            ValueError,
            "relations is empty",
        ),
        (
            lambda: HGTConv({"author": 4, "paper": 6}, 8, relations=[WRITES], rngs=RNGS)(SMALL),
            ValueError,
            "built for author -writes-> paper, and the graph has",
        ),
        (
            lambda: HGT({"author": 4}, 8, relations=[WRITES], target="paper", rngs=RNGS),
            ValueError,
            "target 'paper' is no type of in_features: it has author",
        ),
    ],
)
def test_bad_input(call, error, message, unchecked):
    with rejects(error, message):
        call()


@pytest.mark.slow
def test_outputs_of_several_widths_cannot_be_added(unchecked):
    other = "author", "reviews", "paper"
    relations = {WRITES: ([0], [1]), other: ([0], [1])}
    graph = build_typed_graph(SMALL.nodes, relations)
    layer = TypedConv({WRITES: gat(6, 4), other: gat(6, 4, out=4)})
    with rejects(ValueError, "what enters 'paper' has several shapes"):
        layer(graph)
    # The remedies: one width, or the relation left out.
    assert TypedConv({WRITES: gat(6, 4), other: gat(6, 4)})(graph).nodes["paper"].shape == (3, OUT)
    left = TypedConv({WRITES: gat(6, 4), other: None})(graph)
    assert left.nodes["paper"].shape == (3, OUT) and left.nodes["author"].shape == (2, 4)
