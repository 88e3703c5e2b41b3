"""Rows of a study that are kept as they are finished: a stopped one goes on where it was, a finished one with more."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from outputs import differences, find_result, made_once, say_found
from report import as_json, count, describe_run, save_result

Rows = Mapping[str, Callable[[], dict[str, Any]]]
# So many of the rows in the way are named.
NAMED = 5


def made_of_rows(
    config: Any,
    rows_of: Callable[[Any], Rows],
    told: Callable[[dict[str, Any]], dict[str, Any]],
    draw: Callable[[dict[str, Any]], None] = lambda result: None,
    *,
    choosing: Collection[str],
) -> dict[str, Any]:
    """The result of a study: made of its rows, kept and drawn; or found, or gone on with where rows are still to make.

    Args:
      config: a dataclass with `output` and `overwrite`.
      rows_of: from the configuration to what makes each row, by name and in their order.
      told: from the rows to the result. A row has its seconds, and the commit of the run that made it.
      draw: pictures of a result that has just been made.
      choosing: settings that say which rows there are, and make none: a row is kept whatever they are.

    Raises:
      SystemExit: another result, or a row of other settings, is there; or rows are there that are not asked for.
    """

    def make(config: Any) -> dict[str, Any]:
        rows = finish_rows(config, rows_of(config), choosing)
        return {**told(rows), "seconds": sum(row["seconds"] for row in rows.values())}

    find = partial(_find, rows_of=rows_of, choosing=choosing)
    return made_once(config, make, draw, find=find)


def finish_rows(config: Any, makers: Rows, choosing: Collection[str]) -> dict[str, Any]:
    """Each row by its name: what its maker returns, or what a run with the same settings has kept."""
    settings = dataclasses.asdict(config)
    values = {name: value for name, value in settings.items() if name not in choosing}
    paths = {name: _path(config, name) for name in makers}
    kept = {
        name: find_result(path, values, overwrite=config.overwrite) for name, path in paths.items()
    }
    rows = {}
    for name, make in makers.items():
        result = kept[name]
        if result is None:
            started = time.perf_counter(), time.process_time()
            row = as_json(make())
            row["seconds"] = time.perf_counter() - started[0]
            row["cpu_seconds"] = time.process_time() - started[1]
            print(f"{name}: {row['seconds']:.0f} s", flush=True)
            result = {"row": row, "config": values, **describe_run()}
            save_result(paths[name], result)
        rows[name] = result["row"] | {"commit": result["commit"]}
    return rows


def _path(config: Any, name: str) -> Path:
    return config.output / "rows" / f"{name.replace(' ', '_')}.json"


def _find(
    config: Any, *, rows_of: Callable[[Any], Rows], choosing: Collection[str]
) -> dict[str, Any] | None:
    """The result that is there; None where there is none, or where it has some of the rows that are asked for."""
    path, values = config.output / "result.json", dataclasses.asdict(config)
    result = find_result(path, values, overwrite=config.overwrite, choosing=choosing)
    if result is None:
        return None
    there = {name: result["config"].get(name) for name in choosing}
    here = {name: as_json(values[name]) for name in choosing}
    if there == here:
        say_found(path)
        return result
    remedy = "choose another --output, or pass --overwrite to replace it"
    chosen = {name: tuple(it) if isinstance(it, list) else it for name, it in there.items()}
    try:
        names = list(rows_of(dataclasses.replace(config, **chosen)))
    except SystemExit as error:
        raise SystemExit(f"{path} has rows that there are no more ({error}): {remedy}") from error
    asked = rows_of(config)
    other = f"{path} is the result of another run ({'; '.join(differences(there, here))})"
    if lost := [name for name in names if name not in asked]:
        raise SystemExit(
            f"{other} with rows that are not asked for ({_named(lost)}): ask for them too, {remedy}"
        )
    if lost := [name for name in names if not _path(config, name).exists()]:
        folder = _path(config, "").parent
        raise SystemExit(
            f"{other} with rows that {folder} does not keep ({_named(lost)}): {remedy}"
        )
    print(f"{path} has {count(len(names), 'row')} already: this run goes on with the others.")
    return None


def _named(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + f" and {more} more" * (more > 0)
