"""Attention over what a node has made of each relation or meta-path: which of them matters.

Shapes: N nodes, G graphs, P paths, F features, Q features of the comparison.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.graph.check import NodeMask, check_mask
from gatjax.graph.sizes import graph_ids
from gatjax.ops.blocks import gather, mask_rows, rows_per_block
from gatjax.ops.segment import segment_mean

Semantic = Literal["graph", "node"]


def semantic_weights(
    graph: GraphsTuple,
    rows: Float[ArrayLike, "N P F"],
    kernel: Float[ArrayLike, "F Q"],
    bias: Float[ArrayLike, "Q"],
    query: Float[ArrayLike, "Q"],
    *,
    semantic: Semantic = "graph",
    node_mask: NodeMask = None,
) -> Float[Array, "N P"]:
    """How much each path counts, for every node.

    ```
    w_ip = q · tanh(z_ip W + b)
    β_ip = softmax over p of w_ip, averaged over the nodes of i's graph before ("graph") or as it is ("node")
    ```

    Args:
      graph: one graph or a batch; says which graph each node belongs to.
      rows: z, what each node has made of each path.
      kernel, bias, query: W, b and q, shared by all paths.
      semantic: "graph", the mean of the paper, in which all nodes of a graph weigh paths alike; or "node", the authors'
        program, in which each node weighs them by itself.
      node_mask: nodes that are in the mean, `[N]`; all by default. Those that `pad` adds are a graph of their own, and
        in no other's mean.

    Returns:
      β, at least in float32; sums to 1 over the paths.

    Raises:
      ValueError: an unknown `semantic`, or shapes that disagree.

    >>> from gatjax.graph import build_graph
    >>> graph, rows = build_graph([], [], num_nodes=2), jnp.array([[[0.0], [9.0]], [[9.0], [0.0]]])
    >>> known = jnp.ones((1, 1)), jnp.zeros(1), jnp.array([9.0])
    >>> semantic_weights(graph, rows, *known).round(2).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    >>> semantic_weights(graph, rows, *known, semantic="node").round(2).tolist()
    [[0.0, 1.0], [1.0, 0.0]]

    Wang et al., Heterogeneous Graph Attention Network, WWW 2019.
    """
    check_semantic(semantic)
    rows, kernel, bias, query = map(jnp.asarray, (rows, kernel, bias, query))
    _check_shapes(rows, kernel, bias, query)
    check_mask(len(rows), node_mask=node_mask)
    mask = None if node_mask is None else jnp.asarray(node_mask)
    rows = rows if mask is None else mask_rows(rows, mask)
    logits = _compared(rows, kernel, bias, query)
    if semantic == "graph":
        ids = graph_ids(graph.n_node, len(rows))
        logits = gather(segment_mean(logits, ids, len(graph.n_node), mask=mask), ids)
    return jax.nn.softmax(logits, axis=1)


def semantic_attention(
    graph: GraphsTuple,
    rows: Float[ArrayLike, "N P F"],
    kernel: Float[ArrayLike, "F Q"],
    bias: Float[ArrayLike, "Q"],
    query: Float[ArrayLike, "Q"],
    *,
    semantic: Semantic = "graph",
    node_mask: NodeMask = None,
) -> Float[Array, "N F"]:
    """The paths' rows of every node, by the weights of `semantic_weights`; the arguments are the same.

    A node that a mask leaves out has zeros.

    ```
    z_i = Σ_p β_ip z_ip
    ```

    >>> from gatjax.graph import build_graph
    >>> graph, rows = build_graph([], [], num_nodes=1), jnp.array([[[1.0], [3.0]]])
    >>> semantic_attention(graph, rows, jnp.zeros((1, 1)), jnp.zeros(1), jnp.zeros(1)).tolist()
    [[2.0]]
    """
    weights = semantic_weights(
        graph, rows, kernel, bias, query, semantic=semantic, node_mask=node_mask
    )
    return mix_paths(weights, jnp.asarray(rows), node_mask)


def mix_paths(
    weights: Float[Array, "N P"], rows: Float[Array, "N P *F"], node_mask: NodeMask = None
) -> Float[Array, "N *F"]:
    """`Σ_p β_ip z_ip`; 0 where a mask leaves a node out, whatever it holds."""
    rows = rows if node_mask is None else mask_rows(rows, jnp.asarray(node_mask))
    return (jnp.expand_dims(weights.astype(rows.dtype), tuple(range(2, rows.ndim))) * rows).sum(
        axis=1
    )


def _compared(
    rows: Float[Array, "N P F"],
    kernel: Float[Array, "F Q"],
    bias: Float[Array, "Q"],
    query: Float[Array, "Q"],
) -> Float[Array, "N P"]:
    """`q · tanh(z W + b)`, at least in float32; of very many rows in blocks, without holding Q numbers of each."""
    compare = lambda row: jnp.tanh(row @ kernel + bias) @ query
    flat, most = rows.reshape(-1, rows.shape[2]), rows_per_block(len(query), fewest=1)
    if len(flat) > _BLOCKS * most:
        logits = jax.lax.map(jax.checkpoint(compare), flat, batch_size=most)
    else:
        logits = jax.vmap(compare)(flat)
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    return logits.astype(dtype).reshape(rows.shape[:2])


# So many blocks of rows are compared at once, which is a little faster, and little memory as yet.
_BLOCKS = 8


def check_semantic(semantic: Semantic) -> None:
    """Refuse what is neither.

    Raises:
      ValueError: neither "graph" nor "node".
    """
    if semantic not in get_args(Semantic):
        raise ValueError(f'semantic must be "graph" or "node", got {semantic!r}')


def _check_shapes(rows: Array, kernel: Array, bias: Array, query: Array) -> None:
    if rows.ndim != 3:
        raise ValueError(f"rows must be [N, P, F], got {list(rows.shape)}")
    width = kernel.shape[-1] if kernel.ndim == 2 else "Q"
    expected = {"kernel": [rows.shape[2], width], "bias": [width], "query": [width]}
    for (name, shape), given in zip(expected.items(), (kernel, bias, query), strict=True):
        if list(given.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {list(given.shape)}")
