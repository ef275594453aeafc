"""Jobs that stop because too many of their images failed, and how they go on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from store import jobs
from store.claims import Claimer, claim, release, release_dead
from store.commits import commit_slice
from store.database import Database
from store.errors import IllegalMove, NothingToDo
from store.events import events_after
from store.failure_limits import COMMON_CAUSES, FIRST_MOST, FIRST_POISONED, Limit, first_images
from store.insights import job
from store.rows import JobRow, Lease, NewResult
from store.states import JobState
from store.stopping import stop_if_hopeless
from store.sweep import sweep
from store.tables import shards
from tests.store.conftest import AcceptJob, ok_results
from worker.failures import ITEM_CODES


def failed(lease: Lease, first: int, count: int, code: str = "permission") -> list[NewResult]:
    """Failed rows of a lease, from its `first` item on."""
    return [
        NewResult(lease.lo + n, "failed", error_code=code, error="User 7 may not read it.")
        for n in range(first, first + count)
    ]


def work(database: Database, *rows: Callable[[Lease], list[NewResult]]) -> JobRow:
    """Claim one shard, commit these rows in slices, judge after each, and give the shard back."""
    lease = claim(database, Claimer("w"))
    assert lease is not None
    for made in rows:
        commit_slice(database, lease, made(lease), last=False)
        stop_if_hopeless(database, lease.job_id)
    release(database, lease)
    return job(database, lease.job_id)


def shard_states(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.exec_driver_sql("SELECT DISTINCT state FROM shards ORDER BY state").scalars())


@pytest.mark.parametrize(
    ("said", "text"),
    [("0", "0"), ("500", "500"), ("007", "7"), ("5%", "5%"), (" 2.50 % ", "2.5%"), ("100%", "100%"), ("None", "none")],
)
def test_a_limit_is_a_number_a_share_or_none(said: str, text: str) -> None:
    assert Limit.of(said).text == text
    assert Limit.of(Limit.of(said).text) == Limit.of(said)


@pytest.mark.parametrize("said", ["", "-1", "5.5", "101%", "100.5%", "%", "many", "1e3", "5%\n5", "٥", "9" * 16])
def test_what_is_no_limit_is_refused_with_what_was_expected(said: str) -> None:
    with pytest.raises(ValueError, match="expected a number of images"):
        Limit.of(said)


@pytest.mark.parametrize(
    ("limit", "ok", "failures", "allowed"),
    [
        *(("3", 0, 3, True), ("3", 1000, 4, False), ("0", 0, 1, False)),
        *(("5%", 0, 99, True), ("5%", 95, 5, True), ("5%", 94, 6, False), ("100%", 0, 500, True)),
        *(("0.1%", 999, 1, True), ("0.1%", 998, 1, False), ("none", 0, 10**6, True)),
    ],
)
def test_a_share_is_judged_once_there_are_a_hundred(limit: str, ok: int, failures: int, allowed: bool) -> None:
    assert Limit.of(limit).allows(ok, failures) is allowed


def test_common_causes_are_codes_of_items() -> None:
    assert {code.code for code in ITEM_CODES} >= COMMON_CAUSES
    assert [first_images(found) for found in (10, 3200, 16_000, 10**8)] == [200, 200, 1000, FIRST_MOST]


def test_a_job_with_more_failures_than_allowed_stops_and_says_why_and_how_to_go_on(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(300, max_failures="3")
    row = work(database, lambda lease: failed(lease, 0, 3), lambda lease: failed(lease, 3, 1, "io_error"))
    assert (row.state, row.failed, row.pending) == (JobState.FAILED, 4, 296)
    assert row.error is not None
    for part in (
        "Stopped: 4 of 4 images failed, and at most 3 may.",
        "Most often as permission (3), for example /photos/00000.jpg: User 7 may not read it.",
        f"`pixmill jobs retry {job_id}`",
        f"`pixmill jobs resume {job_id}`",
        "--max-failures",
    ):
        assert part in row.error
    assert shard_states(database) == ["cancelled"]
    assert claim(database, Claimer("w")) is None
    assert [event.kind for event in events_after(database, job_id, 0, 100)] == ["accepted", "running", "failed"]


def test_a_job_that_keeps_to_its_limit_goes_on(database: Database, accept_job: AcceptJob) -> None:
    accept_job(300, max_failures="4")
    assert work(database, lambda lease: failed(lease, 0, 4)).state is JobState.RUNNING


def test_a_share_is_of_what_was_worked_on(database: Database, accept_job: AcceptJob) -> None:
    accept_job(3000, max_failures="10%")
    row = work(
        database,
        lambda lease: failed(lease, 0, 60),  # all, but of fewer than a hundred
        lambda lease: ok_results(lease)[60:90],
    )
    assert row.state is JobState.RUNNING
    assert "at most 10% may" in str(work(database, lambda lease: failed(lease, 90, 10)).error)


def test_a_job_whose_first_images_all_fail_alike_stops_early(database: Database, accept_job: AcceptJob) -> None:
    accept_job(16 * 250)
    row = work(database, lambda lease: failed(lease, 0, 249))
    assert row.state is JobState.RUNNING
    row = work(database, lambda lease: failed(lease, 249, 1))
    assert row.state is JobState.FAILED
    assert str(row.error).startswith(
        "Stopped early: all of the first 250 images failed as permission, for example /photos/00000.jpg: User 7"
    )


@pytest.mark.parametrize(
    ("code", "another", "limit"),
    [("corrupt", "corrupt", None), ("permission", "missing", None), ("permission", None, None)]
    + [("permission", "permission", limit) for limit in ("none", "1000", "100%")],
)
def test_other_beginnings_stop_nothing(
    database: Database, accept_job: AcceptJob, code: str, another: str | None, limit: str | None
) -> None:
    """Broken images, different reasons, one success, or a person who said how many may fail."""
    accept_job(3200, max_failures=limit)
    row = work(
        database,
        lambda lease: failed(lease, 0, 1, another) if another else ok_results(lease)[:1],
        lambda lease: failed(lease, 1, 200, code),
    )
    assert (row.state, row.classified + row.failed) == (JobState.RUNNING, 201)


def test_a_job_of_which_nothing_is_left_is_done_with_errors(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3, max_failures="0")
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, failed(lease, 0, 3), last=True)
    assert not stop_if_hopeless(database, job_id)
    sweep(database)
    assert job(database, job_id).state is JobState.DONE_WITH_ERRORS


@pytest.mark.parametrize(("survived", "state"), [(-1, JobState.FAILED), (5, JobState.RUNNING)])
def test_a_model_that_no_worker_survives_stops_the_job_within_the_stated_number_of_processes(
    database: Database, accept_job: AcceptJob, survived: int, state: JobState
) -> None:
    """Ten images without one success, in the order in which a worker comes by them: see docs/failures.md."""
    job_id = accept_job(70_000)
    ends = 0
    while job(database, job_id).failed < FIRST_POISONED:
        lease = claim(database, Claimer("w"))
        assert lease
        if (lease.lo, lease.hi) == (survived, survived + 1):
            commit_slice(database, lease, ok_results(lease), last=True)
            continue
        ends += 1
        release_dead(database, "w")
        sweep(database)
        with database.write() as connection:
            connection.execute(update(shards).values(not_before=0))
    row = job(database, job_id)
    assert (row.state, row.pending > 0) == (state, True)
    if state is JobState.FAILED:
        assert str(row.error).startswith("Stopped early: all of the first 10 images failed as worker_died, for example")
        assert ends == 59


def test_the_sweeper_stops_a_job_whose_worker_died_before_it_judged(database: Database, accept_job: AcceptJob) -> None:
    job_id, other = accept_job(300, max_failures="0"), accept_job(300)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, failed(lease, 0, 1), last=False)
    assert sweep(database).stopped == 1
    assert [job(database, one).state for one in (job_id, other)] == [JobState.FAILED, JobState.ACCEPTED]
    assert sweep(database).stopped == 0


def test_a_paused_job_is_judged_when_it_goes_on(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(300, max_failures="0")
    lease = claim(database, Claimer("w"))
    assert lease
    jobs.pause(database, job_id)
    commit_slice(database, lease, failed(lease, 0, 1), last=False)
    release(database, lease)
    sweep(database)
    assert job(database, job_id).state is JobState.PAUSED
    jobs.resume(database, job_id)
    sweep(database)
    assert job(database, job_id).state is JobState.FAILED


def test_what_others_have_in_hand_still_becomes_rows_and_the_job_stays_stopped(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(300, max_failures="0")
    held = claim(database, Claimer("other"))
    assert held
    assert work(database, lambda lease: failed(lease, 0, 1)).state is JobState.FAILED
    commit_slice(database, held, ok_results(held), last=True)
    sweep(database)
    row = job(database, job_id)
    assert (row.state, row.classified, row.failed) == (JobState.FAILED, held.hi - held.lo, 1)
    assert shard_states(database) == ["cancelled", "done"]


def stopped(database: Database, accept_job: AcceptJob, **chosen: object) -> int:
    """A job of 300 images that stopped for three failures, after ten successes."""
    job_id = accept_job(300, **chosen)
    row = work(database, lambda lease: ok_results(lease)[:10], lambda lease: failed(lease, 10, 3))
    assert row.state is JobState.FAILED
    return job_id


def finish(database: Database, job_id: int) -> JobRow:
    """Do the rest, all of it well."""
    while lease := claim(database, Claimer("w")):
        with database.read() as connection:
            query = f"SELECT idx FROM results WHERE idx >= {lease.lo} AND idx < {lease.hi}"
            there = set(connection.exec_driver_sql(query).scalars())
        rows = [row for row in ok_results(lease) if row.idx not in there]
        commit_slice(database, lease, rows, last=True)
        stop_if_hopeless(database, job_id)
    sweep(database)
    return job(database, job_id)


def test_a_retry_runs_all_again_under_the_same_limit(database: Database, accept_job: AcceptJob) -> None:
    job_id = stopped(database, accept_job, max_failures="2")
    assert jobs.retry(database, job_id) == 290
    row = job(database, job_id)
    assert (row.state, row.error, row.max_failures, row.failed) == (JobState.ACCEPTED, None, "2", 0)
    assert work(database, lambda lease: failed(lease, 10, 3)).state is JobState.FAILED
    jobs.retry(database, job_id)
    row = finish(database, job_id)
    assert (row.state, row.classified) == (JobState.DONE, 300)


def test_a_resume_goes_on_with_the_rest_and_nothing_stops_it_again(database: Database, accept_job: AcceptJob) -> None:
    job_id = stopped(database, accept_job, max_failures="2")
    jobs.resume(database, job_id)
    row = work(database, lambda lease: failed(lease, 13, 5))
    assert (row.state, row.failed, row.max_failures) == (JobState.RUNNING, 8, "none")
    row = finish(database, job_id)
    assert (row.state, row.classified, row.failed) == (JobState.DONE_WITH_ERRORS, 292, 8)


def test_a_resume_may_set_another_limit_and_so_may_a_retry(database: Database, accept_job: AcceptJob) -> None:
    job_id = stopped(database, accept_job, max_failures="2")
    jobs.resume(database, job_id, "4")
    assert work(database, lambda lease: failed(lease, 13, 1)).state is JobState.RUNNING
    jobs.resume(database, job_id, "5")  # of one that runs
    assert work(database, lambda lease: failed(lease, 14, 2)).state is JobState.FAILED
    jobs.retry(database, job_id, max_failures="none")
    assert work(database, lambda lease: failed(lease, 10, 20)).state is JobState.RUNNING


def test_a_retry_that_leaves_too_many_failures_is_not_stopped_by_these(
    database: Database, accept_job: AcceptJob
) -> None:
    """Who wants only some of them run again has seen the others."""
    job_id = stopped(database, accept_job, max_failures="2")
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE results SET error_code = 'missing' WHERE idx = 12")
        connection.exec_driver_sql("UPDATE tallies SET n = 1 WHERE value = 'permission'")
        connection.exec_driver_sql(
            f"INSERT INTO tallies (job_id, kind, value, n) VALUES ({job_id}, 'error_code', 'missing', 4)"
        )
    jobs.retry(database, job_id, ["permission"])
    assert job(database, job_id).max_failures == "none"


def test_a_job_that_failed_for_another_reason_can_be_resumed_too_unless_it_has_no_images(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(300)
    jobs.fail(database, job_id, "birds@1 could not be loaded")
    jobs.resume(database, job_id)
    row = job(database, job_id)
    assert (row.state, row.error, row.max_failures) == (JobState.ACCEPTED, None, None)
    jobs.fail(database, job_id, "birds@1 could not be loaded")
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM shards")
        connection.exec_driver_sql("UPDATE jobs SET n_items = 0")
    with pytest.raises(NothingToDo):
        jobs.resume(database, job_id)


def test_a_training_has_no_limit(database: Database, accept_training: AcceptJob) -> None:
    job_id = accept_training()
    jobs.pause(database, job_id)
    with pytest.raises(IllegalMove, match="up to some failures"):
        jobs.resume(database, job_id, "5")
    jobs.cancel(database, job_id)
    with pytest.raises(IllegalMove, match="up to some failures"):
        jobs.retry(database, job_id, max_failures="5")


def test_many_workers_that_judge_at_once_stop_a_job_once(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(1024, max_failures="0")
    leases = [lease for _ in range(8) if (lease := claim(database, Claimer("w")))]

    def fails(lease: Lease) -> bool:
        commit_slice(database, lease, failed(lease, 0, 5), last=False)
        return stop_if_hopeless(database, job_id)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(fails, leases)) == 1
    assert [event.kind for event in events_after(database, job_id, 0, 100)].count("failed") == 1
    assert job(database, job_id).failed == 40
