"""The fenced commit: results and the shard's progress in one transaction whose first statement checks the token."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, func, select, update

from store import tallies
from store.claims import LEASE_S, close_attempt, owned
from store.clock import db_now
from store.counters import FENCED_COMMITS, count_up
from store.database import Database
from store.errors import DatabaseUnavailable, IncompleteShard, LeaseLost, StoreError
from store.failpoints import reach
from store.rows import Lease, NewResult
from store.states import ShardState
from store.tables import items, memo, results, shards
from store.writing import insert_rows, put_rows

log = logging.getLogger(__name__)


def commit_slice(
    database: Database, lease: Lease, rows: Sequence[NewResult], *, last: bool, lease_s: float = LEASE_S
) -> None:
    """Write results of a leased shard; with `last`, close the shard too.

    Raises LeaseLost when the token no longer owns the shard (nothing is written), IncompleteShard when `last` would
    leave an item without a row. When the answer to COMMIT is lost, the token tells afterwards whether it happened.
    """
    try:
        _commit(database, lease, rows, last=last, lease_s=lease_s)
    except LeaseLost:
        log.warning("shard %s: its lease was lost; %d results came too late", lease.shard_id, len(rows))
        with suppress(StoreError), database.write() as connection:  # only a figure
            count_up(connection, {FENCED_COMMITS: 1})
        raise
    except DatabaseUnavailable:
        if not _happened(database, lease, rows, last=last):
            raise
        log.warning("shard %s: the answer to a commit was lost, but it had happened", lease.shard_id)


def _commit(database: Database, lease: Lease, rows: Sequence[NewResult], *, last: bool, lease_s: float) -> None:
    ok = sum(row.status == "ok" for row in rows)
    values: dict[str, Any] = {
        "ok": shards.c.ok + ok,
        "failed": shards.c.failed + (len(rows) - ok),
        "reused": shards.c.reused + sum(row.reused for row in rows),
        "lease_until": db_now() + lease_s,
    }
    if last:
        values |= {"state": ShardState.DONE, "done_token": lease.token, "token": None, "lease_until": None}
    with database.write() as connection:
        if connection.execute(update(shards).where(owned(lease)).values(**values)).rowcount != 1:
            raise LeaseLost(lease.shard_id)
        reach("commit.fenced")
        if rows:
            agreed = write_rows(connection, lease, rows)
            remember(connection, lease, rows)
        if last:
            _check_complete(connection, lease)
            close_attempt(connection, lease.token, "done")
        if rows:  # last, since every worker of the job waits for these
            tallies.add(connection, lease.job_id, tallies.count(rows, agreed))
        reach("commit.inserted")
    reach("commit.after")


def write_rows(connection: Connection, lease: Lease, rows: Sequence[NewResult]) -> list[bool | None]:
    """Insert results under a lease; returns of each whether it agrees with the item's true label. Counts no tallies."""
    now = connection.scalar(select(db_now()))
    true = _true_labels(connection, lease.job_id, rows)
    agreed = [_agrees(row, true.get(row.idx)) for row in rows]
    # A plain INSERT: a key that is there already means a bug, and must be heard of.
    values = [_values_of(lease, row, now, agrees) for row, agrees in zip(rows, agreed, strict=True)]
    insert_rows(connection, results, values)
    return agreed


def _true_labels(connection: Connection, job_id: int, rows: Sequence[NewResult]) -> dict[int, str]:
    indices = [row.idx for row in rows]
    inside = items.c.idx.between(min(indices), max(indices))
    # Not "label IS NOT NULL": SQLite would take the index over labels for it, which is not in the order of items.
    query = select(items.c.idx, items.c.label).where(items.c.job_id == job_id, inside)
    return {idx: label for idx, label in connection.execute(query).all() if label is not None}


def _agrees(row: NewResult, true_label: str | None) -> bool | None:
    return None if true_label is None or row.status != "ok" else row.label == true_label


def _values_of(lease: Lease, row: NewResult, now: float | None, agrees: bool | None) -> dict[str, Any]:
    return {
        "job_id": lease.job_id,
        "idx": row.idx,
        "status": row.status,
        "error_code": row.error_code,
        "error": row.error,
        "label": row.label,
        "score": row.score,
        "topk": row.topk,
        "content_hash": row.content_hash,
        "width": row.width,
        "height": row.height,
        "reused": row.reused,
        "token": lease.token,
        "created_at": now,
        "agrees": agrees,
    }


def remember(connection: Connection, lease: Lease, rows: Sequence[NewResult]) -> None:
    """Note where the answers for these contents and files are, for the next job with the same model."""
    known: dict[bytes, dict[str, Any]] = {}
    for row in rows:
        if row.status != "ok":
            continue
        place = {"model_id": lease.model_id, "job_id": lease.job_id, "idx": row.idx}
        if row.content_hash is not None and not row.reused:
            known[row.content_hash] = {"key": row.content_hash, "kind": "content", **place}
        if row.file_key is not None:
            known[row.file_key] = {"key": row.file_key, "kind": "file", **place}
    if not known or lease.model_id is None:
        return
    # One order for all writers, so that two transactions never wait for each other in a circle.
    put_rows(connection, memo, [known[key] for key in sorted(known)], newer=("job_id", "idx"))


def _check_complete(connection: Connection, lease: Lease) -> None:
    inside = (results.c.job_id == lease.job_id) & (results.c.idx >= lease.lo) & (results.c.idx < lease.hi)
    found = connection.scalar(select(func.count()).select_from(results).where(inside)) or 0
    if found != lease.hi - lease.lo:
        raise IncompleteShard(lease.shard_id, lease.hi - lease.lo, found)


def _happened(database: Database, lease: Lease, rows: Sequence[NewResult], *, last: bool) -> bool:
    """Whether a commit whose answer was lost took place. Raises DatabaseUnavailable while that cannot be known."""
    with database.read() as connection:
        if last:
            done = connection.scalar(select(shards.c.done_token).where(shards.c.id == lease.shard_id))
            return bool(done == lease.token)
        if not rows:
            return False
        key = (results.c.job_id == lease.job_id) & (results.c.idx == rows[0].idx)
        return connection.scalar(select(results.c.token).where(key)) == lease.token
