"""The sets and controls of the experiments on molecules."""

import numpy as np
import pytest
from helpers import rejects
from molecule_data import descriptors, forest, morgan_counts, prepare, scores

from gatjax.data import Splits


def test_a_part_of_a_set_is_drawn_with_its_graphs_and_splits(tmp_path, capsys):
    found, graphs, failures = prepare("freesolv", limit=11, seed=1, cache=tmp_path)
    again = prepare("freesolv", limit=11, seed=1, cache=tmp_path, dummy=False)
    assert (len(found), len(graphs), failures) == (11, 11, ())
    assert found.smiles == again.molecules.smiles
    assert [len(g.nodes) - 1 for g in graphs] == [len(g.nodes) for g in again.graphs]
    assert sorted(np.concatenate(found.splits[0])) == list(range(11))
    z = scores(found)
    assert z.dtype == np.float32
    np.testing.assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-6)
    assert "conformers: 100%" in capsys.readouterr().err


def test_a_part_of_a_set_with_random_splits_has_molecules_in_every_part(tmp_path):
    found = prepare("freesolv", splits="random", limit=40, cache=tmp_path).molecules
    for split in found.splits:
        train, validation, test = map(len, split)
        assert train > 20 and validation and test, split


def test_descriptors_and_counts_of_known_molecules():
    smiles = ("CCO", "c1ccccc1", "C")
    table, names = descriptors(smiles)
    assert table.shape == (3, len(names)) and np.isfinite(table).all()
    column = dict(zip(names, table.T, strict=True))
    np.testing.assert_allclose(column["MolWt"], [46.069, 78.114, 16.043], atol=1e-3)
    assert column["NumHDonors"].tolist() == [1, 0, 0]
    assert column["RingCount"].tolist() == [0, 1, 0]
    counts = morgan_counts(smiles)
    assert counts.shape == (3, 2048)
    # Benzene: an atom, an atom with its neighbours, and those with theirs, six times each.
    assert sorted(counts[1][counts[1] > 0]) == [6, 6, 6]
    with rejects(ValueError, "'C1CC' does not parse as SMILES"):
        descriptors(("C1CC",))


@pytest.mark.parametrize("task", ["numbers", "labels"])
def test_a_forest_learns_from_training_alone(task):
    random = np.random.default_rng(0)
    features = random.normal(size=(83, 5))
    targets = np.sign(features[:, 2]) if task == "numbers" else (features[:, 2] > 0) * 1.0
    split = Splits(*map(np.asarray, (np.arange(61), np.arange(61, 70), np.arange(70, 83))))
    first, again = (
        forest(features, target, split, task=task, seed=0, workers=1)
        for target in (targets, np.where(np.arange(83) < 61, targets, np.nan))
    )
    np.testing.assert_array_equal(first, again)
    middle = 0 if task == "numbers" else 0.5
    assert ((first > middle) == (targets[70:] > middle)).mean() > 0.8
