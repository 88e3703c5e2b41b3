"""Walking rows in blocks: how long a block is, and how one is read, masked, written and added up.

Tables are gathered and scattered as flat rows [N, H·C], which XLA's CPU backend turns into straight loops.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Int, PyTree, Shaped

from gatjax.ops.segment import over_rows

BlockSize = int | str | None

# A block of edges holds about this many values k·H·C: on a CPU 1 MiB in float32, to stay in cache; elsewhere 128 MiB,
# to keep all cores busy.
BLOCK_NUMBERS = 2**18
ACCELERATOR_BLOCK_NUMBERS = 2**25

# Up to this many values E·H·C the direct formula is as fast as blocks and compiles sooner; an accelerator, where one
# block is that large, has no use for a single block.
DIRECT_NUMBERS = 2**16

# Up to this many weights of all pairs, 128 MiB in float32, they are held at once.
PAIR_NUMBERS = 2**25

# XLA's CPU backend vectorises a loop over an array whose number of entries is a multiple of this; others take up to ten
# times as long.
VECTOR = 16

# XLA's CPU backend unrolls the copy of a row of so many numbers, and moves them one at a time; of more, by vectors.
UNROLLED = range(32, 80)


def rows_per_block(width: int, fewest: int = 256) -> int:
    """How many rows of this many numbers one block holds, on the default device."""
    numbers = BLOCK_NUMBERS if on_cpu() else ACCELERATOR_BLOCK_NUMBERS
    return max(numbers // max(width, 1), fewest)


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def ceil_div(numerator: int, denominator: int) -> int:
    """How many parts of one size hold a number of things.

    >>> ceil_div(7, 3), ceil_div(6, 3)
    (3, 2)
    """
    return -(-numerator // denominator)


def round_up(num_rows: int, multiple: int = VECTOR) -> int:
    """The least multiple with room for all rows, of `VECTOR` by default.

    >>> round_up(17), round_up(0), round_up(7, 5)
    (32, 0, 10)
    """
    return ceil_div(num_rows, multiple) * multiple


def choose_block_size(block_size: BlockSize, num_edges: int, width: int) -> int | None:
    """The number of edges per block, or None for the direct formula; "auto" decides by the rows' number and width.

    What has no form for all pairs takes "dense" for the direct formula.
    """
    if block_size == "auto":
        few = DIRECT_NUMBERS if on_cpu() else ACCELERATOR_BLOCK_NUMBERS
        return None if num_edges * width <= few else _even(num_edges, rows_per_block(width))
    if block_size == "dense":
        return None
    if block_size is not None and not isinstance(block_size, int | np.integer):
        raise ValueError(
            f'block_size must be "auto", "dense", None or a positive integer, got {block_size!r}'
        )
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be positive, got {block_size}")
    return block_size


def _even(num_rows: int, most: int) -> int:
    """The size of as few blocks as there must be, all about alike, so that the last one repeats few rows."""
    return min(most, round_up(ceil_div(num_rows, ceil_div(num_rows, most))))


def walk(num_edges: int, block_size: int, step: Callable, carry: PyTree) -> PyTree:
    """`carry = step(start, fresh, carry)` for every block of edges.

    Blocks have one size, so the last one starts early and repeats edges of the block before it; `fresh` [k] marks the
    edges met for the first time.
    """

    if jax.sharding.get_abstract_mesh().manual_axes:
        start, fresh = jnp.zeros((), jnp.int32), jnp.ones(block_size, bool)
        after = jax.make_jaxpr(step)(start, fresh, carry).out_avals
        carry = varying(carry, after)

    def body(index, carry):
        start = jnp.minimum(index * block_size, num_edges - block_size)
        fresh = start + jnp.arange(block_size, dtype=jnp.int32) >= index * block_size
        return step(start, fresh, carry)

    return jax.lax.fori_loop(0, ceil_div(num_edges, block_size), body, carry)


def undivided(function: Callable) -> Callable:
    """A function of arrays alone which, on an accelerator, JAX leaves whole where a derivative calls it.

    It takes out of a loop what all steps compute alike otherwise, such as constants as wide as a block. A CPU reads
    those from its cache; an accelerator would fetch them from memory in every step.
    """
    if on_cpu():
        return function
    whole = jax.custom_jvp(function)
    whole.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return whole


def rows_like(table: PyTree, num_rows: int) -> PyTree:
    """What so many rows of every array of a table look like, for functions to be traced with.

    >>> rows_like(jnp.ones((2, 3)), 5)
    ShapedArray(float32[5,3])
    """
    return jax.tree.map(
        lambda leaf: jax.typeof(leaf).update(shape=(num_rows, *leaf.shape[1:])), table
    )


def varying(tree: PyTree, *like: PyTree) -> PyTree:
    """The tree, as one that differs from shard to shard wherever one of `like` does: inside `jax.shard_map`.

    Loops ask that what they carry differs by as many axes of the mesh before a step as after it, and derivatives by as
    many as what they are derivatives of; those of what is the same on all shards are summed up.
    """
    axes = frozenset[str]().union(*(_varying_axes(leaf) for leaf in jax.tree.leaves(like)))

    def cast(leaf):
        missing = tuple(sorted(axes - _varying_axes(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree) if axes else tree


def _varying_axes(leaf: Any) -> frozenset[str]:
    """The axes of the mesh along which an array, or the type of one, differs."""
    kind = leaf if hasattr(leaf, "manual_axis_type") else jax.typeof(leaf)
    return kind.manual_axis_type.varying


def gather(
    table: PyTree, ids: Int[Array, "*k"], *, accumulate: DTypeLike | None = jnp.float32
) -> PyTree:
    """The rows `ids` of every array in a table.

    Args:
      table: pytree of arrays `[N, ...]`.
      ids: rows, each in `[0, N)` unless N is 0.
      accumulate: the dtype in which the gradient adds up the rows that are read more than once, at least. A sum of
        hundreds in half precision stands still, and a GPU adds them one after the other. The table is widened for it:
        None, where nothing is differentiated, leaves it as it is.

    Returns:
      A pytree of arrays `[*k, ...]`; zeros where N is 0.

    >>> gather({"x": jnp.array([[1.0], [2.0]])}, jnp.array([1, 0, 1]))["x"].ravel().tolist()
    [2.0, 1.0, 2.0]
    """

    def rows(leaf):
        leaf = jnp.asarray(leaf)
        shape = ids.shape + leaf.shape[1:]
        if leaf.shape[0] == 0:
            return jnp.zeros(shape, leaf.dtype)
        table = flat(leaf)
        if accumulate is not None and jnp.issubdtype(leaf.dtype, jnp.floating):
            table = table.astype(jnp.promote_types(leaf.dtype, accumulate))
        return table.at[ids].get(mode="promise_in_bounds").reshape(shape).astype(leaf.dtype)

    return jax.tree.map(rows, table)


def gather_again(table: PyTree, ids: Int[Array, "k"]) -> PyTree:
    """`gather` of rows that are gathered for something else, too, where nothing is differentiated.

    XLA's CPU backend makes one loop of a gather and what is computed from it, as long as nothing else reads the rows;
    they are stored in between otherwise, and read back. So each use gathers for itself there, which the barrier keeps
    XLA from joining.

    >>> gather_again(jnp.array([[1.0], [2.0]]), jnp.array([1, 0])).ravel().tolist()
    [2.0, 1.0]
    """
    return gather(table, jax.lax.optimization_barrier(ids) if on_cpu() else ids, accumulate=None)


def reader(table: PyTree, num_reads: int) -> Callable[[Int[Array, "k"]], PyTree]:
    """`gather` of one table as a function of the ids, for rows that are read many times over.

    Where a CPU would move the numbers of a row one at a time, all arrays of the table are copied into one, side by
    side, and widened by `fill_columns`: rows of 64 numbers take a third of the time.

    Args:
      table: pytree of arrays `[N, ...]`, all with as many rows.
      num_reads: how many rows will be read; fewer than 4 N are not worth the copy.

    >>> reader({"x": jnp.array([[1.0], [2.0]])}, 8)(jnp.array([1, 0, 1]))["x"].ravel().tolist()
    [2.0, 1.0, 2.0]
    """
    arrays, tree = jax.tree.flatten(table)
    widths = [math.prod(array.shape[1:]) for array in arrays]
    unrolled = on_cpu() and any(width in UNROLLED for width in widths)
    alike = len({array.dtype for array in arrays}) == 1
    if not (unrolled and alike and num_reads >= 4 * len(arrays[0])):
        return partial(gather, table, accumulate=None)
    beside = fill_columns(jnp.concatenate([flat(array) for array in arrays], axis=1))

    def rows(ids):
        parts = jnp.split(gather(beside, ids, accumulate=None), np.cumsum(widths), axis=1)[:-1]
        return tree.unflatten(
            part.reshape(-1, *array.shape[1:]) for part, array in zip(parts, arrays, strict=True)
        )

    return rows


def fill_columns(table: Shaped[Array, "N width"]) -> Shaped[Array, "N at_least_width"]:
    """The table with zeros beside its rows, where a CPU would move their numbers one at a time.

    >>> fill_columns(jnp.ones((2, 64))).shape, fill_columns(jnp.ones((2, 16))).shape
    ((2, 80), (2, 16))
    """
    missing = UNROLLED.stop - table.shape[1] if table.shape[1] in UNROLLED else 0
    return jnp.pad(table, [(0, 0), (0, missing)])


def read(table: PyTree, start: Int[Array, ""] | int, size: int) -> PyTree:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), table)


def write(table: PyTree, start: Int[Array, ""], fresh: Bool[Array, "k"], rows: PyTree) -> PyTree:
    """Replace the fresh rows from `start` on."""

    def write(leaf, new):
        old = read(leaf, start, fresh.shape[0])
        new = jnp.where(fresh[:, None], flat(new).astype(leaf.dtype), old)
        return jax.lax.dynamic_update_slice_in_dim(leaf, new, start, 0)

    return jax.tree.map(write, table, rows)


def scatter_add(table: PyTree, ids: Int[Array, "k"], rows: PyTree) -> PyTree:
    def add(leaf, new):
        return leaf.at[ids].add(flat(new).astype(leaf.dtype), mode="promise_in_bounds")

    return jax.tree.map(add, table, rows)


def mask_rows(table: PyTree, counted: Bool[Array, "k"]) -> PyTree:
    """The table with zeros in the rows that do not count, so that nothing they hold reaches a sum or a gradient."""

    def mask(leaf):
        leaf = jnp.asarray(leaf)
        return jnp.where(over_rows(counted, leaf), leaf, jnp.zeros_like(leaf))

    return jax.tree.map(mask, table)


def fill_rows(
    rows: PyTree, counted: Bool[Array, "k"], table: PyTree, safe: Int[Array, ""]
) -> PyTree:
    """The rows, with row `safe` of the table in place of those that do not count; zeros where there is no such row."""

    def fill(leaf, whole):
        row = jax.lax.stop_gradient(jax.lax.dynamic_index_in_dim(whole, safe))
        row = jnp.where(safe < len(whole), row, jnp.zeros_like(row))
        return jnp.where(over_rows(counted, leaf), leaf, row)

    return jax.tree.map(fill, rows, table)


def flat(leaf: Array) -> Array:
    """The array with one axis after the first, `[N, ...]` to `[N, width]`."""
    return leaf.reshape(leaf.shape[0], math.prod(leaf.shape[1:]))
