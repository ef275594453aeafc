"""Evaluation jobs and their items, found again by what they belong to."""

import json

from sqlalchemy import select

from store.database import Database
from store.paths import from_columns
from store.rows import ItemRow
from store.tables import items, jobs


def marked(uid: str) -> dict[str, str]:
    """The options by which the evaluation job of a run is known again."""
    return {"evaluates": uid}


def find_evaluation_job(database: Database, uid: str) -> int | None:
    """The accepted evaluation job of a run, if an attempt that died could not say that it made one."""
    query = select(jobs.c.id).where(jobs.c.options == json.dumps(marked(uid)), jobs.c.state != "scanning")
    with database.read() as connection:
        found = connection.scalar(query.order_by(jobs.c.id.desc()).limit(1))
    return None if found is None else int(found)


def item_at(database: Database, job_id: int, idx: int) -> ItemRow | None:
    """One item of a job."""
    wanted = items.c["idx", "path", "path_raw", "size", "mtime_ns", "member", "offset"]
    with database.read() as connection:
        row = connection.execute(select(*wanted).where(items.c.job_id == job_id, items.c.idx == idx)).first()
    if row is None:
        return None
    return ItemRow(row.idx, from_columns(row.path, row.path_raw), row.size, row.mtime_ns, row.member, row.offset)
