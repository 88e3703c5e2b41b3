"""Graphs from and to PyTorch Geometric and DGL, which need not be installed to read theirs.

An edge runs source -> target in both, our sender -> receiver. Shapes: N nodes, E edges, G graphs, F features. What one
of their objects is, its attributes say; tensors become NumPy arrays of the same dtype, without their gradients.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree, Shaped
from jraph import GraphsTuple
from numpy.typing import ArrayLike

from gatjax.graph.batching import unbatch
from gatjax.graph.build import build_graph
from gatjax.graph.ids import first_true, host_ids, integers, require_dense, validate
from gatjax.graph.messages import listed, shown
from gatjax.graph.sizes import leaves


class Imported(NamedTuple):
    """A graph of another library, its edge weights, and all else that came with it.

    Attributes:
      graph: one graph or a batch.
      edge_weight: [E], for `edge_weight=` of a layer; None where edges have no weight.
      others: everything else by its name there, such as labels and masks, in NumPy arrays; nothing is lost.
    """

    graph: GraphsTuple
    edge_weight: Shaped[np.ndarray, "E"] | None
    others: dict[str, Any]


def from_pyg(data: Any) -> Imported:
    """A `Data` or a `Batch` of PyTorch Geometric; edges and nodes keep their order.

    `edge_index` holds senders and receivers, `x` the nodes' features, `edge_attr` those of the edges ([E] becomes
    [E, 1], as PyG's layers see it) or, without it, `edge_type` the relations that `RelationalGATConv` reads. `ptr`,
    or `batch`, says which graph a node belongs to.

    Args:
        data: the object, or the dictionary that its `to_dict()` gives, of tensors or arrays.

    Returns:
        `(graph, edge_weight, others)`; `others` has `y`, `train_mask`, `pos` and whatever else there is.

    Raises:
        TypeError: `HeteroData`, an adjacency in place of `edge_index`, sparse tensors, anything else.
        ValueError: a graph that is not sound; the edges of a batch that do not stand together, graph by graph.

    >>> data = {"edge_index": np.array([[0, 1], [1, 2]]), "x": np.ones((3, 4)), "y": np.array([0, 1, 1])}
    >>> graph, edge_weight, others = from_pyg(data)
    >>> graph.senders.tolist(), graph.receivers.tolist(), edge_weight, others["y"].tolist()
    ([0, 1], [1, 2], None, [0, 1, 1])
    """
    fields = {name: as_array(name, value) for name, value in _pyg_fields(data).items()}
    fields.pop("_num_nodes", None)  # of each graph of a batch, which ptr says too
    edge_index = np.asarray(fields.pop("edge_index"))
    if edge_index.ndim != 2 or len(edge_index) != 2:
        raise ValueError(f"edge_index has shape {edge_index.shape}: it must be [2, E]")
    nodes, total = fields.pop("x", None), fields.pop("num_nodes", None)
    edges, weight = fields.pop("edge_attr", None), fields.pop("edge_weight", None)
    if edges is None:
        edges = fields.pop("edge_type", None)
    elif np.ndim(edges) == 1:
        edges = np.asarray(edges)[:, None]
    counts = _pyg_counts(fields.pop("ptr", None), fields.pop("batch", None))
    total = total if counts is None else int(counts.sum())
    if nodes is None and total is None:
        raise ValueError(
            "data has neither x nor num_nodes: set data.num_nodes, since edges do not show a node without any"
        )
    graph = build_graph(edge_index[0], edge_index[1], nodes, edges=edges, num_nodes=total)
    if counts is not None:
        graph = _batched(graph, counts)
    return Imported(graph, _weights(graph, weight), fields)


def to_pyg(graph: GraphsTuple, *, edge_weight: ArrayLike | None = None) -> Any:
    """A PyTorch Geometric `Data`, or a `Batch` of several graphs, with the same nodes and edges.

    `nodes` become `x`, `edges` `edge_attr` (integers [E] `edge_type`). Whatever else there is, such as labels, is set
    on the result: `data.y = torch.from_numpy(labels)`.

    Args:
        graph: one graph or a batch, with dense features, each one array.
        edge_weight: [E], becomes `edge_weight`.

    Raises:
        ImportError: PyTorch Geometric is not installed.
        TypeError: sparse node features, or a tree of them.
        ValueError: globals, which PyG has no place for, or weights that are not one for each edge.
    """
    fields = _pyg_tensors(graph, edge_weight)
    torch, geometric = (
        library(name, "PyTorch Geometric") for name in ("torch", "torch_geometric.data")
    )
    tensors = [
        {
            name: value if isinstance(value, int) else torch.tensor(value)
            for name, value in part.items()
        }
        for part in fields
    ]
    parts = [geometric.Data(**part) for part in tensors]
    return parts[0] if len(parts) == 1 else geometric.Batch.from_data_list(parts)


def from_dgl(
    g: Any,
    *,
    node_features: str | None = None,
    edge_features: str | None = None,
    edge_weight: str | None = None,
) -> Imported:
    """A DGL graph of one kind of nodes and edges, or a batch of them; edges are in the order of their ids.

    Args:
        g: the graph.
        node_features: the name in `g.ndata` of what becomes `nodes`. None: no node features.
        edge_features: the name in `g.edata` of what becomes `edges`. None: no edge features.
        edge_weight: the name in `g.edata` of the weights, [E] or [E, 1].

    Returns:
        `(graph, edge_weight, others)`; `others` has the rest of the data, `others["ndata"]["label"]`.

    Raises:
        TypeError: several kinds of nodes or edges, a block, anything else.
        ValueError: a name that there is not; a graph that is not sound.

    >>> class Graph:                                           # what is read of a DGLGraph
    ...     is_homogeneous, is_block = True, False
    ...     ndata, edata = {"feat": np.ones((3, 4)), "label": np.array([0, 1, 1])}, {}
    ...     edges = lambda self, order: (np.array([0, 1]), np.array([1, 2]))
    ...     batch_num_nodes = lambda self: np.array([3])
    ...     batch_num_edges = lambda self: np.array([2])
    >>> graph, edge_weight, others = from_dgl(Graph(), node_features="feat")
    >>> graph.receivers.tolist(), others["ndata"]["label"].tolist()
    ([1, 2], [0, 1, 1])
    """
    _check_dgl(g)
    ndata, edata = (
        {
            name: as_array(f"{field}[{name!r}]", value)
            for name, value in dict(getattr(g, field)).items()
        }
        for field in ("ndata", "edata")
    )
    nodes = _taken(ndata, "ndata", "node_features", node_features)
    edges = _taken(edata, "edata", "edge_features", edge_features)
    weight = _taken(edata, "edata", "edge_weight", edge_weight)
    n_node, n_edge = (
        integers(name, as_array(name, getattr(g, name)()))
        for name in ("batch_num_nodes", "batch_num_edges")
    )
    senders, receivers = (as_array("edges", ids) for ids in g.edges(order="eid"))
    graph = build_graph(senders, receivers, nodes, edges=edges, num_nodes=int(n_node.sum()))
    graph = validate(graph._replace(n_node=n_node, n_edge=n_edge))
    return Imported(graph, _weights(graph, weight), {"ndata": ndata, "edata": edata})


def to_dgl(graph: GraphsTuple, *, edge_weight: ArrayLike | None = None) -> Any:
    """A DGL graph, or a batch, with the same nodes and edges.

    `nodes` become `ndata["feat"]`, `edges` `edata["feat"]` and the weights `edata["weight"]`.

    Args:
        graph: one graph or a batch, with dense features, each one array.
        edge_weight: [E].

    Raises:
        ImportError: DGL is not installed.
        TypeError: sparse node features, or a tree of them.
        ValueError: globals, which DGL has no place for, or weights that are not one for each edge.
    """
    nodes, edges, weight = _parts(graph, edge_weight, "DGL")
    torch, dgl = (library(name, "DGL") for name in ("torch", "dgl"))
    ids = host_ids(graph)
    ends = (torch.tensor(end.astype(np.int64)) for end in (ids.senders, ids.receivers))
    g = dgl.graph(tuple(ends), num_nodes=int(ids.n_node.sum()))
    for data, name, rows in (
        (g.ndata, "feat", nodes),
        (g.edata, "feat", edges),
        (g.edata, "weight", weight),
    ):
        if rows is not None:
            data[name] = torch.tensor(rows)
    if len(ids.n_node) != 1:
        g.set_batch_num_nodes(torch.tensor(ids.n_node.astype(np.int64)))
        g.set_batch_num_edges(torch.tensor(ids.n_edge.astype(np.int64)))
    return g


def _pyg_fields(data: Any) -> dict[str, Any]:
    """The attributes by name, those that are None left out."""
    if hasattr(data, "edge_types"):
        raise TypeError(
            f"data is a {type(data).__name__}, of several kinds of nodes or edges: pass data.to_homogeneous(), "
            "whose edge_type is the relation of each edge"
        )
    if isinstance(data, list | tuple):
        raise TypeError(
            f"data is a {type(data).__name__}: convert each graph, batch([from_pyg(each).graph for each in data]); "
            "of one, pass from_pyg({'x': x, 'edge_index': edge_index})"
        )
    fields = data if isinstance(data, Mapping) else getattr(data, "to_dict", dict)()
    known = {name: value for name, value in fields.items() if value is not None}
    if "adj_t" in known or "adj" in known:
        raise TypeError(
            "data holds its edges as an adjacency: set data.edge_index = torch.stack(data.adj_t.t().coo()[:2])"
        )
    if "edge_index" not in known:
        raise TypeError(
            f"data is a {type(data).__name__} without edge_index: pass a torch_geometric.data.Data or its to_dict()"
        )
    return known


def _pyg_counts(ptr: ArrayLike | None, batch: ArrayLike | None) -> np.ndarray | None:
    """The number of nodes of each graph."""
    if ptr is not None:
        return np.diff(integers("ptr", ptr)).astype(np.int32)
    if batch is None:
        return None
    batch = integers("batch", batch)
    if (late := first_true(batch[1:] < batch[:-1])) is not None:
        raise ValueError(
            f"batch[{late + 1}] = {batch[late + 1]} comes after {batch[late]}: the nodes of each graph must stand "
            "together"
        )
    return np.bincount(batch).astype(np.int32)


def _batched(graph: GraphsTuple, n_node: np.ndarray) -> GraphsTuple:
    """The graph as a batch, where each edge belongs to the graph of its receiver."""
    owner = np.repeat(np.arange(len(n_node)), n_node)[np.asarray(graph.receivers)]
    n_edge = np.bincount(owner, minlength=len(n_node)).astype(np.int32)
    return validate(graph._replace(n_node=n_node, n_edge=n_edge))


def _pyg_tensors(graph: GraphsTuple, edge_weight: ArrayLike | None) -> Iterable[dict[str, Any]]:
    """What a `Data` is made of, for each graph."""
    nodes, edges, weight = _parts(graph, edge_weight, "PyTorch Geometric")
    parts: list[Any] = unbatch(graph._replace(nodes=nodes, edges={"own": edges, "weight": weight}))
    relations = edges is not None and edges.ndim == 1 and edges.dtype.kind in "iu"
    fields = []
    for part in parts:
        rows: dict[str, Any] = {
            "x": part.nodes,
            "edge_index": np.stack([part.senders, part.receivers]).astype(np.int64),
            "edge_type" if relations else "edge_attr": part.edges["own"],
            "edge_weight": part.edges["weight"],
            "num_nodes": int(part.n_node[0]) if part.nodes is None else None,
        }
        fields.append({name: value for name, value in rows.items() if value is not None})
    return fields


def _parts(
    graph: GraphsTuple, edge_weight: ArrayLike | None, library: str
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Nodes, edges and weights, each one array or nothing."""
    require_dense(validate(graph), f"give {library}")
    if graph.globals is not None:
        raise ValueError(
            f"globals: {library} has no place for features of a graph; leave them out, graph._replace(globals=None)"
        )
    weight = _weights(graph, edge_weight)
    return one_array("nodes", graph.nodes), one_array("edges", graph.edges), weight


def one_array(name: str, features: PyTree) -> np.ndarray | None:
    if features is None:
        return None
    if len(leaves(features)) != 1 or leaves(features)[0] is not features:
        raise TypeError(f"{name} is a tree, {shown(features)}: choose one array of it")
    return np.asarray(features)


def _weights(graph: GraphsTuple, weight: ArrayLike | None) -> np.ndarray | None:
    """One number for each edge."""
    if weight is None:
        return None
    weight, total = np.asarray(weight), int(graph.n_edge.sum())
    if weight.shape not in ((total,), (total, 1)):
        raise ValueError(
            f"edge_weight has shape {weight.shape}: give one for each of {total} edges"
        )
    return weight.reshape(-1)


def _check_dgl(g: Any) -> None:
    if not hasattr(g, "ndata") or not hasattr(g, "batch_num_nodes"):
        raise TypeError(f"g must be a DGLGraph, got {type(g).__name__}")
    if getattr(g, "is_block", False):
        raise TypeError(
            "g is a block, whose ends are different nodes: pass the graph it was taken from"
        )
    if not g.is_homogeneous:
        raise TypeError(
            "g has several kinds of nodes or edges: pass dgl.to_homogeneous(g), whose edata[dgl.ETYPE] is the "
            "relation of each edge"
        )


def _taken(data: dict[str, Any], where: str, field: str, name: str | None) -> Any:
    """Take one of the named arrays out."""
    if name is None:
        return None
    if name not in data:
        raise ValueError(f"{field}: g.{where} has no {shown(name)}; it has {listed(data)}")
    return data.pop(name)


def as_array(name: str, value: Any) -> Any:
    """A tensor as a NumPy array; what is none, as it is."""
    if hasattr(value, "to_dense") and (
        not hasattr(value, "layout") or "strided" not in str(value.layout)
    ):
        raise TypeError(f"{name} is sparse: pass {name}.to_dense()")
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    if "bfloat16" in str(tensor.dtype):
        raise TypeError(f"{name} is bfloat16, which NumPy has not: pass {name}.float()")
    return tensor.numpy()


def library(name: str, title: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(
            f"this needs {title}, which has no module {name} here: install it"
        ) from None
