"""Uploads: files that a client sends before the job that reads them. Their bytes are elsewhere.

Any number of jobs may read one upload. Each says so itself, from the transaction on that makes it: the upload's id is
in its options (in the request while it is scanning, as READS afterwards). So the jobs are asked whether one may go.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from store.clock import db_now
from store.database import Database
from store.states import FINAL, JobState
from store.tables import jobs, uploads

READS = "upload"  # the key in the options of a job that reads one
_OPEN = tuple(set(JobState) - FINAL)


@dataclass(frozen=True, slots=True)
class UploadRow:
    """One upload. `state`: open (takes files) or sealed. `job_id`: the last job that reads it."""

    id: str
    owner: str
    state: str
    files: int
    bytes: int
    created_at: float
    touched_at: float
    job_id: int | None


def create(database: Database, owner: str) -> UploadRow:
    """Begin an upload."""
    values = {"id": uuid.uuid4().hex, "owner": owner, "state": "open", "created_at": db_now(), "touched_at": db_now()}
    with database.write() as connection:
        return _row(connection.execute(insert(uploads).values(values).returning(uploads)).one())


def _row(row: Row[Any]) -> UploadRow:
    return UploadRow(**row._mapping)


def find(database: Database, upload_id: str) -> UploadRow | None:
    """One upload by its id."""
    with database.read() as connection:
        row = connection.execute(select(uploads).where(_is_there(upload_id))).first()
    return _row(row) if row is not None else None


def _is_there(upload_id: str) -> ColumnElement[bool]:
    return (uploads.c.id == upload_id) & (uploads.c.state != "gone")


def list_uploads(
    database: Database, owner: str | None = None, *, limit: int = 100, after: tuple[float, str] | None = None
) -> list[UploadRow]:
    """The newest uploads first, of one `owner` or of all; `after` (created_at, id) goes on below an upload."""
    query = select(uploads).where(uploads.c.state != "gone")
    query = query.order_by(uploads.c.created_at.desc(), uploads.c.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(uploads.c.owner == owner)
    if after is not None:
        moment, upload_id = after
        same = (uploads.c.created_at == moment) & (uploads.c.id < upload_id)
        query = query.where(or_(uploads.c.created_at < moment, same))
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def add(database: Database, upload_id: str, *, files: int, size_bytes: int) -> int | None:
    """Count files that were written (negative numbers: that were taken back); None unless the upload is open.

    Returns what the uploads of its owner hold together then.
    """
    values = {
        "files": uploads.c.files + files,
        "bytes": uploads.c.bytes + size_bytes,
        "touched_at": db_now(),
    }
    is_open = (uploads.c.id == upload_id) & (uploads.c.state == "open")
    with database.write() as connection:
        owner = connection.scalar(update(uploads).where(is_open).values(values).returning(uploads.c.owner))
        return None if owner is None else _used_bytes(connection, owner)


def seal(database: Database, upload_id: str) -> UploadRow | None:
    """Let an upload take no more files; one that is sealed already stays so. None where there is none."""
    return _touch(database, upload_id, state="sealed")


def bind(database: Database, upload_id: str, job_id: int) -> UploadRow | None:
    """Say which job reads a sealed upload, the last one to do so. None where there is none."""
    return _touch(database, upload_id, job_id=job_id)


def touch(database: Database, upload_id: str) -> UploadRow | None:
    """Note that an upload is in use. None where there is none."""
    return _touch(database, upload_id)


def _touch(database: Database, upload_id: str, **values: Any) -> UploadRow | None:
    with database.write() as connection:
        touched = update(uploads).where(_is_there(upload_id)).values(touched_at=db_now(), **values)
        row = connection.execute(touched.returning(uploads)).first()
    return _row(row) if row is not None else None


def reader(database: Database, upload_id: str) -> int | None:
    """An unfinished job that reads an upload, the newest; None where it may go."""
    with database.read() as connection:
        return _reader(connection, upload_id)


def _reader(connection: Connection, upload_id: str) -> int | None:
    bound = select(uploads.c.job_id).where(uploads.c.id == upload_id).scalar_subquery()
    says_so = jobs.c.options.contains(upload_id, autoescape=True)  # nobody else knows 32 random digits
    reads = select(jobs.c.id).where(jobs.c.state.in_(_OPEN), or_(jobs.c.id == bound, says_so))
    return connection.scalar(reads.order_by(jobs.c.id.desc()).limit(1))


def retire(database: Database, upload_id: str, unused_s: float | None = None) -> bool:
    """Take an upload out of use, so that its files can be deleted, then the row with `remove`.

    False where there is none, where somebody used it within `unused_s` seconds, if given, or where an unfinished job
    reads it.
    True again where that was done before, and the rest was not.
    """
    this = uploads.c.id == upload_id
    old = (uploads.c.state == "gone") | (uploads.c.touched_at < db_now() - (unused_s or 0.0))
    with database.write() as connection:
        # Locked before the jobs are looked at: whoever touches it later finds it gone.
        wanted = this if unused_s is None else this & old
        if connection.execute(select(uploads.c.id).where(wanted).with_for_update()).first() is None:
            return False
        if (job_id := _reader(connection, upload_id)) is not None:
            # Whichever began last: the upload's time is counted from the end of one that reads it.
            connection.execute(update(uploads).where(this).values(job_id=job_id))
            return False
        connection.execute(update(uploads).where(this).values(state="gone"))
    return True


def remove(database: Database, upload_id: str) -> bool:
    """Forget an upload that was retired, when its files are deleted. False where there is none."""
    with database.write() as connection:
        return bool(
            connection.execute(delete(uploads).where(uploads.c.id == upload_id, uploads.c.state == "gone")).rowcount
        )


def used_bytes(database: Database, owner: str) -> int:
    """What the uploads of an owner hold together."""
    with database.read() as connection:
        return _used_bytes(connection, owner)


def _used_bytes(connection: Connection, owner: str) -> int:
    total = select(func.coalesce(func.sum(uploads.c.bytes), 0)).where(uploads.c.owner == owner)
    return int(connection.scalar(total) or 0)


def expired(database: Database, seconds: float) -> list[UploadRow]:
    """Uploads that nobody touched for so long, and whose last job, where they have one, has ended as long ago.

    With those that were retired and not removed. Another job may still read one: `retire` decides.
    """
    moment = db_now() - seconds
    ended = (jobs.c.state.in_(tuple(FINAL))) & (func.coalesce(jobs.c.finished_at, 0) < moment)
    query = (
        select(uploads)
        .outerjoin(jobs, jobs.c.id == uploads.c.job_id)
        .where(or_(uploads.c.state == "gone", (uploads.c.touched_at < moment) & or_(jobs.c.id.is_(None), ended)))
        .order_by(uploads.c.touched_at)
    )
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def let_go(connection: Connection, job_id: int) -> None:
    """Forget which job read an upload, as that job is being removed."""
    connection.execute(update(uploads).where(uploads.c.job_id == job_id).values(job_id=None, touched_at=db_now()))
