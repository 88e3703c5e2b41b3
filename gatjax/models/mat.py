"""The molecule attention transformer."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.readout import Pool
from gatjax.graph.check import Parts
from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.dropout import Dropout, DropoutRates
from gatjax.layers.inputs import node_features
from gatjax.layers.mat import MATConv
from gatjax.layers.options import listed
from gatjax.layers.pooling import GraphReadout
from gatjax.models.options import MATOptions
from gatjax.models.stack import Stack

# What the linear parts of a model share with its attention.
_LINEAR_OPTIONS = ("use_bias", "kernel_init", "dtype", "param_dtype")


class MATBlock(nnx.Module):
    """A pre-norm block: attention, then dense layers on each node alone, each added to what comes in.

    ```
    z_i  = h_i + W_o MATConv(norm(h))_i
    h'_i = z_i + dense(norm(z_i))
    ```
    """

    def __init__(
        self,
        features: int,
        *,
        dense_layers: int,
        dropout_rate: DropoutRates,
        linear: dict[str, Any],
        rngs: nnx.Rngs,
        **options: Any,
    ):
        norm = {name: linear[name] for name in ("dtype", "param_dtype") if name in linear}
        dense = lambda: nnx.Linear(features, features, **linear, rngs=rngs)
        self.attention_norm = nnx.LayerNorm(features, **norm, rngs=rngs)
        rates = dropout_rate._replace(inputs=0.0)
        self.conv = MATConv(features, features, dropout_rate=rates, **options, rngs=rngs)
        self.mix = dense()
        self.dense_norm = nnx.LayerNorm(features, **norm, rngs=rngs)
        self.dense = nnx.List([dense() for _ in range(dense_layers)])
        self.dropout = Dropout(DropoutRates(inputs=dropout_rate.inputs), rngs=rngs)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
        **parts: Unpack[Parts],
    ) -> GraphsTuple:
        """The graph with new node features; the arguments are those of `MATConv`."""
        how = {"deterministic": deterministic, "rngs": rngs}
        x = jnp.asarray(node_features(graph))
        attended = self.conv(self._normed(graph), **parts, **how).nodes
        x += self._drop(self.mix(jnp.asarray(attended)), **how)
        z = self.dense_norm(x)
        for layer in self.dense:
            z = self._drop(jax.nn.relu(layer(z)), **how)
        return graph._replace(nodes=x + z if self.dense else x)

    def attention(self, graph: GraphsTuple, **parts: Unpack[Parts]) -> Float[Array, "E H"]:
        """The mixed matrix, aligned with the graph's edges."""
        return self.conv.attention(self._normed(graph), **parts)

    def _normed(self, graph: GraphsTuple) -> GraphsTuple:
        return graph._replace(nodes=self.attention_norm(jnp.asarray(graph.nodes)))

    def _drop(self, x: Array, deterministic: bool | None, rngs: nnx.Rngs | None) -> Array:
        return jnp.asarray(self.dropout.inputs(x, self.dropout.keys(deterministic, rngs)))


class MATReadout(GraphReadout):
    """The last norm, and the readout."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(in_features, out_features, rngs=rngs, **options)
        norm = {name: options[name] for name in ("dtype", "param_dtype") if name in options}
        self.norm = nnx.LayerNorm(in_features, **norm, rngs=rngs)

    def __call__(self, graph: GraphsTuple, **options: Any) -> GraphsTuple:
        nodes = self.norm(jnp.asarray(node_features(graph)))
        return super().__call__(graph._replace(nodes=nodes), **options)


@listed(MATOptions, MATConv)
def MAT(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 4,
    num_heads: int = 4,
    dense_layers: int = 1,
    pool: Pool = "mean",
    dropout_rate: float | DropoutRates = 0.0,
    rngs: nnx.Rngs,
    **layer_options: Unpack[MATOptions],
) -> Stack:
    """Molecule attention transformer: a linear embedding, pre-norm blocks of `MATConv` and dense layers, a readout.

    ```
    z_i  = h_i + W_o MATConv(norm(h))_i
    h'_i = z_i + dense(norm(z_i))
    u_g  = W pool_{i in g}(norm(h_i)) + b
    ```

    `model(graph).globals` `[G, out_features]` are the outputs, `model.attention(graph)` the mixed matrices. A molecule
    is a fully connected graph with self-edges, whose edges are those of `MATConv`; `check_complete` refuses any other,
    before `jax.jit`. A dummy node, which stands first, has a column of its own among the features, so that a model made
    for molecules without one refuses those that have it.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output, of each graph.
      hidden_features: width of every block.
      num_layers: how many blocks.
      num_heads: H of each.
      dense_layers: how many dense layers each block has, as wide as it, a ReLU after each.
      pool: "mean", "sum", "max", or "first", the dummy node.
      dropout_rate: of the mixed weights, or `DropoutRates`, of which `inputs` acts on what the attention and each dense
        layer of a block adds. The authors' program has one rate for all: `DropoutRates(inputs=0.1, attention=0.1)`.
      rngs: random keys.
      **layer_options: those of `MATConv`, such as `weights`, `trainable_weights` and `kernel`.

    >>> from gatjax.graph import build_graph
    >>> edges = {"distance": jnp.zeros(1), "adjacency": jnp.ones(1)}
    >>> graph = build_graph([0], [0], jnp.ones((1, 5)), edges=edges)
    >>> model = MAT(5, 2, rngs=nnx.Rngs(0))
    >>> model(graph).globals.shape, [p.shape for p in model.attention(graph)]
    ((1, 2), [(1, 4), (1, 4), (1, 4), (1, 4)])

    Maziarka et al., Molecule Attention Transformer, 2020. Their program divides by the unbiased deviation in its norms,
    and drops of the embedding, too.
    """
    check_sizes(num_layers=num_layers, hidden_features=hidden_features)
    check_sizes(dense_layers=dense_layers or None)
    rates = Dropout(dropout_rate, rngs=rngs).rates
    linear: dict[str, Any] = {
        name: value for name, value in layer_options.items() if name in _LINEAR_OPTIONS
    }
    embed = NodeLinear(in_features, hidden_features, rngs=rngs, **linear)
    blocks = [
        MATBlock(
            hidden_features,
            num_heads=num_heads,
            dense_layers=dense_layers,
            dropout_rate=rates,
            linear={"kernel_init": nnx.initializers.glorot_uniform(), **linear},
            rngs=rngs,
            **layer_options,
        )
        for _ in range(num_layers)
    ]
    readout = MATReadout(hidden_features, out_features, pool=pool, rngs=rngs, **linear)
    return Stack([*blocks, readout], activation=_as_it_is, embed=embed)


def _as_it_is(x: Array) -> Array:
    return x
