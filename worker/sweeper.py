"""The sweep, run every few seconds by a supervisor, and the hints that keep its workers awake."""

import logging
from collections.abc import Sequence

from store.database import Database
from store.errors import StoreError
from store.insights import ready_shards
from store.sweep import sweep
from worker.dispatch import Dispatcher
from worker.settings import Settings

log = logging.getLogger(__name__)


class Sweeper:
    """Runs the sweep and keeps a few hints in the queue while there is work."""

    def __init__(self, settings: Settings, queues: Sequence[str], workers: int) -> None:
        """`workers`: for each queue."""
        self._database = Database(settings.database)
        self._dispatcher = Dispatcher(settings)
        self._queues = queues
        self._workers = workers

    def sweep(self) -> None:
        """One sweep; a database or broker that is away is only noted."""
        try:
            sweep(self._database)
            ready = {queue: ready_shards(self._database, queue) for queue in self._queues}
        except StoreError as error:
            log.warning("sweep put off: %s", error)
            return
        for queue, count in ready.items():
            self._top_up(queue, count)

    def _top_up(self, queue: str, ready: int) -> None:
        waiting = self._dispatcher.waiting(queue) if ready else None
        for _ in range(min(ready, 2 * self._workers) - waiting if waiting is not None else 0):
            self._dispatcher.ring(None, queue)

    def close(self) -> None:
        """Close the connections."""
        self._dispatcher.close()
        self._database.close()
