"""A worker's place: one queue on one device, held by an exclusive lock, and what is reported from it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection

from store import schema, workers
from store.claims import Claimer, claim, release_dead
from store.database import Database
from store.errors import StoreError
from store.rows import Lease
from store.sweep import sweep
from worker.devices import Device
from worker.locks import FileLock
from worker.settings import Settings

log = logging.getLogger(__name__)

LOCK_POLL_S = 0.05


class Place:
    """Where one worker process stands: its database, its name, its lock. One thread uses it.

    Only `stay_seen` is for another.
    """

    def __init__(self, settings: Settings, device: Device, queue: str, stopping: Callable[[], bool]) -> None:
        self.settings = settings
        self.device = device
        self.queue = queue
        self.stopping = stopping
        self.database = Database(settings.database)
        self.worker_id = device.worker_id(settings.run_folder, queue)
        self._lock = FileLock(device.lock_path(settings.run_folder, queue))

    def check(self) -> None:
        """Raise SchemaMismatch where the database is not ours to work with, StoreError where it is away."""
        schema.check(self.database)

    @property
    def held(self) -> bool:
        """Whether this process holds the place's lock."""
        return self._lock.held

    def take(self) -> bool:
        """Hold the place's lock from here on; whether an earlier holder's shards were freed by that.

        Waits for the lock as long as the worker is not told to stop. Having got it proves that whoever held it is dead.
        Raises OSError where the lock cannot be made.
        """
        if self._lock.held:
            return False
        while not self._lock.acquire():
            if self.stopping():
                return False
            time.sleep(LOCK_POLL_S)
        try:
            freed = release_dead(self.database, self.worker_id)
            if freed:
                sweep(self.database)
        except StoreError as error:
            log.warning("the database is away: %s", error)  # leases end by themselves
            return False
        return freed > 0

    def claim(self, warm: Collection[int] = ()) -> Lease | None:
        """The next shard that is due on this queue, or None. Raises StoreError."""
        return claim(self.database, Claimer(self.worker_id, self.queue, warm, self.settings.lease_s))

    def stay_seen(self) -> None:
        """Sign in again: an idle worker must not look like a dead one. Raises StoreError."""
        if self._lock.held:
            workers.seen(self.database, self.worker_id, os.getpid())

    def report(self, state: str, *, model: str | None = None, images: int = 0) -> None:
        """Sign in: what this worker does now. Raises StoreError."""
        report = workers.WorkerReport(
            id=self.worker_id,
            host=socket.gethostname(),
            device=self.device.title,
            pid=os.getpid(),
            state=state,
            model=model,
            images=images,
        )
        workers.report(self.database, report)
