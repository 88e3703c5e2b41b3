"""Changes to the attention of single heads."""

import jax
import numpy as np
import pytest
from flax import nnx

from gatjax import GAT, GATv2, add_self_loops, build_graph


@pytest.mark.slow
@pytest.mark.parametrize("model", [GAT, GATv2])
def test_a_models_own_weights_change_nothing(model):
    from heads import changed, with_weights

    random = np.random.default_rng(0)
    nodes = random.normal(size=(11, 5)).astype(np.float32)
    graph = add_self_loops(build_graph(*random.integers(11, size=(2, 17)), nodes))
    trained = model(5, 3, hidden_features=12, num_heads=4, rngs=nnx.Rngs(0))
    alpha = trained.attention(graph)[0]
    own = with_weights(trained, graph, alpha)
    np.testing.assert_allclose(own, trained(graph, deterministic=True).nodes, atol=1e-5)
    ways = changed(alpha)
    assert [len(each) for each in ways.values()] == [1, 4, 6, 1]
    assert not jax.numpy.allclose(with_weights(trained, graph, ways["one head silenced"][0]), own)
    (shared,) = ways["all heads share their mean"]
    np.testing.assert_allclose(shared, np.tile(alpha.mean(1, keepdims=True), 4), atol=1e-6)
    first, second = ways["two heads share their mean"][0][:, :2].T
    np.testing.assert_allclose(first, (alpha[:, 0] + alpha[:, 1]) / 2, atol=1e-6)
    np.testing.assert_allclose(first, second)
