"""Kill a training with SIGKILL at random moments, resume it, and compare the end bit by bit.

    python experiments/kill_and_resume.py --kills 20
    python experiments/kill_and_resume.py --kills 20 --training sampled --max-epochs 12

One run goes undisturbed. Others are killed, each at random moments of its work, resumed with `--resume`
and left to end. All must give the same accuracies, epochs and parameters, to the last bit; each kill that
hits a running training counts. The training is that of citation.py, or that of large.py on samples of neighbours.
"""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import tyro
from outputs import check_writable
from report import count, describe_run, save_result
from settings import check
from tqdm import tqdm

HERE = Path(__file__).parent
SAME = ("seeds", "test_accuracy", "validation_accuracy", "train_accuracy", "epochs", "best_epoch")


@dataclasses.dataclass(frozen=True)
class Config:
    """Kill and resume a training."""

    training: Literal["citation", "sampled"] = "citation"
    """GAT on a citation graph, or on samples of a planted graph."""
    kills: int = 20
    """Number of kills."""
    kills_per_run: int = 1
    """Kills that one run must survive before it may end."""
    seeds: int = 3
    """Seeds of the training."""
    max_epochs: int = 200
    """Epochs per seed."""
    longest: float = 4.0
    """A kill comes up to this many seconds after training has begun to move."""
    seed: int = 0
    """Of the random moments."""
    output: Path = Path("runs/kill_and_resume")
    """Folder for both runs and for result.json; must not hold an earlier one."""


def command(config: Config, folder: Path, *extra: str) -> list[str]:
    options = {"--seeds": config.seeds, "--checkpoint-seconds": 0.5, "--output": folder}
    if config.training == "citation":
        script = "citation.py"
        options |= {"--max-epochs": config.max_epochs, "--patience": config.max_epochs}
        options["--epochs-per-dispatch"] = 5
    else:
        script = "large.py"
        options |= {"--dataset": "planted", "--nodes": 20_000, "--edges": 200_000}
        options |= {"--rows": "sampled", "--epochs": config.max_epochs}
    return [
        sys.executable,
        str(HERE / script),
        *(str(part) for pair in options.items() for part in pair),
        *extra,
    ]


def newest_change(config: Config, folder: Path) -> float:
    """When a checkpoint of a run was last written."""
    folder = folder / ("sampled" if config.training == "sampled" else "") / "checkpoints"
    times = []
    for path in folder.rglob("*"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times, default=0.0)


def kill_once(config: Config, folder: Path, delay: float) -> bool:
    """Resume the run and kill it; False where it came to its end before."""
    before = newest_change(config, folder)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command(config, folder, "--resume"), stdout=log, stderr=log, start_new_session=True
        )
        while process.poll() is None and newest_change(config, folder) <= before:
            time.sleep(0.01)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        log.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"the run failed by itself:\n{log.read().decode()}")
        return False


def content(config: Config, folder: Path) -> dict[str, object]:
    """What both runs must agree in: the results, and the digest of the parameters."""
    result = json.loads((folder / "result.json").read_text())
    if config.training == "sampled":
        row = result["rows"]["sampled"]
        return {name: row[name] for name in ("test", "validation", "steps", "digests")}
    notes = next((folder / "model" / "parameters").rglob("notes/metadata"))
    return {name: result[name] for name in SAME} | {
        "model": json.loads(notes.read_text())["digest"]
    }


def main(config: Config) -> None:
    counts = "kills kills_per_run seeds max_epochs"
    check(config, at_least=dict.fromkeys(counts.split(), 1), above_zero=("longest",))
    moments = random.Random(config.seed)
    started = time.perf_counter()
    undisturbed, killed = config.output / "undisturbed", config.output / "killed"
    if config.output.exists():
        raise SystemExit(f"{config.output} exists: delete it, or choose another --output")
    check_writable(config.output)
    subprocess.run(command(config, undisturbed), check=True, stdout=subprocess.DEVNULL)
    kills = runs = 0
    with tqdm(total=config.kills, unit="kill") as bar:
        while kills < config.kills:
            folder = killed / f"run_{runs}"
            for _ in range(min(config.kills_per_run, config.kills - kills)):
                if not kill_once(config, folder, moments.uniform(0, config.longest)):
                    break
                kills += 1
                bar.update()
            if not (folder / "result.json").exists():
                subprocess.run(
                    command(config, folder, "--resume"),
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            if content(config, folder) != content(config, undisturbed):
                raise SystemExit(f"{folder} differs from {undisturbed}")
            runs += 1
    result = {
        "kills": kills,
        "killed_runs": runs,
        "bit_identical": True,
        "seconds": time.perf_counter() - started,
        "config": dataclasses.asdict(config),
        **describe_run(),
    }
    save_result(config.output / "result.json", result)
    print(
        f"{count(kills, 'kill')} in {count(runs, 'run')}, each of which ended bit-identical to the undisturbed one."
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
