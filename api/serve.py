"""Serving the API from this process: the socket, the first token, uvicorn, an end in order."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from api.app import make_app
from api.context import Context
from api.logs import configure
from store import tokens
from store.database import Database
from worker.settings import Settings

GRACE_S = 5  # what requests that are being answered may take at the end
BACKLOG = 512


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol; with it, every answer of a header
    # and a body waits 40 ms for the client's delayed acknowledgement.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def address(host: str, port: int) -> str:
    """The URL under which programs of this machine reach the server."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104  no binding
    return f"http://{name}:{port}"


def first_token(settings: Settings, database: Database) -> bool:
    """Make sure that `settings.token_file` holds an administrator's token that works; True where it was made now.

    For the owner's own programs on this machine: the file is theirs alone. Raises StoreError, OSError.
    """
    place = settings.token_file
    try:
        kept = tokens.find(database, place.read_text(encoding="ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        kept = None
    if kept is not None and not (kept.is_revoked or kept.is_expired):
        return False
    _, secret = tokens.create(database, name="this machine", owner="", scopes=("admin",))
    aside = place.with_name(f".token-{os.getpid()}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(secret + "\n")
    aside.rename(place)
    return True


class Server(uvicorn.Server):
    """uvicorn's, which tells the app the moment an end begins: streams end themselves, other requests finish."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping, self._ready = stopping, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Call `ready` once the first request can be answered."""
        await super().startup(sockets)
        if self.started:
            # What is there now stays: collecting it again and again costs pauses that requests wait for.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 10, 50)
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: begin the end."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def serve(
    settings: Settings,
    sock: socket.socket,
    *,
    roots: Sequence[Path] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer on `sock` until SIGINT or SIGTERM; requests that are being answered may end. Call it in the main thread.

    `ready` is called once the first request can be answered. Raises OSError for a root that is not there.
    """
    configure(settings.log_level)
    app = make_app(settings, roots=roots)
    context: Context = app.state.context
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who asks is who connects
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=256 << 10,  # a filter of 4,096 characters may take twelve bytes for each
    )
    server = Server(config, context.stopping, ready)
    # uvicorn raises the signals again at its end, when they have done their work; until it listens to them, we do.
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[sock])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
