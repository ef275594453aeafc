"""The engine interface: what a worker keeps loaded and feeds with batches."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MAX_TOP_K = 20  # the compiled graphs carry a top-k of min(classes, 20); a job may ask for fewer

Batch = NDArray[np.uint8]
Indices = NDArray[np.int32]
Scores = NDArray[np.float32]


class Engine(Protocol):
    """A loaded model that predicts. `predict` may be called from `parallel` threads at once."""

    name: str  # "openvino", "keras" or "fake"
    labels: tuple[str, ...]
    batch_size: int  # the compiled batch shape; smaller batches are padded inside, larger ones refused
    parallel: int  # how many threads should call predict at once to keep the device busy
    memory_bytes: int  # about what it holds in memory, for the cache of warm models

    def predict(self, batch: Batch) -> tuple[Indices, Scores]:
        """Classify a batch.

        batch: uint8 [N, H, W, C], 1 ≤ N ≤ batch_size, pixels 0–255.
        Returns class indices int32 [N, K] and probabilities float32 [N, K], best first, K = min(classes, MAX_TOP_K).
        Raises EngineOutOfMemory where a smaller batch may help, EngineError otherwise.
        """
        ...

    def close(self) -> None:
        """Give the memory back. The engine cannot be used afterwards."""
        ...
