"""Graphs to train on by samples: Facebook pages, Pubmed, those published as large, and planted classes of any size."""

import csv
import json
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jraph import GraphsTuple
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from gatjax import GAT, GATv2, build_graph, coalesce, remove_self_loops, to_undirected
from gatjax.data import Splits, load_published, random_split
from gatjax.data.download import cache_folder, check_sha256
from gatjax.data.planetoid import load

MODELS = {"gat": GAT, "gatv2": GATv2}
ORIGIN = "github.com/benedekrozemberczki/MUSAE, input/"
SHA256 = {
    "facebook.json": "ea870537646a93642a0008d38aa9bfeff02018070ba97b1f3f469d9622626436",
    "facebook_edges.csv": "7c50d8f02a75cc0829577814a1fc14535164daa38d79c3612340c9e9cdbd4022",
    "facebook_target.csv": "7bd96eafea3c2ca40f44bfa9e73642194696c21e38c7b29ed409c32ad14075cd",
}


class Large(NamedTuple):
    """A graph without self-loops, and a class for each of its nodes.

    Attributes:
      graph: with dense features.
      labels: class ids, [N].
      classes: how many there are.
      splits: those that are published with it, if any.
    """

    graph: GraphsTuple
    labels: np.ndarray
    classes: int
    splits: Splits | None = None


def load_large(name: str, nodes: int, edges: int) -> Large:
    """A graph by name; `nodes` and `edges` are those of a planted one."""
    if name == "planted":
        return planted(nodes, edges)
    if name in ("facebook", "pubmed"):
        return {"facebook": facebook, "pubmed": pubmed}[name]()
    return published(name)


def facebook(*, features: int = 64) -> Large:
    """Pages that like each other, of four kinds; the features are singular vectors of what is said of each page.

    Raises:
      FileNotFoundError, ValueError: the files of MUSAE are not in `GATJAX_DATA/musae`, or are others.
    """
    folder = cache_folder() / "musae"
    for name, sha256 in SHA256.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: put the Facebook files of {ORIGIN} there, or set GATJAX_DATA to the "
                "folder above"
            )
        remedy = f"delete it, and put that of {ORIGIN} there"
        check_sha256((folder / name).read_bytes(), sha256, str(folder / name), remedy)
    with open(folder / "facebook_target.csv", encoding="utf-8", newline="") as file:
        kinds = [row["page_type"] for row in csv.DictReader(file)]
    names = sorted(set(kinds))
    labels = np.array([names.index(kind) for kind in kinds], np.int32)
    ends = np.loadtxt(folder / "facebook_edges.csv", np.int32, delimiter=",", skiprows=1)
    with open(folder / "facebook.json", encoding="utf-8") as file:
        said = {int(page): words for page, words in json.load(file).items()}
    rows = np.concatenate([np.full(len(said[page]), page) for page in range(len(labels))])
    columns = np.concatenate([np.asarray(said[page], int) for page in range(len(labels))])
    table = csr_matrix((np.ones(len(rows), np.float64), (rows, columns)))
    words = int(columns.max()) + 1
    decomposed: Any = svds(table, k=features, v0=np.ones(min(len(labels), words)))
    left, size, _ = decomposed
    reduced = left * size * np.sqrt(len(labels)) / np.linalg.norm(size)
    return Large(_undirected(ends, reduced), labels, len(names))


def pubmed() -> Large:
    """Papers that cite each other, of three kinds."""
    data = load("pubmed")
    graph = remove_self_loops(data.graph)
    features: Any = graph.nodes
    dense = graph._replace(nodes=np.asarray(features.todense()))
    return Large(dense, data.labels, data.num_classes)


def published(name: str) -> Large:
    """ogbn-arxiv, ogbn-products or Reddit, with the published split.

    Raises:
      FileNotFoundError, ValueError: as `load_published`.
    """
    data = load_published(name)
    return Large(data.graph, data.labels, data.num_classes, data.splits)


def planted(
    nodes: int, edges: int, *, classes: int = 8, features: int = 32, seed: int = 0
) -> Large:
    """Edges that stay within their class eight times of ten, and features that say little of it alone."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=nodes).astype(np.int32)
    by_class = np.argsort(labels, kind="stable").astype(np.int32)
    first = np.searchsorted(labels[by_class], np.arange(classes + 1))
    one = random.integers(nodes, size=edges // 2).astype(np.int32)
    start, size = first[labels[one]], np.diff(first)[labels[one]]
    within = by_class[start + (random.random(len(one)) * size).astype(np.int64)]
    other = np.where(random.random(len(one)) < 0.8, within, random.integers(nodes, size=len(one)))
    centres = random.normal(size=(classes, features)) / 2
    rows = (centres[labels] + random.normal(size=(nodes, features))).astype(np.float32)
    senders = np.concatenate([one, other]).astype(np.int32)
    receivers = np.concatenate([other, one]).astype(np.int32)
    order = np.argsort(receivers, kind="stable")
    return Large(_without_loops(senders[order], receivers[order], rows), labels, classes)


def split_of(data: Large, settings: Any, seed: int) -> Splits:
    """The published one, or shares `train` and `validation` of the nodes."""
    if data.splits is not None:
        return data.splits
    shares = {"train": settings.train, "validation": settings.validation}
    return random_split(data.labels, seed=seed, **shares)


def check_shares(settings: Any) -> None:
    if settings.train + settings.validation >= 1:
        raise SystemExit(
            f"--train {settings.train} and --validation {settings.validation} leave no nodes to test"
        )


def build_model(
    settings: Any, in_features: int, classes: int, num_layers: int, rngs: nnx.Rngs
) -> nnx.Module:
    """The model that the settings name."""
    return MODELS[settings.model](
        in_features,
        classes,
        hidden_features=settings.hidden_features,
        num_layers=num_layers,
        num_heads=settings.num_heads,
        dropout_rate=settings.dropout,
        rngs=rngs,
    )


def _undirected(ends: np.ndarray, features: np.ndarray) -> GraphsTuple:
    graph = build_graph(ends[:, 0], ends[:, 1], features.astype(np.float32))
    return coalesce(to_undirected(remove_self_loops(graph)))


def _without_loops(senders: np.ndarray, receivers: np.ndarray, rows: np.ndarray) -> GraphsTuple:
    other = senders != receivers
    return build_graph(senders[other], receivers[other], rows)
