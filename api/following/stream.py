"""The response that carries events: ends with the job, with its client or its token, or with the server."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from api.following.channel import Channel
from api.following.hub import Hub
from api.following.listener import Listener
from api.following.position import Position
from store.errors import StoreError

GRACE_S = 0.5  # for a stream to end itself properly; one whose client does not read cannot
RECHECK_S = 15.0  # between two looks whether the token still holds
RETRY = b"retry: 2000\n\n"  # milliseconds until a browser comes back


class EventStream(Response):
    """Server-sent events of one job. A client that stops reading waits in its own `send` and holds up nobody."""

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, job_id: int, position: Position, is_welcome: Callable[[], bool], for_s: float | None = None
    ) -> None:
        """`position` is where the client was before; after `for_s` seconds the stream ends.

        `is_welcome` is asked again and again, in a thread; where it says no, the stream ends. It may raise StoreError.
        """
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._job_id = job_id
        self._position = position
        self._is_welcome = is_welcome
        self._for_s = for_s

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until one of the four ends it."""
        async with self._hub.channel(self._job_id) as channel, anyio.create_task_group() as group:

            async def speak() -> None:
                await self._speak(channel, send)
                group.cancel_scope.cancel()

            async def until_gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            async def until_closed() -> None:
                await channel.is_closed.wait()
                await anyio.sleep(GRACE_S)
                group.cancel_scope.cancel()

            async def until_unwelcome() -> None:
                await self._unwelcome()
                group.cancel_scope.cancel()

            for task in (speak, until_gone, until_closed, until_unwelcome):
                group.start_soon(task)

    async def _unwelcome(self) -> None:
        """Return once the token does not hold any more; while the database cannot be asked, it does."""
        welcome = True
        while welcome:
            await anyio.sleep(RECHECK_S)
            try:
                welcome = await self._hub.ask(self._is_welcome)
            except StoreError:  # the channel's poller has written of it
                continue

    async def _speak(self, channel: Channel, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": RETRY, "more_body": True})
        async for chunk in Listener(channel, self._position, self._for_s).chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
