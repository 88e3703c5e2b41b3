"""Numbers on their way to the dtype that JAX computes in: whole ones keep their digits, or are refused."""

from collections.abc import Callable

import jax
import numpy as np

from gatjax.graph.ids import first_true

DIGITS_REMEDY = "subtract an offset from the column, split it into two, x // 10**6 and x % 10**6, or leave it out"


def default_float() -> np.dtype:
    """float32, or float64 where that is enabled."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def to_float(
    values: np.ndarray, place: Callable[[tuple[int, ...]], str], dtype: np.dtype | None = None
) -> np.ndarray:
    """The numbers in a float dtype, unless one would lose its digits.

    A column of whole numbers, such as times in seconds or identifiers, must hold in it exactly; a column with a
    fraction is measured, and rounds. NaN and infinity pass.

    Args:
        values: [rows, ...] numbers; columns are along the last axis, one column if there is one axis.
        place: the words before the value at an index, which begin an error.
        dtype: JAX's default float dtype if None.

    Raises:
        ValueError: a whole number that is not one of `dtype`, or a number over its range.

    >>> to_float(np.array([[1, 2**24 + 1]]), lambda index: f"x{list(index)} = ", np.dtype("float32"))
    Traceback (most recent call last):
    ...
    ValueError: x[0, 1] = 16777217 has more digits than float32 holds, which makes it 16777216: subtract an offset ...
    """
    dtype = default_float() if dtype is None else np.dtype(dtype)
    large = np.isfinite(values) & (np.abs(values) > float(np.finfo(dtype).max))
    if (index := _first(large)) is not None:
        raise ValueError(f"{place(index)}{values[index]} is over {dtype}: change the unit")
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(dtype)
    check_digits(values, place, dtype)
    return result


def check_digits(
    values: np.ndarray, place: Callable[[tuple[int, ...]], str], dtype: np.dtype
) -> None:
    """Refuse a whole number that `dtype` does not hold, as `to_float` does.

    Raises:
        ValueError: there is one in a column of whole numbers.
    """
    if (index := _first(rounded(values, dtype))) is not None:
        raise ValueError(f"{place(index)}{digits_lost(values[index], dtype)}")


def digits_lost(value: np.generic | int, dtype: np.dtype) -> str:
    """What happens to a whole number that `dtype` cannot hold, and what helps."""
    number = int(value)
    return (
        f"{number} has more digits than {dtype} holds, which makes it {int(dtype.type(number))}: "
        f"{DIGITS_REMEDY}"
    )


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a column of whole numbers holds one that `dtype` does not; columns are along the last axis."""
    if values.dtype.kind not in "iuf" or values.dtype.itemsize <= 2 or values.dtype == dtype:
        return np.zeros(values.shape, bool)
    if values.dtype.kind in "iu":
        return inexact(values, dtype)
    # Cheap for data that have no large numbers at all, which is nearly all.
    lost = (np.abs(values) > 2 ** (np.finfo(dtype).nmant + 1)) & np.isfinite(values)
    if not lost.any():
        return lost
    lost &= inexact(values, dtype)
    with np.errstate(invalid="ignore"):
        fraction = np.isfinite(values) & (values != np.floor(values))
    return lost & ~fraction.any(axis=tuple(range(max(values.ndim - 1, 1))))


def inexact(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a number within the range of `dtype` is not one of it; each for itself."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            near = values.astype(dtype)
        return (near != values) & np.isfinite(near)
    lowest_bit = values & (~values + values.dtype.type(1))
    odd_part = values // np.where(lowest_bit == 0, 1, lowest_bit)
    bound = 2 ** (np.finfo(dtype).nmant + 1)
    return (odd_part >= bound) | (odd_part <= -bound)


def first_over(values: np.ndarray, dtype: np.dtype) -> tuple[int, ...] | None:
    """The index of an integer beyond an integer dtype, None where all are within."""
    limits = np.iinfo(dtype)
    if not values.size or np.can_cast(values.dtype, dtype):
        return None
    for index in (values.argmax(), values.argmin()):
        place = tuple(int(i) for i in np.unravel_index(index, values.shape))
        if not limits.min <= int(values[place]) <= limits.max:
            return place
    return None


def _first(marked: np.ndarray) -> tuple[int, ...] | None:
    index = first_true(marked.reshape(-1))
    return None if index is None else tuple(int(i) for i in np.unravel_index(index, marked.shape))
