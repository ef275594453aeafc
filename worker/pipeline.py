"""One stream of images from files to rows: decode threads, batches, the engine. Knows no Celery.

Reading and decoding run ahead of the engine by a bounded number of chunks, so that memory is flat whatever the job's
size; the thread that calls `run` only hands work over and takes rows back.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.engines.base import Engine
from models.errors import EngineError, EngineOutOfMemory
from store.failpoints import reach
from store.rows import NewResult
from worker.answers import Answers, Prepared
from worker.failures import of_engine
from worker.preparing import Preparer, Wanted

Outcome = tuple[str, Prepared | NewResult]  # paired with the token of its lease
Row = tuple[str, NewResult]
PATIENCE_S = 15.0  # how long others wait for suspects
TICK_S = 0.5  # how often `run` looks up from waiting


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items of one shard that one thread prepares in one go."""

    owner: str  # the token of its lease
    items: Sequence[Wanted]
    suspect: bool = False  # its one item was in hand when a worker ended: it is prepared alone


@dataclass(frozen=True, slots=True)
class Decoders:
    """The threads that prepare: many for the many, and one for suspects, which go one after the other."""

    many: ThreadPoolExecutor
    alone: ThreadPoolExecutor


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
        self._examining: set[Future[list[Outcome]]] = set()  # those among them that examine suspects
        self._examining_until = 0.0  # monotonic; others wait until then
        self._next: Chunk | None = None  # taken, and waits for that
        self._predicting: set[Future[list[Row]]] = set()

    def run(self, chunks: Iterator[Chunk], sink: Callable[[list[Row]], None]) -> None:
        """Work until the chunks end and everything begun has come out; rows go to `sink`, in no particular order.

        `sink` is also called with no rows every TICK_S, so that it can do what is due. What it raises ends the run.
        """
        decoders = Decoders(ThreadPoolExecutor(self._threads, "decode"), ThreadPoolExecutor(1, "examine"))
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
            decoders.many.shutdown(cancel_futures=True)
            decoders.alone.shutdown(cancel_futures=True)
            predictors.shutdown(cancel_futures=True)

    def _start_preparing(self, pools: Decoders, chunks: Iterator[Chunk]) -> bool:
        """Keep every decoder busy, and the next chunks at hand; False when there are no more."""
        room = self.batch_size * (self._engine.parallel + 2)
        while len(self._preparing) < self._threads + 1 and len(self._ready) < room:
            chunk = self._next or next(chunks, None)
            self._next = None
            if chunk is None:
                return False
            if chunk.suspect:
                self._start_examining(pools.alone, chunk)
            elif self._examining and time.monotonic() < self._examining_until:
                self._next = chunk
                return True
            else:
                self._preparing.add(pools.many.submit(self._prepare, chunk))
        return True

    def _start_examining(self, pool: ThreadPoolExecutor, chunk: Chunk) -> None:
        """Suspects come first, so that each death brings the job further; one that takes its time holds up nobody."""
        future = pool.submit(self._examine, chunk)
        self._preparing.add(future)
        self._examining.add(future)
        self._examining_until = time.monotonic() + PATIENCE_S

    def _prepare(self, chunk: Chunk) -> list[Outcome]:
        reach("pipeline.prepare")
        return list(self._preparer.prepare(chunk.owner, chunk.items))

    def _examine(self, chunk: Chunk) -> list[Outcome]:
        return [outcome for item in chunk.items for outcome in self._preparer.examine(chunk.owner, item)]

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
        self._examining.difference_update(done)
        self._predicting.difference_update(done)
        return rows

    def _predict(self, batch: Sequence[tuple[str, Prepared]]) -> list[Row]:
        """Classify a batch. Where that fails, halve it: a bad image costs no neighbour its result."""
        images = [prepared for _, prepared in batch]
        reach("pipeline.predict")
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
