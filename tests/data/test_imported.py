"""A data set from what PyTorch Geometric or DGL hold."""

import numpy as np
import pytest
from helpers import rejects

from gatjax.data import Splits, as_dataset
from gatjax.graph import Imported, batch, build_graph, coalesce, from_pyg

EDGES = np.array([[2, 0, 1, 1], [0, 2, 1, 0]])


def pyg(**fields):
    masks = {
        name: np.arange(4) == index
        for index, name in enumerate(("train_mask", "val_mask", "test_mask"))
    }
    base = {"edge_index": EDGES, "x": np.eye(4, 3), "y": np.array([2, 0, 1, -1]), **masks}
    return from_pyg({name: each for name, each in (base | fields).items() if each is not None})


def test_edges_are_sorted_weights_follow_and_loops_leave():
    dataset = as_dataset(pyg(edge_weight=np.array([0.5, 2.0, 9.0, 3.0])), name="mine")
    assert dataset.graph.senders.tolist() == [1, 2, 0]
    assert dataset.graph.receivers.tolist() == [0, 0, 2]
    assert dataset.edge_weight.tolist() == [3, 0.5, 2] and dataset.edge_weight.dtype == np.float32
    assert dataset.labels.tolist() == [2, 0, 1, -1] and dataset.num_classes == 3
    assert [part.tolist() for part in dataset.splits] == [[0], [1], [2]]
    assert dataset.class_names == ("0", "1", "2") and dataset.name == "mine"


def test_labels_of_every_kind():
    numbers = as_dataset(pyg(y=np.array([0.5, 1, np.nan, 2])))
    assert numbers.task == "numbers" and numbers.num_classes == 1
    column = as_dataset(pyg(y=np.array([[1], [0], [1], [0]])))
    assert column.task == "classes" and column.labels.tolist() == [1, 0, 1, 0]
    several = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    with rejects(ValueError, 'pass task="labels" or task="numbers"'):
        as_dataset(pyg(y=several))
    labels = as_dataset(pyg(y=several), task="labels", class_names=("red", "blue"))
    assert labels.num_classes == 2 and labels.class_names == ("red", "blue")


def test_dgl_keeps_them_in_ndata():
    imported = pyg()
    others = {"label": imported.others["y"]}
    splits = Splits(*(np.array([index]) for index in range(3)))
    ours = as_dataset(Imported(imported.graph, None, {"ndata": others}), splits=splits)
    assert ours.num_classes == 3 and ours.splits.test.tolist() == [2]


def test_one_of_several_splits():
    masks = {
        name: np.stack([mask, np.roll(mask, 1)], 1)
        for name, mask in pyg().others.items()
        if name != "y"
    }
    assert as_dataset(pyg(**masks), split=1).splits.train.tolist() == [1]
    for split in (None, 2):
        with rejects(ValueError, "train_mask has 2 splits: pass split=0"):
            as_dataset(pyg(**masks), split=split)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"edge_attr": np.ones((4, 2))}, "edges: a data set has no place for edge features"),
        ({"x": None, "num_nodes": 4}, "the graph has no node features"),
        ({"edge_index": np.array([[0, 1, 0], [1, 0, 1]])}, "edge 2, 0 -> 1, is there twice"),
        ({"y": None}, "no labels: neither y nor label is among train_mask"),
        ({"val_mask": None}, "no val_mask: pass splits="),
    ],
)
def test_what_has_no_place_has_its_name(fields, message):
    with rejects(ValueError, message):
        as_dataset(pyg(**fields))


def test_every_remedy_helps():
    twice = pyg(edge_index=np.array([[0, 1, 0], [1, 0, 1]]))
    merged = as_dataset(twice._replace(graph=coalesce(twice.graph), edge_weight=None))
    assert merged.num_edges == 2
    edged = pyg(edge_attr=np.ones((4, 2)))
    assert as_dataset(edged._replace(graph=edged.graph._replace(edges=None))).num_edges == 3


def test_a_batch_is_no_data_set():
    graph = build_graph([0], [1], np.ones((2, 3)))
    with rejects(ValueError, "a batch of 2 graphs"):
        as_dataset(Imported(batch([graph, graph]), None, {}))
