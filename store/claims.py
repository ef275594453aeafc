"""Leases on shards: claim, renew, release. The token, never the time, decides who may write."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, insert, literal, select, update

from store.clock import db_now
from store.database import Database
from store.events import record
from store.failpoints import reach
from store.following import follow
from store.rows import Lease
from store.run_moves import is_without_best
from store.states import CLAIMABLE, RESUMABLE, JobKind, JobState, ShardState
from store.tables import attempts, jobs, shards

LEASE_S = 60.0  # how long a claim holds without a renewal
AGEING_S = 600.0  # a job that waited this long counts one priority higher
COLD_MODEL_ITEMS = 2048  # loading a model costs about as much as classifying this many items


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who claims: a worker, the queue it serves and the models it has warm.

    `is_busy`: it has other shards in hand, and their end would be that of this one. So it takes none on which an
    attempt has failed: that one would lose another by what is in them.
    """

    worker_id: str
    queue: str = "classify"
    warm: Collection[int] = ()
    lease_s: float = LEASE_S
    is_busy: bool = False


def claim(database: Database, claimer: Claimer) -> Lease | None:
    """Take the next shard that is due, or None: also where that one is to be worked on alone, and the claimer is busy.

    The order: priority, raised by waiting; then the job that was served least, where a model that is not warm counts as
    COLD_MODEL_ITEMS more. Within a job, shards go in the order of their items.
    """
    reach("claim.before")
    while True:
        with database.write() as connection:
            job_id = connection.scalar(_next_job(claimer))
            if job_id is None:
                return None
            # The job's row is locked before any shard's, here and everywhere: no two transactions wait in a circle.
            state = lock_job(connection, job_id)
            if claimer.is_busy and _is_next_tried(connection, claimer, job_id):
                return None
            if state in CLAIMABLE and (lease := _claim_of(connection, claimer, job_id)):
                if state != JobState.RUNNING:
                    record(connection, job_id, JobState.RUNNING, {})
                reach("claim.inside")
                break
    reach("claim.after")
    return lease


def lock_job(connection: Connection, job_id: int) -> str | None:
    """The job's state, which stays as it is until this transaction ends (PostgreSQL; SQLite has one writer anyway)."""
    query = select(jobs.c.state).where(jobs.c.id == job_id).with_for_update(key_share=True)
    state: str | None = connection.scalar(query)
    return state


def kind_of(connection: Connection, job_id: int) -> JobKind | None:
    """The kind of a job; None where there is no such job."""
    kind = connection.scalar(select(jobs.c.kind).where(jobs.c.id == job_id))
    return JobKind(kind) if kind else None


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


def _is_next_tried(connection: Connection, claimer: Claimer, job_id: int) -> bool:
    first = _first_due(claimer, literal(job_id)).scalar_subquery()
    return bool(connection.scalar(select(shards.c.attempt).where(shards.c.id == first)))


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
    job = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=JobState.RUNNING,
            started_at=func.coalesce(jobs.c.started_at, db_now()),
            claimed_at=db_now(),
            served=jobs.c.served + (shard.hi - shard.lo),
        )
        .returning(jobs.c.model_id, jobs.c.kind)
    ).one()
    if job.kind == JobKind.FINETUNE:
        follow(connection, job_id)
    return Lease(shard.id, job_id, shard.lo, shard.hi, shard.attempt, token, job.model_id, claimer.worker_id)


def renew(database: Database, leases: Sequence[Lease], lease_s: float = LEASE_S) -> dict[str, JobState | None]:
    """Prolong leases. Returns, per token, the job's state now, or None where the lease is lost: stop and discard."""
    answer: dict[str, JobState | None] = {}
    with database.write() as connection:
        for lease in sorted(leases, key=lambda lease: lease.shard_id):  # in the order in which all lock shards
            alive = owned(lease) & (shards.c.lease_until > 0)  # not one that was given up a moment ago
            kept = connection.execute(update(shards).where(alive).values(lease_until=db_now() + lease_s)).rowcount
            state = connection.scalar(select(jobs.c.state).where(jobs.c.id == lease.job_id)) if kept else None
            answer[lease.token] = JobState(state) if state else None
    return answer


def release(database: Database, lease: Lease) -> bool:
    """Give a shard back unfinished: ready again (or cancelled with its job). False if the lease was lost before.

    The attempt does not count: a drain or a pause is nobody's fault. That of a training keeps its number, which marks a
    restart in its history, and gets one more in its place.
    """
    reach("release.before")
    with database.write() as connection:
        gone = is_over(connection, lease.job_id)
        uncounted: dict[str, ColumnElement[int]] = {"attempt": shards.c.attempt - 1}
        if kind_of(connection, lease.job_id) is JobKind.FINETUNE:
            uncounted = {"max_attempts": shards.c.max_attempts + 1}
        kept = connection.execute(
            update(shards)
            .where(owned(lease))
            .values(state=ShardState.CANCELLED if gone else ShardState.READY, token=None, lease_until=None, **uncounted)
        ).rowcount
        if kept and gone:
            give_up_the_best(connection, lease.job_id)
        close_attempt(connection, lease.token, "lost" if not kept else "cancelled" if gone else "released")
        return bool(kept)


def excuse(database: Database, lease: Lease) -> bool:
    """Do not count the attempt before this one: the image that ended it is known, and costs no further one.

    Each call must be for another image, so that the attempts of a shard have a bound. False if the lease was lost.
    """
    with database.write() as connection:
        spent = shards.c.attempt
        fewer = update(shards).where(owned(lease)).values(attempt=case((spent > 1, spent - 1), else_=spent))
        return bool(connection.execute(fewer).rowcount)


def is_over(connection: Connection, job_id: int) -> bool:
    """Lock a job; whether a shard that comes back to it is not handed out any more."""
    over = (JobState.CANCELLING, JobState.CANCELLED, JobState.FAILED)
    return lock_job(connection, job_id) in over or is_without_best(connection, job_id)


def give_up_the_best(connection: Connection, job_id: int) -> None:
    """Turn an early end that has nothing to keep into a plain cancel; the sweeper closes the job."""
    going_on = jobs.c.state.in_(CLAIMABLE | RESUMABLE)
    cancelling = update(jobs).where(jobs.c.id == job_id, going_on).values(state=JobState.CANCELLING)
    if connection.execute(cancelling).rowcount:
        record(connection, job_id, JobState.CANCELLING, {})


def give_up(database: Database, lease: Lease, error: str) -> bool:
    """End a lease because working on it failed; the sweeper decides what follows: again later, or in halves."""
    with database.write() as connection:
        kept = connection.execute(update(shards).where(owned(lease)).values(lease_until=0)).rowcount
        close_attempt(connection, lease.token, "failed", error)  # after the shard, as everywhere
        return bool(kept)


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
        held = list(_lock_leased(connection, shards.c.worker_id == worker_id))
        connection.execute(update(shards).where(shards.c.id.in_(held)).values(lease_until=0))
        return len(held)


def release_held(database: Database, worker_id: str) -> int:
    """Give back the shards on a worker's name, uncounted; returns how many. See `release`.

    Only for that worker itself, while it has none in hand: it lost them to a database that was away, which no image can
    help.
    """
    with database.read() as connection:
        held = connection.execute(
            select(shards).where(shards.c.worker_id == worker_id, shards.c.state == ShardState.LEASED)
        ).all()
    leases = [Lease(row.id, row.job_id, row.lo, row.hi, row.attempt, row.token, None, worker_id) for row in held]
    return sum(release(database, lease) for lease in leases)


def fence_off(connection: Connection, job_id: int, state: ShardState) -> None:
    """Take the shards of a locked job from whoever still holds them: they become `state`, their attempts are lost."""
    held = _lock_leased(connection, shards.c.job_id == job_id)
    for token in held.values():
        close_attempt(connection, token, "lost", "the job was taken up again, or removed")
    mine = update(shards).where(shards.c.id.in_(list(held)))
    connection.execute(mine.values(state=state, token=None, lease_until=None))


def _lock_leased(connection: Connection, which: ColumnElement[bool]) -> dict[int, str]:
    """Leased shards with their tokens, locked in one order for all, so that no two wait for each other in a circle."""
    leased = which & (shards.c.state == ShardState.LEASED)
    query = select(shards.c.id, shards.c.token).where(leased).order_by(shards.c.id).with_for_update()
    return {row.id: row.token for row in connection.execute(query)}


def owned(lease: Lease) -> ColumnElement[bool]:
    """The shard of a lease, while it is still that lease's: what every write of a worker begins with."""
    return and_(shards.c.id == lease.shard_id, shards.c.token == lease.token, shards.c.state == ShardState.LEASED)
