"""How one node divides its attention."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jraph import GraphsTuple
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from gatjax.graph.ids import host_ids
from gatjax.graph.sizes import num_nodes
from gatjax.plots.checks import check_length, check_node, name_of, per_edge
from gatjax.plots.style import new_axes, styled

# As wide a label, in characters of all senders together, stands upright.
MOST_LEVEL = 40


@styled
def attention_heads(
    graph: GraphsTuple,
    alpha: ArrayLike,
    receiver: int | np.integer,
    *,
    node_labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """How one node divides its attention: a bar for each sender and head, and a line at equal weights.

    Args:
        graph: one graph or a batch.
        alpha: attention [E] or [E, H].
        receiver: the node.
        node_labels: one text per node; the ids by default.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: `alpha` or `node_labels` of another length than the graph's; a receiver without edges.

    >>> from gatjax.graph.build import build_graph
    >>> graph = build_graph([0, 1], [2, 2], num_nodes=3)
    >>> ax = attention_heads(graph, np.array([[0.8, 0.5], [0.2, 0.5]]), receiver=2)
    >>> plt.close(ax.figure)
    """
    senders, receivers, _, _ = host_ids(graph)
    alpha, total = per_edge(alpha, len(senders)), num_nodes(graph)
    check_length("node_labels", node_labels, total)
    check_node("receiver", receiver, total)
    entering = np.flatnonzero(receivers == receiver)
    degree, num_heads = len(entering), alpha.shape[1]
    if degree == 0:
        raise ValueError(f"receiver = {receiver} has no incoming edges: choose one that has")
    ax = new_axes(ax, 2.2)
    x, width = np.arange(degree), 0.8 / num_heads
    for head, color in enumerate(plt.get_cmap("viridis")(np.linspace(0, 0.9, num_heads))):
        shift = (head - (num_heads - 1) / 2) * width
        ax.bar(x + shift, alpha[entering, head], 0.9 * width, color=color, label=f"head {head}")
    ax.axhline(1 / degree, color="black", ls="--", lw=0.8, label=f"equal, 1/{degree}")
    names = [name_of(node_labels, i) for i in senders[entering]]
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(x, names, **(turned if sum(map(len, names)) + degree > MOST_LEVEL else {}))
    ax.set(xlabel="sender", ylabel=f"attention α of {name_of(node_labels, receiver)}")
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1),
        ncols=min(num_heads + 1, 4),
        columnspacing=1,
        handlelength=1.2,
    )
    return ax
