"""Where a node stands in its graph, as numbers that attention cannot compute for itself.

On the host, once, before `jax.jit` and padding; each graph of a batch for itself, so that a batch has the rows of its
graphs. Shapes: N nodes, P pairs, the Σ n² ordered pairs of nodes of one graph in the order of `fully_connected`.
Matrices are computed in float64, encodings are float32.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Int32, Key
from jraph import GraphsTuple
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import eigsh

from gatjax.graph.check import check_lengths
from gatjax.graph.ids import first_true, host_ids
from gatjax.graph.messages import check_at_least, shown
from gatjax.graph.sizes import graph_ids, num_nodes

Normalization = Literal["symmetric", "none"]

# Rows of a walk that are held at once, in numbers.
ROWS = 8_000_000

# Up to so many nodes all eigenvectors are computed, beyond only those that are asked for.
DENSE = 1_500

# Pairs of nodes that are held at most.
MAX_PAIRS = 20_000_000


def random_walk_encoding(graph: GraphsTuple, steps: int = 16) -> Float32[np.ndarray, "N steps"]:
    """How likely a random walk from each node is back after 1, 2, ... steps.

    ```
    p_ik = (P^k)_ii,        P_ij = A_ij / Σ_l A_il
    ```

    with A_ij the number of edges i -> j. A walk ends at a node without outgoing edges. Self-loops are steps too, so
    encode first, `add_self_loops` after.

    Args:
      graph: one graph or a batch.
      steps: K.

    Returns:
      `[N, K]`; zeros for an isolated node.

    Raises:
      ValueError: fewer than one step.

    >>> from gatjax.graph import build_graph
    >>> random_walk_encoding(build_graph([0, 1, 1, 2], [1, 0, 2, 1], num_nodes=3), steps=4).tolist()
    [[0.0, 0.5, 0.0, 0.5], [0.0, 1.0, 0.0, 1.0], [0.0, 0.5, 0.0, 0.5]]

    Dwivedi et al., Graph Neural Networks with Learnable Structural and Positional Representations, ICLR 2022.
    """
    check_at_least(1, steps=steps)
    encoding = np.zeros((num_nodes(graph), steps), np.float32)
    for part in _parts(graph):
        walk = _walk(part.adjacency)
        size = max(ROWS // max(part.size, 1), 1)
        for start in range(0, part.size, size):
            nodes = np.arange(start, min(start + size, part.size))
            rows = np.asarray(walk[nodes].todense())
            for step in range(steps):
                encoding[part.first + nodes, step] = rows[nodes - start, nodes]
                rows = rows @ walk if step < steps - 1 else rows
    return encoding


def laplacian_encoding(
    graph: GraphsTuple, features: int = 8, *, normalization: Normalization = "symmetric"
) -> Float32[np.ndarray, "N features"]:
    """The smoothest functions on each connected component: eigenvectors of its Laplacian, the constant one left out.

    ```
    L u_k = λ_k u_k,        0 = λ_0 < λ_1 <= λ_2 <= ...
    L     = I - D^(-1/2) A D^(-1/2)        "symmetric"
    L     = D - A                          "none"
    ```

    with A_ij the number of edges i -> j, self-loops left out, and D its row sums. The columns u_1, ..., u_K are
    orthonormal over the nodes of a component. A sign, and a basis where eigenvalues are equal, is as the solver has it:
    train with `flip_signs`.

    Args:
      graph: one graph or a batch, with each edge in both directions.
      features: K.
      normalization: which L.

    Returns:
      `[N, K]`; a component of n nodes has n - 1 columns at most, and zeros in the others.

    Raises:
      ValueError: fewer than one feature, an unknown normalization, or an edge without its reverse.

    >>> from gatjax.graph import build_graph
    >>> path = build_graph([0, 1, 1, 2], [1, 0, 2, 1], num_nodes=3)
    >>> abs(laplacian_encoding(path, 3, normalization="none")[:, 0]).round(3).tolist()
    [0.707..., 0.0, 0.707...]

    Dwivedi, Bresson, A Generalization of Transformer Networks to Graphs, 2021, which takes a whole graph for one
    component.
    """
    check_at_least(1, features=features)
    if normalization not in get_args(Normalization):
        known = ", ".join(get_args(Normalization))
        raise ValueError(f"unknown normalization {shown(normalization)}: choose one of {known}")
    encoding = np.zeros((num_nodes(graph), features), np.float32)
    for part in _parts(graph):
        adjacency = part.adjacency.copy()
        adjacency.setdiag(0)
        adjacency.eliminate_zeros()
        _check_symmetric(adjacency, part.first)
        _, labels = connected_components(adjacency, directed=False)
        order = np.argsort(labels, kind="stable")
        for nodes in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
            if len(nodes) > 1:
                vectors = _smoothest(adjacency[nodes][:, nodes], features, normalization)
                encoding[part.first + nodes, : vectors.shape[1]] = vectors
    return encoding


def flip_signs(
    key: Key[Array, ""], encoding: Float[ArrayLike, "N K"], graph: GraphsTuple
) -> Float[Array, "N K"]:
    """The encoding with a random sign for each column of each graph, inside `jax.jit` too.

    ```
    y_ik = s_gk u_ik,        s_gk = ±1 with equal chance, g the graph of node i
    ```

    Args:
      key: of `jax.random`, another for each step of training.
      encoding: `[N, K]`, such as `laplacian_encoding` gives.
      graph: the batch of N nodes that it is of.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([], [], num_nodes=2)
    >>> abs(flip_signs(jax.random.key(0), jnp.array([[1.0, 2.0], [3.0, 4.0]]), graph)).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    encoding = jnp.asarray(encoding)
    check_lengths(num_nodes(graph), encoding=encoding)
    num_graphs, width = len(graph.n_node), encoding.shape[1]
    signs = jax.random.rademacher(key, (num_graphs, width), encoding.dtype)
    return encoding * signs[graph_ids(graph.n_node, len(encoding))]


def degree_encoding(graph: GraphsTuple) -> Float32[np.ndarray, "N 1"]:
    """How many edges enter each node, on a scale that hubs do not leave.

    ```
    d_i = log(1 + |{j -> i}|)
    ```

    A softmax is a mean, which does not tell how many neighbours it was taken over.

    Args:
      graph: one graph or a batch.

    >>> from gatjax.graph import build_graph
    >>> degree_encoding(build_graph([0, 1], [2, 2], num_nodes=3)).round(3).tolist()
    [[0.0], [0.0], [1.09...]]
    """
    _, receivers, _, _ = host_ids(graph)
    degrees = np.bincount(receivers, minlength=num_nodes(graph))
    return np.log1p(degrees).astype(np.float32)[:, None]


def shortest_paths(
    graph: GraphsTuple, cutoff: int, *, max_pairs: int = MAX_PAIRS
) -> Int32[np.ndarray, "P"]:
    """How many edges lead from the sender to the receiver of each pair of nodes.

    ```
    d_ij = the least number of edges of a path j -> ... -> i;  cutoff + 1 if there is none of at most cutoff
    ```

    Args:
      graph: one graph or a batch; its P pairs are the edges of `connect_all(graph)`, in their order.
      cutoff: the longest path that is told from none.
      max_pairs: refuse more pairs.

    Returns:
      `[P]`, from 0, of a node to itself, to cutoff + 1: for one number per distance and head,
      `jax.nn.one_hot(distances, cutoff + 2)` are features of pairs.

    Raises:
      ValueError: a cutoff below 1, or too many pairs.

    >>> from gatjax.graph import build_graph
    >>> shortest_paths(build_graph([0, 1], [1, 2], num_nodes=3), cutoff=1).reshape(3, 3).tolist()
    [[0, 2, 2], [1, 0, 2], [2, 1, 0]]

    Ying et al., Do Transformers Really Perform Badly for Graph Representation?, NeurIPS 2021.
    """
    check_at_least(1, cutoff=cutoff)
    check_pairs(graph, max_pairs)
    parts = [np.zeros(0, np.int32)]
    for part in _parts(graph):
        lengths = dijkstra(part.adjacency, unweighted=True, limit=cutoff) if part.size else None
        if lengths is not None:
            parts.append(np.minimum(lengths.T, cutoff + 1).astype(np.int32).reshape(-1))
    return np.concatenate(parts)


def relative_random_walk(
    graph: GraphsTuple, steps: int = 16, *, max_pairs: int = MAX_PAIRS
) -> Float32[np.ndarray, "P steps"]:
    """How likely a random walk from the receiver of each pair of nodes is at the sender after 0, 1, ... steps.

    ```
    p_ijk = (P^k)_ij,        P_ij = A_ij / Σ_l A_il,        k = 0, ..., K - 1
    ```

    with A as in `random_walk_encoding`, whose rows are those of the pairs (i, i).

    Args:
      graph: one graph or a batch; its P pairs are the edges of `connect_all(graph)`, in their order.
      steps: K.
      max_pairs: refuse more pairs.

    Returns:
      `[P, K]`.

    Raises:
      ValueError: fewer than one step, or too many pairs.

    >>> from gatjax.graph import build_graph
    >>> walks = relative_random_walk(build_graph([0, 1, 1, 2], [1, 0, 2, 1], num_nodes=3), steps=3)
    >>> walks[:, 2].reshape(3, 3).tolist()
    [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]

    Ma et al., Graph Inductive Biases in Transformers without Message Passing, ICML 2023.
    """
    check_at_least(1, steps=steps)
    check_pairs(graph, max_pairs)
    parts = [np.zeros((0, steps), np.float32)]
    for part in _parts(graph):
        walk, rows = _walk(part.adjacency), np.eye(part.size)
        walks = np.zeros((part.size, part.size, steps), np.float32)
        for step in range(steps):
            walks[:, :, step] = rows
            rows = rows @ walk
        parts.append(walks.reshape(-1, steps))
    return np.concatenate(parts)


def check_pairs(graph: GraphsTuple, max_pairs: int) -> None:
    """Refuse a batch with more pairs of nodes of one graph.

    Raises:
      ValueError: it has.
    """
    check_at_least(1, max_pairs=max_pairs)
    sizes = host_ids(graph).n_node.astype(np.int64)
    if (total := int((sizes**2).sum())) > max_pairs:
        raise ValueError(
            f"graph has {total} pairs of nodes of one graph, over max_pairs = {max_pairs}: raise it, or split the batch"
        )


class _Part(NamedTuple):
    """One graph of a batch: its first node, how many it has, and A [n, n], A_ij the number of edges i -> j."""

    first: int
    size: int
    adjacency: sparse.csr_array


def _parts(graph: GraphsTuple) -> Iterator[_Part]:
    senders, receivers, n_node, n_edge = host_ids(graph)
    nodes, edges = np.cumsum([0, *n_node]), np.cumsum([0, *n_edge])
    for first, last, start, end in zip(nodes, nodes[1:], edges, edges[1:], strict=False):
        size = int(last - first)
        ends = senders[start:end] - first, receivers[start:end] - first
        entries = sparse.coo_array((np.ones(end - start), ends), (size, size))
        yield _Part(int(first), size, entries.tocsr())


def _walk(adjacency: sparse.csr_array) -> sparse.csr_array:
    """P, with rows of zeros where no edge leaves."""
    total = adjacency.sum(1)
    return sparse.diags_array(1 / np.where(total == 0, 1, total)).tocsr() @ adjacency


def _check_symmetric(adjacency: sparse.csr_array, first: int) -> None:
    difference = (adjacency - adjacency.T).tocoo()
    if (edge := first_true(difference.data > 0)) is not None:
        sender, receiver = (int(ids[edge]) + first for ids in (difference.row, difference.col))
        raise ValueError(
            f"edge {sender} -> {receiver} has no reverse, and the Laplacian is of undirected graphs: "
            "call to_undirected first"
        )


def _smoothest(
    adjacency: sparse.csr_array, features: int, normalization: Normalization
) -> np.ndarray:
    """The eigenvectors 1, 2, ... of a connected graph, [n, at most features]."""
    degrees = np.asarray(adjacency.sum(1))
    size = len(degrees)
    count = min(features, size - 1)
    if normalization == "symmetric":
        scale = sparse.diags_array(degrees**-0.5)
        negated = scale @ adjacency @ scale
    else:
        negated = adjacency - sparse.diags_array(degrees)
    if size <= DENSE or 2 * count >= size:
        return np.linalg.eigh(-negated.toarray())[1][:, 1 : count + 1]
    start = np.random.default_rng(0).normal(size=size)
    values, vectors = eigsh(negated.tocsr(), count + 1, which="LA", v0=start)
    return vectors[:, np.argsort(-values, kind="stable")][:, 1:]
