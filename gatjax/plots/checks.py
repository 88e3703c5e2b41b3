"""What all pictures of attention ask of their arguments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def per_edge(alpha: ArrayLike, num_edges: int) -> np.ndarray:
    """[E, H] from [E] or [E, H]."""
    weights = np.asarray(alpha, np.float64)
    if weights.ndim not in (1, 2) or len(weights) != num_edges:
        raise ValueError(
            f"alpha has shape {weights.shape}, it must be [E] or [E, H] for the E = {num_edges} edges "
            "of the graph: pass the attention of this very graph"
        )
    return weights.reshape(num_edges, -1) if num_edges else np.zeros((0, 1))


def check_node(name: str, node: int | np.integer, total: int) -> None:
    if not 0 <= node < total:
        raise ValueError(f"{name} = {node} is out of range for {total} nodes")


def check_length(name: str, items: Sequence[Any] | None, total: int) -> None:
    if items is not None and len(items) != total:
        raise ValueError(f"{name} has {len(items)} entries for {total} nodes: give one per node")


def name_of(node_labels: Sequence[str] | None, node: int | np.integer) -> str:
    return str(node if node_labels is None else node_labels[int(node)])
