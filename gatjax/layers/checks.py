"""What a layer checks of its options before it draws a parameter."""

from numbers import Real
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array

from gatjax.graph.messages import is_integer, shown
from gatjax.layers.inputs import InFeatures, widths


def check_sizes(**sizes: int | None) -> None:
    """Every width and number is a whole number from 1 on, or None.

    Raises:
      TypeError: one is no whole number.
      ValueError: one is below 1.

    >>> check_sizes(in_features=0)
    Traceback (most recent call last):
    ...
    ValueError: in_features must be at least 1, got 0
    """
    for name, size in sizes.items():
        if size is None:
            continue
        if not is_integer(size):
            raise TypeError(f"{name} must be a whole number, got {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_widths(**sizes: int | None) -> None:
    """As `check_sizes`, where there must be one.

    Raises:
      TypeError: one is None or no whole number.
      ValueError: one is below 1.
    """
    for name, size in sizes.items():
        if size is None:
            raise TypeError(f"{name} must be a whole number, got None")
    check_sizes(**sizes)


def check_dtypes(**dtypes: DTypeLike | None) -> None:
    """Every dtype is one of fractions, or None.

    Raises:
      TypeError: one is not.
    """
    for name, dtype in dtypes.items():
        try:
            known = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
        except TypeError:
            known = False
        if not known:
            raise TypeError(
                f"{name} must be a dtype of fractions, such as jnp.float32 or jnp.bfloat16, got {dtype!r}"
            )


def check_in_features(in_features: InFeatures) -> InFeatures:
    """The width of the nodes, or the pair (receivers, senders), if each is a whole number from 1 on."""
    both = widths(in_features)
    if not isinstance(in_features, tuple | list):
        check_widths(in_features=in_features)
        return in_features
    check_widths(**{f"in_features of {side}": width for side, width in both._asdict().items()})
    return both.receivers, both.senders


def plain_number(name: str, number: Any) -> Any:
    """The number that an array without axes holds, or what it is: the options of a module are no arrays.

    Raises:
      TypeError: it is no number.

    >>> plain_number("temperature", jnp.float32(2))
    2.0
    """
    is_array = isinstance(number, np.ndarray | Array) and not isinstance(number, Tracer)
    known = number.item() if is_array and number.ndim == 0 else number
    if not isinstance(known, Real | np.bool_):
        raise TypeError(f"{name} must be a number, got {shown(number)}")
    return known


def check_finite(**numbers: float | Array | None) -> None:
    """Every number that is known is finite, or None.

    Raises:
      TypeError: one is no number.
      ValueError: one is NaN or infinite.
    """
    for name, number in numbers.items():
        if number is None or isinstance(number, Tracer):
            continue
        if not np.issubdtype(np.asarray(number).dtype, np.number):
            raise TypeError(f"{name} must be a number, got {number!r}")
        if not np.all(np.isfinite(number)):
            raise ValueError(f"{name} must be finite, got {number}")
