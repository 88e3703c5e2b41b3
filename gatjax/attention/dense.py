"""Attention as a textbook defines it: a query, keys and values in plain arrays.

Every query attends to all keys; a graph in which every node sends to every node says the same with edges
(`graph_attention`). Shapes: M queries and L keys of width d, values of width V, H heads. All functions take further
leading axes, the same in all arguments. One query is an array one rank below the keys: `[d]` beside `[L, d]`.

Sums run in float32 at least, on every platform. A query that may attend to no key gets 0. Of equal logits, hard
attention takes the first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Num

from gatjax.attention.steps import Normalize, Normalizer, normalizer, weights_of
from gatjax.ops.softmax import RULES, along_last, check_temperature

AttentionMechanism = Callable[[Array, Array], Array]

_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def tensor_dot(
    q: Num[ArrayLike, "..."],
    k: Num[ArrayLike, "..."],
    *,
    scale: float | Array | None = None,
) -> Float[Array, "..."]:
    """Dot-product attention's logits: the product of every query with every key.

    ```
    e_l = scale · (q · k_l)
    ```

    Args:
      q: `[..., d]` for one query, or `[..., M, d]`.
      k: keys, `[..., L, d]`.
      scale: factor; `1/sqrt(d)` by default, d the width of the features; 1 for the plain dot product.

    Returns:
      Logits `[..., L]` or `[..., M, L]`.

    Raises:
      ValueError: ranks, leading axes or widths that do not fit.

    >>> tensor_dot(jnp.array([0.0, 2.0, 1.0]), jnp.array([[2.0, 3.0, 1.0], [0.0, 0.0, 0.0]]), scale=1.0).tolist()
    [7.0, 0.0]
    """
    q, k = query_and_keys(q, k)
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"q {list(q.shape)} and k {list(k.shape)} must have the same width d, the last axis: project one "
            "of them, or use general_dot or dense_score, which take two widths"
        )
    factor = max(q.shape[-1], 1) ** -0.5 if scale is None else scale
    queries = q if q.ndim == k.ndim else q[..., None, :]
    logits = _einsum("...md,...ld->...ml", _widen(queries), _widen(k)) * factor
    return logits if q.ndim == k.ndim else logits[..., 0, :]


def general_dot(
    q: Num[ArrayLike, "..."], k: Num[ArrayLike, "..."], kernel: Float[ArrayLike, "d_q d_k"]
) -> Float[Array, "..."]:
    """General (Luong) attention's logits: a trainable product, `e_l = q · W k_l`.

    Queries and keys may have any two widths.

    Bind the kernel to make it a mechanism: `partial(general_dot, kernel=kernel)`.

    Args:
      q: `[..., d_q]` for one query, or `[..., M, d_q]`.
      k: keys, `[..., L, d_k]`.
      kernel: W, `[d_q, d_k]`.

    Returns:
      Logits `[..., L]` or `[..., M, L]`.

    Raises:
      ValueError: ranks, leading axes or widths that do not fit.

    >>> general_dot(jnp.array([2.0]), jnp.array([[1.0, 5.0]]), jnp.array([[3.0, 0.0]])).tolist()
    [6.0]

    Luong, Pham, Manning, Effective Approaches to Attention-based Neural Machine Translation, EMNLP 2015.
    """
    q, k = query_and_keys(q, k)
    kernel = jnp.asarray(kernel)
    if kernel.shape != (q.shape[-1], k.shape[-1]):
        raise ValueError(
            f"kernel must be [d_q, d_k] = [{q.shape[-1]}, {k.shape[-1]}] for q {list(q.shape)} and "
            f"k {list(k.shape)}, got {list(kernel.shape)}"
        )
    return tensor_dot(_einsum("...d,de->...e", _widen(q), kernel), k, scale=1.0)


def dense_score(
    q: Num[ArrayLike, "..."], k: Num[ArrayLike, "..."], dense: Callable[[Array], Array]
) -> Float[Array, "L"]:
    """Additive (Bahdanau) attention's logits: a dense layer on query and key side by side, `e_l = dense(q ‖ k_l)`.

    Bind the layer to make it a mechanism: `partial(dense_score, dense=nnx.Linear(d_q + d_k, 1, rngs=rngs))`.

    Args:
      q: one query, `[d_q]`.
      k: keys, `[L, d_k]`.
      dense: any function or module `[L, d_q + d_k] -> [L, 1]`.

    Returns:
      Logits `[L]`.

    Raises:
      ValueError: ranks that do not fit, or a layer of another width than 1.

    >>> dense_score(jnp.array([2.0]), jnp.array([[1.0], [5.0]]), lambda x: x.sum(-1, keepdims=True)).tolist()
    [3.0, 7.0]

    Bahdanau, Cho, Bengio, Neural Machine Translation by Jointly Learning to Align and Translate, ICLR 2015, with a
    dense layer of two: `dense = nnx.Sequential(nnx.Linear(...), jnp.tanh, nnx.Linear(..., 1))`.
    """
    q, k = query_and_keys(q, k)
    if k.ndim != 2 or q.ndim != 1:
        raise ValueError(
            f"dense_score takes one query [d_q] and its keys [L, d_k], got q {list(q.shape)} and k {list(k.shape)}; "
            "dense_weights and attention_layer apply it to more"
        )
    logits = dense(jnp.concatenate([jnp.broadcast_to(q, (len(k), len(q))), k], axis=-1))
    if logits.shape != (len(k), 1):
        raise ValueError(
            f"dense must return [L, 1] = [{len(k)}, 1], got {list(logits.shape)}: give its last layer the width 1"
        )
    return logits[:, 0]


def dense_weights(
    q: Num[ArrayLike, "..."],
    k: Num[ArrayLike, "..."],
    *,
    mechanism: AttentionMechanism = tensor_dot,
    normalize: Normalize = "softmax",
    temperature: float | Array = 1.0,
    mask: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """How every query divides its attention among the keys.

    ```
    b_l = exp(e_l / T) / Σ_m exp(e_m / T),        e = mechanism(q, k)
    ```

    The largest logit is subtracted first, so logits of ±1e30 are fine. A logit of -inf is as good as masked.

    Args:
      q: `[..., d]` for one query, or `[..., M, d]`.
      k: keys, `[..., L, d]`.
      mechanism: `mechanism(q, k) -> [L]` for one query `[d]` and the keys `[L, d]`; the scaled dot product by default,
        `partial(tensor_dot, scale=1.0)` for the plain one, `general_dot`, `dense_score`, or one's own.
      normalize: "softmax"; "hardmax", all attention to the largest logit, without a gradient; "straight_through",
        hardmax with the gradient of the softmax; "sparsemax", "entmax" or `TopK(k)`, which leave keys out; or a
        function of one's own as in `attention_weights`, for which the keys of a query are a segment.
      temperature: T; towards 0 the softmax becomes hard, towards infinity uniform.
      mask: keys that a query may attend to, of the rank of the result, each axis 1 or as there; all by default.

    Returns:
      Weights `[..., L]` or `[..., M, L]`, which sum to 1 over L, in float32 at least.

    Raises:
      ValueError: ranks, axes or widths that do not fit, an unknown normaliser, a temperature that is not positive.
      TypeError: a mask that is not boolean.

    >>> print(jnp.round(100 * dense_weights(jnp.array([1.0]), jnp.array([[2.0], [0.5], [1.0]]))))
    [63. 14. 23.]
    """
    normalizer(normalize)
    check_temperature(temperature, 'normalize="hardmax"')
    q, k = query_and_keys(q, k)
    per_query = jnp.vectorize(partial(_one_query, mechanism), signature="(d),(l,e)->(l)")
    logits = _widen(per_query(q, k if q.ndim < k.ndim else k[..., None, :, :]))
    counted = _allowed(mask, logits.shape)
    if callable(normalize):
        return _by_function(normalize, logits, counted, temperature)
    return RULES[normalize](logits, counted, along_last(counted), temperature)


def attention_layer(
    q: Num[ArrayLike, "..."],
    k: Num[ArrayLike, "..."],
    v: Num[ArrayLike, "..."],
    *,
    mechanism: AttentionMechanism = tensor_dot,
    normalize: Normalize = "softmax",
    temperature: float | Array = 1.0,
    mask: Bool[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """A mean of the values, weighted by how well each key answers the query: a soft look-up in a dictionary.

    ```
    out = Σ_l b_l v_l,        b = softmax(mechanism(q, k) / T)
    ```

    Args:
      q: `[..., d]` for one query, or `[..., M, d]`.
      k: keys, `[..., L, d]`.
      v: values, `[..., L, V]`, or numbers `[..., L]`.
      mechanism, normalize, temperature, mask: as in `dense_weights`; the values of masked keys must be finite.

    Returns:
      For one query `[..., V]`, or `[...]` where values are numbers; for M queries `[..., M, V]` or `[..., M]`. In the
      dtype of the values.

    Raises:
      ValueError: as `dense_weights`; values that are not one per key.
      TypeError: a mask that is not boolean.

    >>> keys = jnp.array([[0, 0, 0], [2, 0, 1], [1, -1, -2], [2, 3, 1], [-2, 0, 0], [0, 2, 1]])
    >>> values = jnp.array([0, -0.2, 0.3, 0.4, 0, 0.1])
    >>> print(f"{attention_layer(keys[5], keys, values, mechanism=partial(tensor_dot, scale=1.0)):.3f}")
    0.362
    >>> print(f"{attention_layer(keys[5], keys, values):.3f}")
    0.308

    Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """
    q, k = query_and_keys(q, k)
    v = floating(v)
    if v.ndim not in (k.ndim - 1, k.ndim) or v.shape[: k.ndim - 1] != k.shape[:-1]:
        raise ValueError(
            f"v must hold one value per key, [..., L, V] or [..., L] with [..., L] = {list(k.shape[:-1])} "
            f"for k {list(k.shape)}, got {list(v.shape)}"
        )
    options: dict[str, Any] = {"normalize": normalize, "temperature": temperature, "mask": mask}
    b = dense_weights(q, k, mechanism=mechanism, **options)
    b = b if q.ndim == k.ndim else b[..., None, :]
    values = v if v.ndim == k.ndim else v[..., None]
    out = _einsum("...ml,...lc->...mc", b, _widen(values)).astype(v.dtype)
    out = out if v.ndim == k.ndim else out[..., 0]
    return out if q.ndim == k.ndim else jnp.squeeze(out, axis=k.ndim - 2)


def self_attention(x: Num[ArrayLike, "*batch L d"], **options: Any) -> Float[Array, "*batch L d"]:
    """Rows that attend to one another, `attention_layer(x, x, x)`; the options are the same.

    It treats the rows alike: rows in another order give the same output in that order.

    >>> self_attention(jnp.eye(3), temperature=1e-6).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return attention_layer(x, x, x, **options)


def floating(x: ArrayLike) -> Array:
    """As an array; whole numbers in the default floating dtype."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def _widen(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def query_and_keys(q: ArrayLike, k: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of fractions, after the checks of their ranks and leading axes."""
    q, k = floating(q), floating(k)
    if k.ndim < 2:
        raise ValueError(
            f"k must be keys [..., L, d], got {list(k.shape)}; one key alone is k[None, :]"
        )
    if q.ndim not in (k.ndim - 1, k.ndim):
        raise ValueError(
            f"q must be one query [..., d], of rank {k.ndim - 1}, or M queries [..., M, d], of rank {k.ndim}, "
            f"for k {list(k.shape)}; got {list(q.shape)}"
        )
    leading = k.shape[:-2]
    if q.shape[: len(leading)] != leading:
        raise ValueError(
            f"q and k must have the same leading axes, {list(leading)} for k {list(k.shape)}, got q {list(q.shape)}; "
            "jnp.broadcast_to repeats one of them"
        )
    return q, k


def _one_query(mechanism: AttentionMechanism, q: Array, k: Array) -> Array:
    logits = mechanism(q, k)
    if jnp.shape(logits) != k.shape[:1]:
        raise ValueError(
            f"mechanism must map one query {list(q.shape)} and the keys {list(k.shape)} to one logit per key, "
            f"[{len(k)}], got {list(jnp.shape(logits))}"
        )
    return logits


def _allowed(mask: ArrayLike | None, shape: tuple[int, ...]) -> Bool[Array, "..."]:
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be boolean, got {mask.dtype}; use mask > 0")
    if mask.ndim != len(shape) or any(
        m not in (1, n) for m, n in zip(mask.shape, shape, strict=True)
    ):
        raise ValueError(
            f"mask must be {list(shape)}, as the weights are, or 1 along some axes, got {list(mask.shape)}"
        )
    return jnp.broadcast_to(mask, shape)


def _by_function(
    normalize: Normalizer, logits: Array, counted: Array, temperature: float | Array
) -> Array:
    """The keys of all queries as the rows of one table."""
    known = logits != -jnp.inf
    cooled = jnp.where(known, jnp.where(known, logits, 0) / temperature, -jnp.inf).ravel()
    num_queries = logits.size // max(logits.shape[-1], 1)
    query = jnp.repeat(jnp.arange(num_queries), logits.shape[-1])
    weights = weights_of(normalize, cooled, query, num_queries, counted.ravel())
    return jnp.where(counted, weights.reshape(logits.shape), 0)
