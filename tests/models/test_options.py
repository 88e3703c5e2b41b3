"""Options of models are seen by `help`, by completion and by type checkers, and reach the layers."""

import inspect

import pytest
from flax import nnx
from helpers import rejects

import gatjax
from gatjax.layers import (
    DotProductConv,
    GaANConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    HANConv,
    MATConv,
    MeanConv,
    NodeLinear,
)

LAYERS = {
    "GAT": GATConv,
    "GATv2": GATv2Conv,
    "DotProductGAT": DotProductConv,
    "ConstGAT": MeanConv,
    "GCN": GCNConv,
    "MLP": NodeLinear,
    "GaAN": GaANConv,
    "MAT": MATConv,
    "HAN": HANConv,
}

# What a model cannot do without.
NEEDED = {"HAN": {"num_relations": 2}}

# GaANConv lists its options itself, and Python refuses all others.
PASSING_ON = sorted(layer.__name__ for layer in LAYERS.values() if layer is not GaANConv)


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_lists_every_option_of_its_layers(name):
    """`combine` is the model's own business, and so is the residual of a block of `MAT`."""
    listed, of_layer = keywords(getattr(gatjax, name)), keywords(LAYERS[name].__init__)
    own = {"combine", "residual"} if name == "MAT" else {"combine"}
    assert of_layer.keys() - own <= listed.keys()
    assert all(
        inspect.Parameter.empty is not listed[option]
        for option in listed.keys() - {"rngs"} - NEEDED.get(name, {}).keys()
    )


@pytest.mark.parametrize("name", LAYERS)
def test_the_defaults_that_a_model_lists_are_those_it_uses(name):
    model = getattr(gatjax, name)
    options = keywords(model)
    del options["rngs"]
    needed = NEEDED.get(name, {})
    spelled_out = model(5, 3, **options | needed, rngs=nnx.Rngs(0))
    assert nnx.graphdef(spelled_out) == nnx.graphdef(model(5, 3, **needed, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("name", [*LAYERS, *PASSING_ON])
def test_an_unknown_option_is_refused_with_the_one_that_is_meant(name):
    build = getattr(gatjax, name)
    needed = NEEDED.get(name.removesuffix("Conv"), {})
    with rejects(TypeError, f"{name} has no option dropout_rat: did you mean dropout_rate?"):
        build(4, 8, dropout_rat=0.5, rngs=nnx.Rngs(0))
    build(4, 8, dropout_rate=0.5, **needed, rngs=nnx.Rngs(0))
    with rejects(TypeError, f"{name} has no option zzz: it takes in_features, out_features"):
        build(4, 8, zzz=1, rngs=nnx.Rngs(0))


def test_options_of_hidden_layers():
    with rejects(TypeError, "GAT has no option hiden_features: did you mean hidden_features?"):
        gatjax.GAT(4, 7, hiden_features=32, rngs=nnx.Rngs(0))
