"""One file per library, with the same functions in each; a worker process imports just one of them.

```
layer(mechanism, senders, receivers, num_nodes, heads, features, backward) -> Workload
epoch(dataset, features)                                                   -> Workload
```
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Workload(NamedTuple):
    """Something to time: `run()` does it `times` times, and returns when it is done.

    `temporary_bytes` is the compiler's own account of scratch memory, where there is one.
    """

    run: Callable[[], Any]
    compile_seconds: float = 0.0
    temporary_bytes: int | None = None
    times: int = 1
