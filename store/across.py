"""Results across jobs: the newest job first, inside a job in the order asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, true

from store.database import Database
from store.errors import UnknownJob
from store.query import Page, page, walk
from store.results import Filter, ResultRow
from store.tables import jobs, models, tallies
from store.way import Key, Order

JOBS = 500  # that one page considers
PARTS = 10  # jobs that one page asks


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose jobs (None: everybody's), of which model (`birds` or `birds@3`; None: of any)."""

    owner: str | None = None
    model: str | None = None


def page_across(
    database: Database, scope: Scope, chosen: Filter, order: Order = "item", limit: int = 100, after: Key | None = None
) -> Page[ResultRow]:
    """The next results of all jobs of a scope. The key is the job's number and the key inside it, if it is begun."""
    rows: list[ResultRow] = []
    start, inside = (None, None) if after is None else (int(after[0]), tuple(after[1:]) or None)
    with database.read() as connection:
        considered, found = _jobs(connection, scope, chosen, start, begun=inside is not None)
    for job_id in found[:PARTS]:
        part = page(database, job_id, chosen, order, limit - len(rows), inside if job_id == start else None)
        rows += part.rows
        if part.after is not None:
            return Page(rows, (job_id, *part.after))
        if len(rows) == limit:
            return Page(rows, (job_id,))
    if len(found) > PARTS:
        return Page(rows, (found[PARTS - 1],))
    return Page(rows, (considered[-1],) if len(considered) == JOBS else None)


def walk_across(database: Database, scope: Scope, chosen: Filter, order: Order = "item") -> Iterator[ResultRow]:
    """Every matching result of all jobs of a scope, in flat memory; `item` is by number, whatever the filter."""
    start: int | None = None
    while True:
        with database.read() as connection:
            considered, found = _jobs(connection, scope, chosen, start, begun=False)
        for job_id in found:
            with suppress(UnknownJob):  # it was removed since
                yield from walk(database, job_id, chosen, order)
        if len(considered) < JOBS:
            return
        start = considered[-1]


def most_answers(database: Database, scope: Scope) -> int:
    """The largest top-k of all jobs of a scope; 0 where there are none."""
    with database.read() as connection:
        found = connection.scalar(select(func.max(jobs.c.top_k)).where(*_of(connection, scope)))
    return int(found or 0)


def _of(connection: Connection, scope: Scope) -> Iterator[ColumnElement[bool]]:
    yield jobs.c.kind == "classify"
    if scope.owner is not None:
        yield jobs.c.owner == scope.owner
    if scope.model is not None:
        yield jobs.c.model_id.in_(_models(connection, scope.model))


def _jobs(
    connection: Connection, scope: Scope, chosen: Filter, start: int | None, *, begun: bool
) -> tuple[list[int], list[int]]:
    """The next JOBS jobs of a scope, and those of them that have what the filter asks for as far as tallies know."""
    has: ColumnElement[bool] = true()
    if chosen.label is not None:
        of_label = (tallies.c.job_id == jobs.c.id, tallies.c.kind == "label", tallies.c.value == chosen.label)
        # Not EXISTS: for that PostgreSQL may read the tallies of every job there is, into a table in memory.
        has = select(tallies.c.n).where(*of_label).scalar_subquery() > 0
    query: Select[Any] = select(jobs.c.id, has.label("has")).where(*_of(connection, scope))
    if start is not None:
        query = query.where(jobs.c.id <= start if begun else jobs.c.id < start)
    rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(JOBS)).all()
    return [row.id for row in rows], [row.id for row in rows if row.has]


def _models(connection: Connection, reference: str) -> list[int]:
    name, _, version = reference.partition("@")
    query = select(models.c.id).where(models.c.name == name)
    if version:
        query = query.where(models.c.version == (int(version) if version.isdecimal() and len(version) < 9 else -1))
    return [int(number) for (number,) in connection.execute(query)]
