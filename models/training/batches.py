"""Batches: which pictures come when, as a pure function of seed, epoch and step, read ahead of the training."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Made = TypeVar("Made")


class Pictures(Protocol):
    """Pictures, or what was computed from them, that can be fetched by number from any one thread."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Of these rows, in this order: uint8 [n, H, W, C] pixels or float32 [n, F] features."""


class Augment(Protocol):
    """Changes a training batch as a pure function of (its own seed, epoch, step, input)."""

    def __call__(self, images: Any, labels: Any, epoch: int, step: int) -> tuple[Any, Any]:
        """images float32 0-255 [B, H, W, C] and labels one-hot float32 [B, K] to the same, changed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """x: [n, ...] as the pictures are; y: class numbers int64 [n]; items: numbers int64 [n]; step: from 0."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    items: NDArray[np.int64]
    step: int


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches of every epoch.

    labels: class numbers [N]. pictures: rows [variants * N]; variant v of item i is row v * N + i, and each epoch draws
    one variant per item. shuffle: anew for each epoch. ahead: batches read in a thread before they are wanted; 0 reads
    when asked. The last batch holds what is left.
    """

    pictures: Pictures
    labels: NDArray[np.int64]
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    variants: int = 1
    ahead: int = 2

    def __post_init__(self) -> None:
        if not len(self.labels) or len(self.pictures) != self.variants * len(self.labels):
            raise ValueError(
                f"Expected at least one label and {self.variants} row(s) of pictures for each; "
                f"got {len(self.labels)} labels and {len(self.pictures)} rows."
            )

    def __len__(self) -> int:
        """Items of one epoch."""
        return len(self.labels)

    @property
    def steps(self) -> int:
        """Batches of one epoch."""
        return -(-len(self.labels) // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Item numbers [N] in the order of this epoch."""
        if not self.shuffle:
            return np.arange(len(self.labels))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))

    def rows(self, epoch: int) -> NDArray[np.int64]:
        """For each item [N], by its number, which row of the pictures stands for it in this epoch."""
        count = len(self.labels)
        if self.variants == 1:
            return np.arange(count)
        # The first epoch sees the pictures themselves, later ones whichever variant is drawn.
        drawn = np.random.default_rng([self.seed, epoch, 1]).integers(self.variants, size=count)
        return drawn * count + np.arange(count)

    def stream(self, epoch: int, make: Callable[[Batch], Made], start: int = 0) -> Generator[Made, None, None]:
        """The epoch's batches from step `start` on, each put through `make`, which runs in the reading thread.

        The thread ends when the generator is closed; what it meets is raised where its batch would have come.
        """
        order, rows = self.order(epoch), self.rows(epoch)

        def read(step: int) -> Made:
            return make(self._read(order, rows, step))

        steps = range(start, self.steps)
        return _read_ahead(read, steps, self.ahead) if self.ahead else (read(step) for step in steps)

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch by itself."""
        return self._read(self.order(epoch), self.rows(epoch), step)

    def _read(self, order: NDArray[np.int64], rows: NDArray[np.int64], step: int) -> Batch:
        items = order[step * self.batch_size : (step + 1) * self.batch_size]
        return Batch(self.pictures.take(rows[items]), self.labels[items], items, step)


def _read_ahead(read: Callable[[int], Made], steps: range, ahead: int) -> Generator[Made, None, None]:
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    coming = iter(steps)
    waiting: deque[Future[Made]] = deque()
    try:
        waiting.extend(pool.submit(read, step) for step in islice(coming, ahead))
        while waiting:
            ready = waiting.popleft().result()
            waiting.extend(pool.submit(read, step) for step in islice(coming, 1))
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)
