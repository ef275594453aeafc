"""An engine without a model, its answers a hash of the pixels: for tests, and to measure all that is not a model."""

import hashlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.engines.base import MAX_TOP_K, Batch, Indices, Scores
from models.engines.batches import check_batch
from models.errors import EngineError, EngineOutOfMemory


class FakeEngine:
    """Answers every image with the same plausible row each time; two images that differ in a pixel get different rows.

    `delay_s`: how long a batch takes. `out_of_memory_above`: batches of more images do not fit. `fail_on`: batches of
    which it says True fail. Both faults can be changed between calls.
    """

    name = "fake"

    def __init__(
        self,
        labels: Sequence[str],
        batch_size: int = 16,
        parallel: int = 2,
        delay_s: float = 0.0,
        *,
        out_of_memory_above: int | None = None,
        fail_on: Callable[[Batch], bool] | None = None,
    ) -> None:
        self.labels = tuple(labels)
        self.batch_size = batch_size
        self.parallel = parallel
        self.memory_bytes = 1 << 20
        self.out_of_memory_above = out_of_memory_above
        self.fail_on = fail_on
        self._delay_s = delay_s
        self._closed = False

    def predict(self, batch: Batch) -> tuple[Indices, Scores]:
        """See Engine.predict."""
        if self._closed:
            raise EngineError("the engine is closed")
        check_batch(batch, self.batch_size, batch.shape[1:])
        if self._delay_s:
            time.sleep(self._delay_s)
        if self.out_of_memory_above is not None and len(batch) > self.out_of_memory_above:
            raise EngineOutOfMemory(f"{len(batch)} images do not fit; {self.out_of_memory_above} would")
        if self.fail_on is not None and self.fail_on(batch):
            raise EngineError("this batch was told to fail")
        scores = np.stack([self._row(image.tobytes()) for image in batch])
        top = np.argsort(-scores, axis=1, kind="stable")[:, : min(len(self.labels), MAX_TOP_K)]
        return top.astype(np.int32), np.take_along_axis(scores, top, axis=1)

    def _row(self, pixels: bytes) -> Scores:
        """Softmax over logits of 0–8 that are cut from the hash of the pixels."""
        digest = hashlib.shake_256(pixels).digest(2 * len(self.labels))
        powers = np.exp(np.frombuffer(digest, "<u2").astype(np.float32) / 8192)
        row: Scores = powers / powers.sum()
        return row

    def close(self) -> None:
        """See Engine.close."""
        self._closed = True
