"""A PostgreSQL of its own for tests that stop it in the middle of what it does: SIGSTOP to all of its processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

from tests.servers import new_postgres_database, postgres_server


class Freezer:
    """A server that can stand still: its sockets are open, the kernel takes what is sent, and nobody answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._folder = Path(str(make_url(url).query["host"]))

    @property
    def socket(self) -> Path:
        """The unix socket that it listens on."""
        return self._folder / ".s.PGSQL.5432"

    def run(self, *statements: str) -> None:
        """Run statements as the superuser, each in a transaction of its own."""
        address = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def new_database(self) -> str:
        """The URL of a new database with the current tables."""
        return new_postgres_database(self.url)

    def freeze(self) -> None:
        """Stop every process of it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        postmaster = psutil.Process(int((self._folder / "postmaster.pid").read_text().splitlines()[0]))
        # The first one first when they are to stop, last when they go on: it would take a stopped child for a dead one.
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family if number == signal.SIGSTOP else reversed(family):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


@contextmanager
def freezer() -> Iterator[Freezer]:
    """A running server; gone in the end, frozen or not."""
    with postgres_server() as url:
        made = Freezer(url)
        try:
            yield made
        finally:
            made.thaw()
