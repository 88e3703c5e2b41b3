"""What attention on a graph means, in float64 NumPy and plain loops over edges, straight from the equations.

Slow on purpose: one Python step per edge, no masks inside formulas, no stabilised sums beyond `softmax`.
Nothing here imports the package, so a test that compares against it compares two independent derivations.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

# Three logits of one neighbourhood, and their softmax worked out by hand; where all are -inf it is 0.
EXTREME_LOGITS = {
    "tie at 1e30": ([1e30, 1e30, 0.0], [0.5, 0.5, 0]),
    "tie at -1e30": ([-1e30, -1e30, -3e30], [0.5, 0.5, 0]),
    "far apart": ([1e30, -1e30, 1e30], [0.5, 0, 0.5]),
    "one is -inf": ([-np.inf, 3.0, 3.0], [0, 0.5, 0.5]),
    "all are -inf": ([-np.inf, -np.inf, -np.inf], [0, 0, 0]),
    "all but one are -inf": ([-np.inf, -1e30, -np.inf], [0, 1, 0]),
}


def leaky_relu(x: np.ndarray, negative_slope: float = 0.2) -> np.ndarray:
    return np.where(x > 0, x, negative_slope * x)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    unnormalised = np.exp(logits - logits.max(0))
    return unnormalised / unnormalised.sum(0)


def edges_into(node: int, receivers: ArrayLike, mask: ArrayLike | None = None) -> list[int]:
    """Indices of the edges that enter `node` and count, in order."""
    receivers = np.asarray(receivers)
    mask = np.ones(len(receivers), bool) if mask is None else np.asarray(mask)
    return [k for k in range(len(receivers)) if receivers[k] == node and mask[k]]


def segment_sum(data, ids, num_segments, mask=None):
    data = np.asarray(data, np.float64)
    out = np.zeros((num_segments, *data.shape[1:]))
    for i in range(num_segments):
        for k in edges_into(i, ids, mask):
            out[i] += data[k]
    return out


def segment_mean(data, ids, num_segments, mask=None):
    out = segment_sum(data, ids, num_segments, mask)
    for i in range(num_segments):
        out[i] /= max(len(edges_into(i, ids, mask)), 1)
    return out


def segment_max(data, ids, num_segments, mask=None):
    data = np.asarray(data, np.float64)
    out = np.zeros((num_segments, *data.shape[1:]))
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        if edges:
            out[i] = data[edges].max(0)
    return out


def segment_softmax(logits, ids, num_segments, mask=None, temperature=1.0):
    logits = np.asarray(logits, np.float64)
    out = np.zeros(logits.shape)
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        if edges:
            out[edges] = softmax(logits[edges] / temperature)
    return out


def hardmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis: 1 for the first of the largest, 0 for the others."""
    return (np.arange(len(logits))[:, None] == logits.argmax(0)).astype(float)


def top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Softmax of the k largest of one group `[E]`, of equal ones the first."""
    kept = np.argsort(-logits, kind="stable")[:k]
    out = np.zeros(len(logits))
    out[kept] = softmax(logits[kept])
    return out


def sparsemax(logits: np.ndarray) -> np.ndarray:
    """Algorithm 1 of Martins and Astudillo, on one group `[E]`."""
    z = np.sort(logits)[::-1]
    sums, k = np.cumsum(z), np.arange(1, len(z) + 1)
    size = k[1 + k * z > sums].max()
    return np.maximum(logits - (sums[size - 1] - 1) / size, 0)


def entmax(logits: np.ndarray) -> np.ndarray:
    """Algorithm 2 of Peters, Niculae and Martins, α = 1.5, on one group `[E]`."""
    z, k = np.sort(logits / 2)[::-1], np.arange(1, len(logits) + 1)
    mean, square = np.cumsum(z) / k, np.cumsum(z * z) / k
    threshold = mean - np.sqrt(np.maximum((1 - k * (square - mean * mean)) / k, 0))
    size = int((threshold <= z).sum())
    return np.maximum(logits / 2 - threshold[size - 1], 0) ** 2


def segment_weights(rule, logits, ids, num_segments, mask=None):
    """A rule on groups `[E]` for every group and column."""
    logits = np.asarray(logits, np.float64)
    flat = logits.reshape(len(logits), math.prod(logits.shape[1:]))
    out = np.zeros(flat.shape)
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        for column in range(flat.shape[1] if edges else 0):
            out[edges, column] = rule(flat[edges, column])
    return out.reshape(logits.shape)


def segment_hardmax(logits, ids, num_segments, mask=None):
    logits = np.asarray(logits, np.float64)
    flat = logits.reshape(len(logits), math.prod(logits.shape[1:]))
    out = np.zeros(flat.shape)
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        if edges:
            out[edges] = hardmax(flat[edges])
    return out.reshape(logits.shape)


def edge_attention(
    logit: Callable[[int, int, int], np.ndarray],
    value: Callable[[int, int, int], np.ndarray],
    senders: ArrayLike,
    receivers: ArrayLike,
    shape: tuple[int, int, int],
    num_senders: int,
    *,
    mask: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    weigh: Callable[[np.ndarray], np.ndarray] = softmax,
) -> tuple[np.ndarray, np.ndarray]:
    """`out_i = Σ_k m_k α_k v_k` over the edges k = (j -> i) that count, `shape` [N, H, C]; 0 without such edges.

    `logit(i, j, k) -> [H]` and `value(i, j, k) -> [H, C]` see receiver i, sender j and edge k. An edge counts if its
    mask says so and both of its ends exist. Returns the sums and the weights α [E, H], 0 for edges that don't count.
    """
    senders = np.asarray(senders)
    out, alpha = np.zeros(shape), np.zeros((len(senders), shape[1]))
    mask = np.ones(len(senders), bool) if mask is None else np.asarray(mask)
    counted = mask & (senders >= 0) & (senders < num_senders)
    factor = np.broadcast_to(1.0 if multiplier is None else multiplier, alpha.shape)
    for i in range(shape[0]):
        edges = edges_into(i, receivers, counted)
        if edges:
            alpha[edges] = weigh(np.stack([logit(i, int(senders[k]), k) for k in edges]))
            for k in edges:
                out[i] += (factor[k] * alpha[k])[:, None] * value(i, int(senders[k]), k)
    return out, alpha


def gat_logit(receiver, sender, attention_vector, negative_slope=0.2, term=0.0):
    """`LeakyReLU(a_h · [z_i ‖ z_j] + term_h)` per head: rows [H, C], attention vectors [H, 2C], terms [H]."""
    heads = zip(attention_vector, receiver, sender, strict=True)
    products = np.array([a @ np.concatenate([z_i, z_j]) for a, z_i, z_j in heads])
    return leaky_relu(products + term, negative_slope)


def gatv2_logit(receiver, sender, attention_vector, edge=None, negative_slope=0.2):
    """`a_h · LeakyReLU(z_i + z_j + z_ij)` per head: rows [H, C], attention vectors [H, C]."""
    edge = np.zeros_like(receiver) if edge is None else edge
    heads = zip(attention_vector, receiver, sender, edge, strict=True)
    return np.array(
        [a @ leaky_relu(z_i + z_j + z_ij, negative_slope) for a, z_i, z_j, z_ij in heads]
    )


def bahdanau_logit(query, key, vector, edge):
    """query, key and edge [H, C], vector [H, C]"""
    return np.array(
        [v @ np.tanh(q + k + e) for q, k, v, e in zip(query, key, vector, edge, strict=True)]
    )


def dot_logit(query, key, scale=None):
    """`scale q_h · k_h` per head: rows [H, C]; scale 1/sqrt(C) by default."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return np.array([scale * (q @ k) for q, k in zip(query, key, strict=True)])


def neighbor_mean(values, senders, receivers, mask=None):
    """Mean of the senders' rows, 0 without neighbours; as many receivers as senders."""
    values, senders = np.asarray(values, np.float64), np.asarray(senders)
    out = np.zeros(values.shape)
    for i in range(len(out)):
        edges = edges_into(i, receivers, mask)
        if edges:
            out[i] = values[senders[edges]].mean(0)
    return out
