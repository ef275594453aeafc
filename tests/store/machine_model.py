"""What the store should do, in plain Python: a model of jobs, shards, leases and rows that knows no database.

Each method does what its namesake in the store promises, and raises the error that it promises. Time is not modelled:
whoever asks says which leases are overdue and which shards are due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy

from store.errors import IllegalMove, IncompleteShard, LeaseLost, NothingToDo, UnknownJob
from store.run_moves import ATTEMPTS
from store.states import CANCELLABLE, CLAIMABLE, FINAL, PAUSABLE, RESUMABLE, JobState
from store.sweep import SPLIT_ATTEMPTS
from tests.store.machine_facts import Claimed, Job, Shard


class Model:
    """Every job that is there, and every attempt."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.attempts: dict[str, str | None] = {}  # the outcome by token; None while it runs
        self.leases: list[Claimed] = []  # every one there ever was
        self.written = {"ok": 0, "failed": 0}  # rows of classify jobs, ever
        self.expiries = 0
        self.fenced = 0

    def copy(self) -> Model:
        """As it is now, to come back to."""
        return deepcopy(self)

    def accept(self, job: Job) -> None:
        """A job is there."""
        self.jobs[job.id] = job

    # What a worker does.

    def claim(self, token: str, job_id: int, lo: int, worker: str) -> None:
        """A worker got a shard, as it says."""
        job = self.jobs[job_id]
        shard = next(shard for shard in job.shards if shard.lo == lo and shard.state == "ready")
        assert job.state in CLAIMABLE, f"a shard of a job that is {job.state} was handed out"
        assert token not in self.attempts, "a token was given twice"
        shard.state, shard.token, shard.worker, shard.attempt = "leased", token, worker, shard.attempt + 1
        job.state = JobState.RUNNING
        self.attempts[token] = None
        self.leases.append(Claimed(token, job_id, job.training))

    def owner(self, lease: Claimed) -> tuple[Job, Shard] | None:
        """The shard that a lease still owns."""
        job = self.jobs.get(lease.job_id)
        if job is not None:
            for shard in job.shards:
                if shard.token == lease.token:
                    return job, shard
        return None

    def renew(self, leases: Iterable[Claimed]) -> dict[str, JobState | None]:
        """The job's state for each lease that holds."""
        held = {lease.token: self.owner(lease) for lease in leases}
        return {token: found[0].state if found and not found[1].is_given_up else None for token, found in held.items()}

    def commit(self, lease: Claimed, rows: Mapping[int, tuple[str, str | None]], *, last: bool) -> None:
        """Rows of a lease, and with `last` the end of its shard. Raises LeaseLost, IncompleteShard."""
        found = self.owner(lease)
        if found is None:
            self.fenced += 1
            raise LeaseLost(0)
        job, shard = found
        there = len(job.inside(shard)) + len(rows)
        if last and there != shard.hi - shard.lo:
            raise IncompleteShard(0, shard.hi - shard.lo, there)
        assert not set(rows) & set(job.rows)
        for idx, (status, code) in rows.items():
            self.written[status] += 1
            job.rows[idx] = (status, code, lease.token)
        shard.is_given_up = False
        if last:
            shard.done_token = lease.token
            shard.let_go("done")
            self._close(lease.token, "done")

    def happened(self, lease: Claimed, rows: Collection[int], *, last: bool) -> bool:
        """Whether the database says afterwards that a commit took place."""
        job = self.jobs[lease.job_id]
        if last:
            return any(shard.done_token == lease.token for shard in job.shards)
        return bool(rows) and job.rows.get(min(rows), ("", None, ""))[2] == lease.token

    def release(self, lease: Claimed) -> bool:
        """A shard given back."""
        found = self.owner(lease)
        if found is None:
            self._close(lease.token, "lost")
            return False
        job, shard = found
        if job.training:
            shard.max_attempts += 1
        else:
            shard.attempt -= 1
        shard.let_go("cancelled" if job.over else "ready")
        self._close(lease.token, "released" if shard.state == "ready" else "cancelled")
        self._give_up_the_best(job)
        return True

    def excuse(self, lease: Claimed) -> bool:
        """The attempt before does not count."""
        found = self.owner(lease)
        if found is not None:
            found[1].attempt = max(1, found[1].attempt - 1)
        return found is not None

    def give_up(self, lease: Claimed) -> bool:
        """Work on a shard failed; it is the lease's until the next sweep."""
        found = self.owner(lease)
        if found is not None:
            found[1].is_given_up = True
        self._close(lease.token, "failed")
        return found is not None

    def checkpoint(self, lease: Claimed, at: tuple[int, int]) -> None:
        """A training got somewhere. Raises LeaseLost."""
        job, shard = self._fence(lease)
        if job.checkpoint is None or at > job.checkpoint:
            shard.max_attempts = shard.attempt + ATTEMPTS
        job.checkpoint = at

    def set_model(self, lease: Claimed) -> None:
        """A training has made its model. Raises LeaseLost."""
        self._fence(lease)[0].has_model = True

    def finish_run(self, lease: Claimed, end: str) -> None:
        """A training ended. Raises LeaseLost; not where this very lease has ended it before."""
        job = self.jobs.get(lease.job_id)
        if job is not None and job.shards[0].done_token == lease.token:
            return
        job, shard = self._fence(lease)
        if job.state == JobState.CANCELLING or (job.keep_best and end == "done"):
            end = "cancelled"
        whole = end == "done" or (end == "cancelled" and job.has_model)
        shard.done_token = lease.token
        shard.let_go("done" if whole else "cancelled")
        self._close(lease.token, end)
        job.state = JobState(end)

    def _fence(self, lease: Claimed) -> tuple[Job, Shard]:
        found = self.owner(lease)
        if found is None:
            raise LeaseLost(0)
        return found

    def _close(self, token: str, outcome: str) -> None:
        if self.attempts.get(token, "") is None:
            self.attempts[token] = outcome

    # What a person does.

    def _move(self, job_id: int, allowed: Collection[JobState]) -> Job:
        job = self.jobs.get(job_id)
        if job is None:
            raise UnknownJob(job_id)
        if job.state not in allowed:
            raise IllegalMove(job_id, job.state, "moved")
        return job

    def pause(self, job_id: int) -> None:
        """Hand out nothing."""
        self._move(job_id, PAUSABLE).state = JobState.PAUSED

    def resume(self, job_id: int) -> None:
        """Go on; what failed, with what is left."""
        job = self.jobs.get(job_id)
        if job is not None and job.state == JobState.FAILED and not job.training:
            self._again(job, (), "left")
            return
        job = self._move(job_id, RESUMABLE)
        job.state = job.taken_up()

    def set_priority(self, job_id: int) -> None:
        """Changes nothing that is modelled."""
        self._move(job_id, set(JobState) - FINAL)

    def cancel(self, job_id: int, *, keep_best: bool) -> None:
        """End a job, or let a training end with its best."""
        if keep_best and self._end_early(job_id):
            return
        job = self._move(job_id, CANCELLABLE)
        job.state = JobState.CANCELLING
        _cancel_ready(job)
        self._close_cancelled(job)

    def _end_early(self, job_id: int) -> bool:
        job = self.jobs.get(job_id)
        if job is None:
            return False
        if not job.training:
            raise IllegalMove(job_id, job.state, "cancelled with its best kept")
        worth = job.checkpoint is not None or job.has_model or job.is_leased
        if job.state not in CLAIMABLE | RESUMABLE or not worth:
            if job.state == JobState.CANCELLING:
                raise IllegalMove(job_id, job.state, "cancelled with its best kept")
            return False
        job.keep_best = True
        if job.state == JobState.PAUSED:
            job.state = job.taken_up()
        return True

    def fail(self, job_id: int) -> None:
        """End a job that cannot go on; who holds a shard of it gives it back."""
        job = self.jobs.get(job_id)
        if job is not None and job.state in CLAIMABLE:
            job.state = JobState.FAILED
            _cancel_ready(job)

    def retry(self, job_id: int, codes: Collection[str], what: str) -> int:
        """Run again what failed or is left. Raises UnknownJob, IllegalMove, NothingToDo."""
        return self._again(self._move(job_id, FINAL), codes, what)

    def _again(self, job: Job, codes: Collection[str], what: str) -> int:
        if job.training:
            if codes:
                raise IllegalMove(job.id, "a training", "retried")
            left = self._reopen(job)
        else:
            gone = {idx for idx, row in job.rows.items() if row[0] == "failed" and (not codes or row[1] in codes)}
            left = job.count - len(job.rows) + (len(gone) if what == "both" else 0)
            if left:
                self._reopen_items(job, gone if what == "both" else set())
        if left == 0:
            raise NothingToDo(job.id)
        if job.is_hopeless:
            job.limit = None
        job.state = JobState.ACCEPTED
        return left

    def _reopen(self, job: Job) -> int:
        (shard,) = job.shards
        if shard.state == "done":
            return 0
        self._fence_off(job)
        shard.max_attempts, shard.done_token = shard.attempt + ATTEMPTS, None
        shard.let_go("ready")
        job.keep_best = False
        return job.count

    def _reopen_items(self, job: Job, gone: set[int]) -> None:
        self._fence_off(job)
        job.rows = {idx: row for idx, row in job.rows.items() if idx not in gone}
        for shard in job.shards:
            if shard.state != "split" and len(job.inside(shard)) < shard.hi - shard.lo:
                shard.attempt, shard.done_token = 0, None
                shard.let_go("ready")

    def _fence_off(self, job: Job) -> None:
        """Who still holds a shard of a job that failed holds it no longer."""
        for shard in job.shards:
            if shard.state == "leased":
                self._close(shard.token or "", "lost")
                shard.let_go("ready")

    def remove(self, job_id: int) -> None:
        """A job and all its rows are gone. Raises UnknownJob, IllegalMove."""
        self._move(job_id, FINAL | {JobState.SCANNING})
        self.forget(job_id)

    def mark_removed(self, job_id: int) -> None:
        """A removal that was cut off: the job is nobody's, and the next sweep ends it."""
        job = self.jobs[job_id]
        job.state = JobState.SCANNING
        for shard in job.shards:
            shard.let_go("cancelled" if shard.state == "leased" else shard.state)

    def forget(self, job_id: int) -> None:
        """Without a trace, but for what is counted."""
        del self.jobs[job_id]
        gone = {lease.token for lease in self.leases if lease.job_id == job_id}
        self.attempts = {token: outcome for token, outcome in self.attempts.items() if token not in gone}

    # What the sweeper does.

    def release_dead(self, worker: str) -> int:
        """How many shards a dead worker held."""
        every = (shard for job in self.jobs.values() for shard in job.shards)
        held = [shard for shard in every if shard.state == "leased" and shard.worker == worker]
        for shard in held:
            shard.is_given_up = True
        return len(held)

    def sweep(self, overdue: Collection[str]) -> None:
        """Leases that are overdue end, by their tokens; removals are ended; jobs are finished."""
        for job in list(self.jobs.values()):
            for shard in list(job.shards):
                if shard.state == "leased" and shard.token in overdue:
                    self._expire(job, shard)
            if job.state == JobState.SCANNING:
                self.forget(job.id)
        for job in self.jobs.values():
            if job.is_hopeless and job.is_open:
                self.fail(job.id)
        self.finish_jobs()

    def _expire(self, job: Job, shard: Shard) -> None:
        self.expiries += 1
        token = shard.token or ""
        self._close(token, "lost")
        if job.over:
            shard.let_go("cancelled")
            self._give_up_the_best(job)
        elif shard.attempt < shard.max_attempts:
            shard.let_go("ready")
        elif job.training:
            shard.let_go("cancelled")
            job.state = JobState.FAILED
        elif shard.hi - shard.lo > 1:
            self._split(job, shard)
        else:
            if shard.lo not in job.rows:
                self.written["failed"] += 1
                job.rows[shard.lo] = ("failed", "worker_died", token)
            shard.done_token = token
            shard.let_go("done")

    @staticmethod
    def _split(job: Job, shard: Shard) -> None:
        middle = (shard.lo + shard.hi) // 2
        for lo, hi in ((shard.lo, middle), (middle, shard.hi)):
            half = Shard(lo, hi, max_attempts=SPLIT_ATTEMPTS)
            half.state = "done" if len(job.inside(half)) == hi - lo else "ready"
            job.shards.append(half)
        shard.let_go("split")

    def _give_up_the_best(self, job: Job) -> None:
        if job.without_best and job.state in CLAIMABLE | RESUMABLE:
            job.state = JobState.CANCELLING

    def finish_jobs(self) -> None:
        """Jobs of which nothing is left to do have ended."""
        for job in self.jobs.values():
            if job.is_open:
                continue
            if job.state in CLAIMABLE:
                failed = any(row[0] == "failed" for row in job.rows.values())
                job.state = JobState.DONE_WITH_ERRORS if failed else JobState.DONE
            self._close_cancelled(job)

    @staticmethod
    def _close_cancelled(job: Job) -> None:
        if job.state == JobState.CANCELLING and not job.is_open:
            job.state = JobState.CANCELLED

    # To be compared with.

    def facts(self) -> Iterator[tuple[object, ...]]:
        """One line for everything that the database must say too."""
        for job in self.jobs.values():
            yield "job", job.id, str(job.state)
            if job.state == JobState.SCANNING:
                continue
            yield from (("shard", job.id, *shard.facts()) for shard in job.shards)
            yield from (("row", job.id, idx, *row) for idx, row in job.rows.items())
            if job.training:
                yield "run", job.id, job.checkpoint, job.keep_best, job.has_model
        for lease in self.leases:
            job_there = self.jobs.get(lease.job_id)
            if job_there is not None and job_there.state != JobState.SCANNING:
                yield "attempt", lease.token, self.attempts[lease.token]


def _cancel_ready(job: Job) -> None:
    for shard in job.shards:
        if shard.state == "ready":
            shard.state = "cancelled"
