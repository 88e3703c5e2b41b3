"""What attention on a graph means, in float64 NumPy and plain loops over edges, straight from the equations.

Slow on purpose: one Python step per edge, no masks inside formulas, no stabilised sums beyond `softmax`.
Nothing here imports the package, so a test that compares against it compares two independent derivations.
"""

import math
from collections.abc import Callable

import numpy as np

Ids = np.ndarray


def leaky_relu(x: np.ndarray, negative_slope: float = 0.2) -> np.ndarray:
    return np.where(x > 0, x, negative_slope * x)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    unnormalised = np.exp(logits - logits.max(0))
    return unnormalised / unnormalised.sum(0)


def edges_into(node: int, receivers: Ids, mask: np.ndarray | None = None) -> list[int]:
    """Indices of the edges that enter `node` and count, in order."""
    return [k for k in range(len(receivers)) if receivers[k] == node and (mask is None or mask[k])]


def segment_sum(data, ids, num_segments, mask=None):
    out = np.zeros((num_segments, *np.shape(data)[1:]))
    for i in range(num_segments):
        for k in edges_into(i, ids, mask):
            out[i] += np.float64(data[k])
    return out


def segment_mean(data, ids, num_segments, mask=None):
    out = segment_sum(data, ids, num_segments, mask)
    for i in range(num_segments):
        out[i] /= max(len(edges_into(i, ids, mask)), 1)
    return out


def segment_max(data, ids, num_segments, mask=None):
    out = np.zeros((num_segments, *np.shape(data)[1:]))
    for i in range(num_segments):
        rows = [np.float64(data[k]) for k in edges_into(i, ids, mask)]
        out[i] = np.max(rows, axis=0) if rows else 0
    return out


def segment_softmax(logits, ids, num_segments, mask=None, temperature=1.0):
    out = np.zeros(np.shape(logits))
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        if edges:
            out[edges] = softmax(np.float64(np.asarray(logits)[edges]) / temperature)
    return out


def segment_hardmax(logits, ids, num_segments, mask=None):
    out = np.zeros(np.shape(logits))
    flat, one_hot = np.reshape(logits, (len(ids), -1)), out.reshape(len(ids), -1)
    for i in range(num_segments):
        edges = edges_into(i, ids, mask)
        for column in range(flat.shape[1]) if edges else ():
            one_hot[max(edges, key=lambda k: (flat[k, column], -k)), column] = 1
    return out


def edge_attention(
    logit: Callable[[int, int, int], np.ndarray],
    value: Callable[[int, int, int], np.ndarray],
    senders: Ids,
    receivers: Ids,
    shape: tuple[int, int, int],
    num_senders: int,
    *,
    mask: np.ndarray | None = None,
    multiplier: np.ndarray | None = None,
    weigh: Callable[[np.ndarray], np.ndarray] = softmax,
) -> np.ndarray:
    """`out_i = Σ_k m_k α_k v_k` over the edges k = (j -> i) that count, `shape` [N, H, C]; 0 without such edges.

    `logit(i, j, k) -> [H]` and `value(i, j, k) -> [H, C]` see receiver i, sender j and edge k. An edge counts if its
    mask says so and both of its ends exist.
    """
    out = np.zeros(shape)
    mask = np.ones(len(senders), bool) if mask is None else np.asarray(mask)
    counted = mask & (np.asarray(senders) >= 0) & (np.asarray(senders) < num_senders)
    for i in range(shape[0]):
        edges = edges_into(i, receivers, counted)
        if edges:
            alpha = weigh(np.stack([logit(i, int(senders[k]), k) for k in edges]))
            factor = 1.0 if multiplier is None else np.asarray(multiplier, np.float64)[edges]
            values = np.stack([value(i, int(senders[k]), k) for k in edges])
            out[i] = ((factor * alpha)[:, :, None] * values).sum(0)
    return out


def gat_logit(receiver, sender, attention_vector, negative_slope=0.2):
    """`LeakyReLU(a_h · [z_i ‖ z_j])` per head: rows [H, C], attention vectors [H, 2C]."""
    heads = zip(attention_vector, receiver, sender, strict=True)
    return np.array(
        [
            leaky_relu(np.float64(a @ np.concatenate([z_i, z_j])), negative_slope)
            for a, z_i, z_j in heads
        ]
    )


def gatv2_logit(receiver, sender, attention_vector, edge=None, negative_slope=0.2):
    """`a_h · LeakyReLU(z_i + z_j + z_ij)` per head: rows [H, C], attention vectors [H, C]."""
    edge = np.zeros_like(receiver) if edge is None else edge
    heads = zip(attention_vector, receiver, sender, edge, strict=True)
    return np.array(
        [a @ leaky_relu(z_i + z_j + z_ij, negative_slope) for a, z_i, z_j, z_ij in heads]
    )


def dot_logit(query, key, scale=None):
    """`scale q_h · k_h` per head: rows [H, C]; scale 1/sqrt(C) by default."""
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    return np.array([scale * (q @ k) for q, k in zip(query, key, strict=True)])


def neighbor_mean(values, senders, receivers, mask=None):
    """Mean of the senders' rows, 0 without neighbours; as many receivers as senders."""
    out = np.zeros(np.shape(values))
    for i in range(len(out)):
        neighbours = [senders[k] for k in edges_into(i, receivers, mask)]
        if neighbours:
            out[i] = np.mean([np.float64(values[j]) for j in neighbours], axis=0)
    return out
