"""Folders of your own: names, tasks, weights, and what is refused instead of guessed."""

import dataclasses
import re

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import rejects
from jax.experimental.sparse import BCOO
from scipy import sparse

from gatjax.data import (
    Dataset,
    Splits,
    has_label,
    largest_component,
    load_folder,
    normalize_rows,
    random_split,
    write_predictions,
)
from gatjax.data.dataset import make_graph, take_nodes

NAMED = {
    "edges.csv": "sender,receiver,weight\nann,bob,1\nbob,cät,2\nbob,ann,3\nbob,cät,0.5\ndan,dan,9\n",
    "features.csv": "mass,node\n1,dan\n2,ann\n3,cät\n4,bob\n",
    "labels.csv": "team,node\nred,bob\nblue,dan\nred,ann\n",
    "splits.csv": "split,node\ntrain,bob\nvalidation,dan\ntest,ann\n",
}


def write(folder, **files):
    """The files of a folder without names, or some others; None deletes one."""
    usual = {
        "edges.csv": "sender,receiver\n0,1\n1,2\n3,2\n",
        "features.csv": "mass,charge\n1,2\n3,4\n5,6\n7,8\n",
        "labels.csv": "label\n0\n1\n0\n1\n",
        "splits.csv": "node,split\n0,train\n1,train\n2,validation\n3,test\n",
    }
    for name, text in (usual | {k.replace("_", "."): v for k, v in files.items()}).items():
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_named(folder, **changes):
    return write(folder, **{k.replace(".", "_"): v for k, v in NAMED.items()} | changes)


@pytest.mark.parametrize("task", [None, "classes"])
def test_two_spellings_of_a_class_are_refused(task, tmp_path):
    """01 and 1 may be two classes; read as numbers they would be one."""
    write(tmp_path, labels_csv="label\n0\n01\n1\n0\n")
    with rejects(ValueError, "labels.csv line 4: labels 01 and 1 are one number; spell them alike"):
        load_folder(tmp_path, task=task)
    for labels, names in (
        ("0\n1.0\n1\n0", ("0", "1")),
        ("00\n01\n01\n00", ("0", "1")),
        ("class_0\nclass_01\nclass_1\nclass_0", ("class_0", "class_01", "class_1")),
    ):
        write(tmp_path, labels_csv=f"label\n{labels}\n")
        assert load_folder(tmp_path, task=task).class_names == names


# Names


def test_a_folder_of_names(tmp_path):
    data = load_folder(write_named(tmp_path))
    assert data.names.tolist() == ["dan", "ann", "cät", "bob"]
    assert data.features[:, 0].tolist() == [1, 2, 3, 4]
    assert data.class_names == ("blue", "red") and data.labels.tolist() == [0, 1, -1, 1]
    assert [data.names[part].tolist() for part in data.splits] == [["bob"], ["dan"], ["ann"]]
    ends = zip(data.names[data.graph.senders], data.names[data.graph.receivers], strict=True)
    assert {(str(s), str(r)): float(w) for (s, r), w in zip(ends, data.edge_weight, strict=True)} == {
        ("ann", "bob"): 2.0, ("bob", "ann"): 2.0, ("bob", "cät"): 2.5, ("cät", "bob"): 2.5
    }  # fmt: skip
    assert repr(data).endswith("2 classes (guessed), weighted edges, split 1/1/1)")


def test_a_folder_of_long_numbers_in_every_format(tmp_path):
    names = [10**12, -7, 30]
    write(
        tmp_path,
        features_csv="node,x\n1000000000000,1\n-7,2\n30,3\n",
        edges_csv=None,
        labels_csv="node,label\n30,b\n1000000000000,a\n",
        splits_csv=None,
    )
    np.savez(tmp_path / "edges.npz", senders=[30, -7], receivers=[-7, 10**12], weight=[0.5, 2])
    np.savez(tmp_path / "splits.npz", train=[30], validation=np.zeros(0, int), test=[10**12])
    data = load_folder(tmp_path, directed=True)
    assert data.names.tolist() == names and data.labels.tolist() == [0, -1, 1]
    assert data.graph.senders.tolist() == [1, 2] and data.graph.receivers.tolist() == [0, 1]
    assert data.edge_weight.tolist() == [2, 0.5]
    assert [part.tolist() for part in data.splits] == [[2], [], [0]]


def test_labels_and_splits_in_any_order_without_names(tmp_path):
    write(
        tmp_path,
        labels_csv="label,node\n1,3\n0,2\n1,1\n",
        splits_csv="split,node\ntrain,3\ntest,1\n",
    )
    data = load_folder(tmp_path)
    assert data.labels.tolist() == [-1, 1, 0, 1] and data.names is None
    assert data.splits.train.tolist() == [3]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("edges", "sender,receiver\nann,bob\nann,zoe\n", "edges.csv line 3: receiver 'zoe' is no node; the features"),
        ("labels", "node,team\nzoe,red\n", "labels.csv line 2: node 'zoe' is no node"),
        ("labels", "node,team\nann,red\n\nann,blue\n", "labels.csv line 4: node 'ann' stands there twice"),
        ("splits", "node,split\nann,train\nzoe,test\n", "splits.csv line 3: node 'zoe' is no node"),
        ("features", "node,x\nann,1\nbob,2\nann,3\n", "features.csv line 4: node 'ann' stands there twice"),
        ("features", "node,x\nann,1\n,2\n", "features.csv line 3, column node: the name is blank"),
        ("edges", "sender,receiver\n0,1\n", "edges.csv line 2: sender '0' is no node"),
    ],
)  # fmt: skip
def test_a_bad_name_is_placed(tmp_path, file, text, message):
    write_named(tmp_path, **{f"{file}_csv": text})
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


def test_the_remedy_for_names_works(tmp_path):
    write(tmp_path, edges_csv="sender,receiver\nann,bob\n")
    with pytest.raises(
        ValueError,
        match="column sender: 'ann' is .*; for names, give the features a column node, or",
    ):
        load_folder(tmp_path)
    write(tmp_path, edges_csv="sender,receiver\nann,bob\n", features_csv="node,x\nann,1\nbob,2\n",
          labels_csv="node,label\nann,0\nbob,1\n", splits_csv="node,split\nann,train\n")  # fmt: skip
    assert load_folder(tmp_path).names.tolist() == ["ann", "bob"]


# Tasks


@pytest.mark.parametrize(
    ("text", "task", "labels", "names", "kind"),
    [
        ("label\n1\n2\n3\n1\n", "classes", [0, 1, 2, 0], ("1", "2", "3"), "classes"),
        ("label\n0\n7\n-1\n7\n", "classes", [0, 1, -1, 1], ("0", "7"), "classes"),
        ("label\n12345678901234567\n12345678901234568\n-1\n-1\n", "classes", [0, 1, -1, -1],
         ("12345678901234567", "12345678901234568"), "classes"),
        ("age\n3\n1\n2\n3\n", "numbers", [3, 1, 2, 3], ("age",), "numbers"),
        ("price\n9.5\n12\n0\nnan\n", None, [9.5, 12, 0, np.nan], ("price",), "numbers"),
        ("team\nred\nblue\n-1\nred\n", None, [1, 0, -1, 1], ("blue", "red"), "classes"),
        ("team\nred\n1\n-1\n2.5\n", "classes", [2, 0, -1, 1], ("1", "2.5", "red"), "classes"),
        ("node,price\n2,9.5\n0,\n", None, [np.nan, np.nan, 9.5, np.nan], ("price",), "numbers"),
        ("node,team\n2,9\n0,\n3,4\n", "classes", [-1, -1, 1, 0], ("4", "9"), "classes"),
        ("a,b\n0,1\n1,1\n0,0\nnan,nan\n", "labels", [[0, 1], [1, 1], [0, 0], [np.nan] * 2], ("a", "b"), "labels"),
        ("a,b\n0,1\n1,1\n0,0\n1,0\n", "numbers", [[0, 1], [1, 1], [0, 0], [1, 0]], ("a", "b"), "numbers"),
        ("node,a,b\n3,0,\n1,,2\n", None, [[np.nan] * 2, [np.nan, 2], [np.nan] * 2, [0, np.nan]], ("a", "b"), "numbers"),
        ("rain\n0\n1\n0\n1\n", "labels", [[0], [1], [0], [1]], ("rain",), "labels"),
    ],
)  # fmt: skip
def test_labels_are_what_is_said_or_what_they_must_be(tmp_path, text, task, labels, names, kind):
    write(tmp_path, labels_csv=text, splits_csv=None)
    np.savez(
        tmp_path / "splits.npz", train=np.flatnonzero(has_label(labels)), validation=[], test=[]
    )
    data = load_folder(tmp_path, task=task)
    np.testing.assert_array_equal(data.labels, labels)
    assert (data.class_names, data.task, data.num_classes) == (names, kind, len(names))
    assert data.guessed == (task is None)
    assert ("(guessed)" in repr(data)) == data.guessed
    assert data.labels.dtype == (np.int32 if kind == "classes" else np.float32)


@pytest.mark.parametrize(
    ("text", "message", "remedies"),
    [
        ("label\n1\n2\n1\n2\n", "labels.csv line 2: label 1 is neither a class id", ["classes", "numbers"]),
        ("label\n0\n2\n0\n2\n", "labels.csv line 3: label 2 is neither", ["classes", "numbers"]),
        ("age\n3\n1\n2\n3\n", "labels.csv line 3: label 1 is neither", ["classes", "numbers"]),
        ("team\nred\n7\nred\n7\n", "line 2, column team: 'red' is not a number; task=.classes. takes all", ["classes"]),
        ("a,b\n0,1\n1,1\n0,0\n1,1\n", "only 0 and 1, which may be labels or numbers", ["labels", "numbers"]),
        ("label\nnan\n0\n1\n1\n", "line 2: label nan is neither .* write -1 for no label", ["numbers"]),
    ],
)  # fmt: skip
def test_what_could_be_either_is_asked_and_every_answer_works(tmp_path, text, message, remedies):
    write(tmp_path, labels_csv=text, splits_csv="node,split\n3,train\n")
    with pytest.raises(ValueError, match=message) as error:
        load_folder(tmp_path)
    named = set(re.findall(r'task="(\w+)"', str(error.value)))
    assert set(remedies) <= named
    for task in remedies:
        assert load_folder(tmp_path, task=task).task == task


@pytest.mark.parametrize(
    ("text", "task", "message"),
    [
        ("label\n0\n0.5\n1\n1\n", "classes", 'line 3: label 0.5 is neither .*; task="numbers" reads'),
        ("a,b\n0,1\n1,1\n0,0\n1,1\n", "classes", '2 columns of labels, but classes stand in one; .* task="labels"'),
        ("a,b\n0,1\n1,2\n0,0\n1,1\n", "labels", "line 3: 2.0 in column 1 .* neither 0 nor 1"),
        ("x\na\nb\nc\nd\n", "numbers", "line 2, column x: 'a' is not a number"),
        ("x\n1\n2\n3\n4\n", "ages", "task must be one of classes, numbers, labels, got 'ages'"),
        ("x\n1577836801\n1\n2\n3\n", "numbers", "labels.csv line 2: the label 1577836801 has more digits than float32"),
    ],
)  # fmt: skip
def test_labels_that_are_not_what_is_said_are_refused(tmp_path, text, task, message, unchecked):
    write(tmp_path, labels_csv=text)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, task=task)


@pytest.mark.parametrize(
    ("array", "task", "labels", "names"),
    [
        (np.array(["b", "a", "b", "b"]), None, [1, 0, 1, 1], ("a", "b")),
        (np.array([5, -1, 9, 9]), "classes", [0, -1, 1, 1], ("5", "9")),
        (np.array([0.5, np.nan, 2, 2]), None, [0.5, np.nan, 2, 2], ("0",)),
        (np.array([3.0, np.nan, 2, 2]), "classes", [1, -1, 0, 0], ("2", "3")),
        (np.eye(4, dtype=bool), None, np.eye(4), ("0", "1", "2", "3")),
        (np.eye(4, dtype=np.int8), "labels", np.eye(4), ("0", "1", "2", "3")),
        (np.array([False, True, True, False]), None, [0, 1, 1, 0], ("0", "1")),
    ],
)
def test_labels_from_arrays(tmp_path, array, task, labels, names):
    np.save(write(tmp_path, labels_csv=None) / "labels.npy", array)
    (tmp_path / "splits.csv").write_text("node,split\n0,train\n")
    data = load_folder(tmp_path, task=task)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.class_names == names


def test_a_drawn_split_without_classes(tmp_path):
    write(tmp_path, labels_csv="price\n9.5\n12\nnan\n4\n", splits_csv=None)
    with pytest.raises(
        ValueError, match="integer class ids .* pass train=, how many .* or give the split"
    ):
        load_folder(tmp_path)
    for seed in range(9):
        splits = load_folder(tmp_path, seed=seed, train=1, validation=1, test=1).splits
        assert sorted(np.concatenate(splits).tolist()) == [0, 1, 3]
    with pytest.raises(ValueError, match="train=4, but only 3 nodes have a label; lower train"):
        load_folder(tmp_path, train=4)


def test_a_node_with_some_targets_has_a_label():
    labels = np.array([[1, np.nan], [np.nan, np.nan], [2, 3]])
    assert has_label(labels).tolist() == [True, False, True]
    assert sorted(np.concatenate(random_split(labels, train=1, validation=1, test=0)).tolist()) == [
        0,
        2,
    ]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_narrow_labels_are_counted_right(dtype):
    splits = random_split(np.arange(128).repeat(3).astype(dtype), per_class=1, validation=9, test=9)
    assert len(splits.train) == 128


def test_a_class_without_nodes_is_no_matter_of_size_and_the_remedy_works():
    labels = np.array([0, 2, 0, 2])
    with pytest.raises(
        ValueError, match="class 1 has only 0 .* number the classes without a gap"
    ) as error:
        random_split(labels, per_class=1, validation=1, test=1)
    assert "lower" not in str(error.value)
    labels = np.unique(labels, return_inverse=True)[1]
    assert len(random_split(labels, per_class=1, validation=1, test=1).train) == 2


# Numbers that are not finite, or would lose digits


def small(**changes):
    graph = make_graph(np.ones((3, 2), np.float32), np.array([0, 1]), np.array([1, 2]))
    data = Dataset("small", graph, np.array([0, 1, -1], np.int32), Splits([0], [1], []), 2, ("a", "b"), "made up")  # type: ignore  # fmt: skip
    nodes = changes.pop("nodes", None)
    changes |= {} if nodes is None else {"graph": data.graph._replace(nodes=nodes)}
    return dataclasses.replace(data, **changes)


BAD = np.array([[1, 2], [3, 4], [5, np.nan]], np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, BCOO.fromdense])
def test_a_dataset_refuses_features_that_are_not_finite(kind, value, unchecked):
    nodes = kind(np.where(np.isnan(BAD), value, BAD))
    message = (
        r"features: column 1 \(counted from 0\) of node 2 is not finite; fill in what is missing"
    )
    with pytest.raises(ValueError, match=message):
        small(nodes=nodes)
    with pytest.raises(ValueError, match=r"of node 2 \('cat'\) is"):
        small(nodes=nodes, names=np.array(["ann", "bob", "cat"]))
    assert small(nodes=np.nan_to_num(BAD)).num_nodes == 3 == small(nodes=BAD[:, :1]).num_nodes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 2, 0], np.int32)}, "labels: node 1 has 2; a label is a class id or -1"),
        ({"labels": np.array([0, -2, 0], np.int32)}, "labels: node 1 has -2"),
        ({"labels": np.array([[0, 0], [0, 0], [0, np.inf]], np.float32)}, "node 2 has inf; a label is finite or"),
        ({"labels": np.full((3, 2), 0.5, np.float32), "task": "labels"}, "node 0 has 0.5; a label is 0, 1 or NaN"),
        ({"labels": np.zeros(3, np.float32), "task": "classes"}, "class ids are integers .N., got float32"),
        ({"task": "ages"}, "task must be one of classes, numbers, labels, got 'ages'"),
        ({"names": np.array(["a", "b"])}, r"names has shape \(2,\): give one for each of 3 nodes"),
        ({"names": np.array(["a", "b", "a"])}, r"names\[2\] = 'a' names another node too"),
        ({"edge_weight": np.ones(3, np.float32)}, r"edge_weight has shape \(3,\): .* 4 edges"),
        ({"edge_weight": np.array([1, np.nan, 1, 1], np.float32)}, r"edge_weight\[1\] = nan is not finite"),
    ],
)  # fmt: skip
def test_a_dataset_refuses(change, message, unchecked):
    if change.get("labels") is not None and change["labels"].dtype == np.float32:
        change = {"task": "numbers", **change}
    with pytest.raises(ValueError, match=message):
        small(**change)


@pytest.mark.parametrize("name", ["features.csv", "features.npy", "features.npz", "sparse"])
def test_features_keep_their_digits_or_are_refused(tmp_path, name):
    write(tmp_path, features_csv=None)

    def store(times):
        rows = np.array([[0.5, time] for time in times])
        if name == "features.csv":
            lines = [f"{row[0]},{int(row[1])}" for row in rows]
            (tmp_path / name).write_text("\n".join(["x,time", *lines]))
        elif name == "features.npy":
            np.save(tmp_path / name, rows)
        elif name == "features.npz":
            np.savez(tmp_path / name, features=rows)
        else:
            sparse.save_npz(tmp_path / "features.npz", sparse.csr_array(rows))

    times = np.arange(4) * 62 + 1577836801
    store(times)
    with pytest.raises(
        ValueError, match="1577836801 has more digits than float32 .* subtract an offset"
    ) as error:
        load_folder(tmp_path)
    where = {"features.csv": "features.csv line 2, column time: "}
    assert str(error.value).startswith(
        where.get(name, f"features.np{'y' if name.endswith('y') else 'z'}: features[0, 1] = ")
    )
    store(times - times[0])
    assert np.asarray(load_folder(tmp_path, features="dense").features)[:, 1].tolist() == [
        0,
        62,
        124,
        186,
    ]
    store(times + 0.5)
    if name != "features.csv":
        assert load_folder(tmp_path).num_features == 2


def test_normalize_rows_keeps_digits(unchecked):
    for kind in (np.array, sparse.csr_array):
        with pytest.raises(ValueError, match=r"features\[0, 0\] = 16777217 has more digits"):
            normalize_rows(kind([[16777217, 1]]))


# Weights


def test_weights_follow_their_edges(tmp_path):
    text = "weight,receiver,sender\n2,1,0\n0.5,1,0\n1,0,1\n7,2,2\n-3,2,1\n"
    write(tmp_path, edges_csv=text)
    directed = load_folder(tmp_path, directed=True)
    pairs = lambda data: {
        (s, r): w
        for s, r, w in zip(
            data.graph.senders.tolist(),
            data.graph.receivers.tolist(),
            data.edge_weight.tolist(),
            strict=True,
        )
    }
    assert pairs(directed) == {(0, 1): 2.5, (1, 0): 1, (1, 2): -3}
    both = load_folder(tmp_path)
    assert pairs(both) == {(0, 1): 1.75, (1, 0): 1.75, (1, 2): -3, (2, 1): -3}
    assert both.edge_weight.dtype == np.float32 and both.graph.edges is None
    smaller = largest_component(take_nodes(both, np.array([True, True, False, True])))
    assert pairs(smaller) == {(0, 1): 1.75, (1, 0): 1.75}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sender,receiver,weight\n0,1,nan\n", "edges.csv line 2: the weight is not finite"),
        ("sender,receiver,weight\n0,1,\n", "line 2, column weight: '' is not a number"),
        ("sender,receiver,weight\n0,1,16777217\n", "line 2, column weight: 16777217 has more digits"),
        ("sender,receiver,length\n0,1,1\n", "nobody asked for column length: sender, receiver, weight are read"),
    ],
)  # fmt: skip
def test_bad_weights_are_refused(tmp_path, text, message):
    write(tmp_path, edges_csv=text)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


@pytest.mark.parametrize("file", ["labels", "splits", "edges"])
def test_a_column_nobody_asked_for_is_an_error(tmp_path, file):
    texts = {
        "labels": "node,label,more\n0,1,x\n",
        "splits": "node,split,more\n0,train,x\n",
        "edges": "sender,receiver,more\n0,1,x\n",
    }
    write(tmp_path, **{f"{file}_csv": texts[file]})
    with pytest.raises(ValueError, match=f"{file}.csv line"):
        load_folder(tmp_path)


# Predictions


def test_predictions_are_written_by_name_and_read_back_as_labels(tmp_path):
    data = load_folder(write_named(tmp_path))
    file = tmp_path / "predictions.csv"
    write_predictions(file, data, np.array([1, 0, -1, 0]))
    assert file.read_text(encoding="utf-8") == "node,label\ndan,red\nann,blue\ncät,-1\nbob,blue\n"
    with pytest.raises(
        FileExistsError, match=r"predictions.csv exists: delete it, or choose another path"
    ):
        write_predictions(file, data, data.labels)
    file.rename(tmp_path / "labels.csv")
    assert load_folder(tmp_path).labels.tolist() == [1, 0, -1, 0]


@pytest.mark.parametrize("task", ["numbers", "labels"])
def test_numbers_are_written_and_read_back(tmp_path, task):
    write(tmp_path, labels_csv=None)
    np.save(tmp_path / "labels.npy", np.eye(4))
    data = load_folder(tmp_path, task=task)
    write_predictions(tmp_path / "labels.csv", data, data.labels)
    (tmp_path / "labels.npy").unlink()
    again = load_folder(tmp_path, task=task)
    np.testing.assert_array_equal(again.labels, data.labels)
    assert again.class_names == ("label_0", "label_1", "label_2", "label_3")


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.ones((3, 2)), r"shape \(3, 2\): the labels have shape \(3,\); .* logits.argmax\(-1\)"),
        (np.ones(3), r"must be class ids, got float64: pass logits.argmax\(-1\)"),
        (
            np.array([0, 1, 2]),
            r"predictions\[2\] = 2 is no class: ids run from 0 to 1, and -1 is none",
        ),
    ],
)
def test_bad_predictions_are_refused_and_the_remedy_works(
    tmp_path, predictions, message, unchecked
):
    with pytest.raises(ValueError, match=message):
        write_predictions(tmp_path / "p.csv", small(), predictions)
    assert not (tmp_path / "p.csv").exists()
    write_predictions(tmp_path / "p.csv", small(), np.ones((3, 2)).argmax(-1))


# Without rows, and with very many


def test_a_folder_without_nodes_says_so(tmp_path):
    write(
        tmp_path,
        features_csv="node,a,b\n",
        edges_csv="sender,receiver,weight\n",
        labels_csv="node,x,y\n",
        splits_csv=None,
    )
    with pytest.raises(ValueError, match="no node has a label"):
        load_folder(tmp_path, task="numbers", train=0)


def test_a_million_edges_are_read_as_ten_are(tmp_path):
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(0, 5000, (2, 10**5))
    names = [f"n{i}" for i in range(5000)]
    for prefix in ("", "n"):
        lines = [
            f"{prefix}{s},{prefix}{r},0.5"
            for s, r in zip(senders.tolist(), receivers.tolist(), strict=True)
        ]
        features = [f"{prefix}{i},1" for i in range(5000)]
        write(
            tmp_path,
            edges_csv="\n".join(["sender,receiver,weight", *lines]),
            features_csv="\n".join(["node,x", *features]),
            labels_csv="node,label\n" + "".join(f"{prefix}{i},{i % 2}\n" for i in range(5000)),
            splits_csv=None,
        )
        data = load_folder(tmp_path, directed=True)
        assert data.edge_weight.sum() == 0.5 * (senders != receivers).sum()
    assert data.names.tolist() == names


def test_names_stand_in_arrays_too(tmp_path):
    write_named(tmp_path, edges_csv=None, splits_csv=None)
    np.save(tmp_path / "edges.npy", np.array([["ann", "bob"], ["cät", "dan"]]))
    np.savez(tmp_path / "splits.npz", train=["ann"], validation=[], test=["bob", "dan"])
    data = load_folder(tmp_path, directed=True)
    assert data.names[data.graph.senders].tolist() == ["cät", "ann"]
    assert data.names[data.splits.test].tolist() == ["dan", "bob"]
    np.save(tmp_path / "edges.npy", np.array([["ann", "zoe"]]))
    with pytest.raises(ValueError, match="edges.npy row 0: receiver 'zoe' is no node"):
        load_folder(tmp_path)
    np.save(tmp_path / "edges.npy", np.array([[0, 1]]))
    with pytest.raises(
        ValueError, match=r"edges.npy: edges must be names of shape \[E, 2\], got int64"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "sizes", [{"per_class": 0.5}, {"train": "x"}, {"seed": 0.5}, {"validation": True}]
)
def test_sizes_and_seeds_are_integers(sizes, unchecked):
    with pytest.raises(TypeError, match=f"{next(iter(sizes))} must be an integer, got"):
        random_split([0, 1], **{"per_class": 1, "validation": 0, "test": 0, **sizes})


def test_words_are_numbered_before_a_split_is_drawn():
    labels = np.array(["a", "b", "a"])
    with pytest.raises(
        ValueError, match=r"number the classes, np.unique\(labels, return_inverse=True\)\[1\]"
    ):
        random_split(labels)
    labels = np.unique(labels, return_inverse=True)[1]
    assert len(random_split(labels, per_class=1, validation=1, test=0).train) == 2
