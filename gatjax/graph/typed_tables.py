"""Typed graphs from a folder of tables: one for each type of nodes, one for each relation."""

from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatjax.graph.cells import Kind
from gatjax.graph.edge_lists import find_ends, numbers_of
from gatjax.graph.messages import listed, shown
from gatjax.graph.names import as_names, check_distinct
from gatjax.graph.tables import check_ids, header_of, opened, read_names, read_table
from gatjax.graph.typed import TypedGraph, build_typed_graph


class TypedImport(NamedTuple):
    """A typed graph of another library or of tables, and all else that came with it.

    Attributes:
      graph: one graph.
      names: of each type what its nodes are called, [N], where they have names.
      others: everything else by type or relation and its name there, such as labels and masks, in NumPy arrays.
    """

    graph: TypedGraph
    names: dict[str, np.ndarray]
    others: dict[Any, dict[str, Any]]


def from_tables(folder: str | PathLike[str]) -> TypedImport:
    """A folder with a table of each type of nodes and one of each relation.

    `nodes/author.csv` has a row for each author: a column node with its name, or whole number, which the other files
    call it by (without it they count the rows from 0), and columns of numbers, its features.
    `relations/author.writes.paper.csv` has a row for each edge: columns sender and receiver, or what else
    `from_table` understands, and columns of numbers, its features. TSV and Parquet do as well.

    Args:
        folder: with the two folders.

    Returns:
        The graph, and the names of the nodes of each type that has names.

    Raises:
        FileNotFoundError: there is no such folder, or no table of nodes.
        ValueError: a file of a relation that is not called by three names with dots between them, an unknown type, an
            end that is no node, and all else that is wrong with a table, by file and line.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, text in {
    ...     "nodes/author.csv": "node,age\\nann,30\\nbob,40\\n",
    ...     "nodes/paper.csv": "node\\np1\\n",
    ...     "relations/author.writes.paper.csv": "sender,receiver\\nbob,p1\\n",
    ... }.items():
    ...     (folder / name).parent.mkdir(exist_ok=True)
    ...     _ = (folder / name).write_text(text)
    >>> graph, names, _ = from_tables(folder)
    >>> graph.relations["author", "writes", "paper"].senders.tolist(), names["author"].tolist()
    ([1], ['ann', 'bob'])
    """
    folder = Path(folder)
    rows, sizes, names = {}, {}, {}
    for file in _files(folder / "nodes"):
        source = opened(file)
        named = "node" in header_of(source)
        table = read_names(source, ["node"] if named else [], others="number")
        if named:
            names[file.stem] = as_names("node", table.columns["node"])
            if (row := check_distinct(names[file.stem])) is not None:
                name = shown(names[file.stem][row])
                raise ValueError(f"{table.place(row)}: {name} names another node too")
        rows[file.stem] = numbers_of(table, ["node"])
        sizes[file.stem] = table.rows
    if not rows:
        raise FileNotFoundError(f"{folder / 'nodes'} holds no table: put one there for each type")
    relations = {}
    for file in _files(folder / "relations"):
        triple = tuple(file.stem.split("."))
        if len(triple) != 3 or not {triple[0], triple[2]} <= rows.keys():
            raise ValueError(
                f"{file.name} must be called <sender type>.<name>.<receiver type>{file.suffix}; the types are "
                f"{listed(sorted(rows), 50)}"
            )
        source = opened(file)
        ends = find_ends(source, header_of(source))
        relations[triple] = _edges(source, ends, triple, names, sizes)
    return TypedImport(build_typed_graph(rows, relations, num_nodes=sizes), names, {})


def _edges(source: Any, ends: list[str], triple: Any, names: Any, sizes: Any) -> tuple[Any, ...]:
    """Both ends of each edge as ids, and the features."""
    kinds = dict(zip(ends, triple[::2], strict=True))
    numbered: dict[str, Kind] = {end: "whole" for end, kind in kinds.items() if kind not in names}
    called = [end for end in ends if end not in numbered]
    text = any(names[kinds[end]].dtype.kind == "O" for end in called)
    table = (
        read_names(source, called, columns=numbered, others="number", text=text)
        if called
        else read_table(source, numbered, others="number")
    )
    ids = []
    for end, kind in kinds.items():
        if end in called:
            known = names[kind] if table.columns[end].dtype.kind != "O" else names[kind].astype(str)
            ids.append(table.nodes(end, known, f"one of the nodes of type {kind}"))
        else:
            check_ids(table, {end: table.columns[end]}, sizes[kind])
            ids.append(table.columns[end])
    return (*ids, numbers_of(table, ends))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: it must hold a table of each kind")
    return sorted(file for file in folder.iterdir() if file.suffix in (".csv", ".tsv", ".parquet"))
