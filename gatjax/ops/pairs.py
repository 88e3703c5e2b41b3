"""Ids of edges that follow a rule: those between all nodes of graphs of one size."""

from typing import Any, Literal, NamedTuple, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Int


class Slots(NamedTuple):
    """The shape of a batch of complete graphs of one size, padded: see `pad`.

    Attributes:
      nodes: n of each graph.
      graphs: G, how many graphs.

    >>> Slots(nodes=3, graphs=2).edges
    18
    """

    nodes: int
    graphs: int

    @property
    def edges(self) -> int:
        """Of all graphs, G·n²."""
        return self.graphs * self.nodes**2


End = Literal["senders", "receivers"]
ENDS: tuple[End, ...] = get_args(End)


class PairIds(np.lib.mixins.NDArrayOperatorsMixin):
    """One end of every edge between the nodes of each of G graphs of n nodes.

    Edge (g·n + i)·n + j is g·n + j -> g·n + i.

    It reads as an array of int32 `[G·n²]`. Among the arguments of `jax.jit` it is a part of their structure, so that
    what is compiled knows the edges; other ids in its place are an array as ever.

    >>> senders = PairIds(Slots(nodes=2, graphs=1), "senders")
    >>> np.asarray(senders).tolist(), senders.tolist() == senders[:].tolist(), jax.tree.leaves(senders)
    ([0, 1, 0, 1], True, [])
    """

    dtype, ndim = np.dtype(np.int32), 1

    def __init__(self, slots: Slots, end: End):
        self.slots, self.end = slots, end

    @property
    def shape(self) -> tuple[int]:
        return (self.slots.edges,)

    @property
    def size(self) -> int:
        return self.slots.edges

    def __len__(self) -> int:
        return self.slots.edges

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    def __repr__(self) -> str:
        return f"PairIds({self.slots}, {self.end!r})"

    def tolist(self) -> list[int]:
        return np.asarray(self).tolist()

    def astype(self, dtype: DTypeLike) -> np.ndarray:
        return np.asarray(self).astype(dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.ascontiguousarray(self.array(np)).astype(self.dtype if dtype is None else dtype)

    def __jax_array__(self) -> Int[Array, "E"]:
        return self.array(jnp)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = (np.asarray(x) if isinstance(x, PairIds) else x for x in inputs)
        return getattr(ufunc, method)(*plain, **options)

    def array(self, xp: Any) -> Any:
        """The ids as an array of `numpy` or `jax.numpy`."""
        nodes, graphs = self.slots
        shape = graphs, nodes, nodes
        ids = xp.arange(graphs * nodes, dtype=self.dtype).reshape(graphs, nodes)
        ids = ids[:, None, :] if self.end == "senders" else ids[:, :, None]
        return xp.broadcast_to(ids, shape).reshape(-1)


jax.tree_util.register_pytree_node(
    PairIds,
    lambda ids: ((), (ids.slots, ids.end)),
    lambda rule, _: PairIds(*cast(tuple[Slots, End], rule)),
)


def all_pairs(senders: Any, receivers: Any) -> PairIds | None:
    """The ids, if those of both ends together are of all pairs; None if either is an array."""
    if not isinstance(senders, PairIds) or not isinstance(receivers, PairIds):
        return None
    ends = senders.end, receivers.end
    return receivers if senders.slots == receivers.slots and ends == ENDS else None
