"""Sets of molecules with what was measured of them.

Shapes: K molecules, T targets, n atoms but hydrogens.
"""

import csv
import dataclasses
import importlib.metadata
import importlib.util
import io
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from tqdm import tqdm

from gatjax.data import molecule_files as facts
from gatjax.data.download import check_choice, check_sha256, obtain, read_verified
from gatjax.data.splits import Splits, check_splits, has_label, random_split
from gatjax.graph.ids import first_true
from gatjax.graph.messages import check_at_least, check_integer, listed, shown
from gatjax.graph.subgraph import node_ids

KNOWN = ("freesolv", "esol", "bbbp", "qm9", *facts.MOLECULE_ACE)
SPLITS = ("fixed", "random")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Molecules:
    """Molecules for regression or classification, with their splits; of your own too.

    Attributes:
      name: what the set is called.
      smiles: one per molecule, K.
      targets: what is known of each, in its unit, [K, T] float64; NaN where nothing is.
      target_names: one per target.
      units: one per target; "" for labels of 0 and 1.
      task: "numbers", or "labels" of 0 and 1.
      splits: each the rows of the molecules for training, validation and test.
      positions: where the atoms but hydrogens are, in the order of the SMILES, K arrays [n, 3] in angstrom, where that
        was computed or measured.
      others: further columns, K rows each.
      provenance: where the data came from.
      notes: what should be known before it is used.

    >>> Molecules("mine", ("C", "CO"), np.array([[0.5], [1.5]]), units=("eV",))
    Molecules('mine': 2 molecules, target in eV, no split)
    """

    name: str
    smiles: tuple[str, ...]
    targets: Float[np.ndarray, "K T"]
    target_names: tuple[str, ...] = ("target",)
    units: tuple[str, ...] = ("",)
    task: Literal["numbers", "labels"] = "numbers"
    splits: tuple[Splits, ...] = ()
    positions: tuple[np.ndarray, ...] | None = None
    others: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    provenance: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)
        put("smiles", tuple(self.smiles))
        targets = np.asarray(self.targets)
        if targets.shape != (len(self), len(self.target_names)) or targets.dtype.kind not in "iufb":
            raise ValueError(
                f"targets are {targets.dtype} of shape {targets.shape}: give numbers of shape "
                f"({len(self)}, {len(self.target_names)}), a row per molecule, a column per name"
            )
        put("targets", targets.astype(np.float64))
        check_choice("task", self.task, ("numbers", "labels"))
        if len(self.units) != len(self.target_names):
            raise ValueError(f"units: {len(self.units)} for {len(self.target_names)} targets")
        for name, rows in {"positions": self.positions, **self.others}.items():
            if rows is not None and len(rows) != len(self):
                raise ValueError(f"{name}: {len(rows)} rows for {len(self)} molecules")
        self._check_targets()
        put("splits", tuple(self._checked(index, split) for index, split in enumerate(self.splits)))

    def _check_targets(self) -> None:
        sound, meaning = ~np.isinf(self.targets), "finite, or NaN for none"
        if self.task == "labels":
            sound, meaning = np.isin(self.targets, (0, 1)) | np.isnan(self.targets), "0, 1 or NaN"
        if (row := first_true(~np.all(sound, axis=1))) is not None:
            value = self.targets[row][~sound[row]][0]
            raise ValueError(f"targets: {self._called(row)} has {value}; a target is {meaning}")

    def _checked(self, index: int, split: Splits) -> Splits:
        parts = check_splits(split, len(self), np.array(self.smiles), item="molecule")
        rows = np.concatenate(parts)
        if (place := first_true(~has_label(self.targets)[rows])) is not None:
            raise ValueError(
                f"splits[{index}]: {self._called(int(rows[place]))} has no target; leave it out"
            )
        return parts

    def _called(self, row: int) -> str:
        return f"molecule {row} ({shown(self.smiles[row])})"

    def __len__(self) -> int:
        """The number of molecules K."""
        return len(self.smiles)

    @property
    def mean(self) -> Float[np.ndarray, "T"]:
        """The mean of each target over all molecules that have it."""
        return np.asarray(np.nanmean(self.targets, axis=0))

    @property
    def std(self) -> Float[np.ndarray, "T"]:
        """The standard deviation of each target; `(targets - mean) / std` are the z-scores of the papers' tables."""
        return np.asarray(np.nanstd(self.targets, axis=0))

    def take(self, rows: ArrayLike) -> "Molecules":
        """These molecules alone, in this order: rows or a mask [K]. Splits lose the others."""
        kept = node_ids(rows, len(self), "rows")
        new = np.full(len(self), -1, np.int32)
        new[kept] = np.arange(len(kept), dtype=np.int32)
        left = lambda part: new[part][new[part] >= 0]
        return dataclasses.replace(
            self,
            smiles=tuple(self.smiles[row] for row in kept),
            targets=self.targets[kept],
            splits=tuple(Splits(*map(left, split)) for split in self.splits),
            positions=self.positions and tuple(self.positions[row] for row in kept),
            others={name: column[kept] for name, column in self.others.items()},
        )

    def without(self, failures: Iterable[Any]) -> "Molecules":
        """Those that `featurize_all` gave a graph: all but the rows of its failures."""
        return self.take(np.setdiff1d(np.arange(len(self)), [each.row for each in failures]))

    def __repr__(self) -> str:
        pairs = zip(self.target_names, self.units, strict=True)
        targets = listed((f"{name} in {unit}" if unit else name for name, unit in pairs), 3)
        sizes = ["/".join(str(len(part)) for part in split) for split in self.splits]
        splits = (
            f"{len(sizes)} split{'s' * (len(sizes) > 1)} of {sizes[0]}" if sizes else "no split"
        )
        missing = int((~has_label(self.targets)).sum())
        return (
            f"Molecules({self.name!r}: {len(self)} molecules, {targets}, {splits}"
            f"{f', {missing} without a target' * bool(missing)}{'; '.join(('', *self.notes))})"
        )


class _Read(NamedTuple):
    """What the files of a set say."""

    smiles: tuple[str, ...]
    targets: np.ndarray
    provenance: str
    others: dict[str, np.ndarray] = {}
    positions: tuple[np.ndarray, ...] | None = None
    splits: tuple[Splits, ...] = ()


def load_molecules(
    name: str, *, splits: str = "fixed", seed: int = 0, num_splits: int = facts.NUM_SPLITS
) -> Molecules:
    """Load a set of molecules by name: from the package, another package, else the cache, else the network.

    The cache is the folder of `gatjax.data.load`; the files lie in its subfolder `molecules`.

    * "freesolv", in the package: 642 molecules, free energy of hydration in kcal/mol, six fixed random splits;
    * "esol", a file of MAT: 1128, log solubility in log mol/L, six fixed random splits;
    * "bbbp", files of MAT: 2039, whether each crosses the blood-brain barrier, one fixed split by scaffold;
    * "qm9", in the package qm9pack: 130 831 with positions, twelve targets of quantum chemistry, no fixed split;
    * "CHEMBL204_Ki" and 29 more, in the package MoleculeACE: 615 to 3657, activity on a protein in -log10 nM, one fixed
      split into training and test.

    The fixed splits of FreeSolv, ESOL and BBBP are those of the Molecule Attention Transformer, MAT; its six files of
    splits for BBBP are one and the same. The packages are read, not imported:
    `pip install --no-deps qm9pack MoleculeACE` is enough.

    Args:
        name: of the set, upper or lower case.
        splits: "fixed", those published; or "random", 80 % / 10 % / 10 %.
        seed: of the random splits; split k is that of `random_split` with `seed + k`.
        num_splits: how many random ones.

    Raises:
        ValueError: an unknown name or choice, no fixed splits, or a damaged file.
        FileNotFoundError: the files are nowhere to be had; the message says where they were sought.
        ModuleNotFoundError: the package with the data is not installed.

    >>> load_molecules("freesolv")
    Molecules('freesolv': 642 molecules, hydration free energy in kcal/mol, 6 splits of 513/64/65)

    Mobley and Guthrie, FreeSolv, 2014. Delaney, ESOL, 2004. Martins et al., A Bayesian approach to in silico
    blood-brain barrier penetration modeling, 2012. Ramakrishnan et al., Quantum chemistry structures and properties of
    134 kilo molecules, 2014. van Tilborg et al., Exposing the limitations of molecular machine learning with activity
    cliffs, 2022.
    """
    name = {each.lower(): each for each in KNOWN}.get(name.lower(), name)
    check_choice("name", name, KNOWN)
    check_choice("splits", splits, SPLITS)
    check_integer(seed=seed)
    check_at_least(1, num_splits=num_splits)
    readers = {"freesolv": _freesolv, "esol": _esol, "bbbp": _bbbp, "qm9": _qm9}
    if name == "qm9" and splits == "fixed":
        raise ValueError('qm9 was published without splits: say splits="random"')
    found = readers[name]() if name in readers else _molecule_ace(name)
    chosen = found.splits
    if splits == "random":
        draw = lambda k: random_split(found.targets, seed=seed + k, train=0.8, validation=0.1)
        chosen = tuple(draw(k) for k in range(num_splits))
    return Molecules(name=name, **_described(name), **found._replace(splits=chosen)._asdict())


def _described(name: str) -> dict[str, Any]:
    if name == "qm9":
        _, names, units = zip(*facts.QM9_TARGETS, strict=True)
        return {"target_names": names, "units": units}
    described: dict[str, dict[str, Any]] = {
        "freesolv": {"target_names": ("hydration free energy",), "units": ("kcal/mol",)},
        "esol": {"target_names": ("log solubility",), "units": ("log mol/L",)},
        "bbbp": {
            "target_names": ("permeable",),
            "task": "labels",
            "notes": ("the six published scaffold splits are one and the same",),
        },
    }
    ace = {
        "target_names": (name.partition("_")[2],),
        "units": ("-log10 nM",),
        "notes": ("no validation part was published: validation is empty",),
    }
    return described.get(name, ace)


def _freesolv() -> _Read:
    data = (resources.files("gatjax.data") / "bundled" / "freesolv.csv").read_bytes()
    where = "gatjax/data/bundled/freesolv.csv"
    check_sha256(data, facts.FREESOLV_SHA256, where, "install gatjax anew")
    rows = _rows(data)
    return _Read(
        tuple(row["smiles"] for row in rows),
        _column(rows, "expt")[:, None],
        "bundled with gatjax; originally the FreeSolv database",
        {"name": np.array([row["iupac"] for row in rows]), "calc": _column(rows, "calc")},
        splits=_published(len(rows)),
    )


def _esol() -> _Read:
    files, provenance = _mat_files("esol", facts.ESOL_SHA256)
    rows = _rows(files["esol/esol.csv"])
    scores = _column(rows, "y")
    targets = np.round(scores * facts.ESOL_STD + facts.ESOL_MEAN, facts.ESOL_DECIMALS)
    smiles = tuple(row["smiles"].strip() for row in rows)
    return _Read(smiles, targets[:, None], provenance, splits=_published(len(rows)))


def _bbbp() -> _Read:
    files, provenance = _mat_files("bbbp", facts.BBBP_SHA256)
    rows = _rows(files["bbbp/bbbp.csv"])
    # A pickle is a program; this one is known by its hash.
    parts = np.load(io.BytesIO(files["bbbp/split-scaffold-0.npy"]), allow_pickle=True)
    split = Splits(*(np.asarray(part, np.int32) for part in parts))
    smiles = tuple(row["smiles"].strip() for row in rows)
    return _Read(smiles, _column(rows, "y")[:, None], provenance, splits=(split,))


def _qm9() -> _Read:
    folder, provenance = _package("qm9pack", "data")
    smiles, targets, positions = [], [], []
    with tqdm(desc="qm9pack", unit="molecule") as bar:
        for file in facts.QM9_FILES:
            with (folder / file).open(newline="", encoding="utf-8") as lines:
                for row in csv.DictReader(lines):
                    smiles.append(row["SMILES"])
                    targets.append([float(row[column]) for column, *_ in facts.QM9_TARGETS])
                    elements = json.loads(row["Elements"].replace("'", '"'))
                    heavy = [element != "H" for element in elements]
                    numbers = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
                    positions.append(np.array(numbers, np.float32).reshape(-1, 3)[heavy])
                    bar.update()
    return _Read(tuple(smiles), np.array(targets), provenance, positions=tuple(positions))


def _molecule_ace(name: str) -> _Read:
    folder, provenance = _package("MoleculeACE", "Data/benchmark_data")
    rows = _rows((folder / f"{name}.csv").read_bytes())
    part = np.array([row["split"] for row in rows])
    train, test = (np.flatnonzero(part == each).astype(np.int32) for each in ("train", "test"))
    return _Read(
        tuple(row["smiles"] for row in rows),
        _column(rows, "y")[:, None],
        provenance,
        {"cliff": _column(rows, "cliff_mol").astype(bool)},
        splits=(Splits(train, np.zeros(0, np.int32), test),),
    )


def _mat_files(name: str, sha256: Mapping[str, str]) -> tuple[dict[str, bytes], str]:
    folder = obtain(name, "molecules", sha256, facts.MAT_URL, bundled=["freesolv"])
    files = {file: read_verified(folder / file, pin) for file, pin in sha256.items()}
    return files, f"{folder}; originally {facts.MAT_URL}"


def _package(name: str, subfolder: str) -> tuple[Path, str]:
    """A folder of an installed package, found without importing it: these want much else that we do not."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"this data is in the package {name}: pip install --no-deps {name}", name=name
        )
    folder = Path(spec.submodule_search_locations[0]) / subfolder
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return folder, f"{folder}; package {name} {version}"


def _rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"))))


def _column(rows: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows])


def _published(count: int) -> tuple[Splits, ...]:
    """The six random splits of the Molecule Attention Transformer, by the rule that they follow."""
    splits = []
    for k in range(facts.NUM_SPLITS):
        order = np.random.RandomState(facts.SPLIT_SEED + k).permutation(count)
        parts = np.split(order, [int(0.8 * count), int(0.9 * count)])
        splits.append(Splits(*(np.sort(part).astype(np.int32) for part in parts)))
    return tuple(splits)
