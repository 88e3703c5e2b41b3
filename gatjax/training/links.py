"""Predicting links: negatives drawn anew in each step, loss and metrics, and a module as the functions of its training.

Shapes: N nodes, P pairs with an edge (positives), Q pairs without one (negatives), D pairs drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, ArrayLike, Bool, Float, Key
from jraph import GraphsTuple

from gatjax.attention.readout import score_pairs
from gatjax.graph.links import NeighborTable, Pairs
from gatjax.graph.messages import is_integer
from gatjax.ops.blocks import ceil_div
from gatjax.training.losses import Metrics
from gatjax.training.pure import Build, Module, Of, apply, initialise, take_apart, training_loss


class Links(NamedTuple):
    """The pairs that training may see, one such tree per seed; see `link_prediction`.

    Attributes:
      train: positives to fit.
      validation: positives that tell when to stop.
      validation_negatives: pairs without an edge, against which these are ranked.
      table: edges that are no negatives in training, `neighbor_table` of the graph that carries messages: training must
        not know of those that are kept back.
      edges: the graph that carries messages for this seed, without nodes; None where all seeds share that of the data.
    """

    train: Pairs
    validation: Pairs
    validation_negatives: Pairs
    table: NeighborTable
    edges: GraphsTuple | None = None


class LinkPrediction(NamedTuple):
    """A predictor of links as the pure functions of its training; see `link_prediction`."""

    initialise: Callable[[Key[Array, ""]], Any]
    loss: Callable[[Any, Key[Array, ""], GraphsTuple, Links], Any]
    validate: Callable[[Any, GraphsTuple, Links], Metrics]
    scores: Callable[[Any, GraphsTuple, Pairs], Float[Array, "P"]]


def link_prediction(build: Build, *, negatives: int | Literal["all"] = 1) -> LinkPrediction:
    """A module graph -> graph whose nodes come out as embeddings, as the functions that `Training` wants.

    ```
    initialise(key)                          -> parameters
    loss(parameters, key, graph, links)      -> balanced cross-entropy of training pairs, dropout on, negatives anew
    validate(parameters, graph, links)       -> Metrics: that loss of the validation pairs, and their AUC
    scores(parameters, graph, pairs)         -> [P], one logit per pair: the dot product of its embeddings
    ```

    Negatives of a step are drawn by `draw_pairs` from its key, or are all that there are. A module with running
    statistics trains as in `node_prediction`.

    Args:
      build: draws the module from `nnx.Rngs`, as in `functional`.
      negatives: how many are drawn for each training pair; or "all", by `all_pairs_cross_entropy`, N² products a step.

    Returns:
      The four functions; the graph carries messages along training edges alone, and `links` are `Links`.

    Raises:
      ValueError: `negatives` is no whole number from 1 on, nor "all".

    >>> from gatjax.graph import build_graph, neighbor_table, sample_negative_edges, split_edges
    >>> from gatjax.layers import GCNConv
    >>> ring = build_graph([*range(8)], [*range(1, 8), 0], jnp.eye(8))
    >>> graph, train, validation, test = split_edges(ring, validation=0.2, test=0.2)
    >>> links = Links(train, validation, sample_negative_edges(ring, 3), neighbor_table(graph))
    >>> pure = link_prediction(lambda rngs: GCNConv(8, 2, rngs=rngs))
    >>> parameters = pure.initialise(jax.random.key(0))
    >>> gradient = jax.grad(pure.loss)(parameters, jax.random.key(1), graph, links)
    >>> pure.scores(parameters, graph, test).shape
    (1,)

    Kipf and Welling, Variational graph auto-encoders, 2016, take all negatives. A sample has the same expectation, but
    for the pairs of a node with itself, which it leaves out and they count as edges.
    """
    if negatives != "all" and (not is_integer(negatives) or negatives < 1):
        raise ValueError(f'negatives must be a whole number from 1 on, or "all", got {negatives!r}')
    module = take_apart(build)
    return LinkPrediction(
        Of(initialise, module),
        Of(_loss, module, (negatives if negatives == "all" else int(negatives),)),
        Of(_validate, module),
        Of(_scores, module),
    )


def draw_pairs(
    key: Key[Array, ""], table: NeighborTable, count: int
) -> tuple[Pairs, Bool[Array, "D"]]:
    """Random pairs of different nodes, and which of them have no edge; inside `jax.jit` too.

    The shapes are fixed, so a pair that has an edge is not drawn again: it is to be left out. Those that count are
    independent, each pair without an edge with the same chance, and may repeat.

    Args:
      key: of the draw.
      table: the edges, from `neighbor_table`.
      count: D, how many are drawn.

    Returns:
      The pairs, and whether each counts, [D].

    Raises:
      ValueError: fewer than two nodes.

    >>> from gatjax.graph import build_graph, neighbor_table
    >>> table = neighbor_table(build_graph([0, 1], [1, 2], num_nodes=3))
    >>> pairs, counted = draw_pairs(jax.random.key(0), table, 100)
    >>> {tuple(sorted(pair)) for pair in zip(pairs.senders[counted].tolist(), pairs.receivers[counted].tolist())}
    {(0, 2)}
    """
    nodes = len(table.starts) - 1
    if nodes < 2:
        raise ValueError(f"{nodes} nodes make no pair: give a graph of two or more")
    for_senders, for_shifts = jax.random.split(key)
    senders = jax.random.randint(for_senders, (count,), 0, nodes)
    shifts = jax.random.randint(for_shifts, (count,), 1, nodes)
    # senders + shifts modulo nodes, without a sum that int32 may not hold.
    receivers = jnp.where(shifts < nodes - senders, senders + shifts, senders - (nodes - shifts))
    pairs = Pairs(senders, receivers)
    return pairs, ~has_edge(table, pairs)


def has_edge(table: NeighborTable, pairs: Pairs) -> Bool[Array, "P"]:
    """Whether an edge joins each pair, in either direction; inside `jax.jit` too.

    Args:
      table: from `neighbor_table`.
      pairs: pairs of nodes.

    >>> from gatjax.graph import build_graph, neighbor_table
    >>> table = neighbor_table(build_graph([0, 1], [1, 2], num_nodes=3))
    >>> has_edge(table, Pairs(jnp.array([1, 0]), jnp.array([0, 2]))).tolist()
    [True, False]
    """
    starts, neighbors = jnp.asarray(table.starts), jnp.asarray(table.neighbors)
    here, there = jnp.asarray(pairs.receivers), jnp.asarray(pairs.senders)
    if not len(neighbors):
        return jnp.zeros(here.shape, bool)
    low, end = starts[here], starts[here + 1]

    def halve(_, bounds):
        """The first neighbour from `there` on lies in [low, high]."""
        low, high = bounds
        middle = low + (high - low) // 2
        later = (low < high) & (neighbors[middle] < there)
        return jnp.where(later, middle + 1, low), jnp.where(later, high, middle)

    low, _ = jax.lax.fori_loop(0, len(neighbors).bit_length(), halve, (low, end))
    return (low < end) & (neighbors[jnp.minimum(low, len(neighbors) - 1)] == there)


def balanced_cross_entropy(
    positives: Float[Array, "P"],
    negatives: Float[Array, "Q"],
    counted: Bool[ArrayLike, "Q"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy of pairs with an edge and pairs without one, where both kinds weigh the same.

    ```
    L = -1/2P Σ_p log σ(y_p) - 1/2Q Σ_q log(1 - σ(y_q))
    ```

    Args:
      positives: logits y of pairs with an edge.
      negatives: logits of pairs without one.
      counted: which negatives count; all by default.

    Returns:
      The loss in float32 at least; a kind without pairs adds 0.

    >>> round(float(balanced_cross_entropy(jnp.zeros(3), jnp.zeros(5))), 4)
    0.6931
    """
    wide = jnp.promote_types(positives.dtype, jnp.float32)
    with_edge = jax.nn.softplus(-positives.astype(wide))
    without = jax.nn.softplus(negatives.astype(wide))
    counts = jnp.ones(without.shape, bool) if counted is None else jnp.asarray(counted)
    return _mean(with_edge, jnp.ones(with_edge.shape, bool)) / 2 + _mean(without, counts) / 2


def all_pairs_cross_entropy(
    nodes: Float[ArrayLike, "N C"], pairs: Pairs, *, block_size: int = 1024
) -> Float[Array, ""]:
    """`balanced_cross_entropy` of every ordered pair of nodes, each of which has an edge to itself.

    ```
    L = -1/2|A| Σ_A log σ(z_i · z_j) - 1/2(N² - |A|) Σ_rest log(1 - σ(z_i · z_j))
    ```

    with A the given pairs in both directions and the N pairs (i, i). It holds block_size · N numbers, and takes N² C
    products.

    Args:
      nodes: embeddings z.
      pairs: those with an edge, each once, in one of its directions, and none of a node with itself.
      block_size: how many rows of the N x N products are computed at a time.

    Returns:
      The loss in float32 at least; a kind without pairs adds 0.

    >>> round(float(all_pairs_cross_entropy(jnp.zeros((4, 2)), Pairs(jnp.array([0]), jnp.array([1])))), 4)
    0.6931

    Kipf and Welling, Variational graph auto-encoders, 2016: their weight and norm give this.
    """
    if not is_integer(block_size) or block_size < 1:
        raise ValueError(f"block_size must be a whole number from 1 on, got {block_size!r}")
    z = jnp.asarray(nodes)
    z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
    num_nodes = len(z)
    of_pairs, of_selves = score_pairs(z, *pairs), (z * z).sum(-1)
    with_edge = 2 * jax.nn.softplus(-of_pairs).sum() + jax.nn.softplus(-of_selves).sum()
    as_without = 2 * jax.nn.softplus(of_pairs).sum() + jax.nn.softplus(of_selves).sum()
    count = 2 * len(of_pairs) + num_nodes
    without = _sum_over_all(z, min(block_size, max(num_nodes, 1))) - as_without
    rest = num_nodes**2 - count
    return with_edge / (2 * max(count, 1)) + without / (2 * max(rest, 1)) * (rest > 0)


def _sum_over_all(z: Float[Array, "N C"], block_size: int) -> Float[Array, ""]:
    """Σ_ij -log(1 - σ(z_i · z_j)), some rows at a time, in the backward pass too."""
    blocks = ceil_div(len(z), block_size)
    rows = jnp.pad(z, ((0, blocks * block_size - len(z)), (0, 0)))
    counts = jnp.arange(blocks * block_size) < len(z)

    @jax.checkpoint
    def of_block(block):
        rows, counts = block
        return jnp.where(counts[:, None], jax.nn.softplus(rows @ z.T), 0).sum()

    shape = blocks, block_size
    return jax.lax.map(of_block, (rows.reshape(*shape, z.shape[1]), counts.reshape(shape))).sum()


def _mean(values: Float[Array, "P"], counts: Bool[Array, "P"]) -> Float[Array, ""]:
    return jnp.where(counts, values, 0).sum() / jnp.maximum(counts.sum(dtype=values.dtype), 1)


def area_under_roc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Any:
    """The share of (positive, negative) that are ranked rightly, ties half: the area under the ROC curve.

    ```
    AUC = 1/PQ Σ_pq [y_p > y_q] + 1/2 [y_p = y_q]
    ```

    Args:
      positives: scores y of the positives, [P].
      negatives: scores of the negatives, [Q].

    Returns:
      Of NumPy arrays and lists a number in float64, of JAX arrays a scalar, inside `jax.jit` too.

    Raises:
      ValueError: no positives or no negatives, or outside JAX a score that is NaN.

    >>> round(area_under_roc([0.9, 0.4], [0.4, 0.1, 0.0]), 4)
    0.9167
    """
    xp, positives, negatives = _scores_of(positives, negatives)
    ascending = xp.sort(negatives)
    below = xp.searchsorted(ascending, positives, side="left")
    up_to = xp.searchsorted(ascending, positives, side="right")
    return _number(((below + up_to) / (2 * len(ascending))).mean())


def average_precision(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Any:
    """The precision where each positive is just found, on average over the positives; ties are found together.

    ```
    AP = 1/P Σ_p |{p' : y_p' ≥ y_p}| / (|{p' : y_p' ≥ y_p}| + |{q : y_q ≥ y_p}|)
    ```

    This is `Σ_n (R_n - R_{n-1}) P_n` over the thresholds n, with precision P and recall R, without interpolation.
    Arguments, result and errors are as in `area_under_roc`.

    >>> round(average_precision([0.9, 0.4], [0.4, 0.1, 0.0]), 4)
    0.8333
    """
    xp, positives, negatives = _scores_of(positives, negatives)
    found = lambda scores: len(scores) - xp.searchsorted(xp.sort(scores), positives, side="left")
    right, wrong = found(positives), found(negatives)
    return _number((right / (right + wrong)).mean())


def _scores_of(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> tuple[Any, Any, Any]:
    """The library that computes, and the scores in it."""
    on_jax = isinstance(positives, jax.Array) or isinstance(negatives, jax.Array)
    xp, as_array = (jnp, jnp.asarray) if on_jax else (np, partial(np.asarray, dtype=np.float64))
    scores = {"positives": as_array(positives), "negatives": as_array(negatives)}
    for name, array in scores.items():
        if array.ndim != 1 or not array.size:
            raise ValueError(f"{name} must be one or more scores, got shape {array.shape}")
        if not on_jax and np.isnan(array).any():
            place = int(np.flatnonzero(np.isnan(array))[0])
            raise ValueError(f"{name}[{place}] is NaN, which has no rank: look for what made it")
    return xp, scores["positives"], scores["negatives"]


def _number(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else float(value)


def _scores(module: Module, parameters: Any, graph: GraphsTuple, pairs: Pairs) -> Float[Array, "P"]:
    return score_pairs(apply(module, parameters, graph).nodes, *pairs)


def _loss(
    module: Module,
    negatives: int | Literal["all"],
    parameters: Any,
    key: Key[Array, ""],
    graph: GraphsTuple,
    links: Links,
) -> Any:
    for_dropout, for_pairs = jax.random.split(key)

    def of(graph):
        if negatives == "all":
            return all_pairs_cross_entropy(graph.nodes, links.train)
        scores = partial(score_pairs, graph.nodes)
        drawn, counted = draw_pairs(for_pairs, links.table, negatives * len(links.train.senders))
        return balanced_cross_entropy(scores(*links.train), scores(*drawn), counted)

    return training_loss(module, of, parameters, for_dropout, _messages(graph, links))


def _messages(graph: GraphsTuple, links: Links) -> GraphsTuple:
    return graph if links.edges is None else links.edges._replace(nodes=graph.nodes)


def _validate(module: Module, parameters: Any, graph: GraphsTuple, links: Links) -> Metrics:
    nodes = apply(module, parameters, _messages(graph, links)).nodes
    positives = score_pairs(nodes, *links.validation)
    negatives = score_pairs(nodes, *links.validation_negatives)
    return Metrics(
        balanced_cross_entropy(positives, negatives),
        area_under_roc(positives, negatives).astype(jnp.float32),
    )
