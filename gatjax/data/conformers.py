"""Molecules from SMILES and the coordinates of their atoms, by RDKit; kept on disk, since they take long.

Shapes: K molecules, n atoms.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from tqdm import tqdm

from gatjax.graph.messages import check_at_least, check_integer, listed, shown

Method = Literal["etkdg", "2d"]
CACHE_FILE = "conformers.sqlite"
# Part of every key: to be raised when the same molecule gets other coordinates.
CACHE_FORMAT = 1
WRITE_AT_ONCE = 100


class Conformer(NamedTuple):
    """Coordinates of the atoms, [n, 3] float32, in angstrom; flat: in the plane for want of any in space."""

    positions: np.ndarray
    flat: bool


def chemistry() -> Any:
    """RDKit's `Chem`.

    Raises:
        ImportError: RDKit is not installed.
    """
    try:
        from rdkit import Chem
    except ImportError:
        raise ImportError("molecules need rdkit: pip install 'gatjax[molecules]'") from None
    return Chem


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """RDKit logs to the terminal what we say in errors."""
    chemistry()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def parse(smiles: Any) -> Any:
    """RDKit's molecule, its atoms in the order of the SMILES.

    Raises:
        ValueError: it is no SMILES, or no molecule; the message says why.
    """
    chem = chemistry()
    if not isinstance(smiles, str):
        raise ValueError(f"{shown(smiles)} is no string")
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None:
        raise ValueError(_why(smiles))
    if not molecule.GetNumAtoms():
        raise ValueError(f"{shown(smiles)} has no atom")
    return molecule


def _why(smiles: str) -> str:
    chem = chemistry()
    loose = chem.MolFromSmiles(smiles, sanitize=False)
    if loose is None:
        return f"{shown(smiles)} does not parse as SMILES"
    problems = [problem.Message() for problem in chem.DetectChemistryProblems(loose)]
    return (
        f"{shown(smiles)} is no sound molecule: {problems[0] if problems else 'RDKit refuses it'}"
    )


def check_method(conformer: Any, seed: int) -> Method | None:
    """Refuse a way to coordinates that is not known, and a seed that RDKit would not keep to.

    Returns:
        How to find coordinates; None if they are given, or not wanted.
    """
    known = get_args(Method)
    method = conformer if isinstance(conformer, str) else None
    if method is not None and method not in known:
        raise ValueError(
            f"conformer must be one of {listed(known)}, None or coordinates, got {shown(method)}"
        )
    check_integer(seed=seed)
    if not 0 <= seed < 2**31 - 1:
        raise ValueError(f"seed = {seed} must be from 0 to 2**31 - 2")
    return cast("Method | None", method)


def embed(molecule: Any, method: Method, seed: int) -> Conformer:
    """Coordinates of the atoms of a molecule.

    "etkdg" draws them with all hydrogens by distance geometry, a second time from random coordinates if need be, and
    relaxes them in the force field UFF; where that fails they are those of "2d", a drawing. A function of the molecule,
    the seed and RDKit's version alone.

    Riniker and Landrum, Better informed distance geometry, 2015. Rappé et al., UFF, 1992.
    """
    chemistry()
    from rdkit.Chem import rdDepictor

    if method == "etkdg" and (positions := _in_space(molecule, seed)) is not None:
        return Conformer(positions, flat=False)
    copy = type(molecule)(molecule)
    rdDepictor.Compute2DCoords(copy)
    return Conformer(_positions(copy, molecule.GetNumAtoms()), flat=method != "2d")


def _in_space(molecule: Any, seed: int) -> np.ndarray | None:
    chem = chemistry()
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    # Hydrogens are appended, so the atoms keep their places.
    whole = chem.AddHs(molecule)
    options = rdDistGeom.ETKDGv3()
    # To RDKit 0 and 1 are the same seed.
    options.randomSeed = seed + 1
    try:
        for options.useRandomCoords in (False, True):
            if (failed := rdDistGeom.EmbedMolecule(whole, options)) == 0:
                break
        if failed:
            return None
        # For an atom that UFF has no parameters for it leaves the coordinates as they are.
        rdForceFieldHelpers.UFFOptimizeMolecule(whole)
    except (RuntimeError, ValueError):
        return None
    positions = _positions(whole, molecule.GetNumAtoms())
    return positions if np.isfinite(positions).all() else None


def _positions(molecule: Any, count: int) -> np.ndarray:
    return molecule.GetConformer().GetPositions()[:count].astype(np.float32)


def embed_all(
    molecules: Mapping[str, Any],
    method: Method,
    seed: int,
    *,
    cache: str | os.PathLike | None,
    workers: int | None,
    progress: bool,
) -> dict[str, Conformer]:
    """`embed` for many molecules by their SMILES, in threads: RDKit lets others run while it computes.

    What is done is kept in the cache as it comes, so a run that is cut off goes on from there.
    """
    workers = _check_workers(workers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence())
        store = stack.enter_context(_Store(Path(cache), method, seed)) if cache else None
        found = {} if store is None else store.read(molecules)
        missing = [smiles for smiles in molecules if smiles not in found]
        bar = stack.enter_context(
            tqdm(
                total=len(molecules),
                initial=len(found),
                desc="conformers",
                unit="molecule",
                disable=not progress,
            )
        )
        pool = ThreadPoolExecutor(workers)
        stack.callback(pool.shutdown, cancel_futures=True)
        tasks = {pool.submit(embed, molecules[s], method, seed): s for s in missing}
        for task in as_completed(tasks):
            smiles = tasks[task]
            found[smiles] = task.result()
            if store is not None:
                store.write(smiles, found[smiles])
            bar.update()
    return found


def _check_workers(workers: int | None) -> int:
    if workers is None:
        return os.cpu_count() or 1
    check_at_least(1, workers=workers)
    return workers


class _Store:
    """Conformers in one SQLite file of a folder, each under the hash of all that it depends on.

    SQLite writes a transaction whole or not at all, and lets processes share the file; none holds it for longer than
    it takes to write some rows.
    """

    def __init__(self, folder: Path, method: Method, seed: int) -> None:
        from rdkit import __version__

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / CACHE_FILE
        self.depends = [CACHE_FORMAT, __version__, method, seed]
        self.waiting: list[tuple] = []

    def __enter__(self) -> "_Store":
        with self._usable():
            self.file = sqlite3.connect(self.path, timeout=60)
            self.file.execute(
                "create table if not exists conformers "
                "(key text primary key, flat integer, positions blob) without rowid"
            )
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.closing(self.file):
            self._write_waiting()

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OSError(f"the cache {self.path} cannot be used: {error}") from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise ValueError(f"the cache {self.path} is damaged, delete it: {error}") from None

    def _key(self, smiles: str) -> str:
        return hashlib.sha256(json.dumps([*self.depends, smiles]).encode()).hexdigest()

    def read(self, molecules: Mapping[str, Any]) -> dict[str, Conformer]:
        found = {}
        query = "select flat, positions from conformers where key = ?"
        with self._usable():
            for smiles, molecule in molecules.items():
                if row := self.file.execute(query, (self._key(smiles),)).fetchone():
                    positions = np.frombuffer(row[1], "<f4").reshape(molecule.GetNumAtoms(), 3)
                    found[smiles] = Conformer(positions.astype(np.float32), bool(row[0]))
        return found

    def write(self, smiles: str, conformer: Conformer) -> None:
        positions = conformer.positions.astype("<f4").tobytes()
        self.waiting.append((self._key(smiles), conformer.flat, positions))
        if len(self.waiting) == WRITE_AT_ONCE:
            self._write_waiting()

    def _write_waiting(self) -> None:
        insert = "insert or replace into conformers values (?, ?, ?)"
        with self._usable(), self.file:
            self.file.executemany(insert, self.waiting)
        self.waiting.clear()
