"""A molecule, and how much each of its atoms counts."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from gatjax.data.conformers import embed, parse, silence
from gatjax.plots.checks import check_node
from gatjax.plots.style import ATTENTION_COLORS, PALETTE, new_axes, styled

# The disc of an atom in points, at most, and as a share of a bond; the length of a bond, as RDKit draws it; how far the
# dummy node stands beside the molecule; and the room around all.
DISC, SHARE, BOND, BESIDE, MARGIN = 13.0, 0.62, 1.5, 1.6, 0.14
RING = PALETTE[5]
# Lines of a bond, by its order; an aromatic one has a second, dotted line.
GAP = 0.16


@styled
def attention_molecule(
    smiles: str,
    weights: ArrayLike,
    *,
    atom: int | np.integer | None = None,
    largest: float | None = None,
    label: str | None = "attention",
    ax: Axes | None = None,
) -> Axes:
    """Draw a molecule with a weight on each atom: the darker, the more.

    Args:
        smiles: the molecule, whose atoms but hydrogens are drawn, in the order of the SMILES.
        weights: one per atom, `[n]`; or `[n + 1]` with a dummy node before them, which is drawn beside the molecule.
        atom: the atom that looks, or is looked at, gets a ring; the dummy node does not count.
        largest: the weight of the darkest colour; that of the weights by default.
        label: what the weights are, beside a bar of the colours; None for no bar, as where several molecules share that
            of `ax.figure.colorbar(ax.collections[0], ax=axes)`.
        ax: axes to draw into; a new figure by default.

    Returns:
        The axes.

    Raises:
        ImportError: RDKit is not installed.
        ValueError: the SMILES is none, another number of weights, or no such atom.

    >>> import matplotlib.pyplot as plt
    >>> ax = attention_molecule("CCO", [0.2, 0.1, 0.7], atom=0)
    >>> plt.close(ax.figure)
    """
    with silence():
        molecule = parse(smiles)
        places = embed(molecule, "2d", 0).positions[:, :2].astype(float)
    total, weights = len(places), np.asarray(weights, float)
    if weights.shape not in ((total,), (total + 1,)):
        raise ValueError(
            f"weights has shape {list(weights.shape)}: give one for each of {total} atoms, or {total + 1} with that of "
            "a dummy node first"
        )
    if atom is not None:
        check_node("atom", atom, total)
    dummy = len(weights) - total
    symbols = ["dummy"] * dummy + [each.GetSymbol() for each in molecule.GetAtoms()]
    beside = [[places[:, 0].min() - BESIDE, places[:, 1].mean()]] * dummy
    spots = np.concatenate([np.reshape(beside, (-1, 2)), places])
    ax = new_axes(ax, 2.3)
    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.margins(MARGIN)
    _draw_bonds(ax, molecule, places)
    top = largest or weights.max(initial=0) or 1
    size = _disc(ax, spots)
    ringed = [atom is not None and i == atom + dummy for i in range(len(spots))]
    discs = ax.scatter(
        *spots.T,
        s=size**2,
        c=weights,
        cmap=ATTENTION_COLORS,
        norm=Normalize(0, top),
        edgecolors=[RING if ring else "white" for ring in ringed],
        linewidths=[2.0 if ring else 0.6 for ring in ringed],
        clip_on=False,
        zorder=2,
    )
    for (x, y), symbol, weight in zip(spots, symbols, weights, strict=True):
        inside = len(symbol) < 3
        ink = "white" if inside and weight > 0.35 * top else "black"
        place = {"xytext": (0, 0 if inside else -size), "textcoords": "offset points"}
        style = {"ha": "center", "va": "center", "fontsize": 0.55 * size, "color": ink}
        ax.annotate(symbol, (x, y), **place, **style, zorder=3)
    if label is not None:
        ax.figure.colorbar(discs, ax=ax, label=label, shrink=0.8, aspect=18, pad=0.02)
    return ax


def _disc(ax: Axes, spots: np.ndarray) -> float:
    """How large an atom may be, in points, so that bonds are seen between two."""
    span = np.maximum((1 + 2 * MARGIN) * np.ptp(spots, axis=0), BOND)
    box = ax.get_window_extent()
    unit = min(box.width / span[0], box.height / span[1]) * 72 / ax.figure.dpi
    return float(min(DISC, SHARE * BOND * unit))


def _draw_bonds(ax: Axes, molecule, places: np.ndarray) -> None:
    for bond in molecule.GetBonds():
        ends = places[[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]]
        (dx, dy), order = ends[1] - ends[0], bond.GetBondTypeAsDouble()
        aside = GAP * np.array([-dy, dx]) / (np.hypot(dx, dy) or 1)
        lines = int(np.ceil(order))
        for line in range(lines):
            shift = (line - (lines - 1) / 2) * aside
            style = ":" if bond.GetIsAromatic() and line else "-"
            ax.plot(*(ends + shift).T, style, color="0.55", lw=1.1, zorder=1)
