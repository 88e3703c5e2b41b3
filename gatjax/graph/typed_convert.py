"""Typed graphs from and to PyTorch Geometric, DGL and NetworkX.

An edge runs source -> target there, our sender -> receiver. Shapes: N nodes of a type, E edges of a relation, F
features. The libraries need not be installed to read theirs: what an object is, its attributes say.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gatjax.graph.convert import attribute_rows, networkx, row_attributes
from gatjax.graph.messages import listed, shown
from gatjax.graph.peers import as_array, library, one_array
from gatjax.graph.typed import (
    Triple,
    TypedGraph,
    build_typed_graph,
    check_dense,
    count_nodes,
    validate_typed,
)
from gatjax.graph.typed_tables import TypedImport

Stores = Mapping[Any, Mapping[str, Any]]


def from_typed_pyg(data: Any) -> TypedImport:
    """A `HeteroData` of PyTorch Geometric, of one graph; nodes and edges keep their order.

    Args:
        data: the object, or the dictionary that its `to_dict()` gives, of tensors or arrays.

    Returns:
        The graph, whose nodes are `x` and whose edges `edge_attr` ([E] becomes [E, 1]), and whatever else there is.

    Raises:
        TypeError: what is no `HeteroData`; sparse tensors.
        ValueError: a type without `x` and `num_nodes`, a graph that is not sound.

    >>> graph, _, others = from_typed_pyg({
    ...     "user": {"x": np.ones((2, 3)), "y": np.array([0, 1])},
    ...     ("user", "likes", "user"): {"edge_index": np.array([[0], [1]])},
    ... })
    >>> graph.relations["user", "likes", "user"].receivers.tolist(), others["user"]["y"].tolist()
    ([1], [0, 1])
    """
    stores = data if isinstance(data, Mapping) else getattr(data, "to_dict", dict)()
    if not any(isinstance(key, tuple) for key in stores):
        raise TypeError(
            f"data is a {type(data).__name__} without relations: pass a torch_geometric.data.HeteroData, its "
            "to_dict(), or a graph of one kind to from_pyg"
        )
    nodes, edges, sizes, others = {}, {}, {}, {}
    for key, store in stores.items():
        fields = {
            name: as_array(f"{shown(key)}.{name}", value)
            for name, value in store.items()
            if value is not None
        }
        if isinstance(key, tuple):
            if "edge_index" not in fields:
                raise TypeError(f"{key} has no edge_index; it has {listed(fields)}")
            index = np.asarray(fields.pop("edge_index"))
            features = fields.pop("edge_attr", None)
            column = features is not None and np.ndim(features) == 1
            edges[key] = (*index, np.asarray(features)[:, None] if column else features)
        elif key != "_global_store":
            nodes[key], total = fields.pop("x", None), fields.pop("num_nodes", None)
            if nodes[key] is None and total is None:
                raise ValueError(
                    f"{shown(key)} has neither x nor num_nodes: set data[{key!r}].num_nodes"
                )
            if total is not None:
                sizes[key] = int(total)
        if fields:
            others[key] = fields
    return TypedImport(build_typed_graph(nodes, edges, num_nodes=sizes), {}, others)


def to_typed_pyg(graph: TypedGraph) -> Any:
    """A `HeteroData` of PyTorch Geometric with the same nodes, as `x`, and edges, whose features are `edge_attr`.

    Args:
        graph: one graph, with dense features, each one array.

    Raises:
        ImportError: PyTorch Geometric is not installed.
        TypeError: sparse features, or a tree of them.
        ValueError: a batch.
    """
    rows, relations = _dense(graph, "PyTorch Geometric")
    torch = library("torch", "PyTorch Geometric")
    data = library("torch_geometric.data", "PyTorch Geometric").HeteroData()
    for name, table in rows.items():
        if table is None:
            data[name].num_nodes = count_nodes(graph, name)
        else:
            data[name].x = torch.tensor(table)
    for triple, (senders, receivers, edges) in relations.items():
        data[triple].edge_index = torch.tensor(np.stack([senders, receivers]).astype(np.int64))
        if edges is not None:
            data[triple].edge_attr = torch.tensor(edges)
    return data


def from_typed_dgl(
    g: Any, *, node_features: str | None = None, edge_features: str | None = None
) -> TypedImport:
    """A DGL graph of several kinds of nodes and edges; edges are in the order of their ids.

    Args:
        g: the graph, of one graph.
        node_features: the name in `g.nodes[type].data` of what becomes the rows of a type, where it has such.
        edge_features: the same in `g.edges[triple].data`.

    Raises:
        TypeError: what is no DGL graph, a block.
        ValueError: a name that no type has; a graph that is not sound.
    """
    if not hasattr(g, "canonical_etypes") or getattr(g, "is_block", False):
        raise TypeError(f"g must be a DGLGraph and no block, got {type(g).__name__}")
    stores: dict[Any, dict[str, Any]] = {}
    for kind, keys in (("nodes", g.ntypes), ("edges", g.canonical_etypes)):
        for key in keys:
            data = getattr(g, kind)[key].data
            stores[key] = {name: as_array(f"{shown(key)}: {name}", data[name]) for name in data}
    for field, wanted, keys in (
        ("node_features", node_features, g.ntypes),
        ("edge_features", edge_features, g.canonical_etypes),
    ):
        if wanted is not None and not any(wanted in stores[key] for key in keys):
            known = listed({name for key in keys for name in stores[key]})
            raise ValueError(f"{field}: nothing has {shown(wanted)}; there is {known}")
    rows = {name: stores[name].pop(node_features or "", None) for name in g.ntypes}
    edges = {}
    for triple in g.canonical_etypes:
        ends = (as_array("edges", ids) for ids in g.edges(order="eid", etype=triple))
        edges[triple] = (*ends, stores[triple].pop(edge_features or "", None))
    sizes = {name: int(g.num_nodes(name)) for name in g.ntypes}
    others = {key: fields for key, fields in stores.items() if fields}
    return TypedImport(build_typed_graph(rows, edges, num_nodes=sizes), {}, others)


def to_typed_dgl(graph: TypedGraph) -> Any:
    """A DGL graph with the same nodes and edges, whose features are called "feat".

    Args:
        graph: one graph, with dense features, each one array.

    Raises:
        ImportError: DGL is not installed.
        TypeError: sparse features, or a tree of them.
        ValueError: a batch.
    """
    rows, relations = _dense(graph, "DGL")
    torch, dgl = (library(name, "DGL") for name in ("torch", "dgl"))
    ends = {
        triple: tuple(torch.tensor(ids.astype(np.int64)) for ids in edges[:2])
        for triple, edges in relations.items()
    }
    g = dgl.heterograph(ends, {name: count_nodes(graph, name) for name in rows})
    for name, table in rows.items():
        if table is not None:
            g.nodes[name].data["feat"] = torch.tensor(table)
    for triple, edges in relations.items():
        if edges[2] is not None:
            g.edges[triple].data["feat"] = torch.tensor(edges[2])
    return g


def from_typed_networkx(
    g: Any,
    *,
    type_attribute: str = "type",
    relation_attribute: str = "relation",
    node_features: Mapping[str, Any] | None = None,
    edge_features: Mapping[str, Any] | None = None,
) -> TypedImport:
    """A directed NetworkX graph whose nodes say of which type they are, and whose edges of which relation.

    Nodes of a type are numbered in the order of `g.nodes`.

    Args:
        g: a `DiGraph` or `MultiDiGraph`.
        type_attribute: the attribute of nodes that is their type.
        relation_attribute: the attribute of edges that is the name of their relation.
        node_features: of a type the attributes that are its rows, as in `from_networkx`.
        edge_features: of the name of a relation those of its edges.

    Returns:
        The graph, and the names of the nodes of each type.

    Raises:
        ImportError: NetworkX is not installed.
        TypeError: `g` is no directed NetworkX graph.
        ValueError: a node without a type, an edge without a relation; features of an unknown type or relation.

    >>> import networkx as nx
    >>> g = nx.MultiDiGraph()
    >>> g.add_node("ann", type="author"); g.add_node("p1", type="paper")
    >>> _ = g.add_edge("ann", "p1", relation="writes")
    >>> graph, names, _ = from_typed_networkx(g)
    >>> graph.triples, names["paper"].tolist()
    ((('author', 'writes', 'paper'),), ['p1'])
    """
    nx = networkx()
    if not isinstance(g, nx.DiGraph):
        raise TypeError(f"g must be a directed NetworkX graph, got {type(g).__name__}")
    kinds = {
        node: _attribute(f"node {shown(node)}", fields, type_attribute)
        for node, fields in g.nodes(data=True)
    }
    members: dict[str, list[Any]] = {}
    for node, kind in kinds.items():
        members.setdefault(kind, []).append(node)
    number = {node: place for nodes in members.values() for place, node in enumerate(nodes)}
    links: dict[Triple, list[Any]] = {}
    for u, v, fields in g.edges(data=True):
        name = _attribute(f"edge {shown(u)} -> {shown(v)}", fields, relation_attribute)
        links.setdefault((kinds[u], name, kinds[v]), []).append((u, v, fields))
    _known("node_features", node_features, members)
    _known("edge_features", edge_features, {triple[1] for triple in links})
    rows = {
        kind: attribute_rows(
            "node_features", (node_features or {}).get(kind), [((n,), g.nodes[n]) for n in nodes]
        )
        for kind, nodes in members.items()
    }
    edges = {
        triple: (
            np.array([number[u] for u, _, _ in items], np.int32),
            np.array([number[v] for _, v, _ in items], np.int32),
            attribute_rows(
                "edge_features",
                (edge_features or {}).get(triple[1]),
                [((u, v), fields) for u, v, fields in items],
            ),
        )
        for triple, items in links.items()
    }
    sizes = {kind: len(nodes) for kind, nodes in members.items()}
    graph = build_typed_graph(rows, edges, num_nodes=sizes)
    return TypedImport(graph, {kind: _objects(nodes) for kind, nodes in members.items()}, {})


def to_typed_networkx(graph: TypedGraph) -> Any:
    """A `networkx.MultiDiGraph` whose nodes (type, i) and edges carry `type`, `relation` and `features`.

    Args:
        graph: one graph or a batch, with dense features.

    Raises:
        ImportError: NetworkX is not installed.
        TypeError: sparse features.

    >>> graph = build_typed_graph({"user": [[1.0], [2.0]]}, {("user", "likes", "user"): ([0], [1])})
    >>> g = to_typed_networkx(graph)
    >>> list(g.edges(data="relation"))
    [(('user', 0), ('user', 1), 'likes')]
    """
    g = networkx().MultiDiGraph()
    validate_typed(graph)
    check_dense(graph, "convert")
    for name in graph.types:
        features = row_attributes(graph.nodes[name], count_nodes(graph, name))
        g.add_nodes_from(
            ((name, place), {"type": name, **row}) for place, row in enumerate(features)
        )
    for triple in graph.triples:
        one = graph.relations[triple]
        senders, receivers = np.asarray(one.senders).tolist(), np.asarray(one.receivers).tolist()
        features = row_attributes(one.edges, len(senders))
        g.add_edges_from(
            ((triple[0], s), (triple[2], r), {"relation": triple[1], **row})
            for s, r, row in zip(senders, receivers, features, strict=True)
        )
    return g


def _dense(graph: TypedGraph, title: str) -> tuple[dict[str, Any], dict[Triple, Any]]:
    """Rows by type, and ends and features by relation, as one array each."""
    validate_typed(graph)
    if any(len(np.asarray(count)) != 1 for count in graph.n_node.values()):
        raise ValueError(f"graph is a batch: give {title} one graph at a time, see unbatch_typed")
    check_dense(graph, f"give {title}")
    relations = {}
    for triple in graph.triples:
        one = graph.relations[triple]
        ids = np.asarray(one.senders), np.asarray(one.receivers)
        relations[triple] = (*ids, one_array(f"edges of {triple}", one.edges))
    rows = {name: one_array(f"nodes[{name!r}]", graph.nodes[name]) for name in graph.types}
    return rows, relations


def _attribute(what: str, fields: Mapping[str, Any], name: str) -> str:
    if not isinstance(fields.get(name), str):
        raise ValueError(
            f"{what} has no {shown(name)} that is a string; its attributes: {listed(map(repr, fields))}"
        )
    return fields[name]


def _known(field: str, features: Mapping[str, Any] | None, known: Iterable[str]) -> None:
    for name in features or {}:
        if name not in known:
            raise ValueError(
                f"{field}: there is no {shown(name)}; there are {listed(sorted(known))}"
            )


def _objects(nodes: list[Any]) -> np.ndarray:
    names = np.empty(len(nodes), object)
    names[:] = nodes
    return names
