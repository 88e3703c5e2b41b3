"""Dropout masks: their statistics, and that a part of a mask is the same wherever it is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gatjax.ops import DropoutMask, keep_mask


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.6, 0.9])
def test_keep_mask_has_two_values_and_mean_one(rate):
    size = 100_003
    mask = np.asarray(keep_mask(jax.random.key(3), rate, (size,)))
    zero, kept = np.unique(mask)
    assert zero == 0 and abs(kept * (1 - rate) - 1) < 2e-4
    assert abs((mask == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / size)


@pytest.mark.parametrize("rate", [0.0, 1e-10, 2**-34])
def test_a_rate_too_small_to_matter_keeps_everything(rate):
    np.testing.assert_array_equal(keep_mask(jax.random.key(0), rate, (5, 7)), 1.0)


@pytest.mark.parametrize("rate", [2**-16, 3 * 2**-16])
def test_the_smallest_rates_still_drop(rate):
    size = 2**19
    dropped = int((keep_mask(jax.random.key(0), rate, (size,)) == 0).sum())
    expected = rate * size
    assert abs(dropped - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("rate", [0.999, 1 - 2**-20])
def test_a_rate_close_to_one_stays_finite(rate):
    mask = keep_mask(jax.random.key(0), rate, (2**17,))
    expected = (1 - rate) * 2**17
    assert np.isfinite(mask).all() and abs((mask != 0).sum() - expected) < 5 * np.sqrt(expected) + 1


def test_the_first_entry_is_dropped_as_often_as_any_other():
    """Key 0 too, both words of which are 0: the hash alone would leave them at 0, and keep the entry."""
    first = lambda seed: keep_mask(jax.random.key(seed), 0.6, (1,))[0]
    dropped = np.asarray(jax.vmap(first)(np.arange(10_000)) == 0)
    assert abs(dropped.mean() - 0.6) < 5 * np.sqrt(0.24 / 10_000)
    kept = [float(keep_mask(jax.random.key(0), rate, (1,))[0]) for rate in (0.5, 0.9, 0.99, 0.999)]
    assert 0.0 in kept


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_a_rate_outside_its_range_is_refused(rate, unchecked):
    for make in (
        lambda: keep_mask(jax.random.key(0), rate, (3,)),
        lambda: DropoutMask(jax.random.key(0), rate),
    ):
        with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\), got"):
            make()


@pytest.mark.parametrize("distance", [1, 2, 3, 8, 64, 4096])
def test_entries_are_independent_of_those_near_and_far(distance):
    dropped = np.asarray(keep_mask(jax.random.key(5), 0.4, (100_003,)) == 0)
    here, there = dropped[distance:], dropped[:-distance]
    assert abs(np.corrcoef(here, there)[0, 1]) < 5 / np.sqrt(len(here))


@pytest.mark.parametrize("other", [1, 2, 2**16, 2**31], ids=hex)
@pytest.mark.parametrize("word", [0, 1])
def test_masks_of_keys_that_differ_by_a_bit_are_independent(word, other):
    """In either word of the key, alone and against the other mask moved by one entry."""
    data = np.array([1234567, 7654321], np.uint32)
    near = data.copy()
    near[word] ^= np.uint32(other)
    one, two = (
        np.asarray(keep_mask(jax.random.wrap_key_data(jnp.asarray(key)), 0.4, (100_003,)) == 0)
        for key in (data, near)
    )
    bound = 5 / np.sqrt(len(one))
    assert abs(np.corrcoef(one, two)[0, 1]) < bound
    assert abs(np.corrcoef(one[1:], two[:-1])[0, 1]) < bound


def test_counts_of_kept_entries_spread_like_a_binomial():
    """Of 1009 keys and 257 entries: neither too even nor too uneven."""
    keys = jax.random.split(jax.random.key(11), 1009)
    counts = np.asarray(jax.vmap(lambda key: keep_mask(key, 0.6, (257,)) > 0)(keys)).sum(1)
    variance = 257 * 0.6 * 0.4
    assert abs(counts.mean() - 257 * 0.4) < 5 * np.sqrt(variance / len(counts))
    assert abs(counts.var() / variance - 1) < 5 * np.sqrt(2 / len(counts))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (3, 5, 7)])
def test_keep_mask_has_the_shape_asked_for(shape):
    assert keep_mask(jax.random.key(0), 0.5, shape).shape == shape


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_keep_mask_has_the_dtype_asked_for(dtype):
    assert keep_mask(jax.random.key(0), 0.5, (3,), dtype).dtype == dtype


def test_one_key_is_one_mask():
    draw = lambda seed: np.asarray(keep_mask(jax.random.key(seed), 0.5, (101,)))
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()


def test_masks_of_many_keys_at_once_are_those_one_by_one():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(lambda key: keep_mask(key, 0.3, (13,)))(keys)
    np.testing.assert_array_equal(together, [keep_mask(key, 0.3, (13,)) for key in keys])


@pytest.mark.parametrize("width", [1, 3, 8])
def test_rows_of_a_mask_do_not_depend_on_what_else_is_drawn(width):
    mask = DropoutMask(jax.random.key(7), 0.4)
    whole = np.asarray(jax.jit(lambda: keep_mask(mask.key, mask.rate, (31, width)))())
    for start, size in [(0, 31), (0, 4), (5, 9), (30, 1)]:
        rows = jax.jit(lambda start=start, size=size: mask.rows(start, size, width))
        expected = whole[start : start + size]
        np.testing.assert_array_equal(rows(), expected, f"{size} from {start}")
    traced = jax.jit(lambda mask, start: mask.rows(start, 9, width))(mask, 5)
    np.testing.assert_array_equal(traced, whole[5:14])
