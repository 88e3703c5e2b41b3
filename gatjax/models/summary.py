"""What a model is made of, layer by layer, and the memory that it takes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jraph import GraphsTuple

from gatjax.graph.typed import TypedGraph
from gatjax.training.memory import Memory, estimate_memory

Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One line of a `Summary`.

    Attributes:
      path: where the module is, such as "layers.0.projection"; "" for the model itself.
      type: the name of its class.
      output: shape of each array that its first call returned; of a graph, of its features. Empty for a module that is
        not called, such as one whose parameters others read.
      parameters: how many numbers its `nnx.Param` are, those of the modules inside included.
      bytes: of all its variables, such as running statistics too; without random keys.
    """

    path: str
    type: str
    output: dict[str, tuple[int, ...]]
    parameters: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """A model in numbers; `str` is a table, and `dataclasses.asdict` gives what JSON takes.

    Attributes:
      layers: in the order in which they are called, the model itself first.
      parameters: how many numbers its `nnx.Param` are.
      bytes: of all its variables.
      forward: the memory of a call without dropout; None on a device whose compiler does not tell.
      step: that of the gradient of its parameters, with dropout; an optimizer comes on top.
    """

    layers: tuple[LayerSummary, ...]
    parameters: int
    bytes: int
    forward: Memory | None
    step: Memory | None

    def __str__(self) -> str:
        rows = [("path", "type", "output", "parameters", "bytes")]
        for each in self.layers:
            shapes = ", ".join(
                f"{name} {list(shape)}".strip() for name, shape in each.output.items()
            )
            size = f"{each.parameters:,}", f"{each.bytes:,}"
            rows.append((each.path or ".", each.type, shapes, *size))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(_align, row, widths, (0, 0, 0, 1, 1))).rstrip() for row in rows]
        lines.append(f"{self.parameters:,} parameters, {self.bytes:,} bytes with all variables")
        for name, memory in (("forward", self.forward), ("training step", self.step)):
            if memory is not None:
                lines.append(
                    f"{name}: {memory.total:,} bytes (arguments {memory.arguments:,}, outputs "
                    f"{memory.outputs:,}, temporaries {memory.temporaries:,})"
                )
        return "\n".join(lines)

    __repr__ = __str__


def summary(model: nnx.Module, *inputs: Any, **options: Any) -> Summary:
    """The layers of a model with shapes, parameters and bytes, and the memory of a call and of a training step.

    Nothing is computed: the call and its gradient are compiled, and the compiler says what they take. The model and its
    class stay as they are.

    Args:
      model: any NNX module, such as a layer, a model, or one of your own.
      *inputs: what it is called with, such as a graph.
      **options: likewise, by name, such as masks.

    Returns:
      The numbers; `print` shows them as a table.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GATConv
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> print(summary(GATConv(3, 8, num_heads=2, rngs=nnx.Rngs(0)), graph))
    path        type            output        parameters  bytes
    .           GATConv         nodes [3, 8]          48    192
    projection  HeadProjection  [3, 2, 4]             24     96
    output      HeadOutput      [3, 8]                 8     32
    48 parameters, 192 bytes with all variables
    forward: ... bytes (arguments ..., outputs ..., temporaries ...)
    training step: ... bytes (arguments ..., outputs ..., temporaries ...)
    """
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    leaves, structure = jax.tree.flatten((inputs, options))
    traced = {index: leaf for index, leaf in enumerate(leaves) if _is_array(leaf)}
    calls: dict[Path, _Call] = {}

    def call(parameters: nnx.State, rest: nnx.State, traced: dict[int, Any], mode: str) -> Any:
        copied = nnx.merge(graphdef, parameters, rest, copy=True)
        getattr(copied, mode)()
        _record(copied)
        given = [traced.get(index, leaf) for index, leaf in enumerate(leaves)]
        inputs, options = jax.tree.unflatten(structure, given)
        return copied(*inputs, **options)

    def forward(parameters: nnx.State, rest: nnx.State, traced: dict[int, Any]) -> Any:
        return call(parameters, rest, traced, "eval")

    def loss(parameters: nnx.State, rest: nnx.State, traced: dict[int, Any]) -> jax.Array:
        outputs = jax.tree.leaves(call(parameters, rest, traced, "train"))
        squares = [jnp.square(x).mean() for x in outputs if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(squares, start=jnp.zeros(()))

    arguments = parameters, rest, traced
    token = _CALLS.set(calls)
    try:
        of_forward = _memory(forward, *arguments)
        _CALLS.set({})
        of_step = _memory(jax.grad(loss, allow_int=True), *arguments)
    finally:
        _CALLS.reset(token)
    layers = tuple(_lines(model, calls))
    return Summary(layers, layers[0].parameters, layers[0].bytes, of_forward, of_step)


class _Call(NamedTuple):
    """The first call of a module: when it began, and what it returned."""

    start: int
    output: dict[str, tuple[int, ...]]


_CALLS: ContextVar[dict[Path, _Call]] = ContextVar("calls")


def _record(model: nnx.Module) -> None:
    """Let the modules of a copy note what they return. Their classes become subclasses, which no other object has."""
    for path, module in nnx.iter_modules(model):
        if callable(module):
            setattr(module, _PATH, path)
            object.__setattr__(module, "__class__", _recording(type(module)))


_PATH = "_path_in_summary"


@functools.cache
def _recording(kind: type) -> type:
    @functools.wraps(kind.__call__)
    def noting(self: Any, *inputs: Any, **options: Any) -> Any:
        calls = _CALLS.get()
        start = next(_START)
        output = kind.__call__(self, *inputs, **options)
        calls.setdefault(getattr(self, _PATH), _Call(start, _shapes(output)))
        return output

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__")}
    return type(kind)(kind.__name__, (kind,), names | {"__call__": noting})


_START = count()


def _memory(function: Callable[..., Any], *arguments: Any) -> Memory | None:
    try:
        return estimate_memory(function, *arguments)
    except NotImplementedError:
        return None


def _lines(model: nnx.Module, calls: dict[Path, _Call]) -> Iterator[LayerSummary]:
    """Modules that are called or have variables, in the order of the calls."""
    modules = [(path, module) for path, module in nnx.iter_modules(model) if not _is_list(module)]

    def order(entry: tuple[Path, nnx.Module]) -> tuple[int, list[str]]:
        """A module that is not called stands after the one that it is in."""
        path = entry[0]
        known = next((path[:end] for end in range(len(path), -1, -1) if path[:end] in calls), None)
        return -1 if known is None else calls[known].start, list(map(str, path))

    for path, module in sorted(modules, key=order):
        state = nnx.state(module)
        variables = nnx.filter_state(state, nnx.Not(nnx.RngState))
        own = jax.tree.leaves(nnx.filter_state(state, nnx.Param))
        held = jax.tree.leaves(variables)
        if held or path in calls:
            yield LayerSummary(
                path=".".join(map(str, path)),
                type=type(module).__name__,
                output=calls[path].output if path in calls else {},
                parameters=sum(int(leaf.size) for leaf in own),
                bytes=sum(int(leaf.nbytes) for leaf in held),
            )


def _shapes(output: Any) -> dict[str, tuple[int, ...]]:
    features = jax.tree.map(_features, output, is_leaf=_is_graph)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): tuple(np.shape(leaf))
        for path, leaf in jax.tree.leaves_with_path(features)
    }


def _is_graph(output: Any) -> bool:
    return isinstance(output, GraphsTuple | TypedGraph)


def _features(output: Any) -> Any:
    """Those of a graph, and everything else as it is."""
    if not _is_graph(output):
        return output
    names = ("nodes", "edges", "globals") if isinstance(output, GraphsTuple) else ("nodes",)
    return {name: getattr(output, name) for name in names}


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_list(module: nnx.Module) -> bool:
    return isinstance(module, nnx.List | nnx.Dict)


def _align(text: str, width: int, right: int) -> str:
    return text.rjust(width) if right else text.ljust(width)
