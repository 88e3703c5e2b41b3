"""A data set in memory: one graph, its labels, its splits."""

import dataclasses
from typing import cast

import jraph
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import Float, Int32
from scipy import sparse
from scipy.sparse import csgraph

from gatjax.data.features import Matrix, as_matrix, as_nodes, density
from gatjax.data.splits import Splits, check_splits
from gatjax.graph.build import build_graph
from gatjax.graph.check import host_ids
from gatjax.graph.edit import coalesce, remove_self_loops, to_undirected


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One graph for node prediction, with its labels and splits.

    Attributes:
      name: what it is called.
      graph: a `GraphsTuple` of one graph in NumPy arrays: nodes [N, F] float32 (or a `BCOO`),
        senders and receivers [E] int32 sorted by receiver and then sender, without self-loops and
        without duplicates; an undirected graph has both directions of every edge.
      labels: class id of each node, -1 where there is none, [N] int32; or numbers [N] or [N, T].
      splits: node ids for training, validation and test.
      num_classes: number of classes, or of columns of the labels where these are numbers.
      class_names: one name per class.
      provenance: where the data came from.
    """

    name: str
    graph: jraph.GraphsTuple
    labels: Int32[np.ndarray, "N"] | Float[np.ndarray, "N"] | Float[np.ndarray, "N T"]
    splits: Splits
    num_classes: int
    class_names: tuple[str, ...]
    provenance: str

    def __post_init__(self) -> None:
        if len(self.labels) != self.num_nodes:
            raise ValueError(
                f"labels: {len(self.labels)} for {self.num_nodes} nodes; give one per node"
            )
        if len(self.class_names) != self.num_classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} for {self.num_classes} classes; "
                "give one per class"
            )
        object.__setattr__(self, "splits", check_splits(self.splits, self.num_nodes))

    @property
    def features(self) -> np.ndarray | BCOO:
        """The features of the nodes, [N, F]."""
        return cast("np.ndarray | BCOO", self.graph.nodes)

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return self.features.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed edges E: twice the number of undirected ones."""
        return int(self.graph.n_edge[0])

    @property
    def num_features(self) -> int:
        """Number of features F of a node."""
        return self.features.shape[1]

    @property
    def density(self) -> float:
        """Share of the features that are not zero."""
        return density(self.features)

    def __repr__(self) -> str:
        layout = "sparse" if isinstance(self.features, BCOO) else "dense"
        train, validation, test = (len(part) for part in self.splits)
        return (
            f"Dataset({self.name!r}: {self.num_nodes} nodes, {self.num_edges} edges, "
            f"{self.num_features} features ({layout}, {self.density:.1%} non-zero), "
            f"{self.num_classes} classes, split {train}/{validation}/{test})"
        )


def make_graph(
    features: Matrix,
    senders: np.ndarray,
    receivers: np.ndarray,
    *,
    layout: str = "auto",
    directed: bool = False,
) -> jraph.GraphsTuple:
    """Build the one graph of a data set from features and an edge list in any order."""
    graph = build_graph(
        senders.astype(np.int32), receivers.astype(np.int32), as_nodes(features, layout)
    )
    graph = remove_self_loops(graph)
    return coalesce(graph) if directed else to_undirected(graph)


def largest_component(dataset: Dataset) -> Dataset:
    """Keep the largest connected component; its nodes are renumbered in their old order.

    Edges count in both directions. Of several largest components the one with the lowest node id
    is kept. The splits lose the nodes that are dropped.

    Args:
        dataset: a data set of N nodes.

    Returns:
        A data set of at most N nodes.

    >>> from gatjax.data import load
    >>> component = largest_component(load("citeseer"))
    >>> component.num_nodes, component.num_edges
    (2120, 7358)
    """
    num_nodes = dataset.num_nodes
    if num_nodes == 0:
        return dataset
    senders, receivers, _, _ = host_ids(dataset.graph)
    edges = np.ones(len(senders), np.int8), (senders, receivers)
    adjacency = sparse.coo_array(edges, shape=(num_nodes, num_nodes))
    _, component = csgraph.connected_components(adjacency, directed=False)
    sizes = np.bincount(component)[component]
    return take_nodes(dataset, component == component[np.argmax(sizes)])


def take_nodes(dataset: Dataset, keep: np.ndarray) -> Dataset:
    """Keep the nodes where `keep` [N] is true, the edges between them and their places in splits."""
    senders, receivers, _, _ = host_ids(dataset.graph)
    new_id = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
    inside = keep[senders] & keep[receivers]
    layout = "sparse" if isinstance(dataset.features, BCOO) else "dense"
    graph = build_graph(
        new_id[senders[inside]],
        new_id[receivers[inside]],
        as_nodes(as_matrix(dataset.features)[np.flatnonzero(keep)], layout),
    )
    return dataclasses.replace(
        dataset,
        graph=graph,
        labels=dataset.labels[keep],
        splits=Splits(*(new_id[part[keep[part]]] for part in dataset.splits)),
    )
