"""What people do while everything runs: pause, resume, cancel and retry, reorder, submit twice; and doubled hints."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from store import jobs
from store.errors import NothingToDo, StoreError
from tests.chaos.crews import Missed
from tests.chaos.failpoint_faults import BACKLOG, MOST_WAITING
from tests.chaos.faults import fault
from tests.chaos.world import World

OPEN = "SELECT id FROM jobs WHERE state IN ('accepted', 'running')"
CANCEL_S = 15.0
UNDO_S = 20.0  # for what a person wants while the database comes and goes


@fault(4)
def hints_doubled(world: World, rng: random.Random) -> Iterator[float]:
    if not sum(world.ring() for _ in range(rng.randint(3, 20))):
        raise Missed
    yield 0.0


@fault(2)
def job_paused(world: World, rng: random.Random) -> Iterator[float]:
    job_id = _open_job(world, rng)
    try:
        jobs.pause(world.database, job_id)
    except StoreError as error:
        raise Missed from error
    world.paused.add(job_id)
    try:
        yield rng.uniform(0.1, 4)
    finally:
        resume(world, job_id)


@fault(1.5)
def job_cancelled_and_retried(world: World, rng: random.Random) -> Iterator[float]:
    job_id = _open_job(world, rng)
    try:
        jobs.cancel(world.database, job_id)
    except StoreError as error:
        raise Missed from error
    try:
        yield rng.uniform(0, 1)
    finally:
        retry(world, job_id)


@fault(3)
def job_reordered(world: World, rng: random.Random) -> Iterator[float]:
    try:
        jobs.set_priority(world.database, _open_job(world, rng), rng.randint(0, 9))
    except StoreError as error:
        raise Missed from error
    yield 0.0


@fault(1, takes="submission")
def job_submitted_again(world: World, rng: random.Random) -> Iterator[float]:
    """The same folder a second time, while the first is at work; a command that the database fails says so."""
    if world.number(BACKLOG) > MOST_WAITING or world.submit(rng) is None:
        raise Missed
    yield 0.0


def resume(world: World, job_id: int) -> None:
    """Resume a job, if it is paused, as soon as the database allows it."""
    deadline = time.monotonic() + UNDO_S
    while time.monotonic() < deadline:
        try:
            if world.number(f"SELECT COUNT(*) FROM jobs WHERE id = {job_id} AND state = 'paused'"):
                jobs.resume(world.database, job_id)
            world.paused.discard(job_id)
            return
        except StoreError:
            time.sleep(0.1)


def retry(world: World, job_id: int) -> None:
    """Take up a cancelled job again, once it is cancelled; not a training that was cancelled when it had its model."""
    deadline = time.monotonic() + CANCEL_S
    while time.monotonic() < deadline:
        try:
            if world.number(f"SELECT COUNT(*) FROM jobs WHERE id = {job_id} AND state LIKE 'cancel%'"):
                jobs.retry(world.database, job_id)
            return
        except NothingToDo:
            return
        except StoreError:
            time.sleep(0.1)


def _open_job(world: World, rng: random.Random) -> int:
    try:
        found = [int(row["id"]) for row in world.rows(OPEN)]
    except StoreError as error:
        raise Missed from error
    if not found:
        raise Missed
    return rng.choice(found)
