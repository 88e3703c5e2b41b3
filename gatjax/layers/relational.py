"""Attention over edges of several kinds: every relation projects and attends in its own way."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree
from jraph import GraphsTuple

from gatjax.attention.blocked import Rows
from gatjax.attention.scores import dot_product_score
from gatjax.attention.steps import RowFunction
from gatjax.graph.check import EdgeMask
from gatjax.graph.ids import INT32_MAX, first_true
from gatjax.layers.checks import check_finite, check_sizes
from gatjax.layers.conv import Conv, Mechanism
from gatjax.layers.dropout import Keys
from gatjax.layers.gat import additive_terms
from gatjax.layers.inputs import InFeatures, Sides
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import HeadInit, HeadProjection, Setup, project_rows, sender_value
from gatjax.ops.blocks import gather, mask_rows
from gatjax.ops.ends import Ends, safe_ends
from gatjax.ops.features import sum_features
from gatjax.ops.sparse import Features, HeadDropout

Within = Literal["within", "across"]
Score = Literal["additive", "multiplicative"]

_REMEDY = ": pass edge_features=... to the layer, which then reads features beside the relations"


class RelationalGATConv(Conv):
    """Graph attention over R relations: `graph.edges` [E] says of which relation each edge is.

    ```
    z_i^r  = W_r h_i
    e_ij^r = LeakyReLU(a_r · z_i^r + b_r · z_j^r + c_r · W_e e_ij)        "additive"
    e_ij^r = Q_r z_i^r · (K_r z_j^r + W_e e_ij)                           "multiplicative"
    α_ij^r = softmax of e_ij^r / T over the edges that enter i, those of relation r ("within") or all ("across")
    h'_i   = combine_h(Σ_r Σ_{j -r-> i} α_ij^r z_j^r) + W_res h_i + b
    ```

    for every head; z [N, R, H, C], a, b and c [R, H, C], Q and K [R, H, C, D], α [E, H]. Two nodes may be joined by
    several relations. Over all edges into a node the weights sum to 1 "across" relations, and "within" them to the
    number of relations that enter. Self-loops, with a relation of their own, and the activation are the caller's, and
    an edge given twice counts twice.

    Edges that have features, too, are `graph.edges = {"relation": [E], "features": [E, edge_features]}`.

    All relations share one softmax and one sum over edges, whose senders are the N·R pairs of a node and a relation.
    Neither logits nor sum hold E·H·C numbers where they go by blocks; edge features take E·H·edge_features numbers of
    additive logits. On a CPU a pair costs as much as six to ten edges do, whether any edge reads it or not. Edges
    relation after relation, as `merge_types` gives them, are the fastest order.

    Args:
      in_features, out_features, num_heads, combine, negative_slope, normalize, temperature, block_size, residual,
        use_bias, dropout_rate, dtype, param_dtype, rngs: as in `GATConv`.
      num_relations: R; the ids are 0, ..., R - 1.
      score: "additive" or "multiplicative".
      key_features: D, of multiplicative logits, per head; C by default.
      edge_features: width of the edges' features, None where edges are relations and nothing else. All relations share
        W_e.
      softmax: "across" or "within" relations, whatever `normalize` is.
      num_bases: B, for kernels W_r = Σ_b c_br V_b that share B matrices; one of its own for each relation by default.
      kernel_init: called once per relation (or basis) and head, with shape (F, C), (C, 1) or (C, D), and with (B, R)
        for the coefficients of the bases.

    Raises:
      ValueError: no head, relation or basis, a width that heads do not divide, a rate outside [0, 1), an unknown
        `combine`, `softmax` or `score`, `key_features` of additive logits; when called, edges that lack relations or
        features, or have features that the layer does not read; when called outside `jax.jit`, a relation out of range.
        Inside, its edge is dropped.

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

    Busbridge et al., Relational Graph Attention Networks, 2019: WIRGAT is "within", ARGAT "across"; its multiplicative
    logits are not scaled, nor are these. It has no edge features.
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
        score: Score = "additive",
        key_features: int | None = None,
        edge_features: int | None = None,
        negative_slope: float = 0.2,
        rngs: nnx.Rngs,
        **options: Unpack[AttentionOptions],
    ):
        if softmax not in get_args(Within):
            raise ValueError(f'softmax must be "within" or "across", got {softmax!r}')
        if score not in get_args(Score):
            raise ValueError(f'score must be "additive" or "multiplicative", got {score!r}')
        if key_features is not None and score == "additive":
            raise ValueError(
                f'key_features={key_features} are of score="multiplicative": additive logits have no keys'
            )
        check_sizes(num_relations=num_relations, num_bases=num_bases)
        check_sizes(key_features=key_features, edge_features=edge_features)
        check_finite(negative_slope=negative_slope)
        setup = Setup(in_features, out_features, rngs, **options)
        heads = setup.heads
        self.num_relations = num_relations
        self.softmax = softmax
        self.score = score
        self.edge_features = edge_features
        self.negative_slope = negative_slope
        width = setup.widths
        self.projection = RelationProjection(width.senders, heads, num_relations, num_bases)
        self.receiver_projection = (
            RelationProjection(width.receivers, heads, num_relations, num_bases)
            if setup.paired
            else None
        )
        of_score = heads if key_features is None else heads._replace(features=key_features)
        adds, has_edges = score == "additive", edge_features is not None
        self.receiver_vector = relation_vectors(heads, num_relations) if adds else None
        self.sender_vector = relation_vectors(heads, num_relations) if adds else None
        self.query = None if adds else relation_matrices(heads.features, of_score, num_relations)
        self.key = None if adds else relation_matrices(heads.features, of_score, num_relations)
        self.edge_projection = (
            None if edge_features is None else HeadProjection(edge_features, of_score)
        )
        self.edge_vector = relation_vectors(heads, num_relations) if adds and has_edges else None
        self.finish(setup)

    def mechanism(self, graph: GraphsTuple, nodes: Sides, ends: Ends, keys: Keys) -> Mechanism:
        edges: Any = graph.edges
        relations, features = edges, None
        if self.edge_features is not None:
            relations, features = edges["relation"], edges["features"]
        pairs = relation_pairs(nodes, ends, relations, self.num_relations)
        if features is not None:
            features = mask_rows(features, pairs.counted)
        make = self._sums if self.score == "additive" else self._products
        score, rows = make(nodes, keys, pairs, features)
        if self.softmax == "within":
            return Mechanism(score, sender_value, rows, None, pairs, self.num_relations)
        return Mechanism(score, sender_value, rows, None, pairs._replace(sums=ends.receivers))

    def check_features(self, graph: GraphsTuple, edge_mask: EdgeMask) -> GraphsTuple:
        """The graph, if its edges are relations; those that the mask leaves out may hold anything."""
        edges: Any = graph.edges
        if self.edge_features is not None:
            check_both(edges, self.edge_features)
            edges = edges["relation"]
        check_relations(edges, self.num_relations, edge_mask)
        return graph

    def _sums(
        self, nodes: Sides, keys: Keys, pairs: Ends, features: Any
    ) -> tuple[RowFunction, Rows]:
        """Additive logits; an edge's term reads W_eᵀ c_r [F, H] of its relation, so that W_e e is never held."""
        receivers, senders = additive_rows(self, nodes, keys)
        term = None
        if self.edge_projection is not None and self.edge_vector is not None:
            kernel, vector = self.edge_projection.kernel[...], self.edge_vector[...]
            dtype = senders["value"].dtype
            slopes = jnp.einsum("fhc,rhc->rfh", kernel, vector).astype(dtype)
            slopes = gather(slopes, pairs.senders % self.num_relations)
            term = jnp.einsum("ef,efh->eh", features.astype(dtype), slopes)
        score = partial(additive_terms, negative_slope=self.negative_slope)
        return score, Rows(None, receivers, senders, term)

    def _products(
        self, nodes: Sides, keys: Keys, pairs: Ends, features: Any
    ) -> tuple[RowFunction, Rows]:
        """Multiplicative logits."""
        matrices: Any = self.query, self.key
        times = lambda z, matrix: jnp.einsum("nrhc,rhcd->nrhd", z, matrix[...].astype(z.dtype))
        z = nodes.each(self.projection, self.receiver_projection)
        query, key = (lambda z: times(z, matrices[0])), (lambda z: times(z, matrices[1]))
        value = lambda z: self.dropout.projected(z, keys)
        senders = of_pairs(z.sent(lambda z: {"key": key(z), "value": value(z)}))
        dtype = senders["key"].dtype
        edge = None if self.edge_projection is None else self.edge_projection.linear(dtype)
        return _query_key, Rows(edge, of_pairs(query(z.receivers)), senders, features)


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
        return self._project(rows, self._kernel())

    def terms(
        self,
        rows: Features | HeadDropout,
        vectors: Float[Array, "R H C"],
        z: Float[Array, "N R H C"] | None = None,
    ) -> Float[Array, "N R H"]:
        """a_r · x W_r of vectors a. They meet the kernel before the rows do, so that no z need be read.

        Where heads drop inputs of their own, whose masks cost more than reading z, they meet z, if it is there.
        """
        if z is not None and isinstance(rows, HeadDropout):
            return sum_features(z * vectors.astype(z.dtype)[None])
        kernel = self._kernel()
        return self._project(rows, jnp.einsum("frhc,rhc->frh", kernel, vectors)[..., None])[..., 0]

    def _kernel(self) -> Float[Array, "F R H C"]:
        kernel = jnp.asarray(self.kernel[...])
        if self.coefficients is None:
            return kernel
        return jnp.einsum("fbhc,br->frhc", kernel, self.coefficients[...])

    def _project(
        self, rows: Features | HeadDropout, kernel: Float[Array, "F R H D"]
    ) -> Float[Array, "N R H D"]:
        flat = kernel.reshape(len(kernel), -1, kernel.shape[-1])
        return project_rows(rows, flat, self.dtype).reshape(-1, *kernel.shape[1:])


def additive_rows(layer: Any, nodes: Sides, keys: Keys) -> tuple[Array, dict[str, Array]]:
    """What additive logits read of all pairs of a node and a relation: a_r · z_i^r, and b_r · z_j^r beside z_j^r."""
    own, projection = layer.receiver_projection, layer.projection
    vectors = layer.receiver_vector[...], layer.sender_vector[...]
    of_receivers, of_senders = map(jnp.asarray, vectors)
    z = projection(nodes.tables.senders)
    alike = nodes.each(lambda rows: z).receivers if own is None and nodes.shared else None
    term = lambda rows: projection.terms(rows, of_senders, z)
    value = layer.dropout.projected(z, keys)
    senders = nodes.sent(lambda rows: {"term": term(rows), "value": value})
    receivers = (own or projection).terms(nodes.receivers, of_receivers, alike)
    return of_pairs(receivers), of_pairs(senders)


def of_pairs(tables: PyTree) -> PyTree:
    """Tables [N, R, ...] as ones with a row for each pair of a node and a relation, [N·R, ...]."""
    return jax.tree.map(
        lambda table: table.reshape(table.shape[0] * table.shape[1], *table.shape[2:]), tables
    )


def relation_pairs(nodes: Sides, ends: Ends, relations: Any, num_relations: int) -> Ends:
    """The edges, between the pairs of a node and a relation: node i by relation r is row i·R + r of z [N, R, ...]."""
    relations = jnp.asarray(relations).astype(jnp.int32)
    counted = ends.counted & (relations >= 0) & (relations < num_relations)
    num_receivers, num_senders = (_num_pairs(count, num_relations) for count in nodes.counts)
    pair = lambda nodes: nodes * num_relations + relations
    pairs = safe_ends(pair(ends.senders), pair(ends.receivers), num_senders, num_receivers, counted)
    return pairs._replace(weight=ends.weight)


def relation_vectors(heads: HeadInit, num_relations: int) -> nnx.Param:
    """[R, H, C]"""
    vectors = heads._replace(num_heads=num_relations * heads.num_heads).vector()[...]
    return nnx.Param(vectors.reshape(num_relations, heads.num_heads, -1))


def relation_matrices(width: int, heads: HeadInit, num_relations: int) -> nnx.Param:
    """[R, H, C, D]"""
    matrices = heads._replace(num_heads=num_relations * heads.num_heads).kernel(width)[...]
    shape = num_relations, heads.num_heads, width, heads.features
    return nnx.Param(matrices.swapaxes(0, 1).reshape(shape))


def _query_key(edge, r, s, e):
    return dot_product_score(r, s["key"] if edge is None else s["key"] + edge(e), scale=1.0)


def _num_pairs(num_nodes: int, num_relations: int) -> int:
    size = num_nodes * num_relations
    if size > INT32_MAX:
        raise ValueError(
            f"{num_nodes} nodes and num_relations={num_relations} make {size} pairs, over int32: split the graph"
        )
    return size


def check_both(edges: Any, edge_features: int) -> None:
    """Refuse edges without relations and features, or with features of another width."""
    needed = f'{{"relation": [E], "features": [E, {edge_features}]}}'
    if not isinstance(edges, Mapping) or edges.keys() != {"relation", "features"}:
        got = list(edges) if isinstance(edges, Mapping) else type(edges).__name__
        raise ValueError(
            f"the layer was built with edge_features={edge_features}, so edges must be {needed}, got {got}"
        )
    features = edges["features"]
    if np.ndim(features) != 2 or np.shape(features)[1] != edge_features:
        got = list(np.shape(features))
        raise ValueError(f'edges["features"] must be [E, {edge_features}], got {got}')


def check_relations(edges: Any, num_relations: int, edge_mask: EdgeMask) -> None:
    """Refuse what is no relation of each edge, and values out of range where they are known."""
    is_array = isinstance(edges, np.ndarray | jax.Array)
    if not is_array or edges.ndim != 1 or not jnp.issubdtype(edges.dtype, jnp.integer):
        got = f"{edges.dtype}{list(edges.shape)}" if is_array else type(edges).__name__
        raise ValueError(
            f"edges must hold the relation of each edge, integers [E] from 0 to {num_relations - 1}, got {got}"
            f"{_REMEDY if isinstance(edges, Mapping) else ''}"
        )
    if not isinstance(edges, Tracer) and not isinstance(edge_mask, Tracer):
        bad = (np.asarray(edges) < 0) | (np.asarray(edges) >= num_relations)
        bad = bad if edge_mask is None else bad & np.asarray(edge_mask)
        if (first := first_true(bad)) is not None:
            raise ValueError(
                f"edges[{first}] = {edges[first]} is no relation: with num_relations={num_relations} the ids "
                f"are 0 to {num_relations - 1}"
            )
