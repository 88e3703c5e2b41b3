"""What a layer is made of: heads with their parameters, projections and the output."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.sparse import BCOO
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float

from gatjax.attention.attend import check_weighing
from gatjax.attention.pairs import mix, on_pairs
from gatjax.attention.scores import combine_heads
from gatjax.attention.steps import Normalize
from gatjax.layers.checks import (
    check_dtypes,
    check_finite,
    check_in_features,
    check_sizes,
    check_widths,
    plain_number,
)
from gatjax.layers.dropout import DropoutRates
from gatjax.layers.inputs import InFeatures, Sides, widths
from gatjax.ops.blocks import BlockSize
from gatjax.ops.sparse import Features, HeadDropout, project, promote

Combine = Literal["concat", "mean"]
Residual = bool | Literal["linear"]

_ROWS = {"nodes": "N", "senders": "M", "edges": "E", "globals": "G", "rows": "R"}

glorot_uniform = nnx.initializers.glorot_uniform()


class Weighing(NamedTuple):
    """How logits become weights: the options that layers hand to `attend`."""

    normalize: Normalize = "softmax"
    temperature: float = 1.0
    block_size: BlockSize = "auto"

    def checked(self) -> "Weighing":
        """The same with a plain temperature, after all checks that need no graph."""
        plain = self._replace(temperature=plain_number("temperature", self.temperature))
        check_weighing(*plain)
        check_finite(temperature=plain.temperature)
        return plain


class HeadInit(NamedTuple):
    """How a layer draws its parameters: H heads of C features, one initialiser, dtypes and keys.

    The initialiser is called once per head with the shape of that head's parameter, (F, C) for a kernel
    and (C, 1) for an attention vector, so that fans do not depend on the number of heads.
    """

    num_heads: int
    features: int
    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike
    rngs: nnx.Rngs

    def one(self, features: int) -> "HeadInit":
        """The same with one head of another width."""
        return self._replace(num_heads=1, features=features)

    def kernel(self, in_features: int) -> nnx.Param:
        return nnx.Param(jnp.moveaxis(self._per_head((in_features, self.features)), 0, 1))

    def matrix(self, in_features: int) -> nnx.Param:
        return nnx.Param(self.one(self.features)._per_head((in_features, self.features))[0])

    def vector(self) -> nnx.Param:
        return nnx.Param(self._per_head((self.features, 1))[:, :, 0])

    def contraction(self, out_features: int) -> nnx.Param:
        flat = (self.num_heads * self.features, out_features)
        kernel = self.kernel_init(self.rngs.params(), flat, self.param_dtype)
        return nnx.Param(kernel.reshape(self.num_heads, self.features, out_features))

    def zeros(self, *shape: int) -> nnx.Param:
        return nnx.Param(jnp.zeros(shape, self.param_dtype))

    def _per_head(self, shape: tuple[int, int]) -> Float[Array, "H rows columns"]:
        keys = jax.random.split(self.rngs.params(), self.num_heads)
        return jnp.stack([self.kernel_init(key, shape, self.param_dtype) for key in keys])


def features_per_head(out_features: int, num_heads: int, combine: Combine) -> int:
    """C: the width of the output, or the part of it that each head concatenates.

    Raises:
      ValueError: an unknown `combine`, no head, or a width that heads do not divide.

    >>> features_per_head(8, 2, "concat"), features_per_head(8, 2, "mean")
    (4, 8)
    """
    if combine not in get_args(Combine):
        raise ValueError(f'combine must be "concat" or "mean", got {combine!r}')
    check_widths(out_features=out_features, num_heads=num_heads)
    if combine == "mean":
        return out_features
    if out_features % num_heads:
        raise ValueError(
            f"out_features={out_features} cannot be split over num_heads={num_heads}: with combine="
            '"concat" it is the width of all heads together (use a multiple, or combine="mean")'
        )
    return out_features // num_heads


class Setup(NamedTuple):
    """What a layer is told about its widths, its heads and its parameters: the options of `GATConv`, by the same names.

    `heads` is how its parameters are drawn, `widths` has the width of the receivers and that of the senders.
    """

    in_features: InFeatures
    out_features: int
    rngs: nnx.Rngs
    num_heads: int = 1
    combine: Combine = "concat"
    residual: Residual = False
    use_bias: bool = True
    dropout_rate: float | DropoutRates = 0.0
    normalize: Normalize = "softmax"
    temperature: float = 1.0
    block_size: BlockSize = "auto"
    kernel_init: Initializer = glorot_uniform
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @property
    def weighing(self) -> Weighing:
        """How logits become weights, checked."""
        return Weighing(self.normalize, self.temperature, self.block_size).checked()

    @property
    def heads(self) -> HeadInit:
        """How its parameters are drawn, after all checks."""
        check_in_features(self.in_features)
        check_dtypes(dtype=self.dtype, param_dtype=self.param_dtype)
        self.weighing.checked()
        features = features_per_head(self.out_features, self.num_heads, self.combine)
        return HeadInit(self.num_heads, features, *self.numbers, self.rngs)

    @property
    def widths(self) -> Sides:
        """Of the rows that receive, and of those that send."""
        return widths(self.in_features)

    @property
    def paired(self) -> bool:
        """Whether receivers and senders have widths, and so kernels, of their own."""
        return not isinstance(self.in_features, int | np.integer)

    @property
    def numbers(self) -> tuple[Initializer, DTypeLike | None, DTypeLike]:
        """Initialiser and dtypes."""
        return self.kernel_init, self.dtype, self.param_dtype


class Linear(NamedTuple):
    """`y = x W + b` on rows: kernel W `[F, ...]`, bias b `[...]` or None. A pytree, for the weights of a mechanism."""

    kernel: Float[Array, "F *out"]
    bias: Float[Array, "*out"] | None = None

    def __call__(self, x: Float[ArrayLike, "rows F"]) -> Float[Array, "rows *out"]:
        return add_bias(project(jnp.asarray(x, self.kernel.dtype), self.kernel), self.bias)


def add_bias(x: Float[Array, "rows *out"], bias: Any) -> Float[Array, "rows *out"]:
    """x + b, where there is a b `[...]`, an array or a parameter."""
    return x if bias is None else x + bias[...].astype(x.dtype)[None]


class HeadProjection(nnx.Module):
    """A linear map of dense or sparse features to H heads of C features: z = x W + b, W [F, H, C], b [H, C].

    Args:
      in_features: F.
      heads: how its parameters are drawn, `Setup.heads`.
      use_bias: b.
    """

    def __init__(self, in_features: int, heads: HeadInit, *, use_bias: bool = False):
        check_sizes(in_features=in_features)
        self.kernel = heads.kernel(in_features)
        self.bias = heads.zeros(heads.num_heads, heads.features) if use_bias else None
        self.dtype = heads.dtype

    def __call__(
        self, rows: Features | HeadDropout, *, name: str = "nodes"
    ) -> Float[Array, "N H C"]:
        """z of dense or sparse rows [N, F]; `name` is what an error calls them."""
        return add_bias(project_rows(rows, self.kernel[...], self.dtype, name), self.bias)

    def linear(self, dtype: DTypeLike) -> Linear:
        """The same map as pure parameters in a dtype, for the weights of a mechanism."""
        return _linear(self, dtype)


class Dense(nnx.Module):
    """The parameters of `Linear`, one matrix W [F, width] and its bias b [width], with the settings of the heads."""

    def __init__(self, in_features: int, width: int, heads: HeadInit, *, use_bias: bool = False):
        self.kernel = heads._replace(features=width).matrix(in_features)
        self.bias = heads.zeros(width) if use_bias else None

    def linear(self, dtype: DTypeLike) -> Linear:
        return _linear(self, dtype)


def _linear(module: HeadProjection | Dense, dtype: DTypeLike) -> Linear:
    bias = None if module.bias is None else module.bias[...].astype(dtype)
    return Linear(module.kernel[...].astype(dtype), bias)


def project_rows(
    rows: Features | HeadDropout,
    kernel: Float[ArrayLike, "F H C"],
    dtype: DTypeLike | None,
    name: str = "nodes",
) -> Float[Array, "N H C"]:
    """`project` in the given dtype, or the promoted one, after a check of the width of what `name` says."""
    features = rows.features if isinstance(rows, HeadDropout) else rows
    if features.ndim != 2 or features.shape[1] != np.shape(kernel)[0]:
        letter = _ROWS[name.partition("[")[0]]
        raise ValueError(
            f"{name} must be [{letter}, {np.shape(kernel)[0]}], got {list(features.shape)}: as wide as the layer was "
            "built for"
        )
    features, weights = promote(dtype, features, jnp.asarray(kernel))
    return project(
        rows._replace(features=features) if isinstance(rows, HeadDropout) else features, weights
    )


def check_residual(residual: Any) -> Residual:
    """False, True or "linear".

    Raises:
      ValueError: anything else.

    >>> check_residual("linear"), check_residual(np.True_)
    ('linear', True)
    """
    if isinstance(residual, bool | np.bool_):
        return bool(residual)
    if residual != "linear":
        raise ValueError(f'residual must be False, True or "linear", got {residual!r}')
    return residual


class HeadOutput(nnx.Module):
    """What follows the weighted sum: heads are combined, residual and bias are added.

    ```
    h'_i = combine_h(x_ih) + W_res h_i + b
    ```

    W_res is the identity, without parameters, where the widths agree, unless `residual="linear"` asks for a matrix all
    the same. `learned` heads, which may have any width, meet in a contraction over (head, feature), `Σ_hc x_ihc w_hcl`.
    """

    def __init__(self, setup: Setup, *, learned: HeadInit | None = None):
        in_features, out_features = setup.widths.receivers, setup.out_features
        heads = setup.heads if learned is None else learned
        self.combine = setup.combine if learned is None else "learned"
        self.contraction = None if learned is None else learned.contraction(out_features)
        self.residual = check_residual(setup.residual)
        learns = self.residual == "linear" or (self.residual and in_features != out_features)
        self.projection = HeadProjection(in_features, heads.one(out_features)) if learns else None
        self.bias = heads.zeros(out_features) if setup.use_bias else None

    def __call__(self, x: Float[Array, "N H C"], nodes: Features) -> Float[Array, "N out"]:
        learned = self.contraction
        out = combine_heads(x, self.combine if learned is None else learned[...].astype(x.dtype))
        if self.residual:
            skipped = nodes if self.projection is None else self.projection(nodes)[:, 0, :]
            out += jnp.asarray(
                skipped.todense() if isinstance(skipped, BCOO) else skipped, out.dtype
            )
        return add_bias(out, self.bias)


def _sender_values(p, weights, r, s, e):
    return mix(p, s["value"])


@on_pairs(_sender_values)
def sender_value(weights, r, s, e):
    """The value of a mechanism whose senders send a row of their own, `s["value"]`."""
    return s["value"]
