"""Graph attention with additive scores (GAT)."""

from functools import partial
from typing import Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.pairs import on_pairs
from gatjax.attention.scores import additive_score
from gatjax.layers.checks import check_finite, check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import (
    HeadInit,
    HeadProjection,
    Setup,
    add_bias,
    project_rows,
    sender_value,
)
from gatjax.ops.blocks import mask_rows
from gatjax.ops.ends import Ends
from gatjax.ops.features import dot_features
from gatjax.ops.sparse import project, promote


class GATConv(Conv):
    """Graph attention: the logit is a LeakyReLU of one term per end of the edge.

    ```
    z_i   = W h_i
    e_ij  = LeakyReLU(a_r · z_i + a_s · z_j + a_e · W_e e_ij + b_a)
    α_ij  = softmax over the incoming edges j -> i of e_ij / T
    h'_i  = combine_h(Σ_j α_ij z_j) + W_res h_i + b
    ```

    for every head; z [N, H, C], a_r and a_s [H, C], α [E, H]. GAT ranks the senders alike for every
    receiver (a_s · z_j decides); GATv2Conv does not. Self-loops (`add_self_loops`) and the activation are the caller's,
    and an edge given twice counts twice.

    Args:
      in_features: width F of the nodes; or a pair (receivers, senders), in this order, where senders have a table of
        their own, `layer(graph, senders=table)`. A pair has two kernels, one width shares one. PyG's pair is (source,
        target), the other way round.
      out_features: width of the output, of all heads together.
      num_heads: H.
      combine: "concat" or "mean".
      edge_features: width of the edges' features, None if they have none.
      negative_slope: of the LeakyReLU.
      normalize: "softmax"; "hardmax": each receiver reads, per head, the one sender of the largest logit, the first of
        equal ones, and the logits get no gradient; "straight_through": it reads the same, and the logits get the
        gradient of the softmax, so that the choice can be learned; "sparsemax" or "entmax": edges of small logits weigh
        exactly 0; `TopK(k)`: the softmax of the k largest logits; or a function of one's own, as in
        `attention_weights`. All but the softmax hold E·H·C numbers.
      temperature: T, positive: towards 0 attention is hard, towards infinity uniform. To learn one, make it a weight of
        a score of your own, as the guide to mechanisms does.
      block_size: how many edges are computed at a time, as in `edge_attention`; "auto" chooses from the sizes, None is
        all at once, "dense" all pairs of complete graphs in `Slots`.
      residual: True adds the input, projected where the widths differ; "linear" adds it through a matrix W_res of its
        own at all widths, as the paper's PPI layer and PyG do.
      use_bias: b, on the output.
      use_score_bias: b_a, one per head, as in the original code (not in the paper, nor in PyG).
      dropout_rate: of the attention weights, or `DropoutRates` for its four places.
      kernel_init: called once per head, with shape (F, C) or (C, 1).
      dtype: of the computation; promoted from nodes and parameters by default.
      param_dtype: of the parameters.
      rngs: random keys.

    Raises:
      ValueError: no head, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine` or `normalize`, a temperature or block size that is not positive, blocks of another normaliser than
        the softmax.

    >>> from gatjax.graph import add_self_loops, build_graph
    >>> graph = add_self_loops(build_graph([0, 1], [2, 2], jnp.eye(3)))
    >>> layer = GATConv(3, 8, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(graph).nodes.shape, layer.attention(graph).shape
    ((3, 8), (5, 2))

    Veličković et al., Graph Attention Networks, ICLR 2018. The paper's equations have no bias b_a and no
    edge features.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        edge_features: int | None = None,
        negative_slope: float = 0.2,
        use_score_bias: bool = False,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        check_sizes(edge_features=edge_features)
        check_finite(negative_slope=negative_slope)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        self.edge_features = edge_features
        self.negative_slope = negative_slope
        self.projection = HeadProjection(setup.widths.senders, heads)
        self.receiver_projection = (
            HeadProjection(setup.widths.receivers, heads) if setup.paired else None
        )
        self.receiver_vector = heads.vector()
        self.sender_vector = heads.vector()
        self.edge_term = None if edge_features is None else EdgeTerm(edge_features, heads)
        self.score_bias = heads.zeros(heads.num_heads) if use_score_bias else None
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        receiver_term, senders = self._terms(nodes, keys)
        edges = None
        if self.edge_term is not None:
            edges = self.edge_term(mask_rows(graph.edges, ends.counted))
        rows = Rows(None, add_bias(receiver_term, self.score_bias), senders, edges)
        slope = {"negative_slope": self.negative_slope}
        score = on_pairs(partial(_additive_pairs, **slope))(partial(additive_terms, **slope))
        return Mechanism(score, sender_value, rows)

    def _terms(self, nodes: Sides, keys: Keys) -> tuple[Array, dict[str, Array]]:
        """a_r · z_i, and of senders a_s · z_j and z_j; the receivers' own kernel meets its vector before the rows."""
        vectors = jnp.stack([self.receiver_vector[...], self.sender_vector[...]])
        own = self.receiver_projection

        def project(rows):
            z = self.projection(rows)
            return z, dot_features(z, (vectors if own is None else vectors[1:]).astype(z.dtype))

        def send(z, terms):
            return {"term": terms[:, -1], "value": self.dropout.projected(z, keys)}

        if own is None:
            projected = nodes.each(project)
            return projected.receivers[1][:, 0], projected.sent(lambda both: send(*both))
        kernel = dot_features(own.kernel[...], vectors[0])[:, :, None]
        term = project_rows(nodes.receivers, kernel, own.dtype)[:, :, 0]
        return term, nodes.sent(lambda rows: send(*project(rows)))


class EdgeTerm(nnx.Module):
    """a_e · W_e e_ij, as one product with the vectors W_eᵀ a_e [F, H]: W_e e_ij [E, H, C] is never held."""

    def __init__(self, edge_features: int, heads: HeadInit):
        self.projection = HeadProjection(edge_features, heads)
        self.vector = heads.vector()

    def __call__(self, edges: Float[Array, "E F"]) -> Float[Array, "E H"]:
        parameters = self.projection.kernel[...], self.vector[...]
        edges, kernel, vector = promote(self.projection.dtype, edges, *parameters)
        return project(edges, dot_features(kernel, jnp.asarray(vector)))


def additive_terms(weights, r, s, e, *, negative_slope):
    """The score of a mechanism whose rows are the terms of both ends, those of senders `s["term"]`."""
    return additive_score(r, s["term"], e, negative_slope=negative_slope)


def _additive_pairs(weights, r, s, e, *, negative_slope):
    """The same of all pairs, [G, H, n, n]."""
    here, there = jnp.broadcast_arrays(r[:, :, None], s["term"][:, None])
    return jnp.moveaxis(additive_score(here, there, e, negative_slope=negative_slope), -1, 1)
