"""How far each worker has come with the jobs that are open: two numbers seconds apart are its speed."""

from sqlalchemy import func, select

from store.database import Database
from store.states import JobState
from store.tables import jobs, shards

OPEN = (JobState.RUNNING, JobState.CANCELLING)


def images_done(database: Database) -> dict[tuple[str, int], int]:
    """Images that each worker has done of each open job, by the worker's name and the job's id."""
    open_jobs = select(jobs.c.id).where(jobs.c.state.in_(OPEN))
    query = (
        select(shards.c.worker_id, shards.c.job_id, func.sum(shards.c.ok + shards.c.failed))
        .where(shards.c.job_id.in_(open_jobs), shards.c.worker_id.is_not(None))
        .group_by(shards.c.worker_id, shards.c.job_id)
    )
    with database.read() as connection:
        return {(worker, job): int(done) for worker, job, done in connection.execute(query)}


def waiting_jobs(database: Database) -> int:
    """How many jobs are accepted, or still being looked through, and have not begun."""
    query = select(func.count()).where(jobs.c.state.in_((JobState.ACCEPTED, JobState.SCANNING)))
    with database.read() as connection:
        return int(connection.scalar(query) or 0)
