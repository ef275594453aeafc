"""The sweep, run every few seconds by a supervisor, and the hints that keep its workers awake."""

import logging

from store.database import Database
from store.errors import StoreError
from store.insights import ready_shards
from store.sweep import sweep
from worker.dispatch import Dispatcher
from worker.settings import Settings

log = logging.getLogger(__name__)


class Sweeper:
    """Runs the sweep and keeps a few hints in the queue while there is work."""

    def __init__(self, settings: Settings, queue: str, workers: int) -> None:
        self._database = Database(settings.database)
        self._dispatcher = Dispatcher(settings)
        self._queue = queue
        self._workers = workers

    def sweep(self) -> None:
        """One sweep; a database or broker that is away is only noted."""
        try:
            sweep(self._database)
            ready = ready_shards(self._database, self._queue)
        except StoreError as error:
            log.warning("sweep put off: %s", error)
            return
        waiting = self._dispatcher.waiting(self._queue) if ready else None
        for _ in range(min(ready, 2 * self._workers) - waiting if waiting is not None else 0):
            self._dispatcher.ring(None, self._queue)

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()
        self._database.close()
