"""A shelf of things that cost much to make: each made once for all who ask, few enough kept, and none that is wrong."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from api.images.gate import Gate
from api.problems import Problem

REST_S = 2.0  # a thing that still changes is made once in this time
SHARE = 4  # and not before it has rested this many times as long as it took
WAIT_S = 20.0  # for a thing that another is making
ASKING = 8  # that may make something or wait for it; a server has forty threads for all requests


class Sized(Protocol):
    """What can be kept."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""


T = TypeVar("T", bound=Sized)


@dataclass(slots=True)
class _Place(Generic[T]):
    """Where one thing lies. `made` begins with the first; only who holds the lock changes it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    made: tuple[object, T] | None = None  # its stamp, the thing
    fresh_until: float = 0.0  # monotonic


class Shelf(Generic[T]):
    """Things by key. The ones asked for longest ago go first where there are more than `most`, or they are too big."""

    def __init__(self, what: str, most: int, most_bytes: int) -> None:
        """`what` is said of requests that make something: "evaluations are measured"."""
        self._places: OrderedDict[Hashable, _Place[T]] = OrderedDict()
        self._lock = threading.Lock()
        self._gate = Gate(ASKING, what, wait_s=0)
        self._what, self._most, self._most_bytes = what, most, most_bytes

    def get(self, key: Hashable, stamp: object, make: Callable[[], T], *, settled: bool) -> T:
        """The thing of this key as `stamp` says it is; made if it is not there. Raises Problem 503, and as `make` does.

        `settled`: it does not change as long as its stamp does not. If not, it may be as old as REST_S.
        """
        place = self._place(key)
        if (found := _found(place, stamp, settled)) is not None:
            return found
        with self._gate.turn():
            if not place.lock.acquire(timeout=WAIT_S):
                raise Problem("unavailable", f"Expected an answer within {WAIT_S:.0f} s, but {self._what} still.")
            try:
                if (found := _found(place, stamp, settled)) is not None:
                    return found
                began = time.monotonic()
                thing = make()
                now = time.monotonic()
                place.fresh_until = now + max(REST_S, SHARE * (now - began))
                place.made = stamp, thing
            finally:
                place.lock.release()
        self._tidy()
        return thing

    def _place(self, key: Hashable) -> _Place[T]:
        with self._lock:
            place = self._places.setdefault(key, _Place())
            self._places.move_to_end(key)
            return place

    def _tidy(self) -> None:
        """Forget what was asked for longest ago; never the last."""
        with self._lock:
            sizes = [place.made[1].size if place.made else 0 for place in self._places.values()]
            total = sum(sizes)
            for size in sizes[:-1]:
                if len(self._places) <= self._most and total <= self._most_bytes:
                    return
                self._places.popitem(last=False)
                total -= size


def _found(place: _Place[T], stamp: object, settled: bool) -> T | None:
    made = place.made
    if made is None:
        return None
    is_it = made[0] == stamp or (not settled and time.monotonic() < place.fresh_until)
    return made[1] if is_it else None
