"""Linear maps whose transpose is written by hand, so that a function has a derivative of both modes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jaxtyping import PyTree


def linear_map(
    apply: Callable[[PyTree], PyTree],
    transpose: Callable[[PyTree], PyTree],
    plain: Callable[[PyTree], PyTree],
    x: PyTree,
    like: PyTree,
) -> PyTree:
    """`apply(x)` for a linear function, of which reverse mode takes `transpose`.

    JAX has one map with a transpose of one's own that can be mapped and differentiated again, the solution of a linear
    system. Here the system is

    ```
    x' = x        y' - A x' = 0
    ```

    so it is solved by `y' = A x`, and transposed by `x = x' + A^T y'`.

    Args:
      apply: A, run in forward mode.
      transpose: A^T, run in reverse mode.
      plain: A once more, in a form that JAX can transpose and differentiate by itself; it runs in derivatives of higher
        order alone.
      x: a pytree of real arrays.
      like: what A x looks like.
    """
    x = _depending(x, x)
    y = _depending(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like), x)
    add = lambda one, other: jax.tree.map(jnp.add, one, other)
    subtract = lambda one, other: jax.tree.map(jnp.subtract, one, other)
    # JAX traces it twice, for the system and for its transpose.
    program, shape = jax.make_jaxpr(plain, return_shape=True)(x)
    of_leaves, tree = jaxpr_as_fun(program), jax.tree.structure(shape)
    plain = lambda x: tree.unflatten(of_leaves(*jax.tree.leaves(x)))
    x, y = jax.lax.custom_linear_solve(
        lambda pair: (pair[0], subtract(pair[1], plain(pair[0]))),
        (x, y),
        lambda _, right: (right[0], add(right[1], apply(right[0]))),
        lambda _, right: (add(right[0], transpose(right[1])), right[1]),
    )
    return _depending(y, x)


def _depending(tree: PyTree, x: PyTree) -> PyTree:
    """The tree plus a sum of none of the numbers in x, since JAX asks that all parts of a system depend on all of x."""
    parts = [leaf.reshape(-1)[:0].sum().astype(jnp.float32) for leaf in jax.tree.leaves(x)]
    nothing = jnp.asarray(sum(parts))
    return jax.tree.map(lambda leaf: leaf + nothing.astype(leaf.dtype), tree)
