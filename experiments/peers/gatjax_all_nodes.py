"""Attention of every node to all nodes of its graph, in three ways that give the same numbers."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jraph import GraphsTuple

from gatjax import connect_all, dot_product_score, edge_attention, graph_self_attention
from peers import Workload, on_jax


def attention(
    batch: Mapping[str, np.ndarray], way: str
) -> tuple[Workload, Callable[[], list[float]]]:
    """The gradient by queries, keys and values [N, H, C]; and the loss, and the norm of the keys' gradient.

    The way is "rows", `graph_self_attention`; "edges", `edge_attention` over those of `connect_all`; or "table", the
    formula on a table of all pairs, which wants graphs of one size.
    """
    n_node = batch["n_node"].astype(np.int32)
    none = np.zeros(0, np.int32)
    graph = GraphsTuple(None, None, none, none, None, n_node, np.zeros_like(n_node))
    if way == "edges":
        graph = connect_all(graph, max_pairs=int((n_node.astype(int) ** 2).sum()))._replace(
            edges=None
        )
    size = int(n_node.max())
    attend = {
        "rows": lambda graph, *rows: graph_self_attention(graph, *rows, max_nodes=size),
        "edges": on_edges,
        "table": lambda graph, *rows: whole_table(len(n_node), *rows),
    }[way]

    def gradient(query, key, value, graph, target):
        loss = lambda *rows: (attend(graph, *rows) * target).sum()
        return jax.value_and_grad(loss, argnums=(0, 1, 2))(query, key, value)

    rows = (batch[name] for name in ("query", "key", "value"))
    workload = on_jax.compiled(gradient, *rows, graph, batch["target"])

    def values() -> list[float]:
        loss, (_, of_keys, _) = workload.run()
        return [float(loss), float(jnp.sqrt((of_keys**2).sum()))]

    return workload, values


def on_edges(graph: GraphsTuple, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Over all pairs, as edges."""
    sent = {"key": key, "value": value}
    ends = graph.senders, graph.receivers
    score = lambda weights, r, s, e: dot_product_score(r, s["key"])
    return edge_attention(
        score, lambda weights, r, s, e: s["value"], None, query, sent, None, *ends, len(query)
    )


def whole_table(num_graphs: int, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """softmax(q kᵀ / sqrt(C)) v, of graphs of one size."""
    q, k, v = (rows.reshape(num_graphs, -1, *rows.shape[1:]) for rows in (query, key, value))
    logits = jnp.einsum("gihc,gjhc->ghij", q, k) / np.float32(q.shape[-1] ** 0.5)
    out = jnp.einsum("ghij,gjhc->gihc", jax.nn.softmax(logits), v)
    return out.reshape(query.shape)
