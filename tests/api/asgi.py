"""Requests as no well-behaved client sends them: straight into the app, or as raw bytes through a socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message

HOST = (b"host", b"localhost")
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body's one object."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def kind(self) -> str:
        """The slug of a problem."""
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["type"]).removeprefix("/errors#")


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    headers: Sequence[tuple[bytes, bytes]] = (HOST,),
    body: Sequence[bytes] = (b"",),
    client: str = "127.0.0.1",
) -> Answer:
    """Send one request, its body in pieces; an error that leaves the app is raised."""
    return asyncio.run(_ask(app, method, path, list(headers), list(body), client))


async def _ask(
    app: ASGIApp, method: str, path: str, headers: list[tuple[bytes, bytes]], body: list[bytes], client: str
) -> Answer:
    sent: list[Message] = []
    parts = list(body)

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()  # a client that stays and listens
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (client, 50_000),
        "server": ("127.0.0.1", 8420),
        "state": {},
    }
    await app(scope, receive, send)
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def raw(port: int, request: bytes) -> bytes:
    """Send bytes to a server and read what it says until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        pieces = []
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)
