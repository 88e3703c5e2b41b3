"""Dropout of a layer: where it drops, with which keys, and when it is switched off."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from gatjax.graph.messages import shown
from gatjax.graph.views import Numbered, View
from gatjax.layers.checks import plain_number
from gatjax.layers.inputs import Sides
from gatjax.ops.dropout import DropoutMask
from gatjax.ops.sparse import Features, HeadDropout, drop_entries


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


def rates_of(rate: float | DropoutRates) -> DropoutRates:
    """The rates of all places; one number is that of the attention weights."""
    return rate if isinstance(rate, DropoutRates) else DropoutRates(attention=rate)


class Keys(NamedTuple):
    """One random key per place that drops, None where nothing is dropped.

    `numbers` are those of nodes and edges in the whole graph, where the layer sees a part of it.
    """

    inputs: Key[Array, ""] | None = None
    projected: Key[Array, ""] | None = None
    attention: Key[Array, ""] | None = None
    head_inputs: Key[Array, ""] | None = None
    numbers: Numbered = Numbered()

    def of_table(self, place: int) -> "Keys":
        """The keys of another table of nodes."""
        fold = lambda key: None if key is None else jax.random.fold_in(key, place)
        return self._replace(**{name: fold(getattr(self, name)) for name in DropoutRates._fields})


class Dropout(nnx.Module):
    """The dropout of a layer: its rates, its source of keys, and whether it is switched off."""

    def __init__(self, rates: float | DropoutRates, *, rngs: nnx.Rngs):
        named = rates_of(rates)._asdict().items()
        plain = {name: plain_number(f"dropout rate of {name}", rate) for name, rate in named}
        self.rates = DropoutRates(**plain)
        for name, rate in plain.items():
            if not 0 <= rate < 1:
                raise ValueError(f"dropout rate of {name} must lie in [0, 1), got {rate}")
        self.deterministic = False
        self.rngs = _dropout_keys(rngs).fork() if any(self.rates) else None

    def set_view(self, deterministic: bool | None = None) -> None:
        """Asked by `nnx.view`.

        Args:
          deterministic: if True, nothing is dropped.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def keys(
        self, deterministic: bool | None, rngs: nnx.Rngs | None, view: View | None = None
    ) -> Keys:
        """Fresh keys for one call, and the numbers that a view has for its rows; none where dropout is off."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not any(self.rates):
            return Keys()
        stream = self.rngs if rngs is None else dropout_stream(rngs)
        draw = lambda rate: None if stream is None or rate == 0 else stream()
        places = {name: draw(rate) for name, rate in self.rates._asdict().items()}
        numbers = Numbered() if view is None else view.numbers
        return Keys(**places, numbers=numbers)

    def inputs(self, features: Features, keys: Keys) -> Features | HeadDropout:
        """Features [N, F], dense or sparse, and what each head is still to drop of them."""
        numbers = keys.numbers.nodes
        kept = drop_entries(features, keys.inputs, self.rates.inputs, numbers)
        if keys.head_inputs is None:
            return kept
        return HeadDropout(kept, keys.head_inputs, self.rates.head_inputs, numbers)

    def sides(self, nodes: Sides, keys: Keys) -> Sides:
        """The inputs of receivers and senders: one mask where they are one table, else one for each."""
        if nodes.shared:
            return nodes.each(lambda table: self.inputs(table, keys))
        return Sides(
            self.inputs(nodes.receivers, keys), self.inputs(nodes.senders, keys.of_table(1))
        )

    def projected(self, z: Float[Array, "N *H C"], keys: Keys) -> Float[Array, "N *H C"]:
        """Values, before they are sent."""
        numbers = keys.numbers.nodes
        return jnp.asarray(drop_entries(z, keys.projected, self.rates.projected, numbers))

    def attention(self, keys: Keys) -> DropoutMask | None:
        """The factor on the attention weights, one per edge and head."""
        if keys.attention is None:
            return None
        return DropoutMask(keys.attention, self.rates.attention, keys.numbers.edges)


def dropout_stream(rngs: nnx.Rngs) -> nnx.RngStream:
    """The keys of a call: a stream, since every layer and place takes one of its own."""
    if not isinstance(rngs, nnx.Rngs):
        raise TypeError(f"rngs must be nnx.Rngs, got {shown(rngs)}; pass nnx.Rngs(dropout=key)")
    return rngs.dropout


def _dropout_keys(rngs: nnx.Rngs) -> nnx.RngStream:
    """The stream of the dropout; one made of a parameter's key where there is none, as in the `init` of Linen."""
    known = "dropout" in rngs or "default" in rngs
    return rngs.dropout if known else nnx.Rngs(dropout=rngs.params()).dropout
