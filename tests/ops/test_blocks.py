"""Rows that are read many times over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gatjax.ops.blocks import UNROLLED, gather, gather_again, on_cpu, reader

rng = np.random.default_rng(0)
IDS = jnp.asarray(rng.integers(0, 9, 40))


def table(*widths, dtype=jnp.float32):
    draw = lambda shape: jnp.asarray(rng.normal(size=(9, *shape)), dtype)
    return {str(index): draw(shape) for index, shape in enumerate(widths)}


@pytest.mark.parametrize(
    "rows",
    [
        table((31,)),
        table((4, 8)),
        table((8, 8), (8,), (2, 3)),
        table((8, 8), (8, 8)),
        table((79,)),
        table((80,), (8,)),
        table((8, 8), dtype=jnp.bfloat16),
        {"wide": jnp.ones((9, 64)), "whole": jnp.arange(9)},
        {"wide": jnp.ones((9, 64)), "none": None},
        None,
    ],
    ids=lambda rows: str(jax.tree.map(lambda leaf: leaf.shape, rows)),
)
def test_a_reader_reads_what_gather_does(rows):
    for num_reads in (0, 40):
        found, expected = reader(rows, num_reads)(IDS), gather(rows, IDS)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_narrow_rows_are_read_from_one_wide_table(as_on_a_cpu):
    program = str(jax.make_jaxpr(lambda ids: reader(table((8, 8), (8,)), 40)(ids))(IDS))
    assert program.count(" gather[") == 1
    assert "f32[40,80]" in program and UNROLLED.stop == 80


def test_rows_that_are_read_again_are_gathered_again_on_a_cpu():
    rows = jnp.arange(18.0).reshape(9, 2)

    def both(ids):
        return gather(rows, ids, accumulate=None), gather_again(rows, ids)

    first, again = both(IDS)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    kept_apart = str(jax.make_jaxpr(both)(IDS)).count("optimization_barrier")
    assert kept_apart == on_cpu()
