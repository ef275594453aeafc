"""What open jobs wait for where nothing is wrong with them: space, for the database or for a worker's files."""

from sqlalchemy import ColumnElement, Connection, ScalarSelect, select

from store.clock import db_now
from store.database import Database
from store.room import has_room, no_room_for
from store.tables import jobs, workers

FRESH_S = 300.0  # what a worker said longer ago says nothing of today


def trouble_of_jobs() -> ScalarSelect[str | None]:
    """What a worker of each job's queue said last of its trouble, as a column of a query of jobs."""
    w = workers.c
    mine = w.id.like("%/train") == (jobs.c.kind == "finetune")  # a trainer's name ends with its queue
    newest = select(w.trouble).where(_is_said(), mine).order_by(w.seen_at.desc(), w.id).limit(1)
    return newest.correlate(jobs).scalar_subquery()


def _is_said() -> ColumnElement[bool]:
    w = workers.c
    return w.trouble.is_not(None) & (w.state != "stopped") & (w.seen_at > db_now() - FRESH_S)


def lack_of_room(connection: Connection) -> str | None:
    """What is said where the disk of a SQLite database is full: then no worker can write that down."""
    url = connection.engine.url
    if connection.dialect.name != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return None if has_room(url.database or "") else no_room_for(f"the database {url.database}")


def lacks_room(database: Database) -> bool:
    """Whether the database's disk is full, or a worker waits for space. Raises StoreError."""
    said = select(workers.c.id).where(_is_said()).limit(1)
    with database.read() as connection:
        return lack_of_room(connection) is not None or connection.scalar(said) is not None
