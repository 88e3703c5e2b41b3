"""Options of models are seen by `help`, by completion and by type checkers, and reach the layers."""

import inspect

import pytest
from flax import nnx

import gatjax
from gatjax.layers import (
    DotProductConv,
    GaANConv,
    GATConv,
    GATv2Conv,
    GCNConv,
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
}


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", LAYERS)
def test_a_model_lists_every_option_of_its_layers(name):
    """`combine` is the model's own business."""
    listed, of_layer = keywords(getattr(gatjax, name)), keywords(LAYERS[name].__init__)
    assert of_layer.keys() - {"combine"} <= listed.keys()
    assert all(
        inspect.Parameter.empty is not listed[option] for option in listed if option != "rngs"
    )


@pytest.mark.parametrize("name", LAYERS)
def test_the_defaults_that_a_model_lists_are_those_it_uses(name):
    model = getattr(gatjax, name)
    options = keywords(model)
    del options["rngs"]
    spelled_out = model(5, 3, **options, rngs=nnx.Rngs(0))
    assert nnx.graphdef(spelled_out) == nnx.graphdef(model(5, 3, rngs=nnx.Rngs(0)))


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="hiden_features"):
        gatjax.GAT(4, 7, hiden_features=32, rngs=nnx.Rngs(0))
