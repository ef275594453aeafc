"""A proxy in front of a server that can be told to behave like a bad network: slow, silent, reset, half gone, cut."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")
Address = tuple[str, int] | Path  # TCP, or a unix socket
When = Literal["before", "after"]
CALL_S = 5.0  # what an order to the proxy may take


@dataclass(eq=False)
class Link:
    """One connection that goes through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_silent: bool = False  # half open: the client hears nothing more, and is not told
    left: int | None = None  # bytes until it is cut
    cuts_answer: bool = False  # the next answer does not arrive: it is cut instead

    def reset(self) -> None:
        """End it with a TCP reset, as a machine that restarted does."""
        for writer in (self.client, self.server):
            _reset(writer)


class Proxy:
    """Stands between clients and one server. Its orders may be given from any thread; each returns when it holds."""

    def __init__(self, upstream: Address, listen: Path | None = None) -> None:
        """`listen`: a unix socket to listen on; by default a free TCP port of the loopback interface."""
        self._upstream = upstream
        self._listen = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: set[Link] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._commit_cut: When | None = None
        self._next_cut: int | None = None
        self._refuses = False
        self._delay_s = 0.0
        self.port = 0
        self.cuts = 0  # links that a rule has ended
        self.met = 0  # pieces of data and connections that any order has done something to

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._serve())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_S)
        self._loop.close()

    # Orders

    def slow(self, seconds: float) -> None:
        """Let each piece of data wait that long, in both directions; 0 ends it."""
        self._do(lambda: setattr(self, "_delay_s", seconds))

    def swallow(self) -> None:
        """A black hole: connections stay, new ones are accepted, and nothing passes until `heal`."""
        self._do(self._open.clear)

    def refuse(self) -> None:
        """Reset what is there and what comes, until `heal`."""
        self._do(self._refuse)

    def reset(self) -> int:
        """Reset every connection; returns how many."""
        return self._do(self._reset_all)

    def half_open(self) -> int:
        """The server's side of every connection goes away and the client's is not told, until `heal` resets it."""
        return self._do(self._silence)

    def cut_after(self, count: int) -> None:
        """Reset every connection once so many more bytes have passed through it, in both directions together."""
        self._do(lambda: self._cut_links(count))

    def cut_commit(self, when: When) -> None:
        """Reset the next connection that sends COMMIT: before the server has it, or after it, without the answer."""
        self._do(lambda: setattr(self, "_commit_cut", when))

    def heal(self) -> None:
        """Be a good network again. What a half-open connection has lost stays lost: it is reset."""
        self._do(self._heal)

    # Inside the loop

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def _do(self, order: Callable[[], T]) -> T:
        async def run() -> T:
            return order()

        return self._call(run())

    async def _serve(self) -> None:
        if self._listen is not None:
            self._server = await asyncio.start_unix_server(self._accept, self._listen)
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            self.met += 1
            _reset(writer)
            return
        try:
            upstream = self._upstream
            server_reader, server_writer = await (
                asyncio.open_unix_connection(upstream)
                if isinstance(upstream, Path)
                else asyncio.open_connection(*upstream)
            )
        except OSError:
            _reset(writer)
            return
        link = Link(writer, server_writer, left=self._next_cut)
        self._links.add(link)
        for work in (
            self._pump(link, reader, server_writer, from_client=True),
            self._pump(link, server_reader, writer, from_client=False),
        ):
            pump = asyncio.create_task(work)
            self._pumps.add(pump)  # the loop itself keeps none of them alive
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool
    ) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.met += self._delay_s > 0 or link.is_silent or not self._open.is_set()
                await self._open.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if link.is_silent:
                    continue
                if self._is_cut(link, data, from_client=from_client):
                    self.cuts += 1
                    self.met += 1
                    link.reset()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if not link.is_silent or from_client:
                self._forget(link)

    def _is_cut(self, link: Link, data: bytes, *, from_client: bool) -> bool:
        if link.cuts_answer and not from_client:
            return True
        if from_client and self._commit_cut and b"COMMIT" in data:
            when, self._commit_cut = self._commit_cut, None
            link.cuts_answer = when == "after"
            return when == "before"
        if link.left is not None:
            link.left -= len(data)
        return link.left is not None and link.left < 0

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        for writer in (link.client, link.server):
            with suppress(OSError, RuntimeError):
                writer.close()

    def _refuse(self) -> None:
        self._refuses = True
        self._reset_all()

    def _reset_all(self) -> int:
        gone = list(self._links)
        for link in gone:
            link.reset()
            self._links.discard(link)
        self.met += len(gone)
        return len(gone)

    def _silence(self) -> int:
        for link in self._links:
            link.is_silent = True
            _reset(link.server)
        self.met += len(self._links)
        return len(self._links)

    def _cut_links(self, count: int) -> None:
        self._next_cut = count
        for link in self._links:
            link.left = count

    def _heal(self) -> None:
        self._refuses, self._delay_s, self._commit_cut, self._next_cut = False, 0.0, None, None
        for link in list(self._links):
            link.left = None
            if link.is_silent:
                link.reset()
                self._links.discard(link)
        self._open.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets RST, not FIN; a unix socket knows no difference."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
