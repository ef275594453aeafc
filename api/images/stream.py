"""A streamed answer that holds something of the server's: given back at its end, however that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from anyio import CancelScope, to_thread
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

SEND_S = 30.0  # a client that takes nothing for so long is given up


def patient(send: Send) -> Send:
    """A `send` that raises ClientDisconnect where the client takes nothing for SEND_S.

    It waits while the server's buffer (64 KiB) is full, so pieces should be small: who takes one buffer in that time
    is slow, and is served.
    """

    async def within(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await send(message)
        except TimeoutError:
            raise ClientDisconnect from None  # a broken answer, as where the client has gone

    return within


class HeldResponse(StreamingResponse):
    """A stream that is ended in any case: at its end, at an error, when the client goes away or takes nothing."""

    def __init__(
        self,
        body: AsyncIterator[bytes] | Iterator[bytes],
        end: Callable[[], None],
        media_type: str,
        headers: Mapping[str, str],
        status_code: int = 200,
    ) -> None:
        """`end` is called once, in a thread; it gives back what is held."""
        super().__init__(body, status_code, headers, media_type)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; what is raised on the way breaks the connection."""
        try:
            await super().__call__(scope, receive, patient(send))
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._end)
