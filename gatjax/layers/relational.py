"""Attention over edges of several kinds: every relation projects and attends in its own way."""

from typing import Any, Literal, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.scores import additive_score
from gatjax.graph.check import INT32_MAX, EdgeMask, first_true
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import (
    HeadInit,
    Keys,
    Setup,
    check_finite,
    check_sizes,
    project_rows,
)
from gatjax.ops.blocks import gather
from gatjax.ops.ends import Ends, safe_ends
from gatjax.ops.features import sum_features
from gatjax.ops.sparse import Features, HeadDropout

Within = Literal["within", "across"]


class RelationalGATConv(Conv):
    """Graph attention over R relations: `graph.edges` [E] says of which relation each edge is.

    ```
    z_i^r  = W_r h_i
    e_ij^r = LeakyReLU(a_r · z_i^r + b_r · z_j^r)
    α_ij^r = softmax of e_ij^r / T over the edges that enter i, those of relation r ("within") or all ("across")
    h'_i   = combine_h(Σ_r Σ_{j -r-> i} α_ij^r z_j^r) + W_res h_i + b
    ```

    for every head; z [N, R, H, C], a and b [R, H, C], α [E, H]. Two nodes may be joined by several relations. Over all
    edges into a node the weights sum to 1 "across" relations, and "within" them to the number of relations that enter.
    All relations share one softmax and one sum over edges, whose senders are the N·R pairs of a node and a relation.
    Self-loops, with a relation of their own, and the activation are the caller's, and an edge given twice counts twice.

    Args:
      in_features, out_features, num_heads, combine, negative_slope, normalize, temperature, block_size, residual,
        use_bias, dropout_rate, dtype, param_dtype, rngs: as in `GATConv`.
      num_relations: R; the ids are 0, ..., R - 1.
      softmax: "across" or "within" relations, whatever `normalize` is.
      num_bases: B, for kernels W_r = Σ_b c_br V_b that share B matrices; one of its own for each relation by default.
      kernel_init: called once per relation (or basis) and head, with shape (F, C) or (C, 1), and with (B, R) for c.

    Raises:
      ValueError: no head, relation or basis, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine` or `softmax`; when called outside `jax.jit`, a relation out of range. Inside, its edge is dropped.

    Einstein was born in Germany, which is located in Europe. Once a born_in is a located_in, its attention changes:

    >>> from gatjax.graph import build_graph
    >>> born_in, located_in, works_in = range(3)
    >>> einstein, germany, europe, princeton = range(4)
    >>> senders, receivers = [einstein, germany, princeton], [germany, europe, germany]
    >>> graph = build_graph(senders, receivers, jnp.eye(4), edges=jnp.array([born_in, located_in, works_in]))
    >>> layer = RelationalGATConv(4, 8, num_relations=3, rngs=nnx.Rngs(0))
    >>> before = layer.attention(graph)
    >>> after = layer.attention(graph._replace(edges=jnp.array([located_in, located_in, works_in])))
    >>> bool((before != after)[0, 0]), bool((before == after)[1, 0])
    (True, True)

    Busbridge et al., Relational Graph Attention Networks, 2019: additive attention, WIRGAT "within" and ARGAT "across".
    The bases are those of Schlichtkrull et al., Modeling Relational Data with Graph Convolutional Networks, ESWC 2018.
    """

    @listed(AttentionOptions, Setup)
    def __init__(
        self,
        in_features: InFeatures,
        out_features: int,
        *,
        num_relations: int,
        softmax: Within = "across",
        num_bases: int | None = None,
        negative_slope: float = 0.2,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        if softmax not in get_args(Within):
            raise ValueError(f'softmax must be "within" or "across", got {softmax!r}')
        check_sizes(num_relations=num_relations, num_bases=num_bases)
        check_finite(negative_slope=negative_slope)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        vectors = heads._replace(num_heads=num_relations * heads.num_heads)
        shape = num_relations, heads.num_heads, heads.features
        self.num_relations = num_relations
        self.softmax = softmax
        self.negative_slope = negative_slope
        width = setup.widths
        self.projection = RelationProjection(width.senders, heads, num_relations, num_bases)
        self.receiver_projection = (
            RelationProjection(width.receivers, heads, num_relations, num_bases)
            if setup.paired
            else None
        )
        self.receiver_vector = nnx.Param(vectors.vector()[...].reshape(shape))
        self.sender_vector = nnx.Param(vectors.vector()[...].reshape(shape))
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        z = nodes.each(self.projection, self.receiver_projection)
        pairs = self._pairs(z, ends, jnp.asarray(graph.edges).astype(jnp.int32))
        logits = self._logits(z, pairs)
        values = self.dropout.projected(z.senders.reshape(-1, *z.senders.shape[2:]), keys)
        rows = Rows(None, None, values, logits)
        if self.softmax == "within":
            return Mechanism(_logit_of_edge, _row_of_sender, rows, None, pairs, self.num_relations)
        pairs = pairs._replace(receivers=pairs.receivers // self.num_relations)
        return Mechanism(_logit_of_edge, _row_of_sender, rows, None, pairs)

    def check_features(self, graph: GraphsTuple, edge_mask: EdgeMask) -> GraphsTuple:
        """The graph, if its edges are relations; those that the mask leaves out may hold anything."""
        check_relations(graph.edges, self.num_relations, edge_mask)
        return graph

    def _pairs(self, z: Sides, ends: Ends, relations: Int[Array, "E"]) -> Ends:
        """The edges, between the pairs of a node and a relation."""
        counted = ends.counted & (relations >= 0) & (relations < self.num_relations)
        num_senders, num_receivers = (
            _num_pairs(table.shape[0], self.num_relations) for table in (z.senders, z.receivers)
        )
        pair = lambda nodes: nodes * self.num_relations + relations
        pairs = safe_ends(
            pair(ends.senders), pair(ends.receivers), num_senders, num_receivers, counted
        )
        return pairs._replace(weight=ends.weight)

    def _logits(self, z: Sides, pairs: Ends) -> Float[Array, "E H"]:
        terms = (
            sum_features(z * vector[...].astype(z.dtype)[None]).reshape(-1, self.num_heads)
            for z, vector in zip(z, (self.receiver_vector, self.sender_vector), strict=True)
        )
        r, s = (
            gather(term, ids, accumulate=jnp.float32)
            for term, ids in zip(terms, (pairs.receivers, pairs.senders), strict=True)
        )
        return additive_score(r, s, negative_slope=self.negative_slope)


class RelationProjection(nnx.Module):
    """A linear map for each of R relations, z^r = x W_r, of their own or mixed from B bases, W_r = Σ_b c_br V_b."""

    def __init__(
        self, in_features: int, heads: HeadInit, num_relations: int, num_bases: int | None
    ):
        num_kernels = num_relations if num_bases is None else num_bases
        kernels = heads._replace(num_heads=num_kernels * heads.num_heads)
        shape = in_features, num_kernels, heads.num_heads, heads.features
        self.kernel = nnx.Param(kernels.kernel(in_features)[...].reshape(shape))
        mixing = num_bases, num_relations
        self.coefficients = (
            None
            if num_bases is None
            else nnx.Param(heads.kernel_init(heads.rngs.params(), mixing, heads.param_dtype))
        )
        self.dtype = heads.dtype

    def __call__(self, rows: Features | HeadDropout) -> Float[Array, "N R H C"]:
        kernel = self.kernel[...]
        if self.coefficients is not None:
            kernel = jnp.einsum("fbhc,br->frhc", kernel, self.coefficients[...])
        flat = kernel.reshape(len(kernel), -1, kernel.shape[-1])
        return project_rows(rows, flat, self.dtype).reshape(-1, *kernel.shape[1:])


def _logit_of_edge(weights, r, s, e):
    return e


def _row_of_sender(weights, r, s, e):
    return s


def _num_pairs(num_nodes: int, num_relations: int) -> int:
    size = num_nodes * num_relations
    if size > INT32_MAX:
        raise ValueError(
            f"{num_nodes} nodes and num_relations={num_relations} make {size} pairs, over int32: split the graph"
        )
    return size


def check_relations(edges: Any, num_relations: int, edge_mask: EdgeMask) -> None:
    """Refuse what is no relation of each edge, and values out of range where they are known."""
    is_array = isinstance(edges, np.ndarray | jax.Array)
    if not is_array or edges.ndim != 1 or not jnp.issubdtype(edges.dtype, jnp.integer):
        got = f"{edges.dtype}{list(edges.shape)}" if is_array else type(edges).__name__
        raise ValueError(
            f"edges must hold the relation of each edge, integers [E] from 0 to {num_relations - 1}, got {got}"
        )
    if not isinstance(edges, Tracer) and not isinstance(edge_mask, Tracer):
        bad = (np.asarray(edges) < 0) | (np.asarray(edges) >= num_relations)
        bad = bad if edge_mask is None else bad & np.asarray(edge_mask)
        if (first := first_true(bad)) is not None:
            raise ValueError(
                f"edges[{first}] = {edges[first]} is no relation: with num_relations={num_relations} the ids "
                f"are 0 to {num_relations - 1}"
            )
