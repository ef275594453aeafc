"""Whole answers as a stream: made as fast as they are taken, ended when nobody takes them, broken when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from typing import IO, Protocol

from anyio import to_thread

from api.context import Context
from api.images.gate import Shares
from api.images.stream import HeldResponse
from store.database import Database
from worker.exporting.selection import SELECTION, Selection
from worker.exporting.text import PIECES

MOST = 4  # exports at once in one API process; half of them for one token
CHUNK = 1 << 16  # bytes


class ExportBroken(Exception):
    """An export ended before its end: the connection is broken, so that no reader takes a part for the whole."""


class Source(Protocol):
    """Where an export's bytes come from. `read` gives the next, empty at the end; `end` stops at any time."""

    may_wait: bool  # `read` may wait long; it ends when `end` is called from elsewhere

    def read(self) -> bytes:
        """The next bytes; none at the end. Raises ExportBroken and what a database raises."""
        ...

    def end(self) -> None:
        """Free everything. Safe to call twice."""
        ...


class TextSource:
    """CSV or JSONL, written here: page by page from the database, no transaction in between."""

    may_wait = False

    def __init__(self, database: Database, asked: Selection, form: str, top_k: int) -> None:
        self._rows = asked.rows(database)
        self._pieces: Iterator[str] = PIECES[form](self._rows, top_k)

    def read(self) -> bytes:
        """The next piece of text."""
        return next(self._pieces, "").encode("utf-8", "backslashreplace")

    def end(self) -> None:
        """Stop reading rows."""
        for part in (self._pieces, self._rows):
            if close := getattr(part, "close", None):
                close()


class ParquetSource:
    """Parquet, written by a child process: pyarrow's memory and its start are not ours."""

    may_wait = True

    def __init__(self, database_url: str, asked: Selection) -> None:
        # Not tied to this thread by a signal at its death: the thread is the pool's, and may go before the export
        # ends. A child whose reader is gone ends by itself at its next write.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.exporting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reading = threading.Lock()
        with suppress(BrokenPipeError):  # then its exit status says it
            _pipe(self._child.stdin).write(database_url.encode() + b"\n" + SELECTION.dump_json(asked))
            _pipe(self._child.stdin).close()

    def read(self) -> bytes:
        """What the child has written. Raises ExportBroken where it failed."""
        with self._reading:
            out = _pipe(self._child.stdout)
            data = b"" if out.closed else os.read(out.fileno(), CHUNK)
        if not data and (status := self._child.wait()) != 0:
            raise ExportBroken(f"the child that writes Parquet ended with status {status}")
        return data

    def end(self) -> None:
        """Kill the child if it still writes."""
        self._child.kill()
        self._child.wait()
        with self._reading:  # a thread that still reads comes to the end now
            _pipe(self._child.stdout).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the child was started with pipes")
    return pipe


class Exports:
    """How many exports run in this process."""

    def __init__(self, context: Context) -> None:
        """Holds nothing but a count."""
        self.stopping = context.stopping
        self._shares = Shares(MOST, "exports at once", "too-many-exports")

    def start(self, token_id: str, make: Callable[[], Source], media_type: str, name: str) -> HeldResponse:
        """An answer whose first bytes are there already. Raises Problem where too many run; what the source raises."""
        with ExitStack() as held:
            held.enter_context(self._shares.held(token_id))
            source = make()
            held.callback(source.end)
            first = source.read()  # what fails here is still a proper problem
            end = held.pop_all().close
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
        return HeldResponse(self._chunks(source, first), end, media_type, headers)

    async def _chunks(self, source: Source, first: bytes) -> AsyncIterator[bytes]:
        chunk = first
        while chunk:
            yield chunk
            if self.stopping.is_set():
                raise ExportBroken("the server is being stopped")
            chunk = await to_thread.run_sync(source.read, abandon_on_cancel=source.may_wait)
