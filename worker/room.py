"""Patience with a full disk: work waits, says what for, and goes on by itself once there is space."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from store.errors import DatabaseFull
from store.room import no_room_for

T = TypeVar("T")

log = logging.getLogger(__name__)

WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # between two tries; the last one again and again
_FULL = (errno.ENOSPC, errno.EDQUOT)
LOOK_S = 0.1  # how soon a worker that waits sees that it is to stop


class NoRoom(Exception):
    """No space is left for what another process writes; the message says so to a person."""


def lacking(error: BaseException) -> str | None:
    """What a person reads of an error that only says that a disk is full; None for any other."""
    if isinstance(error, NoRoom):
        return str(error)
    if isinstance(error, DatabaseFull):
        return no_room_for(error.what)
    if isinstance(error, OSError) and (error.errno in _FULL or "no space left" in str(error).lower()):
        return no_room_for(str(error.filename or "files"))
    return None


class Patience:
    """Of one worker. One thread uses it; `is_waiting` is for others too."""

    def __init__(self, stopping: Callable[[], bool], tell: Callable[[str | None], None]) -> None:
        """`tell` hears what is waited for, and None when it is over."""
        self._stopping = stopping
        self._tell = tell
        self._turn = 0
        self._what: str | None = None
        self.is_waiting = False

    def through(self, act: Callable[[], T]) -> T:
        """Do it; where a disk is full, again and again. Raises what it raises, that too once the worker is to stop."""
        waited = False
        while True:
            try:
                done = act()
            except (DatabaseFull, OSError) as error:
                what = lacking(error)
                if what is None or self._stopping():
                    raise
                self.wait(what)
                waited = True
            else:
                if waited:
                    self.over()
                return done

    def wait(self, what: str) -> None:
        """Say what is waited for, and wait: longer each time, until `over`."""
        self.note(what)
        until = time.monotonic() + WAITS_S[min(self._turn, len(WAITS_S) - 1)]
        self._turn += 1
        self.is_waiting = True
        try:
            while time.monotonic() < until and not self._stopping():
                time.sleep(LOOK_S)
        finally:
            self.is_waiting = False

    def note(self, what: str) -> None:
        """Say what is waited for, without waiting."""
        if what != self._what:
            log.warning("%s", what)
        self._what = what
        self._tell(what)

    def over(self) -> None:
        """What was waited for is there."""
        self._turn = 0
        if self._what is not None:
            self._what = None
            log.warning("there is space again: work goes on")
            self._tell(None)
