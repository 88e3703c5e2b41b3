"""Molecules as graphs: the atoms of a SMILES, all joined, with distances and bonds on the edges.

Shapes: K molecules, N nodes, E = N² edges.
"""

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jraph import GraphsTuple
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from gatjax.data.conformers import Method, check_method, embed, embed_all, parse, silence
from gatjax.graph.build import build_graph
from gatjax.graph.ids import first_true, require_dense
from gatjax.graph.messages import listed, shown

ELEMENTS = (5, 6, 7, 8, 9, 15, 16, 17, 35, 53)
MOST_NEIGHBORS, MOST_HYDROGENS = 5, 4
NUM_ATOM_FEATURES = len(ELEMENTS) + 1 + (MOST_NEIGHBORS + 1) + (MOST_HYDROGENS + 1) + 3
# Of the atoms that are none of the elements above.
OTHER = len(ELEMENTS)
BOND_TYPES = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")
NUM_BOND_FEATURES = len(BOND_TYPES) + 2
DUMMY_DISTANCE = 1e6


class Failure(NamedTuple):
    """A molecule that has no graph: its place among the SMILES, counted from 0, and why."""

    row: int
    smiles: str
    reason: str


def featurize(
    smiles: str,
    *,
    dummy: bool = True,
    conformer: Method | ArrayLike | None = "etkdg",
    bond_features: bool = False,
    seed: int = 0,
) -> GraphsTuple:
    """A molecule as a fully connected graph, self-edges too, as the Molecule Attention Transformer sees it.

    Nodes are the atoms but hydrogens, in the order of the SMILES, float32 `[N, 26]`, in columns:

    * 0: 1 for the dummy node;
    * 1 to 11: the element, B, C, N, O, F, P, S, Cl, Br, I or other;
    * 12 to 17: neighbours that are nodes, 0 to 5, where more count as 5;
    * 18 to 22: hydrogens, 0 to 4, where more count as 4;
    * 23: the formal charge;
    * 24 and 25: whether it is in a ring, and aromatic.

    Edge r N + s runs from node s to node r. `edges` is a dictionary of float32 arrays:

    * `"distance"` `[E]`, in angstrom; absent where `conformer` is None;
    * `"adjacency"` `[E]`, 1 between bonded atoms and from each atom to itself, else 0;
    * `"features"` `[E, 6]`, with `bond_features` alone: single, double, triple, aromatic; conjugated, in a ring.

    The dummy node is node 0: no bond, not to itself either, and a distance of 10⁶ to every node and itself. It gives
    attention somewhere to go. Without it nodes have 25 columns, so a model for the one refuses the other.

    Distances between fragments of a SMILES, `"[Na+].[Cl-]"`, are whatever RDKit makes of them.

    Args:
        smiles: one molecule.
        dummy: whether to have a dummy node.
        conformer: where atoms are: "etkdg" in space, by distance geometry and the force field UFF; "2d" in a drawing;
            coordinates of your own `[N, 3]`; None for no distances.
        bond_features: whether edges have features.
        seed: of the coordinates in space; the same seed, molecule and version of RDKit give the same.

    Returns:
        A `GraphsTuple` in NumPy arrays.

    Raises:
        ImportError: RDKit is not installed.
        ValueError: the SMILES is none, an unknown `conformer`, or coordinates that are not one row per atom.

    Warns:
        UserWarning: no coordinates in space could be found, and those of a drawing are used; or an element is none of
            the columns and counts as other.

    >>> water = featurize("O")
    >>> water.nodes.shape, water.edges["distance"].tolist(), water.edges["adjacency"].tolist()
    ((2, 26), [1000000.0, 1000000.0, 1000000.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    >>> ethanol = featurize("CCO", dummy=False, conformer="2d")
    >>> ethanol.edges["adjacency"].reshape(3, 3).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]

    Maziarka et al., Molecule Attention Transformer, 2020; its code, where a molecule without coordinates in space gets
    nodes for its hydrogens too, here never.
    """
    method = check_method(conformer, seed)
    with silence():
        molecule = parse(smiles)
        found = embed(molecule, method, seed) if method else None
    if found is None:
        positions = None if conformer is None else _checked(conformer, molecule)
    else:
        positions = found.positions
    graph = _graph(molecule, positions, dummy, bond_features)
    _warn([shown(smiles)] if found and found.flat else [], [shown(smiles)] * _has_other(molecule))
    return graph


def featurize_all(
    smiles: Iterable[Any],
    *,
    dummy: bool = True,
    conformer: Method | Sequence[ArrayLike] | None = "etkdg",
    bond_features: bool = False,
    seed: int = 0,
    cache: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[list[GraphsTuple], tuple[Failure, ...]]:
    """`featurize` for many molecules: in parallel, from a cache, and around those that are none.

    Args:
        smiles: K molecules.
        dummy: as for `featurize`, and so are the next three.
        conformer: "etkdg", "2d", None, or coordinates, K arrays `[N, 3]`.
        bond_features: whether edges have features.
        seed: of the coordinates in space, the same for each molecule.
        cache: a folder that keeps coordinates for the next time, each by its SMILES, `conformer`, seed and version of
            RDKit; None for none. Runs may share it.
        workers: how many threads compute coordinates; one per processor by default. They are the same for any number.
        progress: show a bar.

    Returns:
        The graphs of the molecules that have one, in their order; and the others, each with its row and the reason.
        `Molecules.without(failures)` has the targets that belong to the graphs.

    Raises:
        ImportError: RDKit is not installed.
        TypeError: `smiles` is one string.
        ValueError: an unknown `conformer`, another number of coordinates, or a damaged cache.

    Warns:
        UserWarning: as `featurize`, once for all.

    >>> graphs, failures = featurize_all(["C", "not one", "CCO"], conformer="2d", progress=False)
    >>> [len(graph.nodes) for graph in graphs], failures
    ([2, 4], (Failure(row=1, smiles='not one', reason="'not one' does not parse as SMILES"),))
    """
    if isinstance(smiles, str):
        raise TypeError(f"smiles is one string: give a list, or featurize({shown(smiles)})")
    smiles = list(smiles)
    given = conformer is not None and not isinstance(conformer, str)
    if given and len(cast("Sequence", conformer)) != len(smiles):
        raise ValueError(
            f"conformer holds {len(cast('Sequence', conformer))} arrays for {len(smiles)} molecules: "
            "give one for each"
        )
    method = check_method(conformer, seed)
    molecules, failures = _parse_all(smiles)
    found = {}
    if method:
        options = {"cache": cache, "workers": workers, "progress": progress}
        found = embed_all({smiles[row]: m for row, m in molecules.items()}, method, seed, **options)
    graphs = []
    for row, molecule in molecules.items():
        try:
            if given:
                positions = _checked(cast("Sequence", conformer)[row], molecule)
            else:
                positions = found[smiles[row]].positions if method else None
            graphs.append(_graph(molecule, positions, dummy, bond_features))
        except ValueError as error:
            failures.append(Failure(row, smiles[row], str(error)))
    flat = [f"row {row}" for row in molecules if method and found[smiles[row]].flat]
    _warn(flat, [f"row {row}" for row, molecule in molecules.items() if _has_other(molecule)])
    return graphs, tuple(sorted(failures))


def bond_graph(graph: GraphsTuple) -> GraphsTuple:
    """The bonds of a molecule alone, in both directions: the graph that layers with bonds as edges take.

    Args:
        graph: of `featurize`, one molecule.

    Returns:
        The atoms, without the dummy node and its column, and the edges between two bonded ones. To have the features of
        bonds as the edges, give it a graph with `bond_features` and take `edges["features"]`.

    Raises:
        ValueError: edges without "adjacency", or several graphs.

    >>> bonds = bond_graph(featurize("C=O", conformer=None, bond_features=True))
    >>> bonds.senders.tolist(), bonds.receivers.tolist(), bonds.edges["features"].tolist()
    ([1, 0], [0, 1], [[0.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    """
    require_dense(graph, "bond_graph")
    edges = cast("dict[str, np.ndarray]", graph.edges)
    if not isinstance(edges, dict) or "adjacency" not in edges:
        raise ValueError('bond_graph: edges have no "adjacency": give a graph of featurize')
    if len(graph.n_node) != 1:
        raise ValueError(
            f"bond_graph: {len(graph.n_node)} graphs: give one, before they are batched"
        )
    nodes = np.asarray(graph.nodes)
    dummy = int(nodes.shape[1] == NUM_ATOM_FEATURES + 1)
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    kept = np.flatnonzero((np.asarray(edges["adjacency"]) > 0) & (senders != receivers))
    return build_graph(
        senders[kept] - dummy,
        receivers[kept] - dummy,
        nodes[dummy:, dummy:],
        edges={name: np.asarray(table)[kept] for name, table in edges.items()},
    )


def _parse_all(smiles: list) -> tuple[dict[int, Any], list[Failure]]:
    molecules, failures = {}, []
    with silence():
        for row, each in enumerate(smiles):
            try:
                molecules[row] = parse(each)
            except ValueError as error:
                failures.append(Failure(row, str(each), str(error)))
    return molecules, failures


def _checked(positions: Any, molecule: Any) -> np.ndarray:
    array, count = np.asarray(positions), molecule.GetNumAtoms()
    if array.shape != (count, 3) or array.dtype.kind not in "iuf":
        raise ValueError(
            f"conformer is {array.dtype} of shape {array.shape}: give a row of three numbers for each of "
            f"the {count} atoms"
        )
    if (atom := first_true(~np.all(np.isfinite(array), axis=1))) is not None:
        raise ValueError(f"conformer: the coordinates of atom {atom} are not finite")
    return array


def _graph(
    molecule: Any, positions: np.ndarray | None, dummy: bool, bond_features: bool
) -> GraphsTuple:
    count = molecule.GetNumAtoms()
    total = count + dummy
    atoms = slice(int(dummy), None)
    nodes = np.zeros((total, NUM_ATOM_FEATURES + dummy), np.float32)
    nodes[atoms, atoms] = np.array([_atom_features(atom) for atom in molecule.GetAtoms()])
    nodes[:dummy, 0] = 1
    adjacency = np.zeros((total, total), np.float32)
    adjacency[atoms, atoms] = np.eye(count)
    features = np.zeros((total, total, NUM_BOND_FEATURES), np.float32)
    for bond in molecule.GetBonds():
        first, second = bond.GetBeginAtomIdx() + dummy, bond.GetEndAtomIdx() + dummy
        adjacency[[first, second], [second, first]] = 1
        features[[first, second], [second, first]] = _bond_features(bond)
    edges: dict[str, np.ndarray] = {"adjacency": adjacency.reshape(-1)}
    if positions is not None:
        distance = np.full((total, total), DUMMY_DISTANCE, np.float32)
        distance[atoms, atoms] = cdist(positions, positions)
        edges["distance"] = distance.reshape(-1)
    if bond_features:
        edges["features"] = features.reshape(-1, NUM_BOND_FEATURES)
    receivers, senders = np.indices((total, total), np.int32).reshape(2, -1)
    return build_graph(senders, receivers, nodes, edges=edges)


def _atom_features(atom: Any) -> list[float | int]:
    number = atom.GetAtomicNum()
    element = ELEMENTS.index(number) if number in ELEMENTS else OTHER
    return [
        *_one_hot(element, len(ELEMENTS) + 1),
        *_one_hot(min(atom.GetDegree(), MOST_NEIGHBORS), MOST_NEIGHBORS + 1),
        *_one_hot(min(atom.GetTotalNumHs(), MOST_HYDROGENS), MOST_HYDROGENS + 1),
        atom.GetFormalCharge(),
        atom.IsInRing(),
        atom.GetIsAromatic(),
    ]


def _bond_features(bond: Any) -> list[bool]:
    kind = str(bond.GetBondType())
    return [*(kind == each for each in BOND_TYPES), bond.GetIsConjugated(), bond.IsInRing()]


def _one_hot(place: int, width: int) -> list[bool]:
    return [column == place for column in range(width)]


def _has_other(molecule: Any) -> bool:
    return any(atom.GetAtomicNum() not in ELEMENTS for atom in molecule.GetAtoms())


def _warn(flat: list[str], other: list[str]) -> None:
    for rows, what in (
        (flat, "no coordinates in space could be found, those of a drawing are used"),
        (other, "an element counts as other"),
    ):
        if rows:
            warnings.warn(f"{what}: {listed(rows)} ({len(rows)} in all)", stacklevel=3)
