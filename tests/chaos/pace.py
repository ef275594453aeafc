"""The pace of a run: when rows were committed, and so how long after each fault the next one came."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from contextlib import suppress

from store.errors import StoreError
from tests.chaos.world import World

LOOK_S = 0.05
# Counters of the fenced commits: cheaper than counting rows. Retries make it smaller, which is no commit.
PROGRESS = "SELECT COALESCE(SUM(ok + failed), 0) FROM shards"


class Pace:
    """A thread that looks at the progress all the time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pace", daemon=True)
        self.commits: list[float] = []  # monotonic times at which there was more than before

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        before = 0
        while not self._ending.wait(LOOK_S):
            with suppress(StoreError):
                now = self._world.number(PROGRESS)
                if now > before:
                    self.commits.append(time.monotonic())
                before = now

    @property
    def silent_s(self) -> float:
        """How long ago the last commit was seen."""
        return time.monotonic() - self.commits[-1] if self.commits else 0.0

    def recovery(self, at: float) -> float | None:
        """Seconds from a moment to the next commit; None where there was no more."""
        place = bisect_right(self.commits, at)
        return self.commits[place] - at if place < len(self.commits) else None


def quantile(values: list[float], share: float) -> float:
    """The value below which that share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
