"""Attention among the neighbours by each meta-path, then attention over the paths (HAN)."""

from functools import partial
from typing import Unpack

import jax
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.semantic import Semantic
from gatjax.graph.check import EdgeMask, NodeMask, SideParts
from gatjax.layers.checks import check_finite, check_widths
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.gat import additive_terms
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionBlockOptions, listed, parameter_options
from gatjax.layers.parts import HeadOutput, Setup, sender_value
from gatjax.layers.relational import (
    RelationProjection,
    additive_rows,
    check_relations,
    relation_pairs,
    relation_vectors,
)
from gatjax.layers.semantic import SemanticAttention
from gatjax.ops.ends import Ends


class HANConv(Conv):
    """Heterogeneous graph attention over P meta-paths: `graph.edges` [E] says by which path each edge joins its ends.

    ```
    α_ij^p = softmax over the edges j -> i of path p of LeakyReLU(a_p · W_p h_i + b_p · W_p h_j) / T
    z_i^p  = ELU(‖_h Σ_j α_ij^p W_p h_j + c_p)
    β_i    = softmax over p of q · tanh(W z_i^p + b), averaged over the nodes before ("graph") or not ("node")
    h'_i   = Σ_p β_ip z_i^p + W_res h_i
    ```

    for every head; α [E, H], z [N, P, out_features], β [N, P]. `attention` gives α and `betas` gives β. Such a graph is
    `merge_types(typed).graph`, where `typed` has one type of nodes, and each path is a relation of it, which `compose`
    finds. Neighbours by a path include the node itself, for whom paths are symmetric: a self-loop of each path is the
    caller's. A node without edges by a path has z_i^p = ELU(c_p).

    All paths share one softmax and one sum over edges. Neither holds E·H·C numbers where it goes by blocks.

    Args:
      in_features, out_features, num_heads, negative_slope, normalize, temperature, block_size, residual, dropout_rate,
        kernel_init, dtype, param_dtype, rngs: as in `GATConv`; the heads are concatenated.
      num_relations: P; the ids are 0, ..., P - 1.
      semantic: "graph", one β for all nodes of a graph, which is the mean of the paper; or "node", one for each node,
        which is the authors' program.
      semantic_features: width of the comparison of paths, Q.
      use_bias: c, one for each path.

    Raises:
      ValueError: no head, path or width, a width that heads do not divide, a rate outside [0, 1), an unknown
        `semantic`; when called, edges that are no relations; when called outside `jax.jit`, an id out of range. Inside,
        its edge is dropped.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1, 2, 0], [1, 0, 0, 2], jnp.eye(3), edges=jnp.array([0, 0, 1, 1]))
    >>> layer = HANConv(3, 8, num_relations=2, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(graph).nodes.shape, layer.attention(graph).shape, layer.betas(graph).shape
    ((3, 8), (4, 2), (3, 2))

    Wang et al., Heterogeneous Graph Attention Network, WWW 2019. The authors' program draws W, b and q from a normal
    distribution of deviation .1; the default here has .10 for W and .12 for q at the widths of the paper.
    """

    @listed(AttentionBlockOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        num_relations: int,
        semantic: Semantic = "graph",
        semantic_features: int = 128,
        negative_slope: float = 0.2,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionBlockOptions],
    ):
        check_widths(num_relations=num_relations)
        check_finite(negative_slope=negative_slope)
        setup = Setup(in_features, out_features, rngs, **options)
        heads, width = setup.heads, setup.widths
        self.num_relations = num_relations
        self.negative_slope = negative_slope
        self.projection = RelationProjection(width.senders, heads, num_relations, None)
        self.receiver_projection = (
            RelationProjection(width.receivers, heads, num_relations, None)
            if setup.paired
            else None
        )
        self.receiver_vector = relation_vectors(heads, num_relations)
        self.sender_vector = relation_vectors(heads, num_relations)
        self.bias = (
            heads.zeros(num_relations, heads.num_heads, heads.features) if setup.use_bias else None
        )
        self.comparison = SemanticAttention(
            out_features,
            semantic=semantic,
            semantic_features=semantic_features,
            rngs=rngs,
            **parameter_options(options),
        )
        self.finish(setup)
        self.output = HeadOutput(setup._replace(use_bias=False))

    @property
    def local(self) -> bool:
        """Paths are compared node by node."""
        return self.comparison.semantic == "node"

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        pairs = relation_pairs(nodes, ends, graph.edges, self.num_relations)
        rows = Rows(None, *additive_rows(self, nodes, keys), None)
        score = partial(additive_terms, negative_slope=self.negative_slope)
        return Mechanism(score, sender_value, rows, None, pairs, self.num_relations)

    def join(
        self, x: Float[Array, "N P H C"], graph: GraphsTuple, node_mask: NodeMask
    ) -> Float[Array, "N H C"]:
        """The paths by their weights β."""
        return self.comparison(graph, self._paths(x), node_mask=node_mask).reshape(x[:, 0].shape)

    def betas(self, graph: GraphsTuple, **parts: Unpack[SideParts]) -> Float[Array, "N P"]:
        """The weights β of the paths, for every node; all nodes of a graph have the same where `semantic="graph"`.

        The arguments are those of the call. The mean is over the nodes that `node_mask` leaves.
        """
        _, mechanism, ends = self.read(graph, **parts)
        z = self._paths(self.sums(graph, mechanism, ends))
        return self.comparison.weights(graph, z, node_mask=parts.get("node_mask"))

    def check_features(self, graph: GraphsTuple, edge_mask: EdgeMask) -> GraphsTuple:
        """The graph, if its edges are relations; those that the mask leaves out may hold anything."""
        check_relations(graph.edges, self.num_relations, edge_mask)
        return graph

    def _paths(self, x: Float[Array, "N P H C"]) -> Float[Array, "N P F"]:
        """z, the heads concatenated."""
        bias = self.bias
        z = jax.nn.elu(x if bias is None else x + bias[...].astype(x.dtype)[None])
        return z.reshape(*z.shape[:2], z.shape[2] * z.shape[3])
