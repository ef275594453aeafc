"""Leases on shards: claim, renew, release. The token, never the time, decides who may write."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, insert, literal, select, update

from store.clock import db_now
from store.database import Database
from store.rows import Lease
from store.states import CLAIMABLE, JobState, ShardState
from store.tables import attempts, jobs, shards

LEASE_S = 60.0  # how long a claim holds without a renewal
AGEING_S = 600.0  # a job that waited this long counts one priority higher
COLD_MODEL_ITEMS = 2048  # loading a model costs about as much as classifying this many items


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who claims: a worker, the queue it serves and the models it has warm."""

    worker_id: str
    queue: str = "classify"
    warm: Collection[int] = ()
    lease_s: float = LEASE_S


def claim(database: Database, claimer: Claimer) -> Lease | None:
    """Take the next shard that is due, or None.

    The order: priority, raised by waiting; then the job that was served least, where a model that is not warm counts as
    COLD_MODEL_ITEMS more. Within a job, shards go in the order of their items.
    """
    while True:
        with database.write() as connection:
            job_id = connection.scalar(_next_job(claimer))
            if job_id is None:
                return None
            # The job's row is locked before any shard's, here and everywhere: no two transactions wait in a circle.
            if lock_job(connection, job_id) in CLAIMABLE and (lease := _claim_of(connection, claimer, job_id)):
                return lease


def lock_job(connection: Connection, job_id: int) -> str | None:
    """The job's state, which stays as it is until this transaction ends (PostgreSQL; SQLite has one writer anyway)."""
    query = select(jobs.c.state).where(jobs.c.id == job_id).with_for_update(key_share=True)
    state: str | None = connection.scalar(query)
    return state


def _next_job(claimer: Claimer) -> Select[int]:
    open_jobs = jobs.c.state.in_(CLAIMABLE)
    waited = db_now() - func.coalesce(jobs.c.claimed_at, jobs.c.created_at)
    level = func.floor(jobs.c.priority - waited / AGEING_S)
    cold = case((jobs.c.model_id.in_(list(claimer.warm)), 0), else_=COLD_MODEL_ITEMS)
    # Not EXISTS: in order, so that the planner takes the index and not a scan over all that is done.
    has_work = _first_due(claimer, jobs.c.id).scalar_subquery().is_not(None)
    return select(jobs.c.id).where(open_jobs, has_work).order_by(level, jobs.c.served + cold, jobs.c.id).limit(1)


def _first_due(claimer: Claimer, job_id: ColumnElement[int]) -> Select[int]:
    due = and_(shards.c.queue == claimer.queue, shards.c.state == ShardState.READY, shards.c.not_before <= db_now())
    return select(shards.c.id).where(shards.c.job_id == job_id, due).order_by(shards.c.lo).limit(1)


def _claim_of(connection: Connection, claimer: Claimer, job_id: int) -> Lease | None:
    """Claim the first due shard of a locked job; None where another worker was quicker."""
    token = uuid.uuid4().hex
    first = _first_due(claimer, literal(job_id)).scalar_subquery()
    shard = connection.execute(
        update(shards)
        .where(shards.c.id == first, shards.c.state == ShardState.READY)
        .values(
            state=ShardState.LEASED,
            attempt=shards.c.attempt + 1,
            token=token,
            worker_id=claimer.worker_id,
            lease_until=db_now() + claimer.lease_s,
        )
        .returning(shards.c.id, shards.c.lo, shards.c.hi, shards.c.attempt)
    ).first()
    if shard is None:
        return None
    opened = {"token": token, "shard_id": shard.id, "n": shard.attempt, "worker_id": claimer.worker_id}
    connection.execute(insert(attempts).values(**opened, started_at=db_now()))
    model_id = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=JobState.RUNNING,
            started_at=func.coalesce(jobs.c.started_at, db_now()),
            claimed_at=db_now(),
            served=jobs.c.served + (shard.hi - shard.lo),
        )
        .returning(jobs.c.model_id)
    ).scalar_one()
    return Lease(shard.id, job_id, shard.lo, shard.hi, shard.attempt, token, model_id, claimer.worker_id)


def renew(database: Database, leases: Sequence[Lease], lease_s: float = LEASE_S) -> dict[str, JobState | None]:
    """Prolong leases. Returns, per token, the job's state now, or None where the lease is lost: stop and discard."""
    answer: dict[str, JobState | None] = {}
    with database.write() as connection:
        for lease in leases:
            kept = connection.execute(
                update(shards).where(_owned(lease)).values(lease_until=db_now() + lease_s)
            ).rowcount
            state = connection.scalar(select(jobs.c.state).where(jobs.c.id == lease.job_id)) if kept else None
            answer[lease.token] = JobState(state) if state else None
    return answer


def release(database: Database, lease: Lease) -> bool:
    """Give a shard back unfinished: ready again (or cancelled with its job). False if the lease was lost before.

    The attempt does not count: a drain or a pause is nobody's fault.
    """
    with database.write() as connection:
        gone = lock_job(connection, lease.job_id) in (JobState.CANCELLING, JobState.CANCELLED, JobState.FAILED)
        kept = connection.execute(
            update(shards)
            .where(_owned(lease))
            .values(
                state=ShardState.CANCELLED if gone else ShardState.READY,
                attempt=shards.c.attempt - 1,
                token=None,
                lease_until=None,
            )
        ).rowcount
        close_attempt(connection, lease.token, "lost" if not kept else "cancelled" if gone else "released")
        return bool(kept)


def give_up(database: Database, lease: Lease, error: str) -> bool:
    """End a lease because working on it failed; the sweeper decides what follows: again later, or in halves."""
    with database.write() as connection:
        close_attempt(connection, lease.token, "failed", error)
        return bool(connection.execute(update(shards).where(_owned(lease)).values(lease_until=0)).rowcount)


def close_attempt(connection: Connection, token: str, outcome: str, error: str | None = None) -> None:
    """Write how an attempt ended."""
    connection.execute(
        update(attempts)
        .where(attempts.c.token == token, attempts.c.ended_at.is_(None))
        .values(ended_at=db_now(), outcome=outcome, error=error)
    )


def release_dead(database: Database, worker_id: str) -> int:
    """Make the shards of a worker that is known to be dead expire now; returns how many.

    Only for a caller that holds the exclusive lock of the worker's device: that lock proves the death.
    """
    with database.write() as connection:
        done = connection.execute(
            update(shards)
            .where(shards.c.worker_id == worker_id, shards.c.state == ShardState.LEASED)
            .values(lease_until=0)
        )
        return done.rowcount


def _owned(lease: Lease) -> ColumnElement[bool]:
    return and_(shards.c.id == lease.shard_id, shards.c.token == lease.token, shards.c.state == ShardState.LEASED)
