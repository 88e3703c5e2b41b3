"""Ranks among all that could be: ties, filters, and what is made of them."""

# Bad arguments are wanted here.
# pyright: reportArgumentType=false

import jax
import numpy as np
from helpers import close, rejects

from gatjax.training import filtered_ranks, ranking_metrics


def rank_by_lot(scores, answer, known):
    """The mean place of the answer over both orders of its equals: in front of them, and behind."""
    others = [y for n, y in enumerate(scores) if n != answer and not known[n]]
    first = 1 + sum(y > scores[answer] for y in others)
    last = 1 + sum(y >= scores[answer] for y in others)
    return (first + last) / 2


def test_ranks_are_the_mean_over_orders_of_equals_without_what_is_known():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (53, 11)).astype(np.float32)
    answers = rng.integers(0, 11, 53)
    known = rng.random((53, 11)) < 0.3
    expected = [rank_by_lot(*each) for each in zip(scores, answers, known, strict=True)]
    close(filtered_ranks(scores, answers, known), expected)
    close(jax.jit(filtered_ranks)(scores, answers, known), expected)
    nothing = np.zeros_like(known)
    plain = [rank_by_lot(*each) for each in zip(scores, answers, nothing, strict=True)]
    close(filtered_ranks(scores, answers), plain)
    # A model that scores all alike draws lots.
    close(filtered_ranks(np.zeros((1, 11)), np.array([3])), [6])


def test_metrics_worked_by_hand():
    found = ranking_metrics(np.array([1, 2.5, 4, 10, 11], np.float32))
    close(found["mrr"], (1 + 1 / 2.5 + 1 / 4 + 1 / 10 + 1 / 11) / 5)
    assert [round(float(found[f"hits@{k}"]), 3) for k in (1, 3, 10)] == [0.2, 0.4, 0.8]


def test_what_has_no_rank_is_refused(unchecked):
    scores = np.zeros((2, 3))
    for arguments, message in (
        ((scores, np.array([0])), "scores must be [Q, N] and answers [Q], got [2, 3] and [1]"),
        ((scores, np.array([0, 3])), "answers[1] = 3 is no candidate: there are 3"),
        ((scores, np.array([0, 1]), np.zeros((2, 2), bool)), "known must be [Q, N] = [2, 3]"),
        ((scores * np.nan, np.array([0, 1])), "scores[0] has NaN, which has no rank"),
    ):
        with rejects(ValueError, message):
            filtered_ranks(*arguments)
    with rejects(ValueError, "ranks is empty"):
        ranking_metrics(np.zeros(0))
