"""Idempotency: which job a request with a key has made, so that the same request makes no second one."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from store.clock import db_now
from store.database import Database
from store.errors import KeyTaken, StoreError
from store.tables import requests

KEEP_S = 24 * 3600.0  # how long a key of a job that is gone still stands for it


class KeyFreed(StoreError):
    """The job that had an idempotency key was discarded at this moment: the same request may be sent again."""

    def __init__(self) -> None:
        super().__init__("The first of these requests was refused a moment ago; send it again.")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a client calls its request. `fingerprint`: a hash of everything that was asked, at most 64 characters."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A key that is taken. `job_id` is None once the job is removed."""

    owner: str
    key: str
    fingerprint: str
    job_id: int | None
    created_at: float


def find(database: Database, owner: str, key: str) -> RequestRow | None:
    """What an owner's key stands for."""
    with database.read() as connection:
        return _find(connection, owner, key)


def _find(connection: Connection, owner: str, key: str) -> RequestRow | None:
    row = connection.execute(select(requests).where(requests.c.owner == owner, requests.c.key == key)).first()
    return RequestRow(**row._mapping) if row is not None else None


def take(connection: Connection, asked: RequestKey, job_id: int) -> None:
    """Give a key to a job, in the transaction that makes the job. Raises KeyTaken where another one has it; KeyFreed.

    Where another transaction is about to take it, this waits until that one is over.
    """
    dialect: Any = sqlite if connection.dialect.name == "sqlite" else postgresql
    made = connection.execute(
        dialect.insert(requests)
        .values(owner=asked.owner, key=asked.key, fingerprint=asked.fingerprint, job_id=job_id, created_at=db_now())
        .on_conflict_do_nothing(index_elements=["owner", "key"])
        .returning(requests.c.key)
    )
    if made.first() is not None:
        return
    taken = _find(connection, asked.owner, asked.key)
    if taken is None:
        raise KeyFreed
    raise KeyTaken(taken.job_id, fingerprint_matches=taken.fingerprint == asked.fingerprint)


def free(connection: Connection, job_id: int, *, at_once: bool) -> None:
    """Let go of the keys of a job that is being removed: at once, or after KEEP_S (see expire)."""
    mine = requests.c.job_id == job_id
    connection.execute(delete(requests).where(mine) if at_once else update(requests).where(mine).values(job_id=None))


def expire(database: Database, seconds: float = KEEP_S) -> int:
    """Forget keys of removed jobs that are older than that; returns how many. Keys live as long as their job."""
    old = (requests.c.job_id.is_(None)) & (requests.c.created_at < db_now() - seconds)
    with database.write() as connection:
        return connection.execute(delete(requests).where(old)).rowcount
