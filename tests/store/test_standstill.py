"""A process that is stopped inside a transaction holds its locks: whom that keeps waiting, and for how long."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text, update

import store.database
from store.claims import Claimer, claim, owned
from store.database import PATIENCE_S, STANDSTILL_S, Database
from store.errors import DatabaseUnavailable
from store.sweep import sweep
from store.tables import shards
from tests.running import eventually
from tests.servers import new_postgres_database
from tests.store.conftest import AcceptJob

IDLE = "SELECT COUNT(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()"


@pytest.fixture
def database(postgres: str) -> Iterator[Database]:
    """PostgreSQL, and a client of little patience: SQLite has one writer, whose stop stops all others."""
    made = Database(new_postgres_database(postgres), patience_s=2)
    yield made
    made.close()


def test_the_sweeper_passes_over_a_shard_whose_worker_is_stopped_while_it_commits(
    database: Database, accept_job: AcceptJob
) -> None:
    accept_job(3)
    accept_job(3)
    stopped, dead = claim(database, Claimer("stopped")), claim(database, Claimer("dead"))
    assert stopped
    assert dead
    with database.write() as connection:
        connection.execute(update(shards).values(lease_until=1.0))
    with database.write() as connection:
        connection.execute(update(shards).where(owned(stopped)).values(ok=0))  # the fence of a commit
        assert sweep(database).expired == 1  # the other one; waiting for this one would end in an error
    assert sweep(database).expired == 1


def test_a_transaction_that_stands_still_is_ended_and_says_so(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.database, "STANDSTILL_S", 1)
    url = new_postgres_database(postgres)
    one, other = Database(url), Database(url)

    def stand_still() -> None:
        with one.write() as connection:
            connection.execute(text("DELETE FROM workers"))
            eventually(lambda: idle(other) == 0, what="its end")
            connection.execute(text("DELETE FROM models"))

    with pytest.raises(DatabaseUnavailable, match="in which this process stood still"):
        stand_still()
    with one.write() as connection:  # the next one has a connection that works
        connection.execute(text("DELETE FROM workers"))
    one.close()
    other.close()


def idle(database: Database) -> int:
    """Transactions that stand still."""
    with database.read() as connection:
        return int(connection.scalar(text(IDLE)) or 0)


def test_whoever_waits_for_a_lock_outlives_who_stands_still_with_it() -> None:
    assert STANDSTILL_S < PATIENCE_S / 2
