"""Jobs that are being scanned: opened, filled with items and accepted; or failed, discarded, taken over.

A scan belongs to one process at a time, by the token in its job's options: nothing is written without it.
"""

import json
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Update, bindparam, func, insert, select, update
from sqlalchemy.sql.dml import ReturningInsert

from store import removal
from store.claims import lock_job
from store.clock import db_now
from store.database import Database
from store.errors import DatabaseUnavailable, ScanLost
from store.events import record
from store.failpoints import reach
from store.paths import to_columns
from store.requests import RequestKey, take
from store.rows import NewItem, NewJob
from store.run_moves import open_run
from store.states import CLAIMABLE, JobKind, JobState, ShardState
from store.tables import items, jobs, shards
from store.waiting import check_room, line_up
from store.writing import insert_rows

CHUNK = 20_000  # items written per transaction, so that the write lock is never held for long
CHUNK_S = 10.0
SILENT_S = 300.0  # without a sign of life for this long, a scan may be taken over

_SCAN = "scan"  # the key in a scanning job's options: {"token": …, "request": …}
_PROCESS = uuid.uuid4().hex


def _token() -> str:
    return f"{_PROCESS}-{os.getpid()}"  # with the number: a fork has the same memory


def open_job(
    database: Database, job: NewJob, request: dict[str, Any] | None = None, key: RequestKey | None = None
) -> int:
    """Write a job that is being scanned, and hold its scan; returns its id. Durable where there is a request or a key.

    `request`: what was asked, as JSON, kept until the job is accepted, so that another process can begin again.
    The key is taken in the same transaction. Raises KeyTaken, KeyFreed.
    """
    values = {
        **_facts(job),
        "kind": job.kind,
        "state": JobState.SCANNING,
        "owner": job.owner,
        "priority": job.priority,
        "options": _scan_options(request),
    }
    with database.write(durable=request is not None or key is not None) as connection:
        job_id = int(connection.execute(_opening(), values).scalar_one())
        if key is not None:
            take(connection, key, job_id)
    return job_id


def _facts(job: NewJob) -> dict[str, Any]:
    root, root_raw = to_columns(job.root)
    return {
        "model_id": job.model_id,
        "description": job.description,
        "root": root,
        "root_raw": root_raw,
        "confined": job.confined,
        "top_k": job.top_k,
        "reuse": job.reuse,
        "max_failures": job.max_failures,
    }


def _scan_options(request: dict[str, Any] | None) -> str:
    return json.dumps({_SCAN: {"token": _token(), "request": request}})


def fill(
    database: Database,
    job_id: int,
    job: NewJob,
    found: Iterable[NewItem],
    ignored: dict[str, int] | None = None,
    chunk: int | None = None,
) -> None:
    """Write the items and shards of an open job; it is accepted, whole, when this returns.

    `job` may say more than when it was opened: all but its kind, owner and priority is written anew. `ignored` is read
    at the end, so that a scan can fill it on the way; `chunk` is CHUNK unless given. Raises ScanLost, QueueFull, and
    whatever `found` raises: then the job is as it was, but for some items, and is the caller's to discard, fail or
    begin again.
    """
    count, rest = 0, list[NewItem]()
    for portion in _chunks(found, chunk or CHUNK):
        if portion.is_last:
            rest = portion.items
            break
        with database.write() as connection:
            _hold(connection, job_id, count + len(portion.items))
            count += _write_items(connection, job_id, count, portion.items)
    try:
        with database.write(durable=True) as connection:
            if job.most_waiting is not None:
                line_up(connection, job.owner)  # before any row is locked
            if not _is_held(connection, job_id):
                raise ScanLost(job_id)
            count += _write_items(connection, job_id, count, rest)
            _close(connection, job_id, job, count, ignored or {})
            if job.most_waiting is not None:  # of two jobs that come at once, only those that fit
                check_room(connection, job.owner, job.most_waiting)
            reach("accept.inside")
    except DatabaseUnavailable:
        if not _is_accepted(database, job_id):  # only the answer to COMMIT was lost
            raise
    reach("accept.after")


@dataclass(frozen=True, slots=True)
class _Portion:
    items: list[NewItem]
    is_last: bool = False


def _chunks(found: Iterable[NewItem], size: int) -> Iterator[_Portion]:
    """Items in portions of `size`, or of what came within CHUNK_S from a slow source: each one is a sign of life.

    The last one, which may be empty, is written as the job is accepted: for most jobs it is the only one.
    """
    chunk: list[NewItem] = []
    since = time.monotonic()
    for item in found:
        chunk.append(item)
        if len(chunk) >= size or time.monotonic() - since > CHUNK_S:
            yield _Portion(chunk)
            chunk, since = [], time.monotonic()
    yield _Portion(chunk, is_last=True)


def _hold(connection: Connection, job_id: int, found: int | None = None) -> None:
    """Lock a job whose scan is this process's, and give a sign of life; `found`: its items so far. Raises ScanLost."""
    if not _is_held(connection, job_id):
        raise ScanLost(job_id)
    count = {} if found is None else {"n_items": found}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(claimed_at=db_now(), **count))


def _is_held(connection: Connection, job_id: int) -> bool:
    row = connection.execute(_locked(), {"job": job_id}).first()
    return row is not None and row.state == JobState.SCANNING and _scan_of(row.options).get("token") == _token()


@cache  # this and the next two are the same each time: put together once
def _locked() -> Select[str, str]:
    """The state and the options of a job, which stay as they are until the transaction ends."""
    query = select(jobs.c.state, jobs.c.options).where(jobs.c.id == bindparam("job"))
    return query.with_for_update(key_share=True)


@cache
def _opening() -> ReturningInsert[int]:
    # claimed_at is a sign of life while it is scanned
    return insert(jobs).values(created_at=db_now(), claimed_at=db_now()).returning(jobs.c.id)


@cache
def _closing() -> Update:
    # A new job starts level with the least served of the others: it neither waits for them nor shuts them out.
    level = select(func.coalesce(func.min(jobs.c.served), 0)).where(jobs.c.state.in_(CLAIMABLE)).scalar_subquery()
    closed = {"state": JobState.ACCEPTED, "served": level, "claimed_at": None}
    return update(jobs).where(jobs.c.id == bindparam("job")).values(closed)


def _scan_of(options: str) -> dict[str, Any]:
    scan: dict[str, Any] = json.loads(options).get(_SCAN, {})
    return scan


def _write_items(connection: Connection, job_id: int, start: int, chunk: Sequence[NewItem]) -> int:
    if chunk:
        values = [_item_values(job_id, start + n, item) for n, item in enumerate(chunk)]
        insert_rows(connection, items, values)
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
        insert_rows(connection, shards, rows[n : n + CHUNK])
    values = {**_facts(job), "options": json.dumps(job.options), "n_items": count, "ignored": json.dumps(ignored)}
    connection.execute(_closing(), {**values, "job": job_id})
    if job.run is not None:
        open_run(connection, job_id, job.run)
    record(connection, job_id, "accepted", {"items": count})


def shard_size(count: int, largest: int = 2048) -> int:
    """Items per shard: about a sixteenth of the job, so that several workers share even a small one; 64 … `largest`."""
    return max(1, min(largest, max(64, -(-count // 16))))


def _is_accepted(database: Database, job_id: int) -> bool:
    with database.read() as connection:
        state = connection.scalar(select(jobs.c.state).where(jobs.c.id == job_id))
    return state is not None and state != JobState.SCANNING


def keep(database: Database, job_id: int) -> bool:
    """Give a sign of life for a scan that waits its turn; False where it is not this process's any more."""
    try:
        with database.write() as connection:
            _hold(connection, job_id)
    except ScanLost:
        return False
    return True


def begin_again(database: Database, job_id: int) -> None:
    """Forget what this process's scan has written so far, so that it can be filled anew. Raises ScanLost."""
    with database.write() as connection:
        _hold(connection, job_id, 0)
    removal.clear_items(database, job_id)


def fail_scan(database: Database, job_id: int, error: str) -> bool:
    """End a job whose scan went wrong as failed, with the reason; False where it is not this process's any more."""
    with database.write(durable=True) as connection:
        if not _is_held(connection, job_id):
            return False
        _fail(connection, job_id, error)
    removal.clear_items(database, job_id)
    return True


def _fail(connection: Connection, job_id: int, error: str) -> None:
    ended: dict[str, Any] = {"state": JobState.FAILED, "error": error, "finished_at": db_now()}
    ended |= {"options": "{}", "claimed_at": None, "n_items": 0}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(ended))
    record(connection, job_id, "failed", {"error": error})


def fail_silent(database: Database, job_id: int, silent_s: float) -> bool:
    """End a scan that gave no sign of life for so long and that nobody took over; False where somebody did."""
    with database.write(durable=True) as connection:
        if not _is_silent(connection, job_id, silent_s):
            return False
        error = (
            f"The process that was listing the files gave no sign of life for {silent_s / 60:.0f} minutes, "
            "and no other one took it over. Submit the job again."
        )
        _fail(connection, job_id, error)
    removal.clear_items(database, job_id)
    return True


def _is_silent(connection: Connection, job_id: int, silent_s: float) -> bool:
    lock_job(connection, job_id)
    silent = (jobs.c.state == JobState.SCANNING) & (jobs.c.claimed_at < db_now() - silent_s)
    return connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id, silent)) is not None


def discard(database: Database, job_id: int) -> bool:
    """Remove a job that is being scanned, and free its key at once; False where it is not this process's any more."""
    with database.write() as connection:
        if not _is_held(connection, job_id):
            return False
        removal.mark(connection, job_id)
    removal.finish(database, job_id)
    return True


def abandoned(
    database: Database, silent_s: float = SILENT_S, busy: Collection[int] = ()
) -> list[tuple[int, dict[str, Any]]]:
    """Scans with the request they were opened with that gave no sign of life for so long.

    `busy`: those that this process is at. It may have lost others of its own, to a database that was away.
    """
    return [
        (job_id, scan["request"])
        for job_id, scan in silent_scans(database, silent_s)
        if scan.get("request") is not None and job_id not in busy
    ]


def silent_scans(database: Database, silent_s: float) -> list[tuple[int, dict[str, Any]]]:
    """Every scan that gave no sign of life for so long, with what its options say: "token", "request"."""
    silent = (jobs.c.state == JobState.SCANNING) & (jobs.c.claimed_at < db_now() - silent_s)
    with database.read() as connection:
        found = connection.execute(select(jobs.c.id, jobs.c.options).where(silent).order_by(jobs.c.id)).all()
    return [(row.id, _scan_of(row.options)) for row in found]


def take_over(database: Database, job_id: int, silent_s: float = SILENT_S) -> bool:
    """Make an abandoned scan this process's, without the items that were written; False where another came first.

    The caller makes sure that no other thread of its own process is at it.
    """
    with database.write(durable=True) as connection:
        if not _is_silent(connection, job_id, silent_s):
            return False
        row = connection.execute(select(jobs.c.options).where(jobs.c.id == job_id)).one()
        scan = _scan_of(row.options)
        if scan.get("request") is None:  # nobody was told of it
            return False
        mine = {"options": _scan_options(scan["request"]), "claimed_at": db_now(), "n_items": 0}
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(mine))
    removal.clear_items(database, job_id)
    return True
