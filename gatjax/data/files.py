"""The files of a folder, tables or arrays, that somebody made by hand; errors name the place."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from gatjax.data.features import check_compressed, first_not_finite
from gatjax.graph.messages import listed
from gatjax.graph.tables import place_in

TABLES = (".csv", ".tsv", ".parquet")


def find_table(folder: Path, kind: str, suffixes: Sequence[str]) -> Path | None:
    """Return the one file of this kind, or None where there is none."""
    found = [file for suffix in suffixes if (file := folder / f"{kind}{suffix}").is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise ValueError(f"{folder} holds both {names}; keep one")
    return found[0] if found else None


def require_table(folder: Path, kind: str, suffixes: Sequence[str]) -> Path:
    """Return the one file of this kind, which must be there."""
    file = find_table(folder, kind, suffixes)
    if file is None:
        names = " or ".join(f"{kind}{suffix}" for suffix in suffixes)
        raise FileNotFoundError(f"{folder} lacks its {kind}; put {names} there")
    return file


def place(file: Path, row: int) -> str:
    """Say where a row of data stands."""
    return place_in(file, row) if file.suffix in TABLES else f"{file.name} row {row}"


@contextlib.contextmanager
def about(file: Path) -> Iterator[None]:
    """Put the name of the file in front of an error about its content."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from None


def check_finite(file: Path, table: np.ndarray | sparse.csr_array) -> None:
    """Refuse NaN and infinity, and say where the first one stands."""
    if (index := first_not_finite(table)) is not None:
        raise ValueError(
            f"{place(file, index[0])}: the number of column {index[1]} (counted from 0) is not finite "
            "in float32; fill in what is missing"
        )


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
            raise ValueError(f"{file.name}: lacks the array {name}; it holds {listed(arrays)}")
    return [arrays[name] for name in names]


def read_matrix(
    file: Path, name: str
) -> tuple[np.ndarray | sparse.sparray | sparse.spmatrix, np.ndarray | None]:
    """Read a matrix from NPY, an NPZ archive with an array of this name, or SciPy's NPZ; and an array `names`."""
    if file.suffix == ".npy":
        return read_npy(file), None
    arrays = read_npz(file)
    names = arrays.get("names")
    if "format" not in arrays:
        return pick(file, arrays, [name])[0], names
    with _refusing(file):
        if arrays["format"].item() not in (b"csr", b"csc", b"coo"):
            raise ValueError("a sparse matrix must be in CSR, CSC or COO format")
        matrix = sparse.load_npz(file)
        if matrix.format != "coo":
            check_compressed(matrix)
    return matrix, names


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
