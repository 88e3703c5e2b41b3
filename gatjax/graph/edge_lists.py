"""Edge lists in tables of any kind: files, frames, dictionaries of columns.

An edge runs sender -> receiver. Shapes: N nodes, E edges, F features.
"""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, PyTree, Shaped
from jraph import GraphsTuple

from gatjax.graph.build import build_graph
from gatjax.graph.cells import Kind
from gatjax.graph.ids import first_true
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import as_names, check_distinct, number_names
from gatjax.graph.numbers import to_float
from gatjax.graph.table_files import delimiter_of, place_in
from gatjax.graph.tables import (
    Table,
    check_filled,
    check_ids,
    header_of,
    heading_of,
    opened,
    read_names,
    read_table,
    whole_numbers,
)

ENDS = (("sender", "receiver"), ("source", "target"), ("src", "dst"), ("from", "to"))


class EdgeTable(NamedTuple):
    """A graph out of a table, and what the table says of it.

    Attributes:
      graph: `edges` are the columns that were asked for, [E, F]; None without.
      names: what the table calls each node, [N].
      edge_weight: of each edge, for a layer's `edge_weight=`; None without.
      relation: the id of each edge's relation, for a relational layer's `graph.edges`; None without.
      relations: what the table calls each relation, [R]; None without.
    """

    graph: GraphsTuple
    names: Shaped[np.ndarray, "N"]
    edge_weight: Float[np.ndarray, "E"] | None
    relation: Int32[np.ndarray, "E"] | None
    relations: Shaped[np.ndarray, "R"] | None


def from_table(
    table: Any,
    *,
    sender: str | None = None,
    receiver: str | None = None,
    weight: str | None = None,
    relation: str | None = None,
    features: Sequence[str] = (),
    ignore: Sequence[str] = (),
    nodes: PyTree = None,
    names: Any = None,
) -> EdgeTable:
    """Any table with one edge per row as a graph, with the names of its nodes and relations.

    A column that is neither named here nor ignored is an error.

    Args:
        table: the path of a CSV, TSV or Parquet file, a frame of pandas, Polars or Arrow, an Arrow stream, a
            dictionary of columns, or a structured array. Parquet needs `gatjax[tables]`.
        sender: the column of the node that each edge leaves, and `receiver` of the one it enters; names or whole
            numbers. Where neither is said, they are the columns sender,receiver or source,target or src,dst or
            from,to, with small or capital letters.
        receiver: likewise.
        weight: the column of the edges' weights.
        relation: the column of the edges' kinds, by name or number.
        features: the columns of numbers that become `edges`.
        ignore: the columns that are left out.
        nodes: node features as in `build_graph`, a row for each of `names`.
        names: what the table calls the nodes, [N] strings or integers; by default those that occur, in order. A node
            without edges occurs nowhere.

    Returns:
        The graph, in the order of the rows, and what belongs to it; numbers in JAX's default float dtype.

    Raises:
        FileNotFoundError: no such file.
        ImportError: a Parquet file without pyarrow.
        TypeError: no table, or `nodes` without `names`.
        ValueError: columns or cells that are not as described, by their place.

    >>> trips = {"From": ["oslo", "rome"], "To": ["rome", "bonn"], "km": [2012, 1067], "by": ["air", "rail"]}
    >>> graph, names, _, relation, relations = from_table(trips, relation="by", features=["km"])
    >>> names[graph.senders].tolist(), graph.edges.tolist(), relations[relation].tolist()
    (['oslo', 'rome'], [[2012.0], [1067.0]], ['air', 'rail'])
    """
    if nodes is not None and names is None:
        raise TypeError("nodes without names: pass names=, what the table calls each row of nodes")
    table = opened(table)
    header = header_of(table)
    ends = find_ends(table, header, sender, receiver)
    _check_columns(table, header, ends, weight, relation, features, ignore)
    columns: dict[str, Kind] = dict.fromkeys([*features, *([weight] if weight else [])], "number")
    columns |= {relation: "text"} if relation else {}
    known = None if names is None else _distinct(names)
    text = None if known is None else known.dtype.kind == "O"
    read = read_names(table, ends, columns=columns, ignore=ignore, text=text)
    senders, receivers, named = _number(read, ends, known)
    graph = build_graph(
        senders,
        receivers,
        nodes,
        edges=_numbers(read, list(features)) if features else None,
        num_nodes=len(named),
    )
    kinds = (None, None) if relation is None else _relations(read, relation)
    return EdgeTable(graph, named, None if weight is None else _weights(read, weight), *kinds)


def from_csv(
    path: str | PathLike[str],
    nodes: PyTree = None,
    *,
    num_nodes: int | None = None,
    names: Any = None,
    ignore: Sequence[str] = (),
) -> GraphsTuple:
    """An edge list in a CSV file as a `GraphsTuple`, one edge per line; all other columns are features.

    The first line names the columns: `sender` and `receiver`, or what else `from_table` understands, and any number of
    numeric edge features, such as a weight. Ids start at 0; blank lines are skipped. Without `nodes`, `num_nodes` and
    `names`, N is the largest id plus 1. A file that calls its nodes by names is read by `from_named_csv` or
    `from_table`, or here with the `names` of the nodes.

    Args:
        path: a UTF-8 file, or any other file that `from_table` takes.
        nodes: node features as in `build_graph`.
        num_nodes: N, where there are neither node features nor names.
        names: what the file calls the nodes, [N] strings or integers.
        ignore: columns that are left out.

    Returns:
        The graph; further columns become `edges`, [E, F] of JAX's default float dtype. Where one is the
        weight of an edge, `split_weights` takes it out for a layer's `edge_weight=`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a header or a line that is not as described, by line number.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "edges.csv")
    ...     _ = path.write_text("sender,receiver,length\\n0,1,2.5\\n2,1,0.5\\n")
    ...     graph = from_csv(path)
    >>> graph.senders.tolist(), graph.edges.tolist(), graph.n_node.tolist()
    ([0, 2], [[2.5], [0.5]], [3])
    """
    limit = _row_count(nodes) if num_nodes is None else num_nodes
    source = opened(path)
    ends = find_ends(source, header_of(source))
    if names is None:
        remedy = ": from_named_csv(path) reads names"
        whole: dict[str, Kind] = dict.fromkeys(ends, "whole")
        table = read_table(source, whole, others="number", ignore=ignore, remedy=remedy)
        check_ids(table, {end: table.columns[end] for end in ends}, limit)
        senders, receivers = (table.columns[end] for end in ends)
        if limit is None:
            limit = int(max(senders.max(initial=-1), receivers.max(initial=-1))) + 1
    else:
        known = _distinct(names)
        if limit not in (None, len(known)):
            raise ValueError(f"names must hold {limit}, one for each node, got {len(known)}")
        text = known.dtype.kind == "O"
        table = read_names(source, ends, others="number", ignore=ignore, text=text)
        senders, receivers, _ = _number(table, ends, known)
        limit = len(known)
    return build_graph(senders, receivers, nodes, edges=numbers_of(table, ends), num_nodes=limit)


def from_named_csv(
    path: str | PathLike[str], *, ignore: Sequence[str] = ()
) -> tuple[GraphsTuple, Shaped[np.ndarray, "N"]]:
    """An edge list whose nodes have names, or any whole numbers, and the naming.

    As `from_csv`, but for the ids: nodes are numbered in the order of their names.

    Args:
        path: a UTF-8 file, or any other file that `from_table` takes.
        ignore: columns that are left out.

    Returns:
        The graph, and `names` [N]: `names[i]` is what the file calls node i, an integer if all of them are, written
        without leading zeros.

    Raises:
        FileNotFoundError, ValueError: as `from_csv`.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "edges.csv")
    ...     _ = path.write_text("sender,receiver\\nbob,ann\\nann,cat\\n")
    ...     graph, names = from_named_csv(path)
    >>> graph.senders.tolist(), names[graph.receivers].tolist()
    ([1, 0], ['ann', 'cat'])
    """
    source = opened(path)
    ends = find_ends(source, header_of(source))
    table = read_names(source, ends, others="number", ignore=ignore)
    senders, receivers, names = _number(table, ends, None)
    edges, total = numbers_of(table, ends), len(names)
    return build_graph(senders, receivers, edges=edges, num_nodes=total), names


def find_ends(
    table: Any, header: Sequence[str], sender: str | None = None, receiver: str | None = None
) -> list[str]:
    """The columns of the ends of an edge: those that are said, else the one pair of `ENDS` in the header.

    Raises:
      ValueError: there is none, or more than one.
    """
    where = heading_of(table)
    if (sender is None) != (receiver is None):
        raise ValueError(f"{where}: say both sender= and receiver=, or neither")
    if sender is not None and receiver is not None:
        return [sender, receiver]
    column = {name.casefold(): name for name in reversed(header)}
    found = [[column[end] for end in pair] for pair in ENDS if column.keys() >= set(pair)]
    if len(found) == 1:
        return found[0]
    got = f"got {shown(','.join(header))}"
    if found:
        both = " and ".join(",".join(pair) for pair in found)
        raise ValueError(
            f"{where}: {both} may both be the ends of an edge, {got}: say sender= and receiver=, as "
            "from_table takes them, or rename"
        )
    if isinstance(table, Path) and len(header) == 1:
        needed = delimiter_of(table)
        if other := [mark for mark in ";\t|, " if mark in header[0] and mark != needed]:
            raise ValueError(
                f"{where}: the columns must be separated by {needed!r}, {got}: replace {other[0]!r}, or give "
                f"from_table pandas.read_csv({table.name!r}, sep={other[0]!r})"
            )
    other = " or ".join(",".join(pair) for pair in ENDS[1:])
    raise ValueError(
        f"{where}: the header must be 'sender,receiver' (or {other}), {got}: rename, or "
        "say sender= and receiver=, as from_table takes them"
    )


def _check_columns(
    table: Any,
    header: Sequence[str],
    ends: list[str],
    weight: str | None,
    relation: str | None,
    features: Sequence[str],
    ignore: Sequence[str],
) -> None:
    """Refuse columns that are not there, are asked for twice, or that nobody asked for."""
    for name, columns in (("features", features), ("ignore", ignore)):
        if isinstance(columns, str):
            raise TypeError(
                f"{name} must be a list of columns, got {columns!r}: pass [{columns!r}]"
            )
    where, asked = heading_of(table), [*ends, *filter(None, (weight, relation)), *features, *ignore]
    if absent := [name for name in asked if name not in header]:
        raise ValueError(
            f"{where}: there is no column {listed(absent)}; the columns are {listed(header)}"
        )
    if twice := [name for index, name in enumerate(asked) if name in asked[:index]]:
        raise ValueError(f"{where}: column {twice[0]} is asked for twice: name it once")
    if further := [name for name in header if name not in asked]:
        raise ValueError(
            f"{where}: nobody asked for column {listed(further)}: name it as weight=, as relation= or in "
            f"features=, or pass ignore={further[:8]}"
        )


def _number(
    table: Table, ends: list[str], known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Senders, receivers and the names of the nodes: those that are known, else those that occur."""
    if known is None:
        return number_names(*(table.columns[end] for end in ends))
    senders, receivers = (table.nodes(end, known, "one of names") for end in ends)
    return senders, receivers, np.array(known.tolist(), None if len(known) else known.dtype)


def _distinct(names: Any) -> np.ndarray:
    known = as_names("names", names)
    if (index := check_distinct(known)) is not None:
        raise ValueError(f"names[{index}] = {shown(known[index])} names another node too")
    return known


def _relations(table: Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The id of each edge's relation, and what the relations are called."""
    check_filled(table, column)
    cells = table.columns[column]
    whole = whole_numbers(cells)
    names, ids = np.unique(cells.astype(str) if whole is None else whole, return_inverse=True)
    return ids.astype(np.int32), names


def _weights(table: Table, column: str) -> np.ndarray:
    weights = _numbers(table, [column])[:, 0]
    if (row := first_true(~np.isfinite(weights))) is not None:
        raise ValueError(
            f"{table.place(row)}, column {column}: the weight is not finite; fill in what is missing"
        )
    return weights


def numbers_of(table: Table, ends: Iterable[str]) -> np.ndarray | None:
    """All columns but the ends, [E, F]; None where there are none."""
    columns = [name for name in table.columns if name not in ends]
    return _numbers(table, columns) if columns else None


def _numbers(table: Table, columns: list[str]) -> np.ndarray:
    """Columns side by side in JAX's default float dtype, [E, F]."""
    place = lambda index: f"{place_in(table.file, index[0])}, column {columns[index[1]]}: "
    return to_float(np.stack([table.columns[name] for name in columns], axis=1), place)


def _row_count(nodes: PyTree) -> int | None:
    return None if nodes is None else int(build_graph([], [], nodes).n_node[0])
