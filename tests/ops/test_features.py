"""Sums over the features of a head: the product that a CPU takes and the reduction that an accelerator takes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, draw

from gatjax.ops import dot_features, features, sum_features
from gatjax.ops.features import dot_activated, leaky_relu


@pytest.fixture(params=[True, False], ids=["cpu", "accelerator"])
def device(request, monkeypatch):
    monkeypatch.setattr(features, "on_cpu", lambda: request.param)


@pytest.mark.parametrize("several", [(), (2,), (2, 7)], ids=str)
def test_a_dot_product_of_each_head(several, device, x64):
    x, vectors = draw(11, 13, 3, 5), draw(*several, 3, 5)
    out = dot_features(jnp.asarray(x), jnp.asarray(vectors))
    letters = "kl"[: len(several)]
    assert_close(out, np.einsum(f"nmhc,{letters}hc->nm{letters}h", x, vectors), 1e-12)


def test_the_derivatives_of_a_dot_product(device, x64):
    x, vectors, weight = draw(11, 3, 5), draw(2, 3, 5), draw(11, 2, 3)
    loss = lambda *both: (dot_features(*both) * weight).sum()
    found = jax.grad(loss, argnums=(0, 1))(jnp.asarray(x), jnp.asarray(vectors))
    of_x = np.einsum("nkh,khc->nhc", weight, vectors)
    assert_close(found, (of_x, np.einsum("nkh,nhc->khc", weight, x)), 1e-12)


def test_a_dot_product_with_what_is_activated(device, x64):
    x, y, vectors, weight = draw(11, 13, 3, 5), draw(11, 13, 3, 5), draw(3, 5), draw(11, 13, 3)
    terms = jnp.asarray(x), None, jnp.asarray(y)
    out = dot_activated(jnp.asarray(vectors), jnp.tanh, *terms)
    assert_close(out, np.einsum("nmhc,hc->nmh", np.tanh(x + y), vectors), 1e-12)
    loss = lambda *both: (dot_activated(both[0], jnp.tanh, both[1], terms[2]) * weight).sum()
    found = jax.grad(loss, argnums=(0, 1))(jnp.asarray(vectors), jnp.asarray(x))
    of_vectors = np.einsum("nmh,nmhc->hc", weight, np.tanh(x + y))
    of_x = np.einsum("nmh,hc->nmhc", weight, vectors) / np.cosh(x + y) ** 2
    assert_close(found, (of_vectors, of_x), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_leaky_relu_is_that_of_jax_to_the_bit(dtype, device):
    x = jnp.asarray([-3.0, -0.1, -0.0, 0.0, 0.1, 7.0, jnp.inf, -jnp.inf, jnp.nan], dtype)
    for slope in (0.2, 0.0, 1.7):
        for one, other in zip(
            *(
                jax.vmap(jax.value_and_grad(partial(function, negative_slope=slope)))(x)
                for function in (leaky_relu, jax.nn.leaky_relu)
            ),
            strict=True,
        ):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(*(np.asarray(y, np.float32) for y in (one, other)))


def test_half_precision_is_added_in_float32(device):
    ones = jnp.ones((3, 2, 1024), jnp.bfloat16).at[:, :, 0].set(0.0)
    out = sum_features(ones)
    assert out.dtype == jnp.bfloat16
    assert_close(out, jnp.full((3, 2), 1024.0, jnp.bfloat16), 2**-8)
    out = dot_activated(jnp.ones((2, 1024), jnp.bfloat16), jax.nn.relu, ones)
    assert out.dtype == jnp.bfloat16
    assert_close(out, jnp.full((3, 2), 1024.0, jnp.bfloat16), 2**-8)
