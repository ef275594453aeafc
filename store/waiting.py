"""How many images of an owner wait, and the limit of that: kept where images come in, whoever else brings some."""

from sqlalchemy import Connection, func, select, text, update

from store.database import Database
from store.errors import StoreError
from store.states import FINAL, JobState
from store.tables import jobs, shards

_OPEN = tuple(set(JobState) - FINAL - {JobState.CANCELLING})
_LOCK_KEY = 706_371_234  # any constant: the first half of PostgreSQL's advisory lock of an owner's queue


class QueueFull(StoreError):
    """More images of one owner would wait than may."""

    def __init__(self, most: int, waiting: int) -> None:
        super().__init__(f"Expected at most {most:,} waiting images of one owner; with these it would be {waiting:,}.")
        self.most, self.waiting = most, waiting


def waiting_items(connection: Connection, owner: str) -> int:
    """Items of an owner's unfinished jobs that have no result yet, with those that a scan has found so far."""
    done = (
        select(func.coalesce(func.sum(shards.c.ok + shards.c.failed), 0))
        .where(shards.c.job_id == jobs.c.id)
        .scalar_subquery()
    )
    theirs = (jobs.c.owner == owner) & jobs.c.state.in_(_OPEN)
    return int(connection.scalar(select(func.coalesce(func.sum(jobs.c.n_items - done), 0)).where(theirs)) or 0)


def line_up(connection: Connection, owner: str) -> None:
    """Let nobody else add images of this owner until the transaction ends; before it locks any row."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        key = {"key": _LOCK_KEY, "owner": owner}
        connection.execute(text("SELECT pg_advisory_xact_lock(:key, hashtext(:owner))"), key)


def check_room(connection: Connection, owner: str, most: int) -> None:
    """Raise QueueFull where more wait than may; with what this transaction, which lined up, has added."""
    if (waiting := waiting_items(connection, owner)) > most:
        raise QueueFull(most, waiting)


def take_room(database: Database, owner: str, mark: str, count: int, most: int) -> None:
    """Count all images of a scan that is at its end before the job is accepted, so that of two only one has the room.

    `mark` stands in the request of the scanning job, and of no other. Raises QueueFull.
    """
    scan = (jobs.c.state == JobState.SCANNING) & jobs.c.options.contains(mark, autoescape=True)
    with database.write() as connection:
        line_up(connection, owner)
        connection.execute(update(jobs).where(scan).values(n_items=count))
        check_room(connection, owner, most)
