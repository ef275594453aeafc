"""How many images of an owner wait, and the limit of that: kept where images come in, whoever else brings some."""

from functools import cache

from sqlalchemy import Connection, Select, bindparam, func, select, text

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
    return int(connection.scalar(_waiting(), {"wanted": owner}) or 0)


@cache
def _waiting() -> Select[int]:
    done = (
        select(func.coalesce(func.sum(shards.c.ok + shards.c.failed), 0))
        .where(shards.c.job_id == jobs.c.id)
        .scalar_subquery()
    )
    theirs = (jobs.c.owner == bindparam("wanted")) & jobs.c.state.in_(_OPEN)
    return select(func.coalesce(func.sum(jobs.c.n_items - done), 0)).where(theirs)


def line_up(connection: Connection, owner: str) -> None:
    """Let nobody else add images of this owner until the transaction ends; before it locks any row."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        key = {"key": _LOCK_KEY, "owner": owner}
        connection.execute(text("SELECT pg_advisory_xact_lock(:key, hashtext(:owner))"), key)


def check_room(connection: Connection, owner: str, most: int) -> None:
    """Raise QueueFull where more wait than may; with what this transaction, which lined up, has added."""
    if (waiting := waiting_items(connection, owner)) > most:
        raise QueueFull(most, waiting)
