"""Data sets of several kinds of nodes: one typed graph, and labels on the nodes of one type."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int
from jraph import GraphsTuple

from gatjax.data.dataset import Dataset
from gatjax.data.download import check_choice
from gatjax.data.features import LAYOUTS, as_nodes, first_not_finite, normalize_rows
from gatjax.data.splits import Splits, check_splits, random_split
from gatjax.data.typed_files import READERS, Typed
from gatjax.graph.ids import first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.sizes import leaves
from gatjax.graph.typed import TypedGraph, build_typed_graph, count_nodes, validate_typed

SPLITS = ("auto", "published", "random")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TypedDataset:
    """One typed graph for the prediction of the classes of one type of its nodes.

    Attributes:
      name: what it is called.
      graph: a `TypedGraph` of one graph.
      target: the type whose nodes have labels.
      labels: class id of each node of that type, -1 where there is none, [N] int32.
      splits: ids of nodes of that type, for training, validation and test.
      class_names: one name per class.
      provenance: where the data came from.
      names: of a type what its nodes are called, where they have names.
    """

    name: str
    graph: TypedGraph
    target: str
    labels: Int[np.ndarray, "N"]
    splits: Splits
    class_names: tuple[str, ...]
    provenance: str = ""
    names: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        validate_typed(self.graph)
        if self.target not in self.graph.nodes:
            types = listed(self.graph.types, 50)
            raise ValueError(
                f"target: there is no type {shown(self.target)}; the types are {types}"
            )
        total, labels = count_nodes(self.graph, self.target), np.asarray(self.labels)
        if labels.dtype.kind not in "iu" or labels.shape != (total,):
            raise ValueError(
                f"labels are {labels.dtype} of shape {labels.shape}, and target {self.target!r} has {total} nodes: "
                f"give a class id for each{self._which(len(labels) if labels.ndim else 0)}"
            )
        if (bad := first_true((labels < -1) | (labels >= self.num_classes))) is not None:
            raise ValueError(
                f"labels[{bad}] = {labels[bad]}: a label is a class id from 0 to {self.num_classes - 1}, or -1"
            )
        object.__setattr__(self, "labels", labels.astype(np.int32))
        for name, rows in self.graph.nodes.items():
            for leaf in leaves(rows):
                if leaf.ndim == 2 and (place := first_not_finite(leaf)) is not None:
                    raise ValueError(
                        f"nodes[{name!r}]: column {place[1]} of node {place[0]} is not finite; fill in what is missing"
                    )
        splits = check_splits(self.splits, total, self.names.get(self.target), item=self.target)
        for part, ids in splits._asdict().items():
            if (place := first_true(labels[ids] < 0)) is not None:
                raise ValueError(
                    f"{part}[{place}] = {ids[place]}: this {self.target} has no label; leave it out"
                )
        object.__setattr__(self, "splits", splits)

    def _which(self, given: int) -> str:
        others = [name for name in self.graph.types if count_nodes(self.graph, name) == given]
        return f"; {listed(others)} has {given}: is that the target?" if others else ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def features(self) -> Any:
        """The rows of the nodes that have labels."""
        return self.graph.nodes[self.target]

    def on(self, graph: GraphsTuple) -> Dataset:
        """The labels and splits on another graph of the same nodes, such as that of a meta-path.

        Args:
          graph: one graph of the nodes that have labels, as `compose` gives it.

        Raises:
          ValueError: a graph of other nodes.
        """
        if (total := int(np.sum(graph.n_node))) != len(self.labels):
            raise ValueError(
                f"graph has {total} nodes, and {len(self.labels)} nodes of type {self.target!r} have labels: "
                f"pass a graph of those, such as compose(dataset.graph, '{self.target}-...-{self.target}')"
            )
        names = self.names.get(self.target)
        fields = self.labels, self.splits, self.num_classes, self.class_names, self.provenance
        return Dataset(self.name, graph, *fields, names=names)

    def __repr__(self) -> str:
        parts = "/".join(str(len(part)) for part in self.splits)
        first, *lines = repr(self.graph).splitlines()
        what = f"{self.num_classes} classes of {self.target}, split {parts}"
        return "\n".join([f"TypedDataset({self.name!r}: {what})", *lines])


def load_typed(
    name: str,
    *,
    split: str = "auto",
    seed: int = 0,
    normalize_features: bool = False,
    features: str = "auto",
) -> TypedDataset:
    """Load a data set of several kinds of nodes by name: from the package, else from the cache.

    The cache is the folder of `gatjax.data.load`. What is not in the package may not be passed on, or has no licence,
    and is not fetched: put the files there.

    * "imdb", in the package: movies of three genres with their actors and directors, and keywords of the plots;
    * "dblp", files of the four-area set in the subfolder `dblp`: authors of four areas, their papers, the papers'
      conferences and the words of their titles. The words are without the function words of English; those that occur
      in more than 50 papers are the features of the authors who used them, and all are nodes. The split is that of the
      program of HAN: of each class the first 200 authors train, the next 100 validate;
    * "acm", the file `ACM3025.mat` of HAN in the subfolder `acm`: papers of three areas, joined by authors and by
      subjects, which the file calls PLP; its own split.

    Args:
        name: upper or lower case.
        split: "published", which IMDB has not; "random", with 100 nodes of each class and 300 others, for IMDB and ACM,
            or 200 and 400, for training and validation; "auto", published where it can be.
        seed: of the random split.
        normalize_features: scale each row of the features to sum to one. These features are sets of words, and
            attention over a thousand neighbours hardly sees rows that small.
        features: "dense", "sparse" (a `BCOO`), or "auto": sparse below a density of 0.15.

    Raises:
        ValueError: an unknown name or split, no published split, or a damaged file.
        FileNotFoundError: the files are nowhere to be had; the message says where they were sought.

    >>> load_typed("imdb")
    TypedDataset('imdb': 3 classes of movie, split 300/300/2339)
      actor                       5841 nodes  float32[1256]
      director                    2270 nodes  float32[1256]
      movie                       4661 nodes  float32[1256]
      actor -acted_in-> movie    13983 edges
      director -directed-> movie  4661 edges

    Wang et al., Heterogeneous Graph Attention Network, WWW 2019. Ji et al., Graph regularized transductive
    classification on heterogeneous information networks, ECML 2010. Yun et al., Graph Transformer Networks, 2019, whose
    IMDB this is.
    """
    name = name.lower()
    check_choice("name", name, READERS)
    check_choice("split", split, SPLITS)
    check_choice("features", features, LAYOUTS)
    read = READERS[name]()
    if split == "published" and read.splits is None:
        raise ValueError(f"split: {name} has no published split; use split='random'")
    splits = None if split == "random" else read.splits
    if splits is None:
        splits = random_split(
            read.labels,
            seed=seed,
            per_class=read.per_class,
            validation=read.validation,
            test=int(np.sum(read.labels >= 0))
            - read.per_class * len(read.class_names)
            - read.validation,
        )
    return TypedDataset(
        name,
        _graph(read, normalize_features, features),
        read.target,
        read.labels,
        splits,
        read.class_names,
        read.provenance,
        read.names,
    )


def _graph(read: Typed, normalize: bool, layout: str) -> TypedGraph:
    rows: dict[str, Any] = dict.fromkeys(read.sizes)
    for name, matrix in read.features.items():
        rows[name] = as_nodes(normalize_rows(matrix) if normalize else matrix, layout)
    return build_typed_graph(rows, read.links, num_nodes=read.sizes)
