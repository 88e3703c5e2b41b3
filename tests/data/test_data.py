"""Data sets in memory: splits, features, Citeseer from the package, folders of your own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.sparse import BCOO
from scipy import sparse

from gatjax.data import (
    Dataset,
    Splits,
    largest_component,
    load,
    load_folder,
    normalize_rows,
    random_split,
    shchur_split,
)
from gatjax.data.dataset import make_graph

LABELS = np.array([0] * 31 + [1] * 29 + [2] * 37 + [-1] * 5)


def edge_set(dataset):
    return set(zip(dataset.graph.senders.tolist(), dataset.graph.receivers.tolist(), strict=True))


def dataset_of(num_nodes, edges, splits=((), (), ()), directed=False):
    """A data set whose feature 0 is the node's own id plus one."""
    senders, receivers = np.array(edges, np.int64).reshape(-1, 2).T
    features = np.arange(1, num_nodes + 1, dtype=np.float32)[:, None]
    return Dataset(
        name="small",
        graph=make_graph(features, senders, receivers, layout="dense", directed=directed),
        labels=np.arange(num_nodes, dtype=np.int32) % 2,
        splits=Splits(*(np.array(part, np.int32) for part in splits)),
        num_classes=2,
        class_names=("even", "odd"),
        provenance="made up",
    )


# Splits


@given(seed=st.integers(0, 2**40), per_class=st.integers(0, 29), test=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_random_split_has_the_sizes_asked_for_and_shares_no_node(seed, per_class, test):
    splits = random_split(LABELS, seed=seed, per_class=per_class, validation=3, test=test)
    assert [len(part) for part in splits] == [3 * per_class, 3, test]
    everything = np.concatenate(splits)
    assert len(set(everything.tolist())) == len(everything)
    assert (LABELS[everything] >= 0).all()
    assert np.bincount(LABELS[splits.train], minlength=3).tolist() == [per_class] * 3
    for part in splits:
        assert part.dtype == np.int32
        assert (np.diff(part) > 0).all()


def test_shchur_split_takes_both_parts_by_class_and_leaves_the_rest_for_test():
    splits = shchur_split(LABELS, seed=3, train_per_class=11, validation_per_class=17)
    assert np.bincount(LABELS[splits.train]).tolist() == [11, 11, 11]
    assert np.bincount(LABELS[splits.validation]).tolist() == [17, 17, 17]
    assert np.bincount(LABELS[splits.test]).tolist() == [3, 1, 9]
    assert sorted(np.concatenate(splits).tolist()) == list(range(97))


@pytest.mark.parametrize("draw", [random_split, shchur_split])
def test_a_split_is_a_function_of_the_seed(draw):
    labels = np.repeat([0, 1], 800)
    first, again, other = (draw(labels, seed=seed) for seed in (5, 5, 6))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert set(first.train.tolist()) != set(other.train.tolist())


def test_every_node_is_drawn_for_training_by_some_seed():
    drawn = [random_split(LABELS, seed=s, per_class=5, validation=1, test=1) for s in range(60)]
    assert set(np.concatenate([splits.train for splits in drawn]).tolist()) == set(range(97))


@pytest.mark.parametrize(
    ("labels", "sizes", "message"),
    [
        (LABELS, {"per_class": 30}, "per_class=30 .* class 1 has only 29 .* lower per_class"),
        (LABELS, {"per_class": 2}, "validation=500 and test=1000 .* only 91 .* lower validation"),
        ([0, 2], {"per_class": 1}, "class 1 has only 0"),
        (LABELS, {"per_class": -1}, "per_class must not be negative, got -1"),
        (LABELS, {"seed": -3}, "seed must be a non-negative integer, got -3"),
        ([0, -2], {}, "class ids or -1 for no label, got -2"),
        ([-1, -1], {}, "no node has a label"),
        ([0.5, 1.0], {}, "1-D array of integer class ids .* float64"),
        ([[0, 1]], {}, r"shape \(1, 2\)"),
    ],
)
def test_random_split_refuses(labels, sizes, message):
    with pytest.raises(ValueError, match=message):
        random_split(labels, **sizes)


def test_shchur_split_refuses_a_class_that_is_too_small():
    with pytest.raises(ValueError, match="validation_per_class=10 .* class 1 has only 9"):
        shchur_split(LABELS, validation_per_class=10)


# Features


def test_normalize_rows_by_hand():
    rows = [[1, 0, 3], [0, 0, 0], [2, 2, 4], [1, -1, 0]]
    expected = [[0.25, 0, 0.75], [0, 0, 0], [0.25, 0.25, 0.5], [1, -1, 0]]
    np.testing.assert_array_equal(normalize_rows(rows), np.array(expected, np.float32))
    for kind in (sparse.csr_array, sparse.coo_matrix, sparse.csc_array):
        found = normalize_rows(kind(np.array(rows)))
        assert isinstance(found, sparse.csr_array)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.toarray(), np.array(expected, np.float32))
    found = normalize_rows(BCOO.fromdense(jnp.array(rows, jnp.float32)))
    assert isinstance(found, BCOO)
    np.testing.assert_array_equal(found.todense(), np.array(expected, np.float32))


def test_normalize_rows_adds_duplicate_entries_and_leaves_its_argument_alone():
    double = sparse.coo_array(([1.0, 2.0, 1.0], ([0, 0, 0], [1, 1, 0])), shape=(1, 2))
    np.testing.assert_array_equal(normalize_rows(double).toarray(), [[0.25, 0.75]])
    assert double.nnz == 3
    loose = sparse.csr_array(([1.0, 1.0, 0.0, 2.0], [2, 0, 1, 2], [0, 4]), shape=(1, 3))
    found = normalize_rows(loose)
    np.testing.assert_array_equal(found.toarray(), [[0.25, 0, 0.75]])
    assert found.indices.tolist() == [0, 2]
    assert loose.nnz == 4
    dense = np.array([[2.0, 2.0]])
    normalize_rows(dense)
    np.testing.assert_array_equal(dense, [[2.0, 2.0]])


@pytest.mark.parametrize("features", [[1.0, 2.0], [["a", "b"]], np.ones((1, 1), complex)])
def test_normalize_rows_refuses_what_is_no_matrix_of_numbers(features):
    with pytest.raises(ValueError, match=r"matrix of real numbers \[N, F\]"):
        normalize_rows(features)


@pytest.mark.parametrize(("ones", "is_sparse"), [(14, True), (15, False)])
def test_auto_is_sparse_below_a_density_of_fifteen_percent(ones, is_sparse):
    features = np.zeros(100, np.float32)
    features[:ones] = 1
    none = np.empty(0, np.int64)
    nodes = make_graph(features.reshape(10, 10), none, none).nodes
    assert isinstance(nodes, BCOO) == is_sparse


# Dataset


@given(
    num_nodes=st.integers(1, 13),
    pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=41),
    directed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_edges_are_canonical(num_nodes, pairs, directed):
    pairs = [(s % num_nodes, r % num_nodes) for s, r in pairs]
    graph = dataset_of(num_nodes, pairs, directed=directed).graph
    expected = {(r, s) for s, r in pairs if s != r}
    if not directed:
        expected |= {(s, r) for r, s in expected}
    found = np.array([graph.receivers, graph.senders]).T.tolist()
    assert found == [list(pair) for pair in sorted(expected)]
    assert graph.n_node.tolist() == [num_nodes]
    assert graph.n_edge.tolist() == [len(expected)]
    for ids in (graph.senders, graph.receivers, graph.n_node, graph.n_edge):
        assert np.asarray(ids).dtype == np.int32


def components(num_nodes, edges):
    """Connected components by breadth-first search, in the order of their lowest node."""
    neighbors = {node: set() for node in range(num_nodes)}
    for sender, receiver in edges:
        neighbors[sender].add(receiver)
        neighbors[receiver].add(sender)
    unseen, found = set(range(num_nodes)), []
    while unseen:
        component = frontier = {min(unseen)}
        while frontier:
            frontier = set().union(*(neighbors[node] for node in frontier)) - component
            component = component | frontier
        found.append(sorted(component))
        unseen -= component
    return found


@given(
    num_nodes=st.integers(1, 17),
    pairs=st.lists(st.tuples(st.integers(0, 16), st.integers(0, 16)), max_size=19),
    directed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_largest_component_agrees_with_breadth_first_search(num_nodes, pairs, directed):
    pairs = [(s % num_nodes, r % num_nodes) for s, r in pairs]
    dataset = dataset_of(num_nodes, pairs, directed=directed)
    kept = max(components(num_nodes, pairs), key=len)
    smaller = largest_component(dataset)
    np.testing.assert_array_equal(smaller.features[:, 0], np.array(kept) + 1)
    np.testing.assert_array_equal(smaller.labels, dataset.labels[kept])
    inside = {(s, r) for s, r in edge_set(dataset) if s in kept}
    assert {(kept[s], kept[r]) for s, r in edge_set(smaller)} == inside
    assert smaller.num_nodes == len(kept)


def test_largest_component_renumbers_the_splits():
    edges = [(0, 2), (2, 4), (4, 6), (1, 3)]
    smaller = largest_component(dataset_of(7, edges, splits=([0, 1, 2], [3, 4], [5, 6])))
    assert [part.tolist() for part in smaller.splits] == [[0, 1], [2], [3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(4, np.int32)}, "labels: 4 for 5 nodes"),
        ({"class_names": ("one",)}, "class_names: 1 for 2 classes"),
        ({"splits": ([0], [1], [5])}, "test contains 5, which is no node; .* 5 nodes"),
        ({"splits": ([0], [-1], [2])}, "validation contains -1"),
        ({"splits": ([0, 3], [1], [3])}, "node 3 occurs more than once"),
        ({"splits": ([0, 0], [1], [3])}, "node 0 occurs more than once"),
        ({"splits": ([0.5], [1], [3])}, "train must be a 1-D array of integer node ids"),
        ({"splits": ([[0]], [1], [3])}, r"train must be a 1-D array .* shape \(1, 1\)"),
    ],
)
def test_a_dataset_that_contradicts_itself_is_refused(change, message, unchecked):
    if "splits" in change:
        change = {"splits": Splits(*(np.array(part) for part in change["splits"]))}
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(dataset_of(5, [(0, 1)]), **change)


# Citeseer, from the package


@pytest.fixture(scope="module")
def citeseer():
    return load("citeseer")


def test_citeseer_is_what_the_papers_describe(citeseer):
    assert (citeseer.num_nodes, citeseer.num_features, citeseer.num_classes) == (3327, 3703, 6)
    assert citeseer.num_edges == 2 * 4552
    assert [len(part) for part in citeseer.splits] == [120, 500, 1000]
    assert citeseer.density == pytest.approx(105165 / (3327 * 3703))
    assert np.bincount(citeseer.labels[citeseer.splits.train]).tolist() == [20] * 6
    np.testing.assert_array_equal(citeseer.splits.train, np.arange(120))
    np.testing.assert_array_equal(citeseer.splits.validation, np.arange(120, 620))
    assert citeseer.splits.test.min() == 2312


def test_citeseer_classes_have_the_sizes_that_name_them(citeseer):
    published = {"Agents": 596, "AI": 249, "DB": 701, "IR": 668, "ML": 590, "HCI": 508}
    sizes = np.bincount(citeseer.labels[citeseer.labels >= 0])
    assert dict(zip(citeseer.class_names, sizes.tolist(), strict=True)) == published


def test_citeseer_edges_are_canonical(citeseer):
    graph = citeseer.graph
    order = graph.receivers.astype(np.int64) * 3327 + graph.senders
    assert (np.diff(order) > 0).all()
    assert (graph.senders != graph.receivers).all()
    edges = edge_set(citeseer)
    assert {(r, s) for s, r in edges} == edges
    for array in (graph.senders, graph.receivers, graph.n_node, graph.n_edge, citeseer.labels):
        assert type(array) is np.ndarray
        assert array.dtype == np.int32


def test_papers_without_a_record_have_edges_but_no_features_no_label_and_no_split(citeseer):
    bare = np.flatnonzero(citeseer.labels == -1)
    assert len(bare) == 15
    assert not np.isin(bare, np.concatenate(citeseer.splits)).any()
    assert not np.isin(bare, np.asarray(citeseer.features.indices)[:, 0]).any()
    assert np.isin(bare, citeseer.graph.receivers).all()


def test_features_are_sparse_sorted_unique_and_sum_to_one(citeseer):
    features = citeseer.features
    assert isinstance(features, BCOO)
    assert features.indices_sorted
    assert features.unique_indices
    assert features.indices.dtype == jnp.int32
    assert features.data.dtype == jnp.float32
    row, column = np.asarray(features.indices, np.int64).T
    assert (np.diff(row * 3703 + column) > 0).all()
    sums = np.bincount(row, np.asarray(features.data), minlength=3327)
    np.testing.assert_allclose(sums[citeseer.labels >= 0], 1, rtol=1e-6)


def test_dense_and_sparse_features_agree_inside_jit(citeseer):
    dense = load("citeseer", features="dense")
    assert type(dense.features) is np.ndarray
    assert dense.features.dtype == np.float32
    weights = jnp.cos(jnp.arange(3703 * 3.0)).reshape(3703, 3)
    project = jax.jit(lambda graph, weights: graph.nodes @ weights)
    expected = project(dense.graph, weights)
    np.testing.assert_allclose(project(citeseer.graph, weights), expected, atol=1e-6)
    np.testing.assert_array_equal(citeseer.features.todense(), dense.features)
    assert dense.density == citeseer.density


def test_features_are_binary_unless_normalized():
    raw = load("citeseer", normalize_features=False)
    assert set(np.asarray(raw.features.data).tolist()) == {1.0}


def test_names_are_case_insensitive(citeseer):
    assert load("CiteSeer").name == citeseer.name == "citeseer"


def test_random_split_of_citeseer(citeseer):
    first, second = (load("citeseer", split="random", seed=seed) for seed in (0, 1))
    assert [len(part) for part in first.splits] == [120, 500, 1000]
    assert set(first.splits.train.tolist()) != set(second.splits.train.tolist())
    assert np.bincount(first.labels[first.splits.train]).tolist() == [20] * 6
    np.testing.assert_array_equal(first.graph.senders, citeseer.graph.senders)


def test_shchur_split_of_citeseer_is_on_the_published_component():
    dataset = load("citeseer", split="shchur", seed=7, normalize_features=False)
    assert (dataset.num_nodes, dataset.num_edges) == (2110, 2 * 3668)
    assert [len(part) for part in dataset.splits] == [120, 180, 1810]
    assert (dataset.labels >= 0).all()
    assert len(components(2110, edge_set(dataset))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "reddit"}, "name must be one of citeseer, cora, pubmed, got 'reddit'"),
        ({"split": "full"}, "split must be one of public, random, shchur, got 'full'"),
        ({"features": "csr"}, "features must be one of auto, dense, sparse, got 'csr'"),
        ({"split": "random", "seed": -1}, "seed must be a non-negative integer, got -1"),
    ],
)
def test_load_refuses_what_it_does_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**{"name": "citeseer", **arguments})


def test_repr_is_one_readable_line(citeseer):
    assert repr(citeseer) == (
        "Dataset('citeseer': 3327 nodes, 9104 edges, 3703 features (sparse, 0.9% non-zero), "
        "6 classes, split 120/500/1000)"
    )


# Your own folder

EDGES = [(0, 1), (1, 2), (3, 3), (2, 1), (4, 0), (0, 1)]
FEATURES = np.array([[1.5, 0], [0, 0], [0, -2], [4, 0.25], [0, 0]], np.float32)
CLASSES = np.array([1, 0, 2, -1, 1])
PARTS: dict[str, Any] = {"train": [4, 1], "validation": [2], "test": [0]}


def csv_text(header, rows):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def write_csv(folder):
    (folder / "edges.csv").write_text(csv_text("sender,receiver", EDGES))
    (folder / "features.csv").write_text(csv_text("mass,charge", FEATURES.tolist()))
    (folder / "labels.csv").write_text(csv_text("label", [[label] for label in CLASSES]))
    rows = [(node, name) for name, ids in PARTS.items() for node in ids]
    (folder / "splits.csv").write_text(csv_text("node,split", rows))


def write_npy(folder):
    np.save(folder / "edges.npy", np.array(EDGES))
    np.save(folder / "features.npy", FEATURES)
    np.save(folder / "labels.npy", CLASSES)
    np.savez(folder / "splits.npz", **PARTS)


def write_npz(folder):
    senders, receivers = np.array(EDGES).T
    np.savez(folder / "edges.npz", senders=senders, receivers=receivers)
    np.savez_compressed(folder / "features.npz", features=FEATURES)
    np.save(folder / "labels.npy", CLASSES.astype(np.int8))
    np.savez(folder / "splits.npz", **PARTS)


def write_scipy(folder):
    write_npz(folder)
    sparse.save_npz(folder / "features.npz", sparse.csc_matrix(FEATURES))


@pytest.mark.parametrize("write", [write_csv, write_npy, write_npz, write_scipy])
@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_every_file_format_gives_the_same_data_set(tmp_path, write, layout):
    write(tmp_path)
    dataset = load_folder(tmp_path, features=layout)
    assert edge_set(dataset) == {(0, 1), (1, 0), (1, 2), (2, 1), (0, 4), (4, 0)}
    features = dataset.features
    assert isinstance(features, BCOO) == (layout == "sparse")
    np.testing.assert_array_equal(
        features.todense() if isinstance(features, BCOO) else features, FEATURES
    )
    np.testing.assert_array_equal(dataset.labels, CLASSES)
    assert dataset.labels.dtype == np.int32
    assert {name: ids.tolist() for name, ids in dataset.splits._asdict().items()} == {
        "train": [1, 4],
        "validation": [2],
        "test": [0],
    }
    assert dataset.name == tmp_path.name
    assert dataset.num_classes == 3
    assert dataset.class_names == ("0", "1", "2")


def test_a_directed_folder_keeps_the_edges_as_they_are(tmp_path):
    write_csv(tmp_path)
    assert edge_set(load_folder(tmp_path, directed=True)) == {(0, 1), (1, 2), (2, 1), (4, 0)}


def test_a_folder_is_normalized_only_on_request(tmp_path):
    write_npy(tmp_path)
    found = load_folder(tmp_path, normalize_features=True, features="dense").graph.nodes
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, [[1, 0], [0, 0], [0, 1], [16 / 17, 1 / 17], [0, 0]])


def test_columns_may_stand_in_any_order_after_a_byte_order_mark(tmp_path):
    write_csv(tmp_path)
    text = csv_text("receiver, sender", [(receiver, sender) for sender, receiver in EDGES])
    (tmp_path / "edges.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert edge_set(load_folder(tmp_path, directed=True)) == {(0, 1), (1, 2), (2, 1), (4, 0)}


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    write_csv(tmp_path)
    expected = load_folder(tmp_path, directed=True)
    for file in tmp_path.glob("*.csv"):
        file.write_text(file.read_text() + "\n\n")
    found = load_folder(tmp_path, directed=True)
    assert edge_set(found) == edge_set(expected)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_folder_without_edges_loads(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "edges.csv").write_text("sender,receiver\n")
    assert load_folder(tmp_path).num_edges == 0


def test_a_folder_without_a_split_gets_one_by_seed(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "splits.csv").unlink()
    (tmp_path / "labels.csv").write_text("label\n0\n0\n1\n-1\n1\n")
    drawn = [
        load_folder(tmp_path, seed=seed, per_class=1, validation=1, test=1).splits
        for seed in range(9)
    ]
    assert {tuple(len(part) for part in splits) for splits in drawn} == {(2, 1, 1)}
    assert len({tuple(splits.train.tolist()) for splits in drawn}) > 1
    with pytest.raises(ValueError, match="per_class=20 .* class 0 has only 2"):
        load_folder(tmp_path)


def test_labels_may_be_numbers(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "labels.csv").write_text(csv_text("red,blue", [[0, 1], [1, 1]] * 2 + [[0, 0.5]]))
    dataset = load_folder(tmp_path)
    assert dataset.labels.dtype == np.float32
    assert dataset.labels[4].tolist() == [0, 0.5]
    assert (dataset.num_classes, dataset.class_names) == (2, ("red", "blue"))
    (tmp_path / "labels.csv").unlink()
    np.save(tmp_path / "labels.npy", np.linspace(0, 1, 5))
    dataset = load_folder(tmp_path)
    assert (dataset.num_classes, dataset.labels.shape) == (1, (5,))
    (tmp_path / "splits.csv").unlink()
    with pytest.raises(ValueError, match="1-D array of integer class ids .* give the split"):
        load_folder(tmp_path)


BAD_TEXT = [
    (
        "edges.csv",
        "0,1\n1,2\n",
        "edges.csv line 1: the header must name the columns, got '0,1'",
    ),
    ("edges.csv", "", "edges.csv line 1: the header must name the columns"),
    (
        "edges.csv",
        "sender,receiver,length\n0,1,2\n",
        "edges.csv line 1: nobody asked for column length",
    ),
    ("edges.csv", "sender,receiver\n0,1\n0\n", "edges.csv line 3: 1 cells, expected 2"),
    ("edges.csv", "sender,receiver\n0,x\n", "edges.csv line 2, column receiver: 'x' is not a wh"),
    ("edges.csv", "sender,receiver\n0,1.0\n", "line 2, column receiver: '1.0' is not a whole"),
    ("edges.csv", "sender,receiver\n0,1_0\n", "line 2, column receiver: '1_0' is not a whole"),
    ("edges.csv", "sender,receiver\n4294967296,0\n", "is not a whole number of 32 bits"),
    (
        "edges.csv",
        "sender,receiver\n0,1\n0,5\n",
        "edges.csv line 3: receiver 5 is no node; .* 0 to 4",
    ),
    ("edges.csv", "sender,receiver\n-1,0\n", "edges.csv line 2: sender -1 is no node"),
    (
        "features.csv",
        "1,2\n3,4\n",
        "features.csv line 1: the header must name the columns, got '1,2",
    ),
    ("features.csv", "a,b\n1,two\n", "features.csv line 2, column b: 'two' is not a number"),
    ("features.csv", "a,b\n1,\n", "features.csv line 2, column b: '' is not a number"),
    (
        "features.csv",
        "a,b\n1,2\n3,nan\n",
        "features.csv line 3: the number of column 1 .* not finite",
    ),
    ("features.csv", "a,b\n1e39,2\n", "features.csv line 2: the number of column 0 .* not finite"),
    ("features.csv", "a,b\n1,2\n", "1 rows, so ids run from 0 to 0"),
    ("labels.csv", "label\n0\n\n1\n", "labels.csv line 3: the line is blank"),
    ("labels.csv", "label\n0\n1\n", "labels.csv: 2 labels for 5 nodes"),
    ("labels.csv", "label\n0\nTheory\n0\n0\n0\n", "line 3, column label: 'Theory' is not a number"),
    ("labels.csv", "label\n0\n0\n0\n-2\n0\n", "labels.csv line 5: label -2 is neither"),
    ("labels.csv", "label\n0\n0\n0\n0\n2020\n", "line 6: label 2020 is neither .* number the"),
    ("labels.csv", "label\nnan\n0\n0\n0\n0\n", "labels.csv line 2: label nan is neither"),
    (
        "labels.csv",
        "a,b\n1,2\n1,2\n1,inf\n1,2\n1,2\n",
        "labels.csv line 4: .* column 1 .* not finite",
    ),
    (
        "splits.csv",
        "node,split\n0,train\n1,val\n",
        "line 3, column split: 'val' is not one of train",
    ),
    ("splits.csv", "node,split\n0,train\n5,test\n", "splits.csv line 3: node 5 is no node"),
    ("splits.csv", "node,split\n0,train\n0,test\n", "splits.csv: splits: node 0 occurs more than"),
    (
        "splits.csv",
        "node,split\n0,train\n3,test\n",
        "splits.csv: node 3 is in test but has no label",
    ),
    ("splits.csv", "node,split\n0,test\n", "splits.csv: no node is in train"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_TEXT)
def test_a_bad_csv_file_is_refused_by_name_and_line(tmp_path, name, text, message):
    write_csv(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "features.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="features.csv: not a CSV file in UTF-8"):
        load_folder(tmp_path)


OBJECTS = np.array([[1, None]], object)
BAD_ARRAYS = [
    ("edges.npy", np.ones((2, 6), int), r"integer node ids of shape \[E, 2\], got .* \(2, 6\)"),
    ("edges.npy", np.ones((6, 2)), "edges.npy: edges must be integer node ids .* float64"),
    ("edges.npy", np.array([[0, 1], [7, 0]]), "edges.npy row 1: sender 7 is no node"),
    (
        "edges.npy",
        np.array([[0, 2**63]], np.uint64),
        "edges.npy row 0: receiver 9223372036854775808",
    ),
    ("features.npy", np.full((5, 2), np.nan), "features.npy row 0: the number of column 0"),
    ("features.npy", np.ones(5), r"features.npy: features must be a matrix .* shape \(5,\)"),
    (
        "features.npy",
        np.full((5, 2), "x"),
        "features.npy: features must be a matrix of real numbers",
    ),
    ("features.npy", OBJECTS, "features.npy: cannot be read as plain arrays .pickled objects"),
    ("labels.npy", np.array([["a"]] * 5), "labels.npy: labels must be numbers"),
    ("labels.npy", np.array([0.0, np.inf, 0, 0, 0]), "labels.npy row 1: the number is not finite"),
    ("labels.npy", np.array([0, 1, 2, 3, 9]), "labels.npy row 4: label 9 is neither a class id"),
]


@pytest.mark.parametrize(("name", "array", "message"), BAD_ARRAYS)
def test_a_bad_array_is_refused_by_name(tmp_path, name, array, message):
    write_npy(tmp_path)
    np.save(tmp_path / name, array, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


BAD_ARCHIVES = [
    ("edges.npz", {"senders": [0]}, "edges.npz: lacks the array receivers; it holds senders"),
    (
        "edges.npz",
        {"senders": [0, 1], "receivers": [0]},
        r"senders have shape \(2,\), receivers \(1,",
    ),
    ("features.npz", {"x": FEATURES}, "features.npz: lacks the array features; it holds x"),
    (
        "features.npz",
        {"features": OBJECTS},
        "features.npz: cannot be read as plain arrays .pickled objects",
    ),
    ("features.npz", {"format": b"dia"}, "must be in CSR, CSC or COO format"),
    ("splits.npz", {"train": [0], "test": [1]}, "splits.npz: lacks the array validation"),
    ("splits.npz", {**PARTS, "test": [0.5]}, "splits.npz: splits: test must be a 1-D array of int"),
]


@pytest.mark.parametrize(("name", "arrays", "message"), BAD_ARCHIVES)
def test_a_bad_archive_is_refused_by_name(tmp_path, name, arrays, message):
    write_npz(tmp_path)
    np.savez(tmp_path / name, **arrays)
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("indices", "indptr"),
    [
        ([70000], [0, 1, 1, 1, 1, 1]),
        ([-1], [0, 1, 1, 1, 1, 1]),
        ([0], [0, 70000, 0, 0, 0, 0]),
        ([0], [0, 1, 0, 1, 1, 1]),
        ([0], [0, 1]),
    ],
)
def test_a_sparse_matrix_that_reaches_beyond_itself_is_refused(tmp_path, indices, indptr):
    write_npz(tmp_path)
    parts = {"data": [1.0], "indices": indices, "indptr": indptr, "shape": [5, 2]}
    np.savez(tmp_path / "features.npz", format=b"csr", **parts)
    with pytest.raises(ValueError, match="features.npz: cannot be read as plain arrays"):
        load_folder(tmp_path)


def test_a_sparse_matrix_with_a_nan_is_refused(tmp_path):
    write_npz(tmp_path)
    matrix = sparse.coo_array(([1.0, np.nan], ([0, 3], [1, 1])), shape=(5, 2))
    sparse.save_npz(tmp_path / "features.npz", matrix)
    with pytest.raises(ValueError, match="features.npz row 3: the number of column 1"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", ["edges.npz", "features.npz", "labels.npy", "splits.npz"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.97])
def test_a_truncated_archive_is_refused_by_name(tmp_path, name, keep):
    write_npz(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=f"{name}: cannot be read as plain arrays"):
        load_folder(tmp_path)


def test_an_array_is_no_archive_and_an_archive_no_array(tmp_path):
    write_npz(tmp_path)
    archive = (tmp_path / "edges.npz").read_bytes()
    (tmp_path / "edges.npz").write_bytes((tmp_path / "labels.npy").read_bytes())
    with pytest.raises(ValueError, match=r"edges.npz: cannot be read .* not an archive"):
        load_folder(tmp_path)
    (tmp_path / "edges.npz").unlink()
    (tmp_path / "edges.npy").write_bytes(archive)
    with pytest.raises(ValueError, match=r"edges.npy: cannot be read .* not one array"):
        load_folder(tmp_path)


@pytest.mark.parametrize("kind", ["edges", "features", "labels"])
def test_a_missing_file_is_named(tmp_path, kind):
    write_csv(tmp_path)
    (tmp_path / f"{kind}.csv").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks its {kind}; put {kind}.csv or "):
        load_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        load_folder(tmp_path / "nowhere")


def test_two_files_of_one_kind_are_refused(tmp_path):
    write_csv(tmp_path)
    write_npy(tmp_path)
    with pytest.raises(ValueError, match=r"holds both features.csv and features.npy; keep one"):
        load_folder(tmp_path)


def test_an_unknown_layout_is_refused(tmp_path):
    write_csv(tmp_path)
    with pytest.raises(ValueError, match="features must be one of auto, dense, sparse, got 'csr'"):
        load_folder(tmp_path, features="csr")
