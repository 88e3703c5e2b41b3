"""One file per library, with the same functions in each; a worker process imports just one of them.

```
layer(problem)           -> Workload, or None where the library has nothing of the kind
epoch(dataset, features, dropouts, device) -> Workload          (PyTorch Geometric and gatjax)
```
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from graphs import Edges
from jax.experimental.sparse import BCOO

Mechanism = Literal["gat", "gatv2", "dot", "gaan", "relational", "block", "hard"]
Phase = Literal["forward", "gradient", "step"]

NUM_RELATIONS = 5

# What GaAN's gate takes the largest of.
GATE_FEATURES = 64


class Problem(NamedTuple):
    """What one layer is to do; gatjax in blocks of `block_numbers` numbers, where they are given.

    Nodes have random features, as wide as the layer, or the given `inputs`, sparse for gatjax alone. "forward" gives
    the output, "gradient" also its derivatives by parameters and random features, "step" is a step of Adam on the
    mean square of the output.
    """

    mechanism: Mechanism
    edges: Edges
    heads: int
    features: int
    phase: Phase
    edge_features: int | None = None
    dropout: float = 0.0
    device: Literal["cpu", "gpu"] = "cpu"
    block_numbers: int | None = None
    inputs: Any = None

    @property
    def width(self) -> int:
        return self.heads * self.features

    @property
    def in_features(self) -> int:
        return self.width if self.inputs is None else self.inputs.shape[1]

    @property
    def relations(self) -> np.ndarray:
        """Of which relation each edge is, at random."""
        random = np.random.default_rng(2)
        return random.integers(NUM_RELATIONS, size=len(self.edges.senders)).astype(np.int32)

    @property
    def sent(self) -> int:
        """Numbers that a sender hands to each edge: one row, or key and value; GaAN's gate takes two rows more."""
        rows = 2 if self.mechanism in ("dot", "gaan", "block") else 1
        return rows * self.width + (
            GATE_FEATURES + self.in_features if self.mechanism == "gaan" else 0
        )

    @property
    def least_bytes(self) -> int:
        """What any program must move.

        Forward: features in, projections and output out, and for every edge both ids and what the sender sends. The
        gradient moves each of these once more in, and once more out.
        """
        num_edges = len(self.edges.senders)
        numbers = self.in_features * self.edges.num_nodes
        if isinstance(self.inputs, BCOO):
            numbers = 3 * self.inputs.nse
        projected = NUM_RELATIONS if self.mechanism == "relational" else 1
        numbers += (self.width + projected * self.sent) * self.edges.num_nodes
        numbers += num_edges * (self.sent + 2 + (self.edge_features or 0))
        return 4 * numbers * (1 if self.phase == "forward" else 3)


class Workload(NamedTuple):
    """Something to time: `run()` does it `times` times, and returns when it is done.

    `temporary_bytes` is the compiler's own account of scratch memory, where there is one; `device_bytes()` is the most
    that the runs held on a device with memory of its own, beside their inputs; `least_bytes` is what any program must
    move for one of them.
    """

    run: Callable[[], Any]
    compile_seconds: float = 0.0
    temporary_bytes: int | None = None
    times: int = 1
    device_bytes: Callable[[], int] | None = None
    least_bytes: int | None = None
