"""A classify worker: its warm models, and the loop that drains the queue."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection

from models.errors import EngineOutOfMemory, ModelError
from store import jobs
from store.claims import give_up
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
from worker.settings import Settings
from worker.slices import Slices
from worker.twins import Twins
from worker.warm import Loaded, Loader, WarmModels

log = logging.getLogger(__name__)

CHUNK_ITEMS = 16  # what one decode thread takes at a time
LOAD_ATTEMPTS = 3  # failures in a row before the job fails with the reason
LOAD_RETRY_S = 2.0


class Station:
    """Claims shards and classifies their items on one device. One thread uses it."""

    def __init__(self, settings: Settings, device: Device, stopping: Callable[[], bool]) -> None:
        self.place = Place(settings, device, "classify", stopping)
        self._settings = settings
        self._stopping = stopping
        self._database = self.place.database
        self._reader = Reader(settings.max_file_mb << 20, settings.cache_folder / "archives")
        self._warm = WarmModels(Loader(settings, device, self._database).load, settings.model_memory_mb << 20)
        self._slices = Slices(self._database, settings.lease_s)
        self._rows = 0  # ever
        self._loading = False  # a model is being made ready
        self._load_failures = 0  # in a row, of the machine's making

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
        """After `drain` raised: forget what it held, and give it up. Raises StoreError while the database is away."""
        held = self._slices.leases()
        self._slices, self._loading = Slices(self._database, self._settings.lease_s), False
        for lease in held:
            give_up(self._database, lease, f"{type(error).__name__}: {error}")

    def _claim(self) -> Lease | None:
        lease = self.place.claim(self._warm.ids)
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
        self._loading = True
        try:
            loaded = self._warm.get(job.model_id or 0)
        except (EngineOutOfMemory, MemoryError, OSError) as error:
            # This machine's trouble, which may pass; another worker may be luckier.
            self._load_failures += 1
            log.warning("%s could not be loaded: %s", job.model, error)
            if self._load_failures >= LOAD_ATTEMPTS:
                jobs.fail(self._database, job.id, f"{job.model} could not be loaded: {error}")
            time.sleep(LOAD_RETRY_S)
            return None
        except ModelError as error:
            log.error("job %d cannot go on: %s", job.id, error)
            jobs.fail(self._database, job.id, str(error))
            return None
        finally:
            self._loading = False
        self._load_failures = 0
        return loaded

    def _run(self, job: JobRow, lease: Lease, loaded: Loaded, heart: Heartbeat) -> Lease | None:
        feed = Feed(self._database, job, self._slices, self._claim, min(CHUNK_ITEMS, loaded.engine.batch_size))
        pipeline = self._pipeline(job, loaded)

        def halted() -> bool:
            return heart.halt.is_set() or self._stopping()

        def sink(rows: list[Row]) -> None:
            self._rows += len(rows)
            self._slices.forget(heart.lost)
            self._slices.add(rows)

        pipeline.run(feed.chunks(lease, halted), sink)
        loaded.safe_batch = pipeline.batch_size
        self._slices.give_back(keep=feed.left_over)
        return feed.left_over

    def _pipeline(self, job: JobRow, loaded: Loaded) -> Pipeline:
        def known(keys: Collection[bytes]) -> dict[bytes, Known]:
            return recall(self._database, job.model_id or 0, job.top_k, keys)

        preparer = Preparer(
            self._reader,
            loaded.version.manifest.preprocessing,
            max_pixels=self._settings.max_pixels,
            recall=known if job.reuse else None,
            twins=Twins() if job.reuse else None,
        )
        threads = self._settings.decode_threads or os.cpu_count() or 2
        pipeline = Pipeline(loaded.engine, preparer, Answers(loaded.version.labels, job.top_k), threads=threads)
        pipeline.batch_size = loaded.safe_batch
        return pipeline

    def _ticks(self) -> int:
        """Grows with every sign of progress."""
        if self._loading:
            return time.monotonic_ns()  # making a model ready has time limits of its own
        return self._rows + self._slices.committed + self._reader.ticks

    def _report(self, state: str) -> None:
        self.place.report(state, model=self._warm.names or None, images=self._rows)
