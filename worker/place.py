"""A worker's place: one queue on one device, held by an exclusive lock, and what is reported from it."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from store import schema, workers
from store.claims import Claimer, claim, release_dead, release_held
from store.database import Database
from store.due import due_queues
from store.errors import StoreError
from store.rows import Lease
from store.sweep import sweep
from worker.devices import Device
from worker.inhand import InHand, hand_path
from worker.locks import FileLock
from worker.settings import Settings

log = logging.getLogger(__name__)

LOCK_POLL_S = 0.05


class Place:
    """Where one worker process stands: its database, its name, its lock. One thread uses it.

    Only `stay_seen` and `has_work` are for others.
    """

    def __init__(self, settings: Settings, device: Device, queue: str, stopping: Callable[[], bool]) -> None:
        self.settings = settings
        self.device = device
        self.queue = queue
        self.stopping = stopping
        self.database = Database(settings.database)
        self.worker_id = device.worker_id(settings.run_folder, queue)
        self._trouble: str | None = None
        self.hand = InHand()  # in memory only, until the place is ours
        self._lock = FileLock(device.lock_path(settings.run_folder, queue))
        self._is_settled = False  # what a dead holder of the place had is freed
        self.owes = False  # the database was away: it may have shards on our name that nobody here holds

    def check(self) -> None:
        """Raise SchemaMismatch where the database is not ours to work with, StoreError where it is away."""
        schema.check(self.database)

    @property
    def held(self) -> bool:
        """Whether this process holds the place's lock."""
        return self._lock.held

    def take(self) -> bool:
        """Hold the place's lock from here on; whether shards on its name that nobody holds were freed by that.

        Waits for the lock as long as the worker is not told to stop. Having got it proves that whoever held it is dead.
        Call it with no shard in hand. Raises OSError where the lock cannot be made.
        """
        if self._lock.held and not self.owes:
            return False
        while not self._lock.acquire():
            if self.stopping():
                return False
            time.sleep(LOCK_POLL_S)
        if self.hand.path is None:
            self._take_over()
        try:
            if self._is_settled:
                freed = release_held(self.database, self.worker_id)
            elif freed := release_dead(self.database, self.worker_id):
                sweep(self.database)
            self.owes, self._is_settled = False, True
        except StoreError as error:
            log.warning("the database is away: %s", error)  # leases end by themselves
            self.owes = True
            return False
        return freed > 0

    def _take_over(self) -> None:
        """Learn what the last holder had in hand when it ended; before anybody can claim its shards again."""
        try:
            self.hand = InHand(hand_path(self.settings.run_folder, self.device.name, self.queue))
        except OSError as error:
            log.warning("what is in hand cannot be noted, so an image that ends a worker is found later: %s", error)
            return
        if suspects := self.hand.take_over():
            log.warning("the last worker here ended with %d images in hand; each is looked at alone", suspects)

    def claim(self, warm: Collection[int] = (), *, is_busy: bool = False) -> Lease | None:
        """The next shard that is due on this queue, or None. `is_busy`: as in Claimer. Raises StoreError."""
        return claim(self.database, Claimer(self.worker_id, self.queue, warm, self.settings.lease_s, is_busy))

    def has_work(self) -> bool:
        """Whether there is something to claim. Raises StoreError."""
        return self._lock.held and bool(due_queues(self.database, [self.queue]))

    def stay_seen(self) -> None:
        """Sign in again: an idle worker must not look like a dead one. Raises StoreError."""
        if self._lock.held:
            workers.seen(self.database, self.worker_id, os.getpid(), self._trouble)

    def tell_trouble(self, trouble: str | None) -> None:
        """Let people know what this worker waits for, where that can be written; None: it goes on."""
        self._trouble = trouble
        if not self._lock.held:
            return
        with suppress(StoreError):  # readers of a database on a full disk see by themselves that it is
            if not workers.seen(self.database, self.worker_id, os.getpid(), trouble):
                self.report("idle")  # its first word

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
            trouble=self._trouble,
        )
        workers.report(self.database, report)
