"""Arrays in, arrays out: knows no graph and no parameters."""

from gatjax.ops.dropout import DropoutMask, RowNumbers, keep_mask
from gatjax.ops.features import dot_features, sum_features
from gatjax.ops.segment import (
    segment_entmax,
    segment_hardmax,
    segment_max,
    segment_mean,
    segment_softmax,
    segment_sparsemax,
    segment_straight_through,
    segment_sum,
    segment_top_k,
)

__all__ = [
    "DropoutMask",
    "RowNumbers",
    "dot_features",
    "keep_mask",
    "segment_entmax",
    "segment_hardmax",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sparsemax",
    "segment_straight_through",
    "segment_sum",
    "segment_top_k",
    "sum_features",
]
