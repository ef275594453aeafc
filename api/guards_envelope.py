"""What every exchange gets: a request id, safe headers, a log line, and an answer even where the code failed."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.logs import REQUEST_ID, access
from api.problems import Problem, problem_of, render

log = logging.getLogger(__name__)

SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",  # a route whose answer may be kept says so itself
}
CLIENT_GONE = 499  # only ever in the log
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """One request and what became of it."""

    scope: Scope
    send: Send
    request_id: str
    status: int = CLIENT_GONE
    started: bool = False
    sent_bytes: int = 0
    began: float = field(default_factory=time.perf_counter)

    async def forward(self, message: Message) -> None:
        """Pass a message on to the client, with our headers."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
            headers["x-request-id"] = self.request_id
            for name, value in self.noted.get("rate_headers", {}).items():
                headers[name] = value
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message.get("body", b""))
        await self.send(message)

    @property
    def noted(self) -> dict[str, Any]:
        """What the code inside left on `request.state`."""
        found: dict[str, Any] = self.scope.get("state", {})
        return found

    def write_log(self) -> None:
        """One line: who asked for what, how it ended, how long it took. No query, header or body: they hold secrets."""
        job = self.scope.get("path_params", {}).get("job", self.noted.get("job"))
        found = {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "path": self.scope["path"][:512],
            "status": self.status,
            "ms": round((time.perf_counter() - self.began) * 1000, 1),
            "bytes": self.sent_bytes,
            "token": self.noted.get("token_id"),
            "job": None if job is None else str(job)[:32],
            "client": (self.scope.get("client") or (None,))[0],
        }
        access.info("request", extra={name: value for name, value in found.items() if value is not None})


class Envelope:
    """The outermost guard, and the last resort."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one exchange."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        wished = Headers(scope=scope).get("x-request-id", "")
        exchange = Exchange(scope, send, wished if _SANE_ID.fullmatch(wished) else uuid.uuid4().hex)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        mark = REQUEST_ID.set(exchange.request_id)
        try:
            await self.app(scope, receive, exchange.forward)
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception as error:  # noqa: BLE001  the last resort: whatever failed, the client gets an answer
            await _answer(error, exchange, receive)
        finally:
            exchange.write_log()
            REQUEST_ID.reset(mark)


async def _answer(error: Exception, exchange: Exchange, receive: Receive) -> None:
    if exchange.started:
        # Half an answer must not look like a whole one: the server logs this and closes the connection.
        raise error
    problem = problem_of(error)
    if problem is None:
        log.error("%s %s failed", exchange.scope["method"], exchange.scope["path"], exc_info=error)
        problem = Problem("internal", "Something went wrong inside; the server's log says what, under this request_id.")
    response = render(problem, exchange.request_id, exchange.scope["path"])
    await response(exchange.scope, receive, exchange.forward)
