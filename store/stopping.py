"""Jobs that fail too often are stopped: by the worker whose commit brought that about, or by the sweeper."""

from sqlalchemy import select

from store.claims import lock_job
from store.database import Database
from store.failure_limits import explain, judge
from store.jobs import end_as_failed
from store.states import CLAIMABLE, UNFINISHED, JobKind
from store.tables import jobs, shards, tallies


def stop_if_hopeless(database: Database, job_id: int) -> bool:
    """End a job of which more images failed than may, while any are left; whether it ended now. Raises StoreError.

    A transaction of its own, after the commit: the job is locked before any of its shards, here and everywhere.
    """
    with database.read() as connection:
        if judge(connection, job_id) is None:
            return False
    with database.write() as connection:
        if lock_job(connection, job_id) not in CLAIMABLE:
            return False
        verdict = judge(connection, job_id)
        left = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.state.in_(UNFINISHED)).limit(1)
        if verdict is None or connection.scalar(left) is None:  # of what is complete nothing can be stopped
            return False
        return end_as_failed(connection, job_id, explain(connection, job_id, verdict))


def stop_hopeless(database: Database) -> int:
    """Look at every open job with failed images; returns how many were stopped."""
    some = select(tallies.c.n).where(tallies.c.job_id == jobs.c.id, tallies.c.kind == "error_code", tallies.c.n > 0)
    query = select(jobs.c.id).where(jobs.c.state.in_(CLAIMABLE), jobs.c.kind == JobKind.CLASSIFY, some.exists())
    with database.read() as connection:
        suspects = connection.execute(query).scalars().all()
    return sum(stop_if_hopeless(database, job_id) for job_id in suspects)
