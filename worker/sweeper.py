"""The sweep, run every few seconds by a supervisor, and the hints that keep its workers awake."""

import logging
import time
from collections.abc import Sequence

from store.counters import DISK_FULL, count_up
from store.database import Database
from store.errors import DatabaseFull
from store.insights import ready_shards
from store.sweep import sweep
from worker.dispatch import Dispatcher
from worker.settings import Settings

log = logging.getLogger(__name__)

AFTER_FULL_S = 20.0  # longer than a worker waits between two tries to write
PATIENCE_S = 5.0  # with a database that is locked: there is another sweep soon


class Sweeper:
    """Runs the sweep and keeps a few hints in the queue while there is work."""

    def __init__(self, settings: Settings, queues: Sequence[str], workers: int) -> None:
        """`workers`: for each queue."""
        self.database = Database(settings.database, patience_s=PATIENCE_S)
        self._dispatcher = Dispatcher(settings)
        self._was_full = False
        self._rests_until = 0.0
        self._queues = queues
        self._workers = workers

    def sweep(self) -> None:
        """One sweep; a broker that is away is only noted. Raises StoreError."""
        self._let_workers_write()
        try:
            sweep(self.database)
        except DatabaseFull:
            self._was_full = True
            raise
        ready = {queue: ready_shards(self.database, queue) for queue in self._queues}
        for queue, count in ready.items():
            if not self._top_up(queue, count):
                return  # each call to a broker that is away takes a second

    def _let_workers_write(self) -> None:
        """Put sweeps off for a moment once a full disk has space again. Raises DatabaseFull.

        Leases have ended meanwhile that nobody could renew; who still has the work in hand writes it first.
        """
        if self._was_full:
            with self.database.write() as connection:
                count_up(connection, {DISK_FULL: 1})
            self._was_full, self._rests_until = False, time.monotonic() + AFTER_FULL_S
        if time.monotonic() < self._rests_until:
            raise DatabaseFull("There is space again, and workers write first what they hold.")

    def _top_up(self, queue: str, ready: int) -> bool:
        """Have enough hints in a queue; whether the broker is there."""
        if not ready:
            return True
        waiting = self._dispatcher.waiting(queue)
        if waiting is None:
            return False
        return all(self._dispatcher.ring(None, queue) for _ in range(min(ready, 2 * self._workers) - waiting))

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()
        self.database.close()
