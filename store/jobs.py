"""Write side of jobs: accept one, and move it as a person asks: pause, resume, cancel, retry."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, case, delete, func, insert, select, update

from store.claims import kind_of, lock_job
from store.clock import db_now
from store.database import Database
from store.errors import DatabaseUnavailable, IllegalMove, NothingToDo, StoreError, UnknownJob
from store.following import follow
from store.paths import to_columns
from store.removal import remove
from store.rows import NewItem, NewJob
from store.run_moves import ask_for_the_best, is_leased, open_run, reopen
from store.states import (
    CANCELLABLE,
    CLAIMABLE,
    PAUSABLE,
    RESUMABLE,
    RETRYABLE,
    UNFINISHED,
    JobKind,
    JobState,
    ShardState,
)
from store.tables import events, items, jobs, results, shards

CHUNK = 20_000  # items written per transaction while scanning, so that the write lock is never held for long
CHUNK_S = 10.0


def accept(database: Database, job: NewJob, found: Iterable[NewItem], ignored: dict[str, int] | None = None) -> int:
    """Write a job with its items and shards; it is accepted, whole, when this returns its id.

    Items arrive in chunks while the job is `scanning`, invisible to workers; the last transaction adds the shards and
    makes it `accepted`. A crash before that leaves a scanning job, which the sweeper removes. `ignored` is read at the
    end, so that a scan can fill it on the way. Whatever `found` raises is passed on after the half-written job is gone.
    """
    chunks = _chunks(found)
    with database.write() as connection:
        job_id, count = _open(connection, job), 0
    try:
        for chunk in chunks:
            with database.write() as connection:
                count += _write_items(connection, job_id, count, chunk)
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(claimed_at=db_now()))
        try:
            with database.write(durable=True) as connection:
                _close(connection, job_id, job, count, ignored or {})
        except DatabaseUnavailable:
            if not _is_accepted(database, job_id):  # only the answer to COMMIT was lost
                raise
    except BaseException:
        with suppress(StoreError):  # the sweeper removes it later; what went wrong first is what counts
            remove(database, job_id)
        raise
    return job_id


def _chunks(found: Iterable[NewItem]) -> Iterator[list[NewItem]]:
    """Items in portions of CHUNK, or of what came within CHUNK_S from a slow source: each one is a sign of life."""
    chunk: list[NewItem] = []
    since = time.monotonic()
    for item in found:
        chunk.append(item)
        if len(chunk) >= CHUNK or time.monotonic() - since > CHUNK_S:
            yield chunk
            chunk, since = [], time.monotonic()
    yield chunk


def _open(connection: Connection, job: NewJob) -> int:
    root, root_raw = to_columns(job.root)
    values = {
        "kind": job.kind,
        "state": JobState.SCANNING,
        "owner": job.owner,
        "priority": job.priority,
        "model_id": job.model_id,
        "description": job.description,
        "root": root,
        "root_raw": root_raw,
        "confined": job.confined,
        "top_k": job.top_k,
        "reuse": job.reuse,
        "options": json.dumps(job.options),
        "created_at": db_now(),
        "claimed_at": db_now(),  # while scanning: a sign of life
    }
    return int(connection.execute(insert(jobs).values(values).returning(jobs.c.id)).scalar_one())


def _write_items(connection: Connection, job_id: int, start: int, chunk: Sequence[NewItem]) -> int:
    if chunk:
        connection.execute(insert(items), [_item_values(job_id, start + n, item) for n, item in enumerate(chunk)])
    return len(chunk)


def _item_values(job_id: int, idx: int, item: NewItem) -> dict[str, Any]:
    path, path_raw = to_columns(item.path)
    return {
        "job_id": job_id,
        "idx": idx,
        "path": path,
        "path_raw": path_raw,
        "size": item.size,
        "mtime_ns": item.mtime_ns,
        "label": item.label,
        "split": item.split,
        "external_id": item.external_id,
        "extra": json.dumps(item.extra) if item.extra else None,
        "member": item.member,
        "offset": item.offset,
    }


def _close(connection: Connection, job_id: int, job: NewJob, count: int, ignored: dict[str, int]) -> None:
    size = count if job.kind == JobKind.FINETUNE else shard_size(count, job.max_shard)
    rows = [
        {"job_id": job_id, "queue": job.queue, "lo": lo, "hi": min(lo + size, count), "state": ShardState.READY}
        for lo in range(0, count, max(1, size))
    ]
    for n in range(0, len(rows), CHUNK):
        connection.execute(insert(shards), rows[n : n + CHUNK])
    # A new job starts level with the least served of the others: it neither waits for them nor shuts them out.
    level = select(func.coalesce(func.min(jobs.c.served), 0)).where(jobs.c.state.in_(CLAIMABLE)).scalar_subquery()
    connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(state=JobState.ACCEPTED, n_items=count, ignored=json.dumps(ignored), served=level, claimed_at=None)
    )
    if job.run is not None:
        open_run(connection, job_id, job.run)
    record(connection, job_id, "accepted", {"items": count})


def _is_accepted(database: Database, job_id: int) -> bool:
    with database.read() as connection:
        state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    return state is not None and state != JobState.SCANNING


def shard_size(count: int, largest: int = 2048) -> int:
    """Items per shard: about a sixteenth of the job, so that several workers share even a small one; 64 … `largest`."""
    return max(1, min(largest, max(64, -(-count // 16))))


def record(connection: Connection, job_id: int | None, kind: str, data: dict[str, Any]) -> None:
    """Write an event of a job's history."""
    connection.execute(insert(events).values(job_id=job_id, at=db_now(), kind=kind, data=json.dumps(data)))


def _move(connection: Connection, job_id: int, allowed: Iterable[JobState], asked: str, **values: Any) -> None:
    """Change a job's state if it is in one of `allowed`. Raises UnknownJob, IllegalMove."""
    done = connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(tuple(allowed))).values(**values)
    )
    if done.rowcount:
        follow(connection, job_id)
        return
    state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    raise UnknownJob(job_id) if state is None else IllegalMove(job_id, state, asked)


def pause(database: Database, job_id: int) -> None:
    """Hand out no shard; workers give back theirs after the current batch. Raises UnknownJob, IllegalMove."""
    with database.write() as connection:
        _move(connection, job_id, PAUSABLE, "paused", state=JobState.PAUSED)
        record(connection, job_id, "paused", {})


def resume(database: Database, job_id: int) -> None:
    """Let a paused job go on. Raises UnknownJob, IllegalMove."""
    with database.write() as connection:
        _move(connection, job_id, RESUMABLE, "resumed", state=_taken_up(job_id))
        record(connection, job_id, "resumed", {})


def _taken_up(job_id: int) -> ColumnElement[str]:
    """The state of a job that may go on: running where a worker has not let go of it yet."""
    return case((is_leased(job_id), JobState.RUNNING), else_=JobState.ACCEPTED)


def cancel(database: Database, job_id: int, keep_best: bool = False) -> None:
    """End a job; results that are there stay. Raises UnknownJob, IllegalMove.

    `keep_best`, of a training: its worker ends it early, makes a model of the best epoch, and calls it cancelled then;
    another worker does where that one dies. Where nothing is there to keep, it is cancelled at once.

    Ready shards are cancelled at once. Leased ones are given back by their workers at the next batch, or by the sweeper
    when their lease ends; then the job is `cancelled`.
    """
    with database.write() as connection:
        if keep_best and _end_early(connection, job_id):
            return
        _move(connection, job_id, CANCELLABLE, "cancelled", state=JobState.CANCELLING)
        mine = shards.c.job_id == job_id
        connection.execute(
            update(shards).where(mine, shards.c.state == ShardState.READY).values(state=ShardState.CANCELLED)
        )
        record(connection, job_id, "cancelling", {})
        close_cancelled(connection, job_id)


def _end_early(connection: Connection, job_id: int) -> bool:
    """Ask a training to end with its best; False where it has none. It stays open, so that any worker can do it."""
    state = lock_job(connection, job_id)
    if state is not None and kind_of(connection, job_id) is not JobKind.FINETUNE:
        raise IllegalMove(job_id, state, "cancelled with its best kept: it is no training")
    if state not in CLAIMABLE | RESUMABLE or not ask_for_the_best(connection, job_id):
        if state == JobState.CANCELLING:
            raise IllegalMove(job_id, state, "cancelled with its best kept any more")
        return False
    _move(connection, job_id, CLAIMABLE | RESUMABLE, "cancelled", state=_taken_up(job_id))
    record(connection, job_id, "ending_early", {})
    return True


def fail(database: Database, job_id: int, error: str) -> None:
    """End a job that cannot go on at all, with the reason; results that are there stay."""
    with database.write() as connection:
        values = {"state": JobState.FAILED, "error": error, "finished_at": db_now()}
        if not connection.execute(
            update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(CLAIMABLE)).values(**values)
        ).rowcount:
            return
        mine = (shards.c.job_id == job_id) & (shards.c.state == ShardState.READY)
        connection.execute(update(shards).where(mine).values(state=ShardState.CANCELLED))
        follow(connection, job_id)
        record(connection, job_id, "failed", {"error": error})


def close_cancelled(connection: Connection, job_id: int) -> None:
    """Make a cancelling job `cancelled` once no shard of it is leased."""
    leased = select(shards.c.id).where(shards.c.job_id == job_id, shards.c.state.in_(UNFINISHED)).exists()
    closed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.CANCELLING, ~leased)
        .values(state=JobState.CANCELLED, finished_at=db_now())
    )
    if closed.rowcount:
        follow(connection, job_id)


def retry(database: Database, job_id: int, codes: Sequence[str] = ()) -> int:
    """Run again what failed (only those error `codes`, if given) and what was never run, in the same job.

    A training goes on from its checkpoint. Returns how many items will run. Raises UnknownJob, IllegalMove,
    NothingToDo (of a training: it has its model).
    """
    with database.write() as connection:
        again = {"state": JobState.ACCEPTED, "started_at": None, "finished_at": None, "error": None}
        _move(connection, job_id, RETRYABLE, "retried", **again)
        if kind_of(connection, job_id) is JobKind.FINETUNE:
            if codes:
                raise IllegalMove(job_id, "a training", "retried for some error codes only")
            left = reopen(connection, job_id)
        else:
            left = _reopen_items(connection, job_id, codes)
        if left == 0:
            raise NothingToDo(job_id, codes)  # and the transaction is as if it had never been
        record(connection, job_id, "retried", {"items": left, "codes": list(codes)})
        return left


def _reopen_items(connection: Connection, job_id: int, codes: Sequence[str]) -> int:
    """Forget what failed (as `codes`), and hand out again the shards where items are left; returns how many."""
    wrong = (results.c.job_id == job_id) & (results.c.status == "failed")
    if codes:
        wrong &= results.c.error_code.in_(codes)
    connection.execute(delete(results).where(wrong))
    _reopen_shards(connection, job_id)
    done = select(func.count()).select_from(results).where(results.c.job_id == job_id)
    return int(connection.scalar(select(jobs.c.n_items - done.scalar_subquery()).where(jobs.c.id == job_id)) or 0)


def _reopen_shards(connection: Connection, job_id: int) -> None:
    """Count again what every shard has, and make those with items left ready; whoever still holds one is fenced off."""
    inside = (results.c.job_id == shards.c.job_id) & (results.c.idx >= shards.c.lo) & (results.c.idx < shards.c.hi)

    def counted(condition: ColumnElement[bool]) -> ScalarSelect[int]:
        return select(func.count()).select_from(results).where(inside, condition).scalar_subquery()

    mine = (shards.c.job_id == job_id) & (shards.c.state != ShardState.SPLIT)
    connection.execute(
        update(shards)
        .where(mine)
        .values(
            ok=counted(results.c.status == "ok"),
            failed=counted(results.c.status == "failed"),
            reused=counted(results.c.reused),
        )
    )
    fresh = {"attempt": 0, "not_before": 0, "token": None, "done_token": None, "lease_until": None}
    connection.execute(
        update(shards)
        .where(mine, shards.c.ok + shards.c.failed < shards.c.hi - shards.c.lo)
        .values(state=ShardState.READY, **fresh)
    )
