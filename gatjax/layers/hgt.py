"""Attention over all relations of a typed graph at once (HGT)."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.sparse import BCOO
from jaxtyping import Array, Float, Int

from gatjax.attention.attend import attend
from gatjax.attention.blocked import Rows
from gatjax.attention.scores import dot_product_score
from gatjax.attention.steps import normalized, on_edges
from gatjax.graph.check import check_edges
from gatjax.graph.typed import Triple, TypedGraph, arrow, naming, relation_graph
from gatjax.layers.dropout import Dropout, Keys
from gatjax.layers.inputs import check_edge_features
from gatjax.layers.options import HGTOptions, listed
from gatjax.layers.parts import HeadInit, HeadProjection, Setup, sender_value
from gatjax.layers.relational import relation_matrices
from gatjax.layers.typed import (
    EdgeMasks,
    EdgeWeights,
    NodeMasks,
    TypedParts,
    check_relations_of,
    check_triple,
    check_types,
    check_types_of,
    typed_rows,
)
from gatjax.ops.blocks import gather
from gatjax.ops.ends import Ends, safe_ends
from gatjax.ops.features import per_head
from gatjax.ops.sparse import Features, keep_rows

_NO_KEYS = Keys()


class HGTConv(nnx.Module):
    """Heterogeneous graph transformer: every type has its queries, keys and values, every relation its own products.

    ```
    e_ij^r = μ_r / sqrt(C) · (K_τ(j) h_j A_r) · Q_τ(i) h_i
    α_ij^r = softmax over all edges that enter i, of whatever relation, of e_ij^r / T
    x_i    = ‖_h Σ_r Σ_{j -r-> i} α_ij^r V_τ(j) h_j M_r
    h'_i   = σ(g_τ(i)) · (W_τ(i) GELU(x_i) + b_τ(i)) + (1 - σ(g_τ(i))) · S_τ(i) h_i
    ```

    for every head, τ the type of a node; A and M [R, H, C, C], μ [R, H], α [E, H], g one number of each type. S is the
    identity, without parameters, where the widths agree. All relations share one softmax and one sum over edges, which
    holds no E·H·C numbers where it goes by blocks. A relation multiplies the rows of its sender type by its matrices,
    or those of its edges alone, whichever are fewer.

    All types come out as wide as `out_features`; of one that no relation enters, x is 0.

    Args:
      in_features: of each type of nodes its width.
      out_features: width of the output, all heads together.
      relations: the triples (sender type, name, receiver type).
      num_heads, normalize, temperature, block_size, kernel_init, dtype, param_dtype, rngs: as in `GATConv`; the
        initialiser is called once per relation and head for A and M, with shape (C, C).
      use_bias: of queries, keys, values and W.
      dropout_rate: of the attention weights, or `DropoutRates`; `projected` acts on V h M.

    Raises:
      TypeError, ValueError: no head or type, a relation that is no triple or of an unknown type, a width that heads do
        not divide; when called, types, relations or widths of the graph that are not those of the layer.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": jnp.ones((2, 3)), "paper": jnp.ones((4, 5))},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 3]), ("paper", "by", "author"): ([0, 3], [0, 1])},
    ... )
    >>> layer = HGTConv({"author": 3, "paper": 5}, 8, relations=graph.triples, num_heads=2, rngs=nnx.Rngs(0))
    >>> layer(graph).nodes["paper"].shape, layer.attention(graph)["author", "writes", "paper"].shape
    ((4, 8), (2, 2))

    Hu et al., Heterogeneous Graph Transformer, WWW 2020. The paper adds h_i without a gate; g is of the authors'
    program and starts at 1, as μ does.
    """

    @listed(HGTOptions, Setup)
    def __init__(
        self,
        in_features: Mapping[str, int],
        out_features: int,
        *,
        relations: Iterable[Triple],
        num_heads: int = 1,
        rngs: nnx.Rngs,
        **options: Unpack[HGTOptions],
    ):
        self.types, widths = check_types(in_features)
        self.relations = tuple(sorted(check_triple("relations", each) for each in relations))
        if not self.relations:
            raise ValueError(
                "relations is empty: give at least one, such as those of graph.triples"
            )
        for triple in self.relations:
            if not {triple[0], triple[2]} <= set(self.types):
                raise ValueError(
                    f"relation {arrow(triple)} is between types of which in_features has no width: it has "
                    f"{', '.join(self.types)}"
                )
        setup = Setup(out_features, out_features, rngs, num_heads, **options)
        heads, bias = setup.heads, setup.use_bias
        self.num_heads = setup.num_heads
        projections = lambda: nnx.List(
            [HeadProjection(width, heads, use_bias=bias) for width in widths]
        )
        self.query, self.key, self.value = projections(), projections(), projections()
        number = len(self.relations)
        self.key_matrices = relation_matrices(heads.features, heads, number)
        self.value_matrices = relation_matrices(heads.features, heads, number)
        self.prior = nnx.Param(jnp.ones((number, heads.num_heads), heads.param_dtype))
        self.updates = nnx.List([GatedUpdate(width, out_features, heads, bias) for width in widths])
        self.weighing = setup.weighing
        self.dropout = Dropout(setup.dropout_rate, rngs=rngs)

    def __call__(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> TypedGraph:
        """The graph with new rows of all types.

        Args:
          graph: one graph or a batch.
          edge_mask, edge_weight: by relation, what `GATConv` takes for its edges.
          node_mask: by type, the nodes that take part.
          deterministic, rngs: as in `GATConv`.
        """
        keys = self.dropout.keys(deterministic, rngs)
        nodes, rows, ends = self._read(graph, TypedParts(edge_mask, edge_weight, node_mask), keys)
        x = attend(
            *(_query_key, sender_value, rows, ends, len(rows.receivers)),
            multiplier=self.dropout.attention(keys),
            **self.weighing._asdict(),
        )
        return graph._replace(
            nodes={
                name: update(part, table)
                for update, part, (name, table) in zip(
                    self.updates, _parts(x, nodes.values()), nodes.items(), strict=True
                )
            }
        )

    def attention(
        self,
        graph: TypedGraph,
        *,
        edge_mask: EdgeMasks = None,
        edge_weight: EdgeWeights = None,
        node_mask: NodeMasks = None,
    ) -> dict[Triple, Float[Array, "_ H"]]:
        """The weights w α of the edges of each relation, before dropout; 0 on an edge that does not count.

        The arguments are those of the call. Those of all edges that enter a node sum to 1.
        """
        _, rows, ends = self._read(graph, TypedParts(edge_mask, edge_weight, node_mask))
        normalize, temperature, _ = self.weighing
        logits = on_edges(_query_key, rows, ends)
        alpha = normalized(logits, ends, len(rows.receivers), normalize, temperature)
        tables = [graph.relations[triple].senders for triple in self.relations]
        return dict(zip(self.relations, _parts(ends.weigh(alpha), tables), strict=True))

    def _read(
        self, graph: TypedGraph, parts: TypedParts, keys: Keys = _NO_KEYS
    ) -> tuple[dict[str, Features], Rows, Ends]:
        """The rows of each type before dropout, what is read of them, and the edges of all relations."""
        check_types_of(graph, self.types)
        check_relations_of(graph, self.relations, "relations=graph.triples")
        parts = parts.checked(graph)
        nodes = {n: keep_rows(typed_rows(graph, n), parts.nodes_of(n)) for n in self.types}
        of_edges = self._edges(graph, parts)
        queries, keyed, valued = {}, {}, {}
        for place, (name, table) in enumerate(nodes.items()):
            inputs = self.dropout.inputs(table, keys.of_table(place))
            queries[name], keyed[name], valued[name] = (
                part[place](inputs, name=f"nodes[{name!r}]")
                for part in (self.query, self.key, self.value)
            )
        offsets = dict(zip(self.types, np.cumsum([0, *map(len, queries.values())]), strict=False))
        key, value, senders = self._sent(list(of_edges.values()), keyed, valued)
        query = jnp.concatenate(list(queries.values()))
        receivers = [edges.receivers + offsets[t[2]] for t, edges in of_edges.items()]
        senders, receivers, counted = (
            jnp.concatenate([jnp.zeros(0, dtype), *(each.astype(dtype) for each in rows)])
            for rows, dtype in (
                (senders, jnp.int32),
                (receivers, jnp.int32),
                ([edges.counted for edges in of_edges.values()], bool),
            )
        )
        ends = safe_ends(senders, receivers, len(key), len(query), counted)
        ends = ends._replace(weight=_weights([edges for edges in of_edges.values()]))
        rows = {"key": key, "value": self.dropout.projected(value, keys)}
        return nodes, Rows(None, query, rows, None), ends

    def _edges(self, graph: TypedGraph, parts: TypedParts) -> dict[Triple, Ends]:
        """Both ends of the edges of each relation, checked."""
        found = {}
        for triple in self.relations:
            with naming(arrow(triple)):
                one = relation_graph(graph, triple)
                check_edge_features(one, None, may_read=False)
                found[triple] = check_edges(one, **parts.of(graph, triple))
        return found

    def _sent(
        self, of_edges: list[Ends], keyed: dict[str, Array], valued: dict[str, Array]
    ) -> tuple[Array, Array, list[Array]]:
        """K h A and V h M, and the row that each edge reads of both, by relation.

        A relation sends rows of all nodes of its sender type, or of each of its edges, whichever are fewer; those of a
        type that send all are multiplied at once.
        """
        groups = []
        for name in self.types:
            key, value = keyed[name], valued[name]
            places = [place for place, triple in enumerate(self.relations) if triple[0] == name]
            whole = [place for place in places if len(of_edges[place].senders) >= len(key)]
            rows = [of_edges[place].senders * len(whole) + k for k, place in enumerate(whole)]
            groups += [Group(whole, key, value, rows)] if whole else []
            for place in sorted({*places} - {*whole}):
                ids = of_edges[place].senders
                own_key, own_value = gather((key, value), ids)
                every = jnp.arange(len(ids), dtype=jnp.int32)
                groups.append(Group([place], own_key, own_value, [every]))
        scale = (self.prior[...] / np.sqrt(self.key_matrices.shape[-1]))[:, :, None, None]
        matrices = self.key_matrices[...] * scale, self.value_matrices[...]
        keys, values, senders, start = [], [], {}, 0
        for group in groups:
            for out, rows, each in zip((keys, values), group[1:3], matrices, strict=True):
                product = per_head(rows, each[np.array(group.places)].astype(rows.dtype))
                out.append(product.reshape(-1, *rows.shape[1:]))
            senders |= {
                place: ids + start for place, ids in zip(group.places, group.rows, strict=True)
            }
            start += len(group.places) * len(group.key)
        return jnp.concatenate(keys), jnp.concatenate(values), [senders[k] for k in sorted(senders)]


class Group(NamedTuple):
    """Relations that multiply the same rows of keys and values, and of each the products that its edges read."""

    places: list[int]
    key: Float[Array, "rows H C"]
    value: Float[Array, "rows H C"]
    rows: list[Int[Array, "_"]]


class GatedUpdate(nnx.Module):
    """σ(g) · (W GELU(x) + b) + (1 - σ(g)) · S h, for the nodes of one type."""

    def __init__(self, in_features: int, out_features: int, heads: HeadInit, use_bias: bool):
        one = heads.one(out_features)
        self.linear = HeadProjection(out_features, one, use_bias=use_bias)
        self.skip = None if in_features == out_features else HeadProjection(in_features, one)
        self.gate = nnx.Param(jnp.ones((), heads.param_dtype))

    def __call__(self, x: Float[Array, "N H C"], nodes: Features) -> Float[Array, "N out"]:
        flat = x.reshape(x.shape[0], x.shape[1] * x.shape[2])
        new = self.linear(jax.nn.gelu(flat, approximate=False))[:, 0]
        old = nodes if self.skip is None else self.skip(nodes)[:, 0]
        old = jnp.asarray(old.todense() if isinstance(old, BCOO) else old, new.dtype)
        gate = jax.nn.sigmoid(self.gate[...]).astype(new.dtype)
        return gate * new + (1 - gate) * old


def _query_key(weights, r, s, e):
    return dot_product_score(r, s["key"], scale=1.0)


def _parts(rows: Float[Array, "rows *rest"], tables: Iterable[Any]) -> list[Array]:
    """The rows cut into as many as each table has."""
    return jnp.split(rows, np.cumsum([table.shape[0] for table in tables])[:-1])


def _weights(of_edges: list[Ends]) -> Float[Array, "E"] | None:
    """The weights of all edges, 1 where a relation has none; None where no relation has."""
    if all(edges.weight is None for edges in of_edges):
        return None
    ones = lambda edges: jnp.ones(edges.senders.shape)
    return jnp.concatenate([ones(e) if e.weight is None else e.weight for e in of_edges])
