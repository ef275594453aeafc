"""A worker's two processes, parent and child, and what each knows of the other: a few numbers that both see.

The parent is Celery's: it hears the broker, and starts a child again that died. The child does the work.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import time

from models.children import die_with_parent

log = logging.getLogger(__name__)

BACKOFF_S = (0.0, 0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a child works, by how many died close together
STEADY_S = 60.0  # a child that lived this long is followed without a wait
LOOK_S = 1.0
LOOKS = 10  # at a dead child that nobody replaces, before the parent gives itself up
CHILDLESS = 74  # exit status: the supervisor starts another one


class _Numbers(ctypes.Structure):
    _fields_ = (
        ("is_stopping", ctypes.c_bool),  # the worker was told to stop
        ("is_rung", ctypes.c_bool),  # the child works because somebody rang
        ("is_looking", ctypes.c_bool),  # the child works on what it found by itself
        ("is_broken", ctypes.c_bool),  # the child cannot work, and neither could its successor
        ("child", ctypes.c_int),  # its process id; 0 before there is any
        ("deaths", ctypes.c_int),  # of children, close together
        ("born", ctypes.c_double),  # when the child began, by the machine's monotonic clock
    )


class Family:
    """Make it in the parent, before any child. Every number has one writer at a time."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        self.numbers = _Numbers.from_buffer(mmap.mmap(-1, ctypes.sizeof(_Numbers)))

    @property
    def is_working(self) -> bool:
        """Whether the child works, whoever told it to."""
        return bool(self.numbers.is_rung or self.numbers.is_looking)

    def begin_child(self) -> float:
        """The child is there, first or next. It ends with its parent; returns how long it rests before it works."""
        die_with_parent(self.parent)
        numbers, now = self.numbers, time.monotonic()
        if numbers.child:
            numbers.deaths = 0 if now - numbers.born > STEADY_S else numbers.deaths + 1
        numbers.is_rung = numbers.is_looking = False  # a predecessor may have died at work
        numbers.child, numbers.born = os.getpid(), now
        return BACKOFF_S[min(numbers.deaths, len(BACKOFF_S) - 1)]

    def got_on(self) -> None:
        """This child has got something done: that others died before it is no reason to rest. For the child."""
        self.numbers.deaths = 0

    def has_lost_child(self) -> bool:
        """Whether the child is dead and has no successor yet. For the parent."""
        child = self.numbers.child
        if not child:
            return False
        try:  # without taking the status away from the pool, which waits for it
            return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return bool(child == self.numbers.child)

    def mind_child(self) -> None:
        """End this process, the parent, where its child is dead and the pool does not replace it.

        The pool does that from a loop that stands still while the broker cannot be reached. Never returns.
        """
        looks = 0
        while True:
            time.sleep(LOOK_S)
            looks = looks + 1 if self.has_lost_child() and not self.numbers.is_stopping else 0
            if looks >= LOOKS:
                log.error("process %d is dead and was not replaced for %.0f s", self.numbers.child, LOOKS * LOOK_S)
                os._exit(CHILDLESS)
