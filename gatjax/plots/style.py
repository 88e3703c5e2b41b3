"""One style for all pictures: at the width of a paper's column, in colours that everyone tells apart."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

try:
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
except ImportError:
    raise ImportError("gatjax.plots needs matplotlib: pip install 'gatjax[experiments]'") from None

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
PALETTE = tuple("#F0E442 #E69F00 #56B4E9 #CC79A7 #009E73 #D55E00 #0072B2".split())
# Of lines and points, the strongest first; what is not told apart by colour is by dash and marker.
LINES = PALETTE[::-1]
MARKERS = "osD^vP*"
NO_COLOR = "#D0D0D0"
# Pale to dark: strong attention stands out on white, in print too.
ATTENTION_COLORS = LinearSegmentedColormap.from_list("attention", ["#D6DEE8", "#2C7FB8", "#081D58"])

# Widths in inches of a column and of a page of a paper.
COLUMN, PAGE = 3.35, 6.9

STYLE: Mapping[Any, Any] = MappingProxyType(
    {
        "figure.figsize": (COLUMN, 2.3),
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "savefig.dpi": 300,
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "figure.titlesize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.minor.width": 0.4,
        "ytick.minor.width": 0.4,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "axes.prop_cycle": cycler(color=LINES),
        "svg.hashsalt": "gatjax",
    }
)

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in `STYLE` where a new figure is made; axes that are given keep the style of their own."""

    @functools.wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs.get("ax") is not None:
            return draw(*args, **kwargs)
        with plt.rc_context(dict(STYLE)):
            return draw(*args, **kwargs)

    return in_style


def new_axes(ax: Axes | None, height: float) -> Axes:
    """The axes that were given, or those of a new figure as wide as a column."""
    return plt.subplots(figsize=(COLUMN, height))[1] if ax is None else ax


def save(ax: Axes, path: str | Path, *, title: str | None = None, dpi: int = 300) -> None:
    """Write the figure that `ax` belongs to, as PNG or by the path's suffix, and close it.

    The same figure gives the same file: neither holds a date.

    Args:
        ax: any of its axes.
        path: where to, such as `figure.png`, `figure.svg` or `figure.pdf`; folders are made.
        title: written above the figure.
        dpi: dots per inch of a PNG.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("ax belongs to no figure: draw into axes of a figure that is still open")
    if title is not None:
        figure.suptitle(title, fontsize=STYLE["figure.titlesize"])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with plt.rc_context({"svg.hashsalt": STYLE["svg.hashsalt"]}):
        figure.savefig(path, dpi=dpi, metadata=dates.get(Path(path).suffix.lower()))
    plt.close(figure)
