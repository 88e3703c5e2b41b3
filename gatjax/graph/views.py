"""Which rows of a table of nodes receive, and which send."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import PyTree
from jraph import GraphsTuple

from gatjax.graph.messages import check_at_least
from gatjax.graph.sizes import num_edges
from gatjax.ops.dropout import RowNumbers
from gatjax.ops.sparse import HeadDropout


class Numbered(NamedTuple):
    """Where the nodes and the edges of a part of a graph stand in the whole of it, None where dropout need not know."""

    nodes: RowNumbers | None = None
    edges: RowNumbers | None = None


@runtime_checkable
class View(Protocol):
    """What a layer applies after it has projected the rows of the nodes, and before it walks the edges.

    `graph.receivers` then name rows of `receivers(rows)`, and `graph.senders` rows of `senders(rows)`.
    """

    @property
    def numbers(self) -> Numbered:
        """Of all rows and of the edges, by which dropout draws."""
        ...

    def receivers(self, rows: PyTree) -> PyTree:
        """The rows that receive, [N, ...] -> [R, ...]."""
        ...

    def senders(self, rows: PyTree) -> PyTree:
        """The rows that send, [N, ...] -> [S, ...]."""
        ...

    def num_senders(self, num_rows: int) -> int:
        """S."""
        ...

    def walked(self, graph: GraphsTuple, tables: dict[str, Any]) -> tuple[GraphsTuple, dict]:
        """The graph with the edges that are walked, and of tables with a row per edge, or None, their rows."""
        ...

    def after(self, graph: GraphsTuple) -> GraphsTuple:
        """A graph of the rows that have received, with the edges that join them."""
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class First:
    """The first rows receive, by the first edges, and all rows send: how a layer reads a part of a sampled graph.

    Attributes:
        nodes: how many rows receive.
        edges: how many edges are walked, all by default; they end at rows that receive.

    Raises:
        ValueError: a number under 0.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import MeanConv
    >>> graph = build_graph([1, 2, 3], [0, 0, 1], jnp.eye(4))
    >>> MeanConv(4, 5, rngs=nnx.Rngs(0))(graph, view=First(1, edges=2)).nodes.shape
    (1, 5)
    """

    nodes: int
    edges: int | None = None

    @property
    def numbers(self) -> Numbered:
        """None: dropout goes by the places in the sample."""
        return Numbered()

    def __post_init__(self):
        check_at_least(0, nodes=self.nodes, **({} if self.edges is None else {"edges": self.edges}))

    def receivers(self, rows: PyTree) -> PyTree:
        """The first rows; of a sparse table, too."""
        return jax.tree.map(self._first, rows, is_leaf=lambda leaf: isinstance(leaf, BCOO))

    def senders(self, rows: PyTree) -> PyTree:
        """All rows."""
        return rows

    def num_senders(self, num_rows: int) -> int:
        """All of them."""
        return num_rows

    def walked(self, graph: GraphsTuple, tables: dict[str, Any]) -> tuple[GraphsTuple, dict]:
        """The first edges, and the first rows of each table."""
        total = num_edges(graph)
        count = total if self.edges is None else self.edges
        if count > total:
            raise ValueError(f"the view has {count} edges, but the graph {total}: lower edges")
        first = lambda table: jax.tree.map(lambda rows: rows[:count], table)
        ends: Any = graph.senders, graph.receivers
        senders, receivers = first(ends)
        graph = graph._replace(
            senders=senders,
            receivers=receivers,
            edges=first(graph.edges),
            n_edge=np.array([count], np.int32),
        )
        return graph, {name: first(table) for name, table in tables.items()}

    def after(self, graph: GraphsTuple) -> GraphsTuple:
        """Without edges: those that were walked start at rows that are left behind."""
        return dataclasses.replace(self, edges=0).walked(graph, {})[0]

    def _first(self, rows: Any) -> Any:
        if self.nodes > rows.shape[0]:
            raise ValueError(
                f"the view has {self.nodes} nodes, but the graph {rows.shape[0]}: lower nodes"
            )
        return rows[: self.nodes]


class Sides(NamedTuple):
    """Something for the rows that receive, and something for those that send: features, widths, projections.

    Where the nodes of a graph do both, both are the same object, and `each` treats it once.

    >>> Sides(2, 2).each(lambda x: x + 1), Sides(2, 5).each(lambda senders: senders, lambda receivers: -receivers)
    (Sides(receivers=3, senders=3), Sides(receivers=-2, senders=5))
    """

    receivers: Any
    senders: Any

    @property
    def shared(self) -> bool:
        """Whether one table is both."""
        return self.receivers is self.senders

    @property
    def tables(self) -> "Sides":
        """What the rows of both sides are rows of."""
        return self

    @property
    def counts(self) -> "Sides":
        """How many rows receive, and how many send."""
        return Sides(self.receivers.shape[0], self.senders.shape[0])

    def each(self, senders: Callable, receivers: Callable | None = None) -> "Sides":
        """What a function makes of both sides, or one of the senders and another of the receivers."""
        if receivers is None and self.shared:
            both = senders(self.senders)
            return Sides(both, both)
        of_receivers = senders if receivers is None else receivers
        return Sides(of_receivers(self.receivers), senders(self.senders))

    def sent(self, function: Callable) -> Any:
        """What a function makes of the rows that send."""
        return function(self.senders)


class Seen(Sides):
    """The sides of one table through a view, which treats each row once, whichever rows receive and send.

    Args:
      rows: something for every row of the table.
      view: which of them receive and send.
      received: something else for the rows that receive.
    """

    rows: Any
    view: View
    received: Any

    def __new__(cls, rows: Any, view: View, received: Any = None) -> "Seen":
        seen = super().__new__(cls, rows, rows)
        seen.rows, seen.view, seen.received = rows, view, received
        return seen

    @property
    def receivers(self) -> Any:
        """The rows that receive."""
        if self.received is not None:
            return self.received
        if isinstance(self.rows, HeadDropout):
            return self.rows._replace(features=self.view.receivers(self.rows.features))
        return self.view.receivers(self.rows)

    @property
    def senders(self) -> Any:
        """The rows that send."""
        return self.view.senders(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.receivers, self.senders))

    @property
    def shared(self) -> bool:
        """One table is both."""
        return True

    @property
    def tables(self) -> Sides:
        """The rows before the view."""
        return Sides(self.rows, self.rows)

    @property
    def counts(self) -> Sides:
        """How many rows receive, and how many send."""
        return Sides(self.receivers.shape[0], self.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the table of senders."""
        return (self.view.num_senders(self.rows.shape[0]), *self.rows.shape[1:])

    @property
    def ndim(self) -> int:
        """Axes of the table of senders."""
        return self.rows.ndim

    def each(self, senders: Callable, receivers: Callable | None = None) -> Sides:
        """As `Sides.each`, of the rows before the view."""
        own = receivers or (senders if self.received is not None else None)
        received = None if own is None else own(self.receivers)
        return Seen(senders(self.rows), self.view, received)

    def sent(self, function: Callable) -> Any:
        """What a function makes of all rows before they are sent: each row once, where it is."""
        return self.view.senders(function(self.rows))
