"""What a layer is made of: heads with their parameters, dropout, projections and the output."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental.sparse import BCOO
from jax.nn.initializers import Initializer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Key
from jraph import GraphsTuple

from gatjax.attention.attend import NORMALIZERS
from gatjax.attention.scores import combine_heads
from gatjax.ops.dropout import DropoutMask
from gatjax.ops.sparse import Features, HeadDropout, drop_entries, project, promote

Combine = Literal["concat", "mean"]


Normalize = Literal["softmax", "hardmax", "straight_through"]


Mask = Bool[ArrayLike, "E"] | None


glorot_uniform = nnx.initializers.glorot_uniform()


class DropoutRates(NamedTuple):
    """Where a layer drops, each rate in [0, 1).

    Attributes:
      inputs: entries of the node features, before they are projected.
      projected: entries of the values, after the logits have been computed from them.
      attention: attention weights, per edge and head.
      head_inputs: as `inputs`, but drawn anew for every head.

    The original GAT uses 0.6 for attention, projected and head_inputs; its paper does not name the second,
    and other libraries draw one mask for all heads.
    """

    inputs: float = 0.0
    projected: float = 0.0
    attention: float = 0.0
    head_inputs: float = 0.0


class Keys(NamedTuple):
    """One random key per place that drops, None where nothing is dropped."""

    inputs: Key[Array, ""] | None = None
    projected: Key[Array, ""] | None = None
    attention: Key[Array, ""] | None = None
    head_inputs: Key[Array, ""] | None = None


class Dropout(nnx.Module):
    """The dropout of a layer: its rates, its source of keys, and whether it is switched off."""

    def __init__(self, rates: float | DropoutRates, *, rngs: nnx.Rngs):
        self.rates = rates if isinstance(rates, DropoutRates) else DropoutRates(attention=rates)
        for name, rate in self.rates._asdict().items():
            if not 0 <= rate < 1:
                raise ValueError(f"dropout rate of {name} must lie in [0, 1), got {rate}")
        self.deterministic = False
        self.rngs = rngs.dropout.fork() if any(self.rates) else None

    def keys(self, deterministic: bool | None, rngs: nnx.Rngs | None) -> Keys:
        """Fresh keys for one call; none where dropout is off."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not any(self.rates):
            return Keys()
        stream = self.rngs if rngs is None else rngs.dropout
        return Keys(*(None if stream is None or rate == 0 else stream() for rate in self.rates))

    def inputs(self, graph: GraphsTuple, keys: Keys) -> Features | HeadDropout:
        """The node features [N, F], dense or sparse, and what each head is still to drop of them."""
        nodes = drop_entries(node_features(graph), keys.inputs, self.rates.inputs)
        if keys.head_inputs is None:
            return nodes
        return HeadDropout(nodes, keys.head_inputs, self.rates.head_inputs)

    def projected(self, z: Float[Array, "N H C"], keys: Keys) -> Float[Array, "N H C"]:
        return jnp.asarray(drop_entries(z, keys.projected, self.rates.projected))

    def attention(self, keys: Keys) -> DropoutMask | None:
        """The factor on the attention weights, one per edge and head."""
        if keys.attention is None:
            return None
        return DropoutMask(keys.attention, self.rates.attention)


def node_features(graph: GraphsTuple) -> Features:
    """The graph's node features, if it has one array of them."""
    if not isinstance(graph.nodes, Features):
        raise ValueError(
            f"a layer needs graph.nodes [N, F], an array or a BCOO, got {type(graph.nodes).__name__}"
        )
    return graph.nodes


def edge_features(graph: GraphsTuple) -> Features:
    """The graph's edge features; layers call it once they know that there are some."""
    if not isinstance(graph.edges, Features):
        raise ValueError(
            f"a layer needs graph.edges [E, F], one array, got {type(graph.edges).__name__}"
        )
    return graph.edges


def check_normalize(normalize: Normalize) -> Normalize:
    """The name, if there is such a normaliser."""
    if normalize not in NORMALIZERS:
        raise ValueError(f"normalize must be one of {list(NORMALIZERS)}, got {normalize!r}")
    return normalize


class Heads(NamedTuple):
    """How a layer makes its parameters: H heads of C features, one initialiser, dtypes and keys.

    The initialiser is called once per head with the shape of that head's parameter, (F, C) for a kernel
    and (C, 1) for an attention vector, so that fans do not depend on the number of heads.
    """

    num_heads: int
    features: int
    kernel_init: Initializer
    dtype: DTypeLike | None
    param_dtype: DTypeLike
    rngs: nnx.Rngs

    def kernel(self, in_features: int) -> nnx.Param:
        return nnx.Param(jnp.moveaxis(self._per_head((in_features, self.features)), 0, 1))

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


def make_heads(out_features: int, num_heads: int, combine: Combine, *settings: Any) -> Heads:
    if combine not in ("concat", "mean"):
        raise ValueError(f'combine must be "concat" or "mean", got {combine!r}')
    if num_heads < 1:
        raise ValueError(f"num_heads must be at least 1, got {num_heads}")
    if combine == "concat" and out_features % num_heads:
        raise ValueError(
            f"out_features={out_features} cannot be split over num_heads={num_heads}: with combine="
            '"concat" it is the width of all heads together (use a multiple, or combine="mean")'
        )
    return Heads(
        num_heads, out_features // num_heads if combine == "concat" else out_features, *settings
    )


class HeadProjection(nnx.Module):
    """A bias-free linear map to H heads of C features, `z = x W`, of dense or sparse features."""

    def __init__(self, in_features: int, heads: Heads):
        self.kernel = heads.kernel(in_features)
        self.dtype = heads.dtype

    def __call__(self, rows: Features | HeadDropout) -> Float[Array, "N H C"]:
        return project_rows(rows, self.kernel[...], self.dtype)


def project_rows(
    rows: Features | HeadDropout, kernel: Float[Array, "F H C"], dtype: DTypeLike | None
) -> Float[Array, "N H C"]:
    """`project` in the given dtype, or the promoted one, after a check of the width."""
    features = rows.features if isinstance(rows, HeadDropout) else rows
    if features.ndim != 2 or features.shape[1] != len(kernel):
        raise ValueError(
            f"expected features of shape [N, {len(kernel)}], got {list(features.shape)}"
        )
    features, kernel = promote(dtype, features, kernel)
    return project(
        rows._replace(features=features) if isinstance(rows, HeadDropout) else features, kernel
    )


class HeadOutput(nnx.Module):
    """What follows the weighted sum: heads are combined, residual and bias are added.

    ```
    h'_i = combine_h(x_ih) + W_res h_i + b
    ```

    W_res is the identity, without parameters, where the widths agree. With `combine="learned"` the heads meet
    in a contraction over (head, feature), `Σ_hc x_ihc w_hcl`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        heads: Heads,
        *,
        combine: Combine | Literal["learned"],
        residual: bool,
        use_bias: bool,
    ):
        self.combine = combine
        self.contraction = heads.contraction(out_features) if combine == "learned" else None
        self.residual = residual
        one_head = heads._replace(num_heads=1, features=out_features)
        widens = residual and in_features != out_features
        self.projection = HeadProjection(in_features, one_head) if widens else None
        self.bias = heads.zeros(out_features) if use_bias else None

    def __call__(self, x: Float[Array, "N H C"], nodes: Features) -> Float[Array, "N out"]:
        learned = self.contraction
        out = combine_heads(x, self.combine if learned is None else learned[...].astype(x.dtype))
        if self.residual:
            skipped = nodes if self.projection is None else self.projection(nodes)[:, 0, :]
            out += jnp.asarray(
                skipped.todense() if isinstance(skipped, BCOO) else skipped, out.dtype
            )
        return out if self.bias is None else out + self.bias[...].astype(out.dtype)[None, :]


def sender_value(weights, r, s, e):
    return s["value"]
