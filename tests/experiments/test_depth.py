"""Deep stacks, and the command that trains them, with a small budget."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gatjax import add_self_loops, build_graph

SIZES = 6, 8, 3
DEPTH = 7


@pytest.fixture
def stack():
    from deep import Deep, balance

    model = Deep(SIZES, DEPTH, "none", nnx.Rngs(0))
    balance(model, nnx.Rngs(1))
    return model


@pytest.mark.slow
def test_balanced_weights_keep_the_size_of_what_enters(stack):
    nodes = np.random.default_rng(0).normal(size=(5, SIZES[0])).astype(np.float32)
    graph = add_self_loops(build_graph([], [], nodes, globals=jnp.zeros((1, 2))))
    kernels = np.asarray(stack.between.attend.projection.kernel)[:, :, 0]
    assert kernels.shape == (DEPTH - 2, 8, 8)
    columns = np.concatenate([np.asarray(stack.first.attend.projection.kernel)[:, 0], *kernels])
    for kernel in (columns[: SIZES[0]], *kernels):
        assert np.allclose((kernel**2).sum(0), 2, atol=1e-5), "into each unit"
    for kernel in (*kernels, np.asarray(stack.last.projection.kernel)[:, 0]):
        assert np.allclose((kernel**2).sum(1), 2, atol=1e-5), "out of each unit"
    # Without neighbours all layers together turn what leaves the first one, x and -x side by side.
    first = np.maximum(nodes @ columns[: SIZES[0]], 0)
    last = np.asarray(stack.hidden(graph))
    assert np.allclose((last**2).sum(1), (first**2).sum(1), rtol=1e-4)
    assert np.allclose(last[:, :4] * last[:, 4:], 0, atol=1e-6)


@pytest.mark.slow
def test_a_residual_reaches_the_last_layer(stack):
    nodes = np.random.default_rng(0).normal(size=(5, SIZES[0])).astype(np.float32)
    graph = add_self_loops(build_graph([0, 1, 2], [1, 2, 0], nodes))
    hidden = lambda *factors: np.asarray(stack.hidden(graph._replace(globals=jnp.array([factors]))))
    first = np.asarray(nnx.relu(stack.first(graph)))
    stack.between.attend.projection.kernel[...] *= 0
    assert np.allclose(hidden(1.0, 0.0), first, atol=1e-6)
    assert np.allclose(hidden(0.0, 0.25), 0.25 * first, atol=1e-6)
    assert (hidden(0.0, 0.0) == 0).all()


def test_what_cannot_be_fitted_alone_is_hard_to_train():
    from depth import failure

    row = lambda accuracy, fitted: {"end": [{"test_accuracy": accuracy, "fitted": fitted}]}
    assert failure(row(0.75, 0.9), row(0.5, 1.0), 0.8) == "nothing"
    assert failure(row(0.3, 0.2), row(0.5, 1.0), 0.8) == "smoothing"
    assert failure(row(0.3, 0.2), row(0.3, 0.2), 0.8) == "training"
    assert failure(row(0.3, 0.9), row(0.5, 1.0), 0.8) == "fits, and errs elsewhere"


@pytest.mark.slow
def test_a_small_study_of_depth_is_kept(tmp_path, capsys):
    import depth

    options = {"variants": ("plain", "balanced"), "max_epochs": 40, "features": 8, "seeds": 1}
    sizes = {"datasets": ("citeseer",), "depths": (2, 4), "alone": (4,)}
    config = depth.Config(**options, **sizes, output=tmp_path)
    result = depth.main(config)
    assert [(row["variant"], row["alone"]) for row in result["rows"][2:]] == [
        ("plain", False),
        ("balanced", False),
        ("plain", True),
        ("balanced", True),
    ]
    plain, balanced = (row["start"][0]["gradient"] for row in result["rows"][2:4])
    assert balanced > plain
    assert "| citeseer, 4 layers |" in capsys.readouterr().out
    assert depth.main(config) == json.loads((tmp_path / "result.json").read_text())
    with pytest.raises(SystemExit, match="--alone 8: is none of --depths 2 4"):
        depth.main(depth.Config(depths=(2, 4), alone=(8,), output=tmp_path))
