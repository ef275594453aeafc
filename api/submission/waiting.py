"""Waiting for a job on behalf of a client that said `Prefer: wait=N` (RFC 7240), without a thread for each."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from api.context import Context
from store import insights
from store.rows import JobRow

LONGEST_S = 60.0
AT_ONCE = 100  # clients that wait; more are answered without
PER_TOKEN = AT_ONCE // 2
FIRST_S, LAST_S = 0.02, 0.25  # between two looks
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)
# For a route that reads the header by itself.
PREFER = {
    "name": "prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`wait=N`: answer when the job is over, or after N seconds (at most 60).",
}

T = TypeVar("T")


def wished(prefer: str | None, default: float = 0.0) -> float:
    """How many seconds a client would wait; what is not understood is ignored, as the RFC wants it."""
    found = _WAIT.search(prefer or "")
    return min(float(found[1]), LONGEST_S) if found else default


def over(context: Context, job_id: int) -> JobRow | None:
    """The job once it is over; None until then. Raises UnknownJob."""
    row = insights.job(context.database, job_id)
    return row if row.state.is_final else None


class Waiters:
    """Those who wait, in this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: Counter[str] = Counter()  # by token

    async def until(self, look: Callable[[], T | None], seconds: float, request: Request | None = None) -> T | None:
        """What `look` (which may block for a moment) gives, as soon as that is not None; None after the time.

        `request` is the one that waits: its token has a share of the places, and when its client has gone the wait ends
        with ClientDisconnect. Those for whom there is no place get one look.
        """
        token_id = "" if request is None else str(getattr(request.state, "token_id", ""))
        if self._waiting[token_id] >= PER_TOKEN or self._waiting.total() >= AT_ONCE:
            return await run_in_threadpool(look)
        self._waiting[token_id] += 1
        try:
            return await self._looked(look, time.monotonic() + seconds, request)
        finally:
            self._waiting[token_id] -= 1
            self._waiting += Counter()  # forgets those at zero

    async def _looked(self, look: Callable[[], T | None], until: float, request: Request | None) -> T | None:
        pause = FIRST_S
        while True:
            found = await run_in_threadpool(look)
            left = until - time.monotonic()
            if found is not None or left <= 0 or self._context.stopping.is_set():
                return found
            await asyncio.sleep(min(pause, left))
            if request is not None and await request.is_disconnected():
                raise ClientDisconnect
            pause = min(LAST_S, pause * 1.5)
