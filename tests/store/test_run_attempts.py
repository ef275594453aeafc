"""Attempts at a training without progress: counted, put off, and in the end given up."""

from sqlalchemy import text, update

from store import jobs as write
from store import runs
from store.claims import Claimer, claim, give_up, release
from store.database import Database
from store.states import JobState
from store.sweep import BACKOFF_S, sweep
from store.tables import shards
from tests.store.conftest import AcceptJob, train
from tests.store.test_run_moves import check
from tests.store.test_runs import expire


def test_a_training_that_makes_no_progress_fails_with_what_its_last_attempt_said(
    database: Database, accept_training: AcceptJob
) -> None:
    job_id = accept_training(640)
    for n in range(1, 6):
        lease = train(database)
        assert lease.attempt == n
        assert (lease.lo, lease.hi) == (0, 640)  # never in halves
        give_up(database, lease, f"out of memory {n}")
        expire(database)
    run = check(database, job_id, JobState.FAILED)
    assert run.error == "5 attempts in a row ended without progress; the last one: out of memory 5"
    assert claim(database, Claimer("t", queue="train")) is None
    assert write.retry(database, job_id) == 640
    assert train(database).attempt == 6


def test_progress_resets_the_count_of_attempts_and_the_wait(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    for n in range(1, 13):
        lease = train(database)
        if n % 4 == 0:
            runs.move_checkpoint(database, lease, f"/c{n}", n, 0)
        expire(database)
    check(database, job_id, JobState.RUNNING)
    lease = train(database)
    runs.move_checkpoint(database, lease, "/c12", 12, 0)  # where it was: no progress
    for _ in range(4):
        expire(database)
        lease = train(database)
    expire(database)
    check(database, job_id, JobState.FAILED)


def test_the_wait_before_another_attempt_grows_without_progress(database: Database, accept_training: AcceptJob) -> None:
    accept_training()
    waits = []
    for n in range(1, 8):
        lease = train(database)
        if n == 3:
            runs.move_checkpoint(database, lease, "/c", 1, 0)
        give_up(database, lease, "boom")
        sweep(database)
        with database.write() as connection:
            query = "SELECT not_before - CAST(:now AS DOUBLE PRECISION) FROM shards"
            waits.append(connection.scalar(text(query), {"now": now(database)}) or 0.0)
            connection.execute(update(shards).values(not_before=0))
    expected = [0.0, 5.0, 0.0, 0.0, 5.0, 30.0, 120.0]
    assert max(BACKOFF_S) == 120.0
    assert [min((0.0, *BACKOFF_S), key=lambda step: abs(step - wait)) for wait in waits] == expected


def now(database: Database) -> float:
    from sqlalchemy import select

    from store.clock import db_now

    with database.read() as connection:
        return float(connection.scalar(select(db_now())) or 0)


def test_pauses_do_not_use_up_attempts(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    for _ in range(12):
        assert release(database, train(database))
    check(database, job_id, JobState.RUNNING)
    for _ in range(4):
        train(database)
        expire(database)
    check(database, job_id, JobState.RUNNING)
    train(database)
    expire(database)
    check(database, job_id, JobState.FAILED)
