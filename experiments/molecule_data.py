"""What the experiments on molecules share: sets with their graphs, and the features and forests of the controls."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jraph import GraphsTuple
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from gatjax.data import Failure, Molecules, Splits, featurize_all, load_molecules
from gatjax.data.conformers import parse, silence
from gatjax.data.download import user_cache_folder

MORGAN_RADIUS, MORGAN_SIZE = 2, 2048
NUM_TREES, SHARE_OF_FEATURES = 200, 1 / 3


class Prepared(NamedTuple):
    """Molecules and a graph of each; and those that have none, by their rows in the whole set."""

    molecules: Molecules
    graphs: list[GraphsTuple]
    failures: tuple[Failure, ...]


def prepare(
    name: str,
    *,
    splits: str = "fixed",
    seed: int = 0,
    limit: int | None = None,
    dummy: bool = True,
    bond_features: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> Prepared:
    """A set by name, with a graph of each molecule.

    Args:
        name: as for `load_molecules`, and so are `splits` and `seed`.
        limit: so many molecules at most, drawn by the seed; all by default.
        dummy: as for `featurize`, and so is `bond_features`.
        cache: where coordinates are kept; by default in the user's cache folder. A set that has its own uses those.
        progress: show a bar.
    """
    molecules = load_molecules(name, splits=splits, seed=seed)
    if limit is not None and limit < len(molecules):
        # A stream of its own: that of the random splits would draw from their training parts alone.
        rows = np.random.default_rng((seed, 1)).permutation(len(molecules))[:limit]
        molecules = molecules.take(np.sort(rows))
    graphs, failures = featurize_all(
        molecules.smiles,
        dummy=dummy,
        conformer="etkdg" if molecules.positions is None else molecules.positions,
        bond_features=bond_features,
        cache=cache or user_cache_folder() / "molecules",
        progress=progress,
    )
    return Prepared(molecules.without(failures), graphs, failures)


def scores(molecules: Molecules) -> np.ndarray:
    """The targets as the papers' z-scores, float32 `[K, T]`; labels of 0 and 1 as they are."""
    if molecules.task == "labels":
        return molecules.targets.astype(np.float32)
    return ((molecules.targets - molecules.mean) / molecules.std).astype(np.float32)


def descriptors(smiles: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """RDKit's descriptors of whole molecules, float32 `[K, D]`, and their names; 0 where one is not defined."""
    from rdkit.Chem import Descriptors

    names = tuple(name for name, _ in Descriptors.descList)
    with silence():
        rows = [Descriptors.CalcMolDescriptors(parse(each)) for each in smiles]
    table = np.array([[row[name] for name in names] for row in rows], np.float64)
    # One of them grows with the exponential of the size.
    most = float(np.finfo(np.float32).max) / 2
    return np.clip(np.nan_to_num(table), -most, most).astype(np.float32), names


def morgan_counts(smiles: tuple[str, ...]) -> np.ndarray:
    """How often each neighbourhood of atoms occurs, float32 `[K, 2048]`."""
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=MORGAN_RADIUS, fpSize=MORGAN_SIZE)
    with silence():
        rows = [generator.GetCountFingerprintAsNumPy(parse(each)) for each in smiles]
    return np.array(rows, np.float32)


def forest(
    features: np.ndarray, targets: np.ndarray, split: Splits, *, task: str, seed: int, workers: int
) -> np.ndarray:
    """What a random forest predicts of the test molecules: numbers, or the chance of 1, `[n_test]`.

    It learns from the training molecules alone, and has nothing to choose on those for validation.

    Args:
        features: `[K, D]`.
        targets: one column, `[K]`.
        split: rows of the molecules.
        task: "numbers" or "labels".
        seed: of the forest.
        workers: processors.
    """
    options: dict[str, Any] = {"n_estimators": NUM_TREES, "random_state": seed, "n_jobs": workers}
    train, _, test = split
    if task == "labels":
        model = RandomForestClassifier(**options)
        return model.fit(features[train], targets[train]).predict_proba(features[test])[:, 1]
    model = RandomForestRegressor(max_features=SHARE_OF_FEATURES, **options)
    return model.fit(features[train], targets[train]).predict(features[test])
