"""All event streams of this process: which jobs are followed, how many may listen, and their end at a shutdown."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread

from api.context import Context
from api.following.channel import Channel
from api.following.messages import Look, latest, look
from api.following.position import Position
from api.problems import Problem

MOST_STREAMS = 256  # of the process
MOST_PER_TOKEN = 32
READERS = 4  # threads that look at the database for all streams, so that requests keep theirs
WATCH_S = 0.2

T = TypeVar("T")


class Hub:
    """The channels of this process, one per job that somebody follows. Cheap until then."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._places: Counter[str] = Counter()
        self._channels: dict[int, Channel] = {}
        self._readers: anyio.CapacityLimiter | None = None
        self._watcher: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, token_id: str) -> Iterator[None]:
        """Hold a place for one stream. Raises Problem 503 where all are taken, by this token or altogether."""
        with self._lock:
            if self._places[token_id] >= MOST_PER_TOKEN or self._places.total() >= MOST_STREAMS:
                raise Problem("too-many-streams", f"At most {MOST_PER_TOKEN} streams per token are open at once.")
            self._places[token_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._places[token_id] -= 1
                self._places += Counter()  # forgets those at zero

    @asynccontextmanager
    async def channel(self, job_id: int) -> AsyncIterator[Channel]:
        """The channel of a job while somebody listens; the last to leave ends it."""
        channel = self._channels.get(job_id)
        if channel is None or channel.is_over:  # a job that was over may be tried again
            channel = self._channels[job_id] = self._open(job_id)
        channel.listeners += 1
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if channel.listeners == 0:
                channel.stop()
                if self._channels.get(job_id) is channel:
                    del self._channels[job_id]

    def _open(self, job_id: int) -> Channel:
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
        database = self._context.database

        async def look_at(position: Position) -> Look:
            return await self.ask(partial(look, database, job_id, position))

        async def find_latest() -> Position:
            return await self.ask(partial(latest, database, job_id))

        return Channel(look_at, find_latest)

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the database in one of the streams' own threads; what the question raises.

        One that hangs is left behind: a shutdown does not wait for a database.
        """
        if self._readers is None:
            self._readers = anyio.CapacityLimiter(READERS)
        return await to_thread.run_sync(question, limiter=self._readers, abandon_on_cancel=True)

    async def _watch(self) -> None:
        """Close the channels once the server is to stop. A flag is looked at: it is set in a signal handler."""
        while self._channels:
            if self._context.stopping.is_set():
                for channel in self._channels.values():
                    channel.close()
                return
            await asyncio.sleep(WATCH_S)
