"""Pictures that were read once and wait on the disk: pixels or features, one row for each item of a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.errors import InvalidRecipe
from models.files import sync

SPARE_BYTES = 1 << 30  # that a cache must leave free


class Rows:
    """Some rows of an array on the disk, in the order of `rows`; what a training takes its batches from."""

    def __init__(self, path: Path, rows: NDArray[np.int64]) -> None:
        self._array: NDArray[Any] = np.load(path, mmap_mode="r")
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row."""
        return tuple(self._array.shape[1:])

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by their place here, [n, …]."""
        return np.asarray(self._array[self._rows[indices]])


@contextmanager
def new_rows(path: Path, count: int, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[NDArray[Any]]:
    """An array [count, *shape] on the disk to be filled; it appears under `path` once it is complete.

    Raises InvalidRecipe where the disk has no room for it, OSError where another took that meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = count * int(np.prod(shape)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if needed + SPARE_BYTES > free:
        raise InvalidRecipe(
            f"The prepared pictures need {needed / 1e9:.1f} GB in {path.parent}, and {free / 1e9:.1f} GB are free. "
            "Make room, let PIXMILL_HOME name another disk, or choose a smaller image.width and image.height."
        )
    aside = path.with_name(f".{path.name}.tmp")
    array = np.lib.format.open_memmap(aside, mode="w+", dtype=np.dtype(dtype), shape=(count, *shape))
    _take_room(aside)
    yield array
    array.flush()
    del array
    sync(aside)
    aside.replace(path)


def _take_room(file: Path) -> None:
    """Take all of a sparse file's room now: a page that finds none later would kill this process."""
    with file.open("r+b") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, os.fstat(opened.fileno()).st_size)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise OSError(error.errno, os.strerror(error.errno or 0), str(file)) from error
