"""What the suites of the benchmark measure."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args

from peers import Mechanism, Phase

Library = Literal["gatjax", "gatjax plain", "pyg", "dgl", "jraph", "jraphx"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure, print a table, write a JSON."""

    suite: Literal[
        "layer",
        "graphs",
        "options",
        "scaling",
        "floors",
        "widths",
        "first",
        "blocks",
        "scatter",
        "epoch",
        "seeds",
    ] = "layer"
    """What to measure; see the top of the file."""
    libraries: tuple[Library, ...] = get_args(Library)
    """Libraries to compare."""
    mechanisms: tuple[Mechanism, ...] = ("gat", "gatv2", "dot")
    """Layers; "hard" is GAT that attends to one neighbour alone, "block" the attention block of graph networks. PyTorch
    Geometric's layer for relations holds a matrix per edge, so that only small graphs fit."""
    phases: tuple[Phase, ...] = get_args(Phase)
    """Forward; forward and backward; a step of Adam. The suites beside "layer" measure the gradient alone."""
    nodes: int = 169_000
    """Nodes of the made-up graphs."""
    edges: int = 2_800_000
    """Edges of the made-up graphs."""
    heads: int = 8
    """Attention heads of the layer."""
    features: int = 16
    """Features per head of the layer."""
    graphs: tuple[str, ...] = ("cora", "pubmed", "molecules", "regular", "hub")
    """Graphs of the suite "graphs"."""
    scaling_edges: tuple[int, ...] = (100_000, 300_000, 1_000_000, 3_000_000)
    """Numbers of edges of the suites "scaling" and "floors"; the mean degree is 16."""
    most_edges_of_others: int = 3_000_000
    """Larger graphs are for gatjax alone: the others would need tens of gigabytes."""
    block_numbers: tuple[int, ...] = tuple(2**power for power in range(14, 25, 2))
    """Sizes of the suite "blocks": numbers E·H·C in one."""
    datasets: tuple[str, ...] = ("cora", "pubmed")
    """Citation graphs of the epochs, seeds and first layers."""
    counts: tuple[int, ...] = (1, 2, 20)
    """Numbers of seeds at once."""
    runs: int = 5
    """Timed runs per process, after one that is not timed."""
    rounds: int = 1
    """Processes per measurement; libraries take turns."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where to measure."""
    deterministic: bool = False
    """Let XLA add in a fixed order on a GPU: the same bits in every run."""
    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/benchmark")
    """Folder for result.json."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing to measure in one library."""

    library: str
    name: str
    arguments: dict[str, Any]


# Names, and what tells one `Problem` from another.
Problems = list[tuple[str, dict[str, Any]]]


def phases(config: Config) -> Problems:
    return [
        (f"{mechanism}, {phase}", {"mechanism": mechanism, "phase": phase})
        for mechanism in config.mechanisms
        for phase in config.phases
    ]


def graphs(config: Config) -> Problems:
    return [
        (f"{graph}, {mechanism}", {"mechanism": mechanism, "graph": graph})
        for graph in config.graphs
        for mechanism in config.mechanisms
    ]


def options(config: Config) -> Problems:
    each = {
        "neither": {},
        "attention dropout": {"dropout": 0.6},
        "edge features": {"edge_features": 16},
        "both": {"dropout": 0.6, "edge_features": 16},
    }
    return [
        (f"{mechanism}, {name}", {"mechanism": mechanism, **option})
        for mechanism in config.mechanisms
        for name, option in each.items()
    ]


def every_size(config: Config) -> Problems:
    return [
        (
            f"{mechanism}, {edges:,} edges",
            {"mechanism": mechanism, "edges": edges, "nodes": edges // 16},
        )
        for mechanism in config.mechanisms
        for edges in config.scaling_edges
    ]


def widths(config: Config) -> Problems:
    sizes = [(heads, config.features) for heads in (1, 2, 4, 8, 16)]
    sizes += [(config.heads, features) for features in (4, 8, 32)]
    return [
        (
            f"{mechanism}, {heads} x {features}",
            {"mechanism": mechanism, "heads": heads, "features": features},
        )
        for mechanism in config.mechanisms
        for heads, features in sizes
    ]


def first_layers(config: Config) -> Problems:
    return [
        (
            f"{dataset}, {layout} features, {mechanism}",
            {"mechanism": mechanism, "graph": dataset, "layout": layout, "features": 8},
        )
        for dataset in config.datasets
        for mechanism in config.mechanisms
        for layout in ("dense", "sparse")
    ]


def sizes_of_blocks(config: Config) -> Problems:
    return [
        (f"{mechanism}, blocks of {numbers:,}", {"mechanism": mechanism, "block_numbers": numbers})
        for mechanism in config.mechanisms
        for numbers in config.block_numbers
    ]


def layer_cases(config: Config, problems: Problems) -> list[Case]:
    return [
        Case(library, name, {"graph": "power law", "phase": "gradient", **arguments})
        for name, arguments in problems
        for library in config.libraries
        if library == "gatjax" or _can_take(config, arguments)
    ]


def _can_take(config: Config, arguments: dict[str, Any]) -> bool:
    """Whether libraries beside gatjax have such a thing, and can do it in the memory of one machine."""
    return (
        "block_numbers" not in arguments
        and arguments.get("edges", 0) <= config.most_edges_of_others
    )


# Cases of more, or of less, than a layer.


def scatter_cases(config: Config) -> list[Case]:
    """Rows added into few and into many, in order and not, in both widths of a number."""
    width, rows = config.heads * config.features, min(config.edges, 2**20)
    return [
        Case(
            "gatjax",
            f"{dtype}, into {targets:,} rows, {order}",
            {"width": width, "rows": rows, "targets": targets, "order": order, "dtype": dtype},
        )
        for dtype in ("float32", "bfloat16")
        for targets in (8, config.nodes)
        for order in ("sorted", "in any order")
    ]


def epoch_cases(config: Config) -> list[Case]:
    variants = [
        ("gatjax", "auto", "pyg"),
        ("gatjax", "dense", "pyg"),
        ("gatjax", "auto", "original"),
        ("pyg", "dense", "pyg"),
    ]
    return [
        Case(
            library,
            f"{dataset}, {features} features, dropouts of {dropouts}",
            {
                "dataset": dataset,
                "features": features,
                "dropouts": dropouts,
                "device": config.device,
            },
        )
        for dataset in config.datasets
        for library, features, dropouts in variants
        if library in config.libraries
    ]


def seed_cases(config: Config) -> list[Case]:
    return [
        Case("gatjax", f"{dataset}, seeds at once: {count}", {"dataset": dataset, "count": count})
        for dataset in config.datasets
        for count in config.counts
    ]
