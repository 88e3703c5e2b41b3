"""Properties of molecules: the Molecule Attention Transformer, what each of its parts is worth, bonds alone, forests.

    python experiments/molecules.py                                     # FreeSolv, the six splits of the paper, a seed
    python experiments/molecules.py --rows all --seeds 3
    python experiments/molecules.py --dataset esol --splits random
    python experiments/molecules.py --dataset qm9 --target gap --splits random --num-splits 1 --limit 5000
    python experiments/molecules.py --rows all --seeds 3 --resume       # after an interruption

Errors are those of z-scores, as in the paper, and in the target's unit; labels have the area under the ROC curve.
Models keep their last parameters, at which the learning rate is 0: nothing is chosen by validation.
"""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
import script
from devices import use_every_core
from molecule_data import Prepared, descriptors, forest, morgan_counts, prepare, scores
from molecule_models import ROWS, RowName, build_model, is_trained, seen_by, wants_dummy
from molecule_pictures import draw, example_of
from molecule_tables import summary, table
from molecule_training import Learner, Schedule, side_by_side
from report import as_json
from seed_runs import Open, Seeds, made_of_seeds, open_rows
from settings import check, check_multiple, fill, required

from gatjax.attention.mixture import Kernel
from gatjax.attention.readout import Pool
from gatjax.data import Splits
from gatjax.training import CheckpointError

BY_DEFAULT: tuple[RowName, ...] = ("mat", "forest", "morgan-forest", "mean")


@dataclasses.dataclass(frozen=True)
class Config:
    """Predict a property of molecules, once per row, split and seed."""

    dataset: str = "freesolv"
    """freesolv, esol, bbbp, qm9, or a set of MoleculeACE such as CHEMBL204_Ki."""
    rows: tuple[RowName | Literal["all"], ...] = BY_DEFAULT
    """MAT, MAT without one of its parts, models on bonds, forests, the mean; or all of them."""
    splits: Literal["fixed", "random"] = "fixed"
    """Those published, or 80 % / 10 % / 10 %."""
    num_splits: int | None = None
    """So many of the splits. None: all that were published, or six random ones."""
    seeds: int = 1
    """Seeds 0, 1, ... of every row and split."""
    target: str | None = None
    """Which target, where a set has several. None: the only one."""
    limit: int | None = None
    """So many molecules at most, drawn at random. None: all."""
    epochs: int = 60
    """How often each molecule comes."""
    learning_rate: float = 1e-3
    """Of Adam, at its highest."""
    warm_up: float = 0.1
    """The share of the updates in which the learning rate rises; then it falls to 0 along half a cosine."""
    batch_size: int = 32
    """Molecules per update."""
    clip: float = 1.0
    """Largest norm of a gradient."""
    hidden_features: int = 64
    """Width of every layer."""
    num_layers: int = 4
    """Layers."""
    num_heads: int = 4
    """Heads of the attention."""
    dense_layers: int = 1
    """Dense layers of each block of MAT."""
    kernel: Kernel = "exp"
    """What MAT makes of distances."""
    pool: Pool = "mean"
    """How MAT makes one row of a molecule of those of its atoms."""
    dropout: float = 0.0
    """Of MAT's mixed weights."""
    workers: int | None = None
    """Trainings at a time. None: one per core."""
    checkpoint_seconds: float = 0.0
    """(A training is kept when it ends.)"""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json and pictures. None: runs/molecules-<dataset>-<splits>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    rows: tuple[RowName, ...] = required()
    workers: int = required()
    output: Path = required()


def resolve(config: Config) -> Settings:
    """What is None filled in; impossible settings end here."""
    rows = get_args(RowName) if "all" in config.rows else config.rows
    settings = fill(
        Settings,
        dataclasses.replace(config, rows=tuple(dict.fromkeys(rows))),
        {
            "workers": len(jax.local_devices()),
            "output": Path("runs") / f"molecules-{config.dataset.lower()}-{config.splits}",
            "num_splits": None,
            "target": None,
            "limit": None,
        },
    )
    counts = "seeds num_splits epochs batch_size hidden_features num_layers num_heads workers"
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1)
        | {"dense_layers": 0, "limit": 10, "checkpoint_seconds": 0},
        above_zero=("learning_rate", "clip"),
        rates=("dropout", "warm_up"),
    )
    check_multiple(settings, "hidden_features", "num_heads")
    return settings


class Problem:
    """The molecules, one target of theirs, and the splits that are used."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.bonds = any(ROWS[row].kind == "bonds" for row in settings.rows)
        self.prepared = self._prepare(dummy=True)
        self.molecules = self.prepared.molecules
        names = self.molecules.target_names
        if settings.target is None and len(names) > 1:
            raise SystemExit(
                f"--target: {settings.dataset} has several, choose one of {', '.join(names)}"
            )
        if settings.target is not None and settings.target not in names:
            raise SystemExit(f"--target {settings.target}: must be one of {', '.join(names)}")
        self.column = names.index(settings.target) if settings.target else 0
        self.scores = scores(self.molecules)[:, self.column]
        self.splits = self.molecules.splits[: settings.num_splits]
        for k, split in enumerate(self.splits):
            for what in ("train", "test"):
                if not len(getattr(split, what)):
                    raise SystemExit(
                        f"--limit {settings.limit}: no molecule of split {k} is left to {what}: take more"
                    )

    def _prepare(self, *, dummy: bool) -> Prepared:
        settings = self.settings
        try:
            return prepare(
                settings.dataset,
                splits=settings.splits,
                limit=settings.limit,
                dummy=dummy,
                bond_features=self.bonds,
                progress=settings.progress,
            )
        except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
            raise SystemExit(f"--dataset {settings.dataset}: {error}") from error

    def graphs(self, row: str) -> list[Any]:
        """Every molecule as the row sees it."""
        prepared = self.prepared if wants_dummy(row) else self._prepare(dummy=False)
        keep = lambda graph: graph._replace(
            edges={name: graph.edges[name] for name in ("distance", "adjacency")}
        )
        seen = [seen_by(row, graph) for graph in prepared.graphs]
        return [keep(graph) if isinstance(graph.edges, dict) else graph for graph in seen]

    def jobs(self) -> list[tuple[int, int]]:
        """Splits with seeds."""
        return [(k, seed) for seed in range(self.settings.seeds) for k in range(len(self.splits))]

    def placed(self, split: Splits, validation: Any, test: Any) -> np.ndarray:
        """Predictions in the rows of their molecules, `[K]`, NaN in the others."""
        table = np.full(len(self.molecules), np.nan, np.float32)
        table[split.validation], table[split.test] = validation, test
        return table


def run(settings: Settings) -> dict[str, Any]:
    """Every row; the result, as it is in result.json. One that is there already is not made again."""
    return made_of_seeds(settings, make_result, lambda result: draw(result, settings.output))


def make_result(settings: Settings, opened: Open) -> dict[str, Any]:
    problem = Problem(settings)
    print(problem.molecules)
    trained = open_rows(settings, [row for row in settings.rows if is_trained(row)], opened)
    rows, example = {}, None
    for row in settings.rows:
        if row in trained:
            rows[row], notes = train_row(problem, row, trained[row])
            example = example or notes
        else:
            rows[row] = compute_row(problem, row)
    molecules, column = problem.molecules, problem.column
    return {
        "dataset": molecules.name,
        "target": molecules.target_names[column],
        "unit": molecules.units[column],
        "mean": float(molecules.mean[column]),
        "std": float(molecules.std[column]),
        "measured": [molecules.targets[split.test, column].tolist() for split in problem.splits],
        "task": molecules.task,
        "molecules": len(molecules),
        "failures": [list(each) for each in problem.prepared.failures],
        "rows": rows,
        "example": example,
    }


def train_row(problem: Problem, row: str, seeds: Seeds) -> tuple[dict[str, Any], Any]:
    """All splits and seeds of a model; those that an interrupted run has ended are read."""
    settings, checkpoints = problem.settings, seeds.checkpoints
    print(ROWS[row].title)
    graphs = problem.graphs(row)
    learner = Learner(
        partial(build_model, row, max(graphs, key=lambda graph: graph.n_node[0]), settings),
        graphs,
        problem.scores[:, None],
        task=problem.molecules.task,
        batch_size=settings.batch_size,
        clip=settings.clip,
    )
    kept: dict[tuple[int, int], tuple[np.ndarray, dict[str, Any]]] = {}
    name = lambda job: f"split_{job[0]}_seed_{job[1]}"
    like = np.zeros(len(problem.molecules), np.float32)

    def work(job, after_epoch):
        return train_one(problem, learner, row, job, after_epoch)

    try:
        for job in problem.jobs():
            if (found := checkpoints.restore(name(job), like)) is not None:
                kept[job] = found
        left = [job for job in problem.jobs() if job not in kept]
        ended = side_by_side(
            work,
            left,
            workers=settings.workers,
            epochs=len(left) * settings.epochs,
            progress=settings.progress,
        )
        for job, (predictions, notes) in ended:
            kept[job] = predictions, as_json(notes)
            checkpoints.save(name(job), settings.epochs, *kept[job])
    except CheckpointError as error:
        raise SystemExit(f"Stopped: {error}") from error
    except KeyboardInterrupt:
        trainings = f"{len(kept)} of {len(problem.jobs())} trainings of {ROWS[row].title} ended"
        seeds.stop(trainings)
    notes = [kept[job][1] for job in problem.jobs()]
    trained = {
        "train_loss": [each["train_loss"] for each in notes],
        "parameters": notes[0]["parameters"],
        "traces": max(each["traces"] for each in notes),
        "seconds": sum(each["seconds"] for each in notes),
    }
    predictions = {job: each for job, (each, _) in kept.items()}
    return summary(problem, predictions) | trained, notes[0]["example"]


def train_one(
    problem: Problem, learner: Learner, row: str, job: tuple[int, int], after_epoch: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """Predictions of one split and seed, and what else is to be known of it."""
    settings, (k, seed), started = problem.settings, job, time.perf_counter()
    split = problem.splits[k]
    schedule = Schedule(settings.learning_rate, settings.warm_up)
    parameters, loss = learner.train(
        split.train, schedule, seed=seed, epochs=settings.epochs, after_epoch=after_epoch
    )
    found = [learner.predict(parameters, part)[:, 0] for part in (split.validation, split.test)]
    is_first = job == problem.jobs()[0] and ROWS[row].kind == "transformer"
    notes = {
        "train_loss": loss,
        "seconds": time.perf_counter() - started,
        "traces": learner.traces,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(parameters)),
        "example": example_of(problem, learner, parameters, row) if is_first else None,
    }
    return problem.placed(split, *found), notes


def compute_row(problem: Problem, row: str) -> dict[str, Any]:
    """A forest, or the mean."""
    settings, started = problem.settings, time.perf_counter()
    print(ROWS[row].title)
    if ROWS[row].kind == "mean":
        of = lambda split, seed: np.full(len(split.test), problem.scores[split.train].mean())
    else:
        smiles = problem.molecules.smiles
        kind = ROWS[row].options["features"]
        features = descriptors(smiles)[0] if kind == "descriptors" else morgan_counts(smiles)
        options = {"task": problem.molecules.task, "workers": settings.workers}
        of = lambda split, seed: forest(features, problem.scores, split, seed=seed, **options)
    nothing = lambda split: np.full(len(split.validation), np.nan)
    found = {
        (k, seed): problem.placed(split, nothing(split), of(split, seed))
        for k, seed in problem.jobs()
        for split in [problem.splits[k]]
    }
    return summary(problem, found) | {"seconds": time.perf_counter() - started}


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    settings = resolve(config)
    result = run(settings)
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {settings.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
