"""Graph transformers: which of encodings, biases and edges beyond neighbours pays, on graphs made for the question.

    python experiments/transformers.py --task csl            # two minutes: only an encoding tells these graphs apart
    python experiments/transformers.py --task tree           # a bottleneck, and what leads around it
    python experiments/transformers.py --task pattern --seeds 3
    python experiments/transformers.py --task pattern --graphs 10000        # the size of the benchmark
    python experiments/transformers.py --task cluster
    python experiments/transformers.py --task minesweeper --splits 3 --rows GAT MLP GPS
    python experiments/transformers.py --task minesweeper --layers 15 --epochs 2000    # a day

Each row is a model, trained for a fixed number of epochs: nothing is chosen by validation. Rows that are finished are
kept in the output folder: the same command goes on after an interruption, and one with more rows makes the new ones
alone. Accuracies are means over classes; on real graphs the score is the area under the ROC curve where there are two
classes, else accuracy.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import script
from matplotlib.axes import Axes
from outputs import drawn
from report import markdown_table, mean_and_sd
from settings import check, check_multiple
from study_rows import made_of_rows
from transformer_blocks import sbm_rows
from transformer_nodes import node_rows
from transformer_puzzles import csl_rows, tree_rows

from gatjax import plots

Task = Literal[
    "csl",
    "tree",
    "pattern",
    "cluster",
    "minesweeper",
    "tolokers",
    "chameleon_filtered",
    "squirrel_filtered",
]

# Epochs, graphs of a batch, learning rate, width and heads.
ONE_GRAPH = {"epochs": 200, "batch_size": 1, "learning_rate": 1e-2, "width": 64, "heads": 1}
BY_DEFAULT: dict[str, dict[str, Any]] = {
    "csl": {"epochs": 40, "batch_size": 30, "learning_rate": 5e-3, "width": 64, "heads": 4},
    "tree": {"epochs": 15, "batch_size": 64, "learning_rate": 2e-3, "width": 32, "heads": 4},
    "pattern": {"epochs": 4, "batch_size": 20, "learning_rate": 2e-3, "width": 64, "heads": 8},
    "cluster": {"epochs": 4, "batch_size": 20, "learning_rate": 2e-3, "width": 64, "heads": 8},
    "minesweeper": ONE_GRAPH,
    "tolokers": ONE_GRAPH,
    "chameleon_filtered": ONE_GRAPH,
    "squirrel_filtered": ONE_GRAPH,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Train models that differ in encodings, biases and edges."""

    task: Task = "csl"
    """csl: circular skip links; tree: values of leaves asked for at the root; pattern, cluster: block models; the other
    ones are real graphs, whose files are read from GATJAX_DATA."""
    rows: tuple[str, ...] | None = None
    """Models, by their names in the table. None: all."""
    seeds: int = 1
    """Seeds 0, 1, ... of parameters and order; each with all five folds of csl, or all splits of a real graph."""
    splits: int = 10
    """Splits of a real graph, out of ten."""
    layers: int = 8
    """Layers, or blocks, on a real graph."""
    dropout: float = 0.2
    """Of the features between layers, on a real graph."""
    graphs: int = 1000
    """Training graphs of pattern and cluster."""
    test_graphs: int = 300
    """Test graphs of pattern and cluster."""
    depths: tuple[int, ...] = (4, 5)
    """Depths of the trees."""
    permutations: int = 500
    """Orders of the values over the leaves of a tree, each asked for every key; a fifth is for testing."""
    epochs: int | None = None
    """How often each graph comes. None: as the task wants it, as are the next three."""
    batch_size: int | None = None
    """Graphs per update."""
    learning_rate: float | None = None
    """Of Adam, at its highest."""
    width: int | None = None
    """Of every block."""
    heads: int | None = None
    """Of every block."""
    data_seed: int = 11
    """Seed of the graphs."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = False
    """(Rows are said as they are finished.)"""
    output: Path | None = None
    """Folder for result.json, a picture and the rows. None: runs/transformers-<task>."""


def resolve(config: Config) -> Config:
    """What is None filled in; impossible settings end here."""
    counts = (
        "seeds splits layers graphs test_graphs depths permutations epochs batch_size width heads"
    )
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"data_seed": 0},
        above_zero=("learning_rate",),
        rates=("dropout",),
    )
    known = BY_DEFAULT[config.task] | {"output": Path(f"runs/transformers-{config.task}")}
    known = {name: value for name, value in known.items() if getattr(config, name) is None}
    filled = dataclasses.replace(config, **known)
    check_multiple(filled, "width", "heads")
    return filled


MADE: dict[str, Callable[[Any], dict[str, Callable[[], dict[str, Any]]]]] = {
    "csl": csl_rows,
    "tree": tree_rows,
    "pattern": sbm_rows,
    "cluster": sbm_rows,
}


def rows_of(config: Any) -> dict[str, Callable[[], dict[str, Any]]]:
    """The rows that are asked for."""
    rows = MADE.get(config.task, node_rows)(config)
    for name in config.rows or ():
        if name not in rows:
            raise SystemExit(f"--rows {name!r}: must be of {list(rows)}")
    return {name: make for name, make in rows.items() if config.rows is None or name in config.rows}


def table(result: dict[str, Any]) -> str:
    """Rows with both accuracies."""
    rows = [
        [
            name,
            *(mean_and_sd(row[part]) for part in ("train", "test")),
            f"{row['cpu_seconds']:.0f}",
        ]
        for name, row in result["rows"].items()
    ]
    return markdown_table(["", "train", "test", "seconds of a processor"], rows)


def plot(result: dict[str, Any]) -> Axes:
    """Score on test of each row, a dot a run."""
    with plt.rc_context(dict(plots.STYLE)):
        names = list(result["rows"])
        height = 0.6 + 0.22 * len(names)
        _, ax = plt.subplots(figsize=(plots.PAGE, height))
        for place, name in enumerate(reversed(names)):
            values = 100 * np.array(result["rows"][name]["test"])
            ax.plot(values, np.full(len(values), place), ls="", marker="o", color=plots.LINES[0])
        ax.set_yticks(np.arange(len(names)), names[::-1])
        ax.set(xlabel="score on test, %", xlim=(0, 103))
        return ax


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    settings = resolve(config)
    assert settings.output is not None
    draw = drawn(settings.output / "accuracy.png", plot)
    told = lambda rows: {"rows": rows}
    result = made_of_rows(settings, rows_of, told, draw, choosing=("rows",))
    print(f"\n{table(result)}\n\ndetails in {settings.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
