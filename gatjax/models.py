"""Stacks of layers, ready to train.

Every model maps a graph to the same graph with new node features: class logits [N, out_features], or
node embeddings. `pool_nodes` turns these into one row per graph and `score_pairs` into one number per
pair of nodes, for prediction on graphs and on edges.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from jraph import GraphsTuple

from gatjax.attention import edge_attention
from gatjax.gaan import NEGATIVE_SLOPE, GaANConv
from gatjax.graph import num_nodes, owners
from gatjax.heads import Dropout, DropoutRates, Mask
from gatjax.layers import DotProductConv, GATConv, GATv2Conv, GCNConv, MeanConv, NodeLinear
from gatjax.scores import dot_product_score
from gatjax.segment import segment_max, segment_mean, segment_sum

_AFTER_LAYERS = DropoutRates(inputs=0.1)

# What the linear layers of a model share with its message-passing layers.
_LINEAR_OPTIONS = ("use_bias", "kernel_init", "dtype", "param_dtype", "rngs")

_POOLS = {"mean": segment_mean, "sum": segment_sum, "max": segment_max}


class Stack(nnx.Module):
    """Layers one after the other, with an activation and an optional normalisation between them.

    ```
    h^(0)   = embed(h)                                         where there is one, else h
    h^(l+1) = dropout(activation(norm(layer_l(h^(l)))))        the last layer alone, without any
    ```

    Args:
      layers: modules GraphsTuple -> GraphsTuple, as in `gatjax.layers`.
      norms: one module per gap between layers, or None; rows in, rows out.
      activation: a function defined at module level; a lambda per model would compile every model anew.
      embed: a module like the layers, before them; nothing comes between it and the first.
      dropout: of the features that leave a layer, by its rate of `inputs`, or None.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> rngs = nnx.Rngs(0)
    >>> model = Stack([GATConv(3, 8, num_heads=2, rngs=rngs), GATConv(8, 5, rngs=rngs)])
    >>> model(graph).nodes.shape, [alpha.shape for alpha in model.attention(graph)]
    ((3, 5), [(2, 2), (2, 1)])
    """

    def __init__(
        self,
        layers: Sequence[Any],
        *,
        norms: Sequence[Callable[[Array], Array]] | None = None,
        activation: Callable[[Array], Array] = jax.nn.elu,
        embed: Any = None,
        dropout: Dropout | None = None,
    ):
        if norms is not None and len(norms) != len(layers) - 1:
            raise ValueError(
                f"{len(layers)} layers have {len(layers) - 1} gaps, got {len(norms)} norms"
            )
        self.layers = nnx.List(layers)
        self.norms = None if norms is None else nnx.List(norms)
        self.activation = activation
        self.embed = embed
        self.dropout = dropout

    def __call__(
        self,
        graph: GraphsTuple,
        *,
        edge_mask: Mask = None,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> GraphsTuple:
        *hidden, last = self.layers
        graph = graph if self.embed is None else self.embed(graph)
        for index, layer in enumerate(hidden):
            graph = layer(graph, edge_mask=edge_mask, deterministic=deterministic, rngs=rngs)
            graph = self._between(index, graph)
            if self.dropout is not None:
                keys = self.dropout.keys(deterministic, rngs)
                graph = graph._replace(nodes=self.dropout.inputs(graph, keys))
        return last(graph, edge_mask=edge_mask, deterministic=deterministic, rngs=rngs)

    def attention(
        self, graph: GraphsTuple, *, edge_mask: Mask = None
    ) -> tuple[Float[Array, "E H"], ...]:
        """The attention weights of every layer that has them, aligned with the graph's edges.

        Dropout is off, and a normalisation with running statistics uses them and leaves them alone.
        """
        weights = []
        graph = graph if self.embed is None else self.embed(graph)
        for index, layer in enumerate(self.layers):
            if hasattr(layer, "attention"):
                weights.append(layer.attention(graph, edge_mask=edge_mask))
            if index < len(self.layers) - 1:
                graph = layer(graph, edge_mask=edge_mask, deterministic=True)
                graph = self._between(index, graph, evaluate=True)
        return tuple(weights)

    def _between(self, index: int, graph: GraphsTuple, *, evaluate: bool = False) -> GraphsTuple:
        nodes = jnp.asarray(graph.nodes)
        if self.norms is not None:
            norm = self.norms[index]
            if evaluate and hasattr(norm, "use_running_average"):
                norm = nnx.view(norm, use_running_average=True)
            nodes = norm(nodes)
        return graph._replace(nodes=self.activation(nodes))


def _stack(
    layer: Callable[..., nnx.Module],
    in_features: int,
    out_features: int,
    *,
    hidden_features: int,
    num_layers: int,
    hidden: dict[str, Any],
    last: dict[str, Any],
    norm: Callable[..., nnx.Module] | None,
    activation: Callable[[Array], Array],
    rngs: nnx.Rngs,
    **shared: Any,
) -> Stack:
    """`num_layers` layers: hidden ones of one width, and a last one."""
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    widths = [in_features] + [hidden_features] * (num_layers - 1)
    layers = [layer(width, hidden_features, **hidden, **shared, rngs=rngs) for width in widths[:-1]]
    layers.append(layer(widths[-1], out_features, **last, **shared, rngs=rngs))
    norms = None if norm is None else [norm(hidden_features, rngs=rngs) for _ in widths[1:]]
    return Stack(layers, norms=norms, activation=activation)


def _attention_model(
    layer: Callable[..., nnx.Module],
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    num_heads: int = 8,
    out_heads: int = 1,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.elu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    return _stack(
        layer,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={"num_heads": num_heads, "combine": "concat"},
        last={"num_heads": out_heads, "combine": "mean"},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )


def GAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """Graph attention network: hidden layers of concatenated heads, an output layer of averaged heads.

    With the defaults and `dropout_rate=DropoutRates(projected=0.6, attention=0.6, head_inputs=0.6)` it is
    the network of the paper for citation graphs: 8 heads of 8 features, ELU, one output head (8 for
    Pubmed: `out_heads=8`). The graph must bring its self-loops (`add_self_loops`).

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the embedding.
      rngs: random keys.
      **options: `hidden_features=64` (all heads together), `num_layers=2`, `num_heads=8`, `out_heads=1`,
        `dropout_rate=0.0`, `norm=None` (called as `norm(features, rngs=rngs)`, such as `nnx.LayerNorm`),
        `activation=jax.nn.elu`, and those of `GATConv`.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> GAT(3, 5, rngs=nnx.Rngs(0))(graph).nodes.shape
    (3, 5)

    Veličković et al., Graph Attention Networks, ICLR 2018.
    """
    return _attention_model(GATConv, in_features, out_features, rngs=rngs, **options)


def GATv2(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with dynamic attention; options as there, and those of `GATv2Conv`.

    Brody, Alon, Yahav, How Attentive are Graph Attention Networks?, ICLR 2022.
    """
    return _attention_model(GATv2Conv, in_features, out_features, rngs=rngs, **options)


def DotProductGAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with scaled dot products; options as there, and those of `DotProductConv`."""
    return _attention_model(DotProductConv, in_features, out_features, rngs=rngs, **options)


def ConstGAT(in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Any) -> Stack:
    """As `GAT`, with attention held uniform: the paper's control; options as there, and those of `MeanConv`."""
    return _attention_model(MeanConv, in_features, out_features, rngs=rngs, **options)


def GaAN(
    in_features: int,
    out_features: int,
    *,
    embed_features: int = 64,
    hidden_features: int = 128,
    num_layers: int = 2,
    num_heads: int = 8,
    dropout_rate: float | DropoutRates = _AFTER_LAYERS,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    """Gated attention network: an embedding, `GaANConv` layers with a LeakyReLU, a linear layer to the classes.

    By default it is the network of the paper for PPI. The graph needs no self-loops.

    Args:
      in_features: width F of the nodes.
      out_features: number of classes, or width of the output.
      embed_features: width of the embedding, a linear layer.
      hidden_features: width of every `GaANConv`.
      num_layers: how many there are.
      num_heads: H of each.
      dropout_rate: of the attention weights, or `DropoutRates`; of these, `inputs` acts on what leaves each GaANConv,
        after the activation. The paper's Reddit network has `DropoutRates(inputs=0.1, attention=0.5)`.
      rngs: random keys.
      **layer_options: those of `GaANConv`, such as `gate="code"` and `scale="linear"` for the authors' program.

    >>> from gatjax.graph import build_graph
    >>> model = GaAN(3, 5, rngs=nnx.Rngs(0))
    >>> graph = build_graph([0, 1], [2, 2], jnp.eye(3))
    >>> model(graph).nodes.shape, [alpha.shape for alpha in model.attention(graph)]
    ((3, 5), [(2, 8), (2, 8)])

    Zhang et al., GaAN: Gated Attention Networks for Learning on Large and Spatiotemporal Graphs, UAI 2018.
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    dropout = Dropout(dropout_rate, rngs=rngs)
    options = {"dropout_rate": dropout.rates._replace(inputs=0.0), **layer_options, "rngs": rngs}
    widths = [embed_features] + [hidden_features] * num_layers
    linear = {name: options[name] for name in _LINEAR_OPTIONS if name in options}
    layers = [
        GaANConv(before, after, num_heads=num_heads, **options)
        for before, after in pairwise(widths)
    ]
    return Stack(
        [*layers, NodeLinear(widths[-1], out_features, **linear)],
        activation=_leaky_relu,
        embed=NodeLinear(in_features, embed_features, **linear),
        dropout=dropout,
    )


def _leaky_relu(x: Array) -> Array:
    return jax.nn.leaky_relu(x, NEGATIVE_SLOPE)


def GCN(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    """Graph convolutional network: `GCNConv` layers with a ReLU; the graph must bring its self-loops.

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """
    return _stack(
        GCNConv,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={},
        last={},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )


def MLP(
    in_features: int,
    out_features: int,
    *,
    hidden_features: int = 64,
    num_layers: int = 2,
    dropout_rate: float | DropoutRates = 0.0,
    norm: Callable[..., nnx.Module] | None = None,
    activation: Callable[[Array], Array] = jax.nn.relu,
    rngs: nnx.Rngs,
    **layer_options: Any,
) -> Stack:
    """Multilayer perceptron on each node alone: what the features tell without the graph.

    Of `dropout_rate` it uses `DropoutRates.inputs`; it has no attention.
    """
    return _stack(
        NodeLinear,
        in_features,
        out_features,
        hidden_features=hidden_features,
        num_layers=num_layers,
        hidden={},
        last={},
        norm=norm,
        activation=activation,
        dropout_rate=dropout_rate,
        rngs=rngs,
        **layer_options,
    )


def pool_nodes(
    graph: GraphsTuple,
    how: Literal["mean", "sum", "max"] = "mean",
    *,
    node_mask: Bool[ArrayLike, "N"] | None = None,
) -> Float[Array, "G *rest"]:
    """One row per graph of a batch.

    ```
    y_g = mean, sum or max of h_i over the nodes i of graph g
    ```

    Args:
      graph: a batch of G graphs.
      how: "mean", "sum" or "max".
      node_mask: nodes that count, `[N]`; all by default.

    Returns:
      `[G, ...]`; 0 for a graph without nodes.

    Raises:
      ValueError: unknown `how`.

    >>> from gatjax.graph import build_graph
    >>> pool_nodes(build_graph([], [], jnp.array([[1.0], [3.0]]))).tolist()
    [[2.0]]
    """
    if how not in _POOLS:
        raise ValueError(f"how must be one of {list(_POOLS)}, got {how!r}")
    mask = None if node_mask is None else jnp.asarray(node_mask)
    num_graphs = len(graph.n_node)
    return _POOLS[how](
        jnp.asarray(graph.nodes), owners(graph.n_node, num_nodes(graph)), num_graphs, mask=mask
    )


def attention_pool(
    graph: GraphsTuple,
    query: Float[ArrayLike, "*G F"],
    *,
    node_mask: Bool[ArrayLike, "N"] | None = None,
    scale: float | Array | None = None,
) -> Float[Array, "G F"]:
    """One row per graph of a batch: the nodes, weighted by how well each answers a query.

    ```
    y_g = Σ_{i in g} softmax_{i in g}(scale · q_g · h_i) h_i
    ```

    Args:
      graph: a batch of G graphs, nodes h `[N, F]`.
      query: q, `[F]` for all graphs, such as a parameter, or `[G, F]`, such as their globals.
      node_mask: nodes that count, `[N]`; all by default.
      scale: factor of the logits; `1/sqrt(F)` by default.

    Returns:
      `[G, F]`; 0 for a graph without nodes.

    Raises:
      ValueError: a query of another width, or not one per graph.

    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([], [], jnp.array([[1.0], [3.0]]))
    >>> attention_pool(graph, jnp.array([0.0])).tolist()
    [[2.0]]
    """
    nodes, query = jnp.asarray(graph.nodes), jnp.asarray(query)
    num_graphs, width = len(graph.n_node), nodes.shape[-1]
    if query.shape not in ((width,), (num_graphs, width)):
        raise ValueError(
            f"query must be [F] = [{width}] or [G, F] = [{num_graphs}, {width}], got {list(query.shape)}"
        )
    queries, rows = jnp.broadcast_to(query, (num_graphs, width))[:, None, :], nodes[:, None, :]
    ids = jnp.arange(len(nodes)), owners(graph.n_node, num_nodes(graph)), num_graphs
    pooled = edge_attention(_query_row, _row, scale, queries, rows, None, *ids, edge_mask=node_mask)
    return pooled[:, 0, :]


def _query_row(scale, r, s, e):
    return dot_product_score(r, s, scale=scale)


def _row(scale, r, s, e):
    return s


def score_pairs(
    nodes: Float[ArrayLike, "N C"], senders: Int[ArrayLike, "P"], receivers: Int[ArrayLike, "P"]
) -> Float[Array, "P"]:
    """One logit per pair of nodes, the dot product of their embeddings: does an edge join them?

    ```
    y_ij = h_i · h_j
    ```

    >>> score_pairs(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([0]), jnp.array([1])).tolist()
    [11.0]
    """
    nodes = jnp.asarray(nodes)
    for name, ids in {"senders": senders, "receivers": receivers}.items():
        if (
            not isinstance(ids, Tracer)
            and np.size(ids)
            and not 0 <= np.min(ids) <= np.max(ids) < len(nodes)
        ):
            raise ValueError(
                f"{name} must lie in [0, {len(nodes)}), got {np.min(ids)} to {np.max(ids)}"
            )
    return (nodes[senders] * nodes[receivers]).sum(-1)
