"""How fast a job goes after a retry: the rows of before are not counted, since the time is that of the rest."""

from __future__ import annotations

from sqlalchemy import update

from store import insights, jobs
from store.claims import Claimer, claim
from store.commits import commit_slice
from store.database import Database
from store.records import job_record, progress_record
from store.rows import JobRow, NewResult
from store.sweep import finish_jobs
from store.tables import jobs as jobs_table
from tests.store.conftest import AcceptJob, ok_results

FAILED = 10


def run(database: Database, job_id: int, *, failing: int = 0) -> JobRow:
    """Classify what is due, of which the first few fail; it takes two seconds."""
    while lease := claim(database, Claimer("w")):
        rows = ok_results(lease, insights.items_left(database, lease))
        wrong = [NewResult(row.idx, "failed", error_code="missing", error="gone") for row in rows[:failing]]
        commit_slice(database, lease, [*wrong, *rows[failing:]], last=True)
        failing = 0
    finish_jobs(database)
    with database.write() as connection:
        two_seconds = (
            update(jobs_table).where(jobs_table.c.id == job_id).values(started_at=jobs_table.c.finished_at - 2)
        )
        connection.execute(two_seconds)
    return insights.job(database, job_id)


def test_the_speed_after_a_retry_is_that_of_what_ran_since(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(1000)
    first = run(database, job_id, failing=FAILED)
    assert (first.done_before, speed(first)) == (0, 500)
    assert jobs.retry(database, job_id) == FAILED
    again = insights.job(database, job_id)
    assert (again.done_before, speed(again)) == (990, None)
    second = run(database, job_id)
    assert (second.classified, second.done_before, speed(second)) == (1000, 990, 5)
    assert job_record(second)["done_before"] == 990


def test_what_was_never_run_is_counted_as_run_since(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(8)
    jobs.cancel(database, job_id)
    jobs.retry(database, job_id, what="left")
    row = run(database, job_id)
    assert (row.done_before, speed(row)) == (0, 4)


def speed(row: JobRow) -> int | None:
    found: float | None = progress_record(row, row.finished_at or 0.0)["images_per_s"]
    return found if found is None else round(found)
