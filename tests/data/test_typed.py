"""typed.py: data sets of several kinds are what their sources say, and what does not fit is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import rejects
from jax.experimental.sparse import BCOO

from gatjax.data import Splits, TypedDataset, load_typed
from gatjax.data.typed_files import ACM_SHA256, DBLP_SHA256
from gatjax.graph import build_typed_graph, compose, fully_connected

FOLDER = Path(os.environ.get("GATJAX_DATA", "nowhere"))


def test_imdb():
    imdb = load_typed("IMDB", seed=3)
    assert np.bincount(imdb.labels + 1).tolist() == [1722, 543, 924, 1472]
    assert [len(part) for part in imdb.splits] == [300, 300, 2339]
    assert np.bincount(imdb.labels[imdb.splits.train]).tolist() == [100] * 3
    assert imdb.features.nse == 8826 + 5228 and isinstance(imdb.features, BCOO)
    assert imdb.graph.nodes["actor"].nse == 40894 and imdb.graph.nodes["director"].nse == 13703
    assert not np.array_equal(imdb.splits.train, load_typed("imdb").splits.train)
    rows = np.asarray(load_typed("imdb", normalize_features=True, features="dense").features).sum(1)
    assert set(np.round(rows, 5).tolist()) == {0, 1}
    movies = compose(imdb.graph, "movie-director-movie")
    one = imdb.on(movies)
    assert one.num_nodes == 4661 and one.graph is movies and one.num_classes == 3


@pytest.mark.skipif(
    not all((FOLDER / "dblp" / name).is_file() for name in DBLP_SHA256), reason="no DBLP"
)
def test_dblp():
    dblp = load_typed("dblp")
    sizes = {name: int(count[0]) for name, count in dblp.graph.n_node.items()}
    assert sizes == {"author": 4057, "paper": 14328, "conference": 20, "term": 8726}
    links = {name: int(count[0]) for (_, name, _), count in dblp.graph.n_edge.items()}
    assert links == {"writes": 19645, "in": 14328, "contains": 87536}
    assert [len(part) for part in dblp.splits] == [800, 400, 2857]
    assert len(compose(dblp.graph, "author-paper-author").senders) == 11113
    # A conference is of one area: authors of database conferences are mostly those of databases.
    assert dblp.names["conference"][0] == "AAAI" and dblp.features.shape == (4057, 326)
    assert dblp.names["author"][0] == "366357 Hoi-Yee Hwang" and dblp.labels[0] == 1


@pytest.mark.skipif(
    not all((FOLDER / "acm" / name).is_file() for name in ACM_SHA256), reason="no ACM"
)
def test_acm():
    acm = load_typed("acm", features="sparse")
    links = {name: int(count[0]) for (_, name, _), count in acm.graph.n_edge.items()}
    assert links == {"author": 29281, "subject": 2210761}
    assert [len(part) for part in acm.splits] == [600, 300, 2125]
    assert np.bincount(acm.labels).tolist() == [1061, 965, 999]
    drawn = load_typed("acm", split="random", seed=1)
    assert [len(part) for part in drawn.splits] == [600, 300, 2125]


def test_files_that_are_not_there_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    with rejects(
        FileNotFoundError, "lacks ACM3025.mat. The files are those of https://github.com/g"
    ):
        load_typed("acm")
    with rejects(FileNotFoundError, "to a folder whose subfolder 'dblp' holds them"):
        load_typed("dblp")
    (tmp_path / "acm").mkdir()
    (tmp_path / "acm" / "ACM3025.mat").write_bytes(b"MATLAB")
    with rejects(ValueError, "ACM3025.mat is damaged or not the known file"):
        load_typed("acm")


def tiny(**changes):
    graph = build_typed_graph(
        {"movie": np.eye(4, dtype=np.float32), "actor": None},
        {("actor", "acted_in", "movie"): ([0, 1], [2, 3])},
        num_nodes={"actor": 2},
    )
    splits = Splits(*(np.array([node], np.int32) for node in range(3)))
    fields = dict(name="mine", graph=graph, target="movie", labels=np.array([0, 1, 0, -1]))
    return TypedDataset(**(fields | dict(splits=splits, class_names=("a", "b")) | changes))


def test_a_data_set_of_ones_own_shows_what_it_is():
    assert repr(tiny()).splitlines() == [
        "TypedDataset('mine': 2 classes of movie, split 1/1/1)",
        "  actor                    2 nodes",
        "  movie                    4 nodes  float32[4]",
        "  actor -acted_in-> movie  2 edges",
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target": "film"}, "target: there is no type 'film'; the types are actor, movie"),
        ({"labels": np.array([0, 1])}, "and target 'movie' has 4 nodes: give a class id for each; actor has 2: is"),
        ({"labels": np.array([0.0, 1, 0, 1])}, "labels are float64 of shape (4,)"),
        ({"labels": np.array([0, 1, 2, 0])}, "labels[2] = 2: a label is a class id from 0 to 1, or -1"),
        ({"target": "actor"}, "labels are int64 of shape (4,), and target 'actor' has 2 nodes"),
        ({"splits": Splits(*(np.array([node], np.int32) for node in (0, 1, 3)))}, "test[0] = 3: this movie has no"),
        ({"splits": Splits(*(np.array([node], np.int32) for node in (0, 1, 4)))}, "4"),
        ({"graph": tiny().graph._replace(nodes={"movie": np.full((4, 1), np.nan), "actor": None})},
         "nodes['movie']: column 0 of node 0 is not finite"),
    ],
    ids=range(8),
)  # fmt: skip
def test_bad_data_sets(changes, message, unchecked):
    with rejects(ValueError, message):
        tiny(**changes)


def test_bad_names_and_graphs(unchecked):
    with rejects(ValueError, "name must be one of imdb, dblp, acm, got 'aminer'"):
        load_typed("aminer")
    with rejects(ValueError, "split: imdb has no published split; use split='random'"):
        load_typed("imdb", split="published")
    with rejects(
        ValueError, "graph has 3 nodes, and 4 nodes of type 'movie' have labels: pass a graph"
    ):
        tiny().on(fully_connected(3))
