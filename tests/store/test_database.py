"""Connections: how long they wait, and that none of them waits for ever."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.pool import QueuePool

from store.database import ACKNOWLEDGED_S, Database
from store.errors import DatabaseUnavailable, StoreError
from store.question import REMEMBERED
from tests.servers import new_postgres_database

REQUEST_THREADS = 40  # of the framework, unless it is told otherwise


@pytest.fixture
def hasty(database_url: str) -> Iterator[Database]:
    """A database whose transactions hardly wait."""
    made = Database(database_url, patience_s=0.2)
    yield made
    made.close()


def _most(database: Database) -> int:
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.size() + pool._max_overflow


def test_where_all_connections_are_in_use_the_database_is_unavailable(hasty: Database) -> None:
    with ExitStack() as stack:
        for _ in range(_most(hasty)):
            stack.enter_context(hasty.read())
        with pytest.raises(DatabaseUnavailable, match="stayed in use"), hasty.read():
            pass
    with hasty.read() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_file_serves_a_reader_while_every_request_thread_waits_to_write(hasty: Database) -> None:
    if not hasty.is_sqlite:
        pytest.skip("writers of PostgreSQL do not wait for each other")
    patient = Database(hasty.url.render_as_string(), patience_s=60)
    with ExitStack() as stack:
        stack.callback(patient.close)
        writers = [threading.Thread(target=_write, args=[patient]) for _ in range(REQUEST_THREADS)]
        with hasty.write():
            for writer in writers:
                writer.start()
            pool = patient.engine.pool
            assert isinstance(pool, QueuePool)
            while pool.checkedout() < REQUEST_THREADS:
                assert all(writer.is_alive() for writer in writers)
            with patient.read() as connection:
                assert connection.scalar(text("SELECT 1")) == 1
        for writer in writers:
            writer.join(60)


def _write(database: Database) -> None:
    with database.write():
        pass


def test_a_lock_is_waited_for_as_long_as_asked(hasty: Database) -> None:
    other = Database(hasty.url.render_as_string(hide_password=False))
    statement = text("DELETE FROM jobs") if hasty.is_sqlite else text("LOCK TABLE jobs IN EXCLUSIVE MODE")
    try:
        with other.write() as connection:
            connection.execute(statement)
            with pytest.raises(DatabaseUnavailable), hasty.write() as second:
                second.execute(statement)
    finally:
        other.close()


def test_a_value_over_a_limit_of_the_server_is_no_outage(postgres: str) -> None:
    """An outage is waited for and tried again, uncounted; a row that can never be written must count."""
    database = Database(new_postgres_database(postgres))
    with database.write() as connection:
        connection.execute(text("CREATE TABLE long (name text PRIMARY KEY)"))
    with pytest.raises(StoreError, match="has a limit that this is over") as refused, database.write() as connection:
        connection.execute(text("INSERT INTO long SELECT string_agg(md5(n::text), '') FROM generate_series(1, 999) n"))
    assert not isinstance(refused.value, DatabaseUnavailable)
    database.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_USER_TIMEOUT")
def test_a_postgresql_whose_machine_is_gone_is_noticed(postgres: str) -> None:
    """The kernel is asked: a network that swallows packets takes rights that tests do not have."""
    folder = str(make_url(postgres).query["host"])
    port = make_url(postgres).port or 5432
    with socket.create_server(("127.0.0.1", 0)) as door:
        relay = threading.Thread(target=_relay, args=[door, f"{folder}/.s.PGSQL.{port}"], daemon=True)
        relay.start()
        address = make_url(postgres).set(host="127.0.0.1", port=door.getsockname()[1], query={"sslmode": "disable"})
        database = Database(address.render_as_string(hide_password=False))
        with database.read() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            with socket.socket(fileno=os.dup(raw.fileno())) as wire:
                tcp = socket.IPPROTO_TCP
                assert wire.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == ACKNOWLEDGED_S * 1000
                probes = [
                    wire.getsockopt(tcp, n) for n in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
                ]
                assert probes[0] + probes[1] * probes[2] <= 30
        database.close()
        relay.join(30)


def test_the_statements_of_all_remembered_questions_stay_prepared(postgres: str) -> None:
    database = Database(new_postgres_database(postgres))
    with database.read() as connection:
        for _ in range(10):
            for n in range(2 * REMEMBERED):
                connection.exec_driver_sql(f"SELECT {n}")
        kept = connection.scalar(text("SELECT COUNT(*) FROM pg_prepared_statements"))
    database.close()
    assert kept == 2 * REMEMBERED


def _relay(door: socket.socket, path: str) -> None:
    """Pass one connection on to the server's own socket."""
    near, _ = door.accept()
    with near, socket.socket(socket.AF_UNIX) as far:
        far.connect(path)
        back = threading.Thread(target=_pump, args=[far, near], daemon=True)
        back.start()
        _pump(near, far)
        back.join(30)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other side is gone
