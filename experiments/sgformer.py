"""SGFormer, whose attention to all nodes looks at other nodes with at most 1/N of its weight.

```
out_i = (N v_i + Σ_j q_i · k_j v_j) / (N + Σ_j q_i · k_j)
```

where queries and keys are divided by the Frobenius norm of the whole table: |Σ_j q_i · k_j| is about 1 at most, against
N for the node's own value. What looks like attention to all nodes is a dense layer, and what learns from others is the
GCN beside it. Shapes: N nodes, H heads, C features per head.

Wu et al., SGFormer: Simplifying and Empowering Transformers for Large-Graph Representations, NeurIPS 2023.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax import GCN, NodeLinear

GRAPH_SHARE = 0.8


def normed_attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Of rows `[N, H, C]` of one graph.

    >>> rows = jnp.ones((100, 1, 4))
    >>> bool(jnp.allclose(normed_attention(rows, rows, rows.at[0].set(2.0))[1:], 1.0, atol=0.01))
    True
    """
    query, key = (rows / jnp.linalg.norm(rows) for rows in (query, key))
    count = len(query)
    sums = jnp.einsum("nhc,hcd->nhd", query, jnp.einsum("nhc,nhd->hcd", key, value))
    weight = jnp.einsum("nhc,hc->nh", query, key.sum(0))
    return (count * value + sums) / (count + weight)[..., None]


class SGFormer(nnx.Module):
    """A block of that attention, and a GCN beside it."""

    def __init__(self, in_features: int, classes: int, *, width: int, heads: int, rngs: nnx.Rngs):
        linear = lambda: nnx.Linear(width, width, rngs=rngs)
        self.embed = nnx.Linear(in_features, width, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.query, self.key, self.value = linear(), linear(), linear()
        self.heads = heads
        self.on_edges = GCN(in_features, width, hidden_features=width, num_layers=3, rngs=rngs)
        self.output = NodeLinear(width, classes, rngs=rngs)

    def __call__(self, graph: GraphsTuple, **options: Any) -> GraphsTuple:
        """The graph, which is one, with new nodes."""
        x = jax.nn.relu(self.norms[0](self.embed(jnp.asarray(graph.nodes))))
        split = lambda rows: rows.reshape(len(rows), self.heads, -1)
        rows = (split(part(x)) for part in (self.query, self.key, self.value))
        attended = normed_attention(*rows).reshape(x.shape)
        whole = jax.nn.relu(self.norms[1]((attended + x) / 2))
        near = jax.nn.relu(jnp.asarray(self.on_edges(graph, **options).nodes))
        mixed = GRAPH_SHARE * near + (1 - GRAPH_SHARE) * whole
        return self.output(graph._replace(nodes=mixed), **options)
