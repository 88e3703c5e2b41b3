"""The interface of a layer, and a layer of one's own."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import ONE_EACH, build, graph_for, shared_by_all
from flax import nnx

import gatjax.graph.ids
from gatjax import Conv, build_graph


@shared_by_all
def test_one_call_checks_the_graph_once(case, monkeypatch):
    layer, graph = build(case), graph_for(case)
    original, calls = gatjax.graph.ids.host_ids, []
    record = lambda *graph: calls.append(graph) or original(*graph)
    monkeypatch.setattr(gatjax.graph.ids, "host_ids", record)
    layer(graph)
    assert len(calls) == 1
    layer.attention(graph)
    assert len(calls) == 2


def test_an_integer_mask_is_refused_by_call_and_attention_alike(unchecked):
    case = ONE_EACH[0]
    layer, graph = build(case), graph_for(case)
    mask = np.full(len(graph.senders), 2)
    for method in (layer, layer.attention):
        with pytest.raises(
            TypeError, match="edge_mask must be boolean, got int.*; use edge_mask > 0"
        ):
            method(graph, edge_mask=mask)


def test_a_layer_without_a_mechanism_says_so():
    class Nothing(Conv):
        def __init__(self):
            self.dropout = build(ONE_EACH[0]).dropout

    with pytest.raises(NotImplementedError, match="Nothing must define mechanism"):
        Nothing()(build_graph([0], [1], jnp.eye(2)))


def test_every_public_method_of_a_layer_has_a_docstring():
    for case in ONE_EACH:
        for name in ("__call__", "attention"):
            assert getattr(case.layer, name).__doc__ or getattr(Conv, name).__doc__, (
                case.name,
                name,
            )
    assert isinstance(build(ONE_EACH[0]), nnx.Module)
