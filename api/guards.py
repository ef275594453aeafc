"""What stands before every route, from the outside in: envelope, headers, host, origin, size of the body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from starlette.middleware import Middleware

from api.guards_body import RAW_BODY, BodyGuard
from api.guards_envelope import Envelope
from api.guards_headers import HeaderGuard
from api.guards_host import HostGuard, OriginGuard, served_hosts
from worker.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def guards(settings: Settings) -> list[Middleware]:
    """The middleware of the API. Each raises a Problem; the envelope, the outermost, makes it an answer."""
    return [
        Middleware(Envelope),
        Middleware(HeaderGuard),
        Middleware(HostGuard, served=served_hosts(settings)),
        Middleware(OriginGuard),
        Middleware(BodyGuard, most=settings.max_body_mb << 20, most_raw=settings.max_upload_mb << 20),
    ]


def raw_body(endpoint: F) -> F:
    """Mark an endpoint that streams its body itself: `max_upload_mb` is its limit instead of `max_body_mb`.

    Put it directly above the function, below the router's decorator. Such an endpoint declares no body parameter:
    FastAPI would read the body into memory.
    """
    setattr(endpoint, RAW_BODY, True)
    return endpoint
