"""Large graphs in the files of others: tiny ones of the same form are read right, and others are refused."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from helpers import rejects
from scipy import sparse

from gatjax.data import load_ppi, load_published, published

FEATURES = np.arange(10, dtype=np.float32).reshape(5, 2) / 4


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, for data sets of five nodes."""
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path / "cache"))
    for name, facts in published.FACTS.items():
        small = facts._replace(
            url=(tmp_path / f"{name}.zip").as_uri(),
            nodes=5,
            edges=None if name == "ppi" else 4,
            features=2,
            classes=3,
            split=(3, 1, 1) if name == "ppi" else (2, 1, 2),
        )
        monkeypatch.setitem(published.FACTS, name, small)
    return tmp_path


def packed(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write(text)


def write_ogb(folder, split="time"):
    """0 -> 1, 2 -> 1, 1 -> 2 and a loop; one node has no class."""
    packed(folder / "raw/edge.csv.gz", "0,1\n2,1\n1,2\n3,3\n")
    rows = "\n".join(",".join(map(str, row)) for row in FEATURES.tolist())
    packed(folder / "raw/node-feat.csv.gz", rows)
    packed(folder / "raw/node-label.csv.gz", "0\n2\n1\nnan\n2\n")
    for part, ids in {"train": "4\n0\n", "valid": "1\n", "test": "2\n3\n"}.items():
        packed(folder / f"split/{split}/{part}.csv.gz", ids)


def write_reddit(folder):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "reddit_data.npz",
        feature=FEATURES.astype(np.float64),
        label=np.array([0, 2, 1, 1, 2]),
        node_types=np.array([1, 2, 3, 3, 1]),
        node_ids=np.arange(5),
    )
    edges = np.ones(4), (np.array([0, 1, 1, 2]), np.array([1, 0, 2, 1]))
    sparse.save_npz(folder / "reddit_graph.npz", sparse.coo_matrix(edges, shape=(5, 5)))


def write_ppi(folder):
    """Two graphs to train: nodes 0 and 2, which are joined, and node 1 with a loop; one node in each of the others."""
    folder.mkdir(parents=True, exist_ok=True)
    links = {"train": [(0, 2), (1, 1)], "valid": [], "test": []}
    numbers = {"train": [1, 2, 1], "valid": [4], "test": [5]}
    start = 0
    for part, graphs in numbers.items():
        rows = slice(start, start + len(graphs))
        np.save(folder / f"{part}_graph_id.npy", np.array(graphs))
        np.save(folder / f"{part}_feats.npy", FEATURES[rows].astype(np.float64))
        np.save(folder / f"{part}_labels.npy", np.eye(5, 3, dtype=np.int64)[rows])
        found = [{"source": one, "target": other} for one, other in links[part]]
        graph = {
            "directed": False,
            "nodes": [{"id": i} for i in range(len(graphs))],
            "links": found,
        }
        (folder / f"{part}_graph.json").write_text(json.dumps(graph))
        start += len(graphs)


@pytest.mark.parametrize(
    ("name", "split"), [("ogbn-arxiv", "time"), ("ogbn-products", "sales_ranking")]
)
def test_graphs_of_ogb(cache, name, split):
    write_ogb(cache / "cache" / name, split)
    data = load_published(name)
    np.testing.assert_array_equal(data.features, FEATURES)
    assert data.labels.tolist() == [0, 2, 1, -1, 2]
    pairs = list(zip(data.graph.senders.tolist(), data.graph.receivers.tolist(), strict=True))
    assert pairs == [(1, 0), (0, 1), (2, 1), (1, 2)]
    assert [part.tolist() for part in data.splits] == [[0, 4], [1], [2, 3]]
    assert data.num_classes == 3 and "no hash is" in data.provenance


def test_reddit(cache):
    write_reddit(cache / "cache" / "reddit")
    data = load_published("reddit")
    np.testing.assert_array_equal(data.features, FEATURES)
    assert data.graph.senders.tolist() == [1, 0, 2, 1] and data.features.dtype == np.float32
    assert [part.tolist() for part in data.splits] == [[0, 4], [1], [2, 3]]


def test_ppi(cache, monkeypatch):
    monkeypatch.setitem(published.FACTS, "ppi", published.FACTS["ppi"]._replace(split=(2, 1, 1)))
    write_ppi(cache / "cache" / "ppi")
    data = load_ppi()
    assert [len(graph.nodes) for graph in data.graphs] == [2, 1, 1, 1]
    np.testing.assert_array_equal(data.graphs[0].nodes, FEATURES[[0, 2]])
    assert data.graphs[0].senders.tolist() == [1, 0] and not len(data.graphs[1].senders)
    assert data.labels[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert [part.tolist() for part in data.splits] == [[0, 1], [2], [3]]
    assert repr(data) == "LabelledGraphs('ppi': 4 graphs, 5 nodes, 3 labels, split 2/1/1)"


def test_an_archive_is_fetched_and_unpacked_once(cache):
    write_ogb(cache / "made" / "arxiv")
    with zipfile.ZipFile(cache / "ogbn-arxiv.zip", "w") as archive:
        for path in (cache / "made").rglob("*.gz"):
            archive.write(path, path.relative_to(cache / "made"))
    assert load_published("ogbn-arxiv").num_nodes == 5
    (cache / "ogbn-arxiv.zip").unlink()
    assert load_published("ogbn-arxiv").num_nodes == 5
    names = {path.name for path in (cache / "cache" / "ogbn-arxiv").rglob("*") if path.is_file()}
    assert names == {"edge.csv.gz", "node-feat.csv.gz", "node-label.csv.gz"} | {
        f"{part}.csv.gz" for part in ("train", "valid", "test")
    }


def test_what_is_missing_damaged_or_another_is_refused(cache, unchecked):
    with rejects(FileNotFoundError, "the data set 'ogbn-arxiv' could not be found"):
        load_published("ogbn-arxiv")
    with rejects(
        FileNotFoundError, "set GATJAX_DATA to a folder whose subfolder 'ppi' holds these files"
    ):
        load_ppi()
    with rejects(ValueError, "name must be one of ogbn-arxiv, ogbn-products, reddit"):
        load_published("ppi")
    (cache / "reddit.zip").write_bytes(b"no archive")
    with rejects(ValueError, "is damaged or not the known file"):
        load_published("reddit")
    with zipfile.ZipFile(cache / "reddit.zip", "w") as archive:
        archive.writestr("reddit_data.npz", "x")
    with rejects(ValueError, "0 files reddit_graph.npz in it"):
        load_published("reddit")
    folder = cache / "cache" / "ogbn-arxiv"
    write_ogb(folder)
    packed(folder / "raw/edge.csv.gz", "0,1\n2,1\n")
    with rejects(ValueError, "is not ogbn-arxiv as it is published: edges 2 where 4 are published"):
        load_published("ogbn-arxiv")
    (folder / "raw/edge.csv.gz").write_bytes(b"x")
    with rejects(ValueError, "edge.csv.gz is damaged"):
        load_published("ogbn-arxiv")
    write_ppi(cache / "cache" / "ppi")
    with rejects(ValueError, "split (2, 1, 1) where (3, 1, 1) are published"):
        load_ppi()
    graph = cache / "cache" / "ppi" / "train_graph.json"
    graph.write_text(json.dumps({"links": [{"source": 0, "target": 1}]}))
    with rejects(ValueError, "link 0 joins nodes of two graphs"):
        load_ppi()
    graph.write_text(json.dumps({"links": [{"source": 0, "target": 9}]}))
    with rejects(ValueError, "link 0 joins [0, 9], of 3 nodes"):
        load_ppi()
    assert not list((cache / "cache").rglob("*.part"))
