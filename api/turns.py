"""A few reads at a time, first come first served: side by side they would only take the interpreter from each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.direct import direct

if TYPE_CHECKING:
    from api.context import Context

# Each row that SQLite gives hands the interpreter's lock over, so that eight reads at once take twice the time of eight
# reads in a row, and some four times as long as others (./do bench queries). Two keep a second core busy.
PLACES = 2
# PostgreSQL reads in processes of its own, and its rows come at once: three do a fifth more than two, four no more.
SERVER_PLACES = 3
PATIENCE_S = 0.25  # then a read goes on without a place: a few slow ones, or a database that hangs, stop nobody


class Turns:
    """The places of one API process. A part of the context; belongs to the event loop."""

    def __init__(self, context: Context | None = None) -> None:
        has_server = context is not None and not context.database.is_sqlite
        self._places = asyncio.Semaphore(SERVER_PLACES if has_server else PLACES)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have a place, or have waited long enough."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._places.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._places.release()


class InTurn(APIRoute):
    """A route whose GET waits for its turn. The place is free again when the answer is made, before it is sent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, or the short way, in turn."""
        answer = super().get_route_handler()
        short = direct(self)

        async def in_turn(request: Request) -> Response:
            if request.method != "GET":
                return await answer(request)
            here: Context = request.app.state.context
            async with here.part(Turns).turn():
                found = await short.answer(request) if short else None
                return await answer(request) if found is None else found

        return in_turn
