"""The store under every order of events: hypothesis plays workers, people, sweepers and lost answers against a model.

The dose is small in CI. PIXMILL_STEPS=100000 plays that many steps on each database, with another seed every time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast, get_args

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from store import jobs as write
from store.claims import excuse, give_up, release, release_dead, renew
from store.database import Database
from store.rows import NewItem, NewJob, NewRun
from store.run_rows import RunEnd
from store.runs import finish_run, move_checkpoint, set_model
from store.states import FINAL, JobState
from store.sweep import finish_jobs
from store.tables import attempts, corrections, events, items, jobs, models, results, shards, tallies
from tests.store.invariants import count_all
from tests.store.machine_facts import Job, Shard
from tests.store.machine_player import CODES, LEASE_S, Player

STEPS = int(os.environ.get("PIXMILL_STEPS", "0"))
STEPS_EACH = 50  # of one example
SHORT = 16  # examples in CI; half as many where each costs more
MOST_JOBS = 4
WORKERS = ("ann", "bob", "cid")
QUEUES = ("classify", "train")
SHIFTS_S = (3.7, 31.3, 127.1, 4000.7, -20.9)  # of the clock: beyond a back-off, beyond a lease, and back
FAR_S = 100_000.0
picks = st.integers(0, 15)
patience = st.sampled_from((1, 2, 5))
limits = st.sampled_from((None, 0, 2))  # of failed images


class Machine(Player):
    """Rules do the same things to the database and to the model; the invariant compares the two."""

    # Jobs come.

    @initialize(count=st.integers(1, 7), largest=st.integers(1, 4), attempts_each=patience, limit=limits)
    def begin(self, count: int, largest: int, attempts_each: int, limit: int | None) -> None:
        self._accept(count, largest, attempts_each, limit)
        self.accept_training(2)

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(count=st.integers(1, 7), largest=st.integers(1, 4), attempts_each=patience, limit=limits)
    def accept(self, count: int, largest: int, attempts_each: int, limit: int | None) -> None:
        self._accept(count, largest, attempts_each, limit)

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(count=st.integers(1, 4))
    def accept_training(self, count: int) -> None:
        found = [NewItem(b"%d.jpg" % n, label=("robin", "wren")[n % 2]) for n in range(count)]
        job = NewJob(None, kind="finetune", queue="train", run=NewRun("finches", {"mode": "head"}, 7))
        if (made := self._made(job, found)) is not None:
            self.model.accept(Job(made, count, [Shard(0, count)], training=True))

    # Workers.

    @rule(worker=st.sampled_from(WORKERS), queue=st.sampled_from((*QUEUES, QUEUES[0])))
    def claim(self, worker: str, queue: str) -> None:
        self._claim(worker, queue)

    @rule(pick=picks, many=st.integers(1, 3), live=st.booleans())
    def renew(self, pick: int, many: int, live: bool) -> None:
        chosen = [found for n in range(many) if (found := self.lease(pick + n, live=live)) is not None]
        self.both(
            lambda: renew(self.database, [lease for _, lease in chosen], LEASE_S),
            lambda: self.model.renew([known for known, _ in chosen]),
        )

    @rule(pick=picks, live=st.booleans(), few=st.integers(0, 4), failing=st.integers(0, 15))
    def commit_some(self, pick: int, live: bool, few: int, failing: int) -> None:
        self._commit(pick, live=live, few=few, failing=failing, last=False)

    @rule(pick=picks, live=st.booleans(), failing=st.integers(0, 15))
    def commit_last(self, pick: int, live: bool, failing: int) -> None:
        self._commit(pick, live=live, few=16, failing=failing, last=True)

    @rule(worker=st.sampled_from(WORKERS), few=st.integers(0, 1))
    def commit_last_with_items_missing(self, worker: str, few: int) -> None:
        if (lease := self._claim(worker, "classify")) is not None:
            self._commit_of((self.model.leases[-1], lease), few=few, failing=0, last=True)

    @rule(pick=picks, live=st.booleans(), training=st.booleans())
    def release(self, pick: int, live: bool, training: bool) -> None:
        if (found := self.lease(pick, live=live, training=training)) is not None:
            self.both(lambda: release(self.database, found[1]), lambda: self.model.release(found[0]))

    @rule(pick=picks, live=st.booleans(), training=st.booleans())
    def give_up(self, pick: int, live: bool, training: bool) -> None:
        """A worker says that it failed; it uses this lease no more."""
        if (found := self.lease(pick, live=live, training=training)) is not None:
            del self.leases[found[0].token]
            self.both(lambda: give_up(self.database, found[1], "boom"), lambda: self.model.give_up(found[0]))

    @rule(pick=picks, live=st.booleans())
    def excuse(self, pick: int, live: bool) -> None:
        """The image that ended the attempt before is known."""
        if (found := self.lease(pick, live=live)) is not None:
            self.both(lambda: excuse(self.database, found[1]), lambda: self.model.excuse(found[0]))

    @rule(worker=st.sampled_from(WORKERS))
    def die_and_come_back(self, worker: str) -> None:
        self.both(lambda: release_dead(self.database, worker), lambda: self.model.release_dead(worker))

    @rule(pick=picks, failing=st.integers(0, 15), last=st.booleans())
    def sleep_through_a_lease(self, pick: int, failing: int, last: bool) -> None:
        """A worker stands still; its shard is handed out again, begun, and then it wakes up and writes."""
        if (asleep := self.lease(pick, live=True)) is None:
            return
        self._expire(asleep[0].token)
        self._sweep()
        self._end_backoff()
        if (lease := self._claim("heir", "classify")) is not None:
            self._commit_of((self.model.leases[-1], lease), few=1, failing=failing, last=False)
        self._commit_of(asleep, few=16, failing=failing, last=last)

    @rule(worker=st.sampled_from(WORKERS), few=st.integers(1, 4), failing=st.integers(0, 15), last=st.booleans())
    def work(self, worker: str, few: int, failing: int, last: bool) -> None:
        """What happens most of the time."""
        if (lease := self._claim(worker, "classify")) is not None:
            self._commit_of((self.model.leases[-1], lease), few=16 if last else few, failing=failing, last=last)

    # Trainings.

    @rule(pick=picks, live=st.booleans(), epoch=st.integers(0, 3), step=st.integers(0, 2))
    def move_checkpoint(self, pick: int, live: bool, epoch: int, step: int) -> None:
        if (found := self.lease(pick, live=live, training=True)) is not None:
            self.both(
                lambda: move_checkpoint(self.database, found[1], f"/c{epoch}.{step}", epoch, step),
                lambda: self.model.checkpoint(found[0], (epoch, step)),
            )

    @rule(pick=picks, live=st.booleans())
    def set_model(self, pick: int, live: bool) -> None:
        if (found := self.lease(pick, live=live, training=True)) is not None:
            self.both(
                lambda: set_model(self.database, found[1], self.model_id, 1, 0.5),
                lambda: self.model.set_model(found[0]),
            )

    @rule(pick=picks, live=st.booleans(), end=st.sampled_from(get_args(RunEnd)))
    def finish_run(self, pick: int, live: bool, end: RunEnd) -> None:
        if (found := self.lease(pick, live=live, training=True)) is not None:
            self.both(
                lambda: finish_run(self.database, found[1], end, "why" if end == "failed" else None),
                lambda: self.model.finish_run(found[0], end),
                resolved=True,
            )

    # Time, and the sweeper.

    @rule(pick=picks, training=st.booleans())
    def expire(self, pick: int, training: bool) -> None:
        """A lease's time runs out; its worker may not know."""
        if (found := self.lease(pick, live=True, training=training)) is not None:
            self._expire(found[0].token)

    @rule(seconds=st.sampled_from(SHIFTS_S))
    def shift_the_clock(self, seconds: float) -> None:
        self._shift(seconds)

    @rule()
    def sweep(self) -> None:
        self._sweep()

    @rule()
    def finish_jobs(self) -> None:
        """What a worker does at its end: the last part of a sweep."""
        self.answers.armed = None
        finish_jobs(self.database)
        self.model.finish_jobs()

    @rule(worker=st.sampled_from(WORKERS))
    def meet_a_poisoned_image(self, worker: str) -> None:
        """Whatever is claimed kills its worker, until a shard is split or an image set aside."""
        for _ in range(6):
            if (lease := self._claim(worker, "classify")) is None:
                return
            self._expire(lease.token)
            self._sweep()
            self._end_backoff()
            if all(shard.state != "ready" or shard.lo != lease.lo or shard.hi != lease.hi for shard in self._shards()):
                return

    # A person.

    @rule(pick=picks)
    def pause(self, pick: int) -> None:
        number = self.job(pick)
        self.both(lambda: write.pause(self.database, number), lambda: self.model.pause(number))

    @rule(pick=picks)
    def resume(self, pick: int) -> None:
        number = self.job(pick)
        self.both(lambda: write.resume(self.database, number), lambda: self.model.resume(number))

    @rule(pick=picks, priority=st.integers(0, 9))
    def set_priority(self, pick: int, priority: int) -> None:
        number = self.job(pick)
        self.both(lambda: write.set_priority(self.database, number, priority), lambda: self.model.set_priority(number))

    @rule(pick=picks, keep_best=st.booleans())
    def cancel(self, pick: int, keep_best: bool) -> None:
        number = self.job(pick)
        self.both(
            lambda: write.cancel(self.database, number, keep_best),
            lambda: self.model.cancel(number, keep_best=keep_best),
        )

    @rule(pick=picks)
    def fail(self, pick: int) -> None:
        """A job that no worker could do anything for: its model cannot be loaded."""
        number = self.job(pick)
        self.both(lambda: write.fail(self.database, number, "no model"), lambda: self.model.fail(number))

    @rule(pick=picks, how=st.sampled_from(("both", "left", *CODES, "worker_died")))
    def retry(self, pick: int, how: str) -> None:
        number = self.job(pick)
        self._retry(number, how)

    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        self._remove(self.job(pick))

    # Faults.

    @rule(n=st.integers(1, 3), happens=st.booleans())
    def lose_an_answer(self, n: int, happens: bool) -> None:
        """The next action meets a COMMIT whose answer does not come."""
        self.answers.armed = (n, happens)

    # What must hold.

    @invariant()
    def agrees_with_the_model(self) -> None:
        self.compare()

    def teardown(self) -> None:
        """In the end everything is drained: each image has its row; and of what is removed nothing is left."""
        try:
            if self.is_sound:
                self._drain()
        finally:
            self.answers.close(self.database)

    def _drain(self) -> None:
        self.answers.armed = None
        for _ in range(3):  # one that is resumed may stop for its failures, once
            self._work_off()
            self._go_on()
        self._work_off()
        self.agrees_with_the_model()
        for number, job in list(self.model.jobs.items()):
            assert job.state in FINAL
            if not job.training:
                assert set(job.rows) == set(range(job.count)), f"job {number} lacks rows"
            self._remove(number)
        self.agrees_with_the_model()
        for table in (jobs, items, shards, attempts, results, tallies, events, corrections):
            assert count_all(self.database, table) == 0, f"{table.name} has rows of no job"
        assert count_all(self.database, models) == 1

    def _go_on(self) -> None:
        """Whatever was paused, cancelled or has failed is to be done after all."""
        for number, job in list(self.model.jobs.items()):
            assert job.state in FINAL or job.state == JobState.PAUSED, f"job {number} is {job.state} in the end"
            if job.state == JobState.PAUSED:
                write.resume(self.database, number)
                self.model.resume(number)
            elif job.state in (JobState.CANCELLED, JobState.FAILED):
                self._retry(number, "left")

    def _work_off(self) -> None:
        """Healthy workers come, again and again, until nothing is due."""
        for _ in range(20):
            self._shift(FAR_S)
            self._sweep()
            self._end_backoff()
            worked = [self._work("ann", queue) for queue in QUEUES]
            self._sweep()
            if not any(worked):
                return
        raise AssertionError("it never ends")

    def _work(self, worker: str, queue: str) -> bool:
        worked = False
        while (lease := self._claim(worker, queue)) is not None:
            worked = True
            if queue == "train":
                self.finish_run(0, True, "done")
            else:
                self._commit(0, live=True, few=16, failing=0, last=True)
            assert self.model.owner(self.model.leases[-1]) is None, f"shard {lease.shard_id} was not closed"
        return worked


def play(make: Callable[[], RuleBasedStateMachine], examples: int) -> None:
    """The dose: the same one every time in CI, another one each time where PIXMILL_STEPS asks for more."""
    chosen = settings(
        max_examples=max(1, STEPS // STEPS_EACH) if STEPS else examples,
        stateful_step_count=STEPS_EACH,
        derandomize=not STEPS,
        database=None,
        phases=(Phase.generate,) if STEPS else (Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    # Anything that makes a machine will do, says its documentation; its type says less.
    run_state_machine_as_test(cast("type[RuleBasedStateMachine]", make), settings=chosen)


@pytest.mark.timeout(STEPS or 240)
def test_whatever_happens_in_whatever_order_the_store_does_what_the_model_says(database: Database) -> None:
    play(lambda: Machine(database), SHORT if database.is_sqlite else SHORT // 2)
