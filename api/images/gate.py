"""Gates: what costs much memory, time or disk must not be taken from all others by a few requests, or by one token."""

from __future__ import annotations

import threading
from collections import Counter
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


class Shares:
    """What answers hold until they are sent: so much altogether, and half of that at the most for one token."""

    def __init__(self, most: int, what: str, kind: str = "unavailable") -> None:
        """`what` is said of what is held: "exports at once"; `kind` is the slug of the refusal."""
        self._most, self._what, self._kind = most, what, kind
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, token_id: str, amount: int = 1) -> Iterator[None]:
        """Hold an amount for a token; more than its share counts as the share. Waits for nothing. Raises Problem."""
        share = self._most // 2
        amount = min(amount, share)
        with self._lock:
            if self._held[token_id] + amount > share:
                raise Problem(self._kind, f"Expected at most {share:,} {self._what} with one token.")
            if self._held.total() + amount > self._most:
                raise Problem(self._kind, f"Expected at most {self._most:,} {self._what} of this server.")
            self._held[token_id] += amount
        try:
            yield
        finally:
            with self._lock:
                self._held[token_id] -= amount
                self._held += Counter()  # forgets those at zero
