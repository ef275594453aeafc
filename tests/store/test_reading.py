"""Reading: one moment in SQLite; in PostgreSQL no transaction around it, unless settings are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from store.database import SCANS, Database
from store.rows import NewJob
from store.scanning import open_job
from tests.databases import ready
from tests.servers import new_postgres_database


@pytest.fixture
def served(postgres: str) -> Iterator[Database]:
    made = Database(new_postgres_database(postgres))
    yield made
    made.close()


def _state(connection: Connection) -> str:
    """The server's word for where this connection is: `active` outside of a transaction too, so the driver is asked."""
    raw = connection.connection.driver_connection
    assert raw is not None
    return str(raw.info.transaction_status.name)


def test_postgresql_is_asked_without_a_transaction(served: Database) -> None:
    with served.read() as connection:
        connection.execute(text("SELECT 1"))
        assert _state(connection) == "IDLE"


def test_what_writes_is_in_one(served: Database) -> None:
    """On the connection that was read with before: it may not stay as it was."""
    with served.read() as connection:
        backend = connection.scalar(text("SELECT pg_backend_pid()"))
    with suppress(RuntimeError), served.write() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) == backend
        connection.execute(text("CREATE TABLE half (n int)"))
        assert _state(connection) == "INTRANS"
        raise RuntimeError
    with served.read() as connection:
        assert connection.scalar(text("SELECT to_regclass('half')")) is None


def test_settings_hold_as_long_as_the_reading(served: Database) -> None:
    with served.read(SCANS) as connection:
        assert connection.scalar(text("SHOW enable_seqscan")) == "on"
        assert connection.scalar(text("SHOW enable_seqscan")) == "on"
    with served.read() as connection:
        assert connection.scalar(text("SHOW enable_seqscan")) == "off"


def test_in_sqlite_settings_are_nothing_and_all_statements_see_one_moment(tmp_path: Path) -> None:
    url = ready(f"sqlite:///{tmp_path}/pixmill.db")
    database, other = Database(url), Database(url)
    with database.read(SCANS) as connection:
        before = connection.scalar(text("SELECT COUNT(*) FROM jobs"))
        open_job(other, NewJob(None, root=b"/photos"))
        assert connection.scalar(text("SELECT COUNT(*) FROM jobs")) == before
    with database.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM jobs")) == 1
    database.close()
    other.close()
