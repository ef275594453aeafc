"""The history of a job: every change of its state is an event, and a reader that goes on after an id misses none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sqlalchemy import text

from store import jobs, runs
from store.claims import Claimer, claim, release
from store.commits import commit_slice
from store.database import Database
from store.errors import IllegalMove, LeaseLost, NothingToDo
from store.events import KINDS, events_after, last_event, record
from store.removal import remove
from store.rows import Lease, NewResult
from store.sweep import sweep
from tests.store.conftest import AcceptJob, ok_results, train


def kinds(database: Database, job_id: int) -> list[str]:
    found = events_after(database, job_id, 0, 100)
    assert all(event.data["state"] for event in found)
    assert {event.kind for event in found} <= set(KINDS)
    assert last_event(database, job_id) == found[-1].id
    return [event.kind for event in found]


def test_a_job_tells_each_change_of_its_state(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(200, owner="ann")
    lease = claim(database, Claimer("w"))
    assert lease
    jobs.pause(database, job_id)
    release(database, lease)
    jobs.resume(database, job_id)
    jobs.set_priority(database, job_id, 1)
    while lease := claim(database, Claimer("w")):
        rows = [NewResult(lease.lo, "failed", error_code="empty", error=""), *ok_results(lease)[1:]]
        commit_slice(database, lease, rows, last=True)
    sweep(database)
    told = ["accepted", "running", "paused", "resumed", "priority", "running", "done_with_errors"]
    assert kinds(database, job_id) == told
    jobs.retry(database, job_id)
    while lease := claim(database, Claimer("w")):
        commit_slice(database, lease, [row for row in ok_results(lease) if row.idx % 64 == 0], last=True)
    sweep(database)
    assert kinds(database, job_id) == [*told, "retried", "running", "done"]
    found = events_after(database, job_id, 0, 100)
    assert {event.owner for event in found} == {"ann"}
    states = {event.kind: event.data["state"] for event in found}
    assert (states["resumed"], states["running"], states["retried"]) == ("accepted", "running", "accepted")
    assert next(event for event in found if event.kind == "priority").data["priority"] == 1


def test_cancelling_and_the_end_of_it_are_two_events(database: Database, accept_job: AcceptJob) -> None:
    idle, busy = accept_job(3), accept_job(3)
    jobs.cancel(database, idle)
    assert kinds(database, idle) == ["accepted", "cancelling", "cancelled"]
    lease = claim(database, Claimer("w"))
    assert lease
    jobs.cancel(database, busy)
    release(database, lease)
    sweep(database)
    assert kinds(database, busy) == ["accepted", "running", "cancelling", "cancelled"]


def test_a_training_tells_its_end(database: Database, accept_training: AcceptJob) -> None:
    done, failed = accept_training(), accept_training()
    runs.finish_run(database, train(database), "done")
    runs.fail_run(database, train(database), "no image is readable")
    assert kinds(database, done) == ["accepted", "running", "done"]
    assert kinds(database, failed) == ["accepted", "running", "failed"]
    assert events_after(database, failed, 0, 9)[-1].data["error"] == "no image is readable"


def test_events_are_read_in_portions_by_kind_and_by_job(database: Database, accept_job: AcceptJob) -> None:
    first, second = accept_job(3), accept_job(3)
    jobs.pause(database, first)
    jobs.pause(database, second)
    everything = events_after(database, None, 0, 100)
    assert [(event.job_id, event.kind) for event in everything] == [
        *((first, "accepted"), (second, "accepted"), (first, "paused"), (second, "paused")),
    ]
    assert events_after(database, None, everything[1].id, 1) == everything[2:3]
    assert [event.job_id for event in events_after(database, None, 0, 9, ["paused"])] == [first, second]
    assert last_event(database, second + 1) == 0


def test_the_id_of_a_removed_event_is_never_given_again(database: Database, accept_job: AcceptJob) -> None:
    job_id = accept_job(3)
    jobs.cancel(database, job_id)
    last = last_event(database, job_id)
    remove(database, job_id)
    assert last_event(database, accept_job(3)) > last


def test_a_reader_sees_no_later_id_before_an_earlier_one(database: Database) -> None:
    """Two writers, the first of which takes long to commit; PostgreSQL would show the second's event first."""
    written, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with database.write() as connection:
            record(connection, None, "done", {"n": 1})
            written.set()
            assert commit.wait(30)

    def quick() -> None:
        with database.write() as connection:
            record(connection, None, "done", {"n": 2})

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slow)
        assert written.wait(30)
        second = pool.submit(quick)
        seen = 0
        for _ in range(20):
            seen = max([seen, *(event.id for event in events_after(database, None, 0, 9))])
            assert not second.done()
        commit.set()
        first.result()
        second.result()
    assert [event.data["n"] for event in events_after(database, None, seen, 9)] == [1, 2]


def answer(database: Database, lease: Lease) -> None:
    """Commit what a shard lacks, one of it as failed; too late is no fault."""
    query = "SELECT idx FROM results WHERE job_id = :job AND idx >= :lo AND idx < :hi"
    with database.read() as connection:
        where = {"job": lease.job_id, "lo": lease.lo, "hi": lease.hi}
        there = set(connection.execute(text(query), where).scalars())
    rows = [row for row in ok_results(lease) if row.idx not in there]
    bad = NewResult(rows[0].idx, "failed", error_code="empty", error="")
    with suppress(LeaseLost):
        commit_slice(database, lease, [bad, *rows[1:]], last=True)


def meddle(database: Database, job_id: int) -> None:
    """Ask for every move again and again; what a state forbids is no fault."""
    for _ in range(6):
        for move in (jobs.pause, jobs.resume, jobs.retry, jobs.cancel, jobs.retry):
            with suppress(IllegalMove, NothingToDo):
                move(database, job_id)
            sweep(database)


def test_a_storm_of_moves_never_ends_in_a_deadlock(database: Database, accept_job: AcceptJob) -> None:
    """Workers, sweepers and people on the same few jobs; a deadlock would raise DatabaseUnavailable."""
    ids = [accept_job(640, max_shard=8) for _ in range(3)]
    stop = threading.Event()

    def labour(number: int) -> None:
        while not stop.is_set():
            if lease := claim(database, Claimer(f"w{number}")):
                answer(database, lease)

    with ThreadPoolExecutor(5) as pool:
        workers = [pool.submit(labour, n) for n in range(2)]
        try:
            list(pool.map(lambda job_id: meddle(database, job_id), ids))
        finally:
            stop.set()
        for worker in workers:
            worker.result()
