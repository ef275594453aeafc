"""Uploads: files that a client sends before the job that reads them. Their bytes are elsewhere."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from store.clock import db_now
from store.database import Database
from store.states import FINAL
from store.tables import jobs, uploads


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
        row = connection.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    return _row(row) if row is not None else None


def list_uploads(
    database: Database, owner: str | None = None, *, limit: int = 100, after: tuple[float, str] | None = None
) -> list[UploadRow]:
    """The newest uploads first, of one `owner` or of all; `after` (created_at, id) goes on below an upload."""
    query = select(uploads).order_by(uploads.c.created_at.desc(), uploads.c.id.desc()).limit(limit)
    if owner is not None:
        query = query.where(uploads.c.owner == owner)
    if after is not None:
        moment, upload_id = after
        same = (uploads.c.created_at == moment) & (uploads.c.id < upload_id)
        query = query.where(or_(uploads.c.created_at < moment, same))
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def add(database: Database, upload_id: str, *, files: int, size_bytes: int) -> UploadRow | None:
    """Count files that were written (negative numbers: that were taken back); None unless the upload is open."""
    values = {
        "files": uploads.c.files + files,
        "bytes": uploads.c.bytes + size_bytes,
        "touched_at": db_now(),
    }
    is_open = (uploads.c.id == upload_id) & (uploads.c.state == "open")
    with database.write() as connection:
        row = connection.execute(update(uploads).where(is_open).values(values).returning(uploads)).first()
    return _row(row) if row is not None else None


def seal(database: Database, upload_id: str) -> UploadRow | None:
    """Let an upload take no more files; one that is sealed already stays so. None where there is none."""
    return _touch(database, upload_id, state="sealed")


def bind(database: Database, upload_id: str, job_id: int) -> UploadRow | None:
    """Say which job reads a sealed upload: it stays while that job is unfinished. None where there is none."""
    return _touch(database, upload_id, job_id=job_id)


def touch(database: Database, upload_id: str) -> UploadRow | None:
    """Note that an upload is in use. None where there is none."""
    return _touch(database, upload_id)


def _touch(database: Database, upload_id: str, **values: Any) -> UploadRow | None:
    with database.write() as connection:
        touched = update(uploads).where(uploads.c.id == upload_id).values(touched_at=db_now(), **values)
        row = connection.execute(touched.returning(uploads)).first()
    return _row(row) if row is not None else None


def remove(database: Database, upload_id: str) -> bool:
    """Forget an upload; its files are the caller's to delete, before. False where there is none."""
    with database.write() as connection:
        return bool(connection.execute(delete(uploads).where(uploads.c.id == upload_id)).rowcount)


def used_bytes(database: Database, owner: str) -> int:
    """What the uploads of an owner hold together."""
    with database.read() as connection:
        total = select(func.coalesce(func.sum(uploads.c.bytes), 0)).where(uploads.c.owner == owner)
        return int(connection.scalar(total) or 0)


def expired(database: Database, seconds: float) -> list[UploadRow]:
    """Uploads that nobody touched for so long, and whose job, where they have one, has ended as long ago."""
    moment = db_now() - seconds
    ended = (jobs.c.state.in_(tuple(FINAL))) & (func.coalesce(jobs.c.finished_at, 0) < moment)
    query = (
        select(uploads)
        .outerjoin(jobs, jobs.c.id == uploads.c.job_id)
        .where(uploads.c.touched_at < moment, or_(jobs.c.id.is_(None), ended))
        .order_by(uploads.c.touched_at)
    )
    with database.read() as connection:
        return [_row(row) for row in connection.execute(query)]


def let_go(connection: Connection, job_id: int) -> None:
    """Forget which job read an upload, as that job is being removed."""
    connection.execute(update(uploads).where(uploads.c.job_id == job_id).values(job_id=None, touched_at=db_now()))
