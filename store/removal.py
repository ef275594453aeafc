"""Removing a job with all its rows, in portions that do not hold the write lock for long."""

from sqlalchemy import delete, func, select, update

from store.database import Database
from store.errors import IllegalMove, UnknownJob
from store.states import FINAL, JobState
from store.tables import attempts, corrections, evaluations, events, items, jobs, results, runs, shards

PORTION = 50_000
REMOVABLE = (*FINAL, JobState.SCANNING)


def remove(database: Database, job_id: int) -> None:
    """Delete a finished or half-scanned job. Raises UnknownJob, IllegalMove.

    The run of a training stays, with its history; figures of an evaluation go with the job that they are of.
    Large tables go in portions; a crash in between leaves a job that can be removed again.
    """
    with database.write() as connection:
        state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
        if state is None:
            raise UnknownJob(job_id)
        if state not in REMOVABLE:
            raise IllegalMove(job_id, state, "removed before it is cancelled or has ended")
        # Nobody may retry it half-way through.
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(state=JobState.SCANNING, claimed_at=0))
    for table in (results, items):
        with database.read() as connection:
            last = connection.scalar(select(func.max(table.c.idx)).where(table.c.job_id == job_id))
        for lo in range(0, -1 if last is None else last + 1, PORTION):
            with database.write() as connection:
                portion = (table.c.job_id == job_id) & (table.c.idx >= lo) & (table.c.idx < lo + PORTION)
                connection.execute(delete(table).where(portion))
    with database.write() as connection:
        # First of all, so that nobody writes an evaluation of it from here on, nor waits for us while we wait for him.
        connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
        mine = select(shards.c.id).where(shards.c.job_id == job_id)
        connection.execute(delete(attempts).where(attempts.c.shard_id.in_(mine)))
        connection.execute(update(runs).where(runs.c.job_id == job_id).values(job_id=None))
        evaluated = runs.c.evaluation_job_id == job_id
        connection.execute(update(runs).where(evaluated).values(evaluation_job_id=None))
        for table in (shards, events, corrections, evaluations):
            connection.execute(delete(table).where(table.c.job_id == job_id))
        connection.execute(delete(jobs).where(jobs.c.id == job_id))
