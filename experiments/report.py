"""What every experiment does with its numbers: tables, and results with all that made them."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import numpy as np

LIBRARIES = ("gatjax", "jax", "jaxlib", "flax", "optax", "jraph", "numpy", "scipy")
PEERS = ("torch", "torch-geometric", "torch-scatter", "dgl")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns.

    >>> print(markdown_table(["a", "b"], [["1", "22"]]))
    | a | b  |
    |---|----|
    | 1 | 22 |
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (header, *rows)
    ]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def mean_and_sd(values: Sequence[float | None], *, scale: float = 100, digits: int = 1) -> str:
    """Mean and sample standard deviation, in percent by default, of the seeds that have not diverged (None).

    >>> mean_and_sd([0.70, 0.72])
    '71.0 ± 1.4'
    >>> mean_and_sd([0.70, None, 0.72]), mean_and_sd([None])
    ('71.0 ± 1.4 (1 of 3 diverged)', '- (1 of 1 diverged)')
    """
    scaled = scale * np.asarray(sound(values), np.float64)
    lost = len(values) - len(scaled)
    note = f" ({lost} of {len(values)} diverged)" * (lost > 0)
    if len(scaled) == 0:
        return f"-{note}"
    spread = f" ± {scaled.std(ddof=1):.{digits}f}" if len(scaled) > 1 else ""
    return f"{scaled.mean():.{digits}f}{spread}{note}"


def mean_and_error(differences: Sequence[float], *, digits: int) -> str:
    """The mean of paired differences and its standard error; of a single pair, which has none, the difference alone.

    >>> mean_and_error([1.0, 3.0], digits=1), mean_and_error([-2.0], digits=3)
    ('+2.0 ± 1.0', '-2.000')
    """
    number = len(differences)
    error = np.std(differences, ddof=1) / number**0.5 if number > 1 else None
    spread = "" if error is None else f" ± {error:.{digits}f}"
    return f"{np.mean(differences):+.{digits}f}{spread}"


def count(number: int, noun: str) -> str:
    """A number and what is counted.

    >>> count(1, "seed"), count(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def sound(values: Sequence[float | None]) -> list[float]:
    """The values of the seeds that have not diverged."""
    return [value for value in values if value is not None]


def describe_run() -> dict[str, Any]:
    """Command, versions and hardware of this process."""
    return {
        "command": shlex.join(["python", f"experiments/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": library_versions() | _peers(),
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "devices": [device.device_kind for device in jax.devices()],
            "backend": jax.default_backend(),
        },
        "commit": _commit(),
    }


def save_result(path: Path, result: dict[str, Any]) -> Path:
    """Write a result as JSON, the folder included; it is there as a whole or not at all.

    Where it cannot be written it is kept elsewhere, and SystemExit says so.
    """
    text = as_text(result)
    try:
        return write_whole(path, text)
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror})"
    try:
        kept = write_whole(Path(tempfile.mkdtemp(prefix="gatjax-")) / path.name, text)
    except OSError:
        print(text)
        raise SystemExit(f"{reason}, nor anything else: the result stands above") from None
    raise SystemExit(f"{reason}: the result is kept in {kept}")


def as_text(result: dict[str, Any]) -> str:
    """JSON with a line per entry, but each innermost list on one line.

    >>> print(as_text({"seeds": [0, 1]}), end="")
    {
     "seeds": [0, 1]
    }
    """
    text = json.dumps(result, indent=1, default=str)
    innermost = re.compile(r"\[\n[^\[\]{}]*\n *\]")
    on_one_line = lambda found: re.sub(r"\s*\n\s*", " ", found[0][1:-1]).strip()
    return innermost.sub(lambda found: f"[{on_one_line(found)}]", text) + "\n"


def write_whole(path: Path, text: str) -> Path:
    """Write a text file, the folder included; it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        return partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def as_json(value: Any) -> Any:
    """A value as a result has it once it has been written and read."""
    return json.loads(json.dumps(value, default=str))


def library_versions() -> dict[str, str]:
    """Of Python and of all that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _peers() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor()


def _commit() -> str | None:
    """The commit of the checkout that the experiment lies in, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        run = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
