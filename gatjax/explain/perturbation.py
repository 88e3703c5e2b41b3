"""How much each edge matters to a prediction, by taking edges away: one after the other, or all at once by a mask.

The signature is that of `gatjax.explain.attributions`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Key
from jraph import GraphsTuple

from gatjax.explain.prediction import Apply, Options, Prediction, check_edge_ids, predict
from gatjax.graph.sizes import num_nodes


def edge_deletion(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    *,
    edges: Int[ArrayLike, "e"] | Sequence[int] | None = None,
    batch_size: int = 16,
    **options: Unpack[Options],
) -> Float[Array, "E"]:
    """What the score loses where an edge is not there: exact, one call of the model per edge.

    ```text
    φ_e = score(G) - score(G \\ e)
    ```

    Without the edge the others share its attention among them. Only edges of the `computation_graph` can matter: there
    it costs little.

    Args:
      apply: the model.
      graph: one graph or a batch.
      target: id of a node.
      edges: ids of the edges to delete; all by default, and 0 for the others.
      batch_size: edges that are deleted side by side: memory grows with it, and not with their number.
      **options: as in `predict`.

    Raises:
      TypeError, ValueError: as `predict`; `edges` that are no ids of edges.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1, 2], [2, 2, 2], jnp.array([[1.0], [1.0], [4.0]]))
    >>> layer = MeanConv(1, 1, use_bias=False, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    >>> edge_deletion(layer, graph, 2, score=lambda outputs, label: outputs[0]).tolist()
    [-0.5, -0.5, 1.0]

    Leave-one-out in Jain, Wallace, Attention is not Explanation, NAACL 2019, there of words.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    question = predict(apply, graph, target, **options)
    mask = question.edge_mask
    chosen = jnp.arange(len(mask)) if edges is None else check_edge_ids(edges, len(mask))
    value = question.value()
    without = jax.lax.map(
        lambda edge: question.value(edge_mask=mask.at[edge].set(False)),
        chosen,
        batch_size=min(batch_size, max(len(chosen), 1)),
    )
    lost = jnp.where(mask[chosen], value - without, 0)
    return jnp.zeros(len(mask), lost.dtype).at[chosen].set(lost)


class MaskCosts(NamedTuple):
    """What a mask pays for, beside what it does to the prediction; GNNExplainer's numbers, as PyG has them.

    Attributes:
      size: for the sum of the mask.
      entropy: for its entropy, on average over the edges: each should be kept or not.
    """

    size: float = 0.005
    entropy: float = 1.0


def learned_mask(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    *,
    key: Key[Array, ""],
    epochs: int = 100,
    learning_rate: float = 0.01,
    costs: MaskCosts = MaskCosts(),  # noqa: B008
    **options: Unpack[Options],
) -> Float[Array, "E"]:
    """A mask of few edges by which the model says the same, found by gradient descent: GNNExplainer's, of edges.

    ```text
    φ    = sigmoid(m)
    loss = -log p(label | w φ) + size Σ_e φ_e + entropy · mean of -φ_e log φ_e - (1 - φ_e) log(1 - φ_e)
    ```

    The mask weighs what edges carry, after the softmax. Edges without any influence at the start take no part in the
    costs, and are 0.

    Args:
      apply: the model.
      graph: one graph or a batch.
      target: id of a node.
      key: of the mask's first values.
      epochs: steps of Adam.
      learning_rate: of Adam.
      costs: of size and entropy.
      **options: as in `predict`; the loss is the cross-entropy of the label, whatever the score.

    Returns:
      `[E]`, from 0 to 1.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [1, 0], jnp.eye(2))
    >>> learned_mask(MeanConv(2, 3, rngs=nnx.Rngs(0)), graph, 0, key=jax.random.key(0))[0].item()
    0.0

    Ying, Bourgeois, You, Zitnik, Leskovec, GNNExplainer: Generating Explanations for Graph Neural Networks, NeurIPS
    2019; masks of features are left out.
    """
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    question = predict(apply, graph, target, **options)
    deviation = np.sqrt(2.0) * np.sqrt(2.0 / (2 * num_nodes(graph)))
    mask = deviation * jax.random.normal(key, question.edge_mask.shape)
    optimizer = optax.adam(learning_rate)
    slope = jax.grad(lambda mask: _surprise(question, mask))(mask)
    used = question.edge_mask & (slope != 0)

    def loss(mask: Array) -> Array:
        kept = jax.nn.sigmoid(mask)
        unsure = -kept * jax.nn.log_sigmoid(mask) - (1 - kept) * jax.nn.log_sigmoid(-mask)
        size = jnp.where(used, kept, 0).sum()
        entropy = jnp.where(used, unsure, 0).sum() / jnp.maximum(used.sum(), 1)
        return _surprise(question, mask) + costs.size * size + costs.entropy * entropy

    def step(state: Any, _: None) -> tuple[Any, None]:
        mask, memory = state
        updates, memory = optimizer.update(jax.grad(loss)(mask), memory)
        return (optax.apply_updates(mask, updates), memory), None

    (mask, _), _ = jax.lax.scan(step, (mask, optimizer.init(mask)), length=epochs)
    return jnp.where(used, jax.nn.sigmoid(mask), 0)


def _surprise(question: Prediction, mask: Array) -> Array:
    outputs = question.outputs(edge_weight=question.weights * jax.nn.sigmoid(mask))
    return -jax.nn.log_softmax(outputs)[question.label]
