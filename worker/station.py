"""A classify worker: its warm models, and the loop that drains the queue."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial

from models.conversion import TIMEOUT_S as CONVERSION_S
from models.errors import EngineOutOfMemory, ModelError
from store import jobs
from store.claims import excuse, give_up, release
from store.errors import DatabaseUnavailable
from store.insights import job as read_job
from store.memory import Known, recall
from store.rows import JobRow, Lease
from store.sweep import finish_jobs
from worker.answers import Answers
from worker.devices import Device
from worker.feed import Feed
from worker.heartbeat import Heartbeat
from worker.pipeline import Pipeline, Row
from worker.place import Place
from worker.preparing import Preparer
from worker.reading import Reader
from worker.room import Patience, lacking
from worker.settings import Settings
from worker.slices import Slices
from worker.suspects.custody import Custody
from worker.suspects.examiner import Examiner
from worker.twins import Twins
from worker.warm import Loaded, Loader, WarmModels

log = logging.getLogger(__name__)

CHUNK_ITEMS = 16  # what one decode thread takes at a time
LOAD_ATTEMPTS = 3  # failures in a row before the job fails with the reason
LOAD_RETRY_S = 2.0
LOADING_S = CONVERSION_S + 300.0  # to convert, read, compile and try a model; then it has `stall_s` to show progress


class Station:
    """Claims shards and classifies their items on one device. One thread uses it."""

    def __init__(
        self, settings: Settings, device: Device, stopping: Callable[[], bool], got_on: Callable[[], object] = bool
    ) -> None:
        """`got_on` is called whenever rows have come into the database."""
        self.place = Place(settings, device, "classify", stopping)
        self._settings = settings
        self._stopping = stopping
        self._got_on = got_on
        self._database = self.place.database
        self._reader = Reader(settings.max_file_mb << 20, settings.cache_folder / "archives")
        self._warm = WarmModels(Loader(settings, device, self._database).load, settings.model_memory_mb << 20)
        self._patience = Patience(stopping, self.place.tell_trouble)
        self._slices = self._new_slices()
        self._examiner = Examiner(settings)
        self._rows = 0  # ever
        self._loading_since: float | None = None  # monotonic; while a model is being made ready
        self._load_failures: Counter[int] = Counter()  # of the machine's making, by job

    def _new_slices(self) -> Slices:
        return Slices(self._database, self._settings.lease_s, self._patience.through)

    def drain(self) -> None:
        """Work until the queue is empty or the worker is to stop. Raises StoreError, and whatever a bug raises."""
        self.place.take()
        if not self.place.held:
            return
        lease = self._claim()
        while lease is not None and not self._stopping():
            lease = self._work(lease) or (None if self._stopping() else self._claim())
        self._slices.give_back()
        finish_jobs(self._database)
        self._report("idle")

    def abandon(self, error: Exception) -> None:
        """After `drain` raised: forget what it held, and give it up. Raises StoreError while the database is away.

        A full disk and a database that went away are no image's fault: then the attempts do not count, and no shard is
        halved for them.
        """
        held = self._slices.leases()
        self._slices, self._loading_since = self._new_slices(), None
        for lease in held:
            if lacking(error) is not None or isinstance(error, DatabaseUnavailable):
                release(self._database, lease)
            else:
                give_up(self._database, lease, f"{type(error).__name__}: {error}")

    def pulse(self) -> None:
        """A sign of life, for who watches this process from outside; for a thread of its own."""
        self.place.hand.pulse(self._reader.ticks)

    def _claim(self, *, is_busy: bool = False) -> Lease | None:
        lease = self._patience.through(lambda: self.place.claim(self._warm.ids, is_busy=is_busy))
        if lease is not None:
            self._slices.hold(lease)
        return lease

    def _work(self, lease: Lease) -> Lease | None:
        """Work on one job from a claimed shard on; returns a claimed shard of another job, if that one was due."""
        limits = {"stall_s": self._settings.stall_s, "lease_s": self._settings.lease_s}
        with Heartbeat(self._database, self._slices.leases, self._ticks, **limits) as heart:
            job = read_job(self._database, lease.job_id)
            loaded = self._load(job)
            if loaded is None:
                self._slices.give_back()
                return None
            self._report("busy")
            left_over = self._run(job, lease, loaded, heart)
        finish_jobs(self._database)
        return left_over

    def _load(self, job: JobRow) -> Loaded | None:
        """The job's model; None where that failed, which is never the images' fault."""
        self._loading_since = time.monotonic()
        try:
            loaded = self._warm.get(job.model_id or 0)
        except (EngineOutOfMemory, MemoryError, OSError) as error:
            if (what := lacking(error)) is not None:  # the job waits, and is given back meanwhile: it may be cancelled
                self._patience.wait(what)
                return None
            # This machine's trouble, which may pass; another worker may be luckier.
            self._load_failures[job.id] += 1
            log.warning("%s could not be loaded: %s", job.model, error)
            if self._load_failures[job.id] >= LOAD_ATTEMPTS:
                jobs.fail(self._database, job.id, f"{job.model} could not be loaded: {error}")
                del self._load_failures[job.id]
            time.sleep(LOAD_RETRY_S)
            return None
        except ModelError as error:
            log.error("job %d cannot go on: %s", job.id, error)
            jobs.fail(self._database, job.id, str(error))
            return None
        finally:
            self._loading_since = None
        del self._load_failures[job.id]
        self._patience.over()
        return loaded

    def _run(self, job: JobRow, lease: Lease, loaded: Loaded, heart: Heartbeat) -> Lease | None:
        def halted() -> bool:
            return heart.halt.is_set() or self._stopping() or job.id in self._slices.stopped

        def suspects() -> set[int]:
            return self.place.hand.suspects(job.id)

        self._slices.stopped.discard(job.id)  # a person has let it go on
        chunk_size = min(CHUNK_ITEMS, loaded.engine.batch_size)
        feed = Feed(self._database, job, self._slices, partial(self._claim, is_busy=True), chunk_size, suspects)
        pipeline = self._pipeline(job, loaded, halted)

        def sink(rows: list[Row]) -> None:
            self._rows += len(rows)
            self._slices.forget(heart.lost)
            before = self._slices.committed
            self._slices.add(rows)
            if self._slices.committed > before:
                self._got_on()

        try:
            pipeline.run(feed.chunks(lease, halted), sink)
        finally:
            self._examiner.close()
        loaded.safe_batch = pipeline.batch_size
        self._slices.give_back(keep=feed.left_over)
        return feed.left_over

    def _pipeline(self, job: JobRow, loaded: Loaded, halted: Callable[[], bool]) -> Pipeline:
        preprocessing = loaded.version.manifest.preprocessing

        def known(keys: Collection[bytes]) -> dict[bytes, Known]:
            return recall(self._database, job.model_id or 0, job.top_k, keys)

        preparer = Preparer(
            self._reader,
            preprocessing,
            max_pixels=self._settings.max_pixels,
            recall=known if job.reuse else None,
            twins=Twins() if job.reuse else None,
            custody=Custody(self.place.hand, job.id, preprocessing, self._examiner, self._excuse, halted),
        )
        threads = self._settings.decode_threads or os.cpu_count() or 2
        pipeline = Pipeline(loaded.engine, preparer, Answers(loaded.version.labels, job.top_k), threads=threads)
        pipeline.batch_size = loaded.safe_batch
        return pipeline

    def _excuse(self, token: str) -> None:
        """What an image has cost is not put down to its shard: it will not cost that again."""
        for lease in self._slices.leases():
            if lease.token == token:
                excuse(self._database, lease)

    def _ticks(self) -> int:
        """Grows with every sign of progress."""
        since = self._loading_since
        is_loading = since is not None and time.monotonic() - since < LOADING_S
        if is_loading or self._patience.is_waiting or self._examiner.is_busy:
            # Looking at a suspect has time limits of its own, waiting for space has none.
            return time.monotonic_ns()
        return self._rows + self._slices.committed + self._reader.ticks

    def _report(self, state: str) -> None:
        self.place.report(state, model=self._warm.names or None, images=self._rows)
