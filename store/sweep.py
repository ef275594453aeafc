"""The sweeper: expires leases, splits poisoned shards, stops hopeless jobs, finishes others.

Idempotent: any process may run it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, case, func, insert, or_, select, update

from store import tallies
from store.claims import close_attempt, give_up_the_best, is_over, kind_of, lock_job
from store.clock import db_now
from store.columns import all_of
from store.counters import LEASE_EXPIRIES, count_up
from store.database import Database
from store.errors import IllegalMove, UnknownJob
from store.events import record
from store.failpoints import reach
from store.following import follow
from store.jobs import close_cancelled
from store.removal import remove
from store.run_moves import ATTEMPTS
from store.scanning import fail_silent, silent_scans
from store.states import CLAIMABLE, RESUMABLE, UNFINISHED, JobKind, JobState, ShardState
from store.stopping import stop_hopeless
from store.tables import attempts, items, jobs, results, shards

BACKOFF_S = (0.0, 5.0, 30.0, 120.0)  # before attempt 2, 3, 4, 5
SPLIT_ATTEMPTS = 2  # for each half of a poisoned shard: the search for one image stays short
ABANDONED_S = 600.0  # a scan without a sign of life for this long is dead
TAKEN_OVER_S = 3 * ABANDONED_S  # one that a person was told of, and that nobody took over until then, has failed


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did."""

    expired: int = 0
    split: int = 0
    poisoned: int = 0
    failed: int = 0  # trainings that made no progress any more
    stopped: int = 0  # jobs of which too many images failed
    finished: int = 0


def sweep(database: Database) -> Swept:
    """Bring every lease, shard and job to where it belongs. Raises StoreError."""
    reach("sweep.before")
    with database.read() as connection:
        overdue = (shards.c.state == ShardState.LEASED) & (shards.c.lease_until < db_now())
        late = connection.execute(select(shards.c.id).where(overdue)).scalars().all()
    outcome = {"expired": 0, "split": 0, "poisoned": 0, "failed": 0}
    for shard_id in late:
        with database.write() as connection:
            outcome_of = _expire(connection, shard_id)
            count_up(connection, {LEASE_EXPIRIES: 1 if outcome_of else 0})
            reach("sweep.expired")
        if outcome_of:
            outcome[outcome_of] += 1
    _clear_scans(database)
    return Swept(**outcome, stopped=stop_hopeless(database), finished=finish_jobs(database))


def _clear_scans(database: Database) -> None:
    """Remove dead scans that nobody was told of. The others have their time to be taken over, then fail."""
    for job_id, scan in silent_scans(database, ABANDONED_S):
        if scan.get("request") is not None:
            fail_silent(database, job_id, TAKEN_OVER_S)
            continue
        with suppress(
            UnknownJob, IllegalMove
        ):  # another sweeper was quicker, or the scan has come to its end after all
            remove(database, job_id)


def _expire(connection: Connection, shard_id: int) -> str | None:
    """End one overdue lease, inside its own transaction; None if its owner came first."""
    job_id = connection.scalar(select(shards.c.job_id).where(shards.c.id == shard_id))
    over = is_over(connection, job_id) if job_id is not None else True  # the job before the shard: see claim
    shard = connection.execute(
        select(shards)
        .where(shards.c.id == shard_id, shards.c.state == ShardState.LEASED, shards.c.lease_until < db_now())
        .with_for_update(skip_locked=True)  # its owner is writing, or stopped while it was: the next sweep sees
    ).first()
    if shard is None:
        return None
    close_attempt(connection, shard.token, "lost", "the lease ended without a sign of life")
    if over:
        _set(connection, shard_id, state=ShardState.CANCELLED)
        give_up_the_best(connection, shard.job_id)
        return "expired"
    training = kind_of(connection, shard.job_id) is JobKind.FINETUNE
    if shard.attempt < shard.max_attempts:
        # Of a training, those that made progress do not count.
        failures = shard.attempt - (shard.max_attempts - ATTEMPTS if training else 0)
        wait = BACKOFF_S[min(max(failures, 1), len(BACKOFF_S)) - 1]
        _set(connection, shard_id, state=ShardState.READY, not_before=db_now() + wait)
        return "expired"
    if training:
        _fail_training(connection, shard)
        return "failed"
    if shard.hi - shard.lo > 1:
        _split(connection, shard)
        return "split"
    if shard.ok + shard.failed:  # its image has a row: only the end of the shard was never written
        _set(connection, shard_id, state=ShardState.DONE, done_token=shard.token)
        return "expired"
    _close_poisoned(connection, shard)
    return "poisoned"


def _set(connection: Connection, shard_id: int, **values: object) -> None:
    connection.execute(update(shards).where(shards.c.id == shard_id).values(token=None, lease_until=None, **values))


def _split(connection: Connection, shard: Row[tuple[object, ...]]) -> None:
    """Replace a shard that its workers did not survive by its halves; the counters move to them."""
    middle = (shard.lo + shard.hi) // 2
    for lo, hi in ((shard.lo, middle), (middle, shard.hi)):
        inside = (results.c.job_id == shard.job_id) & (results.c.idx >= lo) & (results.c.idx < hi)
        counts = connection.execute(
            select(
                func.count().filter(results.c.status == "ok"),
                func.count().filter(results.c.status == "failed"),
                func.count().filter(results.c.reused),
            ).where(inside)
        ).one()
        full = counts[0] + counts[1] == hi - lo
        connection.execute(
            insert(shards).values(
                job_id=shard.job_id,
                queue=shard.queue,
                lo=lo,
                hi=hi,
                state=ShardState.DONE if full else ShardState.READY,
                max_attempts=SPLIT_ATTEMPTS,
                ok=counts[0],
                failed=counts[1],
                reused=counts[2],
            )
        )
    _set(connection, shard.id, state=ShardState.SPLIT, ok=0, failed=0, reused=0)
    record(connection, shard.job_id, "shard_split", {"lo": shard.lo, "hi": shard.hi, "attempts": shard.attempt})


def _fail_training(connection: Connection, shard: Row[tuple[object, ...]]) -> None:
    """End a training that does not get on, with what its last attempt said."""
    last = _last_error(connection, shard.id, attempts.c.error.is_not(None))
    error = f"{ATTEMPTS} attempts in a row ended without progress; the last one: {last}"
    _set(connection, shard.id, state=ShardState.CANCELLED)
    connection.execute(
        update(jobs)
        .where(jobs.c.id == shard.job_id, jobs.c.state.in_(CLAIMABLE | RESUMABLE))
        .values(state=JobState.FAILED, error=error, finished_at=db_now())
    )
    follow(connection, shard.job_id)
    record(connection, shard.job_id, "failed", {"error": error})


def _close_poisoned(connection: Connection, shard: Row[tuple[object, ...]]) -> None:
    """Give the one image that no worker survives its error row."""
    path = connection.scalar(select(items.c.path).where(items.c.job_id == shard.job_id, items.c.idx == shard.lo))
    last = _last_error(connection, shard.id, attempts.c.outcome == "failed")
    message = f"{shard.attempt} workers died or failed while working on this file; it was set aside"
    message += f" (the last one said: {last})" if last else ""
    connection.execute(
        insert(results).values(
            job_id=shard.job_id,
            idx=shard.lo,
            status="failed",
            error_code="worker_died",
            error=message,
            token=shard.token,
            created_at=db_now(),
        )
    )
    connection.execute(
        update(shards)
        .where(shards.c.id == shard.id)
        .values(state=ShardState.DONE, done_token=shard.token, token=None, lease_until=None, failed=1)
    )
    tallies.add(connection, shard.job_id, {("error_code", "worker_died"): 1})
    record(connection, shard.job_id, "poisoned", {"path": path})


def _last_error(connection: Connection, shard_id: int, which: ColumnElement[bool]) -> str | None:
    newest = select(attempts.c.error).where(attempts.c.shard_id == shard_id, which)
    error: str | None = connection.scalar(newest.order_by(attempts.c.n.desc()).limit(1))
    return error


def finish_jobs(database: Database) -> int:
    """Close every job of which nothing is left to do; returns how many.

    A job is done only if found = classified + failed holds, counted in the result rows themselves.
    """
    left = select(shards.c.id).where(shards.c.job_id == jobs.c.id, shards.c.state.in_(UNFINISHED)).exists()
    with database.read() as connection:
        ripe = select(jobs.c.id).where(jobs.c.state.in_((*CLAIMABLE, JobState.CANCELLING)), ~left)
        ready = connection.execute(ripe).scalars().all()
        complete = [job_id for job_id in ready if _is_complete(connection, job_id)]
    for job_id in ready:
        reach("finish.before")
        with database.write() as connection:
            lock_job(connection, job_id)
            if job_id in complete:
                _finish(connection, job_id)
            close_cancelled(connection, job_id)
    return len(complete)


def _is_complete(connection: Connection, job_id: int) -> bool:
    if kind_of(connection, job_id) is JobKind.FINETUNE:  # its images have no rows of their own
        done = (shards.c.job_id == job_id) & (shards.c.state == ShardState.DONE)
        return connection.scalar(select(shards.c.id).where(done)) is not None
    # Rows are only ever added, so a count that is right stays right until the state is written.
    rows = select(func.count()).select_from(results).where(results.c.job_id == all_of(job_id)).scalar_subquery()
    return bool(connection.scalar(select(rows == jobs.c.n_items).where(jobs.c.id == job_id)))


def _finish(connection: Connection, job_id: int) -> None:
    unfinished = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.state.in_(UNFINISHED)).exists()
    failed = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.failed > 0).exists()
    done = connection.execute(
        update(jobs)
        .where(
            jobs.c.id == job_id, or_(jobs.c.state == JobState.RUNNING, jobs.c.state == JobState.ACCEPTED), ~unfinished
        )
        .values(state=case((failed, JobState.DONE_WITH_ERRORS), else_=JobState.DONE), finished_at=db_now())
        .returning(jobs.c.state)
    ).first()
    if done is not None:
        follow(connection, job_id)
        record(connection, job_id, done.state, {})
