"""What is said of predictions of molecules: errors of every split and seed, and the table of all rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from molecule_models import ROWS, is_trained
from report import count, markdown_table, mean_and_error, mean_and_sd

from gatjax.training import area_under_roc

# Maziarka et al. (2020), fixed splits, the best of 500 configurations each: root mean squared error of z-scores, for
# BBBP the area under the ROC curve. Their forest saw Morgan fingerprints.
PAPER = {
    "freesolv": {"mat": "0.263 ± 0.046", "morgan-forest": "0.524"},
    "esol": {"mat": "0.285 ± 0.022", "morgan-forest": "0.534"},
    "bbbp": {"mat": "0.728 ± 0.008", "morgan-forest": "0.725"},
}

Job = tuple[int, int]


def score_of(task: str, predictions: np.ndarray, truth: np.ndarray) -> float | None:
    """Root mean squared error, or the area under the ROC curve; None where there is nothing to score."""
    known = ~np.isnan(truth)
    predictions, truth = predictions[known], truth[known]
    if not len(truth) or np.isnan(predictions).any():
        return None
    if task == "labels":
        return float(area_under_roc(predictions[truth == 1], predictions[truth == 0]))
    return float(np.sqrt(np.mean((predictions.astype(float) - truth) ** 2)))


def summary(problem: Any, predictions: Mapping[Job, np.ndarray]) -> dict[str, Any]:
    """Scores of test and validation molecules, a list of seeds for each split, and of the seeds' mean prediction.

    Args:
        problem: the molecules, their splits and z-scores.
        predictions: of each split and seed, `[K]`, NaN for molecules of training.
    """
    task, truth = problem.molecules.task, problem.scores
    seeds = range(problem.settings.seeds)
    found: dict[str, Any] = {
        name: [] for name in ("test", "validation", "averaged", "predicted", "diverged")
    }
    for k, split in enumerate(problem.splits):
        own = [predictions[k, seed] for seed in seeds]
        for name in ("test", "validation"):
            rows = getattr(split, name)
            found[name].append([score_of(task, each[rows], truth[rows]) for each in own])
        mean = np.mean(own, axis=0)[split.test]
        found["averaged"].append(score_of(task, mean, truth[split.test]))
        found["predicted"].append([round(float(each), 4) for each in mean])
        found["diverged"].append([seed for seed in seeds if np.isnan(own[seed][split.test]).any()])
    return found


def means(scores: list[list[float | None]]) -> list[float | None]:
    """The mean over seeds of each split; where there is one split, its seeds."""
    if len(scores) == 1:
        return scores[0]
    known = [[each for each in seeds if each is not None] for seeds in scores]
    return [float(np.mean(seeds)) if seeds else None for seeds in known]


def difference(row: dict[str, Any], reference: dict[str, Any]) -> str:
    """Of the scores, paired by split (by seed, where there is one split), with its standard error if there are two."""
    pairs = zip(means(row["test"]), means(reference["test"]), strict=True)
    paired = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_and_error(paired, digits=3) if paired else "-"


def table(result: dict[str, Any]) -> str:
    """Scores of every row beside the paper's, and their difference to those of the first row."""
    config, labels = result["config"], result["task"] == "labels"
    rows, name = result["rows"], result["dataset"]
    first = next(iter(rows))
    splits = len(rows[first]["test"])
    paper = paper_of(result)
    set_name = f"{name}, {result['target']}" if config["target"] else name
    title = f"{set_name}, {count(splits, 'split')}, {count(config['seeds'], 'seed')}"
    header = [title, "paper", "AUC" if labels else "error (z)"]
    header += [] if labels else [result["unit"]]
    header += [f"difference to {ROWS[first].title}"] if len(rows) > 1 else []
    header += [
        "seeds averaged",
        "validation",
        "parameters",
        "s",
    ]
    cells = []
    for key, row in rows.items():
        scores = means(row["test"])
        of = lambda values, scale=1.0: mean_and_sd(values, scale=scale, digits=3)
        line = [ROWS[key].title, paper.get(key, "-"), of(scores)]
        line += [] if labels else [of(scores, result["std"])]
        if len(rows) > 1:
            line += ["" if key == first else difference(row, rows[first])]
        line += [of(row["averaged"]) if config["seeds"] > 1 else "-"]
        trained = is_trained(key)
        line += [of(means(row["validation"])) if has_any(row["validation"]) else "-"]
        line += [f"{row['parameters']:,}" if trained else "-", f"{row['seconds']:.0f}"]
        cells.append(line)
    return markdown_table(header, cells)


def line(result: dict[str, Any], folder: str) -> list[str]:
    """The network and the forests beside the paper's, for a table of all sets."""
    rows, labels = result["rows"], result["task"] == "labels"
    paper, ours = paper_of(result), means(rows["mat"]["test"])
    with_spread = lambda key: mean_and_sd(means(rows[key]["test"]), scale=1, digits=3)
    in_units = f"{mean_and_sd(ours, scale=result['std'], digits=2)} {result['unit']}"
    splits, seeds = len(rows["mat"]["test"]), result["config"]["seeds"]
    return [
        result["dataset"] + ", AUC" * labels,
        with_spread("mat"),
        paper.get("mat", "-"),
        "-" if labels else in_units,
        with_spread("forest"),
        with_spread("morgan-forest"),
        f"{splits} x {seeds}",
        f"[json]({folder}/{result['file']})",
    ]


def paper_of(result: dict[str, Any]) -> dict[str, str]:
    """The paper's numbers, where the run is on all of its molecules and on its splits."""
    config = result["config"]
    follows = config["splits"] == "fixed" and config["limit"] is None
    return PAPER.get(result["dataset"], {}) if follows else {}


def has_any(scores: list[list[float | None]]) -> bool:
    return any(each is not None for seeds in scores for each in seeds)
