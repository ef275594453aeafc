"""Scans of submitted jobs: kept, taken over, failed, discarded; and the keys of requests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, update

from store import requests, scanning
from store.claims import Claimer, claim
from store.database import Database
from store.errors import DatabaseUnavailable, KeyTaken, NothingToDo, ScanLost, UnknownJob
from store.insights import job
from store.jobs import cancel, retry
from store.removal import remove
from store.requests import KeyFreed, RequestKey
from store.rows import NewItem, NewJob, NewRun
from store.runs import run_of_job
from store.scanning import abandoned, begin_again, discard, fail_scan, fill, keep, open_job, take_over
from store.states import JobState
from store.sweep import ABANDONED_S, TAKEN_OVER_S, sweep
from store.tables import items, jobs
from tests.store.conftest import AcceptJob

DRAFT = NewJob(None, description="/photos", owner="ann", priority=3)
REQUEST = {"kind": "classify", "source": {"folder": "/photos"}}


def found(count: int = 5) -> Iterator[NewItem]:
    return (NewItem(b"%03d.jpg" % n) for n in range(count))


def be_silent(database: Database, job_id: int, seconds: float) -> None:
    with database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(claimed_at=jobs.c.claimed_at - seconds))


def another_process(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(scanning, "_PROCESS", name)


def items_of(database: Database, job_id: int) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(items).where(items.c.job_id == job_id)) or 0


def test_an_open_job_is_there_at_once_and_becomes_what_the_scan_has_found(database: Database, model_id: int) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    row = job(database, job_id)
    assert (row.state, row.owner, row.priority, row.found) == (JobState.SCANNING, "ann", 3, 0)
    fill(database, job_id, NewJob(model_id, "five birds", b"/photos", top_k=2, options={"a": 1}), found(), {"txt": 2})
    row = job(database, job_id)
    assert (row.state, row.owner, row.priority, row.found) == (JobState.ACCEPTED, "ann", 3, 5)
    assert (row.description, row.root, row.top_k, row.model_id) == ("five birds", b"/photos", 2, model_id)
    assert row.ignored == {"txt": 2}
    with database.read() as connection:
        assert connection.scalar(select(jobs.c.options)) == '{"a": 1}'
    assert claim(database, Claimer("w"))


def test_a_training_is_opened_before_anything_is_known_of_its_run(database: Database) -> None:
    job_id = open_job(database, NewJob(None, owner="ann", kind="finetune"), REQUEST)
    run = NewRun("finches", {"mode": "head"}, 7)
    fill(database, job_id, NewJob(None, kind="finetune", queue="train", run=run), found())
    assert (run_of_job(database, job_id).name, run_of_job(database, job_id).owner) == ("finches", "ann")


def test_a_scan_shows_what_it_has_found_so_far(database: Database, model_id: int) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    seen = []

    def watched() -> Iterator[NewItem]:
        for item in found(6):
            seen.append(job(database, job_id).found)
            yield item

    fill(database, job_id, NewJob(model_id), watched(), chunk=2)
    assert seen == [0, 0, 2, 2, 4, 4]


def test_a_scan_that_fails_leaves_the_job_with_its_reason_and_nothing_half_done(
    database: Database, model_id: int
) -> None:
    job_id = open_job(database, DRAFT, REQUEST)

    def broken() -> Iterator[NewItem]:
        yield from found(5)
        raise OSError("the disk was pulled out")

    with pytest.raises(OSError, match="pulled out"):
        fill(database, job_id, NewJob(model_id), broken(), chunk=2)
    assert fail_scan(database, job_id, "the disk was pulled out")
    row = job(database, job_id)
    assert (row.state, row.error, row.found) == (JobState.FAILED, "the disk was pulled out", 0)
    assert items_of(database, job_id) == 0
    with pytest.raises(NothingToDo):
        retry(database, job_id)
    assert not fail_scan(database, job_id, "again")
    remove(database, job_id)


def test_an_abandoned_scan_is_taken_over_by_one_process_and_its_items_are_written_once(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = open_job(database, DRAFT, REQUEST)

    def dies() -> Iterator[NewItem]:
        yield from found(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(database, job_id, NewJob(model_id), dies(), chunk=2)
    assert items_of(database, job_id) == 4
    another_process(monkeypatch, "b")
    assert abandoned(database, 60) == []  # not silent for long enough
    assert not take_over(database, job_id, 60)
    be_silent(database, job_id, 61)
    assert abandoned(database, 60) == [(job_id, REQUEST)]
    assert take_over(database, job_id, 60)
    assert items_of(database, job_id) == 0
    another_process(monkeypatch, "c")
    assert not take_over(database, job_id, 60)
    another_process(monkeypatch, "b")
    fill(database, job_id, NewJob(model_id), found(3))
    assert (job(database, job_id).state, items_of(database, job_id)) == (JobState.ACCEPTED, 3)


def test_a_scan_that_was_taken_over_writes_nothing_more(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = open_job(database, DRAFT, REQUEST)

    def stalled() -> Iterator[NewItem]:
        for n, item in enumerate(found(6)):
            if n == 4:
                be_silent(database, job_id, 61)
                with monkeypatch.context() as patched:
                    another_process(patched, "b")
                    assert take_over(database, job_id, 60)
            yield item

    with pytest.raises(ScanLost):
        fill(database, job_id, NewJob(model_id), stalled(), chunk=2)
    assert items_of(database, job_id) == 0
    assert not keep(database, job_id)
    assert not fail_scan(database, job_id, "mine")
    assert not discard(database, job_id)
    assert job(database, job_id).state is JobState.SCANNING


def test_of_many_processes_one_takes_a_scan_over(
    database: Database, model_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    be_silent(database, job_id, 61)
    another_process(monkeypatch, "b")
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: take_over(database, job_id, 60), range(4))) == 1


def test_a_sign_of_life_keeps_a_scan_that_waits_its_turn(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    be_silent(database, job_id, 61)
    assert abandoned(database, 60, busy=[job_id]) == []  # its own process, which is at it, does not call it abandoned
    assert keep(database, job_id)
    another_process(monkeypatch, "b")
    assert abandoned(database, 60) == []


def test_a_process_takes_over_a_scan_of_its_own_that_it_has_lost(database: Database, model_id: int) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    be_silent(database, job_id, 61)
    assert abandoned(database, 60) == [(job_id, REQUEST)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: take_over(database, job_id, 60), range(4))) == 1
    fill(database, job_id, NewJob(model_id), found(3))
    assert job(database, job_id).state is JobState.ACCEPTED


def test_a_scan_that_broke_off_begins_again_with_nothing(database: Database, model_id: int) -> None:
    job_id = open_job(database, DRAFT, REQUEST)

    def broken() -> Iterator[NewItem]:
        yield from found(5)
        raise DatabaseUnavailable("away")

    with pytest.raises(DatabaseUnavailable):
        fill(database, job_id, NewJob(model_id), broken(), chunk=2)
    begin_again(database, job_id)
    assert (items_of(database, job_id), job(database, job_id).found) == (0, 0)
    fill(database, job_id, NewJob(model_id), found(5))
    assert (items_of(database, job_id), job(database, job_id).found) == (5, 5)
    with pytest.raises(ScanLost):
        begin_again(database, job_id)
    assert items_of(database, job_id) == 5


def test_the_sweeper_leaves_a_scan_to_be_taken_over_and_fails_it_in_the_end(database: Database) -> None:
    job_id = open_job(database, DRAFT, REQUEST)
    be_silent(database, job_id, ABANDONED_S + 1)
    sweep(database)
    assert job(database, job_id).state is JobState.SCANNING
    be_silent(database, job_id, TAKEN_OVER_S)
    sweep(database)
    row = job(database, job_id)
    assert row.state is JobState.FAILED
    assert "Submit the job again" in str(row.error)


def test_a_scan_that_nobody_was_told_of_is_swept_away(database: Database) -> None:
    job_id = open_job(database, DRAFT)
    be_silent(database, job_id, ABANDONED_S + 1)
    sweep(database)
    with pytest.raises(UnknownJob):
        job(database, job_id)


def test_a_removed_scan_stops(database: Database, model_id: int) -> None:
    job_id = open_job(database, DRAFT, REQUEST)

    def watched() -> Iterator[NewItem]:
        yield from found(4)
        remove(database, job_id)
        yield NewItem(b"late.jpg")

    with pytest.raises(ScanLost):
        fill(database, job_id, NewJob(model_id), watched(), chunk=2)
    assert items_of(database, job_id) == 0


def test_a_key_stands_for_one_job(database: Database) -> None:
    key = RequestKey("ann", "k1", "same")
    job_id = open_job(database, DRAFT, REQUEST, key)
    with pytest.raises(KeyTaken) as taken:
        open_job(database, DRAFT, REQUEST, key)
    assert (taken.value.job_id, taken.value.fingerprint_matches) == (job_id, True)
    with pytest.raises(KeyTaken) as taken:
        open_job(database, DRAFT, REQUEST, RequestKey("ann", "k1", "other"))
    assert (taken.value.job_id, taken.value.fingerprint_matches) == (job_id, False)
    assert open_job(database, DRAFT, REQUEST, RequestKey("bob", "k1", "other")) > job_id
    row = requests.find(database, "ann", "k1")
    assert row is not None
    assert (row.job_id, row.fingerprint) == (job_id, "same")
    assert requests.find(database, "ann", "k2") is None


def test_a_key_that_is_freed_at_this_moment_is_no_removed_job(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = RequestKey("ann", "k1", "same")
    open_job(database, DRAFT, REQUEST, key)
    monkeypatch.setattr(requests, "_find", lambda *_: None)  # freed between the two statements of `take`
    with pytest.raises(KeyFreed):
        open_job(database, DRAFT, REQUEST, key)


def test_fifty_requests_with_one_key_make_one_job(database: Database) -> None:
    def ask(_: int) -> int | None:
        try:
            return open_job(database, DRAFT, REQUEST, RequestKey("ann", "k", "f"))
        except KeyTaken as taken:
            return taken.job_id

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(ask, range(50)))
    assert len(answers) == 1
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(jobs)) == 1


def test_a_discarded_scan_frees_its_key_at_once(database: Database) -> None:
    key = RequestKey("ann", "k1", "same")
    job_id = open_job(database, DRAFT, REQUEST, key)
    assert discard(database, job_id)
    with pytest.raises(UnknownJob):
        job(database, job_id)
    open_job(database, DRAFT, REQUEST, key)


def test_the_key_of_a_removed_job_stands_for_it_until_it_expires(database: Database, model_id: int) -> None:
    key = RequestKey("ann", "k1", "same")
    job_id = open_job(database, DRAFT, REQUEST, key)
    fill(database, job_id, NewJob(model_id), found())
    cancel(database, job_id)
    remove(database, job_id)
    with pytest.raises(KeyTaken) as taken:
        open_job(database, DRAFT, REQUEST, key)
    assert taken.value.job_id is None
    assert requests.expire(database) == 0
    assert requests.expire(database, -1) == 1
    assert requests.find(database, "ann", "k1") is None


def test_keys_of_jobs_that_are_there_do_not_expire(database: Database, accept_job: AcceptJob) -> None:
    open_job(database, DRAFT, REQUEST, RequestKey("ann", "k1", "same"))
    assert requests.expire(database, -1) == 0
