"""Graphs of several kinds of nodes and edges.

A relation joins the nodes of two types, sender -> receiver, and is called by a triple (sender type, name, receiver
type). Shapes: N nodes of a type, E edges of a relation, G graphs, F features. Types and relations are in the order of
their names, as JAX orders dictionaries.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree
from jraph import GraphsTuple

from gatjax.graph.build import build_graph
from gatjax.graph.ids import first_true, integers, validate
from gatjax.graph.messages import listed, shown
from gatjax.graph.sizes import is_sparse, leaves
from gatjax.graph.sizes import num_nodes as rows_of

Triple: TypeAlias = tuple[str, str, str]


class Relation(NamedTuple):
    """The edges of one relation.

    Attributes:
        senders: [E] ids among the nodes of the sender type.
        receivers: [E] ids among the nodes of the receiver type.
        edges: edge features, E rows, or None.
    """

    senders: Int[Array | np.ndarray, "E"]
    receivers: Int[Array | np.ndarray, "E"]
    edges: PyTree = None


NO_EDGES = Relation(np.zeros(0, np.int32), np.zeros(0, np.int32))


class TypedGraph(NamedTuple):
    """A graph, or a batch of graphs, whose nodes and edges are of several types; `build_typed_graph` makes one.

    A pytree, as `GraphsTuple` is: an argument of jitted functions, and `graph._replace(nodes=...)` is another graph.

    Attributes:
        nodes: of each type its rows: features [N, F] of a width of their own, a `BCOO`, a tree, or None.
        relations: of each triple (sender type, name, receiver type) its edges, a `Relation`.
        n_node: of each type the number of nodes in each graph, [G].
        n_edge: of each triple the number of edges in each graph, [G].
    """

    nodes: dict[str, PyTree]
    relations: dict[Triple, Relation]
    n_node: dict[str, Int[Array | np.ndarray, "G"]]
    n_edge: dict[Triple, Int[Array | np.ndarray, "G"]]

    @property
    def types(self) -> tuple[str, ...]:
        """The types of nodes; their places are the type ids of `merge_types`."""
        return tuple(sorted(self.nodes))

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The relations; their places are the relation ids of `merge_types`."""
        return tuple(sorted(self.relations))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in GraphsTuple._fields:
                raise AttributeError(
                    f"a TypedGraph has no {name}, as a jraph.GraphsTuple has: relation_graph(graph, relation) makes "
                    "one of a relation, merge_types(graph).graph of all of them"
                )
            raise AttributeError(f"'TypedGraph' object has no attribute {name!r}")

    def __repr__(self) -> str:
        rows = [
            (name, f"{_size(self, name)} nodes", _width(self.nodes[name])) for name in self.types
        ]
        for triple in self.triples:
            relation = self.relations[triple]
            rows.append(
                (arrow(triple), f"{_count(relation.senders)} edges", _width(relation.edges))
            )
        first, second = (max((len(row[place]) for row in rows), default=0) for place in (0, 1))
        lines = [
            f"  {name:<{first}}  {count:>{second}}  {width}".rstrip() for name, count, width in rows
        ]
        graphs = next((np.shape(counts)[0] for counts in self.n_node.values()), 0)
        return "\n".join([f"TypedGraph of {graphs} graph{'s' * (graphs != 1)}", *lines])


def build_typed_graph(
    nodes: Mapping[str, PyTree],
    relations: Mapping[Triple, Any],
    *,
    num_nodes: Mapping[str, int] | None = None,
) -> TypedGraph:
    """One graph from the rows of each type of nodes and the edge list of each relation, validated.

    Args:
        nodes: of each type its features, as `build_graph` takes them; None for a type without any.
        relations: of each triple (sender type, name, receiver type) its `(senders, receivers)`, or
            `(senders, receivers, edges)` with edge features; ids count the nodes of each type from 0.
        num_nodes: of a type its number of nodes; needed only where it has no features.

    Returns:
        A `TypedGraph` of one graph.

    Raises:
        TypeError, ValueError: a relation of an unknown type, ids out of range, sizes that disagree, and all else
            that `build_graph` refuses, by type or relation.

    >>> graph = build_typed_graph(
    ...     {"author": [[0.5], [1.5]], "paper": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]},
    ...     {("author", "writes", "paper"): ([0, 1, 1], [0, 0, 2])},
    ... )
    >>> graph
    TypedGraph of 1 graph
      author                    2 nodes  float32[1]
      paper                     3 nodes  float32[2]
      author -writes-> paper    3 edges
    """
    _check_mappings(nodes=nodes, relations=relations, num_nodes=num_nodes or {})
    nodes = {_name("a type", name): rows for name, rows in nodes.items()}
    counts = dict(num_nodes or {})
    for name in counts:
        _check_known(f"num_nodes[{name!r}]", name, nodes)
    built = {}
    for name in sorted(nodes):
        with naming(f"nodes[{name!r}]"):
            built[name] = build_graph([], [], nodes[name], num_nodes=counts.get(name))
    rows = {name: graph.nodes for name, graph in built.items()}
    n_node = {name: graph.n_node for name, graph in built.items()}
    edges = {}
    for triple in sorted(_check_triple(triple, rows) for triple in relations):
        sender, _, receiver = triple
        with naming(arrow(triple)):
            senders, receivers, features = _ends(relations[triple])
            total, table = (int(n_node[each][0]) for each in (receiver, sender))
            one = build_graph(
                senders,
                receivers,
                edges=features,
                num_nodes=total,
                num_senders=None if sender == receiver else table,
            )
        edges[triple] = one
    relation = {t: Relation(g.senders, g.receivers, g.edges) for t, g in edges.items()}
    return TypedGraph(rows, relation, n_node, {t: g.n_edge for t, g in edges.items()})


def require_typed(graph: TypedGraph) -> None:
    """Refuse what is no typed graph, such as a graph of one type.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(graph, TypedGraph):
        raise TypeError(
            f"graph must be a TypedGraph, got {type(graph).__name__}; make one by build_typed_graph(nodes, relations)"
        )


def validate_typed(graph: TypedGraph) -> TypedGraph:
    """The same graph, if it is sound: every relation as `validate` wants it, and all of the same number of graphs.

    Raises:
        TypeError, ValueError: what is wrong, by type or relation.

    >>> graph = build_typed_graph({"user": [[1.0]]}, {("user", "likes", "user"): ([0], [0])})
    >>> validate_typed(graph._replace(n_node={"user": np.array([2])}))
    Traceback (most recent call last):
    ...
    ValueError: nodes['user']: nodes has shape (1, 1): its first axis must be 2, the sum of n_node
    """
    require_typed(graph)
    for field in ("node", "edge"):
        have = graph.nodes if field == "node" else graph.relations
        counted = getattr(graph, f"n_{field}")
        if counted.keys() != have.keys():
            what = "nodes" if field == "node" else "relations"
            differing = ", ".join(map(str, sorted(counted.keys() ^ have.keys())))
            raise ValueError(
                f"n_{field} and {what} differ in {differing}: give a count for each of {what}"
            )
    counts = {f"n_node[{name!r}]": graph.n_node[name] for name in graph.types}
    counts |= {f"n_edge[{triple}]": graph.n_edge[triple] for triple in graph.triples}
    graphs = {name: len(integers(name, count)) for name, count in counts.items()}
    if len(set(graphs.values())) > 1:
        raise ValueError(f"the counts have {graphs} entries: all need one entry for each graph")
    for name in graph.types:
        with naming(f"nodes[{_name('a type', name)!r}]"):
            n_node = integers("n_node", graph.n_node[name])
            validate(_graph_of(graph.nodes[name], NO_EDGES, n_node, 0 * n_node))
    for triple in graph.triples:
        sender, _, receiver = _check_triple(triple, graph.nodes)
        with naming(arrow(triple)):
            one = relation_graph(graph, triple)._replace(nodes=None)
            table = np.asarray(graph.n_node[sender])
            validate(one, None if sender == receiver else int(table.sum()))
            _check_crossing(one, table)
    return graph


def count_nodes(graph: TypedGraph, name: str) -> int:
    """N of a type as a Python integer, inside `jax.jit` too, unless the type has no features there.

    >>> count_nodes(build_typed_graph({"user": None}, {}, num_nodes={"user": 3}), "user")
    3
    """
    require_typed(graph)
    _check_known("type", name, graph.nodes)
    with naming(f"nodes[{name!r}]"):
        return rows_of(_graph_of(graph.nodes[name], NO_EDGES, graph.n_node[name], None))


def find_relation(graph: TypedGraph, relation: Triple | str) -> Triple:
    """The triple of a relation, which may be called by its name alone where no other has that name.

    Raises:
        ValueError: there is none, or more than one; those that exist are listed.

    >>> graph = build_typed_graph({"user": [[1.0]]}, {("user", "likes", "user"): ([0], [0])})
    >>> find_relation(graph, "likes")
    ('user', 'likes', 'user')
    """
    require_typed(graph)
    if not isinstance(relation, str):
        found = [triple for triple in graph.triples if triple == tuple(relation)]
    else:
        found = [triple for triple in graph.triples if triple[1] == relation]
    if len(found) != 1:
        which = listed(map(arrow, found or graph.triples), 50)
        what = "there are several" if found else "there is none"
        raise ValueError(
            f"relation {shown(relation)}: {what}; {'give one of the triples' if found else 'the graph has'} {which}"
        )
    return found[0]


def relation_graph(graph: TypedGraph, relation: Triple | str) -> GraphsTuple:
    """One relation as a `GraphsTuple`: nodes are those of the receiver type; works inside `jax.jit`, too.

    Where the senders are of another type, they are a table of their own: `layer(relation_graph(graph, "writes"),
    senders=graph.nodes["author"])`.

    Args:
        graph: one graph or a batch.
        relation: a triple, or a name that only one relation has.

    Raises:
        ValueError: there is no such relation, or more than one.

    >>> graph = build_typed_graph(
    ...     {"author": [[0.5], [1.5]], "paper": [[1.0, 2.0]]},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 0])},
    ... )
    >>> relation_graph(graph, "writes").nodes.tolist(), relation_graph(graph, "writes").senders.tolist()
    ([[1.0, 2.0]], [0, 1])
    """
    triple = find_relation(graph, relation)
    receiver, edges = triple[2], graph.relations[triple]
    return _graph_of(graph.nodes[receiver], edges, graph.n_node[receiver], graph.n_edge[triple])


def check_dense(graph: TypedGraph, action: str) -> None:
    """Refuse sparse rows for an `action` that needs them dense.

    Raises:
        TypeError: the rows of a type are, or contain, a sparse array.
    """
    for name, rows in graph.nodes.items():
        if any(is_sparse(leaf) for leaf in leaves(rows)):
            raise TypeError(
                f"nodes[{name!r}] is sparse (BCOO): can't {action} it; densify it first with .todense()"
            )


def arrow(triple: Triple) -> str:
    """A relation as people read it.

    >>> arrow(("author", "writes", "paper"))
    'author -writes-> paper'
    """
    return f"{triple[0]} -{triple[1]}-> {triple[2]}"


def row_of(table: PyTree) -> str:
    """The dtype and shape of a row of each array of a tree.

    >>> row_of({"a": np.zeros((5, 2), np.float32), "b": None})
    '{a: float32[2], b: None}'
    """
    rows = jax.tree.map(
        lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", table, is_leaf=is_sparse
    )
    return str(rows).replace("'", "")


def _graph_of(nodes: PyTree, relation: Any, n_node: Any, n_edge: Any) -> GraphsTuple:
    senders, receivers, edges = relation
    return GraphsTuple(nodes, edges, receivers, senders, None, n_node, n_edge)


def _width(table: PyTree) -> str:
    return "" if table is None else row_of(table) if all(np.ndim(x) for x in leaves(table)) else "?"


def _size(graph: TypedGraph, name: str) -> int | str:
    rows, counts = leaves(graph.nodes[name]), graph.n_node[name]
    if rows:
        return _count(rows[0])
    return "?" if isinstance(counts, Tracer) else int(np.sum(counts))


def _count(ids: Any) -> int | str:
    return np.shape(ids)[0] if np.ndim(ids) else "?"


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Say of which type or relation an error speaks."""
    try:
        yield
    except jax.errors.JAXTypeError:
        raise
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def _check_mappings(**fields: Any) -> None:
    for name, value in fields.items():
        if not isinstance(value, Mapping):
            keys = "triples (sender type, name, receiver type)" if name == "relations" else "types"
            raise TypeError(f"{name} must be a dictionary by {keys}, got {type(value).__name__}")


def _name(what: str, name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what} must be called by a string, got {shown(name)}")
    return name


def _check_known(field: str, name: str, nodes: Mapping[str, Any]) -> None:
    if name not in nodes:
        raise ValueError(
            f"{field}: there is no type {shown(name)}; the types are {listed(sorted(nodes), 50)}"
        )


def _check_triple(triple: Any, nodes: Mapping[str, Any]) -> Triple:
    if not isinstance(triple, tuple) or len(triple) != 3:
        raise TypeError(
            f"a relation must be called by (sender type, name, receiver type), got {shown(triple)}"
        )
    for what, name in zip(("a sender type", "a relation", "a receiver type"), triple, strict=True):
        _name(what, name)
    for name in triple[::2]:
        _check_known(f"relation {arrow(triple)}", name, nodes)
    return triple


def _ends(value: Any) -> tuple[Any, Any, Any]:
    if not isinstance(value, tuple | list) or not 2 <= len(value) <= 3:
        got = f"{len(value)} of them" if isinstance(value, tuple | list) else type(value).__name__
        raise TypeError(f"give (senders, receivers) or (senders, receivers, edges), got {got}")
    senders, receivers, edges = (*value, None)[:3]
    return senders, receivers, edges


def _check_crossing(one: GraphsTuple, n_node: np.ndarray) -> None:
    """Senders from a table of their own belong to the graph of their edge, too."""
    n_edge = np.asarray(one.n_edge)
    stop = np.cumsum(n_node)
    start, stop = np.repeat(stop - n_node, n_edge), np.repeat(stop, n_edge)
    senders = np.asarray(one.senders)
    if (bad := first_true((senders < start) | (senders >= stop))) is not None:
        raise ValueError(
            f"senders[{bad}] = {senders[bad]} crosses graphs: by n_node and n_edge this edge's graph has the ids from "
            f"{start[bad]} up to, not including, {stop[bad]}; keep the edges of each graph together"
        )
