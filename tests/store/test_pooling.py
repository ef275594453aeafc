"""A pooled PostgreSQL connection is used again without a question, unless it lay idle or was ended meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import event, make_url, text

from store import pooling
from store.database import Database
from store.errors import DatabaseUnavailable
from tests.chaos.proxy import Proxy
from tests.freezing import Freezer


@pytest.fixture(scope="module")
def url(freezable: Freezer) -> str:
    return freezable.new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url, patience_s=5)
    yield made
    made.close()


@pytest.fixture
def pings(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the server was asked whether it lives."""
    asked: list[float] = []
    real = database.engine.dialect.do_ping

    def noted(connection: psycopg.Connection[object]) -> bool:
        asked.append(time.monotonic())
        return real(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(database.engine.dialect, "do_ping", noted)
    return asked


def backend_of(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_a_connection_that_was_used_a_moment_ago_is_not_asked(database: Database, pings: list[float]) -> None:
    assert len({backend_of(database) for _ in range(20)}) == 1
    assert pings == []


def test_one_that_lay_idle_is_asked(database: Database, pings: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "FRESH_S", 0.0)
    assert len({backend_of(database) for _ in range(3)}) == 1
    assert len(pings) == 2


def test_one_that_the_server_ended_a_moment_ago_is_replaced_unnoticed(
    database: Database, freezable: Freezer, pings: list[float]
) -> None:
    first = backend_of(database)
    freezable.run(f"SELECT pg_terminate_backend({first}, 5000)")
    assert backend_of(database) != first
    assert len(pings) == 1


def test_all_that_lay_idle_are_replaced_with_the_first_that_is_found_ended(
    database: Database, freezable: Freezer, pings: list[float]
) -> None:
    with database.read() as one, database.read() as other:
        pids = [int(connection.scalar(text("SELECT pg_backend_pid()")) or 0) for connection in (one, other)]
    freezable.run(*(f"SELECT pg_terminate_backend({pid}, 5000)" for pid in pids))
    with database.read() as one, database.read() as other:
        assert not {int(c.scalar(text("SELECT pg_backend_pid()")) or 0) for c in (one, other)} & set(pids)
    assert len(pings) == 1


def test_one_that_is_closed_here_is_replaced(database: Database) -> None:
    backend_of(database)
    held: list[psycopg.Connection[object]] = []
    event.listen(database.engine, "checkin", lambda connection, _: held.append(connection))
    first = backend_of(database)
    held[0].close()
    assert backend_of(database) != first


def test_a_server_that_is_gone_is_told_so(url: str, freezable: Freezer) -> None:
    with Proxy(freezable.socket) as proxy:
        seen = make_url(url).difference_update_query(["host"])
        seen = seen.set(host="127.0.0.1", port=proxy.port, username="postgres")
        database = Database(seen.render_as_string(hide_password=False), patience_s=5)
        backend_of(database)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(DatabaseUnavailable):
            backend_of(database)
        proxy.heal()
        assert backend_of(database)
        database.close()
