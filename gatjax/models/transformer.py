"""Graph transformers: blocks of attention beyond neighbours."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from gatjax.attention.readout import Pool
from gatjax.layers.all_nodes import GraphLinearAttention, GraphSelfAttention
from gatjax.layers.controls import NodeLinear
from gatjax.layers.dot_product import DotProductConv, EdgesIn
from gatjax.layers.gat import GATConv
from gatjax.layers.parts import Dropout, DropoutRates, check_sizes
from gatjax.layers.pooling import GraphReadout
from gatjax.layers.transformer import Norm, Order, TransformerBlock
from gatjax.models.stack import Stack

Whole = Literal["full", "linear"]


def GraphTransformer(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 4,
    num_heads: int = 4,
    edge_features: int | None = None,
    edges_in: EdgesIn = "key_value",
    feed_forward: int = 2,
    norm: Norm = "layer",
    order: Order = "pre",
    dropout_rate: float | DropoutRates = 0.0,
    pool: Pool | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Stack:
    """Graph transformer: a linear embedding, blocks of dot-product attention over the graph's edges, a linear output.

    What it is depends on the edges: those of the graph; all pairs, `connect_all`, and distances for features with
    `edges_in="logit"`, which is Graphormer; those of `add_expander` and `add_virtual_nodes`, and their types for
    features, which is Exphormer. Outputs are `model(graph).nodes`, or `model(graph).globals` where there is a `pool`.

    Args:
      in_features: width F of the nodes.
      out_features: width of the output.
      hidden_features: width of every block.
      num_layers: how many blocks.
      num_heads: H of each.
      edge_features, edges_in: as in `DotProductConv`.
      feed_forward, norm, order: as in `TransformerBlock`.
      dropout_rate: of the attention weights, or `DropoutRates`, of which `inputs` acts on what each part of a block
        adds.
      pool: None for an output of each node; "mean", "sum", "max" or "first" for one of each graph, in `globals`.
      dtype, param_dtype, rngs: as in `GATConv`.

    >>> from gatjax.graph import build_graph, connect_all, edge_types
    >>> graph = edge_types(connect_all(build_graph([0, 1], [1, 2], jnp.eye(3))))
    >>> model = GraphTransformer(3, 2, edge_features=5, edges_in="logit", rngs=nnx.Rngs(0))
    >>> model(graph).nodes.shape, model.attention(graph)[0].shape
    ((3, 2), (9, 4))

    Dwivedi, Bresson, A Generalization of Transformer Networks to Graphs, 2021; Ying et al., NeurIPS 2021; Shirzad et
    al., ICML 2023.
    """
    rates = Dropout(dropout_rate, rngs=rngs).rates

    def block(numbers: dict[str, Any]) -> TransformerBlock:
        attention = DotProductConv(
            hidden_features,
            hidden_features,
            num_heads=num_heads,
            edge_features=edge_features,
            edges_in=edges_in,
            dropout_rate=rates._replace(inputs=0.0),
            **numbers,
        )
        parts = None, attention, hidden_features
        options: Any = {"feed_forward": feed_forward, "norm": norm, "order": order}
        return TransformerBlock(*parts, **options, dropout_rate=rates.inputs, **numbers)

    numbers = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    return _stack(in_features, out_features, hidden_features, num_layers, pool, block, numbers)


def GPS(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 4,
    num_heads: int = 4,
    local: Callable[..., nnx.Module] = GATConv,
    whole: Whole = "full",
    edge_features: int | None = None,
    max_nodes: int | None = None,
    feed_forward: int = 2,
    norm: Norm = "batch",
    dropout_rate: float | DropoutRates = 0.0,
    pool: Pool | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Stack:
    """A layer on the graph's edges beside attention of every node to all nodes, block by block.

    Outputs are `model(graph).nodes`, or `model(graph).globals` where there is a `pool`. The graph brings no more than
    its own edges, and its self-loops where the local layer wants them.

    Args:
      in_features, out_features, hidden_features, num_layers, num_heads, feed_forward, norm, dropout_rate, pool, dtype,
        param_dtype, rngs: as in `GraphTransformer`.
      local: the layer on edges, `local(in_features, out_features, num_heads=..., edge_features=..., rngs=rngs)`.
      whole: "full", `GraphSelfAttention`, or "linear", `GraphLinearAttention`, which drops no weights.
      edge_features: of the layer on edges.
      max_nodes: as in `graph_self_attention`, of "full".

    Raises:
      ValueError: an unknown `whole`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 2], jnp.eye(3))
    >>> GPS(3, 2, pool="mean", rngs=nnx.Rngs(0))(graph).globals.shape
    (1, 2)

    Rampášek et al., Recipe for a General, Powerful, Scalable Graph Transformer, NeurIPS 2022.
    """
    if whole not in ("full", "linear"):
        raise ValueError(f'whole must be "full" or "linear", got {whole!r}')
    rates = Dropout(dropout_rate, rngs=rngs).rates
    edges = {} if edge_features is None else {"edge_features": edge_features}

    def block(numbers: dict[str, Any]) -> TransformerBlock:
        shape: dict[str, Any] = {"in_features": hidden_features, "out_features": hidden_features}
        shape |= {"num_heads": num_heads, **numbers}
        inside = rates._replace(inputs=0.0)
        on_edges = local(**shape, dropout_rate=inside, **edges)
        on_all = (
            GraphSelfAttention(**shape, dropout_rate=inside, max_nodes=max_nodes)
            if whole == "full"
            else GraphLinearAttention(**shape, dropout_rate=inside._replace(attention=0.0))
        )
        options: Any = {"feed_forward": feed_forward, "norm": norm}
        parts = on_edges, on_all, hidden_features
        return TransformerBlock(*parts, **options, dropout_rate=rates.inputs, **numbers)

    numbers = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    return _stack(in_features, out_features, hidden_features, num_layers, pool, block, numbers)


def _stack(
    in_features: int,
    out_features: int,
    hidden_features: int,
    num_layers: int,
    pool: Pool | None,
    block: Callable[[dict[str, Any]], nnx.Module],
    numbers: dict[str, Any],
) -> Stack:
    """Embedding, blocks, and an output of nodes or graphs."""
    check_sizes(num_layers=num_layers, hidden_features=hidden_features)
    embed = NodeLinear(in_features, hidden_features, **numbers)
    blocks = [block(numbers) for _ in range(num_layers)]
    if pool is None:
        last: nnx.Module = NodeLinear(hidden_features, out_features, **numbers)
    else:
        last = GraphReadout(hidden_features, out_features, pool=pool, **numbers)
    return Stack([*blocks, last], activation=_as_it_is, embed=embed)


def _as_it_is(x: Array) -> Array:
    return x
