"""Corrections: a person's label for an item, beside the prediction and never over it. The newest one counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from store.clock import db_now
from store.database import Database
from store.errors import UnknownItem, UnknownJob
from store.tables import corrections, items, jobs

IN_LIST = 500  # items per query: below every database's limit on parameters


@dataclass(frozen=True, slots=True)
class CorrectionRow:
    """What a person said of an item, and when. `label` is None where they withdrew what was said before."""

    id: int
    job_id: int
    idx: int
    label: str | None
    author: str
    created_at: float


def correct(database: Database, job_id: int, idx: int, label: str, author: str) -> CorrectionRow:
    """Say what an item is. Raises UnknownJob, UnknownItem."""
    return _say(database, job_id, idx, label, author)


def withdraw(database: Database, job_id: int, idx: int, author: str) -> CorrectionRow | None:
    """Take back what was said of an item; None where nothing is. Raises UnknownJob, UnknownItem."""
    return _say(database, job_id, idx, None, author) if _stands(database, job_id, idx) else None


def _stands(database: Database, job_id: int, idx: int) -> bool:
    mine = (corrections.c.job_id == job_id) & (corrections.c.idx == idx)
    with database.read() as connection:
        last = connection.execute(select(corrections.c.label).where(mine).order_by(corrections.c.id.desc()).limit(1))
        said = last.first()
        if said is None:
            _check_there(connection, job_id, idx)
    return said is not None and said.label is not None


def _say(database: Database, job_id: int, idx: int, label: str | None, author: str) -> CorrectionRow:
    with database.write(durable=True) as connection:
        # Locked, so that the job is not removed meanwhile.
        held = select(jobs.c.id).where(jobs.c.id == job_id).with_for_update(read=True, key_share=True)
        if connection.scalar(held) is None:
            raise UnknownJob(job_id)
        if connection.scalar(select(items.c.idx).where(items.c.job_id == job_id, items.c.idx == idx)) is None:
            raise UnknownItem(job_id, idx)
        values = {"job_id": job_id, "idx": idx, "label": label, "author": author, "created_at": db_now()}
        row = connection.execute(insert(corrections).values(values).returning(corrections)).one()
    return CorrectionRow(**row._mapping)


def history(
    database: Database, job_id: int, idx: int, *, after: int = 0, limit: int | None = None
) -> list[CorrectionRow]:
    """What was said of an item, oldest first; the last of all counts. Raises UnknownJob, UnknownItem.

    `after`: the id of the last one that is known already; `limit`: no more than so many.
    """
    mine = (corrections.c.job_id == job_id) & (corrections.c.idx == idx) & (corrections.c.id > after)
    with database.read() as connection:
        said = connection.execute(select(corrections).where(mine).order_by(corrections.c.id).limit(limit)).all()
        if not said:
            _check_there(connection, job_id, idx)
    return [CorrectionRow(**row._mapping) for row in said]


def _check_there(connection: Connection, job_id: int, idx: int) -> None:
    """Raises UnknownJob, UnknownItem."""
    if connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id)) is None:
        raise UnknownJob(job_id)
    if connection.scalar(select(items.c.idx).where(items.c.job_id == job_id, items.c.idx == idx)) is None:
        raise UnknownItem(job_id, idx)


def corrected(database: Database, job_id: int, indices: Sequence[int]) -> dict[int, CorrectionRow]:
    """What counts for these items, by their numbers; nothing for items that have no correction or a withdrawn one."""
    found: dict[int, CorrectionRow] = {}
    with database.read() as connection:
        for start in range(0, len(indices), IN_LIST):
            mine = (corrections.c.job_id == job_id) & corrections.c.idx.in_(indices[start : start + IN_LIST])
            newest = select(func.max(corrections.c.id)).where(mine).group_by(corrections.c.idx)
            query = select(corrections).where(corrections.c.id.in_(newest), corrections.c.label.is_not(None))
            found |= {row.idx: CorrectionRow(**row._mapping) for row in connection.execute(query)}
    return found
