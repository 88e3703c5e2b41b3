"""Models without attention: what the graph, and what the features alone, are worth."""

from typing import Unpack

from flax import nnx

from gatjax.layers.controls import GCNConv, NodeLinear
from gatjax.layers.inputs import InFeatures
from gatjax.layers.options import listed
from gatjax.models.options import GraphOptions, StackOptions
from gatjax.models.stack import Stack, build_stack


@listed(GraphOptions, build_stack, GCNConv)
def GCN(
    in_features: InFeatures, out_features: int, *, rngs: nnx.Rngs, **options: Unpack[GraphOptions]
) -> Stack:
    """Graph convolutional network: `GCNConv` layers with a ReLU; the graph must bring its self-loops.

    The options are those of `GAT` that do not speak of heads, and those of `GCNConv`.

    Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017.
    """
    return build_stack(GCNConv, in_features, out_features, rngs=rngs, **options)


@listed(StackOptions, build_stack, NodeLinear)
def MLP(
    in_features: int, out_features: int, *, rngs: nnx.Rngs, **options: Unpack[StackOptions]
) -> Stack:
    """Multilayer perceptron on each node alone: what the features tell without the graph.

    Of `dropout_rate` it uses `DropoutRates.inputs`; it has no attention. The other options are those of `GCN`.
    """
    return build_stack(NodeLinear, in_features, out_features, rngs=rngs, **options)
