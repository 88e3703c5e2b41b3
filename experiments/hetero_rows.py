"""What `hetero.py` compares: each row is a model, the graph that it reads, and the rows that it makes of nodes."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hetero_scores import f1
from jax.experimental.sparse import BCOO
from jaxtyping import Array
from scipy import sparse

from gatjax import (
    HAN,
    HGT,
    DropoutRates,
    GATConv,
    NodeLinear,
    RelationalGATConv,
    TypedGraph,
    add_reverses,
    build_graph,
    coalesce,
    merge_types,
    meta_paths,
    relation_graph,
)
from gatjax.data import TypedDataset, load_typed, normalize_rows
from gatjax.models.stack import Stack

PATHS = {
    "dblp": {
        "APA": "author-paper-author",
        "APCPA": "author-paper-conference-paper-author",
        "APTPA": "author-paper-term-paper-author",
    },
    "imdb": {"MAM": "movie-actor-movie", "MDM": "movie-director-movie"},
    "acm": {"PAP": "paper -author-> paper", "PSP": "paper -subject-> paper"},
}

TITLES = {
    "han": "HAN, one beta per graph (paper)",
    "han-node": "HAN, one beta per node (program)",
    "hgt": "HGT",
    "relational": "relational GAT",
    "union": "GAT on all paths as one graph",
    "normalised": "HAN, features row-normalised",
    "features": "features alone, no graph",
    "venues": "histogram of conferences, no network",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A network of a row.

    Attributes:
      build: draws it.
      graph: what it reads.
      embed: `embed(module, graph)`, the rows that the last linear layer reads.
      betas: `betas(module, graph)`, the weights of the paths, [N, P].
    """

    build: Callable[[nnx.Rngs], nnx.Module]
    graph: Any
    embed: Callable[[Any, Any], Array]
    betas: Callable[[Any, Any], Array] | None = None


class Problem:
    """A data set and its meta-paths."""

    def __init__(self, settings: Any):
        self.settings = settings
        self.data = self.load(settings.first_seed)
        self.paths = PATHS[settings.dataset]
        self.meta = meta_paths(
            self.data.graph,
            self.paths,
            max_neighbors=settings.max_neighbors or None,
        )
        self.target = self.data.target

    def load(self, seed: int) -> TypedDataset:
        try:
            return load_typed(self.settings.dataset, seed=seed)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(f"--dataset {self.settings.dataset}: {error}") from error

    def of_seed(self, seed: int) -> TypedDataset:
        """The data set, whose split depends on the seed where none was published."""
        return self.load(seed) if self.settings.dataset == "imdb" else self.data

    @property
    def rows(self) -> tuple[str, ...]:
        """All that there are for this data set."""
        alone = [f"{kind}-{name}" for kind in ("alone", "without") for name in self.paths]
        if len(self.paths) < 3:
            alone = [name for name in alone if name.startswith("alone")]
        some = [name for name in TITLES if name != "venues" or self.settings.dataset == "dblp"]
        return tuple(some[:4] + alone + some[4:])

    def title(self, row: str) -> str:
        kind, _, path = row.partition("-")
        if kind == "alone":
            return f"GAT on {path} alone"
        return f"HAN without {path}" if kind == "without" else TITLES[row]

    @cached_property
    def widths(self) -> tuple[int, int]:
        return self.data.features.shape[1], self.data.num_classes

    def network(self, row: str) -> Row:
        """The network of a row."""
        kind, _, path = row.partition("-")
        if kind == "hgt":
            return self._hgt()
        if kind in ("han", "normalised", "without"):
            return self._han(row)
        width, classes = self.widths
        layer: Any = GATConv
        if kind == "relational":
            layer = partial(RelationalGATConv, num_relations=len(self.paths))
            graph = merge_types(self.meta).graph
        else:
            graph = self._union() if kind == "union" else relation_graph(self.meta, path)
        return Row(partial(gat, layer, width, classes, self.settings), graph, embed_stack)

    def _han(self, row: str) -> Row:
        settings, meta = self.settings, self.meta
        if row == "normalised":
            meta = meta._replace(nodes={self.target: normalize_rows(self.data.features)})
        left = tuple(self.paths) if not row.startswith("without") else self._without(row)
        keep = {triple: edges for triple, edges in meta.relations.items() if triple[1] in left}
        meta = meta._replace(
            relations=keep, n_edge={triple: meta.n_edge[triple] for triple in keep}
        )
        options = {
            "num_relations": len(left),
            "hidden_features": settings.hidden_features,
            "num_heads": settings.num_heads,
            "semantic": "node" if row == "han-node" else "graph",
            "semantic_features": settings.semantic_features,
            "dropout_rate": rates(settings),
        }
        build = partial(han, *self.widths, options)
        return Row(build, merge_types(meta).graph, embed_han, betas_of)

    def _without(self, row: str) -> tuple[str, ...]:
        return tuple(name for name in self.paths if name != row.partition("-")[2])

    def _union(self) -> Any:
        parts = self.meta.relations.values()
        senders, receivers = (np.concatenate([part[end] for part in parts]) for end in (0, 1))
        return coalesce(build_graph(senders, receivers, self.data.features))

    def _hgt(self) -> Row:
        """Types without features have a row of parameters for each node: the identity, projected."""
        graph = self.meta if self.settings.dataset == "acm" else add_reverses(self.data.graph)
        rows = {
            name: identity(int(graph.n_node[name][0])) if rows is None else rows
            for name, rows in graph.nodes.items()
        }
        graph = graph._replace(nodes=rows)
        build = partial(
            hgt,
            tuple((name, table.shape[1]) for name, table in rows.items()),
            graph.triples,
            self.target,
            self.data.num_classes,
            self.settings,
        )
        return Row(build, graph, partial(embed_hgt, self.target))

    def without_network(self, row: str) -> np.ndarray:
        """The features of a row that a logistic regression and the neighbours see."""
        if row == "features":
            features = self.data.features
            return np.asarray(features.todense() if isinstance(features, BCOO) else features)
        count = {}
        for triple in (("author", "writes", "paper"), ("paper", "in", "conference")):
            edges = self.data.graph.relations[triple]
            shape = tuple(int(self.data.graph.n_node[name][0]) for name in triple[::2])
            ones = np.ones(len(edges.senders)), (edges.senders, edges.receivers)
            count[triple[1]] = sparse.coo_array(ones, shape=shape).tocsr()
        return normalize_rows((count["writes"] @ count["in"]).toarray())


def rates(settings: Any) -> DropoutRates:
    """The three places of HAN's program."""
    rate = settings.dropout
    return DropoutRates(projected=rate, attention=rate, head_inputs=rate)


def gat(layer: Any, width: int, classes: int, settings: Any, rngs: nnx.Rngs) -> Stack:
    """One layer and a linear one, as HAN has for several paths."""
    first = layer(
        width,
        settings.hidden_features,
        num_heads=settings.num_heads,
        dropout_rate=rates(settings),
        rngs=rngs,
    )
    return Stack([first, NodeLinear(settings.hidden_features, classes, rngs=rngs)])


def han(width: int, classes: int, options: Any, rngs: nnx.Rngs) -> Stack:
    return HAN(width, classes, rngs=rngs, **options)


def hgt(widths: Any, triples: Any, target: str, classes: int, settings: Any, rngs: nnx.Rngs) -> HGT:
    return HGT(
        dict(widths),
        classes,
        relations=triples,
        target=target,
        hidden_features=settings.hidden_features,
        num_heads=settings.num_heads,
        dropout_rate=settings.hgt_dropout,
        rngs=rngs,
    )


def embed_stack(module: Stack, graph: Any) -> Array:
    return jax.nn.elu(module.layers[0](graph, deterministic=True).nodes)


def embed_han(module: Stack, graph: Any) -> Array:
    return module.layers[0](graph, deterministic=True).nodes


def embed_hgt(target: str, module: HGT, graph: TypedGraph) -> Array:
    return module.embeddings(graph, deterministic=True).nodes[target]


def betas_of(module: Stack, graph: Any) -> Array:
    return module.layers[0].betas(graph)


def identity(total: int) -> BCOO:
    places = jnp.arange(total, dtype=jnp.int32)
    return BCOO((jnp.ones(total), jnp.stack([places, places], axis=1)), shape=(total, total))


def regress(features: np.ndarray, data: TypedDataset) -> Any:
    """F1 of a logistic regression on the test nodes."""
    from sklearn.linear_model import LogisticRegression

    train, _, test = data.splits
    model = LogisticRegression(max_iter=2000).fit(features[train], data.labels[train])
    return f1(data.labels[test], model.predict(features[test]))
