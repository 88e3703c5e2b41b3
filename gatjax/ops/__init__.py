"""Arrays in, arrays out: knows no graph and no parameters."""

from gatjax.ops.dropout import DropoutMask as DropoutMask
from gatjax.ops.dropout import keep_mask as keep_mask
from gatjax.ops.features import dot_features as dot_features
from gatjax.ops.features import sum_features as sum_features
from gatjax.ops.segment import segment_hardmax as segment_hardmax
from gatjax.ops.segment import segment_max as segment_max
from gatjax.ops.segment import segment_mean as segment_mean
from gatjax.ops.segment import segment_softmax as segment_softmax
from gatjax.ops.segment import segment_straight_through as segment_straight_through
from gatjax.ops.segment import segment_sum as segment_sum
