"""What a layer reads of a graph: rows that receive and rows that send, and features of the edges."""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.graph.check import EdgeMask, EdgeWeight, NodeMask, SenderMask, SideParts, check_mask
from gatjax.graph.numbers import check_digits, default_float
from gatjax.graph.sizes import is_unknown, num_edges, num_nodes, require_graph
from gatjax.graph.views import Seen, Sides, View
from gatjax.ops.sparse import Features, keep_rows

InFeatures = int | tuple[int, int] | list[int]


def side_parts(
    senders: Features | None,
    edge_mask: EdgeMask,
    edge_weight: EdgeWeight,
    node_mask: NodeMask,
    sender_mask: SenderMask,
) -> SideParts:
    """The arguments of a layer's call that say what counts; of senders only where they have a table of their own."""
    parts: SideParts = {
        "edge_mask": edge_mask,
        "edge_weight": edge_weight,
        "node_mask": node_mask,
    }
    if senders is not None:
        parts["senders"] = senders
    if sender_mask is not None:
        parts["sender_mask"] = sender_mask
    return parts


def seen_through(
    view: View | None, graph: GraphsTuple, parts: SideParts
) -> tuple[GraphsTuple, SideParts]:
    """A graph of the rows that receive, its edges, and what counts of both; the table of senders is that of all rows.

    Args:
      view: which rows receive and send; None, as the graph says.
      graph: one graph, whose `nodes` are all rows.
      parts: masks and weights of all of them.

    Raises:
      ValueError: a table of senders beside a view, several graphs, or a view of more than there is.
    """
    if view is None:
        return graph, parts
    if parts.get("senders") is not None or parts.get("sender_mask") is not None:
        raise ValueError(
            "a view says which nodes send: pass view, or senders and sender_mask, but not both"
        )
    if len(graph.n_node) != 1:
        raise ValueError(f"a view is of one graph, got a batch of {len(graph.n_node)}")
    node_mask = parts.get("node_mask")
    check_mask(num_nodes(graph), node_mask=node_mask)
    rows = keep_rows(node_features(graph), node_mask)
    of_edges = {name: parts.get(name) for name in ("edge_mask", "edge_weight")}
    graph, of_edges = view.walked(graph, of_edges)
    graph = graph._replace(nodes=view.receivers(rows))
    graph = graph._replace(n_node=np.array([num_nodes(graph)], np.int32))
    if node_mask is not None:
        of_edges |= {"node_mask": view.receivers(node_mask), "sender_mask": view.senders(node_mask)}
    return graph, cast(SideParts, {**of_edges, "senders": Seen(rows, view)})


def widths(in_features: InFeatures) -> Sides:
    """The widths of receivers and senders: a number for both, or a pair (receivers, senders).

    Raises:
      ValueError: neither a number nor a pair.

    >>> widths(3), widths((3, 5))
    (Sides(receivers=3, senders=3), Sides(receivers=3, senders=5))
    """
    if not isinstance(in_features, tuple | list):
        return Sides(in_features, in_features)
    if len(in_features) != 2:
        raise ValueError(
            f"in_features must be one width, or a pair (receivers, senders), got {in_features}"
        )
    return Sides(*in_features)


def check_widths(nodes: Sides | Seen, in_features: InFeatures | None) -> None:
    """Refuse rows of another width than a layer was built for.

    Raises:
      ValueError: by side.
    """
    if in_features is None:
        return
    expected = widths(in_features)
    tables = nodes.tables
    for name, rows, table, width in zip(("nodes", "senders"), "NM", tables, expected, strict=True):
        if table.ndim == 2 and table.shape[1] == width:
            continue
        if name == "senders" and nodes.shared:
            raise ValueError(
                f"the layer was built with in_features={tuple(expected)}, for senders with a table of their own: "
                f"pass senders=[M, {width}]"
            )
        raise ValueError(
            f"{name} must be [{rows}, {width}], got {list(table.shape)}: as wide as the layer was built for"
        )


def node_features(graph: GraphsTuple) -> Features:
    """The graph's node features, if it has one array of them.

    Raises:
      TypeError: there is no graph.
      ValueError: it has none, or a tree of arrays.
    """
    require_graph(graph)
    if not isinstance(graph.nodes, Features):
        raise ValueError(
            f"a layer needs graph.nodes [N, F], an array or a BCOO, got {type(graph.nodes).__name__}"
        )
    _keep_digits("nodes", graph.nodes)
    return graph.nodes


def check_edge_features(
    graph: GraphsTuple, width: int | None, *, may_read: bool = True
) -> GraphsTuple:
    """Refuse edge features of another width than the layer was built for, and features where it reads none.

    Args:
      graph: whose edges.
      width: of the features that the layer was built for, None if it reads none.
      may_read: whether there is such an option.

    Returns:
      The graph; one without edges may say nothing of their features, and gets no rows of that width.

    Raises:
      ValueError: the graph and the layer's `edge_features` disagree.
    """
    edges = graph.edges
    if not num_edges(graph) and is_unknown(edges):
        return graph._replace(edges=None if width is None else jnp.zeros((0, width)))
    if width is None:
        if edges is None:
            return graph
        raise ValueError(
            f"the graph has edge features, but the layer was built without: {_uses(edges, may_read)}drop them, "
            "graph._replace(edges=None)"
        )
    if edges is None:
        raise ValueError(
            f"the layer was built with edge_features={width}, but the graph has none (edges=None)"
        )
    if not isinstance(edges, Features):
        raise ValueError(f"a layer needs graph.edges [E, F], one array, got {type(edges).__name__}")
    if edges.shape[1:] != (width,):
        raise ValueError(f"expected edges of shape [E, {width}], got {list(edges.shape)}")
    _keep_digits("edges", edges)
    return graph


def _uses(edges: PyTree, may_read: bool) -> str:
    """What else can be done with features of edges than to drop them."""
    width = edges.shape[1] if isinstance(edges, Features) and edges.ndim == 2 else None
    read = f"build it with edge_features={width or '...'}, " if may_read else ""
    weigh = "graph, weight = split_weights(graph) and pass edge_weight=weight, "
    return (
        read
        + (f"take weights out, {weigh}" if width == 1 else "")
        + ("or " if read or width == 1 else "")
    )


def _keep_digits(name: str, table: Features) -> None:
    """Refuse long whole numbers, where they are known: a layer computes in floats."""
    if isinstance(table, np.ndarray | jax.Array) and not isinstance(table, Tracer):
        if jnp.issubdtype(table.dtype, jnp.integer):
            place = lambda index: f"{name}{list(index)} = "
            check_digits(np.asarray(table), place, default_float())
