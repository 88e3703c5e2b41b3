"""Does attention help? GAT, its controls and its details, each over many seeds, in one table.

    python experiments/controls.py --study models --dataset cora --seeds 20
    python experiments/controls.py --study heads
    python experiments/controls.py --study details          # what each detail of the protocol is worth

Each row is a run of `citation.py` with one thing changed; the seeds are the same in every row. Rows that are
finished with the same settings and versions are read and not run again, so an interrupted study goes on where it was.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import citation
import numpy as np
import script
from citation_settings import DatasetName, Settings, resolve
from devices import use_every_core
from matplotlib.axes import Axes
from outputs import claimed, drawn, find_result, say_found
from report import count, describe_run, markdown_table, mean_and_error, mean_and_sd, save_result
from settings import check

from gatjax import plots

STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "models": {
        "MLP (no graph)": {"model": "mlp"},
        "GCN": {"model": "gcn"},
        "uniform attention": {"model": "const"},
        "GAT": {"model": "gat"},
        "GATv2": {"model": "gatv2"},
        "dot product": {"model": "dot"},
    },
    "heads": {
        f"{count(heads, 'head')} of {features}": {
            "num_heads": heads,
            "hidden_features": heads * features,
        }
        for heads, features in ((1, 8), (2, 8), (4, 8), (8, 8), (1, 64), (2, 32), (4, 16))
    },
    "details": {
        "the original protocol": {},
        "no dropout of projected features": {"projected_dropout": 0.0},
        "one input mask for all heads": {"input_masks": "shared"},
        "either metric saves": {"rule": "either"},
        "lowest loss saves": {"rule": "loss"},
        "no bias in the score": {"score_bias": False},
        "Glorot over all heads": {"initializer": "joint"},
        "all five, as in PyG": {
            "projected_dropout": 0.0,
            "input_masks": "shared",
            "rule": "loss",
            "score_bias": False,
            "initializer": "joint",
        },
    },
}


# Of the result of a row, what the table shows.
KEPT = (
    "test_accuracy",
    "train_accuracy",
    "validation_accuracy",
    "diverged",
    "epochs",
    "parameters",
    "seconds",
    "config",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Run a study: one table, one row per variant."""

    study: Literal["models", "heads", "details"] = "models"
    """Models against their controls, numbers of heads, or details of the original protocol."""
    dataset: DatasetName = "citeseer"
    """Citation graph."""
    seeds: int = 20
    """Seeds 0, 1, ... of every row."""
    max_epochs: int = 100_000
    """Epochs at most."""
    overwrite: bool = False
    """Replace what the output folder holds of this study: its table, and the rows with other settings."""
    output: Path = Path("runs/controls")
    """Folder for one folder per row and the table's result.json."""


def row_settings(config: Config, name: str, changes: dict[str, Any]) -> Settings:
    folder = config.output / f"{config.study}-{config.dataset}" / name.replace(" ", "_")
    row = citation.Config(
        dataset=config.dataset,
        seeds=config.seeds,
        max_epochs=config.max_epochs,
        output=folder,
        resume=True,
        **changes,
    )
    return resolve(row)


def find_row(config: Config, settings: Settings) -> dict[str, Any] | None:
    """The result of a row that is there already; SystemExit where that of another run is in its place."""
    path, values = settings.output / "result.json", dataclasses.asdict(settings)
    try:
        return find_result(path, values, overwrite=False)
    except SystemExit:
        return find_result(path, values, overwrite=config.overwrite)


def run_row(config: Config, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    settings = row_settings(config, name, changes)
    found = find_row(config, settings)
    if found is not None:
        return found
    print(f"\n{name}")
    return citation.run(dataclasses.replace(settings, overwrite=config.overwrite))


def describe_row(result: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    # A seed that diverged is NaN, and left out of every mean.
    test, train, theirs = (
        np.array(accuracies, float)
        for accuracies in (
            result["test_accuracy"],
            result["train_accuracy"],
            reference["test_accuracy"],
        )
    )
    both = np.isfinite(test) & np.isfinite(theirs)
    difference, gap = 100 * (test - theirs)[both], 100 * (train - test)[np.isfinite(test)]
    compared = result is not reference and len(difference) > 0
    return [
        mean_and_sd(result["test_accuracy"]),
        mean_and_error(difference.tolist(), digits=1) if compared else "",
        f"{gap.mean():.1f}" if len(gap) else "-",
        f"{result['parameters']:,}",
        f"{np.mean(result['epochs']):.0f}",
        f"{1e3 * result['seconds'] / sum(result['epochs']):.0f}",
    ]


def table(config: Config, results: dict[str, dict[str, Any]]) -> str:
    """Test accuracy and its paired difference to GAT as published, with the standard error of the difference."""
    reference = next(
        results[name]
        for name in ("the original protocol", "GAT", "8 heads of 8")
        if name in results
    )
    header = [
        f"{config.dataset}, {count(config.seeds, 'seed')}",
        "test (%)",
        "difference",
        "train - test",
        "parameters",
        "epochs",
        "ms per epoch",
    ]
    return markdown_table(
        header, [[name, *describe_row(result, reference)] for name, result in results.items()]
    )


def main(config: Config) -> None:
    """Run all rows and print the table."""
    use_every_core()
    check(config, at_least={"seeds": 1, "max_epochs": 1})
    path = config.output / f"{config.study}-{config.dataset}.json"
    with claimed(config.output):
        found = find_result(path, dataclasses.asdict(config), overwrite=config.overwrite)
        if found is not None:
            say_found(path)
            print(f"\n{table(config, found['rows'])}")
            return
        result = run_study(config)
        print(f"\n{table(config, result['rows'])}")
        save_result(path, result)
        drawn(path.with_suffix(".png"), plot)(result)
    print(f"\nDetails in {path}")


def run_study(config: Config) -> dict[str, Any]:
    study = STUDIES[config.study]
    # What is in the way of any row is said before the first is run.
    for name, changes in study.items():
        find_row(config, row_settings(config, name, changes))
    results = {name: run_row(config, name, changes) for name, changes in study.items()}
    rows = {name: {key: result[key] for key in KEPT} for name, result in results.items()}
    return {
        "study": config.study,
        "dataset": config.dataset,
        "rows": rows,
        "config": dataclasses.asdict(config),
        **describe_run(),
    }


def plot(result: dict[str, Any]) -> Axes:
    """Test accuracy of every seed and row."""
    percent = {
        name: 100 * np.array(row["test_accuracy"], float) for name, row in result["rows"].items()
    }
    return plots.seed_strips(percent, xlabel=f"test accuracy on {result['dataset']} (%)")


if __name__ == "__main__":
    script.run(main, Config)
