"""The view of a shard: its own nodes receive; they and nodes of other shards send."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import Array, Int, PyTree, Shaped
from jraph import GraphsTuple

from gatjax.graph.views import Numbered
from gatjax.ops.blocks import flat, gather
from gatjax.ops.dropout import RowNumbers

Exchange = Literal["ring", "all_to_all"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["send", "nodes", "edges"],
    meta_fields=["axis", "exchange"],
)
@dataclasses.dataclass(frozen=True)
class Halo:
    """A shard of a graph inside `jax.shard_map`: the rows of its own nodes receive, and those of others send, too.

    What the layer has projected is exchanged, so that every node is projected once, on its own shard. Of D shards,
    shard d sends rows `send[s - 1]` to shard d + s, counted round the circle, for s = 1, ..., D - 1. The rows that
    `graph.senders` name are a shard's own first, then those from shard d - 1, from d - 2, and so on.

    Attributes:
        send: which of its rows a shard sends to each other one, D - 1 vectors; -1 is padding. A vector is as long on
            all shards, so that the largest pair of each distance says how much is exchanged.
        axis: of the mesh along which the shards lie.
        exchange: "ring", a step for each distance, or "all_to_all", one step with every pair as long as the longest.
        nodes: the numbers of the shard's nodes in the whole graph, for dropout that does not depend on D; by the places
            in the shard where there are none.
        edges: those of its edges.

    Raises:
        ValueError: an unknown exchange; when a layer is called, another number of shards along the axis, or no such
            axis.

    One shard is the whole graph:

    >>> from flax import nnx
    >>> from jax.sharding import Mesh, PartitionSpec as P
    >>> from gatjax.graph import build_graph
    >>> from gatjax.layers import MeanConv
    >>> layer = MeanConv(1, 1, rngs=nnx.Rngs(0))
    >>> graph = build_graph([0], [0], jnp.ones((1, 1)))
    >>> mesh = Mesh(np.array(jax.devices()[:1]), ("shards",))
    >>> seen = lambda graph: layer(graph, view=Halo((), "shards")).nodes
    >>> sharded = jax.shard_map(seen, mesh=mesh, in_specs=P(), out_specs=P())
    >>> bool(jnp.allclose(sharded(graph), layer(graph).nodes))
    True
    """

    send: tuple[Int[Array | np.ndarray, "_"], ...]
    axis: str
    exchange: Exchange = "ring"
    nodes: RowNumbers | None = None
    edges: RowNumbers | None = None

    def __post_init__(self):
        if self.exchange not in get_args(Exchange):
            raise ValueError(
                f"exchange must be one of {list(get_args(Exchange))}, got {self.exchange!r}"
            )

    @property
    def numbers(self) -> Numbered:
        """Of the shard's own nodes and edges."""
        return Numbered(self.nodes, self.edges)

    def receivers(self, rows: PyTree) -> PyTree:
        """The shard's own rows."""
        return rows

    def senders(self, rows: PyTree) -> PyTree:
        """The shard's own rows, and those that the other shards send, which takes all shards to call it."""
        leaves, tree = jax.tree.flatten(rows, is_leaf=lambda leaf: isinstance(leaf, BCOO))
        if any(isinstance(leaf, BCOO) for leaf in leaves):
            raise ValueError(
                "a shard cannot send sparse rows: pass features.todense(), or a layer that projects before it sends"
            )
        self._check_axis()
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        received = self._received(leaves)
        return tree.unflatten(map(_stacked, leaves, received))

    def num_senders(self, num_rows: int) -> int:
        """The shard's own rows, and all that come."""
        return num_rows + sum(len(ids) for ids in self.send)

    def walked(self, graph: GraphsTuple, tables: dict[str, Any]) -> tuple[GraphsTuple, dict]:
        """All edges of the shard: those that end at its nodes."""
        return graph, tables

    def after(self, graph: GraphsTuple) -> GraphsTuple:
        """The same graph, for the next layer under the same view."""
        return graph

    def _received(self, leaves: list[Array]) -> list[list[Array]]:
        """What comes from each distance, by leaf. All of one dtype travel side by side."""
        received: list[list[Array]] = [[] for _ in leaves]
        swap = _ring if self.exchange == "ring" else _all_to_all
        for dtype in dict.fromkeys(leaf.dtype for leaf in leaves):
            places = [place for place, leaf in enumerate(leaves) if leaf.dtype == dtype]
            tables = [flat(leaves[place]) for place in places]
            ends = np.cumsum([table.shape[1] for table in tables])[:-1]
            read = partial(_beside, tables)
            for rows in swap(read, self.send, self.axis):
                for place, part in zip(places, jnp.split(rows, ends, axis=1), strict=True):
                    received[place].append(part.reshape(-1, *leaves[place].shape[1:]))
        return received

    def _check_axis(self) -> None:
        try:
            size = jax.lax.axis_size(self.axis)
        except NameError as error:
            raise ValueError(
                f"there is no axis {self.axis!r} here: a Halo is for layers inside jax.shard_map over a mesh that has "
                "one"
            ) from error
        if size != len(self.send) + 1:
            raise ValueError(
                f"the view is of {len(self.send) + 1} shards, but axis {self.axis!r} of the mesh has {size} devices: "
                f"partition the graph for {size}"
            )


def _beside(tables: list[Array], ids: Any) -> Shaped[Array, "_ width"]:
    """Rows of all tables, side by side; the first ones for padding."""
    rows = jnp.maximum(jnp.asarray(ids), 0)
    return jnp.concatenate([gather(table, rows) for table in tables], axis=1)


def _stacked(own: Array, received: list[Array]) -> Array:
    return jnp.concatenate([own, *received]) if received else own


def _ring(
    read: Callable[[Any], Shaped[Array, "_ width"]], send: tuple[Any, ...], axis: str
) -> list[Shaped[Array, "_ width"]]:
    """Each distance by itself, as long as its longest pair."""
    size = len(send) + 1
    shift = lambda rows, by: jax.lax.ppermute(
        rows, axis, [(shard, (shard + by) % size) for shard in range(size)]
    )
    return [shift(read(ids), by) if len(ids) else read(ids) for by, ids in enumerate(send, start=1)]


def _all_to_all(
    read: Callable[[Any], Shaped[Array, "_ width"]], send: tuple[Any, ...], axis: str
) -> list[Shaped[Array, "_ width"]]:
    """All distances at once, and a row of its own that nobody reads."""
    lengths = [len(ids) for ids in send]
    if not any(lengths):
        return [read(ids) for ids in send]
    longest = max(lengths)
    own = jax.lax.axis_index(axis)
    around = jnp.arange(len(send) + 1)
    padded = [jnp.pad(jnp.asarray(ids), (0, longest - len(ids))) for ids in send]
    ids = jnp.stack([jnp.zeros(longest, padded[0].dtype), *padded])
    by_shard = jnp.roll(ids, own, axis=0)
    rows = read(by_shard.reshape(-1)).reshape(len(around), longest, -1)
    rows = jax.lax.all_to_all(rows, axis, 0, 0)
    rows = rows[(own - around) % len(around)]
    return [rows[by, :length] for by, length in enumerate(lengths, start=1)]
