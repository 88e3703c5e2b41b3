"""Stacks of any number of GAT layers, and what is done against their depth."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jraph import GraphsTuple

from gatjax import GATConv

Norm = Literal["none", "LayerNorm", "PairNorm"]


class PairNorm(nnx.Module):
    """Nodes centred, and scaled to a mean square norm of 1: Zhao, Akoglu, PairNorm, ICLR 2020."""

    def __call__(self, nodes: jax.Array) -> jax.Array:
        centred = nodes - nodes.mean(0, keepdims=True)
        return centred / jnp.sqrt(1e-6 + jnp.square(centred).sum(1).mean())


class Hidden(nnx.Module):
    """A GAT layer, and the norm behind it."""

    def __init__(self, in_features: int, features: int, norm: Norm, rngs: nnx.Rngs):
        self.attend = GATConv(in_features, features, rngs=rngs)
        norms = {
            "none": lambda: None,
            "LayerNorm": lambda: nnx.LayerNorm(features, rngs=rngs),
            "PairNorm": PairNorm,
        }
        self.norm = nnx.data(norms[norm]())

    def __call__(self, graph: GraphsTuple) -> jax.Array:
        nodes = jnp.asarray(self.attend(graph).nodes)
        return nodes if self.norm is None else self.norm(nodes)


class Deep(nnx.Module):
    """GAT layers of one head with ReLU between them; those between the first and the last are one stacked module.

    ```
    H_1 = ReLU(h_1),   h_1 = norm(GAT(X))
    H_l = ReLU((1 - β) h_l + α H_{l-1} + β h_1),   h_l = norm(GAT(H_{l-1}))
    ```

    α of a residual and β of an initial residual come with the graph, `globals` [1, 2], so that one compiled program
    serves all.
    """

    def __init__(self, widths: tuple[int, int, int], depth: int, norm: Norm, rngs: nnx.Rngs):
        first, hidden, last = widths
        self.first = Hidden(first, hidden, norm, rngs)
        self.last = GATConv(hidden, last, rngs=rngs)
        self.between = nnx.data(None)
        if depth > 2:

            @nnx.split_rngs(splits=depth - 2)
            @nnx.vmap
            def make(rngs: nnx.Rngs) -> Hidden:
                return Hidden(hidden, hidden, norm, rngs)

            self.between = make(rngs)

    def __call__(self, graph: GraphsTuple) -> GraphsTuple:
        return self.last(graph._replace(nodes=self.hidden(graph)))

    def hidden(self, graph: GraphsTuple) -> jax.Array:
        """What enters the last layer."""
        first = self.first(graph)
        if self.between is None:
            return nnx.relu(first)
        residual, initial = jnp.asarray(graph.globals)[0]

        def step(nodes: jax.Array, layer: Hidden) -> jax.Array:
            out = layer(graph._replace(nodes=nodes))
            return nnx.relu((1 - initial) * out + residual * nodes + initial * first)

        scan = nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return scan(nnx.relu(first), self.between)


def balance(model: Deep, rngs: nnx.Rngs) -> None:
    """Start without attention, and with weights by which signals and gradients keep their size through all layers.

    ```
    W_l = [[U, -U], [-U, U]],  U orthogonal:  ReLU lets x and -x pass side by side, so that nothing is lost
    ```

    What enters a unit and what leaves it have the squared norm 2. Mustafa, Bojchevski, Burkholz, Are GATs Out of
    Balance?, NeurIPS 2023.
    """
    orthogonal = nnx.initializers.orthogonal()
    draw = lambda rows, columns: jnp.asarray(orthogonal(rngs.params(), (rows, columns)))
    side_by_side = lambda block: jnp.concatenate([block, -block], 1)
    above = lambda block: jnp.concatenate([block, -block], 0)
    scaled = lambda kernel, axis: (
        kernel * jnp.sqrt(2) / jnp.linalg.norm(kernel, axis=axis, keepdims=True)
    )
    first, last = model.first.attend, model.last
    inputs, _, features = first.projection.kernel.shape
    outputs, half = last.projection.kernel.shape[2], features // 2
    kernels = [
        (first, scaled(side_by_side(draw(inputs, half)), 0)),
        (last, scaled(above(draw(half, outputs)), 1)),
    ]
    if model.between is not None:
        layers = range(model.between.attend.projection.kernel.shape[0])
        blocks = [above(side_by_side(draw(half, half))) for _ in layers]
        kernels.append((model.between.attend, jnp.stack(blocks)))
    for layer, kernel in kernels:
        layer.projection.kernel[...] = jnp.expand_dims(kernel, -2)
        for vector in (layer.receiver_vector, layer.sender_vector):
            vector[...] = jnp.zeros_like(vector[...])
