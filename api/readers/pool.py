"""The readers of an API process: started while several reads come at once, asked in turn, replaced when they die."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from api.readers.message import Answered, Asked, put, take

if TYPE_CHECKING:
    from api.context import Context

log = logging.getLogger(__name__)

PATIENCE_S = 0.25  # to wait for a free reader; then the API answers by itself
ANSWER_S = 120.0  # a reader that is silent for so long is ended
END_S = 2.0  # what a reader may take to end by itself


class ReaderDied(Exception):
    """The reader ended without an answer, or was ended because none came."""


class Reader:
    """One process. One thread at a time asks it."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Start it; `wait_ready` says when it answers quickly. Raises OSError."""
        # -P: a folder named api or store where the user stands must not be imported instead of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.readers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the API, which ends its readers
        )
        assert self._process.stdin  # noqa: S101  both are pipes, as asked for
        assert self._process.stdout  # noqa: S101
        self._questions: IO[bytes] = self._process.stdin
        self._answers = self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it has imported all that it needs. Raises ReaderDied."""
        self._next()

    def ask(self, asked: Asked) -> Answered:
        """Its answer. Raises ReaderDied."""
        try:
            put(self._questions, asked)
        except OSError as error:
            raise ReaderDied(str(error)) from error
        return self._next()

    def _next(self, patience_s: float = ANSWER_S) -> Answered:
        try:
            found = take(_from(self._answers, time.monotonic() + patience_s))
        except OSError as error:
            raise ReaderDied(str(error)) from error
        if not isinstance(found, Answered):
            raise ReaderDied("it ended")
        return found

    def end(self) -> None:
        """Tell it to end, and see to it."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # what was not sent need not be
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _from(descriptor: int, until: float) -> Callable[[int], bytes]:
    """What reads so many bytes of a descriptor, until a moment: TimeoutError, an OSError, after it."""

    def read(size: int) -> bytes:
        parts, left = [], size
        while left:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError("it did not answer")
            part = os.read(descriptor, left)
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    return read


class Readers:
    """The readers of this process. A part of the context; `ask` belongs to the event loop."""

    def __init__(self, context: Context) -> None:
        self._most = context.settings.api_readers
        self._environment = {**os.environ, **context.settings.environment(), "PIXMILL_API_READERS": "0"}
        self._free: asyncio.Queue[Reader] = asyncio.Queue()
        self._all: set[Reader] = set()
        self._starting: asyncio.Task[None] | None = None
        self._threads = CapacityLimiter(max(1, self._most))  # not those of the requests: these threads wait for others
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        with self._lock:
            return [reader.pid for reader in self._all if reader.is_alive]

    @property
    def are_there(self) -> bool:
        """Whether there is one to ask."""
        return bool(self._all) and (self._starting is None or self._starting.done())

    def want(self) -> None:
        """Several reads are here at once: have readers for the next ones. Returns at once."""
        if len(self._all) < self._most and (self._starting is None or self._starting.done()):
            self._starting = asyncio.create_task(self._start())

    async def ask(self, asked: Asked) -> Answered | None:
        """A reader's answer; None where none is free in time, or it died."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader = await self._free.get()
        except TimeoutError:
            return None
        # A client that goes away must not leave its answer to the next one.
        return await asyncio.shield(asyncio.create_task(self._exchange(reader, asked)))

    async def _exchange(self, reader: Reader, asked: Asked) -> Answered | None:
        try:
            found = await to_thread.run_sync(reader.ask, asked, limiter=self._threads)
        except ReaderDied as error:
            log.info("reader %d is gone: %s", reader.pid, error)
            await to_thread.run_sync(self._drop, reader)
            return None
        self._free.put_nowait(reader)
        return found

    async def _start(self) -> None:
        for reader in await to_thread.run_sync(self._make):
            self._free.put_nowait(reader)

    def _make(self) -> list[Reader]:
        """Start those that are missing, and wait until they are ready."""
        with self._lock:
            made = [] if self._stopped else self._started(self._most - len(self._all))
            self._all.update(made)
        ready = []
        for reader in made:
            try:
                reader.wait_ready()
                ready.append(reader)
            except ReaderDied as error:
                log.warning("a reader did not start: %s", error)
                self._drop(reader)
        return ready

    def _started(self, count: int) -> list[Reader]:
        try:
            return [Reader(self._environment) for _ in range(count)]
        except OSError as error:
            log.warning("no reader could be started: %s", error)
            return []

    def _drop(self, reader: Reader) -> None:
        with self._lock:
            self._all.discard(reader)
        reader.end()

    def stop(self) -> None:
        """End every reader."""
        with self._lock:
            self._stopped = True
            readers = list(self._all)
            self._all.clear()
        for reader in readers:
            reader.end()
