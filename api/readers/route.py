"""Routes whose GET a reader may answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import Request
from starlette.responses import Response

from api.access import bearer, caller_of
from api.readers.message import Asked
from api.readers.pool import Readers
from api.turns import InTurn, Turns

if TYPE_CHECKING:
    from api.context import Context


class Read(InTurn):
    """A route whose GET goes to a reader where there is one, and waits for its turn in this process otherwise.

    Who asks, and how often, is decided here; all else about the request is the reader's.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, by a reader or in turn."""
        answer = super().get_route_handler()

        async def read(request: Request) -> Response:
            if request.method != "GET":
                return await answer(request)
            here: Context = request.app.state.context
            readers = here.part(Readers)
            if here.part(Turns).is_full:
                readers.want()
            if not readers.are_there:
                return await answer(request)
            request.state.caller = await caller_of(request, here, await bearer(request))
            found = await readers.ask(_asked(request))
            if found is None:
                return await answer(request)
            response = Response(found.body, found.status)
            response.raw_headers = found.headers
            return response

        return read


def _asked(request: Request) -> Asked:
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"authorization"]
    return Asked(
        request.scope["path"],
        request.scope["query_string"],
        headers,
        request.state.caller,
        request.state.request_id,
    )
