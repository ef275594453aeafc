"""Request headers without tricks: no control characters, nothing said twice that may be said once, a bounded size."""

from __future__ import annotations

import re
from collections import Counter

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem

MOST_BYTES = 32 << 10
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 §5.6.2, lower case as ASGI has it
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_ONCE = (
    b"authorization", b"content-length", b"content-type", b"host", b"idempotency-key", b"last-event-id", b"origin",
    b"prefer", b"sec-fetch-mode", b"sec-fetch-site", b"transfer-encoding", b"x-request-id",
)  # fmt: skip


class HeaderGuard:
    """Refuses with 400 what a careful server should not have let through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one exchange."""
        if scope["type"] == "http":
            check_headers(scope["headers"])
        await self.app(scope, receive, send)


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Raise Problem 400 that names the first header which cannot be. Values are not repeated: they may be secrets."""
    if sum(len(name) + len(value) for name, value in headers) > MOST_BYTES:
        raise Problem("bad-request", f"Expected headers of at most {MOST_BYTES:,} bytes together, got more.")
    for name, value in headers:
        if not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise Problem("bad-request", f"The header {_shown(name)} holds a character that no header may hold.")
        if name == b"content-length" and not _LENGTH.fullmatch(value):
            raise Problem("bad-request", "Expected Content-Length as a number of bytes.")
    counts = Counter(name for name, _ in headers)
    for name in _ONCE:
        if counts[name] > 1:
            raise Problem("bad-request", f"Expected the header {_shown(name)} once, got it {counts[name]} times.")


def _shown(name: bytes) -> str:
    return ascii(name.decode("latin-1")[:64])
