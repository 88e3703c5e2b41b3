"""Which node a file of a folder means: by its number, or by the name that the features give it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gatjax.data.files import place
from gatjax.graph.ids import first_true
from gatjax.graph.messages import shown
from gatjax.graph.names import as_names, check_distinct, match_names
from gatjax.graph.tables import Kind, Table, read_names, read_table

NAMES_REMEDY = "give the features a column node, or features.npz an array names"


class NodeIds(NamedTuple):
    """The nodes of a folder, in the order of its features.

    Attributes:
      count: how many there are.
      names: the name of each, [N] integers or strings, from a column `node` of the features or an array `names` beside
        them; None where nodes are numbered from 0.
      ignore: the columns of any file that are left out.
    """

    count: int
    names: np.ndarray | None
    ignore: tuple[str, ...] = ()

    def read(
        self,
        file: Path,
        columns: Sequence[str],
        more: Mapping[str, Kind] | None = None,
        optional: Mapping[str, Kind] | None = None,
        others: Kind | None = None,
    ) -> tuple[Table, list[np.ndarray]]:
        """Read a table, and find the nodes that some of its columns name.

        Raises:
          ValueError: the file cannot be read, or an id is no node.
        """
        if self.names is not None:
            text = self.names.dtype.kind == "O"
            table = read_names(
                file,
                columns,
                columns=more,
                optional=optional,
                others=others,
                ignore=self.ignore,
                text=text,
            )
        else:
            whole: dict[str, Kind] = {**dict.fromkeys(columns, "whole"), **(more or {})}
            table = read_table(
                file,
                whole,
                optional=optional,
                others=others,
                ignore=self.ignore,
                remedy=f"; for names, {NAMES_REMEDY}",
            )
        return table, [self.find(file, name, table.columns[name]) for name in columns]

    def find(self, file: Path, field: str, ids: np.ndarray) -> np.ndarray:
        """The nodes that a column of ids means, [rows] int64.

        Raises:
          ValueError: an id is no node.
        """
        if self.names is None:
            found = np.where((ids >= 0) & (ids < self.count), ids.astype(np.int64), -1)
            known = f"the features have {self.count} rows, so ids run from 0 to {self.count - 1}"
        else:
            found = match_names(as_names(field, ids), self.names)
            known = "the features name all of them"
        if (row := first_true(found < 0)) is not None:
            value = ids[row] if self.names is None else shown(ids[row])
            raise ValueError(f"{place(file, row)}: {field} {value} is no node; {known}")
        return found

    def check_once(self, file: Path, found: np.ndarray) -> None:
        """Refuse a file that names a node twice.

        Raises:
          ValueError: it does.
        """
        if (row := check_distinct(found)) is not None:
            name = found[row] if self.names is None else shown(self.names[found[row]])
            raise ValueError(f"{place(file, row)}: node {name} stands there twice; keep one line")
