"""Meta-paths: the walks along a chain of relations as edges, such as those between authors who share a conference.

Shapes: N nodes of the type that a path starts from and comes back to, E edges of the result. Everything runs on the
host, by SciPy's sparse products, before `jax.jit` and padding.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from jraph import GraphsTuple
from numpy.typing import ArrayLike
from scipy import sparse

from gatjax.graph.build import build_graph
from gatjax.graph.ids import first_true
from gatjax.graph.messages import check_at_least, listed, shown
from gatjax.graph.numbers import to_float
from gatjax.graph.typed import Relation, Triple, TypedGraph, arrow, find_relation, validate_typed

Path = str | Sequence[str]
Multiplicity = Mapping[Triple | str, ArrayLike] | None

# Entries of a product that are held at once, beside those that stay.
BLOCK = 4_000_000
_STEP = re.compile(r"\s*(-(?!-)[^<>-]+->|<-[^<>-]+-|-)\s*")


class Step(NamedTuple):
    """One step of a path: a relation, and whether it is walked from its receivers to its senders."""

    triple: Triple
    backwards: bool

    def __str__(self) -> str:
        sender, name, receiver = self.triple
        return f"{receiver} <-{name}- {sender}" if self.backwards else arrow(self.triple)


class PathSize(NamedTuple):
    """What `compose` will meet, known before any product.

    Attributes:
        steps: the relations that the path walks.
        links: of each step its different links.
        duplicates: of each step the links that repeat another, which count once.
        bound: edges of the result at most, self-loops and all, without `max_neighbors`.
    """

    steps: tuple[Step, ...]
    links: tuple[int, ...]
    duplicates: tuple[int, ...]
    bound: int


def compose(
    graph: TypedGraph,
    path: Path,
    *,
    max_neighbors: int | None = None,
    max_edges: int = 20_000_000,
    counts: bool = False,
    multiplicity: Multiplicity = None,
    seed: int = 0,
) -> GraphsTuple:
    """The meta-path graph: an edge from the first to the last node of every walk along a path, and a self-loop on each.

    ```
    A = B_1 B_2 ... B_n,   B_k [i, j] = 1 if step k of the path leads from i to j
    ```

    A[i, j] is the number of walks from i to j; where it is not 0, there is an edge i -> j, once.

    Args:
        graph: one graph or a batch.
        path: the types of nodes that it passes, "author-paper-author", which each relation joins in either direction.
            Where several relations do, the step has a name and an arrow: "paper -cites-> paper <-cites- paper". A
            sequence of the same parts, `["author", "paper", "author"]`, is needed for names with a hyphen.
        max_neighbors: keep of each receiver's neighbours those with most walks, ties drawn at random, and its
            self-loop; None keeps all.
        max_edges: refuse a result, or half a path, with more edges; no more are ever held.
        counts: whether `edges` are the numbers of walks, [E, 1]; there is none that returns to an isolated node, and
            0 stands on its self-loop. None otherwise.
        multiplicity: of a relation how often each of its edges counts, [E] whole numbers, and edges given twice add
            up. Without it an edge counts once, however often it is given.
        seed: of the ties.

    Returns:
        A graph of the nodes of the first type, its edges in the order of `sort_edges`.

    Raises:
        TypeError: sizes or a seed that are no whole numbers.
        ValueError: an unknown type or relation; steps that no relation joins, or several; a path that ends in another
            type; multiplicities that are negative or fractional; more than `max_edges` edges.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": [[1.0], [2.0], [3.0]], "paper": None},
    ...     {("author", "writes", "paper"): ([0, 1, 1], [0, 0, 1])},
    ...     num_nodes={"paper": 2},
    ... )
    >>> together = compose(graph, "author-paper-author", counts=True)
    >>> list(zip(together.senders.tolist(), together.receivers.tolist(), together.edges[:, 0].tolist()))
    [(0, 0, 1.0), (1, 0, 1.0), (0, 1, 1.0), (1, 1, 2.0), (2, 2, 0.0)]

    Sun et al., PathSim, VLDB 2011; Wang et al., Heterogeneous Graph Attention Network, WWW 2019, whose neighbours by a
    meta-path include the node itself.
    """
    check_at_least(1, max_edges=max_edges)
    check_at_least(0, seed=seed)
    if max_neighbors is not None:
        check_at_least(1, max_neighbors=max_neighbors)
    steps, matrices, _ = _read(graph, path, multiplicity)
    total = _columns(matrices[0])
    # Both halves of a symmetric path are small where the whole is not.
    middle = len(matrices) // 2
    right, left = (_product(half, total, steps, max_edges) for half in _halves(matrices, middle))
    generator = np.random.default_rng(seed)
    parts, held = [], 0
    for rows, block in _blocks(left, right):
        parts.append(_neighbors(rows, block, max_neighbors, generator))
        held += len(parts[-1][0])
        if held > max_edges:
            raise _too_many(steps, max_edges, "edges", _fewer(max_neighbors))
    receivers, senders, walks = (np.concatenate(part) for part in zip(*parts, strict=True))
    start = steps[0].triple[2 if steps[0].backwards else 0]
    edges = None
    if counts:
        place = lambda index: f"the number of walks {senders[index[0]]} -> {receivers[index[0]]} = "
        edges = to_float(walks[:, None], place)
    one = build_graph(senders, receivers, graph.nodes[start], edges=edges, num_nodes=total)
    n_node = np.asarray(graph.n_node[start])
    owner = np.repeat(np.arange(len(n_node)), n_node)[receivers]
    n_edge = np.bincount(owner, minlength=len(n_node)).astype(np.int32)
    return one._replace(n_node=n_node.astype(np.int32), n_edge=n_edge)


def meta_paths(graph: TypedGraph, paths: Mapping[str, Path], **options: Any) -> TypedGraph:
    """Several meta-paths of one type as a graph whose relations they are, which `HANConv` and layers by relation take.

    Args:
        graph: one graph or a batch.
        paths: of each name a path, all from and to the same type.
        **options: of `compose`, for all of them; with `counts` edges have one feature.

    Returns:
        A graph of that type alone, with relations (type, name, type).

    Raises:
        ValueError: no path, paths of several types, and all that `compose` refuses.

    >>> from gatjax.graph import build_typed_graph, merge_types
    >>> graph = build_typed_graph(
    ...     {"author": [[1.0], [2.0], [3.0]], "paper": [[0.0]]},
    ...     {("author", "writes", "paper"): ([0, 1], [0, 0])},
    ... )
    >>> meta_paths(graph, {"APA": "author-paper-author"})
    TypedGraph of 1 graph
      author                3 nodes  float32[1]
      author -APA-> author  5 edges
    """
    starts = {name: _parts(path)[0] for name, path in paths.items()}
    if len(set(starts.values())) != 1:
        found = ", ".join(f"{name} from {start}" for name, start in starts.items()) or "none"
        raise ValueError(f"paths must all start from one type, got {found}")
    kind = next(iter(starts.values()))
    ones = {(kind, name, kind): compose(graph, path, **options) for name, path in paths.items()}
    return validate_typed(
        TypedGraph(
            {kind: graph.nodes[kind]},
            {
                t: Relation(np.asarray(one.senders), np.asarray(one.receivers), one.edges)
                for t, one in ones.items()
            },
            {kind: graph.n_node[kind]},
            {triple: one.n_edge for triple, one in ones.items()},
        )
    )


def path_size(graph: TypedGraph, path: Path, *, multiplicity: Multiplicity = None) -> PathSize:
    """What a path is made of, and how many edges it has at most, from sums over rows alone.

    Args:
        graph, path, multiplicity: as in `compose`.

    Raises:
        TypeError, ValueError: as `compose`.

    >>> from gatjax.graph import build_typed_graph
    >>> graph = build_typed_graph(
    ...     {"author": [[1.0], [2.0], [3.0]], "paper": [[0.0]]},
    ...     {("author", "writes", "paper"): ([0, 1, 1], [0, 0, 0])},
    ... )
    >>> size = path_size(graph, "author-paper-author")
    >>> size.links, size.duplicates, size.bound
    ((2, 2), (1, 1), 7)
    """
    steps, matrices, duplicates = _read(graph, path, multiplicity)
    total = _columns(matrices[0])
    walks = np.ones(total)
    for matrix in matrices:
        walks = matrix.astype(bool).astype(np.float64) @ walks
    bound = int(min(walks.sum() + total, float(total) ** 2))
    return PathSize(steps, tuple(matrix.nnz for matrix in matrices), duplicates, bound)


def _halves(matrices: list[sparse.csr_array], middle: int) -> tuple[list, list]:
    return matrices[:middle], matrices[middle:]


def _columns(matrix: sparse.csr_array) -> int:
    return cast("tuple[int, int]", matrix.shape)[1]


def _product(
    matrices: list[sparse.csr_array], total: int, steps: tuple, max_edges: int
) -> sparse.csr_array:
    """The walks along some steps, [ends, starts]."""
    if not matrices:
        return sparse.csr_array(sparse.eye_array(total))
    product = matrices[0]
    for matrix in matrices[1:]:
        parts, held = [], 0
        for _, block in _blocks(matrix, product):
            parts.append(block)
            held += block.nnz
            if held > max_edges:
                raise _too_many(steps, max_edges, "links half way")
        product = sparse.csr_array(sparse.vstack(parts))
    return product


def _blocks(
    left: sparse.csr_array, right: sparse.csr_array
) -> Iterator[tuple[range, sparse.coo_array]]:
    """The product, so many rows at a time that few entries are held, each with the numbers of its rows."""
    work = left.astype(bool).astype(np.float64) @ np.diff(right.indptr)
    group = np.cumsum(work) // BLOCK
    bounds = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(work)]
    for first, stop in zip(bounds[:-1], bounds[1:], strict=True):
        block = sparse.csr_array(left[first:stop] @ right)
        block.sort_indices()
        yield range(first, stop), block.tocoo()


def _neighbors(
    rows: range, block: sparse.coo_array, most: int | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Receivers, senders and walks of some rows: the neighbours that stay, and the node itself."""
    first, stop = rows.start, rows.stop
    receiver, sender = (ids.astype(np.int32) for ids in block.coords)
    receiver, walks = receiver + np.int32(first), np.asarray(block.data, np.float64)
    loop = receiver == sender
    own = np.arange(first, stop, dtype=np.int32)
    returning = np.zeros(len(own))
    returning[receiver[loop] - first] = walks[loop]
    kept = np.flatnonzero(~loop)
    if most is not None:
        ties = generator.random(len(kept))
        kept = kept[np.lexsort((ties, -walks[kept], receiver[kept]))]
        degree = np.bincount(receiver[kept] - first, minlength=len(own))
        kept = kept[np.arange(len(kept)) - np.repeat(np.cumsum(degree) - degree, degree) < most]
    receiver, sender = np.concatenate([receiver[kept], own]), np.concatenate([sender[kept], own])
    order = np.lexsort((sender, receiver))
    return receiver[order], sender[order], np.concatenate([walks[kept], returning])[order]


def _too_many(steps: tuple, max_edges: int, of_what: str, fewer: str = "") -> ValueError:
    path = " | ".join(map(str, steps))
    return ValueError(
        f"path {path} has over max_edges = {max_edges} {of_what}: {fewer}raise max_edges"
    )


def _fewer(max_neighbors: int | None) -> str:
    if max_neighbors is None:
        return "keep the neighbours with most walks, max_neighbors=64, or "
    return "" if max_neighbors == 1 else f"lower max_neighbors = {max_neighbors}, or "


def _read(
    graph: TypedGraph, path: Path, multiplicity: Multiplicity
) -> tuple[tuple, list[sparse.csr_array], tuple[int, ...]]:
    """Steps, of each its links as a matrix [ends, starts], and how many edges repeat another."""
    validate_typed(graph)
    steps = _resolved(graph, _parts(path))
    often = {find_relation(graph, name): values for name, values in (multiplicity or {}).items()}
    matrices, duplicates = [], []
    for triple, backwards in steps:
        edges = graph.relations[triple]
        ends = np.asarray(edges.receivers), np.asarray(edges.senders)
        shape = tuple(int(np.sum(graph.n_node[name])) for name in triple[::-2])
        weights = _whole(triple, often.get(triple), len(ends[0]))
        matrix = sparse.coo_array((weights, ends), shape=shape).tocsr()
        duplicates.append(len(ends[0]) - matrix.nnz)
        if triple not in often:
            matrix.data[:] = 1
        matrix.eliminate_zeros()
        matrices.append(sparse.csr_array(matrix.T) if backwards else matrix)
    return steps, matrices, tuple(duplicates)


def _whole(triple: Triple, values: ArrayLike | None, total: int) -> np.ndarray:
    if values is None:
        return np.ones(total)
    values = np.asarray(values)
    where = f"multiplicity of {arrow(triple)}"
    if values.shape != (total,):
        raise ValueError(
            f"{where} has shape {values.shape}: give one number for each of {total} edges"
        )
    bad = first_true(~((values >= 0) & (values == np.floor(values)) & np.isfinite(values)))
    if bad is not None:
        raise ValueError(
            f"{where}: edge {bad} counts {values[bad]} times: give whole numbers from 0"
        )
    return values.astype(np.float64)


def _parts(path: Path) -> list[str]:
    """Types, and the steps between them: "-", "-name->" or "<-name-"."""
    if isinstance(path, str):
        parts = [part.strip() for part in _STEP.split(path)]
    elif any(not isinstance(part, str) for part in path):
        raise TypeError(f"path must be a string or a sequence of strings, got {shown(path)}")
    else:
        parts = []
        for part in path:
            is_step = part == "-" or part.startswith("<-") or part.endswith("->")
            parts += ["-", part] if parts and not is_step and len(parts) % 2 else [part]
    if len(parts) < 3 or len(parts) % 2 == 0 or not all(parts):
        raise ValueError(
            f"path {shown(path)} must be types with steps between them, such as author-paper-author"
        )
    return parts


def _resolved(graph: TypedGraph, parts: list[str]) -> tuple:
    for name in parts[::2]:
        if name not in graph.nodes:
            raise ValueError(
                f"path: there is no type {shown(name)}; the types are {listed(graph.types, 50)}"
            )
    steps = tuple(_step(graph, *parts[place : place + 3]) for place in range(0, len(parts) - 2, 2))
    if parts[0] != parts[-1]:
        raise ValueError(
            f"path starts from {parts[0]} and ends in {parts[-1]}: it must come back to its type, as "
            f"{'-'.join([*parts[::2], *parts[-3::-2]])} does"
        )
    return steps


def _step(graph: TypedGraph, start: str, how: str, end: str) -> Step:
    """The relation between two types, or the one that the arrow names."""
    name, forwards, backwards = how.strip("<->"), how != "-" and how[-1] == ">", how[0] == "<"
    steps = [
        Step(triple, way)
        for way, ends in ((False, (start, end)), (True, (end, start)))
        for triple in graph.triples
        if triple[::2] == ends and name in ("", triple[1]) and not (forwards if way else backwards)
    ]
    different = [
        step for place, step in enumerate(steps) if not _repeats(graph, step, steps[:place])
    ]
    if len(different) == 1:
        return different[0]
    if not different:
        known = [arrow(triple) for triple in graph.triples if start in triple[::2]]
        raise ValueError(
            f"path: no relation {shown(name) + ' ' if name else ''}leads from {start} to {end}; {start} has "
            f"{listed(known, 50)}"
        )
    raise ValueError(
        f"path: several relations lead from {start} to {end}: write one of {listed(different, 50)}"
    )


def _repeats(graph: TypedGraph, step: Step, others: list) -> bool:
    """Whether another step has the same links, as a relation and its reverse."""
    return any(np.array_equal(_links(graph, step), _links(graph, other)) for other in others)


def _links(graph: TypedGraph, step: Step) -> np.ndarray:
    edges = graph.relations[step.triple]
    ends = np.stack([np.asarray(edges.senders), np.asarray(edges.receivers)], axis=1)
    return np.unique(ends[:, ::-1] if step.backwards else ends, axis=0)
