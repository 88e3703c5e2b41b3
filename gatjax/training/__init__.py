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

from gatjax.training.checkpoint import CheckpointError as CheckpointError
from gatjax.training.checkpoint import Checkpoints as Checkpoints
from gatjax.training.loop import History as History
from gatjax.training.loop import Trained as Trained
from gatjax.training.loop import Training as Training
from gatjax.training.loop import TrainState as TrainState
from gatjax.training.loop import advance as advance
from gatjax.training.loop import advance_together as advance_together
from gatjax.training.loop import start as start
from gatjax.training.losses import Labels as Labels
from gatjax.training.losses import Metrics as Metrics
from gatjax.training.losses import softmax_cross_entropy as softmax_cross_entropy
from gatjax.training.pure import Functional as Functional
from gatjax.training.pure import NodeClassification as NodeClassification
from gatjax.training.pure import functional as functional
from gatjax.training.pure import node_classification as node_classification
from gatjax.training.seeds import train as train
from gatjax.training.stopping import RULES as RULES
from gatjax.training.stopping import Progress as Progress
from gatjax.training.stopping import Rule as Rule
from gatjax.training.stopping import both_metrics as both_metrics
from gatjax.training.stopping import either_metric as either_metric
from gatjax.training.stopping import last_epoch as last_epoch
from gatjax.training.stopping import lowest_loss as lowest_loss
from gatjax.training.targets import class_weights as class_weights
from gatjax.training.targets import sigmoid_cross_entropy as sigmoid_cross_entropy
from gatjax.training.targets import squared_error as squared_error
from gatjax.training.targets import weighted_softmax_cross_entropy as weighted_softmax_cross_entropy
