"""Every node layer by layer, in chunks of edges: what the model makes of the whole graph, from memory or from files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, build, graph_for
from flax import nnx
from helpers import forward, rejects

from gatjax import (
    GAT,
    GCN,
    GPS,
    HAN,
    MLP,
    GaAN,
    GATConv,
    NodeLinear,
    Stack,
    add_self_loops,
    build_graph,
    embed_nodes,
    neighbors_of,
)


def embed(*arguments, **options):
    return embed_nodes(*arguments, progress=False, **options)


def close(found, expected):
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.local])
def test_a_layer_in_chunks_is_the_layer(case, tmp_path):
    """With a node of more edges than a chunk, nodes that nothing reaches, duplicates and a loop; from file to file."""
    layer, graph = build(case), graph_for(case)
    layer.eval()
    close(embed(layer, graph, edges_per_chunk=5, out=tmp_path / "out.npy"), forward(layer, graph))
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


def citations(seed=0, nodes=23, edges=90):
    """Without self-loops; a third of its edges enter node 0, none the last two."""
    rng = np.random.default_rng(seed)
    senders, receivers = rng.integers(nodes, size=edges), rng.integers(nodes - 2, size=edges)
    receivers[: edges // 3] = 0
    other = senders != receivers
    features = rng.normal(size=(nodes, 3)).astype(np.float32)
    return build_graph(senders[other], receivers[other], features)


def test_a_model_in_memory():
    graph = citations()
    model = GAT(3, 2, hidden_features=8, num_heads=2, norm=nnx.LayerNorm, rngs=nnx.Rngs(0))
    expected = forward(model, add_self_loops(graph), deterministic=True)
    found = embed(model, neighbors_of(graph), graph.nodes, self_loops=True, edges_per_chunk=40)
    close(found, expected)


@pytest.mark.slow
def test_a_model_from_file_to_file(tmp_path):
    graph = citations()
    model = GAT(3, 2, hidden_features=8, num_heads=2, norm=nnx.LayerNorm, rngs=nnx.Rngs(0))
    expected = forward(model, add_self_loops(graph), deterministic=True)
    neighbors = neighbors_of(graph)
    np.save(tmp_path / "x.npy", graph.nodes)
    features = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = {"self_loops": True, "edges_per_chunk": 30, "out": tmp_path / "out.npy"}
    found = embed(model, neighbors, features, **options)
    assert isinstance(found, np.memmap)
    close(found, expected)
    with rejects(FileExistsError, "is there already: delete it, or choose another out"):
        embed(model, neighbors, features, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "out.npy"}


@pytest.mark.slow
def test_models_of_all_kinds_of_layers():
    graph = add_self_loops(citations())
    small = {"hidden_features": 8, "num_layers": 2, "rngs": nnx.Rngs(0)}
    embedded = Stack([GATConv(8, 4, rngs=nnx.Rngs(1))], embed=NodeLinear(3, 8, rngs=nnx.Rngs(2)))
    models = [
        GCN(3, 2, **small),
        MLP(3, 2, **small),
        GaAN(3, 2, **small),
        GAT(3, 2, **small, norm=nnx.BatchNorm, residual=True, dropout_rate=0.5),
        embedded,
    ]
    for model in models:
        forward(model, graph)
        close(embed(model, graph, edges_per_chunk=20), forward(model, graph, deterministic=True))


@pytest.mark.slow
def test_nothing_is_compiled_again_for_another_graph_of_the_same_chunks(caplog):
    model = GAT(3, 2, hidden_features=8, num_heads=2, rngs=nnx.Rngs(0))
    embed(model, citations(0), edges_per_chunk=16)
    with jax.log_compiles():
        embed(model, citations(1), edges_per_chunk=16)
    compiled = [record.message for record in caplog.records if "Compiling" in record.message]
    assert not [message for message in compiled if "_send" in message or "_receive" in message]


@pytest.mark.slow
def test_graphs_without_edges_or_nodes():
    layer = GATConv(3, 2, rngs=nnx.Rngs(0))
    nothing = build_graph([], [], num_nodes=4)._replace(nodes=np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(embed(layer, nothing), np.zeros((4, 2)))
    empty = build_graph([], [], np.zeros((0, 3), np.float32))
    assert embed(layer, empty).shape == (0, 2)


class SendsTwice(GATConv):
    """Adds up what the neighbours of neighbours send."""

    def mechanism(self, graph, nodes, ends, keys):
        mechanism = super().mechanism(graph, nodes, ends, keys)
        again = nodes.view.senders(mechanism.rows.senders["value"][:1] + jnp.zeros((2, 1, 2)))
        return mechanism._replace(gate=jnp.ones((2, 1)) * again.sum())


@pytest.mark.slow
def test_what_cannot_be_done_is_refused(unchecked, tmp_path):
    graph, rngs = citations(), nnx.Rngs(0)
    layer, neighbors = GATConv(3, 2, rngs=rngs), neighbors_of(graph)
    with rejects(ValueError, "layers[0], HANConv, reads more than what neighbours send"):
        embed(HAN(3, 2, num_relations=2, rngs=rngs), graph)
    with rejects(ValueError, "layers[0], TransformerBlock"):
        embed(GPS(3, 2, hidden_features=8, num_layers=1, rngs=rngs), graph)
    with rejects(ValueError, "layers[0] sends something that it has received"):
        embed(SendsTwice(3, 2, rngs=rngs), build_graph([0], [1], np.ones((2, 3), np.float32)))
    with rejects(TypeError, "model must be a Stack or a layer, got Linear"):
        embed(nnx.Linear(3, 2, rngs=rngs), graph)
    with rejects(ValueError, "nodes must have 23 rows, got shape [22, 3]"):
        embed(layer, neighbors, graph.nodes[1:])
    with rejects(ValueError, "edges must have"):
        embed(layer, neighbors, graph.nodes, np.ones((3, 1)))
    with rejects(TypeError, "nodes must hold numbers, got dtype <U1"):
        embed(layer, neighbors, np.full((23, 3), "x"))
    with rejects(TypeError, "nodes must be an array or a FileArray, got None"):
        embed(layer, neighbors)
    with rejects(ValueError, "pass neighbors_of(graph) beside others"):
        embed(layer, graph, graph.nodes)
    with rejects(ValueError, "remove_self_loops(graph)"):
        embed(layer, add_self_loops(graph), self_loops=True)
    with rejects(ValueError, "edges_per_chunk = 0 must be at least 1"):
        embed(layer, graph, edges_per_chunk=0)
    with rejects(ValueError, "out must be a .npy file"):
        embed(layer, graph, out=tmp_path / "out")
    half = GATConv(3, 2, dtype=jnp.bfloat16, rngs=rngs)
    with rejects(ValueError, "a .npy file cannot hold bfloat16: leave out away"):
        embed(half, graph, out=tmp_path / "out.npy")
    assert embed(half, graph).dtype == jnp.bfloat16
    with rejects(ValueError, "must be [N, 3], got [11, 5]"):
        embed(layer, graph_for(CASES[0]), out=tmp_path / "out.npy")
    assert not list(tmp_path.iterdir())
