"""Every line of the pages for those who come from elsewhere, run with both libraries side by side, in float64.

    python experiments/side_by_side.py                           # needs PyTorch Geometric and DGL
    python experiments/side_by_side.py --record tests/models/peers.npz

A layer or a model of theirs gets random weights; ours gets the same by `with_pyg_weights` or `with_dgl_weights`. A line
whose two sides differ by more than rounding is an error. `--record` also keeps weights and outputs, for the tests.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from outputs import find_result, say_found
from peers import theirs
from peers.lines import CALLS, LAYERS, Call, Layer, Library, drawn, our_names, ours
from report import describe_run, markdown_table, save_result

TOLERANCE = 1e-12
TITLES = {"pyg": "PyG", "dgl": "DGL", "jraph": "jraph"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Compare, and say by how much each line differs."""

    record: Path | None = None
    """Where to keep weights and outputs of all layers, an npz file."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/side_by_side")
    """Folder for result.json."""


def compare(library: Library, kept: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The largest difference of every line; what the tests need goes to `kept`."""
    arrays = drawn()
    left = theirs.names(library, arrays)
    graphs = {name: left[name] for name in ("data", "two", "g", "gg") if name in left}
    right = our_names(arrays) | graphs
    rows = []
    for index, line in enumerate(LAYERS[library]):
        module = theirs.module(line, left, seed=index)
        expected = theirs.output(line, left, module)
        rows.append(row(line, expected, ours(line, right, library, module)))
        for name, array in theirs.state(module).items():
            kept[f"{library}/{index}/state/{name}"] = array
        kept[f"{library}/{index}/output"] = expected
    rows += [
        row(line, theirs.call(line, left), ours(line, right, library)) for line in CALLS[library]
    ]
    return rows


def row(line: Layer | Call, expected: np.ndarray, found: np.ndarray) -> dict[str, Any]:
    """Both sides, and how far apart they are; SystemExit where that is more than rounding."""
    if expected.shape != found.shape:
        raise SystemExit(f"{line.theirs} has shape {expected.shape}, {line.ours} {found.shape}")
    difference = float(np.max(np.abs(expected.astype(np.float64) - found.astype(np.float64))))
    if not difference <= TOLERANCE * max(1.0, float(np.max(np.abs(expected)))):
        raise SystemExit(f"{line.theirs} and {line.ours} differ by {difference:.1e}")
    return line._asdict() | {"difference": difference}


def table(rows: list[dict[str, Any]], library: str) -> str:
    """Both sides of every line, and how far apart they are."""
    cells = [
        [code(left), code(right), number(row["difference"])]
        for row in rows
        for left, right in [sides(row)]
    ]
    return markdown_table([TITLES[library], "gatjax", "difference"], cells)


def sides(row: dict[str, Any]) -> tuple[str, str]:
    """Each as one expression: the layer, called."""
    if "their_call" not in row:
        return row["theirs"], row["ours"]
    called = lambda call, layer: call.replace("layer", layer, 1)
    ours = called(row["our_call"], row["ours"]).removesuffix(".nodes")
    return called(row["their_call"], row["theirs"]), ours


def code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


def number(difference: float) -> str:
    return "0" if difference == 0 else f"{difference:.0e}"


def main(config: Config) -> None:
    jax.config.update("jax_enable_x64", True)
    path = config.output / "result.json"
    settings = dataclasses.asdict(config)
    if config.record is None and find_result(path, settings, overwrite=config.overwrite):
        say_found(path)
        return
    kept: dict[str, np.ndarray] = {}
    lines = {library: compare(library, kept) for library in LAYERS}
    for library, rows in lines.items():
        print(table(rows, library), end="\n\n")
    save_result(path, describe_run() | {"config": settings, "lines": lines})
    if config.record is not None:
        np.savez_compressed(config.record, allow_pickle=False, **kept)


if __name__ == "__main__":
    main(tyro.cli(Config))
