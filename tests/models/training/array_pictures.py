"""Pictures from an array in memory, for tests of what takes them from the disk."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ArrayPictures:
    """An array or memory map [N, ...] as Pictures."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Of these rows."""
        return self._array[rows]
