"""Training: losses, early stopping, and many seeds at full speed. It knows no model and sees no test label.

`train` takes three pure functions and arrays:

```
initialise(key)                       -> parameters
loss(parameters, key, data, labels)   -> scalar                    of one training step, dropout on
validate(parameters, data, labels)    -> Metrics(loss, accuracy)   dropout off
```

and runs one training per seed. `data` is what all seeds share, such as the graph; `labels` are those of one seed, for
training and validation. A seed's whole state is one pytree, `TrainState`.
"""

from gatjax.training.checkpoint import CheckpointError, Checkpoints
from gatjax.training.loop import (
    History,
    Trained,
    Training,
    TrainState,
    advance,
    advance_together,
    start,
)
from gatjax.training.losses import Labels, Metrics, softmax_cross_entropy
from gatjax.training.pure import Functional, NodeClassification, functional, node_classification
from gatjax.training.seeds import train
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
    "History",
    "Labels",
    "Metrics",
    "NodeClassification",
    "Progress",
    "Rule",
    "TrainState",
    "Trained",
    "Training",
    "advance",
    "advance_together",
    "both_metrics",
    "class_weights",
    "either_metric",
    "functional",
    "last_epoch",
    "lowest_loss",
    "node_classification",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "start",
    "train",
    "weighted_softmax_cross_entropy",
]
