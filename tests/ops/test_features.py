"""Sums over the features of a head: the product that a CPU takes and the reduction that an accelerator takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, draw

from gatjax.ops import dot_features, features, sum_features


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


def test_half_precision_is_added_in_float32(device):
    ones = jnp.ones((3, 2, 1024), jnp.bfloat16).at[:, :, 0].set(0.0)
    out = sum_features(ones)
    assert out.dtype == jnp.bfloat16
    assert_close(out, jnp.full((3, 2), 1024.0, jnp.bfloat16), 2**-8)
