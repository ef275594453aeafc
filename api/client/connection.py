"""The connection to a server that waits for each answer: calls in, answers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class Connection:
    """Sends calls and reads their answers; what the server asks to be sent again later is sent again."""

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = TIMEOUT,
        patience_s: float = 0.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.address: Address = find_address(server, token)
        self.patience_s = patience_s
        self._http = httpx2.Client(
            base_url=self.address.url,
            headers=headers_for(self.address),
            timeout=timeout_s,
            transport=transport,
            trust_env=not self.address.is_loopback,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, call: Call[T], content: Callable[[], IO[bytes]] | None = None) -> T:
        """Send one of `api.client.calls` and read its answer. `content` opens the body, anew for each try."""
        return answer_of(self.address.url, call, self._answer(call, content, stream=False))

    @contextmanager
    def stream(self, call: Call[Any]) -> Iterator[httpx2.Response]:
        """The answer to a call while it comes. Raises BrokenAnswer where it ends too soon."""
        response = self._answer(call, None, stream=True)
        try:
            yield response
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            broken(self.address.url, error)
        finally:
            response.close()

    def _answer(self, call: Call[Any], content: Callable[[], IO[bytes]] | None, *, stream: bool) -> httpx2.Response:
        tries = Tries(self.address.url, call.safe, Patience(self.patience_s if call.waits else 0.0))
        while True:
            try:
                response = self._send(call, content, stream=stream)
            except httpx2.TransportError as error:
                time.sleep(tries.pause_after_error(error))
                continue
            if response.status_code < 400:
                return response
            pause = tries.pause_after(response)
            if pause is None:
                response.read()
                raise refusal(response)
            response.close()
            time.sleep(pause)

    def _send(self, call: Call[Any], content: Callable[[], IO[bytes]] | None, *, stream: bool) -> httpx2.Response:
        body = content() if content is not None else None
        try:
            return self._http.send(request_of(self._http, call, body), stream=stream)
        finally:
            if body is not None:
                body.close()

    def save(self, call: Call[Any], path: Path, note: Callable[[bytes], None] | None = None) -> int:
        """Write the answer to a call into a file, whole or not at all; returns its bytes. `note` sees each piece."""
        with self.stream(call) as response, partial_file(path) as file:
            size = 0
            for piece in response.iter_bytes():
                size += file.write(piece)
                if note is not None:
                    note(piece)
        return size

    def pages(self, page: Page[T], limit: int | None = None) -> Iterator[T]:
        """Everything, page by page; a page may be empty while there is a next one."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            rows, cursor = self.call(page(cursor, min(left or 1000, 1000)))
            yield from rows
            left = None if left is None else left - len(rows)
            if cursor is None:
                return
