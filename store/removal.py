"""Removing a job with all its rows, in portions that do not hold the write lock for long."""

from sqlalchemy import Connection, Table, delete, func, select, update

from store import requests, uploads
from store.claims import fence_off, lock_job
from store.counters import count_up, images_name
from store.database import Database
from store.errors import IllegalMove, UnknownJob
from store.states import FINAL, JobState, ShardState
from store.tables import attempts, corrections, evaluations, events, items, jobs, results, runs, shards, tallies

PORTION = 50_000
REMOVABLE = (*FINAL, JobState.SCANNING)


def remove(database: Database, job_id: int) -> None:
    """Delete a finished or half-scanned job. Raises UnknownJob, IllegalMove.

    The run of a training stays, with its history; figures of an evaluation go with the job that they are of. The
    idempotency key of a job that was accepted stays taken for a while.
    Large tables go in portions; a crash in between leaves a job that can be removed again.
    """
    with database.write() as connection:
        state = lock_job(connection, job_id)
        if state is None:
            raise UnknownJob(job_id)
        if state not in REMOVABLE:
            raise IllegalMove(job_id, state, "removed before it is cancelled or has ended")
        mark(connection, job_id, was_accepted=state != JobState.SCANNING)
    finish(database, job_id)


def mark(connection: Connection, job_id: int, *, was_accepted: bool = False) -> None:
    """Begin to remove a locked job: nobody may retry, scan or write into it from here on."""
    connection.execute(
        update(jobs).where(jobs.c.id == job_id).values(state=JobState.SCANNING, claimed_at=0, options="{}")
    )
    # Of a job that failed, a worker may still hold a shard; his commit is over now, or comes too late.
    fence_off(connection, job_id, ShardState.CANCELLED)
    requests.free(connection, job_id, at_once=not was_accepted)


def finish(database: Database, job_id: int) -> None:
    """Remove the rows of a marked job, and the job."""
    _clear(database, results, job_id)
    clear_items(database, job_id)
    with database.write() as connection:
        # First of all, so that nobody writes an evaluation of it from here on, nor waits for us while we wait for him.
        connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
        counted = _counted(connection, job_id)
        mine = select(shards.c.id).where(shards.c.job_id == job_id)
        connection.execute(delete(attempts).where(attempts.c.shard_id.in_(mine)))
        connection.execute(update(runs).where(runs.c.job_id == job_id).values(job_id=None))
        evaluated = runs.c.evaluation_job_id == job_id
        connection.execute(update(runs).where(evaluated).values(evaluation_job_id=None))
        requests.free(connection, job_id, at_once=False)
        uploads.let_go(connection, job_id)
        for table in (shards, events, corrections, evaluations, tallies):
            connection.execute(delete(table).where(table.c.job_id == job_id))
        connection.execute(delete(jobs).where(jobs.c.id == job_id))
        count_up(connection, counted)


def clear_items(database: Database, job_id: int) -> None:
    """Delete the items of a job that nobody works on."""
    _clear(database, items, job_id)


def _clear(database: Database, table: Table, job_id: int) -> None:
    with database.read() as connection:
        last = connection.scalar(select(func.max(table.c.idx)).where(table.c.job_id == job_id))
    for lo in range(0, -1 if last is None else last + 1, PORTION):
        with database.write() as connection:
            portion = (table.c.job_id == job_id) & (table.c.idx >= lo) & (table.c.idx < lo + PORTION)
            connection.execute(delete(table).where(portion))


def _counted(connection: Connection, job_id: int) -> dict[str, int]:
    """What the job added to the images of its model, which stay counted when it is gone."""
    sums = select(jobs.c.model_id, func.sum(shards.c.ok), func.sum(shards.c.failed))
    row = connection.execute(
        sums.join(shards, shards.c.job_id == jobs.c.id).where(jobs.c.id == job_id).group_by(jobs.c.model_id)
    ).first()
    if row is None or row.model_id is None:
        return {}
    model_id, ok, failed = row
    return {images_name(model_id, "ok"): int(ok), images_name(model_id, "failed"): int(failed)}
