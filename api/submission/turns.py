"""Turns: large scans go by twos, with pauses in which requests are answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

QUICK_S = 0.4  # a scan that takes no longer waits for nobody
STEP_S = 0.01  # a large one works so long, then lets others in
PAUSE_S = 0.002
LOOK_EVERY = 32  # items between two looks at the clock

T = TypeVar("T")


class Stopped(Exception):
    """The scan is to end here: the process stops, or its job is not wanted any more."""


class Turns:
    """Whose turn it is among large scans."""

    def __init__(self, at_once: int = 2) -> None:
        self._free = threading.Semaphore(at_once)

    def politely(self, found: Iterator[T], is_wanted: Callable[[], bool]) -> Iterator[T]:
        """The same, taking turns once it has gone on for long. Raises Stopped once it is not wanted."""
        began = step = time.monotonic()
        holds = False
        try:
            for n, thing in enumerate(found):
                yield thing
                if n % LOOK_EVERY or (now := time.monotonic()) - step < STEP_S:
                    continue
                if not is_wanted():
                    raise Stopped
                if holds:
                    self._free.release()
                    holds = False
                if now - began > QUICK_S:
                    time.sleep(PAUSE_S)  # before asking again, so that one who waits comes first
                    holds = self._free.acquire()
                step = time.monotonic()
        finally:
            if holds:
                self._free.release()
