"""Two or many at once, on real databases: no deadlock reaches a caller, and whatever the order, the store stays sound.

PIXMILL_RACES=1 plays every pair of actions with every point of interruption; CI plays a sample of them.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product

import pytest
from sqlalchemy import select, update

from store import jobs as write
from store.claims import Claimer, claim, give_up, release, release_dead, renew
from store.commits import commit_slice
from store.database import Database
from store.errors import IllegalMove, LeaseLost, NothingToDo, ScanLost, StoreError, UnknownJob
from store.insights import items_left, list_jobs
from store.removal import remove
from store.rows import NewItem, NewJob
from store.states import FINAL, JobState
from store.sweep import finish_jobs, sweep
from store.tables import jobs, shards
from tests.servers import new_postgres_database
from tests.store.interleaving import interleave
from tests.store.invariants import assert_sound, broken, look
from tests.store.scenes import CLASSIFYING, PEOPLE, TRAINERS, TRAINING, WORKERS, Act, Scene, row_of

EVERY = os.environ.get("PIXMILL_RACES") == "1"
SAMPLE = 12  # pairs, in CI
MOST_STATEMENTS = 80
FEW_STATEMENTS = 16
CROWD = 9  # threads
SHARE = 400 if EVERY else 25  # actions of each
REFUSALS = (IllegalMove, LeaseLost, NothingToDo, UnknownJob)  # what the rules say; anything else is a fault
CROWDED = (*REFUSALS, ScanLost)  # somebody cancels a job, or removes it, while somebody else still lists it


# One thread does these; the heartbeat, and whoever finds the worker dead, are others.
ALONE = (
    {"commit some", "commit the rest", "release", "give up"},
    {"commit too late", "release too late", "give up too late"},
    {"checkpoint", "epoch", "stage", "end", "end badly", "release", "give up"},
)


def _scripts(scenes: dict[str, Callable[[Database], Scene]], acts: dict[str, Act]) -> list[tuple[str, str, str]]:
    """Every scene with every two actions that two processes or threads may do at once."""
    return [
        (scene, first, second)
        for scene, first, second in product(scenes, acts, acts)
        if not any({first, second} <= alone for alone in ALONE)
    ]


def _play(database: Database, scene: Scene, first: Act, second: Act, at: int) -> str | None:
    """What went wrong, or nothing; None where the first action has ended before that statement."""
    outcomes = interleave(database, lambda: first(scene), lambda: second(scene), at)
    if outcomes is None:
        return None
    told = [f"{type(o).__name__}: {o}" for o in outcomes if isinstance(o, Exception) and not isinstance(o, REFUSALS)]
    return "; ".join([*told, *broken(look(database))])


# Each of these once deadlocked in PostgreSQL, or left something behind that did not hold.
KNOWN = (
    ("running", "give up too late", "sweep"),
    ("running", "sweep", "give up too late"),
    ("running", "renew the other way", "die"),
    ("running", "renew", "give up"),
    ("failed", "renew", "retry"),
    ("failed", "renew the other way", "retry"),
    ("failed", "renew the other way", "remove"),
    ("failed training", "retry", "stage"),
    ("failed training", "retry", "checkpoint"),
)


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Database]:
    """One database in PostgreSQL for all of these: each scene begins with empty tables."""
    made = Database(new_postgres_database(postgres))
    yield made
    made.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("script", KNOWN, ids=" / ".join)
def test_what_once_went_wrong_goes_well_wherever_it_is_interrupted(
    server: Database, script: tuple[str, str, str]
) -> None:
    assert not _wrong(server, script, range(MOST_STATEMENTS))


@pytest.mark.timeout(7200 if EVERY else 240)
@pytest.mark.parametrize("kind", ["classify", "finetune"])
def test_no_interleaving_of_two_actions_deadlocks_or_breaks_anything(database: Database, kind: str) -> None:
    chance = random.Random(SAMPLE)
    scripts = _scripts(CLASSIFYING, WORKERS | PEOPLE) if kind == "classify" else _scripts(TRAINING, TRAINERS | PEOPLE)
    wrong = []
    for script in scripts if EVERY else chance.sample(scripts, SAMPLE):
        if EVERY:
            wrong += _wrong(database, script, range(MOST_STATEMENTS))
        else:
            wrong += _wrong(database, script, _nearer(chance.randrange(FEW_STATEMENTS)), once=True)
    assert not wrong, "\n".join(wrong)


def _wrong(database: Database, script: tuple[str, str, str], points: Iterable[int], *, once: bool = False) -> list[str]:
    """What went wrong at these points of the first action, until it has none such; or at one that it has."""
    scene, first, second = script
    make = {**CLASSIFYING, **TRAINING}[scene]
    acts = (TRAINERS if scene in TRAINING else WORKERS) | PEOPLE
    wrong = []
    for at in points:
        said = _play(database, make(database), acts[first], acts[second], at)
        if said:
            wrong.append(f"{scene}: {first} halted at {at}, {second}: {said}")
        if (said is not None) == once:
            break
    return wrong


def _nearer(at: int) -> Iterator[int]:
    """A point, and nearer ones where an action is over before."""
    yield at
    while at > 0:
        at //= 2
        yield at


class Crowd:
    """Workers, sweepers and people at the same few jobs, until each has done its share."""

    def __init__(self, database: Database, model_id: int) -> None:
        self.database = database
        self.model_id = model_id
        self.wrong: list[str] = []
        self.barrier = threading.Barrier(CROWD)

    def accept(self) -> int:
        found = (NewItem(b"%d.jpg" % n, label=("robin", None)[n % 2]) for n in range(24))
        return write.accept(self.database, NewJob(self.model_id, max_shard=3), found)

    def act(self, number: int) -> None:
        """One of them: the first four are workers, then a sweeper, then people."""
        chance = random.Random(number)
        kinds = [self.work] * 4 + [self.sweep] + [self.move] * (CROWD - 5)
        self.barrier.wait()
        for _ in range(SHARE):
            try:
                kinds[number](chance, f"w{number}")
            except CROWDED:
                continue
            except StoreError as error:
                self.wrong.append(f"{kinds[number].__name__}: {type(error).__name__}: {error} ({error.__cause__})")

    def work(self, chance: random.Random, worker: str) -> None:
        """Two leases at a time; they are committed in slices, lost, released, given up, or die with their worker."""
        held = [lease for _ in range(2) if (lease := claim(self.database, Claimer(worker))) is not None]
        for lease in held:
            left = [row_of(item.idx) for item in items_left(self.database, lease)]
            renew(self.database, held)
            fate = chance.random()
            if fate < 0.6:
                commit_slice(self.database, lease, left[:1], last=False)
                commit_slice(self.database, lease, left[1:], last=True)
            elif fate < 0.7:
                release(self.database, lease)
            elif fate < 0.8:
                give_up(self.database, lease, "boom")
            elif fate < 0.9:
                release_dead(self.database, worker)

    def sweep(self, _: random.Random, __: str) -> None:
        """Time passes, too: whoever backs off, or sleeps on a lease, is due."""
        with self.database.write() as connection:
            # Jobs before their shards, and in one order, as everywhere: this is no action of the program's.
            connection.execute(select(jobs.c.id).order_by(jobs.c.id).with_for_update(key_share=True))
            connection.execute(update(shards).where(shards.c.not_before > 0).values(not_before=0))
        sweep(self.database)

    def move(self, chance: random.Random, _: str) -> None:
        """Somebody who cannot decide."""
        known = [job.id for job in list_jobs(self.database)]
        if len(known) < 3:
            known.append(self.accept())
        job = chance.choice(known)
        moves: list[Callable[[], object]] = [
            lambda: write.pause(self.database, job),
            lambda: write.resume(self.database, job),
            lambda: write.cancel(self.database, job),
            lambda: write.retry(self.database, job),
            lambda: write.retry(self.database, job, ["corrupt"]),
            lambda: write.set_priority(self.database, job, chance.randrange(10)),
            lambda: write.fail(self.database, job, "no model"),
            lambda: remove(self.database, job),
            lambda: finish_jobs(self.database),
        ]
        chance.choice(moves)()


@pytest.mark.timeout(7200 if EVERY else 240)
def test_a_crowd_of_workers_and_people_loses_doubles_and_locks_nothing(database: Database, model_id: int) -> None:
    crowd = Crowd(database, model_id)
    for _ in range(3):
        crowd.accept()
    with ThreadPoolExecutor(CROWD) as pool:
        list(pool.map(crowd.act, range(CROWD)))
    assert not crowd.wrong, "\n".join(crowd.wrong)
    assert_sound(database)
    _work_off(database)
    seen = assert_sound(database)
    for number, job in seen.jobs.items():
        assert JobState(job.state) in FINAL, f"job {number} is {job.state} in the end"
        if job.state in (JobState.DONE, JobState.DONE_WITH_ERRORS):
            assert [row.idx for row in seen.results[number]] == list(range(job.n_items))


def _work_off(database: Database) -> None:
    for job in list_jobs(database):
        with suppress(*REFUSALS):
            write.resume(database, job.id)
    with database.write() as connection:
        connection.execute(update(shards).values(not_before=0))
        connection.execute(update(shards).where(shards.c.lease_until.is_not(None)).values(lease_until=1.0))
    sweep(database)
    with database.write() as connection:
        connection.execute(update(shards).values(not_before=0))
    while (lease := claim(database, Claimer("last"))) is not None:
        commit_slice(database, lease, [row_of(item.idx) for item in items_left(database, lease)], last=True)
    sweep(database)
