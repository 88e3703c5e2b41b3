"""A table in a file, of which rows are read when they are asked for."""

import os
from pathlib import Path
from typing import Any

import numpy as np


class FileArray:
    """The array of a `.npy` file, on disk: `array[ids]` reads those rows, and nothing stays open in between.

    It pickles as its path, so that threads and processes read the same file. Each read maps the file anew: what was
    read before does not count as memory of the process.

    Args:
      path: a file of `np.save`, of numbers or truth values.

    Attributes:
      path: the file.
      shape, dtype: of the array.

    Raises:
      FileNotFoundError: there is none; when rows are read, too.
      ValueError: no `.npy` file, one cut short, or one of objects; when rows are read, one that is another by now.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "features.npy"
    ...     np.save(path, np.arange(6.0).reshape(3, 2))
    ...     features = FileArray(path)
    ...     features.shape, features[np.array([2, 0])].tolist()
    ((3, 2), [[4.0, 5.0], [0.0, 1.0]])
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).resolve()
        array = self._mapped()
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        array = self._mapped()
        if (array.shape, array.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"{self.path} holds {_told(array)} by now, and held {_told(self)}: open it anew, FileArray(path)"
            )
        return np.array(array[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __repr__(self) -> str:
        return f"FileArray({str(self.path)!r}, {_told(self)})"

    def _mapped(self) -> np.ndarray:
        try:
            array = np.lib.format.open_memmap(self.path, mode="r")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.path} is missing: make it, np.save({self.path.name!r}, features)"
            ) from error
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{self.path} is no .npy file of numbers, or was cut short ({error}): make it again by np.save"
            ) from error
        if array.dtype.kind not in "biufc" or not array.ndim:
            raise ValueError(
                f"{self.path} holds {_told(array)}: a table of numbers is needed, made by np.save"
            )
        return array


def _told(array: Any) -> str:
    return f"{array.dtype}{list(array.shape)}"
