"""How well answers are ranked among all that could be: ranks with ties, and what is made of them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int


def filtered_ranks(
    scores: Float[ArrayLike, "Q N"],
    answers: Int[ArrayLike, "Q"],
    known: Bool[ArrayLike, "Q N"] | None = None,
) -> Float[Array, "Q"]:
    """The rank of the right answer to each question among N candidates, other right ones left out.

    ```
    rank_q = 1 + |{n : y_qn > y_qa}| + 1/2 |{n : y_qn = y_qa}|        over n other than a that are not known
    ```

    A tie counts half, so that a model which scores all alike has the rank of one that draws lots; to put the answer
    before its equals would call it perfect.

    Args:
      scores: y, of all candidates, the higher the better.
      answers: a, the candidate that is asked for.
      known: other candidates that are right, too, in training or elsewhere, and cannot be mistakes; none by default.

    Returns:
      Ranks from 1 on, in halves; inside `jax.jit` too.

    Raises:
      ValueError: shapes that disagree, and outside `jax.jit` an answer that is no candidate, or a score that is NaN.

    >>> filtered_ranks(jnp.array([[0.9, 0.5, 0.5, 0.1]]), jnp.array([1])).tolist()
    [2.5]
    >>> filtered_ranks(jnp.array([[0.9, 0.5, 0.5, 0.1]]), jnp.array([1]), jnp.array([[1, 0, 0, 0]], bool)).tolist()
    [1.5]

    Bordes et al., Translating embeddings for modeling multi-relational data, NeurIPS 2013, filter. On ties see Sun et
    al., A re-evaluation of knowledge graph completion methods, ACL 2020.
    """
    _check(scores, answers, known)
    scores, answers = jnp.asarray(scores), jnp.asarray(answers)
    candidates = jnp.arange(scores.shape[1])[None] != answers[:, None]
    if known is not None:
        candidates = candidates & ~jnp.asarray(known)
    own = jnp.take_along_axis(scores, answers[:, None], axis=1)
    greater = ((scores > own) & candidates).sum(1)
    equal = ((scores == own) & candidates).sum(1)
    return 1 + greater.astype(jnp.float32) + equal.astype(jnp.float32) / 2


def ranking_metrics(ranks: Float[ArrayLike, "Q"]) -> dict[str, Array]:
    """Mean reciprocal rank, and the share of questions whose answer is among the first 1, 3 and 10.

    ```text
    MRR = 1/Q Σ_q 1/rank_q        hits@k = 1/Q Σ_q [rank_q ≤ k]
    ```

    Args:
      ranks: from 1 on, as `filtered_ranks` has them.

    Returns:
      "mrr", "hits@1", "hits@3" and "hits@10"; inside `jax.jit` too.

    Raises:
      ValueError: no ranks.

    >>> {name: round(float(number), 3) for name, number in ranking_metrics(jnp.array([1.0, 4.0])).items()}
    {'mrr': 0.625, 'hits@1': 0.5, 'hits@3': 0.5, 'hits@10': 1.0}
    """
    ranks = jnp.asarray(ranks)
    if not ranks.size:
        raise ValueError("ranks is empty: there is no mean over no questions")
    hits = {f"hits@{k}": (ranks <= k).mean() for k in (1, 3, 10)}
    return {"mrr": (1 / ranks).mean(), **hits}


def _check(scores: Any, answers: npt.ArrayLike, known: Any) -> None:
    shape = np.shape(scores)
    if len(shape) != 2 or np.shape(answers) != shape[:1]:
        raise ValueError(
            f"scores must be [Q, N] and answers [Q], got {list(shape)} and {list(np.shape(answers))}"
        )
    if known is not None and np.shape(known) != shape:
        raise ValueError(f"known must be [Q, N] = {list(shape)}, got {list(np.shape(known))}")
    if any(isinstance(each, Tracer) for each in (scores, answers)):
        return
    bad = np.flatnonzero((np.asarray(answers) < 0) | (np.asarray(answers) >= shape[1]))
    if bad.size:
        raise ValueError(
            f"answers[{bad[0]}] = {np.asarray(answers)[bad[0]]} is no candidate: there are {shape[1]}"
        )
    rows = np.flatnonzero(np.isnan(np.asarray(scores, np.float64)).any(1))
    if rows.size:
        raise ValueError(f"scores[{rows[0]}] has NaN, which has no rank: look for what made it")
