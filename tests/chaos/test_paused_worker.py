"""A worker stands still for three leases, results in hand; another runs its shard again. The first one's are refused.

A suspended virtual machine, a debugger, a machine that swaps: the worker does not know that time has passed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from store.counters import FENCED_COMMITS
from tests.chaos.armed import LEASE_S, PATIENCE_S, SHARD, Firing, World, is_stopped, resume, stand_still, world
from tests.databases import ready
from tests.running import eventually
from tests.servers import new_postgres_database

NUMBER = os.getpid() % 10000
DEVICES = f"GPU-aaaa{NUMBER:04}-1,GPU-bbbb{NUMBER:04}-2"  # pretended: the stand-in engine needs none
ROWS = "SELECT idx, label, score, token FROM results WHERE job_id = {} ORDER BY idx"


def both_at_work(here: World) -> None:
    here.start(LEASE_S)
    eventually(lambda: here.sql("SELECT COUNT(*) AS n FROM workers") == [{"n": 2}], PATIENCE_S, "both workers")


def overtaken(here: World, point: str, items: int) -> tuple[int, Firing]:
    """A job of which one worker is stopped at a point for three leases, until the other one has done it all."""
    inside = point.startswith("commit.")  # with its transaction open
    here.points.arm(point, "stop" if inside else "hold")
    job = here.submit(items)
    stopped = here.points.wait(point)
    if inside:
        eventually(lambda: is_stopped(stopped.pid), what="the stop")
    else:
        stand_still(here.points.folder, stopped.pid, here.database)
    eventually(lambda: here.state(job) == "done", PATIENCE_S, "the job without the stopped worker")
    eventually(lambda: time.time() > stopped.time + 3 * LEASE_S, what="the third lease's end")
    assert is_stopped(stopped.pid)
    return job, stopped


def pids(here: World) -> list[object]:
    return [row["pid"] for row in here.sql("SELECT pid FROM workers ORDER BY id")]


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_paused_worker_cannot_commit_after_its_lease_was_taken(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "sqlite":
        url = ready(f"sqlite:///{tmp_path}/home/pixmill.db")
    else:
        url = new_postgres_database(request.getfixturevalue("postgres"))
    with world(tmp_path, url, DEVICES) as here:
        both_at_work(here)
        before = pids(here)
        job, stopped = overtaken(here, "slice.before", items=SHARD)
        rows = here.sql(ROWS.format(job))
        (shard,) = here.sql(f"SELECT done_token, attempt FROM shards WHERE job_id = {job}")
        assert {row["token"] for row in rows} == {shard["done_token"]}
        assert shard["attempt"] == 2
        fenced = here.counter(FENCED_COMMITS)

        resume(stopped.pid)
        eventually(lambda: here.counter(FENCED_COMMITS) == fenced + 1, PATIENCE_S, "the refusal")
        assert "its lease was lost; 24 results came too late" in here.log()
        assert here.sql(ROWS.format(job)) == rows  # its results are nowhere
        here.check(job)

        # It is the same process, and as good as before.
        here.finished(here.submit(items=240))
        assert pids(here) == before
        assert here.counter(FENCED_COMMITS) == fenced + 1


@pytest.mark.long
def test_a_worker_that_stands_still_inside_a_transaction_is_put_out_by_postgresql(
    tmp_path: Path, postgres: str
) -> None:
    """It holds the lock of its shard. Nobody waits for that: the other works on, and has the shard in ten seconds."""
    with world(tmp_path, new_postgres_database(postgres), DEVICES) as here:
        both_at_work(here)
        before = pids(here)
        job, stopped = overtaken(here, "commit.fenced", items=240)
        rows = here.sql(ROWS.format(job))
        assert "sweep put off" not in here.supervised()  # the sweeper passed over the locked shard
        resume(stopped.pid)
        eventually(lambda: "in which this process stood still" in here.log(), PATIENCE_S, "the worker's notice")
        here.check(job)
        assert here.sql(ROWS.format(job)) == rows
        here.finished(here.submit(items=240))
        assert pids(here) == before
