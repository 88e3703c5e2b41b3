"""Attention over edges of several kinds: every relation projects and attends in its own way."""

from typing import Literal, Unpack, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from jraph import GraphsTuple

from gatjax.attention.attend import attend
from gatjax.attention.blocked import Rows
from gatjax.attention.scores import additive_score
from gatjax.graph.check import (
    INT32_MAX,
    EdgeMask,
    EdgeWeight,
    NodeMask,
    Parts,
    check_edges,
    first_true,
    node_features,
)
from gatjax.graph.sizes import num_nodes
from gatjax.layers.conv import Conv
from gatjax.layers.options import AttentionOptions, listed
from gatjax.layers.parts import Keys, Setup, check_finite, check_sizes, project_rows
from gatjax.ops.blocks import gather
from gatjax.ops.ends import Ends, safe_ends
from gatjax.ops.features import sum_features
from gatjax.ops.sparse import keep_rows

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
        in_features: int,
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
        num_heads, shape = heads.num_heads, (heads.num_heads, heads.features)
        num_kernels = num_relations if num_bases is None else num_bases
        kernels = heads._replace(num_heads=num_kernels * num_heads)
        vectors = heads._replace(num_heads=num_relations * num_heads)
        self.num_relations = num_relations
        self.softmax = softmax
        self.negative_slope = negative_slope
        self.dtype = setup.dtype
        self.kernel = nnx.Param(kernels.kernel(in_features)[...].reshape(in_features, -1, *shape))
        mixing = None if num_bases is None else (num_bases, num_relations)
        self.coefficients = (
            None
            if mixing is None
            else nnx.Param(setup.kernel_init(rngs.params(), mixing, setup.param_dtype))
        )
        self.receiver_vector = nnx.Param(vectors.vector()[...].reshape(-1, *shape))
        self.sender_vector = nnx.Param(vectors.vector()[...].reshape(-1, *shape))
        self.finish(setup)

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        keys = self.dropout.keys(deterministic, rngs)
        parts: Parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        graph, pairs = self._pairs(graph, **parts)
        z, logits = self._scores(graph, pairs, keys)
        groups, num_groups = self._groups(graph, pairs)
        rows = Rows(None, None, self.dropout.projected(z, keys), logits)
        multiplier = self.dropout.attention(keys)
        options = self.weighing._asdict()
        x = attend(
            _logit_of_edge,
            _row_of_sender,
            rows,
            groups,
            num_groups,
            multiplier=multiplier,
            **options,
        )
        x = x.reshape(num_nodes(graph), num_groups // max(num_nodes(graph), 1), *x.shape[1:])
        return graph._replace(nodes=self.output(x.sum(1), node_features(graph)))

    def attention(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: EdgeMask = None,
        edge_weight: EdgeWeight = None,
        node_mask: NodeMask = None,
    ) -> Float[Array, "E H"]:
        """The weights w α, aligned with the graph's edges, before dropout; 0 on an edge that does not count."""
        parts: Parts = {"edge_mask": edge_mask, "edge_weight": edge_weight, "node_mask": node_mask}
        graph, pairs = self._pairs(graph, **parts)
        _, logits = self._scores(graph, pairs, Keys())
        groups, num_groups = self._groups(graph, pairs)
        return pairs.weigh(self.weights(logits, groups, num_groups))

    def _pairs(self, graph: GraphsTuple, **parts: Unpack[Parts]) -> tuple[GraphsTuple, Ends]:
        """The graph, and its edges between the N·R pairs of a node and a relation."""
        ends = check_edges(graph, **parts)
        relations = _relations(graph, self.num_relations, parts.get("edge_mask"))
        counted = ends.counted & (relations >= 0) & (relations < self.num_relations)
        size = num_nodes(graph) * self.num_relations
        if size > INT32_MAX:
            raise ValueError(
                f"{num_nodes(graph)} nodes and num_relations={self.num_relations} make {size} pairs, over int32: "
                "split the graph"
            )
        pair = lambda nodes: nodes * self.num_relations + relations
        pairs = safe_ends(pair(ends.senders), pair(ends.receivers), size, size, counted)
        kept = keep_rows(node_features(graph), parts.get("node_mask"))
        return graph._replace(nodes=kept), pairs._replace(weight=ends.weight)

    def _groups(self, graph: GraphsTuple, pairs: Ends) -> tuple[Ends, int]:
        """The same edges, ending where they share a softmax, and how many such places there are."""
        total = num_nodes(graph)
        if self.softmax == "within":
            return pairs, total * self.num_relations
        return pairs._replace(receivers=pairs.receivers // self.num_relations), total

    def _scores(
        self, graph: GraphsTuple, pairs: Ends, keys: Keys
    ) -> tuple[Float[Array, "pairs H C"], Float[Array, "E H"]]:
        """Every node projected by every relation, and the logits of the edges."""
        z = self._projected(graph, keys)
        receiver_term, sender_term = (
            sum_features(z * vector[...].astype(z.dtype)[None]).reshape(-1, self.num_heads)
            for vector in (self.receiver_vector, self.sender_vector)
        )
        r = gather(receiver_term, pairs.receivers, accumulate=jnp.float32)
        s = gather(sender_term, pairs.senders, accumulate=jnp.float32)
        logits = additive_score(r, s, negative_slope=self.negative_slope)
        return z.reshape(-1, *z.shape[2:]), logits

    def _projected(self, graph: GraphsTuple, keys: Keys) -> Float[Array, "N R H C"]:
        kernel = self.kernel[...]
        if self.coefficients is not None:
            kernel = jnp.einsum("fbhc,br->frhc", kernel, self.coefficients[...])
        flat = kernel.reshape(len(kernel), -1, kernel.shape[-1])
        z = project_rows(self.dropout.inputs(graph, keys), flat, self.dtype)
        return z.reshape(-1, *kernel.shape[1:])


def _logit_of_edge(weights, r, s, e):
    return e


def _row_of_sender(weights, r, s, e):
    return s


def _relations(graph: GraphsTuple, num_relations: int, edge_mask: EdgeMask) -> Int[Array, "E"]:
    """The relation of each edge; known values are checked."""
    edges = graph.edges
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
    return jnp.asarray(edges).astype(jnp.int32)
