"""What a layer does: how it spreads its weights, and whether heads, layers and receivers agree.

Weights [E] or [E, H] are what `attention(graph)` returns, aligned with the graph's own edges, its self-loops included.
Over each receiver's edges that count they are divided by their sum. `edge_mask` [E] says which edges count; all by
default.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, rel_entr
from jaxtyping import Array, ArrayLike, Float, Int
from jraph import GraphsTuple

from gatjax.graph.check import EdgeMask, check_edges, check_lengths
from gatjax.graph.sizes import num_nodes
from gatjax.ops.ends import Ends
from gatjax.ops.segment import over_rows, segment_sum


def entropy(
    graph: GraphsTuple, weights: Float[ArrayLike, "E *H"], *, edge_mask: EdgeMask = None
) -> Float[Array, "N *H"]:
    """Entropy of each receiver's weights, in nats.

    ```
    S_i = -Σ_{j -> i} α_ij log α_ij
    ```

    Args:
      graph: gives the edges.
      weights: of the edges, `[E]` or `[E, H]`.
      edge_mask: edges that count, `[E]`; all by default.

    Returns:
      `[N]` or `[N, H]`, from 0, all weight on one edge, to the log of the number of edges; 0 without an edge.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> print(jnp.round(entropy(graph, jnp.array([0.5, 0.5])), 4))
    [0.     0.     0.6931]

    Shannon, A Mathematical Theory of Communication, 1948.
    """
    ends, nodes = _ends(graph, edge_mask, weights=weights), num_nodes(graph)
    return segment_sum(entr(_shares(weights, ends, nodes)), ends.receivers, nodes)


def entropy_ratio(
    graph: GraphsTuple, weights: Float[ArrayLike, "E *H"], *, edge_mask: EdgeMask = None
) -> Float[Array, "N *H"]:
    """Entropy of each receiver's weights by that of uniform ones: 1 where attention does not choose.

    ```
    ratio_i = S_i / log |N(i)|
    ```

    Arguments as in `entropy`.

    Returns:
      `[N]` or `[N, H]`; NaN for a node with fewer than two edges, which has nothing to choose from: average by
      `jnp.nanmean`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> print(entropy_ratio(graph, jnp.array([0.5, 0.5])))
    [nan nan  1.]
    """
    ends = _ends(graph, edge_mask)
    count = _degrees(ends, num_nodes(graph))
    found = entropy(graph, weights, edge_mask=edge_mask)
    most = jnp.log(jnp.where(count > 1, count, 2))
    ratio = found / over_rows(most, found)
    return jnp.where(over_rows(count > 1, found), ratio, jnp.nan)


def effective_neighbors(
    graph: GraphsTuple, weights: Float[ArrayLike, "E *H"], *, edge_mask: EdgeMask = None
) -> Float[Array, "N *H"]:
    """How many neighbours each receiver attends to: as many equal weights have the same entropy.

    ```
    n_i = exp(S_i)
    ```

    Arguments as in `entropy`.

    Returns:
      `[N]` or `[N, H]`, from 1 to the number of edges; 0 without an edge.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> print(jnp.round(effective_neighbors(graph, jnp.array([0.5, 0.5])), 4))
    [0. 0. 2.]

    Hill, Diversity and Evenness, Ecology 1973: the number of order 1.
    """
    found = entropy(graph, weights, edge_mask=edge_mask)
    count = _degrees(_ends(graph, edge_mask), num_nodes(graph))
    return jnp.where(over_rows(count > 0, found), jnp.exp(found), 0)


def divergence(
    graph: GraphsTuple,
    first: Float[ArrayLike, "E *H"],
    second: Float[ArrayLike, "E *H"],
    *,
    edge_mask: EdgeMask = None,
) -> Float[Array, "N *H"]:
    """How far apart two weightings of the same edges are at each receiver: the Jensen-Shannon divergence, in bits.

    ```
    D_i = 1/2 KL(α_i || m_i) + 1/2 KL(β_i || m_i),        m_i = (α_i + β_i) / 2
    ```

    Args:
      graph: gives the edges.
      first: weights α.
      second: weights β.
      edge_mask: edges that count, `[E]`; all by default.

    Returns:
      `[N]` or `[N, H]`, from 0, the same, to 1, on different edges; 0 without an edge.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> divergence(graph, jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])).tolist()
    [0.0, 0.0, 1.0]

    Lin, Divergence Measures Based on the Shannon Entropy, 1991.
    """
    ends, nodes = _ends(graph, edge_mask, first=first, second=second), num_nodes(graph)
    return _divergence(_shares(first, ends, nodes), _shares(second, ends, nodes), ends, nodes)


def head_divergence(
    graph: GraphsTuple, weights: Float[ArrayLike, "E H"], *, edge_mask: EdgeMask = None
) -> Float[Array, "H H"]:
    """The `divergence` of every two heads, on average over the receivers with at least two edges.

    Args:
      graph: gives the edges.
      weights: of the edges and heads.
      edge_mask: edges that count, `[E]`; all by default.

    Returns:
      `[H, H]`, symmetric, with zeros on the diagonal; NaN where no receiver has two edges.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> head_divergence(graph, jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    ends, nodes = _ends(graph, edge_mask, weights=weights), num_nodes(graph)
    shares, chooses = _shares(weights, ends, nodes), _degrees(ends, nodes) > 1

    def to_all(head: Float[Array, "E"]) -> Float[Array, "H"]:
        found = _divergence(jnp.broadcast_to(head[:, None], shares.shape), shares, ends, nodes)
        return jnp.where(chooses[:, None], found, 0).sum(0) / chooses.sum()

    return jax.lax.map(to_all, shares.T)


def layer_divergence(
    graph: GraphsTuple, layers: Sequence[Float[ArrayLike, "E _"]], *, edge_mask: EdgeMask = None
) -> Float[Array, "L L"]:
    """The `divergence` of every two layers, each by the mean of its heads; as `head_divergence`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> layer_divergence(graph, [jnp.array([[1.0], [0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])]).shape
    (2, 2)
    """
    if not len(layers):
        raise ValueError("layers is empty: give what model.attention(graph) returns")
    means = [jnp.mean(jnp.asarray(weights), 1) for weights in layers]
    return head_divergence(graph, jnp.stack(means, 1), edge_mask=edge_mask)


class SharedPairs(NamedTuple):
    """Every two edges into one receiver whose two senders meet again at another one; see `shared_pairs`.

    Attributes:
      first: ids of the edges from the senders with the lower ids, `[W]`.
      second: ids of the other edges.
      senders: number of the pair of senders that the two are from; equal numbers are compared.
    """

    first: Int[np.ndarray | Array, "W"]
    second: Int[np.ndarray | Array, "W"]
    senders: Int[np.ndarray | Array, "W"]


def shared_pairs(graph: GraphsTuple, *, edge_mask: EdgeMask = None) -> SharedPairs:
    """What `ranking_agreement` compares, found on the host.

    There are as many as a sum over the nodes of half their squared degrees.

    Args:
      graph: gives the edges.
      edge_mask: edges that count, `[E]`; all by default.

    >>> from gatjax.graph import build_graph
    >>> shared_pairs(build_graph([0, 1, 0, 1, 2], [3, 3, 4, 4, 4], num_nodes=5))
    SharedPairs(first=array([0, 2]), second=array([1, 3]), senders=array([0, 0]))
    """
    ends = _ends(graph, edge_mask)
    senders, receivers, counted = (np.asarray(each) for each in ends[:3])
    order = np.lexsort((senders, receivers))
    order = order[counted[order]]
    size = np.bincount(receivers[order], minlength=num_nodes(graph))
    after = np.repeat(np.cumsum(size), size) - 1 - np.arange(len(order))
    low = np.repeat(np.arange(len(order)), after)
    high = low + 1 + np.arange(len(low)) - np.repeat(np.cumsum(after) - after, after)
    first, second = order[low], order[high]
    pair = senders[first].astype(np.int64) * num_nodes(graph) + senders[second]
    first, second, pair = (
        each[senders[first] != senders[second]] for each in (first, second, pair)
    )
    _, number, count = np.unique(pair, return_inverse=True, return_counts=True)
    again = count[number] > 1
    _, number = np.unique(number[again], return_inverse=True)
    return SharedPairs(first[again], second[again], number)


def ranking_agreement(
    weights: Float[ArrayLike, "E *H"], pairs: SharedPairs, *, tolerance: float = 1e-5
) -> Float[Array, "*H"]:
    """Whether receivers rank the neighbours that they share alike: the share of comparisons that no other contradicts.

    ```
    agreement = 1 - Σ_{jk} p_jk q_jk / Σ_{jk} n_jk (n_jk - 1) / 2
    ```

    Of the n_jk receivers that two senders j and k share, p_jk weigh j more and q_jk weigh k more. It is 1 for static
    attention, whose logits are monotone in a term of the sender alone, such as that of `GATConv`; 1/2 for rankings by
    chance; and 1 for uniform weights, which contradict nothing.

    Args:
      weights: of the edges, `[E]` or `[E, H]`.
      pairs: from `shared_pairs(graph)`.
      tolerance: weights that differ by less, relative to the larger, are equal.

    Returns:
      A number, or one per head; NaN where no two receivers share two senders.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 0, 1], [2, 2, 3, 3], num_nodes=4)
    >>> weights = jnp.array([[0.9, 0.9], [0.1, 0.1], [0.6, 0.4], [0.4, 0.6]])
    >>> ranking_agreement(weights, shared_pairs(graph)).tolist()
    [1.0, 0.0]

    Static attention is of Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022; the number is
    ours, a Kendall concordance in which ties agree with everything.
    """
    first, second = (jnp.asarray(weights)[jnp.asarray(each)] for each in pairs[:2])
    apart = jnp.abs(first - second) > tolerance * jnp.maximum(jnp.abs(first), jnp.abs(second))
    groups, count = jnp.asarray(pairs.senders), len(pairs.senders)
    total = lambda rows: segment_sum(rows.astype(jnp.float32), groups, count)
    n = total(jnp.ones(count))
    against = total(apart & (first > second)) * total(apart & (first < second))
    return 1 - against.sum(0) / (n * (n - 1) / 2).sum()


def _ends(graph: GraphsTuple, edge_mask: EdgeMask, **weights: ArrayLike) -> Ends:
    ends = check_edges(graph, edge_mask)
    check_lengths(len(ends.counted), **weights)
    return ends


def _degrees(ends: Ends, nodes: int) -> Float[Array, "N"]:
    return segment_sum(ends.counted.astype(jnp.float32), ends.receivers, nodes)


def _shares(weights: Float[ArrayLike, "E *H"], ends: Ends, nodes: int) -> Float[Array, "E *H"]:
    """The weights that count, each receiver's divided by their sum."""
    weights = jnp.asarray(weights)
    weights = weights.astype(jnp.promote_types(weights.dtype, jnp.float32))
    weights = jnp.where(over_rows(ends.counted, weights), weights, 0)
    total = segment_sum(weights, ends.receivers, nodes, mask=ends.counted)[ends.receivers]
    return weights / jnp.where(total > 0, total, 1)


def _divergence(first: Array, second: Array, ends: Ends, nodes: int) -> Float[Array, "N *H"]:
    middle = (first + second) / 2
    each = (rel_entr(first, middle) + rel_entr(second, middle)) / 2
    return segment_sum(each, ends.receivers, nodes) / jnp.log(2)
