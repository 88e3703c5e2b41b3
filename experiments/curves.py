"""The curves of a run, kept beside its result, so that they can be drawn again without training."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from report import count, write_whole

from gatjax import plots
from gatjax.training import History, Trained

# Epochs that are kept of a seed, about; a figure shows no more.
MOST_POINTS = 150


def save_curves(path: Path, runs: Sequence[Trained]) -> Path:
    """Four digits of every n-th epoch of each seed, and of the first, the best and the last one.

    The n is the same for all seeds, and kept as "every".
    """
    every = max(1, -(-max(one.epochs for one in runs) // MOST_POINTS))
    curves = [_thinned(one, every) for one in runs]
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in curves)
    return write_whole(path, f'{{"every": {every}, "digits": 4, "curves": [\n{lines}\n]}}\n')


def _thinned(run: Trained, every: int) -> dict[str, Any]:
    epochs = np.arange(1, run.epochs + 1)
    kept = (epochs % every == 0) | np.isin(epochs, [1, run.best_epoch, run.epochs])
    columns = {
        name: [_rounded(value) for value in np.asarray(column)[kept].tolist()]
        for name, column in run.history._asdict().items()
    }
    return {
        "seed": run.seed,
        "best_epoch": run.best_epoch,
        "epoch": epochs[kept].tolist(),
    } | columns


def _rounded(value: float) -> float | None:
    """Four digits; None where it is no number, which JSON does not know."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def read_curves(
    curves: Mapping[str, Any],
) -> tuple[list[History], list[np.ndarray], list[int]]:
    """Of each seed the history, the epochs that it is of, and the best epoch."""
    each = curves["curves"]
    histories = [History(*(np.array(one[name], float) for name in History._fields)) for one in each]
    return histories, [np.array(one["epoch"]) for one in each], [one["best_epoch"] for one in each]


def learning_curves(result: Mapping[str, Any], curves: Mapping[str, Any]) -> Axes:
    """Of a result of `citation.py` and its curves."""
    histories, epochs, best = read_curves(curves)
    axes = plots.learning_curves(histories, epochs=epochs, best_epochs=best if all(best) else None)
    config, seeds = result["config"], count(len(result["seeds"]), "seed")
    title = f"{config['model']} on {config['dataset']}, {config['split']} split, {seeds}"
    axes[0].figure.suptitle(title, fontsize=plots.STYLE["figure.titlesize"])
    return axes[0]


def draw_curves(folder: Path, path: Path) -> None:
    """The learning curves of a run, from what its folder keeps."""
    result, curves = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("result.json", "curves.json")
    )
    plots.save(learning_curves(result, curves), path)
