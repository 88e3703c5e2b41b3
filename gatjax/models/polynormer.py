"""Polynormer: attention multiplied by gates, over the edges first, then over all nodes."""

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.readout import Pool
from gatjax.graph.check import Parts
from gatjax.layers.all_nodes import GraphLinearAttention
from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.dropout import Dropout, DropoutRates
from gatjax.layers.gat import GATConv
from gatjax.layers.inputs import node_features
from gatjax.models.transformer import output_layer


class _Gated(nnx.Module):
    """What both kinds of blocks have: attention, a linear gate, a norm, and a number β for each feature."""

    def __init__(self, attend: Any, features: int, rates: DropoutRates, numbers: dict[str, Any]):
        self.attend = attend
        self.gate = nnx.Linear(features, features, **numbers)
        self.norm = nnx.LayerNorm(features, **numbers)
        self.share = nnx.Param(jnp.zeros(features, numbers["param_dtype"]))
        self.dropout = Dropout(DropoutRates(inputs=rates.inputs), rngs=numbers["rngs"])

    def beta(self, dtype: DTypeLike) -> Float[Array, "1 features"]:
        return jax.nn.sigmoid(self.share[...]).astype(dtype)[None]

    def kept(self, rows: Array, how: dict[str, Any]) -> Array:
        """ReLU and dropout."""
        keys = self.dropout.keys(how["deterministic"], how["rngs"])
        return jnp.asarray(self.dropout.inputs(jax.nn.relu(rows), keys))


class LocalGate(_Gated):
    """A block on the edges: h'_i = (1 - β) ⊙ norm(ReLU(W h_i + b) ⊙ x_i) + β ⊙ x_i, x = drop(ReLU(attend(h)))."""

    def __call__(self, graph: GraphsTuple, *, how: dict[str, Any], **parts: Unpack[Parts]) -> Any:
        """The graph with new node features."""
        rows = jnp.asarray(node_features(graph))
        x = self.kept(jnp.asarray(self.attend(graph, **parts, **how).nodes), how)
        beta = self.beta(x.dtype)
        gated = self.norm(jax.nn.relu(self.gate(rows)) * x)
        return graph._replace(nodes=(1 - beta) * gated + beta * x)


class WholeGate(_Gated):
    """A block on all nodes: h'_i = drop(ReLU(W_o ((W h_i + b + β) ⊙ norm(attend(h)_i)) + b_o))."""

    def __init__(self, attend: Any, features: int, rates: DropoutRates, numbers: dict[str, Any]):
        super().__init__(attend, features, rates, numbers)
        self.mix = nnx.Linear(features, features, **numbers)

    def __call__(self, graph: GraphsTuple, *, how: dict[str, Any], **parts: Unpack[Parts]) -> Any:
        """The graph with new node features."""
        rows = jnp.asarray(node_features(graph))
        x = self.norm(jnp.asarray(self.attend(graph, **parts, **how).nodes))
        gate = self.gate(rows)
        return graph._replace(nodes=self.kept(self.mix((gate + self.beta(x.dtype)) * x), how))


class Polynormer(nnx.Module):
    """Attention over the edges, multiplied by gates; then linear attention over all nodes, multiplied by gates.

    ```
    x_i  = drop(ReLU(local(h)_i + W_r h_i + b_r))
    h'_i = (1 - β) ⊙ norm(ReLU(W h_i + b) ⊙ x_i) + β ⊙ x_i            over the edges
    s_i  = norm(Σ_l h_i^(l))
    h'_i = drop(ReLU(W_o ((W h_i + b + β) ⊙ norm(linear(h)_i)) + b_o))    over all nodes, from s
    ```

    with β between 0 and 1, learned, one per feature and block. After L blocks each output is a polynomial of the inputs
    whose degree grows as 2^L. Outputs are `model(graph).nodes`, or `model(graph).globals` where there is a `pool`. The
    graph must bring its self-loops where the local layer wants them.

    Args:
      in_features, out_features, hidden_features, num_heads, pool, dtype, param_dtype, rngs: as in `GraphTransformer`.
      local_layers: blocks over the edges.
      whole_layers: blocks over all nodes.
      local: the layer on edges, `local(in_features, out_features, num_heads=..., residual="linear", rngs=rngs)`.
      dropout_rate: of the local attention weights, or `DropoutRates`, of which `inputs` acts on the embedding and on
        what leaves ReLU.

    >>> from gatjax.graph import build_graph
    >>> graph, model = build_graph([0, 1], [1, 2], jnp.eye(3)), Polynormer(3, 2, rngs=nnx.Rngs(0))
    >>> model(graph).nodes.shape, model(graph, local_only=True).nodes.shape, len(model.attention(graph))
    ((3, 2), (3, 2), 3)

    Deng et al., Polynormer: Polynomial-Expressive Graph Transformer in Linear Time, ICLR 2024. Their program shares
    query and key, and W_o among its blocks; its first epochs train with `local_only=True`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden_features: int = 64,
        local_layers: int = 3,
        whole_layers: int = 2,
        num_heads: int = 4,
        local: Callable[..., nnx.Module] = GATConv,
        dropout_rate: float | DropoutRates = 0.0,
        pool: Pool | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        width = hidden_features
        check_sizes(local_layers=local_layers, whole_layers=whole_layers, hidden_features=width)
        rates = Dropout(dropout_rate, rngs=rngs).rates
        numbers: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        shape: dict[str, Any] = {"num_heads": num_heads, **numbers}
        inside = rates._replace(inputs=0.0)
        near = lambda: local(width, width, residual="linear", dropout_rate=inside, **shape)
        far = lambda: GraphLinearAttention(width, width, feature_map="sigmoid", **shape)
        rest = width, rates, numbers
        self.embed = NodeLinear(in_features, width, **numbers)
        self.dropout = Dropout(DropoutRates(inputs=rates.inputs), rngs=rngs)
        self.local = nnx.List([LocalGate(near(), *rest) for _ in range(local_layers)])
        self.norm = nnx.LayerNorm(width, **numbers)
        self.whole = nnx.List([WholeGate(far(), *rest) for _ in range(whole_layers)])
        outputs = width, out_features, pool, numbers
        self.local_output, self.output = output_layer(*outputs), output_layer(*outputs)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        local_only: bool = False,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[Parts],
    ) -> GraphsTuple:
        """The graph with new node features; the arguments are those of `GATConv`.

        With `local_only` the blocks over all nodes are left out, and an output of its own is taken.
        """
        how = {"deterministic": deterministic, "rngs": rngs}
        graph = self._embedded(graph, how, **parts)
        total: Any = 0
        for layer in self.local:
            graph = layer(graph, how=how, **parts)
            total += graph.nodes
        if local_only:
            return self.local_output(graph._replace(nodes=total), **parts, **how)
        graph = graph._replace(nodes=self.norm(total))
        for layer in self.whole:
            graph = layer(graph, how=how, **parts)
        return self.output(graph, **parts, **how)

    def attention(
        self, graph: GraphsTuple, **parts: Unpack[Parts]
    ) -> tuple[Float[Array, "E H"], ...]:
        """The weights of every local layer that has them, aligned with the graph's edges."""
        how: dict[str, Any] = {"deterministic": True, "rngs": None}
        graph, weights = self._embedded(graph, how, **parts), []
        for layer in self.local:
            if hasattr(layer.attend, "attention"):
                weights.append(layer.attend.attention(graph, **parts))
            graph = layer(graph, how=how, **parts)
        return tuple(weights)

    def _embedded(
        self, graph: GraphsTuple, how: dict[str, Any], **parts: Unpack[Parts]
    ) -> GraphsTuple:
        graph = self.embed(graph, **parts, **how)
        keys = self.dropout.keys(how["deterministic"], how["rngs"])
        return graph._replace(nodes=self.dropout.inputs(node_features(graph), keys))
