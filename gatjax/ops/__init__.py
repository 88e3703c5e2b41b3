"""Arrays in, arrays out: knows no graph and no parameters."""

from gatjax.ops.dropout import DropoutMask, keep_mask
from gatjax.ops.features import dot_features, sum_features
from gatjax.ops.segment import (
    segment_hardmax,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_straight_through,
    segment_sum,
)

__all__ = [
    "DropoutMask",
    "dot_features",
    "keep_mask",
    "segment_hardmax",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_straight_through",
    "segment_sum",
    "sum_features",
]
