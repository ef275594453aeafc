"""What a job's tallies should say, counted row by row."""

from sqlalchemy import func, select

from store.database import Database
from store.tables import items, results


def classes(database: Database, job_id: int, limit: int = 10) -> list[tuple[str, int]]:
    """How many images got which label, most first."""
    count = func.count()
    query = (
        select(results.c.label, count)
        .where(results.c.job_id == job_id, results.c.status == "ok")
        .group_by(results.c.label)
        .order_by(count.desc(), results.c.label)
        .limit(limit)
    )
    with database.read() as connection:
        return [(label, n) for label, n in connection.execute(query)]


def failures(database: Database, job_id: int) -> list[tuple[str, int, str]]:
    """The reasons of failure, most first: error code, how many items, one of the messages."""
    count = func.count()
    query = (
        select(results.c.error_code, count, func.min(results.c.error))
        .where(results.c.job_id == job_id, results.c.status == "failed")
        .group_by(results.c.error_code)
        .order_by(count.desc(), results.c.error_code)
    )
    with database.read() as connection:
        return [(code, n, message) for code, n, message in connection.execute(query)]


def agreement(database: Database, job_id: int) -> tuple[int, int]:
    """Of the classified items with a true label: how many were predicted right, and how many there are."""
    right = func.count().filter(results.c.label == items.c.label)
    query = (
        select(right, func.count())
        .select_from(results)
        .join(items, (items.c.job_id == results.c.job_id) & (items.c.idx == results.c.idx))
        .where(results.c.job_id == job_id, results.c.status == "ok", items.c.label.is_not(None))
    )
    with database.read() as connection:
        row = connection.execute(query).one()
        return int(row[0]), int(row[1])
