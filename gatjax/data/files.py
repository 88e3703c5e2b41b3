"""The files of a folder, tables or arrays, that somebody made by hand; errors name the place."""

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from gatjax.data.features import check_compressed, first_not_finite
from gatjax.graph.messages import listed
from gatjax.graph.table_files import place_in

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
        if zipfile.is_zipfile(stream):
            raise ValueError("it is an archive, not one array")
        stream.seek(0)
        _check_size(stream, file.stat().st_size)
        stream.seek(0)
        return np.load(stream, allow_pickle=False)


def read_npz(
    file: Path, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Read the named arrays of an archive, and no others; pickled objects are refused."""
    with _refusing(file):
        if not zipfile.is_zipfile(file):
            raise ValueError("it is not an archive of arrays, or one cut short")
        archive = zipfile.ZipFile(file)
    with archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        held = [name.removesuffix(".npy") for name in members]
        for name in names:
            if name not in held:
                raise ValueError(f"{file.name}: lacks the array {name}; it holds {listed(held)}")
        return {
            name: _read_member(file, archive, name) for name in (*names, *optional) if name in held
        }


def _read_member(file: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    member = archive.getinfo(f"{name}.npy")
    with _refusing(file):
        with archive.open(member) as stream:
            _check_size(stream, member.file_size)
        with archive.open(member) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)


def _check_size(stream: Any, size: int) -> None:
    """Refuse an array that asks for more bytes than follow, before anything is allocated."""
    version = np.lib.format.read_magic(stream)
    # The second and the third version say the same of numbers.
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(stream)
    needed = math.prod(map(int, shape)) * dtype.itemsize
    if not dtype.hasobject and needed > size:
        raise ValueError(f"an array {list(shape)} of {dtype} is {needed} bytes, there are {size}")


def read_matrix(
    file: Path, name: str
) -> tuple[np.ndarray | sparse.sparray | sparse.spmatrix, np.ndarray | None]:
    """Read a matrix from NPY, an NPZ archive with an array of this name, or SciPy's NPZ; and an array `names`."""
    if file.suffix == ".npy":
        return read_npy(file), None
    arrays = read_npz(file, (), ("names", "format"))
    names = arrays.get("names")
    if "format" not in arrays:
        return read_npz(file, [name])[name], names
    with _refusing(file):
        if arrays["format"].item() not in (b"csr", b"csc", b"coo"):
            raise ValueError("a sparse matrix must be in CSR, CSC or COO format")
        # Their sizes are checked here, before SciPy reads them.
        read_npz(file, (), ("data", "indices", "indptr", "row", "col", "shape"))
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
