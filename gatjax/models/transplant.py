"""What weights of other libraries have in common on their way into layers and models of ours.

Their linear maps are [out, F] and lay the heads side by side; ours are [F, H, C]. A layer of theirs is what the arrays
of its state dict say it is: every array finds its place, or is refused by its name.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from gatjax.graph.messages import listed, shown
from gatjax.graph.peers import as_array
from gatjax.models.stack import Stack

Module = TypeVar("Module", bound=nnx.Module)


class Weights:
    """The arrays of one of their layers by name, each to be read once; and the layer, where it is at hand."""

    def __init__(self, arrays: dict[str, np.ndarray], prefix: str, ours: nnx.Module, theirs: Any):
        self.arrays, self.prefix, self.theirs = arrays, prefix, theirs
        self.ours = type(ours).__name__

    def get(self, name: str) -> np.ndarray | None:
        """An array as it is, None where there is none of the name."""
        return self.arrays.pop(name, None)

    def heads(self, name: str, num_heads: int) -> np.ndarray | None:
        """The matrix [H·C, F] as a kernel [F, H, C]."""
        weight = self.get(name)
        if weight is None:
            return None
        if weight.ndim != 2 or len(weight) % num_heads:
            raise self.error(
                name, f"is {list(weight.shape)}: not one matrix for num_heads={num_heads}"
            )
        return weight.T.reshape(weight.shape[1], num_heads, -1)

    def setting(self, path: str, default: Any) -> Any:
        """What their layer says of itself, the default where only its arrays are known."""
        if self.theirs is None:
            return default
        return reduce(lambda found, name: getattr(found, name, None), path.split("."), self.theirs)

    def refuse(self, name: str, reason: str) -> None:
        """Say why an array has no place, where it is there."""
        if name in self.arrays:
            raise self.error(name, reason)

    def error(self, name: str, reason: str) -> ValueError:
        return ValueError(f"{self.prefix}{name} {reason}")


class Place(NamedTuple):
    """Where an array goes.

    Attributes:
      parameter: of our layer, None where it has none of the kind.
      value: what it is to be, None where theirs has none of the kind.
      name: what theirs is called.
      option: of our layer, with which it has the parameter; None where it always has.
    """

    parameter: nnx.Param | None
    value: np.ndarray | None
    name: str
    option: str | None = None


class Peer(NamedTuple):
    """How one of their layers becomes one of ours.

    Attributes:
      marker: the array by which a layer is found in a state dict.
      places: `places(ours, weights)`, where the arrays go.
      settings: `settings(ours)`, what attributes of theirs may be, by name.
    """

    marker: str
    places: Callable[[Any, Weights], Iterator[Place]]
    settings: Callable[[Any], dict[str, tuple]]


def transplant(module: Module, source: Any, peers: Mapping[type, Peer]) -> Module:
    """A copy of a module with the weights of theirs; `peers` says what each layer is there."""
    is_module = hasattr(source, "state_dict")
    arrays = source.state_dict() if is_module else source
    if not isinstance(arrays, Mapping):
        raise TypeError(f"source is a {type(source).__name__}: pass a module, or its state_dict()")
    left = {name: np.asarray(as_array(name, value)) for name, value in arrays.items()}
    copied = nnx.clone(module)
    for ours in _layers(copied, peers):
        peer = peers[type(ours)]
        prefix = _prefix(left, peer.marker, type(ours).__name__)
        names = [name for name in left if name.startswith(prefix)]
        part = {name.removeprefix(prefix): left.pop(name) for name in names}
        theirs = source.get_submodule(prefix.removesuffix(".")) if is_module else None
        _fill(ours, Weights(part, prefix, ours, theirs), peer)
    for name in left:
        raise ValueError(f"{name} belongs to no layer: the module has no more of them")
    return copied


def _layers(module: nnx.Module, peers: Mapping[type, Peer]) -> list[nnx.Module]:
    """Those that take weights, in their order."""
    layers: list[Any] = [module]
    if isinstance(module, Stack):
        if module.norms is not None:
            raise TypeError("norms: weights of a norm are not carried over, only those of layers")
        layers = [*([] if module.embed is None else [module.embed]), *module.layers]
    for layer in layers:
        if type(layer) not in peers:
            known = listed(kind.__name__ for kind in peers)
            raise TypeError(f"a {type(layer).__name__} takes no weights from there, only {known}")
    return layers


def _prefix(names: Mapping[str, Any], marker: str, kind: str) -> str:
    """What the names of the next layer's arrays begin with."""
    for name in names:
        if name == marker or name.endswith(f".{marker}"):
            return name.removesuffix(marker)
    raise ValueError(f"no {marker} is left for a {kind}; there is {listed(names)}")


def _fill(ours: Any, weights: Weights, peer: Peer) -> None:
    """Every parameter of a layer, from every array."""
    for path, allowed in peer.settings(ours).items():
        found = weights.setting(path, allowed[0])
        if found not in allowed:
            reason = f"is {shown(found)}, this {weights.ours} is built for {shown(allowed[0])}"
            raise weights.error(path, reason)
    filled: list[nnx.Param] = []
    for parameter, value, name, option in peer.places(ours, weights):
        if parameter is None and value is None:
            continue
        if parameter is None:
            raise weights.error(
                name, f"has no place in this {weights.ours}: build it with {option}"
            )
        if value is None:
            remedy = "" if option is None else f": build it without {option}"
            raise weights.error(name, f"is missing for this {weights.ours}{remedy}")
        if value.shape != parameter.shape:
            reason = (
                f"is {list(value.shape)} here, this {weights.ours} needs {list(parameter.shape)}"
            )
            raise weights.error(name, reason)
        parameter[...] = jnp.asarray(value, parameter.dtype)
        filled.append(parameter)
    for name in weights.arrays:
        raise weights.error(name, f"has no place in a {weights.ours}")
    for path, own in nnx.iter_graph(ours):
        if isinstance(own, nnx.Param) and not any(own is each for each in filled):
            name = ".".join(map(str, path))
            raise weights.error(
                name, f"of this {weights.ours} has no weights there: build it without"
            )


# ---- parts that their layers share

EDGES = "edge_features=..."
BIAS = "use_bias=True"
VALUE_BIAS = "use_value_bias=True"
LINEAR = 'residual="linear"'
PAIR = "in_features=(receivers, senders)"


def kernel_of(projection: Any) -> nnx.Param | None:
    return None if projection is None else projection.kernel


def combined(layer: Any, flat: np.ndarray | None) -> np.ndarray | None:
    """Numbers of all heads side by side, [..., H·C], as the layer combines its heads."""
    if flat is None or layer.output.combine == "concat":
        return flat
    return flat.reshape(*flat.shape[:-1], layer.num_heads, -1).mean(-2)


def summed(*parts: np.ndarray | None) -> np.ndarray | None:
    """Of those that there are."""
    there = [part for part in parts if part is not None]
    return np.sum(there, axis=0) if there else None


def additive(
    layer: Any, read: Weights, one: str, pair: tuple[str, str], vectors: tuple[str, str]
) -> Iterator[Place]:
    """GAT: one projection, or one for the senders and one for the receivers; and the halves of a, in the same order."""
    send, receive = (f"{name}.weight" for name in pair)
    paired = getattr(layer, "receiver_projection", None)
    if paired is None:
        read.refuse(send, f"is of a table of senders: build it with {PAIR}")
        send = f"{one}.weight"
    yield Place(layer.projection.kernel, read.heads(send, layer.num_heads), send)
    yield Place(kernel_of(paired), read.heads(receive, layer.num_heads), receive, PAIR)
    for parameter, name in zip((layer.sender_vector, layer.receiver_vector), vectors, strict=True):
        yield Place(parameter, first(read.get(name)), name)
    yield Place(layer.score_bias, None, "a bias in the score", "use_score_bias=True")


def dynamic(
    layer: Any,
    read: Weights,
    pair: tuple[str, str],
    vector: str,
    sent: np.ndarray | None,
    received: np.ndarray | None,
) -> Iterator[Place]:
    """GATv2: two projections, which may be one, whose biases meet in the score, where values have none of their own."""
    send, receive = (f"{name}.weight" for name in pair)
    kernel, other = (read.heads(name, layer.num_heads) for name in (send, receive))
    if layer.receiver_projection is None and kernel is not None and other is not None:
        if not np.array_equal(kernel, other):
            raise read.error(receive, f"differs from {send}: build it without share_weights=True")
        other = None
    yield Place(layer.sender_projection.kernel, kernel, send)
    yield Place(kernel_of(layer.receiver_projection), other, receive)
    yield Place(layer.vector, first(read.get(vector)), vector)
    in_score = summed(sent, received)
    if (values := layer.sender_projection.bias) is not None:
        yield Place(values, per_head(layer, sent), f"{pair[0]}.bias", VALUE_BIAS)
        shared = layer.receiver_projection is None and received is not None
        in_score = np.zeros_like(received) if shared else received
    yield Place(layer.score_bias, per_head(layer, in_score), f"{pair[0]}.bias", BIAS)


def per_head(layer: Any, flat: np.ndarray | None) -> np.ndarray | None:
    """[H·C] as [H, C]."""
    return None if flat is None else flat.reshape(layer.num_heads, -1)


def left_for_output(of_values: nnx.Param | None, bias: np.ndarray | None) -> np.ndarray | None:
    """What the bias of their values adds to that of our output: nothing where our values have it."""
    return bias if of_values is None or bias is None else np.zeros_like(bias)


def first(vector: np.ndarray | None) -> np.ndarray | None:
    """[1, H, C] as [H, C]."""
    return None if vector is None else vector[0]


def _linear(layer: Any, read: Weights) -> Iterator[Place]:
    yield Place(layer.projection.kernel, read.heads("weight", 1), "weight")
    yield Place(layer.output.bias, read.get("bias"), "bias", BIAS)


LINEAR_LAYER = Peer("weight", _linear, lambda layer: {})
