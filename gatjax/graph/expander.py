"""Random regular graphs that are connected, and mix fast: few edges over which any two nodes are close.

Shapes: n nodes, each with the same number of neighbours, hence P = n·degree/2 pairs.
"""

from typing import Any

import numpy as np
from jaxtyping import Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

# Up to so many nodes all eigenvalues are computed, beyond only those that matter.
DENSE = 200

# Draws of the last few pairs, before all are drawn anew.
ROUNDS = 100


def expander(size: int, degree: int, seed: int, draws: int) -> Int[np.ndarray, "P 2"]:
    """Of several connected regular graphs the one on which a random walk mixes fastest.

    >>> expander(5, 4, seed=0, draws=1).tolist()
    [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]
    """
    generator = np.random.default_rng((seed, size, degree))
    best, pairs = np.inf, np.zeros((0, 2), np.int64)
    while best == np.inf:
        for _ in range(draws):
            drawn = regular_graph(size, degree, generator)
            if (second := second_eigenvalue(drawn, size)) < best:
                best, pairs = second, drawn
    return pairs


def regular_graph(size: int, degree: int, generator: np.random.Generator) -> Int[np.ndarray, "P 2"]:
    """A random regular graph; of a high degree, the pairs that one of a low degree leaves."""
    if 2 * degree <= size - 1:
        return _matched(size, degree, generator)
    every = np.stack(np.triu_indices(size, 1), 1)
    left_out = _matched(size, size - 1 - degree, generator)
    return every[~np.isin(every @ [size, 1], left_out @ [size, 1])]


def _matched(size: int, degree: int, generator: np.random.Generator) -> Int[np.ndarray, "P 2"]:
    """Ends of edges joined at random, those anew that would make a loop or a second edge; all anew where it fails."""
    while True:
        ends, taken = np.repeat(np.arange(size), degree), np.zeros(0, np.int64)
        for _ in range(ROUNDS):
            if not len(ends):
                return np.stack(np.divmod(np.sort(taken), size), 1)
            pairs = np.sort(generator.permutation(ends).reshape(-1, 2), axis=1)
            keys, first = np.unique(pairs @ [size, 1], return_index=True)
            fits = (pairs[first, 0] != pairs[first, 1]) & ~np.isin(keys, taken)
            taken = np.concatenate([taken, keys[fits]])
            ends = np.delete(pairs, first[fits], axis=0).reshape(-1)


def second_eigenvalue(pairs: Int[np.ndarray, "P 2"], size: int) -> float:
    """The largest eigenvalue of the adjacency in absolute value, that of the constant vector left out.

    Infinity where the graph is not connected.

    >>> round(second_eigenvalue(np.array([[0, 1], [1, 2], [0, 2]]), 3), 6)
    1.0
    """
    both = np.concatenate([pairs, pairs[:, ::-1]])
    matrix = sparse.coo_array((np.ones(len(both)), tuple(both.T)), (size, size)).tocsr()
    if connected_components(matrix, directed=False)[0] > 1:
        return np.inf
    if size <= DENSE:
        values = np.linalg.eigvalsh(matrix.toarray())
        return float(max(values[-2], -values[0]))
    options: dict[str, Any] = {
        "v0": np.random.default_rng(0).normal(size=size),
        "return_eigenvectors": False,
        "tol": 1e-3,
    }
    largest, least = (
        np.min(np.asarray(eigsh(matrix, count, which=which, **options)))
        for count, which in ((2, "LA"), (1, "SA"))
    )
    return float(max(largest, -least))
