"""Graphs whose neighbours are often of other classes, with ten splits each, from files of your own.

Platonov et al., A critical look at the evaluation of GNNs under heterophily, ICLR 2023. Shapes: N nodes, F features.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jraph import GraphsTuple

from gatjax import build_graph, coalesce, remove_self_loops, to_undirected

PARTS = ("train", "val", "test")


class Heterophilous(NamedTuple):
    """A graph with both directions of each edge and no self-loops, features [N, F], labels [N], and masks of splits."""

    graph: GraphsTuple
    labels: np.ndarray
    masks: dict[str, np.ndarray]

    def split(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nodes of training, validation and test; numbers beyond the last split begin anew."""
        of = lambda part: np.flatnonzero(self.masks[part][number % len(self.masks[part])])
        return of("train"), of("val"), of("test")


def file_of(name: str, remedy: str) -> Path:
    """Where a graph lies; SystemExit where it does not."""
    folder = os.environ.get("GATJAX_DATA")
    path = Path(folder or "GATJAX_DATA") / "heterophilous" / f"{name}.npz"
    if not path.exists():
        raise SystemExit(
            f"{path} is not there: set GATJAX_DATA to a folder with the files of heterophilous-graphs (Platonov et "
            f"al., 2023) in its subfolder heterophilous, or {remedy}"
        )
    return path


def read(path: Path) -> Heterophilous:
    """The graph of a file."""
    with np.load(path) as file:
        table = {key: file[key] for key in file.files}
    nodes = table["node_features"].astype(np.float32)
    graph = build_graph(table["edges"][:, 0], table["edges"][:, 1], nodes)
    graph = coalesce(remove_self_loops(to_undirected(graph)))
    masks = {part: table[f"{part}_masks"] for part in PARTS}
    return Heterophilous(graph, table["node_labels"].astype(np.int32), masks)
