"""PostgreSQL is waited for while it works, and given up where it stands still; what a lost commit did is found out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url, select, text

from store import answering, jobs, pooling, tallies
from store.asking import ask
from store.catalog import register_model
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.errors import DatabaseUnavailable, LeaseLost
from store.rows import Lease, NewItem, NewJob, NewResult
from store.tables import results
from tests.chaos.proxy import Proxy
from tests.freezing import Freezer
from tests.running import eventually

HANG_S = 60.0  # on a busy machine; what is measured here would wait for ever


@pytest.fixture(scope="module")
def url(freezable: Freezer) -> str:
    return freezable.new_database()


@pytest.fixture
def server(freezable: Freezer) -> Iterator[Freezer]:
    """Whatever a test leaves of it, it runs again afterwards."""
    yield freezable
    freezable.thaw()


@pytest.fixture
def database(server: Freezer, url: str) -> Iterator[Database]:
    made = Database(url, patience_s=5)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "SILENCE_S", 0.5)
    monkeypatch.setattr(answering, "ASK_S", 2)


def lease_of(database: Database, images: int = 3) -> Lease:
    model = register_model(database, ("fake", 1), "digest", ("ant",), "{}", "/models/fake/1")
    jobs.accept(database, NewJob(model), [NewItem(b"%d.png" % n) for n in range(images)])
    lease = claim(database, Claimer("here/cpu"))
    assert lease
    return lease


def rows_of(lease: Lease) -> list[NewResult]:
    return [NewResult(n, "ok", label="ant", score=1.0, topk="[]") for n in range(lease.lo, lease.hi)]


def test_a_server_that_stands_still_is_given_up_and_used_again_once_it_goes_on(
    server: Freezer, database: Database
) -> None:
    with database.read() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    server.freeze()
    before = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="cannot be reached"), database.read() as connection:
        connection.execute(text("SELECT 1"))
    assert time.monotonic() - before < HANG_S
    before = time.monotonic()
    for _ in range(20):  # not one after the other: they are told what was found
        with pytest.raises(DatabaseUnavailable), database.read():
            pass
    assert time.monotonic() - before < HANG_S
    server.thaw()
    eventually(lambda: answers(database))


def answers(database: Database) -> bool:
    try:
        with database.read() as connection:
            return bool(connection.scalar(text("SELECT 1")) == 1)
    except DatabaseUnavailable:
        return False


def test_many_who_wait_are_all_told(server: Freezer, database: Database) -> None:
    told: list[str] = []

    def look() -> None:
        try:
            with database.read() as connection:
                connection.execute(text("SELECT 1"))
        except DatabaseUnavailable as error:
            told.append(str(error))

    server.freeze()
    threads = [threading.Thread(target=look) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)
    assert len(told) == len(threads)


def test_a_long_statement_of_a_server_at_work_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    works = answering.Server.works_for

    def works_for(self: answering.Server, connection: answering.Patient) -> bool:
        asked.append(works(self, connection))
        return asked[-1]

    monkeypatch.setattr(answering.Server, "works_for", works_for)
    with database.read() as connection:
        assert connection.scalar(text("SELECT 'slept' FROM pg_sleep(1.6)")) == "slept"
    assert asked
    assert asked[0]  # the last one may have found that it is done


def test_a_lock_is_waited_for_while_the_server_works(url: str, database: Database) -> None:
    other = Database(url, patience_s=2)
    statement = text("LOCK TABLE jobs IN EXCLUSIVE MODE")
    try:
        with database.write() as connection:
            connection.execute(statement)
            with pytest.raises(DatabaseUnavailable, match="in the way"), other.write() as second:
                second.execute(statement)
    finally:
        other.close()


def test_a_server_without_room_for_a_question_is_no_dead_one(server: Freezer, url: str) -> None:
    """It refuses the connection that asks: an answer too."""
    try:
        server.run("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
        narrow = Database(make_url(url).set(username="narrow").render_as_string(hide_password=False))
        with narrow.read() as connection:
            assert connection.scalar(text("SELECT 'slept' FROM pg_sleep(1.6)")) == "slept"
        narrow.close()
    finally:
        server.run("DROP ROLE narrow")


@pytest.mark.parametrize("idle", [True, False])
def test_a_connection_whose_other_end_is_gone_is_given_up(
    server: Freezer, url: str, monkeypatch: pytest.MonkeyPatch, idle: bool
) -> None:
    """The server lives, and knows nothing of it: a network that lost the connection and told one side."""
    monkeypatch.setattr(pooling, "FRESH_S", 0.0 if idle else HANG_S)
    with Proxy(server.socket) as proxy:
        address = make_url(url).difference_update_query(["host"])
        seen = address.set(host="127.0.0.1", port=proxy.port, username="postgres")
        database = Database(seen.render_as_string(hide_password=False))
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
        proxy.half_open()
        before = time.monotonic()
        # Where it lay idle it is asked first; one that was used a moment ago fails one transaction.
        assert answers(database) is idle
        assert answers(database)  # on another connection: that one was closed
        assert time.monotonic() - before > answering.SILENCE_S
        proxy.heal()
        eventually(lambda: answers(database))
        database.close()


def test_a_question_to_a_server_that_stands_still_is_no_fault_of_the_question(
    server: Freezer, database: Database
) -> None:
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
    server.freeze()
    with pytest.raises(DatabaseUnavailable), ask(database, "SELECT 1"):
        pass


def test_a_commit_that_happens_after_it_was_given_up_is_there_once(
    server: Freezer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stops with all rows written and COMMIT on its way; when it goes on, it finds COMMIT first."""
    lease = lease_of(database)
    add = tallies.add

    def freeze_after(*arguments: object) -> None:
        add(*arguments)  # type: ignore[arg-type]  # as they came
        server.freeze()

    monkeypatch.setattr(tallies, "add", freeze_after)
    with pytest.raises(DatabaseUnavailable):
        commit_slice(database, lease, rows_of(lease), last=True)
    monkeypatch.setattr(tallies, "add", add)
    server.thaw()
    eventually(lambda: answers(database))
    with pytest.raises(LeaseLost):  # its shard is closed; another try writes nothing
        commit_slice(database, lease, rows_of(lease), last=True)
    with database.read() as connection:
        assert connection.execute(select(results.c.idx).where(results.c.job_id == lease.job_id)).scalars().all() == [
            *range(3)
        ]


def test_a_commit_that_never_began_is_written_by_the_next_try(
    server: Freezer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = lease_of(database)
    server.freeze()
    with pytest.raises(DatabaseUnavailable):
        commit_slice(database, lease, rows_of(lease), last=True)
    server.thaw()
    eventually(lambda: answers(database))
    commit_slice(database, lease, rows_of(lease), last=True)
    with database.read() as connection:
        assert len(connection.execute(select(results.c.idx).where(results.c.job_id == lease.job_id)).all()) == 3
