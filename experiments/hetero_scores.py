"""How embeddings and predictions of nodes are judged: F1, and the k nearest neighbours of HAN's paper."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIZES = (0.2, 0.4, 0.6, 0.8)


class F1(NamedTuple):
    """The mean of the classes, and that of all predictions, which is the accuracy."""

    macro: float
    micro: float


def f1(labels: np.ndarray, predicted: np.ndarray) -> F1:
    """F1 of classes from 0; a class that neither has nor is predicted counts for nothing.

    >>> f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    F1(macro=0.7333333333333334, micro=0.75)
    """
    scores = []
    for label in np.union1d(labels, predicted):
        hits = np.sum((labels == label) & (predicted == label))
        scores.append(2 * hits / (np.sum(labels == label) + np.sum(predicted == label)))
    return F1(float(np.mean(scores)), float(np.mean(labels == predicted)))


def nearest_neighbors(
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    sizes: Sequence[float] = SIZES,
    shuffles: int = 10,
    k: int = 5,
) -> dict[str, F1]:
    """Of each share of the nodes, as those whose labels are known, the mean F1 of the others over some shuffles.

    A node has the class of most of its k nearest neighbours, the lowest of several.
    """
    squares = (rows**2).sum(axis=1)
    distance = squares[:, None] + squares - 2 * rows @ rows.T
    np.fill_diagonal(distance, np.inf)
    total, classes = len(rows), int(labels.max()) + 1
    near = np.argsort(distance, axis=1, kind="stable")
    scores: dict[str, F1] = {}
    for size in sizes:
        found = []
        for seed in range(shuffles):
            order = np.random.default_rng(seed).permutation(total)
            known = np.zeros(total, bool)
            known[order[: int(size * total)]] = True
            others = np.flatnonzero(~known)
            votes = np.zeros((len(others), classes), int)
            for place, node in enumerate(others):
                first = near[node, : 20 * k][known[near[node, : 20 * k]]][:k]
                first = first if len(first) == k else near[node][known[near[node]]][:k]
                votes[place] = np.bincount(labels[first], minlength=classes)
            found.append(f1(labels[others], votes.argmax(axis=1)))
        scores[f"{100 * size:.0f} %"] = F1(*np.mean(found, axis=0).tolist())
    return scores
