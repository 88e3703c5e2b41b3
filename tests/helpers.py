"""What tests of several rooms share: comparison up to rounding, expected errors, compiled calls."""

from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import ClosedJaxpr, Jaxpr


def assert_close(actual, expected, tolerance=2e-5, of=""):
    """Equal trees of arrays, up to rounding relative to the largest entry of each; `of` says which case failed."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected), of
    paths = jax.tree.leaves_with_path(expected)
    for a, (path, b) in zip(jax.tree.leaves(actual), paths, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape, f"{of} {jax.tree_util.keystr(path)}"
        scale = max(np.abs(b[np.isfinite(b)]).max(initial=0), 1e-3)
        message = f"{of} {jax.tree_util.keystr(path)}"
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=message)


def assert_same(actual, expected, of=""):
    """Equal trees of arrays: to the last bit on a CPU, up to rounding where sums have no order of their own."""
    if jax.default_backend() != "cpu":
        assert_close(actual, expected, of=of)
        return
    assert jax.tree.structure(actual) == jax.tree.structure(expected), of
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=of)


def close(actual, expected, tolerance=1e-5):
    """Equal numbers, each up to its own rounding."""
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def changed_rows(before, after):
    """The rows in which two arrays differ by more than rounding."""
    far = np.abs(np.asarray(before) - np.asarray(after)) > 1e-5
    return set(np.flatnonzero(far.any(axis=1)).tolist())


@contextmanager
def rejects(error, message):
    """What is inside raises this error, and the message is part of what it says."""
    try:
        yield
    except error as raised:
        assert message in str(raised)
    else:
        pytest.fail(f"nothing raised {error.__name__}: {message}")


def assign(parameter, values):
    """Write a parameter by hand."""
    values = jnp.asarray(values, parameter.dtype)
    assert parameter.shape == values.shape
    parameter[...] = values


def array(x):
    """In the precision of the test."""
    return jnp.asarray(x, jnp.result_type(float))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def normal(*shape, seed=0):
    return array(draw(*shape, seed=seed))


@partial(nnx.jit, static_argnames="deterministic")
def forward(layer, graph, *, deterministic=None, rngs=None):
    """Nodes, compiled: ids and features are unknown to the compiler, and the states of the layer advance."""
    return layer(graph, deterministic=deterministic, rngs=rngs).nodes


@nnx.jit
def run(layer, graph):
    """Nodes and attention, compiled."""
    return layer(graph).nodes, layer.attention(graph)


def both_precisions(**tolerances):
    """A fixture that runs the test in each precision named, and is the tolerance there."""

    @pytest.fixture(params=tolerances)
    def tolerance(request):
        with jax.enable_x64(request.param == "float64"):
            yield tolerances[request.param]

    return tolerance


def steps_of(program):
    """The steps of a program (jaxpr) and of all that it calls."""
    for step in program.eqns:
        yield step
        for part in jax.tree.leaves(list(step.params.values()), is_leaf=_is_program):
            if _is_program(part):
                yield from steps_of(getattr(part, "jaxpr", part))


def _is_program(part):
    return isinstance(part, Jaxpr | ClosedJaxpr)
