"""Training: losses, early stopping, and many seeds at full speed. It knows no model and sees no test label.

`train` takes three pure functions and arrays:

```
initialise(key)                       -> parameters
loss(parameters, key, data, labels)   -> scalar                    of one training step, dropout on
validate(parameters, data, labels)    -> Metrics(loss, accuracy)   dropout off
```

and runs one training per seed. `data` is what all seeds share, such as the graph; `labels` are those of one seed, for
training and validation. A seed's whole state is one pytree, `TrainState`.

Where a step changes more than parameters, such as the averages of a `BatchNorm`, `initialise` draws
`Variables(parameters, statistics)`, and the loss comes with the statistics after the step: `(scalar, statistics)`.
"""

from gatjax.training.checkpoint import CheckpointError, Checkpoints
from gatjax.training.graphs import GraphPrediction, graph_prediction
from gatjax.training.links import (
    LinkPrediction,
    Links,
    all_pairs_cross_entropy,
    area_under_roc,
    average_precision,
    balanced_cross_entropy,
    draw_pairs,
    has_edge,
    link_prediction,
)
from gatjax.training.loop import (
    History,
    Trained,
    Training,
    TrainState,
    Variables,
    advance,
    advance_together,
    start,
)
from gatjax.training.losses import Labels, Metrics, softmax_cross_entropy
from gatjax.training.memory import estimate_memory
from gatjax.training.pure import (
    Functional,
    NodeClassification,
    NodePrediction,
    functional,
    functional_with_statistics,
    node_classification,
    node_prediction,
)
from gatjax.training.ranking import filtered_ranks, ranking_metrics
from gatjax.training.sampled import LargeGraph, large_graph, sampled_prediction
from gatjax.training.seeds import train
from gatjax.training.sharding import (
    HaloReport,
    Shard,
    Shards,
    halo_report,
    partition,
    shard_graph,
    shard_rows,
    unshard_rows,
)
from gatjax.training.sharding_devices import cluster, map_shards, on_shards, place_shards
from gatjax.training.sharding_files import load_shards, save_shards
from gatjax.training.stopping import (
    RULES,
    Progress,
    Rule,
    both_metrics,
    either_metric,
    last_epoch,
    lowest_loss,
)
from gatjax.training.targets import (
    class_weights,
    sigmoid_cross_entropy,
    squared_error,
    weighted_softmax_cross_entropy,
)

__all__ = [
    "RULES",
    "CheckpointError",
    "Checkpoints",
    "Functional",
    "GraphPrediction",
    "HaloReport",
    "History",
    "Labels",
    "LargeGraph",
    "LinkPrediction",
    "Links",
    "Metrics",
    "NodeClassification",
    "NodePrediction",
    "Progress",
    "Rule",
    "Shard",
    "Shards",
    "TrainState",
    "Trained",
    "Training",
    "Variables",
    "advance",
    "advance_together",
    "all_pairs_cross_entropy",
    "area_under_roc",
    "average_precision",
    "balanced_cross_entropy",
    "both_metrics",
    "class_weights",
    "cluster",
    "draw_pairs",
    "either_metric",
    "estimate_memory",
    "filtered_ranks",
    "functional",
    "functional_with_statistics",
    "graph_prediction",
    "halo_report",
    "has_edge",
    "large_graph",
    "last_epoch",
    "link_prediction",
    "load_shards",
    "lowest_loss",
    "map_shards",
    "node_classification",
    "node_prediction",
    "on_shards",
    "partition",
    "place_shards",
    "ranking_metrics",
    "sampled_prediction",
    "save_shards",
    "shard_graph",
    "shard_rows",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "start",
    "train",
    "unshard_rows",
    "weighted_softmax_cross_entropy",
]
