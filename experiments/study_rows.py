"""Rows of a study that are kept as they are finished, so that an interrupted one goes on where it was."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from outputs import find_result
from report import as_json, describe_run, save_result


def finish_rows(
    config: Any,
    makers: Mapping[str, Callable[[], dict[str, Any]]],
    *,
    choosing: Collection[str] = (),
) -> dict[str, Any]:
    """Each row by its name: what its maker returns, or what a run with the same settings has kept; and its time.

    Args:
      config: a dataclass with `output` and `overwrite`.
      makers: by name, in the order of the rows.
      choosing: settings that say which rows there are, and make none: a row is kept whatever they are.

    Raises:
      SystemExit: a row of other settings is in the place of one.
    """
    settings = dataclasses.asdict(config)
    values = {name: value for name, value in settings.items() if name not in choosing}
    paths = {name: config.output / "rows" / f"{name.replace(' ', '_')}.json" for name in makers}
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
        rows[name] = result["row"]
    return rows
