"""The watchdog: finds workers that take no work though there is some.

What goes by is only what the database and the locks say, never what a worker says of itself: there is a shard that it
could claim; it holds none, nor does anybody else have its place; and that has been so at every look for a while. A
worker that loads a model, reads a long archive or trains holds a shard, and proves by its lease that it gets on. A job
that is paused, and a shard that waits for its next attempt, cannot be claimed, and make nobody suspect.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress

from store.counters import WATCHDOG_RESTARTS, count_up
from store.database import Database
from store.due import due_queues, holders
from worker.kept import Kept
from worker.locks import FileLock

PATIENCE_S = 30.0  # that a worker may leave work lying; five of its own looks for some
STARTING_S = 60.0  # that a worker may take until it looks for work


class Watchdog:
    """Looks at the workers of one supervisor. One thread uses it."""

    def __init__(self, database: Database, *, patience_s: float = PATIENCE_S, starting_s: float = STARTING_S) -> None:
        self.patience_s = patience_s
        self._starting_s = starting_s
        self._database = database
        self._idle_s: dict[int, float] = {}  # by process
        self._last: float | None = None

    def look(self, workers: Sequence[Kept], waiting: Collection[str], now: float, most_s: float) -> list[Kept]:
        """The workers whose processes should be started again. Raises StoreError.

        `waiting`: those who said that they wait for something, such as space on a disk. `now`: of time.monotonic; no
        more than `most_s` are counted since the last look, so that a supervisor that stood still itself blames nobody.
        """
        passed = min(now - self._last, most_s) if self._last is not None else 0.0
        self._last = now
        due = due_queues(self._database, {kept.program.queue for kept in workers})
        busy = {*waiting, *holders(self._database)} if due else set()
        idle = [kept for kept in workers if kept.program.queue in due and kept.program.id not in busy]
        suspects = {kept.pid: kept for kept in idle if self._should_work(kept, now)}
        self._idle_s = {pid: self._idle_s.get(pid, -passed) + passed for pid in suspects}
        stuck = [kept for pid, kept in suspects.items() if self._idle_s[pid] > self.patience_s]
        if stuck:  # counted; and proof that the database can be written, without which no worker can claim
            with self._database.write() as connection:
                count_up(connection, {WATCHDOG_RESTARTS: len(stuck)})
        return stuck

    def _should_work(self, kept: Kept, now: float) -> bool:
        """Whether it had the time to begin, and its place is not another's."""
        if kept.pid == 0 or now - kept.started < self._starting_s or kept.program.lock is None:
            return False
        holder = FileLock(kept.program.lock).holder()
        return holder is None or _group(holder) == kept.pid


def _group(pid: int) -> int:
    with suppress(OSError):
        return os.getpgid(pid)
    return 0
