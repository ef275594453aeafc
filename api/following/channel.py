"""One job's news: looked for once, by one poller, and heard by any number of listeners."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from api.following.messages import Look, Told
from api.following.position import Position
from store.errors import StoreError

log = logging.getLogger(__name__)

POLL_S = 0.5
TROUBLE_S = 3.0  # between looks while the database cannot be used
KEPT = 2000  # of the last events and epochs, for listeners that are behind
_PACE = ("images_per_s", "eta_s")  # they change with the clock alone: no news by themselves

LookAt = Callable[[Position], Awaitable[Look]]


class Channel:
    """The poller of one job and what it has found. Belongs to one event loop."""

    def __init__(self, look_at: LookAt, latest: Callable[[], Awaitable[Position]]) -> None:
        """`look_at` finds what is new since a position, `latest` the position now. Both may raise StoreError."""
        self.listeners = 0
        self.look_at = look_at
        self.count = 0  # of all that was ever told here
        self.last = Look((), None, None)  # what the last look has found
        self.is_over = False  # nothing more will be told here
        self.is_closed = asyncio.Event()  # the server is going
        self._latest = latest
        self._position: Position | None = None  # of the poller
        self._told: deque[Told] = deque(maxlen=KEPT)
        self._news = asyncio.Event()  # set once; then another takes its place
        self._begun = asyncio.Event()
        self._poller = asyncio.create_task(self._poll())

    def close(self) -> None:
        """Let every listener go: the server is ending."""
        self.is_closed.set()
        self.stop()

    def stop(self) -> None:
        """End the poller."""
        self._poller.cancel()

    async def begun(self, timeout_s: float) -> bool:
        """Wait until whatever happens from now on will be told here; False after so many seconds."""
        return await _within(self._begun, timeout_s)

    def since(self, count: int) -> list[Told] | None:
        """What was told after the first `count`; None where some of it is no longer kept."""
        new = self.count - count
        return None if new > len(self._told) else list(islice(self._told, len(self._told) - new, None))

    async def news(self, timeout_s: float) -> bool:
        """Wait for news; False after so many seconds without."""
        return await _within(self._news, timeout_s)

    async def _poll(self) -> None:
        try:
            while not self.is_over:
                try:
                    wait = await self._turn()
                except StoreError as error:
                    log.warning("A job cannot be followed now: %s", error)
                    wait = TROUBLE_S
                except Exception:  # whoever listens is told more later, instead of nothing for ever
                    log.exception("A job cannot be followed now")
                    wait = TROUBLE_S
                if not self.is_over:
                    await asyncio.sleep(wait)
        finally:  # whatever ended it: nobody waits for news that will not come
            self.is_over = True
            self._begun.set()
            self._announce()

    async def _turn(self) -> float:
        """Look once and tell; returns how long to wait then."""
        if self._position is None:
            # What happened before is each listener's own to read; what happens from here on is told here.
            self._position = await self._latest()
            self._begun.set()
        look = await self.look_at(self._position)
        for told in look.told:
            self._position = told.after(self._position)
        self._told.extend(look.told)
        self.count += len(look.told)
        is_same = steady(look.progress) == steady(self.last.progress) and self.last.is_whole
        is_news = bool(look.told) or look.end is not None or not is_same
        self.last = replace(look, told=())
        self.is_over = look.end is not None
        if is_news:
            self._announce()
        return POLL_S if look.is_whole else 0

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def steady(progress: dict[str, Any] | None) -> dict[str, Any]:
    """The figures of a progress that stand still while nothing happens."""
    return {key: value for key, value in (progress or {}).items() if key not in _PACE}


async def _within(event: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
