"""Attention over graphs of one size, in each of which every node has an edge from every node: all pairs at once.

```
e_ij  = score(weights, r_i, s_j, e_ij)
p_ij  = softmax_j(e_ij / T)
out_i = Σ_j w_ij m_ij p_ij value(weights, r_i, s_j, e_ij)
```

The same numbers as over the edges, whose rows stand in the order of the pairs, without a row looked up or added up by
its id. Shapes: G graphs of n nodes; what is written [E] elsewhere is [G, n, n], receivers before senders.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gatjax.attention.blocked import Rows
from gatjax.attention.mixture import Mixture
from gatjax.attention.steps import Normalize, RowFunction, Temperature, cool, weights_of
from gatjax.ops.blocks import fill_rows, mask_rows, on_cpu
from gatjax.ops.ends import Ends
from gatjax.ops.segment import over_rows
from gatjax.ops.softmax import RULES, along_last

# XLA's CPU backend is slow at products of many matrices whose first factor is read by columns, as a derivative by the
# second factor of a product reads it. Up to this many rows it takes less time to transpose it first.
SMALL = 32


def on_pairs(pairs: Callable[..., Array]) -> Callable[[RowFunction], RowFunction]:
    """Gives a score or a value of rows a second form, of all pairs at once: products of matrices, where it has such.

    Args:
      pairs: of rows r and s `[G, n, ...]` and e `[G, n, n, ...]`. Of a score `pairs(weights, r, s, e) -> [G, H, n, n]`;
        of a value, with p `[G, H, n, n]`, what the values add up to, `pairs(p, weights, r, s, e) -> [G, n, H, C]`.

    >>> score = on_pairs(lambda weights, r, s, e: product(r, s))(lambda weights, r, s, e: (r * s).sum(-1))
    >>> score.pairs(None, jnp.ones((1, 2, 1, 3)), jnp.ones((1, 2, 1, 3)), None).shape
    (1, 1, 2, 2)
    """

    def mark(rows: RowFunction) -> RowFunction:
        setattr(rows, _FORM, pairs)
        return rows

    return mark


_FORM = "pairs"


def has_forms(*functions: RowFunction) -> bool:
    """Whether all of them have a form of all pairs."""
    return all(hasattr(function, _FORM) for function in functions)


def product(q: Float[Array, "G n H C"], k: Float[Array, "G m H C"]) -> Float[Array, "G H n m"]:
    """The dot products of all queries and keys of a graph, in float32 at least."""
    return products(jnp.swapaxes(q, 1, 2), jnp.swapaxes(k, 1, 2))


def mix(p: Float[Array, "G H n m"], v: Float[Array, "G m H C"]) -> Float[Array, "G n H C"]:
    """The values of all senders of a graph, weighted, in their dtype."""
    return jnp.swapaxes(sums(p, jnp.swapaxes(v, 1, 2)), 1, 2).astype(v.dtype)


def products(q: Float[Array, "G H n C"], k: Float[Array, "G H m C"]) -> Float[Array, "G H n m"]:
    """As `product`, heads first."""
    return _products(*widened(q, k))


def sums(p: Float[Array, "G H n m"], v: Float[Array, "G H m C"]) -> Float[Array, "G H n C"]:
    """As `mix`, heads first, in float32 at least."""
    return _sums(*widened(p, v))


@jax.custom_jvp
def _products(q: Array, k: Array) -> Array:
    return wide_einsum("ghic,ghjc->ghij", q, k)


@_products.defjvp
def _push_products(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (q, k), (d_q, d_k) = primals, tangents
    small = _are_small(k)
    along = _turned(wide_einsum("ghjc,ghic->ghji", d_k, q)) if small else _products(q, d_k)
    return _products(q, k), _products(d_q, k) + along


@jax.custom_jvp
def _sums(p: Array, v: Array) -> Array:
    return wide_einsum("ghij,ghjc->ghic", p, v)


@_sums.defjvp
def _push_sums(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (p, v), (d_p, d_v) = primals, tangents
    return _sums(p, v), _sums(d_p, v) + sums_along(p, d_v)


def sums_along(p: Float[Array, "G H n m"], d_v: Float[Array, "G H m C"]) -> Float[Array, "G H n C"]:
    """`sums` where the values are linear in a tangent."""
    if not _are_small(d_v):
        return sums(p, d_v)
    return _turned(wide_einsum("ghcj,ghij->ghci", jnp.swapaxes(d_v, 2, 3), p))


def _are_small(rows: Float[Array, "G H m C"]) -> bool:
    return rows.shape[2] <= SMALL and on_cpu()


def _turned(x: Float[Array, "G H m n"]) -> Float[Array, "G H n m"]:
    """Each matrix transposed, and its gradient, too, before anything is multiplied by it."""
    return jnp.swapaxes(jax.lax.optimization_barrier(x), 2, 3)


def widened(*arrays: Array) -> tuple[Array, ...]:
    """The arrays in one dtype, of float32 at least."""
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return tuple(array.astype(dtype) for array in arrays)


def wide_einsum(how: str, *arrays: Array) -> Array:
    """The sum of products, at least in float32, whatever the platform takes for enough."""
    return jnp.einsum(how, *widened(*arrays), precision=jax.lax.Precision.HIGHEST)


def attend_to_pairs(
    score: RowFunction,
    value: RowFunction,
    rows: Rows,
    multiplier: Float[Array, "E H"] | None,
    ends: Ends,
    normalize: Normalize,
    temperature: Temperature,
) -> Float[Array, "N H C"]:
    """`attend` where `ends.pairs` says that the edges are all pairs."""
    shape = _shape(ends)
    counted = ends.counted.reshape(shape)
    table = _Table(rows, ends)
    logits = table.logits(score)
    p = _weights(logits, counted, ends, normalize, temperature)
    if multiplier is not None:
        factor = mask_rows(multiplier[: len(ends.senders)], ends.counted)
        p = p * _heads_first(factor, shape).astype(p.dtype)
    return table.sums(value, p)


class _Table:
    """The rows of all graphs, as functions of rows and those of pairs read them."""

    def __init__(self, rows: Rows, ends: Ends):
        self.shape, self.counted = _shape(ends), ends.counted
        self.edges = fill_rows(rows.edges, ends.counted, rows.edges, ends.safe)
        self.rows, self.ends = rows, ends

    def logits(self, score: RowFunction) -> Float[Array, "G H n n"]:
        pairs = getattr(score, _FORM, None)
        if pairs is not None:
            return pairs(*self._of_graphs())
        return _heads_first(score(*self._of_edges()), self.shape)

    def sums(self, value: RowFunction, p: Float[Array, "G H n n"]) -> Float[Array, "N H C"]:
        pairs = getattr(value, _FORM, None)
        if pairs is not None:
            out = pairs(p, *self._of_graphs())
        else:
            values = value(*self._of_edges())
            p = jnp.moveaxis(p, 1, -1)[..., None].astype(values.dtype)
            values = values.reshape(*self.shape, *values.shape[1:])
            out = (p * values).astype(jnp.promote_types(values.dtype, jnp.float32)).sum(2)
            out = out.astype(values.dtype)
        return out.reshape(-1, *out.shape[2:])

    def _of_graphs(self) -> Rows:
        """Rows [G, n, ...], zeros where no edge reads them, and [G, n, n, ...] of the edges."""
        counted = self.counted.reshape(self.shape)
        read = Rows(None, counted.any(2).reshape(-1), counted.any(1).reshape(-1), None)
        split = lambda tree, *axes: jax.tree.map(
            lambda leaf: leaf.reshape(*axes, *leaf.shape[1:]), tree
        )
        graphs, n, _ = self.shape
        return Rows(
            self.rows.weights,
            split(mask_rows(self.rows.receivers, read.receivers), graphs, n),
            split(mask_rows(self.rows.senders, read.senders), graphs, n),
            split(self.edges, *self.shape),
        )

    def _of_edges(self) -> Rows:
        """A row per edge; one that does not count reads the rows of one that does."""
        _, receivers, senders, _ = self.rows
        first = jnp.minimum(self.ends.safe, len(self.counted) - 1)
        of_first = (self.ends.receivers[first], self.ends.senders[first])

        def spread(tree, axis, row):
            def spread(leaf):
                graphs, n, _ = self.shape
                wide = jnp.expand_dims(leaf.reshape(graphs, n, *leaf.shape[1:]), axis)
                wide = jnp.broadcast_to(wide, (*self.shape, *leaf.shape[1:]))
                wide = wide.reshape(-1, *leaf.shape[1:])
                safe = jax.lax.stop_gradient(leaf[row])[None]
                return jnp.where(over_rows(self.counted, wide), wide, safe)

            return jax.tree.map(spread, tree)

        return Rows(
            self.rows.weights,
            spread(receivers, 2, of_first[0]),
            spread(senders, 1, of_first[1]),
            self.edges,
        )


def _weights(
    logits: Float[Array, "G H n n"],
    counted: Bool[Array, "G n n"],
    ends: Ends,
    normalize: Normalize,
    temperature: Temperature,
) -> Float[Array, "G H n n"]:
    """What each receiver gives to each sender; 0 where no edge counts."""
    logits = cool_heads(logits, temperature)
    of_heads = jnp.broadcast_to(counted[:, None], logits.shape)
    if isinstance(normalize, Mixture):
        attend = lambda: _weights(logits, counted, ends, normalize.normalize, 1.0)
        return normalize.on_pairs(attend, counted)
    if callable(normalize):
        shape = logits.shape
        flat = jnp.moveaxis(logits, 1, -1).reshape(-1, shape[1])
        num_receivers = shape[0] * shape[2]
        alpha = weights_of(normalize, flat, ends.receivers, num_receivers, ends.counted)
        return jnp.where(of_heads, _heads_first(alpha, counted.shape), 0)
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return RULES[str(normalize)](wide, of_heads, along_last(of_heads), 1.0)


def cool_heads(
    logits: Float[Array, "G H n m"], temperature: Temperature
) -> Float[Array, "G H n m"]:
    """`cool` where the heads come before the pairs."""
    if isinstance(temperature, int | float) and temperature == 1:
        return logits
    last = jnp.moveaxis(logits, 1, -1)
    return jnp.moveaxis(
        cool(last.reshape(-1, last.shape[-1]), temperature).reshape(last.shape), -1, 1
    )


def _heads_first(x: Float[Array, "E H"], shape: tuple[int, ...]) -> Float[Array, "G H n n"]:
    return jnp.moveaxis(x.reshape(*shape, x.shape[-1]), -1, 1)


def _shape(ends: Ends) -> tuple[int, int, int]:
    assert ends.pairs is not None
    slots = ends.pairs.slots
    return slots.graphs, slots.nodes, slots.nodes
