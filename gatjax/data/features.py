"""Node features, dense or sparse: NumPy and SciPy while loading, NumPy or BCOO in the graph."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from numpy.typing import ArrayLike
from scipy import sparse

from gatjax.graph.ids import first_true
from gatjax.graph.messages import shown
from gatjax.graph.numbers import check_digits, digits_lost, inexact

Matrix = np.ndarray | sparse.csr_array

SPARSE_BELOW = 0.15
LAYOUTS = ("auto", "dense", "sparse")


def normalize_rows(features: ArrayLike | sparse.sparray | sparse.spmatrix | BCOO) -> Any:
    r"""Scale each row to sum to one; a row that sums to zero stays as it is.

    .. math:: x'_{if} = x_{if} / \sum_g x_{ig}

    Args:
        features: [N, F]; an array, a SciPy sparse matrix or a BCOO.

    Returns:
        float32 features of the same shape: an array for an array, a CSR array for a SciPy sparse
        matrix, a BCOO for a BCOO.

    Raises:
        ValueError: the features are not a matrix of numbers, or hold a whole number with more digits
            than float32.

    >>> normalize_rows([[1.0, 3.0], [0.0, 0.0]])
    array([[0.25, 0.75],
           [0.  , 0.  ]], dtype=float32)
    """
    if isinstance(features, BCOO):
        return as_bcoo(_scale_csr(as_csr(features)))
    matrix = as_matrix(features)
    if isinstance(matrix, sparse.csr_array):
        return _scale_csr(matrix)
    return (matrix / _divisors(matrix)[:, None]).astype(np.float32)


def as_matrix(features: Any) -> Matrix:
    """Bring dense features to a float32 array, sparse ones to a canonical CSR array."""
    if isinstance(features, BCOO) or sparse.issparse(features):
        return as_csr(features)
    array = np.asarray(features)
    _check_matrix(array)
    check_digits(array, _place, np.dtype(np.float32))
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def as_csr(features: Any) -> sparse.csr_array:
    """Bring features of any kind to a float32 CSR array: sorted, no duplicates, no stored zeros."""
    if isinstance(features, BCOO):
        rows, columns = np.asarray(features.indices).T
        data = np.asarray(features.data)
        features = sparse.coo_array((data, (rows, columns)), shape=features.shape)
    _check_matrix(features)
    _check_sparse_digits(features)
    with np.errstate(over="ignore"):
        matrix = sparse.csr_array(features, dtype=np.float32, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def as_bcoo(matrix: Any) -> BCOO:
    """Turn a canonical CSR array into a BCOO with sorted, unique int32 indices."""
    coo = matrix.tocoo()
    indices = np.stack([coo.row, coo.col], axis=1).astype(np.int32)
    return BCOO(
        (jnp.asarray(coo.data), jnp.asarray(indices)),
        shape=np.shape(matrix),
        indices_sorted=True,
        unique_indices=True,
    )


def as_nodes(matrix: Matrix, layout: str) -> np.ndarray | BCOO:
    """Store features as a graph's nodes: dense, sparse, or whichever suits their density."""
    if layout not in LAYOUTS:
        raise ValueError(f"features must be one of {', '.join(LAYOUTS)}, got {shown(layout)}")
    if layout == "auto":
        layout = "sparse" if density(matrix) < SPARSE_BELOW else "dense"
    if layout == "sparse":
        return as_bcoo(as_csr(matrix))
    return matrix.toarray() if isinstance(matrix, sparse.csr_array) else matrix


def density(features: Any) -> float:
    """Share of the entries that are not zero; 0 for an empty matrix."""
    values = features if isinstance(features, np.ndarray) else np.asarray(features.data)
    return int(np.count_nonzero(values)) / max(math.prod(np.shape(features)), 1)


def check_compressed(matrix: Any) -> None:
    """Refuse a CSR or CSC matrix whose indices reach beyond it.

    SciPy's own full check lets a matrix without entries pass whatever its pointers are, and what
    works on it then writes beyond its memory.
    """
    width = matrix.shape[1 if matrix.format == "csr" else 0]
    indices, starts = matrix.indices, matrix.indptr
    if starts[0] != 0 or np.any(np.diff(starts) < 0) or starts[-1] > len(indices):
        raise ValueError("a sparse matrix whose index pointers do not increase from 0")
    if np.any((indices < 0) | (indices >= width)):
        raise ValueError(f"a sparse matrix with an index outside 0 to {width - 1}")


def first_not_finite(features: Any) -> tuple[int, int] | None:
    """Row and column of the first NaN or infinity, None where there is none."""
    if isinstance(features, BCOO):
        bad = np.asarray(features.indices)[~np.isfinite(np.asarray(features.data))]
        bad = bad[bad[:, 0] < features.shape[0]]
    elif sparse.issparse(features):
        coo = sparse.coo_array(features)
        bad = np.stack(coo.coords, axis=1)[~np.isfinite(coo.data)]
    else:
        bad = np.argwhere(~np.isfinite(np.asarray(features)))
    if not len(bad):
        return None
    row, column = bad[np.lexsort(bad.T[::-1])[0]].tolist()
    return row, column


def _place(index: tuple[int, ...]) -> str:
    return f"features[{index[0]}, {index[1]}] = "


def _check_sparse_digits(matrix: Any) -> None:
    """As `check_digits`, for the entries of a sparse matrix."""
    coo = sparse.coo_array(matrix)
    if coo.data.dtype == np.float32 or not np.any(np.abs(coo.data) > 2**24):
        return
    lost = inexact(coo.data, np.dtype(np.float32)) & np.isfinite(coo.data)
    measured = coo.col[np.isfinite(coo.data) & (coo.data != np.floor(coo.data))]
    if (entry := first_true(lost & ~np.isin(coo.col, measured))) is not None:
        where = _place((int(coo.row[entry]), int(coo.col[entry])))
        raise ValueError(f"{where}{digits_lost(coo.data[entry], np.dtype(np.float32))}")


def _check_matrix(features: Any) -> None:
    if features.dtype.kind not in "biuf" or features.ndim != 2:
        raise ValueError(
            f"features must be a matrix of real numbers [N, F], "
            f"got {features.dtype} of shape {features.shape}"
        )


def _divisors(matrix: Matrix) -> np.ndarray:
    sums = np.asarray(matrix.sum(axis=1, dtype=np.float64))
    return np.where(sums == 0, 1.0, sums)


def _scale_csr(matrix: sparse.csr_array) -> sparse.csr_array:
    scaled = matrix.data / np.repeat(_divisors(matrix), np.diff(matrix.indptr))
    parts = scaled.astype(np.float32), matrix.indices, matrix.indptr
    return sparse.csr_array(parts, shape=matrix.shape)
