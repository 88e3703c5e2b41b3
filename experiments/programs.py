"""Compiled programs, kept from one run to the next in the user's cache folder.

JAX writes an entry of its cache in place, so that another process may read half of it, and one that is killed leaves
half of it for good. So every process has a folder of its own, in which it finds links to all that is shared; what it
adds there is complete when the process ends, and is linked into the shared folder in one step.
"""

import atexit
import contextlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

import jax
from filelock import FileLock, Timeout

from gatjax.data.download import user_cache_folder

# What is kept, in bytes; the oldest entries go.
MOST_BYTES = 2**29
# Programs that compile faster than this, in seconds, are compiled again.
LEAST_SECONDS = 0.1


def keep_programs() -> None:
    """Let JAX find what earlier runs compiled; to be called before anything is compiled.

    Where the user has chosen a folder (`JAX_COMPILATION_CACHE_DIR`) or none (`JAX_ENABLE_COMPILATION_CACHE=false`),
    that stands. A cache that cannot be had is no reason to stop.
    """
    chosen = jax.config.values
    if chosen["jax_compilation_cache_dir"] or not chosen["jax_enable_compilation_cache"]:
        return
    # Programs for one processor need not run on another one that shares the home folder.
    shared = user_cache_folder() / "programs" / platform.node()
    try:
        own, lock = _own_folder(shared)
    except (OSError, NotImplementedError):
        return
    jax.config.update("jax_compilation_cache_dir", str(own))
    # The paths of XLA's own caches would be part of every key, and with them the name of this folder.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    atexit.register(_share, own, shared, lock, os.getpid())


def _own_folder(shared: Path) -> tuple[Path, FileLock]:
    """A folder with all that is shared; those of processes that were killed are removed."""
    shared.mkdir(parents=True, exist_ok=True)
    for left in shared.glob("process-*.lock"):
        try:
            with FileLock(left, blocking=False):
                shutil.rmtree(left.with_suffix(""), ignore_errors=True)
        except Timeout:
            continue
        left.unlink(missing_ok=True)
    own = Path(tempfile.mkdtemp(prefix="process-", dir=shared))
    lock = FileLock(own.with_suffix(".lock"), blocking=False)
    lock.acquire()
    for entry in _entries(shared):
        os.link(entry, own / entry.name)
    return own, lock


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"]


def _share(own: Path, shared: Path, lock: FileLock, process: int) -> None:
    """Link what is new into the shared folder, and remove the own one."""
    if os.getpid() != process:
        return
    for entry in _entries(own):
        target = shared / entry.name
        if not target.exists():
            with contextlib.suppress(OSError):
                os.link(entry, target)
    shutil.rmtree(own, ignore_errors=True)
    lock.release()
    own.with_suffix(".lock").unlink(missing_ok=True)
    _shrink(shared)


def _shrink(shared: Path) -> None:
    """Remove the oldest entries until the rest fits."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in sorted(_entries(shared), key=lambda entry: -entry.stat().st_mtime):
            total += entry.stat().st_size
            if total > MOST_BYTES:
                entry.unlink(missing_ok=True)
