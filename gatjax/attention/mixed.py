"""Attention mixed with what is known of the edges: molecules."""

from jaxtyping import Array, ArrayLike, Float
from jraph import GraphsTuple

from gatjax.attention.attend import graph_attention
from gatjax.attention.mixture import MIXTURE_WEIGHTS, Kernel, Mixture, MixtureWeights
from gatjax.attention.pairs import mix, on_pairs, product
from gatjax.attention.scores import dot_product_score
from gatjax.attention.steps import Normalize, Temperature
from gatjax.graph.check import EdgeMask, EdgeWeight, check_lengths
from gatjax.graph.sizes import num_edges
from gatjax.ops.blocks import BlockSize
from gatjax.ops.dropout import DropoutMask


def mixed_attention(
    graph: GraphsTuple,
    query: Float[ArrayLike, "N H C"],
    key: Float[ArrayLike, "M H C"],
    value: Float[ArrayLike, "M H V"],
    *,
    distance: Float[ArrayLike, "E"] | None = None,
    adjacency: Float[ArrayLike, "E"] | None = None,
    weights: MixtureWeights = MIXTURE_WEIGHTS,
    kernel: Kernel = "exp",
    scale: float | None = None,
    edge_mask: EdgeMask = None,
    edge_weight: EdgeWeight = None,
    multiplier: Float[ArrayLike, "E H"] | DropoutMask | None = None,
    normalize: Normalize = "softmax",
    temperature: Temperature = 1.0,
    block_size: BlockSize = "auto",
) -> Float[Array, "N H V"]:
    """Attention that knows how long its edges are and which of them are bonds.

    ```
    p_ij  = λ_a softmax_{j -> i}(scale · q_i · k_j / T) + λ_d g(D_ij) + λ_g A_ij / (Σ_{k -> i} A_ik + 1e-6)
    out_i = Σ_{j -> i} w_ij m_ij p_ij v_j
    ```

    with g(D) = exp(-D), or the softmax of -D over the edges of the receiver. On any graph; a molecule of the paper is
    fully connected, self-edges included.

    Args:
      graph: gives the edges.
      query: of the receivers, `[N, H, C]`.
      key, value: of the senders, `[M, H, C]` and `[M, H, V]`.
      distance: D, `[E]`, from 0 on; None where its weight is 0.
      adjacency: A, `[E]`, from 0 on, such as 1 for a bond and for an atom with itself; None where its weight is 0.
      weights: λ of attention, distance and adjacency: three numbers that sum to 1, or an array `[3]` of any numbers,
        such as a parameter.
      kernel: "exp" or "softmax", which is g.
      scale: factor of the logits; `1/sqrt(C)` by default.
      edge_mask: edges that take part, `[E]`; all by default. The others are in no sum of the three parts.
      edge_weight, multiplier, normalize, temperature, block_size: as in `edge_attention`; w and m act on the mixture.

    Returns:
      `[N, H, V]`; 0 for a node without incoming edges.

    Raises:
      ValueError: as `Mixture`, and sizes that disagree.

    >>> import jax.numpy as jnp
    >>> from gatjax.graph import build_graph
    >>> graph = build_graph([0, 1], [1, 1], num_nodes=2)
    >>> rows, value = jnp.zeros((2, 1, 1)), jnp.array([[[10.0]], [[1.0]]])
    >>> distance, adjacency = jnp.array([jnp.log(2.0), 0.0]), jnp.array([0.0, 1.0])
    >>> edges = {"distance": distance, "adjacency": adjacency, "weights": (0.5, 0.5, 0.0)}
    >>> mixed_attention(graph, rows, rows, value, **edges)[1].tolist()
    [[5.75]]

    Maziarka et al., Molecule Attention Transformer, 2020, whose equation has A; its program divides A by its rows, as
    here. Where g is exp, and where a row of A is 0, the weights of a receiver do not sum to 1.
    """
    check_lengths(num_edges(graph), distance=distance, adjacency=adjacency)
    known = {"distance": distance, "adjacency": adjacency}
    return graph_attention(
        graph,
        _query_key,
        _value,
        scale,
        query,
        {"key": key, "value": value},
        edge_mask=edge_mask,
        edge_weight=edge_weight,
        multiplier=multiplier,
        normalize=Mixture(**known, weights=weights, kernel=kernel, normalize=normalize),
        temperature=temperature,
        block_size=block_size,
    )


def _products(scale, r, s, e):
    return product(r, s["key"]) * (r.shape[-1] ** -0.5 if scale is None else scale)


def _values(p, scale, r, s, e):
    return mix(p, s["value"])


@on_pairs(_products)
def _query_key(scale, r, s, e):
    return dot_product_score(r, s["key"], scale=scale)


@on_pairs(_values)
def _value(scale, r, s, e):
    return s["value"]
