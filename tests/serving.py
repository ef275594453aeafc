"""Real servers of the API for tests: a `pixmill up` or `pixmill api` process, a thread, or no socket at all.

- `serving(home, …)`: the program itself, with a broker and workers (`workers=1`) or alone (`workers=0`).
- `threaded(settings, …)`: the real app and server in a thread of this process, where a test can break something.
- `api_client(settings, …)`: the app without a socket; quickest, but an answer arrives whole: no event streams.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from store import tokens
from store.database import Database
from tests.databases import ready
from tests.running import Home
from worker.settings import Settings

if TYPE_CHECKING:
    from starlette.testclient import TestClient

START_S = 60.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers. `client` speaks with it, the first token in its header (`token`: owner "", admin)."""

    url: str
    token: str
    home: Home
    client: httpx2.Client
    process: subprocess.Popen[bytes] | None = None  # None: a thread of this process

    @property
    def api(self) -> str:
        """Where the routes begin."""
        return f"{self.url}/api/v1"

    def env(self) -> dict[str, str]:
        """The environment of a command that is to speak with this server."""
        return {**self.home.env(), "PIXMILL_SERVER": self.url, "PIXMILL_TOKEN": self.token}

    def token_for(self, owner: str, *scopes: str) -> str:
        """A new token, straight from the database."""
        url = self.home.environment.get("PIXMILL_DATABASE_URL", f"sqlite:///{self.home.path}/pixmill.db")
        return new_token(url, owner, scopes or ("read", "submit"))


@contextmanager
def serving(
    home: Home | Path,
    roots: Sequence[Path] = (),
    *,
    workers: int = 0,
    engine: str | None = "fake",
    database_url: str | None = None,
    broker_url: str | None = None,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[object] = (),
) -> Iterator[Served]:
    """The program: `pixmill up` with that many classify workers (one), or `pixmill api` with none.

    Without workers and `broker_url` there is no broker either. `roots` defaults to the folder above the home's. What it
    printed is in `home.path/served.log`.
    """
    home = _home(home, engine, database_url, broker_url, environment)
    home.path.mkdir(parents=True, exist_ok=True)
    ready(database_url or f"sqlite:///{home.path}/pixmill.db")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (home.path / "served.log").open("ab") as log:
        process = subprocess.Popen(
            home.command(*_command(workers, port, list(roots) or [home.path.parent]), *arguments),
            env=home.env(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.path,
        )
    try:
        wait_for(url, lambda: process.poll() is None, home)
        token = (home.path / "token").read_text().strip()
        with _client(url, token) as client:
            yield Served(url, token, home, client, process)
    finally:
        end(process)


@contextmanager
def threaded(settings: Settings, roots: Sequence[Path] | None = None, *, token: str | None = None) -> Iterator[Served]:
    """The real app served by uvicorn in a thread of this process, with a real socket. Makes the database's tables."""
    import uvicorn

    from api.app import make_app

    ready(settings.database)
    secret = token or new_token(settings.database)
    port = free_port()
    app = make_app(settings, roots=roots)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, http="h11", log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
    )
    thread = threading.Thread(target=server.run, name="served")
    thread.start()
    url = f"http://127.0.0.1:{port}"
    home = Home(settings.home, {"PIXMILL_DATABASE_URL": settings.database, "PIXMILL_BROKER_URL": settings.broker})
    try:
        wait_for(url, thread.is_alive, home)
        with _client(url, secret) as client:
            yield Served(url, secret, home, client)
    finally:
        app.state.context.stopping.set()
        server.should_exit = True
        thread.join(STOP_S)
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def api_client(
    settings: Settings, roots: Sequence[Path] | None = None, *, token: str | None = None, raises: bool = True
) -> Iterator[TestClient]:
    """The app without a socket, its lifespan run, an admin's token in every request. Makes the database's tables.

    `raises`: what the app does not handle is raised in the test; False: it becomes the answer that a client would see.
    """
    from starlette.testclient import TestClient

    from api.app import make_app

    ready(settings.database)
    secret = token or new_token(settings.database)
    app = make_app(settings, roots=roots)
    with TestClient(
        app,
        base_url="http://127.0.0.1:8420",
        raise_server_exceptions=raises,
        headers={"Authorization": f"Bearer {secret}"},
        client=("127.0.0.1", 50000),
    ) as client:
        yield client


def new_token(database_url: str, owner: str = "", scopes: Sequence[str] = ("admin",)) -> str:
    """The secret of a new token."""
    database = Database(database_url)
    try:
        return tokens.create(database, name=f"test {owner}", owner=owner, scopes=tuple(scopes))[1]
    finally:
        database.close()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


def wait_for(url: str, alive: Callable[[], bool], home: Home) -> None:
    """Wait until the server answers /livez; fails at once when it ended."""
    deadline = time.monotonic() + START_S
    while True:
        assert alive(), f"the server ended:\n{_said(home)}"
        try:
            if httpx2.get(f"{url}/livez", timeout=5).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, f"the server did not answer within {START_S} s:\n{_said(home)}"
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL where that is not heard; returns the exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _home(
    home: Home | Path,
    engine: str | None,
    database_url: str | None,
    broker_url: str | None,
    environment: Mapping[str, str] | None,
) -> Home:
    """The home with the settings that were asked for."""
    given = home if isinstance(home, Home) else Home(home)
    named = {"PIXMILL_ENGINE": engine, "PIXMILL_DATABASE_URL": database_url, "PIXMILL_BROKER_URL": broker_url}
    chosen = {**{key: value for key, value in named.items() if value}, **(environment or {})}
    return replace(given, environment={**given.environment, **chosen})


def _command(workers: int, port: int, roots: Sequence[Path]) -> list[object]:
    if workers:
        return ["up", *roots, "--port", port, "--devices", "cpu", "--queues", "classify"]
    return ["api", "--port", port, *(word for root in roots for word in ("--root", root))]


def _client(url: str, token: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


def _said(home: Home) -> str:
    log = home.path / "served.log"
    return (log.read_text(errors="replace")[-4000:] if log.exists() else "") + home.logs()
