"""What corresponds to what in PyTorch Geometric, DGL and jraph: both sides as Python, to be run side by side.

`side_by_side.py` runs every line and fills the tables of docs/from_pyg.md and docs/from_dgl_jraph.md; the tests
run our side alone, on what the others gave there.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jraph import GraphsTuple

import gatjax

Library = Literal["pyg", "dgl", "jraph"]


class Layer(NamedTuple):
    """A layer or a model of theirs, ours with its weights, and a call of each; `layer` is the one on the left."""

    theirs: str
    ours: str
    their_call: str = "layer(x, edge_index)"
    our_call: str = "layer(loops).nodes"


class Call(NamedTuple):
    """Two expressions with the same value."""

    theirs: str
    ours: str


DIRECTED = "layer(graph).nodes"
WITH_EDGES = "layer(x, edge_index, edge_attr)"
TABLES = "layer((table, x), edge_index)", "layer(graph, senders=table).nodes"
LONELY = "layer(x, lonely_index)", "layer(lonely).nodes"
TYPED = "layer(x, edge_index, edge_type)", "layer(typed).nodes"

LAYERS: dict[Library, tuple[Layer, ...]] = {
    "pyg": (
        Layer("GATConv(5, 2, heads=3)", "GATConv(5, 6, num_heads=3)"),
        Layer(
            "GATConv(5, 4, heads=3, concat=False)",
            'GATConv(5, 4, num_heads=3, combine="mean")',
        ),
        Layer(
            "GATConv(5, 2, heads=3, edge_dim=2)",
            "GATConv(5, 6, num_heads=3, edge_features=2)",
            WITH_EDGES,
            "layer(looped_edges).nodes",
        ),
        Layer(
            "GATConv(5, 2, heads=3, edge_dim=2)",
            "GATConv(5, 6, num_heads=3, edge_features=2)",
            "layer(x, own_index, own_attr)",
            "layer(add_self_loops(remove_self_loops(own))).nodes",
        ),
        Layer(
            "GATConv(5, 2, heads=3, edge_dim=2, fill_value=0.0)",
            "GATConv(5, 6, num_heads=3, edge_features=2)",
            WITH_EDGES,
            "layer(add_self_loops(edged, fill=0.0)).nodes",
        ),
        Layer("GATConv(5, 2, heads=3)", "GATConv(5, 6, num_heads=3)", WITH_EDGES),
        Layer(
            "GATConv(5, 5, residual=True, bias=False)",
            'GATConv(5, 5, residual="linear", use_bias=False)',
        ),
        Layer(
            "GATConv(5, 2, heads=3, negative_slope=0.1, add_self_loops=False)",
            "GATConv(5, 6, num_heads=3, negative_slope=0.1)",
            our_call=DIRECTED,
        ),
        Layer(
            "GATConv(5, 2, heads=3, add_self_loops=False)",
            "GATConv(5, 6, num_heads=3)",
            "layer(x, torch.cat([edge_index, edge_index], 1))",
            "layer(twice).nodes",
        ),
        Layer(
            "GATConv(5, 2, heads=3)",
            "GATConv(5, 6, num_heads=3)",
            "layer(x, edge_index, return_attention_weights=True)[1][1]",
            "layer.attention(loops)",
        ),
        Layer("GATv2Conv(5, 2, heads=3)", "GATv2Conv(5, 6, num_heads=3)"),
        Layer(
            "GATv2Conv(5, 4, heads=3, concat=False, share_weights=True)",
            'GATv2Conv(5, 4, num_heads=3, combine="mean", share_weights=True)',
        ),
        Layer(
            "GATv2Conv(5, 2, heads=3, edge_dim=2, residual=True)",
            'GATv2Conv(5, 6, num_heads=3, edge_features=2, residual="linear")',
            WITH_EDGES,
            "layer(looped_edges).nodes",
        ),
        Layer(
            "TransformerConv(5, 2, heads=3)",
            'DotProductConv(5, 6, num_heads=3, residual="linear")',
            our_call=DIRECTED,
        ),
        Layer(
            "TransformerConv(5, 2, heads=3, root_weight=False)",
            "DotProductConv(5, 6, num_heads=3)",
            our_call=DIRECTED,
        ),
        Layer(
            "TransformerConv(5, 4, heads=3, concat=False, edge_dim=2)",
            'DotProductConv(5, 4, num_heads=3, combine="mean", edge_features=2, residual="linear")',
            WITH_EDGES,
            "layer(edged).nodes",
        ),
        Layer(
            "TransformerConv(5, 2, heads=3)",
            'DotProductConv(5, 6, num_heads=3, residual="linear")',
            "layer(x, lonely_index) + lonely_node * layer.lin_value.bias",
            "layer(lonely).nodes",
        ),
        Layer(
            "GATConv((4, 5), 2, heads=3, add_self_loops=False)",
            "GATConv((5, 4), 6, num_heads=3)",
            *TABLES,
        ),
        Layer(
            "GATv2Conv((4, 5), 2, heads=3, add_self_loops=False)",
            "GATv2Conv((5, 4), 6, num_heads=3)",
            *TABLES,
        ),
        Layer(
            "TransformerConv((4, 5), 2, heads=3)",
            'DotProductConv((5, 4), 6, num_heads=3, residual="linear")',
            *TABLES,
        ),
        Layer("GCNConv(5, 4)", "GCNConv(5, 4)"),
        Layer(
            "GCNConv(5, 4)",
            "GCNConv(5, 4)",
            "layer(x, edge_index, edge_weight)",
            "layer(loops, edge_weight=looped_weight).nodes",
        ),
        Layer(
            "TransformerConv(5, 2, heads=3)",
            'DotProductConv(5, 6, num_heads=3, residual="linear", use_value_bias=True)',
            *LONELY,
        ),
        Layer(
            "TransformerConv(5, 4, heads=3, concat=False, root_weight=False)",
            'DotProductConv(5, 4, num_heads=3, combine="mean", use_value_bias=True)',
            *LONELY,
        ),
        Layer(
            "GATv2Conv(5, 2, heads=3, add_self_loops=False)",
            "GATv2Conv(5, 6, num_heads=3, use_value_bias=True)",
            *LONELY,
        ),
        Layer(
            "GATv2Conv(5, 2, heads=3, share_weights=True, add_self_loops=False)",
            "GATv2Conv(5, 6, num_heads=3, share_weights=True, use_value_bias=True)",
            *LONELY,
        ),
        Layer("RGATConv(5, 4, 3)", "RelationalGATConv(5, 4, num_relations=3)", *TYPED),
        Layer(
            'RGATConv(5, 4, 3, attention_mode="multiplicative-self-attention")',
            'RelationalGATConv(5, 4, num_relations=3, score="multiplicative", key_features=1)',
            *TYPED,
        ),
        Layer(
            "RGATConv(5, 4, 3, edge_dim=2)",
            "RelationalGATConv(5, 4, num_relations=3, edge_features=2)",
            "layer(x, edge_index, edge_type, edge_attr)",
            "layer(typed_edged).nodes",
        ),
        Layer(
            'RGATConv(5, 4, 3, num_bases=2, attention_mechanism="within-relation")',
            'RelationalGATConv(5, 4, num_relations=3, num_bases=2, softmax="within")',
            *TYPED,
        ),
        Layer(
            "GAT(5, 6, num_layers=3, out_channels=4, heads=2)",
            "GAT(5, 4, hidden_features=6, num_layers=3, num_heads=2, out_heads=2, activation=jax.nn.relu)",
        ),
        Layer(
            'GAT(5, 6, num_layers=2, out_channels=4, heads=2, v2=True, act="elu")',
            "GATv2(5, 4, hidden_features=6, num_heads=2, out_heads=2)",
        ),
        Layer(
            "GCN(5, 6, num_layers=2, out_channels=4)",
            "GCN(5, 4, hidden_features=6)",
        ),
        Layer(
            'Sequential("x, e", [(GATConv(5, 2, 3), "x, e -> x"), ELU(), (GATv2Conv(6, 4), "x, e -> x"), ELU(), '
            "Linear(4, 3)])",
            "Stack([GATConv(5, 6, num_heads=3), GATv2Conv(6, 4), NodeLinear(4, 3)])",
        ),
    ),
    "dgl": (
        Layer(
            "GATConv(5, 2, 3)",
            "GATConv(5, 6, num_heads=3)",
            "layer(g, x).flatten(1)",
            DIRECTED,
        ),
        Layer(
            "GATConv(5, 4, 3)",
            'GATConv(5, 4, num_heads=3, combine="mean")',
            "layer(g, x).mean(1)",
            DIRECTED,
        ),
        Layer(
            "GATConv(5, 5, 1, residual=True)",
            "GATConv(5, 5, residual=True)",
            "layer(g, x).flatten(1)",
            DIRECTED,
        ),
        Layer(
            "GATConv(5, 4, 3, residual=True)",
            'GATConv(5, 4, num_heads=3, combine="mean", residual=True)',
            "layer(g, x).mean(1)",
            DIRECTED,
        ),
        Layer(
            "GATConv(5, 2, 3)",
            "GATConv(5, 6, num_heads=3)",
            "layer(g, x, edge_weight=edge_weight).flatten(1)",
            "layer(graph, edge_weight=weight).nodes",
        ),
        Layer(
            "GATConv((4, 5), 2, 3)",
            "GATConv((5, 4), 6, num_heads=3)",
            "layer(gs, (table, x)).flatten(1)",
            "layer(graph, senders=table).nodes",
        ),
        Layer(
            "GATv2Conv(5, 2, 3)",
            "GATv2Conv(5, 6, num_heads=3)",
            "layer(g, x).flatten(1)",
            DIRECTED,
        ),
        Layer(
            "GATv2Conv(5, 4, 3, share_weights=True, residual=True)",
            'GATv2Conv(5, 4, num_heads=3, combine="mean", share_weights=True, residual=True)',
            "layer(g, x).mean(1)",
            DIRECTED,
        ),
        Layer(
            "GATv2Conv(5, 2, 3, allow_zero_in_degree=True)",
            "GATv2Conv(5, 6, num_heads=3, use_value_bias=True)",
            "layer(lonely_g, x).flatten(1)",
            "layer(lonely).nodes",
        ),
        Layer(
            "DotGatConv(5, 2, 3)",
            "DotProductConv(5, 6, num_heads=3, use_bias=False)",
            "layer(g, x).flatten(1)",
            DIRECTED,
        ),
        Layer("GraphConv(5, 4)", "GCNConv(5, 4)", "layer(both, x)", "layer(both).nodes"),
    ),
    "jraph": (),
}

CALLS: dict[Library, tuple[Call, ...]] = {
    "pyg": (
        Call(
            "torch.stack(list(add_remaining_self_loops(edge_index)[0]))",
            "np.stack([loops.senders, loops.receivers])",
        ),
        Call("softmax(logits, edge_index[1], num_nodes=11)", "attention_weights(graph, logits)"),
        Call("degree(edge_index[1], 11)", "in_degree(graph)"),
        Call("adjacency(coalesce(edge_index))", "adjacency(coalesce(graph))"),
        Call("adjacency(to_undirected(edge_index))", "adjacency(to_undirected(graph))"),
        Call(
            "subgraph(torch.tensor([2, 3, 5, 7]), edge_index, relabel_nodes=True)[0]",
            "edge_index_of(subgraph(graph, [2, 3, 5, 7])[0])",
        ),
        Call(
            "Batch.from_data_list([data, data]).edge_index", "edge_index_of(batch([graph, graph]))"
        ),
        Call("global_mean_pool(xx, batch)", 'pool_nodes(pair, "mean")'),
        Call("global_add_pool(xx, batch)", 'pool_nodes(pair, "sum")'),
        Call("global_max_pool(xx, batch)", 'pool_nodes(pair, "max")'),
    ),
    "dgl": (
        Call("edge_softmax(g, logits)", "attention_weights(graph, logits)"),
        Call("torch.stack(g.edges())", "edge_index_of(from_dgl(g).graph)"),
        Call("adjacency(gg)", "to_dgl(from_dgl(gg).graph).adj_external(scipy_fmt='coo').toarray()"),
        Call("gg.batch_num_edges()", "to_dgl(from_dgl(gg).graph).batch_num_edges()"),
        Call("adjacency(dgl.add_self_loop(g))", "adjacency(add_self_loops(graph))"),
        Call(
            "adjacency(dgl.remove_self_loop(dgl.add_self_loop(g)))",
            "adjacency(remove_self_loops(loops))",
        ),
        Call("adjacency(dgl.to_bidirected(g))", "adjacency(to_undirected(graph))"),
        Call("adjacency(dgl.to_simple(g))", "adjacency(coalesce(graph))"),
        Call("adjacency(dgl.batch([g, g]))", "adjacency(batch([graph, graph]))"),
        Call("SumPooling()(gg, xx)", 'pool_nodes(pair, "sum")'),
        Call("AvgPooling()(gg, xx)", 'pool_nodes(pair, "mean")'),
        Call("MaxPooling()(gg, xx)", 'pool_nodes(pair, "max")'),
    ),
    "jraph": (
        Call(
            "jraph.segment_sum(logits, receivers, 11)", "segment_sum(logits, graph.receivers, 11)"
        ),
        Call(
            "jraph.segment_mean(logits, receivers, 11)", "segment_mean(logits, graph.receivers, 11)"
        ),
        Call(
            "jraph.segment_softmax(logits, receivers, 11)",
            "segment_softmax(logits, graph.receivers, 11)",
        ),
        Call(
            "jraph.segment_max_or_constant(logits, receivers, 12)",
            "segment_max(logits, graph.receivers, 12)",
        ),
        Call(
            "jraph.GraphConvolution(lambda nodes: nodes @ kernel)(both).nodes",
            "given(GCNConv(5, 4, use_bias=False), kernel)(both).nodes",
        ),
        Call("jraph.batch([graph, graph]).senders", "batch([graph, graph]).senders"),
        Call("jraph.unbatch(pair)[1].receivers", "unbatch(pair)[1].receivers"),
        Call(
            "jraph.pad_with_graphs(graph, 13, 40, 2).senders", "pad(graph, (13, 40, 2))[0].senders"
        ),
        Call("jraph.get_edge_padding_mask(padded)", "pad(graph, (13, 40, 2))[1].edge"),
        Call(
            "jraph.GAT(query, logit, lambda nodes: nodes)(graph).nodes",
            "given(GATConv(5, 6, use_bias=False), kernel6, vectors)(graph).nodes",
        ),
    ),
}


def drawn() -> dict[str, np.ndarray]:
    """A graph of 11 nodes and 29 edges, without loops and duplicates, into every node; and what its rows hold."""
    random = np.random.default_rng(0)
    nodes = np.arange(11)
    ring = (nodes + 1) % 11 * 11 + nodes  # one edge into every node
    others = np.setdiff1d(np.arange(121), [*ring, *(nodes * 12)])
    pairs = np.concatenate([ring, random.choice(others, 18, replace=False)])
    edge_index = np.stack([pairs // 11, pairs % 11])[:, random.permutation(29)]
    return {
        "edge_index": edge_index,
        "lonely_index": edge_index[:, edge_index[1] != 10],
        "x": random.normal(size=(11, 5)),
        "own_index": np.concatenate([[[1, 4], [1, 4]], edge_index], axis=1),
        "own_attr": random.normal(size=(31, 2)),
        "table": random.normal(size=(11, 4)),
        "edge_attr": random.normal(size=(29, 2)),
        "edge_type": random.integers(3, size=29),
        "edge_weight": random.uniform(0.5, 2, size=29),
        "logits": random.normal(size=(29, 3)),
        "kernel": random.normal(size=(5, 4)),
        "kernel6": random.normal(size=(5, 6)),
        "vectors": random.normal(size=(2, 6)),
    }


def our_names(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What our side of a line may name."""
    graph = gatjax.build_graph(*arrays["edge_index"], jnp.asarray(arrays["x"]))
    edged = graph._replace(edges=jnp.asarray(arrays["edge_attr"]))
    weighted = gatjax.add_self_loops(graph._replace(edges=arrays["edge_weight"]), fill=1.0)
    names: dict[str, Any] = {name: getattr(gatjax, name) for name in gatjax.__all__}
    keys = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    made = (*gatjax.layers.__all__, *gatjax.models.__all__)
    for name in made:
        if name.endswith("Conv") or name in ("GAT", "GATv2", "GCN", "NodeLinear"):
            names[name] = partial(names[name], **keys)
    return names | {
        "jax": jax,
        "np": np,
        "graph": graph,
        "loops": gatjax.add_self_loops(graph),
        "edged": edged,
        "own": gatjax.build_graph(*arrays["own_index"], graph.nodes, edges=arrays["own_attr"]),
        "looped_edges": gatjax.add_self_loops(edged),
        "typed": graph._replace(edges=arrays["edge_type"]),
        "typed_edged": graph._replace(
            edges={"relation": arrays["edge_type"], "features": arrays["edge_attr"]}
        ),
        "table": jnp.asarray(arrays["table"]),
        "weight": jnp.asarray(arrays["edge_weight"]),
        "looped_weight": jnp.asarray(weighted.edges),
        "both": gatjax.to_undirected(graph),
        "pair": gatjax.batch([graph, graph]),
        "twice": gatjax.build_graph(*np.tile(arrays["edge_index"], 2), graph.nodes),
        "lonely": gatjax.build_graph(*arrays["lonely_index"], graph.nodes),
        "logits": jnp.asarray(arrays["logits"]),
        "kernel": arrays["kernel"],
        "kernel6": arrays["kernel6"],
        "vectors": arrays["vectors"],
        "adjacency": lambda graph: gatjax.to_scipy(graph).toarray(),
        "edge_index_of": lambda graph: np.stack([graph.senders, graph.receivers]),
        "given": _given,
    }


def ours(line: Layer | Call, names: Mapping[str, Any], library: Library, weights: Any = None):
    """What our side of a line gives, with the weights of theirs."""
    if isinstance(line, Call):
        return np.asarray(eval(line.ours, dict(names)))
    with_weights = gatjax.with_dgl_weights if library == "dgl" else gatjax.with_pyg_weights
    layer = with_weights(eval(line.ours, dict(names)), weights)
    return np.asarray(eval(line.our_call, {**names, "layer": layer}))


def _given(layer: Any, kernel: np.ndarray, vectors: np.ndarray | None = None) -> Any:
    """A layer of one head with a kernel and vectors given by hand."""
    layer.projection.kernel[...] = jnp.asarray(kernel[:, None])
    if vectors is not None:
        layer.receiver_vector[...], layer.sender_vector[...] = jnp.asarray(vectors[:, None])
    return layer


def their_graph(arrays: Mapping[str, np.ndarray]) -> GraphsTuple:
    """For jraph, whose graphs are ours."""
    return our_names(arrays)["graph"]
