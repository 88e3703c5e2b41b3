"""A normaliser that mixes attention with what is known of the edges, their lengths and which of them are bonds."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from gatjax.attention.steps import Normalize, normalizer
from gatjax.graph.ids import first_true
from gatjax.ops.segment import groups_of
from gatjax.ops.softmax import RULES, Groups, along_last

Kernel = Literal["exp", "softmax"]
MixtureWeights = Sequence[float | int] | Float[Array, "3"]

# Of attention, distance and adjacency, as in the paper's last models.
MIXTURE_WEIGHTS = (0.33, 0.33, 0.34)

# What the original adds to the sum of a row of the adjacency, which may be 0.
_EPSILON = 1e-6


class Mixture:
    """The normaliser of `mixed_attention`, for the logits of any mechanism: `normalize=Mixture(...)`.

    ```
    p_ij = λ_a α_ij + λ_d g(D_ij) + λ_g A_ij / (Σ_{k -> i} A_ik + 1e-6)
    ```

    with α from the logits as `normalize` says.

    Args:
      distance, adjacency, weights, kernel, normalize: as in `mixed_attention`.

    Raises:
      ValueError: an unknown kernel, weights that are not three or do not sum to 1, a part that has a weight and is not
        given; when called outside `jax.jit`, a distance or an adjacency that is negative or NaN.

    >>> from gatjax.attention import attention_weights
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 1], num_nodes=2)
    >>> mixed = Mixture(adjacency=jnp.array([0.0, 1.0]), weights=(0.5, 0, 0.5))
    >>> print(jnp.round(100 * attention_weights(graph, jnp.zeros(2), normalize=mixed)))
    [25. 75.]
    """

    def __init__(
        self,
        *,
        distance: Float[ArrayLike, "E"] | None = None,
        adjacency: Float[ArrayLike, "E"] | None = None,
        weights: MixtureWeights = MIXTURE_WEIGHTS,
        kernel: Kernel = "exp",
        normalize: Normalize = "softmax",
    ):
        check_kernel(kernel)
        self.kernel: Kernel = kernel
        self.normalize: Normalize = normalize
        self.distance, self.adjacency = distance, adjacency
        self.share, *self.others = check_mixture(weights)
        self.attend = normalizer(normalize)
        for name, weight in zip(("distance", "adjacency"), self.others, strict=True):
            if getattr(self, name) is None and not _is_zero(weight):
                raise ValueError(
                    f"{name} is missing, and its weight is {weight}: give {name} [E], or a weight of 0 to it"
                )

    def __call__(
        self,
        logits: Float[Array, "E *H"],
        segment_ids: Int[Array, "E"],
        num_segments: int,
        *,
        mask: Bool[Array, "E"] | None = None,
    ) -> Float[Array, "E *H"]:
        """The weights; arguments as in `segment_softmax`."""
        dtype = jnp.promote_types(logits.dtype, jnp.float32)
        mixed = jnp.zeros(logits.shape, dtype)
        if not _is_zero(self.share):
            alpha = self.attend(logits, segment_ids, num_segments, mask=mask)
            mixed += self.share * alpha
        known = self.known(segment_ids, num_segments, mask=mask, dtype=dtype)
        return mixed + known.reshape(-1, *[1] * (logits.ndim - 1))

    def known(
        self,
        segment_ids: Int[Array, "E"],
        num_segments: int,
        *,
        mask: Bool[Array, "E"] | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> Float[Array, "E"]:
        """What is added to the attention: λ_d g(D) + λ_g A / (Σ A + 1e-6)."""
        of_edges = jnp.zeros(len(segment_ids), jnp.promote_types(dtype, jnp.float32))
        groups = groups_of(of_edges, segment_ids, num_segments, mask)
        return self._known(*groups, mask, dtype)

    def on_pairs(
        self, alpha: Callable[[], Float[Array, "G H n n"]], counted: Bool[Array, "G n n"]
    ) -> Float[Array, "G H n n"]:
        """The weights of all pairs of nodes, in whose order the edges stand; `alpha` gives the attention."""
        known = self._known(counted, along_last(counted), counted.reshape(-1), jnp.float32)
        known = jnp.where(counted, known, 0)[:, None]
        return known if _is_zero(self.share) else self.share * alpha() + known

    def _known(
        self, counted: Bool[Array, "*shape"], groups: Groups, mask: Array | None, dtype: DTypeLike
    ) -> Float[Array, "*shape"]:
        of_distance, of_adjacency = self.others
        known = jnp.zeros(counted.shape, dtype)
        if not _is_zero(of_distance):
            distance = _part("distance", self.distance, mask, dtype).reshape(counted.shape)
            known += of_distance * _near(distance, self.kernel, counted, groups)
        if not _is_zero(of_adjacency):
            adjacency = _part("adjacency", self.adjacency, mask, dtype).reshape(counted.shape)
            total = groups.spread(groups.total(adjacency))
            known += of_adjacency * adjacency / (total + _EPSILON)
        return known.astype(dtype)


def check_mixture(weights: MixtureWeights) -> tuple:
    """The three weights; numbers must sum to 1, those of an array of JAX are free.

    Raises:
      ValueError: not three, or numbers that are no shares.
    """
    shape = np.shape(weights)
    if shape != (3,):
        raise ValueError(
            f"weights must be three, of attention, distance and adjacency, got shape {list(shape)}"
        )
    if isinstance(weights, jax.Array):
        return tuple(weights)
    shares = tuple(float(weight) for weight in weights)
    if not (all(share >= 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-5)):
        raise ValueError(
            f"weights = {shares} must be at least 0 and sum to 1, got the sum {sum(shares):g}: divide by it, or, for "
            "weights that are learned, give an array of JAX (of a layer, trainable_weights=True)"
        )
    return shares


def check_kernel(kernel: str) -> None:
    """Refuse an unknown kernel.

    Raises:
      ValueError: it is none of `Kernel`.
    """
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel must be one of {list(get_args(Kernel))}, got {kernel!r}")


def _is_zero(weight: float | Array) -> bool:
    return isinstance(weight, float) and weight == 0


def _part(name: str, part: ArrayLike | None, mask: Array | None, dtype) -> Float[Array, "E"]:
    """What is known of the edges, 0 where they do not count, after a check of what can be read."""
    values = jnp.asarray(part)
    if values.ndim != 1:
        raise ValueError(f"{name} must be [E], one number per edge, got {list(values.shape)}")
    if not isinstance(values, Tracer) and not isinstance(mask, Tracer):
        bad = ~(np.asarray(values) >= 0) & (True if mask is None else np.asarray(mask))
        if (first := first_true(bad)) is not None:
            raise ValueError(
                f"{name}[{first}] = {values[first]}: it must be a number from 0 on; mend it, or leave the edge out by "
                "edge_mask"
            )
    values = values.astype(jnp.promote_types(values.dtype, dtype))
    return values if mask is None else jnp.where(mask, values, 0)


def _near(distance: Array, kernel: Kernel, counted: Array, groups: Groups) -> Float[Array, "..."]:
    if kernel == "exp":
        return jnp.exp(-distance)
    return RULES["softmax"](-distance, counted, groups, 1.0)
