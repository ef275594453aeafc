"""Read side: jobs, their totals, failures and classes as frozen rows. Writes nothing."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypedDict, Unpack

from sqlalchemy import ColumnElement, Connection, Row, Select, String, bindparam, cast, func, select, union_all

from store.database import Database
from store.errors import UnknownJob
from store.paths import from_columns
from store.rows import ItemRow, JobRow, Lease
from store.states import CLAIMABLE, FINAL, UNFINISHED, JobState
from store.tables import items, jobs, models, results, shards
from store.troubles import lack_of_room, trouble_of_jobs


def job(database: Database, job_id: int) -> JobRow:
    """One job with its totals. Raises UnknownJob."""
    with database.read() as connection:
        return read_job(connection, job_id)


def read_job(connection: Connection, job_id: int) -> JobRow:
    """One job with its totals, over the caller's connection. Raises UnknownJob."""
    row = connection.execute(_one_job(), {"wanted": job_id}).first()
    if row is None:
        raise UnknownJob(job_id)
    return _job_row(row, lack_of_room(connection))


class JobFilter(TypedDict, total=False):
    """Which jobs: every condition that is given, and not None, must hold. Times are seconds since 1970."""

    states: Sequence[JobState]  # none: any
    before: int | None  # ids below
    owner: str | None
    kind: str | None
    model: str | None  # a name, for all its versions, or NAME@VERSION
    since: float | None  # submitted then or later
    until: float | None  # submitted before then


def list_jobs(database: Database, *, limit: int = 50, **chosen: Unpack[JobFilter]) -> list[JobRow]:
    """The newest jobs first; `before` continues below an id."""
    conditions = [*_conditions(chosen)]
    query = _jobs_query().order_by(jobs.c.id.desc()).limit(limit)
    with database.read() as connection:
        query = query.where(*conditions, *_in_states(chosen, conditions, limit, is_sqlite=database.is_sqlite))
        full = lack_of_room(connection)
        return [_job_row(row, full) for row in connection.execute(query)]


def _conditions(chosen: JobFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("owner", "kind"):
        if (value := chosen.get(name)) is not None:
            yield jobs.c[name] == value
    if (before := chosen.get("before")) is not None:
        yield jobs.c.id < before
    if (since := chosen.get("since")) is not None:
        yield jobs.c.created_at >= since
    if (until := chosen.get("until")) is not None:
        yield jobs.c.created_at < until
    if (model := chosen.get("model")) is not None:
        yield jobs.c.model_id.in_(_versions(model))


def _in_states(
    chosen: JobFilter, others: Sequence[ColumnElement[bool]], limit: int, *, is_sqlite: bool
) -> Iterator[ColumnElement[bool]]:
    """Said so that no more jobs are sorted than a page of each state; `others`: the other conditions."""
    states, state = tuple(dict.fromkeys(chosen.get("states") or ())), jobs.c.state
    if chosen.get("owner") is not None and is_sqlite and FINAL.intersection(states):
        yield state.concat("").in_(states)  # not by its index: there all the ended jobs of everybody are
    elif chosen.get("owner") is not None and states:
        yield state.in_(states)
    elif len(states) == 1:
        yield state == states[0]
    elif states:
        # SQLite, with an index of several states, would add up the totals of all their jobs and sort them.
        newest = select(jobs.c.id).where(*others).order_by(jobs.c.id.desc()).limit(limit).correlate(None)
        yield jobs.c.id.in_(union_all(*(select(newest.where(state == one).subquery().c.id) for one in states)))


def _versions(reference: str) -> Select[int]:
    """The ids of NAME's versions, or of the one that NAME@VERSION says."""
    name, at, version = reference.rpartition("@")
    if not at:
        return select(models.c.id).where(models.c.name == reference)
    # Compared as text, so that no number is too large for the database.
    return select(models.c.id).where(models.c.name == name, cast(models.c.version, String) == version)


@cache  # every request asks for its job: putting the statement together took longer than running it
def _one_job() -> Select[Any]:
    return _jobs_query().where(jobs.c.id == bindparam("wanted"))


@cache
def _jobs_query() -> Select[Any]:
    def total(column: str) -> Any:
        summed = select(func.coalesce(func.sum(shards.c[column]), 0)).where(shards.c.job_id == jobs.c.id)
        return summed.scalar_subquery().label(column)

    name = (models.c.name + "@" + cast(models.c.version, String)).label("model")
    totals: list[Any] = [name, total("ok"), total("failed"), total("reused"), trouble_of_jobs().label("trouble")]
    return select(jobs).add_columns(*totals).outerjoin(models, models.c.id == jobs.c.model_id)


def _job_row(row: Row[Any], full: str | None) -> JobRow:
    return JobRow(
        id=row.id,
        kind=row.kind,
        state=JobState(row.state),
        owner=row.owner,
        priority=row.priority,
        description=row.description,
        root=from_columns(row.root, row.root_raw),
        confined=row.confined,
        model_id=row.model_id,
        model=row.model,
        top_k=row.top_k,
        reuse=row.reuse,
        found=row.n_items,
        classified=int(row.ok),
        failed=int(row.failed),
        reused=int(row.reused),
        ignored=json.loads(row.ignored),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        max_failures=row.max_failures,
        done_before=row.done_before,
        trouble=(full or row.trouble) if row.state in CLAIMABLE else None,
    )


def items_left(database: Database, lease: Lease) -> list[ItemRow]:
    """The items of a leased shard that have no result yet, in order."""
    i, r = items.c, results.c
    # The shard's bounds twice: however the two are joined, no more of either than the shard is read.
    done = select(r.idx).where(r.job_id == lease.job_id, r.idx >= lease.lo, r.idx < lease.hi, r.idx == i.idx).exists()
    query = (
        select(*i["idx", "path", "path_raw", "size", "mtime_ns", "member", "offset"])
        .where(i.job_id == lease.job_id, i.idx >= lease.lo, i.idx < lease.hi, ~done)
        .order_by(i.idx)
    )
    with database.read() as connection:
        return [
            ItemRow(idx, from_columns(path, raw), size, mtime_ns, member, offset)
            for idx, path, raw, size, mtime_ns, member, offset in connection.execute(query)
        ]


def ready_shards(database: Database, queue: str) -> int:
    """How many shards of a queue wait for a worker (counted up to 1,000)."""
    open_jobs = select(jobs.c.id).where(jobs.c.state.in_((JobState.ACCEPTED, JobState.RUNNING)))
    some = select(shards.c.id).where(
        shards.c.job_id.in_(open_jobs), shards.c.state == UNFINISHED[0], shards.c.queue == queue
    )
    with database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(some.limit(1000).subquery())) or 0)
