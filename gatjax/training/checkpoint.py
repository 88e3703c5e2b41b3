"""Checkpoints that resume to the last bit, and say clearly when they cannot.

Orbax writes them: a step is complete or not there at all, whenever the process dies. What Orbax does not
check, this file does. A manifest beside the steps describes the run and every array; on resume it is
compared before anything is read. Each step carries a digest of its arrays; on resume they must match it.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding
from jaxtyping import PyTree

FORMAT = 1
# Of the differences between two runs, so many are named.
MOST_NAMED = 5


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message says why, and what to do."""


class Checkpoints:
    """The checkpoints of one run, a folder per name (one name per seed, say).

    Where several processes run, all of them save the same step under the same name, into one folder that all see, of
    arrays that all hold whole; any number of processes restores it.

    Args:
      folder: where they are; made at the first save.
      description: what makes the run what it is, JSON values; resuming with another one is an error.
      every_seconds: `is_due` says so this often for each name.

    Raises:
      ValueError: `every_seconds` is negative, or a name is none of a folder.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> checkpoints = Checkpoints(folder, {"learning_rate": 0.005})
    >>> checkpoints.save("seed 0", 3, {"w": np.ones(2)}, {"losses": [0.5]})
    >>> tree, notes = checkpoints.restore("seed 0", {"w": np.zeros(2)})
    >>> tree["w"].tolist(), notes
    ([1.0, 1.0], {'losses': [0.5]})
    """

    def __init__(
        self, folder: str | Path, description: Mapping[str, Any], *, every_seconds: float = 10.0
    ):
        if not every_seconds >= 0:
            raise ValueError(f"every_seconds must be at least 0, got {every_seconds}")
        self.folder = Path(folder).resolve()
        self.description = json.loads(json.dumps(description, default=str))
        self.every_seconds = every_seconds
        self._saved_at: dict[str, float] = {}
        self._managers: dict[str, ocp.CheckpointManager] = {}

    def exist(self) -> bool:
        """Whether the folder holds a manifest, and so checkpoints of some run."""
        return (self.folder / "manifest.json").exists()

    def is_due(self, name: str) -> bool:
        """Whether the last save of this name lies long enough in the past."""
        now = time.monotonic()
        return now - self._saved_at.setdefault(name, now) >= self.every_seconds

    def save(self, name: str, step: int, tree: PyTree, notes: Mapping[str, Any]) -> None:
        """Save a tree of arrays and some JSON notes; the step before it goes once this one is complete."""
        _check_name(name)
        stored = {"notes": dict(notes), "digest": _digest(tree), "seal": self._seal(dict(notes))}
        items = ocp.args.Composite(
            tree=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(stored)
        )
        try:
            first = jax.process_index() == 0
            if first and not self._managers and not self.exist():
                self._check_no_orphans()
                self._write_manifest(tree)
            self._manager(name).save(step, args=items, force=True)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckpointError(
                f"{self.folder / name} could not be saved ({reason[-1][:200]}): make room there, or choose another "
                "folder; what was saved before is kept"
            ) from error
        self._saved_at[name] = time.monotonic()

    def restore(self, name: str, like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """The newest tree and notes under a name, or None where there are none.

        Raises:
          CheckpointError: the folder belongs to another run, the arrays have other names, shapes or
            dtypes than `like`, or the files are damaged. Nothing is changed on disk.
        """
        _check_name(name)
        if not self.exist():
            self._check_no_orphans()
            return None
        self._check_manifest(like)
        if not (self.folder / name).exists():
            return None
        steps = [int(path.name) for path in (self.folder / name).iterdir() if path.name.isdigit()]
        if not steps:
            return None
        step = max(steps)
        abstract = jax.tree.map(_abstract, like)
        items = ocp.args.Composite(
            tree=ocp.args.StandardRestore(abstract), notes=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager(name).restore(step, args=items)
            tree, stored = restored["tree"], restored["notes"]
            intact = stored["digest"] == _digest(tree)
            # Steps of earlier versions have no seal.
            seal = self._seal(stored["notes"])
            intact = intact and stored.get("seal", seal) == seal
        except Exception as error:
            raise CheckpointError(self._damaged(name, step)) from error
        if not intact:
            raise CheckpointError(self._damaged(name, step))
        return tree, stored["notes"]

    def close(self) -> None:
        """Let go of the files."""
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()

    def remove(self) -> None:
        """Delete all of them: the run is complete."""
        self.close()
        if self.folder.exists():
            # As a whole at once: no half of it is left where this is interrupted.
            removed = self.folder.with_name(f"{self.folder.name}.removed")
            shutil.rmtree(removed, ignore_errors=True)
            self.folder.replace(removed)
            shutil.rmtree(removed, ignore_errors=True)

    def _manager(self, name: str) -> ocp.CheckpointManager:
        if name not in self._managers:
            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self._managers[name] = ocp.CheckpointManager(self.folder / name, options=options)
        return self._managers[name]

    def _check_no_orphans(self) -> None:
        """Refuse steps without a manifest: they may be of any run."""
        if next(self.folder.glob("*/[0-9]*"), None) is not None:
            raise CheckpointError(
                f"{self.folder / 'manifest.json'} is missing, and steps of an unknown run are there: {self._remedy()}"
            )

    def _seal(self, notes: dict[str, Any]) -> str:
        """What ties a step to its run and its notes."""
        text = json.dumps([self.description, notes], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _write_manifest(self, tree: PyTree) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        manifest = {"format": FORMAT, "run": self.description, "arrays": _arrays(tree)}
        partial = self.folder / "manifest.json.partial"
        partial.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        partial.replace(self.folder / "manifest.json")

    def _check_manifest(self, like: PyTree) -> None:
        path = self.folder / "manifest.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            run, arrays = {"format": manifest["format"], **manifest["run"]}, {**manifest["arrays"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged: {self._remedy()}") from error
        # Settings come before the arrays that follow from them.
        differences = _differences(run, {"format": FORMAT, **self.description})
        differences += _differences(arrays, _arrays(like))
        if len(differences) > MOST_NAMED:
            differences[MOST_NAMED:] = [f"and {len(differences) - MOST_NAMED} more"]
        if differences:
            raise CheckpointError(
                f"the checkpoints in {self.folder} belong to another run ({'; '.join(differences)}): "
                f"resume with its settings, or {self._remedy()}"
            )

    def _damaged(self, name: str, step: int) -> str:
        return f"the checkpoint {self.folder / name / str(step)} is damaged: {self._remedy()}"

    def _remedy(self) -> str:
        return f"delete {self.folder} to start afresh, or choose another folder"


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}: {there.get(key, 'absent')} there, {here.get(key, 'absent')} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """What is restored, and on which devices of a mesh, where it lies on one: those that saved it may be others."""
    sharding = getattr(leaf, "sharding", None)
    placed = sharding if isinstance(sharding, NamedSharding) else None
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed)


def _check_name(name: str) -> None:
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"name must be that of a folder, such as 'seed_0', got {name!r}")


def _arrays(tree: PyTree) -> dict[str, str]:
    """Path of every array in a tree, with its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _digest(tree: PyTree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(np.asarray(jax.random.key_data(leaf) if is_key else leaf).tobytes())
    return digest.hexdigest()
