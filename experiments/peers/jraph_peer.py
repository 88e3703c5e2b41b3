"""jraph: its `GAT`, with the projections and logits that it leaves to the user. It has no dropout."""

import jax
import jax.numpy as jnp
import jraph
from flax import nnx

from gatjax import build_graph
from peers import Problem, Workload, on_jax


def layer(problem: Problem) -> Workload | None:
    """GAT and GATv2; a dot product would need values that are not keys."""
    if (
        problem.mechanism not in ("gat", "gatv2")
        or problem.edge_features is not None
        or problem.dropout
    ):
        return None
    nodes, _ = on_jax.inputs(problem)
    shape = problem.heads, problem.features
    random = nnx.Rngs(0)
    glorot = nnx.initializers.glorot_uniform()
    parameters = {
        "kernel": glorot(random.params(), (problem.in_features, problem.width)),
        "vector": glorot(random.params(), (2, *shape)),
    }

    def logits(vector, sent, received):
        if problem.mechanism == "gatv2":
            terms = jax.nn.leaky_relu(sent + received, 0.2) * vector[0]
            return terms.sum(-1, keepdims=True)
        terms = sent * vector[0] + received * vector[1]
        return jax.nn.leaky_relu(terms.sum(-1, keepdims=True), 0.2)

    def forward(parameters, nodes, graph, key):
        attend = jraph.GAT(
            lambda nodes: (nodes @ parameters["kernel"]).reshape(-1, *shape),
            lambda sent, received, _: logits(parameters["vector"], sent, received),
            lambda nodes: nodes.reshape(len(nodes), problem.width),
        )
        return attend(graph._replace(nodes=nodes)).nodes

    graph = build_graph(problem.edges.senders, problem.edges.receivers, nodes)
    return on_jax.workload(problem, forward, parameters, jnp.asarray(nodes), graph)
