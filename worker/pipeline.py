"""One stream of images from files to rows: decode threads, batches, the engine. Knows no Celery.

Reading and decoding run ahead of the engine by a bounded number of chunks, so that memory is flat whatever the job's
size; the thread that calls `run` only hands work over and takes rows back.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.engines.base import Engine
from models.errors import EngineError, EngineOutOfMemory
from store.rows import NewResult
from worker.answers import Answers, Prepared
from worker.failures import of_engine
from worker.preparing import Preparer, Wanted

Outcome = tuple[str, Prepared | NewResult]  # paired with the token of its lease
Row = tuple[str, NewResult]
TICK_S = 0.5  # how often `run` looks up from waiting


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items of one shard that one thread prepares in one go."""

    owner: str  # the token of its lease
    items: Sequence[Wanted]


class Pipeline:
    """Runs chunks through preparation and an engine."""

    def __init__(self, engine: Engine, preparer: Preparer, answers: Answers, *, threads: int) -> None:
        self._engine = engine
        self._preparer = preparer
        self._answers = answers
        self._threads = threads
        self.batch_size = engine.batch_size  # shrinks when the device runs out of memory
        self._ready: deque[tuple[str, Prepared]] = deque()
        self._preparing: set[Future[list[Outcome]]] = set()
        self._predicting: set[Future[list[Row]]] = set()

    def run(self, chunks: Iterator[Chunk], sink: Callable[[list[Row]], None]) -> None:
        """Work until the chunks end and everything begun has come out; rows go to `sink`, in no particular order.

        `sink` is also called with no rows every TICK_S, so that it can do what is due. What it raises ends the run.
        """
        decoders = ThreadPoolExecutor(self._threads, "decode")
        predictors = ThreadPoolExecutor(self._engine.parallel, "predict")
        try:
            more = True
            while True:
                more = more and self._start_preparing(decoders, chunks)
                self._start_predicting(predictors, flush=not more and not self._preparing)
                if not self._preparing and not self._predicting:
                    return
                sink(self._collect())
        finally:
            # After an error nothing that is still queued may run; what runs is short.
            decoders.shutdown(cancel_futures=True)
            predictors.shutdown(cancel_futures=True)

    def _start_preparing(self, pool: ThreadPoolExecutor, chunks: Iterator[Chunk]) -> bool:
        """Keep every decoder busy, and the next chunks at hand; False when there are no more."""
        room = self.batch_size * (self._engine.parallel + 2)
        while len(self._preparing) < self._threads + 1 and len(self._ready) < room:
            chunk = next(chunks, None)
            if chunk is None:
                return False
            self._preparing.add(pool.submit(self._prepare, chunk))
        return True

    def _prepare(self, chunk: Chunk) -> list[Outcome]:
        return list(self._preparer.prepare(chunk.owner, chunk.items))

    def _start_predicting(self, pool: ThreadPoolExecutor, *, flush: bool) -> None:
        """Send full batches to the engine, and with `flush` the last, smaller one."""
        while self._ready and len(self._predicting) <= self._engine.parallel:
            size = min(self.batch_size, len(self._ready))
            if size < self.batch_size and not flush:
                return
            batch = [self._ready.popleft() for _ in range(size)]
            self._predicting.add(pool.submit(self._predict, batch))

    def _collect(self) -> list[Row]:
        """Wait for something to come out; pixels queue for the engine, rows are returned."""
        begun: set[Future[Any]] = {*self._preparing, *self._predicting}
        done, _ = wait(begun, TICK_S, FIRST_COMPLETED)
        rows: list[Row] = []
        for prepared in done & self._preparing:
            for owner, outcome in prepared.result():
                if isinstance(outcome, Prepared):
                    self._ready.append((owner, outcome))
                else:
                    rows.append((owner, outcome))
        for predicted in done & self._predicting:
            rows += predicted.result()
        self._preparing.difference_update(done)
        self._predicting.difference_update(done)
        return rows

    def _predict(self, batch: Sequence[tuple[str, Prepared]]) -> list[Row]:
        """Classify a batch. Where that fails, halve it: a bad image costs no neighbour its result."""
        images = [prepared for _, prepared in batch]
        try:
            indices, scores = self._engine.predict(np.stack([image.picture.pixels for image in images]))
        except EngineError as error:
            if len(batch) == 1:
                return self._settled(batch, [of_engine(images[0].idx, error, images[0].content_hash)])
            middle = len(batch) // 2
            if isinstance(error, EngineOutOfMemory):
                self.batch_size = min(self.batch_size, middle)
            return self._predict(batch[:middle]) + self._predict(batch[middle:])
        return self._settled(batch, self._answers.rows(images, indices, scores))

    def _settled(self, batch: Sequence[tuple[str, Prepared]], results: Sequence[NewResult]) -> list[Row]:
        return [
            row
            for (owner, image), result in zip(batch, results, strict=True)
            for row in self._preparer.settle(owner, image.content_hash, result)
        ]
