"""The watchdog: a worker that leaves work lying is found, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from store import jobs
from store.catalog import register_model
from store.claims import Claimer, claim
from store.database import Database
from store.errors import StoreError
from store.rows import NewItem, NewJob
from store.tables import shards
from tests.running import eventually
from worker.kept import Kept, Program, drain
from worker.watchdog import Watchdog

EVERY_S = 3.0
LOOKS = 12  # at most: 33 s
ID = "here/cpu"
HOLD = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.write(handle, f"{os.getpid()}\\n".encode())
print("held", flush=True)
time.sleep(600)
"""


class Watched:
    """A worker process that does nothing, the database, and a clock."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.lock = database, folder / "cpu.lock"
        command = [sys.executable, "-c", HOLD, str(self.lock)]
        program = Program(
            "worker", "It", command, folder / "log", folder, queue="classify", device="CPU", id=ID, lock=self.lock
        )
        self.kept = Kept(program)
        self.kept.keep()
        eventually(lambda: "held" in program.log.read_text())
        self.watchdog = Watchdog(database)
        self.now = self.kept.started

    def looks(self, times: int = LOOKS, waiting: tuple[str, ...] = (), started: float = 100.0) -> list[Kept]:
        """Look so often, every three seconds, from so long after the start on; the worker, if it was found stuck."""
        found: list[Kept] = []
        self.now = max(self.now, self.kept.started + started)
        for _ in range(times):
            self.now += EVERY_S
            found += self.watchdog.look([self.kept], waiting, self.now, 2 * EVERY_S)
        return found


@pytest.fixture
def watched(database: Database, tmp_path: Path) -> Iterator[Watched]:
    made = Watched(database, tmp_path)
    yield made
    drain([made.kept], 0, lambda: True)


def accept(database: Database, items: int = 4) -> int:
    model = register_model(database, ("fake", 1), "digest", ("ant",), "{}", "/models/fake/1")
    return jobs.accept(database, NewJob(model), [NewItem(b"%d.png" % n) for n in range(items)])


def test_a_worker_that_leaves_work_lying_is_found_after_a_while(watched: Watched) -> None:
    accept(watched.database)
    assert watched.looks(10) == []
    assert watched.looks(2) == [watched.kept]


def pause(watched: Watched, job: int) -> None:
    jobs.pause(watched.database, job)


def put_off(watched: Watched, job: int) -> None:
    with watched.database.write() as connection:
        connection.execute(update(shards).values(not_before=4e9))


def lease(watched: Watched, job: int) -> None:
    """As a worker that loads a model, reads a long archive or trains: another job's shard waits, and it holds one."""
    accept(watched.database)
    assert claim(watched.database, Claimer(ID, lease_s=600))


def cancel(watched: Watched, job: int) -> None:
    jobs.cancel(watched.database, job)


def other_queue(watched: Watched, job: int) -> None:
    with watched.database.write() as connection:
        connection.execute(update(shards).values(queue="train"))


@pytest.mark.parametrize("what", [pause, put_off, lease, cancel, other_queue])
def test_a_worker_that_has_no_reason_to_claim_is_left_alone(
    watched: Watched, what: Callable[[Watched, int], None]
) -> None:
    what(watched, accept(watched.database))
    assert watched.looks() == []


def test_without_any_job_nobody_is_suspect(watched: Watched) -> None:
    assert watched.looks() == []


def test_a_worker_that_starts_is_given_time(watched: Watched) -> None:
    accept(watched.database)
    assert watched.looks(times=19, started=0) == []  # until 57 s after its start


def test_a_worker_that_says_what_it_waits_for_is_left_alone(watched: Watched) -> None:
    accept(watched.database)
    assert watched.looks(waiting=(ID,)) == []


def test_work_that_is_taken_now_and_then_resets_the_suspicion(watched: Watched) -> None:
    job = accept(watched.database)
    for _ in range(3):
        assert watched.looks(9) == []
        jobs.pause(watched.database, job)
        assert watched.looks(1) == []
        jobs.resume(watched.database, job)


def test_a_lease_that_ran_out_is_no_sign_of_life(watched: Watched) -> None:
    accept(watched.database)
    accept(watched.database)
    assert claim(watched.database, Claimer(ID, lease_s=-1))
    assert watched.looks() == [watched.kept]


def test_who_waits_for_a_place_that_another_has_is_left_alone(watched: Watched, tmp_path: Path) -> None:
    """Two supervisors, one device: the second one's worker waits for the first one's end."""
    accept(watched.database)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "other.lock"], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert other.stdout
        other.stdout.readline()
        watched.lock.unlink()
        os.link(tmp_path / "other.lock", watched.lock)
        assert watched.looks() == []
    finally:
        other.kill()
        other.communicate()


def test_a_place_that_nobody_holds_is_no_excuse(watched: Watched) -> None:
    accept(watched.database)
    watched.lock.unlink()
    watched.lock.touch()
    assert watched.kept in watched.looks()


def test_a_supervisor_that_stood_still_itself_blames_nobody(watched: Watched) -> None:
    accept(watched.database)
    assert watched.looks(2) == []
    watched.now += 3600
    assert watched.looks(1) == []


def test_a_database_that_cannot_be_written_is_no_workers_fault(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(watched.database)

    def full(*_: object, **__: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr("worker.watchdog.count_up", full)
    with pytest.raises(StoreError):
        watched.looks()
