"""An idle worker stays seen."""

from sqlalchemy import select, update

from store import workers
from store.database import Database
from store.tables import workers as table


def test_a_worker_that_does_nothing_is_seen_again_but_not_its_successor(database: Database) -> None:
    workers.report(database, workers.WorkerReport("host/cpu", "host", "CPU", 7, "idle"))
    with database.write() as connection:
        connection.execute(update(table).values(seen_at=5.0))
    workers.seen(database, "host/cpu", 8)
    assert seen_at(database) == 5.0
    workers.seen(database, "host/cpu", 7)
    assert seen_at(database) > 5.0


def seen_at(database: Database) -> float:
    with database.read() as connection:
        return float(connection.scalar(select(table.c.seen_at)) or 0)
