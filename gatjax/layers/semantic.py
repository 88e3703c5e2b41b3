"""Attention over the rows that a node has of several relations or meta-paths, with its parameters."""

from typing import Any, Unpack

from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.semantic import Semantic, check_semantic, mix_paths, semantic_weights
from gatjax.graph.check import NodeMask
from gatjax.layers.checks import check_widths
from gatjax.layers.options import ParameterOptions, listed
from gatjax.layers.parts import Dense, Setup


class SemanticAttention(nnx.Module):
    """`semantic_attention` with its parameters: rows [N, P, F] of P paths in, [N, F] out.

    ```
    w_ip = q · tanh(z_ip W + b)
    β_ip = softmax over p of w_ip, averaged over the nodes of i's graph before ("graph") or as it is ("node")
    z_i  = Σ_p β_ip z_ip
    ```

    Args:
      features: F.
      semantic: "graph", one β for all nodes of a graph, or "node", one for each node.
      semantic_features: width of the comparison, Q.
      kernel_init, dtype, param_dtype, rngs: as in `GATConv`.

    Raises:
      ValueError: no width, or an unknown `semantic`.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph, rows = build_graph([], [], num_nodes=2), jnp.ones((2, 3, 4))
    >>> attention = SemanticAttention(4, rngs=nnx.Rngs(0))
    >>> attention(graph, rows).shape, attention.weights(graph, rows).shape
    ((2, 4), (2, 3))

    Wang et al., Heterogeneous Graph Attention Network, WWW 2019.
    """

    @listed(ParameterOptions, Setup)
    def __init__(
        self,
        features: int,
        *,
        semantic: Semantic = "graph",
        semantic_features: int = 128,
        rngs: nnx.Rngs,
        **options: Unpack[ParameterOptions],
    ):
        check_semantic(semantic)
        check_widths(features=features, semantic_features=semantic_features)
        heads = Setup(features, semantic_features, rngs, **options).heads
        self.semantic: Semantic = semantic
        self.hidden = Dense(features, semantic_features, heads, use_bias=True)
        self.query = heads.vector()

    def __call__(
        self, graph: GraphsTuple, rows: Float[Array, "N P F"], *, node_mask: NodeMask = None
    ) -> Float[Array, "N F"]:
        """The paths' rows by their weights.

        Args:
          graph: says which graph each node belongs to.
          rows: z, what each node has made of each path.
          node_mask: nodes that are in the mean, [N]; all by default. The others have zeros.
        """
        return mix_paths(self.weights(graph, rows, node_mask=node_mask), rows, node_mask)

    def weights(
        self, graph: GraphsTuple, rows: Float[Array, "N P F"], *, node_mask: NodeMask = None
    ) -> Float[Array, "N P"]:
        """β; the arguments are those of the call."""
        linear = self.hidden.linear(rows.dtype)
        known: Any = linear.kernel, linear.bias, self.query[...][0].astype(rows.dtype)
        return semantic_weights(graph, rows, *known, semantic=self.semantic, node_mask=node_mask)
