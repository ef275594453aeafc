"""Where an API listens on this machine, and what it may read: looked at before anything is started."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError, Exit

if TYPE_CHECKING:
    from worker.settings import Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, never listened on


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API is reached from this machine, and what it may read."""

    host: str
    port: int
    roots: tuple[Path, ...]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def find_roots(folders: Sequence[Path], chosen: Settings, host: str) -> tuple[Path, ...]:
    """What the API may read: the folders named, else those of the settings, else on loopback where we stand."""
    if not folders and not chosen.roots and host not in LOOPBACK:
        raise CommandError(
            f"--host {host} can be reached from other machines: name the folders whose files may be classified "
            "(`pixmill up FOLDER…`, or PIXMILL_ROOTS).",
        )
    roots = tuple(Path(os.path.abspath(folder)) for folder in folders or chosen.roots or [Path.cwd()])  # noqa: PTH100  links stay
    for root in roots:
        if not root.is_dir():
            raise CommandError(f"Expected a folder, got {root}.", Exit.NOT_FOUND)
    return roots


def free_port(host: str, port: int) -> int:
    """The port itself where the API can listen there, a free one for 0. Raises CommandError with what is in the way."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the server will: old connections do not count
            trial.bind(address)
            trial.listen()
            return int(trial.getsockname()[1])
    except OSError as error:
        raise CommandError(_port_trouble(error, host, port), Exit.USAGE) from error


def _port_trouble(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} of {host} is taken by another program. Choose another one with --port (0 finds a free one)."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs rights that this user does not have. Choose one above 1023 with --port."
    return f"--host {host}: this machine cannot listen there ({error.strerror}). 127.0.0.1 is this machine alone."


def reachable(host: str) -> str:
    """An address at which this machine reaches what listens on `host`."""
    return ANYWHERE.get(host, host)
