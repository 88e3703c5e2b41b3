"""Weights of PyTorch Geometric and DGL in our layers: the numbers that `experiments/side_by_side.py` recorded there."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import rejects
from peers.lines import CALLS, LAYERS, drawn, our_names, ours

from gatjax import (
    GAT,
    DotProductConv,
    DropoutRates,
    GATConv,
    GATv2Conv,
    GCNConv,
    MeanConv,
    NodeLinear,
    RelationalGATConv,
    Stack,
    with_dgl_weights,
    with_pyg_weights,
)

RECORDED = np.load(Path(__file__).with_name("peers.npz"))
LINES = [(library, index) for library, lines in LAYERS.items() for index in range(len(lines))]
# The others run in the slow tests.
QUICK = {
    ("pyg", "GATConv(5, 2, heads=3, edge_dim=2)"),
    ("dgl", "GATv2Conv(5, 4, 3, share_weights=True, residual=True)"),
}


@cache
def names():
    return our_names(drawn())


def is_quick(library, index):
    theirs = LAYERS[library][index].theirs
    return (library, theirs) in QUICK and index == first(library, theirs)


def first(library, theirs):
    """The number of the first line with this layer of theirs."""
    return [line.theirs for line in LAYERS[library]].index(theirs)


def state(library, index):
    prefix = f"{library}/{index}/state/"
    return {
        name.removeprefix(prefix): RECORDED[name]
        for name in RECORDED.files
        if name.startswith(prefix)
    }


@pytest.mark.parametrize(
    ("library", "index"),
    [pytest.param(*line, marks=[] if is_quick(*line) else pytest.mark.slow) for line in LINES],
)
def test_the_same_weights_give_the_same_numbers(library, index):
    line, arrays = LAYERS[library][index], state(library, index)
    if "root_weight=False" in line.theirs:  # the arrays are there all the same
        arrays = {name: each for name, each in arrays.items() if "lin_skip" not in name}
    with jax.enable_x64(True):
        found = ours(line, names(), library, arrays)
    np.testing.assert_allclose(found, RECORDED[f"{library}/{index}/output"], rtol=0, atol=1e-12)


def test_every_line_is_recorded():
    recorded = {tuple(name.split("/")[:2]) for name in RECORDED.files}
    assert recorded == {(library, str(index)) for library, index in LINES}
    assert all(line.theirs and line.ours for lines in CALLS.values() for line in lines)


def gat(width=6, **options):
    return GATConv(2, width, rngs=nnx.Rngs(0), **{"num_heads": 3} | options)


def weights(**others):
    """Of PyG's `GATConv(2, 2, heads=3)`."""
    arrays = {
        "att_src": np.ones((1, 3, 2)),
        "att_dst": np.ones((1, 3, 2)),
        "bias": np.zeros(6),
        "lin.weight": np.ones((6, 2)),
    }
    return {name: value for name, value in (arrays | others).items() if value is not None}


def test_the_layer_itself_stays_as_it_is_and_keeps_its_dtype():
    layer = gat(param_dtype=np.float16, dropout_rate=DropoutRates(inputs=0.5))
    before = np.array(layer.projection.kernel[...])
    made = with_pyg_weights(layer, weights())
    assert (np.asarray(layer.projection.kernel[...]) == before).all()
    assert made.projection.kernel.dtype == np.float16 and made.dropout.rates == layer.dropout.rates
    assert (np.asarray(made.projection.kernel[...]) == 1).all()


def test_rows_of_a_matrix_are_the_features_of_one_head_after_the_other():
    matrix = np.arange(12.0).reshape(6, 2)
    made = with_pyg_weights(gat(), weights(**{"lin.weight": matrix}))
    kernel = np.asarray(made.projection.kernel[...])
    for feature in range(2):
        for head in range(3):
            assert (
                kernel[feature, head].tolist() == matrix[2 * head : 2 * head + 2, feature].tolist()
            )


@pytest.mark.parametrize(
    ("options", "others", "message"),
    [
        ({}, {"bias": None}, "bias is missing for this GATConv: build it without use_bias=True"),
        ({"use_bias": False}, {}, "bias has no place in this GATConv: build it with use_bias=True"),
        ({}, {"res.weight": np.ones((6, 2))}, "res.weight has no place"),
        ({}, {"lin_edge.weight": np.ones((6, 4))}, "build it with edge_features=..."),
        ({}, {"lin_src.weight": np.ones((6, 2))}, "lin_src.weight is of a table of senders"),
        ({}, {"gamma": np.ones(2)}, "gamma has no place in a GATConv"),
        ({"use_score_bias": True}, {}, "build it without use_score_bias=True"),
        ({"edge_features": 4}, {}, "lin_edge.weight is missing"),
        ({"num_heads": 2}, {}, "att_src is [3, 2] here, this GATConv needs [2, 3]"),
        ({"num_heads": 1}, {}, "att_src is [3, 2] here, this GATConv needs [1, 6]"),
        ({"width": 9}, {}, "lin.weight is [2, 3, 2] here, this GATConv needs [2, 3, 3]"),
        ({}, {"lin.weight": np.ones((5, 2))}, "not one matrix for num_heads=3"),
        ({}, {"att_src": None}, "no att_src is left for a GATConv"),
    ],
)
def test_what_has_no_place_and_what_is_missing_has_its_name(options, others, message):
    with rejects(ValueError, message):
        with_pyg_weights(gat(**options), weights(**others))


def theirs(**settings):
    """As much of a torch module as is read of one."""
    layer = SimpleNamespace(**settings, state_dict=weights)
    layer.get_submodule = lambda name: layer
    return layer


SETTINGS = {
    "heads": 3,
    "concat": True,
    "negative_slope": 0.2,
    "aggr": "add",
    "flow": "source_to_target",
}


def test_settings_of_a_module_must_be_those_of_the_layer():
    made = with_pyg_weights(gat(), theirs(**SETTINGS))
    assert (np.asarray(made.sender_vector[...]) == 1).all()
    for other, message in (
        ({"negative_slope": 0.1}, "negative_slope is 0.1, this GATConv is built for 0.2"),
        ({"concat": False}, "concat is False, this GATConv is built for True"),
        ({"flow": "target_to_source"}, "flow is 'target_to_source'"),
        ({"aggr": "mean"}, "aggr is 'mean', this GATConv is built for 'add'"),
    ):
        with rejects(ValueError, message):
            with_pyg_weights(gat(), theirs(**SETTINGS | other))


def test_layers_of_a_stack_take_theirs_in_order_whatever_they_are_called():
    rngs = nnx.Rngs(0)
    stack = Stack([gat(), NodeLinear(6, 4, rngs=rngs)], embed=NodeLinear(2, 2, rngs=rngs))
    first = {"weight": np.full((2, 2), 3.0), "bias": np.zeros(2)}
    last = {"weight": np.full((4, 6), 5.0), "bias": np.zeros(4)}
    parts = {"lin1": first, "attend.0": weights(), "out": last}
    arrays = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    made = with_pyg_weights(stack, arrays)
    kernels = [layer.projection.kernel[...] for layer in (made.embed, *made.layers)]
    assert [np.unique(kernel).tolist() for kernel in kernels] == [[3], [1], [5]]
    for other, message in (
        (arrays | {"norms.0.weight": np.ones(6)}, "norms.0.weight belongs to no layer"),
        ({key: arrays[key] for key in list(arrays)[:-2]}, "no weight is left for a NodeLinear"),
        (arrays | {"attend.0.bias": np.ones(3)}, "attend.0.bias is [3] here"),
    ):
        with rejects(ValueError, message):
            with_pyg_weights(stack, other)
    with rejects(TypeError, "norms: weights of a norm"):
        with_pyg_weights(GAT(2, 3, norm=nnx.LayerNorm, rngs=rngs), arrays)


def test_what_takes_no_weights_has_its_name():
    with rejects(TypeError, "a MeanConv takes no weights from there, only GATConv"):
        with_pyg_weights(MeanConv(2, 3, rngs=nnx.Rngs(0)), {})
    with rejects(TypeError, "source is a list: pass a module, or its state_dict()"):
        with_dgl_weights(gat(), [])


def test_what_only_pyg_has_is_refused():
    rngs = nnx.Rngs(0)
    named = lambda theirs, **others: state("pyg", first("pyg", theirs)) | others
    transformer, no_root = (
        named("TransformerConv(5, 2, heads=3)"),
        DotProductConv(5, 6, num_heads=3, rngs=rngs),
    )
    for layer, arrays, message in (
        (no_root, transformer, "or leave it out where root_weight=False"),
        (no_root, {**transformer, "lin_beta.weight": np.ones((1, 18))}, "the gate of beta=True"),
        (
            GATv2Conv(5, 6, num_heads=3, share_weights=True, rngs=rngs),
            named("GATv2Conv(5, 2, heads=3)"),
            "lin_r.weight differs from lin_l.weight: build it without share_weights=True",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, score="multiplicative", rngs=rngs),
            named("RGATConv(5, 4, 3)"),
            "q is [3, 1, 4, 1] here, this RelationalGATConv needs [3, 1, 4, 4]",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, edge_features=2, rngs=rngs),
            named("RGATConv(5, 4, 3)"),
            "lin_edge.weight is missing for this RelationalGATConv: build it without edge_features",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, num_heads=2, rngs=rngs),
            named("RGATConv(5, 4, 3)", q=np.ones((4, 2)), k=np.ones((4, 2))),
            "q lets each of heads=2 read all others; only heads=1 has a place",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, rngs=rngs),
            named("RGATConv(5, 4, 3)", q=np.ones((4, 2))),
            "q is [4, 2], not [H·C, H]: only dim=1 has a place",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, rngs=rngs),
            named("RGATConv(5, 4, 3)", weight=np.ones((3, 1, 5, 4))),
            "weight is of num_blocks",
        ),
        (
            RelationalGATConv(5, 4, num_relations=3, rngs=rngs),
            named("RGATConv(5, 4, 3)", e=np.ones((4, 1))),
            "e has no place in this RelationalGATConv: build it with edge_features=...",
        ),
        (
            RelationalGATConv(
                5, 4, num_relations=3, score="multiplicative", key_features=1, rngs=rngs
            ),
            named("RGATConv(5, 4, 3)", e=np.ones((4, 1))),
            "e multiplies the products",
        ),
        (
            DotProductConv(5, 6, num_heads=3, use_value_bias=True, rngs=rngs),
            {name: each for name, each in transformer.items() if "value.bias" not in name},
            "lin_value.bias is missing for this DotProductConv: build it without use_value_bias",
        ),
    ):
        with rejects(ValueError, message):
            with_pyg_weights(layer, arrays)
    left_out = {name: each for name, each in transformer.items() if "skip" not in name}
    assert with_pyg_weights(no_root, left_out).output.projection is None


def test_a_residual_of_dgl_must_be_one_of_ours():
    arrays = state(
        "dgl", first("dgl", "GATConv(5, 5, 1, residual=True)")
    )  # equal widths: no weights show it
    module = SimpleNamespace(
        leaky_relu=SimpleNamespace(negative_slope=0.2),
        activation=None,
        res_fc=object(),
        state_dict=lambda: arrays,
    )
    module.get_submodule = lambda name: module
    plain, residual = (
        GATConv(5, 5, residual=residual, rngs=nnx.Rngs(0)) for residual in (False, True)
    )
    assert with_dgl_weights(residual, module).output.residual
    with rejects(ValueError, "res_fc has no place: build it with residual=True"):
        with_dgl_weights(plain, module)
    module.res_fc = None
    with rejects(ValueError, "res_fc is missing: build it with residual=False"):
        with_dgl_weights(residual, module)
    module.activation = jax.nn.elu
    with rejects(ValueError, "activation is"):
        with_dgl_weights(plain, module)
    with rejects(ValueError, "edge features are unknown there"):
        with_dgl_weights(GATConv(5, 5, edge_features=2, rngs=nnx.Rngs(0)), arrays)


def test_gcn_of_pyg_that_is_another_is_refused():
    arrays = state("pyg", first("pyg", "GCNConv(5, 4)"))
    module = SimpleNamespace(
        improved=True,
        normalize=True,
        state_dict=lambda: arrays,
        aggr="add",
        flow="source_to_target",
    )
    module.get_submodule = lambda name: module
    with rejects(ValueError, "improved is True, this GCNConv is built for False"):
        with_pyg_weights(GCNConv(5, 4, rngs=nnx.Rngs(0)), module)
