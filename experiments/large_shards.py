"""A large graph in shards: cut once, then trained on many devices, of one process or of several.

    python experiments/large.py partition --dataset pubmed --shards 4            # into shards/pubmed-4
    JAX_NUM_CPU_DEVICES=4 python experiments/large.py sharded --folder shards/pubmed-4
    python experiments/large.py sharded --folder shards/pubmed-4 --resume        # after an interruption

A step sees the whole graph. Several processes run the second command each, see docs/guides/large.md; they save and
resume together, also where they are another number than before, on shards of the same graph.
"""

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from large_graphs import build_model
from large_partition import PROBLEM, Partition, cut
from outputs import FREE, claimed, find_result, say_found
from report import as_json, count, describe_run, markdown_table, save_result
from seed_runs import in_the_way
from settings import check, check_multiple, fill, required
from tqdm import tqdm

from gatjax.training import (
    CheckpointError,
    Checkpoints,
    Functional,
    Shard,
    Shards,
    cluster,
    functional,
    load_shards,
    on_shards,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Train on the shards of a graph, a device for each."""

    folder: Path = Path("shards/facebook-2")
    """Of `partition`."""
    model: Literal["gat", "gatv2"] = "gat"
    """What is trained."""
    hidden_features: int = 64
    """Width of the hidden layers, all heads together."""
    num_heads: int = 4
    """Heads of a hidden layer."""
    num_layers: int = 2
    """Layers."""
    dropout: float = 0.2
    """Of the attention weights."""
    learning_rate: float = 0.005
    """Of Adam."""
    epochs: int = 100
    """Steps, each on the whole graph."""
    seed: int = 0
    """Of parameters and dropout."""
    exchange: Literal["ring", "all_to_all"] = "ring"
    """How rows travel."""
    heartbeat_seconds: int = 100
    """After so long a silence of one process the others end."""
    checkpoint_epochs: int = 10
    """All processes save together after so many."""
    resume: bool = False
    """Go on where an interrupted run with the same settings and output folder was."""
    overwrite: bool = False
    """Replace what the output folder holds: an earlier result, or an interrupted run."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json. None: runs/large-<name of the folder of shards>."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """A `Config` in which nothing is left to a default."""

    output: Path = required()


Commands = (
    Annotated[Partition, tyro.conf.subcommand("partition")]
    | Annotated[Config, tyro.conf.subcommand("sharded")]
)

# What may be another one when a run is resumed: the same graph in another number of shards.
FREE_TO_RESUME = ("folder", "exchange", "heartbeat_seconds", "checkpoint_epochs", *FREE)
OF_SHARDS = ("shards", "how", "report", "cpu_seconds")


class State(NamedTuple):
    """What a run is after some epochs."""

    parameters: Any
    optimizer: Any


def resolve(config: Config) -> Settings:
    """What is None filled in; impossible settings end here."""
    settings = fill(Settings, config, {"output": Path("runs") / f"large-{config.folder.name}"})
    counts = "hidden_features num_heads num_layers epochs heartbeat_seconds checkpoint_epochs"
    check(
        settings,
        at_least=dict.fromkeys(counts.split(), 1) | {"seed": 0},
        above_zero=("learning_rate",),
        rates=("dropout",),
    )
    check_multiple(settings, "hidden_features", "num_heads")
    return settings


def known_problem(settings: Settings) -> dict[str, Any]:
    """What `partition` wrote beside the shards."""
    try:
        return json.loads((settings.folder / PROBLEM).read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"--folder {settings.folder}: no shards are there; make them, python experiments/large.py partition"
        ) from error


class Run:
    """A model, its step and its accuracy on shards."""

    def __init__(self, settings: Settings, problem: dict[str, Any], mesh: Mesh, shards: Shards):
        self.settings, self.problem, self.mesh, self.shards = settings, problem, mesh, shards
        self.model: Functional = functional(self.build)
        self.optimizer = optax.adam(settings.learning_rate)
        exchange: Any = {"exchange": settings.exchange}
        self.sums = on_shards(self.of_shard, mesh, **exchange)
        self.counts = jax.jit(on_shards(self.right_of_shard, mesh, **exchange))
        self.step = jax.jit(self.next_state, donate_argnums=0)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        sizes = self.shards.nodes.shape[-1], self.problem["classes"]
        return build_model(self.settings, *sizes, self.settings.num_layers, rngs)

    def start(self) -> State:
        """The same on every process."""
        parameters = self.model.initialise(jax.random.key(self.settings.seed))
        return self.everywhere(State(parameters, self.optimizer.init(parameters)))

    def everywhere(self, tree: Any) -> Any:
        """A tree that all processes hold alike, on all devices."""
        return jax.device_put(
            jax.tree.map(np.asarray, tree), NamedSharding(self.mesh, PartitionSpec())
        )

    def outputs(self, parameters: Any, shard: Shard, key: Any = None) -> jax.Array:
        return self.model.apply(parameters, shard.graph, view=shard.view, key=key).nodes

    def of_shard(self, parameters: Any, shard: Shard) -> tuple[jax.Array, jax.Array]:
        """The loss of a shard's training nodes, and their number."""
        parameters, key = parameters
        logits = self.outputs(parameters, shard, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, shard.tables["labels"])
        return jnp.where(shard.tables["train"], losses, 0).sum(), shard.tables["train"].sum()

    def right_of_shard(
        self, parameters: Any, shard: Shard
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        """How many of its nodes are right, and how many there are."""
        right = self.outputs(parameters, shard).argmax(-1) == shard.tables["labels"]
        masks = {name: shard.tables[name] for name in ("validation", "test")}
        return {name: ((right & mask).sum(), mask.sum()) for name, mask in masks.items()}

    def next_state(self, state: State, epoch: jax.Array, shards: Shards) -> tuple[State, jax.Array]:
        key = jax.random.fold_in(jax.random.key(self.settings.seed + 1), epoch)

        def loss(parameters):
            total, number = self.sums((parameters, key), shards)
            return total / number

        value, gradient = jax.value_and_grad(loss)(state.parameters)
        updates, optimizer = self.optimizer.update(gradient, state.optimizer)
        return State(optax.apply_updates(state.parameters, updates), optimizer), value

    def accuracy(self, state: State) -> dict[str, float]:
        found = self.counts(state.parameters, self.shards)
        return {name: float(right) / float(number) for name, (right, number) in found.items()}


def train(run: Run, checkpoints: Checkpoints) -> dict[str, Any]:
    """From the start or from a checkpoint to the last epoch."""
    settings, first = run.settings, jax.process_index() == 0
    state, losses = run.start(), []
    restored = checkpoints.restore("state", state)
    if restored is not None:
        state, losses = run.everywhere(restored[0]), list(restored[1]["losses"])
    if first and losses:
        print(f"Going on after {count(len(losses), 'epoch')}.")
    compiled = run.step.lower(state, jnp.int32(0), run.shards).compile()
    memory = compiled.memory_analysis()
    cpu = seconds = 0.0
    timed = 0
    bar = tqdm(
        total=settings.epochs, initial=len(losses), disable=not (settings.progress and first)
    )
    with bar:
        while len(losses) < settings.epochs:
            begun = time.process_time(), time.perf_counter()
            state, loss = compiled(state, jnp.int32(len(losses)), run.shards)
            losses.append(float(loss))
            if not np.isfinite(losses[-1]):
                raise SystemExit(
                    f"the loss is {losses[-1]} after epoch {len(losses)}: lower --learning-rate"
                )
            timed += 1
            if timed > 1:
                cpu += time.process_time() - begun[0]
                seconds += time.perf_counter() - begun[1]
            bar.set_postfix_str(f"loss {losses[-1]:.4f}")
            bar.update()
            if len(losses) % settings.checkpoint_epochs == 0 or len(losses) == settings.epochs:
                checkpoints.save("state", len(losses), state, {"losses": losses})
    measured = multihost_utils.process_allgather(np.array([cpu, seconds]) / max(timed - 1, 1))
    measured = np.atleast_2d(measured)
    return {
        "losses": losses,
        **run.accuracy(state),
        "cpu_seconds_per_epoch": measured[:, 0].tolist(),
        "seconds_per_epoch": float(measured[:, 1].max()),
        "temporary_bytes": None if memory is None else memory.temp_size_in_bytes,
    }


def train_together(settings: Settings, problem: dict[str, Any]) -> dict[str, Any]:
    """The result, the same on every process; the first of them writes it."""
    path, values = settings.output / "result.json", dataclasses.asdict(settings)
    enough_devices(problem["shards"])
    with cluster(
        num_devices=problem["shards"], heartbeat_seconds=settings.heartbeat_seconds
    ) as mesh:
        first = jax.process_index() == 0
        with claimed(settings.output) if first else contextlib.nullcontext():
            found = find_result(path, values, overwrite=settings.overwrite)
            multihost_utils.sync_global_devices("looked for a result")
            if found is not None:
                say_found(path)
                return found
            checkpoints = open_checkpoints(settings, problem)
            run = Run(settings, problem, mesh, load_shards(settings.folder, mesh))
            try:
                trained = train(run, checkpoints)
            except CheckpointError as error:
                raise SystemExit(f"Stopped: {error}") from error
            result = as_json(
                {
                    "problem": problem,
                    "shards": problem["shards"],
                    "processes": jax.process_count(),
                    **trained,
                    "config": values,
                    **describe_run(),
                }
            )
            multihost_utils.sync_global_devices("trained")
            checkpoints.close()
            if first:
                save_result(path, result)
                checkpoints.remove()
    return result


def enough_devices(num_shards: int) -> None:
    """A device of the CPU for each shard of this process, where nothing says how many there are to be."""
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    processes = int(os.environ.get("JAX_NUM_PROCESSES", 1))
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(num_shards // processes, 1))


def open_checkpoints(settings: Settings, problem: dict[str, Any]) -> Checkpoints:
    """Those of this run, whatever the number of shards."""
    of_run = {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if name not in FREE_TO_RESUME
    }
    of_graph = {name: value for name, value in problem.items() if name not in OF_SHARDS}
    description = of_run | {"problem": of_graph, "jax": jax.__version__}
    checkpoints = Checkpoints(settings.output / "checkpoints", description)
    if in_the_way(checkpoints, settings):
        multihost_utils.sync_global_devices("found checkpoints")
        if jax.process_index() == 0:
            checkpoints.remove()
        multihost_utils.sync_global_devices("removed checkpoints")
    return checkpoints


def table(result: dict[str, Any]) -> str:
    """Of one run."""
    report = result["problem"]["report"]
    share = report["rows"] / report["num_nodes"]
    row = {
        "shards": str(result["shards"]),
        "processes": str(result["processes"]),
        "rows exchanged (N)": f"{share:.2f}",
        "loss": f"{result['losses'][-1]:.4f}",
        "validation (%)": f"{100 * result['validation']:.1f}",
        "test (%)": f"{100 * result['test']:.1f}",
        "CPU s an epoch": f"{sum(result['cpu_seconds_per_epoch']):.2f}",
        "temporaries a device (MiB)": f"{(result['temporary_bytes'] or 0) / 2**20:.0f}",
    }
    return markdown_table(list(row), [list(row.values())])


def main(config: Partition | Config) -> Any:
    """Cut; or train, and say where everything is."""
    if isinstance(config, Partition):
        return cut(config)
    settings = resolve(config)
    result = train_together(settings, known_problem(settings))
    if jax.process_index() == 0:
        print(f"\n{table(result)}\n\nDetails in {settings.output}")
    return result
