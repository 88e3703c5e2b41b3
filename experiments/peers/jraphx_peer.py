"""jraphx: its layers, which follow PyTorch Geometric's."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jraphx.nn.conv import GATConv, GATv2Conv, TransformerConv

from peers import Problem, Workload, on_jax


def layer(problem: Problem) -> Workload | None:
    if problem.dropout or problem.mechanism not in ("gat", "gatv2", "dot"):
        return None
    nodes, edges = on_jax.inputs(problem)
    options = {"heads": problem.heads, "edge_dim": problem.edge_features, "rngs": nnx.Rngs(0)}
    sizes = problem.in_features, problem.features
    if problem.mechanism == "dot":
        module = TransformerConv(*sizes, **options, root_weight=False)
    else:
        module = {"gat": GATConv, "gatv2": GATv2Conv}[problem.mechanism](
            *sizes, **options, add_self_loops=False
        )
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def forward(parameters, nodes, fixed, key):
        return nnx.merge(graphdef, parameters, rest, copy=True)(nodes, *fixed)

    ids = jnp.asarray(np.stack([problem.edges.senders, problem.edges.receivers]))
    return on_jax.workload(problem, forward, parameters, nodes, (ids, edges))
