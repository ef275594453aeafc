"""A gate that few requests pass at once: what costs much memory or time must not take it from all others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem

WAIT_S = 10.0


class Gate:
    """At most so many at once; who waits too long is told to come back."""

    def __init__(self, most: int, what: str, wait_s: float = WAIT_S) -> None:
        """`what` is said of those inside: "queries run"."""
        self._turns = threading.BoundedSemaphore(most)
        self._most, self._what, self._wait_s = most, what, wait_s

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be one of them. Raises Problem 503."""
        if not self._turns.acquire(timeout=self._wait_s):
            raise Problem("unavailable", f"{self._most} {self._what} already, as many as may at once.")
        try:
            yield
        finally:
            self._turns.release()
