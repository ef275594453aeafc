"""Whose the jobs are that were asked for a moment ago: a page of results is no reason to look that up again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from store import insights

if TYPE_CHECKING:
    from api.context import Context

KNOWN_S = 1.0  # how long a job that was deleted elsewhere is still there, without its rows
MOST = 1_000  # jobs that are remembered


class KnownJobs:
    """The owners of the jobs of the last second. Thread-safe. A part of the context."""

    def __init__(self, context: Context, now: Callable[[], float] = time.monotonic) -> None:
        self._database = context.database
        self._now = now
        self._owners: dict[int, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def owner_of(self, job_id: int) -> str:
        """Whose job it is, as the database knew KNOWN_S ago or later. Raises UnknownJob, StoreError."""
        asked = self._now()  # before the query: an answer is as old as its question
        with self._lock:
            at, owner = self._owners.get(job_id, (asked - KNOWN_S, ""))
        if asked - at < KNOWN_S:
            return owner
        owner = insights.owner_of(self._database, job_id)
        with self._lock:
            if len(self._owners) >= MOST:
                self._owners.clear()
            self._owners[job_id] = asked, owner
        return owner

    def forget(self, job_id: int) -> None:
        """A job was deleted here."""
        with self._lock:
            self._owners.pop(job_id, None)
