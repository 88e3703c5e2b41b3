"""The layers under test, one row each, the graph they run on, and the formulas of the papers in plain loops.

A new layer is one row of `CASES`: every property in `tests/layers` that runs over the table then holds for it too.
A reference is optional; it is written from the equations, in NumPy, and shares no code with the package.
"""

# A layer is whatever the table holds, so its parameters are unknown to the type checker.

import doctest
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jraph import GraphsTuple
from reference import (
    bahdanau_logit,
    dot_logit,
    edge_attention,
    gat_logit,
    gatv2_logit,
    hardmax,
    leaky_relu,
    softmax,
)

from gatjax.graph import build_graph
from gatjax.layers import (
    AdditiveConv,
    AttentionBlock,
    Conv,
    DotProductConv,
    DropoutRates,
    GaANConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GeneralConv,
    HANConv,
    MATConv,
    MeanConv,
    RelationalGATConv,
)
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import Setup

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "mechanism.md"


def of_the_guide(name: str) -> type[Conv]:
    """The layer that the guide to mechanisms makes."""
    names: dict[str, Any] = {"__name__": __name__}
    for example in doctest.DocTestParser().get_examples(GUIDE.read_text()):
        if example.source.startswith(("import", "from", "def cosine", "class")):
            exec(example.source, names)
    layer = names[name]
    layer.__init__ = listed(AttentionOptions, Setup)(layer.__init__)
    return layer


CosineConv = of_the_guide("CosineConv")

NODES, EDGES, IN, OUT, HEADS, EDGE_WIDTH = 11, 29, 5, 21, 3, 2
RELATIONS = 4
GLOBAL_WIDTH = 2
ISOLATED = NODES - 1
ALL_THREE = DropoutRates(inputs=0.3, projected=0.4, attention=0.5)


class Keep(NamedTuple):
    """Dropout factors of the three places; 1 where nothing is dropped."""

    inputs: Any = 1.0
    projected: Any = 1.0
    attention: Any = 1.0


NOTHING_DROPPED = Keep()


def attend(graph, shape, logit, value, keep, **options):
    """Sums [N, H, C] and weights [E, H] over the edges of a graph; shape (H, C)."""
    shape = len(graph.nodes), *shape
    return edge_attention(
        logit,
        value,
        graph.senders,
        graph.receivers,
        shape,
        len(graph.nodes),
        multiplier=keep.attention,
        **options,
    )


def finish(layer, x, nodes):
    """Heads to one row, residual, bias; or heads and node through one matrix."""
    output = layer.output
    y = np.concatenate(list(x.transpose(1, 0, 2)), axis=1)
    if isinstance(layer, GaANConv):
        return affine(output.dense, np.concatenate([y, nodes], axis=1))
    if output.combine == "mean":
        y = sum(x[:, h] for h in range(x.shape[1])) / x.shape[1]
    if output.residual:
        y = y + (nodes if output.projection is None else nodes @ array(output.projection)[:, 0])
    return y if output.bias is None else y + np.asarray(output.bias[...])


def array(module):
    return np.asarray(getattr(module, "kernel", module)[...])


def affine(dense, x):
    y = x @ array(dense)
    return y if dense.bias is None else y + np.asarray(dense.bias[...])


def heads(nodes, module):
    """[N, H, C], without a bias."""
    return np.einsum("nf,fhc->nhc", nodes, array(module))


def with_bias(z, module):
    return z if module.bias is None else z + array(module.bias)[None]


def gat(layer, graph, keep=NOTHING_DROPPED):
    """a split in its two halves: the first acts on the receiver, the second on the sender."""
    z = heads(graph.nodes * keep.inputs, layer.projection)
    vector = np.concatenate([array(layer.receiver_vector), array(layer.sender_vector)], axis=1)
    bias = 0.0 if layer.score_bias is None else array(layer.score_bias)
    term = np.zeros((len(graph.senders), len(vector))) + bias
    if layer.edge_features is not None:
        projected = heads(graph.edges, layer.edge_term.projection)
        term = term + (projected * array(layer.edge_term.vector)).sum(-1)
    dropped = z * keep.projected
    x, alpha = attend(
        graph,
        z.shape[1:],
        lambda i, j, k: gat_logit(z[i], z[j], vector, layer.negative_slope, term[k]),
        lambda i, j, k: dropped[j],
        keep,
        weigh=softmax if layer.weighing.normalize == "softmax" else hardmax,
    )
    return finish(layer, x, graph.nodes), alpha


def gatv2(layer, graph, keep=NOTHING_DROPPED):
    nodes = graph.nodes * keep.inputs
    receiving = sending = with_bias(heads(nodes, layer.sender_projection), layer.sender_projection)
    if layer.receiver_projection is not None:
        receiving = heads(nodes, layer.receiver_projection)
    vector = array(layer.vector)
    bias = 0.0 if layer.score_bias is None else array(layer.score_bias)
    edge = np.zeros((len(graph.senders), *vector.shape)) + bias
    if layer.edge_features is not None:
        edge = edge + heads(graph.edges, layer.edge_projection)
    dropped = sending * keep.projected
    x, alpha = attend(
        graph,
        vector.shape,
        lambda i, j, k: gatv2_logit(
            receiving[i], sending[j], vector, edge[k], layer.negative_slope
        ),
        lambda i, j, k: dropped[j],
        keep,
    )
    return finish(layer, x, graph.nodes), alpha


def dot_product(layer, graph, keep=NOTHING_DROPPED):
    nodes = graph.nodes * keep.inputs
    query, key, value = (heads(nodes, part) for part in (layer.query, layer.key, layer.value))
    if layer.query.bias is not None:
        query = query + array(layer.query.bias)[None]
    dropped = with_bias(value, layer.value) * keep.projected
    edge, bias = edge_terms(layer, graph.edges, len(graph.senders), query.shape[1:])
    x, alpha = attend(
        graph,
        query.shape[1:],
        lambda i, j, k: dot_logit(query[i], key[j] + edge[k]) + bias[k],
        lambda i, j, k: dropped[j] + edge[k],
        keep,
    )
    return finish(layer, x, graph.nodes), alpha


def edge_terms(layer, features, count, shape):
    """What edge features [E, D] add to key and value, [E, H, C], and to the logit, [E, H]; zeros where they do not."""
    rows, numbers = np.zeros((count, *shape)), np.zeros((count, shape[0]))
    if layer.edge_projection is not None:
        rows = heads(features, layer.edge_projection)
    if layer.edge_bias is not None:
        numbers = features @ array(layer.edge_bias)
    return rows, numbers


def additive(layer, graph, keep=NOTHING_DROPPED):
    nodes = graph.nodes * keep.inputs
    query, key, value = (heads(nodes, part) for part in (layer.query, layer.key, layer.value))
    if layer.query.bias is not None:
        query = query + array(layer.query.bias)[None]
    edge = np.zeros((len(graph.senders), *query.shape[1:]))
    if layer.edge_features is not None:
        edge = heads(graph.edges, layer.edge_projection)
    dropped, vector = value * keep.projected, array(layer.vector)
    x, alpha = attend(
        graph,
        query.shape[1:],
        lambda i, j, k: bahdanau_logit(query[i], key[j], vector, edge[k]),
        lambda i, j, k: dropped[j],
        keep,
    )
    return finish(layer, x, graph.nodes), alpha


def general(layer, graph, keep=NOTHING_DROPPED):
    """Row times matrix times row, a matrix per head."""
    nodes = graph.nodes * keep.inputs
    value = heads(nodes, layer.value)
    kernel, dropped = array(layer.query), value * keep.projected
    edge = np.zeros((len(graph.senders), kernel.shape[2]))
    if layer.edge_features is not None:
        edge = heads(graph.edges, layer.edge_projection)[:, 0]
    matrices = [kernel[:, h] for h in range(kernel.shape[1])]
    x, alpha = attend(
        graph,
        value.shape[1:],
        lambda i, j, k: np.array([nodes[i] @ w @ (nodes[j] + edge[k]) for w in matrices]),
        lambda i, j, k: dropped[j],
        keep,
    )
    return finish(layer, x, graph.nodes), alpha


def cosine(layer, graph, keep=NOTHING_DROPPED):
    """The layer of the guide: the angle between the ends, less their squared distance."""
    nodes = graph.nodes * keep.inputs
    query, key = heads(nodes, layer.query), heads(nodes, layer.key)
    sharpness, slope = array(layer.scales)
    dropped = key * keep.projected

    def logit(i, j, k):
        lengths = np.prod([np.sqrt((z**2).sum(-1) + 1e-12) for z in (query[i], key[j])], axis=0)
        return sharpness * (query[i] * key[j]).sum(-1) / lengths - slope * np.sum(
            graph.edges[k] ** 2
        )

    x, alpha = attend(graph, key.shape[1:], logit, lambda i, j, k: dropped[j], keep)
    return finish(layer, x, graph.nodes), alpha


def molecule(layer, graph, keep=NOTHING_DROPPED):
    """Three matrices, each over the edges that enter a node; a logit carries the length and the bond of its edge."""
    nodes = graph.nodes * keep.inputs
    query, key, value = (heads(nodes, part) for part in (layer.query, layer.key, layer.value))
    if layer.query.bias is not None:
        query = query + array(layer.query.bias)[None]
    dropped = value * keep.projected
    features, bias = edge_terms(
        layer, graph.edges.get("features"), len(graph.senders), query.shape[1:]
    )
    parts = layer.weights if isinstance(layer.weights, tuple) else array(layer.weights)
    distance, adjacency = graph.edges["distance"], graph.edges["adjacency"]

    def logit(i, j, k):
        known = np.array([distance[k], adjacency[k]])
        return np.concatenate([dot_logit(query[i], key[j] + features[k]) + bias[k], known])

    def weigh(rows):
        logits, distance, adjacency = rows[:, :-2], rows[:, -2:-1], rows[:, -1:]
        near = np.exp(-distance) if layer.kernel == "exp" else softmax(-distance)
        shares = adjacency / (adjacency.sum() + 1e-6)
        return parts[0] * softmax(logits) + parts[1] * near + parts[2] * shares

    value = lambda i, j, k: dropped[j] + features[k]
    x, alpha = attend(graph, query.shape[1:], logit, value, keep, weigh=weigh)
    return finish(layer, x, graph.nodes), alpha


def attention_block(layer, graph, keep=NOTHING_DROPPED):
    """Matrices on concatenated rows: [receiver ‖ u] asks, [sender ‖ edge] answers, u in the value too."""
    step, nodes = layer.step, graph.nodes * keep.inputs
    u = np.zeros(0) if step.global_features is None else graph.globals[0]
    stacked = lambda *parts: np.concatenate([array(part) for part in parts if part is not None])
    on_query = stacked(step.query, step.global_query)
    on_key = stacked(step.key, step.edge_key)
    on_value = stacked(step.value, step.global_value)
    _, num_heads, features = on_query.shape
    bias = 0.0 if step.query.bias is None else array(step.query.bias)
    kept = np.broadcast_to(keep.projected, (len(nodes), num_heads, features))
    edges = np.zeros((len(graph.senders), 0)) if graph.edges is None else graph.edges
    times = lambda row, kernel: np.tensordot(row, kernel, axes=1)

    def logit(i, j, k):
        query = times(np.concatenate([nodes[i], u]), on_query) + bias
        return dot_logit(query, times(np.concatenate([nodes[j], edges[k]]), on_key), step.scale)

    def value(i, j, k):
        of_edge = 0.0 if step.edge_value is None else times(edges[k], array(step.edge_value))
        return kept[j] * times(np.concatenate([nodes[j], u]), on_value) + of_edge

    x, alpha = attend(graph, (num_heads, features), logit, value, keep)
    contracted = np.zeros((len(nodes), 1, array(layer.output.contraction).shape[2]))
    for h in range(num_heads):
        for c in range(features):
            contracted[:, 0] += np.outer(x[:, h, c], array(layer.output.contraction)[h, c])
    return finish(layer, contracted, graph.nodes), alpha


def mean(layer, graph, keep=NOTHING_DROPPED):
    z = heads(graph.nodes * keep.inputs, layer.projection) * keep.projected
    nothing = np.zeros(z.shape[1])
    x, alpha = attend(graph, z.shape[1:], lambda i, j, k: nothing, lambda i, j, k: z[j], keep)
    return finish(layer, x, graph.nodes), alpha


def gcn(layer, graph, keep=NOTHING_DROPPED):
    z = heads(graph.nodes * keep.inputs, layer.projection) * keep.projected
    degree = [max(1, np.sum(np.asarray(graph.receivers) == i)) for i in range(len(z))]
    x, alpha = attend(
        graph,
        z.shape[1:],
        lambda i, j, k: np.array([1 / np.sqrt(degree[i] * degree[j])]),
        lambda i, j, k: z[j],
        keep,
        weigh=lambda weights: weights,
    )
    return finish(layer, x, graph.nodes), alpha


def gaan(layer, graph, keep=NOTHING_DROPPED):
    nodes = graph.nodes * keep.inputs
    query, key, value = (heads(nodes, part) for part in (layer.query, layer.key, layer.value))
    if layer.query.bias is not None:
        query, value = query + array(layer.query.bias), value + array(layer.value.bias)
    value = leaky_relu(value, 0.1) * keep.projected
    width = query.shape[2]
    scale = {1: "none", 1 / width: "linear", width**-0.5: "sqrt"}[layer.scale]
    factor = {"none": 1.0, "sqrt": 1 / np.sqrt(width), "linear": 1 / width}[scale]

    def logit(i, j, k):
        total = dot_logit(query[i], key[j], factor)
        if layer.edge_features is not None:
            hidden = leaky_relu(affine(layer.edge_score.hidden, graph.edges[k]), 0.1)
            total = total + affine(layer.edge_score.out, hidden)
        return total

    x, alpha = attend(graph, value.shape[1:], logit, lambda i, j, k: value[j], keep)
    if layer.gate is not None:
        x = x * gaan_gate(layer.gate, graph, nodes)[:, :, None]
    return finish(layer, x, graph.nodes), alpha


def gaan_gate(gate, graph, nodes):
    """Of each node, from the largest projected and the mean raw features of its neighbours."""
    gates = []
    for i in range(len(nodes)):
        rows = [nodes[j] for j, k in zip(graph.senders, graph.receivers, strict=True) if k == i]
        projected = [row @ array(gate.pool) for row in rows]
        most = np.max(projected, axis=0) if rows else np.zeros(gate.pool.kernel.shape[1])
        mean = np.mean(rows, axis=0) if rows else np.zeros_like(nodes[i])
        if gate.out is None:
            z = affine(gate.context, np.concatenate([most, mean, nodes[i]]))
        else:
            hidden = affine(gate.context, np.concatenate([most, mean]))
            z = affine(gate.out, leaky_relu(hidden, 0.1))
        gates.append(1 / (1 + np.exp(-z)))
    return np.array(gates)


def relational(layer, graph, keep=NOTHING_DROPPED):
    """`within` attends to one relation after the other and adds up, `across` to all edges at once. Features of an edge
    add a term to the sum, and to the key of a product."""
    projection, nodes = layer.projection, graph.nodes * keep.inputs
    kernel = array(projection)
    if projection.coefficients is not None:
        kernel = np.einsum("fbhc,br->frhc", kernel, array(projection.coefficients))
    z = np.einsum("nf,frhc->nrhc", nodes, kernel)
    has_features = layer.edge_features is not None
    relations = np.asarray(graph.edges["relation"] if has_features else graph.edges)
    edge = heads(graph.edges["features"], layer.edge_projection) if has_features else None
    kept = np.broadcast_to(keep.projected, (len(nodes) * z.shape[1], *z.shape[2:]))
    dropped = z * kept.reshape(z.shape)

    def additive_logit(i, j, k):
        r = relations[k]
        vector = np.concatenate(
            [array(layer.receiver_vector)[r], array(layer.sender_vector)[r]], axis=1
        )
        own = 0.0 if edge is None else (edge[k] * array(layer.edge_vector)[r]).sum(-1)
        return gat_logit(z[i, r], z[j, r], vector, layer.negative_slope, own)

    def product_logit(i, j, k):
        r, products = relations[k], []
        for h in range(z.shape[2]):
            query, key = (
                row[h] @ array(part)[r, h]
                for row, part in ((z[i, r], layer.query), (z[j, r], layer.key))
            )
            products.append(query @ (key if edge is None else key + edge[k, h]))
        return np.array(products)

    logit = additive_logit if layer.score == "additive" else product_logit
    value = lambda i, j, k: dropped[j, relations[k]]
    every = np.ones(len(relations), bool)
    within = [relations == r for r in range(layer.num_relations)]
    parts = [
        attend(graph, z.shape[2:], logit, value, keep, mask=mask)
        for mask in (within if layer.softmax == "within" else [every])
    ]
    x, alpha = (sum(part) for part in zip(*parts, strict=True))
    return finish(layer, x, graph.nodes), alpha


def han(layer, graph, keep=NOTHING_DROPPED):
    """GAT by each path, ELU, and the paths by their weights: those of the mean over the nodes, or of each node."""
    z = np.einsum("nf,frhc->nrhc", graph.nodes * keep.inputs, array(layer.projection))
    kept = np.broadcast_to(keep.projected, (len(z) * z.shape[1], *z.shape[2:]))
    dropped, relations, parts, weights = z * kept.reshape(z.shape), np.asarray(graph.edges), [], []
    for p in range(layer.num_relations):
        vector = np.concatenate(
            [array(layer.receiver_vector)[p], array(layer.sender_vector)[p]], axis=1
        )
        x, alpha = attend(
            graph,
            z.shape[2:],
            lambda i, j, k, p=p, a=vector: gat_logit(z[i, p], z[j, p], a, layer.negative_slope),
            lambda i, j, k, p=p: dropped[j, p],
            keep,
            mask=relations == p,
        )
        x = x if layer.bias is None else x + array(layer.bias)[p]
        parts.append(np.where(x > 0, x, np.expm1(np.minimum(x, 0))))
        weights.append(alpha)
    hidden, query = layer.comparison.hidden, array(layer.comparison.query)[0]
    compared = [np.tanh(affine(hidden, part.reshape(len(part), -1))) @ query for part in parts]
    if layer.comparison.semantic == "graph":
        compared = [np.full(len(w), w.mean()) for w in compared]
    betas = softmax(np.stack(compared))
    x = sum(beta[:, None, None] * part for beta, part in zip(betas, parts, strict=True))
    return finish(layer, x, graph.nodes), sum(weights)


class Case(NamedTuple):
    """A layer and its settings; widths, keys and dropout are given when it is built.

    Attributes:
      reference: `reference(layer, graph, keep) -> ([N, out], [E, H])` in float64 NumPy.
      sums_to_one: whether the attention over each receiver's edges does.
      linear: whether the output is linear in the node features.
      local: whether a node's output depends on its own edges alone.
      hard: whether each receiver reads one sender alone; the gradient is then that of another function.
    """

    name: str
    layer: Callable[..., nnx.Module]
    options: dict[str, Any]
    reference: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    sums_to_one: bool = True
    linear: bool = False
    local: bool = True
    hard: bool = False


_heads = {"num_heads": HEADS}
_edges = {**_heads, "edge_features": EDGE_WIDTH}
_mean = {"combine": "mean"}
_gaan = {**_heads, "key_features": 5, "value_features": 7, "gate_features": 13}
_relations = {**_heads, "num_relations": RELATIONS}
_globals = {"global_features": GLOBAL_WIDTH, "residual": True}

CASES = [
    Case("GATConv", GATConv, {**_heads, "use_score_bias": True}, gat),
    Case("GATConv-hard", GATConv, {**_heads, "normalize": "straight_through"}, gat, hard=True),
    Case("GATConv-edges", GATConv, {**_edges, "residual": True, "negative_slope": 0.3}, gat),
    Case("GATv2Conv", GATv2Conv, {**_heads, "use_score_bias": False}, gatv2),
    Case("GATv2Conv-shared", GATv2Conv, {**_heads, "share_weights": True}, gatv2),
    Case(
        "GATv2Conv-edges",
        GATv2Conv,
        {**_edges, **_mean, "residual": True, "use_value_bias": True},
        gatv2,
    ),
    Case("DotProductConv", DotProductConv, {**_heads, "residual": "linear"}, dot_product),
    Case(
        "DotProductConv-edges",
        DotProductConv,
        {**_edges, **_mean, "use_value_bias": True},
        dot_product,
    ),
    Case("DotProductConv-logit", DotProductConv, {**_edges, "edges_in": "logit"}, dot_product),
    Case("AdditiveConv", AdditiveConv, {**_edges, "residual": True}, additive),
    Case("GeneralConv", GeneralConv, _edges, general),
    Case("CosineConv", CosineConv, _edges, cosine),
    Case("MATConv", MATConv, {**_heads, "trainable_weights": True}, molecule, sums_to_one=False),
    Case(
        "MATConv-edges",
        MATConv,
        {**_edges, "kernel": "softmax", "edges_in": "both"},
        molecule,
        sums_to_one=False,
    ),
    Case("GaANConv", GaANConv, _gaan, gaan),
    Case("GaANConv-none", GaANConv, {**_gaan, "gate": "none", "use_bias": False}, gaan),
    Case("GaANConv-code", GaANConv, {**_gaan, "gate": "code", "scale": "linear"}, gaan),
    Case("GaANConv-edges", GaANConv, {**_gaan, "edge_features": EDGE_WIDTH, "scale": "sqrt"}, gaan),
    Case("RelationalGATConv", RelationalGATConv, _relations, relational),
    Case(
        "RelationalGATConv-edges",
        RelationalGATConv,
        {
            **{**_edges, "num_relations": RELATIONS, "num_bases": 3},
            **{"score": "multiplicative", "key_features": 2, "softmax": "within"},
        },
        relational,
        sums_to_one=False,
    ),
    Case(
        "RelationalGATConv-within",
        RelationalGATConv,
        {**_relations, **_mean, "softmax": "within", "num_bases": 2, "residual": True},
        relational,
        sums_to_one=False,
    ),
    Case(
        "HANConv",
        HANConv,
        {**_relations, "residual": True},
        han,
        sums_to_one=False,
        local=False,
    ),
    Case("HANConv-node", HANConv, {**_relations, "semantic": "node"}, han, sums_to_one=False),
    Case("AttentionBlock", AttentionBlock, {}, attention_block),
    Case("AttentionBlock-full", AttentionBlock, {**_edges, **_globals}, attention_block),
    Case("MeanConv", MeanConv, {**_heads, "residual": True}, mean, linear=True),
    Case("GCNConv", GCNConv, {}, gcn, sums_to_one=False, linear=True),
]
ONE_EACH = list({case.layer: case for case in reversed(CASES)}.values())[::-1]
FULLEST = list({case.layer: case for case in CASES}.values())
SOFT = [case for case in CASES if not case.hard]
LOCAL = [case for case in CASES if case.local]
# What a node sums up meets nothing but a linear output.
ADDING = [case for case in CASES if case.layer is not HANConv]
WITH_EDGES = [case for case in CASES if "edge_features" in case.options]
FEATURES_ALONE = [
    case for case in WITH_EDGES if "num_relations" not in case.options and case.layer is not MATConv
]


def takes(case: Case, option: str) -> bool:
    return option in inspect.signature(case.layer.__init__).parameters


# For what all layers share: with heads, with pools of its own, with edges that attend, and without a softmax.
REPRESENTATIVES = {GATConv, GaANConv, AttentionBlock, MeanConv}
# Layers that only score differently: `test_equations` runs them by default, the other properties when slow tests run.
SCORES_ALONE = {GATv2Conv, DotProductConv, AdditiveConv, GeneralConv, CosineConv, MATConv, HANConv}
EVERY_LAYER = {case.layer for case in CASES}


def rows(cases: list[Case], fast=None):
    """A parametrised test; of several rows of one layer only the first is for the fast suite.

    `fast` names the layers that are in it at all; all but those that only score differently by default.
    """
    fast = fast or EVERY_LAYER - SCORES_ALONE
    first = {case.layer: case.name for case in reversed(cases) if case.layer in fast}
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(
                case,
                id=case.name,
                marks=() if first.get(case.layer) == case.name else pytest.mark.slow,
            )
            for case in cases
        ],
    )


# What `build` has made in this process: compiling the initialisers takes longer than most tests.
_built = {}

all_layers, one_of_each, fullest_of_each = rows(CASES), rows(ONE_EACH), rows(FULLEST)
shared_by_all = rows(ONE_EACH, REPRESENTATIVES)


def make(case: Case, seed: int = 0, in_features: int = IN, out_features: int = OUT, **options):
    """The layer as it is initialised.

    A layer that always adds the input has no option `residual`, and does not get it.
    """
    options = {name: value for name, value in options.items() if takes(case, name)}
    options = {**case.options, **options}
    return case.layer(in_features, out_features, **options, rngs=nnx.Rngs(seed))


def build(case: Case, seed: int = 0, in_features: int = IN, out_features: int = OUT, **options):
    """A layer of the caller's own, with its zero-initialised parameters drawn at random, so that a lost bias shows."""
    settings = *case.options.items(), *options.items(), jnp.result_type(float)
    key = case.layer, seed, in_features, out_features, settings
    if key not in _built:
        layer = make(case, seed, in_features, out_features, **options)
        rng = np.random.default_rng(seed)
        fill = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)
        drawn = lambda leaf: leaf if np.asarray(leaf).any() else fill(leaf)
        nnx.update(layer, jax.tree.map(drawn, nnx.state(layer, nnx.Param)))
        _built[key] = nnx.split(layer)
    return nnx.merge(*_built[key], copy=True)


def blank(layer, *widths, **options):
    """A layer whose parameters are all zero, to be written by hand."""
    options = {"kernel_init": nnx.initializers.zeros_init(), "use_bias": False, **options}
    return layer(*widths, **options, rngs=nnx.Rngs(0))


def graph_for(
    case: Case, seed: int = 0, nodes: int = NODES, edges: int = EDGES, dtype=np.float32
) -> GraphsTuple:
    """A directed graph with duplicates and a loop; nothing enters its last node, which does send."""
    rng = np.random.default_rng(seed)
    senders = rng.integers(0, nodes, edges).astype(np.int32)
    receivers = rng.integers(0, max(nodes - 1, 1), edges).astype(np.int32)
    if edges >= EDGES:
        senders[:4], receivers[:4] = (nodes - 1, 2, 2, 3), (1, 0, 0, 3)
    x = rng.normal(size=(nodes, IN)).astype(dtype)
    of_graph = case.options.get("global_features")
    return build_graph(
        senders,
        receivers,
        x,
        edges=edges_for(case, rng, edges, dtype),
        globals=None if of_graph is None else rng.normal(size=(1, of_graph)).astype(dtype),
    )


def edges_for(case: Case, rng: np.random.Generator, edges: int, dtype):
    """Features, relations, both or nothing, whichever the layer reads."""
    width = case.options.get("edge_features")
    known = {}
    if case.layer is MATConv:
        known = {"distance": rng.exponential(size=edges), "adjacency": rng.integers(1, 3, edges)}
        known = {name: values.astype(dtype) for name, values in known.items()}
    elif takes(case, "num_relations"):
        known = {"relation": rng.integers(0, RELATIONS, edges).astype(np.int32)}
        if width is None:
            return known["relation"]
    features = None if width is None else rng.normal(size=(edges, width)).astype(dtype)
    if not known:
        return features
    return known if features is None else {**known, "features": features}


def narrow(case: Case) -> GraphsTuple:
    """A graph whose nodes are as wide as the layer's output, so that layers can follow one another."""
    nodes = np.random.default_rng(8).normal(size=(NODES, OUT)).astype(np.float32)
    return graph_for(case)._replace(nodes=nodes)


def smooth_edges(graph: GraphsTuple):
    """The edge features that have a gradient: none where they are relations."""
    if isinstance(graph.edges, dict):
        return {name: leaf for name, leaf in graph.edges.items() if is_inexact(leaf)}
    return graph.edges if graph.edges is not None and is_inexact(graph.edges) else None


def is_inexact(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def fill_edges(graph: GraphsTuple, start: int, fraction: float, whole: int | None = None):
    """Write a number into the features of the edges from `start` on; another, or none, where they are relations."""
    for leaf in jax.tree.leaves(graph.edges):
        number = fraction if is_inexact(leaf) else whole
        if number is not None:
            leaf[start:] = number


def with_smooth(graph: GraphsTuple, features) -> GraphsTuple:
    """The graph with other edge features that have a gradient."""
    if features is None:
        return graph
    both = isinstance(graph.edges, dict)
    return graph._replace(edges={**graph.edges, **features} if both else features)


def values_shape(layer, graph: GraphsTuple) -> tuple[int, int, int]:
    """Shape of what is summed, and dropped out before."""
    relations = getattr(layer, "num_relations", 1)
    return len(graph.nodes) * relations, layer.num_heads, head_features(layer)


def head_features(layer) -> int:
    if isinstance(layer, GaANConv):
        return layer.value.kernel.shape[2]
    return OUT if layer.output.combine == "mean" else OUT // layer.num_heads


class Result(NamedTuple):
    nodes: jax.Array
    attention: jax.Array
    d_params: nnx.State
    d_nodes: jax.Array
    d_edges: jax.Array | None


def differentiate(graphdef, params, rest, graph, edge_mask, cotangent, key=None) -> Result:
    """Output, attention, and the gradient of <cotangent, output>; dropout only where there is a key."""

    def loss(params, nodes, edges):
        layer = nnx.merge(graphdef, params, rest, copy=True)
        whole = with_smooth(graph._replace(nodes=nodes), edges)
        rngs = None if key is None else nnx.Rngs(dropout=key)
        out = layer(whole, edge_mask=edge_mask, deterministic=key is None, rngs=rngs).nodes
        alpha = layer.attention(whole, edge_mask=edge_mask)
        return (out * cotangent).sum(), (out, alpha)

    gradient = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    (d_params, d_nodes, d_edges), (out, alpha) = gradient(params, graph.nodes, smooth_edges(graph))
    return Result(out, alpha, d_params, d_nodes, d_edges)


_compiled = jax.jit(differentiate, static_argnums=0)


def evaluate(layer: nnx.Module, graph: GraphsTuple, edge_mask=None, cotangent=None) -> Result:
    """`differentiate`, compiled once per layer and shape: ids and features are unknown to the compiler."""
    edge_mask = np.ones(len(graph.senders), bool) if edge_mask is None else edge_mask
    cotangent = weights_of(graph) if cotangent is None else cotangent
    return _compiled(*nnx.split(layer, nnx.Param, ...), graph, edge_mask, cotangent)


def weights_of(graph: GraphsTuple, width: int = OUT):
    """A fixed direction in which the output is differentiated."""
    rng = np.random.default_rng(99)
    return rng.normal(size=(graph.nodes.shape[0], width)).astype(graph.nodes.dtype)


def sum_by_receiver(graph: GraphsTuple, rows):
    total = np.zeros((len(graph.nodes), *rows.shape[1:]))
    np.add.at(total, np.asarray(graph.receivers), rows)
    return total
