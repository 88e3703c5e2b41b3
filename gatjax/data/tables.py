"""Numeric tables from CSV, NPY and NPZ files that somebody wrote by hand; errors name the place."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from gatjax.data.features import check_compressed

Converter = Callable[[str], int | float]


def find_table(folder: Path, kind: str, suffixes: Sequence[str]) -> Path | None:
    """Return the one file of this kind, or None where there is none."""
    found = [file for suffix in suffixes if (file := folder / f"{kind}.{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise ValueError(f"{folder} holds both {names}; keep one")
    return found[0] if found else None


def require_table(folder: Path, kind: str, suffixes: Sequence[str]) -> Path:
    """Return the one file of this kind, which must be there."""
    file = find_table(folder, kind, suffixes)
    if file is None:
        names = " or ".join(f"{kind}.{suffix}" for suffix in suffixes)
        raise FileNotFoundError(f"{folder} lacks its {kind}; put {names} there")
    return file


def place(file: Path, row: int) -> str:
    """Say where a row of data stands; a CSV file has its header in line 1."""
    return f"{file.name} line {row + 2}" if file.suffix == ".csv" else f"{file.name} row {row}"


@contextlib.contextmanager
def about(file: Path) -> Iterator[None]:
    """Put the name of the file in front of an error about its content."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None


def check_finite(file: Path, table: np.ndarray | sparse.csr_array) -> None:
    """Refuse NaN and infinity, and say where the first one stands."""
    if isinstance(table, sparse.csr_array):
        coo = table.tocoo()
        places = np.stack([coo.row, coo.col], axis=1)[~np.isfinite(coo.data)]
    else:
        places = np.argwhere(~np.isfinite(table))
    if places.size:
        row, *column = places[0].tolist()
        of_column = f" of column {column[0]} (counted from 0)" if column else ""
        raise ValueError(
            f"{place(file, row)}: the number{of_column} is not finite in float32; "
            "fill in what is missing"
        )


def integer(cell: str) -> int:
    """Read a cell as an integer of 32 bits."""
    with contextlib.suppress(ValueError):
        if "_" not in cell and abs(value := int(cell)) < 2**31:
            return value
    raise ValueError(f"{cell!r} is not an integer of 32 bits")


def real(cell: str) -> float:
    """Read a cell as a number."""
    with contextlib.suppress(ValueError):
        if "_" not in cell:
            return float(cell)
    raise ValueError(f"{cell!r} is not a number")


def read_csv(
    file: Path, columns: Mapping[str, Converter] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Read a CSV file with a header.

    Args:
        file: UTF-8 text, cells separated by commas.
        columns: the columns that the file must have, in any order, and how to read the integers in
            their cells; None reads numbers, whatever the columns are called.

    Returns:
        The names of the columns and the table, [rows, columns], in the order of the names.

    Raises:
        ValueError: the file is not such a table; the message names the line.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            header = tuple(name.strip() for name in next(reader, ()))
            _check_header(file, header, columns)
            converters = [real if columns is None else columns[name] for name in header]
            dtype = np.float64 if columns is None else np.int64
            rows = [
                np.array(_convert(f"{file.name} line {reader.line_num}", header, cells, converters))
                for cells in reader
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file.name}: not a CSV file in UTF-8: {error}") from None
    table = np.array(rows, dtype).reshape(len(rows), len(header))
    names = header if columns is None else tuple(columns)
    return names, table[:, [header.index(name) for name in names]] if columns else table


def read_npy(file: Path) -> np.ndarray:
    """Read one array; pickled objects are refused."""
    with _refusing(file), file.open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive, not one array")
    return array


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an archive; pickled objects are refused."""
    with _refusing(file), file.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is one array, not an archive")
        return {name: archive[name] for name in archive.files}


def pick(file: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
    """Return the named arrays of an archive."""
    for name in names:
        if name not in arrays:
            raise ValueError(
                f"{file.name}: lacks the array {name}; it holds {', '.join(arrays) or 'nothing'}"
            )
    return [arrays[name] for name in names]


def read_matrix(file: Path, name: str) -> np.ndarray | sparse.sparray | sparse.spmatrix:
    """Read a matrix from CSV, NPY, an NPZ archive with one array of this name, or SciPy's NPZ."""
    if file.suffix == ".csv":
        return read_csv(file)[1]
    if file.suffix == ".npy":
        return read_npy(file)
    arrays = read_npz(file)
    if "format" not in arrays:
        return pick(file, arrays, [name])[0]
    with _refusing(file):
        if arrays["format"].item() not in (b"csr", b"csc", b"coo"):
            raise ValueError("a sparse matrix must be in CSR, CSC or COO format")
        matrix = sparse.load_npz(file)
        if matrix.format != "coo":
            check_compressed(matrix)
    return matrix


def _check_header(
    file: Path, header: tuple[str, ...], columns: Mapping[str, Converter] | None
) -> None:
    if columns is not None:
        if sorted(header) != sorted(columns):
            raise ValueError(
                f"{file.name} line 1: the header must be {','.join(columns)!r}, "
                f"got {','.join(header)!r}"
            )
    elif not header or any(_is_number(name) for name in header):
        raise ValueError(
            f"{file.name} line 1: the header must name the columns, got {','.join(header)[:60]!r}"
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _convert(
    where: str, header: Sequence[str], cells: Sequence[str], converters: Sequence[Converter]
) -> list[int | float]:
    if len(cells) != len(header):
        raise ValueError(f"{where}: {len(cells)} cells, expected {len(header)}")
    values = []
    for name, cell, convert in zip(header, cells, converters, strict=True):
        try:
            values.append(convert(cell))
        except ValueError as error:
            raise ValueError(f"{where}, column {name}: {error}") from None
    return values


@contextlib.contextmanager
def _refusing(file: Path) -> Iterator[None]:
    """Say of anything that goes wrong inside which file could not be read."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{file.name}: cannot be read as plain arrays (pickled objects are refused): "
            f"{str(error) or type(error).__name__}"
        ) from None
