"""Pictures of attention and of training, in one style that fits a paper's column.

Matplotlib comes with `pip install 'gatjax[experiments]'`; no other room imports it. Every function draws into the
axes that it is given, or into a new figure, and returns the axes. A new figure has the `STYLE` of this room, and one of
your own has it in `with plt.rc_context(STYLE)` or after `plt.rcParams.update(STYLE)`. Attention is what a layer's
`attention(graph)` returns: weights [E] or [E, H] aligned with the graph's edges.
"""

from gatjax.plots.style import COLUMN, LINES, MARKERS, NO_COLOR, PAGE, PALETTE, STYLE, save  # isort: skip
from gatjax.plots.curves import learning_curves, seed_lines, seed_strips
from gatjax.plots.forecast import forecast_lines
from gatjax.plots.graph import attention_graph
from gatjax.plots.heads import attention_heads
from gatjax.plots.matrix import attention_matrix, confusion_matrix
from gatjax.plots.molecule import attention_molecule
from gatjax.plots.schema import typed_schema

__all__ = [
    "COLUMN",
    "LINES",
    "MARKERS",
    "NO_COLOR",
    "PAGE",
    "PALETTE",
    "STYLE",
    "attention_graph",
    "attention_heads",
    "attention_matrix",
    "attention_molecule",
    "confusion_matrix",
    "forecast_lines",
    "learning_curves",
    "save",
    "seed_lines",
    "seed_strips",
    "typed_schema",
]
