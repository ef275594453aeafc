"""What the results of a job share, for the jobs of the last second: a page is no reason to look that up again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from store.results import Head, read_head

if TYPE_CHECKING:
    from api.context import Context

KNOWN_S = 1.0  # how long a job that was deleted elsewhere may still be there, where nothing is read of it
MOST = 1_000  # jobs that are remembered


class KnownJobs:
    """The heads of the jobs of the last second. Thread-safe. A part of the context."""

    def __init__(self, context: Context, now: Callable[[], float] = time.monotonic) -> None:
        self._database = context.database
        self._now = now
        self._heads: dict[int, tuple[float, Head]] = {}
        self._forgotten = 0  # jobs; what was read before the last of them is not remembered
        self._lock = threading.Lock()

    def head_of(self, job_id: int) -> Head:
        """What all of its results have in common, as the database knew KNOWN_S ago or later. Raises StoreError."""
        asked = self._now()  # before the query: an answer is as old as its question
        with self._lock:
            at, head = self._heads.get(job_id, (asked - KNOWN_S, None))
            forgotten = self._forgotten
        if head is not None and asked - at < KNOWN_S:
            return head
        head = read_head(self._database, job_id)
        with self._lock:
            if head.settled and forgotten == self._forgotten:
                if len(self._heads) >= MOST:
                    self._heads.clear()
                self._heads[job_id] = asked, head
        return head

    def forget(self, job_id: int) -> None:
        """A job was deleted here."""
        with self._lock:
            self._heads.pop(job_id, None)
            self._forgotten += 1
