"""Accepting a job, and moving it as a person asks."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

import pytest
from sqlalchemy import Connection, event, func, select

from store import jobs as write
from store import removal, scanning
from store.claims import Claimer, claim, release
from store.commits import commit_slice
from store.database import Database
from store.errors import DatabaseFull, IllegalMove, LeaseLost, StoreError, UnknownJob
from store.insights import JobFilter, job, list_jobs
from store.removal import remove
from store.results import Filter, stream
from store.rows import NewItem, NewJob, NewResult
from store.states import JobState
from store.sweep import sweep
from store.tables import items, jobs, results, shards
from tests.databases import ready
from tests.store.conftest import AcceptJob, ok_results
from tests.store.plain_counts import failures


def counts(database: Database) -> tuple[int, int, int]:
    with database.read() as connection:
        numbers = [connection.scalar(select(func.count()).select_from(table)) or 0 for table in (jobs, items, results)]
    return numbers[0], numbers[1], numbers[2]


def test_a_job_is_accepted_with_its_items_and_shards(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(200)
    row = job(database, job_id)
    assert (row.state, row.found, row.pending, row.model) == (JobState.ACCEPTED, 200, 200, "birds@1")
    with database.read() as connection:
        ranges = connection.execute(select(shards.c.lo, shards.c.hi).order_by(shards.c.lo)).all()
    assert [tuple(r) for r in ranges] == [(0, 64), (64, 128), (128, 192), (192, 200)]


def test_a_scan_that_fails_leaves_nothing_behind(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "CHUNK", 10)

    def broken() -> Iterator[NewItem]:
        for n in range(25):
            yield NewItem(b"%d.jpg" % n)
        raise OSError("the disk was pulled out")

    with pytest.raises(OSError, match="pulled out"):
        write.accept(database, NewJob(model_id), broken())
    assert counts(database) == (0, 0, 0)


def test_a_job_is_invisible_to_workers_while_it_is_scanned(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "CHUNK", 10)
    seen = []

    def watched() -> Iterator[NewItem]:
        for n in range(35):
            seen.append(claim(database, Claimer("w")) if n == 20 else None)
            yield NewItem(b"%d.jpg" % n)

    job_id = write.accept(database, NewJob(model_id), watched())
    assert seen == [None] * 35
    assert job(database, job_id).found == 35


def test_names_that_are_not_utf8_come_back_as_the_same_bytes(database: Database, model_id: int) -> None:
    name = b"caf\xe9/\xff.jpg"
    job_id = write.accept(database, NewJob(model_id, root=b"/ph\xf6to"), [NewItem(name)])
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    (row,) = stream(database, job_id)
    assert row.path == b"/ph\xf6to/" + name
    assert row.file_name == "caf\\xe9/\\xff.jpg"


def test_cancelling_keeps_results_and_refuses_a_late_commit(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(130)
    done, held = (claim(database, Claimer("w")) for _ in range(2))
    assert done
    assert held
    commit_slice(database, done, ok_results(done), last=True)
    write.cancel(database, job_id)
    assert job(database, job_id).state is JobState.CANCELLING
    assert release(database, held)
    with pytest.raises(LeaseLost):
        commit_slice(database, held, ok_results(held), last=True)
    sweep(database)
    row = job(database, job_id)
    assert (row.state, row.classified, row.pending) == (JobState.CANCELLED, 64, 66)


def test_a_job_with_failures_ends_with_errors_and_only_they_run_again(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    bad = [NewResult(n, "failed", error_code=code, error="why") for n, code in ((1, "truncated"), (2, "missing"))]
    commit_slice(database, lease, [*ok_results(lease)[:1], *bad], last=True)
    sweep(database)
    assert job(database, job_id).state is JobState.DONE_WITH_ERRORS
    assert failures(database, job_id) == [("missing", 1, "why"), ("truncated", 1, "why")]
    assert write.retry(database, job_id, codes=["missing"]) == 1
    assert job(database, job_id).failed == 1
    again = claim(database, Claimer("w"))
    assert again
    commit_slice(database, again, [ok_results(again)[2]], last=True)
    sweep(database)
    row = job(database, job_id)
    assert (row.state, row.classified, row.failed) == (JobState.DONE_WITH_ERRORS, 2, 1)
    assert [r.error_code for r in stream(database, job_id, Filter(status="failed"))] == ["truncated"]


def test_a_cancelled_job_can_run_what_is_left(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(130)
    write.cancel(database, job_id)
    assert write.retry(database, job_id) == 130
    while lease := claim(database, Claimer("w")):
        commit_slice(database, lease, ok_results(lease), last=True)
    sweep(database)
    assert job(database, job_id).state is JobState.DONE


@pytest.mark.parametrize("move", [write.pause, write.resume, write.cancel])
def test_a_finished_job_refuses_every_move(database: Database, accept_job: AcceptJob, move: object) -> None:
    job_id = accept_job(1)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    sweep(database)
    assert callable(move)
    with pytest.raises(IllegalMove, match=f"Job {job_id} is done"):
        move(database, job_id)
    with pytest.raises(UnknownJob, match="no job 999"):
        move(database, 999)


def test_a_removed_job_takes_all_its_rows_with_it(database: Database, accept_job: AcceptJob) -> None:
    job_id, other = accept_job(3), accept_job(2)
    lease = claim(database, Claimer("w"))
    assert lease
    commit_slice(database, lease, ok_results(lease), last=True)
    sweep(database)
    remove(database, job_id)
    assert [row.id for row in list_jobs(database)] == [other]
    assert counts(database) == (1, 2, 0)
    with pytest.raises(IllegalMove):
        remove(database, other)


def test_the_number_of_a_removed_job_is_never_given_again(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(1)
    write.cancel(database, job_id)
    remove(database, job_id)
    assert accept_job(1) > job_id


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    database = Database(ready(f"sqlite:///{tmp_path}/small.db"))

    @event.listens_for(database.engine, "begin")
    def _limit(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 90")

    with pytest.raises(DatabaseFull, match="No space left"):
        write.accept(database, NewJob(None), (NewItem(b"%d.jpg" % n * 20) for n in range(5000)))
    assert counts(database) == (0, 0, 0)
    database.close()


def test_retrying_while_a_worker_still_holds_a_shard_fences_it_off_and_adds_up(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(10)
    held = claim(database, Claimer("w"))
    assert held
    bad = [NewResult(n, "failed", error_code="missing", error="why", reused=n > 0) for n in range(2)]
    commit_slice(database, held, bad, last=False)
    write.fail(database, job_id, "the model is gone")
    assert write.retry(database, job_id) == 10
    with pytest.raises(LeaseLost):
        commit_slice(database, held, ok_results(held)[2:], last=True)
    heir = claim(database, Claimer("v"))
    assert heir
    commit_slice(database, heir, ok_results(heir), last=True)
    sweep(database)
    row = job(database, job_id)
    assert (row.state, row.classified, row.failed, row.reused, row.pending) == (JobState.DONE, 10, 0, 0, 0)


def test_a_shard_given_back_to_a_job_that_is_being_cancelled_does_not_hold_it_up(
    database: Database, accept_job: AcceptJob
) -> None:
    job_id = accept_job(3)
    with database.write() as connection:  # as a crash between two steps might leave it
        connection.execute(jobs.update().values(state="cancelling"))
    write.cancel(database, job_id)
    assert job(database, job_id).state is JobState.CANCELLED


def test_cancels_racing_with_claims_and_releases_leave_no_job_behind(database: Database, accept_job: AcceptJob) -> None:
    ids = [accept_job(200) for _ in range(12)]
    stop = threading.Event()

    def work(n: int) -> None:
        while not stop.is_set():
            if lease := claim(database, Claimer(f"w{n}")):
                release(database, lease)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, n) for n in range(3)]
        for job_id in ids:
            write.cancel(database, job_id)
            sweep(database)
        stop.set()
        for worker in workers:
            worker.result()
    sweep(database)
    assert {job(database, job_id).state for job_id in ids} == {JobState.CANCELLED}


def test_a_slow_source_gives_signs_of_life(database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "CHUNK_S", 0.0)
    seen = []

    def slow() -> Iterator[NewItem]:
        for n in range(4):
            seen.append(counts(database)[1])
            yield NewItem(b"%d.jpg" % n)

    write.accept(database, NewJob(model_id), slow())
    assert seen == [0, 1, 2, 3]


def test_a_job_is_given_another_priority_until_it_has_ended(database: Database, accept_job: AcceptJob) -> None:
    first, second = accept_job(3), accept_job(3)
    write.set_priority(database, second, 0)
    lease = claim(database, Claimer("w"))
    assert lease
    assert lease.job_id == second
    assert job(database, second).priority == 0
    write.cancel(database, first)
    with pytest.raises(IllegalMove, match="another priority"):
        write.set_priority(database, first, 1)
    with pytest.raises(UnknownJob):
        write.set_priority(database, 99, 1)
    with pytest.raises(ValueError, match="from 0"):
        write.set_priority(database, second, 10)


def test_jobs_are_listed_by_what_they_are(
    database: Database, accept_job: AcceptJob, accept_training: AcceptJob
) -> None:
    first, second, third = accept_job(3, owner="ann"), accept_job(3, owner="bob"), accept_training()
    write.cancel(database, first)

    def listed(**chosen: Unpack[JobFilter]) -> list[int]:
        return [row.id for row in list_jobs(database, **chosen)]

    assert listed() == [third, second, first]
    assert listed(owner="ann") == [first]
    assert listed(kind="finetune", owner=None) == [third]
    assert listed(model="birds") == listed(model="birds@1") == [second, first]
    assert listed(model="birds@2") == listed(model="bird") == listed(model=f"birds@{2**70}") == []
    both = (JobState.CANCELLED, JobState.ACCEPTED)
    assert listed(states=both[:1]) == listed(states=both, owner="ann") == listed(states=both, before=second) == [first]
    assert listed(states=both) == [third, second, first]
    moment = job(database, second).created_at
    assert listed(before=third, since=moment) == [second]
    assert first in listed(until=moment + 1)
    assert listed(until=moment - 60) == []


def test_a_worker_that_held_a_shard_of_a_failed_job_writes_nothing_while_it_is_removed(
    database: Database, accept_job: AcceptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = accept_job(3)
    lease = claim(database, Claimer("w"))
    assert lease
    write.fail(database, job_id, "the model is gone")

    def late(_database: Database, _job_id: int) -> None:
        with pytest.raises(LeaseLost):
            commit_slice(database, lease, ok_results(lease), last=True)

    monkeypatch.setattr(removal, "clear_items", late)
    with pytest.raises(StoreError):
        remove(database, job_id)  # the items are there still, since this test took their removal's place
    monkeypatch.undo()
    remove(database, job_id)
    assert counts(database) == (0, 0, 0)
