"""A NaN that JAX is asked to report is a NaN that somebody computed: no layer computes one on the way."""

import jax
import numpy as np
import pytest
from cases import build, graph_for, one_of_each, weights_of
from flax import nnx


@pytest.mark.slow
@one_of_each
def test_a_training_step_passes_the_search_for_nans(case):
    """Eagerly, since inside `jax.jit` a number that is thrown away is not looked at; one node hears nobody."""
    layer, graph = build(case, dropout_rate=0.5), graph_for(case)

    def loss(layer, nodes):
        out = layer(graph._replace(nodes=nodes), rngs=nnx.Rngs(dropout=0)).nodes
        return (out * weights_of(graph)).sum()

    with jax.debug_nans(True):
        gradients = nnx.grad(loss, argnums=(0, 1))(layer, graph.nodes)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
