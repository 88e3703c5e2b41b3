"""A data set in memory: one graph, its labels, its splits."""

import dataclasses
from typing import Any, Literal, cast, get_args

import jraph
import numpy as np
from jax.experimental.sparse import BCOO
from jaxtyping import Float, Int32
from scipy import sparse
from scipy.sparse import csgraph

from gatjax.data.features import Matrix, as_nodes, density, first_not_finite
from gatjax.data.splits import Splits, check_splits
from gatjax.graph.build import build_graph
from gatjax.graph.edit import coalesce, remove_self_loops, to_undirected
from gatjax.graph.ids import first_true, host_ids
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import check_distinct
from gatjax.graph.subgraph import subgraph

Task = Literal["classes", "numbers", "labels"]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One graph for node prediction, with its labels and splits.

    Features, labels and weights that are not finite are refused, but for NaN among numbers, which
    means that a node has none.

    Attributes:
      name: what it is called.
      graph: a `GraphsTuple` of one graph in NumPy arrays: nodes [N, F] float32 (or a `BCOO`),
        senders and receivers [E] int32 sorted by receiver and then sender, without self-loops and
        without duplicates; an undirected graph has both directions of every edge.
      labels: class id of each node, -1 where there is none, [N] int32; or numbers [N] or [N, T]; or
        0 and 1 for each of K labels, [N, K]; NaN where a node has no number or label.
      splits: node ids for training, validation and test.
      num_classes: number of classes, or of columns of the labels where these are numbers.
      class_names: one name per class.
      provenance: where the data came from.
      task: "classes", "numbers" or "labels" (several of 0 and 1 per node); by default what the
        dtype of the labels says.
      guessed: whether the task is a guess; then the data set says so when it is printed.
      names: what each node is called, [N], where it has a name of its own.
      edge_weight: the weight of each edge of the graph, [E] float32, where edges have one.
    """

    name: str
    graph: jraph.GraphsTuple
    labels: Int32[np.ndarray, "N"] | Float[np.ndarray, "N"] | Float[np.ndarray, "N T"]
    splits: Splits
    num_classes: int
    class_names: tuple[str, ...]
    provenance: str
    task: Task | None = None
    guessed: bool = False
    names: np.ndarray | None = None
    edge_weight: Float[np.ndarray, "E"] | None = None

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
        if self.task is None:
            by_dtype = "classes" if self.labels.dtype.kind in "iu" else "numbers"
            object.__setattr__(self, "task", by_dtype)
        self._check_names()
        self._check_features()
        self._check_labels()
        self._check_weights()
        object.__setattr__(self, "splits", check_splits(self.splits, self.num_nodes, self.names))

    def _check_names(self) -> None:
        if self.names is None:
            return
        if np.shape(self.names) != (self.num_nodes,):
            raise ValueError(
                f"names has shape {np.shape(self.names)}: give one for each of {self.num_nodes} nodes"
            )
        if (node := check_distinct(np.asarray(self.names))) is not None:
            name = shown(self.names[node])
            raise ValueError(f"names[{node}] = {name} names another node too: give each its own")

    def _check_features(self) -> None:
        if (place := first_not_finite(self.features)) is not None:
            raise ValueError(
                f"features: column {place[1]} (counted from 0) of {self._node(place[0])} is not "
                "finite; fill in what is missing, or leave the column out"
            )

    def _check_labels(self) -> None:
        labels = self.labels
        if self.task not in get_args(Task):
            raise ValueError(
                f"task must be one of {listed(get_args(Task))}, got {shown(self.task)}"
            )
        if self.task == "classes":
            if labels.dtype.kind not in "iu" or labels.ndim != 1:
                raise ValueError(
                    f"labels: class ids are integers [N], got {labels.dtype} of shape {labels.shape}"
                )
            known, meaning = (labels >= -1) & (labels < self.num_classes), "a class id or -1"
        elif self.task == "labels":
            known, meaning = (labels == 0) | (labels == 1) | np.isnan(labels), "0, 1 or NaN"
        else:
            known, meaning = ~np.isinf(labels), "finite or NaN, which means none"
        if (place := first_true(~known.reshape(-1))) is not None:
            node, value = place // (labels.size // len(labels)), labels.reshape(-1)[place]
            raise ValueError(f"labels: {self._node(node)} has {value}; a label is {meaning}")

    def _check_weights(self) -> None:
        weight = self.edge_weight
        if weight is None:
            return
        if np.shape(weight) != (self.num_edges,):
            raise ValueError(
                f"edge_weight has shape {np.shape(weight)}: give one for each of {self.num_edges} edges"
            )
        if (edge := first_true(~np.isfinite(weight))) is not None:
            raise ValueError(f"edge_weight[{edge}] = {weight[edge]} is not finite; give a number")

    def _node(self, node: int) -> str:
        return f"node {node}" + (f" ({shown(self.names[node])})" if self.names is not None else "")

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
            f"{self._target()}, split {train}/{validation}/{test})"
        )

    def _target(self) -> str:
        kind = "classes" if self.task == "classes" else f"{self.task} per node"
        weighted = ", weighted edges" if self.edge_weight is not None else ""
        return f"{self.num_classes} {kind}{' (guessed)' * self.guessed}{weighted}"


def make_graph(
    features: Matrix,
    senders: np.ndarray,
    receivers: np.ndarray,
    *,
    layout: str = "auto",
    directed: bool = False,
) -> jraph.GraphsTuple:
    """Build the one graph of a data set from features and an edge list in any order."""
    return make_weighted_graph(
        features, senders, receivers, None, layout=layout, directed=directed
    )[0]


def make_weighted_graph(
    features: Matrix,
    senders: np.ndarray,
    receivers: np.ndarray,
    weight: np.ndarray | None,
    *,
    layout: str = "auto",
    directed: bool = False,
) -> tuple[jraph.GraphsTuple, np.ndarray | None]:
    """As `make_graph`, and the weight [E] of each edge of the graph.

    The weights of duplicates add up, as SciPy's entries do. Without `directed` both directions of
    an edge have its weight; where the list has both, the mean of the two.
    """
    senders, receivers = senders.astype(np.int32), receivers.astype(np.int32)
    graph = build_graph(senders, receivers, as_nodes(features, layout), edges=weight)
    graph = coalesce(remove_self_loops(graph))
    graph = graph if directed else to_undirected(graph)
    return graph._replace(edges=None), cast("np.ndarray | None", graph.edges)


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
    edges = np.ones(len(senders)), (senders, receivers)
    adjacency = sparse.coo_array(edges, shape=(num_nodes, num_nodes))
    _, component = csgraph.connected_components(adjacency, directed=False)
    sizes = np.bincount(component)[component]
    return take_nodes(dataset, component == component[np.argmax(sizes)])


def take_nodes(dataset: Dataset, keep: np.ndarray) -> Dataset:
    """Keep the nodes where `keep` [N] is true, the edges between them and their places in splits."""
    whole = dataset.graph._replace(
        edges={"own": dataset.graph.edges, "weight": dataset.edge_weight}
    )
    graph, kept = subgraph(whole, keep)
    edges = cast("dict[str, Any]", graph.edges)
    new_id = np.full(dataset.num_nodes, -1, np.int32)
    new_id[kept] = np.arange(len(kept), dtype=np.int32)
    return dataclasses.replace(
        dataset,
        graph=graph._replace(edges=edges["own"]),
        labels=dataset.labels[kept],
        splits=Splits(*(new_id[part[keep[part]]] for part in dataset.splits)),
        names=None if dataset.names is None else dataset.names[kept],
        edge_weight=edges["weight"],
    )
