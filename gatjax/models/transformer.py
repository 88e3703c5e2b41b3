"""Graph transformers: blocks of attention beyond neighbours."""

from collections.abc import Callable
from typing import Any, Literal, Unpack

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from gatjax.attention.readout import Pool
from gatjax.layers.all_nodes import GraphLinearAttention, GraphSelfAttention
from gatjax.layers.checks import check_sizes
from gatjax.layers.controls import NodeLinear
from gatjax.layers.dot_product import DotProductConv, EdgesIn
from gatjax.layers.dropout import Dropout, DropoutRates
from gatjax.layers.gat import GATConv
from gatjax.layers.options import listed
from gatjax.layers.pooling import GraphReadout
from gatjax.layers.transformer import Norm, Order, TransformerBlock
from gatjax.models.options import BlockOptions
from gatjax.models.stack import Stack

Whole = Literal["full", "linear"]


def stack_of_blocks(
    parts: Callable[[dict[str, Any]], tuple[Any, Any]],
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 4,
    num_heads: int = 4,
    feed_forward: int = 2,
    norm: Norm,
    order: Order,
    dropout_rate: float | DropoutRates = 0.0,
    pool: Pool | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> Stack:
    """Embedding, blocks, and an output of nodes or graphs.

    Args:
      parts: from the options of a layer to the layer on edges and that on all nodes of a block.
      in_features, out_features, hidden_features, num_layers, num_heads, feed_forward, norm, order, dropout_rate, pool,
        dtype, param_dtype, rngs: as in `GraphTransformer`.
    """
    check_sizes(num_layers=num_layers, hidden_features=hidden_features)
    rates = Dropout(dropout_rate, rngs=rngs).rates
    numbers: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
    inner = {"in_features": hidden_features, "out_features": hidden_features}
    inner |= {"num_heads": num_heads, "dropout_rate": rates._replace(inputs=0.0), **numbers}
    outer: dict[str, Any] = {"feed_forward": feed_forward, "norm": norm, "order": order}
    outer |= {"dropout_rate": rates.inputs, **numbers}
    embed = NodeLinear(in_features, hidden_features, **numbers)
    blocks = [TransformerBlock(*parts(inner), hidden_features, **outer) for _ in range(num_layers)]
    last = output_layer(hidden_features, out_features, pool, numbers)
    return Stack([*blocks, last], activation=_as_it_is, embed=embed)


def output_layer(
    in_features: int, out_features: int, pool: Pool | None, numbers: dict[str, Any]
) -> nnx.Module:
    """A linear map of each node, or of each graph where there is a pool."""
    if pool is None:
        return NodeLinear(in_features, out_features, **numbers)
    return GraphReadout(in_features, out_features, pool=pool, **numbers)


def _as_it_is(x: Array) -> Array:
    return x


@listed(BlockOptions, stack_of_blocks)
def GraphTransformer(
    in_features: int,
    out_features: int,
    *,
    edge_features: int | None = None,
    edges_in: EdgesIn = "key_value",
    norm: Norm = "layer",
    order: Order = "pre",
    rngs: nnx.Rngs,
    **options: Unpack[BlockOptions],
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
    attend = lambda shape: DotProductConv(**shape, edge_features=edge_features, edges_in=edges_in)
    parts = lambda shape: (None, attend(shape))
    return stack_of_blocks(
        parts, in_features, out_features, norm=norm, order=order, rngs=rngs, **options
    )


@listed(BlockOptions, stack_of_blocks)
def GPS(
    in_features: int,
    out_features: int,
    *,
    local: Callable[..., nnx.Module] = GATConv,
    whole: Whole | None = "full",
    edge_features: int | None = None,
    max_nodes: int | None = None,
    norm: Norm = "batch",
    order: Order = "post",
    rngs: nnx.Rngs,
    **options: Unpack[BlockOptions],
) -> Stack:
    """A layer on the graph's edges beside attention of every node to all nodes, block by block.

    Outputs are `model(graph).nodes`, or `model(graph).globals` where there is a `pool`. The graph brings no more than
    its own edges, and its self-loops where the local layer wants them.

    Args:
      in_features, out_features, hidden_features, num_layers, num_heads, feed_forward, norm, order, dropout_rate, pool,
        dtype, param_dtype, rngs: as in `GraphTransformer`.
      local: the layer on edges, `local(in_features, out_features, num_heads=..., edge_features=..., rngs=rngs)`.
      whole: "full", `GraphSelfAttention`; "linear", `GraphLinearAttention`, which drops no weights; or None, a control:
        what the same blocks do on neighbours alone.
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
    if whole not in ("full", "linear", None):
        raise ValueError(f'whole must be "full", "linear" or None, got {whole!r}')
    edges = {} if edge_features is None else {"edge_features": edge_features}

    def parts(shape: dict[str, Any]) -> tuple[Any, Any]:
        on_edges = local(**shape, **edges)
        if whole is None:
            return on_edges, None
        if whole == "full":
            return on_edges, GraphSelfAttention(**shape, max_nodes=max_nodes)
        rates = shape["dropout_rate"]._replace(attention=0.0)
        return on_edges, GraphLinearAttention(**{**shape, "dropout_rate": rates})

    return stack_of_blocks(
        parts, in_features, out_features, norm=norm, order=order, rngs=rngs, **options
    )
