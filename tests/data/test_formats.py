"""A folder in any format is the same data set; splits by shares; errors call nodes by their names."""

import io
import zipfile

import numpy as np
import polars
import pytest
from helpers import rejects
from jax.experimental.sparse import BCOO
from scipy import sparse

from gatjax.data import Splits, load_folder, random_split
from gatjax.data.splits import check_splits

TABLES = {
    "edges": {
        "source": ["ann", "bob", "cat"],
        "Target": ["bob", "cat", "dan"],
        "weight": [1, 2, 3],
    },
    "features": {"node": ["dan", "ann", "cat", "bob"], "x": [1.5, 2.0, 3.0, 4.0]},
    "labels": {"node": ["bob", "dan", "ann"], "team": ["red", "blue", "red"]},
    "splits": {"node": ["bob", "dan", "ann"], "split": ["train", "validation", "test"]},
}
WRITE = {
    "csv": lambda frame, file: frame.write_csv(file),
    "tsv": lambda frame, file: frame.write_csv(file, separator="\t"),
    "parquet": lambda frame, file: frame.write_parquet(file),
}


def write(folder, kind="csv", **changes):
    for name, columns in (TABLES | changes).items():
        if columns is not None:
            WRITE[kind](polars.DataFrame(columns), folder / f"{name}.{kind}")
    return folder


@pytest.mark.parametrize("kind", WRITE)
def test_every_format_is_the_same_data_set(kind, tmp_path):
    data = load_folder(write(tmp_path, kind), directed=True)
    assert data.names.tolist() == ["dan", "ann", "cat", "bob"]
    assert data.features[:, 0].tolist() == [1.5, 2, 3, 4]
    assert data.names[data.graph.senders].tolist() == ["cat", "bob", "ann"]
    assert data.edge_weight.tolist() == [3, 2, 1]
    assert data.labels.tolist() == [0, 1, -1, 1] and data.class_names == ("blue", "red")
    assert [data.names[part].tolist() for part in data.splits] == [["bob"], ["dan"], ["ann"]]


@pytest.mark.parametrize("kind", WRITE)
def test_columns_nobody_asked_for_are_refused_or_ignored(kind, tmp_path):
    place = "edges.parquet" if kind == "parquet" else f"edges.{kind} line 1"
    write(tmp_path, kind, edges=TABLES["edges"] | {"note": ["a", "b", "c"]})
    with rejects(
        ValueError, f"{place}: nobody asked for column note: source, Target, weight are read"
    ):
        load_folder(tmp_path)
    assert load_folder(tmp_path, ignore=["note", "x"]).num_features == 0
    with rejects(ValueError, "ignore: no table of the folder has a column nota"):
        load_folder(tmp_path, ignore=["note", "nota"])


def test_features_in_arrays_carry_names(tmp_path):
    features = np.array([[1.5, 0], [2, 0], [0, 0], [0, 4]])
    names = ["dan", "ann", "cat", "bob"]
    write(tmp_path, features=None)
    np.savez(tmp_path / "features.npz", features=features, names=names)
    data = load_folder(tmp_path)
    assert data.names.tolist() == names and data.features.tolist() == features.tolist()
    assert [data.names[part].tolist() for part in data.splits] == [["bob"], ["dan"], ["ann"]]
    csr = sparse.csr_array(features)
    parts = {"data": csr.data, "indices": csr.indices, "indptr": csr.indptr, "shape": csr.shape}
    np.savez(tmp_path / "features.npz", format=b"csr", names=names, **parts)
    stored = load_folder(tmp_path, features="sparse")
    assert isinstance(stored.features, BCOO) and stored.names.tolist() == names


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "b"], "features.npz: names must be 4 strings or whole numbers, one for each row"),
        (np.ones(4), "features.npz: names must be 4 strings or whole numbers"),
        (["a", "b", "a", "c"], "features.npz row 2: node 'a' stands there twice; keep one line"),
    ],
)
def test_bad_names_beside_features(names, message, tmp_path):
    np.savez(write(tmp_path, features=None) / "features.npz", features=np.eye(4), names=names)
    with rejects(ValueError, message):
        load_folder(tmp_path)


def test_an_array_that_asks_for_more_than_there_is_is_refused_before_it_is_made(tmp_path):
    """And an array of an archive that nobody asked for is not read, whatever it holds."""
    write(tmp_path, features=None)
    head = io.BytesIO()
    asked = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 2 * 10**6)}
    np.lib.format.write_array_header_1_0(head, asked)
    message = r"an array \[1000000, 2000000\] of float32 is 8000000000000 bytes, there are 1128"
    (tmp_path / "features.npy").write_bytes(head.getvalue() + bytes(1000))
    with pytest.raises(ValueError, match=f"features.npy: .*{message}"):
        load_folder(tmp_path)
    (tmp_path / "features.npy").unlink()
    for name in ("features", "data"):
        with zipfile.ZipFile(tmp_path / "features.npz", "w") as archive:
            if name == "data":  # of a sparse matrix
                archive.writestr("format.npy", _npy(np.array(b"csr")))
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(1000))
        with pytest.raises(ValueError, match=f"features.npz: .*{message}"):
            load_folder(tmp_path)
    with zipfile.ZipFile(tmp_path / "features.npz", "w") as archive:
        archive.writestr("features.npy", _npy(np.eye(4)))
        archive.writestr("names.npy", _npy(np.array(["ann", "bob", "cat", "dan"])))
        archive.writestr("nobody_asked.npy", head.getvalue())
    assert load_folder(tmp_path).num_nodes == 4


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("file", ["edges.csv", "edges.npy"])
def test_features_without_names_say_how_to_name(file, tmp_path):
    write(tmp_path, features=None, edges=None if file == "edges.npy" else TABLES["edges"])
    if file == "edges.npy":
        np.save(tmp_path / file, np.array([["ann", "bob"]]))
    np.save(tmp_path / "features.npy", np.eye(4))
    with rejects(
        ValueError, "for names, give the features a column node, or features.npz an array names"
    ):
        load_folder(tmp_path)
    (tmp_path / "features.npy").unlink()
    np.savez(tmp_path / "features.npz", features=np.eye(4), names=["ann", "bob", "cat", "dan"])
    assert load_folder(tmp_path).num_nodes == 4


def test_splits_call_nodes_by_name(tmp_path):
    splits = {"node": ["bob", "cat"], "split": ["train", "test"]}
    with rejects(ValueError, "splits.csv: node 'cat' is in test but has no label"):
        load_folder(write(tmp_path, splits=splits))
    splits = {"node": ["bob", "bob"], "split": ["train", "test"]}
    with rejects(ValueError, "splits.csv: splits: node 'bob' occurs more than once"):
        load_folder(write(tmp_path, splits=splits))
    with rejects(ValueError, "splits: node 1 occurs more than once"):
        check_splits(Splits([1], [1], []), 2)


# Shares


def counts(splits, labels):
    return [np.bincount(np.asarray(labels)[part], minlength=3).tolist() for part in splits]


def test_shares_split_every_class_like_the_whole(unchecked):
    labels = np.repeat([0, 1, 2, -1], [50, 30, 20, 7])
    splits = random_split(labels, train=0.6, validation=0.2)
    assert counts(splits, labels) == [[30, 18, 12], [10, 6, 4], [10, 6, 4]]
    assert counts(random_split(labels, train=0.5, validation=0.1, test=0.1), labels) == [
        [25, 15, 10], [5, 3, 2], [5, 3, 2]
    ]  # fmt: skip
    again, other = (random_split(labels, train=0.6, validation=0.2, seed=seed) for seed in (0, 1))
    assert all(map(np.array_equal, splits, again)) and not all(map(np.array_equal, splits, other))
    everyone = random_split(labels, train=0.6, validation=0.4)
    assert len(everyone.test) == 0 and sorted(np.concatenate(everyone)) == list(range(100))


def test_shares_of_numbers_and_several_labels():
    for labels in (np.linspace(0, 1, 10), np.eye(10), np.where(np.eye(10) == 0, np.nan, 1.0)):
        assert [len(part) for part in random_split(labels, train=0.6, validation=0.2)] == [6, 2, 2]


def test_a_folder_is_split_by_shares(tmp_path):
    write(tmp_path, splits=None, labels={"team": ["red"] * 4})
    splits = load_folder(tmp_path, train=0.5, validation=0.25).splits
    assert [len(part) for part in splits] == [2, 1, 1]
    with rejects(ValueError, "or give all three as shares, e.g. train=0.6, validation=0.2"):
        load_folder(tmp_path, per_class=1)


@pytest.mark.parametrize(
    "shares, error, message",
    [
        ({"train": 0.9, "validation": 0.05}, ValueError, "validation comes to no node: a share of 0.05 of 5"),
        ({"train": 0.2, "validation": 0.5}, ValueError, "train=0.2 comes to no node of class 1, which has 2; raise"),
        ({"train": 0.8, "validation": 0.3}, ValueError, "the shares train=0.8, validation=0.3, test=0.0 exceed 1"),
        ({"train": 1.5}, ValueError, "train = 1.5 must be a share between 0 and 1"),
        ({"train": float("nan")}, ValueError, "train = nan must be a share"),
        ({"train": 0.5, "validation": 1}, TypeError, "validation must be a share between 0 and 1 where train=0.5 is"),
        ({"train": 2, "validation": 0.3}, TypeError, "validation must be an integer, got 0.3: for shares, train must"),
    ],
)  # fmt: skip
def test_bad_shares_are_refused(shares, error, message, unchecked):
    with rejects(error, message):
        random_split([0, 0, 0, 1, 1], **shares)
