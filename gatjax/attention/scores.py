"""Scores, and what becomes of heads: arithmetic on rows, with any leading axes.

A score gives one logit per head from the row of the receiver and the row of the sender, and of the edge
where it has features. Shapes: H heads, C features per head.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from gatjax.ops.features import dot_activated, leaky_relu, sum_features


def additive_score(
    receiver_term: Float[Array, "*rows H"],
    sender_term: Float[Array, "*rows H"],
    edge_term: Float[Array, "*rows H"] | None = None,
    *,
    negative_slope: float = 0.2,
) -> Float[Array, "*rows H"]:
    """The logit of GAT, from one term per end of the edge.

    ```
    e_ij = LeakyReLU(a_r · W h_i + a_s · W h_j + a_e · W_e e_ij)
    ```

    The vector `a` of the paper acts on a concatenation; split into its parts, each part needs one scalar per node and
    head, computed once per node and not once per edge.

    Args:
      receiver_term: `a_r · W h_i`, `[..., H]`.
      sender_term: `a_s · W h_j`, `[..., H]`.
      edge_term: `a_e · W_e e_ij`, `[..., H]`, or None.
      negative_slope: slope of the LeakyReLU below zero.

    Returns:
      Logits `[..., H]`.

    >>> import jax.numpy as jnp
    >>> additive_score(jnp.array([1.0, 1.0]), jnp.array([2.0, -2.0])).tolist()
    [3.0, -0.2...]

    Veličković et al., Graph Attention Networks, ICLR 2018.
    """
    term = receiver_term + sender_term
    return jax.nn.leaky_relu(term if edge_term is None else term + edge_term, negative_slope)


def dynamic_score(
    receiver_row: Float[Array, "*rows H C"],
    sender_row: Float[Array, "*rows H C"],
    attention_vector: Float[Array, "H C"],
    edge_row: Float[Array, "*rows H C"] | None = None,
    *,
    negative_slope: float = 0.2,
) -> Float[Array, "*rows H"]:
    """The logit of GATv2: the attention vector comes after the nonlinearity.

    ```
    e_ij = a · LeakyReLU(W_r h_i + W_s h_j + W_e e_ij)
    ```

    So the ranking of the senders may depend on the receiver, which GAT's cannot.

    Args:
      receiver_row: `W_r h_i`, `[..., H, C]`.
      sender_row: `W_s h_j`, `[..., H, C]`.
      attention_vector: `a`, `[H, C]`.
      edge_row: `W_e e_ij`, `[..., H, C]`, or None.
      negative_slope: slope of the LeakyReLU below zero.

    Returns:
      Logits `[..., H]`.

    >>> import jax.numpy as jnp
    >>> dynamic_score(jnp.array([[1.0, 1.0]]), jnp.array([[2.0, -2.0]]), jnp.array([[1.0, 10.0]])).tolist()
    [1.0]

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """
    activation = partial(leaky_relu, negative_slope=negative_slope)
    return dot_activated(attention_vector, activation, receiver_row, sender_row, edge_row)


def bahdanau_score(
    query: Float[Array, "*rows H C"],
    key: Float[Array, "*rows H C"],
    attention_vector: Float[Array, "H C"],
    edge_row: Float[Array, "*rows H C"] | None = None,
) -> Float[Array, "*rows H"]:
    """The logit of additive attention.

    ```
    e_ij = a · tanh(q_i + k_j + W_e e_ij)
    ```

    Args:
      query: `[..., H, C]`.
      key: `[..., H, C]`.
      attention_vector: `a`, `[H, C]`.
      edge_row: `W_e e_ij`, `[..., H, C]`, or None.

    Returns:
      Logits `[..., H]`.

    >>> import jax.numpy as jnp
    >>> bahdanau_score(jnp.array([[1.0, 90.0]]), jnp.array([[-1.0, 9.0]]), jnp.array([[5.0, 2.0]])).tolist()
    [2.0]

    Bahdanau, Cho, Bengio, Neural Machine Translation by Jointly Learning to Align and Translate, ICLR 2015. On plain
    arrays it is `dense_score` with a dense layer of two.
    """
    return dot_activated(attention_vector, jnp.tanh, query, key, edge_row)


def general_score(
    receiver_row: Float[Array, "*rows R"],
    sender_row: Float[Array, "*rows S"],
    kernel: Float[Array, "R H S"],
) -> Float[Array, "*rows H"]:
    """The logit of general attention: a trainable product of the two ends.

    ```
    e_ij = h_i · W h_j
    ```

    Args:
      receiver_row: `h_i`, `[..., R]`.
      sender_row: `h_j`, `[..., S]`.
      kernel: `W`, `[R, H, S]`.

    Returns:
      Logits `[..., H]`.

    >>> import jax.numpy as jnp
    >>> general_score(jnp.array([2.0]), jnp.array([1.0, 5.0]), jnp.array([[[3.0, 0.0]]])).tolist()
    [6.0]

    Luong, Pham, Manning, Effective Approaches to Attention-based Neural Machine Translation, EMNLP 2015. On plain
    arrays it is `general_dot`.
    """
    return jnp.einsum("...r,rhs,...s->...h", receiver_row, kernel, sender_row)


def dot_product_score(
    query: Float[Array, "*rows H C"],
    key: Float[Array, "*rows H C"],
    bias: Float[Array, "*rows H"] | None = None,
    *,
    scale: float | Float[Array, ""] | None = None,
) -> Float[Array, "*rows H"]:
    """The dot product of the receiver's query and the sender's key.

    ```
    e_ij = scale · (q_i · k_j) + b_ij
    ```

    Args:
      query: `[..., H, C]`.
      key: `[..., H, C]`.
      bias: b, what is known of the pair, `[..., H]`; none by default.
      scale: factor of the product; `1/sqrt(C)` by default.

    Returns:
      Logits `[..., H]`.

    >>> import jax.numpy as jnp
    >>> dot_product_score(jnp.array([[0.0, 2.0, 1.0]]), jnp.array([[2.0, 3.0, 1.0]]), scale=1.0).tolist()
    [7.0]

    Vaswani et al., Attention Is All You Need, NeurIPS 2017.
    """
    products = sum_features(query * key) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return products if bias is None else products + bias


def combine_heads(
    x: Float[Array, "*rows H C"], how: str | Float[Array, "H C L"]
) -> Float[Array, "*rows L"]:
    """Reduce the heads to one row of features.

    ```
    concat: y = x_1 ‖ ... ‖ x_H               mean: y_c = 1/H Σ_h x_hc
    sum:    y_c = Σ_h x_hc                    max:  y_c = max_h x_hc
    array w: y_l = Σ_hc x_hc w_hcl            a learned contraction over (head, feature)
    ```

    Args:
      x: `[..., H, C]`.
      how: "concat", "mean", "sum", "max", or an array `[H, C, L]`.

    Returns:
      `[..., H·C]`, `[..., C]` or `[..., L]`.

    Raises:
      ValueError: unknown name, or an array whose shape does not begin with (H, C).

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> combine_heads(x, "concat").tolist(), combine_heads(x, "mean").tolist()
    ([1.0, 2.0, 3.0, 4.0], [2.0, 3.0])
    """
    *rows, num_heads, features = x.shape
    if not isinstance(how, str):
        if how.ndim != 3 or how.shape[:2] != (num_heads, features):
            raise ValueError(
                f"how must be [H, C, L] = [{num_heads}, {features}, L], got {list(how.shape)}"
            )
        return jnp.einsum("...hc,hcl->...l", x, how)
    if how == "concat":
        return x.reshape(*rows, num_heads * features)
    reductions = {"mean": jnp.mean, "sum": jnp.sum, "max": jnp.max}
    if how not in reductions:
        raise ValueError(
            f"how must be one of {['concat', *reductions]} or an array [H, C, L], got {how!r}"
        )
    return reductions[how](x, axis=-2)


def reduce_heads(
    x: Float[ArrayLike, "..."], how: str | Float[ArrayLike, "..."] = "concat", *, axis: int = 0
) -> Float[Array, "..."]:
    """One output from those of all heads.

    ```
    concat: y = x_1 ‖ ... ‖ x_H               mean, sum, max: over the heads, for each feature
    w [H]: y = Σ_h w_h x_h                    w [H, V, U]: y_u = Σ_hv x_hv w_hvu
    ```

    Args:
      x: `[H, L, V]`, or `[H, V]` for a single query, or with other axes where `axis` says which is H.
      how: "concat", "mean", "sum", "max", weights `[H]`, or a tensor `[H, V, U]`, square (U = V) in the textbook.
      axis: the axis of the heads.

    Returns:
      `x` without the axis of the heads, the last axis H·V, V or U.

    Raises:
      ValueError: an unknown name, or an array that does not fit.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> reduce_heads(x, "mean").tolist(), reduce_heads(x, jnp.array([1.0, 10.0])).tolist()
    ([2.0, 3.0], [31.0, 42.0])
    """
    x = jnp.moveaxis(jnp.asarray(x), axis, -2)
    if isinstance(how, str):
        return combine_heads(x, how)
    weights = jnp.asarray(how)
    if weights.ndim != 1:
        return combine_heads(x, weights)
    if len(weights) != x.shape[-2]:
        raise ValueError(
            f"how must hold one weight per head, [{x.shape[-2]}], got [{len(weights)}]"
        )
    return jnp.einsum("...hc,h->...c", x, weights)
