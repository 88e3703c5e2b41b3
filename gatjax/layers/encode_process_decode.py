"""Stacks of graph network blocks: encode, process, decode.

Write the parts as modules or as functions at module level. A lambda made anew with every model is a new function to
`jax.jit`, which then compiles every model anew.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Unpack, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.graph.ids import require_dense
from gatjax.layers.checks import check_dtypes, check_widths
from gatjax.layers.counted import AllParts, apply_to_rows, check_counted, check_updates

FEATURES = ("edges", "nodes", "globals")


class GraphIndependent(nnx.Module):
    """Edges, nodes and globals, each by a function of their own: the usual encoder and decoder.

    ```
    e'_k = f^e(e_k)        v'_i = f^v(v_i)        u' = f^u(u)
    ```

    Args:
      edges: f^e, a function or module on rows; None leaves the edges as they are.
      nodes: f^v, likewise.
      globals: f^u, likewise.

    >>> from gatjax.graph import build_graph
    >>> GraphIndependent(nodes=jnp.abs)(build_graph([], [], jnp.array([[-1.0]]))).nodes.tolist()
    [[1.0]]
    """

    def __init__(
        self,
        *,
        edges: Callable[..., Any] | None = None,
        nodes: Callable[..., Any] | None = None,
        globals: Callable[..., Any] | None = None,
    ):
        check_updates(edges=edges, nodes=nodes, globals=globals)
        self.edges = edges
        self.nodes = nodes
        self.globals = globals

    def __call__(self, graph: GraphsTuple, **parts: Unpack[AllParts]) -> GraphsTuple:
        """The graph with new edges, nodes and globals.

        Args:
          graph: one graph or a batch.
          **parts: `edge_mask`, `node_mask` and `graph_mask`, as in `GraphNetwork`: what takes no part is handed to no
            function, and is 0 afterwards where it is updated. Nothing is aggregated, so `edge_weight` enters nowhere.
        """
        edges = nodes = graphs = None
        if any(part is not None for part in parts.values()):
            if self.nodes is not None:
                require_dense(graph, "mask")
            (_, _, edges, *_), nodes, graphs = check_counted(graph, **parts)
        new = {}
        for name, counted in zip(FEATURES, (edges, nodes, graphs), strict=True):
            function = getattr(self, name)
            if function is not None:
                new[name] = apply_to_rows(function, counted, getattr(graph, name))
        return graph._replace(**new)


class EncodeProcessDecode(nnx.Module):
    """Encode once, apply one core several times, decode.

    ```
    G_0 = encoder(G)        G_t = core(G_0 ‖ G_{t-1})        G' = decoder(G_T)
    ```

    ‖ joins nodes, edges and globals, each along its last axis, so the core reads twice the encoder's widths and
    gives back the encoder's. What the encoder leaves None is not carried from step to step, and what the core leaves
    alone stays as it was encoded.

    Args:
      encoder: a module graph -> graph, such as `GraphIndependent`.
      core: a module graph -> graph, such as `GraphNetwork`; one set of parameters for all steps.
      decoder: a module graph -> graph.
      num_steps: T, which a call may change: a larger graph may need more steps.

    Raises:
      ValueError: fewer than one step.

    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import GraphNetwork
    >>> def add(v, received, u): return v[:, :1] + received
    >>> def send(e, s, r, u): return s[:, 1:]
    >>> model = EncodeProcessDecode(
    ...     GraphIndependent(), GraphNetwork(send, add), GraphIndependent(), num_steps=2)
    >>> graph = build_graph([0, 1], [1, 2], jnp.array([[1.0], [0.0], [0.0]]))
    >>> model(graph).nodes.ravel().tolist()
    [1.0, 1.0, 1.0]

    Battaglia et al., Relational inductive biases, deep learning, and graph networks, 2018, section 4.3.
    """

    def __init__(
        self,
        encoder: Callable[..., GraphsTuple],
        core: Callable[..., GraphsTuple],
        decoder: Callable[..., GraphsTuple],
        *,
        num_steps: int,
    ):
        check_widths(num_steps=num_steps)
        self.encoder = encoder
        self.core = core
        self.decoder = decoder
        self.num_steps = num_steps

    def __call__(
        self, graph: GraphsTuple, *, num_steps: int | None = None, **parts: Unpack[AllParts]
    ) -> GraphsTuple:
        """The decoded graph, after `num_steps` of the core.

        Args:
          graph: one graph or a batch.
          num_steps: as many as the model was built with by default.
          **parts: `edge_mask`, `edge_weight`, `node_mask` and `graph_mask`, as in `GraphNetwork`; encoder, core and
            decoder get those that are given. One that takes no `graph_mask`, such as an `AttentionBlock`, gets a
            `node_mask` without the nodes of those graphs.
        """
        given = _given(parts)
        *_, latent = self._inputs_of_core(graph, given, num_steps)
        return self.decoder(latent, **_told(self.decoder, latent, given))

    def attention(
        self, graph: GraphsTuple, *, num_steps: int | None = None, **parts: Unpack[AllParts]
    ) -> tuple[Float[Array, "E *H"], ...]:
        """The attention of the core in every step; the arguments are those of the call."""
        given = _given(parts)
        *inputs, _ = self._inputs_of_core(graph, given, num_steps)
        told = _told(self.core, graph, given)
        return tuple(self.core.attention(joined, **told) for joined in inputs)

    def _inputs_of_core(
        self, graph: GraphsTuple, parts: dict[str, Any], num_steps: int | None
    ) -> list[GraphsTuple]:
        """What the core reads in every step, and what it returns in the last."""
        num_steps = self.num_steps if num_steps is None else num_steps
        check_widths(num_steps=num_steps)
        encoded = latent = self.encoder(graph, **_told(self.encoder, graph, parts))
        told = _told(self.core, encoded, parts)
        inputs = []
        for _ in range(num_steps):
            joined = _join(encoded, latent)
            latent = self.core(joined, **told)
            untouched = [
                name for name in FEATURES if getattr(latent, name) is getattr(joined, name)
            ]
            latent = latent._replace(**{name: getattr(encoded, name) for name in untouched})
            inputs.append(joined)
        return [*inputs, latent]


def _given(parts: AllParts) -> dict[str, Any]:
    """Without what is None, so that an encoder without masks serves where there are none."""
    return {name: part for name, part in parts.items() if part is not None}


def _told(part: Callable, graph: GraphsTuple, parts: dict[str, Any]) -> dict[str, Any]:
    """What a part of the model is told: where it knows no mask of graphs, which of their nodes take part."""
    if "graph_mask" not in parts or _takes(part, "graph_mask"):
        return parts
    nodes = check_counted(graph, **parts).nodes
    others = {name: given for name, given in parts.items() if name != "graph_mask"}
    return others | {"node_mask": nodes}


def _takes(function: Callable, name: str) -> bool:
    """Whether a function has an argument of the name, be it one of `**parts: Unpack[...]`."""
    *_, last = parameters = list(inspect.signature(function).parameters.values())
    if last.kind is last.VAR_KEYWORD:
        known = get_args(last.annotation)
        return not known or name in known[0].__annotations__
    return any(each.name == name for each in parameters)


class RowMLP(nnx.Module):
    """A multilayer perceptron on rows that are joined side by side: an update for every place of a block.

    ```
    y = W_L relu(... relu(W_1 [x_1 ‖ x_2 ‖ ...] + b_1) ...) + b_L
    ```

    Args:
      widths: of the input, of all parts together, of the hidden layers, and of the output.
      dtype: of the computation; promoted from rows and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    >>> mlp = RowMLP([5, 16, 2], rngs=nnx.Rngs(0))
    >>> mlp(jnp.ones((7, 3)), None, jnp.ones((7, 2))).shape
    (7, 2)
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        if not isinstance(widths, Sequence) or len(widths) < 2:
            raise ValueError(
                f"widths must be those of the input and the output at least, got {widths!r}"
            )
        check_dtypes(dtype=dtype, param_dtype=param_dtype)
        check_widths(**{f"widths[{index}]": width for index, width in enumerate(widths)})
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.layers = nnx.List(
            nnx.Linear(*pair, dtype=dtype, param_dtype=param_dtype, rngs=rngs) for pair in pairs
        )

    def __call__(self, *rows: Float[ArrayLike, "rows _"] | None) -> Float[Array, "rows out"]:
        """The output for rows that are joined side by side; None is no part."""
        *hidden, last = self.layers
        parts = [jnp.asarray(part) for part in rows if part is not None]
        shapes, width = [list(part.shape) for part in parts], self.layers[0].in_features
        if len({part.shape[:-1] for part in parts}) > 1:
            raise ValueError(f"the rows must be equally many in all parts, got {shapes}")
        if sum(part.shape[-1] for part in parts) != width:
            raise ValueError(
                f"the rows must be {width} wide together, the first of widths, got {shapes}"
            )
        x = jnp.concatenate(parts, axis=-1)
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


def _join(one: GraphsTuple, other: GraphsTuple) -> GraphsTuple:
    """Both graphs' features side by side, where the first has any."""
    names = [name for name in FEATURES if getattr(one, name) is not None]
    join = lambda x, y: jnp.concatenate([jnp.asarray(x), jnp.asarray(y)], axis=-1)
    return one._replace(
        **{name: jax.tree.map(join, getattr(one, name), getattr(other, name)) for name in names}
    )
