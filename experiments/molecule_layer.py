"""One layer of the molecule attention transformer, forward and gradient, beside a plain one in PyTorch.

    python experiments/molecule_layer.py

The same weights on the same molecules, padded to the largest of them. Every measurement runs in a process of its own,
in turns; all of them must give the same loss and gradient. Needs RDKit and PyTorch, and the data in GATJAX_DATA.
"""

import dataclasses
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import script
from in_turns import Peer, compare
from outputs import made_once
from report import markdown_table
from settings import check

from gatjax.data import featurize_all, load_molecules
from gatjax.graph import Slots, pad

OTHERS = "gatjax, edges", "torch"
WEIGHTS = 0.33, 0.33, 0.34
# Relative, of a loss and a norm that are sums of thousands of float32.
AGREEMENT = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    dataset: str = "esol"
    """Molecules, as `load_molecules` knows them."""
    batch_sizes: tuple[int, ...] = (8, 32, 128)
    """Molecules in a batch, drawn at random."""
    features: int = 64
    """Width of the layer."""
    heads: int = 4
    """Attention heads."""
    rounds: int = 7
    """Processes per measurement; libraries take turns."""
    runs: int = 41
    """Timed runs per process, of which the median counts."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/molecule-layer")
    """Folder for result.json."""


def drawn(config: Config, count: int, folder: Path) -> Path:
    """A batch of molecules with random features and weights, as arrays in a file."""
    random = np.random.default_rng(0)
    molecules = load_molecules(config.dataset)
    rows = random.permutation(len(molecules))[:count]
    graphs, failures = featurize_all(molecules.take(np.sort(rows)).smiles, dummy=True)
    if failures:
        raise SystemExit(f"{len(failures)} of the molecules have no coordinates: {failures[0]}")
    size = max(int(graph.n_node[0]) for graph in graphs)
    graph, masks = pad(graphs, Slots(size, len(graphs)))
    edges: Any = graph.edges
    square = lambda name: edges[name].reshape(len(graphs), size, size)
    normal = lambda *shape: random.normal(size=shape).astype(np.float32)
    width = config.features
    path = folder / f"{count}.npz"
    np.savez(
        path,
        nodes=normal(len(graphs), size, width),
        mask=masks.node.reshape(len(graphs), size),
        distance=square("distance"),
        adjacency=square("adjacency"),
        weights=np.array(WEIGHTS),
        **{name: normal(width, width) / width**0.5 for name in ("query", "key", "value", "mix")},
    )
    return path


def measured(path: Path, config: Config) -> dict[str, Any]:
    """All libraries in turns, and what tells one batch from another."""
    peers = {
        "gatjax": Peer("gatjax_peer", "molecule_layer", (config.heads,)),
        "gatjax, edges": Peer("gatjax_peer", "molecule_layer", (config.heads, "edges")),
        "torch": Peer("torch_peer", "molecule_layer", (config.heads,)),
    }
    libraries = compare(peers, path, rounds=config.rounds, runs=config.runs, agreement=AGREEMENT)
    with np.load(path) as file:
        graphs, nodes = file["mask"].shape
        real = int((file["mask"].sum(1) ** 2).sum())
    return {
        "graphs": graphs,
        "nodes": nodes,
        "edges": real,
        "libraries": libraries,
    }


def table(result: dict[str, Any]) -> str:
    """A row per batch: our time and memory, and those of the others as multiples of ours."""
    rows = []
    for batch in result["results"]:
        ours, pairs = batch["libraries"]["gatjax"], batch["graphs"] * batch["nodes"] ** 2
        theirs = [batch["libraries"][library] for library in OTHERS]
        times, memories = (
            [f"{each[field] / max(ours[field], 1e-9):.1f}x" for each in theirs]
            for field in ("median_seconds", "run_bytes")
        )
        rows.append(
            [
                f"{batch['graphs']}",
                f"{batch['edges']:,}",
                f"{100 * batch['edges'] / pairs:.0f} %",
                f"{1e3 * ours['median_seconds']:.2f}",
                *times,
                f"{ours['run_bytes'] / 2**20:.1f}",
                *memories,
            ]
        )
    header = ["molecules", "pairs of atoms", "of the padded", "gatjax (ms)"]
    header += [f"{library}: time" for library in OTHERS]
    header += ["gatjax (MiB)", *(f"{library}: memory" for library in OTHERS)]
    return markdown_table(header, rows)


def make_result(config: Config) -> dict[str, Any]:
    """All libraries in turns, on each batch."""
    with tempfile.TemporaryDirectory() as folder:
        batches = [drawn(config, count, Path(folder)) for count in config.batch_sizes]
        return {"results": [measured(batch, config) for batch in batches]}


def main(config: Config) -> dict[str, Any]:
    """Measure, unless this very measurement is there already."""
    check(config, at_least=dict.fromkeys("batch_sizes features heads rounds runs".split(), 1))
    absent = [name for name in ("torch", "rdkit") if importlib.util.find_spec(name) is None]
    if absent:
        raise SystemExit(f"needs {' and '.join(absent)}: see experiments/README.md")
    result = made_once(config, make_result)
    print(f"\n{table(result)}\n\nDetails in {config.output}")
    return result


if __name__ == "__main__":
    script.run(main, Config)
