"""Waiting for a job on behalf of a client that said `Prefer: wait=N` (RFC 7240), without a thread for each."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from api.context import Context

LONGEST_S = 60.0
AT_ONCE = 100  # clients that wait; more are answered without
FIRST_S, LAST_S = 0.02, 0.25  # between two looks
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)

T = TypeVar("T")


def wished(prefer: str | None, default: float = 0.0) -> float:
    """How many seconds a client would wait; what is not understood is ignored, as the RFC wants it."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST_S) if found else default


class Waiters:
    """Those who wait, in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting = 0

    async def until(self, look: Callable[[], T | None], seconds: float) -> T | None:
        """What `look` (which may block for a moment) gives, as soon as that is not None; None after the time."""
        if self._waiting >= AT_ONCE:
            return await run_in_threadpool(look)
        self._waiting += 1
        try:
            return await self._looked(look, time.monotonic() + seconds)
        finally:
            self._waiting -= 1

    async def _looked(self, look: Callable[[], T | None], until: float) -> T | None:
        pause = FIRST_S
        while True:
            found = await run_in_threadpool(look)
            left = until - time.monotonic()
            if found is not None or left <= 0 or self._context.stopping.is_set():
                return found
            await asyncio.sleep(min(pause, left))
            pause = min(LAST_S, pause * 1.5)
