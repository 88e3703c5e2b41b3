"""What depth does to the nodes: whether they become alike, and in how many directions they still differ.

Nodes [N, F] are features at some depth; `node_mask` [N] says which of them count, all by default.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from jraph import GraphsTuple
from scipy import sparse
from scipy.sparse import csgraph

from gatjax.graph.check import EdgeMask, NodeMask, check_edges, check_lengths, check_mask
from gatjax.graph.ids import host_ids
from gatjax.graph.sizes import num_nodes


def dirichlet_energy(
    graph: GraphsTuple,
    nodes: Float[ArrayLike, "N F"],
    *,
    normalize: bool = False,
    edge_mask: EdgeMask = None,
    node_mask: NodeMask = None,
) -> Float[Array, ""]:
    """How much neighbours differ.

    ```
    E(X)          = 1/N Σ_i Σ_{j -> i} ||x_i - x_j||²
    normalised    = N E(X) / ||X||²_F
    ```

    The first falls where features shrink, too; the second says whether neighbours differ for their size, and is what
    tells smoothing from shrinking.

    Args:
      graph: gives the edges; its own features are not read.
      nodes: X, `[N, F]`.
      normalize: divide by the squared norm; 0 for nodes that are all 0.
      edge_mask: edges that count, `[E]`; all by default.
      node_mask: nodes that count, `[N]`, with the edges between them; all by default.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 0], num_nodes=2)
    >>> dirichlet_energy(graph, jnp.array([[1.0], [4.0]])).item()
    9.0

    Rusch, Bronstein, Mishra, A Survey on Oversmoothing in Graph Neural Networks, 2023. The quotient is that of Cai,
    Wang, A Note on Over-Smoothing for Graph Neural Networks, 2020, without their degrees.
    """
    ends = check_edges(graph, edge_mask, node_mask=node_mask)
    check_lengths(num_nodes(graph), nodes=nodes)
    nodes = _masked(nodes, node_mask)
    differences = jnp.square(nodes[ends.receivers] - nodes[ends.senders]).sum(1)
    total = jnp.where(ends.counted, differences, 0).sum()
    if normalize:
        norm = jnp.square(nodes).sum()
        return jnp.where(norm > 0, total / jnp.where(norm > 0, norm, 1), 0)
    return total / jnp.maximum(_count(nodes, node_mask), 1)


def distance_to_limit(
    nodes: Float[ArrayLike, "N F"], *, node_mask: NodeMask = None
) -> Float[Array, ""]:
    """How far the nodes are from all being the same, the limit of averaging.

    ```
    μ(X) = ||X - 1 γ||_F,        γ = 1/N Σ_i x_i
    ```

    Args:
      nodes: X, `[N, F]`.
      node_mask: nodes that count, `[N]`; all by default.

    >>> distance_to_limit(jnp.array([[1.0], [4.0], [1.0], [4.0]])).item()
    3.0

    Wu, Ajorlou, Wu, Jadbabaie, Demystifying Oversmoothing in Attention-Based Graph Neural Networks, NeurIPS 2023, where
    it falls exponentially in the depth, whatever the attention.
    """
    return jnp.linalg.norm(_centered(nodes, node_mask))


def numerical_rank(
    nodes: Float[ArrayLike, "N F"], *, node_mask: NodeMask = None
) -> Float[Array, ""]:
    """In how many directions the nodes extend, by energy: near 1 where all are multiples of one row.

    ```
    rank(X) = ||X||²_F / ||X||²_2 = Σ_k σ_k² / σ_1²
    ```

    Args:
      nodes: X, `[N, F]`, with singular values σ.
      node_mask: nodes that count, `[N]`; all by default.

    Returns:
      From 1 to min(N, F); 0 for nodes that are all 0.

    >>> print(jnp.round(numerical_rank(jnp.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])), 4))
    2.0

    Zhang, Deidda, Higham, Tudisco, Rethinking Oversmoothing in Graph Neural Networks: A Rank-Based Perspective, 2025.
    """
    values = _singular_values(nodes, node_mask)
    return jnp.square(values).sum()


def effective_rank(
    nodes: Float[ArrayLike, "N F"], *, node_mask: NodeMask = None
) -> Float[Array, ""]:
    """In how many directions the nodes extend, by the entropy of the singular values.

    ```
    rank(X) = exp(-Σ_k p_k log p_k),        p_k = σ_k / Σ_l σ_l
    ```

    Arguments and result as in `numerical_rank`.

    >>> print(jnp.round(effective_rank(jnp.array([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])), 4))
    2.0

    Roy, Vetterli, The Effective Rank: A Measure of Effective Dimensionality, EUSIPCO 2007.
    """
    values = _singular_values(nodes, node_mask)
    total = values.sum()
    shares = values / jnp.where(total > 0, total, 1)
    return jnp.where(total > 0, jnp.exp(entr(shares).sum()), 0)


def mean_average_distance(
    nodes: Float[ArrayLike, "N F"], pairs: Bool[ArrayLike, "N N"] | None = None
) -> Float[Array, ""]:
    """How differently the nodes point: MAD, the mean cosine distance of each node to others, on average.

    ```
    D_ij = 1 - x_i·x_j / (||x_i|| ||x_j||)
    MAD  = 1/|I| Σ_{i ∈ I} 1/|P(i)| Σ_{j ∈ P(i)} D_ij
    ```

    Args:
      nodes: x, `[N, F]`; a row of zeros is at distance 1 from all.
      pairs: which j are in P(i), `[N, N]`, such as `hop_distances(graph) <= 3`; all others by default. I are the nodes
        that have any. A node is never compared with itself.

    Returns:
      From 0 to 2; NaN where there is no pair.

    >>> print(jnp.round(mean_average_distance(jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])), 4))
    0.6667

    Chen et al., Measuring and Relieving the Over-Smoothing Problem, AAAI 2020. Theirs leaves out pairs at distance 0,
    here they count: nodes that have become one are what it looks for.
    """
    nodes = jnp.asarray(nodes)
    count = len(nodes)
    pairs = jnp.ones((count, count), bool) if pairs is None else jnp.asarray(pairs)
    if pairs.shape != (count, count):
        raise ValueError(f"pairs must be [{count}, {count}], got {list(pairs.shape)}")
    pairs = pairs & ~jnp.eye(count, dtype=bool)
    norm = jnp.linalg.norm(nodes, axis=1, keepdims=True)
    rows = nodes / jnp.where(norm > 0, norm, 1)
    distances = jnp.where(pairs, 1 - rows @ rows.T, 0)
    each = pairs.sum(1)
    return (distances.sum(1) / jnp.maximum(each, 1)).sum() / (each > 0).sum()


def mad_gap(
    nodes: Float[ArrayLike, "N F"],
    distances: Int[ArrayLike, "N N"],
    *,
    near: int = 3,
    far: int = 8,
) -> Float[Array, ""]:
    """How much more a node differs from remote nodes than from near ones; below 0 where it is smoothed over.

    ```
    MADGap = MAD(hops ≥ far) - MAD(1 ≤ hops ≤ near)
    ```

    Args:
      nodes: `[N, F]`.
      distances: `hop_distances(graph)`.
      near: neighbours are at most so many hops away.
      far: remote nodes are at least so many hops away.

    >>> from gatjax.graph import build_graph
    >>> path = build_graph([0, 1, 1, 2], [1, 0, 2, 1], num_nodes=3)
    >>> nodes = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> mad_gap(nodes, hop_distances(path), near=1, far=2).item()
    0.5

    Chen et al., AAAI 2020, with their distances 3 and 8; see `mean_average_distance`.
    """
    if not 1 <= near < far:
        raise ValueError(f"near = {near} must be at least 1 and below far = {far}")
    hops = jnp.asarray(distances)
    remote = mean_average_distance(nodes, hops >= far)
    return remote - mean_average_distance(nodes, (hops >= 1) & (hops <= near))


def hop_distances(graph: GraphsTuple) -> Int[np.ndarray, "N N"]:
    """How many edges lead from one node to another, in either direction of each edge; on the host.

    Args:
      graph: of N nodes; N² numbers are made.

    Returns:
      `[N, N]` int32; -1 where no edges lead from one to the other.

    >>> from gatjax.graph import build_graph
    >>> hop_distances(build_graph([0], [1], num_nodes=3)).tolist()
    [[0, 1, -1], [1, 0, -1], [-1, -1, 0]]
    """
    senders, receivers, n_node, _ = host_ids(graph)
    total = int(n_node.sum())
    matrix = sparse.csr_array((np.ones(len(senders)), (senders, receivers)), shape=(total, total))
    found: Any = csgraph.shortest_path(matrix, directed=False, unweighted=True)
    return np.where(np.isfinite(found), found, -1).astype(np.int32)


def _masked(nodes: Float[ArrayLike, "N F"], node_mask: NodeMask) -> Float[Array, "N F"]:
    nodes = jnp.asarray(nodes)
    check_mask(len(nodes), node_mask=node_mask)
    return nodes if node_mask is None else jnp.where(jnp.asarray(node_mask)[:, None], nodes, 0)


def _count(nodes: Array, node_mask: NodeMask) -> Array | int:
    return len(nodes) if node_mask is None else jnp.asarray(node_mask).sum()


def _centered(nodes: Float[ArrayLike, "N F"], node_mask: NodeMask) -> Float[Array, "N F"]:
    nodes = _masked(nodes, node_mask)
    mean = nodes.sum(0) / jnp.maximum(_count(nodes, node_mask), 1)
    return _masked(nodes - mean[None], node_mask)


def _singular_values(nodes: Float[ArrayLike, "N F"], node_mask: NodeMask) -> Float[Array, "K"]:
    """Relative to the largest, so that tiny features keep their rank."""
    values = jnp.linalg.svd(_masked(nodes, node_mask), compute_uv=False)
    largest = values.max(initial=0)
    return values / jnp.where(largest > 0, largest, 1)
