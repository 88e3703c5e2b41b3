"""Attention over molecules, mixed with distances and bonds."""

from collections.abc import Mapping
from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax.attention.mixture import (
    MIXTURE_WEIGHTS,
    Kernel,
    Mixture,
    MixtureWeights,
    check_kernel,
    check_mixture,
)
from gatjax.graph.check import EdgeMask
from gatjax.graph.messages import listed as names_of
from gatjax.graph.sizes import is_unknown, num_edges
from gatjax.layers.conv import Mechanism
from gatjax.layers.dot_product import DotProductConv, EdgesIn
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides, check_edge_features
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import Setup
from gatjax.ops.ends import Ends

PARTS = ("distance", "adjacency", "features")


class MATConv(DotProductConv):
    """The attention of the molecule attention transformer: dot products, mixed with distances and bonds.

    ```
    p_ij = λ_a softmax(e_ij / T) + λ_d g(D_ij) + λ_g A_ij / (Σ_{k -> i} A_ik + 1e-6)
    h'_i = combine_h(Σ_j p_ij v_ij) + W_res h_i + b
    ```

    for every head, with the logit e and the value v of `DotProductConv`, and g(D) = exp(-D) or the softmax of -D over
    the edges of the receiver. `graph.edges` is a dict: `distance` D `[E]`, `adjacency` A `[E]`, each where its weight
    is not 0, and `features` `[E, D]` where the layer was built with `edge_features`. The layer's `attention` is p.

    Args:
      in_features, out_features, num_heads, combine, edge_features, edges_in, residual, use_bias, normalize,
        temperature, block_size, kernel_init, dtype, param_dtype, rngs: as in `DotProductConv`.
      weights: λ of attention, distance and adjacency, three numbers that sum to 1.
      trainable_weights: whether they are a parameter, three numbers that start there, need not sum to 1, and are as
        they are.
      kernel: "exp" or "softmax", which is g.
      dropout_rate: of p, or `DropoutRates`.

    Raises:
      ValueError: as `DotProductConv` and `Mixture`; when called, edges without what it reads, or with more.

    >>> from gatjax.graph import build_graph
    >>> edges = {"distance": jnp.array([0.0, 1.5]), "adjacency": jnp.array([1.0, 1.0])}
    >>> graph = build_graph([1, 0], [1, 1], jnp.eye(2), edges=edges)
    >>> MATConv(2, 4, num_heads=2, weights=(0, 0, 1), rngs=nnx.Rngs(0)).attention(graph).round(3).tolist()
    [[0.5, 0.5], [0.5, 0.5]]

    Maziarka et al., Molecule Attention Transformer, 2020. Their program has biases of key and value, too: one of the
    key changes no softmax, and one of the value would reach a node in the measure of its Σ_j p_ij, where b is whole.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        edge_features: int | None = None,
        edges_in: EdgesIn = "key_value",
        weights: MixtureWeights = MIXTURE_WEIGHTS,
        trainable_weights: bool = False,
        kernel: Kernel = "exp",
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_kernel(kernel)
        check_mixture(jnp.asarray(weights, float) if trainable_weights else weights)
        super().__init__(
            in_features,
            out_features,
            edge_features=edge_features,
            edges_in=edges_in,
            rngs=rngs,
            **options,
        )
        self.kernel: Kernel = kernel
        self.weights = (
            nnx.Param(jnp.asarray(weights, options.get("param_dtype", jnp.float32)))
            if trainable_weights
            else tuple(float(weight) for weight in weights)
        )

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        edges: Any = graph.edges
        inner = super().mechanism(graph._replace(edges=edges.get("features")), nodes, ends, keys)
        weights = self.weights if isinstance(self.weights, tuple) else self.weights[...]
        mixed = Mixture(
            distance=edges.get("distance"),
            adjacency=edges.get("adjacency"),
            weights=weights,
            kernel=self.kernel,
            normalize=self.weighing.normalize,
        )
        return inner._replace(normalize=mixed)

    def check_features(self, graph: GraphsTuple, edge_mask: EdgeMask) -> GraphsTuple:
        edges: Any = graph.edges
        if not num_edges(graph) and is_unknown(edges):
            edges = {"distance": jnp.zeros(0), "adjacency": jnp.zeros(0)}
        if not isinstance(edges, Mapping) or not edges.keys() <= set(PARTS):
            got = names_of(edges) if isinstance(edges, Mapping) else type(edges).__name__
            raise ValueError(
                f"MATConv needs graph.edges, a dict with some of {', '.join(PARTS)}, got {got}"
            )
        features = check_edge_features(
            graph._replace(edges=edges.get("features")), self.edge_features
        ).edges
        return graph._replace(edges={**edges, "features": features})
