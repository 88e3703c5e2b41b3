"""Pickles that may hold numeric arrays, sparse matrices and dictionaries of lists, and no more.

A pickle is a program. Of the names that it may call, list and defaultdict are themselves; those of
NumPy and SciPy are answered by stand-ins that only keep what they are given, to be checked after the
program has ended; every other name is refused before anything is called.
"""

import collections
import io
import pickle
import re
from typing import Any

import numpy as np
from scipy import sparse

from gatjax.data.features import check_compressed


class _StoredDtype:
    """What a pickle says about a dtype."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _StoredArray:
    """What a pickle says about an array: version, shape, dtype, Fortran order, bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _StoredMatrix:
    """What a pickle says about a sparse matrix: its attributes."""


def _bytes_of(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


class _PlainUnpickler(pickle._Unpickler):
    """The unpickler in Python, not in C: damaged data can end in nothing worse than an exception.

    Each has its own subclasses of the stand-ins, since a pickle may set attributes of classes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        kinds = (_StoredDtype, _StoredArray, _StoredMatrix)
        dtype, array, matrix = (type(kind.__name__, (kind,), {}) for kind in kinds)
        self.admitted = {
            "collections.defaultdict": collections.defaultdict,
            "__builtin__.list": list,
            "builtins.list": list,
            "numpy.dtype": dtype,
            "numpy.ndarray": array,
            "numpy.core.multiarray._reconstruct": array,
            "numpy._core.multiarray._reconstruct": array,
            "scipy.sparse.csr.csr_matrix": matrix,
            "scipy.sparse._csr.csr_matrix": matrix,
            # What Python 3 writes for bytes where it is to be read by Python 2.
            "_codecs.encode": _bytes_of,
        }

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self.admitted:
            raise pickle.UnpicklingError(
                f"it names {full_name}; only numeric arrays, sparse matrices and dictionaries "
                "of lists are admitted"
            )
        return self.admitted[full_name]


def load_plain_pickle(data: bytes, where: str) -> np.ndarray | sparse.csr_array | dict:
    """Read a Python 2 or 3 pickle of plain data.

    Args:
        data: the pickle.
        where: what the errors call it.

    Returns:
        A numeric array, a CSR array in canonical form or a dictionary.

    Raises:
        ValueError: the pickle is damaged, or holds or names anything else.

    >>> import pickle
    >>> load_plain_pickle(pickle.dumps({2: [3, 5]}), "example")
    {2: [3, 5]}
    >>> load_plain_pickle(pickle.dumps(print), "example")
    Traceback (most recent call last):
    ValueError: example: refused: it names builtins.print; ...
    """
    try:
        content = _PlainUnpickler(data).load()
        if isinstance(content, _StoredArray):
            return _array(content)
        if isinstance(content, _StoredMatrix):
            return _csr(vars(content))
    except Exception as error:
        raise ValueError(f"{where}: refused: {str(error) or type(error).__name__}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{where}: refused: it holds a {type(content).__name__}, not plain data")
    return content


def load_adjacency(data: bytes, where: str) -> tuple[list[str], np.ndarray]:
    """Read a pickle of names, of the place of each, and of the matrix between them, as DCRNN publishes its graphs.

    Returns:
        The names, and the matrix in their order.

    Raises:
        ValueError: the pickle is damaged, or holds or names anything else.

    >>> import pickle
    >>> names, matrix = load_adjacency(pickle.dumps([["a"], {"a": 0}, np.eye(1)]), "example")
    >>> names, matrix.tolist()
    (['a'], [[1.0]])
    """
    try:
        names, place, matrix = _PlainUnpickler(data).load()
        matrix = _array(matrix)
        if not all(isinstance(name, str) for name in names) or matrix.shape != (len(names),) * 2:
            raise ValueError("it is not a list of names with a square matrix of as many rows")
        order = [int(place[name]) for name in names]
        return list(names), matrix[np.ix_(order, order)]
    except Exception as error:
        raise ValueError(f"{where}: refused: {str(error) or type(error).__name__}") from None


def _array(stored: Any) -> np.ndarray:
    if not isinstance(stored, _StoredArray):
        raise ValueError(f"it holds a {type(stored).__name__} where an array should be")
    _, shape, dtype, fortran, content = stored.state
    if not isinstance(dtype, _StoredDtype) or not re.fullmatch("[biuf][1248]", str(dtype.code)):
        raise ValueError(f"it holds an array of dtype {getattr(dtype, 'code', dtype)}, no number")
    content = content.encode("latin1") if isinstance(content, str) else bytes(content)
    order = {"<": "<", ">": ">", "|": "", "=": ""}[dtype.order]
    array = np.frombuffer(content, np.dtype(order + dtype.code))
    return array.astype(dtype.code).reshape(shape, order="F" if fortran else "C")


def _csr(attributes: dict[str, Any]) -> sparse.csr_array:
    parts = tuple(_array(attributes[name]) for name in ("data", "indices", "indptr"))
    shape = attributes["_shape"] if "_shape" in attributes else attributes["shape"]
    matrix = sparse.csr_array(parts, shape=shape)
    check_compressed(matrix)
    matrix.sum_duplicates()
    return matrix
