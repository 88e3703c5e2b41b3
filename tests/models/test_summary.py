"""A summary tells shapes, sizes and memory of any module, and leaves module and class alone."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import NODES, OUT, build, fullest_of_each, graph_for
from flax import nnx
from helpers import rejects
from jax.experimental.sparse import BCOO

import gatjax
from gatjax import build_graph, summary
from gatjax.layers.parts import HeadOutput

GRAPH = build_graph([0, 1, 2, 4], [3, 3, 3, 1], jnp.ones((5, 4)))


class Own(nnx.Module):
    """A convolution, plain layers of Flax, and two outputs."""

    def __init__(self, rngs):
        self.conv = gatjax.GATConv(4, 6, num_heads=2, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, graph, *, edge_mask=None):
        graph = self.conv(graph, edge_mask=edge_mask)
        return self.drop(self.norm(graph.nodes)), graph


def test_shapes_and_sizes_and_nothing_is_changed():
    model = Own(nnx.Rngs(0))
    graphdef, state = nnx.split(model)
    before = jax.tree.map(
        np.asarray, nnx.to_pure_dict(nnx.filter_state(state, nnx.Not(nnx.RngKey)))
    )
    classes = [type(module) for _, module in nnx.iter_modules(model)]
    calls = [each.__call__ for each in (Own, gatjax.GATConv, nnx.BatchNorm)]
    found = summary(model, GRAPH, edge_mask=np.array([True, True, False, True]))

    assert [(each.path, each.type, each.output) for each in found.layers] == [
        ("", "Own", {"0": (5, 6), "1.nodes": (5, 6)}),
        ("conv", "GATConv", {"nodes": (5, 6)}),
        ("conv.projection", "HeadProjection", {"": (5, 2, 3)}),
        ("conv.output", "HeadOutput", {"": (5, 6)}),
        ("norm", "BatchNorm", {"": (5, 6)}),
        ("drop", "Dropout", {"": (5, 6)}),
    ]
    # Kernel, two attention vectors and a bias; scale and bias of the norm, and its two running statistics.
    conv, norm = 4 * 6 + 2 * 6 + 6, 2 * 6
    assert [each.parameters for each in found.layers] == [conv + norm, conv, 24, 6, norm, 0]
    assert found.parameters == conv + norm and found.bytes == 4 * (conv + 2 * norm)
    of_graph = 5 * 4 * 4 + 2 * 4 * 4 + 2 * 4
    assert found.forward.arguments == found.bytes + of_graph + 4
    assert found.forward.total >= found.forward.arguments + found.forward.outputs
    assert found.step.outputs >= 4 * found.parameters

    after = nnx.to_pure_dict(nnx.filter_state(nnx.state(model), nnx.Not(nnx.RngKey)))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert nnx.graphdef(model) == graphdef
    assert [type(module) for _, module in nnx.iter_modules(model)] == classes
    assert [each.__call__ for each in (Own, gatjax.GATConv, nnx.BatchNorm)] == calls
    assert summary(model, GRAPH, edge_mask=np.array([True, True, False, True])) == found

    lines = str(found).splitlines()
    assert repr(found) == str(found)
    assert lines[0].split() == ["path", "type", "output", "parameters", "bytes"]
    assert lines[2].split() == ["conv", "GATConv", "nodes", "[5,", "6]", "42", "168"]
    assert lines[7] == "54 parameters, 264 bytes with all variables"
    assert lines[9].startswith(f"training step: {found.step.total:,} bytes (arguments ")
    assert json.loads(json.dumps(dataclasses.asdict(found)))["layers"][4]["parameters"] == norm


def test_a_wrong_input_is_the_layers_own_error_and_leaves_it_whole():
    layer = gatjax.GATConv(4, 6, rngs=nnx.Rngs(0))
    with rejects(ValueError, "nodes must be [N, 4], got [5, 3]"):
        summary(layer, GRAPH._replace(nodes=jnp.ones((5, 3))))
    assert type(layer) is gatjax.GATConv and type(layer.output) is HeadOutput


def test_modules_on_arrays():
    layer = gatjax.AttentionLayer(4, 6, num_heads=3, combine="mean", rngs=nnx.Rngs(0))
    found = summary(layer, jnp.ones((2, 4)), np.ones((7, 4), np.float32))
    assert [each.output for each in found.layers] == [{"": (2, 6)}]
    assert found.parameters == 3 * 4 * 3 * 6


@pytest.mark.slow
def test_a_core_that_runs_many_times_is_one_line():
    rngs = nnx.Rngs(0)
    core = gatjax.GraphNetwork(gatjax.RowMLP([32, 8], rngs=rngs), gatjax.RowMLP([24, 8], rngs=rngs))
    encoder = gatjax.GraphIndependent(nodes=nnx.Linear(4, 8, rngs=rngs))
    decoder = gatjax.GraphIndependent(nodes=nnx.Linear(8, 2, rngs=rngs))
    model = gatjax.EncodeProcessDecode(encoder, core, decoder, num_steps=3)
    found = {each.path: each for each in summary(model, GRAPH).layers}
    assert found[""].output == {"nodes": (5, 2), "edges": (4, 8)}
    assert found["core"].parameters == 32 * 8 + 8 + 24 * 8 + 8


@pytest.mark.slow
@fullest_of_each
def test_every_layer_has_a_summary(case):
    found = summary(build(case), graph_for(case))
    assert found.layers[0].type == case.layer.__name__
    assert found.layers[0].output["nodes"] == (NODES, OUT)
    assert found.parameters == sum(each.size for each in jax.tree.leaves(nnx.state(build(case))))


@pytest.mark.slow
def test_memory_follows_the_graph():
    """Features may be sparse, and then the table of them takes less."""
    model = gatjax.GAT(64, 7, dropout_rate=0.5, rngs=nnx.Rngs(0))
    nodes = jnp.zeros((300, 64)).at[:, 0].set(1.0)
    ids = np.random.default_rng(0).integers(0, 300, size=(2, 6000))
    small, large = (summary(model, build_graph(*ids[:, :size], nodes)) for size in (600, 6000))
    sparse = summary(model, build_graph(*ids, BCOO.fromdense(nodes)))
    assert large.forward.total > small.forward.total and large.step.total > 2 * small.step.total
    assert large.forward.arguments - small.forward.arguments == 2 * 4 * 5400
    assert sparse.forward.arguments < large.forward.arguments
    assert [each.parameters for each in sparse.layers] == [each.parameters for each in large.layers]
