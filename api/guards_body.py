"""The size of a request's body: refused by what it declares, and by what it turns out to be."""

from __future__ import annotations

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

RAW_BODY = "takes_raw_body"  # the mark of an endpoint that streams its body to disk
DRAIN_BYTES = 64 << 20  # of a refused body that are read and dropped, so that its sender sees the answer, not a reset
DRAIN_S = 2.0
REFUSED = (413, 415)
FORM = (
    "Expected the file itself as the body, got a form (multipart). With curl: `--data-binary @FILE` instead of "
    "`-F file=@FILE`; the name goes into the address."
)


class BodyGuard:
    """Counts bytes as they are read. A body that nobody reads costs nothing and is not counted."""

    def __init__(self, app: ASGIApp, most: int, most_raw: int) -> None:
        """Limits in bytes: `most` for a body that is parsed in memory, `most_raw` for one that is streamed."""
        self.app = app
        self.most, self.most_raw = most, max(most, most_raw)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one exchange."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive, send)
        _check(body.declared, self.most_raw)

        async def counted() -> Message:
            # Routing is done by the time somebody reads: the endpoint says which limit is its own.
            is_raw = getattr(scope.get("endpoint"), RAW_BODY, False)
            if is_raw and body.is_form:
                raise Problem("unsupported-media-type", FORM)
            most = self.most_raw if is_raw else self.most
            _check(body.declared, most)  # before the client is told to go on
            message = await body.read()
            _check(body.seen, most)
            return message

        await self.app(scope, counted, body.send)


class _Body:
    """One request's body as it comes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self.declared = int(headers.get("content-length") or 0)
        self.is_form = headers.get("content-type", "").strip().lower().startswith("multipart/")
        self.seen = 0
        self._waits = "expect" in headers  # its sender sends nothing before it is told to
        self._ended = False
        self._receive, self._send = receive, send

    async def read(self) -> Message:
        """The next piece."""
        message = await self._receive()
        self.seen += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Answer; a refused body is read to its end first, within bounds: most clients listen only then."""
        if message["type"] == "http.response.start" and message["status"] in REFUSED and not self._waits:
            most = self.seen + DRAIN_BYTES
            with move_on_after(DRAIN_S):
                while not self._ended and self.seen < most:
                    await self.read()
        await self._send(message)


def _check(size: int, most: int) -> None:
    if size > most:
        raise Problem("too-large", f"Expected a body of at most {most:,} bytes, got more.", limit_bytes=most)
