"""How good an attribution is: whether the edges that it names are those that the prediction rests on.

An attribution `values` [E] is aligned with the graph's own edges. S are the edges that it names, such as
`top_edges(values, k)`.
"""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from jraph import GraphsTuple

from gatjax.explain.prediction import Apply, Options, check_values, one_per_edge, predict
from gatjax.graph.check import EdgeMask, check_mask
from gatjax.graph.messages import check_integer
from gatjax.graph.sizes import num_edges


class Ablation(NamedTuple):
    """What a model says of a target with all edges, without those that matter, and with those alone; see `ablate`.

    Attributes:
      full: its outputs for G, `[..., K]`; leading axes, such as one over targets, come from `jax.vmap` or `jnp.stack`.
      without: for G \\ S.
      only: for S.
    """

    full: Float[Array, "*targets K"]
    without: Float[Array, "*targets K"]
    only: Float[Array, "*targets K"]


def ablate(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    chosen: Bool[ArrayLike, "E"],
    **options: Unpack[Options],
) -> Ablation:
    """The outputs for a target with all edges, without the chosen ones, and with those alone.

    Args:
      apply: the model, as in `predict`.
      graph: one graph or a batch.
      target: id of a node.
      chosen: S, `[E]`, such as `top_edges(values, k)`.
      **options: as in `predict`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [0.0]]))
    >>> layer = MeanConv(1, 1, use_bias=False, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    >>> [each.tolist() for each in ablate(layer, graph, 2, jnp.array([False, True]), label=0)]
    [[2.0], [1.0], [3.0]]
    """
    check_mask(num_edges(graph), chosen=chosen)
    # Outputs depend on no label, and to look for one would cost a call of the model.
    question = predict(apply, graph, target, **{**options, "label": 0})
    mask, chosen = question.edge_mask, jnp.asarray(chosen)
    outputs = lambda mask: question.outputs(edge_mask=mask)
    return Ablation(outputs(mask), outputs(mask & ~chosen), outputs(mask & chosen))


def top_edges(
    values: Float[ArrayLike, "E"], k: int, *, edge_mask: EdgeMask = None
) -> Bool[Array, "E"]:
    """The k edges with the highest values, of equal ones the first.

    Args:
      values: `[E]`.
      k: how many; all that take part where there are fewer.
      edge_mask: edges that take part, `[E]`; all by default.

    >>> top_edges(jnp.array([0.1, 0.5, 0.5, 0.2]), 2).tolist()
    [False, True, True, False]
    """
    check_integer(k=k)
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k}")
    places, counted = _places(one_per_edge("values", values), edge_mask)
    return counted & (places < k)


def comprehensiveness(
    ablation: Ablation, label: Int[ArrayLike, "*targets"] | None = None
) -> Float[Array, "*targets"]:
    """What the probability loses without the edges that are said to matter: high is good.

    ```
    p(y | G) - p(y | G \\ S)
    ```

    Args:
      ablation: of one or more targets.
      label: y; by default what is predicted for G.

    >>> outputs = Ablation(*jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8], [0.75, 0.25]])))
    >>> print(f"{comprehensiveness(outputs):.3f} {sufficiency(outputs):.3f}")
    0.700 0.150

    DeYoung et al., ERASER, ACL 2020, there of words.
    """
    return _difference(ablation.full, ablation.without, ablation, label)


def sufficiency(
    ablation: Ablation, label: Int[ArrayLike, "*targets"] | None = None
) -> Float[Array, "*targets"]:
    """What the probability loses with the edges alone that are said to matter: near 0 is good.

    ```
    p(y | G) - p(y | S)
    ```

    Arguments as in `comprehensiveness`, and a doctest there.

    DeYoung et al., ERASER, ACL 2020, there of words.
    """
    return _difference(ablation.full, ablation.only, ablation, label)


class Fidelity(NamedTuple):
    """Shares of the targets; see `fidelity`.

    Attributes:
      plus: whose prediction changes without the edges: 1 is good.
      minus: whose prediction changes with those alone: 0 is good.
    """

    plus: Float[Array, ""]
    minus: Float[Array, ""]


def fidelity(ablation: Ablation, labels: Int[ArrayLike, "targets"] | None = None) -> Fidelity:
    """How often the edges that are said to matter decide.

    ```
    fid+ = 1 - mean [ŷ(G \\ S) = ŷ(G)]               of the model
    fid- = 1 - mean [ŷ(S) = ŷ(G)]
    fid+ = mean |[ŷ(G) = y] - [ŷ(G \\ S) = y]|        of the phenomenon, where there are labels y
    fid- = mean |[ŷ(G) = y] - [ŷ(S) = y]|
    ```

    Args:
      ablation: of one or more targets.
      labels: y; None for the fidelity to the model.

    >>> one = jnp.array([[2.0, 0.0], [0.0, 1.0]])
    >>> fidelity(Ablation(one, one[::-1], one))
    Fidelity(plus=Array(1., dtype=float32), minus=Array(0., dtype=float32))

    Amara et al., GraphFramEx: Towards Systematic Evaluation of Explainability Methods for Graph Neural Networks, LoG
    2022.
    """
    said, without, only = (outputs.argmax(-1) for outputs in ablation)
    right = said if labels is None else jnp.asarray(labels)
    changed = lambda other: jnp.mean((said == right) != (other == right), dtype=jnp.float32)
    return Fidelity(changed(without), changed(only))


def characterization(fidelity: Fidelity, *, weight: float = 0.5) -> Float[Array, ""]:
    """One number of both fidelities, their weighted harmonic mean: 1 is good.

    ```
    1 / (w / fid+ + (1 - w) / (1 - fid-))
    ```

    Args:
      fidelity: of an attribution.
      weight: w of fid+, from 0 to 1.

    >>> characterization(Fidelity(jnp.array(0.5), jnp.array(0.5))).item()
    0.5

    Amara et al., LoG 2022.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight = {weight} must lie between 0 and 1")
    plus, kept = fidelity.plus, 1 - fidelity.minus
    both = (plus > 0) & (kept > 0)
    safe = lambda share: jnp.where(both, share, 1)
    return jnp.where(both, 1 / (weight / safe(plus) + (1 - weight) / safe(kept)), 0)


def unfaithfulness(ablation: Ablation) -> Float[Array, "*targets"]:
    """How far the distribution over classes goes from itself with the edges alone that are said to matter: 0 is good.

    ```
    1 - exp(-KL(p(G) || p(S))),        KL(p || q) = Σ_k p_k log(p_k / q_k)
    ```

    >>> outputs = Ablation(*jnp.log(jnp.array([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2]])))
    >>> print(f"{unfaithfulness(outputs):.3f}")
    0.200

    Agarwal et al., Evaluating Explainability for Graph Neural Networks, Scientific Data 2023. PyG's metric of this name
    takes KL(p(S) || p(G)).
    """
    p, q = jax.nn.softmax(ablation.full), jax.nn.softmax(ablation.only)
    return -jnp.expm1(-rel_entr(p, q).sum(-1))


def deletion_curve(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    values: Float[ArrayLike, "E"],
    *,
    steps: int = 10,
    **options: Unpack[Options],
) -> Float[Array, "points"]:
    """The score as edges go, those that are said to matter most first: it falls early where that is true.

    ```
    curve_t = score(G \\ {the first t/T of the edges by value}),        t = 0 ... T
    ```

    Args:
      apply: the model, as in `predict`.
      graph: the target's `computation_graph`: other edges would be counted in.
      target: id of a node.
      values: an attribution, `[E]`.
      steps: T.
      **options: as in `predict`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [0.0]]))
    >>> layer = MeanConv(1, 1, use_bias=False, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    >>> options = {"steps": 2, "score": lambda outputs, label: outputs[0]}
    >>> deletion_curve(layer, graph, 2, jnp.array([0.0, 1.0]), **options).tolist()
    [2.0, 1.0, 0.0]

    Petsiuk, Das, Saenko, RISE, BMVC 2018, there of pixels.
    """
    return _curve(apply, graph, target, values, steps, options, delete=True)


def insertion_curve(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    values: Float[ArrayLike, "E"],
    *,
    steps: int = 10,
    **options: Unpack[Options],
) -> Float[Array, "points"]:
    """The score as edges come, those that are said to matter most first: it rises early where that is true.

    Arguments as in `deletion_curve`.

    >>> from flax import nnx
    >>> from gatjax import MeanConv, build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.array([[1.0], [3.0], [0.0]]))
    >>> layer = MeanConv(1, 1, use_bias=False, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
    >>> options = {"steps": 2, "score": lambda outputs, label: outputs[0]}
    >>> insertion_curve(layer, graph, 2, jnp.array([0.0, 1.0]), **options).tolist()
    [0.0, 3.0, 2.0]

    Petsiuk, Das, Saenko, RISE, BMVC 2018, there of pixels.
    """
    return _curve(apply, graph, target, values, steps, options, delete=False)


def area_under_curve(curve: Float[ArrayLike, "*rest points"]) -> Float[Array, "*rest"]:
    """Of equally spaced points over 0 to 1, by trapezoids: the mean height of the curve.

    >>> area_under_curve(jnp.array([1.0, 0.0, 0.0])).item()
    0.25
    """
    curve = jnp.asarray(curve)
    if curve.ndim < 1 or curve.shape[-1] < 2:
        raise ValueError(f"curve must have at least two points, got shape {list(curve.shape)}")
    return jnp.trapezoid(curve, dx=1 / (curve.shape[-1] - 1), axis=-1)


def _difference(before: Array, after: Array, ablation: Ablation, label: ArrayLike | None) -> Array:
    label = ablation.full.argmax(-1) if label is None else jnp.asarray(label)
    lost = jax.nn.softmax(before) - jax.nn.softmax(after)
    return jnp.take_along_axis(lost, label[..., None], axis=-1)[..., 0]


def _places(values: Array, edge_mask: EdgeMask) -> tuple[Array, Array]:
    """The place of each edge in the order of falling values, and which of them take part."""
    check_mask(len(values), edge_mask=edge_mask)
    counted = jnp.ones(len(values), bool) if edge_mask is None else jnp.asarray(edge_mask)
    order = jnp.argsort(jnp.where(counted, -values, jnp.inf), stable=True)
    return jnp.zeros_like(order).at[order].set(jnp.arange(len(values))), counted


def _curve(
    apply: Apply,
    graph: GraphsTuple,
    target: Int[ArrayLike, ""],
    values: ArrayLike,
    steps: int,
    options: Options,
    *,
    delete: bool,
) -> Float[Array, "points"]:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    question = predict(apply, graph, target, **options)
    places, counted = _places(check_values(graph, values), question.edge_mask)

    def at(step: Array) -> Array:
        number = jnp.round(step / steps * counted.sum())
        kept = places >= number if delete else places < number
        return question.value(edge_mask=counted & kept)

    return jax.lax.map(at, jnp.arange(steps + 1))
