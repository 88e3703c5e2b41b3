"""How an attribution ranks the edges: against a planted truth, and against another attribution."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float

from gatjax.explain.prediction import one_per_edge
from gatjax.explain.quality import top_edges
from gatjax.graph.check import EdgeMask, check_lengths, check_mask


def edge_auroc(
    values: Float[ArrayLike, "E"], truth: Bool[ArrayLike, "E"], *, edge_mask: EdgeMask = None
) -> Float[Array, ""]:
    """The chance that an edge of the truth is ranked above another one, ties half: the area under the ROC curve.

    ```
    AUROC = (Σ_{e ∈ truth} rank_e - P (P + 1) / 2) / (P Q)
    ```

    P edges are of the truth, Q are not; ranks count from the lowest value, and are the mean of theirs where values are
    equal. It is `gatjax.training.area_under_roc`, with a mask in place of two lists.

    Args:
      values: an attribution, `[E]`.
      truth: the edges that matter.
      edge_mask: edges that take part, `[E]`; all by default.

    Returns:
      From 0 to 1; NaN where a value is.

    Raises:
      TypeError, ValueError: values of several heads, lengths that disagree, a truth that is not boolean, or marks none
        of the edges, or all.

    >>> edge_auroc(jnp.array([0.9, 0.4, 0.4, 0.1]), jnp.array([True, True, False, False])).item()
    0.875
    """
    values, truth, counted = _checked(values, truth, edge_mask)
    positive, negative = counted & truth, counted & ~truth
    # In float32, since a product of counts soon leaves int32.
    p, q = positive.sum(dtype=jnp.float32), negative.sum(dtype=jnp.float32)
    total = jnp.where(positive, _ranks(values, counted), 0).sum()
    return (total / p - (p + 1) / 2) / q


def precision_at_k(
    values: Float[ArrayLike, "E"],
    truth: Bool[ArrayLike, "E"],
    k: int,
    *,
    edge_mask: EdgeMask = None,
) -> Float[Array, ""]:
    """The share of the truth among the k edges with the highest values, of equal ones the first.

    Arguments and errors as in `edge_auroc`; of fewer than k edges it is the share among all.

    >>> precision_at_k(jnp.array([0.9, 0.4, 0.3, 0.1]), jnp.array([True, False, True, False]), 2).item()
    0.5
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    values, truth, counted = _checked(values, truth, edge_mask)
    chosen = top_edges(values, k, edge_mask=counted)
    return (chosen & truth).sum() / chosen.sum()


def rank_correlation(
    first: Float[ArrayLike, "E"], second: Float[ArrayLike, "E"], *, edge_mask: EdgeMask = None
) -> Float[Array, ""]:
    """Whether two attributions rank the edges alike: Spearman's correlation.

    ```
    ρ = cov(rank first, rank second) / (sd(rank first) sd(rank second))
    ```

    Args:
      first: an attribution, `[E]`.
      second: another one, such as `edge_deletion`.
      edge_mask: edges that take part, `[E]`; all by default.

    Returns:
      From -1 to 1; NaN where one of them is the same for all edges, or has NaN.

    >>> rank_correlation(jnp.array([1.0, 2.0, 9.0]), jnp.array([0.3, 0.1, 0.0])).item()
    -1.0

    Spearman, 1904; of attention and deletion in Jain, Wallace, Attention is not Explanation, NAACL 2019, by Kendall's.
    """
    first, second = one_per_edge("first", first), one_per_edge("second", second)
    check_lengths(len(first), second=second)
    counted = _counted(len(first), edge_mask)
    count = counted.sum()

    def centered(values: Array) -> Array:
        return jnp.where(counted, _ranks(values, counted) - (count + 1) / 2, 0)

    a, b = centered(first), centered(second)
    return (a * b).sum() / jnp.sqrt((a * a).sum() * (b * b).sum())


def _checked(
    values: ArrayLike, truth: ArrayLike, edge_mask: EdgeMask
) -> tuple[Array, Array, Array]:
    values = one_per_edge("values", values)
    check_mask(len(values), truth=truth)
    truth, counted = jnp.asarray(truth), _counted(len(values), edge_mask)
    if not isinstance(truth, Tracer) and not isinstance(counted, Tracer):
        of_edges = np.asarray(counted)
        number, of = int((np.asarray(truth) & of_edges).sum()), int(of_edges.sum())
        if number in (0, of):
            raise ValueError(
                f"truth marks {number} of the {of} edges that take part: there must be some, and some others"
            )
    return values, truth, counted


def _counted(count: int, edge_mask: EdgeMask) -> Bool[Array, "E"]:
    check_mask(count, edge_mask=edge_mask)
    return jnp.ones(count, bool) if edge_mask is None else jnp.asarray(edge_mask)


def _ranks(values: Array, counted: Array) -> Float[Array, "E"]:
    """From 1 on, from the lowest value; equal values share the mean of theirs. None has one where one is NaN."""
    ascending = jnp.sort(jnp.where(counted, values, jnp.inf))
    below = jnp.searchsorted(ascending, values, side="left")
    up_to = jnp.minimum(jnp.searchsorted(ascending, values, side="right"), counted.sum())
    unknown = (counted & jnp.isnan(values)).any()
    return jnp.where(unknown, jnp.nan, (below + up_to + 1) / 2)
