"""Graph attention in JAX: pure functions over `jraph.GraphsTuple`, and thin Flax NNX modules around them.

The rooms, each of which imports only those above it:

```
ops        arrays in, arrays out
graph      GraphsTuple in, GraphsTuple out, on the host
attention  the mathematics
layers     Flax NNX modules, one mechanism a file
training   one compiled run over many seeds
models     stacks by the paper's name
data       data sets
explain    what attention means
plots      pictures
```

What `training`, `data`, `explain` and `plots` hold is used by the name of the room, `gatjax.training.train`; all else
stands here too, `gatjax.GATConv`.
"""

import typing as _typing
from importlib import import_module as _import_module
from importlib.metadata import version as _version
from textwrap import fill as _fill
from types import ModuleType as _ModuleType

from gatjax import attention, data, explain, graph, layers, models, ops, training
from gatjax.ops import *
from gatjax.graph import *
from gatjax.attention import *
from gatjax.layers import *
from gatjax.models import *

if _typing.TYPE_CHECKING:
    from gatjax import plots as plots

__all__ = ["attention", "data", "explain", "graph", "layers", "models", "ops", "training"]
__all__ += ops.__all__
__all__ += graph.__all__
__all__ += attention.__all__
__all__ += layers.__all__
__all__ += models.__all__

__version__ = _version("gatjax")

# For `help(gatjax)`.
_rooms = [
    _fill(f"{room.__name__}: {', '.join(room.__all__)}", 100, subsequent_indent="    ")
    for room in (ops, graph, attention, layers, training, models, data, explain)
]
__doc__ = "\n\n".join([str(__doc__), *_rooms])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "plots"})


if not _typing.TYPE_CHECKING:  # else no misspelt name would be an error

    def __getattr__(name: str) -> _ModuleType:
        """`gatjax.plots`, which needs Matplotlib, is imported when it is first used."""
        if name != "plots":
            raise AttributeError(f"module 'gatjax' has no attribute {name!r}")
        try:
            return _import_module("gatjax.plots")
        except ImportError as error:
            raise AttributeError(str(error)) from error
