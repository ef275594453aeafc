"""Which names this server answers to, and which pages may speak with it: against DNS rebinding and forged requests."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem
from worker.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104  addresses that are no name to be called by
_HOST = re.compile(r"([a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443"}
_SAFE = ("GET", "HEAD", "OPTIONS")


def served_hosts(settings: Settings) -> tuple[str, ...]:
    """The names and addresses that a request may call this server by, lower case, without a port."""
    host = settings.api_host.lower()
    bound = () if host in EVERYWHERE else (f"[{host}]" if ":" in host else host,)
    return (*LOOPBACK, *bound, socket.gethostname().lower(), *(name.lower() for name in settings.allowed_hosts))


class HostGuard:
    """Answers only to its own names: a page of another site whose name was pointed here gets nothing.

    `X-Forwarded-Host` and its kin decide nothing.
    """

    def __init__(self, app: ASGIApp, served: Iterable[str]) -> None:
        self.app = app
        self.served = frozenset(served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one exchange."""
        if scope["type"] == "http":
            self.check(Headers(scope=scope).getlist("host"))
        await self.app(scope, receive, send)

    def check(self, hosts: list[str]) -> None:
        """Raise Problem 400 for no host, several, or one that is malformed; 421 for a foreign one."""
        match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if match is None or int(match[2] or 0) > 65_535:
            raise Problem("bad-request", "Expected one Host header with a name or address and perhaps a port.")
        name = match[1]
        if name not in self.served and "*" not in self.served and not self._below(name):
            raise Problem("wrong-host", f"This server does not answer to {name!r}. PIXMILL_ALLOWED_HOSTS can add it.")

    def _below(self, name: str) -> bool:
        """Whether a pattern like `*.example.org` covers the name."""
        parts = name.split(".")
        return any("*." + ".".join(parts[n:]) in self.served for n in range(1, len(parts)))


class OriginGuard:
    """Refuses what a browser sends in the name of another site. Programs send none of these headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one exchange."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if _is_foreign(headers.get("origin"), headers["host"]):
                raise Problem("cross-site", "The Origin of this request is another site.")
            if _is_cross(headers) and not _is_visit(scope["method"], headers):
                raise Problem("cross-site", "A browser says that another site made this request.")
        await self.app(scope, receive, send)


def _is_foreign(origin: str | None, host: str) -> bool:
    if origin is None:
        return False
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return True
    return parts.scheme not in _PORTS or _bare(parts.netloc, parts.scheme) != _bare(host.lower(), parts.scheme)


def _bare(place: str, scheme: str) -> str:
    return place.removesuffix(":" + _PORTS[scheme])


def _is_cross(headers: Headers) -> bool:
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _is_visit(method: str, headers: Headers) -> bool:
    """A link that somebody followed: it shows a page and changes nothing."""
    return method in _SAFE and headers.get("sec-fetch-mode") == "navigate"
