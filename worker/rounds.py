"""A supervisor's rounds: every few seconds it sweeps, rings for work that waits, and looks after its workers.

In a thread of their own: a database or a broker that hangs keeps nobody from being started again, or from ending.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.kept import Kept
from worker.settings import Settings

if TYPE_CHECKING:
    from store.workers import WorkerRow
    from worker.sweeper import Sweeper
    from worker.watchdog import Watchdog

log = logging.getLogger(__name__)

EVERY_S = 3.0
FIRST_S = 1.5  # a worker that starts looks for work by itself
END_S = 1.0  # for a round that is under way; one that hangs is left behind


class Rounds:
    """`tell` hears, in words for a person, what became of workers' processes. `workers` are only looked at."""

    def __init__(
        self, settings: Settings, queues: Sequence[str], workers: Sequence[Kept], tell: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._workers = workers
        self._tell = tell
        self._succession = Succession()
        self._stuck: list[tuple[Kept, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Return when no round is under way, or when one hangs."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def take_stuck(self) -> list[tuple[Kept, int]]:
        """Workers that were found to take no work though there is some, each with its process; each is told once."""
        found, self._stuck = self._stuck, []
        return found

    def _run(self) -> None:
        if self._ended.wait(FIRST_S):
            return
        from worker.sweeper import Sweeper  # SQLAlchemy and Celery: half a second that a short command does not need
        from worker.watchdog import Watchdog

        sweeper = Sweeper(self._settings, self._queues, max(1, len(self._workers) // max(1, len(self._queues))))
        watchdog = Watchdog(sweeper.database)
        while True:
            self._round(sweeper, watchdog)
            if self._ended.wait(EVERY_S * random.uniform(0.8, 1.2)):  # noqa: S311  spreads the sweepers
                break
        sweeper.close()

    def _round(self, sweeper: Sweeper, watchdog: Watchdog) -> None:
        from store.errors import StoreError
        from store.workers import list_workers

        try:
            sweeper.sweep()
            rows = {row.id: row for row in list_workers(sweeper.database)}
            for line in self._succession.look(self._workers, rows):
                self._tell(line)
            waiting = {row.id for row in rows.values() if row.trouble}
            for kept in watchdog.look(self._workers, waiting, time.monotonic(), 2 * EVERY_S):
                self._stuck.append((kept, kept.pid))
        except StoreError as error:
            log.warning("sweep put off: %s", error)
        except Exception:  # the thread is there for as long as the supervisor
            log.exception("a round was cut short")


class Succession:
    """Notices by what workers sign in with that the child of one died, and that another took its place."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # the child of each parent

    def look(self, workers: Sequence[Kept], rows: Mapping[str, WorkerRow]) -> Iterator[str]:
        """A line for each child that took another's place since the last look."""
        for kept in workers:
            parent, row = kept.pid, rows.get(kept.program.id)
            if row is None or not parent or _group(row.pid) != parent:
                continue
            before = self._seen.get(parent, row.pid)
            self._seen[parent] = row.pid
            if before != row.pid:
                log.warning("%s: process %d died; %d took its place", kept.program.title, before, row.pid)
                yield (
                    f"{kept.program.title} lost its process {before}; another one went on in its place. "
                    f"Log: {kept.program.log}"
                )


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0
