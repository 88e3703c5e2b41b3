"""The folder of a run: a result is never overwritten in silence, nor taken for that of another run."""

import contextlib
import dataclasses
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from report import LIBRARIES, as_json, describe_run, library_versions, save_result

# The exit status after Ctrl-C, as shells have it.
INTERRUPTED = 130

# A folder with less than this left, in bytes, is as good as full.
LEAST_SPACE = 2**24

# What has no part in a result.
FREE = ("output", "overwrite", "resume", "progress", "checkpoint_seconds")


def find_result(
    path: Path, config: Mapping[str, Any], *, overwrite: bool, choosing: Collection[str] = ()
) -> dict[str, Any] | None:
    """The result of this very run, where it is there already; to be called before anything is trained.

    Args:
      path: of the result's JSON file; its folder is made.
      config: what makes the result, as it is stored there under "config".
      overwrite: whether the user gives up what is there.
      choosing: settings that may be others there.

    Returns:
      The result, where a run with this configuration and these versions has come to its end there; None where the way
      is free.

    Raises:
      SystemExit: another result, or none that can be read, is there; or nothing can be written there.
    """
    check_writable(path.parent)
    if overwrite or not path.exists():
        return None
    remedy = "choose another --output, or pass --overwrite to replace it"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        there = described(result["config"], result["versions"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{path} is no result that can be read: {remedy}") from error
    if result.get("interrupted"):
        raise SystemExit(f"{path} is the result of an interrupted run: {remedy}")
    here = described(config, library_versions())
    kept = lambda settings: {name: each for name, each in settings.items() if name not in choosing}
    different = differences(kept(there), kept(here))
    if different:
        raise SystemExit(f"{path} is the result of another run ({'; '.join(different)}): {remedy}")
    return result


def find_made(config: Any) -> dict[str, Any] | None:
    """What `find_result` finds in the folder of a configuration, and says so."""
    path = config.output / "result.json"
    result = find_result(path, dataclasses.asdict(config), overwrite=config.overwrite)
    if result is not None:
        say_found(path)
    return result


def made_once(
    config: Any,
    make: Callable[[Any], dict[str, Any]],
    draw: Callable[[dict[str, Any]], None] = lambda result: None,
    *,
    find: Callable[[Any], dict[str, Any] | None] = find_made,
) -> dict[str, Any]:
    """The result of a configuration: made, kept and drawn, or found where this very run has come to its end before.

    Args:
      config: a dataclass with `output` and `overwrite`.
      make: from the configuration to the part of its result that is its own; what made it stands below: seconds, where
        `make` gives none, the configuration, the command, versions, hardware and the commit.
      draw: pictures of a result that has just been made.
      find: from the configuration to a result that is there already, or None.

    Raises:
      SystemExit: another result is there, another process has the folder, or nothing can be written there.
    """
    with claimed(config.output):
        result = find(config)
        if result is None:
            started = time.perf_counter()
            result = make(config)
            result.setdefault("seconds", time.perf_counter() - started)
            result = as_json({**result, "config": dataclasses.asdict(config), **describe_run()})
            save_result(config.output / "result.json", result)
            draw(result)
    return result


def say_found(path: Path) -> None:
    print(f"{path} is the result of this very run already: pass --overwrite to run it again.")


def described(config: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """All that makes a result, as JSON has it."""
    made_by = {name: value for name, value in config.items() if name not in FREE}
    known = {f"version of {name}": versions.get(name) for name in ("python", *LIBRARIES)}
    return as_json(made_by) | known


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Each by name and both values.

    >>> differences({"seeds": 3, "l2": 0.1}, {"seeds": 5, "l2": 0.1})
    ['seeds: 3 there, 5 here']
    """
    return [
        f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name, "absent") != here.get(name, "absent")
    ]


def check_writable(folder: Path) -> None:
    """Make the folder; SystemExit where that, or a file of some size in it, is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_SPACE))
    except OSError as error:
        raise SystemExit(
            f"nothing can be written to {folder} ({error.strerror}): choose another --output"
        ) from error


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep the folder for this process; SystemExit where another one has it.

    The system lets go of it when the process ends, however it ends.
    """
    check_writable(folder)
    lock, owner = FileLock(folder / ".lock"), folder / ".owner"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise SystemExit(
            f"{folder} is in use by {_read(owner)}: wait for its end, or choose another --output"
        ) from None
    except (OSError, NotImplementedError) as error:
        print(f"{folder} cannot be locked ({error}): start no second run there.", file=sys.stderr)
    try:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        owner.write_text(
            f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})",
            encoding="utf-8",
        )
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"


def drawn(path: Path, plot: Callable[[Any], Any]) -> Callable[[Any], None]:
    """What draws the axes `plot(result)` of a result into a file, if it can."""
    from gatjax import plots

    return lambda result: try_to_plot(path, lambda path: plots.save(plot(result), path))


def try_to_plot(path: Path, plot: Callable[[Path], Any]) -> None:
    """Draw a picture of a result that is kept already; one that cannot be written is said, and no more."""
    try:
        plot(path)
    except Exception as error:
        print(
            f"{path} could not be drawn ({error}); the result itself is complete.", file=sys.stderr
        )
