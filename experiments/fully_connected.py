"""All pairs of atoms, or bonds alone? The same transformer on both graphs of a molecule.

    python experiments/fully_connected.py                       # error against the size of the training set, FreeSolv
    python experiments/fully_connected.py --study size --dataset esol
    python experiments/fully_connected.py --study range         # how far does it see?

Attention over all pairs is told less of what matters, so it should need more data: the first study trains on five sizes
of one set, with the same number of updates. Neither graph has a dummy node, which has no bond.

Bonds let a layer see one bond far. The second study has chains of atoms, of which the first asks for the element of the
atom k bonds away, and the answer is read at the first. Edges know how many bonds apart their ends are. Between bonded
atoms alone, k layers are needed; among all pairs one can do.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import matplotlib.pyplot as plt
import numpy as np
import script
from devices import use_every_core
from flax import nnx
from jraph import GraphsTuple
from matplotlib.axes import Axes
from molecule_data import prepare, scores
from molecule_tables import score_of
from molecule_training import Learner, Schedule, side_by_side
from outputs import drawn, made_once
from report import count, markdown_table, mean_and_error, mean_and_sd
from settings import check, check_multiple

from gatjax import MAT, build_graph, fully_connected, plots

GRAPHS = {"pairs": "all pairs of atoms", "bonds": "bonds"}
GraphName = Literal["pairs", "bonds"]
# Of the chains: elements, atoms, and how far away at most the first asks.
ELEMENTS, ATOMS, FARTHEST = 4, 12, 8


@dataclasses.dataclass(frozen=True)
class Config:
    """Train one transformer on all pairs of atoms and on bonds alone."""

    study: Literal["size", "range"] = "size"
    """The error against the size of the training set, or how far layers see."""
    dataset: Literal["freesolv", "esol"] = "freesolv"
    """Molecules of the first study, with the six splits of MAT."""
    sizes: tuple[int, ...] = (32, 64, 128, 256, 513)
    """Molecules trained on; the smaller sets are parts of the larger ones."""
    num_splits: int = 6
    """So many of the splits."""
    depths: tuple[int, ...] = (1, 2, 4, 8)
    """Layers on bonds in the second study; one layer on all pairs stands beside them."""
    chains: int = 4096
    """Chains to train on, and half as many to test."""
    seeds: int = 1
    """Seeds 0, 1, ... of each."""
    updates: int | None = None
    """Of the parameters. None: 1000 of the first study, 3000 of the second."""
    batch_size: int = 32
    """Graphs per update."""
    learning_rate: float = 1e-3
    """Of Adam, at its highest, after a tenth of the updates."""
    hidden_features: int = 64
    """Width of every layer."""
    num_layers: int = 4
    """Layers in the first study."""
    num_heads: int = 4
    """Heads of the attention."""
    workers: int | None = None
    """Trainings at a time. None: one per core."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    progress: bool = True
    """Show a progress bar."""
    output: Path | None = None
    """Folder for result.json and its picture. None: runs/fully-connected-<study>."""


def resolve(config: Config) -> Config:
    """What is None filled in; impossible settings end here."""
    config = dataclasses.replace(
        config,
        updates=config.updates or {"size": 1000, "range": 3000}[config.study],
        workers=config.workers or len(jax.local_devices()),
        output=config.output or Path("runs") / f"fully-connected-{config.study}",
    )
    counts = "num_splits depths seeds updates hidden_features num_layers num_heads workers"
    check(
        config,
        at_least=dict.fromkeys(counts.split(), 1) | {"sizes": 2, "batch_size": 1, "chains": 2},
        above_zero=("learning_rate",),
    )
    check_multiple(config, "hidden_features", "num_heads")
    return config


def bonds_of(graph: Any) -> GraphsTuple:
    """The bonded pairs of a molecule without a dummy node, and each atom with itself."""
    kept = np.flatnonzero(graph.edges["adjacency"] > 0)
    edges = {name: table[kept] for name, table in graph.edges.items()}
    return build_graph(graph.senders[kept], graph.receivers[kept], graph.nodes, edges=edges)


def transformer(
    in_features: int, out_features: int, depth: int, config: Config, rngs: nnx.Rngs, **options: Any
) -> nnx.Module:
    return MAT(
        in_features,
        out_features,
        hidden_features=config.hidden_features,
        num_layers=depth,
        num_heads=config.num_heads,
        rngs=rngs,
        **options,
    )


def trained_on(
    learner: Learner, rows: np.ndarray, seed: int, config: Config, after_epoch: Any
) -> Any:
    """Parameters after the same number of updates, to within an epoch, however many rows there are."""
    epochs = epochs_of(len(rows), config)
    schedule = Schedule(config.learning_rate, 0.1)
    return learner.train(rows, schedule, seed=seed, epochs=epochs, after_epoch=after_epoch)[0]


def epochs_of(rows: int, config: Config) -> int:
    assert config.updates is not None
    return max(1, round(config.updates / -(-rows // config.batch_size)))


def study_size(config: Config) -> dict[str, Any]:
    """The error of each graph, size, split and seed, in z-scores."""
    molecules, graphs, _ = prepare(config.dataset, dummy=False, progress=config.progress)
    splits, z = molecules.splits[: config.num_splits], scores(molecules)
    for size in config.sizes:
        if size > len(splits[0].train):
            raise SystemExit(f"--sizes {size}: there are {len(splits[0].train)} to train on")
    rows: dict[str, dict[str, list[list[float]]]] = {}
    for name, title in GRAPHS.items():
        print(title)
        own: Any = graphs if name == "pairs" else [bonds_of(graph) for graph in graphs]
        width = own[0].nodes.shape[1]
        learner = Learner(
            partial(transformer, width, 1, config.num_layers, config),
            own,
            z,
            task="numbers",
            batch_size=config.batch_size,
            clip=1.0,
        )

        def work(job, after_epoch, learner=learner):
            size, k, seed = job
            order = np.random.default_rng(k).permutation(splits[k].train)
            parameters = trained_on(learner, order[:size], seed, config, after_epoch)
            test = splits[k].test
            return score_of("numbers", learner.predict(parameters, test)[:, 0], z[test, 0])

        jobs = [
            (size, k, seed)
            for size in config.sizes
            for k in range(len(splits))
            for seed in range(config.seeds)
        ]
        found = all_of(work, jobs, [epochs_of(size, config) for size, _, _ in jobs], config)
        rows[name] = {
            str(size): [
                [found[size, k, seed] for seed in range(config.seeds)] for k in range(len(splits))
            ]
            for size in config.sizes
        }
    return {"rows": rows, "molecules": len(molecules)}


def chain(elements: np.ndarray, asked: int, graph: GraphName) -> GraphsTuple:
    """A chain of atoms, of which the first asks for the element `asked` bonds away."""
    n = len(elements)
    nodes = np.zeros((n, ELEMENTS + FARTHEST), np.float32)
    nodes[np.arange(n), elements] = 1
    nodes[0, ELEMENTS + asked - 1] = 1
    whole = fully_connected(n, nodes=nodes)
    apart = np.abs(np.asarray(whole.senders) - np.asarray(whole.receivers))
    edges = {
        "distance": apart.astype(np.float32),
        "adjacency": (apart <= 1).astype(np.float32),
        "features": np.eye(n, dtype=np.float32)[apart],
    }
    whole = whole._replace(edges=edges)
    return whole if graph == "pairs" else bonds_of(whole)


def study_range(config: Config) -> dict[str, Any]:
    """The share of right answers for each graph, depth, distance and seed."""
    random = np.random.default_rng(0)
    total = config.chains + config.chains // 2
    elements = random.integers(ELEMENTS, size=(total, ATOMS))
    asked = 1 + np.arange(total) % FARTHEST
    answers = elements[np.arange(total), asked]
    train, test = np.split(np.arange(total), [config.chains])
    rows: dict[str, dict[str, list[list[float]]]] = {}
    depths: dict[GraphName, tuple[int, ...]] = {"pairs": (1,), "bonds": config.depths}
    for name, own in depths.items():
        graphs = [chain(*each, name) for each in zip(elements, asked.tolist(), strict=True)]
        for depth in own:
            print(title_of(name, depth))
            width = ELEMENTS + FARTHEST
            options = {"pool": "first", "edge_features": ATOMS}
            learner = Learner(
                partial(transformer, width, ELEMENTS, depth, config, **options),
                graphs,
                np.eye(ELEMENTS, dtype=np.float32)[answers],
                task="labels",
                batch_size=config.batch_size,
                clip=1.0,
            )

            def work(seed, after_epoch, learner=learner):
                parameters = trained_on(learner, train, seed, config, after_epoch)
                right = learner.predict(parameters, test).argmax(axis=1) == answers[test]
                return [float(right[asked[test] == k].mean()) for k in range(1, FARTHEST + 1)]

            epochs = [epochs_of(len(train), config)] * config.seeds
            found = all_of(work, list(range(config.seeds)), epochs, config)
            rows.setdefault(name, {})[str(depth)] = [found[seed] for seed in range(config.seeds)]
    return {"rows": rows}


def all_of(work: Any, jobs: list[Any], epochs: list[int], config: Config) -> dict[Any, Any]:
    assert config.workers is not None
    options = {"workers": config.workers, "epochs": sum(epochs), "progress": config.progress}
    return dict(side_by_side(work, jobs, **options))


def title_of(graph: str, depth: int | str) -> str:
    return f"{GRAPHS[graph]}, {count(int(depth), 'layer')}"


def table(result: dict[str, Any]) -> str:
    """A line per graph, or graph and depth; a column per size, or distance."""
    config, rows = result["config"], result["rows"]
    if config["study"] == "size":
        sizes = [str(size) for size in config["sizes"]]
        title = f"{config['dataset']}, {count(config['num_splits'], 'split')}, {count(config['seeds'], 'seed')}"
        of = lambda table: mean_and_sd(np.mean(table, axis=1).tolist(), scale=1, digits=3)
        lines = [[GRAPHS[name], *(of(row[size]) for size in sizes)] for name, row in rows.items()]
        apart = [
            np.mean(rows["bonds"][s], axis=1) - np.mean(rows["pairs"][s], axis=1) for s in sizes
        ]
        lines.append(["bonds less pairs", *(mean_and_error(d, digits=3) for d in apart)])
        return markdown_table([title, *sizes], lines)
    header = [f"right in %, {count(config['seeds'], 'seed')}"]
    header += [f"{k} away" for k in range(1, FARTHEST + 1)]
    lines = [
        [title_of(name, depth), *(f"{100 * each:.0f}" for each in np.mean(seeds, axis=0))]
        for name, row in rows.items()
        for depth, seeds in row.items()
    ]
    return markdown_table(header, lines)


def plot(result: dict[str, Any]) -> Axes:
    """The error against the size of the training set, or right answers against the distance."""
    config, rows = result["config"], result["rows"]
    if config["study"] == "size":
        groups = {
            GRAPHS[name]: [np.mean(row[str(size)], axis=1) for size in config["sizes"]]
            for name, row in rows.items()
        }
        ax = plots.seed_lines(config["sizes"], groups, ylabel="error of z-scores")
        ax.set_xlabel("molecules trained on")
        ax.set_xscale("log", base=2)
        ax.set_xticks(config["sizes"], [str(size) for size in config["sizes"]])
        return ax
    groups = {
        title_of(name, depth): 100 * np.array(seeds).T
        for name, row in rows.items()
        for depth, seeds in row.items()
    }
    ax = plots.seed_lines(np.arange(1, FARTHEST + 1), groups, ylabel="right answers (%)")
    ax.set_xlabel("bonds to the atom asked for")
    ax.axhline(100 / ELEMENTS, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_ylim(0, 102)
    with plt.rc_context(dict(plots.STYLE)):
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def make_result(config: Config) -> dict[str, Any]:
    return {"size": study_size, "range": study_range}[config.study](config)


def main(config: Config) -> dict[str, Any]:
    """Run, and say where everything is."""
    use_every_core()
    config = resolve(config)
    assert config.output is not None
    picture = config.output / f"{config.study}.png"
    result = made_once(config, make_result, drawn(picture, plot))
    print(f"\n{table(result)}\n\n{result['seconds']:.0f} s; details in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
