"""A run's state follows that of its job: called wherever a job's state changes, in the same transaction."""

from sqlalchemy import Connection, select, update

from store.states import JobState
from store.tables import jobs, runs

_RUN_STATES = {
    JobState.ACCEPTED: "queued",
    JobState.RUNNING: "running",
    JobState.PAUSED: "paused",
    JobState.CANCELLED: "cancelled",
    JobState.DONE: "done",
    JobState.DONE_WITH_ERRORS: "done",
    JobState.FAILED: "failed",
}  # while a job is cancelling, its run stays what it was


def follow(connection: Connection, job_id: int) -> None:
    """Bring the run of a job, where it has one, to the job's state, times and error."""
    job = connection.execute(select(*jobs.c["state", "started_at", "finished_at", "error"]).where(jobs.c.id == job_id))
    row = job.one()
    if row.state not in _RUN_STATES:
        return
    connection.execute(
        update(runs)
        .where(runs.c.job_id == job_id)
        .values(state=_RUN_STATES[row.state], started_at=row.started_at, finished_at=row.finished_at, error=row.error)
    )
