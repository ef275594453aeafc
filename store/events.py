"""The history of jobs: what happened, in the order in which it became visible; a reader goes on after an id."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, text

from store.clock import db_now
from store.database import Database
from store.tables import events, jobs

# What may happen to a job; each event's data has the job's `state` after it.
KINDS = (
    "accepted",
    "running",
    "paused",
    "resumed",
    "ending_early",
    "cancelling",
    "cancelled",
    "retried",
    "priority",
    "shard_split",
    "poisoned",
    "done",
    "done_with_errors",
    "failed",
)
_STATE = select(jobs.c.state).where(jobs.c.id == bindparam("job"))
_WRITTEN = insert(events).values(at=db_now())
_LOCK_KEY = 7_063_712_346  # any constant: PostgreSQL's advisory lock for ids of events


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event. `job_id` is None where it is of no job; `owner` is the job's."""

    id: int
    job_id: int | None
    owner: str
    at: float
    kind: str
    data: dict[str, Any]


def record(connection: Connection, job_id: int | None, kind: str, data: dict[str, Any]) -> None:
    """Write an event of a job's history; last of all in its transaction, after every row it locks.

    The data gets the job's `state` as it is now.
    """
    if connection.dialect.name == "postgresql":
        # Ids are given before a commit: without this, a reader that saw 11 would never see a 10 that comes later.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    state = connection.scalar(_STATE, {"job": job_id}) if job_id is not None else None
    known = data if state is None else {**data, "state": state}
    connection.execute(_WRITTEN, {"job_id": job_id, "kind": kind, "data": json.dumps(known, ensure_ascii=False)})


def events_after(
    database: Database, job_id: int | None, after_id: int, limit: int, kinds: Sequence[str] | None = None
) -> list[EventRow]:
    """Events with a greater id, in order: of one job, or of all."""
    with database.read() as connection:
        return read_after(connection, job_id, after_id, limit, kinds)


def read_after(
    connection: Connection, job_id: int | None, after_id: int, limit: int, kinds: Sequence[str] | None = None
) -> list[EventRow]:
    """What events_after does, over the caller's connection."""
    query = (
        select(events, func.coalesce(jobs.c.owner, "").label("owner"))
        .outerjoin(jobs, jobs.c.id == events.c.job_id)
        .where(events.c.id > after_id)
        .order_by(events.c.id)
        .limit(limit)
    )
    if job_id is not None:
        query = query.where(events.c.job_id == job_id)
    if kinds is not None:
        query = query.where(events.c.kind.in_(tuple(kinds)))
    return [_row(row) for row in connection.execute(query)]


def _row(row: Row[Any]) -> EventRow:
    return EventRow(row.id, row.job_id, row.owner, row.at, row.kind, json.loads(row.data))


def last_event(database: Database, job_id: int) -> int:
    """The id of a job's newest event; 0 where it has none."""
    with database.read() as connection:
        return int(connection.scalar(select(func.max(events.c.id)).where(events.c.job_id == job_id)) or 0)


def newest_event(connection: Connection) -> int:
    """The id of the newest event of all; 0 where there is none."""
    return int(connection.scalar(select(func.max(events.c.id))) or 0)
