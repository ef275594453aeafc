"""The connection to a server for programs that do many things at once: `Connection` with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpx2

from api.client.address import Address, find_address
from api.client.calls import Call, Page
from api.client.retrying import Patience, Tries, broken, refusal
from api.client.transport import TIMEOUT, answer_of, headers_for, request_of
from worker.exporting.files import partial_file

T = TypeVar("T")

PIECE = 1 << 18  # bytes


class AsyncConnection:
    """Sends calls and reads their answers; what the server asks to be sent again later is sent again."""

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = TIMEOUT,
        patience_s: float = 0.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.address: Address = find_address(server, token)
        self.patience_s = patience_s
        self._http = httpx2.AsyncClient(
            base_url=self.address.url,
            headers=headers_for(self.address),
            timeout=timeout_s,
            transport=transport,
            trust_env=not self.address.is_loopback,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, call: Call[T], content: Callable[[], IO[bytes]] | None = None) -> T:
        """Send one of `api.client.calls` and read its answer. `content` opens the body, anew for each try."""
        return answer_of(self.address.url, call, await self._answer(call, content, stream=False))

    @asynccontextmanager
    async def stream(self, call: Call[Any]) -> AsyncIterator[httpx2.Response]:
        """The answer to a call while it comes. Raises BrokenAnswer where it ends too soon."""
        response = await self._answer(call, None, stream=True)
        try:
            yield response
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            broken(self.address.url, error)
        finally:
            await response.aclose()

    async def _answer(
        self, call: Call[Any], content: Callable[[], IO[bytes]] | None, *, stream: bool
    ) -> httpx2.Response:
        tries = Tries(self.address.url, call.safe, Patience(self.patience_s if call.waits else 0.0))
        while True:
            try:
                response = await self._send(call, content, stream=stream)
            except httpx2.TransportError as error:
                await asyncio.sleep(tries.pause_after_error(error))
                continue
            if response.status_code < 400:
                return response
            pause = tries.pause_after(response)
            if pause is None:
                await response.aread()
                raise refusal(response)
            await response.aclose()
            await asyncio.sleep(pause)

    async def _send(self, call: Call[Any], content: Callable[[], IO[bytes]] | None, *, stream: bool) -> httpx2.Response:
        body = _pieces(content) if content is not None else None
        try:
            return await self._http.send(request_of(self._http, call, body), stream=stream)
        finally:
            if body is not None:
                await body.aclose()

    async def save(self, call: Call[Any], path: Path, note: Callable[[bytes], None] | None = None) -> int:
        """Write the answer to a call into a file, whole or not at all; returns its bytes. `note` sees each piece."""
        async with self.stream(call) as response:
            with partial_file(path) as file:
                size = 0
                async for piece in response.aiter_bytes():
                    size += file.write(piece)
                    if note is not None:
                        note(piece)
        return size

    async def pages(self, page: Page[T], limit: int | None = None) -> AsyncIterator[T]:
        """Everything, page by page; a page may be empty while there is a next one."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            rows, cursor = await self.call(page(cursor, min(left or 1000, 1000)))
            for row in rows:
                yield row
            left = None if left is None else left - len(rows)
            if cursor is None:
                return


async def _pieces(content: Callable[[], IO[bytes]]) -> AsyncGenerator[bytes]:
    """A body piece by piece, read beside the event loop; opened on it: who is cancelled leaves no file open."""
    file = content()
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
